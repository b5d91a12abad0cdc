"""What happened, kept for assertions: events, and what a handler got."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zope.interface import implementer

from connectd.interfaces import IEventSink, IHandler, IReceiver, ISession
from connectd.sansio import AFTER_ACCEPTANCE, BEFORE_ACCEPTANCE, Outcome


@implementer(IEventSink)
class Recorder:
    """An event sink that keeps what happened."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []

    def event(self, mapping: Mapping[str, Any]) -> None:
        self.events.append(mapping)

    def named(self, name: str) -> list[Mapping[str, Any]]:
        """The events of one name, in order."""
        return [event for event in self.events if event["event"] == name]

    @property
    def outcomes(self) -> list[str]:
        """How connections ended, in order."""
        return [event["outcome"] for event in self.named("ended")]

    def problems(self) -> list[str]:
        """What of COM-7 does not hold: a session is accepted once, a connection ends once, with a fitting outcome."""
        found: list[str] = []
        accepted: set[Any] = set()
        ended: set[Any] = set()
        for event in self.events:
            connection = event.get("connection")
            if event["event"] == "accepted":
                if connection in accepted or connection in ended:
                    found.append(f"accepted twice, or after its end: {event}")
                accepted.add(connection)
            elif event["event"] == "ended":
                if connection is not None and connection in ended:
                    found.append(f"ended twice: {event}")
                if Outcome(event["outcome"]) not in (AFTER_ACCEPTANCE if connection in accepted else BEFORE_ACCEPTANCE):
                    found.append(
                        f"this is no outcome {'after' if connection in accepted else 'before'} acceptance: {event}"
                    )
                ended.add(connection)
        found.extend(f"connection {connection} was accepted and never ended" for connection in accepted - ended)
        return found


@implementer(IHandler)
class RecordingHandler:
    """A handler that keeps sessions, what they said and how they ended.

    :param wants: what it asks protocols for beyond what they hand on by themselves.
    """

    def __init__(self, wants: Iterable[str] = ()) -> None:
        self._wants = tuple(wants)
        self.sessions: list[ISession] = []
        """All that were accepted, in order; those that are over included."""
        self.messages: list[Any] = []
        """What all of them said, in order."""
        self.outcomes: list[Outcome] = []
        """How they ended, in order."""

    def wants(self, protocol: str) -> Iterable[str]:
        return self._wants

    def open(self, session: ISession) -> IReceiver:
        self.sessions.append(session)
        return _Recording(self)


@implementer(IReceiver)
class _Recording:
    """One session of a recording handler."""

    def __init__(self, handler: RecordingHandler) -> None:
        self._handler = handler

    def received(self, message: Any) -> None:
        self._handler.messages.append(message)

    def closed(self, outcome: Outcome) -> None:
        self._handler.outcomes.append(outcome)
