"""A listener: its sockets, the way in, and what its accepted sessions go through."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from connectd.admission import Admission, AdmissionLimits, ProofLedger
from connectd.credentials import Avatar, CredentialInterfaces
from connectd.events import Events
from connectd.interfaces import IHandler, IListenerService, IReceiver, Unavailable
from connectd.net.authentication import Authenticator, Objection, make_authenticator
from connectd.net.bound import BoundSocket
from connectd.net.connection import Connection, Driver, Peer
from connectd.net.deadlines import Deadlines
from connectd.net.endpoint import parse_endpoint
from connectd.net.outgoing import OPENING
from connectd.net.preface import ProxyPreface
from connectd.net.sockets import bind
from connectd.sansio import Ended, Established, Machine, Outcome, Random, Received
from connectd.sessions import HOLD, Opening, Session, SessionRegistry
from connectd.settings import ListenerSettings

if TYPE_CHECKING:
    from twisted.cred.checkers import ICredentialsChecker

    from connectd.directory.service import DirectoryService

log = Logger()

GOODBYE = "Server is shutting down"
"""What peers are told at a drain, where their protocol has words (COM-8)."""

MAX_ARRIVING = 4096
"""Connections that may wait for their PROXY header at once (COM-2)."""

CLOSINGS_PER_TURN = 32
"""Connections that a drain closes before it lets the reactor do something else."""


def bind_place(place: str, kind: Literal["stream", "datagram"]) -> BoundSocket:
    """Bind or inherit the socket that a setting such as ``listen`` names.

    :raises connectd.net.sockets.EndpointError: for a text that names no place.
    :raises connectd.net.sockets.BindError: where it cannot be had.
    """
    return bind(parse_endpoint(place), kind=kind)


@attrs.define(kw_only=True)
class Context:
    """What all listeners of a daemon share.

    :param reactor: the reactor, or in tests something that keeps its time.
    :param admission: who may come in (COM-4).
    :param events: where outcomes go (COM-7).
    :param sessions: who is in.
    :param find_handler: gives the handler for a ``handler = …`` setting.
    :param bind: binds or inherits a socket for a ``listen = …`` setting.
    :param random: random bytes for machines.
    :param drain_timeout: seconds that a stopping listener gives its peers (COM-8).
    :param identifiers: numbers for connections.
    :param handshakes: takes the time from accept to acceptance, by protocol.
    :param directory: who people are, and who is banned; None where there is none.
    :param checkers: check accounts instead of the directory, for listeners that name none themselves.
    :param ledger: the failed proofs of all listeners (COM-11).
    """

    reactor: Any
    admission: Admission
    events: Events
    sessions: SessionRegistry = attrs.field(factory=SessionRegistry)
    find_handler: Callable[[str], IHandler] = lambda name: HOLD
    bind: Callable[[str, Literal["stream", "datagram"]], BoundSocket] = bind_place
    random: Random = os.urandom
    drain_timeout: float = 10.0
    identifiers: Iterator[int] = attrs.field(factory=lambda: count(1))
    handshakes: Callable[[str, float], None] = lambda protocol, seconds: None
    directory: DirectoryService | None = None
    checkers: Sequence[ICredentialsChecker] = ()
    ledger: ProofLedger = attrs.field(
        default=attrs.Factory(lambda self: ProofLedger(self.admission.limits), takes_self=True)
    )

    def replace_limits(self, limits: AdmissionLimits) -> None:
        """Enforce other limits from now on, on connections (COM-4) and on proofs (COM-11)."""
        self.admission.replace_limits(limits)
        self.ledger.replace_limits(limits)


class Arriving(Protocol):
    """A peer that is no :class:`~connectd.net.connection.Connection` yet: one that waits for its PROXY header, say."""

    def close(self, outcome: Outcome, reason: str) -> None:
        """Turn it away."""


class _Accepting(Factory):
    """Hands new sockets to their listener."""

    noisy = False

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def buildProtocol(self, address: IAddress | None) -> Any:
        return self.listener.accept(Peer.from_address(address))


@implementer(IListenerService)
class Listener(Driver, Service, abc.ABC):
    """The server side of a protocol on one or several sockets. A wing's ``server.py`` inherits from it.

    :param settings: the wing's settings.
    :param context: the daemon's shared rooms.
    :raises connectd.net.sockets.BindError: where a socket cannot be had.
    :raises connectd.credentials.CredentialsError: where nobody can check its accounts.
    """

    protocol: ClassVar[str]
    credential_interfaces: ClassVar[CredentialInterfaces] = ()
    """The twisted.cred interfaces of the credentials that it gives to :meth:`login`; none: it has no accounts."""
    socket_kind: ClassVar[Literal["stream", "datagram"]] = "stream"
    """What ``listen`` names."""

    def __init__(self, settings: ListenerSettings, context: Context) -> None:
        super().__init__(context.reactor, Deadlines(context.reactor), settings.stall_timeout)
        self.settings = settings
        self.context = context
        self.authenticator = self._make_authenticator(settings)
        self.handler = context.find_handler(settings.handler)
        self.connections: set[Connection] = set()
        self.arriving: set[Arriving] = set()
        self.session_count = 0
        self.faces: list[BoundSocket] = [context.bind(settings.listen, self.socket_kind)] if settings.listen else []
        places = ", ".join(face.address for face in self.faces)
        self.title = f"{self.protocol} on {places or settings.listen or 'nothing'}"
        self._ports: list[IListeningPort] = []
        self._emptied: list[Deferred[None]] = []
        self._cooperator = Cooperator(scheduler=lambda turn: context.reactor.callLater(0, turn))

    @property
    def accepting(self) -> bool:
        """Whether new connections come in."""
        return bool(self._ports)

    # What a wing gives

    @abc.abstractmethod
    def make_machine(self, peer: Peer, now: float) -> Machine:
        """The server machine for a new connection."""

    def identity(self, connection: Connection) -> Mapping[str, Any]:
        """Who was accepted, in the protocol's words; flat, without secrets."""
        return {}

    def account(self, connection: Connection) -> str:
        """The account that was accepted, or nothing."""
        return ""

    # Accounts

    def _make_authenticator(self, settings: ListenerSettings) -> Authenticator | None:
        if not self.credential_interfaces:
            return None
        return make_authenticator(
            self.context, self.protocol, self.credential_interfaces, getattr(settings, "auth", ())
        )

    def login(self, connection: Connection, credentials: Any, account: str | bytes | None = None) -> Deferred[Avatar]:
        """Find out who a peer is (COM-4, COM-10, COM-11); ``connection.decide`` takes what comes back as it is::

            connection.decide(self.login(connection, Password(event.name, event.password)), machine.accept)

        :param credentials: provides one of :attr:`credential_interfaces`; :class:`connectd.credentials.Password`, say.
        :param account: whom the proof is for, where the credentials have no ``username``.
        :return: fails with :class:`~connectd.net.authentication.WrongProof`, or with another
            :class:`~connectd.net.connection.Refused` where the account may not be used.
        """
        if self.authenticator is None:
            raise RuntimeError(f"{self.title} has no accounts: it names no credential_interfaces")
        return self.authenticator.login(connection.peer.host, credentials, account)

    def objection(self, connection: Connection) -> Objection | None:
        """Why a peer that is here may not stay, after something has changed in the directory (COM-4), or None.

        A wing whose peers have more that can be banned, such as keys, asks for that as well.

        :raises connectd.directory.errors.DirectoryError: where nobody can say.
        """
        directory, host = self.context.directory, connection.peer.host
        if directory is not None and host and (reason := directory.match_address(host)) is not None:
            return Objection(Outcome.BANNED, f"This address is banned: {reason}")
        return None if self.authenticator is None else self.authenticator.objection(self.account(connection))

    # The way in

    def accept(self, peer: Peer) -> Any:
        """A socket came in: the protocol for it, or None to close it without a byte."""
        now = self.clock.seconds()
        if not self.settings.proxy_protocol:
            return self.admit(peer, now)
        if not peer.is_within(self.settings.trusted_networks):
            self.turned_away(peer, Outcome.REFUSED, "not in trusted_networks, and this listener expects a PROXY header")
        elif len(self.arriving) >= MAX_ARRIVING:
            self.turned_away(peer, Outcome.LIMITED, "too many connections wait for their PROXY header")
        else:
            return ProxyPreface(self, peer, now)
        return None

    def admit(self, peer: Peer, accepted_at: float) -> Connection | None:
        """Let a peer in whose address is known (COM-4), or None.

        :param accepted_at: when its socket was accepted: the handshake's deadline counts from there (COM-1).
        """
        if not self.admit_peer(peer, self.clock.seconds()):
            return None
        try:
            machine = self.make_machine(peer, accepted_at)
        except BaseException:
            self.context.admission.release(peer.host)
            raise
        connection = Connection(next(self.context.identifiers), peer, machine, self, accepted_at)
        self.connections.add(connection)
        return connection

    def admit_peer(self, peer: Peer, now: float) -> bool:
        """Whether this address may connect (COM-4); where not, that is its outcome.

        :return: where True, a place is taken until ``context.admission.release``.
        """
        refusal = self.context.admission.admit(peer.host, now)
        if refusal is not None:
            self.turned_away(peer, refusal.outcome, refusal.reason)
        return refusal is None

    def turned_away(self, peer: Peer, outcome: Outcome, reason: str, offset: int | None = None) -> None:
        """The outcome of a peer that never became a connection."""
        stamp = {"protocol": self.protocol, "listener": self.title, "peer": str(peer)}
        self.context.events.connection_ended(self.protocol, stamp, outcome, reason, offset)

    @property
    def full(self) -> bool:
        """Whether another session would be one too many (COM-4)."""
        return 0 < self.settings.max_sessions <= self.session_count

    def stamp(self, connection: Connection) -> dict[str, Any]:
        """What every event says about its connection."""
        return {
            "protocol": self.protocol,
            "listener": self.title,
            "connection": connection.id,
            "peer": str(connection.peer),
        }

    # What the machine says

    def on_Established(self, connection: Connection, event: Established) -> None:
        """Register the session and open its handler."""
        now = self.clock.seconds()
        session = Session(
            connection, self.protocol, self.title, now, self.identity(connection), self.account(connection)
        )
        connection.session = session
        self.session_count += 1
        self.context.sessions.add(session)
        self.context.handshakes(self.protocol, now - connection.opened)
        self.context.events.session_accepted(self.protocol, self.stamp(connection), session.identity)
        if self.handler is HOLD:
            connection.receiver = HOLD
            return
        connection.receiver = opening = Opening()
        connection.pause(OPENING)
        opened: Deferred[Any] = maybeDeferred(self.handler.open, session)
        opened.addCallback(self._opened, connection, opening)
        opened.addErrback(self._not_opened, connection)
        opening.wait(opened)

    def _opened(self, receiver: IReceiver, connection: Connection, opening: Opening) -> None:
        if opening.outcome is not None:
            receiver.closed(opening.outcome)
            return
        connection.receiver = receiver
        for message in opening.messages:
            if connection.machine.ended:
                break
            receiver.received(message)
        connection.resume(OPENING)

    def _not_opened(self, failure: Failure, connection: Connection) -> None:
        if connection.machine.ended:
            return
        text = "the handler {handler} could not take session {id} of {listener}"
        handler, listener = self.settings.handler, self.title
        if failure.check(Unavailable):
            reason = failure.getErrorMessage()
            log.error(f"{text}: {{reason}}", handler=handler, id=connection.id, listener=listener, reason=reason)
        else:
            log.failure(text, failure, handler=handler, id=connection.id, listener=listener)
        connection.close(Outcome.FAILED, "The service behind this server is not available")

    def on_Received(self, connection: Connection, event: Received) -> None:
        """Give the handler a message."""
        connection.receiver.received(event.message)

    def connection_ended(self, connection: Connection, event: Ended) -> None:
        """Note the outcome and let the session and its handler go."""
        stamp = self.stamp(connection)
        stamp["duration"] = round(self.clock.seconds() - connection.opened, 6)
        session, connection.session = connection.session, None
        if session is not None:
            self.session_count -= 1
            self.context.sessions.remove(session)
            if session.account:
                stamp["account"] = session.account
        self.context.events.connection_ended(self.protocol, stamp, event.outcome, event.reason, event.offset)
        receiver, connection.receiver = connection.receiver, None
        if receiver is not None:
            receiver.closed(event.outcome)

    def connection_closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.context.admission.release(connection.peer.host)
        if not self.connections:
            emptied, self._emptied = self._emptied, []
            for waiter in emptied:
                waiter.callback(None)

    # The service

    def startService(self) -> None:
        Service.startService(self)
        self.deadlines.start()
        for face in self.faces:
            self._ports.append(self.open_face(face))
            log.info("{title} is listening", title=self.title)

    def open_face(self, face: BoundSocket) -> IListeningPort:
        """Begin to serve one of its sockets."""
        return face.adopt_stream(self.context.reactor, _Accepting(self))

    def stop_accepting(self) -> Deferred[None]:
        """Close the sockets; connections go on."""
        ports, self._ports = self._ports, []
        stopped = [maybeDeferred(port.stopListening) for port in ports]
        for face in self.faces:
            face.close()
        done: Deferred[Any] = DeferredList(stopped)
        return done.addCallback(lambda results: None)

    def drain(self, limit: float) -> Deferred[None]:
        """Stop accepting, tell everybody, wait, then close what is left (COM-8)."""
        stopped = self.stop_accepting()
        for arriving in list(self.arriving):
            arriving.close(Outcome.SHUTDOWN, GOODBYE)
        closing = self._cooperator.cooperate(self._close_all())
        emptied: Deferred[None] = Deferred() if self.connections else succeed(None)
        if self.connections:
            self._emptied.append(emptied)
        timer = self.context.reactor.callLater(limit, self._abort_all)

        def finished(result: Any) -> None:
            if timer.active():
                timer.cancel()

        done: Deferred[Any] = DeferredList([stopped, closing.whenDone(), emptied])
        return done.addCallback(finished)

    def _close_all(self) -> Iterator[None]:
        for index, connection in enumerate(list(self.connections), 1):
            connection.close(Outcome.SHUTDOWN, GOODBYE)
            if not index % CLOSINGS_PER_TURN:
                yield

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.close(Outcome.SHUTDOWN, GOODBYE)
            connection.abort()

    def reconfigure(self, settings: ListenerSettings) -> bool:
        """Take new settings for connections from now on; False where the sockets would have to change."""
        if type(settings) is not type(self.settings) or settings.listen != self.settings.listen:
            return False
        handler, authenticator = self.context.find_handler(settings.handler), self._make_authenticator(settings)
        self.handler, self.authenticator = handler, authenticator
        self.stall_timeout = settings.stall_timeout
        self.settings = settings
        return True

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return self.drain(self.context.drain_timeout).addCallback(lambda result: self.deadlines.stop())
