"""What assets and tokens of Alloy cost."""

from __future__ import annotations

import time

from benchmarks.harness.benchmark import Benchmark, Sample
from benchmarks.harness.child import load
from benchmarks.harness.cost import Place
from benchmarks.loads.quic_bulk import bare
from connectd.protocols.alloy.asset_reader import PART_SIZE

SIZE = 60_000_000
LARGE = 1 << 30
PLAYERS = 50
WATCHED = 8.0
"""Seconds of a download by all of them, in which the server's memory is read."""


def _place(size: int) -> Place:
    return Place("benchmarks.servers.alloy_assets:serve", "benchmarks.loads.alloy_assets:load", {"size": size})


def _download() -> Sample:
    with _place(SIZE).started() as (_, clients):
        return Sample(clients.call("download") / 1e6)


def _memory() -> Sample:
    with _place(LARGE).started() as (listening, clients):
        before = most = listening.call("memory")
        clients.call("begin", count=PLAYERS)
        end = time.monotonic() + WATCHED
        while time.monotonic() < end:
            most = max(most, listening.call("memory"))
            time.sleep(0.05)
        came = clients.call("leave")
    return Sample((most - before) / PLAYERS, {"MB that came to all meanwhile": came / 1e6})


def _tokens(command: str) -> Sample:
    with load("benchmarks.loads.alloy_tokens:load") as child:
        return Sample(child.call(command))


BENCHMARKS = [
    Benchmark(
        name="alloy-assets",
        claim="an asset is downloaded, verified and stored at least 1.2 times as fast as two bare aioquic connections "
        "in one process pass bytes on",
        unit="MB/s",
        subject=_download,
        baseline=lambda: Sample(bare(SIZE) / 1e6),
        baseline_name="two bare aioquic connections",
        least=1.2,
    ),
    Benchmark(
        name="alloy-assets-memory",
        claim=f"of an asset of 1 GiB, a server holds 2 parts at most for each of {PLAYERS} players that download it, "
        "their sessions included",
        unit="bytes",
        subject=_memory,
        baseline=lambda: Sample(2.0 * PART_SIZE),
        baseline_name="2 parts",
        most=1.0,
    ),
    Benchmark(
        name="alloy-token",
        claim="verifying a token takes 300 us of CPU at most",
        unit="us CPU",
        subject=lambda: _tokens("verify"),
        baseline=lambda: _tokens("signature"),
        baseline_name="its Ed25519 signature alone",
        most_value=300.0,
    ),
]
