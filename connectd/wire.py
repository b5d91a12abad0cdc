"""A cursor over received bytes that checks before it reads, and the integers that protocols share (COM-2)."""

from __future__ import annotations

import struct

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_I64 = struct.Struct(">q")


class Truncated(ValueError):
    """More bytes are promised than there are.

    :param offset: where the missing field begins, from the start of the cursor's bytes.
    """

    def __init__(self, offset: int, wanted: int, left: int) -> None:
        super().__init__(f"{wanted} bytes wanted at offset {offset}, {left} left")
        self.offset = offset


class Cursor:
    """Reads big-endian fields from a complete message.

    :param data: the message; it is not copied.
    :param offset: where to begin.
    """

    __slots__ = ("data", "offset")

    def __init__(self, data: bytes | bytearray | memoryview, offset: int = 0) -> None:
        self.data = data
        self.offset = offset

    @property
    def left(self) -> int:
        """How many bytes have not been read."""
        return len(self.data) - self.offset

    def skip(self, count: int) -> int:
        """Step over that many bytes and return the offset where they began.

        :raises Truncated: where they are not there.
        """
        start = self.offset
        if count > len(self.data) - start:
            raise Truncated(start, count, len(self.data) - start)
        self.offset = start + count
        return start

    def take(self, count: int) -> bytes:
        """That many bytes, as a copy."""
        start = self.skip(count)
        return bytes(self.data[start : start + count])

    def u8(self) -> int:
        """One byte."""
        return self.data[self.skip(1)]

    def u16(self) -> int:
        """Two bytes, big-endian."""
        return int(_U16.unpack_from(self.data, self.skip(2))[0])

    def u24(self) -> int:
        """Three bytes, big-endian."""
        start = self.skip(3)
        return int.from_bytes(self.data[start : start + 3], "big")

    def u32(self) -> int:
        """Four bytes, big-endian."""
        return int(_U32.unpack_from(self.data, self.skip(4))[0])

    def i64(self) -> int:
        """Eight bytes, big-endian, signed."""
        return int(_I64.unpack_from(self.data, self.skip(8))[0])


def first_difference(data: bytes | bytearray, expected: bytes) -> int | None:
    """Where ``data`` first departs from ``expected``, or None while it is a prefix of it (or begins with it)."""
    length = min(len(data), len(expected))
    if data[:length] == expected[:length]:
        return None
    return next(index for index in range(length) if data[index] != expected[index])


def one_line(text: bytes | str) -> str:
    """Somebody else's text (UTF-8, where it is bytes) as it can be shown: no line ends, nothing that moves a cursor."""
    decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return decoded if decoded.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in decoded)


def text_field(text: str, maximum: int) -> bytes:
    """A text for a NUL-terminated field: UTF-8 of at most ``maximum`` bytes, cut between characters, without NUL."""
    data = text.replace("\0", " ").encode("utf-8", "replace")[:maximum]
    return data.decode("utf-8", "ignore").encode()
