"""STUN Binding messages (RFC 8489), as much of them as Chatr uses: the codec of its UDP side (CH-32, CH-40, CH-41).

A message is a header of 20 bytes and attributes, all integers big-endian::

    u16 type   u16 length of the attributes   u32 0x2112A442   12 bytes transaction id
    attribute: u16 type   u16 length   value   0 to 3 bytes of padding to a multiple of 4

Checks carry USERNAME and FINGERPRINT, and USE-CANDIDATE where they nominate. Short-term credentials (MESSAGE-INTEGRITY
with SHA-1) have their place for version 2: every function takes a ``key``, which version 1 leaves out.
"""

from __future__ import annotations

import enum
import hmac
import socket
import struct
import zlib
from typing import Final

import attrs

from connectd.addresses import pack
from connectd.sansio import DatagramAddress

COOKIE: Final = 0x2112A442
HEADER_SIZE: Final = 20
TRANSACTION_ID_SIZE: Final = 12

_BINDING: Final = 0x0001
_METHOD_MASK: Final = 0x3EEF
_CLASS_MASK: Final = 0x0110

USERNAME: Final = 0x0006
MESSAGE_INTEGRITY: Final = 0x0008
MESSAGE_INTEGRITY_SHA256: Final = 0x001C
XOR_MAPPED_ADDRESS: Final = 0x0020
PRIORITY: Final = 0x0024
USE_CANDIDATE: Final = 0x0025
FINGERPRINT: Final = 0x8028
OPTIONAL: Final = 0x8000
"""Attribute types from here on may be ignored by who does not know them."""

_FINGERPRINT_MASK: Final = 0x5354554E
_FINGERPRINT_SIZE: Final = 8
_INTEGRITY_SIZE: Final = 24
_MAXIMUM_USERNAME: Final = 508
"""RFC 8489, 14.3: a username is shorter than 509 bytes."""

_HEADER: Final = struct.Struct(">HHI12s")
_ATTRIBUTE: Final = struct.Struct(">HH")
_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_ADDRESS: Final = struct.Struct(">xBH")
_FAMILIES: Final = {1: 4, 2: 16}
_SOCKET_FAMILIES: Final = {1: socket.AF_INET, 2: socket.AF_INET6}


class StunError(ValueError):
    """A datagram is not a Binding message.

    :param offset: where the first wrong byte is.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.offset = offset


class MessageClass(enum.IntEnum):
    """What a message is for: the class bits of its type."""

    REQUEST = 0x000
    INDICATION = 0x010
    SUCCESS = 0x100
    ERROR = 0x110


@attrs.frozen
class BindingMessage:
    """A Binding message that was received whole.

    :param message_class: request, indication, success or error.
    :param transaction_id: 12 bytes that a response repeats.
    :param username: USERNAME as it came.
    :param mapped: XOR-MAPPED-ADDRESS: where a request seemed to come from.
    :param use_candidate: USE-CANDIDATE is there.
    :param has_fingerprint: FINGERPRINT is there; a wrong one makes the whole message an error.
    :param unknown: the attribute types that may not be ignored and are not known here.
    """

    message_class: MessageClass
    transaction_id: bytes
    username: bytes | None = None
    mapped: DatagramAddress | None = None
    use_candidate: bool = False
    has_fingerprint: bool = False
    unknown: tuple[int, ...] = ()
    _integrity: bytes | None = attrs.field(default=None, repr=False)
    _signed: bytes = attrs.field(default=b"", repr=False)

    @property
    def has_integrity(self) -> bool:
        """MESSAGE-INTEGRITY is there; whether it is right is for :meth:`is_signed_with` to say."""
        return self._integrity is not None

    def is_signed_with(self, key: bytes) -> bool:
        """Whether MESSAGE-INTEGRITY is there and was made with this key."""
        return self._integrity is not None and hmac.compare_digest(self._integrity, _sign(self._signed, key))


def is_stun(data: bytes) -> bool:
    """Whether a datagram's first byte is one of STUN: 0 to 3 (CH-32)."""
    return bool(data) and data[0] < 4


def decode(data: bytes) -> BindingMessage:
    """Read a Binding message.

    The first of several attributes of one type counts, and behind MESSAGE-INTEGRITY nothing but FINGERPRINT.

    :param data: a whole datagram.
    :raises StunError: where it is anything else, or its FINGERPRINT is wrong.
    """
    if len(data) < HEADER_SIZE:
        raise StunError(f"{len(data)} bytes are no STUN message", len(data))
    kind, length, cookie, transaction_id = _HEADER.unpack_from(data)
    if kind & 0xC000 or kind & _METHOD_MASK != _BINDING:
        raise StunError(f"type {kind:#06x} is no Binding message", 0)
    if length % 4 or len(data) != HEADER_SIZE + length:
        raise StunError(f"a length of {length} in a datagram of {len(data)} bytes", 2)
    if cookie != COOKIE:
        raise StunError("not the magic cookie", 4)
    found: dict[int, tuple[int, int]] = {}
    unknown: list[int] = []
    integrity_at = 0
    offset = HEADER_SIZE
    while offset < len(data):
        if FINGERPRINT in found:
            raise StunError("an attribute behind FINGERPRINT", offset)
        # The length is a multiple of 4, and so is every step: there are 4 bytes at least.
        attribute, size = _ATTRIBUTE.unpack_from(data, offset)
        start, end = offset + 4, offset + 4 + size
        if end > len(data):
            raise StunError(f"attribute {attribute:#06x} of {size} bytes, {len(data) - start} left", offset)
        if attribute not in found and (not integrity_at or attribute == FINGERPRINT):
            found[attribute] = start, end
            if attribute == MESSAGE_INTEGRITY:
                integrity_at = offset
            elif attribute < OPTIONAL and attribute not in _KNOWN:
                unknown.append(attribute)
        offset = end + -size % 4
    return BindingMessage(
        MessageClass(kind & _CLASS_MASK),
        transaction_id,
        _username(data, found.get(USERNAME)),
        _mapped(data, found.get(XOR_MAPPED_ADDRESS)),
        _flag(found.get(USE_CANDIDATE)),
        _fingerprint(data, found.get(FINGERPRINT)),
        tuple(unknown),
        _integrity(data, found.get(MESSAGE_INTEGRITY)),
        data[:integrity_at],
    )


_KNOWN: Final = frozenset({USERNAME, MESSAGE_INTEGRITY, XOR_MAPPED_ADDRESS, PRIORITY, USE_CANDIDATE})


def _username(data: bytes, place: tuple[int, int] | None) -> bytes | None:
    if place is None:
        return None
    start, end = place
    if end - start > _MAXIMUM_USERNAME:
        raise StunError(f"a USERNAME of {end - start} bytes", start - 2)
    return data[start:end]


def _flag(place: tuple[int, int] | None) -> bool:
    if place is not None and place[0] != place[1]:
        raise StunError("USE-CANDIDATE with a value", place[0] - 2)
    return place is not None


def _mapped(data: bytes, place: tuple[int, int] | None) -> DatagramAddress | None:
    if place is None:
        return None
    start, end = place
    if end - start < _ADDRESS.size:
        raise StunError("XOR-MAPPED-ADDRESS is cut off", start - 2)
    family, port = _ADDRESS.unpack_from(data, start)
    if _FAMILIES.get(family) != end - start - _ADDRESS.size:
        raise StunError(f"XOR-MAPPED-ADDRESS of family {family} in {end - start} bytes", start)
    packed = _xor(data[start + _ADDRESS.size : end], data[4:HEADER_SIZE])
    return socket.inet_ntop(_SOCKET_FAMILIES[family], packed), port ^ COOKIE >> 16


def _integrity(data: bytes, place: tuple[int, int] | None) -> bytes | None:
    if place is None:
        return None
    start, end = place
    if end - start != _INTEGRITY_SIZE - 4:
        raise StunError(f"MESSAGE-INTEGRITY of {end - start} bytes", start - 2)
    return data[start:end]


def _fingerprint(data: bytes, place: tuple[int, int] | None) -> bool:
    if place is None:
        return False
    start, end = place
    if end - start != _FINGERPRINT_SIZE - 4:
        raise StunError(f"FINGERPRINT of {end - start} bytes", start - 2)
    if _U32.unpack_from(data, start)[0] != zlib.crc32(data[: start - 4]) ^ _FINGERPRINT_MASK:
        raise StunError("FINGERPRINT does not match", start)
    return True


def encode_request(
    transaction_id: bytes, username: bytes, *, use_candidate: bool = False, key: bytes | None = None
) -> bytes:
    """A check: a Binding request with USERNAME and FINGERPRINT; 100 bytes with the username of CH-41.

    :param transaction_id: 12 random bytes.
    :param use_candidate: nominate.
    :param key: sign it with MESSAGE-INTEGRITY; version 1 has none.
    """
    attributes = _ATTRIBUTE.pack(USERNAME, len(username)) + username + bytes(-len(username) % 4)
    if use_candidate:
        attributes += _ATTRIBUTE.pack(USE_CANDIDATE, 0)
    return _finish(MessageClass.REQUEST, transaction_id, attributes, key, fingerprint=True)


def encode_success(
    transaction_id: bytes, mapped: DatagramAddress, *, key: bytes | None = None, fingerprint: bool = False
) -> bytes:
    """A success response with XOR-MAPPED-ADDRESS: 32 bytes for IPv4, 44 for IPv6 (CH-32).

    :param transaction_id: the request's.
    :param mapped: where the request came from.
    :param key: sign it, as the request was: 24 bytes more.
    :param fingerprint: add FINGERPRINT: 8 bytes more.
    """
    packed = pack(mapped[0])
    family = 1 if len(packed) == 4 else 2
    value = _ADDRESS.pack(family, mapped[1] ^ COOKIE >> 16) + _xor(packed, _U32.pack(COOKIE) + transaction_id)
    attributes = _ATTRIBUTE.pack(XOR_MAPPED_ADDRESS, len(value)) + value
    return _finish(MessageClass.SUCCESS, transaction_id, attributes, key, fingerprint=fingerprint)


def _finish(
    kind: MessageClass, transaction_id: bytes, attributes: bytes, key: bytes | None, fingerprint: bool
) -> bytes:
    header = _HEADER.pack(_BINDING | kind, len(attributes), COOKIE, transaction_id)
    message = header + attributes
    if key is not None:
        message = _with_length(message + _ATTRIBUTE.pack(MESSAGE_INTEGRITY, _INTEGRITY_SIZE - 4) + _sign(message, key))
    if fingerprint:
        message = _with_length(message, _FINGERPRINT_SIZE)
        value = zlib.crc32(message) ^ _FINGERPRINT_MASK
        message += _ATTRIBUTE.pack(FINGERPRINT, 4) + _U32.pack(value)
    return message


def _sign(message: bytes, key: bytes) -> bytes:
    """MESSAGE-INTEGRITY of a message without it: HMAC-SHA-1, the length in the header as if it were there."""
    return hmac.digest(key, _with_length(message, _INTEGRITY_SIZE), "sha1")


def _with_length(message: bytes, more: int = 0) -> bytes:
    """The message with the length in its header set to what it is, or will be."""
    return message[:2] + _U16.pack(len(message) - HEADER_SIZE + more) + message[4:]


def _xor(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    return (int.from_bytes(data, "big") ^ int.from_bytes(mask[:size], "big")).to_bytes(size, "big")
