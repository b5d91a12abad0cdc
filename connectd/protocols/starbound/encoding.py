"""How Starbound writes numbers, strings and byte arrays, whatever the generation (SB-12).

Fixed-width integers and floats are big-endian. A VLQ is groups of 7 bits, most significant first, of which all but
the last have 0x80 set. In a signed VLQ the lowest bit is the sign.
"""

from __future__ import annotations

from typing import Final

MAXIMUM_VLQ: Final = (1 << 64) - 1
MAXIMUM_VLQ_SIZE: Final = 10

_SHORT = [bytes((value,)) for value in range(0x80)]


class Malformed(ValueError):
    """Bytes that cannot be what they should.

    :param reason: what is wrong with them, in plain words.
    :param offset: of the first wrong byte, from the start of the payload (or of what was to be read).
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


def encode_vlq(value: int) -> bytes:
    """
    :raises ValueError: for a negative number, and for one over 2**64 - 1.
    """
    if 0 <= value < 0x80:
        return _SHORT[value]
    if not 0 <= value <= MAXIMUM_VLQ:
        raise ValueError(f"{value} does not fit into a VLQ: 0 to 2**64 - 1")
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


def encode_signed_vlq(value: int) -> bytes:
    """n >= 0 as n << 1, n < 0 as (-(n + 1)) << 1 | 1.

    :raises ValueError: for what does not fit into 64 bits.
    """
    return encode_vlq(value << 1 if value >= 0 else ~value << 1 | 1)


def signed(value: int) -> int:
    """The number that a VLQ means where it is a signed one."""
    return ~(value >> 1) if value & 1 else value >> 1


def read_vlq(data: bytes | bytearray | memoryview, offset: int) -> tuple[int, int] | None:
    """Read a VLQ. Overlong ones, with leading groups of zero, are taken.

    :return: its value and the offset behind it, or None where it is cut off.
    :raises Malformed: where it has more than 10 bytes or is over 2**64 - 1.
    """
    value = 0
    for place in range(offset, min(len(data), offset + MAXIMUM_VLQ_SIZE)):
        byte = data[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            if value > MAXIMUM_VLQ:
                raise Malformed("a VLQ over 64 bits", offset)
            return value, place + 1
    if len(data) - offset >= MAXIMUM_VLQ_SIZE:
        raise Malformed(f"a VLQ of more than {MAXIMUM_VLQ_SIZE} bytes", offset)
    return None


def read_signed_vlq(data: bytes | bytearray | memoryview, offset: int) -> tuple[int, int] | None:
    """As :func:`read_vlq`, for a signed one."""
    found = read_vlq(data, offset)
    return None if found is None else (signed(found[0]), found[1])


def encode_bytes(value: bytes) -> bytes:
    """VLQ length, then the bytes."""
    return encode_vlq(len(value)) + value


def string_bytes(value: str | bytes) -> bytes:
    """A string as it goes over the wire. What was received without being UTF-8 becomes the same bytes again."""
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")


def bytes_string(value: bytes) -> str:
    """A received string; bytes that are not UTF-8 are kept as lone surrogates."""
    return value.decode("utf-8", "surrogateescape")
