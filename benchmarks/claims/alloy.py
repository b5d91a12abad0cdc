"""What an Alloy session costs: while it waits in PLAY, and on its way in."""

from __future__ import annotations

from benchmarks.harness.benchmark import Benchmark, Sample
from benchmarks.harness.cost import Place, cost_of

SESSIONS = 400
LOGINS = 300
ROOM = 12 * 1024
"""Bytes that a session may take besides its QUIC connection."""

BARE = Place("benchmarks.servers.idle_quic:serve", "benchmarks.loads.idle_quic:load")
ALLOY = Place("benchmarks.servers.alloy:serve", "benchmarks.loads.idle_quic:load_players")
WATCHED = Place("benchmarks.servers.alloy:serve", "benchmarks.loads.idle_quic:load_players", {"watched": True})


def _memory(place: Place, room: int = 0) -> Sample:
    with place.started() as (listening, clients):
        cost = cost_of(lambda: clients.call("hold", count=SESSIONS), listening, settle=True)
        clients.call("leave")
    return Sample(cost.memory / SESSIONS + room)


def _inside() -> Sample:
    """The share of a login's CPU that aioquic's connection takes."""
    with WATCHED.started() as (listening, clients):
        before = listening.call("inside")
        cost = cost_of(lambda: clients.call("exchange", count=LOGINS), listening)
        inside = listening.call("inside") - before
    return Sample(inside / cost.cpu, {"CPU of a login, us": cost.cpu / LOGINS * 1e6})


BENCHMARKS = [
    Benchmark(
        name="alloy-idle-memory",
        claim=f"an idle PLAY session takes a bare idle aioquic connection and 12 KiB at most, at {SESSIONS} sessions",
        unit="bytes",
        subject=lambda: _memory(ALLOY),
        baseline=lambda: _memory(BARE, ROOM),
        baseline_name="bare idle aioquic connection plus 12 KiB",
        most=1.0,
    ),
    Benchmark(
        name="alloy-login-share",
        claim="of the CPU time of a login, from QUIC's first packet to the world and out, 0.8 is aioquic's connection",
        unit="of the CPU",
        subject=_inside,
        baseline=lambda: Sample(1.0),
        baseline_name="nothing but aioquic",
        least=0.8,
    ),
]
