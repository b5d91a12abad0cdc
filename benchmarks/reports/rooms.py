"""What the rooms on the way of a connection cost, each by itself."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from twisted.internet.task import Clock

from benchmarks.harness.benchmark import Number, Report
from benchmarks.harness.sources import source
from benchmarks.harness.timing import each
from connectd.admission import Admission, AdmissionLimits
from connectd.events import Events
from connectd.net.deadlines import Deadlines
from connectd.ops.event_log import EventFile, event_line
from connectd.sansio import Outcome

COUNT = 1000

STAMP = {"protocol": "lekt", "listener": "lekt on 127.0.0.1:7890", "connection": 4711, "peer": "127.1.2.3:40000"}


def _events() -> list[Number]:
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="connectd-benchmark-") as directory:
        file = EventFile(os.path.join(directory, "events.jsonl"), clock)
        events, silent = Events(clock.seconds, [file]), Events(clock.seconds)

        def emit(number: int) -> None:
            events.connection_ended("lekt", STAMP, Outcome.LEFT, "the peer closed the connection", None)
            if not number % 50:
                file.flush()

        def count_only(number: int) -> None:
            silent.connection_ended("lekt", STAMP, Outcome.LEFT, "the peer closed the connection", None)

        ended = {**STAMP, "outcome": "left", "reason": "the peer closed the connection", "duration": 0.01, "time": 1.5}
        numbers = [
            Number("an event, counted, without a sink", each(count_only, COUNT), "us CPU"),
            Number("an event, counted and in the file (50 in a turn)", each(emit, COUNT), "us CPU"),
            Number("of it: as a line of JSON", each(lambda number: event_line(ended), COUNT), "us CPU"),
        ]
        file.close()
    return numbers


def _admission() -> list[Number]:
    clock = Clock()
    admission = Admission(AdmissionLimits(), clock=clock)
    sources = [source(index) for index in range(COUNT)]

    def pair(host: str) -> None:
        clock.rightNow += 0.06
        if admission.admit(host, clock.rightNow) is not None:
            raise AssertionError(f"{host} was not admitted")
        admission.release(host)

    many, one = each(lambda number: pair(sources[number % COUNT]), COUNT), each(lambda number: pair(sources[0]), COUNT)
    return [
        Number("admission and release, another source each time", many, "us CPU"),
        Number("admission and release, one source", one, "us CPU"),
    ]


def _deadlines() -> list[Number]:
    clock = Clock()
    deadlines = Deadlines(clock)

    class Nobody:
        def deadline_passed(self, now: float) -> float | None:
            return None

    nobody: Any = Nobody()
    for index in range(8000):
        deadlines.schedule(nobody, 1e9 + index)
    return [
        Number(
            "a deadline set and cancelled, among 8,000",
            each(lambda number: deadlines.cancel(deadlines.schedule(nobody, 2e9 + number)), COUNT),
            "us CPU",
        )
    ]


REPORTS = [
    Report(
        name="rooms",
        title="what the rooms on the way of a connection cost, each by itself (the best of 15 rounds)",
        measure=lambda: _events() + _admission() + _deadlines(),
    )
]
