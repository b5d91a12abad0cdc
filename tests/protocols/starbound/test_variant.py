"""Tests of :mod:`connectd.protocols.starbound.variant`."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.starbound.encoding import Malformed, encode_vlq
from connectd.protocols.starbound.variant import (
    MAXIMUM_DEPTH,
    MAXIMUM_NODES,
    NOTHING,
    EncodedVariant,
    VariantScanner,
    decode_variant,
    encode_variant,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int, innermost: Any = None) -> Any:
    value = innermost
    for _ in range(depth):
        value = [value]
    return value


class VectorTests(SynchronousTestCase):
    def test_vectors(self) -> None:
        """SB-11: the vectors of Variant."""
        for value, encoded in ((-3, "0405"), (1.5, "023ff8000000000000"), ({"k": 5}, "0701016b040a")):
            data = bytes.fromhex(encoded)
            self.assertEqual(encode_variant(value), data)
            self.assertEqual(decode_variant(data), value)

    def test_all_types(self) -> None:
        """SB-11: types 1 to 7, and 0 for null."""
        for data, value in (
            (b"\x00", None),
            (b"\x01", None),
            (b"\x03\x00", False),
            (b"\x03\x01", True),
            (b"\x03\x07", True),
            (b"\x05\x02hi", "hi"),
            (b"\x06\x00", []),
            (b"\x06\x02\x01\x06\x01\x04\x02", [None, [1]]),
            (b"\x07\x00", {}),
            (b"\x07\x02\x01a\x01\x01b\x03\x01", {"a": None, "b": True}),
            (b"\x07\x02\x01a\x01\x01a\x03\x01", {"a": True}),
        ):
            self.assertEqual(decode_variant(data), value, data)
        self.assertEqual(NOTHING.value, None)


class LimitTests(SynchronousTestCase):
    """SB-11: depth, number of values, and promises that cannot be kept."""

    def malformed(self, data: bytes, offset: int | None = None) -> None:
        with self.assertRaises(Malformed) as caught:
            decode_variant(data)
        self.assertTrue(0 <= caught.exception.offset <= len(data))
        if offset is not None:
            self.assertEqual(caught.exception.offset, offset, caught.exception.reason)

    def test_depth(self) -> None:
        """64 lists inside of each other, not 65: neither read nor written."""
        self.assertEqual(decode_variant(encode_variant(nested(MAXIMUM_DEPTH))), nested(MAXIMUM_DEPTH))
        self.malformed(b"\x06\x01" * (MAXIMUM_DEPTH + 1) + b"\x01", 2 * MAXIMUM_DEPTH)
        self.malformed(b"\x07\x01\x00" * (MAXIMUM_DEPTH + 1) + b"\x01")
        with self.assertRaises(ValueError):
            encode_variant(nested(MAXIMUM_DEPTH + 1))

    def test_no_recursion(self) -> None:
        """A million levels are an error like any other."""
        self.malformed(b"\x06\x01" * 1_000_000)
        with self.assertRaises(ValueError):
            encode_variant(nested(100_000))

    def test_nodes(self) -> None:
        """65,536 values with the list itself, not one more: neither read nor written."""
        most = [None] * (MAXIMUM_NODES - 1)
        self.assertEqual(decode_variant(encode_variant(most)), most)
        self.malformed(b"\x06" + encode_vlq(MAXIMUM_NODES) + b"\x01" * MAXIMUM_NODES, 1)
        halves = [[None] * 32_767, [None] * 32_766]
        self.assertEqual(decode_variant(encode_variant(halves)), halves)
        half = b"\x06" + encode_vlq(32_767) + b"\x01" * 32_767
        self.malformed(b"\x06\x02" + half * 2)
        # What is promised fits each time, and all together is one too many.
        self.malformed(b"\x06\x02\x06" + encode_vlq(65_534) + b"\x01" * 65_535)
        with self.assertRaises(ValueError):
            encode_variant([*most, None])

    def test_promises(self) -> None:
        """Counts and lengths that promise more than there can be are refused before anything is read for them."""
        for data, offset in (
            (b"\x06\x05\x01", 1),
            (b"\x07\x02\x00\x01", 1),
            (b"\x05\x05abc", 1),
            (b"\x02\x00", 1),
            (b"\x03", 1),
            (b"\x06" + encode_vlq(2**40), 1),
            (b"\x07\x01\x09ab\x01", 2),
        ):
            self.malformed(data, offset)

    def test_promises_while_more_can_come(self) -> None:
        """What is promised is compared with what may come, not with what has."""
        scanner = VariantScanner()
        self.assertFalse(scanner.scan(b"\x06\x05\x01", 7))
        with self.assertRaises(Malformed):
            VariantScanner().scan(b"\x06\x05\x01", 6)

    def test_nonsense(self) -> None:
        for data in (b"", b"\x08", b"\xff", b"\x06\x01\x08", b"\x01\x01", b"\x04", b"\x04\x80", b"\x05", b"\x06"):
            self.malformed(data)
        self.malformed(b"\x04" + b"\x80" * 10, 1)

    def test_what_cannot_be_written(self) -> None:
        for value in (b"bytes", {1: 2}, object(), 2**63, [set()]):
            with self.assertRaises(ValueError):
                EncodedVariant.of(value)


class PropertyTests(SynchronousTestCase):
    @given(VALUES)
    def test_round_trip(self, value: Any) -> None:
        """SB-11: what is written is read."""
        self.assertEqual(EncodedVariant.of(value).value, value)

    def test_not_a_number(self) -> None:
        self.assertTrue(math.isnan(decode_variant(encode_variant(float("nan")))))

    @given(VALUES, st.data())
    def test_in_pieces(self, value: Any, data: st.DataObject) -> None:
        """However it arrives, its end is found where it is, once it is there, and not before."""
        encoded = encode_variant(value)
        scanner = VariantScanner()
        most = len(encoded) + data.draw(st.integers(0, 3))
        there = 0
        while there < len(encoded):
            self.assertFalse(scanner.scan(encoded[:there], most))
            there = data.draw(st.integers(there + 1, len(encoded)))
        self.assertTrue(scanner.scan(encoded + bytes(most - len(encoded)), most))
        self.assertEqual(scanner.offset, len(encoded))

    @given(st.binary(max_size=60))
    def test_random_bytes(self, data: bytes) -> None:
        """Bytes are a Variant or malformed, and nothing else happens. What is one is the same after a round trip."""
        try:
            value = decode_variant(data)
        except Malformed as error:
            self.assertTrue(0 <= error.offset <= len(data))
        else:
            again = encode_variant(value)
            self.assertEqual(encode_variant(decode_variant(again)), again)

    def test_repr(self) -> None:
        """A log line shows its size."""
        self.assertEqual(repr(EncodedVariant.of("x" * 1000)), "<Variant of 1003 bytes>")
