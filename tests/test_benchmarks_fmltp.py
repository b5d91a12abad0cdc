"""FmLTP's benchmarks do what they say. Nothing here looks at a clock: counts are tiny, numbers only have to be."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.catalogue import BENCHMARKS
from benchmarks.claims import fmltp
from benchmarks.harness.cost import Place


class FmltpTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(fmltp, "HANDSHAKES", 6)
        self.patch(fmltp, "WARM_UP", 2)
        self.patch(fmltp, "COUNT", 6)
        self.patch(fmltp, "SIZE", 1000)

    def test_every_claim(self) -> None:
        """Each subject and each baseline can be measured."""
        for benchmark in fmltp.BENCHMARKS:
            self.assertIs(BENCHMARKS[benchmark.name], benchmark)
            self.assertGreater(benchmark.subject().value, 0, benchmark.name)
            self.assertGreater(benchmark.baseline().value, 0, benchmark.name)

    def test_loads(self) -> None:
        """All that was asked for was done, and the server counts it so."""
        place = Place(fmltp.FMLTP.server, fmltp.FMLTP.load)
        with place.processes() as (listening, clients):
            clients.call("exchange", count=5)
            self.assertEqual(clients.call("receive", size=2000, count=3), 6000)
            self.assertEqual(clients.call("send", size=2000, count=3), 6000)
            outcomes = listening.call("outcomes")
        self.assertEqual(sum(outcomes.values()), 7)
        self.assertEqual(outcomes["left"], 7)
