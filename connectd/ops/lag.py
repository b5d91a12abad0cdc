"""How late the reactor runs: the one number that says whether a Twisted process is in good health."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

log = Logger()

INTERVAL = 0.05
"""Seconds between two measurements."""


class LagProbe(Service):
    """Measures how much later than planned the reactor calls.

    :param clock: the reactor.
    :param observe: takes each lateness, in seconds.
    :param interval: seconds between measurements.
    """

    def __init__(self, clock: IReactorTime, observe: Callable[[float], None], interval: float = INTERVAL) -> None:
        self._clock = clock
        self._observe = observe
        self._interval = interval
        self._started = 0.0
        self._due = 0.0
        self._loop = LoopingCall(self._measure)
        self._loop.clock = clock

    def startService(self) -> None:
        super().startService()
        self._started = self._clock.seconds()
        self._due = self._interval
        measuring = self._loop.start(self._interval, now=False)
        measuring.addErrback(lambda failure: log.failure("the reactor's lateness is no longer measured", failure))

    def stopService(self) -> Any:
        if self._loop.running:
            self._loop.stop()
        return super().stopService()

    def _measure(self) -> None:
        # The loop keeps to its grid and leaves out calls that it missed, so the next one is due at the next line.
        elapsed = self._clock.seconds() - self._started
        late = elapsed - self._due
        self._due = (elapsed // self._interval + 1) * self._interval
        # A call can be early by a rounding error, or because somebody set the clock back.
        self._observe(max(0.0, late))
