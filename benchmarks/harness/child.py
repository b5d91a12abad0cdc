"""A child process of a benchmark, as its parent sees it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from types import TracebackType
from typing import Any

CALL_TIMEOUT = 180.0
"""Seconds that an answer may take."""

EXIT_TIMEOUT = 10.0
"""Seconds in which a child that is no longer needed must be gone."""

SERVER_CPU, LOAD_CPU = 0, 1

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""Where this package is, which need not be the current directory."""


class ChildError(Exception):
    """A child could not do what it was asked for; the text is its traceback."""


class Child:
    """One process; a context manager that ends it.

    :param runner: the module to run: ``benchmarks.harness.server`` or ``benchmarks.harness.load``.
    :param target: the ``module:function`` that gives it its commands.
    :param cpu: the CPU it is to stay on, where the machine has it.
    :param arguments: for the function; JSON.
    """

    def __init__(self, runner: str, target: str, cpu: int, **arguments: Any) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(CALL_TIMEOUT)
        self._socket = ours
        self._lines = ours.makefile("rb")
        command = [sys.executable, "-m", runner, str(theirs.fileno()), str(cpu), target, json.dumps(arguments)]
        path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path}
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment
            )

    def call(self, name: str, **arguments: Any) -> Any:
        """Ask for something and wait for the answer.

        :raises ChildError: where it failed, or nothing came in time.
        """
        try:
            self._socket.sendall(json.dumps({"call": name, "arguments": arguments}).encode() + b"\n")
            line = self._lines.readline()
        except TimeoutError:
            raise ChildError(f"{name}: no answer in {CALL_TIMEOUT:g} s") from None
        except OSError:
            line = b""
        if not line:
            raise ChildError(f"{name}: the child process has ended, with status {self._process.wait(EXIT_TIMEOUT)}")
        answered = json.loads(line)
        if "error" in answered:
            raise ChildError(f"{name}:\n{answered['error']}")
        return answered["result"]

    def close(self) -> None:
        """End it."""
        self._lines.close()
        self._socket.close()
        try:
            self._process.wait(EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def server(target: str, **arguments: Any) -> Child:
    """A server in a process of its own, on the first CPU."""
    return Child("benchmarks.harness.server", target, SERVER_CPU, **arguments)


def load(target: str, **arguments: Any) -> Child:
    """A load generator in a process of its own, on the second CPU."""
    return Child("benchmarks.harness.load", target, LOAD_CPU, **arguments)


def pin(cpu: int) -> None:
    """Keep this process on that CPU, where it may use it and another one besides."""
    allowed = sorted(os.sched_getaffinity(0))
    if cpu < len(allowed) > 1:
        os.sched_setaffinity(0, {allowed[cpu]})
