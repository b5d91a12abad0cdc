"""Tests of :mod:`connectd.protocols.lekt.packets`. Expected bytes are written by hand from the protocol page."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.lekt.packets import (
    METHODS,
    Accept,
    Entry,
    Heartbeat,
    Hello,
    Reject,
    Request,
    Response,
    WrongByte,
    WrongVersion,
    decode_port,
    encode_additions,
    encode_port,
    encode_removals,
    read_type,
)
from connectd.wire import Truncated


def octets(text: str) -> bytes:
    """Bytes from hexadecimal digits; ``|`` separates fields for the eye."""
    return bytes.fromhex(text.replace("|", " "))


class HeaderTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """LEKT-3: eight bytes make a header, and only then its type is told."""
        header = octets("4c 45 4b 54 | 48 | 00 00 00")
        self.assertEqual(read_type(header, b"H"), 0x48)
        self.assertEqual(read_type(header + b"more", b"AH"), 0x48)
        for length in range(8):
            self.assertIsNone(read_type(header[:length], b"H"))

    def test_first_wrong_byte(self) -> None:
        """LEKT-1: each byte of the magic and the type is judged as soon as it is there."""
        header = octets("4c 45 4b 54 | 48 | 00 00 00")
        for offset in range(5):
            wrong = header[:offset] + b"\xff"
            with self.assertRaises(WrongByte) as caught:
                read_type(wrong, b"H")
            self.assertEqual(caught.exception.offset, offset)
            with self.assertRaises(WrongByte) as caught:
                read_type(wrong + bytes(200), b"H")
            self.assertEqual(caught.exception.offset, offset)

    def test_wrong_byte_of_a_whole_header(self) -> None:
        """LEKT-1: a whole header is judged as its beginning is, where a single byte of it is wrong."""
        header = octets("4c 45 4b 54 | 48 | 00 00 00")
        for offset in range(5):
            wrong = bytearray(header + bytes(8))
            wrong[offset] ^= 0x20
            with self.assertRaises(WrongByte) as caught:
                read_type(wrong, b"H")
            self.assertEqual(caught.exception.offset, offset)

    def test_bytearray(self) -> None:
        """A machine's buffer is read without a copy."""
        self.assertEqual(read_type(bytearray(octets("4c 45 4b 54 | 54 | 00 00 00")), b"TR"), 0x54)

    def test_type_among_those_allowed(self) -> None:
        """LEKT-15: a type that exists but does not belong here is a wrong byte."""
        with self.assertRaises(WrongByte) as caught:
            read_type(octets("4c 45 4b 54 | 41"), b"HT")
        self.assertEqual(caught.exception.offset, 4)

    def test_version(self) -> None:
        """LEKT-3: major and minor must be 0; that is checked once all 8 bytes are in, and extra is ignored."""
        for major, minor in ((1, 0), (0, 1), (255, 255)):
            header = octets("4c 45 4b 54 | 48") + bytes((major, minor, 0))
            self.assertIsNone(read_type(header[:7], b"H"))
            with self.assertRaises(WrongVersion) as caught:
                read_type(header, b"H")
            self.assertEqual((caught.exception.major, caught.exception.minor), (major, minor))
        for extra in (0, 1, 255):
            self.assertEqual(read_type(octets("4c 45 4b 54 | 48 | 00 00") + bytes((extra,)), b"H"), 0x48)

    def test_wrong_type_before_wrong_version(self) -> None:
        """LEKT-1: what is no LEKT at all is not called an unsupported version."""
        with self.assertRaises(WrongByte):
            read_type(octets("4c 45 4b 54 | 5a | 09 09 09"), b"H")


class FixedMessageTests(SynchronousTestCase):
    def test_bytes(self) -> None:
        """LEKT-3, LEKT-4, LEKT-5, LEKT-7: every message of fixed form, byte by byte, extra sent as 0."""
        expected: dict[Hello | Accept | Request | Response | Heartbeat, str] = {
            Hello(0, ()): "4c454b54 | 48 | 00 00 00 | 00000000",
            Hello(1, (1,)): "4c454b54 | 48 | 00 00 00 | 00000001 | 00000001",
            Hello(33, (0x80000000, 1)): "4c454b54 | 48 | 00 00 00 | 00000021 | 80000000 | 00000001",
            Accept(): "4c454b54 | 41 | 00 00 00",
            Request(0): "4c454b54 | 54 | 00 00 00 | 00000000",
            Request(1): "4c454b54 | 54 | 00 00 00 | 00000001",
            Request(0x01020304): "4c454b54 | 54 | 00 00 00 | 01020304",
            Response(1, octets("00001f90")): "4c454b54 | 54 | 00 00 00 | 00000001 | 00001f90",
            Heartbeat(0): "4c454b54 | 48 | 00 00 00 | 0000000000000000",
            Heartbeat(1_700_000_000): "4c454b54 | 48 | 00 00 00 | 000000006553f100",
            Heartbeat(-1): "4c454b54 | 48 | 00 00 00 | ffffffffffffffff",
        }
        for message, wire in expected.items():
            self.assertEqual(message.encode(), octets(wire), message)

    def test_reject(self) -> None:
        """LEKT-4: text, NUL, zeros up to a multiple of 4: always one NUL, never more than four."""
        expected = {
            "": b"LEKTR\0\0\0\0\0\0\0",
            "a": b"LEKTR\0\0\0a\0\0\0",
            "ab": b"LEKTR\0\0\0ab\0\0",
            "abc": b"LEKTR\0\0\0abc\0",
            "abcd": b"LEKTR\0\0\0abcd\0\0\0\0",
            "é!": b"LEKTR\0\0\0\xc3\xa9!\0",
        }
        for text, wire in expected.items():
            self.assertEqual(Reject(text).encode(), wire)

    def test_reject_length(self) -> None:
        """LEKT-4: at most 255 bytes of UTF-8, cut between characters."""
        self.assertEqual(Reject("x" * 255).encode(), b"LEKTR\0\0\0" + b"x" * 255 + b"\0")
        self.assertEqual(Reject("x" * 256).encode(), b"LEKTR\0\0\0" + b"x" * 255 + b"\0")
        self.assertEqual(Reject("x" * 254 + "é").encode(), b"LEKTR\0\0\0" + b"x" * 254 + b"\0\0")
        self.assertEqual(Reject("x" * 253 + "é").encode(), b"LEKTR\0\0\0" + b"x" * 253 + b"\xc3\xa9\0")
        self.assertEqual(Reject("x" * 252 + "\U0001f600").encode(), b"LEKTR\0\0\0" + b"x" * 252 + b"\0\0\0\0")

    def test_reject_odd_text(self) -> None:
        """LEKT-4: a NUL inside would end the text early, and a lone surrogate is no UTF-8."""
        self.assertEqual(Reject("a\0b").encode(), b"LEKTR\0\0\0a b\0")
        self.assertEqual(Reject("a\ud800b").encode(), b"LEKTR\0\0\0a?b\0")

    @given(text=st.text(max_size=300))
    @settings(deadline=None, max_examples=50)
    def test_any_reject(self, text: str) -> None:
        """LEKT-4: whatever the text, it is UTF-8 of at most 255 bytes, NUL-terminated and padded."""
        wire = Reject(text).encode()
        self.assertEqual(len(wire) % 4, 0)
        body, terminator, padding = wire[8:].partition(b"\0")
        self.assertEqual(terminator, b"\0")
        self.assertEqual(padding.strip(b"\0"), b"")
        self.assertLess(len(padding), 4)
        self.assertLessEqual(len(body), 255)
        self.assertTrue(text.replace("\0", " ").startswith(body.decode()))


class HelloTests(SynchronousTestCase):
    def check(self, known: int, words: Sequence[int], *methods: int) -> None:
        self.assertEqual(Hello(known, tuple(words)).methods, frozenset(methods))

    def test_bits(self) -> None:
        """LEKT-2: method i is bit (i-1) mod 32, least significant first, of word (i-1) div 32."""
        self.check(32, [0x00000001], 1)
        self.check(32, [0x00000002], 2)
        self.check(32, [0x80000000], 32)
        self.check(33, [0, 1], 33)
        self.check(64, [0x80000001, 0x80000001], 1, 32, 33, 64)
        self.check(1024, [*[0] * 31, 0x80000000], 1024)

    def test_none(self) -> None:
        """LEKT-2: N = 0 is legal and means no method."""
        self.check(0, [])

    def test_one(self) -> None:
        """LEKT-2: while N = 1 any nonzero word means method 1."""
        for word in (1, 2, 0x80000000, 0x01000000, 0xFFFFFFFF):
            self.check(1, [word], 1)
        self.check(1, [0])

    def test_bits_beyond_the_last(self) -> None:
        """LEKT-2: N says how many there are; bits after the last one mean nothing."""
        self.check(2, [0xFFFFFFFF], 1, 2)
        self.check(33, [0, 0xFFFFFFFF], 33)
        self.check(1024, [0xFFFFFFFF] * 32, *range(1, 1025))

    @given(known=st.integers(2, 1024), data=st.data())
    @settings(deadline=None, max_examples=50)
    def test_any_bit(self, known: int, data: st.DataObject) -> None:
        """LEKT-2: one bit is one method, anywhere in the field."""
        method = data.draw(st.integers(1, known))
        words = [0] * ((known + 31) // 32)
        words[(method - 1) // 32] = 2 ** ((method - 1) % 32)
        self.check(known, words, method)

    def test_offering(self) -> None:
        """LEKT-2: our own hello knows one method; whether it is offered is its bit."""
        self.assertEqual(Hello.offering([1]).encode(), octets("4c454b54 | 48 | 00 00 00 | 00000001 | 00000001"))
        self.assertEqual(Hello.offering([]).encode(), octets("4c454b54 | 48 | 00 00 00 | 00000001 | 00000000"))
        self.assertEqual(sorted(METHODS), [1])
        self.assertEqual((METHODS[1].name, METHODS[1].size), ("Direct TCP", 4))


class PortTests(SynchronousTestCase):
    def test_encode(self) -> None:
        """LEKT-6: a u32, big-endian."""
        self.assertEqual(encode_port(1), octets("00000001"))
        self.assertEqual(encode_port(8080), octets("00001f90"))
        self.assertEqual(encode_port(65535), octets("0000ffff"))
        for port in (0, -1, 65536):
            error = self.assertRaises(ValueError, encode_port, port)
            self.assertIn(str(port), str(error))

    def test_decode(self) -> None:
        """LEKT-6: 1 to 65535; 0 and 65536 are none, and neither is another length."""
        self.assertEqual(decode_port(octets("00000001")), 1)
        self.assertEqual(decode_port(octets("0000ffff")), 65535)
        for wrong in ("00000000", "00010000", "ffffffff", "1f90", "0000001f90", ""):
            self.assertIsNone(decode_port(octets(wrong)), wrong)


class EntryTests(SynchronousTestCase):
    address = IPv4Address("192.0.2.1")

    def test_encode(self) -> None:
        """LEKT-7: size of what follows, address, then index and information for each method."""
        self.assertEqual(Entry(self.address, ()).encode(), octets("00000004 | c0000201"))
        self.assertEqual(
            Entry(self.address, ((1, octets("00001f90")),)).encode(),
            octets("0000000c | c0000201 | 00000001 00001f90"),
        )
        self.assertEqual(
            Entry(self.address, ((1, octets("00001f90")), (7, b"abcdefgh"))).encode(),
            octets("00000018 | c0000201 | 00000001 00001f90 | 00000007 6162636465666768"),
        )

    def test_decode(self) -> None:
        """LEKT-5: what follows the size; methods that we do not know are skipped by it."""
        direct = Entry(self.address, ((1, octets("00001f90")),))
        self.assertEqual(Entry.decode(octets("c0000201")), Entry(self.address, ()))
        self.assertEqual(Entry.decode(octets("c0000201 | 00000001 00001f90")), direct)
        self.assertEqual(Entry.decode(octets("c0000201 | 00000001 00001f90 | 00000007 aabbccdd ee")), direct)
        self.assertEqual(Entry.decode(octets("c0000201 | 00000007 00000001 00001f90")), Entry(self.address, ()))

    def test_cut_short(self) -> None:
        """COM-3: an entry whose size leaves no room for what it begins is told with the offset."""
        for wire, offset in (
            ("c00002", 0),
            ("c0000201 | 00", 4),
            ("c0000201 | 000001", 4),
            ("c0000201 | 00000001", 8),
            ("c0000201 | 00000001 001f90", 8),
        ):
            error = self.assertRaises(Truncated, Entry.decode, octets(wire))
            self.assertEqual(error.offset, offset, wire)

    def test_for_people(self) -> None:
        direct = Entry(self.address, ((1, octets("00001f90")),))
        self.assertEqual((direct.port, str(direct)), (8080, "192.0.2.1:8080"))
        bare = Entry(self.address, ())
        self.assertEqual((bare.port, str(bare)), (None, "192.0.2.1"))
        self.assertIsNone(Entry(self.address, ((7, octets("00001f90")),)).port)


def update(time: int, kind: bytes, count: int) -> bytes:
    """The 20 bytes before an update's entries."""
    return b"LEKTH\0\0\0" + time.to_bytes(8, "big", signed=True) + kind + count.to_bytes(3, "big")


class UpdateTests(SynchronousTestCase):
    def test_bytes(self) -> None:
        """LEKT-7, LEKT-8: an update's 20 bytes and its entries."""
        self.assertEqual(
            b"".join(encode_additions(1_700_000_000, [b"one!", b"two!"])),
            octets("4c454b54 48000000 | 000000006553f100 | 41 000002") + b"one!two!",
        )
        self.assertEqual(b"".join(encode_additions(0, [])), octets("4c454b54 48000000 | 0000000000000000 | 41 000000"))
        self.assertEqual(
            b"".join(encode_removals(1, [octets("c0000201"), octets("c0000202")])),
            octets("4c454b54 48000000 | 0000000000000001 | 52 000002 | c0000201 c0000202"),
        )
        self.assertEqual(encode_removals(1, []), [])

    def test_addition_boundaries(self) -> None:
        """LEKT-8: every A but the last holds exactly 65,536 entries, the last fewer, perhaps 0."""
        for total, counts in (
            (0, [0]),
            (1, [1]),
            (65_535, [65_535]),
            (65_536, [65_536, 0]),
            (65_537, [65_536, 1]),
            (131_072, [65_536, 65_536, 0]),
        ):
            expected = b"".join(update(5, b"A", count) + b"entry" * count for count in counts)
            self.assertTrue(b"".join(encode_additions(5, [b"entry"] * total)) == expected, total)

    def test_addition_order(self) -> None:
        """LEKT-8: no entry is lost, doubled or moved where one update ends and the next begins."""
        entries = [number.to_bytes(4, "big") for number in range(65_540)]
        expected = (
            update(5, b"A", 65_536) + b"".join(entries[:65_536]) + update(5, b"A", 4) + b"".join(entries[65_536:])
        )
        self.assertTrue(b"".join(encode_additions(5, entries)) == expected)

    def test_removal_boundaries(self) -> None:
        """LEKT-8: an R holds at most 262,144 addresses."""
        for total, counts in (
            (1, [1]),
            (262_143, [262_143]),
            (262_144, [262_144]),
            (262_145, [262_144, 1]),
            (524_289, [262_144, 262_144, 1]),
        ):
            expected = b"".join(update(5, b"R", count) + b"addr" * count for count in counts)
            self.assertTrue(b"".join(encode_removals(5, [b"addr"] * total)) == expected, total)
