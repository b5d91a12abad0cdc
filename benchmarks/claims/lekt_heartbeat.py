"""What a heartbeat costs when nothing has changed, with few and with many clients on the list (LEKT-16)."""

from __future__ import annotations

import attrs

from benchmarks.claims.places import LEKT
from benchmarks.harness.benchmark import Benchmark, Sample
from benchmarks.harness.cost import cost_of

MANY, FEW = 10_000, 100
CLIENTS = 100
"""The ones among them that are connected and send heartbeats."""
ROUNDS = 17
"""Heartbeats of each client: LEKT-12 allows 20 within 5 seconds, and three are sent before."""
CYCLES = 6
"""So many times other clients come and do the same."""


def _heartbeats(listed: int) -> Sample:
    place = attrs.evolve(LEKT, arguments={"listed": listed - CLIENTS})
    cpu = 0.0
    with place.started() as (listening, clients):
        for _ in range(CYCLES):
            clients.call("hold", count=CLIENTS)
            # The first brings the whole list, after that nothing changes.
            clients.call("changes")
            clients.call("heartbeats", times=2)
            if listening.call("listed") != listed:
                raise AssertionError(f"{listening.call('listed')} clients are listed, not {listed}")
            cpu += cost_of(lambda: clients.call("heartbeats", times=ROUNDS), listening).cpu
            clients.call("leave")
    count = CLIENTS * ROUNDS * CYCLES
    return Sample(cpu / count * 1e6, {f"heartbeats per second and core, {listed:,} listed": count / cpu})


BENCHMARKS = [
    Benchmark(
        name="lekt-idle-heartbeat",
        claim=f"an idle heartbeat costs the same (15 % up or down) with {MANY:,} and with {FEW} clients listed",
        unit="us CPU",
        subject=lambda: _heartbeats(MANY),
        baseline=lambda: _heartbeats(FEW),
        baseline_name=f"with {FEW} listed",
        most=1.15,
        least=0.85,
    )
]
