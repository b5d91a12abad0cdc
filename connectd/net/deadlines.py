"""One heap of deadlines per listener or client, swept by one LoopingCall."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

log = Logger()

LATE = 1.0
"""Seconds by which a sweep can be late before the reactor is given a turn to read what came in the meantime."""


class Waiting(Protocol):
    """Who can have a deadline."""

    def deadline_passed(self, now: float) -> float | None:
        """Act if it is really due, and tell the next one.

        A deadline that moved away costs nothing: this is called at the old time and answers with the new one.
        """


Entry = list[Any]
"""A place in the heap: [time, serial number (0 while out of the heap), who waits or None once cancelled]."""


class Deadlines:
    """Calls those whose time has come, at most ``interval`` seconds late.

    :param clock: the reactor.
    :param interval: seconds between sweeps.
    """

    def __init__(self, clock: IReactorTime, interval: float = 0.25) -> None:
        self._clock = clock
        self._heap: list[Entry] = []
        self._serial = count(1)
        self._cancelled = 0
        self._interval = interval
        self._due = 0.0
        self._late: IDelayedCall | None = None
        self._loop = LoopingCall(self._turn)
        self._loop.clock = clock

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def start(self) -> None:
        """Begin to sweep."""
        if not self._loop.running:
            self._due = self._clock.seconds() + self._interval
            running: Deferred[Any] = self._loop.start(self._interval, now=False)
            running.addErrback(lambda failure: log.failure("the deadline sweep ended", failure))

    def stop(self) -> None:
        """Sweep no more."""
        if self._loop.running:
            self._loop.stop()
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def schedule(self, who: Waiting, when: float) -> Entry:
        """Have ``who`` called once ``when`` has passed.

        :return: what :meth:`cancel` takes.
        """
        entry: Entry = [when, next(self._serial), who]
        heapq.heappush(self._heap, entry)
        return entry

    def cancel(self, entry: Entry) -> None:
        """Forget an entry; its owner is let go at once, its place in the heap when it pays."""
        if entry[2] is None:
            return
        entry[2] = None
        if not entry[1]:
            return
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled > len(self._heap) // 2:
            self._heap = [kept for kept in self._heap if kept[2] is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def _turn(self) -> None:
        """Sweep; but where the whole process stood still, first read what peers sent in time."""
        now = self._clock.seconds()
        late = now - self._due
        self._due = now + self._interval
        if late < LATE:
            self.sweep()
        elif self._late is None:
            self._late = self._clock.callLater(0, self._sweep_late)

    def _sweep_late(self) -> None:
        self._late = None
        self.sweep()

    def sweep(self) -> None:
        """Call everyone whose time has come."""
        now = self._clock.seconds()
        due: list[Entry] = []
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            entry[1] = 0
            if entry[2] is None:
                self._cancelled -= 1
            else:
                due.append(entry)
        for entry in due:
            who = entry[2]
            if who is None:
                continue
            try:
                following = who.deadline_passed(now)
            except Exception:
                log.failure("a deadline could not be handled")
                following = None
            if following is not None and entry[2] is not None:
                entry[0] = following
                entry[1] = next(self._serial)
                heapq.heappush(self._heap, entry)
