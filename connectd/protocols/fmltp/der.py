"""The little of DER that Diffie-Hellman is made of: INTEGER, SEQUENCE, OBJECT IDENTIFIER, BIT STRING.

The reader is strict, for what it reads comes from peers: definite lengths in their shortest form, integers in their
shortest form and not negative, no more bytes than the caller allows, and nothing left over.
"""

from __future__ import annotations

from typing import Final

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OBJECT_IDENTIFIER: Final = 0x06
SEQUENCE: Final = 0x30


class DerError(ValueError):
    """Bytes that are not the DER that was asked for.

    :param offset: of the first wrong byte, from the start of the outermost element.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"{reason} at offset {offset}")
        self.offset = offset


class DerReader:
    """Reads the elements of a SEQUENCE one after the other. Nothing is copied before its length was checked.

    :param data: the bytes.
    :param start: where the first element begins.
    :param end: where the last one ends.
    """

    __slots__ = ("_data", "_end", "_offset")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._offset = start
        self._end = len(data) if end is None else end

    @property
    def more(self) -> bool:
        """Whether there is another element."""
        return self._offset < self._end

    @property
    def next_is_integer(self) -> bool:
        """Whether it is an INTEGER."""
        return self.more and self._data[self._offset] == INTEGER

    def _element(self, tag: int, name: str) -> tuple[int, int]:
        """Step over an element with that tag: where its contents begin and end."""
        data, at = self._data, self._offset
        if self._end - at < 2:
            raise DerError(f"no {name}", at)
        if data[at] != tag:
            raise DerError(f"tag {data[at]:#04x} where {name} should be", at)
        length = data[at + 1]
        start = at + 2
        if length >= 0x80:
            octets = length & 0x7F
            if octets not in (1, 2) or self._end - start < octets:
                raise DerError("a length of a wrong form", at + 1)
            length = int.from_bytes(data[start : start + octets], "big")
            if length < (0x80 if octets == 1 else 0x100):
                raise DerError("a length that is not in its shortest form", at + 1)
            start += octets
        if length > self._end - start:
            raise DerError(f"{name} is cut short", start)
        self._offset = start + length
        return start, start + length

    def sequence(self) -> DerReader:
        """The elements of a SEQUENCE."""
        return DerReader(self._data, *self._element(SEQUENCE, "a SEQUENCE"))

    def unsigned(self, maximum_bits: int, name: str) -> int:
        """A positive INTEGER or 0. One of more bits is refused by its length alone."""
        start, end = self._element(INTEGER, name)
        data = self._data
        if start == end:
            raise DerError(f"{name} is empty", start)
        if end - start > maximum_bits // 8 + 1:
            raise DerError(f"{name} has more than {maximum_bits} bits", start)
        if data[start] & 0x80:
            raise DerError(f"{name} is negative", start)
        if end - start > 1 and not data[start] and not data[start + 1] & 0x80:
            raise DerError(f"{name} is not in its shortest form", start)
        value = int.from_bytes(data[start:end], "big")
        if value.bit_length() > maximum_bits:
            raise DerError(f"{name} has more than {maximum_bits} bits", start)
        return value

    def object_identifier(self) -> bytes:
        """An OBJECT IDENTIFIER's contents, as they are encoded."""
        start, end = self._element(OBJECT_IDENTIFIER, "an OBJECT IDENTIFIER")
        return self._data[start:end]

    def bit_string(self) -> DerReader:
        """The elements in a BIT STRING of whole bytes."""
        start, end = self._element(BIT_STRING, "a BIT STRING")
        if start == end or self._data[start]:
            raise DerError("a BIT STRING that is not of whole bytes", start)
        return DerReader(self._data, start + 1, end)

    def skip(self, tag: int, name: str) -> None:
        """Step over an element without a look into it."""
        self._element(tag, name)

    def finish(self) -> None:
        """
        :raises DerError: where there is another element.
        """
        if self.more:
            raise DerError("more than there should be", self._offset)


def encode_element(tag: int, *contents: bytes) -> bytes:
    """An element of at most 65,535 bytes of contents."""
    body = b"".join(contents)
    length = len(body)
    if length < 0x80:
        head = bytes((tag, length))
    elif length < 0x100:
        head = bytes((tag, 0x81, length))
    else:
        head = bytes((tag, 0x82)) + length.to_bytes(2, "big")
    return head + body


def encode_unsigned(value: int) -> bytes:
    """A positive INTEGER or 0."""
    return encode_element(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))
