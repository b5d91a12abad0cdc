"""Where events go (COM-7): a file of JSON lines for machines and audits, and lines in the log for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.logfile import LogFile
from zope.interface import implementer

from connectd.interfaces import IEventSink

log = Logger()
event_lines = Logger(namespace="connectd.event")
"""What :class:`EventLines` writes to; its namespace tells events from diagnostics."""

ROTATE_AT = 10 * 1024 * 1024
"""Bytes at which the file is put aside and a new one begun."""

KEPT_FILES = 5
"""Files put aside that are kept: ``events.jsonl.1`` is the newest."""

MODE = 0o640
"""Permissions of a new file: it names addresses and accounts."""

LONGEST_LINE = 8192
"""Characters of one event; what makes it longer is cut."""

LONGEST_NAME = 64
"""Characters that are left of a field's name in an event that is too long."""

LONGEST_VALUE = 256
"""Characters that are left of a text in an event that is too long."""

MOST_PENDING = 2048
"""Lines gathered before they are written without waiting for the end of the reactor's turn."""


def _plain(value: Any) -> str:
    """What stands for a value that JSON does not have."""
    return value.hex() if isinstance(value, bytes | bytearray) else str(value)


_encode = json.JSONEncoder(separators=(",", ":"), default=_plain, check_circular=False).encode


def event_line(mapping: Mapping[str, Any]) -> str:
    """One event as a line of JSON without its end, in ASCII, not longer than :data:`LONGEST_LINE`."""
    line = _encode(mapping)
    if len(line) <= LONGEST_LINE:
        return line
    # What we know ourselves stands last (see Events.emit), so it is what stays.
    kept: list[tuple[str, Any]] = []
    room = LONGEST_LINE
    for name, value in reversed(list(mapping.items())):
        item = (name[:LONGEST_NAME], _cut(value))
        room -= len(_encode(dict([item])))
        if room < 0:
            break
        kept.append(item)
    return _encode(dict(reversed(kept)))


def _cut(value: Any) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    text = _plain(value)
    if len(text) <= LONGEST_VALUE:
        return value if isinstance(value, int) else text
    return text[:LONGEST_VALUE] + "…"


class CutShort(Exception):
    """A file took only the first of the lines that were written to it.

    :param cause: why.
    :param lines: how many it took.
    """

    def __init__(self, cause: OSError, lines: int) -> None:
        super().__init__(str(cause))
        self.lines = lines


class LineFile(LogFile):
    """A log file of whole lines: no event is ever glued to one that was cut short, by a full disk or by a crash."""

    def _openFile(self) -> None:
        super()._openFile()
        if self.size:
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")
                self.size += 1

    def write(self, data: bytes) -> None:
        """Write lines.

        :raises CutShort: where there is room for the first of them only; what there is of the next is taken back.
        """
        if self.shouldRotate():
            self.flush()
            self.rotate()
        done = 0
        try:
            # The file is unbuffered, and such a file may take less than it is given without complaining.
            while done < len(data):
                done += self._file.write(data[done:] if done else data)
        except OSError as error:
            whole = data.rfind(b"\n", 0, done) + 1
            self._file.truncate(self.size + whole)
            raise CutShort(error, data.count(b"\n", 0, whole)) from error
        self.size += done


@implementer(IEventSink)
class EventFile:
    """Writes each event as one line of JSON. Lines are gathered and written once in each turn of the reactor.

    A file that cannot be written is a line in the log, once until it can be written again; the events meanwhile are
    counted as lost.

    :param path: the file, whose directory exists.
    :param reactor: ends the turns.
    :param size: bytes at which the file is put aside and a new one begun; 0 for never.
    :param files: how many that were put aside are kept.
    :raises OSError: where the file cannot be opened.
    """

    def __init__(self, path: str, reactor: IReactorTime, *, size: int = ROTATE_AT, files: int = KEPT_FILES) -> None:
        self.path = os.path.abspath(path)
        self._size = size
        self._files = files
        self.lost = 0
        """Events that could not be written."""
        self._reactor = reactor
        self._pending: list[str] = []
        self._call: IDelayedCall | None = None
        self._failing = False
        self._closed = False
        self._file: LineFile | None = self._open()

    def _open(self) -> LineFile:
        mode = None if os.path.exists(self.path) else MODE
        folder, name = os.path.split(self.path)
        return LineFile(name, folder, rotateLength=self._size or None, defaultMode=mode, maxRotatedFiles=self._files)

    def event(self, mapping: Mapping[str, Any]) -> None:
        """Take an event."""
        if self._closed:
            self.lost += 1
            return
        pending = self._pending
        pending.append(event_line(mapping))
        if self._call is None:
            self._call = self._reactor.callLater(0, self._turn_over)
        elif len(pending) >= MOST_PENDING:
            self.flush()

    def _turn_over(self) -> None:
        self._call = None
        self.flush()

    def flush(self) -> None:
        """Write what is gathered."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        pending.append("")
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write("\n".join(pending).encode("ascii"))
        except Exception as error:
            self.lost += len(pending) - 1 - (error.lines if isinstance(error, CutShort) else 0)
            self._give_up(error)
        else:
            if self._failing:
                self._failing = False
                log.info("events are written to {path} again; {lost} were lost", path=self.path, lost=self.lost)

    def _give_up(self, error: Exception) -> None:
        """The next turn tries with a file opened anew: a rotation that failed leaves a closed one."""
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except Exception:
            log.debug("the event file could not be closed")
        if not self._failing:
            self._failing = True
            log.error(
                "events cannot be written to {path}: {reason}; they are lost until they can",
                path=self.path,
                reason=str(error),
            )

    def close(self) -> None:
        """Write what is gathered and take no more."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None


_TEXTS = {
    "accepted": "{protocol} accepted {peer} as session {connection}",
    "ended": "{protocol} {outcome} {peer}: {reason}",
    "audit": "{who}: {action} {subject}",
    "request": "{protocol} answered {peer} with status {status}",
}
_RESERVED = frozenset({"self", "level", "format", "failure", "message", "isError", "system", "namespace", "text"})


@implementer(IEventSink)
class EventLines:
    """Logs each event: a text for people, the event's fields for observers that show them."""

    def event(self, mapping: Mapping[str, Any]) -> None:
        """Take an event."""
        name = mapping["event"]
        text = _TEXTS.get(name, "{event}")
        fields = {key: value for key, value in mapping.items() if key not in _RESERVED and not key.startswith("log_")}
        fields["event_time"] = fields.pop("time")
        event_lines.emit(LogLevel.info, text, **fields)
