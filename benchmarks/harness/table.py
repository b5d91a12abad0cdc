"""Results as text."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.harness.benchmark import Number, Report
from benchmarks.harness.pairs import Result, Spread


def _amount(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def _row(label: str, spread: Spread, unit: str = "") -> str:
    numbers = "".join(f"{_amount(value):>12}" for value in (spread.median, spread.least, spread.most))
    return f"  {label:<44}{numbers}  {unit}".rstrip()


def result_text(result: Result) -> str:
    """One benchmark: its claim, three rows, notes, the verdict."""
    benchmark = result.benchmark
    lines = [
        f"{benchmark.name}: {benchmark.claim}",
        f"  {'':<44}{'median':>12}{'min':>12}{'max':>12}",
        _row("measured", Spread.of([sample.value for sample in result.subject]), benchmark.unit),
        _row(benchmark.baseline_name, Spread.of([sample.value for sample in result.baseline]), benchmark.unit),
        _row("ratio", Spread.of(result.ratios)),
    ]
    lines += [f"  {label:<44}{_amount(value):>12}" for label, value in result.notes().items()]
    lines.append(f"  {'PASS' if result.passed else 'FAIL'} ({benchmark.limits}; {len(result.subject)} pairs)")
    return "\n".join(lines)


def report_text(report: Report, numbers: Iterable[Number]) -> str:
    """One report: a line for each number."""
    lines = [f"{report.name}: {report.title}"]
    lines += [f"  {number.label:<60}{_amount(number.value):>12}  {number.unit}" for number in numbers]
    return "\n".join(lines)
