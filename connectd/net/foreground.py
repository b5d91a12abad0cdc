"""Run one coroutine on the reactor for a command in the foreground."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


def run(main: Callable[[Any], Coroutine[Any, Any, None]]) -> bool:
    """Start the reactor, await ``main(reactor)``, stop the reactor.

    An interrupt (Ctrl-C) or SIGTERM cancels the coroutine and waits for what it does in its ``finally``.

    :return: False where it was interrupted.
    :raises Exception: what ``main`` raised.
    """
    from twisted.internet import reactor as the_reactor

    reactor: Any = the_reactor
    failures: list[Failure] = []
    interrupted: list[bool] = []
    finished: Deferred[None] = Deferred()
    running: list[Deferred[None]] = []

    def start() -> None:
        work = Deferred.fromCoroutine(main(reactor))
        running.append(work)
        work.addErrback(fail).addBoth(end)

    def fail(failure: Failure) -> None:
        if not interrupted:
            failures.append(failure)

    def end(result: Any) -> None:
        finished.callback(None)
        if not interrupted:
            reactor.stop()

    def interrupt() -> Deferred[None] | None:
        if finished.called or not running:
            return None
        interrupted.append(True)
        running[0].cancel()
        return finished

    reactor.addSystemEventTrigger("before", "shutdown", interrupt)
    reactor.callWhenRunning(start)
    reactor.run()
    if failures:
        failures[0].raiseException()
    return not interrupted
