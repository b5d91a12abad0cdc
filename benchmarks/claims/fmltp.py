"""What FmLTP costs: handshakes, turns of the reactor, and bytes through a channel."""

from __future__ import annotations

from benchmarks.harness.benchmark import Benchmark, Sample
from benchmarks.harness.child import load, server
from benchmarks.harness.cost import Place, cost_of

HANDSHAKES, WARM_UP = 400, 100
SIZE, COUNT = 48_000, 200
"""Bytes of a reply or a command, and how many of them go through a channel."""

BARE = "benchmarks.servers.fmltp:serve_bare"
FMLTP = Place("benchmarks.servers.fmltp:serve", "benchmarks.loads.fmltp:load")


def _handshakes() -> Sample:
    with FMLTP.processes() as (listening, clients):
        clients.call("exchange", count=WARM_UP)
        cost = cost_of(lambda: clients.call("exchange", count=HANDSHAKES), listening)
    notes = {"handshakes per second and core": HANDSHAKES / cost.cpu, "server busy, %": 100 * cost.busy}
    return Sample(cost.cpu / HANDSHAKES * 1e6, notes)


def _bare() -> Sample:
    with (
        server(BARE) as listening,
        load(FMLTP.load, port=listening.call("port"), bare=True) as clients,
    ):
        clients.call("exchange", count=WARM_UP)
        cost = cost_of(lambda: clients.call("exchange", count=HANDSHAKES), listening)
    notes = {"bare handshakes per second and core": HANDSHAKES / cost.cpu}
    return Sample(cost.cpu / HANDSHAKES * 1e6, notes)


def _longest_slice(group: str) -> Sample:
    with (
        server(FMLTP.server, group=group, slices=True) as listening,
        load(FMLTP.load, port=listening.call("port"), group=group) as clients,
    ):
        clients.call("exchange", count=WARM_UP)
        listening.call("longest")
        clients.call("exchange", count=HANDSHAKES)
        longest = listening.call("longest")
    return Sample(longest["slice"] * 1e3, {"longest turn with 8 handshakes at once, ms": longest["turn"] * 1e3})


def _channel(direction: str) -> Sample:
    with FMLTP.processes() as (listening, clients):
        clients.call(direction, size=SIZE, count=max(1, COUNT // 10))
        moved = [0]

        def move() -> None:
            moved[0] = clients.call(direction, size=SIZE, count=COUNT)

        cost = cost_of(move, listening)
    megabytes = moved[0] / 1e6
    return Sample(cost.cpu / megabytes * 1e3, {f"{direction}: MB per second": megabytes / cost.elapsed})


def _fernet(decrypt: bool) -> Sample:
    with server(BARE) as listening:
        spent = listening.call("fernet", size=SIZE, count=COUNT, decrypt=decrypt)
    return Sample(spent / (SIZE * COUNT / 1e6) * 1e3)


BENCHMARKS = [
    Benchmark(
        name="fmltp-handshake",
        claim="a handshake in ffdhe2048 costs at most 1 / 0.55 of its computations behind a bare Twisted accept",
        unit="us CPU",
        subject=_handshakes,
        baseline=_bare,
        baseline_name="key pair, exchange, HKDF, two Fernet operations, bare accept",
        most=1 / 0.55,
    ),
    *(
        Benchmark(
            name=f"fmltp-slice-{group}",
            claim=f"handshakes in {group} keep the reactor at one thing for at most 2 ms",
            unit="ms CPU",
            subject=lambda group=group: _longest_slice(group),  # type: ignore[misc]  # mypy knows no defaults of lambdas
            baseline=lambda: Sample(2.0),
            baseline_name="2 ms",
            most_value=2.0,
        )
        for group in ("ffdhe2048", "ffdhe3072", "ffdhe4096")
    ),
    *(
        Benchmark(
            name=f"fmltp-{direction}",
            claim=f"5 MB a second through one channel, which the server {word}, take at most one core",
            unit="ms CPU per MB",
            subject=lambda direction=direction: _channel(direction),  # type: ignore[misc]
            baseline=lambda decrypt=decrypt: _fernet(decrypt),  # type: ignore[misc]
            baseline_name="Fernet alone",
            most_value=200.0,
        )
        for direction, word, decrypt in (("receive", "sends", False), ("send", "receives", True))
    ),
]
