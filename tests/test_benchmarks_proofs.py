"""The benchmarks of proofs measure what they say, for an instant."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.catalogue import BENCHMARKS
from benchmarks.claims import proofs
from benchmarks.loads.proofs import ACCOUNTS, STRANGERS


class ProofTests(SynchronousTestCase):
    def setUp(self) -> None:
        for name, value in (("ROUNDS", 1), ("CHEAP_ROUNDS", 3), ("SECONDS", 0.3)):
            self.patch(proofs, name, value)

    def test_refusals(self) -> None:
        """COM-10: both kinds are refused, as often, by turns; with hashes that take time and without."""
        with proofs._started(cheap=True) as (listening, clients):
            times = clients.call("refusals", rounds=3)
            self.assertEqual(listening.call("outcomes"), {"refused": 6})
        self.assertEqual([len(times["known"]), len(times["unknown"])], [3, 3])
        for name in ("proof-time", "proof-time-without-hash"):
            known, unknown = BENCHMARKS[name].subject(), BENCHMARKS[name].baseline()
            self.assertGreater(known.value, 0)
            self.assertGreater(unknown.value, 0)

    def test_names(self) -> None:
        """They differ in nothing but whose they are."""
        self.assertEqual([len(name) for name in ACCOUNTS], [len(name) for name in STRANGERS])
        self.assertFalse({name.lower() for name in ACCOUNTS} & {name.lower() for name in STRANGERS})

    def test_echoes(self) -> None:
        """One session is answered while others log in."""
        benchmark = BENCHMARKS["proof-echo"]
        self.assertGreater(benchmark.subject().value, 0)
        self.assertGreater(benchmark.baseline().value, 0)
        with proofs._started(cheap=True) as (listening, clients):
            times = clients.call("echoes", seconds=0.5, echo_rate=100.0, login_rate=50.0)
            self.assertGreater(len(times), 30)
            self.assertGreater(listening.call("accepted"), 10)
