"""A stream of a QUIC connection as a Twisted transport."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IConsumer, IHalfCloseableProtocol, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from connectd.net.connection import Connection

if TYPE_CHECKING:
    from connectd.net.quic.ending import Ending
    from connectd.net.quic.parameters import Handshake
    from connectd.net.quic.session import Session

FLUSH_TIMEOUT: Final = 1.0
"""Seconds that a stream which is to be closed waits for the peer to acknowledge what was written to it (AL-3)."""

DEFAULT_BUFFER: Final = 65_536


def udp_address(address: Any) -> IAddress:
    """Twisted's address object for what a UDP socket calls an address."""
    host, port = address[0], address[1]
    return IPv6Address("UDP", host, port) if ":" in host else IPv4Address("UDP", host, port)


@implementer(ITransport, IConsumer, IPushProducer)
class StreamTransport:
    """One bidirectional stream. Closing it closes its QUIC connection where the session says so.

    What was written and never sent counts as waiting: above ``bufferSize`` the producer is paused, and resumed when
    half of that is left. What was sent and not acknowledged is bounded by the session's send window. While reading is
    paused, what comes is held here and the peer is not let send more than the receive window.

    :ivar protocol: who is told what comes.
    :ivar bufferSize: bytes.
    """

    __slots__ = (
        "_consumed",
        "_ended",
        "_held",
        "_held_end",
        "_producer",
        "_producer_paused",
        "_reading",
        "_window",
        "bufferSize",
        "closing_at",
        "disconnecting",
        "id",
        "protocol",
        "session",
    )

    def __init__(self, session: Session, stream_id: int, window: int) -> None:
        self.session = session
        self.id = stream_id
        self.protocol: Any = None
        self.bufferSize = DEFAULT_BUFFER
        self.disconnecting = False
        self.closing_at: float | None = None
        self._window = window
        self._consumed = 0
        self._held: list[bytes] | None = None
        self._held_end = False
        self._ended = False
        self._reading = True
        self._producer: Any = None
        self._producer_paused = False

    # ITransport

    def write(self, data: bytes) -> None:
        """Send; but not once the stream is to be closed, nor before the peer has opened what is its to open."""
        session = self.session
        if not data or self.disconnecting or session.over or not session.may_write(self.id):
            return
        session.quic.send_stream_data(self.id, data)
        session.touch()
        if self._producer is not None and session.quic.unsent(self.id) > self.bufferSize:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once the peer has acknowledged everything, or after :data:`FLUSH_TIMEOUT`."""
        if not self.disconnecting and not self.session.over:
            self.disconnecting = True
            self.closing_at = self.session.endpoint.clock.seconds() + FLUSH_TIMEOUT
            self._held = None
            self.session.touch()

    def abortConnection(self) -> None:
        """Close at once; what was not sent is lost."""
        if not self.session.over:
            self.disconnecting = True
            self._held = None
            self.session.close()

    def getPeer(self) -> IAddress:
        return udp_address(self.session.address)

    def getHost(self) -> IAddress:
        return udp_address(self.session.endpoint.local_address)

    @property
    def handshake(self) -> Handshake | None:
        """What the QUIC handshake has established."""
        return self.session.handshake

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if not streaming:
            raise ValueError("a QUIC stream takes push producers only")
        if self._producer is not None:
            raise RuntimeError("another producer is registered")
        if self.session.over:
            producer.stopProducing()
        else:
            self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None
        self._producer_paused = False

    # IPushProducer

    def pauseProducing(self) -> None:
        """Take nothing for now. What is on its way is held: at most the receive window."""
        self._reading = False

    def resumeProducing(self) -> None:
        if not self._reading:
            self._reading = True
            if not self.session.over:
                self.session.touch()

    def stopProducing(self) -> None:
        self.loseConnection()

    def set_receive_window(self, window: int) -> None:
        """What the peer may send before it is read, from now on.

        :param window: bytes. A smaller one than before takes back nothing that was allowed.
        """
        self._window = window
        self._let_send()

    def progress(self) -> object:
        """Changes while the peer takes what is sent to it (COM-6)."""
        return self.session.quic.acknowledged(self.id)

    # What the session does

    def received(self, data: bytes, finished: bool) -> None:
        """Bytes came, in their order.

        :param finished: whether they are the last.
        """
        if self.disconnecting or self._ended:
            self._consumed += len(data)
            self._let_send()
            return
        if self._reading and self._held is None:
            self._deliver(data, finished)
            return
        if self._held is None:
            self._held = []
        if data:
            self._held.append(data)
        self._held_end = self._held_end or finished

    def turn(self) -> None:
        """Hand over what was held, where reading goes on."""
        if self._reading and self._held is not None:
            held, self._held = self._held, None
            self._deliver(b"".join(held), self._held_end)

    def _deliver(self, data: bytes, finished: bool) -> None:
        if data:
            self._consumed += len(data)
            self.protocol.dataReceived(data)
            self._let_send()
        if finished and not self.session.over:
            self._ended = True
            if not self.disconnecting:
                half_closeable = IHalfCloseableProtocol(self.protocol, None)
                if half_closeable is not None:
                    half_closeable.readConnectionLost()
                else:
                    self.loseConnection()

    def _let_send(self) -> None:
        if not self.session.over and self.session.quic.let_send(
            self.id, self._consumed + self._window, self._window // 2
        ):
            self.session.touch()

    def after_sending(self, now: float) -> None:
        """Datagrams went out: see whether the producer can go on, or the end has come."""
        if self.disconnecting:
            if self.closing_at is not None and (
                now >= self.closing_at or not self.session.quic.unacknowledged(self.id)
            ):
                self.closing_at = None
                self.session.close()
        elif self._producer_paused and self.session.quic.unsent(self.id) <= self.bufferSize // 2:
            self._producer_paused = False
            self._producer.resumeProducing()

    def lost(self, ending: Ending) -> None:
        """The QUIC connection is over. A :class:`~connectd.net.connection.Connection` is told how, for its outcome."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self._held = None
        protocol, self.protocol = self.protocol, None
        if isinstance(protocol, Connection) and not ending.clean:
            protocol.close(ending.outcome(protocol.machine.established), f"QUIC: {ending.reason}")
        if protocol is not None:
            protocol.connectionLost(Failure(ending.exception))
