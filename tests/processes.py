"""Real processes for tests: started, watched by what they log, and ended at the latest with the test."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
LIMIT = 30.0
"""Seconds after which something that should happen is given up."""

LEKT = "tcp:0:interface=127.0.0.1"
HELLO = b"LEKTH\0\0\0" + struct.pack("!I", 0)
ACCEPTED = b"LEKTA\0\0\0" + b"LEKTT\0\0\0" + struct.pack("!I", 0)

_RUNNERS = {
    "twistd": "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()",
    "twist": "import sys; sys.argv[0] = 'twist'; from twisted.application.twist._twist import Twist; Twist.main()",
}


def wait_for(what: str, look: Callable[[], T | None]) -> T:
    """What a function returns once that is something.

    :param what: for the message, where it never is.
    """
    end = time.monotonic() + LIMIT
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {LIMIT:g} s")
        time.sleep(0.01)


class Started:
    """A process of ``twistd`` or ``twist`` and what it writes.

    :param test: with whose end it ends.
    :param folder: its working directory; its output goes to files there.
    :param arguments: the runner's name and its arguments.
    :param prefix: a command before it.
    """

    def __init__(
        self, test: SynchronousTestCase, folder: Path, runner: str, *arguments: str, prefix: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self._output, self._errors = folder / "stdout", folder / "stderr"
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("CONNECTD_CONFIG", None)
        with self._output.open("wb") as stdout, self._errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-c", _RUNNERS[runner], *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        test.addCleanup(self._end)

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def output(self) -> str:
        """What it wrote to standard output so far."""
        return self._output.read_text()

    @property
    def errors(self) -> str:
        """What it wrote to standard error so far."""
        return self._errors.read_text()

    def exit_status(self) -> int:
        """Wait for its end."""
        return self.process.wait(LIMIT)

    def wait_for_line(self, pattern: str, file: Path | None = None) -> re.Match[str]:
        """Wait until its output, or a file, matches a pattern."""
        source = self._output if file is None else file

        def look() -> re.Match[str] | None:
            found = re.search(pattern, source.read_text()) if source.exists() else None
            if found is None and file is None and self.process.poll() is not None:
                raise AssertionError(f"it ended before it wrote {pattern!r}: {self.output}{self.errors}")
            return found

        return wait_for(f"{pattern!r} in {source}", look)

    def port(self, file: Path | None = None) -> int:
        """Wait until its first LEKT listener listens, and tell where."""
        return int(self.wait_for_line(r"lekt on 127\.0\.0\.1:(\d+) is listening", file)[1])


class Daemonized:
    """A daemon that has left its parent, known by its pid file; ended with the test."""

    def __init__(self, test: SynchronousTestCase, pidfile: Path) -> None:

        def look() -> str | None:
            return pidfile.read_text() if pidfile.exists() else None

        self.pid = int(wait_for(f"a number in {pidfile}", look))
        test.addCleanup(self._end)

    def is_running(self) -> bool:
        """Whether it is still there, and no zombie."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def terminate(self) -> None:
        """Ask it to end, and wait until it has."""
        os.kill(self.pid, signal.SIGTERM)
        wait_for(f"the end of {self.pid}", lambda: not self.is_running())

    def _end(self) -> None:
        if self.is_running():
            os.kill(self.pid, signal.SIGKILL)


class LektClient:
    """The simplest client: it says hello without a method and is in.

    :param port: where the server is.
    """

    def __init__(self, test: SynchronousTestCase, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        test.addCleanup(self.socket.close)

    def join(self) -> None:
        """Get in."""
        self.socket.sendall(HELLO)
        received = b""
        while len(received) < len(ACCEPTED) and (data := self.socket.recv(len(ACCEPTED) - len(received))):
            received += data
        if received != ACCEPTED:
            raise AssertionError(f"not accepted: {received!r}")

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        received = b""
        while data := self.socket.recv(4096):
            received += data
        return received
