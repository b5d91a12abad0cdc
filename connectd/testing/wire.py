"""A connection in memory, with transports that behave as those of Twisted do.

Two things are simpler than they are outside. There are no buffers between the two ends but the writer's own: what the
other end has not read yet waits with who wrote it, so that backpressure sets in at exactly the high-water mark. And
what is on its way when a connection breaks is lost.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IConsumer, IHalfCloseableProtocol, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from connectd.testing.network import Network

READ_SIZE = 65_536
"""Bytes that one read takes at most, as Twisted's do."""

MOMENT = 1e-6
"""Seconds that are no time at all, for clocks that add up floats."""


def address_of(host: str, port: int) -> IAddress:
    """What Twisted has for a place.

    :param host: a numeric address, or nothing for a Unix socket.
    """
    if not host:
        return UNIXAddress(None)
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)


@implementer(ITransport, IConsumer, IPushProducer)
class End:
    """One end of a wire: the transport of the protocol on it.

    :ivar protocol: the protocol.
    :ivar connected: whether the protocol has this transport still.
    :ivar reading: False while the protocol itself has paused it.
    :ivar window: how many more bytes this end takes before it stops reading; None for all that come.
    :ivar delivered: how many bytes that were written here the other end has read.
    """

    def __init__(self, wire: Wire, host: str, port: int) -> None:
        self.wire = wire
        self.address = address_of(host, port)
        self.protocol: Any = None
        self.other: End
        self.bufferSize = READ_SIZE
        self.connected = True
        self.reading = True
        self.window: int | None = None
        self.delivered = 0
        self.disconnecting = False
        self._buffer = bytearray()
        self._arrivals: deque[tuple[float, int]] = deque()
        self._written = 0
        self._producer: Any = None
        self._producer_paused = False
        self._half_closing = False
        self._end_arrives = 0.0
        self._end_sent = False
        self._end_seen = False
        self._reset = False
        self._cut_at: int | None = None

    @property
    def unread(self) -> int:
        """How many bytes wait for the other end to read them."""
        return len(self._buffer)

    # The transport

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"only bytes can be written, not {type(data).__name__}")
        if not data or not self.connected or self._half_closing or self.disconnecting:
            return
        if not self.other.connected:
            self._reset = True
            return
        self._buffer += data
        self._written += len(data)
        when = self._arrival()
        if self._arrivals and self._arrivals[-1][0] == when:
            self._arrivals.pop()
        self._arrivals.append((when, self._written))
        if self._producer is not None and len(self._buffer) > self.bufferSize:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("another producer is registered")
        if self.connected:
            self._producer = producer
        else:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._producer_paused = False

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if self.connected and not self.disconnecting:
            self.reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        """Close once everything is read."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.reading = False
            self._end_arrives = self._arrival()

    def loseWriteConnection(self) -> None:
        """Finish our half once everything is read."""
        if self.connected and not self.disconnecting and not self._half_closing:
            self._half_closing = True
            self._end_arrives = self._arrival()

    def abortConnection(self) -> None:
        """Close at once; what is unread is lost."""
        if self.connected:
            self.disconnecting = True
            self.reading = False
            self._buffer.clear()
            self.wire.network.clock.callLater(0, self._abort)

    def _abort(self) -> None:
        self.wire.lost(self, ConnectionAborted())
        self.wire.lost(self.other, ConnectionLost())

    def getPeer(self) -> IAddress:
        return self.other.address

    def getHost(self) -> IAddress:
        return self.address

    def getHandle(self) -> Any:
        return _Handle(self)

    # What the wire does

    def next_arrival(self, now: float) -> float | None:
        """When the next of what was written here is there to be read; None where nothing is on its way."""
        coming = [when for when, _ in self._arrivals if when > now + MOMENT][:1]
        if (self.disconnecting or self._half_closing) and not self._end_sent and self._end_arrives > now + MOMENT:
            coming.append(self._end_arrives)
        return min(coming, default=None)

    def deliver(self) -> bool:
        """Let the other end read what was written here; whether anything happened."""
        if self._reset:
            self._reset = False
            self.wire.lost(self, ConnectionLost())
            return True
        happened = self._break()
        while (size := self._readable()) > 0:
            self._hand_over(bytes(self._buffer[:size]))
            self._break()
            happened = True
        if not self.other.connected:
            self._buffer.clear()
        return (not self._buffer and self._drained()) or happened

    def cut_after(self, count: int) -> None:
        """Break the wire once so many bytes that were written here are read."""
        self._cut_at = count

    def _break(self) -> bool:
        """Break the wire if it is time."""
        if self._cut_at is None or self.delivered < self._cut_at:
            return False
        self._cut_at = None
        self.wire.cut()
        return True

    def _arrival(self) -> float:
        network = self.wire.network
        return network.clock.seconds() + network.latency

    def _readable(self) -> int:
        """How much the other end would read now, at once."""
        other = self.other
        if not self._buffer or not other.connected or not other.reading:
            return 0
        now = self.wire.network.clock.seconds() + MOMENT
        arrived = self.delivered
        for when, written in self._arrivals:
            if when > now:
                break
            arrived = written
        limits = [READ_SIZE, len(self._buffer), arrived - self.delivered]
        if other.window is not None:
            limits.append(other.window)
        if self._cut_at is not None:
            limits.append(self._cut_at - self.delivered)
        return min(limits)

    def _hand_over(self, data: bytes) -> None:
        """Let the other end read these bytes in pieces, as long as it reads."""
        left = len(data)
        for piece in self.wire.network.segment(data):
            if not piece:
                continue
            if not self.other.connected or not self.other.reading:
                return
            left -= len(piece)
            del self._buffer[: len(piece)]
            self.delivered += len(piece)
            while self._arrivals and self._arrivals[0][1] <= self.delivered:
                self._arrivals.popleft()
            if self.other.window is not None:
                self.other.window -= len(piece)
            self.other.protocol.dataReceived(piece)
        if left:
            raise AssertionError(f"network.segment gave {len(data) - left} bytes for {len(data)}")

    def _drained(self) -> bool:
        """Everything is read: go on with what waited for that."""
        if self._producer is not None and self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()
            return True
        happened = False
        if (self.disconnecting or self._half_closing) and not self._end_sent:
            if self._end_arrives > self.wire.network.clock.seconds() + MOMENT:
                return False
            self._end_sent = happened = True
            half_closeable = None if self.disconnecting else IHalfCloseableProtocol(self.protocol, None)
            if half_closeable is not None:
                half_closeable.writeConnectionLost()
        if self.disconnecting and self.connected:
            self.wire.lost(self, ConnectionDone())
            happened = True
        other = self.other
        if self._end_sent and not self._end_seen and other.connected and other.reading and other.window != 0:
            self._end_seen = happened = True
            self.wire.finished(other)
        return happened


class Wire:
    """A connection in memory.

    :param network: whose clock, latency and segmentation it uses.
    :param client: (host, port) of the client's end.
    :param server: (host, port) of the server's end.
    """

    def __init__(self, network: Network, client: tuple[str, int], server: tuple[str, int]) -> None:
        self.network = network
        self.client = End(self, *client)
        self.server = End(self, *server)
        self.client.other, self.server.other = self.server, self.client

    def deliver(self) -> bool:
        """Let both ends read; whether anything happened."""
        happened = self.client.deliver()
        return self.server.deliver() or happened

    def cut(self) -> None:
        """Break the connection for both ends; what is unread is lost."""
        for end in (self.client, self.server):
            self.lost(end, ConnectionLost())

    def cut_after(self, *, client: int | None = None, server: int | None = None) -> None:
        """Break the connection at a chosen byte: once the other end has read so many of them.

        :param client: bytes that the client writes.
        :param server: bytes that the server writes.
        """
        for end, count in ((self.client, client), (self.server, server)):
            if count is not None:
                end.cut_after(count)

    def lost(self, end: End, reason: Exception) -> None:
        """Tell one end's protocol that it has no transport any more."""
        if end.connected:
            end.connected = False
            producer = end._producer
            end.unregisterProducer()
            if producer is not None:
                producer.stopProducing()
            end.protocol.connectionLost(Failure(reason))

    def finished(self, end: End) -> None:
        """Tell one end that the other will write no more."""
        half_closeable = IHalfCloseableProtocol(end.protocol, None)
        if half_closeable is not None:
            half_closeable.readConnectionLost()
        else:
            self.lost(end, ConnectionDone())


class _Handle:
    """A socket that only tells how much was acknowledged, as Linux does."""

    def __init__(self, end: End) -> None:
        self._end = end

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        if (level, option) != (socket.IPPROTO_TCP, getattr(socket, "TCP_INFO", None)):
            raise OSError
        return bytes(120) + struct.pack("=Q", self._end.delivered)
