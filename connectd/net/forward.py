"""The handler that pipes accepted sessions to a backend, behind a PROXY v2 header that says whose they are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, NoReturn

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from connectd.interfaces import IHandler, IReceiver, Unavailable
from connectd.net.progress import reading_progress
from connectd.net.proxy import (
    TLV_CONNECTD_ACCOUNT,
    TLV_CONNECTD_PROTOCOL,
    TLV_CONNECTD_SESSION,
    encode_v2,
    encode_v2_local,
)
from connectd.net.sockets import MAX_PATH_LENGTH
from connectd.sansio import LocalProtocolError, Outcome
from connectd.sessions import Session

log = Logger()

FLUSH_TIMEOUT = 10.0
"""Seconds that a backend has to take the rest of a session that is over, and to close, before it is cut off."""

STALL_TIMEOUT = 30.0
"""Seconds without progress after which a backend that does not read fails its session."""

CLOSED = "The service behind this server closed the connection"
"""What the peer is told when the backend closed in good order."""

BROKEN = "The service behind this server failed"
"""What the peer is told when the backend broke, stopped reading or sent what the protocol cannot carry."""

FORMS = "tcp:HOST:PORT, with an IPv6 address in brackets, or unix:PATH"


class ForwardError(ValueError):
    """A place that names no backend: one line that says what is wrong with it and how to write it."""


class BackendUnavailable(Unavailable):
    """The backend could not be reached: one line that names it and the cause."""


@implementer(IHandler)
class Forward:
    """Gives every session a connection of its own to the backend.

    What the peer sends goes to the backend as ``message.encode()``; what the backend sends goes to the peer. A
    side that does not read is not written to without bound: the other side is paused.

    :param place: ``tcp:HOST:PORT``, with an IPv6 address in brackets, or ``unix:PATH``.
    :param reactor: what to connect with.
    :param connect_timeout: seconds for the connection to the backend to stand.
    :raises ForwardError: where the place is none of these.
    """

    def __init__(self, place: str, reactor: Any, *, connect_timeout: float = 5.0) -> None:
        self.place = place
        self.reactor = reactor
        self.connect_timeout = connect_timeout
        self._endpoint = _endpoint(place, reactor, connect_timeout)

    def wants(self, protocol: str) -> Iterable[str]:
        return ()

    def open(self, session: Any) -> Deferred[Backend]:
        """Connect to the backend and tell it, in a PROXY v2 header, whom it is talking to.

        The header's source is the session's peer. Its destination is where the peer's connection arrived: behind
        another proxy that is our address, not the one that the peer dialled. Where it has no IP address, it is port
        0 of the unspecified address of the source's family. Where the peer has no IP address (a Unix socket),
        the header is a LOCAL one, which carries no addresses. TLVs follow in either case: 0xE0 the session's id in
        ASCII decimal, 0xE1 the protocol's name, 0xE2 the account in UTF-8 where there is one.

        :return: fires with the backend's end of the pipe; fails with :class:`BackendUnavailable`. Cancelling it
            gives the attempt up.
        :raises ValueError: where the account does not fit into a header.
        """
        connecting: Deferred[Any] = self._endpoint.connect(_Dialling(self, session, header(session)))
        # A name is looked up before the endpoint's own time begins.
        connecting.addTimeout(self.connect_timeout, self.reactor)
        return connecting.addErrback(self._unavailable)

    def _unavailable(self, failure: Failure) -> NoReturn:
        reason = failure.getErrorMessage() or type(failure.value).__name__
        raise BackendUnavailable(f"cannot reach the backend {self.place}: {reason}") from None


def header(session: Session) -> bytes:
    """The PROXY v2 header of a session, as :meth:`Forward.open` describes it."""
    tlvs = [(TLV_CONNECTD_SESSION, b"%d" % session.id), (TLV_CONNECTD_PROTOCOL, session.protocol.encode())]
    if session.account:
        tlvs.append((TLV_CONNECTD_ACCOUNT, session.account.encode()))
    source = session.peer
    if not source.host:
        return encode_v2_local(tlvs)
    local = session.local
    if local is not None and local.host:
        destination = local.host, local.port
    else:
        destination = "0.0.0.0" if ip_address(source.host).version == 4 else "::", 0  # noqa: S104  # not bound to
    return encode_v2((source.host, source.port), destination, tlvs)


def parse_place(place: str) -> tuple[str, int]:
    """Take a place apart.

    :return: (host or address, port); for a unix socket its path and 0.
    :raises ForwardError: where it is none.
    """
    kind, _, rest = place.partition(":")
    if kind == "unix":
        if not rest:
            raise _wrong(place, "the path is missing")
        if "\0" in rest or len(os.fsencode(rest)) > MAX_PATH_LENGTH:
            raise _wrong(place, f"the path is no path of at most {MAX_PATH_LENGTH} bytes")
        return rest, 0
    if kind != "tcp":
        raise _wrong(place, "it begins with neither tcp: nor unix:")
    host, _, port = rest.rpartition(":")
    if not host:
        raise _wrong(place, "the host or the port is missing")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535):
        raise _wrong(place, f"the port {port!a} is not a number from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        if not isIPv6Address(host[1:-1]):
            raise _wrong(place, f"{host!a} is not an IPv6 address")
        host = host[1:-1]
    elif ":" in host or "[" in host or "]" in host or not host.isprintable() or " " in host:
        raise _wrong(place, f"the host {host!a} is neither a name nor an address")
    return host, int(port)


def _endpoint(place: str, reactor: Any, timeout: float) -> IStreamClientEndpoint:
    """The client endpoint for a place. Numeric addresses are connected to without a look-up in a thread."""
    host, port = parse_place(place)
    if not port:
        return UNIXClientEndpoint(reactor, host, timeout=timeout)
    if isIPv6Address(host):
        return TCP6ClientEndpoint(reactor, host, port, timeout=timeout)
    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, timeout=timeout)
    return HostnameEndpoint(reactor, host, port, timeout=timeout)


def _wrong(place: str, problem: str) -> ForwardError:
    return ForwardError(f"cannot forward to {place!a}: {problem} (write {FORMS})")


class _Dialling(Factory):
    """Builds the backend's end of one session's pipe, for endpoints."""

    noisy = False

    def __init__(self, forward: Forward, session: Session, preface: bytes) -> None:
        self.forward = forward
        self.session = session
        self.preface = preface

    def buildProtocol(self, address: IAddress | None) -> Any:
        return Backend(self.forward, self.session, self.preface)


@implementer(IReceiver, IProtocol, IHalfCloseableProtocol, IPushProducer)
class Backend:
    """One session's connection to the backend.

    :param forward: whose it is.
    :param session: the session that is piped.
    :param preface: what the backend is told first.
    """

    __slots__ = ("_over", "_preface", "_progress", "_timer", "forward", "session", "transport")

    def __init__(self, forward: Forward, session: Session, preface: bytes) -> None:
        self.forward = forward
        self.session = session
        self.transport: Any = None
        self._preface = preface
        self._over = False
        self._timer: IDelayedCall | None = None
        self._progress: object = None

    # From the peer to the backend

    def received(self, message: Any) -> None:
        """Pass a message on."""
        if self.transport is not None:
            self.transport.write(message if isinstance(message, bytes) else message.encode())

    def closed(self, outcome: Outcome) -> None:
        """The session is over: let the backend have the rest of it, then close.

        Only our half is closed at first, and what the backend still sends is read and dropped: closing over unread
        input would reset the connection, and the rest with it.
        """
        self._over = True
        transport = self.transport
        if transport is None:
            return
        self._stop_timer()
        transport.unregisterProducer()
        transport.resumeProducing()
        transport.loseWriteConnection()
        self._timer = self.forward.reactor.callLater(FLUSH_TIMEOUT, transport.abortConnection)

    def pauseProducing(self) -> None:
        """The backend does not read as fast as the peer sends: let the peer wait."""
        if self._timer is None:
            self.session.pause()
            self._watch()

    def resumeProducing(self) -> None:
        """The backend took it all."""
        self._stop_timer()
        self.session.resume()

    def stopProducing(self) -> None:
        """The transport is gone; :meth:`connectionLost` says so too."""

    def _watch(self) -> None:
        self._progress = reading_progress(self.transport)
        self._timer = self.forward.reactor.callLater(STALL_TIMEOUT, self._stalled)

    def _stalled(self) -> None:
        self._timer = None
        current = reading_progress(self.transport)
        if current is not None and current != self._progress:
            self._watch()
            return
        self._fail(f"it has read nothing for {STALL_TIMEOUT:g} s")
        self.transport.abortConnection()

    # From the backend to the peer

    def makeConnection(self, transport: Any) -> None:
        """The backend is there."""
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """Tell it whom it is talking to."""
        self.transport.registerProducer(self, True)
        self.transport.write(self._preface)
        self._preface = b""

    def dataReceived(self, data: bytes) -> None:
        """Pass bytes on, and wait until the peer has room for more. A session that is over drops them."""
        try:
            self.session.send(data)
        except LocalProtocolError as error:
            self._fail(f"it sent bytes, and {error}")
            return
        waiting = self.session.drained()
        if not waiting.called:
            self.transport.pauseProducing()
        waiting.addCallbacks(self._drained, self._never_drained)

    def _drained(self, result: None) -> None:
        if self.transport is not None and not self._over:
            self.transport.resumeProducing()

    def _never_drained(self, failure: Failure) -> None:
        """The session ended meanwhile; :meth:`closed` was told."""

    def readConnectionLost(self) -> None:
        """The backend sends no more: that ends the session, and what came before goes out first."""
        if not self._over:
            self.session.kick(CLOSED)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """All that the session had for the backend is on its way."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection to the backend is gone."""
        self.transport = None
        self._stop_timer()
        if self._over:
            return
        if reason.check(ConnectionDone) is not None:
            self.session.kick(CLOSED)
        else:
            self._fail(reason.getErrorMessage())

    def _fail(self, reason: str) -> None:
        """The session cannot go on: one line for the operator, the session's own words for the peer."""
        log.error(
            "the backend {place} failed session {id} of {listener}: {reason}",
            place=self.forward.place,
            id=self.session.id,
            listener=self.session.listener,
            reason=reason,
        )
        self.session.fail(BROKEN)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
