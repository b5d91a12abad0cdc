"""Every access to what aioquic does not make public. ``tests/net/test_quic_private.py`` pins each of them.

aioquic's public interface has no bounds on memory and no client certificates for servers:

- it raises MAX_STREAM_DATA and MAX_DATA by itself when half is used, whether or not anybody has read what came;
- it takes what is to be sent without bound and never says how much of it is on its way or has arrived;
- it keeps whatever a handshake sends: half a megabyte out of order, and a TLS message of any length in order;
- it lets a peer open 128 streams of each kind, and more after that;
- it asks for a client certificate only when a flag "for test purposes" is set, and holds 48 KiB of buffers for its
  handshake for as long as a connection lives.

:class:`BoundedConnection` mends these by overriding the private methods that do them. Nothing else in connectd touches
a name of aioquic's that begins with an underscore.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import attrs
from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    END_STATES,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    TRANSPORT_CLOSE_FRAME_CAPACITY,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketSpace
from aioquic.quic.stream import QuicStream
from cryptography.hazmat.primitives.serialization import Encoding

# aioquic reports what peers do wrong to Python's logging; without a handler that ends up on standard error.
logging.getLogger("quic").addHandler(logging.NullHandler())

MAX_CRYPTO: Final = 65_536
"""Bytes of handshake that a peer may send at each encryption level, for as long as the connection lives."""


MAX_BURST: Final = 65_536
"""Bytes that are sent at once at most, however much the peer and the path would take."""


@attrs.frozen
class Bounds:
    """What one connection may hold.

    :param receive_window: bytes that a peer may send on a stream before they are consumed.
    :param send_window: bytes of a stream that may be sent and not acknowledged.
    :param bidirectional_streams: how many the peer may open, over the whole life of the connection.
    :param unidirectional_streams: the same for the others.
    """

    receive_window: int
    send_window: int
    bidirectional_streams: int = 1
    unidirectional_streams: int = 0


class _BurstPacer(QuicPacketPacer):
    """Paces as aioquic does, but in bursts of up to 64 KiB instead of 16 datagrams: reactors wake once in a
    millisecond, and 16 datagrams in each would be all that ever gets through."""

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        super().update_rate(congestion_window, smoothed_rtt)
        rate = congestion_window / max(smoothed_rtt, 1e-6)
        self.bucket_max = max(self.bucket_max, min(congestion_window // 4, MAX_BURST) / rate)


class BoundedConnection(QuicConnection):
    """A QUIC connection of bounded memory.

    :param bounds: how much.
    :param ask_for_certificate: on a server, whether clients are asked to show a certificate. Whether they do is for the
        caller to check once the handshake is done.
    """

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        bounds: Bounds,
        ask_for_certificate: bool = False,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self.bounds = bounds
        self._ask_for_certificate = ask_for_certificate
        self.acknowledge_after(0.0)
        self._loss._pacer = _BurstPacer(max_datagram_size=configuration.max_datagram_size)
        self._local_max_stream_data_bidi_local = bounds.receive_window
        self._local_max_stream_data_bidi_remote = bounds.receive_window
        self._local_max_stream_data_uni = bounds.receive_window
        streams = bounds.bidirectional_streams + bounds.unidirectional_streams
        self._set_limit(self._local_max_data, bounds.receive_window * max(streams, 1))
        self._set_limit(self._local_max_streams_bidi, bounds.bidirectional_streams)
        self._set_limit(self._local_max_streams_uni, bounds.unidirectional_streams)

    @staticmethod
    def _set_limit(limit: Any, value: int) -> None:
        limit.value = limit.sent = value

    # What is known about the connection

    @property
    def ending(self) -> bool:
        """Whether it is closing, was closed by the peer, or is over: nothing is received or sent any more."""
        return self._state in END_STATES

    @property
    def closed_by_peer(self) -> bool:
        """Whether it was the peer that ended it."""
        return self._state is QuicConnectionState.DRAINING

    @property
    def started(self) -> bool:
        """Whether a packet of the peer could be read."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def closing(self) -> ConnectionTerminated | None:
        """Why it ends, if it does."""
        return self._close_event

    @property
    def address_validated(self) -> bool:
        """Whether the peer is known to receive what is sent to its address (RFC 9000, 8.1)."""
        return bool(self._network_paths) and bool(self._network_paths[0].is_validated)

    @property
    def connection_ids(self) -> list[bytes]:
        """The ids that the peer may address this connection by."""
        return [issued.cid for issued in self._host_cids]

    @property
    def chosen_id(self) -> bytes:
        """The id that the client addressed a server by before it knew one of ours."""
        return bytes(self._retry_source_connection_id or self._original_destination_connection_id)

    @property
    def version(self) -> int:
        """The version of QUIC that is spoken."""
        return self._version or 0

    @property
    def negotiated_alpn(self) -> str | None:
        """The application protocol, or None before it is known."""
        return self.tls.alpn_negotiated if hasattr(self, "tls") else None

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate that the peer has shown and proven to own, as DER."""
        certificate = self.tls._peer_certificate
        return None if certificate is None else bytes(certificate.public_bytes(Encoding.DER))

    def validate_address(self) -> None:
        """The peer's address is known to be its own, from a Retry's token: the limit of 3 times does not apply."""
        for path in self._network_paths:
            path.is_validated = True

    def acknowledge_after(self, delay: float) -> None:
        """Acknowledge what comes from now on after so long, in seconds. 0: with the next that is sent, which is at the
        end of the turn of the reactor in which it came."""
        # One that is due exactly now would wait for its turn in the pacing; an earlier one does not.
        self._ack_delay = delay or -1e-6

    # Streams

    def is_open(self, stream_id: int) -> bool:
        """Whether a stream exists."""
        return stream_id in self._streams

    def unsent(self, stream_id: int) -> int:
        """Bytes that were written to a stream and never sent."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender.highest_offset

    def unacknowledged(self, stream_id: int) -> int:
        """Bytes that were written to a stream and are held until the peer has acknowledged them."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender._buffer_start

    def acknowledged(self, stream_id: int) -> int:
        """Bytes of a stream that the peer has acknowledged without a gap."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.sender._buffer_start

    def let_send(self, stream_id: int, limit: int, least: int) -> bool:
        """Let the peer send a stream up to an offset.

        :param limit: bytes from the beginning of the stream. A smaller one than before is passed over.
        :param least: how many more bytes that must be to be worth telling.
        :return: whether there is something to tell the peer now.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.receiver.is_finished:
            return False
        more = limit - stream.max_stream_data_local
        if more < max(least, 1):
            return False
        stream.max_stream_data_local = limit
        self._local_max_data.value += more
        return True

    # Overridden

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        if self._ask_for_certificate:
            self.tls._request_client_certificate = True

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        if end > MAX_CRYPTO:
            raise QuicConnectionError(
                error_code=QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
                frame_type=frame_type,
                reason_phrase="the handshake is too long",
            )
        buf.seek(start)
        super()._handle_crypto_frame(context, frame_type, buf)
        if self._handshake_complete and self._crypto_buffers:
            # Nothing is said at any level any more, and these are 16 KiB each.
            self._crypto_buffers = {}

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        """MAX_DATA when something was consumed. MAX_STREAMS never: what a peer may open is fixed."""
        limit = self._local_max_data
        if limit.value != limit.sent:
            buf = builder.start_frame(
                limit.frame_type,
                capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
                handler=self._on_connection_limit_delivery,
                handler_args=(limit,),
            )
            buf.push_uint_var(limit.value)
            limit.sent = limit.value

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        """MAX_STREAM_DATA when something was consumed."""
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            buf = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buf.push_uint_var(stream.stream_id or 0)
            buf.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local

    def _write_stream_frame(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream, max_offset: int
    ) -> int:
        most = stream.sender._buffer_start + self.bounds.send_window
        written: int = super()._write_stream_frame(builder, space, stream, min(max_offset, most))
        return written


def encode_initial_close(version: int, source: bytes, destination: bytes, error: int) -> bytes:
    """The datagram that refuses a connection without keeping anything of it: CONNECTION_CLOSE in an Initial packet.

    :param source: the connection id that the client chose for us; its keys follow from it.
    :param destination: the client's own connection id.
    :param error: a :class:`~aioquic.quic.packet.QuicErrorCode`.
    """
    crypto = CryptoPair()
    crypto.setup_initial(cid=source, is_client=False, version=version)
    builder = QuicPacketBuilder(
        host_cid=source,
        is_client=False,
        max_datagram_size=SMALLEST_MAX_DATAGRAM_SIZE,
        peer_cid=destination,
        version=version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    buf = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=TRANSPORT_CLOSE_FRAME_CAPACITY)
    buf.push_uint_var(error)
    buf.push_uint_var(QuicFrameType.PADDING)
    buf.push_uint_var(0)
    datagrams, _ = builder.flush()
    return bytes(datagrams[0])


def alert_name(error: int) -> str | None:
    """The TLS alert that a QUIC error code stands for, in words, or None."""
    try:
        return tls.AlertDescription(error - QuicErrorCode.CRYPTO_ERROR).name.replace("_", " ")
    except ValueError:
        return None
