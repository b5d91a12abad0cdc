"""What takes its time on a network's clock: handlers, checkers, decisions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from connectd.interfaces import IHandler, ISession
from connectd.net.connection import Connection, Driver
from connectd.sansio import Decision, Event


@implementer(IHandler)
class SlowHandler:
    """A handler that takes so many seconds to open each session; a session that ends first is not opened."""

    def __init__(self, clock: IReactorTime, seconds: float, handler: IHandler) -> None:
        self._clock = clock
        self._seconds = seconds
        self._handler = handler

    def wants(self, protocol: str) -> Iterable[str]:
        wanted: Iterable[str] = self._handler.wants(protocol)
        return wanted

    def open(self, session: ISession) -> Deferred[Any]:
        return deferLater(self._clock, self._seconds, self._handler.open, session)


@implementer(ICredentialsChecker)
class SlowChecker:
    """A credentials checker that takes so many seconds for each answer."""

    def __init__(self, clock: IReactorTime, seconds: float, checker: ICredentialsChecker) -> None:
        self.credentialInterfaces = checker.credentialInterfaces
        self._clock = clock
        self._seconds = seconds
        self._checker = checker

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        return deferLater(self._clock, self._seconds, self._checker.requestAvatarId, credentials)


@attrs.frozen
class _Due(Event):
    """It is time to answer a decision."""

    decision: Decision


def delay_decisions(driver: Driver, clock: Any, seconds: float) -> None:
    """Let every decision of a listener or a client wait so many seconds before it is looked at."""
    responder = driver.responder

    def wait(connection: Connection, decision: Decision) -> None:
        # A connection that has ended meanwhile hands out no more events.
        clock.callLater(seconds, connection.call, lambda now: [_Due(decision)])

    def answer(connection: Connection, event: _Due) -> None:
        responder(type(event.decision))(connection, event.decision)

    def delayed(kind: type[Event]) -> Any:
        if kind is _Due:
            return answer
        return wait if issubclass(kind, Decision) else responder(kind)

    setattr(driver, "responder", delayed)  # noqa: B010 - a method of this one object
