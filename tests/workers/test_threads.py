"""Tests of :mod:`connectd.workers.threads`."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from connectd.workers.threads import BATCH, BatchedThread, run_in_thread

reactor: Any = installed_reactor


class ThreadTests(TestCase):
    async def test_result(self) -> None:
        """It runs elsewhere, and gives what it returns or raises."""
        self.assertNotEqual(await run_in_thread(reactor, threading.get_ident), threading.get_ident())
        await self.assertFailure(run_in_thread(reactor, divmod, 1, 0), ZeroDivisionError)

    async def test_cancelled(self) -> None:
        """A cancelled one is finished all the same, and nobody is told."""
        begun, may_end = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            may_end.wait(20)

        work = run_in_thread(reactor, wait)
        await run_in_thread(reactor, begun.wait, 20)
        work.cancel()
        may_end.set()
        await self.assertFailure(work, CancelledError)

    def test_without_threads(self) -> None:
        """A clock has no threads: at once, then."""
        self.assertEqual(self.successResultOf(run_in_thread(Clock(), abs, -1)), 1)
        self.assertEqual(self.successResultOf(BatchedThread(Clock()).run(abs, -1)), 1)
        self.failureResultOf(BatchedThread(Clock()).run(divmod, 1, 0), ZeroDivisionError)


class BatchTests(TestCase):
    def setUp(self) -> None:
        self.thread = BatchedThread(reactor)
        self.done: list[tuple[int, int]] = []

    def note(self, number: int) -> int:
        self.done.append((number, threading.get_ident()))
        if number == 7:
            raise ValueError(number)
        return number

    async def test_many(self) -> None:
        """Each has its own result, in order and elsewhere, whatever becomes of the others."""
        work = [self.thread.run(self.note, number) for number in range(3 * BATCH)]
        failed = self.assertFailure(work.pop(7), ValueError)
        self.assertEqual(await gatherResults(work), [number for number in range(3 * BATCH) if number != 7])
        await failed
        self.assertEqual([number for number, _ in self.done], list(range(3 * BATCH)))
        self.assertNotIn(threading.get_ident(), {where for _, where in self.done})

    async def test_cancelled(self) -> None:
        """What is cancelled while it waits is not done."""
        first = self.thread.run(self.note, 1)
        second, third = self.thread.run(self.note, 2), self.thread.run(self.note, 3)
        second.cancel()
        self.assertEqual(await gatherResults([first, third]), [1, 3])
        await self.assertFailure(second, CancelledError)
        self.assertEqual([number for number, _ in self.done], [1, 3])

    async def test_all_cancelled(self) -> None:
        """A queue of nothing but cancelled jobs ends the work; the next job begins it again."""
        first = self.thread.run(self.note, 1)
        for number in (2, 3):
            job = self.thread.run(self.note, number)
            job.cancel()
            await self.assertFailure(job, CancelledError)
        await first
        self.assertEqual(await self.thread.run(self.note, 4), 4)
