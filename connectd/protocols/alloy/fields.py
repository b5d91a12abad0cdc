"""How single values look inside Alloy's packets: the fixed ones and the ones of variable length (AL-17).

All integers are little-endian. Each kind of field is one object that encodes and decodes a value, and that knows the
most bytes its value can take, so that a packet's maximum is the sum of its table.
"""

from __future__ import annotations

import abc
import struct
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import attrs

HASH_SIZE: Final = 64
"""Characters of a content hash: SHA-256 in hex."""
MAXIMUM_ASSET_NAME: Final = 512
MAXIMUM_HOST: Final = 256
VARINT_SIZE: Final = 5
"""Bytes of the longest VarInt."""
MAXIMUM_VARINT: Final = 0x7FFF_FFFF

_PORT = struct.Struct("<H")
_INSTANT = struct.Struct("<qi")


class Malformed(ValueError):
    """Bytes that are no packet.

    :param reason: what is wrong.
    :param offset: where, from the first byte of the payload.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


@attrs.frozen
class Instant:
    """A moment: i64 seconds of Unix time, i32 nanoseconds."""

    seconds: int
    nanoseconds: int

    @classmethod
    def at(cls, now: float) -> Instant:
        """That of a float of Unix seconds."""
        seconds = int(now // 1)
        return cls(seconds, int((now - seconds) * 1_000_000_000))


@attrs.frozen
class HostAddress:
    """Where to connect to: port as 16 bits, host as a string of at most 256 characters.

    The page calls the port an i16; ports from 32,768 on are the negative ones, and are read as what they mean.
    """

    host: str
    port: int


@attrs.frozen
class Asset:
    """A file that a world needs.

    :param hash: SHA-256 of its content, 64 hex digits.
    :param name: for people; at most 512 characters.
    """

    hash: str
    name: str


# Fixed fields


class FixedField(abc.ABC):
    """A value that always takes the same bytes.

    :param format: its struct code, without the byte order.
    """

    __slots__ = ("format",)

    def __init__(self, format: str) -> None:
        self.format = format

    @abc.abstractmethod
    def pack(self, value: Any) -> Any:
        """The value as struct takes it; None is what an absent value's zeros are.

        :raises ValueError: where it does not fit.
        """

    @abc.abstractmethod
    def unpack(self, raw: Any) -> Any:
        """The value of what struct gave.

        :raises ValueError: where there is none.
        """


class Integer(FixedField):
    """An integer of the struct code ``format``."""

    __slots__ = ("_maximum", "_minimum")

    def __init__(self, format: str) -> None:
        super().__init__(format)
        bits = 8 * struct.calcsize("<" + format)
        self._minimum, self._maximum = (
            (0, (1 << bits) - 1) if format.isupper() else (-(1 << bits - 1), (1 << bits - 1) - 1)
        )

    def pack(self, value: int) -> int:
        if not self._minimum <= value <= self._maximum:
            raise ValueError(f"{value} is out of range: {self._minimum} to {self._maximum}")
        return value

    def unpack(self, raw: int) -> int:
        return raw


class FixedASCII(FixedField):
    """ASCII, padded with NUL to ``size`` bytes."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        super().__init__(f"{size}s")
        self.size = size

    def pack(self, value: str) -> bytes:
        data = value.encode("ascii")
        if len(data) > self.size or b"\0" in data:
            raise ValueError(f"a text of {len(data)} bytes, at most {self.size} fit, none of them NUL")
        return data

    def unpack(self, raw: bytes) -> str:
        text = raw.rstrip(b"\0")
        if not text.isascii() or b"\0" in text:
            raise ValueError("a text that is not ASCII, or goes on behind a NUL")
        return text.decode("ascii")


class FixedUUID(FixedField):
    """A UUID, 16 bytes in the order of RFC 4122."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("16s")

    def pack(self, value: UUID) -> bytes:
        return value.bytes

    def unpack(self, raw: bytes) -> UUID:
        return UUID(bytes=raw)


class FixedInstant(FixedField):
    """An :class:`Instant`, 12 bytes; zeros where it is absent."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(f"{_INSTANT.size}s")

    def pack(self, value: Instant | None) -> bytes:
        if value is None:
            return bytes(_INSTANT.size)
        try:
            return _INSTANT.pack(value.seconds, value.nanoseconds)
        except struct.error as error:
            raise ValueError(f"{value}: {error}") from None

    def unpack(self, raw: bytes) -> Instant:
        return Instant(*_INSTANT.unpack(raw))


U8 = Integer("B")
I16 = Integer("h")
I32 = Integer("i")
UUID_FIELD = FixedUUID()
INSTANT = FixedInstant()


# Fields of variable length


def encode_varint(value: int) -> bytes:
    """LEB128, 1 to 5 bytes.

    :raises ValueError: below 0 and above 2,147,483,647.
    """
    if not 0 <= value <= MAXIMUM_VARINT:
        raise ValueError(f"{value} is out of range: 0 to {MAXIMUM_VARINT}")
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def decode_varint(data: bytes, offset: int, what: str = "length") -> tuple[int, int]:
    """The VarInt at an offset, and the offset behind it.

    :param what: what it counts, for the error.
    :raises Malformed: where it does not end within 5 bytes or within the data, or is negative as an i32.
    """
    value = shift = 0
    for index in range(offset, min(offset + VARINT_SIZE, len(data))):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > MAXIMUM_VARINT:
                raise Malformed(f"a negative {what}", offset)
            return value, index + 1
        shift += 7
    if offset + VARINT_SIZE <= len(data):
        raise Malformed(f"a {what} without an end", offset)
    raise Malformed(f"the packet ends inside a {what}", len(data))


def _span(data: bytes, offset: int, maximum: int) -> tuple[int, int]:
    """Where the bytes behind a length begin and end.

    :raises Malformed: where there are more than ``maximum``, or not as many as promised.
    """
    length, start = decode_varint(data, offset)
    if length > maximum:
        raise Malformed(f"{length} bytes, at most {maximum} are allowed", offset)
    if length > len(data) - start:
        raise Malformed(f"{length} bytes are promised, {len(data) - start} are left", offset)
    return start, start + length


class VariableField(abc.ABC):
    """A value of variable length.

    :param maximum: the most bytes that it takes, its own length included.
    """

    __slots__ = ("maximum",)

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum

    @abc.abstractmethod
    def encode(self, value: Any) -> bytes:
        """The value's bytes.

        :raises ValueError: where it is too long.
        """

    @abc.abstractmethod
    def decode(self, data: bytes, offset: int) -> tuple[Any, int]:
        """The value at an offset, and the offset behind it.

        :raises Malformed: where there is none.
        """


class String(VariableField):
    """VarInt byte length and UTF-8, at most ``characters`` characters."""

    __slots__ = ("_characters", "_octets")

    def __init__(self, characters: int, octets: int | None = None) -> None:
        self._characters = characters
        self._octets = 4 * characters if octets is None else octets
        super().__init__(VARINT_SIZE + self._octets)

    def encode(self, value: str) -> bytes:
        data = value.encode()
        if len(value) > self._characters:
            raise ValueError(f"a text of {len(value)} characters, at most {self._characters} fit")
        return encode_varint(len(data)) + data

    def decode(self, data: bytes, offset: int) -> tuple[str, int]:
        start, end = _span(data, offset, self._octets)
        try:
            text = data[start:end].decode()
        except UnicodeDecodeError as error:
            raise Malformed("a text that is not UTF-8", start + error.start) from None
        if len(text) > self._characters:
            raise Malformed(f"{len(text)} characters, at most {self._characters} are allowed", offset)
        return text, end


class ASCII(String):
    """VarInt length and ASCII, at most ``characters`` of it."""

    __slots__ = ()

    def __init__(self, characters: int) -> None:
        super().__init__(characters, characters)

    def encode(self, value: str) -> bytes:
        if not value.isascii():
            raise ValueError("a text that is not ASCII")
        return super().encode(value)

    def decode(self, data: bytes, offset: int) -> tuple[str, int]:
        text, end = super().decode(data, offset)
        if not text.isascii():
            raise Malformed("a text that is not ASCII", offset)
        return text, end


class Octets(VariableField):
    """VarInt length and bytes, at most ``count`` of them."""

    __slots__ = ("_count",)

    def __init__(self, count: int) -> None:
        super().__init__(VARINT_SIZE + count)
        self._count = count

    def encode(self, value: bytes) -> bytes:
        if len(value) > self._count:
            raise ValueError(f"{len(value)} bytes, at most {self._count} fit")
        return encode_varint(len(value)) + value

    def decode(self, data: bytes, offset: int) -> tuple[bytes, int]:
        start, end = _span(data, offset, self._count)
        return data[start:end], end


class Host(VariableField):
    """A :class:`HostAddress`."""

    __slots__ = ()

    _name = String(MAXIMUM_HOST)

    def __init__(self) -> None:
        super().__init__(_PORT.size + self._name.maximum)

    def encode(self, value: HostAddress) -> bytes:
        if not 0 <= value.port <= 0xFFFF:
            raise ValueError(f"port {value.port} is out of range: 0 to 65535")
        return _PORT.pack(value.port) + self._name.encode(value.host)

    def decode(self, data: bytes, offset: int) -> tuple[HostAddress, int]:
        if len(data) - offset < _PORT.size:
            raise Malformed("the packet ends inside a host address", len(data))
        port = _PORT.unpack_from(data, offset)[0]
        host, end = self._name.decode(data, offset + _PORT.size)
        return HostAddress(host, port), end


class AssetField(VariableField):
    """An :class:`Asset`: hash as ASCII of 64 bytes, and its name."""

    __slots__ = ()

    _hash = FixedASCII(HASH_SIZE)
    _name = String(MAXIMUM_ASSET_NAME)

    def __init__(self) -> None:
        super().__init__(HASH_SIZE + self._name.maximum)

    def encode(self, value: Asset) -> bytes:
        return self._hash.pack(value.hash).ljust(HASH_SIZE, b"\0") + self._name.encode(value.name)

    def decode(self, data: bytes, offset: int) -> tuple[Asset, int]:
        start = offset + HASH_SIZE
        if len(data) < start:
            raise Malformed("the packet ends inside an asset", len(data))
        try:
            digest = self._hash.unpack(data[offset:start])
        except ValueError as error:
            raise Malformed(str(error), offset) from None
        name, end = self._name.decode(data, start)
        return Asset(digest, name), end


class Assets(VariableField):
    """VarInt count, at most ``count``, and as many assets."""

    __slots__ = ("_count",)

    _asset = AssetField()
    _smallest = HASH_SIZE + 1

    def __init__(self, count: int) -> None:
        super().__init__(VARINT_SIZE + count * self._asset.maximum)
        self._count = count

    def encode(self, value: Sequence[Asset]) -> bytes:
        if len(value) > self._count:
            raise ValueError(f"{len(value)} assets, at most {self._count} fit")
        return encode_varint(len(value)) + b"".join(map(self._asset.encode, value))

    def decode(self, data: bytes, offset: int) -> tuple[tuple[Asset, ...], int]:
        count, end = decode_varint(data, offset, "number of assets")
        if count > self._count:
            raise Malformed(f"{count} assets, at most {self._count} are allowed", offset)
        if count * self._smallest > len(data) - end:
            raise Malformed(f"{count} assets are promised, {len(data) - end} bytes are left", offset)
        assets = []
        decode = self._asset.decode
        for _ in range(count):
            asset, end = decode(data, end)
            assets.append(asset)
        return tuple(assets), end
