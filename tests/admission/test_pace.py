"""Tests of :mod:`connectd.admission.pace`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from connectd.admission.limits import AdmissionLimits
from connectd.admission.pace import Pace

NOW = 1_700_000_000.0
LIMITS = AdmissionLimits()


class PaceTests(SynchronousTestCase):
    def taken(self, pace: Pace, host: str, count: int, now: float) -> int:
        return sum(pace.take(host, LIMITS, now) for _ in range(count))

    def test_per_minute(self) -> None:
        """COM-4, CH-20: so many at once, then one for each part of a minute; each source by itself."""
        pace = Pace(10)
        self.assertEqual(self.taken(pace, "192.0.2.1", 30, NOW), 10)
        self.assertEqual(self.taken(pace, "192.0.2.2", 30, NOW), 10)
        self.assertEqual(self.taken(pace, "192.0.2.1", 30, NOW + 5.9), 0)
        self.assertEqual(self.taken(pace, "192.0.2.1", 30, NOW + 6.0), 1)
        self.assertEqual(self.taken(pace, "192.0.2.1", 30, NOW + 120), 10)

    def test_one_source(self) -> None:
        """COM-4: an IPv6 /64 is one source, and so are all peers of Unix sockets."""
        pace = Pace(2)
        self.assertEqual(self.taken(pace, "2001:db8::1", 2, NOW), 2)
        self.assertEqual(self.taken(pace, "2001:db8::2", 2, NOW), 0)
        self.assertEqual(self.taken(pace, "", 3, NOW), 2)

    def test_less_than_one(self) -> None:
        """A pace below one a minute lets the first one through."""
        pace = Pace(0.5)
        self.assertEqual(self.taken(pace, "192.0.2.1", 3, NOW), 1)
        self.assertEqual(self.taken(pace, "192.0.2.1", 3, NOW + 119), 0)
        self.assertEqual(self.taken(pace, "192.0.2.1", 3, NOW + 120), 1)

    def test_no_limit(self) -> None:
        """0 is no limit, and remembers nobody."""
        pace = Pace(0)
        self.assertEqual(self.taken(pace, "192.0.2.1", 1000, NOW), 1000)
        self.assertEqual(len(pace), 0)

    def test_bounded(self) -> None:
        """COM-2: so many sources are remembered, and those that are done are forgotten."""
        pace = Pace(10, maximum_sources=100)
        for number in range(1000):
            pace.take(f"192.0.{number // 256}.{number % 256}", LIMITS, NOW)
        self.assertEqual(len(pace), 100)
        pace.take("198.51.100.1", LIMITS, NOW + 100)
        self.assertEqual(len(pace), 1)

    def test_clock_set_back(self) -> None:
        """A clock that is set back locks nobody out for more than a minute."""
        pace = Pace(10)
        self.taken(pace, "192.0.2.1", 10, NOW)
        self.assertEqual(self.taken(pace, "192.0.2.1", 1, NOW - 3600), 0)
        self.assertEqual(self.taken(pace, "192.0.2.1", 20, NOW - 3540), 10)
