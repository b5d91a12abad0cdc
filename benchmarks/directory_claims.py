"""What accounts cost the reactor: the same, however many there are."""

from __future__ import annotations

from typing import Any

from benchmarks.directory_process import FEW, MANY, made
from benchmarks.harness.benchmark import Benchmark, Number, Report, Sample
from benchmarks.harness.child import load


def _asked(command: str, accounts: int) -> Any:
    """What a process of its own says."""
    arguments: dict[str, Any] = {"folder": made(accounts), "accounts": accounts}
    with load("benchmarks.directory_process:process", **arguments) as child:
        return child.call(command)


def _look_up(accounts: int) -> Sample:
    found = _asked("look_up", accounts)
    notes = {"unknown name, us CPU": found["unknown"], "ban of an address, us CPU": found["address"]}
    return Sample(found["known"], notes if accounts == MANY else {})


def _start(accounts: int) -> Sample:
    found = _asked("start", accounts)
    notes = {"until ready, s": found["seconds"], "the latest, ms": found["worst"] * 1e3}
    return Sample(found["p99"] * 1e3, notes if accounts == MANY else {})


def _writes() -> list[Number]:
    found = _asked("write", MANY)
    return [
        Number("of the reactor's thread", found["cpu"], "us CPU"),
        Number("until it is acknowledged", found["elapsed"], "us"),
    ]


BENCHMARKS = [
    Benchmark(
        name="directory-lookup",
        claim=f"finding an account among {MANY:,} and opening what is sealed takes the reactor 60 us at most",
        unit="us CPU",
        subject=lambda: _look_up(MANY),
        baseline=lambda: _look_up(FEW),
        baseline_name=f"among {FEW}",
        most=1.5,
        most_value=60.0,
    ),
    Benchmark(
        name="directory-collection",
        claim=f"{MANY:,} accounts do not make a full garbage collection longer",
        unit="ms",
        subject=lambda: Sample(_asked("collect", MANY) * 1e3),
        baseline=lambda: Sample(_asked("collect", FEW) * 1e3),
        baseline_name=f"with {FEW}",
        most=1.1,
    ),
    Benchmark(
        name="directory-start",
        claim=f"while {MANY:,} accounts are read, the reactor is on time",
        unit="ms late (p99)",
        subject=lambda: _start(MANY),
        baseline=lambda: _start(FEW),
        baseline_name=f"with {FEW}",
        most_value=10.0,
    ),
]

REPORTS = [
    Report(name="directory-write", title=f"an acknowledged change, among {MANY:,} accounts", measure=_writes),
]
