"""What a daemon and its worker processes say to each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.workers.frames import MAXIMUM_FRAME, FrameBuffer, decode, encode


class FrameTests(SynchronousTestCase):
    """Frames"""

    def test_layout(self) -> None:
        """Length, byte, and parts with their lengths."""
        self.assertEqual(encode(3, [b"ab", b""]), bytes.fromhex("0000000b 03 00000002 6162 00000000"))
        self.assertEqual(encode(0, []), bytes.fromhex("00000001 00"))

    @given(
        frames=st.lists(st.tuples(st.integers(0, 255), st.lists(st.binary(max_size=40), max_size=4)), max_size=5),
        data=st.data(),
    )
    def test_any_split(self, frames: list[tuple[int, list[bytes]]], data: st.DataObject) -> None:
        """However a pipe cuts them, the same frames come out."""
        stream = b"".join(encode(kind, parts) for kind, parts in frames)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        buffer, found = FrameBuffer(), []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            found += buffer.feed(stream[start:end])
        self.assertEqual(found, frames)

    def test_bound(self) -> None:
        """COM-2: neither side makes or takes a frame beyond the bound."""
        self.assertEqual(len(encode(1, [bytes(MAXIMUM_FRAME - 5)])), MAXIMUM_FRAME + 4)
        with self.assertRaises(ValueError):
            encode(1, [bytes(MAXIMUM_FRAME - 4)])
        with self.assertRaises(ValueError):
            FrameBuffer().feed((MAXIMUM_FRAME + 1).to_bytes(4, "big"))

    def test_malformed(self) -> None:
        for body in (b"", b"\1\0", b"\1\0\0\0\5abcd", b"\1\0\0\0\0\0"):
            with self.assertRaises(ValueError):
                decode(body)
