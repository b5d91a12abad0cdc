"""Tests of :mod:`connectd.protocols.chatr.stun`."""

from __future__ import annotations

import struct

from aioice import stun as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr.stun import (
    BindingMessage,
    MessageClass,
    StunError,
    decode,
    encode_request,
    encode_success,
    is_stun,
)
from tests.strategies import corruptions, truncations

ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"

# RFC 5769, 2.1 to 2.3
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff"
    "80290008932ff9b151263b36"
    "000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)
RESPONSE = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
RESPONSE_IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)

transaction_ids = st.binary(min_size=12, max_size=12)
usernames = st.text(max_size=80).map(str.encode)
keys = st.none() | st.binary(max_size=80)
addresses = st.tuples(st.ip_addresses().map(str), st.integers(0, 65535)).filter(
    lambda one: not one[0].startswith("::ffff:")
)


def message(*attributes: tuple[int, bytes], kind: int = 1, cookie: int = 0x2112A442) -> bytes:
    """Any message, with any attributes, each padded."""
    body = b"".join(
        struct.pack(">HH", attribute, len(value)) + value + bytes(-len(value) % 4) for attribute, value in attributes
    )
    return struct.pack(">HHI", kind, len(body), cookie) + ID + body


class VectorTests(SynchronousTestCase):
    """CH-33: the test vectors of RFC 5769, whose credentials are those of version 2."""

    def test_request(self) -> None:
        read = decode(REQUEST)
        self.assertEqual((read.message_class, read.transaction_id), (MessageClass.REQUEST, ID))
        self.assertEqual((read.username, read.has_fingerprint, read.unknown), (b"evtj:h6vY", True, ()))
        self.assertTrue(read.has_integrity)
        self.assertTrue(read.is_signed_with(PASSWORD))
        self.assertFalse(read.is_signed_with(PASSWORD + b"x"))

    def test_responses(self) -> None:
        for data, mapped in (
            (RESPONSE, ("192.0.2.1", 32853)),
            (RESPONSE_IPV6, ("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
        ):
            read = decode(data)
            self.assertEqual((read.message_class, read.mapped), (MessageClass.SUCCESS, mapped))
            self.assertTrue(read.is_signed_with(PASSWORD))


class EncodingTests(SynchronousTestCase):
    """What we write, read by ourselves and by somebody else."""

    @given(transaction_id=transaction_ids, username=usernames, candidate=st.booleans(), key=keys)
    @settings(deadline=None, max_examples=60)
    def test_requests(self, transaction_id: bytes, username: bytes, candidate: bool, key: bytes | None) -> None:
        """CH-40, CH-41: a check has USERNAME and FINGERPRINT, and in version 2 MESSAGE-INTEGRITY."""
        data = encode_request(transaction_id, username, use_candidate=candidate, key=key)
        read = decode(data)
        self.assertEqual(read.transaction_id, transaction_id)
        self.assertEqual((read.username, read.use_candidate, read.has_fingerprint), (username, candidate, True))
        self.assertEqual(read.has_integrity, key is not None)
        other = oracle.parse_message(data)
        self.assertEqual((other.message_class, other.message_method), (oracle.Class.REQUEST, oracle.Method.BINDING))
        self.assertEqual(other.attributes["USERNAME"], username.decode())
        self.assertEqual("USE-CANDIDATE" in other.attributes, candidate)
        self.assertIn("FINGERPRINT", other.attributes)
        if key is not None:
            self.assertTrue(read.is_signed_with(key))
            self.assertTrue(other.check_message_integrity(key))

    @given(transaction_id=transaction_ids, address=addresses, key=keys, fingerprint=st.booleans())
    @settings(deadline=None, max_examples=60)
    def test_responses(
        self, transaction_id: bytes, address: tuple[str, int], key: bytes | None, fingerprint: bool
    ) -> None:
        """CH-32: XOR-MAPPED-ADDRESS, 32 bytes for IPv4 and 44 for IPv6."""
        data = encode_success(transaction_id, address, key=key, fingerprint=fingerprint)
        size = (44 if ":" in address[0] else 32) + (24 if key is not None else 0) + (8 if fingerprint else 0)
        self.assertEqual(len(data), size)
        read = decode(data)
        self.assertEqual((read.mapped, read.has_fingerprint), (address, fingerprint))
        other = oracle.parse_message(data)
        self.assertEqual(other.attributes["XOR-MAPPED-ADDRESS"], address)
        if key is not None:
            self.assertTrue(read.is_signed_with(key) and other.check_message_integrity(key))

    def test_mapped(self) -> None:
        """CH-32: an IPv4 peer on a socket for both families is told its IPv4 address."""
        self.assertEqual(decode(encode_success(ID, ("::ffff:192.0.2.1", 9))).mapped, ("192.0.2.1", 9))

    def test_theirs(self) -> None:
        """What somebody else writes is read."""
        theirs = oracle.Message(oracle.Method.BINDING, oracle.Class.REQUEST)
        theirs.attributes.update({"USERNAME": "a:b", "PRIORITY": 7, "USE-CANDIDATE": None, "SOFTWARE": "x"})
        theirs.add_message_integrity(PASSWORD)
        read = decode(bytes(theirs))
        self.assertEqual((read.username, read.use_candidate, read.unknown), (b"a:b", True, ()))
        self.assertTrue(read.is_signed_with(PASSWORD))


class DecodingTests(SynchronousTestCase):
    """COM-2, COM-3: what is no Binding message is refused, and says where."""

    def refused(self, data: bytes, offset: int) -> None:
        error = self.assertRaises(StunError, decode, data)
        self.assertEqual(error.offset, offset, str(error))

    def test_header(self) -> None:
        self.refused(b"", 0)
        self.refused(message()[:19], 19)
        self.refused(message(kind=0x8001), 0)
        self.refused(message(kind=0x4001), 0)
        self.refused(message(kind=0x0003), 0)
        self.refused(message() + b"\0\0\0\0", 2)
        self.refused(message()[:2] + b"\0\2" + message()[4:] + b"\0\0", 2)
        self.refused(message(cookie=0x2112A443), 4)

    def test_attributes(self) -> None:
        good = message((0x8022, b"abcd"))
        self.refused(good[:23] + b"\x05" + good[24:], 20)
        self.refused(message((6, bytes(509))), 22)
        self.assertEqual(decode(message((6, bytes(508)))).username, bytes(508))
        self.refused(message((0x25, b"\0")), 22)
        self.refused(message((8, bytes(19))), 22)
        self.refused(message((0x20, b"\0\1\0")), 22)
        self.refused(message((0x20, b"\0\1" + bytes(7))), 24)
        self.refused(message((0x20, b"\0\3" + bytes(6))), 24)
        self.refused(message((0x8028, bytes(3))), 22)
        self.refused(message((0x8028, bytes(4))), 24)
        self.refused(RESPONSE[:2] + b"\0\x40" + RESPONSE[4:] + b"\x80\x22\0\0", len(RESPONSE))

    def test_classes(self) -> None:
        for kind, expected in ((0x01, "REQUEST"), (0x11, "INDICATION"), (0x101, "SUCCESS"), (0x111, "ERROR")):
            self.assertEqual(decode(message(kind=kind)).message_class.name, expected)

    def test_first_counts(self) -> None:
        """RFC 8489, 14: of several attributes of one type the first one counts."""
        self.assertEqual(decode(message((6, b"one"), (6, b"two"))).username, b"one")

    def test_unsigned(self) -> None:
        """RFC 8489, 14.5: what follows MESSAGE-INTEGRITY is not covered by it, and ignored."""
        read = decode(message((8, bytes(20)), (6, b"late"), (0x25, b""), (0x7777, b"")))
        self.assertEqual((read.username, read.use_candidate, read.unknown), (None, False, ()))
        self.assertFalse(read.is_signed_with(b""))

    def test_unknown(self) -> None:
        """Types below 0x8000 that are not known are told; others are ignored."""
        self.assertEqual(decode(message((3, bytes(4)), (0x1C, bytes(32)), (0xC001, b""))).unknown, (3, 0x1C))

    def test_secrets(self) -> None:
        """COM-9: a message that is shown does not show its proof."""
        self.assertNotIn("integrity", repr(decode(REQUEST)))

    @given(data=st.data())
    @settings(deadline=None, max_examples=200)
    def test_damaged(self, data: st.DataObject) -> None:
        """COM-3: damage is noticed or harmless, never an exception of another kind; FINGERPRINT notices all of it."""
        good = data.draw(st.sampled_from([REQUEST, RESPONSE, RESPONSE_IPV6]))
        bad = data.draw(st.one_of(truncations(good), corruptions(good), st.binary(max_size=120)))
        try:
            read = decode(bad)
        except StunError as error:
            self.assertTrue(0 <= error.offset <= len(bad))
        else:
            self.assertIsInstance(read, BindingMessage)
            self.assertFalse(read.has_fingerprint)

    def test_first_byte(self) -> None:
        """CH-32: 0 to 3 is STUN, DTLS and the relay are not."""
        found = {first for first in range(256) if is_stun(bytes((first,)))}
        self.assertEqual(found, {0, 1, 2, 3})
        self.assertFalse(is_stun(b""))
