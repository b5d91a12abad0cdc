"""Starbound's zlib frames and zstd streams: any bytes in any pieces, bounded, and what we compress ourselves."""

from __future__ import annotations

import zlib

from connectd.protocols.starbound.encoding import Malformed
from connectd.protocols.starbound.frames import Boundary, Inflater, encode_frame, inflate
from connectd.protocols.starbound.zstd_stream import DECODING, INPUT, Decoder, Encoder
from fuzz.script import Script, cut
from fuzz.starbound_words import compress
from fuzz.watched import require

MOST = 5000
MOST_HELD = (1 << 25) + DECODING + INPUT


def _inflate(pieces: list[bytes], most: int) -> bytes | None:
    inflater = Inflater(MOST)
    result = b""
    try:
        for piece in pieces:
            result += inflater.inflate(piece, most)
            while not inflater.wants_input:
                more = inflater.inflate(b"", most)
                require(len(more) <= most, "a piece is no larger than asked for", len(more))
                result += more
        inflater.finish()
    except Malformed:
        return None
    require(len(result) <= MOST, "SB-8: it stops at the cap", len(result))
    return result


def _zlib(script: Script) -> None:
    sizes, most = script.take(2), script.byte() + 1
    code = script.byte()
    data = script.rest()
    if code % 2:
        data = zlib.compress(data * (code + 1))
    found = _inflate(cut(data, sizes), most)
    require(found == _inflate([data], MOST), "segmentation changes nothing", found)
    try:
        require(inflate(data, MOST) == found, "at once is the same as in pieces", found)
    except Malformed:
        require(found is None, "at once is the same as in pieces", found)


def _decode(pieces: list[bytes], most: int) -> tuple[bytes, bool]:
    decoder, source, result = Decoder(), bytearray(), b""
    try:
        for piece in pieces:
            source += piece
            for _ in range(100_000):
                before = len(source)
                found = decoder.decode(source, most)
                require(len(found) <= most, "a piece is no larger than asked for", len(found))
                require(decoder.held <= MOST_HELD, "SB-21: what is held is bounded", decoder.held)
                result += found
                if len(result) > 1_000_000 or (not found and len(source) == before):
                    break
    except Malformed:
        return result, False
    return result, True


def _zstd(script: Script) -> None:
    sizes, most, code = script.take(2), script.byte() + 1, script.byte()
    parts = [script.chunk() for _ in range(code % 4)]
    encoder = Encoder()
    data = b"".join(compress(part) if code & 8 else encoder.encode(part) for part in parts)
    garbage = script.rest()
    found, whole = _decode(cut(data + garbage, sizes), most)
    if not garbage:
        require(whole and found == b"".join(parts), "what is written is read", parts, found)


def _boundary(script: Script) -> None:
    sizes = script.take(2)
    payloads = [script.chunk() for _ in range(script.byte() % 4)]
    frames = [encode_frame(7, payload, compressed=bool(len(payload) & 1)) for payload in payloads]
    ends = {sum(map(len, frames[:count])) for count in range(len(frames) + 1)}
    boundary, place = Boundary(), 0
    for piece in cut(b"".join(frames), sizes):
        boundary.pass_over(piece)
        place += len(piece)
        require(boundary.reached == (place in ends), "a frame ends where it ends", place)


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    (_zlib, _zstd, _boundary)[script.byte() % 3](script)


SEEDS = (
    b"\0\1\2\x20\0" + zlib.compress(b"hello" * 20),
    b"\0\1\2\xff\1hello",
    b"\0\0\0\0\xff" + bytes(100),
    b"\1\1\2\x20\2\5hello\5world",
    b"\1\1\2\x20\x0a\5hello\5world" + compress(b"more"),
    b"\1\0\0\0\0\x28\xb5\x2f\xfd\0\x78\1\0\0",
    b"\1\3\3\7\0\x53\x2a\x4d\x18\2\0\0\0xx" + compress(b"tail"),
    b"\2\0\1\3\5hello\0\4more",
)
