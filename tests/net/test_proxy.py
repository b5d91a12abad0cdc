from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial import unittest

from connectd.net.proxy import (
    MAX_V1_LENGTH,
    MAX_V2_LENGTH,
    ProxyHeader,
    ProxyHeaderError,
    ProxyHeaderParser,
    crc32c,
    encode_v2,
    encode_v2_local,
)

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
IPV4_BLOCK = bytes.fromhex("CB007105 C6336401 D903 1ED2")
IPV4_HEADER = ProxyHeader(("203.0.113.5", 55555), ("198.51.100.1", 7890))
IPV6_BLOCK = bytes.fromhex(
    "20010DB8000000000000000000000001 20010DB80000000000000000000000FF 0001 FFFF",
)
IPV6_HEADER = ProxyHeader(("2001:db8::1", 1), ("2001:db8::ff", 65535))


def v2(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def unmapped(host: str) -> str:
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def feed_all(pieces: Iterable[bytes]) -> tuple[ProxyHeader | None, bytes]:
    """Feed every piece until the header is there, then collect the rest as a connection would."""
    parser = ProxyHeaderParser()
    header: ProxyHeader | None = None
    rest: list[bytes] = []
    for piece in pieces:
        if header is not None:
            rest.append(piece)
            continue
        header = parser.feed(piece)
        if header is None:
            assert parser.remainder == b""
            assert parser.buffered <= 16 + MAX_V2_LENGTH
    return header, parser.remainder + b"".join(rest)


def outcome(pieces: Iterable[bytes]) -> object:
    try:
        return feed_all(pieces)
    except ProxyHeaderError as error:
        return error.reason, error.offset


class Version1Tests(unittest.SynchronousTestCase):
    def accepted(self, line: bytes, header: ProxyHeader) -> None:
        self.assertEqual(feed_all([line + b"rest"]), (header, b"rest"))

    def refused(self, data: bytes, offset: int, reason: str) -> None:
        """The byte at `offset` is refused for `reason`, as soon as it is there and not before."""
        self.assertIsNone(ProxyHeaderParser().feed(data[:offset]))
        for end in {offset + 1, len(data)}:
            with self.assertRaises(ProxyHeaderError) as caught:
                ProxyHeaderParser().feed(data[:end])
            self.assertEqual((caught.exception.offset, caught.exception.reason), (offset, reason))

    def test_tcp4(self) -> None:
        """COM-5: the example line of the specification."""
        self.accepted(
            b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            ProxyHeader(("192.168.0.1", 56324), ("192.168.0.11", 443)),
        )

    def test_limits(self) -> None:
        """COM-5: the longest and the smallest values that the specification lists."""
        self.accepted(
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            ProxyHeader(("255.255.255.255", 65535), ("255.255.255.255", 65535)),
        )
        full = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        self.accepted(
            b"PROXY TCP6 " + full + b" " + full + b" 65535 65535\r\n",
            ProxyHeader((full.decode(), 65535), (full.decode(), 65535)),
        )
        self.accepted(b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ProxyHeader(("0.0.0.0", 0), ("0.0.0.0", 0)))

    def test_tcp6_canonical(self) -> None:
        """COM-5: addresses come out in one spelling, and a mapped IPv4 address as IPv4."""
        self.accepted(
            b"PROXY TCP6 2001:0DB8:0:0:0:0:0:1 ::ffff:192.0.2.7 1 2\r\n",
            ProxyHeader(("2001:db8::1", 1), ("192.0.2.7", 2)),
        )
        self.accepted(
            b"PROXY TCP6 ::ffff:c000:0207 ::1 1 2\r\n",
            ProxyHeader(("192.0.2.7", 1), ("::1", 2)),
        )

    def test_unknown(self) -> None:
        """COM-5: UNKNOWN keeps the socket's address, whatever the rest of its line says."""
        for line in (
            b"PROXY UNKNOWN\r\n",
            b"PROXY UNKNOWN \r\n",
            b"PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY UNKNOWN \x00\xff\r\n",
            b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n",
        ):
            self.accepted(line, ProxyHeader())

    def test_junk(self) -> None:
        """COM-5: what cannot become a header is refused at its first wrong byte."""
        for data, offset in (
            (b"GET / HTTP/1.1\r\n", 0),
            (b"\x16\x03\x01", 0),
            (b"PROX TCP4", 4),
            (b"PROXY  TCP4", 6),
            (b"PROXY TCP5 ", 9),
            (b"PROXY UDP4 ", 7),
            (b"PROXY tcp4 ", 6),
            (b"PROXY TCP4\t", 10),
            (b"\r\n\r\n\r\n", 4),
            (SIGNATURE[:-1] + b"\r", 11),
        ):
            self.refused(data, offset, "not a PROXY header")

    def test_addresses(self) -> None:
        """COM-5: an address that is not of the announced family, in its strict spelling, is refused."""
        for text, offset in (
            (b"192.0.2.256 ", 10),
            (b"192.0.2.01 ", 9),
            (b"192.0.2 ", 7),
            (b"192.0.2. ", 8),
            (b"192.0.2.1.5 ", 9),
            (b" 192.0.2.1 ", 0),
            (b"::1 ", 0),
            (b"localhost ", 0),
            (b"192.0.2.1\r\n", 9),
        ):
            self.refused(b"PROXY TCP4 " + text, 11 + offset, "source address is not IPv4")
        self.refused(b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n", 21, "destination address is not IPv4")
        self.refused(b"PROXY TCP4 192.0.2.1 192.0.2 1 2\r\n", 28, "destination address is not IPv4")
        for text, offset in (
            (b"192.0.2.1 ", 9),
            (b"1:2:3:4:5:6:7 ", 13),
            (b"1::2::3 ", 7),
            (b"12345::1 ", 4),
            (b"fe80::1%eth0 ", 7),
            (b"::ffff:192.0.2.01 ", 17),
            (b"[::1] ", 0),
            (b" ", 0),
        ):
            self.refused(b"PROXY TCP6 " + text, 11 + offset, "source address is not IPv6")
        self.refused(b"PROXY TCP6 ::1 192.0.2.1 1 2\r\n", 24, "destination address is not IPv6")

    def test_ports(self) -> None:
        """COM-5: ports are decimal, from 0 to 65535, without leading zeros, separated by one space."""
        for text, offset in ((b"65536 ", 4), (b"00 ", 1), (b"01 ", 1), (b"+1 ", 0), (b" 1 ", 0), (b"1\r\n", 1)):
            self.refused(
                b"PROXY TCP4 192.0.2.1 192.0.2.2 " + text,
                31 + offset,
                "source port is not a decimal number from 0 to 65535",
            )
        for text, offset in ((b"70000", 4), (b"100000", 5), (b"\r\n", 0), (b"2 \r\n", 1), (b"2\n", 1), (b"x", 0)):
            self.refused(
                b"PROXY TCP4 192.0.2.1 192.0.2.2 1 " + text,
                33 + offset,
                "destination port is not a decimal number from 0 to 65535",
            )

    def test_every_port(self) -> None:
        """Every port from 0 to 65535 is read; the pattern that takes it has no hole."""
        line = b"PROXY TCP4 192.0.2.1 192.0.2.2 %d %d\r\n"
        for port in (*range(0, 65536, 251), 9, 10, 99, 100, 999, 1000, 9999, 10000, 59999, 64999, 65499, 65529):
            header = ProxyHeaderParser().feed(line % (port, 65535 - port))
            self.assertEqual(header, ProxyHeader(("192.0.2.1", port), ("192.0.2.2", 65535 - port)))

    def test_line_end(self) -> None:
        """COM-5: only CRLF ends the line."""
        line = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2"
        self.refused(line + b"\rX", 35, "carriage return without a line feed")
        self.refused(b"PROXY UNKNOWN\rX", 14, "carriage return without a line feed")
        self.refused(b"PROXY UNKNOWN a\rb\r\n", 16, "carriage return without a line feed")
        self.refused(b"PROXY UNKNOWN a\nb\r\n", 15, "line feed without a carriage return")
        self.refused(b"PROXY UNKNOWN\n", 13, "unknown protocol name")
        self.refused(b"PROXY UNKNOWNS\r\n", 13, "unknown protocol name")

    def test_length(self) -> None:
        """COM-2, COM-5: a version 1 line has at most 107 bytes, its CRLF included."""
        reason = "version 1 line is longer than 107 bytes"
        self.refused(b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n", MAX_V1_LENGTH - 1, reason)
        self.refused(b"PROXY UNKNOWN " + b"f" * 5000, MAX_V1_LENGTH - 1, reason)
        self.refused(b"PROXY TCP6 " + b":" * 96, MAX_V1_LENGTH - 1, reason)
        # A valid line that is one byte too long, because of its spelling of a mapped address.
        mapped = b"0000:0000:0000:0000:0000:ffff:192.168.100.22"
        line = b"PROXY TCP6 %b %b 123 1\r\n" % (mapped, mapped)
        self.assertEqual(len(line), 108)
        self.refused(line, MAX_V1_LENGTH - 1, reason)
        self.assertIsNotNone(ProxyHeaderParser().feed(line.replace(b"123", b"12")))


class Version2Tests(unittest.SynchronousTestCase):
    def accepted(self, data: bytes, header: ProxyHeader) -> None:
        self.assertEqual(feed_all([data + b"rest"]), (header, b"rest"))
        self.assertIsNone(ProxyHeaderParser().feed(data[:-1]))

    def refused(self, data: bytes, offset: int, reason: str) -> None:
        """Refused when the byte at `offset` is there, and not before."""
        self.assertIsNone(ProxyHeaderParser().feed(data[:offset]))
        for end in {offset + 1, len(data)}:
            with self.assertRaises(ProxyHeaderError) as caught:
                ProxyHeaderParser().feed(data[:end])
            self.assertEqual((caught.exception.offset, caught.exception.reason), (offset, reason))

    def refused_when_complete(self, data: bytes, offset: int, reason: str) -> None:
        self.assertIsNone(ProxyHeaderParser().feed(data[:-1]))
        with self.assertRaises(ProxyHeaderError) as caught:
            ProxyHeaderParser().feed(data)
        self.assertEqual((caught.exception.offset, caught.exception.reason), (offset, reason))

    def test_tcp4(self) -> None:
        """COM-5: command PROXY over TCP and IPv4."""
        self.accepted(v2(0x21, 0x11, IPV4_BLOCK), IPV4_HEADER)

    def test_tcp6(self) -> None:
        """COM-5: command PROXY over TCP and IPv6."""
        self.accepted(v2(0x21, 0x21, IPV6_BLOCK), IPV6_HEADER)

    def test_mapped(self) -> None:
        """COM-5: a mapped IPv4 address counts as the IPv4 address it is."""
        mapped = bytes(10) + b"\xff\xff"
        block = mapped + bytes([192, 0, 2, 1]) + mapped + bytes([192, 0, 2, 2]) + b"\x00\x05\x00\x06"
        self.accepted(v2(0x21, 0x21, block), ProxyHeader(("192.0.2.1", 5), ("192.0.2.2", 6)))

    def test_no_address(self) -> None:
        """COM-5: LOCAL and the families without a network address keep the socket's address."""
        for data in (
            v2(0x20, 0x00, b""),
            v2(0x20, 0x11, IPV4_BLOCK),
            v2(0x20, 0x12, IPV4_BLOCK),
            v2(0x20, 0xFF, b"\x01"),
            v2(0x20, 0x00, b"\x04\xff\xffjunk"),
            v2(0x21, 0x00, b""),
            v2(0x21, 0x31, b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")),
            v2(0x21, 0x32, bytes(216)),
        ):
            self.accepted(data, ProxyHeader())

    def test_tlvs(self) -> None:
        """TLVs follow the addresses of each family and are given in their order."""
        tlvs = ((0x02, b"example.net"), (0x04, b""), (0x04, b"pad"), (0xE0, b"x" * 300))
        body = b"".join(tlv(kind, value) for kind, value in tlvs)
        self.accepted(v2(0x21, 0x11, IPV4_BLOCK + body), ProxyHeader(IPV4_HEADER.source, IPV4_HEADER.destination, tlvs))
        self.accepted(v2(0x21, 0x21, IPV6_BLOCK + body), ProxyHeader(IPV6_HEADER.source, IPV6_HEADER.destination, tlvs))
        self.accepted(v2(0x21, 0x31, bytes(216) + body), ProxyHeader(tlvs=tlvs))
        self.accepted(v2(0x21, 0x00, body), ProxyHeader(tlvs=tlvs))
        self.accepted(v2(0x20, 0x00, body), ProxyHeader(tlvs=tlvs))
        self.accepted(v2(0x20, 0x11, IPV4_BLOCK + body), ProxyHeader(tlvs=tlvs))

    def test_prefix(self) -> None:
        """COM-5: version, command, family and transport are checked byte by byte."""
        self.refused(v2(0x11, 0x11, IPV4_BLOCK), 12, "version 1 in a binary header; only version 2 exists")
        self.refused(v2(0x31, 0x11, IPV4_BLOCK), 12, "version 3 in a binary header; only version 2 exists")
        self.refused(v2(0x22, 0x11, IPV4_BLOCK), 12, "unknown command 2")
        self.refused(v2(0x21, 0x41, IPV4_BLOCK), 13, "unknown address family 4")
        self.refused(v2(0x21, 0x12, IPV4_BLOCK), 13, "transport 2 is not a stream")
        self.refused(v2(0x21, 0x22, IPV6_BLOCK), 13, "transport 2 is not a stream")
        self.refused(v2(0x21, 0x10, IPV4_BLOCK), 13, "transport 0 is not a stream")
        self.refused(v2(0x21, 0x13, IPV4_BLOCK), 13, "unknown transport 3")
        self.refused(v2(0x21, 0x33, bytes(216)), 13, "unknown transport 3")

    def test_declared_length(self) -> None:
        """COM-2: a declared length over the cap is refused before any of it is held; so is one too short."""
        self.assertEqual(MAX_V2_LENGTH, 4096)
        self.refused(v2(0x21, 0x11, b"", 4097), 15, "declared length 4097 is over 4096")
        self.refused(v2(0x21, 0x11, b"", 0x1100), 14, "declared length is over 4096")
        self.refused(v2(0x20, 0x00, b"", 0xFFFF), 14, "declared length is over 4096")
        self.refused(v2(0x21, 0x11, b"", 11), 15, "declared length 11 is too short for 12 bytes of addresses")
        self.refused(v2(0x21, 0x21, b"", 35), 15, "declared length 35 is too short for 36 bytes of addresses")
        self.refused(v2(0x21, 0x31, b"", 215), 15, "declared length 215 is too short for 216 bytes of addresses")
        largest = ((0x04, bytes(4096 - 12 - 3)),)
        self.accepted(
            v2(0x21, 0x11, IPV4_BLOCK + tlv(*largest[0])),
            ProxyHeader(IPV4_HEADER.source, IPV4_HEADER.destination, largest),
        )

    def test_malformed_tlvs(self) -> None:
        """COM-3: TLVs have to fill the header exactly."""
        reason = "TLV is cut short by the end of the header"
        self.refused_when_complete(v2(0x21, 0x11, IPV4_BLOCK + b"\x04"), 28, reason)
        self.refused_when_complete(v2(0x21, 0x11, IPV4_BLOCK + tlv(4, b"abc") + b"\x04\x00"), 34, reason)
        reason = "TLV of 2 bytes exceeds the header"
        self.refused_when_complete(v2(0x21, 0x00, b"\x04\x00\x02a"), 16, reason)

    def test_checksum(self) -> None:
        """COM-3: a CRC32C that is present is verified, over the header with the checksum zeroed."""
        zeroed = v2(0x21, 0x11, IPV4_BLOCK + tlv(3, bytes(4)) + tlv(5, b"id"))
        checksum = crc32c(zeroed).to_bytes(4, "big")
        body = IPV4_BLOCK + tlv(3, checksum) + tlv(5, b"id")
        tlvs = ((3, checksum), (5, b"id"))
        self.accepted(v2(0x21, 0x11, body), ProxyHeader(IPV4_HEADER.source, IPV4_HEADER.destination, tlvs))
        reason = "CRC32C does not match the header"
        self.refused_when_complete(v2(0x21, 0x11, body[:-1] + b"D"), 28, reason)
        self.refused_when_complete(zeroed, 28, reason)
        self.refused_when_complete(v2(0x20, 0x00, tlv(3, b"\x01\x02\x03\x04")), 16, reason)
        reason = "CRC32C is not one TLV of 4 bytes"
        self.refused_when_complete(v2(0x21, 0x11, IPV4_BLOCK + tlv(3, b"123")), 28, reason)
        self.refused_when_complete(v2(0x21, 0x11, IPV4_BLOCK + tlv(3, checksum) * 2), 35, reason)

    def test_checksum_vectors(self) -> None:
        """The check value of CRC-32C and the examples of RFC 3720, appendix B.4."""
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)
        self.assertEqual(crc32c(bytes(32)), 0x8A9136AA)
        self.assertEqual(crc32c(b"\xff" * 32), 0x62A8AB43)
        self.assertEqual(crc32c(bytes(range(32))), 0x46DD794E)
        self.assertEqual(crc32c(b""), 0)


class ParserTests(unittest.SynchronousTestCase):
    def test_remainder(self) -> None:
        """The first bytes of the protocol itself are handed back, not read."""
        parser = ProxyHeaderParser()
        self.assertIsNone(parser.feed(b""))
        self.assertIsNone(parser.feed(b"PROXY UNKNOWN\r"))
        self.assertEqual((parser.buffered, parser.remainder), (14, b""))
        self.assertEqual(parser.feed(b"\nPROXY UNKNOWN\r\n"), ProxyHeader())
        self.assertEqual((parser.buffered, parser.remainder), (0, b"PROXY UNKNOWN\r\n"))
        self.assertRaises(RuntimeError, parser.feed, b"PROXY UNKNOWN\r\n")

    def test_stays_refused(self) -> None:
        """COM-3: bytes after a refusal cannot turn it into a header, and nothing is held any more."""
        parser = ProxyHeaderParser()
        self.assertIsNone(parser.feed(b"PRO"))
        first = self.assertRaises(ProxyHeaderError, parser.feed, b"K")
        self.assertEqual(parser.buffered, 0)
        second = self.assertRaises(ProxyHeaderError, parser.feed, b"PROXY UNKNOWN\r\n")
        self.assertEqual(str(first), "not a PROXY header (at byte 3)")
        self.assertEqual(str(second), str(first))
        self.assertEqual(parser.remainder, b"")

    def test_slots(self) -> None:
        """One parser exists for each connection that waits for its header: no instance dictionary."""
        self.assertFalse(hasattr(ProxyHeaderParser(), "__dict__"))
        self.assertFalse(hasattr(ProxyHeader(), "__dict__"))


class EncodeTests(unittest.SynchronousTestCase):
    def test_tcp4(self) -> None:
        """The bytes are those of the specification's layout."""
        encoded = encode_v2(("203.0.113.5", 55555), ("198.51.100.1", 7890), [(0xE1, b"lekt")])
        self.assertEqual(encoded, v2(0x21, 0x11, IPV4_BLOCK + b"\xe1\x00\x04lekt"))

    def test_tcp6(self) -> None:
        """IPv6 likewise."""
        self.assertEqual(encode_v2(("2001:db8::1", 1), ("2001:db8::ff", 65535)), v2(0x21, 0x21, IPV6_BLOCK))

    def test_families(self) -> None:
        """Two families in one header: IPv4 is mapped; two mapped addresses are plain IPv4."""
        mapped = bytes(10) + b"\xff\xff\xc0\x00\x02\x01"
        one = bytes(15) + b"\x01"
        ports = b"\x00\x05\x00\x06"
        self.assertEqual(encode_v2(("192.0.2.1", 5), ("::1", 6)), v2(0x21, 0x21, mapped + one + ports))
        self.assertEqual(encode_v2(("::1", 5), ("192.0.2.1", 6)), v2(0x21, 0x21, one + mapped + ports))
        self.assertEqual(encode_v2(("::ffff:203.0.113.5", 55555), ("198.51.100.1", 7890)), v2(0x21, 0x11, IPV4_BLOCK))

    def test_local(self) -> None:
        """A LOCAL header has no address block."""
        self.assertEqual(encode_v2_local(), v2(0x20, 0x00, b""))
        self.assertEqual(encode_v2_local([(0xE0, b"s")]), v2(0x20, 0x00, b"\xe0\x00\x01s"))

    def test_checksum(self) -> None:
        """The checksum is computed over the header with its own value zero."""
        encoded = encode_v2_local([(0xE2, b"a")], with_checksum=True)
        zeroed = v2(0x20, 0x00, tlv(0xE2, b"a") + tlv(3, bytes(4)))
        self.assertEqual(encoded[:-4], zeroed[:-4])
        self.assertEqual(int.from_bytes(encoded[-4:], "big"), crc32c(zeroed))

    def test_refused(self) -> None:
        """What no header can carry is refused, naming the value."""
        here, there = ("192.0.2.1", 5), ("192.0.2.2", 6)
        for arguments, text in (
            ((("example.net", 5), there), "example.net"),
            ((("192.0.2.1", 65536), there), "65536"),
            ((here, ("192.0.2.1", -1)), "-1"),
            ((here, there, [(256, b"")]), "256"),
            ((here, there, [(-1, b"")]), "-1"),
            ((here, there, [(3, bytes(4))]), "CRC32C"),
            ((here, there, [(0xE0, bytes(65536))]), "65536"),
            ((here, there, [(0xE0, bytes(65521))]), "65536"),
        ):
            error = self.assertRaises(ValueError, encode_v2, *arguments)
            self.assertIn(text, str(error))
        self.assertEqual(len(encode_v2(here, there, [(0xE0, bytes(65520))])), 16 + 65535)
        self.assertRaises(ValueError, encode_v2, here, there, [(0xE0, bytes(65520))], with_checksum=True)


ADDRESSES = st.tuples(st.ip_addresses().map(str), st.integers(0, 65535))
TLVS = st.lists(st.tuples(st.integers(0, 255).filter(lambda kind: kind != 3), st.binary(max_size=40)), max_size=6)
ENCODED = st.one_of(
    st.builds(
        lambda source, destination, tlvs, checksum: encode_v2(source, destination, tlvs, with_checksum=checksum),
        ADDRESSES,
        ADDRESSES,
        TLVS,
        st.booleans(),
    ),
    st.builds(lambda tlvs, checksum: encode_v2_local(tlvs, with_checksum=checksum), TLVS, st.booleans()),
    st.builds(
        lambda version, a, b, c, d: f"PROXY TCP{version} {a} {b} {c} {d}\r\n".encode(),
        st.sampled_from([4, 6]),
        st.ip_addresses(),
        st.ip_addresses(),
        st.integers(0, 66000),
        st.integers(0, 66000),
    ),
    st.builds(lambda text: b"PROXY UNKNOWN" + text + b"\r\n", st.binary(max_size=100)),
)


@st.composite
def nearly_headers(draw: st.DrawFn) -> bytes:
    """A header with a few bytes changed, cut or added: beginnings that look right for as long as possible."""
    data = bytearray(draw(ENCODED))
    for _ in range(draw(st.integers(0, 2))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.sampled_from(b"\x00\x01\x11\x21\x04\xff\r\n 0:.9f"))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data) + draw(st.binary(max_size=9))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


class PropertyTests(unittest.SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(nearly_headers(), st.lists(st.integers(0, 5000), max_size=8))
    def test_any_segmentation(self, data: bytes, places: list[int]) -> None:
        """COM-5: however the bytes are cut, the header, the remainder, the reason and the offset are the same."""
        whole = outcome([data])
        self.assertEqual(outcome(cut(data, places)), whole)
        self.assertEqual(outcome(data[index : index + 1] for index in range(len(data))), whole)

    @settings(deadline=None, max_examples=150)
    @given(st.one_of(nearly_headers(), st.binary(max_size=60), st.binary(max_size=60).map(SIGNATURE.__add__)))
    def test_refused_at_the_byte(self, data: bytes) -> None:
        """COM-3, COM-5: no exception but ours, and bytes before the refused one are no reason to refuse."""
        parser = ProxyHeaderParser()
        try:
            parser.feed(data)
        except ProxyHeaderError as error:
            self.assertLess(error.offset, len(data))
            self.assertIsNone(ProxyHeaderParser().feed(data[: error.offset]))
            if error.offset < 16 or data.startswith(b"PROXY"):
                again = self.assertRaises(ProxyHeaderError, ProxyHeaderParser().feed, data[: error.offset + 1])
                self.assertEqual((again.reason, again.offset), (error.reason, error.offset))

    @settings(deadline=None, max_examples=50)
    @given(st.integers(0, 65535), st.sampled_from([0x20, 0x21]), st.sampled_from([0x00, 0x11, 0x21, 0x31]))
    def test_buffer_is_bounded(self, length: int, command: int, family: int) -> None:
        """COM-2: whatever is declared, no more than the cap is ever held."""
        data = v2(command, family, b"", length) + b"\x04" * 70000
        parser = ProxyHeaderParser()
        try:
            for index in range(0, len(data), 1000):
                if parser.feed(data[index : index + 1000]) is not None:
                    return
                self.assertLessEqual(parser.buffered, 16 + MAX_V2_LENGTH)
        except ProxyHeaderError:
            self.assertEqual(parser.buffered, 0)
        else:
            self.fail("70000 bytes and neither a header nor a refusal")

    @settings(deadline=None, max_examples=100)
    @given(ADDRESSES, ADDRESSES, TLVS, st.booleans())
    def test_round_trip(
        self, source: tuple[str, int], destination: tuple[str, int], tlvs: list[tuple[int, bytes]], checksum: bool
    ) -> None:
        """What `encode_v2` writes, the parser reads."""
        encoded = encode_v2(source, destination, tlvs, with_checksum=checksum)
        header, rest = feed_all([encoded + b"rest"])
        assert header is not None
        self.assertEqual(rest, b"rest")
        canonical = [(unmapped(host), port) for host, port in (source, destination)]
        self.assertEqual([header.source, header.destination], canonical)
        self.assertEqual(list(header.tlvs[: len(tlvs)]), tlvs)
        self.assertEqual([kind for kind, _ in header.tlvs[len(tlvs) :]], [3] if checksum else [])
        local, rest = feed_all([encode_v2_local(tlvs, with_checksum=checksum)])
        assert local is not None
        self.assertEqual((local.source, local.destination, rest), (None, None, b""))
        self.assertEqual(local.tlvs[: len(tlvs)], tuple(tlvs))
