"""Tests of :mod:`connectd.protocols.starbound.frames` and :mod:`connectd.protocols.starbound.zstd_stream`."""

from __future__ import annotations

import os
import sys
import zlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.starbound import zstd_stream
from connectd.protocols.starbound.encoding import Malformed, encode_signed_vlq
from connectd.protocols.starbound.frames import Boundary, Frame, Inflater, encode_frame, inflate, read_header
from connectd.protocols.starbound.zstd_stream import (
    DECODING,
    INPUT,
    MAXIMUM_WINDOW_LOG,
    SPARE_ENCODERS,
    Decoder,
    Encoder,
    window_size,
)
from tests.strategies import segmentations

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MEGABYTE = 1 << 20


def inflated(inflater: Inflater, pieces: list[bytes], most: int) -> bytes:
    result = b""
    for piece in pieces:
        result += inflater.inflate(piece, most)
        while not inflater.wants_input:
            result += inflater.inflate(b"", most)
    inflater.finish()
    return result


class FrameTests(SynchronousTestCase):
    """SB-12: id, signed VLQ length, payload."""

    def test_plain(self) -> None:
        self.assertEqual(Frame(5, b"abc").encode(), b"\x05\x06abc")
        self.assertEqual(read_header(b"?\x05\x06abc", 1), (5, 3, 3))

    def test_compressed(self) -> None:
        """A negative length is a zlib stream of so many bytes."""
        data = encode_frame(9, b"a" * 100, compressed=True)
        found = read_header(data)
        assert found is not None
        number, length, start = found
        self.assertEqual((number, -length), (9, len(data) - start))
        self.assertEqual(zlib.decompress(data[start:]), b"a" * 100)
        self.assertEqual(inflate(data[start:], 100), b"a" * 100)
        self.assertEqual(Frame(9, b"a" * 100, compressed=True).encode(), data)

    def test_retail_response(self) -> None:
        """SB-21: the vector of a compressed ProtocolResponse, checked by decoding."""
        data = bytes.fromhex("0111789c63040000020002")
        self.assertEqual(read_header(data), (1, -9, 2))
        self.assertEqual(inflate(data[2:], 4096), b"\x01")

    def test_cut_off(self) -> None:
        for data in (b"", b"\x05", b"\x05\x81"):
            self.assertIsNone(read_header(data))
        with self.assertRaises(Malformed):
            read_header(b"\x05" + b"\xff" * 10)

    def test_wrong_id(self) -> None:
        with self.assertRaises(ValueError):
            encode_frame(256, b"")

    def test_repr(self) -> None:
        """A log line shows sizes."""
        self.assertEqual(repr(Frame(1, bytes(50))), "Frame(id=1, payload=<50 bytes>, compressed=False)")


class InflaterTests(SynchronousTestCase):
    """SB-8, SB-22: zlib is bounded while it inflates."""

    @given(st.binary(max_size=3000).map(lambda data: data * 3), st.data(), st.integers(1, 5000))
    def test_any_pieces(self, payload: bytes, data: st.DataObject, most: int) -> None:
        pieces = data.draw(segmentations(zlib.compress(payload)))
        self.assertEqual(inflated(Inflater(len(payload)), pieces, most), payload)

    def test_bomb(self) -> None:
        """It stops at the cap, having made no more than one piece over it."""
        bomb = zlib.compress(bytes(64 * MEGABYTE))
        inflater = Inflater(MEGABYTE)
        made = 0
        with self.assertRaises(Malformed):
            piece = inflater.inflate(bomb, 16_384)
            while piece:
                made += len(piece)
                piece = inflater.inflate(b"", 16_384)
        self.assertEqual(made, MEGABYTE)
        self.assertIsNone(inflate(bomb, 16_384))

    def test_exactly_the_cap(self) -> None:
        stream = zlib.compress(bytes(1000))
        self.assertEqual(inflated(Inflater(1000), [stream], 100), bytes(1000))
        self.assertEqual(inflate(stream, 1000), bytes(1000))
        self.assertIsNone(inflate(stream, 999))
        with self.assertRaises(Malformed):
            inflated(Inflater(999), [stream], 100)

    def test_no_stream(self) -> None:
        stream = zlib.compress(b"hello")
        for wrong in (b"hello", stream[:-1], stream + b"x", b"", stream[:-1] + b"\x00"):
            with self.assertRaises(Malformed, msg=wrong):
                inflated(Inflater(100), [wrong], 100)
            with self.assertRaises(Malformed, msg=wrong):
                inflate(wrong, 100)


class BoundaryTests(SynchronousTestCase):
    @given(st.lists(st.binary(max_size=300), max_size=5), st.booleans(), st.data())
    def test_any_pieces(self, payloads: list[bytes], compressed: bool, data: st.DataObject) -> None:
        """After each piece it tells whether a frame ended exactly there."""
        frames = [encode_frame(7, payload, compressed=compressed) for payload in payloads]
        ends = {sum(map(len, frames[:count])) for count in range(len(frames) + 1)}
        boundary = Boundary()
        place = 0
        for piece in data.draw(segmentations(b"".join(frames))):
            boundary.pass_over(piece)
            place += len(piece)
            self.assertEqual(boundary.reached, place in ends)
        self.assertTrue(boundary.reached)

    def test_no_frames(self) -> None:
        with self.assertRaises(Malformed):
            Boundary().pass_over(b"\x01" + b"\xff" * 20)


class ZstdTests(SynchronousTestCase):
    """SB-21: one long stream each way, and separate frames."""

    def decode(self, data: bytes, most: int = 1000, decoder: Decoder | None = None, size: int = 7) -> bytes:
        decoder = Decoder() if decoder is None else decoder
        source = bytearray()
        result = b""
        for start in range(0, len(data), size):
            source += data[start : start + size]
            while True:
                before = len(source)
                piece = decoder.decode(source, most)
                self.assertLessEqual(len(piece), most)
                result += piece
                if not piece and len(source) == before:
                    break
        return result

    def test_one_stream(self) -> None:
        """Everything said so far can be read after each flush, and earlier pieces help later ones."""
        encoder, decoder = Encoder(), Decoder()
        sizes = []
        for _ in range(5):
            data = encoder.encode(bytes(range(256)))
            sizes.append(len(data))
            self.assertEqual(self.decode(data, decoder=decoder), bytes(range(256)))
        self.assertLess(sizes[1], sizes[0] // 4)
        self.assertEqual(decoder.frames, 1)

    def test_used_again(self) -> None:
        """A compressor that served another stream begins anew: what it says needs nothing of what was said before."""
        secret = bytes(range(256))
        former = Encoder()
        fresh = former.encode(secret)
        for rest in (b"", secret):
            if rest:
                former.encode(rest)
            former.close()
            # The next one is made of it.
            former = Encoder()
            data = former.encode(secret)
            self.assertEqual(self.decode(data), secret)
            self.assertEqual(len(data), len(fresh))
            self.assertEqual(window_size(data), 65_536)

    def test_few_are_kept(self) -> None:
        """However many streams end at once, no more compressors than so many stay behind."""
        for encoder in [Encoder() for _ in range(SPARE_ENCODERS + 8)]:
            encoder.close()
        self.assertEqual(len(zstd_stream._spare), SPARE_ENCODERS)

    def test_separate_frames(self) -> None:
        """Also such that say nothing, and such that are to be skipped."""
        data = b"".join(
            (
                zstd.compress(b"one"),
                zstd.compress(b""),
                b"\x53\x2a\x4d\x18\x02\x00\x00\x00xx",
                zstd.compress(b"two" * 1000),
                zstd.compress(b"three" * 50_000),
            )
        )
        for size in (1, 7, len(data)):
            decoder = Decoder()
            self.assertEqual(self.decode(data, decoder=decoder, size=size), b"one" + b"two" * 1000 + b"three" * 50_000)
            self.assertEqual((decoder.frames, decoder.held, decoder.wants_input), (5, 0, True))

    def test_bomb(self) -> None:
        """However much is in it, no more than asked for comes out at a time, and little is kept."""
        bomb = zstd.compress(bytes(64 * MEGABYTE))
        decoder = Decoder()
        source = bytearray(bomb)
        for _ in range(20):
            self.assertEqual(len(decoder.decode(source, 1000)), 1000)
            self.assertLess(decoder.held, 10 * MEGABYTE)

    def test_small_window(self) -> None:
        """Of a long stream its window is held, and no more."""
        compressor = zstd.ZstdCompressor(options={int(zstd.CompressionParameter.window_log): 17})
        source = bytearray(compressor.compress(os.urandom(MEGABYTE), compressor.FLUSH_BLOCK))
        decoder = Decoder()
        decoded = 0
        while piece := decoder.decode(source, 50_000):
            decoded += len(piece)
            self.assertEqual(decoder.held, min(decoded, 1 << 17) + DECODING + INPUT)
        self.assertGreater(decoded, 1 << 18)

    def stream(self, window_log: int) -> bytes:
        options: dict[int, int] = {
            zstd.CompressionParameter.window_log: window_log,
            zstd.CompressionParameter.compression_level: 1,
        }
        compressor = zstd.ZstdCompressor(options=options)
        return compressor.compress(b"hello", compressor.FLUSH_BLOCK)

    def test_window(self) -> None:
        """A stream may look back 2**25 bytes, which are counted as far as they were written; not further."""
        decoder = Decoder()
        self.assertEqual(self.decode(self.stream(MAXIMUM_WINDOW_LOG), decoder=decoder), b"hello")
        self.assertEqual(decoder.held, len(b"hello") + DECODING + INPUT)
        with self.assertRaises(Malformed):
            self.decode(self.stream(MAXIMUM_WINDOW_LOG + 1))

    def test_our_window(self) -> None:
        """Our own stream looks back 64 KiB: that bounds what the compressor and the peer's decoder hold."""
        self.assertEqual(window_size(Encoder().encode(b"hello")), 65_536)

    def test_window_sizes(self) -> None:
        """What a frame's header says: of a single segment, the size of its content."""
        for flag, size, field in (
            (0x20, 255, b"\xff"),
            (0x60, 256, b"\x00\x00"),
            (0x60, 65_791, b"\xff\xff"),
            (0xA0, 1 << 25, (1 << 25).to_bytes(4, "little")),
            (0xE0, 1 << 25, (1 << 25).to_bytes(8, "little")),
        ):
            header = b"\x28\xb5\x2f\xfd" + bytes((flag,)) + field
            self.assertEqual(window_size(header + b"?"), size)
            for cut in range(6):
                self.assertIsNone(window_size(header[:cut]))
        for data in (zstd.compress(bytes(size)) for size in (0, 255, 256, 65_791)):
            self.assertEqual(window_size(data), zstd.get_frame_info(data).decompressed_size)
        for size in ((1 << 25) + 1, 1 << 40):
            with self.assertRaises(Malformed):
                window_size(b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little"))
        self.assertEqual(window_size(b"\x5f\x2a\x4d\x18"), 0)
        # Window descriptor with a mantissa: 2**10 + 7/8 of it.
        self.assertEqual(window_size(b"\x28\xb5\x2f\xfd\x00\x07"), 1024 + 1024 // 8 * 7)

    def test_window_with_a_dictionary(self) -> None:
        """A single segment's size stands behind the dictionary's number."""
        header = b"\x28\xb5\x2f\xfd\x61\xaa\x00\x01"
        self.assertEqual(window_size(header), 256 + 256)
        self.assertIsNone(window_size(header[:-1]))

    def test_nonsense(self) -> None:
        for data in (
            b"\x00",
            b"\x28\xb5\x2f\xfe",
            b"hello",
            b"\x4f\x2a\x4d\x18",
            b"\x28\xb5\x2f\xfd\x00\x00\xff\xff\xff",
        ):
            with self.assertRaises(Malformed, msg=data):
                self.decode(data)

    @given(st.binary(max_size=100), st.integers(0, 2))
    def test_random_bytes(self, data: bytes, kind: int) -> None:
        """SB-21: any bytes decode to something or are malformed."""
        prefix = (b"", b"\x28\xb5\x2f\xfd", Encoder().encode(b"hello"))[kind]
        try:
            self.decode(prefix + data)
        except Malformed:
            pass

    @given(st.lists(st.binary(max_size=2000), max_size=4), st.booleans(), st.integers(1, 500))
    def test_round_trip(self, parts: list[bytes], separate: bool, size: int) -> None:
        encoder: Any = Encoder()
        encode = zstd.compress if separate else encoder.encode
        self.assertEqual(self.decode(b"".join(map(encode, parts)), size=size), b"".join(parts))


class MeasureTests(SynchronousTestCase):
    def test_length_of_a_negative_length(self) -> None:
        """-1 is a stream of one byte."""
        self.assertEqual(read_header(b"\x00" + encode_signed_vlq(-1)), (0, -1, 2))
