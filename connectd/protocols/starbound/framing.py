"""What both sides have in common: frames out of a stream of bytes, and the compression around them.

Until acceptance a frame is parsed as its bytes arrive, and never kept whole: a ClientConnect has megabytes. After it,
frames are handed on by the dozen.
"""

from __future__ import annotations

import abc
from typing import Any, Final

import attrs

from connectd.protocols.starbound.encoding import Malformed, encode_signed_vlq
from connectd.protocols.starbound.fields import PIECE, Source
from connectd.protocols.starbound.frames import INFLATING, Boundary, Frame, Inflater, inflate, read_header
from connectd.protocols.starbound.generations import Generation
from connectd.protocols.starbound.packets import Packet, PacketReader
from connectd.protocols.starbound.zstd_stream import ENCODING, Decoder, Encoder
from connectd.sansio import Event, LocalProtocolError, Machine, Outcome, Received, RemoteProtocolError

HANDSHAKE_LIMIT: Final = 4096
"""Bytes of any packet before acceptance but ClientConnect, decompressed (SB-8)."""
COMPRESSION_MARGIN: Final = 128
"""Bytes by which zlib may lengthen what it cannot shorten, besides a thousandth."""

FRAMES_PER_TURN: Final = 1024
ZSTD_FRAMES_PER_TURN: Final = 128
ELEMENTS_PER_TURN: Final = 128
BYTES_PER_TURN: Final = 1 << 20
"""How much of what a peer has sent becomes events in one turn of the reactor; the rest waits for the next. A few
bytes can inflate to millions of packets."""

ZSTD_FRAMES_BEFORE_ACCEPTANCE: Final = 1024
"""Separate zstd frames before acceptance. One costs 20 us even where it has nothing in it, and 9 bytes to send."""

LONG: Final = 256 * 1024
"""Bytes of an accepted session's frame from which on it is kept in pieces. To copy it whole, again and again, would
stop everybody else for a second where it has 64 MiB."""


@attrs.define(eq=False)
class _Body:
    """A frame that is read as its bytes arrive."""

    number: int
    compressed: bool
    size: int
    """Bytes of its payload on the wire."""
    missing: int
    """How many of them have not come yet."""
    start: int
    """Where its payload begins in all that the peer sent, or where what it is compressed into does."""
    reader: PacketReader | None
    """Reads its packets; None: it is for the handler."""
    inflater: Inflater | None
    packet: Packet | None = None
    wire: list[bytes] = attrs.field(factory=list)
    pieces: list[bytes] = attrs.field(factory=list)

    @property
    def held(self) -> int:
        """Bytes of memory that it takes up."""
        held = sum(map(len, self.wire)) + sum(map(len, self.pieces))
        if self.reader is not None:
            held += len(self.reader.source.buffer) + self.reader.source.kept
        return held if self.inflater is None else held + INFLATING + PIECE


class FrameMachine(Machine):
    """One side of one connection.

    :param frame_limit: bytes of the largest frame of an accepted session, compressed or not (SB-22).
    """

    __slots__ = (
        "_body",
        "_boundary",
        "_decoder",
        "_encoder",
        "_frame_limit",
        "_plain",
        "_sealed",
        "_wanted",
        "_work",
        "generation",
    )

    held_limit = PIECE

    def __init__(self, *, now: float, handshake_timeout: float, frame_limit: int) -> None:
        super().__init__(now=now, handshake_timeout=handshake_timeout)
        self.generation: Generation | None = None
        self._frame_limit = frame_limit
        self._body: _Body | None = None
        self._boundary = Boundary()
        self._decoder: Decoder | None = None
        self._encoder: Encoder | None = None
        self._plain = bytearray()
        self._sealed = b""
        self._wanted = 0
        self._work = 0.0

    @property
    def held(self) -> int:
        """Bytes that this peer takes up: input, what is parsed of it, the state of zlib and zstd (SB-8)."""
        held = len(self._input) + len(self._plain)
        if self._body is not None:
            held += self._body.held
        if self._decoder is not None:
            held += self._decoder.held + ENCODING
        return held

    # What a subclass gives

    @abc.abstractmethod
    def _expected(self, number: int) -> tuple[type[Packet], int]:
        """Which packet a frame before acceptance has. The generation is known afterwards.

        :param number: the frame's id.
        :return: the class, and the bytes that it may have.
        :raises Malformed: where it is out of order.
        """

    @abc.abstractmethod
    def _packet(self, packet: Any, size: int, compressed: bool, now: float) -> list[Event]:
        """A packet before acceptance came whole.

        :param size: bytes of its frame's payload on the wire.
        :raises Malformed: where it says what it must not.
        """

    @abc.abstractmethod
    def _last(self, frame: Frame) -> list[Event]:
        """Whether a frame after acceptance ends the session."""

    def _source(self, kind: type[Packet], most: int) -> Source:
        """Where a packet's bytes come in."""
        return Source(most)

    def _handed_out(self) -> list[Event]:
        """What a packet that is not whole yet has for us."""
        return []

    # What goes out

    def send(self, message: Frame | bytes, now: float) -> None:
        """Send a frame, or bytes that are frames already.

        :param message: bytes may end, and the next ones begin, anywhere in a frame.
        :raises LocalProtocolError: before acceptance, and for what cannot be frames.
        """
        if not self.established or self.ended:
            raise LocalProtocolError("send: there is no accepted session")
        data = message if isinstance(message, bytes) else message.encode()
        try:
            self._boundary.pass_over(data)
        except Malformed as error:
            raise LocalProtocolError(f"send: these bytes are no frames ({error.reason})") from None
        self._output.append(data)

    def data_to_send(self) -> bytes:
        data = super().data_to_send()
        if self._encoder is None:
            return data
        if data:
            data = self._encoder.encode(data)
        if self._sealed:
            data, self._sealed = self._sealed + data, b""
        if self.ended:
            # Those were the last words.
            self._encoder.close()
            self._encoder = None
        return data

    def _compress(self) -> None:
        """From here on both directions are zstd (SB-21). What was said before stays as it is."""
        self._sealed = super().data_to_send()
        self._encoder = Encoder()
        self._decoder = Decoder()

    # What comes in

    def _advance(self, now: float) -> list[Event]:
        self._work = 0.0
        return super()._advance(now)

    def _step(self, now: float) -> list[Event] | None:
        try:
            decoder = self._decoder
            stream = self._input if decoder is None else self._plain
            events = self._read(stream, now) if stream or self._body is not None else None
            if events is None and decoder is not None and self._decode(decoder):
                events = []
        except Malformed as error:
            raise RemoteProtocolError(error.reason, self._offset(error.offset)) from None
        if self._work >= 1 and not self.ended:
            self.wants_turn = True
        return events

    def _offset(self, offset: int) -> int:
        """Where in all that the peer sent something lies. For what is compressed, that is where the stream began."""
        body, decoded = self._body, self._decoder is not None
        if body is None:
            return self._consumed + (0 if decoded else offset)
        return body.start + (0 if decoded or body.compressed else offset)

    def _decode(self, decoder: Decoder) -> bool:
        """Decompress another piece, if there is one."""
        before, frames = len(self._input), decoder.frames
        if not before and decoder.wants_input:
            return False
        piece = decoder.decode(self._input, PIECE)
        if not self.established and decoder.frames > ZSTD_FRAMES_BEFORE_ACCEPTANCE:
            raise Malformed(f"more than {ZSTD_FRAMES_BEFORE_ACCEPTANCE} zstd frames before login", 0)
        used = before - len(self._input)
        self._consumed += used
        self._plain += piece
        self._work += len(piece) / BYTES_PER_TURN + (decoder.frames - frames) / ZSTD_FRAMES_PER_TURN
        return bool(piece or used)

    def _take(self, stream: bytearray, count: int) -> bytes:
        """The next bytes, at most so many."""
        data = bytes(stream[:count])
        self._drop(stream, len(data))
        return data

    def _drop(self, stream: bytearray, count: int) -> None:
        """Go on behind bytes that are there."""
        del stream[:count]
        if stream is self._input:
            self._consumed += count

    def _read(self, stream: bytearray, now: float) -> list[Event] | None:
        """Read from what came, decompressed where it was: as many frames as are whole, or a piece of one."""
        if self._body is None:
            if self.established:
                events = self._frames(stream)
                if events is not None or self._body is None:
                    return events
            elif not self._begin(stream):
                return None
        assert self._body is not None
        return self._more(self._body, stream, now)

    # A frame as its bytes arrive

    def _begin(self, stream: bytearray) -> bool:
        """Read the header of a frame before acceptance."""
        if not stream:
            return False
        kind, most = self._expected(stream[0])
        assert self.generation is not None
        found = read_header(stream)
        if found is None:
            return False
        number, length, start = found
        size = abs(length)
        if size > (most if length >= 0 else most + most // 1000 + COMPRESSION_MARGIN):
            raise Malformed(f"a {kind.__name__} of {size} bytes, at most {most} are allowed", 1)
        self._drop(stream, start)
        source = self._source(kind, size if length >= 0 else most)
        reader = PacketReader(kind, self.generation.layouts[kind], source)
        self._body = _Body(
            number, length < 0, size, size, self._consumed, reader, Inflater(most) if length < 0 else None
        )
        return True

    def _more(self, body: _Body, stream: bytearray, now: float) -> list[Event] | None:
        """Take the next piece of the frame, or go on with the last."""
        if body.reader is not None and body.reader.source.pausing:
            return self._parse(body, body.reader, b"", body.reader.source.complete, now)
        inflater = body.inflater
        data = b""
        if inflater is None or inflater.wants_input:
            data = self._take(stream, min(PIECE, body.missing))
            if not data and body.missing:
                return None
            body.missing -= len(data)
            if body.reader is None and body.compressed:
                body.wire.append(data)
        complete = not body.missing
        if inflater is not None:
            data = inflater.inflate(data, PIECE)
            self._work += len(data) / BYTES_PER_TURN
            complete = complete and inflater.wants_input
            if complete:
                inflater.finish()
        if body.reader is None:
            body.pieces.append(data)
            return self._whole(body) if complete else []
        return self._parse(body, body.reader, data, complete, now)

    def _parse(self, body: _Body, reader: PacketReader, data: bytes, complete: bool, now: float) -> list[Event]:
        """Read what a packet's next bytes say, as much of it as may be read in a turn.

        :param complete: no more of them will come.
        """
        source = reader.source
        before = source.elements
        if body.packet is None:
            source.allowance = max(1, int((1 - self._work) * ELEMENTS_PER_TURN))
            body.packet = reader.feed(data, complete=complete)
        else:
            source.buffer += data
        self._work += (source.elements - before) / ELEMENTS_PER_TURN
        events = self._handed_out()
        if source.pausing:
            return events
        if body.packet is not None and source.buffer:
            raise Malformed(f"bytes follow the {type(body.packet).__name__} in its frame", source.position)
        if complete:
            events += self._packet(body.packet, body.size, body.compressed, now)
            self._body = None
        return events

    def _whole(self, body: _Body) -> list[Event]:
        """A frame for the handler, compressed or long, is whole."""
        self._body = None
        wire = None
        if body.compressed:
            wire = b"".join((bytes((body.number,)), encode_signed_vlq(-body.size), *body.wire))
        frame = Frame(body.number, b"".join(body.pieces), body.compressed, wire)
        events: list[Event] = [Received(frame)]
        return events if frame.id != self._last_number else events + self._last(frame)

    # Frames after acceptance

    @property
    def _last_number(self) -> int:
        """The id of the frames that may end the session, or -1."""
        return -1

    def _frames(self, stream: bytearray) -> list[Event] | None:
        """As many frames as are whole, up to a turn's worth.

        Of one that is not, either :attr:`_wanted` tells how much has to be there, or it has become :attr:`_body`.
        """
        if len(stream) < self._wanted:
            return None
        data = bytes(stream)
        events: list[Event] = []
        place = self._wanted = 0
        last = self._last_number
        try:
            while len(events) < FRAMES_PER_TURN and self._work < 1:
                found = read_header(data, place)
                if found is None:
                    break
                number, length, start = found
                if length >= 0:
                    end = start + length
                    if end > len(data):
                        self._check(length, place)
                        if length >= LONG:
                            self._drop(stream, start)
                            place = 0
                            self._body = _Body(number, False, length, length, self._consumed, None, None)
                        else:
                            self._wanted = end - place
                        break
                    frame = Frame(number, data[start:end])
                else:
                    end = start - length
                    payload = inflate(data[start:end], PIECE) if end <= len(data) else None
                    if payload is None:
                        self._check(-length, place)
                        self._drop(stream, start)
                        place = 0
                        inflater = Inflater(self._frame_limit)
                        self._body = _Body(number, True, -length, -length, self._consumed, None, inflater)
                        break
                    frame = Frame(number, payload, True, data[place:end])
                    self._work += len(payload) / BYTES_PER_TURN
                events.append(Received(frame))
                place = end
                if number == last:
                    events += self._last(frame)
                    break
        except Malformed:
            if not events:
                raise
        self._drop(stream, place)
        self._work += len(events) / FRAMES_PER_TURN
        return events or None

    def _check(self, size: int, place: int) -> None:
        """
        :raises Malformed: for a frame that is too large (SB-22).
        """
        if size > self._frame_limit:
            raise Malformed(f"a frame of {size} bytes, at most {self._frame_limit} are allowed", place + 1)

    # The end

    def _unfinished(self) -> bool:
        return bool(self._input or self._plain or self._body is not None)

    def _finish(self, outcome: Outcome, reason: str, offset: int | None = None) -> Any:
        self._body = None
        self._decoder = None
        self._plain = bytearray()
        return super()._finish(outcome, reason, offset)
