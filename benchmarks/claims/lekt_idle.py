"""What a LEKT session costs that has joined, heard the list, and waits."""

from __future__ import annotations

from benchmarks.claims.places import BARE, LEKT
from benchmarks.harness.benchmark import Benchmark, Sample
from benchmarks.harness.cost import Place, cost_of

SESSIONS = 8000


def _memory(place: Place, command: str) -> Sample:
    with place.started() as (listening, clients):
        cost = cost_of(lambda: clients.call(command, count=SESSIONS), listening, settle=True)
        clients.call("leave")
    return Sample(cost.memory / SESSIONS)


BENCHMARKS = [
    Benchmark(
        name="lekt-idle-memory",
        claim=f"an idle session takes at most 4 KiB, at {SESSIONS:,} sessions that each sent a heartbeat",
        unit="bytes",
        subject=lambda: _memory(LEKT, "hold_and_listen"),
        baseline=lambda: _memory(BARE, "hold"),
        baseline_name="bare idle connection",
        most_value=4096,
    )
]
