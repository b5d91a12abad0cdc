"""Tests of :mod:`connectd.net.deadlines`."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.deadlines import Deadlines, Entry

INTERVAL = 0.25


class Sleeper:
    """Waits for its time, and is called when it has come.

    :param answer: tells the next time, given this one.
    """

    def __init__(self, answer: Callable[[float], float | None] = lambda now: None) -> None:
        self.answer = answer
        self.called: list[float] = []

    def deadline_passed(self, now: float) -> float | None:
        self.called.append(now)
        return self.answer(now)


class DeadlinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1_790_000_000.0
        self.start = self.clock.seconds()
        self.deadlines = Deadlines(self.clock, INTERVAL)
        self.deadlines.start()
        self.addCleanup(self.deadlines.stop)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.clock.advance(0.05)

    def entry(self, sleeper: Sleeper, seconds: float) -> Entry:
        return self.deadlines.schedule(sleeper, self.start + seconds)

    def test_stood_still(self) -> None:
        """LEKT-12: after a pause of the process, what peers sent in time is read before anybody is called late."""
        sleeper = Sleeper()
        entry = self.entry(sleeper, 20)
        self.pass_time(1)
        self.clock.rightNow += 30
        self.deadlines._turn()
        self.deadlines.cancel(entry)  # as a heartbeat does that had been waiting in the socket
        self.clock.advance(0)
        self.assertEqual(sleeper.called, [])

    def test_stood_still_and_nothing_came(self) -> None:
        sleeper = Sleeper()
        self.entry(sleeper, 20)
        self.clock.advance(50)
        self.assertEqual(sleeper.called, [self.start + 50])

    def test_stopped_while_late(self) -> None:
        self.clock.rightNow += 30
        self.deadlines._turn()
        self.deadlines.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lateness(self) -> None:
        """COM-1: everybody is called once their time has passed, at most one interval late, and never early."""
        sleepers = [Sleeper() for _ in range(40)]
        for number, sleeper in enumerate(sleepers):
            self.entry(sleeper, number * 0.07)
        self.pass_time(5)
        for number, sleeper in enumerate(sleepers):
            (called,) = sleeper.called
            lateness = called - self.start - number * 0.07
            self.assertGreaterEqual(lateness, 0)
            self.assertLessEqual(lateness, INTERVAL + 0.051)
        self.assertEqual(len(self.deadlines), 0)

    def test_exactly_now(self) -> None:
        sleeper = Sleeper()
        self.entry(sleeper, INTERVAL)
        self.clock.advance(INTERVAL)
        self.assertEqual(len(sleeper.called), 1)

    def test_moved_deadline(self) -> None:
        """A deadline that moved away is called at its old time, once, and then at the new one."""
        new = self.start + 3.0
        sleeper = Sleeper(lambda now: None if now >= new else new)
        self.entry(sleeper, 1.0)
        self.pass_time(2.9)
        self.assertEqual(len(sleeper.called), 1)
        self.assertEqual(len(self.deadlines), 1)
        self.pass_time(1)
        self.assertEqual(len(sleeper.called), 2)
        self.assertEqual(len(self.deadlines), 0)

    def test_due_again_at_once(self) -> None:
        """Whoever is due again within a sweep waits for the next one: a sweep ends."""
        sleeper = Sleeper(lambda now: now)
        entry = self.entry(sleeper, 0.0)
        self.deadlines.sweep()
        self.assertEqual(len(sleeper.called), 1)
        self.deadlines.sweep()
        self.assertEqual(len(sleeper.called), 2)
        self.deadlines.cancel(entry)

    def test_cancel(self) -> None:
        sleeper = Sleeper()
        entry = self.entry(sleeper, 1.0)
        self.deadlines.cancel(entry)
        self.deadlines.cancel(entry)
        self.assertEqual(len(self.deadlines), 0)
        self.pass_time(2)
        self.assertEqual(sleeper.called, [])
        self.assertEqual(len(self.deadlines), 0)

    def test_cancelled_owner_is_let_go(self) -> None:
        """COM-2: a cancelled entry holds its owner no longer."""
        entry = self.entry(Sleeper(), 1000.0)
        self.deadlines.cancel(entry)
        self.assertIsNone(entry[2])

    def test_compaction(self) -> None:
        """COM-2: cancelled entries do not pile up: the heap stays in proportion to what waits."""
        kept = self.entry(Sleeper(), 1000.0)
        for _ in range(1000):
            self.deadlines.cancel(self.entry(Sleeper(), 2000.0))
            self.assertLess(len(self.deadlines._heap), 140)
            self.assertEqual(len(self.deadlines), 1)
        self.assertIn(kept, self.deadlines._heap)

    def test_no_compaction_while_many_wait(self) -> None:
        """What costs time is done when it pays."""
        entries = [self.entry(Sleeper(), 1000.0) for _ in range(400)]
        for entry in entries[:100]:
            self.deadlines.cancel(entry)
        self.assertEqual((len(self.deadlines), len(self.deadlines._heap)), (300, 400))

    def test_cancel_itself_in_a_sweep(self) -> None:
        """Whoever cancels its own entry while it is called is not put back, whatever it answers."""

        def answer(now: float) -> float:
            self.deadlines.cancel(entry)
            return now + 1

        sleeper = Sleeper(answer)
        entry = self.entry(sleeper, 0.1)
        self.pass_time(3)
        self.assertEqual(len(sleeper.called), 1)
        self.assertEqual((len(self.deadlines), len(self.deadlines._heap)), (0, 0))

    def test_cancel_another_in_a_sweep(self) -> None:
        """An entry that is due in the same sweep and cancelled before its turn is not called."""

        def answer(now: float) -> None:
            for entry in entries:
                self.deadlines.cancel(entry)

        first = Sleeper(answer)
        self.entry(first, 0.1)
        others = [Sleeper() for _ in range(200)]
        entries = [self.entry(other, 0.15) for other in others]
        waiting = [self.entry(Sleeper(), 50.0) for _ in range(10)]
        self.pass_time(1)
        self.assertEqual(sum(len(other.called) for other in others), 0)
        self.assertEqual(len(self.deadlines), 10)
        for entry in waiting:
            self.deadlines.cancel(entry)
        self.assertEqual(len(self.deadlines), 0)

    def test_schedule_in_a_sweep(self) -> None:
        later = Sleeper()

        def answer(now: float) -> None:
            self.entry(later, 0.1)

        self.entry(Sleeper(answer), 0.1)
        self.deadlines.sweep()
        self.pass_time(1)
        self.assertEqual(len(later.called), 1)

    def test_raising(self) -> None:
        """One who raises is logged and forgotten; the others are called, now and later."""

        def answer(now: float) -> None:
            raise ZeroDivisionError

        first, second, third = Sleeper(answer), Sleeper(), Sleeper()
        self.entry(first, 0.1)
        self.entry(second, 0.1)
        self.entry(third, 1.0)
        self.pass_time(2)
        self.assertEqual([len(sleeper.called) for sleeper in (first, second, third)], [1, 1, 1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.deadlines), 0)

    def test_same_time(self) -> None:
        """Entries of the same time need no order between their owners."""
        sleepers = [Sleeper() for _ in range(5)]
        for sleeper in sleepers:
            self.entry(sleeper, 1.0)
        self.pass_time(2)
        self.assertEqual([len(sleeper.called) for sleeper in sleepers], [1] * 5)

    def test_stop(self) -> None:
        """Nothing is called, and no timer left, after stop; starting and stopping twice is fine."""
        sleeper = Sleeper()
        self.entry(sleeper, 1.0)
        self.deadlines.start()
        self.deadlines.stop()
        self.deadlines.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.pass_time(2)
        self.assertEqual(sleeper.called, [])
        self.deadlines.start()
        self.pass_time(1)
        self.assertEqual(len(sleeper.called), 1)

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("schedule"), st.integers(0, 20)),
                st.tuples(st.just("cancel"), st.integers(0, 100)),
                st.tuples(st.just("advance"), st.integers(0, 5)),
            ),
            max_size=80,
        )
    )
    def test_any_order(self, steps: list[tuple[str, int]]) -> None:
        """COM-1: whatever is scheduled and cancelled in between, each is called once unless it was cancelled."""
        deadlines = Deadlines(self.clock, INTERVAL)
        all_entries: list[tuple[Sleeper, Entry, float]] = []
        cancelled: set[int] = set()
        for step, number in steps:
            if step == "schedule":
                when = self.clock.seconds() + number
                sleeper = Sleeper()
                all_entries.append((sleeper, deadlines.schedule(sleeper, when), when))
            elif step == "cancel" and all_entries:
                index = number % len(all_entries)
                deadlines.cancel(all_entries[index][1])
                if not all_entries[index][0].called:
                    cancelled.add(index)
            else:
                self.clock.advance(number)
                deadlines.sweep()
            now = self.clock.seconds()
            waiting = 0
            for index, (sleeper, _, when) in enumerate(all_entries):
                if index in cancelled:
                    self.assertEqual(sleeper.called, [])
                elif sleeper.called:
                    self.assertGreaterEqual(now, when)
                    self.assertEqual(len(sleeper.called), 1)
                else:
                    waiting += 1
            self.assertEqual(len(deadlines), waiting)
