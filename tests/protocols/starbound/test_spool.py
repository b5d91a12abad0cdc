"""Ships that a handler wants: in memory, or in a file (SB-8)."""

from __future__ import annotations

import errno
import gc
import os
import tempfile
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from connectd.protocols.starbound.spool import LIMIT, Spool
from tests.ops.recording import record_log


class Disk:
    """Runs what waits for the disk when a test lets it."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Deferred[None], str]] = []

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        turn: Deferred[Any] = Deferred()
        self.jobs.append((turn, function.__name__))
        return turn.addCallback(lambda result: function(*arguments))

    def turn(self) -> str:
        job, name = self.jobs.pop(0)
        job.callback(None)
        return name


class SpoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.disk = Disk()
        self.folder = self.mktemp()
        os.mkdir(self.folder)
        self.spool = Spool(self.folder, self.disk)
        self.addCleanup(self.spool.close)

    def read(self, offset: int, count: int) -> bytes:
        reading = self.spool.read(offset, count)
        while not reading.called:
            self.disk.turn()
        return self.successResultOf(reading)

    def test_small(self) -> None:
        """SB-8: up to 256 KiB a ship stays in memory, and the disk is not asked."""
        self.assertIsNone(self.spool.write(b"SBBF01"))
        self.assertIsNone(self.spool.write(bytes(LIMIT - 6)))
        self.assertEqual(
            (self.spool.size, len(self.spool), self.spool.held, self.spool.in_file), (*3 * (LIMIT,), False)
        )
        self.assertEqual(self.read(0, 8), b"SBBF01\0\0")
        self.assertEqual(self.read(LIMIT - 2, 10), b"\0\0")
        self.assertEqual(self.read(LIMIT, 10), b"")
        self.assertEqual(self.disk.jobs, [])

    def test_large(self) -> None:
        """SB-8: one byte more, and it goes to a file, which has no name; what comes meanwhile goes there next."""
        self.spool.write(b"SBBF01" + bytes(LIMIT - 6))
        written = self.spool.write(b"!")
        assert written is not None
        self.assertTrue(self.spool.in_file)
        meanwhile = self.spool.write(b"?")
        assert meanwhile is not None
        self.assertNoResult(written)
        self.assertEqual(self.disk.turn(), "_append")
        self.assertEqual(self.disk.turn(), "_append")
        self.successResultOf(written)
        self.successResultOf(meanwhile)
        self.assertEqual((self.spool.held, self.spool.size), (0, LIMIT + 2))
        self.assertEqual(self.read(LIMIT - 2, 10), b"\0\0!?")
        self.assertEqual(self.read(0, 6), b"SBBF01")
        self.assertEqual(os.listdir(self.folder), [])
        last = self.spool.write(b".")
        assert last is not None
        self.disk.turn()
        self.assertEqual(self.read(LIMIT + 1, 10), b"?.")

    def test_read_while_it_is_written(self) -> None:
        self.spool.write(bytes(LIMIT) + b"end")
        self.assertEqual(self.read(LIMIT, 3), b"end")

    def test_closed(self) -> None:
        """The file is gone when it is closed, and a write that was under way is finished before."""
        descriptors = set(os.listdir("/proc/self/fd"))
        written = self.spool.write(bytes(LIMIT + 1))
        assert written is not None
        self.disk.turn()
        self.assertEqual(len(set(os.listdir("/proc/self/fd")) - descriptors), 1)
        self.spool.write(b"more")
        self.spool.close()
        self.assertEqual([self.disk.turn(), self.disk.turn()], ["_append", "close"])
        self.assertEqual(set(os.listdir("/proc/self/fd")) - descriptors, set())
        self.failureResultOf(self.spool.read(), ValueError)
        self.spool.close()
        self.assertEqual(self.disk.jobs, [])

    def test_cancelled(self) -> None:
        """Who no longer waits leaves the thread its file."""
        written = self.spool.write(bytes(LIMIT + 1))
        assert written is not None
        written.cancel()
        self.failureResultOf(written, CancelledError)
        self.spool.close()
        self.assertEqual([self.disk.turn(), self.disk.turn()], ["_append", "close"])

    def test_disk_is_full(self) -> None:
        """What the disk does not take fails, and leaves no file open."""

        def full(*arguments: Any, **options: Any) -> Any:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(tempfile, "TemporaryFile", full)
        written = self.spool.write(bytes(LIMIT + 1))
        assert written is not None
        self.disk.turn()
        self.assertEqual(self.failureResultOf(written, OSError).value.errno, errno.ENOSPC)
        self.assertFalse(self.spool.in_file)
        self.spool.close()
        self.assertEqual(self.disk.jobs, [])

    def test_cannot_be_closed(self) -> None:
        logged = record_log(self)
        self.spool.write(bytes(LIMIT + 1))
        self.disk.turn()
        self.spool.close()
        os.close(self.spool._file.fileno() if self.spool._file else self.closing_descriptor())
        self.disk.turn()
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertIn("could not be closed", str(logged))

    def closing_descriptor(self) -> int:
        """The descriptor of the only temporary file that is open."""
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.path.realpath(self.folder) in os.readlink(f"/proc/self/fd/{name}"):
                    return int(name)
            except OSError:
                continue
        raise AssertionError("there is no temporary file")


class ThreadTests(TestCase):
    """With a real disk and real threads."""

    async def test_ship(self) -> None:
        """SB-8: the disk is written in a thread, whole and in order."""
        spool = Spool(run=deferToThread)
        ship = os.urandom(3 * LIMIT)
        waiting = [spool.write(ship[start : start + 50_000]) for start in range(0, len(ship), 50_000)]
        for written in waiting:
            if written is not None:
                await written
        found = b""
        while piece := await spool.read(len(found)):
            found += piece
        self.assertEqual(found, ship)
        spool.close()
        await deferToThread(lambda: None)
