"""CPU work that holds the interpreter lock, on the reactor's own thread, cut into slices between which it goes on.

A thread would not help: while it holds the lock, the reactor waits for it. So the work is written as a generator that
yields every few microseconds, and is resumed for a slice of time in each turn of the reactor::

    def count_slowly(most):
        for number in range(most):
            if not number % 100:
                yield
        return most

    slices = Slices(reactor)
    slices.startService()
    assert await slices.run(count_slowly(1_000_000)) == 1_000_000
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, Generic, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")

SLICE: Final = 0.00025
"""Seconds that one turn of the reactor spends on work."""

Steps = Generator[None, None, T]
"""A piece of work: yields wherever it may be interrupted, which has to be much more often than once a slice, and
returns its result."""


class TooManyWaiting(Exception):
    """As many jobs wait as may; this one was not taken."""


class BudgetSpent(Exception):
    """A job has used more CPU time than it may, and was given up.

    :param budget: what it may use, seconds.
    """

    def __init__(self, budget: float) -> None:
        super().__init__(f"it took more than {budget:g} s of CPU time")
        self.budget = budget


class _Job(Generic[T]):
    """One piece of work.

    :param steps: the work.
    :param answer: fires with its result.
    """

    __slots__ = ("answer", "steps", "used")

    def __init__(self, steps: Steps[T], answer: Deferred[T]) -> None:
        self.steps = steps
        self.answer = answer
        self.used = 0.0


class Slices(Service):
    """Does pieces of work side by side. It belongs to whoever needs it, and stops with it.

    Of the jobs in work each gets a slice in its turn; the others wait in the order in which they came. With few in
    work the first are done sooner and nobody is done later. In each turn of the reactor one slice is spent, so that
    what else happens there is delayed by no more.

    :param clock: the reactor.
    :param in_work: how many jobs take turns, at least 1.
    :param waiting: how many more may wait for theirs.
    :param budget: seconds of CPU time that one job may use, or None. Time that it waits does not count.
    :param slice_length: seconds for each turn of the reactor.
    :param freed: called when a job is over, however it ended, just before its Deferred fires.
    :param clock_of_slices: tells seconds, to cut slices by. Reading it has to be quick, for it is read after each step.
    :param cpu: tells how much CPU time this thread has used, seconds, to keep budgets by.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        in_work: int = 4,
        waiting: int = 64,
        budget: float | None = None,
        slice_length: float = SLICE,
        freed: Callable[[], None] = lambda: None,
        clock_of_slices: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self.in_work = in_work
        self.most_waiting = waiting
        self.budget = budget
        self._slice_length = slice_length
        self._clock = clock
        self._freed = freed
        self._passed = clock_of_slices
        self._cpu = cpu
        self._working: deque[_Job[Any]] = deque()
        self._waiting: deque[_Job[Any]] = deque()
        self._turn: IDelayedCall | None = None

    @property
    def room(self) -> int:
        """How many more jobs would be taken now."""
        return max(0, self.in_work + self.most_waiting - len(self._working) - len(self._waiting))

    @property
    def working(self) -> int:
        """How many jobs are in work."""
        return len(self._working)

    @property
    def waiting(self) -> int:
        """How many jobs wait for their turn."""
        return len(self._waiting)

    def run(self, steps: Steps[T]) -> Deferred[T]:
        """Do a piece of work.

        :param steps: must yield much more often than once in ``slice_length``.
        :return: fires with what the generator returns, never at once; fails with what it raises,
            :class:`TooManyWaiting` or :class:`BudgetSpent`, and with ``CancelledError`` where this does not run.
            Cancelling it ends the work.
        """
        if not self.running:
            return _refuse(steps, CancelledError())
        if not self.room:
            return _refuse(steps, TooManyWaiting(f"{len(self._waiting)} others wait already"))

        def cancelled(answer: Deferred[T]) -> None:
            self._forget(job)
            steps.close()

        job: _Job[T] = _Job(steps, Deferred(cancelled))
        self._waiting.append(job)
        self._fill()
        return job.answer

    def stopService(self) -> None:
        """End all work; whoever waits for it gets a ``CancelledError``."""
        super().stopService()
        for job in [*self._working, *self._waiting]:
            job.answer.cancel()

    # Inside

    def _fill(self) -> None:
        """Put into work what can be, and see to it that there is a next turn exactly while there is work."""
        while self._waiting and len(self._working) < self.in_work:
            self._working.append(self._waiting.popleft())
        if self._working and self._turn is None:
            self._turn = self._clock.callLater(0, self._spend)
        elif not self._working and self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _forget(self, job: _Job[Any]) -> None:
        for jobs in (self._working, self._waiting):
            if job in jobs:
                jobs.remove(job)
        self._fill()
        self._freed()

    def _spend(self) -> None:
        """One turn: a slice for the job whose turn it is."""
        self._turn = None
        job = self._working[0]
        passed, steps = self._passed, job.steps
        used = self._cpu()
        before = now = passed()
        end = now + self._slice_length
        result: Any
        try:
            # Not one step too many: it is taken to last as long as the one before.
            while now + now - before <= end:
                next(steps)
                before, now = now, passed()
        except StopIteration as done:
            result = done.value
        except Exception:
            result = Failure()
        else:
            job.used += self._cpu() - used
            if self.budget is None or job.used <= self.budget:
                self._working.rotate(-1)
                self._turn = self._clock.callLater(0, self._spend)
                return
            steps.close()
            result = Failure(BudgetSpent(self.budget))
        self._forget(job)
        job.answer.callback(result)


def _refuse(steps: Steps[T], error: Exception) -> Deferred[T]:
    steps.close()
    return fail(error)
