"""Frames: how packets go over the wire in every generation (SB-12).

A frame is its packets' id (u8), a signed VLQ length, and the payload. A negative length is that of a zlib stream.
"""

from __future__ import annotations

import zlib
from typing import Final

import attrs

from connectd.protocols.starbound.encoding import Malformed, encode_signed_vlq, read_signed_vlq

COMPRESSION_LEVEL: Final = 3

INFLATING: Final = 48 * 1024
"""Bytes that a zlib stream costs while it is inflated: its window, and what belongs to it."""


@attrs.frozen
class Frame:
    """One or several packets of one type, of an accepted session.

    :param id: the type, by its number in the session's generation.
    :param payload: the packets, not compressed.
    :param compressed: whether it came, or is to go, as a zlib stream.
    """

    id: int
    payload: bytes = attrs.field(repr=lambda payload: f"<{len(payload)} bytes>")
    compressed: bool = False
    _wire: bytes | None = attrs.field(default=None, repr=False, eq=False)

    def encode(self) -> bytes:
        """The frame on the wire; of a received compressed one, as it came."""
        if self._wire is not None:
            return self._wire
        return encode_frame(self.id, self.payload, compressed=self.compressed)


def encode_frame(number: int, payload: bytes, *, compressed: bool = False) -> bytes:
    """
    :param number: the id, 0 to 255.
    :param compressed: as a zlib stream.
    :raises ValueError: for an id that is none.
    """
    if not compressed:
        return bytes((number,)) + encode_signed_vlq(len(payload)) + payload
    stream = zlib.compress(payload, COMPRESSION_LEVEL)
    return bytes((number,)) + encode_signed_vlq(-len(stream)) + stream


def read_header(data: bytes | bytearray, offset: int = 0) -> tuple[int, int, int] | None:
    """Read what a frame begins with.

    :return: its id, its length (negative for a zlib stream), and the offset of what follows; None where it is cut off.
    :raises Malformed: for a length that is none.
    """
    if len(data) <= offset:
        return None
    found = read_signed_vlq(data, offset + 1)
    return None if found is None else (data[offset], *found)


class Inflater:
    """Inflates the zlib stream of one frame, in pieces, and never more than it may be.

    :param most: bytes that it may inflate to.
    """

    __slots__ = ("_decompressor", "_left", "_more", "_waiting")

    def __init__(self, most: int) -> None:
        self._decompressor = zlib.decompressobj()
        self._left = most
        self._waiting = b""
        self._more = False

    @property
    def wants_input(self) -> bool:
        """Whether nothing more comes out of what it was given."""
        return not self._more

    def inflate(self, data: bytes, most: int) -> bytes:
        """The next piece.

        :param data: the next bytes of the stream, or nothing while it does not want any.
        :param most: bytes of the piece.
        :raises Malformed: for what is no zlib stream or inflates to more than it may.
        """
        decompressor = self._decompressor
        try:
            piece = decompressor.decompress(self._waiting + data if self._waiting else data, most)
        except zlib.error as error:
            raise Malformed(f"not a zlib stream ({error})", 0) from None
        self._waiting = decompressor.unconsumed_tail
        # A full piece may have used all input up, and still not be all that comes of it.
        self._more = not decompressor.eof and (bool(self._waiting) or len(piece) == most)
        self._left -= len(piece)
        if self._left < 0:
            raise Malformed("a zlib stream that inflates to more than it may", 0)
        if decompressor.unused_data:
            raise Malformed("bytes follow a zlib stream inside of its frame", 0)
        return piece

    def finish(self) -> None:
        """The frame is over.

        :raises Malformed: where the stream is not.
        """
        if not self._decompressor.eof:
            raise Malformed("a zlib stream is cut off by the end of its frame", 0)


def inflate(stream: bytes, most: int) -> bytes | None:
    """The whole of a zlib stream at once, or None where that is more than ``most`` bytes.

    :raises Malformed: where it is none.
    """
    inflater = Inflater(most + 1)
    payload = inflater.inflate(stream, most + 1)
    if len(payload) > most:
        return None
    inflater.finish()
    return payload


class Boundary:
    """Tells whether what was sent so far ends with a whole frame, without keeping it."""

    __slots__ = ("_header", "_left")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    @property
    def reached(self) -> bool:
        """Whether the next byte begins a frame."""
        return not self._left and not self._header

    def pass_over(self, data: bytes) -> None:
        """Take the next bytes of the stream.

        :raises Malformed: where they have a length that is none; the stream is lost then.
        """
        if self._header:
            data, self._header = self._header + data, b""
        place, size = self._left, len(data)
        while place < size:
            found = read_header(data, place)
            if found is None:
                self._header, self._left = data[place:], 0
                return
            place = found[2] + abs(found[1])
        self._left = place - size
