"""What an Alloy session costs: while it waits in PLAY, and on its way in."""

from __future__ import annotations

from benchmarks.harness.benchmark import Benchmark, Number, Report, Sample
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


def _login() -> list[Number]:
    """Where the CPU of a login goes: from QUIC's first packet to the world and out."""
    with WATCHED.started() as (listening, clients):
        inside, sockets = listening.call("inside"), listening.call("sockets")
        cost = cost_of(lambda: clients.call("exchange", count=LOGINS), listening)
        inside, sockets = listening.call("inside") - inside, listening.call("sockets") - sockets
    return [
        Number("a login", cost.cpu / LOGINS * 1e6, "us of CPU"),
        Number("of it inside of aioquic's connection", inside / LOGINS * 1e6, "us"),
        Number("of it sending datagrams", sockets / LOGINS * 1e6, "us"),
        Number("aioquic's share of all but sending", inside / (cost.cpu - sockets), "of 1"),
    ]


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
]

REPORTS = [
    Report(name="alloy-login", title="where the CPU of a login into the world goes", measure=_login),
]
