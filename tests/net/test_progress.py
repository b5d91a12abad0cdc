"""Tests of :mod:`connectd.net.progress` where the kernel does not tell; where it does, see test_sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.progress import reading_progress


class Transport(FileDescriptor):
    """A transport like that of a Unix socket, whose kernel has room for so many bytes."""

    connected = True
    room = 0

    def writeSomeData(self, data: Any) -> int:
        taken = min(self.room, len(data))
        self.room -= taken
        return taken

    def startWriting(self) -> None:
        pass


class ReadingTests(SynchronousTestCase):
    """COM-6: a peer that reads slowly but steadily is told from one that does not read."""

    def setUp(self) -> None:
        clock: Any = Clock()
        self.transport = Transport(clock)
        self.transport.write(bytes(1_000_000))
        self.transport.doWrite()

    def test_reads(self) -> None:
        for _ in range(3):
            before = reading_progress(self.transport)
            self.transport.room = 1000
            self.transport.doWrite()
            self.assertNotEqual(reading_progress(self.transport), before)

    def test_does_not_read(self) -> None:
        """More that is written is no progress."""
        before = reading_progress(self.transport)
        self.transport.write(b"more")
        self.transport.doWrite()
        self.assertEqual(reading_progress(self.transport), before)

    def test_cannot_tell(self) -> None:
        self.assertIsNone(reading_progress(object()))
