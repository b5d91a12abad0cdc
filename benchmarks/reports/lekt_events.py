"""What it costs where the events of a session go (COM-7): a file of their own, or the log."""

from __future__ import annotations

import statistics

import attrs

from benchmarks.claims.lekt_join import connections
from benchmarks.claims.places import LEKT
from benchmarks.harness.benchmark import Number, Report

RUNS = 3


def _joins(events: str) -> float:
    place = attrs.evolve(LEKT, arguments={"events": events})
    return statistics.median(connections(place, events).value for _ in range(RUNS))


def _measure() -> list[Number]:
    return [
        Number("events in a file of JSON lines", _joins("file"), "us CPU"),
        Number("events in the log, a text file", _joins("log"), "us CPU"),
    ]


REPORTS = [Report(name="lekt-events", title="to join and leave, by where events go (median of 3)", measure=_measure)]
