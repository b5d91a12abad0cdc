"""Tests of :mod:`connectd.wire`."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.wire import Cursor, Truncated, first_difference, one_line


class CursorTests(SynchronousTestCase):
    def test_fields(self) -> None:
        data = bytes(range(1, 11)) + struct.pack(">q", -2) + b"rest"
        for form in (bytes, bytearray, memoryview):
            cursor = Cursor(form(data))
            self.assertEqual(
                (cursor.u8(), cursor.u16(), cursor.u24(), cursor.u32(), cursor.i64()),
                (1, 0x0203, 0x040506, 0x0708090A, -2),
            )
            self.assertEqual(cursor.left, 4)
            taken = cursor.take(4)
            self.assertEqual((taken, type(taken)), (b"rest", bytes))
            self.assertEqual((cursor.left, cursor.take(0)), (0, b""))

    def test_largest(self) -> None:
        cursor = Cursor(b"\xff" * 18)
        self.assertEqual(
            (cursor.u8(), cursor.u16(), cursor.u24(), cursor.u32(), cursor.i64()),
            (0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF, -1),
        )

    def test_offset(self) -> None:
        cursor = Cursor(b"abcdef", 2)
        self.assertEqual((cursor.left, cursor.skip(1), cursor.take(3), cursor.offset), (4, 2, b"def", 6))

    def test_truncated(self) -> None:
        """COM-2: what is not there is not read: the error says where, and nothing was consumed."""
        for read, size in ((Cursor.u8, 1), (Cursor.u16, 2), (Cursor.u24, 3), (Cursor.u32, 4), (Cursor.i64, 8)):
            cursor = Cursor(bytes(size + 1), 2)
            error = self.assertRaises(Truncated, read, cursor)
            self.assertEqual((error.offset, cursor.offset, cursor.left), (2, 2, size - 1))
            self.assertEqual(str(error), f"{size} bytes wanted at offset 2, {size - 1} left")
        self.assertRaises(Truncated, Cursor(b"abc").take, 4)

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=20), st.lists(st.integers(0, 8), max_size=10))
    def test_any_cut(self, data: bytes, counts: list[int]) -> None:
        """COM-2: reading never goes past the end, whatever is asked for."""
        cursor = Cursor(data)
        taken = b""
        for count in counts:
            if count <= cursor.left:
                taken += cursor.take(count)
            else:
                self.assertRaises(Truncated, cursor.take, count)
            self.assertEqual(data[: cursor.offset], taken)


class FirstDifferenceTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=6), st.binary(max_size=6))
    def test_against_definition(self, data: bytes, expected: bytes) -> None:
        """COM-3: the offset of the first wrong byte."""
        wrong = [index for index in range(min(len(data), len(expected))) if data[index] != expected[index]]
        self.assertEqual(first_difference(data, expected), wrong[0] if wrong else None)
        self.assertEqual(first_difference(bytearray(data), expected), wrong[0] if wrong else None)

    def test_examples(self) -> None:
        self.assertIsNone(first_difference(b"LE", b"LEKT"))
        self.assertIsNone(first_difference(b"LEKT and more", b"LEKT"))
        self.assertIsNone(first_difference(b"", b"LEKT"))
        self.assertEqual(first_difference(b"LEXT", b"LEKT"), 2)


class OneLineTests(SynchronousTestCase):
    def test_plain(self) -> None:
        self.assertEqual(one_line("Grüße, 世界".encode()), "Grüße, 世界")
        self.assertEqual(one_line(b""), "")

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=40))
    def test_any_bytes(self, text: bytes) -> None:
        """COM-3: whatever a peer says, it is one line that moves no cursor."""
        shown = one_line(text)
        self.assertTrue(shown.isprintable())
        self.assertLessEqual(len(shown.splitlines()), 1)

    def test_control_characters(self) -> None:
        self.assertEqual(one_line(b"a\nb\x1b[2J\xff\x00"), "a\ufffdb\ufffd[2J\ufffd\ufffd")
