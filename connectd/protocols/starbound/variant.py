"""Variants: the JSON-like values inside of packets, with bounded depth and size, and without recursion (SB-11).

A type (u8), then what it says: 1 null, 2 f64, 3 bool, 4 signed VLQ, 5 string, 6 a list (VLQ n, n Variants), 7 a map
(VLQ n, n times string and Variant). Readers take type 0 as null.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import attrs

from connectd.protocols.starbound.encoding import (
    Malformed,
    bytes_string,
    encode_bytes,
    encode_signed_vlq,
    encode_vlq,
    read_vlq,
    signed,
    string_bytes,
)

MAXIMUM_DEPTH: Final = 64
"""Lists and maps that may lie inside of each other."""
MAXIMUM_NODES: Final = 65_536
"""Values in one Variant, itself and its lists and maps included."""

NULL, FLOAT, BOOL, INTEGER, STRING, LIST, MAP = range(1, 8)
_F64 = struct.Struct(">d")


class VariantScanner:
    """Finds the end of a Variant, in pieces as they arrive, and checks all of it on the way.

    :param offset: where it begins in what :meth:`scan` is given.
    """

    __slots__ = ("_open", "nodes", "offset")

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset
        self.nodes = 0
        # For each list or map that is not complete, how many values it still wants; negative for a map.
        self._open: list[int] = []

    def scan(self, data: bytes | bytearray, most: int, pause: int = MAXIMUM_NODES) -> bool:
        """Go on as far as the data reaches, or until so many values have been read.

        :param data: all bytes from the same place on as in the last call, and perhaps more of them.
        :param most: how many bytes there can be at all: what promises more is refused at once.
        :param pause: how many values this call reads, at least one; the next call goes on behind them.
        :return: whether the Variant is complete; it ends at :attr:`offset`.
        :raises Malformed: for an unknown type, too many values, too deep a nesting, promises that cannot be kept.
        """
        end = len(data)
        stop = self.nodes + pause
        waiting = self._open
        while True:
            place = self.offset
            if waiting and waiting[-1] < 0:
                # The key of a map's next value.
                found = read_vlq(data, place)
                if found is None:
                    return False
                place = _within(found[1] + found[0], most, place)
            if place >= end:
                return False
            kind = data[place]
            place += 1
            children = 0
            if kind in (0, NULL):
                pass
            elif kind == BOOL:
                place = _within(place + 1, most, place)
            elif kind == FLOAT:
                place = _within(place + 8, most, place)
            elif kind <= MAP:
                found = read_vlq(data, place)
                if found is None:
                    return False
                if kind == STRING:
                    place = _within(found[1] + found[0], most, place)
                else:
                    if kind != INTEGER:
                        children = self._contents(kind, found[0], most - found[1], place)
                    place = found[1]
            else:
                raise Malformed(f"a Variant of type {kind}", place - 1)
            if place > end:
                return False
            self.nodes += 1
            if self.nodes > MAXIMUM_NODES:
                raise Malformed(f"a Variant of more than {MAXIMUM_NODES} values", self.offset)
            self.offset = place
            if waiting:
                waiting[-1] += 1 if waiting[-1] < 0 else -1
            if children:
                waiting.append(children)
            else:
                while waiting and not waiting[-1]:
                    waiting.pop()
                if not waiting:
                    return True
            if self.nodes >= stop:
                return False

    def _contents(self, kind: int, count: int, left: int, offset: int) -> int:
        """How many values a list or, negated, a map wants."""
        if len(self._open) >= MAXIMUM_DEPTH:
            raise Malformed(f"a Variant deeper than {MAXIMUM_DEPTH}", offset - 1)
        if count > MAXIMUM_NODES - self.nodes - 1:
            raise Malformed(f"a Variant of more than {MAXIMUM_NODES} values", offset)
        if count * (2 if kind == MAP else 1) > left:
            raise Malformed(f"{count} values are promised in {left} bytes", offset)
        return -count if kind == MAP else count


def _within(place: int, most: int, offset: int) -> int:
    if place > most:
        raise Malformed("a Variant is cut off", offset)
    return place


@attrs.frozen(repr=False)
class EncodedVariant:
    """A Variant that is known to be right, as the bytes that it came in. It costs no more until it is looked at.

    :param data: its encoding.
    """

    data: bytes

    @classmethod
    def of(cls, value: Any) -> EncodedVariant:
        """Of None, bool, int, float, str, or a list or a dict (with str keys) of such.

        :raises ValueError: for anything else, or for more than a reader takes (SB-11).
        """
        return cls(encode_variant(value))

    @property
    def value(self) -> Any:
        """What it says."""
        return decode_variant(self.data)

    def __repr__(self) -> str:
        return f"<Variant of {len(self.data)} bytes>"


def decode_variant(data: bytes) -> Any:
    """The value of a complete Variant. Of a key that a map has twice, the last counts.

    :raises Malformed: where the bytes are not exactly one Variant.
    """
    scanner = VariantScanner()
    if not scanner.scan(data, len(data)):
        raise Malformed("a Variant is cut off", len(data))
    if scanner.offset != len(data):
        raise Malformed("bytes follow a Variant", scanner.offset)
    return _build(data)


def _build(data: bytes) -> Any:
    """The value of bytes that were scanned."""
    top: list[Any] = []
    # What is being filled, and how many values it still wants.
    stack: list[tuple[Any, list[int]]] = [(top, [1])]
    place = 0
    while stack:
        container, wanted = stack[-1]
        if not wanted[0]:
            stack.pop()
            continue
        wanted[0] -= 1
        key = ""
        if isinstance(container, dict):
            key, place = _string(data, place)
        kind = data[place]
        place += 1
        value: Any = None
        if kind == FLOAT:
            value = _F64.unpack_from(data, place)[0]
            place += 8
        elif kind == BOOL:
            value = data[place] != 0
            place += 1
        elif kind == STRING:
            value, place = _string(data, place)
        elif kind >= INTEGER:
            number, place = _number(data, place)
            if kind == INTEGER:
                value = signed(number)
            else:
                value = {} if kind == MAP else []
                stack.append((value, [number]))
        if isinstance(container, dict):
            container[key] = value
        else:
            container.append(value)
    return top[0]


def _number(data: bytes, place: int) -> tuple[int, int]:
    found = read_vlq(data, place)
    assert found is not None
    return found


def _string(data: bytes, place: int) -> tuple[str, int]:
    length, place = _number(data, place)
    return bytes_string(data[place : place + length]), place + length


def encode_variant(value: Any) -> bytes:
    """
    :param value: None, bool, int, float, str, or a list, tuple or dict (with str keys) of such.
    :raises ValueError: for anything else, or for more than a reader takes (SB-11).
    """
    result: list[bytes] = []
    stack: list[Iterator[Any]] = [iter((value,))]
    nodes = 0
    while stack:
        for item in stack[-1]:
            if isinstance(stack[-1], _Pairs):
                key, item = item  # a map's items come with their keys
                if not isinstance(key, str):
                    raise ValueError(f"a Variant's keys are strings, not {key!r}")
                result.append(encode_bytes(string_bytes(key)))
            nodes += 1
            if nodes > MAXIMUM_NODES:
                raise ValueError(f"a Variant has at most {MAXIMUM_NODES} values")
            contents = _encode_one(item, result)
            if contents is not None:
                if len(stack) > MAXIMUM_DEPTH:
                    raise ValueError(f"a Variant is at most {MAXIMUM_DEPTH} deep")
                stack.append(contents)
                break
        else:
            stack.pop()
    return b"".join(result)


class _Pairs(Iterator[tuple[Any, Any]]):
    """The items of a dict, told apart from those of a list."""

    __slots__ = ("_items",)

    def __init__(self, mapping: dict[Any, Any]) -> None:
        self._items = iter(mapping.items())

    def __next__(self) -> tuple[Any, Any]:
        return next(self._items)


def _encode_one(item: Any, result: list[bytes]) -> Iterator[Any] | None:
    """Append what an item begins with; the iterator of what it contains, if it is a list or a dict."""
    if item is None:
        result.append(b"\x01")
    elif isinstance(item, bool):
        result.append(b"\x03\x01" if item else b"\x03\x00")
    elif isinstance(item, int):
        result.append(b"\x04" + encode_signed_vlq(item))
    elif isinstance(item, float):
        result.append(b"\x02" + _F64.pack(item))
    elif isinstance(item, str):
        result.append(b"\x05" + encode_bytes(string_bytes(item)))
    elif isinstance(item, (list, tuple)):
        result.append(b"\x06" + encode_vlq(len(item)))
        return iter(item)
    elif isinstance(item, dict):
        result.append(b"\x07" + encode_vlq(len(item)))
        return _Pairs(item)
    else:
        raise ValueError(f"a Variant cannot hold {type(item).__name__}")
    return None


NOTHING: Final = EncodedVariant(b"\x01")
"""The Variant that says null."""
