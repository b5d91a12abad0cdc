"""How the fuzzer's bytes become things that happen: a script is a row of steps, each an opcode byte and its operands.

Any bytes are a script: operands that are missing are 0, and what is left over at the end is ignored.
"""

from __future__ import annotations


class Script:
    """Reads a script.

    :param data: the fuzzer's bytes.
    """

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def left(self) -> int:
        """How many bytes have not been read."""
        return len(self._data) - self._offset

    def byte(self) -> int:
        """One byte, or 0 at the end."""
        if not self.left:
            return 0
        self._offset += 1
        return self._data[self._offset - 1]

    def take(self, count: int) -> bytes:
        """That many bytes, or what is left."""
        start = self._offset
        self._offset = min(start + count, len(self._data))
        return self._data[start : self._offset]

    def chunk(self) -> bytes:
        """A length byte, and so many bytes."""
        return self.take(self.byte())

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)


def chunk(data: bytes) -> bytes:
    """What :meth:`Script.chunk` reads as ``data``, at most 255 bytes; for seeds."""
    return bytes((len(data),)) + data


def cut(data: bytes, sizes: bytes) -> list[bytes]:
    """Cut into pieces whose sizes are those numbers plus one, again and again; one piece where there are none."""
    if not sizes:
        return [data]
    pieces = []
    offset = index = 0
    while offset < len(data):
        size = sizes[index % len(sizes)] + 1
        pieces.append(data[offset : offset + size])
        offset += size
        index += 1
    return pieces
