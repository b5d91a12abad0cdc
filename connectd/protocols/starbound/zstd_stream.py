"""OpenStarbound's compression of whole directions: one long zstd stream, or a row of separate frames (SB-21)."""

from __future__ import annotations

import sys
from collections import deque
from typing import Final

from connectd.protocols.starbound.encoding import Malformed

if sys.version_info >= (3, 14):
    from compression.zstd import (
        CompressionParameter,
        DecompressionParameter,
        ZstdCompressor,
        ZstdDecompressor,
        ZstdError,
    )
else:
    from backports.zstd import CompressionParameter, DecompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdError

MAXIMUM_WINDOW_LOG: Final = 25
"""A peer's stream may look back 32 MiB."""

ENCODER_WINDOW_LOG: Final = 16
ENCODING: Final = 512 * 1024
"""Bytes that our own compressor costs at most: its window of 64 KiB, its tables and its buffers."""
SPARE_ENCODERS: Final = 32
"""Compressors that are kept for further streams."""
DECODING: Final = 384 * 1024
"""Bytes that a decompressor costs besides its window."""
INPUT: Final = 16 * 1024
"""Bytes of input that it is given at a time, and may keep."""

_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = b"\x2a\x4d\x18"

_ENCODER_OPTIONS: Final[dict[int, int]] = {
    CompressionParameter.compression_level: 1,
    CompressionParameter.window_log: ENCODER_WINDOW_LOG,
    CompressionParameter.hash_log: 14,
}
_DECODER_OPTIONS: Final[dict[int, int]] = {DecompressionParameter.window_log_max: MAXIMUM_WINDOW_LOG}


_spare: deque[ZstdCompressor] = deque(maxlen=SPARE_ENCODERS)
"""Compressors of streams that are over. Making one costs more than a login has to compress."""


class Encoder:
    """Our direction: one stream that is never ended, flushed after each piece."""

    __slots__ = ("_compressor",)

    def __init__(self) -> None:
        self._compressor = _spare.pop() if _spare else ZstdCompressor(options=_ENCODER_OPTIONS)

    def encode(self, data: bytes) -> bytes:
        """The next bytes of the stream, from which the peer can read all that it was told so far."""
        return self._compressor.compress(data, ZstdCompressor.FLUSH_BLOCK)

    def close(self) -> None:
        """Nothing more will be encoded; what it was made with serves another one.

        The end of a frame is not sent, but nothing that follows refers to what was before it.
        """
        compressor = self._compressor
        compressor.compress(b"", ZstdCompressor.FLUSH_FRAME)
        del self._compressor
        _spare.append(compressor)


class Decoder:
    """The peer's direction."""

    __slots__ = ("_decoded", "_decompressor", "_window", "frames")

    def __init__(self) -> None:
        self._decompressor: ZstdDecompressor | None = None
        self._window = 0
        self._decoded = 0
        self.frames = 0
        """How many separate frames have begun."""

    @property
    def held(self) -> int:
        """Bytes that it costs. A window is memory as far as something was decoded into it: to declare one is free."""
        return 0 if self._decompressor is None else DECODING + INPUT + min(self._window, self._decoded)

    @property
    def wants_input(self) -> bool:
        """Whether nothing more comes out of what it was given."""
        return self._decompressor is None or self._decompressor.needs_input

    def decode(self, source: bytearray, most: int) -> bytes:
        """Decompress a piece.

        :param source: what has come from the peer; what is used of it is removed.
        :param most: bytes of the piece.
        :return: nothing where more input is needed, and at the end of a frame.
        :raises Malformed: for what is no zstd stream or needs too large a window. The offset is 0.
        """
        decompressor = self._decompressor
        if decompressor is None:
            window = window_size(source)
            if window is None:
                return b""
            self._window, self._decoded = window, 0
            self.frames += 1
            decompressor = self._decompressor = ZstdDecompressor(options=_DECODER_OPTIONS)
        chunk = b""
        if decompressor.needs_input:
            chunk = bytes(source[:INPUT])
            del source[:INPUT]
        try:
            piece = decompressor.decompress(chunk, most)
        except ZstdError as error:
            raise Malformed(f"not a zstd stream ({error})", 0) from None
        self._decoded += len(piece)
        if decompressor.eof:
            source[:0] = decompressor.unused_data
            self._decompressor = None
            self._window = 0
        return piece


def window_size(data: bytes | bytearray) -> int | None:
    """How far a frame looks back, in bytes; None until its beginning tells.

    :raises Malformed: for what begins no frame, and for a window over 32 MiB.
    """
    skippable = data[:1] and 0x50 <= data[0] <= 0x5F
    if not (_SKIPPABLE.startswith(data[1:4]) if skippable else _MAGIC.startswith(data[:4])):
        raise Malformed("not a zstd stream", 0)
    if skippable and len(data) >= 4:
        return 0
    if len(data) < 6:
        return None
    descriptor = data[4]
    if descriptor & 0x20:
        # A single segment: the window is the content, whose size comes behind the dictionary's number.
        dictionary = (0, 1, 2, 4)[descriptor & 3]
        size = 1 << (descriptor >> 6)
        start = 5 + dictionary
        if len(data) < start + size:
            return None
        window = int.from_bytes(data[start : start + size], "little") + (256 if size == 2 else 0)
    else:
        base = 1 << 10 + (data[5] >> 3)
        window = base + base // 8 * (data[5] & 7)
    if window > 1 << MAXIMUM_WINDOW_LOG:
        raise Malformed(f"a zstd window of {window} bytes: at most 2**{MAXIMUM_WINDOW_LOG}", 0)
    return window
