"""A LEKT client: joins a server, sends heartbeats, tells who comes and goes, and joins again when it is cut off.

In short::

    client = LektClient.from_url(reactor, "lekt://play.example:7890?port=9000")
    client.startService()
    await client.when_joined()
    async for change in client.changes():
        print("joined" if isinstance(change, Joined) else "left", change.client)
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
from twisted.application.internet import ClientService, backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from connectd.net.client import Dialogue, SessionEndpoint
from connectd.net.connection import Connection
from connectd.net.url import ServerURL, parse_url
from connectd.protocols.lekt.machine import Accepted, ClientMachine, Requested, Updated
from connectd.protocols.lekt.packets import Entry
from connectd.protocols.lekt.settings import LektClientSettings
from connectd.sansio import Ended, Established, Machine

log = Logger()

PORT = 7890


@attrs.frozen
class Joined:
    """A client is listed."""

    client: Entry


@attrs.frozen
class Left:
    """A client is no longer listed."""

    client: Entry


Change = Joined | Left


class LektDialogue(Dialogue):
    """One connection of a client; :class:`LektClient` is what keeps one.

    :param reactor: the reactor.
    :param settings: the client's.
    :param report: called with (step, detail) as the connection process goes.
    :param updated: called with each complete answer.
    :param joined: called once this client is listed.
    :param ended: called with how it ended.
    :param automatic: send heartbeats by ourselves.
    """

    def __init__(
        self,
        reactor: Any,
        settings: LektClientSettings,
        *,
        report: Callable[[str, str], None] = lambda step, detail: None,
        updated: Callable[[Updated], None] = lambda update: None,
        automatic: bool = True,
        joined: Callable[[], None] = lambda: None,
        ended: Callable[[Ended], None] = lambda event: None,
    ) -> None:
        super().__init__(reactor)
        self.settings = settings
        self.machine: ClientMachine | None = None
        self._report = report
        self._updated = updated
        self._joined = joined
        self._ended = ended
        self._automatic = automatic
        self._answers: deque[Deferred[Updated]] = deque()
        self._heartbeats = LoopingCall(self._heartbeat)
        self._heartbeats.clock = reactor

    def make_machine(self, now: float) -> Machine:
        self.machine = ClientMachine(self.settings, now=now)
        return self.machine

    def heartbeat(self, *, resync: bool = False) -> Deferred[Updated]:
        """Ask now what changed.

        :param resync: ask for the whole list again; a server grants that once a minute (LEKT-11).
        :return: fires with its answer.
        """
        if self.machine is None or self.connection is None or not self.machine.established or self.machine.ended:
            return fail(ConnectionError("not joined" if self.ended is None else self.ended.reason))
        answer: Deferred[Updated] = Deferred()
        self._answers.append(answer)
        machine = self.machine
        self.connection.call(lambda now: machine.heartbeat(now, resync=resync))
        return answer

    def _heartbeat(self) -> None:
        self.heartbeat().addErrback(lambda failure: failure.trap(ConnectionError))

    def on_Accepted(self, connection: Connection, event: Accepted) -> None:
        """The server took our hello."""
        self._report("ServerAccept", "the hello was accepted")

    def on_Requested(self, connection: Connection, event: Requested) -> None:
        """The server asked for a method, or ended setup."""
        if event.method:
            self._report("ServerRequest", f"method {event.method} was asked for and told: port {self.settings.port}")
        else:
            self._report("ServerRequest", "index 0: setup has ended")

    def on_Established(self, connection: Connection, event: Established) -> None:
        if self._automatic:
            running: Deferred[Any] = self._heartbeats.start(self.settings.heartbeat_period)
            running.addErrback(lambda failure: log.failure("heartbeats ended", failure))
        self._joined()
        super().on_Established(connection, event)

    def on_Updated(self, connection: Connection, event: Updated) -> None:
        """An answer is complete."""
        self._report("UpdateResponse", f"server time {event.time}, {len(event.joined)} joined, {len(event.left)} left")
        self._updated(event)
        if self._answers:
            self._answers.popleft().callback(event)

    def connection_ended(self, connection: Connection, event: Ended) -> None:
        if self._heartbeats.running:
            self._heartbeats.stop()
        super().connection_ended(connection, event)
        while self._answers:
            self._answers.popleft().errback(ConnectionError(event.reason))
        self._ended(event)


class LektClient(Service):
    """Stays joined to a server, and remembers who is listed there while it is cut off.

    :param reactor: the reactor.
    :param endpoint: where the server is.
    :param settings: the client's.
    :param retry_policy: gives the seconds to wait after so many failures in a row.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        settings: LektClientSettings | None = None,
        *,
        retry_policy: Callable[[int], float] | None = None,
    ) -> None:
        self.settings = LektClientSettings() if settings is None else settings
        self.last_end: Ended | None = None
        """How the last connection ended."""
        self.on_join: Callable[[], None] = lambda: None
        """Called each time that this client is listed."""
        self.on_end: Callable[[Ended], None] = lambda event: None
        """Called each time that a connection ends."""
        self._reactor = reactor
        self._dialogue: LektDialogue | None = None
        self._listed: Counter[Entry] = Counter()
        self._anew = True
        self._followers: list[_Follower] = []
        policy = retry_policy or backoffPolicy(1.0, 60.0, jitter=lambda: random.uniform(0, 1))  # noqa: S311 - a delay
        self._service = ClientService(
            SessionEndpoint(endpoint, self._begin), Factory.forProtocol(Protocol), retryPolicy=policy, clock=reactor
        )

    @classmethod
    def from_url(cls, reactor: Any, url: str) -> LektClient:
        """A client for ``lekt://HOST:PORT?port=…``.

        :raises connectd.net.url.URLError: with what is wrong with the URL.
        """
        server = parse_lekt_url(url)
        return cls(reactor, server.endpoint(reactor), server.settings)

    # The service

    def startService(self) -> None:
        """Join, and keep joining."""
        Service.startService(self)
        self._service.startService()

    def stopService(self) -> Deferred[None]:
        """Leave; fires once the connection is gone. Iterations over :meth:`changes` end."""
        Service.stopService(self)
        followers, self._followers = self._followers, []
        for follower in followers:
            follower.finish()
        # In a turn of its own: a ClientService cannot be stopped by whoever it is just telling of a failure.
        stopped: Deferred[Any] = deferLater(self._reactor, 0, self._service.stopService)
        return stopped.addCallback(lambda result: None)

    def when_joined(self, attempts: int | None = 1) -> Deferred[None]:
        """Fires once this client is listed.

        :param attempts: after so many failed ones in a row it fails; None goes on for ever.
        """
        joined: Deferred[Any] = self._service.whenConnected(failAfterFailures=attempts)
        return joined.addCallback(lambda connection: None)

    # Who is there

    @property
    def clients(self) -> list[Entry]:
        """Who is listed, as far as the server has told; this client's own session is not among them."""
        return list(self._listed.elements())

    def changes(self) -> AsyncIterator[Change]:
        """Iterate over who comes and goes, beginning with everybody who is listed now.

        It goes on over reconnects and ends when the service stops. A slow reader is told what is still true: who
        came and went in between is left out, so that no more waits than there are clients.
        """
        follower = _Follower(self._unfollow)
        if self.running:
            self._followers.append(follower)
        else:
            follower.finish()
        follower.changed(self._listed, Counter())
        return follower

    def _unfollow(self, follower: _Follower) -> None:
        if follower in self._followers:
            self._followers.remove(follower)

    def refresh(self, *, resync: bool = False) -> Deferred[Updated]:
        """Send a heartbeat now instead of waiting for the next; fires with its answer."""
        if self._dialogue is None:
            return fail(ConnectionError("not joined"))
        return self._dialogue.heartbeat(resync=resync)

    # Inside

    def _begin(self) -> LektDialogue:
        self._anew = True
        self._dialogue = LektDialogue(
            self._reactor,
            self.settings,
            updated=self._updated,
            joined=self._rejoined,
            ended=self._ended,
        )
        return self._dialogue

    def _updated(self, update: Updated) -> None:
        joined, left = Counter(update.joined), Counter(update.left)
        if self._anew:
            self._anew = False
            joined, left = joined - self._listed, self._listed - joined
        self._listed += joined
        self._listed -= left
        for follower in self._followers:
            follower.changed(joined, left)

    def _rejoined(self) -> None:
        self.on_join()

    def _ended(self, event: Ended) -> None:
        self.last_end = event
        self.on_end(event)


class _Follower:
    """One iteration over the changes: what its reader has not been told yet, netted."""

    def __init__(self, unfollow: Callable[[_Follower], None]) -> None:
        self._unfollow = unfollow
        self._pending: dict[Entry, int] = {}
        self._waiter: Deferred[None] | None = None
        self._finished = False

    def changed(self, joined: Counter[Entry], left: Counter[Entry]) -> None:
        """Note who came and went."""
        for sign, entries in ((-1, left), (1, joined)):
            for entry, count in entries.items():
                balance = self._pending.pop(entry, 0) + sign * count
                if balance:
                    self._pending[entry] = balance
        if self._pending:
            self._wake()

    def finish(self) -> None:
        """No more will come; what is pending is still told."""
        self._finished = True
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    def __aiter__(self) -> _Follower:
        return self

    async def __anext__(self) -> Change:
        while not self._pending:
            if self._finished:
                raise StopAsyncIteration
            self._waiter = Deferred()
            await self._waiter
        entry, balance = next(iter(self._pending.items()))
        step = 1 if balance > 0 else -1
        if balance == step:
            del self._pending[entry]
        else:
            self._pending[entry] = balance - step
        return Joined(entry) if step > 0 else Left(entry)

    async def aclose(self) -> None:
        """Stop following."""
        self._unfollow(self)
        self.finish()


def parse_lekt_url(url: str) -> ServerURL[LektClientSettings]:
    """Take a ``lekt://`` URL apart.

    :raises connectd.net.url.URLError: with what is wrong with it.
    """
    return parse_url(url, "lekt", PORT, LektClientSettings)
