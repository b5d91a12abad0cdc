"""Peers that speak no protocol but say the bytes that a test gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from connectd.net.connection import Peer

if TYPE_CHECKING:
    from connectd.testing.network import Network
    from connectd.testing.wire import End, Wire


@implementer(IProtocol, IHalfCloseableProtocol)
class RawPeer:
    """The other side of a connection, in the hands of a test.

    :ivar received: all bytes that came, as one ``bytes``.
    :ivar finished: whether the other side has said that it will say no more.
    :ivar lost: what the connection ended with, a ``ConnectionDone`` or ``ConnectionLost``; None while it stands.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self.received = b""
        self.finished = False
        self.lost: BaseException | None = None
        self.end: End
        """This side's transport."""

    @property
    def wire(self) -> Wire:
        """The connection."""
        return self.end.wire

    # What a test says

    def send(self, *pieces: bytes) -> None:
        """Say something. What was given as one piece is read as one, unless ``network.segment`` cuts it."""
        for piece in pieces:
            self.end.write(piece)
            self._network.settle()

    def take(self) -> bytes:
        """What came since the last call, or since the beginning."""
        taken, self.received = self.received, b""
        return taken

    def finish(self) -> None:
        """Say that no more will come, and go on listening."""
        self.end.loseWriteConnection()
        self._network.settle()

    def close(self) -> None:
        """Close the connection."""
        self.end.loseConnection()
        self._network.settle()

    def reset(self) -> None:
        """Break the connection."""
        self.end.abortConnection()
        self._network.settle()

    @property
    def window(self) -> int | None:
        """How many more bytes it reads; None for all that come. Setting it to 0 makes a peer that does not read."""
        return self.end.window

    @window.setter
    def window(self, count: int | None) -> None:
        self.end.window = count
        self._network.settle()

    # What its transport says

    def makeConnection(self, transport: Any) -> None:
        self.end = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        pass

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.finished = True

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure) -> None:
        self.finished = True
        self.lost = reason.value


class RawServer:
    """Stands for a listener and speaks no protocol: ``network.endpoint(raw_server)`` leads there.

    :ivar peers: who connected, in order.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self.peers: list[RawPeer] = []

    def accept(self, peer: Peer) -> RawPeer:
        """Take everybody."""
        self.peers.append(RawPeer(self._network))
        return self.peers[-1]
