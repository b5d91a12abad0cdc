"""The log as flat JSON lines."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, globalLogPublisher
from twisted.python import log as legacy_log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from connectd.ops.logs import LONGEST_FAILURE, LONGEST_FIELD, LONGEST_TEXT, MOST_FIELDS, JSONObserver, prepare_log
from tests.ops.recording import record_log

NESTED = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)


class Unformattable:
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class JSONObserverTests(SynchronousTestCase):
    """One flat object on one line, whatever is logged."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        self.observer = JSONObserver(self.lines.append)
        self.log = Logger("there", observer=self.observer)

    def only(self) -> dict[str, Any]:
        """The one line that was written."""
        [line] = self.lines
        self.lines.clear()
        self.assertTrue(line.endswith("\n") and line[:-1].isprintable() and line.isascii(), line)
        value: dict[str, Any] = json.loads(line)
        return value

    def test_line(self) -> None:
        self.log.warn("{count} left", count=3, late=0.5, quiet=True, nothing=None, name="x", table={}, items=[1])
        line = self.only()
        self.assertRegex(line.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(
            line,
            {
                "level": "warn",
                "namespace": "there",
                "text": "3 left",
                "count": 3,
                "late": 0.5,
                "quiet": True,
                "nothing": None,
                "name": "x",
            },
        )

    def test_time_is_utc(self) -> None:
        self.observer({"log_time": 0.5, "log_format": "x"})
        self.assertEqual(self.only()["time"], "1970-01-01T00:00:00.500000Z")

    def test_time_that_is_none(self) -> None:
        for time in (None, "soon", 1e300, float("nan")):
            self.observer({"log_time": time, "log_format": "x"})
            self.assertRegex(self.only()["time"], r"^20\d\d-")

    def test_own_fields_are_not_replaced(self) -> None:
        """What is logged about a peer never stands in for what the log says itself."""
        fakes = dict.fromkeys(("text", "level", "namespace", "time", "failure"), "fake")
        self.observer({**fakes, "log_format": "real", "log_level": LogLevel.info, "log_namespace": "there"})
        line = self.only()
        self.assertEqual((line["text"], line["level"], line["namespace"]), ("real", "info", "there"))
        self.assertNotEqual(line["time"], "fake")
        self.assertNotIn("failure", line)

    def test_failure(self) -> None:
        """A traceback is one text in one field."""
        self.log.failure("it broke", Failure(ValueError("two\nlines")))
        line = self.only()
        self.assertEqual((line["level"], line["text"]), ("critical", "it broke"))
        self.assertIn("ValueError: two\nlines", line["failure"])

    def test_failure_is_bounded_and_keeps_its_end(self) -> None:
        self.log.failure("it broke", Failure(ValueError("x" * 2 * LONGEST_FAILURE + "the end")))
        text = self.only()["failure"]
        self.assertLess(len(text), LONGEST_FAILURE + 2)
        self.assertIn("the end", text[-100:])

    def test_failure_that_cannot_be_shown(self) -> None:
        self.observer({"log_failure": object(), "log_format": "x"})
        self.assertIn("cannot be shown", self.only()["failure"])

    def test_lengths(self) -> None:
        fields = {f"field{number}": "y" * 10_000 for number in range(2 * MOST_FIELDS)}
        self.log.info("x" * 100_000, **fields)
        line = self.only()
        self.assertEqual(len(line["text"]), LONGEST_TEXT + 1)
        self.assertEqual(len(line["field0"]), LONGEST_FIELD + 1)
        self.assertEqual(len(line), MOST_FIELDS)

    def test_large_number(self) -> None:
        """A number of more than 64 bits is text: few readers take it as a number."""
        self.log.info("x", big=2**64, fits=2**64 - 1, huge=1 << 100_000)
        line = self.only()
        self.assertEqual((line["big"], line["fits"]), ("0x10000000000000000", 2**64 - 1))
        self.assertEqual(len(line["huge"]), LONGEST_FIELD)

    def test_line_breaks_and_controls_stay_inside(self) -> None:
        self.log.info("{peer}", peer='x\n{"level":"info"}\r\x1b[2J\u2028')
        self.assertIn("\n", self.only()["text"])

    def test_format_that_fails(self) -> None:
        self.log.info("{a.b.c} {missing}", a=1)
        self.assertTrue(self.only()["text"])
        self.log.info("{it}", it=Unformattable())
        self.assertTrue(self.only()["text"])

    def test_legacy_message(self) -> None:
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        legacy_log.msg("old", "words")
        line = self.only()
        self.assertEqual(line["text"], "old words")
        self.assertEqual(set(line), {"time", "level", "namespace", "text"})

    def test_writing_fails(self) -> None:
        """There is nobody left to tell."""

        def fail(line: str) -> None:
            raise OSError

        JSONObserver(fail)({"log_format": "x"})

    @settings(deadline=None, max_examples=100)
    @given(st.dictionaries(st.text(), NESTED))
    def test_any_event(self, event: dict[str, Any]) -> None:
        """Nothing that is logged makes it raise, or write anything but one object on a line."""
        self.observer(event)
        for value in self.only().values():
            self.assertNotIsInstance(value, list | dict)


class Turns:
    """A reactor without delay."""

    def callFromThread(self, call: Callable[[], object]) -> None:
        call()


class PrepareLogTests(SynchronousTestCase):
    """The observer writes to where twistd was told to log."""

    def setUp(self) -> None:
        self.reactor = Turns()
        self.stdout = io.StringIO()
        self.patch(sys, "stdout", self.stdout)
        previous = signal.getsignal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        self.addCleanup(signal.signal, signal.SIGUSR1, previous)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def prepare(self, form: str = "json", **options: Any) -> JSONObserver | None:
        options = {"nodaemon": False, "debug": False, "logfile": None, "logger": None, "syslog": False, **options}
        return prepare_log(form, options, None, self.reactor)

    def logged(self, observer: JSONObserver | None) -> None:
        assert observer is not None
        observer({"log_format": "hello", "log_level": LogLevel.info})

    def test_standard_output(self) -> None:
        """In the foreground, without a file or with "-" for one."""
        for logfile in (None, "-"):
            self.logged(self.prepare(nodaemon=True, logfile=logfile))
            self.assertEqual(json.loads(self.stdout.getvalue())["text"], "hello")
            self.stdout.truncate(self.stdout.seek(0))

    def test_file(self) -> None:
        path = self.folder / "log"
        for nodaemon in (True, False):
            self.logged(self.prepare(nodaemon=nodaemon, logfile=str(path)))
        self.assertEqual([json.loads(line)["text"] for line in path.read_text().splitlines()], ["hello", "hello"])
        self.assertEqual(self.stdout.getvalue(), "")

    def test_default_file_of_a_daemon(self) -> None:
        previous = os.getcwd()
        os.chdir(self.folder)
        self.addCleanup(os.chdir, previous)
        observer = self.prepare()
        os.chdir("/")
        self.logged(observer)
        self.assertEqual(json.loads((self.folder / "twistd.log").read_text())["text"], "hello")

    def test_rotation_by_signal(self) -> None:
        """SIGUSR1 begins a new file, as with twistd's own log."""
        path = self.folder / "log"
        observer = self.prepare(logfile=str(path))
        self.logged(observer)
        os.kill(os.getpid(), signal.SIGUSR1)
        self.logged(observer)
        self.assertEqual(sorted(self.folder.iterdir()), [path, path.with_name("log.1")])

    def test_somebody_else_handles_the_signal(self) -> None:
        def handler(number: int, frame: object) -> None:
            pass

        signal.signal(signal.SIGUSR1, handler)
        self.prepare(logfile=str(self.folder / "log"))
        self.assertIs(signal.getsignal(signal.SIGUSR1), handler)

    def test_left_to_the_runner(self) -> None:
        """For text, and where twistd's own options say otherwise."""
        self.assertIsNone(self.prepare("text"))
        self.assertIsNone(self.prepare(syslog=True))
        self.assertIsNone(self.prepare(logger="somebody.else"))
        self.assertIsNone(self.prepare(logfile="-"), "twistd refuses this itself")
        self.assertIsNone(prepare_log("json", {}, None, self.reactor))

    def test_other_runner(self) -> None:
        """Under twist it says what to do instead."""
        seen = record_log(self)
        self.assertIsNone(prepare_log("json", {"logFile": None}, None, self.reactor))
        self.assertIn("--log-format=json", seen[0]["log_format"])
        self.assertIsNone(prepare_log("text", {"logFile": None}, None, self.reactor))
        self.assertEqual(len(seen), 1)

    def test_cannot_be_opened(self) -> None:
        with self.assertRaises(OSError):
            self.prepare(logfile=str(self.folder / "no" / "log"))
