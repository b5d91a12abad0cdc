"""Frames of a backend and frames of our own on one stream, without one ending up inside the other."""

from __future__ import annotations

from connectd.protocols.alloy.layout import HEADER
from connectd.sansio import LocalProtocolError


class Relay:
    """Follows where the frames of a byte stream end, so that others can be put between them."""

    __slots__ = ("_head", "_left", "_waiting")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._waiting: list[bytes] = []

    @property
    def between_frames(self) -> bool:
        """Whether the latest frame is complete."""
        return not self._left and not self._head

    def hold(self, frame: bytes) -> None:
        """Keep a frame of our own until the one that is under way is complete."""
        self._waiting.append(frame)

    def take(self, data: bytes) -> list[bytes]:
        """Take bytes of the stream, in any segmentation.

        :return: what is to be written now: these bytes, with what was held where a frame ends.
        :raises connectd.sansio.LocalProtocolError: where a frame's length is negative.
        """
        output: list[bytes] = []
        begin = offset = 0
        while offset < len(data):
            if self._left:
                step = min(self._left, len(data) - offset)
                self._left -= step
                offset += step
            else:
                step = min(HEADER.size - len(self._head), len(data) - offset)
                self._head += data[offset : offset + step]
                offset += step
                if len(self._head) < HEADER.size:
                    break
                length = HEADER.unpack(self._head)[0]
                if length < 0:
                    raise LocalProtocolError(f"send: a frame with the length {length}")
                self._head, self._left = b"", length
            if self._waiting and self.between_frames:
                output.append(data[begin:offset])
                output += self._waiting
                self._waiting.clear()
                begin = offset
        if begin < len(data):
            output.append(data[begin:])
        return output
