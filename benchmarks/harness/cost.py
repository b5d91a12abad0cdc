"""The usual measurements: what connections cost a server, while they come and go and while they stay."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from benchmarks.harness.child import Child, load, server

WARM_UP = 300
"""Connections that come and go before anything is measured."""

SETTLING = 0.3
"""Seconds in which a server comes to rest before its memory is read."""


@attrs.frozen
class Place:
    """A server and its load generator.

    :param server: ``module:function`` of the server.
    :param load: that of the load generator, which is given the server's port.
    :param arguments: for the server's function.
    """

    server: str
    load: str
    arguments: dict[str, Any] = attrs.field(factory=dict)

    @contextlib.contextmanager
    def processes(self) -> Iterator[tuple[Child, Child]]:
        """Both processes."""
        with (
            server(self.server, **self.arguments) as listening,
            load(self.load, port=listening.call("port")) as clients,
        ):
            yield listening, clients

    @contextlib.contextmanager
    def started(self) -> Iterator[tuple[Child, Child]]:
        """Both processes, warmed up."""
        with self.processes() as (listening, clients):
            clients.call("exchange", count=WARM_UP)
            yield listening, clients


@attrs.frozen
class Cost:
    """What something cost the server's process.

    :param cpu: user and system time, seconds.
    :param elapsed: seconds that it took.
    :param memory: how much its memory grew, bytes.
    """

    cpu: float
    elapsed: float
    memory: float

    @property
    def busy(self) -> float:
        """Which part of the time the server worked: far below 1, it waited for the load generator."""
        return self.cpu / self.elapsed


def cost_of(act: Callable[[], Any], listening: Child, *, settle: bool = False) -> Cost:
    """Measure the server while something happens.

    :param settle: wait for the server to come to rest, for measurements of memory.
    """
    memory, cpu, began = listening.call("memory"), listening.call("cpu"), time.monotonic()
    act()
    elapsed, cpu = time.monotonic() - began, listening.call("cpu") - cpu
    if settle:
        time.sleep(SETTLING)
    return Cost(cpu, elapsed, listening.call("memory") - memory)
