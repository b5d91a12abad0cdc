"""Tests of :mod:`connectd.protocols.starbound.packets` and :mod:`connectd.protocols.starbound.fields`."""

from __future__ import annotations

import struct
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.starbound.encoding import Malformed, encode_bytes, encode_vlq
from connectd.protocols.starbound.fields import (
    BOOL,
    BYTES,
    CELESTIAL,
    F32,
    I32,
    MAXIMUM_STRINGS,
    MAXIMUM_WORLD_CHUNKS,
    OPTIONAL_UUID,
    OPTIONAL_VARIANT,
    SHIPWORLD,
    STRING,
    STRINGS,
    U8,
    U32,
    UUID,
    VARIANT,
    VLQ,
    WORLD_CHUNKS,
    Kind,
    Source,
)
from connectd.protocols.starbound.generations import ENRAGED_KOALA, GENERATIONS, OPENSB, RETAIL, SEED, Generation
from connectd.protocols.starbound.packets import (
    MAXIMUM_PACKETS,
    ClientConnect,
    ClientDisconnectRequest,
    ConnectFailure,
    ConnectionResponse,
    ConnectSuccess,
    HandshakeChallenge,
    HandshakeResponse,
    PacketReader,
    ProtocolRequest,
    ProtocolResponse,
    ProtocolVersion,
    encode_payload,
)
from connectd.protocols.starbound.variant import EncodedVariant
from tests.protocols.starbound.test_variant import VALUES
from tests.strategies import segmentations

LEGACY_CONNECT = bytes.fromhex(
    "02aabb0100112233445566778899aabbccddeeff03426f620568756d616e0105010203040501044441544100000001000001f40000000"
    "23f80000041700000010874656c65706f7274010461636374"
)
SUCCESS = bytes.fromhex("822c0123456789abcdef0123456789abcdef0000000c0000000c00000064fffffffb00000005fffffff900000007")

FLOATS = st.floats(width=32, allow_nan=False)
I32S = st.integers(-(2**31), 2**31 - 1)
VARIANTS = VALUES.map(EncodedVariant.of)
STRINGS_OF_BYTES = st.binary(max_size=40).map(lambda data: data.decode("utf-8", "surrogateescape"))
WORLD = st.lists(st.tuples(st.binary(max_size=20), st.none() | st.binary(max_size=300)), max_size=6).map(tuple)
BY_KIND: dict[Kind, st.SearchStrategy[Any]] = {
    U8: st.integers(0, 255),
    U32: st.integers(0, 2**32 - 1),
    I32: I32S,
    F32: FLOATS,
    BOOL: st.booleans(),
    UUID: st.binary(min_size=16, max_size=16),
    OPTIONAL_UUID: st.none() | st.binary(min_size=16, max_size=16),
    VLQ: st.integers(0, 2**64 - 1),
    BYTES: st.binary(max_size=300),
    STRING: STRINGS_OF_BYTES,
    STRINGS: st.lists(STRINGS_OF_BYTES, max_size=4).map(tuple),
    VARIANT: VARIANTS,
    OPTIONAL_VARIANT: st.none() | VARIANTS,
    CELESTIAL: st.none() | st.binary(max_size=40),
    SHIPWORLD: st.binary(max_size=2000),
    WORLD_CHUNKS: WORLD,
}


@st.composite
def packets(draw: st.DrawFn, generation: Generation) -> Any:
    """Any packet of a generation."""
    kind = draw(st.sampled_from(sorted(generation.layouts, key=lambda kind: kind.__name__)))
    return kind(**{name: draw(BY_KIND[field]) for name, field in generation.layouts[kind]})


ANY = st.sampled_from(sorted(GENERATIONS)).flatmap(
    lambda name: st.tuples(st.just(GENERATIONS[name]), packets(GENERATIONS[name]))
)


def payload(generation: Generation, packet: Any) -> bytes:
    return encode_payload(packet, generation.layouts[type(packet)])


class VectorTests(SynchronousTestCase):
    def test_connect_success(self) -> None:
        """SB-23: the vector of ConnectSuccess."""
        uuid = bytes.fromhex("0123456789abcdef0123456789abcdef")
        packet = ConnectSuccess(300, uuid, 12, 12, 100, -5, 5, -7, 7)
        for generation in (RETAIL, OPENSB):
            self.assertEqual(payload(generation, packet), SUCCESS)
            self.assertEqual(generation.decode_one(ConnectSuccess, SUCCESS), packet)

    def test_client_connect(self) -> None:
        """SB-24: the vector of a legacy ClientConnect."""
        packet = ClientConnect(
            asset_digest=b"\xaa\xbb",
            allow_assets_mismatch=True,
            uuid=bytes.fromhex("00112233445566778899aabbccddeeff"),
            name="Bob",
            species="human",
            world_chunks=((bytes.fromhex("0102030405"), b"DATA"),),
            ship_level=1,
            max_fuel=500,
            crew_size=2,
            fuel_efficiency=1.0,
            ship_speed=15.0,
            capabilities=("teleport",),
            intro_complete=True,
            account="acct",
        )
        self.assertEqual(payload(RETAIL, packet), LEGACY_CONNECT)
        self.assertEqual(RETAIL.decode_one(ClientConnect, LEGACY_CONNECT), packet)
        with_info = attrs.evolve(packet, info=EncodedVariant.of({"k": 5}))
        self.assertEqual(payload(OPENSB, with_info), LEGACY_CONNECT + bytes.fromhex("0701016b040a"))

    def test_openstarbound_info(self) -> None:
        """SB-21: the vector of ProtocolResponse's info."""
        data = bytes.fromhex("0107020b636f6d7072657373696f6e05045a737464136f70656e50726f746f636f6c56657273696f6e041e")
        packet = OPENSB.decode_one(ProtocolResponse, data)
        assert packet.info is not None
        self.assertEqual(packet.info.value, {"compression": "Zstd", "openProtocolVersion": 15})
        self.assertEqual(payload(OPENSB, packet), data)

    def test_version(self) -> None:
        """The seed's example."""
        self.assertEqual(SEED.encode(ProtocolVersion(628)), bytes.fromhex("000800000274"))
        self.assertEqual(RETAIL.encode(ProtocolRequest(747)), bytes.fromhex("0008000002eb"))


class LayoutTests(SynchronousTestCase):
    def test_server_first(self) -> None:
        """SB-3, SB-8: the fields of the page's table, in their order."""
        connect = ClientConnect(
            asset_digest=b"\x01", uuid=bytes(16), name="N", species="S", shipworld=b"SBBF01", account="A"
        )
        self.assertEqual(payload(SEED, connect), b"\x01\x01\x01\x01" + bytes(16) + b"\x01N\x01S\x06SBBF01\x01A")
        without = payload(SEED, attrs.evolve(connect, uuid=None))
        self.assertEqual(without, b"\x01\x01\x01\x00\x01N\x01S\x06SBBF01\x01A")
        challenge = HandshakeChallenge(b"salt", rounds=5000)
        self.assertEqual(payload(SEED, challenge), b"\x00\x04salt\x00\x00\x13\x88")
        self.assertEqual(payload(SEED, HandshakeResponse(b"hash")), b"\x00\x04hash")
        self.assertEqual(payload(SEED, ConnectionResponse(True, 300)), b"\x01\x82\x2c\x00")
        self.assertEqual(payload(SEED, ConnectionResponse(False, 0, "no")), b"\x00\x00\x02no")

    def test_client_first(self) -> None:
        self.assertEqual(payload(RETAIL, HandshakeChallenge(b"salt")), b"\x04salt")
        self.assertEqual(payload(RETAIL, HandshakeResponse(bytes(32))), b"\x20" + bytes(32))
        self.assertEqual(payload(RETAIL, ConnectFailure("no")), b"\x02no")
        self.assertEqual(payload(RETAIL, ClientDisconnectRequest()), b"\x00")
        self.assertEqual(payload(RETAIL, ProtocolResponse(True)), b"\x01")

    def test_celestial_information(self) -> None:
        """enraged-koala says whether it follows; its absence is accepted, and what follows is taken."""
        self.assertEqual(payload(ENRAGED_KOALA, ConnectionResponse(True, 1, celestial=b"")), b"\x01\x01\x00\x00")
        for tail, celestial in ((b"", None), (b"\x00", b""), (b"\x01" + bytes(28), bytes(28))):
            found = ENRAGED_KOALA.decode_one(ConnectionResponse, b"\x01\x01\x00" + tail)
            self.assertEqual(found, ConnectionResponse(True, 1, celestial=celestial))
        for generation, tail in ((SEED, b"\x00"), (ENRAGED_KOALA, b"\x01"), (ENRAGED_KOALA, b"\x00\x00")):
            with self.assertRaises(Malformed):
                generation.decode_one(ConnectionResponse, b"\x01\x01\x00" + tail)

    def test_any_nonzero_bool(self) -> None:
        """SB-12: any nonzero bool is true."""
        self.assertTrue(RETAIL.decode_one(ProtocolResponse, b"\x80").allowed)
        self.assertFalse(RETAIL.decode_one(ProtocolResponse, b"\x00").allowed)

    def test_absent_chunk(self) -> None:
        """SB-24: a world chunk with present = 0 is legal."""
        data = LEGACY_CONNECT.replace(bytes.fromhex("0501020304050104") + b"DATA", b"\x05\x01\x02\x03\x04\x05\x00")
        self.assertEqual(RETAIL.decode_one(ClientConnect, data).world_chunks, ((b"\x01\x02\x03\x04\x05", None),))

    def test_what_cannot_be_written(self) -> None:
        """The error names the packet and the field."""
        for packet, word in (
            (ProtocolVersion(2**32), "ProtocolVersion.version"),
            (ClientConnect(uuid=b"short"), "ClientConnect.uuid"),
            (HandshakeChallenge(b"", rounds=2**31), "HandshakeChallenge.rounds"),
        ):
            with self.assertRaises(ValueError) as caught:
                SEED.encode(packet)
            self.assertIn(word, str(caught.exception))

    def test_no_secret_in_a_repr(self) -> None:
        """COM-9: what a proof says is nobody's business."""
        self.assertNotIn("xyzzy", repr(HandshakeResponse(b"xyzzy")))


class SharedFrameTests(SynchronousTestCase):
    """SB-22: several packets of one type may share a frame."""

    def test_back_to_back(self) -> None:
        data = b"".join(payload(RETAIL, ConnectFailure(text)) for text in ("a", "", "b" * 200))
        self.assertEqual([packet.reason for packet in RETAIL.decode(ConnectFailure, data)], ["a", "", "b" * 200])
        with self.assertRaises(Malformed):
            RETAIL.decode_one(ConnectFailure, data)
        with self.assertRaises(Malformed):
            RETAIL.decode(ConnectFailure, data[:-1])

    def test_at_most(self) -> None:
        """131,072 packets, not one more."""
        self.assertEqual(len(RETAIL.decode(ClientDisconnectRequest, bytes(MAXIMUM_PACKETS))), MAXIMUM_PACKETS)
        with self.assertRaises(Malformed):
            RETAIL.decode(ClientDisconnectRequest, bytes(MAXIMUM_PACKETS + 1))

    def test_nothing(self) -> None:
        with self.assertRaises(Malformed):
            RETAIL.decode(ConnectFailure, b"")


class PromiseTests(SynchronousTestCase):
    """COM-2, SB-24: counts that promise more than the frame holds are refused at once."""

    def refused(self, generation: Generation, data: bytes, most: int, *, keep: bool = False) -> int:
        reader = PacketReader(ClientConnect, generation.layouts[ClientConnect], Source(most, keep=keep))
        with self.assertRaises(Malformed) as caught:
            reader.feed(data)
        self.assertLessEqual(caught.exception.offset, len(data))
        offset: int = caught.exception.offset
        return offset

    def test_bytes(self) -> None:
        self.assertEqual(self.refused(SEED, encode_vlq(1000), 1001), 2)
        self.refused(SEED, encode_vlq(2**64 - 1), 2**23)

    def test_shipworld(self) -> None:
        data = b"\x00\x01\x00\x00\x00" + encode_vlq(5000)
        for keep in (False, True):
            self.refused(SEED, data, 5006, keep=keep)
        reader = PacketReader(ClientConnect, SEED.layouts[ClientConnect], Source(5008, keep=False))
        self.assertIsNone(reader.feed(data))

    def test_variant(self) -> None:
        self.refused(SEED, b"\x00\x06" + encode_vlq(500), 300)

    def test_world_chunks(self) -> None:
        before = LEGACY_CONNECT[:30]
        for keep in (False, True):
            self.refused(RETAIL, before + encode_vlq(1000), 2000, keep=keep)
            self.refused(RETAIL, before + encode_vlq(MAXIMUM_WORLD_CHUNKS + 1), 2**23, keep=keep)
            self.refused(RETAIL, before + b"\x01" + encode_vlq(5000), 4000, keep=keep)
            self.refused(RETAIL, before + b"\x01\x00\x01" + encode_vlq(5000), 4000, keep=keep)

    def test_strings(self) -> None:
        before = LEGACY_CONNECT[: -len(b"\x01\x08teleport\x01\x04acct")]
        self.refused(RETAIL, before + encode_vlq(100), len(before) + 50)
        self.refused(RETAIL, before + encode_vlq(MAXIMUM_STRINGS + 1), 2**23)


class StreamingTests(SynchronousTestCase):
    """SB-8: the shipworld is dropped while parsing, or handed out."""

    def read(self, generation: Generation, data: bytes, pieces: list[bytes], **options: Any) -> tuple[Any, int]:
        source = Source(len(data), keep=False, **options)
        reader = PacketReader(ClientConnect, generation.layouts[ClientConnect], source)
        largest = 0
        packet = None
        for index, piece in enumerate(pieces):
            self.assertIsNone(packet)
            packet = reader.feed(piece, complete=index == len(pieces) - 1)
            largest = max(largest, len(source.buffer) + source.kept)
        return packet, largest

    def test_dropped(self) -> None:
        """What is held is little, however large the ship is."""
        for generation, fields in (
            (SEED, {"shipworld": bytes(300_000)}),
            (RETAIL, {"world_chunks": ((b"key", bytes(200_000)), (b"k" * 100_000, b""), (b"x", None))}),
        ):
            packet = ClientConnect(name="Bob", uuid=bytes(16), account="ann", **fields)
            data = payload(generation, packet)
            pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)]
            found, largest = self.read(generation, data, pieces)
            self.assertEqual(found, attrs.evolve(packet, shipworld=b"", world_chunks=()))
            self.assertLess(largest, 2100)

    @settings(max_examples=200)
    @given(st.data())
    def test_handed_out(self, data: st.DataObject) -> None:
        """SB-24: in any segmentation, the same packet and the same bytes of the ship, in order."""
        generation = data.draw(st.sampled_from([SEED, RETAIL, OPENSB]))
        layout = generation.layouts[ClientConnect]
        packet = ClientConnect(**{name: data.draw(BY_KIND[kind]) for name, kind in layout})
        encoded = payload(generation, packet)
        out: list[bytes] = []
        found, _ = self.read(generation, encoded, data.draw(segmentations(encoded)), sink=out.append)
        self.assertEqual(
            payload(generation, found), payload(generation, attrs.evolve(packet, shipworld=b"", world_chunks=()))
        )
        ship = packet.shipworld if generation is SEED else WORLD_CHUNKS.encode(packet.world_chunks)
        self.assertEqual(b"".join(out), ship)


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=300)
    @given(ANY)
    def test_round_trip(self, both: tuple[Generation, Any]) -> None:
        """SB-12: every packet of every generation is what it was after a round trip."""
        generation, packet = both
        encoded = payload(generation, packet)
        if encoded:
            found = generation.decode_one(type(packet), encoded)
            self.assertEqual(payload(generation, found), encoded)

    @settings(max_examples=300)
    @given(ANY, st.data())
    def test_in_pieces(self, both: tuple[Generation, Any], data: st.DataObject) -> None:
        """However a packet arrives, it comes once it is whole."""
        generation, packet = both
        kind = type(packet)
        encoded = payload(generation, packet)
        reader = PacketReader(kind, generation.layouts[kind], Source(len(encoded)))
        pieces = data.draw(segmentations(encoded))
        for index, piece in enumerate(pieces):
            found = reader.feed(piece, complete=index == len(pieces) - 1)
        self.assertEqual(payload(generation, found), encoded)

    @settings(max_examples=300)
    @given(ANY, st.data())
    def test_cut_off(self, both: tuple[Generation, Any], data: st.DataObject) -> None:
        """What is cut off is malformed, or another whole packet where the end is optional; nothing else happens."""
        generation, packet = both
        encoded = payload(generation, packet)
        cut = encoded[: data.draw(st.integers(0, max(0, len(encoded) - 1)))]
        try:
            found = generation.decode(type(packet), cut)
        except Malformed as error:
            self.assertTrue(0 <= error.offset <= len(cut))
        else:
            self.assertEqual(b"".join(payload(generation, one) for one in found), cut)

    @settings(max_examples=300)
    @given(st.sampled_from(sorted(GENERATIONS)), st.data(), st.binary(max_size=200))
    def test_random_bytes(self, name: str, data: st.DataObject, noise: bytes) -> None:
        """COM-3: any bytes are packets or malformed, in every generation and for every packet."""
        generation = GENERATIONS[name]
        kind = data.draw(st.sampled_from(sorted(generation.layouts, key=lambda kind: kind.__name__)))
        try:
            found = generation.decode(kind, noise)
        except Malformed as error:
            self.assertTrue(0 <= error.offset <= len(noise))
        else:
            self.assertTrue(found)


class KindTests(SynchronousTestCase):
    def test_floats(self) -> None:
        self.assertEqual(F32.encode(1.5), struct.pack(">f", 1.5))
        with self.assertRaises(ValueError):
            F32.encode(1e300)

    def test_shipworld_is_bytes(self) -> None:
        self.assertEqual(SHIPWORLD.encode(b"SBBF01"), encode_bytes(b"SBBF01"))
