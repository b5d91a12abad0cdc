"""Tests of :mod:`connectd.admission.limits`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from connectd.admission import AdmissionLimits


class AdmissionLimitsTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        limits = AdmissionLimits()
        self.assertEqual(
            (limits.max_connections, limits.connections_per_source, limits.connection_rate, limits.failures_per_source),
            (20000, 64, 20.0, 20),
        )
        self.assertEqual((limits.ipv4_prefix, limits.ipv6_prefix, limits.allow, limits.deny), (32, 64, (), ()))

    def test_burst(self) -> None:
        self.assertEqual(AdmissionLimits().burst, 40)
        self.assertEqual(AdmissionLimits(connection_rate=0.1).burst, 1)
        self.assertEqual(AdmissionLimits(connection_burst=3).burst, 3)

    def test_refused(self) -> None:
        wrong: list[dict[str, Any]] = [
            {"max_connections": -1},
            {"connections_per_source": -1},
            {"connection_rate": -0.5},
            {"connection_rate": float("nan")},
            {"connection_burst": 0.5},
            {"failures_per_source": -1},
            {"ipv4_prefix": 0},
            {"ipv4_prefix": 33},
            {"ipv6_prefix": 0},
            {"ipv6_prefix": 129},
        ]
        for keywords in wrong:
            with self.assertRaises(ValueError, msg=str(keywords)):
                AdmissionLimits(**keywords)
