"""What a daemon and its worker processes say to each other through their pipes.

A frame is its length without itself (u32), one byte whose meaning depends on the direction, and parts: each its length
(u32) and its bytes, all big-endian. The first frame to a child has its niceness and the names of the functions that it
may call; each one after that is a job: the number of a function, its time in milliseconds (u64), and its arguments.
From the child the byte is a :class:`Status`.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable

MAXIMUM_FRAME = 1 << 20
"""Bytes behind the length of a frame; longer ones are a mistake of ours (COM-2)."""

MAXIMUM_FUNCTIONS = 256
"""The number of a function is one byte."""

LENGTH = struct.Struct(">I")


class Status(enum.IntEnum):
    """What a child has to say."""

    READY = 0
    """The functions are loaded, and jobs can come."""
    DONE = 1
    """The parts are what the function returned."""
    RAISED = 2
    """The function raised; the one part is the name of the exception's class. Its text might hold a secret (COM-9)."""
    UNUSABLE = 3
    """A function cannot be loaded; the one part says why."""


def encode(kind: int, parts: Iterable[bytes]) -> bytes:
    """One frame.

    :raises ValueError: where it would be longer than :data:`MAXIMUM_FRAME`.
    """
    pieces = [b"\0\0\0\0", bytes((kind,))]
    length = 1
    for part in parts:
        pieces += (LENGTH.pack(len(part)), part)
        length += LENGTH.size + len(part)
    if length > MAXIMUM_FRAME:
        raise ValueError(f"a frame of {length} bytes: at most {MAXIMUM_FRAME}")
    pieces[0] = LENGTH.pack(length)
    return b"".join(pieces)


def decode(body: bytes) -> tuple[int, list[bytes]]:
    """The byte and the parts of a frame, without its length.

    :raises ValueError: where its parts do not fill it.
    """
    if not body:
        raise ValueError("an empty frame")
    parts: list[bytes] = []
    at = 1
    while at < len(body):
        if at + LENGTH.size > len(body):
            raise ValueError("a part without its length")
        (length,) = LENGTH.unpack_from(body, at)
        at += LENGTH.size
        if length > len(body) - at:
            raise ValueError("a part that ends behind its frame")
        parts.append(body[at : at + length])
        at += length
    return body[0], parts


class FrameBuffer:
    """Puts frames together that come in pieces."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, list[bytes]]]:
        """Take bytes, give the frames that are complete.

        :raises ValueError: for a frame that is none.
        """
        self._data += data
        found: list[tuple[int, list[bytes]]] = []
        while len(self._data) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._data)
            if length > MAXIMUM_FRAME:
                raise ValueError(f"a frame of {length} bytes: at most {MAXIMUM_FRAME}")
            end = LENGTH.size + length
            if len(self._data) < end:
                break
            found.append(decode(bytes(self._data[LENGTH.size : end])))
            del self._data[:end]
        return found
