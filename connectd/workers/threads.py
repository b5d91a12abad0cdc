"""Work for threads: what waits for the disk, or releases the interpreter lock while it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

T = TypeVar("T")


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
