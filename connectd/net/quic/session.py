"""One QUIC connection: datagrams and timers in, datagrams, streams and its end out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode
from twisted.logger import Logger

from connectd.net.quic.ending import PADDING, Ending, describe
from connectd.net.quic.stream import StreamTransport
from connectd.net.quic.timers import Place
from connectd.net.quic_private import BoundedConnection

if TYPE_CHECKING:
    from connectd.net.quic.endpoint import Endpoint
    from connectd.net.quic.parameters import Handshake

log = Logger()

GRAIN: Final = 1e-6
"""Seconds that are no time at all."""

ACKNOWLEDGE_DELAY: Final = 0.001
"""Seconds for which the acknowledgement of one of many datagrams waits for the others."""


class Owner(Protocol):
    """Who is told what becomes of a session."""

    def handshake_completed(self, session: Session, alpn: str | None) -> None:
        """TLS is done."""

    def session_ended(self, session: Session, ending: Ending) -> None:
        """Nothing is sent or received any more. Its streams are told after this."""

    def session_moved(self, session: Session) -> None:
        """The peer has another address now."""


class Session:
    """One QUIC connection.

    :param endpoint: the socket it uses.
    :param quic: the connection itself.
    :param address: the peer's, as the socket has it.
    :ivar owner: who is told what becomes of it.
    :ivar over: whether it has ended. aioquic's connection lives on for a moment to answer what is still on its way,
        until the session is ``gone``.
    :ivar goodbye: the datagrams that ended it.
    :ivar handshake: what was established, once the owner has found it good.
    """

    __slots__ = (
        "_late",
        "_received",
        "_streams",
        "address",
        "dirty",
        "endpoint",
        "gone",
        "goodbye",
        "handshake",
        "over",
        "owner",
        "quic",
        "timer",
        "validated",
    )

    owner: Owner

    def __init__(self, endpoint: Endpoint, quic: BoundedConnection, address: Any) -> None:
        self.endpoint = endpoint
        self.quic = quic
        self.address = address
        self.over = False
        self.gone = False
        self.dirty = False
        self.validated = False
        self.handshake: Handshake | None = None
        self.timer: Place | None = None
        self._streams: dict[int, StreamTransport] = {}
        self.goodbye: list[tuple[bytes, Any]] = []
        self._late = 0
        self._received = 0

    # Streams

    def stream(self, stream_id: int, window: int) -> StreamTransport:
        """Make the transport of a stream, before anything is received on it."""
        stream = self._streams[stream_id] = StreamTransport(self, stream_id, window)
        return stream

    @property
    def streams(self) -> tuple[StreamTransport, ...]:
        """Those that are there."""
        return tuple(self._streams.values())

    def may_write(self, stream_id: int) -> bool:
        """Whether a stream exists, or is ours to open."""
        return self.quic.is_open(stream_id) or stream_id == self.quic.get_next_available_stream_id()

    # What drives it

    def touch(self) -> None:
        """Have what there is to be sent sent, at the end of this turn of the reactor."""
        self.endpoint.touch(self)

    def receive(self, datagram: bytes, address: Any, now: float) -> None:
        """A datagram came. Nothing in it makes this raise."""
        if self.over:
            self._repeat_goodbye()
            return
        self._received += 1
        try:
            self.quic.receive_datagram(datagram, address, now)
        except Exception as error:
            # aioquic lets a few mistakes of peers out as whatever Python made of them.
            self.close(QuicErrorCode.PROTOCOL_VIOLATION, f"{type(error).__name__} in a packet", transport=True)
        self.endpoint.touch(self)

    def timer_due(self, now: float) -> float | None:
        """Loss, silence, pacing, or a flush that took too long (:class:`~connectd.net.quic.timers.Timed`)."""
        wanted = self._next_time()
        if wanted is None or wanted > now:
            return wanted
        when = self.quic.get_timer()
        if when is not None and when <= now:
            # Sums of floats: what is due exactly now would not be, and come back at once.
            self.quic.handle_timer(now + GRAIN)
        self.endpoint.touch(self)
        return None

    def turn(self, now: float) -> None:
        """Deal with what came, and send what there is."""
        quic = self.quic
        if self.gone:
            return
        if not self.over:
            for stream in self.streams:
                stream.turn()
        self._take_events()
        datagrams = quic.datagrams_to_send(now)
        if datagrams:
            self.endpoint.send(datagrams)
            self._take_events()
        if quic.ending and not self.over:
            self.goodbye = datagrams
            closing = quic.closing
            assert closing is not None
            self._end(describe(closing, quic.closed_by_peer))
        if self.over:
            if quic.get_timer() is None:
                self.endpoint.forget(self)
                return
        else:
            address = quic.get_peer_address()
            if address != self.address and quic.address_validated:
                self.address = address
                self.owner.session_moved(self)
            for stream in self.streams:
                stream.after_sending(now)
            # Of a stream of datagrams, one in a millisecond is acknowledged; of one that comes alone, that one.
            quic.acknowledge_after(ACKNOWLEDGE_DELAY if self._received > 1 else 0.0)
            self._received = 0
        self.endpoint.timers.schedule(self, self._next_time())

    def close(self, error: int = 0, reason: str = "", *, transport: bool = False) -> None:
        """End it: CONNECTION_CLOSE goes out at the end of this turn, and nothing else any more.

        :param error: the error code.
        :param reason: for the peer.
        :param transport: whether it is an error of QUIC, instead of the application's.
        """
        self.quic.close(error_code=error, frame_type=PADDING if transport else None, reason_phrase=reason)
        self.endpoint.touch(self)

    def drop(self) -> None:
        """End it without a word, at once."""
        self.over = True
        self.endpoint.forget(self)

    def fail(self) -> None:
        """A mistake of ours, such as an exception of a protocol: it ends this connection and nothing else."""
        try:
            if not self.over:
                self._end(Ending(False, False, False, QuicErrorCode.INTERNAL_ERROR, "Internal error"))
        finally:
            self.over = True
            self.endpoint.forget(self)

    # Inside

    def _next_time(self) -> float | None:
        when = self.quic.get_timer()
        if not self.over:
            for stream in self._streams.values():
                if stream.closing_at is not None and (when is None or stream.closing_at < when):
                    when = stream.closing_at
        return when

    def _take_events(self) -> None:
        """Act on what aioquic has to say. Bytes that came in several datagrams are handed over as one piece."""
        quic, endpoint = self.quic, self.endpoint
        pieces: list[bytes] = []
        event = quic.next_event()
        while event is not None:
            following = quic.next_event()
            if isinstance(event, events.StreamDataReceived):
                stream = self._streams.get(event.stream_id)
                pieces.append(event.data)
                if (
                    isinstance(following, events.StreamDataReceived)
                    and following.stream_id == event.stream_id
                    and not event.end_stream
                ):
                    event = following
                    continue
                if stream is not None and not self.over:
                    stream.received(pieces[0] if len(pieces) == 1 else b"".join(pieces), event.end_stream)
                pieces.clear()
            elif isinstance(event, events.HandshakeCompleted):
                if not self.over:
                    self.owner.handshake_completed(self, event.alpn_protocol)
            elif isinstance(event, events.ConnectionIdIssued):
                endpoint.routes[event.connection_id] = self
            elif isinstance(event, events.ConnectionIdRetired):
                endpoint.routes.pop(event.connection_id, None)
            elif isinstance(event, events.StreamReset | events.StopSendingReceived) and not self.over:
                # A stream is whole or not at all here.
                self.close(QuicErrorCode.STREAM_STATE_ERROR, "the stream was reset", transport=True)
            event = following

    def _end(self, ending: Ending) -> None:
        self.over = True
        streams, self._streams = self._streams, {}
        self.owner.session_ended(self, ending)
        self.endpoint.session_ended(self, partial(self._tell, streams, ending))

    @staticmethod
    def _tell(streams: dict[int, StreamTransport], ending: Ending) -> None:
        for stream in streams.values():
            stream.lost(ending)

    def _repeat_goodbye(self) -> None:
        """The peer has not heard that this is over: say so again, ever more seldom (RFC 9000, 10.2.1)."""
        self._late += 1
        if self.goodbye and not self._late & (self._late - 1):
            self.endpoint.send(self.goodbye)
