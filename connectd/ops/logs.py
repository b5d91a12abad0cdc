"""The log as flat JSON lines, for log collectors: ``log = "json"``."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent
from twisted.python.logfile import LogFile
from zope.interface import implementer

from connectd.ops.ownership import Owner

log = Logger()

LONGEST_TEXT = 4096
"""Characters of a line's text that are kept."""

LONGEST_FIELD = 512
"""Characters of any other text that are kept."""

LONGEST_FAILURE = 16_384
"""Characters of a traceback that are kept: the last ones, which name the fault."""

MOST_FIELDS = 64
"""Fields of an event that are kept."""

_OWN = frozenset({"time", "level", "namespace", "text", "failure"})
_LEGACY = frozenset({"isError", "message", "system", "format", "why"})

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


@implementer(ILogObserver)
class JSONObserver:
    """Writes each log event as one flat JSON object on a line of its own.

    Its fields: ``time`` (ISO 8601, UTC), ``level``, ``namespace``, ``text``, ``failure`` (a traceback as one text), and
    whatever of the event's own fields is a text, a number, a truth value or null; those never stand in for the first
    five.

    :param write: takes one line, its end included.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, event: LogEvent) -> None:
        """Log; never raises, for there is nobody left to tell."""
        try:
            self._write(json_line(event) + "\n")
        except Exception:
            return


def json_line(event: LogEvent) -> str:
    """One log event as flat JSON, without the end of the line."""
    line: dict[str, Any] = {
        "time": _time(event.get("log_time")),
        "level": getattr(event.get("log_level"), "name", "info"),
        "namespace": _bounded(str(event.get("log_namespace", "-")), LONGEST_FIELD),
        "text": _bounded(formatEvent(event), LONGEST_TEXT),
    }
    failure = event.get("log_failure")
    if failure is not None:
        line["failure"] = _failure_text(failure)
    for name, value in event.items():
        if len(line) >= MOST_FIELDS:
            break
        if name.startswith("log_") or name in _OWN or name in _LEGACY:
            continue
        if value is None or isinstance(value, bool | float):
            line[name] = value
        elif isinstance(value, int):
            line[name] = value if value.bit_length() <= 64 else hex(value)[:LONGEST_FIELD]
        elif isinstance(value, str):
            line[name] = _bounded(value, LONGEST_FIELD)
    return _encode(line)


def _bounded(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "…"


def _time(seconds: Any) -> str:
    try:
        moment = datetime.fromtimestamp(float(seconds), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        moment = datetime.now(UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _failure_text(failure: Any) -> str:
    try:
        text = str(failure.getTraceback())
    except Exception as error:
        text = f"a failure that cannot be shown: {type(error).__name__}"
    return text if len(text) <= LONGEST_FAILURE else "…" + text[-LONGEST_FAILURE:]


def stream_observer(stream: TextIO) -> JSONObserver:
    """Writes to a stream, such as standard output, and flushes each line."""

    def write(line: str) -> None:
        stream.write(line)
        stream.flush()

    return JSONObserver(write)


def prepare_log(form: str, options: Mapping[str, Any], owner: Owner | None, reactor: Any) -> JSONObserver | None:
    """The observer for a form of the log, writing where ``twistd`` was told to: ``--logfile``, standard output, or
    ``twistd.log`` for a daemon. A file of either form will be the owner's.

    :param form: ``text`` or ``json``.
    :param options: the runner's own.
    :return: None where the runner's own observer is right: for text, where ``--logger`` or ``--syslog`` say otherwise,
        and under another runner than twistd.
    :raises OSError: where the file cannot be opened.
    """
    if "nodaemon" not in options:
        if form == "json" and options:
            log.warn('log = "json" means nothing to this runner; twist has --log-format=json for it')
        return None
    if options.get("logger") or options.get("syslog"):
        return None
    detached = not (options.get("nodaemon") or options.get("debug"))
    name = options.get("logfile") or ("twistd.log" if detached else "-")
    if name == "-":
        # A daemon without standard output is told so by twistd, in its own words.
        return None if detached or form == "text" else stream_observer(sys.stdout)
    path = os.path.abspath(name)
    if owner is not None or form == "json":
        file = LogFile(os.path.basename(path), os.path.dirname(path))
        if owner is not None:
            owner.give(path)
        if form == "json":
            return _file_observer(file, reactor)
        file.close()
    return None


def _file_observer(file: LogFile, reactor: Any) -> JSONObserver:
    # As twistd does for its own log: without a handler the signal would end the process.
    if signal.getsignal(signal.SIGUSR1) in (None, signal.SIG_DFL):
        signal.signal(signal.SIGUSR1, lambda number, frame: reactor.callFromThread(file.rotate))
    return JSONObserver(file.write)
