"""The client side of one connection: dial, be accepted, know how it ended."""

from __future__ import annotations

import abc
from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from connectd.net.connection import Connection, Driver, Peer
from connectd.net.deadlines import Deadlines
from connectd.sansio import Ended, Established, Machine, Outcome

_identifiers = count(1)


class ConnectionEnded(Exception):
    """A connection is over, or never came to be accepted.

    :param outcome: how (COM-7), from the client's point of view.
    :param reason: why, in one line; what the server said is in it.
    """

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


class Dialogue(Driver, abc.ABC):
    """One connection to a server, from dialling to its end. A wing's ``client.py`` inherits from it.

    :param reactor: the reactor.
    :param stall_timeout: seconds after which a server that reads nothing is given up (COM-6).
    """

    def __init__(self, reactor: Any, stall_timeout: float = 30.0) -> None:
        super().__init__(reactor, Deadlines(reactor), stall_timeout)
        self.reactor = reactor
        self.connection: Connection | None = None
        self.ended: Ended | None = None
        self._waiting: list[Deferred[None]] = []
        self._closed: list[Deferred[None]] = []

    @abc.abstractmethod
    def make_machine(self, now: float) -> Machine:
        """The client machine for the connection."""

    def dial(self, endpoint: IStreamClientEndpoint) -> Deferred[None]:
        """Connect and go through the protocol until the session is accepted.

        :return: fires then. Fails with :class:`ConnectionEnded` where the server said no, or with what the
            endpoint says where there is no server. Cancelling it hangs up.
        """
        connecting: Deferred[Any] = endpoint.connect(DialogueFactory(self))
        return connecting.addCallback(lambda connection: self.when_established())

    def when_established(self) -> Deferred[None]:
        """Fires once the session is accepted; fails with :class:`ConnectionEnded` if it never will be."""
        if self.ended is not None:
            return fail(self.not_established(self.ended))
        if self.connection is not None and self.connection.machine.established:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._give_up)
        self._waiting.append(waiter)
        return waiter

    def when_closed(self) -> Deferred[None]:
        """Fires once the transport is gone."""
        if self.connection is None or self.connection.transport is None:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._closed.append(waiter)
        return waiter

    def not_established(self, event: Ended) -> ConnectionEnded:
        """What whoever waited for an accepted session is told; a wing may have more to say."""
        return ConnectionEnded(event.outcome, event.reason)

    def hang_up(self, reason: str = "this client left") -> Deferred[None]:
        """End the connection in good order; fires once the transport is gone."""
        if self.connection is not None:
            self.connection.close(Outcome.LEFT, reason)
        return self.when_closed()

    def _give_up(self, waiter: Deferred[None]) -> None:
        """Who waited for acceptance wants it no more."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        self.hang_up()

    def on_Established(self, connection: Connection, event: Established) -> None:
        """The session is accepted."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def connection_ended(self, connection: Connection, event: Ended) -> None:
        self.ended = event
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.errback(self.not_established(event))

    def connection_closed(self, connection: Connection) -> None:
        self.deadlines.stop()
        closed, self._closed = self._closed, []
        for waiter in closed:
            waiter.callback(None)


@implementer(IStreamClientEndpoint)
class SessionEndpoint:
    """An endpoint whose connection is an accepted session, for what keeps connections, such as Twisted's ClientService.

    :param endpoint: where the server is.
    :param begin: makes the dialogue for each attempt.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, begin: Callable[[], Dialogue]) -> None:
        self._endpoint = endpoint
        self._begin = begin

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Fires with a protocol that stands for the session: it is lost when the session's transport is gone."""
        dialogue = self._begin()
        dialled: Deferred[Any] = dialogue.dial(self._endpoint)
        return dialled.addCallback(self._stand, dialogue, protocolFactory)

    def _stand(self, result: None, dialogue: Dialogue, factory: IProtocolFactory) -> Any:
        assert dialogue.connection is not None
        protocol: Any = factory.buildProtocol(dialogue.connection.transport.getPeer())
        protocol.makeConnection(_SessionTransport(dialogue))
        dialogue.when_closed().addCallback(lambda result: protocol.connectionLost(Failure(ConnectionDone())))
        return protocol


class _SessionTransport:
    """What stands for a session needs of a transport: to be closed."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue

    def loseConnection(self) -> None:
        self._dialogue.hang_up()


class DialogueFactory(Factory):
    """Builds the one connection of a dialogue, for endpoints."""

    noisy = False

    def __init__(self, dialogue: Dialogue) -> None:
        self.dialogue = dialogue

    def buildProtocol(self, address: IAddress | None) -> Any:
        dialogue = self.dialogue
        now = dialogue.clock.seconds()
        machine = dialogue.make_machine(now)
        dialogue.connection = Connection(next(_identifiers), Peer.from_address(address), machine, dialogue, now)
        dialogue.deadlines.start()
        return dialogue.connection
