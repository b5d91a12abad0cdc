"""The event file and the event lines of the log (COM-7)."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from connectd.events import Events
from connectd.ops import event_log
from connectd.ops.event_log import LONGEST_LINE, MOST_PENDING, EventFile, EventLines, event_line
from connectd.sansio import Outcome
from tests.ops.recording import record_log

STAMP = {"protocol": "lekt", "listener": "lekt on 127.0.0.1:7890", "connection": 17, "peer": "127.0.0.1:5123"}

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.binary()
)


class EventLineTests(SynchronousTestCase):
    """One event, one line of bounded length."""

    @settings(deadline=None, max_examples=100)
    @given(st.dictionaries(st.text(), VALUES))
    def test_any_mapping(self, mapping: dict[str, Any]) -> None:
        """Whatever a peer put into it, it is one line of ASCII that reads back."""
        line = event_line(mapping)
        self.assertTrue(line.isascii() and line.isprintable(), line)
        for name, value in json.loads(line).items():
            self.assertEqual(value, mapping[name].hex() if isinstance(mapping[name], bytes) else mapping[name])

    @settings(deadline=None, max_examples=30)
    @given(
        st.integers(LONGEST_LINE, 100_000),
        st.sampled_from(["\N{GRINNING FACE}", "x", "\x00", 1, b"\xff"]),
        st.integers(1, 100),
    )
    def test_too_long(self, length: int, item: Any, fields: int) -> None:
        """COM-2: what a peer sent does not make a line of any length; the stamp is still there."""
        value: Any = 10**4000 if isinstance(item, int) else item * length
        details = {f"field{number}" * 20: value for number in range(2 + fields)}
        line = event_line({**details, **STAMP, "event": "accepted"})
        read = json.loads(line)
        self.assertLessEqual(len(line), LONGEST_LINE)
        self.assertEqual({name: read[name] for name in STAMP}, STAMP)
        self.assertEqual(read["event"], "accepted")
        self.assertGreater(len(read), len(STAMP) + 1)

    def test_values_of_a_long_line(self) -> None:
        """What is no text stays what it is."""
        values = {"none": None, "yes": True, "number": 5, "float": 0.5, "bytes": b"\xff", "list": [1]}
        read = json.loads(event_line({"long": "x" * LONGEST_LINE, **values}))
        self.assertEqual(read.pop("long"), "x" * 256 + "…")
        self.assertEqual(read, {**values, "bytes": "ff", "list": "[1]"})

    def test_short_line_is_left_alone(self) -> None:
        text = "x" * (LONGEST_LINE - 100)
        self.assertEqual(json.loads(event_line({"reason": text}))["reason"], text)


class FileCase(SynchronousTestCase):
    """With an event file on a fake clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = Path(self.mktemp())
        self.file = EventFile(str(self.path), self.clock)
        self.addCleanup(self.file.close)

    def read(self) -> list[dict[str, Any]]:
        """The events in the file."""
        return [json.loads(line) for line in self.path.read_text("ascii").splitlines()]


class EventFileTests(FileCase):
    """Events arrive in the file, in order."""

    def test_one_write_a_turn(self) -> None:
        """The lines of one turn of the reactor are written together at its end."""
        for number in range(3):
            self.file.event({"number": number})
        self.assertEqual(self.path.read_bytes(), b"")
        self.clock.advance(0)
        self.assertEqual(self.read(), [{"number": 0}, {"number": 1}, {"number": 2}])
        self.file.event({"number": 3})
        self.clock.advance(0)
        self.assertEqual(self.read()[-1], {"number": 3})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_long_turn(self) -> None:
        """COM-2: one turn does not gather without bound."""
        for number in range(MOST_PENDING):
            self.file.event({"number": number})
        self.assertEqual(len(self.read()), MOST_PENDING)

    def test_close(self) -> None:
        """Stopping writes what is gathered and leaves no timer; what comes later is counted."""
        self.file.event({"number": 1})
        self.file.close()
        self.assertEqual(self.read(), [{"number": 1}])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.file.event({"number": 2})
        self.assertEqual((self.file.lost, self.clock.getDelayedCalls()), (1, []))
        self.file.close()

    def test_existing_file_is_continued(self) -> None:
        self.file.event({"number": 1})
        self.file.close()
        again = EventFile(str(self.path), self.clock)
        again.event({"number": 2})
        again.close()
        self.assertEqual(self.read(), [{"number": 1}, {"number": 2}])

    def test_permissions(self) -> None:
        """Addresses and accounts are not for everybody; an operator's own choice stays."""
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o640)
        self.file.close()
        self.path.chmod(0o600)
        EventFile(str(self.path), self.clock).close()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_no_rotation(self) -> None:
        """Size 0 leaves it to others."""
        self.file.close()
        growing = EventFile(str(self.path), self.clock, size=0)
        for number in range(20):
            growing.event({"number": number})
            self.clock.advance(0)
        growing.close()
        self.assertEqual(len(self.read()), 20)

    def test_rotation(self) -> None:
        """A full file is put aside, and only so many are kept."""
        self.file.close()
        rotating = EventFile(str(self.path), self.clock, size=50, files=3)
        for number in range(20):
            rotating.event({"number": number, "padding": "x" * 50})
            self.clock.advance(0)
        rotating.close()
        names = sorted(path.name.removeprefix(self.path.name) for path in self.path.parent.glob(f"{self.path.name}*"))
        self.assertEqual(names, ["", ".1", ".2", ".3"])
        self.assertEqual([event["number"] for event in self.read()], [19])
        newest = json.loads(self.path.with_name(f"{self.path.name}.1").read_text())
        self.assertEqual(newest["number"], 18)

    def test_cannot_be_opened(self) -> None:
        with self.assertRaises(FileNotFoundError):
            EventFile(os.path.join(self.mktemp(), "no", "events"), self.clock)


class FullDisk:
    """Stands in for a log file on a disk without room."""

    closed = False

    def write(self, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        self.closed = True
        raise OSError(errno.EIO, "Input/output error")


class SmallDisk:
    """Stands in for an unbuffered file on a disk with room for so many bytes: it takes what fits, then fails."""

    def __init__(self, file: Any, room: int) -> None:
        self.file = file
        self.room = room

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken: int = self.file.write(data[: self.room])
        self.room -= taken
        return taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class FailingFileTests(FileCase):
    """A file that cannot be written is told once; the events are counted."""

    def setUp(self) -> None:
        super().setUp()
        self.seen = record_log(self)

    def texts(self) -> list[str]:
        return [formatEvent(event) for event in self.seen if event["log_namespace"] == event_log.__name__]

    def test_write_fails(self) -> None:
        working, self.file._file = self.file._file, None
        assert working is not None
        working.close()
        self.patch(self.file, "_open", FullDisk)
        for _ in range(3):
            self.file.event({})
            self.file.event({})
            self.clock.advance(0)
        self.assertEqual(self.file.lost, 6)
        [told] = [text for text in self.texts() if "cannot be written" in text]
        self.assertIn("No space left on device", told)
        self.assertIn(str(self.path), told)

        del self.file._open  # the disk has room again
        self.file.event({"number": 7})
        self.clock.advance(0)
        self.assertEqual(self.read(), [{"number": 7}])
        self.assertIn("6 were lost", self.texts()[-1])
        self.assertEqual(self.file.lost, 6)

    def test_cannot_be_opened_again(self) -> None:
        """It may come back any time; until then nothing is raised."""
        self.file.event({"number": 1})
        self.clock.advance(0)
        assert self.file._file is not None
        self.file._file.close()
        self.path.unlink()
        self.path.mkdir()
        for _ in range(2):
            self.file.event({"number": 2})
            self.clock.advance(0)
        self.assertEqual(self.file.lost, 2)
        self.path.rmdir()
        self.file.event({"number": 3})
        self.clock.advance(0)
        self.assertEqual(self.read(), [{"number": 3}])

    def test_room_for_a_part(self) -> None:
        """COM-7: what was cut short is taken back and counted; the next event has a line of its own."""
        length = len(event_log.event_line({"number": 0})) + 1
        assert self.file._file is not None
        self.file._file._file = cast(Any, SmallDisk(self.file._file._file, 3 * length + 5))
        for number in range(8):
            self.file.event({"number": number})
        self.clock.advance(0)
        self.assertEqual(self.file.lost, 5)
        self.assertIn("cannot be written", self.texts()[0])
        self.file.event({"number": 9})
        self.clock.advance(0)
        self.assertEqual([event["number"] for event in self.read()], [0, 1, 2, 9])
        self.assertEqual(self.file.lost, 5)

    def test_torn_by_a_crash(self) -> None:
        """A line that an earlier process left without its end is ended, not continued."""
        self.file.close()
        self.path.write_bytes(b'{"number":1}\n{"num')
        again = EventFile(str(self.path), self.clock)
        again.event({"number": 2})
        again.close()
        self.assertEqual(self.path.read_bytes().split(b"\n"), [b'{"number":1}', b'{"num', b'{"number":2}', b""])

    def test_lost_at_the_end(self) -> None:
        assert self.file._file is not None
        self.file._file.close()
        self.file.event({})
        self.file.close()
        self.assertEqual(self.file.lost, 1)


class EventLinesTests(SynchronousTestCase):
    """Events in the log have a text for people, and their fields for others."""

    def setUp(self) -> None:
        self.seen = record_log(self)
        self.events = Events(lambda: 1_790_000_000.0, [EventLines()])

    def test_accepted(self) -> None:
        self.events.session_accepted("lekt", STAMP, {"direct_tcp_port": 4000})
        [event] = self.seen
        self.assertEqual(formatEvent(event), "lekt accepted 127.0.0.1:5123 as session 17")
        self.assertEqual(event["log_level"].name, "info")
        self.assertEqual((event["connection"], event["direct_tcp_port"], event["event"]), (17, 4000, "accepted"))

    def test_ended(self) -> None:
        self.events.connection_ended("lekt", STAMP, Outcome.MALFORMED, "Expected a LEKT handshake", 3)
        [event] = self.seen
        self.assertEqual(formatEvent(event), "lekt malformed 127.0.0.1:5123: Expected a LEKT handshake")
        self.assertEqual(event["offset"], 3)

    def test_unknown_event(self) -> None:
        self.events.emit("reloaded", {"listeners": 2})
        self.assertEqual(formatEvent(self.seen[0]), "reloaded")

    def test_fields_cannot_steer_the_log(self) -> None:
        """Names that mean something to the logging system are not taken from events; braces in values are text."""
        details = {"log_level": "critical", "log_format": "x", "level": 1, "format": "x", "self": 1, "name": "{peer}"}
        self.events.session_accepted("lekt", {**STAMP, "peer": "{secret}"}, details)
        [event] = self.seen
        self.assertEqual(formatEvent(event), "lekt accepted {secret} as session 17")
        self.assertEqual(event["log_level"].name, "info")
        self.assertEqual(event["name"], "{peer}")
