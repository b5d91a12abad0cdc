"""How many logins are let to their challenge at once, so that a rush of them is served one after the other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

PATIENCE: Final = 0.5
"""Seconds for which a client that was challenged, and has not answered, counts as one that is about to."""


class Ticket:
    """What a client holds from its challenge until it answers; an unanswered one runs out."""

    __slots__ = ()


class Turnstile:
    """Lets as many clients to their challenge as can be hashed for when all of them answer (SB-5).

    A rush of players, after a restart say, would otherwise answer all at once, and most would hear that the server is
    full. Who does not answer for half a second gives way to others, but may still answer.

    Sources take turns, one client of each, so that one with many waiting delays only itself: a client comes in after at
    most one of each other source, besides those of its own that came before it.

    :param clock: the reactor.
    :param room: tells how many more answers could be taken now. Call :meth:`look` when that has grown.
    """

    def __init__(self, clock: IReactorTime, room: Callable[[], int]) -> None:
        self._clock = clock
        self._room = room
        # When each runs out, the oldest first.
        self._tickets: OrderedDict[Ticket, float] = OrderedDict()
        # By source, in the order of their turns; those of each in the order of coming. None is empty.
        self._waiting: OrderedDict[str, dict[Deferred[Ticket], None]] = OrderedDict()
        self._timer: IDelayedCall | None = None

    @property
    def waiting(self) -> int:
        """How many wait for their ticket."""
        return sum(map(len, self._waiting.values()))

    def enter(self, source: str) -> Deferred[Ticket]:
        """Wait for one's turn: of a source's in the order of coming.

        :param source: where the client comes from.
        :return: fires with a ticket, at once where there is room. Cancelling it gives the place up.
        """
        waiter: Deferred[Ticket] = Deferred(partial(self._leave, source))
        self._waiting.setdefault(source, {})[waiter] = None
        self.look()
        return waiter

    def give_back(self, ticket: Ticket) -> None:
        """The client has answered, and what that takes has begun; or it is gone. The ticket may have run out."""
        if self._tickets.pop(ticket, None) is not None:
            self.look()

    def look(self) -> None:
        """Let in who may come in now."""
        now = self._clock.seconds()
        while self._waiting and self._make_room(now):
            ticket = Ticket()
            self._tickets[ticket] = now + PATIENCE
            self._next().callback(ticket)
        self._stop_timer()
        if self._waiting and self._tickets:
            left = next(iter(self._tickets.values())) - now
            self._timer = self._clock.callLater(min(max(left, 0.0), PATIENCE), self._run_out)

    def close(self) -> None:
        """Nobody gets in any more; who waits gets a ``CancelledError``."""
        self._stop_timer()
        while self._waiting:
            self._next().errback(CancelledError())

    def _next(self) -> Deferred[Ticket]:
        """Whose turn it is; its source has the next one after all others."""
        source, waiters = next(iter(self._waiting.items()))
        self._waiting.move_to_end(source)
        waiter = next(iter(waiters))
        self._leave(source, waiter)
        return waiter

    def _leave(self, source: str, waiter: Deferred[Ticket]) -> None:
        waiters = self._waiting[source]
        del waiters[waiter]
        if not waiters:
            del self._waiting[source]

    def _make_room(self, now: float) -> bool:
        """Whether one more may come in, if need be in place of those that have not answered for too long."""
        room = self._room()
        while len(self._tickets) >= room:
            if not self._tickets or next(iter(self._tickets.values())) > now:
                return False
            self._tickets.popitem(last=False)
        return True

    def _run_out(self) -> None:
        self._timer = None
        self.look()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
