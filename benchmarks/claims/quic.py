"""What QUIC costs beyond aioquic: handshakes, and bytes."""

from __future__ import annotations

from benchmarks.harness.benchmark import Benchmark, Sample
from benchmarks.harness.child import SERVER_CPU, Child, load
from benchmarks.harness.cost import WARM_UP, Place, cost_of
from benchmarks.loads.quic_bulk import bare

HANDSHAKES = 600
SIZE = 40_000_000

OURS = Place("benchmarks.servers.quic:serve", "benchmarks.loads.quic:load")
WATCHED = Place("benchmarks.servers.quic:serve", "benchmarks.loads.quic:load", {"watched": True})
BULK = Place("benchmarks.servers.quic:serve", "benchmarks.loads.quic_bulk:load")


def _rate(listening: Child, clients: Child, label: str) -> Sample:
    cost = cost_of(lambda: clients.call("exchange", count=HANDSHAKES), listening)
    return Sample(HANDSHAKES / cost.cpu, {f"{label}: server busy, %": 100 * cost.busy})


def _handshakes() -> Sample:
    """Handshakes, with a request and its reply, for each second of the server's CPU."""
    with OURS.started() as (listening, clients):
        return _rate(listening, clients, "connectd")


def _asyncio() -> Sample:
    """The same of aioquic's own server."""
    with (
        Child("benchmarks.harness.asyncio_server", "benchmarks.servers.asyncio_quic:serve", SERVER_CPU) as listening,
        load(OURS.load, port=listening.call("port")) as clients,
    ):
        clients.call("exchange", count=WARM_UP)
        return _rate(listening, clients, "asyncio")


def _inside() -> Sample:
    """The share of that CPU which aioquic's connections take."""
    with WATCHED.started() as (listening, clients):
        before = listening.call("inside")
        cost = cost_of(lambda: clients.call("exchange", count=HANDSHAKES), listening)
        return Sample((listening.call("inside") - before) / cost.cpu)


def _bulk() -> Sample:
    with BULK.started() as (_, clients):
        return Sample(clients.call("download", size=SIZE) / 1e6)


BENCHMARKS = [
    Benchmark(
        name="quic-handshakes",
        claim="a second of CPU does as many QUIC handshakes with a request as in aioquic's own asyncio server",
        unit="a second of CPU",
        subject=_handshakes,
        baseline=_asyncio,
        baseline_name="aioquic on asyncio",
        least=1.0,
    ),
    Benchmark(
        name="quic-share",
        claim="of the CPU time of a QUIC handshake with a request, 0.8 is aioquic's connection",
        unit="of the CPU",
        subject=_inside,
        baseline=lambda: Sample(1.0),
        baseline_name="nothing but aioquic",
        least=0.8,
    ),
    Benchmark(
        name="quic-bulk",
        claim="a download is at least 1.2 times as fast as between two bare aioquic connections in one process",
        unit="MB/s",
        subject=_bulk,
        baseline=lambda: Sample(bare(SIZE) / 1e6),
        baseline_name="two bare aioquic connections",
        least=1.2,
    ),
]
