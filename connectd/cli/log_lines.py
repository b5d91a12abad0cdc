"""Twisted's log, where connectctl is concerned: warnings and worse, one line each, on standard error."""

from __future__ import annotations

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from connectd.cli.output import print_error


@implementer(ILogObserver)
class LinesOnStandardError:
    """Prints what is a warning or worse: of a failure what it is and where it was raised, not its traceback.

    What is logged several times in a row is printed once.
    """

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) < LogLevel.warn:
            return
        line = _line(event)
        if line != self._last:
            self._last = line
            print_error(line)


def _line(event: LogEvent) -> str:
    if (failure := event.get("log_failure")) is not None:
        return _with_failure(formatEvent(event), failure)
    if (failure := event.get("failure")) is not None:
        # As twisted.python.log.err() has it, whose text carries the traceback.
        return _with_failure(event.get("why") or "", failure)
    return formatEvent(event)


def _with_failure(text: str, failure: Failure) -> str:
    place = f" (at {failure.frames[-1][1]}:{failure.frames[-1][2]})" if failure.frames else ""
    return f"{text}{': ' if text else ''}{type(failure.value).__name__}: {failure.getErrorMessage()}{place}"


def log_to_standard_error() -> None:
    """Begin logging, once for the process."""
    globalLogBeginner.beginLoggingTo([LinesOnStandardError()], redirectStandardIO=False, discardBuffer=True)
