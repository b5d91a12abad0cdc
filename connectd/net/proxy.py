"""
The PROXY protocol, versions 1 and 2: how a load balancer says whom a connection really comes from (COM-5).

The layouts are those of HAProxy's ``proxy-protocol.txt``. This module only parses and encodes: who may send a
header, and how long it may take, is decided by the connection that feeds it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Final

import attrs

__all__ = [
    "MAX_V1_LENGTH",
    "MAX_V2_LENGTH",
    "TLV_ALPN",
    "TLV_AUTHORITY",
    "TLV_CONNECTD_ACCOUNT",
    "TLV_CONNECTD_PROTOCOL",
    "TLV_CONNECTD_SESSION",
    "TLV_CRC32C",
    "TLV_NETNS",
    "TLV_NOOP",
    "TLV_SSL",
    "TLV_UNIQUE_ID",
    "ProxyHeader",
    "ProxyHeaderError",
    "ProxyHeaderParser",
    "crc32c",
    "encode_v2",
    "encode_v2_local",
]

MAX_V1_LENGTH: Final = 107
"""Longest version 1 line in bytes, its CRLF included."""

MAX_V2_LENGTH: Final = 4096
"""Largest length a version 2 header may declare (what follows its 16-byte prefix); ours, not the standard's."""

TLV_ALPN: Final = 0x01
TLV_AUTHORITY: Final = 0x02
TLV_CRC32C: Final = 0x03
TLV_NOOP: Final = 0x04
TLV_UNIQUE_ID: Final = 0x05
TLV_SSL: Final = 0x20
TLV_NETNS: Final = 0x30
# 0xE0 to 0xEF are for applications; these three are what the forward handler tells its backend.
TLV_CONNECTD_SESSION: Final = 0xE0
TLV_CONNECTD_PROTOCOL: Final = 0xE1
TLV_CONNECTD_ACCOUNT: Final = 0xE2

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_TCP4: Final = b"PROXY TCP4 "
_V1_TCP6: Final = b"PROXY TCP6 "
_V1_UNKNOWN: Final = b"PROXY UNKNOWN"
_OPENINGS: Final = (_SIGNATURE, _V1_TCP4, _V1_TCP6, _V1_UNKNOWN)

_PREFIX_LENGTH: Final = 16
_VERSION: Final = 0x2
_LOCAL: Final = 0x0
_PROXY: Final = 0x1
_STREAM: Final = 0x1
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_ADDRESS_LENGTHS: Final = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}
_MAX_TRANSPORT: Final = 0x2
_CHECKSUM_LENGTH: Final = 4

# Each pattern matches the longest beginning of a field that a valid line can have: where the match stops, the
# next byte has to be the separator. (The IPv6 one leaves the finer points to ipaddress.)
_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9][0-9]|[0-9])"
_IPV4_BEGINNING: Final = re.compile(rb"(?:%b(?:\.%b){0,2}(?:\.%b?)?)?" % (_OCTET, _OCTET, _OCTET))
_IPV6_BEGINNING: Final = re.compile(rb"(?:[0-9A-Fa-f]{0,4}[:.])*[0-9A-Fa-f]{0,4}")
_PORT_BEGINNING: Final = re.compile(
    rb"(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0)?"
)
_LINE_END: Final = re.compile(rb"[\r\n]")
_SPACE, _CR, _LF = b" \r\n"


class ProxyHeaderError(Exception):
    """
    What was received is not a valid PROXY header.

    :param reason: what is wrong, in plain words.
    :param offset: index, counted from the connection's first byte, of the byte that showed it; for a fault among
        the TLVs of a version 2 header, where the faulty TLV begins.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason, offset)
        self.reason = reason
        self.offset = offset

    def __str__(self) -> str:
        return f"{self.reason} (at byte {self.offset})"


@attrs.frozen
class ProxyHeader:
    """
    One decoded header.

    :param source: address and port of the client, or None when the header carries none that stands for a peer
        (UNKNOWN, LOCAL, unspecified and UNIX families): the socket's own address stays.
    :param destination: address and port the client connected to, or None likewise.
    :param tlvs: type and value of every TLV of a version 2 header, in order, as they came.

    Addresses are in their canonical spelling; an IPv4 address mapped into IPv6 is given as IPv4.
    """

    source: tuple[str, int] | None = None
    destination: tuple[str, int] | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()


class ProxyHeaderParser:
    """
    Reads one PROXY header, version 1 or 2, that comes in any segmentation.

    Until the header is complete it holds only bytes of the header: at most 16 + `MAX_V2_LENGTH`. Bytes that no
    header can have are refused when they arrive, not when the header would be complete.
    """

    __slots__ = ("_error", "_finished", "_pending", "_remainder")

    def __init__(self) -> None:
        self._pending = b""
        self._remainder = b""
        self._finished = False
        self._error: tuple[str, int] | None = None

    @property
    def buffered(self) -> int:
        """How many bytes of an incomplete header are held."""
        return len(self._pending)

    @property
    def remainder(self) -> bytes:
        """The bytes that followed the header; empty until it is complete."""
        return self._remainder

    def feed(self, data: bytes) -> ProxyHeader | None:
        """
        Take the next bytes of the connection.

        :return: the header when it is complete (then `remainder` holds what followed it), None while more bytes
            are needed.
        :raises ProxyHeaderError: these bytes are no valid header. The parser is of no use afterwards: it raises
            the same again.
        :raises RuntimeError: the header was already returned; the bytes after it are not the parser's.
        """
        if self._error is not None:
            raise ProxyHeaderError(*self._error)
        if self._finished:
            raise RuntimeError("the PROXY header is already complete: what follows it is not for its parser")
        # The whole beginning is read again each time, so no way of cutting it up can change the result.
        data = self._pending + data
        try:
            found = _scan(data)
        except ProxyHeaderError as error:
            self._pending = b""
            self._error = (error.reason, error.offset)
            raise
        if found is None:
            self._pending = data
            return None
        header, end = found
        self._pending = b""
        self._remainder = data[end:]
        self._finished = True
        return header


def _scan(data: bytes) -> tuple[ProxyHeader, int] | None:
    """Find a header at the beginning of `data`: the header and where it ends, or None while it is incomplete."""
    for opening in _OPENINGS:
        if data.startswith(opening):
            break
        if opening.startswith(data):
            return None
    else:
        offset = 0
        while any(opening.startswith(data[: offset + 1]) for opening in _OPENINGS):
            offset += 1
        raise ProxyHeaderError("not a PROXY header", offset)
    if opening is _SIGNATURE:
        return _scan_v2(data)
    line = data[:MAX_V1_LENGTH]
    found = _scan_unknown(line) if opening is _V1_UNKNOWN else _scan_v1(line, opening is _V1_TCP6)
    if found is None and len(line) == MAX_V1_LENGTH:
        raise ProxyHeaderError(f"version 1 line is longer than {MAX_V1_LENGTH} bytes", MAX_V1_LENGTH - 1)
    return found


def _scan_v1(line: bytes, ipv6: bool) -> tuple[ProxyHeader, int] | None:
    """Read a version 1 line that names addresses: source, destination, source port, destination port, CRLF."""
    start = len(_V1_TCP4)
    address_type, beginning = (IPv6Address, _IPV6_BEGINNING) if ipv6 else (IPv4Address, _IPV4_BEGINNING)
    version = "IPv6" if ipv6 else "IPv4"
    hosts: list[str] = []
    for name in ("source", "destination"):
        field = _field(line, start, beginning, _SPACE, f"{name} address is not {version}")
        if field is None:
            return None
        start += len(field) + 1
        try:
            hosts.append(_canonical(address_type(field.decode("ascii"))))
        except AddressValueError:
            raise ProxyHeaderError(f"{name} address is not {version}", start - 1) from None
    ports: list[int] = []
    for name, terminator in (("source", _SPACE), ("destination", _CR)):
        reason = f"{name} port is not a decimal number from 0 to 65535"
        field = _field(line, start, _PORT_BEGINNING, terminator, reason)
        if field is None:
            return None
        start += len(field) + 1
        if not field:
            raise ProxyHeaderError(reason, start - 1)
        ports.append(int(field))
    end = _after_line_feed(line, start)
    if end is None:
        return None
    return ProxyHeader((hosts[0], ports[0]), (hosts[1], ports[1])), end


def _field(line: bytes, start: int, beginning: re.Pattern[bytes], terminator: int, reason: str) -> bytes | None:
    """Cut out the field at `start`, without its terminator; None while the terminator has not come."""
    match = beginning.match(line, start)
    end = start if match is None else match.end()
    if end == len(line):
        return None
    if line[end] != terminator:
        raise ProxyHeaderError(reason, end)
    return line[start:end]


def _scan_unknown(line: bytes) -> tuple[ProxyHeader, int] | None:
    """Read a version 1 UNKNOWN line: whatever stands between the word and the CRLF is ignored."""
    start = len(_V1_UNKNOWN)
    if len(line) > start and line[start] not in (_SPACE, _CR):
        raise ProxyHeaderError("unknown protocol name", start)
    match = _LINE_END.search(line, start)
    if match is None:
        return None
    if line[match.start()] == _LF:
        raise ProxyHeaderError("line feed without a carriage return", match.start())
    end = _after_line_feed(line, match.end())
    return None if end is None else (ProxyHeader(), end)


def _after_line_feed(line: bytes, start: int) -> int | None:
    """Expect the line feed that ends a version 1 line after its carriage return; None while it has not come."""
    if len(line) == start:
        return None
    if line[start] != _LF:
        raise ProxyHeaderError("carriage return without a line feed", start)
    return start + 1


def _scan_v2(data: bytes) -> tuple[ProxyHeader, int] | None:
    """
    Read a version 2 header.

    ``signature:12 version:4bit command:4bit family:4bit transport:4bit length:2`` and then `length` bytes: the
    addresses of the family, and TLVs.
    """
    size = len(data)
    if size <= 12:
        return None
    version, command = divmod(data[12], 16)
    if version != _VERSION:
        raise ProxyHeaderError(f"version {version} in a binary header; only version 2 exists", 12)
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError(f"unknown command {command}", 12)
    if size <= 13:
        return None
    family, transport = divmod(data[13], 16)
    if command == _PROXY:
        if family not in _ADDRESS_LENGTHS:
            raise ProxyHeaderError(f"unknown address family {family}", 13)
        if transport > _MAX_TRANSPORT:
            raise ProxyHeaderError(f"unknown transport {transport}", 13)
        if family in (_INET, _INET6) and transport != _STREAM:
            raise ProxyHeaderError(f"transport {transport} is not a stream", 13)
    if size <= 14:
        return None
    if data[14] << 8 > MAX_V2_LENGTH:
        raise ProxyHeaderError(f"declared length is over {MAX_V2_LENGTH}", 14)
    if size <= 15:
        return None
    length = data[14] << 8 | data[15]
    if length > MAX_V2_LENGTH:
        raise ProxyHeaderError(f"declared length {length} is over {MAX_V2_LENGTH}", 15)
    if command == _PROXY and length < _ADDRESS_LENGTHS[family]:
        needed = _ADDRESS_LENGTHS[family]
        raise ProxyHeaderError(f"declared length {length} is too short for {needed} bytes of addresses", 15)
    end = _PREFIX_LENGTH + length
    if size < end:
        return None
    header = data[:end]
    if command == _LOCAL:
        return ProxyHeader(tlvs=_local_tlvs(header, family)), end
    start = _PREFIX_LENGTH + _ADDRESS_LENGTHS[family]
    tlvs = _decode_tlvs(header, start)
    source = destination = None
    if family == _INET:
        source_host, destination_host, source_port, destination_port = struct.unpack_from("!4s4sHH", header, 16)
        source = (_canonical(IPv4Address(source_host)), source_port)
        destination = (_canonical(IPv4Address(destination_host)), destination_port)
    elif family == _INET6:
        source_host, destination_host, source_port, destination_port = struct.unpack_from("!16s16sHH", header, 16)
        source = (_canonical(IPv6Address(source_host)), source_port)
        destination = (_canonical(IPv6Address(destination_host)), destination_port)
    return ProxyHeader(source, destination, tlvs), end


def _local_tlvs(header: bytes, family: int) -> tuple[tuple[int, bytes], ...]:
    """
    Give the TLVs of a LOCAL header if it has any.

    The standard says to discard whatever a LOCAL header carries, so what is not readable here is no error; but a
    checksum that is there and wrong is one.
    """
    start = _PREFIX_LENGTH + _ADDRESS_LENGTHS.get(family, 0)
    try:
        tlvs, checksum_at = _split_tlvs(header, start)
    except ProxyHeaderError:
        return ()
    _verify_checksum(header, checksum_at)
    return tlvs


def _decode_tlvs(header: bytes, start: int) -> tuple[tuple[int, bytes], ...]:
    """Read the TLVs from `start` to the end of the header and verify its checksum if it has one."""
    tlvs, checksum_at = _split_tlvs(header, start)
    _verify_checksum(header, checksum_at)
    return tlvs


def _split_tlvs(header: bytes, start: int) -> tuple[tuple[tuple[int, bytes], ...], int | None]:
    """Split ``type:1 length:2 value:length`` items; also say where the value of the checksum is, if present."""
    tlvs: list[tuple[int, bytes]] = []
    checksum_at: int | None = None
    end = len(header)
    offset = start
    while offset < end:
        if end - offset < 3:
            raise ProxyHeaderError("TLV is cut short by the end of the header", offset)
        kind, length = struct.unpack_from("!BH", header, offset)
        value_at = offset + 3
        if length > end - value_at:
            raise ProxyHeaderError(f"TLV of {length} bytes exceeds the header", offset)
        if kind == TLV_CRC32C:
            if length != _CHECKSUM_LENGTH or checksum_at is not None:
                raise ProxyHeaderError("CRC32C is not one TLV of 4 bytes", offset)
            checksum_at = value_at
        tlvs.append((kind, header[value_at : value_at + length]))
        offset = value_at + length
    return tuple(tlvs), checksum_at


def _verify_checksum(header: bytes, checksum_at: int | None) -> None:
    if checksum_at is None:
        return
    after = checksum_at + _CHECKSUM_LENGTH
    expected = crc32c(header[:checksum_at] + bytes(_CHECKSUM_LENGTH) + header[after:])
    if header[checksum_at:after] != expected.to_bytes(4, "big"):
        raise ProxyHeaderError("CRC32C does not match the header", checksum_at - 3)


def _canonical(address: IPv4Address | IPv6Address) -> str:
    return str(_unmapped(address))


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def encode_v2(
    source: tuple[str, int],
    destination: tuple[str, int],
    tlvs: Iterable[tuple[int, bytes]] = (),
    *,
    with_checksum: bool = False,
) -> bytes:
    """
    Encode a version 2 header for a TCP connection that is passed on (command PROXY).

    The addresses are written as IPv4 when both are (also when given mapped into IPv6), otherwise as IPv6 with an
    IPv4 one mapped into it.

    :param source: numeric address and port of the client.
    :param destination: numeric address and port that the client connected to.
    :param tlvs: type (0 to 255) and value of the TLVs to add, in order.
    :param with_checksum: add a CRC32C TLV as the last one.
    :raises ValueError: an address, port or TLV is not one, or all of it exceeds the 65535 bytes that the header's
        length field can declare.
    """
    source_address, destination_address = (_unmapped(ip_address(host)) for host, _ in (source, destination))
    for _, port in (source, destination):
        if not 0 <= port <= 65535:
            raise ValueError(f"port {port} is not from 0 to 65535")
    if isinstance(source_address, IPv4Address) and isinstance(destination_address, IPv4Address):
        family = _INET
        addresses = source_address.packed + destination_address.packed
    else:
        family = _INET6
        addresses = _packed_ipv6(source_address) + _packed_ipv6(destination_address)
    addresses += struct.pack("!HH", source[1], destination[1])
    return _encode(_PROXY, family << 4 | _STREAM, addresses, tlvs, with_checksum)


def encode_v2_local(tlvs: Iterable[tuple[int, bytes]] = (), *, with_checksum: bool = False) -> bytes:
    """
    Encode a version 2 header for a connection of the sender's own, such as a health check (command LOCAL).

    :param tlvs: as for `encode_v2`.
    :param with_checksum: as for `encode_v2`.
    :raises ValueError: as for `encode_v2`.
    """
    return _encode(_LOCAL, _UNSPEC << 4, b"", tlvs, with_checksum)


def _packed_ipv6(address: IPv4Address | IPv6Address) -> bytes:
    return bytes(10) + b"\xff\xff" + address.packed if isinstance(address, IPv4Address) else address.packed


def _encode(
    command: int,
    family_and_transport: int,
    addresses: bytes,
    tlvs: Iterable[tuple[int, bytes]],
    with_checksum: bool,
) -> bytes:
    parts = [addresses]
    for kind, value in tlvs:
        if not 0 <= kind <= 255:
            raise ValueError(f"TLV type {kind} is not from 0 to 255")
        if kind == TLV_CRC32C:
            raise ValueError("the CRC32C TLV is computed here: ask for it with with_checksum=True")
        if len(value) > 65535:
            raise ValueError(f"TLV {kind:#04x} of {len(value)} bytes is over 65535")
        parts += (struct.pack("!BH", kind, len(value)), value)
    if with_checksum:
        parts.append(struct.pack("!BHI", TLV_CRC32C, _CHECKSUM_LENGTH, 0))
    body = b"".join(parts)
    if len(body) > 65535:
        raise ValueError(f"PROXY header of {len(body)} bytes after its prefix is over 65535: send fewer TLVs")
    prefix = struct.pack("!BBH", _VERSION << 4 | command, family_and_transport, len(body))
    header = _SIGNATURE + prefix + body
    if with_checksum:
        header = header[:-_CHECKSUM_LENGTH] + crc32c(header).to_bytes(4, "big")
    return header


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC32C_TABLE: Final = _crc32c_table()


def crc32c(data: bytes) -> int:
    """Compute the CRC32C (Castagnoli) of RFC 9260 appendix A; byte by byte, for headers of a few kilobytes."""
    crc = 0xFFFFFFFF
    table = _CRC32C_TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
