"""A machine under watch: what :mod:`connectd.sansio` promises about every machine is checked at each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from connectd.sansio import (
    AFTER_ACCEPTANCE,
    BEFORE_ACCEPTANCE,
    Decision,
    Ended,
    Established,
    Event,
    LocalProtocolError,
    Machine,
)


class Broken(AssertionError):
    """A promise is broken: what the fuzzer looks for."""


def require(condition: object, promise: str, *details: object) -> None:
    """
    :raises Broken: unless the condition holds.
    """
    if not condition:
        raise Broken(f"{promise}: {', '.join(map(repr, details))}" if details else promise)


class Watched:
    """Drives a machine as a connection does.

    :param machine: a new one.
    :param most_input: bytes that it may hold between two calls (COM-2).
    """

    def __init__(self, machine: Machine, most_input: int) -> None:
        self.machine = machine
        self.events: list[Event] = []
        """All of them, in order."""
        self.sent = bytearray()
        """All that it said."""
        self.ended: Ended | None = None
        self.fed = 0
        self._most_input = most_input
        self._established = False
        self._ours: tuple[Any, ...] = ()
        self._decision: Decision | None = None
        self._settle()

    @property
    def decision(self) -> Decision | None:
        """The one that is open."""
        return self._decision

    # What happens to it

    def feed(self, data: bytes, now: float) -> list[Event]:
        """The peer sends bytes."""
        waiting = self._decision is not None
        if self.ended is None:
            self.fed += len(data)
        events = self.machine.receive_data(data, now)
        if waiting:
            require(all(isinstance(event, Ended) for event in events), "input is held while a Decision is open", events)
        self._happened(events)
        return events + self._turns(now)

    def _turns(self, now: float) -> list[Event]:
        """Let it have all the turns that it wants."""
        events: list[Event] = []
        while self.machine.wants_turn:
            events += self._happened(self.machine.turn(now))
        return events

    def finish(self, now: float, *, clean: bool) -> list[Event]:
        """The peer sends no more."""
        events = self.machine.end_of_stream(now, clean=clean)
        self._happened(events)
        require(self.ended is not None, "a machine whose peer is gone has ended")
        return events

    def wake(self, now: float) -> list[Event]:
        """Time has passed."""
        deadline = self.machine.deadline()
        events = self.machine.handle_deadline(now)
        require(not events or (deadline is not None and now >= deadline), "nothing expires before its time", events)
        return self._happened(events)

    def verb(self, call: Callable[..., list[Event]], *arguments: Any) -> list[Event]:
        """A verb whose time it is, or any other call that must not fail."""
        self._decision = None
        self._ours = arguments
        return self._happened(call(*arguments)) + self._turns(arguments[-1] if arguments else 0.0)

    def misuse(self, call: Callable[..., Any], *arguments: Any) -> None:
        """A verb at a wrong time: refused, and nothing comes of it."""
        try:
            call(*arguments)
        except LocalProtocolError:
            self._settle()
        else:
            raise Broken("a verb at a wrong time raises LocalProtocolError")

    # What it promises

    def _happened(self, events: list[Event]) -> list[Event]:
        for index, event in enumerate(events):
            last = index == len(events) - 1
            require(self.ended is None, "nothing comes after Ended", self.ended, event)
            if isinstance(event, Established):
                require(not self._established, "a session is established once")
                self._established = True
            elif isinstance(event, Decision):
                require(self._decision is None, "at most one Decision is open", self._decision, event)
                require(last, "nothing comes after a Decision until its verb", events)
                self._decision = event
            elif isinstance(event, Ended):
                require(last, "Ended is the last event", events)
                self._end(event)
        self.events += events
        self._settle()
        return events

    def _end(self, event: Ended) -> None:
        self.ended = event
        self._decision = None
        allowed = AFTER_ACCEPTANCE if self._established else BEFORE_ACCEPTANCE
        require(event.outcome in allowed, "COM-7: the outcome fits", event, self._established)
        plain = bool(event.reason) and event.reason.isprintable()
        require(plain or event.reason in self._ours, "the reason is one line of plain text", event)
        if event.offset is not None:
            require(0 <= event.offset <= self.fed, "COM-3: the offset lies in what the peer sent", event, self.fed)

    def _settle(self) -> None:
        """After each call."""
        machine = self.machine
        self.sent += machine.data_to_send()
        require(machine.data_to_send() == b"", "each byte is given once")
        require(machine.ended == (self.ended is not None), "a machine that ended said so, and the reverse")
        require(machine.established == self._established, "a machine that is established said so, and the reverse")
        require(machine.decision is self._decision, "the open Decision is the one that was told")
        held = machine.held
        require(held <= self._most_input, "COM-2: what a peer can make us hold is bounded", held)
        if self.ended is not None:
            require(machine.deadline() is None, "a machine that ended waits for nothing")
            require(not held, "a machine that ended holds nothing")
        elif self._decision is None:
            require(machine.wants_data, "without a Decision more input is wanted")
            if not self._established:
                require(machine.deadline() is not None, "COM-1: there is a deadline until acceptance")
