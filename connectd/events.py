"""What happened: one stream of flat events, counted and handed to the sinks (COM-7).

Events are for machines and audits, the log is for people who look for a fault: two streams.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger

from connectd.interfaces import IEventSink
from connectd.sansio import Outcome
from connectd.wire import one_line

log = Logger()


class Events:
    """Stamps events, counts them and gives them to every sink.

    :param clock: tells Unix time in seconds.
    :param sinks: who takes the events.
    """

    def __init__(self, clock: Callable[[], float], sinks: list[IEventSink] | None = None) -> None:
        self._clock = clock
        self.sinks: list[IEventSink] = [] if sinks is None else sinks
        self.accepted: Counter[str] = Counter()
        """Accepted sessions by protocol."""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Ended connections by protocol and outcome."""

    def emit(self, name: str, stamp: Mapping[str, Any], details: Mapping[str, Any] | None = None) -> None:
        """Hand out one event.

        :param name: what happened: ``accepted``, ``ended``, …
        :param stamp: what we know about who it concerns.
        :param details: what came from elsewhere, the peer included. It never overrides the stamp.
        """
        self._hand_out(name, {**details, **stamp} if details else dict(stamp))

    def _hand_out(self, name: str, mapping: dict[str, Any]) -> None:
        mapping["event"] = name
        mapping["time"] = self._clock()
        for sink in self.sinks:
            try:
                sink.event(mapping)
            except Exception:
                log.failure("event sink {sink} failed", sink=type(sink).__name__)

    def session_accepted(self, protocol: str, stamp: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        """The one ``accepted`` event of a session."""
        self.accepted[protocol] += 1
        self.emit("accepted", stamp, identity)

    def connection_ended(
        self, protocol: str, stamp: Mapping[str, Any], outcome: Outcome, reason: str, offset: int | None
    ) -> None:
        """The one outcome of a connection."""
        word = outcome.value
        self.outcomes[protocol, word] += 1
        # A handler's reason may carry what others wrote: it cannot break or steer a line of the log.
        ended = {**stamp, "outcome": word, "reason": one_line(reason)}
        if offset is not None:
            ended["offset"] = offset
        self._hand_out("ended", ended)
