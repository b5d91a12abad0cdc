"""How late the reactor is."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.ops.lag import LagProbe


class LagTests(SynchronousTestCase):
    """Each measurement is the time since it was due, and never negative."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1_790_000_000.0
        self.seen: list[float] = []
        self.probe = LagProbe(self.clock, self.seen.append, 0.0625)
        self.probe.startService()
        self.addCleanup(lambda: self.probe.running and self.probe.stopService())

    def test_in_time(self) -> None:
        self.clock.pump([0.0625] * 4)
        self.assertEqual(self.seen, [0.0] * 4)

    def test_late(self) -> None:
        """A turn that took long shows in one measurement, and the next one is on time again."""
        self.clock.advance(0.0625 + 0.25)
        self.clock.advance(0.0625)
        self.assertEqual(self.seen, [0.25, 0.0])

    def test_late_by_less_than_the_interval(self) -> None:
        """The grid stays: a late call does not put off the next one."""
        self.clock.advance(0.0625 + 0.03125)
        self.clock.advance(0.03125)
        self.assertEqual(self.seen, [0.03125, 0.0])

    def test_clock_set_back(self) -> None:
        self.clock.advance(-30)
        self.clock.advance(30.0625)
        self.clock.advance(0.0625)
        self.assertEqual(self.seen[-1], 0.0)
        self.assertTrue(all(late >= 0 for late in self.seen), self.seen)

    def test_early(self) -> None:
        """A rounding error makes no negative lateness, and the call that was due comes as well."""
        self.clock.advance(0.0624)
        self.probe._measure()
        self.clock.advance(0.0001 + 0.0625)
        self.assertEqual([round(late, 4) for late in self.seen], [0.0, 0.0625])

    def test_stop(self) -> None:
        """Nothing is left behind."""
        self.probe.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.probe.stopService()

    def test_observer_that_fails(self) -> None:
        """The end of measuring is told, and breaks nothing else."""

        def fail(late: float) -> None:
            raise RuntimeError

        probe = LagProbe(self.clock, fail, 0.0625)
        probe.startService()
        self.clock.advance(0.0625)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        probe.stopService()
