"""What stands before the protocol behind a proxy: the PROXY header (COM-5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from connectd.net.proxy import ProxyHeader, ProxyHeaderError, ProxyHeaderParser
from connectd.sansio import Outcome

if TYPE_CHECKING:
    from connectd.net.connection import Peer
    from connectd.net.deadlines import Entry
    from connectd.net.listener import Admit, Listener

log = Logger()

HEADER_TIMEOUT = 5.0
"""Seconds in which the header must have come."""


@implementer(IProtocol)
class ProxyPreface:
    """Reads the header, then gives its transport to the connection that the header names.

    :param listener: who decides about the peer.
    :param socket_peer: the proxy's own address, already found trusted.
    :param accepted_at: when the socket was accepted.
    :param admit: gives the protocol for a peer and that time, or None.
    """

    __slots__ = ("_accepted_at", "_admit", "_entry", "_listener", "_over", "_parser", "peer", "transport")

    def __init__(self, listener: Listener, socket_peer: Peer, accepted_at: float, admit: Admit) -> None:
        self.peer = socket_peer
        self._listener = listener
        self._accepted_at = accepted_at
        self._admit = admit
        self._parser = ProxyHeaderParser()
        self._entry: Entry | None = None
        self._over = False
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """Wait for the header, but not for long."""
        self._listener.arriving.add(self)
        timeout = min(HEADER_TIMEOUT, self._listener.settings.handshake_timeout)
        self._entry = self._listener.deadlines.schedule(self, self._accepted_at + timeout)

    def dataReceived(self, data: bytes) -> None:
        """A piece of the header."""
        if self._over:
            return
        try:
            header = self._parser.feed(data)
        except ProxyHeaderError as error:
            self.close(Outcome.MALFORMED, f"PROXY header: {error.reason}", error.offset)
            return
        if header is not None:
            self._hand_over(header)

    def _hand_over(self, header: ProxyHeader) -> None:
        self._finish()
        peer = self.peer if header.source is None else type(self.peer)(*header.source)
        connection = self._admit(peer, self._accepted_at)
        if connection is None:
            self.transport.abortConnection()
            return
        self.transport.protocol = connection
        connection.makeConnection(self.transport)
        if self._parser.remainder:
            connection.dataReceived(self._parser.remainder)

    def deadline_passed(self, now: float) -> float | None:
        """The sweep found that no header came."""
        self.close(Outcome.TIMEOUT, "no PROXY header came in time")
        return None

    def close(self, outcome: Outcome, reason: str, offset: int | None = None) -> None:
        """Close without a byte: nobody was named yet whom the protocol could speak to."""
        if not self._over:
            self._finish()
            self._listener.turned_away(self.peer, outcome, reason, offset)
            self.transport.abortConnection()

    def _finish(self) -> None:
        self._over = True
        self._listener.arriving.discard(self)
        if self._entry is not None:
            self._listener.deadlines.cancel(self._entry)
            self._entry = None

    def connectionLost(self, reason: Failure) -> None:
        """The proxy went away."""
        if not self._over:
            self._finish()
            self._listener.turned_away(self.peer, Outcome.ABORTED, "the proxy closed before its header was whole")
