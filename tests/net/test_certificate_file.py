"""A certificate file that is renewed while it serves."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.certificate_file import LOOK_INTERVAL, CertificateFile
from connectd.net.certificates import Certificate, CertificateError, make_certificate


class CertificateFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        folder = Path(self.mktemp())
        folder.mkdir()
        self.path = folder / "server.pem"
        self.write()

    def write(self, octets: bytes | None = None) -> None:
        """Another file in its place, as whoever renews a certificate should do it."""
        other = self.path.with_suffix(".new")
        other.write_bytes(make_certificate(["localhost"]) if octets is None else octets)
        other.rename(self.path)

    def file(self, **options: Any) -> CertificateFile[int]:
        file = CertificateFile("alloy", str(self.path), self.clock, lambda one: one.leaf.serial_number, **options)
        file.start()
        self.addCleanup(file.stop)
        return file

    def test_renewed(self) -> None:
        file = self.file()
        before = file.current
        self.clock.advance(LOOK_INTERVAL)
        self.assertEqual(file.current, before)
        self.write()
        with capturedLogs() as logged:
            self.clock.advance(LOOK_INTERVAL)
        self.assertNotEqual(file.current, before)
        self.assertEqual(file.certificate.leaf.serial_number, file.current)
        self.assertIn("serves from now on", formatEvent(logged[0]))

    def test_unfit(self) -> None:
        """A new file that cannot be used changes nothing, is told once, and the next good one is taken."""
        file = self.file()
        before = file.current
        self.write(b"half a certifi")
        with capturedLogs() as logged:
            self.clock.pump([LOOK_INTERVAL] * 3)
        self.assertEqual(file.current, before)
        [event] = logged
        self.assertEqual(event["log_level"], LogLevel.error)
        self.assertIn("the former goes on", formatEvent(event))
        self.path.unlink()
        self.clock.advance(LOOK_INTERVAL)
        self.assertEqual(file.current, before)
        self.write()
        self.clock.advance(LOOK_INTERVAL)
        self.assertNotEqual(file.current, before)

    def test_given_to_the_daemon(self) -> None:
        """A file that could not be read is read again once its owner or mode is another, though it is the same."""
        file = self.file()
        before, read = file.current, file._read

        def refuse(path: str) -> Certificate:
            raise CertificateError(f"{path}: this user may not read it")

        file._read = refuse
        self.write()
        self.clock.advance(LOOK_INTERVAL)
        file._read = read
        self.clock.advance(LOOK_INTERVAL)
        self.assertEqual(file.current, before)
        self.path.chmod(0o640)
        self.clock.advance(LOOK_INTERVAL)
        self.assertNotEqual(file.current, before)

    def test_own_reader(self) -> None:
        """What a protocol insists on besides counts for new files, too."""

        def read(path: str) -> Certificate:
            raise CertificateError(f"{path}: not to my liking")

        error = self.assertRaises(CertificateError, self.file, read=read)
        self.assertEqual(str(error), f"alloy: certificate: {self.path.absolute()}: not to my liking")

    def test_mistake(self) -> None:
        """What nobody has thought of does not end the looking."""
        file = self.file()

        def fail(certificate: Certificate) -> int:
            raise ZeroDivisionError

        before, file._make = file.current, fail
        self.write()
        self.clock.advance(LOOK_INTERVAL)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(file.current, before)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_stopped(self) -> None:
        file = self.file()
        file.start()
        file.stop()
        file.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped_while_it_reads(self) -> None:
        """What a thread still reads when nobody looks any more changes nothing, and is not told."""
        file = self.file()
        before = file.current
        self.write()
        with (
            mock.patch("connectd.net.certificate_file.run_in_thread", return_value=Deferred()),
            capturedLogs() as logged,
        ):
            self.clock.advance(LOOK_INTERVAL)
            self.assertIsNone(file.look())
            file.stop()
        self.assertEqual((file.current, logged), (before, []))

    def test_ends_soon(self) -> None:
        for days, words in ((-824, "ends on"), (-826, "ended on")):
            began = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
            self.write(make_certificate(["localhost"], now=began))
            with capturedLogs() as logged:
                self.file()
            self.assertIn(words, formatEvent(logged[0]))
