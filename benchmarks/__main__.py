"""``python -m benchmarks [NAME …]``: measure what connectd claims to cost; exit status 1 where a claim fails."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence

import attrs

from benchmarks.catalogue import BENCHMARKS, REPORTS
from benchmarks.harness.benchmark import PAIRS, Number
from benchmarks.harness.child import ChildError
from benchmarks.harness.pairs import Result, run
from benchmarks.harness.table import report_text, result_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; everything unless it names something.

    :return: 1 where a claim fails or cannot be measured, else 0.
    """
    options = _options(arguments)
    if options.list:
        for name in options.names:
            print(f"{name:<24}{BENCHMARKS[name].claim if name in BENCHMARKS else REPORTS[name].title}")
        return 0
    results: list[Result] = []
    reports: dict[str, list[Number]] = {}
    broken = 0
    for name in options.names:
        try:
            if name in BENCHMARKS:
                results.append(run(BENCHMARKS[name], options.pairs, _progress))
                text = result_text(results[-1])
            else:
                _progress(name)
                reports[name] = REPORTS[name].measure()
                text = report_text(REPORTS[name], reports[name])
        except ChildError as error:
            broken += 1
            text = f"{name}: cannot be measured: {error}"
        _progress("")
        print(text, end="\n\n", flush=True)
    if options.json:
        _write(options.json, results, reports)
    return 0 if not broken and all(result.passed for result in results) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    known = [*BENCHMARKS, *REPORTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what connectd claims to cost.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to run, all unless named: {', '.join(known)}")
    parser.add_argument("--pairs", type=int, default=PAIRS, metavar="N", help=f"how often to measure ({PAIRS})")
    parser.add_argument("--json", metavar="FILE", help="write all numbers to this file, too")
    parser.add_argument("--list", action="store_true", help="say what there is, and measure nothing")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in known:
            parser.error(f'there is no benchmark "{name}"; known: {", ".join(known)}')
    if options.pairs < 1:
        parser.error(f"--pairs {options.pairs} measures nothing: at least 1")
    options.names = options.names or known
    return options


def _progress(text: str) -> None:
    """On a terminal, what is going on, in one line that later ones replace."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _write(path: str, results: list[Result], reports: dict[str, list[Number]]) -> None:
    found = {
        "python": platform.python_version(),
        "benchmarks": [result.as_json() for result in results],
        "reports": {name: [attrs.asdict(number) for number in numbers] for name, numbers in reports.items()},
    }
    with open(path, "w") as file:
        json.dump(found, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    sys.exit(main())
