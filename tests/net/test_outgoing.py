"""Writing to a real TCP transport."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import ITransport
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.connection import Driver
from connectd.net.deadlines import Deadlines
from connectd.net.outgoing import HIGH_WATER, Outgoing


class Writer(Outgoing):
    """The writing half, and nothing else."""

    def _watch(self, when: float) -> None:
        pass


class PartialWriteTests(SynchronousTestCase):
    """COM-6: what a socket does not take at once waits in the transport."""

    def setUp(self) -> None:
        clock = Clock()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.peer = socket.create_connection(listening.getsockname())
            ours, address = listening.accept()
        self.addCleanup(self.peer.close)
        for end in (ours, self.peer):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        self.writer = Writer(Driver(clock, Deadlines(clock), 30.0))
        self.transport: Any = tcp.Server(ours, self.writer, address, None, 1, MemoryReactor())  # type: ignore[arg-type]
        self.addCleanup(ours.close)
        self.writer._attach(self.transport)
        self.received = 0

    def read(self) -> None:
        """The peer reads all there is."""
        while True:
            try:
                data = self.peer.recv(1 << 20)
            except BlockingIOError:
                return
            self.received += len(data)

    def test_transport(self) -> None:
        """It is one that is written to directly until its socket is full."""
        self.assertTrue(ITransport.providedBy(self.transport))
        self.writer._write(b"x")
        self.assertIsNone(self.transport.producer)

    def test_reads_stay_small(self) -> None:
        """After a partial write, the transport still reads 64 KiB at once: more costs ten times as much."""
        usual = tcp.Connection.bufferSize
        written = 0
        while self.transport.producer is None:
            self.writer._write(bytes(100_000))
            written += 100_000
        self.writer._write(bytes(1000))
        self.assertEqual(self.transport.bufferSize, usual)
        while self.received < written + 1000:
            self.transport.doWrite()
            self.read()
        self.writer._write(b"more")
        self.transport.doWrite()
        self.assertEqual(self.transport.bufferSize, usual)

    def test_mark(self) -> None:
        """COM-6: it is at 256 KiB, not at what is read at once, that the peer's input is paused."""
        while self.transport.producer is None:
            self.writer._write(bytes(10_000))
        self.assertEqual(self.writer._paused, 0)
        for _ in range(HIGH_WATER // 10_000 - 1):
            self.writer._write(bytes(10_000))
        self.assertEqual(self.writer._paused, 0)
        self.assertTrue(self.writer.drained().called)
        self.writer._write(bytes(20_000))
        self.assertNotEqual(self.writer._paused, 0)
        drained = self.writer.drained()
        self.assertNoResult(drained)
        while not drained.called:
            self.read()
            self.transport.doWrite()
        self.assertIsNone(self.successResultOf(drained))
        self.assertEqual(self.writer._paused, 0)
