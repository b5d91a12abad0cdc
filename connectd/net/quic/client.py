"""The client's side: dial a QUIC server, know who it is, and have a stream."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import error
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IHostResolution,
    IProtocolFactory,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from connectd.net.connection import Peer
from connectd.net.datagram_port import adopt
from connectd.net.quic.ending import BAD_CERTIFICATE, NO_APPLICATION_PROTOCOL, Ending
from connectd.net.quic.endpoint import Endpoint
from connectd.net.quic.parameters import ClientParameters, Handshake, client_configuration
from connectd.net.quic.session import Session
from connectd.net.quic.stream import udp_address
from connectd.net.quic_private import BoundedConnection, Bounds

log = Logger()


class QuicConnectError(error.ConnectError):
    """There is no connection: one line that says why.

    :param reason: that line.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(string=reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class ClientEndpoint(Endpoint):
    """The socket of one client connection. It is closed before anybody is told that the connection is over.

    :param clock: the reactor.
    """

    session: Session | None = None

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(clock)
        self._closing: Deferred[Any] | None = None

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """It is for the one connection there is, or for nobody."""
        session = self.session
        if session is not None and addr[:2] == session.address[:2]:
            session.receive(datagram, session.address, self.clock.seconds())

    def connectionRefused(self) -> None:
        """Nothing listens there, says the system of the other side. Anybody can forge that: it counts only while there
        is no connection yet."""
        session = self.session
        if session is not None and session.handshake is None:
            cast("_Attempt", session.owner).fail("connection refused: nothing listens there")

    def doStop(self) -> None:
        """The socket is about to be closed. Where the reactor does that because it stops, the server is still told:
        nothing else would tell it, as a closing socket does for TCP, and it would keep the session until its silence is
        over."""
        session = self.session
        if session is not None and not session.over:
            now = self.clock.seconds()
            session.turn(now)
            session.close()
            session.turn(now)
        super().doStop()

    def session_ended(self, session: Session, tell: Callable[[], None]) -> None:
        # Nobody stays to repeat it to a server that did not hear, so that it is said twice.
        self.send(session.goodbye)
        self.forget(session)
        self.close().addCallback(lambda closed: tell())

    def close(self) -> Deferred[Any]:
        """Close the socket; fires once it is."""
        self.session = None
        if self._closing is None:
            self._closing = maybeDeferred(self.transport.stopListening)  # type: ignore[union-attr]
        closed: Deferred[Any] = Deferred()
        self._closing.addBoth(lambda result: closed.callback(None))
        return closed


OpenSocket = Callable[[Any, ClientEndpoint], None]
"""Gives an endpoint a socket that leads to an address: calls its ``makeConnection``."""


def open_socket(reactor: Any) -> OpenSocket:
    """Sockets of the system, connected so that an unreachable server is known at once."""

    def open_(address: Any, endpoint: ClientEndpoint) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        handle = socket.socket(family, socket.SOCK_DGRAM)
        try:
            handle.setblocking(False)
            handle.connect(address)
            adopt(reactor, endpoint, handle.fileno(), family, connected=address)
        finally:
            handle.close()

    return open_


class _Attempt:
    """One connection that is being made to one address (:class:`~connectd.net.quic.session.Owner`).

    :ivar made: fires with the session, or fails once nothing is left of it.
    """

    def __init__(
        self, endpoint: ClientEndpoint, parameters: ClientParameters, host: str, address: Any, timeout: float
    ) -> None:
        self.parameters = parameters
        self.made: Deferred[Session] = Deferred(self._cancel)
        self._cancelled = False
        self._failure: str | None = None
        self._made = False
        self._endpoint = endpoint
        bounds = Bounds(parameters.receive_window, parameters.send_window, 0, 0)
        quic = BoundedConnection(configuration=client_configuration(parameters, host), bounds=bounds)
        self._session = endpoint.session = Session(endpoint, quic, address)
        self._session.owner = self
        clock = endpoint.clock
        self._timer = clock.callLater(timeout, self.fail, "timed out: the server did not answer in time")
        quic.connect(address, clock.seconds())
        self._session.touch()

    def _cancel(self, made: Deferred[Session]) -> None:
        self._cancelled = True
        self.fail("given up")

    def fail(self, reason: str, error: int = 0) -> None:
        """Give up.

        :param reason: for the caller.
        :param error: the transport's error code, for the server.
        """
        if not self._made and self._failure is None:
            self._failure = reason
            self._session.close(error, transport=True)

    def handshake_completed(self, session: Session, alpn: str | None) -> None:
        """TLS is done: is it the server that was meant?"""
        certificate = session.quic.peer_certificate
        objection = self.parameters.trust.objection(certificate)
        if objection is not None:
            self.fail(objection, BAD_CERTIFICATE)
        elif alpn is None:
            offered = ", ".join(self.parameters.alpn)
            self.fail(f"the server speaks none of the protocols offered: {offered}", NO_APPLICATION_PROTOCOL)
        elif self._failure is None:
            identity = self.parameters.identity
            session.handshake = Handshake(
                peer=Peer.from_address(udp_address(session.address)),
                alpn=alpn,
                peer_certificate=certificate,
                certificate=None if identity is None else identity.certificate,
                version=session.quic.version,
            )
            self._made = True
            self._timer.cancel()
            self.made.callback(session)

    def session_ended(self, session: Session, ending: Ending) -> None:
        """It is over, before it began or later."""
        if self._made:
            return
        self._made = True
        if self._timer.active():
            self._timer.cancel()
        if not self._cancelled:
            problem = QuicConnectError(self._failure or ending.reason)
            self._endpoint.close().addCallback(lambda closed: self.made.errback(Failure(problem)))

    def session_moved(self, session: Session) -> None:
        """Servers do not move."""


@implementer(IStreamClientEndpoint)
class QuicClientEndpoint:
    """Leads to a QUIC server: each connection made has one bidirectional stream, which the first write opens.

    Names are looked up by the reactor, and the addresses tried in their order.

    :param reactor: the reactor.
    :param host: a name or numeric address.
    :param port: the server's UDP port.
    :param parameters: what QUIC is to do.
    :param timeout: seconds for the handshake, over all addresses.
    :param sockets: gives sockets; those of the system unless given.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        parameters: ClientParameters,
        timeout: float = 15.0,
        sockets: OpenSocket | None = None,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._parameters = parameters
        self._timeout = timeout
        self._sockets = open_socket(reactor) if sockets is None else sockets

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Fires with the protocol once the handshake is done and the server is who was meant.

        Fails with :class:`QuicConnectError`, or with a :class:`twisted.internet.error.DNSLookupError`.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        addresses = await self._resolve()
        until = self._reactor.seconds() + self._timeout
        failure: Exception = error.DNSLookupError(f"{self._host} has no address")
        for index, address in enumerate(addresses):
            # Those that are left share the time that is left.
            timeout = (until - self._reactor.seconds()) / (len(addresses) - index)
            try:
                session = await self._attempt(address, timeout)
            except QuicConnectError as problem:
                failure = problem
                continue
            return self._stand(session, factory)
        raise failure

    async def _resolve(self) -> list[Any]:
        if _numeric(self._host):
            return [(self._host, self._port)]
        addresses = _Addresses()
        self._reactor.nameResolver.resolveHostName(addresses, self._host, self._port, transportSemantics="UDP")
        await addresses.complete
        if not addresses.found:
            raise error.DNSLookupError(f"no address found for {self._host}")
        return addresses.found

    async def _attempt(self, address: Any, timeout: float) -> Session:
        endpoint = ClientEndpoint(self._reactor)
        try:
            self._sockets(address, endpoint)
        except OSError as problem:
            raise QuicConnectError(f"{address[0]}: {problem.strerror or problem}") from None
        return await _Attempt(endpoint, self._parameters, self._host, address, max(timeout, 0.1)).made

    def _stand(self, session: Session, factory: IProtocolFactory) -> Any:
        protocol: Any = factory.buildProtocol(udp_address(session.address))
        if protocol is None:
            session.close()
            raise QuicConnectError("there is no protocol for it")
        stream = session.stream(session.quic.get_next_available_stream_id(), self._parameters.receive_window)
        stream.protocol = protocol
        protocol.makeConnection(stream)
        return protocol


def _numeric(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return False
    return True


@implementer(IResolutionReceiver)
class _Addresses:
    """Collects the addresses of a name, as sockets take them."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self.complete: Deferred[None] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        self.found.append((address.host, address.port))

    def resolutionComplete(self) -> None:
        self.complete.callback(None)
