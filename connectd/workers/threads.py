"""Work for threads: what waits for the disk, or releases the interpreter lock while it computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

T = TypeVar("T")

Job = tuple[Callable[..., Any], tuple[Any, ...]]

BATCH = 16
"""Jobs that a thread does before it hands their results over."""


def run_in_thread(reactor: Any, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
    """Call a function in one of the reactor's threads.

    What holds the interpreter lock while it computes does not belong here: it would keep the reactor waiting all the
    same.

    :param reactor: the reactor. One without threads, such as a test's clock, calls the function at once.
    :return: fires with the function's result. A function that has begun is not stopped by a cancellation.
    """
    if not IReactorThreads.providedBy(reactor):
        return execute(function, *arguments)
    work: Deferred[T] = deferToThreadPool(reactor, reactor.getThreadPool(), function, *arguments)
    answer: Deferred[T] = Deferred()

    def settle(result: Any) -> None:
        if not answer.called:
            answer.callback(result)

    work.addBoth(settle)
    return answer


class BatchedThread:
    """Short jobs for a thread, one batch after the other.

    To wake a thread and to be woken by it costs more than such a job itself takes, about 60 µs. Alone, a job is on its
    way at once; jobs that come while a batch is under way go together in the next one.

    :param reactor: the reactor. One without threads, such as a test's clock, does each job at once.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: deque[tuple[Job, Deferred[Any]]] = deque()
        self._working = False

    def run(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Call a function in the thread, after what was asked for before.

        :return: fires with its result. Cancelling it takes it out of the queue; once it has begun, it is finished.
        """
        if not IReactorThreads.providedBy(self._reactor):
            return execute(function, *arguments)
        answer: Deferred[T] = Deferred()
        self._waiting.append(((function, arguments), answer))
        if not self._working:
            self._begin()
        return answer

    def _begin(self) -> None:
        jobs: list[Job] = []
        answers: list[Deferred[Any]] = []
        while self._waiting and len(jobs) < BATCH:
            job, answer = self._waiting.popleft()
            if not answer.called:
                jobs.append(job)
                answers.append(answer)
        self._working = bool(jobs)
        if jobs:
            work = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), _do, jobs)
            work.addBoth(self._done, answers)

    def _done(self, results: Any, answers: list[Deferred[Any]]) -> None:
        self._begin()
        if isinstance(results, Failure):
            results = [results] * len(answers)
        for answer, result in zip(answers, results, strict=True):
            if not answer.called:
                answer.callback(result)


def _do(jobs: list[Job]) -> list[Any]:
    """Runs in the thread."""
    results: list[Any] = []
    for function, arguments in jobs:
        try:
            results.append(function(*arguments))
        except BaseException:
            results.append(Failure())
    return results
