"""Chatr's packets: frozen classes, and how they look on the wire.

A frame is a VarInt (how many bytes follow), the opcode (u8) and the packet's payload. Integers are big-endian.

* VarInt: an unsigned number, 7 bits in each byte, the lowest first; the top bit says that another byte follows. At most
  5 bytes and 2^31 - 1. As the length of a frame it is at least 1.
* String: a VarInt with its length in bytes, and so many bytes of UTF-8.
* UUID: 16 bytes (RFC 4122).
* Address: u8 version, 4 or 6, and the 4 or 16 bytes of the address. It carries no port.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Final, Protocol
from uuid import UUID

import attrs

from connectd.wire import Cursor, Truncated

IPAddress = IPv4Address | IPv6Address

MAXIMUM_VARINT: Final = 0x7FFFFFFF
MAXIMUM_VARINT_BYTES: Final = 5
MAXIMUM_STRING: Final = 1024
"""Bytes of a String (CH-9)."""
MAXIMUM_SIGNATURE: Final = 1024
"""Bytes of a Connect's signature (CH-2): that of RSA with 8192 bits."""

_I32 = struct.Struct(">i")
_I64 = struct.Struct(">q")
_CONNECT = struct.Struct(">I16si")


class PacketError(ValueError):
    """A packet cannot be what its opcode says.

    :param reason: in a few words.
    :param offset: of the first wrong byte, from the start of what was read.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


# VarInts, Strings and Addresses


def encode_varint(number: int) -> bytes:
    """A VarInt.

    :raises ValueError: where it does not fit.
    """
    if not 0 <= number <= MAXIMUM_VARINT:
        raise ValueError(f"{number} is no VarInt: 0 to {MAXIMUM_VARINT}")
    if number < 0x80:
        return bytes((number,))
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def read_varint(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int] | None:
    """The VarInt that begins at an offset, and the offset behind it; None where it is not whole yet.

    A number may be written with more bytes than it needs.

    :raises PacketError: at a fifth byte that leads on or goes beyond 2^31 - 1.
    """
    number = 0
    for index in range(offset, min(len(data), offset + MAXIMUM_VARINT_BYTES)):
        byte = data[index]
        number |= (byte & 0x7F) << 7 * (index - offset)
        if index - offset == MAXIMUM_VARINT_BYTES - 1 and byte > 0x07:
            raise PacketError("a VarInt too long or too large", index)
        if byte < 0x80:
            return number, index + 1
    return None


def encode_string(text: str) -> bytes:
    """A String; a text that is too long is cut between characters (CH-9)."""
    data = text.encode("utf-8", "replace")[:MAXIMUM_STRING].decode("utf-8", "ignore").encode()
    return encode_varint(len(data)) + data


def _read_string(cursor: Cursor) -> str:
    start = cursor.offset
    found = read_varint(cursor.data, start)
    if found is None:
        raise PacketError("a String without its length", len(cursor.data))
    size, begin = found
    if size > MAXIMUM_STRING:
        raise PacketError(f"a String of {size} bytes", start)
    cursor.offset = begin
    try:
        return cursor.take(size).decode()
    except UnicodeDecodeError as error:
        raise PacketError("a String that is not UTF-8", begin + error.start) from None


def encode_address(address: IPAddress) -> bytes:
    """An Address."""
    return bytes((address.version,)) + address.packed


def _read_address(cursor: Cursor) -> IPAddress:
    version = cursor.u8()
    if version == 4:
        return IPv4Address(cursor.take(4))
    if version == 6:
        return IPv6Address(cursor.take(16))
    raise PacketError(f"an Address of version {version}", cursor.offset - 1)


# Packets


class Packet(Protocol):
    """What all packets have."""

    opcode: ClassVar[int]

    def encode(self) -> bytes:
        """The whole frame."""


def _frame(opcode: int, payload: bytes = b"") -> bytes:
    return encode_varint(1 + len(payload)) + bytes((opcode,)) + payload


@attrs.frozen
class Connect:
    """A client says who it is and proves it (CH-1, CH-2).

    :param version: of the protocol; version 1 servers ignore it.
    :param uuid: who it is.
    :param signature: of the 16 bytes of its UUID (CH-2). It opens the door wherever it is shown: a secret.
    """

    opcode: ClassVar[int] = 0

    version: int
    uuid: UUID
    signature: bytes = attrs.field(repr=False)

    def encode(self) -> bytes:
        return _frame(0, _CONNECT.pack(self.version, self.uuid.bytes, len(self.signature)) + self.signature)


def _decode_connect(cursor: Cursor) -> Connect:
    version, uuid = cursor.u32(), UUID(bytes=cursor.take(16))
    start = cursor.skip(4)
    length = _I32.unpack_from(cursor.data, start)[0]
    if not 0 <= length <= MAXIMUM_SIGNATURE:
        raise PacketError(f"a signature of {length} bytes", start)
    return Connect(version, uuid, cursor.take(length))


@attrs.frozen
class Disconnect:
    """The last words of either side.

    :param message: why.
    """

    opcode: ClassVar[int] = 1

    message: str

    def encode(self) -> bytes:
        return _frame(1, encode_string(self.message))


def _decode_disconnect(cursor: Cursor) -> Disconnect:
    return Disconnect(_read_string(cursor))


@attrs.frozen
class Connected:
    """The server lets a client in (CH-4)."""

    opcode: ClassVar[int] = 2

    def encode(self) -> bytes:
        return b"\x01\x02"


def _decode_connected(cursor: Cursor) -> Connected:
    return Connected()


@attrs.frozen
class Ping:
    """The server asks for a sign of life (CH-5).

    :param ping_id: 63 random bits.
    """

    opcode: ClassVar[int] = 3

    ping_id: int

    def encode(self) -> bytes:
        return b"\x09\x03" + _I64.pack(self.ping_id)


def _decode_ping(cursor: Cursor) -> Ping:
    return Ping(cursor.i64())


@attrs.frozen
class Pong:
    """A client's answer to a Ping (CH-5).

    :param ping_id: that of the last Ping.
    """

    opcode: ClassVar[int] = 4

    ping_id: int

    def encode(self) -> bytes:
        return b"\x09\x04" + _I64.pack(self.ping_id)


def _decode_pong(cursor: Cursor) -> Pong:
    return Pong(cursor.i64())


@attrs.frozen
class ConnectionRequest:
    """One client wants to connect to another (CH-6).

    :param uuid: from a client, whom it wants; from the server, who wants it.
    :param private_endpoint: where the requester is in its own network.
    """

    opcode: ClassVar[int] = 5

    uuid: UUID
    private_endpoint: IPAddress

    def encode(self) -> bytes:
        return _frame(5, self.uuid.bytes + encode_address(self.private_endpoint))


def _decode_request(cursor: Cursor) -> ConnectionRequest:
    return ConnectionRequest(UUID(bytes=cursor.take(16)), _read_address(cursor))


@attrs.frozen
class ConnectionRequestAccept:
    """A request is accepted (CH-7).

    :param uuid: from a client, whose request it accepts; from the server, who accepted.
    :param private_endpoint: where the accepter is in its own network.
    """

    opcode: ClassVar[int] = 6

    uuid: UUID
    private_endpoint: IPAddress

    def encode(self) -> bytes:
        return _frame(6, self.uuid.bytes + encode_address(self.private_endpoint))


def _decode_accept(cursor: Cursor) -> ConnectionRequestAccept:
    return ConnectionRequestAccept(UUID(bytes=cursor.take(16)), _read_address(cursor))


@attrs.frozen
class ConnectionRequestDenied:
    """A request is denied (CH-6, CH-7).

    :param uuid: from a client, whose request it denies; from the server, who was asked for.
    """

    opcode: ClassVar[int] = 7

    uuid: UUID

    def encode(self) -> bytes:
        return b"\x11\x07" + self.uuid.bytes


def _decode_denied(cursor: Cursor) -> ConnectionRequestDenied:
    return ConnectionRequestDenied(UUID(bytes=cursor.take(16)))


@attrs.frozen
class ClientInfo:
    """Where the other party of an accepted request is (CH-7).

    :param uuid: the other party.
    :param public_endpoint: its address as the server sees it.
    """

    opcode: ClassVar[int] = 8

    uuid: UUID
    public_endpoint: IPAddress

    def encode(self) -> bytes:
        return _frame(8, self.uuid.bytes + encode_address(self.public_endpoint))


def _decode_info(cursor: Cursor) -> ClientInfo:
    return ClientInfo(UUID(bytes=cursor.take(16)), _read_address(cursor))


_DECODERS: Final[tuple[Callable[[Cursor], Packet], ...]] = (
    _decode_connect,
    _decode_disconnect,
    _decode_connected,
    _decode_ping,
    _decode_pong,
    _decode_request,
    _decode_accept,
    _decode_denied,
    _decode_info,
)


def decode_packet(frame: bytes) -> Packet:
    """A packet from what stands behind a frame's length: its opcode and payload.

    :raises PacketError: where it is unknown, cut short, too long or wrong; the offset counts from the opcode.
    """
    if not frame or frame[0] >= len(_DECODERS):
        raise PacketError(f"the unknown opcode {frame[0]}" if frame else "an empty frame", 0)
    cursor = Cursor(frame, 1)
    try:
        packet = _DECODERS[frame[0]](cursor)
    except Truncated as error:
        raise PacketError("a packet that is cut short", error.offset) from None
    if cursor.left:
        raise PacketError(f"{cursor.left} bytes too many", cursor.offset)
    return packet
