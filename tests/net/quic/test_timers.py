"""One heap of timers for all connections of a socket."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.quic.timers import DEAD, Timers


class Waiter:
    """Wants to be called at the times in its list."""

    def __init__(self, *following: float | None) -> None:
        self.timer: list[Any] | None = None
        self.following = list(following)
        self.called: list[float] = []

    def timer_due(self, now: float) -> float | None:
        self.called.append(now)
        if not self.following:
            return None
        following = self.following.pop(0)
        if following == -1:
            raise RuntimeError("a mistake")
        return following


class TimersTests(SynchronousTestCase):
    """Who is called when."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.timers = Timers(self.clock)

    def test_order(self) -> None:
        """Each is called at its time, by one timer of the reactor at a time."""
        late, early = Waiter(), Waiter()
        self.timers.schedule(late, 2.0)
        self.timers.schedule(early, 1.0)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1.0)
        self.assertEqual((early.called, late.called), ([1.0], []))
        self.clock.advance(1.0)
        self.assertEqual(late.called, [2.0])
        self.assertEqual((len(self.timers), self.clock.getDelayedCalls()), (0, []))

    def test_moves(self) -> None:
        """A later time is found out when the earlier one comes; an earlier one counts at once."""
        waiter = Waiter(5.0)
        self.timers.schedule(waiter, 2.0)
        self.timers.schedule(waiter, 5.0)
        self.timers.schedule(waiter, None)
        self.timers.schedule(waiter, 1.0)
        self.assertEqual(len(self.timers), 1)
        self.clock.advance(1.0)
        self.assertEqual(waiter.called, [1.0])
        self.clock.advance(3.9)
        self.assertEqual(waiter.called, [1.0])
        self.clock.advance(0.2)
        self.assertEqual(len(waiter.called), 2)

    def test_at_once(self) -> None:
        """Who is due again at once is called in the next turn, not in this one."""
        waiter = Waiter(1.0)
        self.timers.schedule(waiter, 1.0)
        self.timers._clock.advance(1.0)  # type: ignore[attr-defined]
        self.assertEqual(len(waiter.called), 2)

    def test_mistake(self) -> None:
        """One that raises is called no more, and the others are."""
        bad, good = Waiter(-1), Waiter()
        self.timers.schedule(bad, 1.0)
        self.timers.schedule(good, 1.0)
        self.clock.advance(1.0)
        self.assertEqual(len(good.called), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_forgotten(self) -> None:
        """Who is forgotten is let go of, and its places do not pile up."""
        waiters = [Waiter() for _ in range(10 * DEAD)]
        for number, waiter in enumerate(waiters):
            self.timers.schedule(waiter, 60.0 + number)
        for waiter in waiters[:-1]:
            self.timers.forget(waiter)
            self.timers.forget(waiter)
        self.assertEqual(len(self.timers), 1)
        self.assertLess(len(self.timers._heap), 3 * DEAD)
        self.clock.advance(10_000)
        self.assertEqual([len(waiter.called) for waiter in waiters[-2:]], [0, 1])

    def test_stop(self) -> None:
        """Nothing is left of it in the reactor."""
        waiter = Waiter()
        self.timers.schedule(waiter, 1.0)
        self.timers.stop()
        self.timers.schedule(waiter, 0.5)
        self.assertEqual(self.clock.getDelayedCalls(), [])
