"""Proofs: whether their time tells who has an account (COM-10), and what they do to everybody else."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.harness.benchmark import Benchmark, Sample
from benchmarks.harness.child import Child, load, server

ROUNDS, CHEAP_ROUNDS = 30, 800
"""Pairs of refusals in one measurement."""

SECONDS = 4.0
ECHO_RATE, LOGIN_RATE = 100.0, 50.0
"""How many echoes and logins are asked for in a second."""


@contextmanager
def _started(cheap: bool) -> Iterator[tuple[Child, Child]]:
    with (
        server("benchmarks.servers.proofs:serve", cheap=cheap) as listening,
        load("benchmarks.loads.proofs:load", port=listening.call("port")) as clients,
    ):
        yield listening, clients


class _Refusals:
    """Refusals of known and unknown accounts, by turns in one process: what disturbs one disturbs the other.

    The subject measures both, the baseline tells what it found.

    :param cheap: with hashes that take next to no time, so that they hide nothing.
    """

    def __init__(self, cheap: bool) -> None:
        self._cheap = cheap
        self._unknown = 0.0

    def known(self) -> Sample:
        with _started(self._cheap) as (_, clients):
            times = clients.call("refusals", rounds=CHEAP_ROUNDS if self._cheap else ROUNDS)
        self._unknown = _milliseconds(times["unknown"])
        return Sample(_milliseconds(times["known"]))

    def unknown(self) -> Sample:
        return Sample(self._unknown)


def _milliseconds(times: list[float]) -> float:
    return statistics.median(times) * 1e3


def _refusals(name: str, claim: str, cheap: bool) -> Benchmark:
    refusals = _Refusals(cheap)
    return Benchmark(
        name=name,
        claim=claim,
        unit="ms",
        subject=refusals.known,
        baseline=refusals.unknown,
        baseline_name="unknown account",
        most=1.03,
        least=0.97,
    )


def _echoes(login_rate: float) -> Sample:
    with _started(cheap=False) as (listening, clients):
        times: list[Any] = sorted(clients.call("echoes", seconds=SECONDS, echo_rate=ECHO_RATE, login_rate=login_rate))
        done = listening.call("accepted") - 1
    notes = {"logins done in a second": done / SECONDS} if login_rate else {}
    return Sample(times[int(len(times) * 0.99)] * 1e3, notes)


BENCHMARKS = [
    _refusals(
        "proof-time",
        "the time of a refusal does not tell whether there is such an account (COM-10)",
        cheap=False,
    ),
    _refusals(
        "proof-time-without-hash",
        "nor does it where the hash takes no time that could hide a difference (COM-10)",
        cheap=True,
    ),
    Benchmark(
        name="proof-echo",
        claim=f"with {LOGIN_RATE:g} argon2id logins asked for in a second, another session is answered in 15 ms (p99)",
        unit="ms (p99)",
        subject=lambda: _echoes(LOGIN_RATE),
        baseline=lambda: _echoes(0.0),
        baseline_name="without logins",
        most_value=15.0,
    ),
]
