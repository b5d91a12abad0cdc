"""What was logged during a test."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase


def record_log(test: SynchronousTestCase) -> list[LogEvent]:
    """A list that every log event is added to until the end of the test."""
    seen: list[LogEvent] = []
    observer: Any = seen.append
    globalLogPublisher.addObserver(observer)
    test.addCleanup(globalLogPublisher.removeObserver, observer)
    return seen
