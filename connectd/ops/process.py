"""What the daemon asks of its process: file descriptors for its connections, and what signals mean to it."""

from __future__ import annotations

import ctypes
import resource
import signal
from collections.abc import Callable
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from connectd.config import Configuration
from connectd.interfaces import IListenerService

log = Logger()

LARGE_BLOCK = 256 * 1024
"""Bytes from which on a block of memory goes back to the system when it is freed."""

_M_MMAP_THRESHOLD = -3
"""As glibc's malloc.h has it."""

RESERVED = 384
"""Descriptors for what is no admitted connection: sites, listening sockets, logs, the database."""


def fit_to_descriptors(configuration: Configuration) -> Configuration:
    """Raise the soft limit on file descriptors as far as the configuration needs and the hard limit allows.

    Where that is not enough, ``max_connections`` becomes what fits, with a warning: so the surplus is refused with an
    outcome (COM-4, COM-7), instead of by the system with none, and the status page and connectctl go on answering.
    """
    admission = configuration.admission
    each = 2 if any(listener.settings.handler.startswith("forward:") for listener in configuration.listeners) else 1
    limit = raise_limit(each * admission.max_connections + RESERVED if admission.max_connections else None)
    if limit is None:
        return configuration
    fitting = max(1, (limit - min(RESERVED, limit // 2)) // each)
    if 0 < admission.max_connections <= fitting:
        return configuration
    if admission.max_connections:
        log.warn(
            "{limit} file descriptors are not enough for max_connections = {wanted}: it is {fitting} now "
            "(raise LimitNOFILE= or ulimit -n, or lower max_connections)",
            limit=limit,
            wanted=admission.max_connections,
            fitting=fitting,
        )
    return attrs.evolve(configuration, admission=attrs.evolve(admission, max_connections=fitting))


def return_large_blocks() -> bool:
    """Have the C library give blocks of memory back to the system that are as large as a transfer's buffers.

    glibc keeps such blocks in its heap once a few were freed, where what is allocated behind them holds them in place:
    fifty downloads then take half as much memory again as they use.

    :return: whether it is a C library that knows what is meant.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK))


def raise_limit(wanted: int | None) -> int | None:
    """Raise the soft limit on file descriptors to ``wanted``, or as far as it goes where that is None.

    :return: the limit now; None where there is none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    aim = hard if wanted is None or (hard != resource.RLIM_INFINITY and wanted > hard) else wanted
    if aim == resource.RLIM_INFINITY or aim > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (aim, hard))
        except (OSError, ValueError):
            return soft
        return None if aim == resource.RLIM_INFINITY else aim
    return soft


class Signals(Service):
    """SIGHUP stops the daemon as SIGTERM does, with a word for its peers; a second signal cuts off who is still there.

    A SIGHUP that was ignored when the process started (``nohup``) stays so.

    :param reactor: the reactor.
    :param listeners: gives those that are to be hurried.
    :param stopping: whether the daemon stops already.
    """

    def __init__(
        self, reactor: Any, listeners: Callable[[], list[IListenerService]], stopping: Callable[[], bool]
    ) -> None:
        self._reactor = reactor
        self._listeners = listeners
        self._stopping = stopping

    def startService(self) -> None:
        super().startService()
        # The reactor sets its own handlers when it begins to run.
        self._reactor.callWhenRunning(self._install)

    def _install(self) -> None:
        hangup = signal.getsignal(signal.SIGHUP)
        if hangup == signal.SIG_DFL:
            signal.signal(signal.SIGHUP, self._wrapped(lambda number, frame: self._reactor.callFromThread(self._stop)))
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before):
                signal.signal(number, self._wrapped(before))

    def _wrapped(self, first: Callable[[int, Any], object]) -> Callable[[int, Any], None]:
        def handle(number: int, frame: Any) -> None:
            if self._stopping():
                self._reactor.callFromThread(self._hurry)
            else:
                first(number, frame)

        return handle

    def _stop(self) -> None:
        log.info("Received SIGHUP, shutting down.")
        self._reactor.stop()

    def _hurry(self) -> None:
        log.info("told twice to stop: those who are still there are cut off")
        for listener in self._listeners():
            drained: Deferred[None] = listener.drain(0)
            drained.addErrback(lambda failure: log.failure("a listener could not be hurried", failure))
