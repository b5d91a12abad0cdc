"""Tests of :mod:`connectd.protocols.chatr.packets`: bytes written by hand, and round trips."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr.packets import (
    MAXIMUM_STRING,
    MAXIMUM_VARINT,
    ClientInfo,
    Connect,
    Connected,
    ConnectionRequest,
    ConnectionRequestAccept,
    ConnectionRequestDenied,
    Disconnect,
    PacketError,
    Ping,
    Pong,
    decode_packet,
    encode_string,
    encode_varint,
    read_varint,
)

ALICE = UUID("00112233-4455-6677-8899-aabbccddeeff")
HEX = ALICE.hex

WIRE: list[tuple[Any, str]] = [
    (Connect(1, ALICE, b"sig"), "1c 00 00000001" + HEX + "00000003 736967"),
    (Connect(0xFFFFFFFF, ALICE, b""), "19 00 ffffffff" + HEX + "00000000"),
    (Connect(1, ALICE, bytes(512)), "9904 00 00000001" + HEX + "00000200" + "00" * 512),
    (Disconnect("Time out"), "0a 01 08 54696d65206f7574"),
    (Disconnect(""), "02 01 00"),
    (Connected(), "01 02"),
    (Ping(1), "09 03 0000000000000001"),
    (Pong(-1), "09 04 ffffffffffffffff"),
    (ConnectionRequest(ALICE, IPv4Address("192.168.0.7")), "16 05" + HEX + "04 c0a80007"),
    (ConnectionRequestAccept(ALICE, IPv6Address("fd00::1")), "22 06" + HEX + "06 fd00" + "00" * 13 + "01"),
    (ConnectionRequestDenied(ALICE), "11 07" + HEX),
    (ClientInfo(ALICE, IPv4Address("203.0.113.9")), "16 08" + HEX + "04 cb007109"),
]

uuids = st.uuids(allow_nil=True)
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
ids = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(codec="utf-8"), max_size=200)
packets: st.SearchStrategy[Any] = st.one_of(
    st.builds(Connect, st.integers(0, 2**32 - 1), uuids, st.binary(max_size=1024)),
    st.builds(Disconnect, texts),
    st.just(Connected()),
    st.builds(Ping, ids),
    st.builds(Pong, ids),
    st.builds(ConnectionRequest, uuids, addresses),
    st.builds(ConnectionRequestAccept, uuids, addresses),
    st.builds(ConnectionRequestDenied, uuids),
    st.builds(ClientInfo, uuids, addresses),
)


def decode(frame: bytes) -> Any:
    """A whole frame's packet."""
    found = read_varint(frame)
    assert found is not None
    length, start = found
    assert len(frame) == start + length
    return decode_packet(frame[start:])


class PacketTests(SynchronousTestCase):
    def test_wire(self) -> None:
        """CH-1 to CH-7: every packet, in the bytes of the page."""
        for packet, text in WIRE:
            wire = bytes.fromhex(text)
            self.assertEqual(packet.encode(), wire, packet)
            self.assertEqual(decode(wire), packet)

    @given(packets)
    def test_round_trip(self, packet: Any) -> None:
        """CH-1: what is encoded is decoded."""
        self.assertEqual(decode(packet.encode()), packet)

    @given(packets, st.data())
    def test_cut_short(self, packet: Any, data: st.DataObject) -> None:
        """CH-1: no beginning of a packet is a packet, and the offset of what is missing lies behind the end."""
        wire = packet.encode()
        start = read_varint(wire)[1]  # type: ignore[index]  # it is whole
        body = wire[start:]
        cut = body[: data.draw(st.integers(1, max(1, len(body) - 1)))]
        if cut == body:
            return
        with self.assertRaises(PacketError) as caught:
            decode_packet(cut)
        self.assertLessEqual(caught.exception.offset, len(cut))

    @given(packets, st.binary(min_size=1, max_size=8))
    def test_trailing_bytes(self, packet: Any, trailing: bytes) -> None:
        """CH-1: bytes behind a packet are not part of it."""
        wire = packet.encode()
        body = wire[read_varint(wire)[1] :]  # type: ignore[index]
        with self.assertRaises(PacketError) as caught:
            decode_packet(body + trailing)
        self.assertEqual(caught.exception.offset, len(body))

    @given(st.binary(max_size=64))
    def test_anything(self, frame: bytes) -> None:
        """CH-1: any bytes are a packet that encodes back to itself, or a PacketError at an offset inside."""
        try:
            packet: Any = decode_packet(frame)
        except PacketError as error:
            self.assertLessEqual(error.offset, len(frame))
            return
        again = packet.encode()
        self.assertEqual(decode_packet(again[read_varint(again)[1] :]), packet)  # type: ignore[index]

    def test_signature_length(self) -> None:
        """CH-1, CH-2: a signature has 0 to 1,024 bytes."""
        head = bytes(1) + bytes(4) + ALICE.bytes
        for length in (b"\xff\xff\xff\xff", b"\0\0\4\1", b"\x7f\xff\xff\xff"):
            with self.assertRaises(PacketError) as caught:
                decode_packet(head + length + bytes(1025))
            self.assertEqual(caught.exception.offset, 21)
        self.assertEqual(len(decode_packet(head + b"\0\0\4\0" + bytes(1024)).signature), 1024)  # type: ignore[attr-defined]

    def test_bad_strings(self) -> None:
        """CH-1, CH-9: a String that is no UTF-8, longer than 1 KiB, or without a good length."""
        for body, offset in (
            (b"\x01\x02\xc3\x28", 2),
            (b"\x01\x81\x08" + bytes(1025), 1),
            (b"\x01", 1),
            (b"\x01\x80\x80\x80\x80\x80\x01", 5),
            (b"\x01\x03ab", 2),
        ):
            with self.assertRaises(PacketError) as caught:
                decode_packet(body)
            self.assertEqual(caught.exception.offset, offset, body)
        self.assertEqual(decode_packet(b"\x01\x80\x08" + b"a" * 1024), Disconnect("a" * 1024))

    def test_bad_address(self) -> None:
        """CH-1: an Address is of version 4 or 6."""
        for version in (0, 1, 5, 255):
            with self.assertRaises(PacketError) as caught:
                decode_packet(b"\x05" + ALICE.bytes + bytes((version,)) + bytes(16))
            self.assertEqual(caught.exception.offset, 17)

    def test_unknown_opcode(self) -> None:
        """CH-1: there are nine opcodes."""
        for opcode in (9, 10, 0x20, 255):
            with self.assertRaises(PacketError):
                decode_packet(bytes((opcode,)) + bytes(20))
        with self.assertRaises(PacketError):
            decode_packet(b"")

    def test_long_words_of_ours(self) -> None:
        """CH-9: what we say ourselves keeps to the limit, cut between characters."""
        encoded = encode_string("é" * 600)
        self.assertEqual(encoded, b"\x80\x08" + "é".encode() * 512)
        self.assertEqual(decode(Disconnect("x" * 2000).encode()), Disconnect("x" * MAXIMUM_STRING))

    def test_no_secret_is_shown(self) -> None:
        """COM-9: a signature lets its reader in, so that no repr has it."""
        self.assertNotIn("signature", repr(Connect(1, ALICE, b"very secret")))


class VarIntTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """CH-1: protobuf's examples, and the ends of the range."""
        for number, text in (
            (0, "00"),
            (1, "01"),
            (127, "7f"),
            (128, "8001"),
            (300, "ac02"),
            (MAXIMUM_VARINT, "ffffffff07"),
        ):
            self.assertEqual(encode_varint(number).hex(), text)
            self.assertEqual(read_varint(bytes.fromhex(text)), (number, len(text) // 2))
        for number in (-1, MAXIMUM_VARINT + 1):
            self.assertRaises(ValueError, encode_varint, number)

    @given(st.integers(0, MAXIMUM_VARINT), st.binary(max_size=4))
    def test_round_trip(self, number: int, behind: bytes) -> None:
        """CH-1: what is encoded is read, whatever follows; a beginning is not enough."""
        encoded = encode_varint(number)
        self.assertEqual(read_varint(encoded + behind), (number, len(encoded)))
        for end in range(len(encoded)):
            self.assertIsNone(read_varint(encoded[:end]))

    def test_longer_than_it_needs(self) -> None:
        """CH-1: zeros at the end change nothing, up to five bytes."""
        self.assertEqual(read_varint(bytes.fromhex("8180808000")), (1, 5))

    def test_too_large(self) -> None:
        """CH-1: a fifth byte may not lead on, nor go beyond 2^31 - 1."""
        for text in ("ffffffff08", "8080808080", "ffffffffff01", "8080808010"):
            with self.assertRaises(PacketError) as caught:
                read_varint(bytes.fromhex(text))
            self.assertEqual(caught.exception.offset, 4)
