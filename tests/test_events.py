"""Tests of :mod:`connectd.events`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from connectd.events import Events
from connectd.interfaces import IEventSink
from connectd.sansio import Outcome
from tests.toy import OutcomeChecker

STAMP = {"protocol": "toy", "listener": "toy on nothing", "connection": 7, "peer": "192.0.2.1:4000"}


@implementer(IEventSink)
class BrokenSink:
    def event(self, mapping: Mapping[str, Any]) -> None:
        raise ZeroDivisionError


class EventsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sink = OutcomeChecker()
        self.events = Events(lambda: 12.5, [self.sink])

    def test_sinks(self) -> None:
        verifyObject(IEventSink, self.sink)
        self.assertEqual(Events(lambda: 0.0).sinks, [])

    def test_stamp_wins(self) -> None:
        """COM-7: what a peer supplies overrides neither what we know, nor the name or the time of the event."""
        self.events.emit("greeting", STAMP, {"peer": "forged", "event": "forged", "time": 0, "nick": "ann"})
        self.assertEqual(self.sink.events, [{**STAMP, "nick": "ann", "event": "greeting", "time": 12.5}])

    def test_stamp_is_not_changed(self) -> None:
        stamp = dict(STAMP)
        self.events.emit("greeting", stamp)
        self.events.connection_ended("toy", stamp, Outcome.ABORTED, "gone", 3)
        self.assertEqual(stamp, STAMP)

    def test_accepted(self) -> None:
        """COM-7: an ``accepted`` event, counted per protocol."""
        self.events.session_accepted("toy", STAMP, {"name": "ann", "outcome": "banned"})
        (event,) = self.sink.events
        self.assertEqual(event, {**STAMP, "name": "ann", "outcome": "banned", "event": "accepted", "time": 12.5})
        self.assertEqual(dict(self.events.accepted), {"toy": 1})

    def test_ended(self) -> None:
        """COM-3, COM-7: an outcome with its reason, and the offset where there is one; counted per protocol."""
        self.events.connection_ended("toy", STAMP, Outcome.MALFORMED, "bad line", 12)
        self.events.connection_ended("toy", {**STAMP, "connection": 8}, Outcome.MALFORMED, "bad line", None)
        self.events.connection_ended("other", {**STAMP, "connection": 9}, Outcome.TIMEOUT, "slow", 0)
        self.assertEqual(
            self.sink.events[0],
            {**STAMP, "event": "ended", "time": 12.5, "outcome": "malformed", "reason": "bad line", "offset": 12},
        )
        self.assertNotIn("offset", self.sink.events[1])
        self.assertEqual(self.sink.events[2]["offset"], 0)
        self.assertEqual(dict(self.events.outcomes), {("toy", "malformed"): 2, ("other", "timeout"): 1})

    def test_reason_is_one_line(self) -> None:
        """COM-7: a reason that a handler took from a peer neither begins a line of its own nor moves a cursor."""
        self.events.connection_ended("toy", STAMP, Outcome.KICKED, "bad\r\nline\x1b[31m", None)
        self.assertEqual(self.sink.events[0]["reason"], "bad\ufffd\ufffdline\ufffd[31m")

    def test_broken_sink(self) -> None:
        """A sink that raises is logged, and changes nothing for the others."""
        self.events.sinks.insert(0, BrokenSink())
        self.events.connection_ended("toy", STAMP, Outcome.ABORTED, "gone", None)
        self.assertEqual(self.sink.outcomes(), ["aborted"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class OutcomeCheckerTests(SynchronousTestCase):
    """The checker that other tests trust finds what COM-7 forbids."""

    def faults(self, *outcomes: Outcome | None, reason: str = "because") -> int:
        """How much is wrong with a connection that had these; None is ``accepted``."""
        checker = OutcomeChecker()
        events = Events(lambda: 0.0, [checker])
        for outcome in outcomes:
            if outcome is None:
                events.session_accepted("toy", STAMP, {})
            else:
                events.connection_ended("toy", STAMP, outcome, reason, None)
        return len(checker.faults)

    def test_allowed(self) -> None:
        """COM-7: every outcome has its place."""
        for outcome in Outcome:
            before = outcome.value in {"refused", "malformed", "limited", "banned", "timeout", "aborted", "shutdown"}
            after = outcome.value in {"left", "lost", "kicked", "timeout", "malformed", "failed", "shutdown"}
            self.assertEqual(self.faults(outcome), 0 if before else 1)
            self.assertEqual(self.faults(None, outcome), 0 if after else 1)

    def test_forbidden(self) -> None:
        """COM-7: one ``accepted``, one outcome, in this order, and a reason."""
        self.assertEqual(self.faults(None, None), 1)
        self.assertEqual(self.faults(None, Outcome.LEFT, Outcome.LEFT), 1)
        self.assertEqual(self.faults(Outcome.ABORTED, None), 1)
        self.assertEqual(self.faults(Outcome.ABORTED, reason=""), 1)
