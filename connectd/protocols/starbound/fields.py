"""The kinds of field that packets are made of: how each is written, and how it is read as its bytes arrive (SB-12).

A packet's layout is a row of these (:mod:`connectd.protocols.starbound.packets`). Reading is a generator that stops
where bytes are missing, so that a packet of megabytes is neither kept whole nor parsed twice.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Generator
from typing import Any, Final

import attrs

from connectd.protocols.starbound.encoding import (
    Malformed,
    bytes_string,
    encode_bytes,
    encode_vlq,
    read_vlq,
    string_bytes,
)
from connectd.protocols.starbound.variant import EncodedVariant, VariantScanner

UUID_SIZE: Final = 16
MAXIMUM_STRINGS: Final = 4096
"""Strings in one list, such as what a ship can do."""
MAXIMUM_WORLD_CHUNKS: Final = 65_536
"""World chunks in one ClientConnect."""
PIECE: Final = 16_384
"""Bytes of a payload that are parsed at a time; also the largest piece in which a shipworld is handed out."""

_U32 = struct.Struct(">I")
_I32 = struct.Struct(">i")
_F32 = struct.Struct(">f")


class Source:
    """A payload on its way: what has come and is not consumed yet.

    :param most: bytes that the payload has, or where that is unknown (it is compressed), may have.
    :param sink: takes the shipworld in pieces instead of its being kept; None drops it.
    :param keep: keep the shipworld as a part of the packet.
    :param most_kept: bytes of the packet that may be kept; all of it unless given.
    :param longest: bytes of any one string or byte array that is kept; as many as can be unless given.
    """

    __slots__ = (
        "allowance",
        "buffer",
        "complete",
        "elements",
        "keep",
        "kept",
        "longest",
        "most",
        "most_kept",
        "pausing",
        "position",
        "sink",
    )

    def __init__(
        self,
        most: int,
        *,
        sink: Callable[[bytes], None] | None = None,
        keep: bool = True,
        most_kept: int | None = None,
        longest: int | None = None,
    ) -> None:
        self.buffer = bytearray()
        self.most = most
        self.most_kept = most if most_kept is None else most_kept
        self.longest = most if longest is None else longest
        self.sink = sink
        self.keep = keep
        self.position = 0
        """Bytes consumed so far: the offset in the payload at which the buffer begins."""
        self.kept = 0
        """Of these, how many are kept as parts of the packet."""
        self.elements = 0
        """How many things were read, for whoever has to be done in time."""
        self.allowance = sys.maxsize
        """How many more may be read before the reader pauses; whoever reads in turns sets it anew for each."""
        self.pausing = False
        """The reader stopped because of that, and not because bytes are missing."""
        self.complete = False
        """No more bytes will come."""

    @property
    def left(self) -> int:
        """Bytes that can still be consumed."""
        return self.most - self.position

    @property
    def room(self) -> int:
        """Bytes that can still be kept."""
        return min(self.left, self.most_kept - self.kept)

    def promised(self, count: int) -> int:
        """So many bytes are to come.

        :raises Malformed: where there cannot be so many.
        """
        if count > self.left:
            raise Malformed(f"{count} bytes are promised, {self.left} can follow", self.position)
        return count

    def drop(self, count: int) -> None:
        """Go on without keeping them."""
        self.position += count
        del self.buffer[:count]

    def spend(self, count: int) -> bool:
        """Note that so many things were read.

        :return: whether to pause: then the reader stops here, once, though it has bytes.
        """
        self.elements += count
        self.allowance -= count
        self.pausing = self.allowance <= 0
        return self.pausing

    def take(self, count: int) -> bytes:
        """That many bytes, which are there."""
        data = bytes(self.buffer[:count])
        self.kept += count
        self.drop(count)
        return data

    def pass_on(self, count: int) -> None:
        """Hand bytes of the shipworld to whoever wants it."""
        if self.sink is not None and count:
            self.sink(bytes(self.buffer[:count]))
        self.drop(count)


Reading = Generator[None, None, Any]
"""Reads one field: stops where bytes are missing, or to pause, and has its value as result."""


@attrs.frozen(eq=False)
class Kind:
    """One kind of field.

    :param name: the word for it in tables.
    :param encode: value to bytes; raises ``ValueError`` for one that it cannot have.
    :param read: reads one from a source.
    """

    name: str
    encode: Callable[[Any], bytes]
    read: Callable[[Source], Reading]


def _exactly(count: int, unpack: Callable[[bytes], Any]) -> Callable[[Source], Reading]:
    def read(source: Source) -> Reading:
        source.promised(count)
        while len(source.buffer) < count:
            yield
        return unpack(source.take(count))

    return read


def _read_vlq(source: Source) -> Generator[None, None, int]:
    while True:
        found = _relative(source, read_vlq, source.buffer, 0)
        if found is not None:
            source.drop(found[1])
            return int(found[0])
        yield


def _relative(source: Source, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call what counts its offsets from the beginning of the buffer."""
    try:
        return call(*arguments)
    except Malformed as error:
        raise Malformed(error.reason, source.position + error.offset) from None


def _read_bytes(source: Source) -> Generator[None, None, bytes]:
    count = source.promised((yield from _read_vlq(source)))
    most = min(source.room, source.longest)
    if count > most:
        raise Malformed(f"{count} bytes to be kept, {most} may be", source.position)
    while len(source.buffer) < count:
        yield
    return source.take(count)


def _read_string(source: Source) -> Reading:
    return bytes_string((yield from _read_bytes(source)))


def _read_optional_uuid(source: Source) -> Reading:
    if (yield from BOOL.read(source)):
        return (yield from UUID.read(source))
    return None


def _read_variant(source: Source) -> Reading:
    scanner = VariantScanner()
    done = False
    while not done:
        before = scanner.nodes
        done = _relative(source, scanner.scan, source.buffer, source.room, source.allowance)
        if source.spend(scanner.nodes - before) or not done:
            yield
    return EncodedVariant(source.take(scanner.offset))


def _read_optional_variant(source: Source) -> Reading:
    while not source.buffer:
        if source.complete:
            return None
        yield
    return (yield from _read_variant(source))


def _read_strings(source: Source) -> Reading:
    count = yield from _read_vlq(source)
    if count > min(MAXIMUM_STRINGS, source.left):
        raise Malformed(f"{count} strings are promised", source.position)
    strings = []
    for _ in range(count):
        strings.append((yield from _read_string(source)))
        if source.spend(1):
            yield
    return tuple(strings)


def _read_celestial(source: Source) -> Reading:
    """What comes last in enraged-koala's ConnectionResponse: nothing, or a bool and, where it is true, the rest."""
    while not source.buffer:
        if source.complete:
            return None
        yield
    if not source.take(1)[0]:
        return b""
    while not source.complete:
        yield
    if not source.buffer:
        raise Malformed("celestial information is announced and does not follow", source.position)
    return source.take(len(source.buffer))


def _read_shipworld(source: Source) -> Reading:
    count = source.promised((yield from _read_vlq(source)))
    if source.keep:
        while len(source.buffer) < count:
            yield
        return source.take(count)
    yield from _pass(source, count)
    return b""


def _pass(source: Source, missing: int) -> Reading:
    """Hand out so many bytes as they come."""
    while missing:
        if not source.buffer:
            yield
        passed = min(missing, len(source.buffer))
        source.pass_on(passed)
        missing -= passed


def _read_world_chunks(source: Source) -> Reading:
    """Kept as (key, value or None) each; otherwise handed out as they came, with their number before them."""
    while (found := _relative(source, read_vlq, source.buffer, 0)) is None:
        yield
    count, place = found
    if count > min(MAXIMUM_WORLD_CHUNKS, (source.left - place) // 2):
        raise Malformed(f"{count} world chunks are promised", source.position)
    if source.keep:
        source.take(place)
        return (yield from _keep_world_chunks(source, count))
    for _ in range(count):
        end = _relative(source, _measure_world_chunk, source.buffer, place)
        if end is not None and end <= len(source.buffer):
            place = end
        else:
            source.pass_on(place)
            place = 0
            yield from _pass_world_chunk(source)
        if source.spend(1):
            yield
    source.pass_on(place)
    return ()


def _measure_world_chunk(data: bytearray, place: int) -> int | None:
    """Where the world chunk ends that begins there, or None until its lengths are known."""
    found = read_vlq(data, place)
    if found is None:
        return None
    place = found[1] + found[0]
    if place >= len(data):
        return None
    if not data[place]:
        return place + 1
    found = read_vlq(data, place + 1)
    return None if found is None else found[1] + found[0]


def _pass_world_chunk(source: Source) -> Reading:
    """Hand a world chunk out that is not whole, as far as it has come."""
    yield from _pass_bytes(source)
    while not source.buffer:
        yield
    present = source.buffer[0]
    source.pass_on(1)
    if present:
        yield from _pass_bytes(source)


def _pass_bytes(source: Source) -> Reading:
    while (found := _relative(source, read_vlq, source.buffer, 0)) is None:
        yield
    yield from _pass(source, source.promised(found[0]) + found[1])


def _keep_world_chunks(source: Source, count: int) -> Reading:
    chunks = []
    for _ in range(count):
        key = yield from _read_bytes(source)
        present = yield from BOOL.read(source)
        chunks.append((key, (yield from _read_bytes(source)) if present else None))
    return tuple(chunks)


def _encode_world_chunks(chunks: tuple[tuple[bytes, bytes | None], ...]) -> bytes:
    parts = [encode_vlq(len(chunks))]
    for key, value in chunks:
        parts.append(encode_bytes(key))
        parts.append(b"\x00" if value is None else b"\x01" + encode_bytes(value))
    return b"".join(parts)


def _encode_uuid(value: bytes) -> bytes:
    if len(value) != UUID_SIZE:
        raise ValueError(f"a UUID has {UUID_SIZE} bytes, not {len(value)}")
    return value


def _packed(form: struct.Struct) -> Callable[[Any], bytes]:
    def pack(value: Any) -> bytes:
        try:
            return form.pack(value)
        except (struct.error, OverflowError) as error:
            raise ValueError(f"{value!r} does not fit: {error}") from None

    return pack


U8: Final = Kind("u8", _packed(struct.Struct(">B")), _exactly(1, lambda data: data[0]))
U32: Final = Kind("u32", _packed(_U32), _exactly(4, lambda data: _U32.unpack(data)[0]))
I32: Final = Kind("i32", _packed(_I32), _exactly(4, lambda data: _I32.unpack(data)[0]))
F32: Final = Kind("f32", _packed(_F32), _exactly(4, lambda data: _F32.unpack(data)[0]))
BOOL: Final = Kind("bool", lambda value: b"\x01" if value else b"\x00", _exactly(1, lambda data: data[0] != 0))
UUID: Final = Kind("uuid", _encode_uuid, _exactly(UUID_SIZE, bytes))
OPTIONAL_UUID: Final = Kind(
    "bool, [uuid]",
    lambda value: b"\x00" if value is None else b"\x01" + _encode_uuid(value),
    _read_optional_uuid,
)
VLQ: Final = Kind("VLQ", encode_vlq, _read_vlq)
BYTES: Final = Kind("bytes", encode_bytes, _read_bytes)
STRING: Final = Kind("string", lambda value: encode_bytes(string_bytes(value)), _read_string)
STRINGS: Final = Kind(
    "VLQ n times string",
    lambda values: encode_vlq(len(values)) + b"".join(encode_bytes(string_bytes(value)) for value in values),
    _read_strings,
)
VARIANT: Final = Kind("Variant", lambda value: value.data, _read_variant)
OPTIONAL_VARIANT: Final = Kind("[Variant]", lambda value: b"" if value is None else value.data, _read_optional_variant)
CELESTIAL: Final = Kind(
    "[bool, [celestial information]]",
    lambda value: b"" if value is None else b"\x01" + value if value else b"\x00",
    _read_celestial,
)
SHIPWORLD: Final = Kind("bytes", encode_bytes, _read_shipworld)
WORLD_CHUNKS: Final = Kind("VLQ n times (bytes, bool, [bytes])", _encode_world_chunks, _read_world_chunks)
