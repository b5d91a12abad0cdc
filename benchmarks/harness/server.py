"""The server's process: a reactor, what the target function listens with, and the usage of the process."""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.protocol import Factory
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.protocols.basic import LineOnlyReceiver

from benchmarks.harness.child import pin
from benchmarks.harness.control import Commands, answer, resolve
from benchmarks.harness.tracing import start_tracing, traced_lines
from benchmarks.harness.usage import cpu, memory

reactor: Any = installed


class _Control(LineOnlyReceiver):
    """Answers the benchmark; ends the process with it."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def lineReceived(self, line: bytes) -> None:
        transport: Any = self.transport
        transport.write(answer(self._commands, line))

    def connectionLost(self, reason: Any = None) -> None:
        if reactor.running:
            reactor.stop()


def main(descriptor: int, place: int, target: str, arguments: dict[str, Any]) -> None:
    """Run until the benchmark closes its end."""
    pin(place)
    # Until logging begins, Twisted keeps events in memory; a daemon's has begun.
    warnings = FilteringLogObserver(textFileLogObserver(sys.stderr), [LogLevelFilterPredicate(LogLevel.warn)])
    globalLogBeginner.beginLoggingTo([warnings], redirectStandardIO=False)
    built_in = {"cpu": cpu, "memory": memory, "start_tracing": start_tracing, "traced_lines": traced_lines}
    commands = {**built_in, **resolve(target)(reactor, **arguments)}
    reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, Factory.forProtocol(lambda: _Control(commands)))
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))
