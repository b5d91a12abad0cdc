"""Tests of :mod:`connectd.protocols.alloy.packets` and its tables. Expected bytes are written by hand from the page."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any
from uuid import UUID

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy import packets as alloy
from connectd.protocols.alloy.compression import zstd
from connectd.protocols.alloy.fields import Asset, HostAddress, Instant, Malformed
from connectd.protocols.alloy.packets import PACKETS, Connect, Connect2, Disconnect, decode

PLAYER = UUID("00112233-4455-6677-8899-aabbccddeeff")
PLAYER_HEX = "00112233 44556677 8899aabb ccddeeff"
HASH = "a1" * 32


def octets(text: str) -> bytes:
    """Bytes from hexadecimal digits; ``|`` separates fields for the eye."""
    return bytes.fromhex(text.replace("|", " "))


def without(packet: Any, name: str) -> Any:
    """A packet with one of its fields absent."""
    return attrs.evolve(packet, **{name: None})


def ascii_hex(text: str) -> str:
    return text.encode().hex()


class FrameTests(SynchronousTestCase):
    """AL-17: i32 payload length, i32 id, payload, all little-endian; and each packet by hand."""

    VECTORS: tuple[tuple[Any, str], ...] = (
        (Disconnect(0, "bye"), "06000000 01000000 | 01 00 03 627965"),
        (Disconnect(1), "02000000 01000000 | 00 01"),
        (
            alloy.Ping(7, Instant(1_700_000_000, 5), 1, -2, 3),
            "1d000000 02000000 | 01 07000000 00f15365 00000000 05000000 01000000 feffffff 03000000",
        ),
        (alloy.Ping(7), "1d000000 02000000 | 00 07000000" + "00" * 12 + "00" * 12),
        (
            alloy.Pong(7, Instant(1, 2), 2, -1),
            "14000000 03000000 | 01 07000000 0100000000000000 02000000 02 ffff",
        ),
        (alloy.AuthGrant("g", "token"), "11000000 0b000000 | 03 00000000 02000000 | 01 67 05 746f6b656e"),
        (alloy.AuthGrant(None, "t"), "0b000000 0b000000 | 02 ffffffff 00000000 | 01 74"),
        (alloy.AuthToken("a", "b"), "0d000000 0c000000 | 03 00000000 02000000 | 01 61 01 62"),
        (alloy.ServerAuthToken(), "09000000 0d000000 | 00 ffffffff ffffffff"),
        (alloy.ServerAuthToken("a", b"\x01\x02"), "0e000000 0d000000 | 03 00000000 02000000 | 01 61 02 0102"),
        (alloy.ConnectAccept(b"\xaa\xbb"), "04000000 0e000000 | 01 02 aabb"),
        (alloy.ConnectAccept(), "01000000 0e000000 | 00"),
        (alloy.PasswordResponse(b"\xaa"), "03000000 0f000000 | 01 01 aa"),
        (alloy.PasswordAccepted(), "00000000 10000000"),
        (alloy.PasswordRejected(2, b"\xaa"), "07000000 11000000 | 01 02000000 01 aa"),
        (alloy.PasswordRejected(0), "05000000 11000000 | 00 00000000"),
        (
            alloy.ClientReferral(HostAddress("h", 5520), b"\x09"),
            "0f000000 12000000 | 03 00000000 04000000 | 9015 01 68 | 01 09",
        ),
        (
            alloy.ClientReferral(HostAddress("h", 0xFFFF), None),
            "0d000000 12000000 | 01 00000000 ffffffff | ffff 01 68",
        ),
        (alloy.WorldLoadFinished(), "00000000 16000000"),
        (
            alloy.AssetInitialize(3, Asset(HASH, "x")),
            "46000000 18000000 | 03000000" + ascii_hex(HASH) + "01 78",
        ),
        (alloy.AssetFinalize(), "00000000 1a000000"),
        (alloy.SetClientId(-1), "04000000 64000000 | ffffffff"),
        (alloy.JoinWorld(1, 0, PLAYER), "12000000 68000000 | 01 00 " + PLAYER_HEX),
        (alloy.ClientReady(1, 0), "02000000 69000000 | 01 00"),
    )

    def test_vectors(self) -> None:
        """AL-17: every packet that is not compressed, byte for byte, both ways."""
        for packet, text in self.VECTORS:
            frame = octets(text)
            self.assertEqual(packet.encode(), frame, packet)
            self.assertEqual(decode(packet.layout.id, frame[8:]), packet)

    def test_compressed(self) -> None:
        """AL-17: the payloads of 20, 23 and 25, and no others, are one Zstandard frame."""
        asset = Asset(HASH, "dir/näme")
        raw_asset = HASH.encode() + octets("09") + "dir/näme".encode()
        for packet, raw in (
            (alloy.WorldSettings(320, (asset,)), octets("01 40010000 01") + raw_asset),
            (alloy.WorldSettings(320), octets("00 40010000")),
            (alloy.RequestAssets((asset, asset)), octets("01 02") + raw_asset * 2),
            (alloy.RequestAssets(()), octets("01 00")),
            (alloy.RequestAssets(), octets("00")),
            (alloy.AssetPart(b"abc"), octets("01 03 616263")),
        ):
            frame = packet.encode()
            length, identifier = struct.unpack_from("<ii", frame)
            self.assertEqual((length, identifier), (len(frame) - 8, packet.layout.id))
            self.assertEqual(zstd.decompress(frame[8:]), raw)
            self.assertEqual(decode(identifier, zstd.compress(raw)), packet)
        self.assertEqual({number for number, kind in PACKETS.items() if kind.layout.compressed}, {20, 23, 25})

    def test_maximum_sizes(self) -> None:
        """AL-17: the tables add up to the maximum sizes that were seen in deployed software."""
        seen = {
            0: 38_161,
            1: 16_384_007,
            2: 29,
            3: 20,
            11: 49_171,
            12: 49_171,
            13: 32_851,
            14: 70,
            15: 70,
            16: 0,
            17: 74,
            18: 5_141,
            22: 0,
            24: 2_121,
            25: 4_096_006,
            26: 0,
            100: 4,
            104: 18,
            105: 2,
        }
        self.assertEqual({number: PACKETS[number].layout.maximum for number in seen}, seen)
        self.assertEqual(PACKETS[20].layout.maximum, 64 * 1024 * 1024)
        self.assertEqual(PACKETS[23].layout.maximum, 8 * 1024 * 1024)
        self.assertEqual(set(PACKETS), {*seen, 20, 23})

    def test_reasons_are_cut(self) -> None:
        """AL-17: no more than 1,024 characters of a reason are sent; what was one character stays one."""
        packet = Disconnect.saying("ü" * 2000)
        self.assertEqual(packet.reason, "ü" * 1024)
        self.assertEqual(Disconnect.saying("a\udcffb").reason, "a?b")

    def test_secrets_are_not_shown(self) -> None:
        """COM-9: what proves something is in no repr."""
        secret = "5ecret"
        for packet in (
            Connect(uuid=PLAYER, username="ann", identity_token=secret, referral_data=secret.encode()),
            Connect2(uuid=PLAYER, username="ann", identity_token=secret, referral_data=secret.encode()),
            alloy.AuthGrant(secret, secret),
            alloy.AuthToken(secret, secret),
            alloy.ServerAuthToken(secret, secret.encode()),
            alloy.ConnectAccept(secret.encode()),
            alloy.PasswordResponse(secret.encode()),
            alloy.PasswordRejected(1, secret.encode()),
            alloy.ClientReferral(None, secret.encode()),
        ):
            self.assertNotIn(secret, repr(packet))


class ConnectTests(SynchronousTestCase):
    """AL-17, AL-15: where the fields of the two forms of Connect are."""

    FIRST = Connect(
        protocol_hash="0f" * 32,
        client_type=1,
        uuid=PLAYER,
        language="de",
        identity_token="jwt",
        username="ann",
        referral_data=b"\x01\x02",
        referral_source=HostAddress("a.b", 5520),
    )

    def test_first_form(self) -> None:
        """AL-17: hash at 1, type 65, uuid 66, five offsets from 82, and the block at 102."""
        payload = self.FIRST.encode()[8:]
        self.assertEqual(payload[0], 0b1111)
        self.assertEqual(payload[1:65], b"0f" * 32)
        self.assertEqual(payload[65], 1)
        self.assertEqual(payload[66:82], PLAYER.bytes)
        self.assertEqual(struct.unpack_from("<5i", payload, 82), (0, 3, 7, 11, 14))
        self.assertEqual(payload[102:], b"\x02de\x03jwt\x03ann\x02\x01\x02" + b"\x90\x15\x03a.b")
        self.assertEqual(decode(0, payload), self.FIRST)

    def test_null_bits_of_the_first_form(self) -> None:
        """AL-17: 1 language, 2 identity token, 4 referral data, 8 referral source; the username is never null."""
        for name, bit in (("language", 1), ("identity_token", 2), ("referral_data", 4), ("referral_source", 8)):
            payload = without(self.FIRST, name).encode()[8:]
            self.assertEqual(payload[0], 0b1111 & ~bit, name)
        for value in ("username", "uuid"):
            with self.assertRaises((ValueError, AttributeError)):
                without(self.FIRST, value).encode()

    def test_second_form(self) -> None:
        """AL-15: crc 1, build 5, version 9, type 29, uuid 30, five offsets from 46 with the username first, block 66."""
        packet = Connect2(
            crc=-2,
            build=7,
            client_version="1.2",
            client_type=0,
            uuid=PLAYER,
            username="ann",
            identity_token="jwt",
            language="de",
            referral_data=b"\x01\x02",
            referral_source=HostAddress("a.b", 5520),
        )
        payload = packet.encode()[8:]
        self.assertEqual(payload[0], 0b111)
        self.assertEqual(payload[1:9], octets("feffffff 07000000"))
        self.assertEqual(payload[9:29], b"1.2" + bytes(17))
        self.assertEqual(payload[29], 0)
        self.assertEqual(payload[30:46], PLAYER.bytes)
        self.assertEqual(struct.unpack_from("<5i", payload, 46), (0, 4, 8, 11, 14))
        self.assertEqual(payload[66:], b"\x03ann\x03jwt\x02de\x02\x01\x02" + b"\x90\x15\x03a.b")
        self.assertEqual(decode(0, payload, "hytale/2"), packet)
        for name, bit in (("identity_token", 1), ("referral_data", 2), ("referral_source", 4)):
            self.assertEqual(without(packet, name).encode()[8], 0b111 & ~bit, name)

    def test_language_of_the_second_form(self) -> None:
        """AL-15: at most 16 characters; the first form takes 128."""
        Connect2(uuid=PLAYER, username="a", language="x" * 16).encode()
        self.assertRaises(ValueError, Connect2(uuid=PLAYER, username="a", language="x" * 17).encode)
        Connect(uuid=PLAYER, username="a", language="x" * 128).encode()
        self.assertRaises(ValueError, Connect(uuid=PLAYER, username="a", language="x" * 129).encode)

    def test_a_reader_of_three_offsets_is_not_what_this_is(self) -> None:
        """AL-17: with the block at 94, as the seed's three offsets have it, this is malformed and not misread."""
        head = octets("00") + b"0" * 64 + b"\0" + PLAYER.bytes
        payload = head + struct.pack("<3i", -1, -1, 0) + b"\x03ann"
        self.assertRaises(Malformed, decode, 0, payload)


class PresenceTests(SynchronousTestCase):
    """AL-4: what is there is decided by the offsets, whatever the null bits say."""

    def test_bits_are_not_believed(self) -> None:
        """AL-4: all bits, or none of them: the same packet."""
        packet = ConnectTests.FIRST
        payload = packet.encode()[8:]
        absent = attrs.evolve(packet, identity_token=None, referral_data=None)
        for bits in range(256):
            self.assertEqual(decode(0, bytes([bits]) + payload[1:]), packet)
            self.assertEqual(decode(0, bytes([bits]) + absent.encode()[9:]), absent)

    def test_inline(self) -> None:
        """AL-4: a single variable field is there where bytes are."""
        self.assertEqual(decode(14, octets("00 01 aa")), alloy.ConnectAccept(b"\xaa"))
        self.assertEqual(decode(14, octets("01")), alloy.ConnectAccept())

    def test_fixed(self) -> None:
        """AL-17: a fixed field has no offset: its null bit decides, and absent it is zeros that are not looked at."""
        payload = alloy.Ping(1, Instant(5, 6)).encode()[8:]
        self.assertEqual(decode(2, b"\0" + payload[1:]), alloy.Ping(1))

    def test_what_has_to_be_there(self) -> None:
        """AL-17: the username is never null, and neither is an asset."""
        payload = bytearray(Connect(uuid=PLAYER, username="ann").encode()[8 : 102 + 8])
        payload[90:94] = octets("ffffffff")
        self.assertRaises(Malformed, decode, 0, bytes(payload))
        self.assertRaises(Malformed, decode, 24, octets("00000000"))


class MalformedCase(SynchronousTestCase):
    def refused(self, identifier: int, payload: bytes, **options: Any) -> Malformed:
        """It is no such packet: why not."""
        with self.assertRaises(Malformed) as caught:
            decode(identifier, payload, **options)
        error: Malformed = caught.exception
        self.assertTrue(0 <= error.offset <= len(payload), error.offset)
        return error


class BadPacketTests(MalformedCase):
    def grant(self, first: int, second: int, block: bytes = b"\x01g\x01t") -> bytes:
        return b"\x03" + struct.pack("<2i", first, second) + block

    def test_offsets(self) -> None:
        """AL-17: outside the block, overlapping, backwards, or leaving bytes to nobody: malformed."""
        self.assertEqual(decode(11, self.grant(0, 2)), alloy.AuthGrant("g", "t"))
        for first, second, words in (
            (0, 5, "outside"),
            (0, 1 << 30, "outside"),
            (-2, 0, "outside"),
            (0, -(1 << 31), "outside"),
            (0, 1, "inside or before"),
            (0, 0, "inside or before"),
            (2, 0, "belong to no field"),
            (0, 3, "belong to no field"),
            (0, -1, "belong to no field"),
            (-1, 2, "belong to no field"),
            (-1, -1, "belong to no field"),
        ):
            self.assertIn(words, self.refused(11, self.grant(first, second)).reason, (first, second))
        self.refused(11, self.grant(0, 2, b""))

    def test_varint(self) -> None:
        """AL-17: 5 bytes at most, not negative, and all of it there."""
        self.assertIn("without an end", self.refused(14, octets("01 8080808080 01")).reason)
        self.assertIn("negative", self.refused(14, octets("01 ffffffff0f")).reason)
        self.assertIn("ends inside", self.refused(14, octets("01 80")).reason)
        self.assertIn("at most 64", self.refused(14, octets("01 41") + bytes(65)).reason)
        self.assertIn("promised", self.refused(14, octets("01 02 aa")).reason)
        # Longer than it has to be, but a VarInt.
        self.assertEqual(decode(14, octets("01 8100 aa")), alloy.ConnectAccept(b"\xaa"))

    def test_texts(self) -> None:
        """AL-17: limits count characters, the username and the language are ASCII, all else is UTF-8."""
        self.assertIn("UTF-8", self.refused(11, self.grant(-1, 0, b"\x01\xff")).reason)
        fits = alloy.AuthGrant("ü" * 4096)
        self.assertEqual(decode(11, fits.encode()[8:]), fits)
        self.assertRaises(ValueError, alloy.AuthGrant("x" * 4097).encode)
        self.assertIn("4097", self.refused(11, self.grant(0, -1, octets("8120") + b"x" * 4097)).reason)
        payload = Connect(uuid=PLAYER, username="zoe").encode()[8:]
        self.refused(0, payload.replace(b"zoe", b"z\xc3\xab"))
        self.refused(0, payload.replace(b"\x03zoe", b"\x11" + b"z" * 17))
        self.assertRaises(ValueError, Connect(uuid=PLAYER, username="zoë").encode)

    def test_fixed_texts(self) -> None:
        """AL-17: ASCII, padded with NUL and nothing behind it."""
        payload = bytearray(Connect(protocol_hash="ab", uuid=PLAYER, username="ann").encode()[8:])
        self.assertEqual(decode(0, bytes(payload)).protocol_hash, "ab")
        payload[5] = ord("x")
        self.assertEqual(self.refused(0, bytes(payload)).offset, 1)
        payload[5] = 0xFF
        self.refused(0, bytes(payload))
        for wrong in ("a\0b", "ä", "x" * 65):
            self.assertRaises(ValueError, Connect(protocol_hash=wrong, uuid=PLAYER, username="ann").encode)

    def test_sizes(self) -> None:
        """AL-17: too short, too long, more behind it."""
        for packet, _ in FrameTests.VECTORS:
            payload = packet.encode()[8:]
            if payload and not isinstance(packet, (Disconnect, alloy.ConnectAccept, alloy.PasswordResponse)):
                self.refused(packet.layout.id, payload[: len(payload) // 2])
            if not isinstance(packet, (Disconnect, alloy.ConnectAccept, alloy.PasswordRejected)):
                self.refused(packet.layout.id, payload + b"\0")

    def test_values_out_of_range(self) -> None:
        for packet in (
            alloy.SetClientId(1 << 31),
            alloy.Pong(1, None, 256),
            alloy.Pong(1, None, 0, 1 << 15),
            alloy.Ping(1, Instant(1 << 63, 0)),
            alloy.ClientReferral(HostAddress("h", 65_536)),
            alloy.ClientReferral(HostAddress("h" * 257, 1)),
            alloy.ConnectAccept(bytes(65)),
            alloy.AssetInitialize(1, Asset("x" * 65, "n")),
            alloy.AssetInitialize(1, Asset(HASH, "n" * 513)),
        ):
            self.assertRaises(ValueError, packet.encode)


class CompressionTests(MalformedCase):
    def test_bombs(self) -> None:
        """AL-17: what would be more than its maximum is not decompressed, however small it comes."""
        bomb = zstd.compress(b"\x01" + bytes(64 << 20))
        self.assertLess(len(bomb), 10_000)
        self.assertIn("over 67108864 bytes", self.refused(20, bomb).reason)
        self.assertIn("over 8388608 bytes", self.refused(23, zstd.compress(bytes((8 << 20) + 1))).reason)
        self.assertIn("over 4096006 bytes", self.refused(25, zstd.compress(bytes(4_096_007))).reason)
        self.assertIn("over 10 bytes", self.refused(23, zstd.compress(bytes(11)), maximum=10).reason)

    def test_bombs_take_no_room(self) -> None:
        """AL-17, COM-2: refusing one takes as much memory as is allowed, not as much as is in it."""
        bomb = zstd.compress(bytes(64 << 20))
        tracemalloc.start()
        try:
            self.refused(23, bomb, maximum=1000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 1 << 20)

    def test_maximum(self) -> None:
        """AL-17: the largest part fits exactly."""
        packet = alloy.AssetPart(bytes(4_096_000))
        self.assertEqual(decode(25, packet.encode()[8:]), packet)
        self.assertRaises(ValueError, alloy.AssetPart(bytes(4_096_001)).encode)

    def test_what_cannot_be_made_smaller(self) -> None:
        """AL-17: noise grows when it is compressed, and is taken all the same."""
        from random import Random

        noise = Random(7).randbytes(4_096_000)
        payload = alloy.AssetPart(noise).encode()[8:]
        self.assertGreater(len(payload), 4_096_006)
        self.assertLessEqual(len(payload), alloy.AssetPart.layout.largest_payload)
        self.assertEqual(decode(25, payload).part, noise)

    def test_windows(self) -> None:
        """AL-17: a window over 8 MiB is refused whatever comes behind it."""
        for log, fits in ((23, True), (24, False)):
            options = {int(zstd.CompressionParameter.window_log): log}
            compressor = zstd.ZstdCompressor(options=options)
            payload = compressor.compress(octets("00"))
            payload += compressor.compress(b"") + compressor.flush(compressor.FLUSH_BLOCK)
            payload += compressor.flush(compressor.FLUSH_FRAME)
            if fits:
                self.assertEqual(decode(23, payload), alloy.RequestAssets())
            else:
                self.assertIn("cannot be decompressed", self.refused(23, payload).reason)

    def test_not_one_frame(self) -> None:
        """AL-17: no frame, one cut off, and more than one are malformed."""
        good = zstd.compress(octets("00"))
        self.refused(23, b"")
        self.refused(23, b"not zstandard at all")
        self.refused(23, good[:-1])
        self.refused(23, good + good)
        self.refused(23, good + b"\0")

    def test_counts(self) -> None:
        """AL-17: at most 65,536 assets, and no more than there are bytes for."""
        self.assertIn("65537", self.refused(23, zstd.compress(octets("01 818004"))).reason)
        self.assertIn("promised", self.refused(23, zstd.compress(octets("01 808004") + bytes(1000))).reason)
        self.assertRaises(ValueError, alloy.RequestAssets((Asset(HASH, ""),) * 65_537).encode)
        many = alloy.RequestAssets((Asset(HASH, ""),) * 65_536)
        self.assertEqual(decode(23, many.encode()[8:]), many)


def _ascii(maximum: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=maximum)


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_i32 = st.integers(-(1 << 31), (1 << 31) - 1)
_u8 = st.integers(0, 255)
_challenges = st.none() | st.binary(min_size=0, max_size=64)
_instants = st.none() | st.builds(Instant, st.integers(-(1 << 63), (1 << 63) - 1), _i32)
_hosts = st.builds(HostAddress, _texts, st.integers(0, 65_535))
_assets = st.builds(Asset, _ascii(64), _texts)
_lists = st.none() | st.lists(_assets, max_size=5).map(tuple)
_connects: dict[str, Any] = {
    "client_type": _u8,
    "uuid": st.uuids(),
    "identity_token": st.none() | _texts,
    "username": _ascii(16),
    "referral_data": st.none() | st.binary(max_size=50),
    "referral_source": st.none() | _hosts,
}
PACKET_STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "Connect": st.builds(Connect, protocol_hash=_ascii(64), language=st.none() | _ascii(128), **_connects),
    "Connect2": st.builds(Connect2, crc=_i32, build=_i32, client_version=_ascii(20), language=_ascii(16), **_connects),
    "Disconnect": st.builds(Disconnect, _u8, st.none() | _texts),
    "Ping": st.builds(alloy.Ping, _i32, _instants, _i32, _i32, _i32),
    "Pong": st.builds(alloy.Pong, _i32, _instants, _u8, st.integers(-(1 << 15), (1 << 15) - 1)),
    "AuthGrant": st.builds(alloy.AuthGrant, st.none() | _texts, st.none() | _texts),
    "AuthToken": st.builds(alloy.AuthToken, st.none() | _texts, st.none() | _texts),
    "ServerAuthToken": st.builds(alloy.ServerAuthToken, st.none() | _texts, _challenges),
    "ConnectAccept": st.builds(alloy.ConnectAccept, _challenges),
    "PasswordResponse": st.builds(alloy.PasswordResponse, _challenges),
    "PasswordAccepted": st.just(alloy.PasswordAccepted()),
    "PasswordRejected": st.builds(alloy.PasswordRejected, _i32, _challenges),
    "ClientReferral": st.builds(alloy.ClientReferral, st.none() | _hosts, st.none() | st.binary(max_size=50)),
    "WorldSettings": st.builds(alloy.WorldSettings, _i32, _lists),
    "WorldLoadFinished": st.just(alloy.WorldLoadFinished()),
    "RequestAssets": st.builds(alloy.RequestAssets, _lists),
    "AssetInitialize": st.builds(alloy.AssetInitialize, _i32, _assets),
    "AssetPart": st.builds(alloy.AssetPart, st.none() | st.binary(max_size=200)),
    "AssetFinalize": st.just(alloy.AssetFinalize()),
    "SetClientId": st.builds(alloy.SetClientId, _i32),
    "JoinWorld": st.builds(alloy.JoinWorld, _u8, _u8, st.uuids()),
    "ClientReady": st.builds(alloy.ClientReady, _u8, _u8),
}
"""One of each packet, by its class's name."""


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.one_of(*PACKET_STRATEGIES.values()))
    def test_round_trip(self, packet: Any) -> None:
        """AL-17: what was encoded is decoded to the same, and is within its maximum."""
        frame = packet.encode()
        length, identifier = struct.unpack_from("<ii", frame)
        self.assertEqual(length, len(frame) - 8)
        profile = "hytale/2" if isinstance(packet, Connect2) else "hytale/1"
        self.assertEqual(decode(identifier, frame[8:], profile), packet)
        self.assertLessEqual(length, packet.layout.largest_payload)

    def test_every_packet_has_a_strategy(self) -> None:
        names = {kind.__name__ for kind in PACKETS.values()} | {"Connect2"}
        self.assertEqual(set(PACKET_STRATEGIES), names)

    @settings(max_examples=400, deadline=None)
    @given(st.sampled_from(sorted(PACKETS)), st.sampled_from(["hytale/1", "hytale/2"]), st.binary(max_size=400))
    def test_random_bytes(self, identifier: int, profile: str, payload: bytes) -> None:
        """AL-17: whatever the bytes are, they are a packet that says the same again, or malformed at an offset."""
        self.check(identifier, profile, payload)
        if PACKETS[identifier].layout.compressed:
            self.check(identifier, profile, zstd.compress(payload))

    def test_offset_in_compressed(self) -> None:
        """COM-3: what is wrong inside of compressed bytes is at no offset of those that came, where it is told."""
        content = b"\x01\x00\x00\x00\x00\x01" + b"0" * 64 + b"\x04a\xff\xffb" + b"0" * 500
        with self.assertRaises(Malformed) as caught:
            decode(alloy.WorldSettings.layout.id, zstd.compress(content))
        self.assertEqual(caught.exception.offset, 0)
        self.assertEqual(caught.exception.reason, "a text that is not UTF-8 (at byte 72, decompressed)")

    def check(self, identifier: int, profile: str, payload: bytes) -> None:
        try:
            packet = decode(identifier, payload, profile)
        except Malformed as error:
            self.assertTrue(0 <= error.offset <= len(payload), error.offset)
            self.assertTrue(error.reason)
        else:
            again = packet.encode()[8:]
            self.assertEqual(decode(identifier, again, profile), packet)

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_damaged_packets(self, data: st.DataObject) -> None:
        """AL-17: a good packet with bytes changed, cut or added is a packet or malformed, and nothing else."""
        packet = data.draw(st.one_of(*PACKET_STRATEGIES.values()))
        payload = bytearray(packet.encode()[8:])
        for place in data.draw(st.lists(st.integers(0, max(0, len(payload) - 1)), max_size=3)):
            if payload:
                payload[place] ^= data.draw(st.integers(1, 255))
        damaged = bytes(payload[: data.draw(st.integers(0, len(payload)))]) + data.draw(st.binary(max_size=5))
        profile = "hytale/2" if isinstance(packet, Connect2) else "hytale/1"
        self.check(packet.layout.id, profile, damaged)
