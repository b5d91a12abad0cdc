"""Pairs of measurements, one after the other, and what follows from them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import attrs

from benchmarks.harness.benchmark import PAIRS, Benchmark, Sample


@attrs.frozen
class Spread:
    """Median, smallest and largest of a row of numbers."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """That of a row with at least one number."""
        return cls(statistics.median(values), min(values), max(values))


@attrs.frozen
class Result:
    """What the pairs of a benchmark came to.

    :param subject: its samples, in order.
    :param baseline: those of the baseline.
    """

    benchmark: Benchmark
    subject: list[Sample]
    baseline: list[Sample]

    @property
    def ratios(self) -> list[float]:
        """Subject by baseline, pair by pair."""
        return [one.value / other.value for one, other in zip(self.subject, self.baseline, strict=True)]

    @property
    def passed(self) -> bool:
        """Whether the medians keep the claim."""
        claimed, ratio = self.benchmark, statistics.median(self.ratios)
        value = statistics.median([sample.value for sample in self.subject])
        return not (
            (claimed.most is not None and ratio > claimed.most)
            or (claimed.least is not None and ratio < claimed.least)
            or (claimed.most_value is not None and value > claimed.most_value)
            or (claimed.least_value is not None and value < claimed.least_value)
        )

    def notes(self) -> dict[str, float]:
        """Medians of what else came to light."""
        notes = {}
        for row in (self.subject, self.baseline):
            for label in row[0].notes:
                notes[label] = statistics.median([sample.notes[label] for sample in row])
        return notes

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "name": self.benchmark.name,
            "claim": self.benchmark.claim,
            "limits": self.benchmark.limits,
            "unit": self.benchmark.unit,
            "subject": [sample.value for sample in self.subject],
            "baseline": [sample.value for sample in self.baseline],
            "ratio": attrs.asdict(Spread.of(self.ratios)),
            "notes": self.notes(),
            "passed": self.passed,
        }


def run(benchmark: Benchmark, pairs: int = PAIRS, progress: Callable[[str], None] = lambda text: None) -> Result:
    """Measure subject and baseline in turn, so that what disturbs the machine disturbs both."""
    subject: list[Sample] = []
    baseline: list[Sample] = []
    count = 1 if benchmark.exact else pairs
    for index in range(1, count + 1):
        progress(f"{benchmark.name}: pair {index} of {count}")
        subject.append(benchmark.subject())
        baseline.append(benchmark.baseline())
    return Result(benchmark, subject, baseline)
