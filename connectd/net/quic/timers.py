"""When each QUIC connection wants to be called: one heap and one reactor timer for all of a socket's."""

from __future__ import annotations

import heapq
from itertools import count
from math import inf
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

log = Logger()

DEAD: Final = 64
"""Forgotten places that may stay in the heap; more go once they are more than half of it."""

Place = list[Any]
"""A place in the heap: [time, serial number, who waits or None once forgotten]."""


class Timed(Protocol):
    """What can wait for its time.

    :ivar timer: its place in the heap, for :class:`Timers` alone.
    """

    timer: Place | None

    def timer_due(self, now: float) -> float | None:
        """Act if its time has come, and tell the next one. A time that moved away is found out here."""


class Timers:
    """Calls each at its time. Loss recovery counts in milliseconds, for which the sweep of
    :class:`~connectd.net.deadlines.Deadlines` would be too coarse.

    A time that moves away, as with every datagram that comes, costs nothing; one that comes nearer costs a place in
    the heap.

    :param clock: the reactor.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._heap: list[Place] = []
        self._dead = 0
        self._serial = count()
        self._call: IDelayedCall | None = None
        self._call_at = inf
        self._turning = False
        self._stopped = False

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def schedule(self, who: Timed, when: float | None) -> None:
        """Have ``who`` called at that time, or earlier; None: whenever it was to be called anyway."""
        if when is None or self._stopped:
            return
        place = who.timer
        if place is not None:
            if place[0] <= when:
                return
            self._bury(place)
        place = who.timer = [when, next(self._serial), who]
        heapq.heappush(self._heap, place)
        if not self._turning:
            self._arm()

    def forget(self, who: Timed) -> None:
        """Call ``who`` no more, and let go of it."""
        if who.timer is not None:
            self._bury(who.timer)
            who.timer = None

    def stop(self) -> None:
        """Call nobody any more."""
        self._stopped = True
        self._heap.clear()
        self._dead = 0
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _bury(self, place: Place) -> None:
        place[2] = None
        self._dead += 1
        if self._dead > DEAD and self._dead > len(self._heap) // 2:
            self._heap = [kept for kept in self._heap if kept[2] is not None]
            heapq.heapify(self._heap)
            self._dead = 0

    def _arm(self) -> None:
        when = self._heap[0][0] if self._heap else inf
        if when >= self._call_at:
            return
        if self._call is not None:
            self._call.cancel()
        self._call_at = when
        self._call = self._clock.callLater(max(0.0, when - self._clock.seconds()), self._turn)

    def _turn(self) -> None:
        self._call, self._call_at = None, inf
        now = self._clock.seconds()
        self._turning = True
        again: list[tuple[Timed, float]] = []
        try:
            while self._heap and self._heap[0][0] <= now:
                who = heapq.heappop(self._heap)[2]
                if who is None:
                    self._dead -= 1
                    continue
                who.timer = None
                try:
                    following = who.timer_due(now)
                except Exception:
                    log.failure("a QUIC timer could not be handled")
                else:
                    if following is not None:
                        again.append((who, following))
        finally:
            self._turning = False
        # One that is due again at once waits for the next turn, so that nobody can keep the reactor here.
        for who, following in again:
            self.schedule(who, following)
        self._arm()
