"""A Chatr client: stays connected to a server, asks for other clients by UUID, and is asked for.

In short::

    client = ChatrClient.from_url(reactor, "chatr://chatr.example:1230?identity=me.pem")
    client.on_request = lambda uuid: uuid in friends
    client.startService()
    await client.when_connected()
    peer = await client.request(uuid)       # once the other side has accepted
    print(peer.public, peer.private)
"""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address
from typing import Any
from uuid import UUID

import attrs
from twisted.application.internet import ClientService, backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from connectd.net.certificates import CertificateError
from connectd.net.client import Dialogue, SessionEndpoint
from connectd.net.connection import Connection
from connectd.net.trust import Trust
from connectd.net.url import ServerURL, URLError, parse_url
from connectd.protocols.chatr.checks import Role
from connectd.protocols.chatr.identity import Identity, IdentityError, load
from connectd.protocols.chatr.machine import (
    ClientMachine,
    Denied,
    PeerLocated,
    RequestAccepted,
    RequestReceived,
    Secured,
)
from connectd.protocols.chatr.packets import IPAddress
from connectd.protocols.chatr.settings import ChatrClientSettings
from connectd.sansio import Ended, Established, Event, Machine

log = Logger()

PORT = 1230

_UNKNOWN = IPv4Address(0)


@attrs.frozen
class Peer:
    """Another client, after one of both has accepted the other's request: what a puncher needs (CH-7, CH-41).

    :param uuid: who it is.
    :param public: its address as the server sees it; version 1 tells no port.
    :param private: its address in its own network, as it says; the unspecified one where that would mislead (CH-8).
    :param role: whether this client is the one that asked.
    :param loopback: the server is on this machine, so that the peer may be as well.
    """

    uuid: UUID
    public: IPAddress
    private: IPAddress
    role: Role
    loopback: bool


class RequestDenied(Exception):
    """The other client said no, did not answer, or is not there: which of these, nobody is told (CH-6)."""

    def __init__(self, uuid: UUID) -> None:
        super().__init__(f"{uuid} denied the request, or is not connected")
        self.uuid = uuid


class NotConnected(ConnectionError):
    """There is no connection to the server now."""


class ChatrDialogue(Dialogue):
    """One connection of a client; :class:`ChatrClient` is what keeps one.

    :param reactor: the reactor.
    :param settings: the client's.
    :param identity: who it is.
    :param report: called with (step, detail) as the connection process goes.
    :param told: called with each event of the session.
    :param ended: called with how it ended.
    """

    def __init__(
        self,
        reactor: Any,
        settings: ChatrClientSettings,
        identity: Identity,
        *,
        report: Callable[[str, str], None] = lambda step, detail: None,
        told: Callable[[Event], None] = lambda event: None,
        ended: Callable[[Ended], None] = lambda event: None,
    ) -> None:
        super().__init__(reactor)
        self.settings = settings
        self.identity = identity
        self.machine: ClientMachine | None = None
        self._report = report
        self._told = told
        self._ended = ended

    def make_machine(self, now: float) -> Machine:
        self.machine = ClientMachine(self.settings, self.identity.uuid, self.identity.signature, now=now)
        return self.machine

    @property
    def private_endpoint(self) -> IPAddress:
        """Our own address, as our side of the connection has it."""
        local = None if self.connection is None else self.connection.local
        return _UNKNOWN if local is None or not local.host else ip_address(local.host.partition("%")[0])

    def say(self, verb: Callable[..., list[Event]], *arguments: Any) -> None:
        """Call a verb of the machine."""
        if self.connection is not None:
            self.connection.call(verb, *arguments)

    def on_Secured(self, connection: Connection, event: Secured) -> None:
        """TLS stands, and this is the right server."""
        handle: Any = connection.transport.getHandle()
        self._report("TLS", f"{handle.get_protocol_version_name()}, {handle.get_cipher_name()}: the right server")
        self._report("Connect", f"as {self.identity.uuid}")

    def on_Established(self, connection: Connection, event: Established) -> None:
        self._report("Connected", "accepted")
        super().on_Established(connection, event)

    def on_RequestReceived(self, connection: Connection, event: RequestReceived) -> None:
        """Somebody wants to connect to us."""
        self._told(event)

    def on_RequestAccepted(self, connection: Connection, event: RequestAccepted) -> None:
        """Somebody accepts."""
        self._told(event)

    def on_Denied(self, connection: Connection, event: Denied) -> None:
        """Somebody does not."""
        self._told(event)

    def on_PeerLocated(self, connection: Connection, event: PeerLocated) -> None:
        """Where somebody is."""
        self._told(event)

    def connection_ended(self, connection: Connection, event: Ended) -> None:
        super().connection_ended(connection, event)
        self._ended(event)


class ChatrClient(Service):
    """Stays connected to a server.

    :param reactor: the reactor.
    :param endpoint: where the server is, TLS included (:meth:`connectd.net.trust.Trust.wrap`).
    :param identity: who this client is; its key has to be registered (:mod:`connectd.protocols.chatr.registry`).
    :param settings: the client's.
    :param retry_policy: gives the seconds to wait after so many failures in a row.
    :ivar on_request: asked whether to accept the request of a UUID; says so with a boolean or a Deferred of one. Unless
        set, all are denied. A failure denies.
    :ivar on_peer: called with the :class:`Peer` of each request of another's that was accepted.
    :ivar on_connected: called each time that the server has let this client in.
    :ivar on_end: called each time that a connection ends.
    :ivar last_end: how the last connection ended.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        identity: Identity,
        settings: ChatrClientSettings | None = None,
        *,
        retry_policy: Callable[[int], float] | None = None,
    ) -> None:
        self.settings = ChatrClientSettings() if settings is None else settings
        self.identity = identity
        self.on_request: Callable[[UUID], bool | Deferred[bool]] = lambda uuid: False
        self.on_peer: Callable[[Peer], None] = lambda peer: None
        self.on_connected: Callable[[], None] = lambda: None
        self.on_end: Callable[[Ended], None] = lambda event: None
        self.last_end: Ended | None = None
        self._reactor = reactor
        self._dialogue: ChatrDialogue | None = None
        self._asked: dict[UUID, list[Deferred[Peer]]] = {}
        # Private endpoints of peers whose ClientInfo is to come, by whether we are the requester.
        self._accepted: dict[UUID, IPAddress] = {}
        self._accepting: dict[UUID, IPAddress] = {}
        self._deciding: dict[UUID, Deferred[Any]] = {}
        policy = retry_policy or backoffPolicy(1.0, 60.0, jitter=lambda: random.uniform(0, 1))  # noqa: S311 - a delay
        self._service = ClientService(
            SessionEndpoint(endpoint, self._begin), Factory.forProtocol(Protocol), retryPolicy=policy, clock=reactor
        )

    @classmethod
    def from_url(
        cls, reactor: Any, url: str, *, passphrase: bytes | None = None, identity: Identity | None = None, port: int = 0
    ) -> ChatrClient:
        """A client for ``chatr://HOST:PORT?identity=FILE``.

        :param passphrase: of the identity file, if it has one.
        :param identity: instead of what the URL names.
        :param port: the local port to connect from (CH-11); 0 = any.
        :raises connectd.net.url.URLError: with what is wrong with the URL or the files that it names.
        """
        server = parse_chatr_url(url)
        if identity is None:
            identity = load_identity(server, passphrase)
        return cls(reactor, secure_endpoint(reactor, server, port), identity, server.settings)

    # The service

    def startService(self) -> None:
        """Connect, and keep connecting."""
        Service.startService(self)
        self._service.startService()

    def stopService(self) -> Deferred[None]:
        """Leave; fires once the connection is gone."""
        Service.stopService(self)
        self._forget(NotConnected("this client was stopped"))
        # In a turn of its own: a ClientService cannot be stopped by whoever it is just telling of a failure.
        stopped: Deferred[Any] = deferLater(self._reactor, 0, self._service.stopService)
        return stopped.addCallback(lambda result: None)

    def when_connected(self, attempts: int | None = 1) -> Deferred[None]:
        """Fires once the server has let this client in.

        :param attempts: after so many failed ones in a row it fails; None goes on for ever.
        """
        connected: Deferred[Any] = self._service.whenConnected(failAfterFailures=attempts)
        return connected.addCallback(lambda protocol: None)

    @property
    def connected(self) -> bool:
        """Whether the server has let this client in, and it is still there."""
        machine = None if self._dialogue is None else self._dialogue.machine
        return machine is not None and machine.established and not machine.ended

    # Requests

    def request(self, uuid: UUID) -> Deferred[Peer]:
        """Ask for another client.

        Who asks twice gets the same answer. Cancelling gives up waiting; the server is not told, it has no word for
        that.

        :return: fires with where it is, once it has accepted. Fails with :class:`RequestDenied`, with
            :class:`NotConnected`, or with Twisted's ``TimeoutError`` where the server says nothing.
        """
        if not self.connected:
            reason = self.last_end.reason if self.last_end is not None else "not connected to a server yet"
            return fail(NotConnected(reason))
        answer: Deferred[Peer] = Deferred(lambda cancelled: self._give_up(uuid, cancelled))
        waiting = self._asked.setdefault(uuid, [])
        waiting.append(answer)
        if len(waiting) == 1:
            dialogue = self._dialogue
            assert dialogue is not None
            assert dialogue.machine is not None
            dialogue.say(dialogue.machine.request, uuid, dialogue.private_endpoint)
        return answer.addTimeout(self.settings.request_timeout, self._reactor)

    # Inside

    def _begin(self) -> ChatrDialogue:
        dialogue = ChatrDialogue(self._reactor, self.settings, self.identity, told=self._told, ended=self._ended)
        dialogue.when_established().addCallbacks(lambda result: self.on_connected(), lambda failure: None)
        self._dialogue = dialogue
        return dialogue

    def _told(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._decide(event)
        elif isinstance(event, RequestAccepted):
            if event.uuid in self._asked:
                self._accepted[event.uuid] = event.private_endpoint
        elif isinstance(event, Denied):
            self._answer(event.uuid, RequestDenied(event.uuid))
        elif isinstance(event, PeerLocated):
            self._located(event)

    def _located(self, event: PeerLocated) -> None:
        """Requests in both directions may be under way; the server sends Accept before the ClientInfo of ours."""
        uuid = event.uuid
        role = Role.REQUESTER if uuid in self._accepted else Role.ACCEPTER
        if uuid in self._asked and uuid in self._accepting:
            role = Role.REQUESTER if self.identity.uuid < uuid else Role.ACCEPTER
        if uuid in self._accepted:
            self._answer(uuid, self._peer(event, self._accepted.pop(uuid), role))
        elif uuid in self._accepting:
            self.on_peer(self._peer(event, self._accepting.pop(uuid), role))

    def _answer(self, uuid: UUID, result: Peer | Exception) -> None:
        for answer in self._asked.pop(uuid, []):
            answer.callback(result) if isinstance(result, Peer) else answer.errback(result)

    def _give_up(self, uuid: UUID, answer: Deferred[Peer]) -> None:
        waiting = self._asked.get(uuid, [])
        if answer in waiting:
            waiting.remove(answer)
        if not waiting:
            self._asked.pop(uuid, None)

    def _peer(self, event: PeerLocated, private: IPAddress, role: Role) -> Peer:
        loopback = self._dialogue is not None and self._dialogue.private_endpoint.is_loopback
        return Peer(event.uuid, event.public_endpoint, private, role, loopback)

    def _decide(self, event: RequestReceived) -> None:
        uuid = event.uuid
        if uuid in self._deciding:
            return
        dialogue = self._dialogue

        def answer(accepted: Any) -> None:
            self._deciding.pop(uuid, None)
            if dialogue is None or dialogue is not self._dialogue or not self.connected:
                return
            assert dialogue.machine is not None
            if accepted:
                self._accepting[uuid] = event.private_endpoint
                dialogue.say(dialogue.machine.accept_request, uuid, dialogue.private_endpoint)
            else:
                dialogue.say(dialogue.machine.deny_request, uuid)

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError) is None:
                log.failure("nobody can say whether to accept {uuid}; denied", failure, uuid=uuid)
                answer(False)

        deciding: Deferred[Any] = maybeDeferred(self.on_request, uuid)
        if not deciding.called:
            self._deciding[uuid] = deciding
        deciding.addCallbacks(answer, failed)

    def _ended(self, event: Ended) -> None:
        self.last_end = event
        self._forget(NotConnected(event.reason))
        self.on_end(event)

    def _forget(self, why: NotConnected) -> None:
        self._accepted.clear()
        self._accepting.clear()
        deciding, self._deciding = self._deciding, {}
        for one in deciding.values():
            one.cancel()
        for uuid in list(self._asked):
            self._answer(uuid, why)


# Where the server is


def parse_chatr_url(url: str) -> ServerURL[ChatrClientSettings]:
    """Take a ``chatr://`` URL apart.

    :raises connectd.net.url.URLError: with what is wrong with it.
    """
    return parse_url(url, "chatr", PORT, ChatrClientSettings)


def load_identity(server: ServerURL[ChatrClientSettings], passphrase: bytes | None = None) -> Identity:
    """The identity that a URL names.

    :raises connectd.net.url.URLError: where it names none, or one that cannot be used.
    """
    path = server.settings.identity
    if not path:
        raise URLError("no identity: write chatr://HOST:PORT?identity=FILE (connectctl chatr register makes one)")
    try:
        return load(path, passphrase)
    except IdentityError as error:
        raise URLError(str(error)) from None


def trust_of(server: ServerURL[ChatrClientSettings]) -> Trust:
    """Whom to take for the server (CH-10).

    :raises connectd.net.url.URLError: where a file that says so cannot be used.
    """
    settings = server.settings
    try:
        return Trust.from_files(settings.server_name or server.host, settings.certificate, settings.authorities)
    except (CertificateError, ValueError) as error:
        raise URLError(str(error)) from None


def secure_endpoint(
    reactor: Any, server: ServerURL[ChatrClientSettings], port: int = 0, timeout: float = 30.0
) -> IStreamClientEndpoint:
    """An endpoint that leads to the server through TLS, from a local port (CH-11).

    :param port: the local port; 0 = any.
    """
    return trust_of(server).wrap(server.endpoint(reactor, timeout, port))
