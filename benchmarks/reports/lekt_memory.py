"""Which lines hold the memory of an idle LEKT session."""

from __future__ import annotations

from benchmarks.claims.places import BARE, LEKT
from benchmarks.harness.benchmark import Number, Report
from benchmarks.harness.cost import Place

SESSIONS = 2000
SHOWN = 24.0
"""Bytes a session from which a line is shown."""


def _traced(place: Place, command: str, name: str) -> list[Number]:
    with place.started() as (listening, clients):
        listening.call("start_tracing")
        clients.call(command, count=SESSIONS)
        lines = listening.call("traced_lines", most=500)
        clients.call("leave")
    numbers = [Number(f"{name}: all Python objects", sum(size for _, size, _ in lines) / SESSIONS, "bytes a session")]
    for line, size, _ in lines:
        if size / SESSIONS >= SHOWN:
            numbers.append(Number(f"  {line}", size / SESSIONS, "bytes a session"))
    return numbers


REPORTS = [
    Report(
        name="lekt-memory",
        title=f"where the memory of an idle session was allocated (tracemalloc, {SESSIONS:,} sessions)",
        measure=lambda: _traced(LEKT, "hold_and_listen", "LEKT") + _traced(BARE, "hold", "bare"),
    )
]
