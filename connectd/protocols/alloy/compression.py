"""Zstandard with bounds: nothing that a peer sends can make it write, or keep a window, without limit (AL-17)."""

from __future__ import annotations

import sys
from typing import Final

from connectd.protocols.alloy.fields import Malformed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["MAXIMUM_WINDOW_LOG", "compress", "compressed_maximum", "decompress", "zstd"]

MAXIMUM_WINDOW_LOG: Final = 23
"""The window is 8 MiB at most: that much of its output a decompressor has to keep."""

_OPTIONS: Final = {int(zstd.DecompressionParameter.window_log_max): MAXIMUM_WINDOW_LOG}
_LEVEL: Final = 3


def compress(data: bytes) -> bytes:
    """One Zstandard frame with its content's size."""
    return zstd.compress(data, _LEVEL)


def decompress(data: bytes, maximum: int) -> bytes:
    """The content of exactly one Zstandard frame.

    :param maximum: bytes of content that are allowed; no more than one byte beyond is ever produced.
    :raises Malformed: where it is more, no frame, cut off, followed by something, or wants a window over 8 MiB.
    """
    decompressor = zstd.ZstdDecompressor(options=_OPTIONS)
    try:
        content = decompressor.decompress(data, maximum + 1)
    except zstd.ZstdError as error:
        raise Malformed(f"this cannot be decompressed: {' '.join(str(error).split())}", 0) from None
    if len(content) > maximum:
        raise Malformed(f"decompressed it is over {maximum} bytes", 0)
    if not decompressor.eof:
        raise Malformed("the compressed data is cut off", len(data))
    if decompressor.unused_data:
        raise Malformed("more follows the compressed data", len(data) - len(decompressor.unused_data))
    return content


def compressed_maximum(size: int) -> int:
    """The most bytes that so much content takes, compressed; what cannot be made smaller grows a little."""
    return size + (size >> 8) + 128
