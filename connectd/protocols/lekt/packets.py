"""LEKT's messages: frozen classes, and how they look on the wire.

Integers are big-endian. Every message begins with 8 bytes: ``LEKT``, its type (u8), and the version's major, minor
and extra parts (u8 each).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address

import attrs

from connectd.wire import Cursor, first_difference, text_field

MAGIC = b"LEKT"
MAJOR, MINOR, EXTRA = 0, 0, 0
HEADER_SIZE = 8

HELLO = HEARTBEAT = UPDATE = ord("H")
ACCEPT = ord("A")
REJECT = ord("R")
TRANSFER = ord("T")
"""The type of requests and responses during setup."""

MAXIMUM_METHODS = 1024
MAXIMUM_REJECT_TEXT = 255
ENTRIES_PER_ADDITION = 65_536
"""An ``A`` update with exactly so many entries is followed by another (LEKT-8)."""
ENTRIES_PER_REMOVAL = 262_144

_UPDATE = struct.Struct(">8sqI")
_HEARTBEAT = struct.Struct(">8sq")
_ADDITION, _REMOVAL = ord("A") << 24, ord("R") << 24


def header(kind: int) -> bytes:
    """The 8 bytes that begin every message."""
    return MAGIC + bytes((kind, MAJOR, MINOR, EXTRA))


_HEADER_H = header(HEARTBEAT)


class WrongByte(ValueError):
    """A header departs from what it must be.

    :param offset: of the first wrong byte, from the start of the message.
    """

    def __init__(self, offset: int) -> None:
        super().__init__(f"wrong byte at offset {offset}")
        self.offset = offset


class WrongVersion(ValueError):
    """A whole header with another major or minor version than ours (LEKT-3).

    :param offset: of the first part that differs, from the start of the message.
    """

    def __init__(self, major: int, minor: int) -> None:
        super().__init__(f"version {major}.{minor}")
        self.major = major
        self.minor = minor
        self.offset = 5 if major != MAJOR else 6


def read_type(data: bytes | bytearray, types: bytes) -> int | None:
    """The type of the message that begins at the start of ``data``, or None until its header is whole.

    :param types: the types that are right here.
    :raises WrongByte: at the first byte of another magic or type.
    :raises WrongVersion: once the header is whole and its version is not ours; the extra part is ignored.
    """
    if len(data) >= HEADER_SIZE and data[:4] == MAGIC and data[4] in types and data[5] == MAJOR and data[6] == MINOR:
        return data[4]
    difference = first_difference(data, MAGIC)
    if difference is not None:
        raise WrongByte(difference)
    if len(data) > 4 and data[4] not in types:
        raise WrongByte(4)
    if len(data) < HEADER_SIZE:
        return None
    raise WrongVersion(data[5], data[6])


@attrs.frozen
class Method:
    """A way to connect to a client directly.

    :param index: its number, from 1.
    :param name: for people.
    :param size: bytes of its information.
    """

    index: int
    name: str
    size: int


DIRECT_TCP = Method(1, "Direct TCP", 4)
METHODS = {DIRECT_TCP.index: DIRECT_TCP}
"""The methods that we know."""


def encode_port(port: int) -> bytes:
    """Direct TCP's information: a u32 port (LEKT-6).

    :raises ValueError: outside 1 to 65535.
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"port {port} is out of range: 1 to 65535")
    return struct.pack(">I", port)


def decode_port(information: bytes) -> int | None:
    """The port in Direct TCP's information, or None where it is not one (LEKT-6)."""
    if len(information) != DIRECT_TCP.size:
        return None
    port = int.from_bytes(information, "big")
    return port if 1 <= port <= 65535 else None


@attrs.frozen
class Hello:
    """Client hello: header ``H``, u32 N, ceil(N/32) words u32 (LEKT-1, LEKT-2).

    :param known: N, how many methods the client knows.
    :param words: its bit field.
    """

    known: int
    words: tuple[int, ...]

    @property
    def methods(self) -> frozenset[int]:
        """The indices of the methods that are switched on. With N = 1 any bit means method 1 (LEKT-2)."""
        if self.known == 1:
            return frozenset({1}) if self.words[0] else frozenset()
        return frozenset(
            32 * position + bit + 1
            for position, word in enumerate(self.words)
            if word
            for bit in range(32)
            if word >> bit & 1 and 32 * position + bit < self.known
        )

    @classmethod
    def offering(cls, methods: Iterable[int]) -> Hello:
        """The hello of a client that knows all our methods and has these switched on."""
        known = max(METHODS)
        words = [0] * -(-known // 32)
        for index in methods:
            words[(index - 1) // 32] |= 1 << (index - 1) % 32
        return cls(known, tuple(words))

    def encode(self) -> bytes:
        return header(HELLO) + struct.pack(f">I{len(self.words)}I", self.known, *self.words)


@attrs.frozen
class Accept:
    """Server accept: header ``A`` only."""

    def encode(self) -> bytes:
        return header(ACCEPT)


@attrs.frozen
class Reject:
    """Server reject: header ``R``, NUL-terminated UTF-8 text, zero-padded to a multiple of 4 (LEKT-4).

    :param text: why; what is over 255 bytes is cut off between characters.
    """

    text: str

    def encode(self) -> bytes:
        text = text_field(self.text, MAXIMUM_REJECT_TEXT)
        return header(REJECT) + text + bytes(4 - len(text) % 4)


@attrs.frozen
class Request:
    """Server request: header ``T``, u32 method index; 0 ends setup (LEKT-5)."""

    method: int

    def encode(self) -> bytes:
        return header(TRANSFER) + struct.pack(">I", self.method)


@attrs.frozen
class Response:
    """Client response: header ``T``, u32 method index, the method's information (LEKT-5)."""

    method: int
    information: bytes

    def encode(self) -> bytes:
        return header(TRANSFER) + struct.pack(">I", self.method) + self.information


@attrs.frozen
class Heartbeat:
    """Client heartbeat: header ``H``, i64 Unix time in seconds: that of the last update, or 0 (LEKT-7, LEKT-11)."""

    time: int

    def encode(self) -> bytes:
        return _HEARTBEAT.pack(_HEADER_H, self.time)


@attrs.frozen
class Entry:
    """A listed client.

    :param address: its IPv4 address.
    :param methods: (method index, information) for each way to reach it.
    """

    address: IPv4Address
    methods: tuple[tuple[int, bytes], ...]

    @property
    def port(self) -> int | None:
        """Its Direct TCP port, if it announced one."""
        return next((decode_port(data) for index, data in self.methods if index == DIRECT_TCP.index), None)

    def __str__(self) -> str:
        return f"{self.address}:{self.port}" if self.port is not None else str(self.address)

    def encode(self) -> bytes:
        """u32 size of what follows, u32 address, then u32 index and information per method."""
        return encode_entry(self.address.packed, self.methods)

    @classmethod
    def decode(cls, body: bytes) -> Entry:
        """From what follows the size. Methods that we do not know end it: their length is unknown (LEKT-5).

        :raises connectd.wire.Truncated: where a known method's information is cut short.
        """
        cursor = Cursor(body)
        address = IPv4Address(cursor.take(4))
        methods = []
        while cursor.left:
            method = METHODS.get(cursor.u32())
            if method is None:
                break
            methods.append((method.index, cursor.take(method.size)))
        return cls(address, tuple(methods))


def encode_entry(address: bytes, methods: Iterable[tuple[int, bytes]]) -> bytes:
    """A listed client, from its address in 4 bytes and (method index, information) per method."""
    body = address
    for index, information in methods:
        body += index.to_bytes(4, "big") + information
    return len(body).to_bytes(4, "big") + body


def encode_nothing(time: int) -> bytes:
    """The answer of a heartbeat since which nothing has changed: an ``A`` update without entries."""
    return _UPDATE.pack(_HEADER_H, time, _ADDITION)


def encode_additions(time: int, entries: Sequence[bytes]) -> list[bytes]:
    """The ``A`` updates of an answer, from entries that are encoded already (LEKT-8).

    Each: header ``H``, i64 Unix time, u8 ``A``, u24 count, entries. All but the last hold exactly 65,536 entries.
    """
    updates = []
    for start in range(0, len(entries) + 1, ENTRIES_PER_ADDITION):
        part = entries[start : start + ENTRIES_PER_ADDITION]
        updates.append(_UPDATE.pack(_HEADER_H, time, _ADDITION | len(part)))
        updates += part
    return updates


def encode_removals(time: int, addresses: Sequence[bytes]) -> list[bytes]:
    """The ``R`` updates of an answer: header ``H``, i64 Unix time, u8 ``R``, u24 count, 4 bytes an address (LEKT-8)."""
    updates = []
    for start in range(0, len(addresses), ENTRIES_PER_REMOVAL):
        part = addresses[start : start + ENTRIES_PER_REMOVAL]
        updates.append(_UPDATE.pack(_HEADER_H, time, _REMOVAL | len(part)))
        updates += part
    return updates
