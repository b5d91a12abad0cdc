"""Daemons for tests: composed, bound, and let go of at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.config import DaemonSettings
from connectd.ops.daemon import Daemon
from connectd.protocols.lekt.settings import LektSettings
from connectd.sansio import Outcome
from connectd.sessions import Session

LOOPBACK = "tcp:0:interface=127.0.0.1"
NOW = 1_790_000_000.0


def composed(test: SynchronousTestCase, listeners: int = 1, **daemon: Any) -> Daemon:
    """A daemon with LEKT listeners on ports that the kernel chose, on a fake clock, not started."""
    clock = Clock()
    clock.rightNow = NOW
    settings = DaemonSettings(**{"state_dir": "", "admin": "", "status": "", **daemon})
    made = Daemon.from_settings([LektSettings(listen=LOOPBACK)] * listeners, daemon=settings, reactor=clock)
    test.addCleanup(made.let_go)
    return made


def folder(test: SynchronousTestCase) -> Path:
    """A new directory, with a path short enough for Unix sockets."""
    made = tempfile.TemporaryDirectory(prefix="connectd-")
    test.addCleanup(made.cleanup)
    return Path(made.name)


class FakeWire:
    """What a session needs of its connection."""

    def __init__(self, identifier: int, peer: str = "192.0.2.1:5000") -> None:
        self.id = identifier
        self.peer = peer
        self.local = "192.0.2.2:7890"
        self.closed: list[tuple[Outcome, str]] = []

    def send(self, message: Any) -> None:
        raise AssertionError("nothing is sent here")

    def drained(self) -> Deferred[None]:
        return succeed(None)

    def pause(self) -> None:
        raise AssertionError("nothing is paused here")

    resume = pause

    def close(self, outcome: Outcome, reason: str) -> None:
        self.closed.append((outcome, reason))


def add_session(
    daemon: Daemon, identifier: int, protocol: str = "lekt", identity: Mapping[str, Any] | None = None
) -> FakeWire:
    """Let somebody be in."""
    wire = FakeWire(identifier)
    session = Session(wire, protocol, f"{protocol} on a port", NOW, identity or {}, "ann")
    daemon.context.sessions.add(session)
    return wire


def until(condition: Callable[[], object], clock: Any, limit: float = 10.0) -> Deferred[None]:
    """Fires once a condition holds, looked at in every turn of the real reactor."""
    end = clock.seconds() + limit
    done: Deferred[None] = Deferred()

    def look() -> None:
        if condition():
            done.callback(None)
        elif clock.seconds() > end:
            done.errback(AssertionError(f"not within {limit} s"))
        else:
            clock.callLater(0.005, look)

    look()
    return done
