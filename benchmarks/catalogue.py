"""All benchmarks and reports. A wing's are found by listing its modules here."""

from __future__ import annotations

from benchmarks import directory_claims
from benchmarks.claims import (
    alloy,
    alloy_assets,
    chatr,
    fmltp,
    lekt_encoding,
    lekt_heartbeat,
    lekt_idle,
    lekt_join,
    proofs,
    quic,
    starbound,
)
from benchmarks.harness.benchmark import Benchmark, Report
from benchmarks.reports import lekt_events, lekt_memory, rooms, starbound_rush

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for module in (
        alloy,
        alloy_assets,
        lekt_join,
        lekt_idle,
        lekt_heartbeat,
        lekt_encoding,
        proofs,
        quic,
        directory_claims,
        starbound,
        fmltp,
        chatr,
    )
    for benchmark in module.BENCHMARKS
}
REPORTS: dict[str, Report] = {
    report.name: report
    for module in (alloy, lekt_events, rooms, lekt_memory, starbound_rush, directory_claims)
    for report in module.REPORTS
}
