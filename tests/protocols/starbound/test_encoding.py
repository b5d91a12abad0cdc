"""Tests of :mod:`connectd.protocols.starbound.encoding`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.starbound.encoding import (
    MAXIMUM_VLQ,
    Malformed,
    bytes_string,
    encode_bytes,
    encode_signed_vlq,
    encode_vlq,
    read_signed_vlq,
    read_vlq,
    string_bytes,
)

SIGNED = {
    0: "00",
    1: "02",
    -1: "01",
    63: "7e",
    64: "8100",
    -64: "7f",
    -65: "8101",
    8192: "818000",
    -8193: "818001",
}
UNSIGNED = {127: "7f", 128: "8100", 601_000: "a4d728"}


class VectorTests(SynchronousTestCase):
    """SB-12: the vectors of VLQ and signed VLQ."""

    def test_signed(self) -> None:
        for value, encoded in SIGNED.items():
            data = bytes.fromhex(encoded)
            self.assertEqual(encode_signed_vlq(value), data, value)
            self.assertEqual(read_signed_vlq(b"?" + data, 1), (value, 1 + len(data)), value)

    def test_unsigned(self) -> None:
        for value, encoded in UNSIGNED.items():
            data = bytes.fromhex(encoded)
            self.assertEqual(encode_vlq(value), data, value)
            self.assertEqual(read_vlq(data + b"?", 0), (value, len(data)), value)


class LimitTests(SynchronousTestCase):
    """SB-12: what is malformed, and what only looks odd."""

    def test_largest(self) -> None:
        """64 bits fit, in either sign."""
        data = encode_vlq(MAXIMUM_VLQ)
        self.assertEqual(len(data), 10)
        self.assertEqual(read_vlq(data, 0), (MAXIMUM_VLQ, 10))
        for value in (2**63 - 1, -(2**63)):
            self.assertEqual(read_signed_vlq(encode_signed_vlq(value), 0), (value, 10))

    def test_too_wide(self) -> None:
        """A VLQ over 2**64 - 1 is malformed, in 10 bytes as well as in more."""
        for data in (b"\x82" + b"\x80" * 8 + b"\x00", b"\xff" * 9 + b"\x7f"):
            with self.assertRaises(Malformed) as caught:
                read_vlq(b"abc" + data, 3)
            self.assertEqual(caught.exception.offset, 3)

    def test_too_long(self) -> None:
        """At most 10 bytes; the tenth decides, without waiting for an eleventh."""
        for count in (10, 11, 1000):
            with self.assertRaises(Malformed):
                read_vlq(b"\x80" * count, 0)
        self.assertIsNone(read_vlq(b"\x80" * 9, 0))

    def test_overlong(self) -> None:
        """Leading groups of zero are accepted."""
        self.assertEqual(read_vlq(b"\x80\x80\x05", 0), (5, 3))
        self.assertEqual(read_vlq(b"\x80" * 9 + b"\x05", 0), (5, 10))

    def test_cut_off(self) -> None:
        for data in (b"", b"\x81", b"\xff\xff"):
            self.assertIsNone(read_vlq(data, 0))
            self.assertIsNone(read_signed_vlq(data, 0))

    def test_cannot_be_written(self) -> None:
        for value in (-1, MAXIMUM_VLQ + 1):
            with self.assertRaises(ValueError):
                encode_vlq(value)
        for value in (2**63, -(2**63) - 1):
            with self.assertRaises(ValueError):
                encode_signed_vlq(value)


class RoundTripTests(SynchronousTestCase):
    @given(st.integers(0, MAXIMUM_VLQ), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=5))
    def test_numbers(self, unsigned: int, number: int, before: bytes) -> None:
        """SB-12: numbers survive, wherever they stand."""
        data = before + encode_vlq(unsigned) + encode_signed_vlq(number)
        found = read_vlq(data, len(before))
        assert found is not None
        self.assertEqual(found[0], unsigned)
        self.assertEqual(read_signed_vlq(data, found[1]), (number, len(data)))
        self.assertIsNone(read_signed_vlq(data[:-1], found[1]))

    @given(st.binary(max_size=300))
    def test_strings(self, data: bytes) -> None:
        """Whatever bytes a string has, they come out again (the account is hashed as it came, SB-3)."""
        self.assertEqual(string_bytes(bytes_string(data)), data)
        self.assertEqual(string_bytes(data), data)
        self.assertEqual(encode_bytes(data), encode_vlq(len(data)) + data)
