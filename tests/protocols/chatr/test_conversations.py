"""Two terminals that talk with each other: the real commands, a real daemon, on loopback and through real NATs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr.identity import generate, save
from tests.processes import LIMIT, ROOT, wait_for
from tests.protocols.chatr.daemon_case import DaemonCase
from tests.protocols.chatr.lab import DROPS_STRAYS, MASQUERADE, SERVER, Lab

CONNECTCTL = "import sys; sys.argv[0] = 'connectctl'; from connectd.cli.main import main; main()"


class Terminal:
    """A process of connectctl, and who types there.

    :param test: with whose end it ends.
    :param directory: its working directory; what it writes goes to files there.
    :param name: of these files.
    :param arguments: connectctl's.
    :param prefix: a command before it.
    """

    def __init__(
        self, test: SynchronousTestCase, directory: Path, name: str, *arguments: str, prefix: tuple[str, ...] = ()
    ) -> None:
        self._said, self._status = directory / f"{name}.stdout", directory / f"{name}.stderr"
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("CONNECTD_CONFIG", None)
        with self._said.open("wb") as stdout, self._status.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-c", CONNECTCTL, *arguments],
                cwd=directory,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
            )
        test.addCleanup(self._end)

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    @property
    def status(self) -> str:
        """What it wrote to standard error."""
        return self._status.read_text()

    def type(self, line: str) -> None:
        """Type a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, pattern: str, *, said: bool = False) -> re.Match[str]:
        """Wait until its status lines, or what others said, match a pattern."""
        file = self._said if said else self._status

        def look() -> re.Match[str] | None:
            found = re.search(pattern, file.read_text())
            if found is None and self.process.poll() is not None:
                raise AssertionError(f"it ended before it wrote {pattern!r}: {self.status}")
            return found

        return wait_for(f"{pattern!r} in {file.name}, where is {file.read_text()!r}", look)

    def close(self) -> int:
        """End its input and wait for its end; its status."""
        self.process.communicate(timeout=LIMIT)
        return self.process.returncode


class ConversationCase(DaemonCase):
    """A daemon and two identities."""

    def setUp(self) -> None:
        super().setUp()
        for name in ("alice", "bob"):
            save(generate(2048), str(self.folder / f"{name}.pem"))

    def converse(self, *, alice: tuple[str, ...] = (), bob: tuple[str, ...] = (), peer_port: int) -> Terminal:
        """Bob listens, Alice talks with him, and leaves; Bob's terminal.

        :param alice: the command before hers.
        :param bob: the command before his.
        """
        options = (
            *("--url", f"chatr://{self.host}:{self.port}", "--registry", self.registry),
            *("--certificate", self.certificate, "--peer-port", str(peer_port)),
        )
        listening = Terminal(self, self.folder, "bob", "chatr", "listen", "--identity", "bob.pem", *options, prefix=bob)
        uuid = listening.wait_for(r"connected as ([0-9a-f-]{36}), UDP port \d+")[1]
        command = ("chatr", "talk", uuid, "--identity", "alice.pem")
        talking = Terminal(self, self.folder, "alice", *command, *options, prefix=alice)
        other = talking.wait_for(r"connected as ([0-9a-f-]{36})")[1]
        talking.wait_for(rf"talking with {uuid} at .*; who that is, is not proven")
        listening.wait_for(rf"talking with {other} at .*; who that is, is not proven")
        talking.type("hello from Alice \N{SNOWMAN}")
        listening.wait_for(rf"^{other[:8]}: hello from Alice \N{{SNOWMAN}}\n", said=True)
        listening.type("hello from Bob")
        talking.wait_for(rf"^{uuid[:8]}: hello from Bob\n", said=True)
        self.assertEqual(talking.close(), 0, talking.status)
        listening.wait_for(rf"{other[:8]} is gone: the peer left")
        return listening


class LoopbackTests(ConversationCase):
    """On one machine, where only one of two can have the agreed port."""

    def test_conversation(self) -> None:
        """CH-11, CH-41: three terminals: a server, who listens, and who talks."""
        self.serve("127.0.0.1", 0, 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        listening = self.converse(peer_port=port)
        self.assertIn(f"UDP port {port}\n", listening.status)
        listening.process.send_signal(signal.SIGINT)
        listening.close()


class NatTests(ConversationCase):
    """Through the NATs of Linux."""

    def test_masquerade(self) -> None:
        """CH-11, CH-40, CH-41: each behind its own masquerading NAT."""
        lab = Lab(self)
        prefixes = []
        for name, network in (("alice", "10.0.1"), ("bob", "10.0.2")):
            nat, _ = lab.nat(f"nat-{name}", MASQUERADE + DROPS_STRAYS, network)
            prefixes.append(lab.inside(lab.behind(name, nat, f"{network}.2")))
        self.serve(SERVER, 1230, 8080, lab.inside(lab.internet))
        listening = self.converse(alice=prefixes[0], bob=prefixes[1], peer_port=1231)
        self.assertRegex(listening.status, r"talking with \S+ at 203\.0\.113\.\d+ port 1231;")
