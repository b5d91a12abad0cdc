"""A handler by which everybody hears what one cries, and an event sink that rings when somebody comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from connectd.interfaces import IEventSinkPlugin, IHandlerPlugin, IReceiver, ISession
from connectd.sansio import Outcome
from connectd_herald.machine import Cry

log = Logger()


@implementer(IReceiver)
class Visitor:
    """One session, as the crier knows it."""

    def __init__(self, session: ISession, present: set[Visitor]) -> None:
        self.session, self.present, self.behind = session, present, False

    def received(self, message: Cry) -> None:
        for visitor in list(self.present):
            visitor.hear(Cry(f"{self.session.identity['name']}: {message.text}"))

    def hear(self, cry: Cry) -> None:
        """Pass a cry on. Who reads too slowly misses some: what waits for a peer needs a bound."""
        if not self.behind:
            self.session.send(cry)
            drained = self.session.drained()
            self.behind = not drained.called
            drained.addCallbacks(self.caught_up, lambda over: None)

    def caught_up(self, result: None) -> None:
        self.behind = False

    def closed(self, outcome: Outcome) -> None:
        self.present.discard(self)


@implementer(IHandlerPlugin)
class Crier:
    """``handler = "crier"``"""

    name = "crier"

    def __init__(self) -> None:
        self.present: set[Visitor] = set()

    def wants(self, protocol: str) -> tuple[str, ...]:
        return ()  # nothing beyond what the protocol hands on by itself

    def open(self, session: ISession) -> Visitor:
        visitor = Visitor(session, self.present)
        self.present.add(visitor)
        return visitor


@implementer(IEventSinkPlugin)
class Doorbell:
    """``event_sinks = ["doorbell"]``"""

    name = "doorbell"

    def event(self, mapping: Mapping[str, Any]) -> None:
        if mapping["event"] == "accepted" and mapping["protocol"] == "herald":
            log.info("ding-dong: {name} is here", name=mapping["name"])


crier = Crier()
doorbell = Doorbell()
