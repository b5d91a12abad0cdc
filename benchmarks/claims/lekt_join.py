"""What it costs to join a LEKT server and to leave it again."""

from __future__ import annotations

from benchmarks.claims.places import BARE, LEKT
from benchmarks.harness.benchmark import Benchmark, Sample
from benchmarks.harness.cost import Place, cost_of

CONNECTIONS = 3000


def connections(place: Place, label: str) -> Sample:
    """Microseconds of the server's CPU for a connection that comes, says everything and leaves."""
    with place.started() as (listening, clients):
        cost = cost_of(lambda: clients.call("exchange", count=CONNECTIONS), listening)
    notes = {f"{label} per second and core": CONNECTIONS / cost.cpu, f"{label}: server busy, %": 100 * cost.busy}
    return Sample(cost.cpu / CONNECTIONS * 1e6, notes)


BENCHMARKS = [
    Benchmark(
        name="lekt-join",
        claim="to join and leave costs at most 3 times a bare Twisted accept, reply and close",
        unit="us CPU",
        subject=lambda: connections(LEKT, "joins"),
        baseline=lambda: connections(BARE, "bare connections"),
        baseline_name="bare accept, reply, close",
        most=3.0,
    )
]
