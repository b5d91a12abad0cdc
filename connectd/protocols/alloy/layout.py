"""The table of a packet: where its fields are, and how it is encoded and decoded by that alone (AL-17).

A payload is a byte of null bits, the fixed block, the offset table and the variable block. A packet with a single
variable field has no table: the field follows inline. A few packets have no null bits.
"""

from __future__ import annotations

import struct
from typing import Any, Final, TypeVar

import attrs

from connectd.protocols.alloy.compression import compress, compressed_maximum, decompress
from connectd.protocols.alloy.fields import FixedField, Malformed, VariableField

PacketT = TypeVar("PacketT")

ABSENT: Final = -1
"""The offset of a variable field that is not there."""

HEADER = struct.Struct("<ii")
"""What begins each frame: the payload's length and the packet's id."""


@attrs.frozen
class Fixed:
    """A field of the fixed block.

    :param name: the attribute that holds its value.
    :param nullable: whether a null bit tells if it is there; absent, its bytes are zeros.
    """

    name: str
    field: FixedField
    nullable: bool = False


@attrs.frozen
class Variable:
    """A field of the variable block.

    :param name: the attribute that holds its value.
    :param nullable: whether it may be absent.
    """

    name: str
    field: VariableField
    nullable: bool = True


class Layout:
    """The table of one packet.

    :param id: the packet's.
    :param fields: in wire order, the fixed ones first; their order gives the null bits theirs.
    :param null_bits: whether the payload begins with a byte of them.
    :param compressed: whether the payload is sent as one Zstandard frame.
    :param maximum: bytes of its payload, decompressed, where that is less than its fields could take.
    """

    __slots__ = (
        "_fixed",
        "_fixed_fields",
        "_table",
        "_variable",
        "_variable_fields",
        "compressed",
        "id",
        "maximum",
        "null_bits",
    )

    def __init__(
        self,
        id: int,
        *fields: Fixed | Variable,
        null_bits: bool = True,
        compressed: bool = False,
        maximum: int | None = None,
    ) -> None:
        self.id = id
        self.null_bits = null_bits
        self.compressed = compressed
        bits = iter(1 << index for index in range(8))
        fixed: list[tuple[str, FixedField, int]] = []
        variable: list[tuple[str, VariableField, bool, int]] = []
        for one in fields:
            bit = next(bits) if one.nullable and null_bits else 0
            if isinstance(one, Fixed):
                fixed.append((one.name, one.field, bit))
            else:
                variable.append((one.name, one.field, one.nullable, bit))
        self._fixed_fields = tuple(fixed)
        self._variable_fields = tuple(variable)
        self._fixed = struct.Struct("<" + ("B" if null_bits else "") + "".join(field.format for _, field, _ in fixed))
        self._table = struct.Struct(f"<{len(variable) if len(variable) > 1 else 0}i")
        self._variable = self._fixed.size + self._table.size
        whole = self._variable + sum(field.maximum for _, field, _, _ in variable)
        self.maximum = whole if maximum is None else maximum

    @property
    def largest_payload(self) -> int:
        """The most bytes of a payload on the wire; it is refused beyond before it is buffered."""
        return compressed_maximum(self.maximum) if self.compressed else self.maximum

    def encode(self, packet: Any) -> bytes:
        """The whole frame of a packet: header and payload.

        :raises ValueError: where a value does not fit.
        """
        bits = 0
        values: list[Any] = []
        for name, fixed, bit in self._fixed_fields:
            value = getattr(packet, name)
            if value is not None:
                bits |= bit
            try:
                values.append(fixed.pack(value))
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{name}: {error}") from None
        block: list[bytes] = []
        offsets: list[int] = []
        end = 0
        for name, variable, nullable, bit in self._variable_fields:
            value = getattr(packet, name)
            if value is None:
                if not nullable:
                    raise ValueError(f"{name}: has to be there")
                offsets.append(ABSENT)
                continue
            bits |= bit
            try:
                data = variable.encode(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            offsets.append(end)
            block.append(data)
            end += len(data)
        head = self._fixed.pack(bits, *values) if self.null_bits else self._fixed.pack(*values)
        table = self._table.pack(*offsets) if self._table.size else b""
        payload = b"".join((head, table, *block))
        if len(payload) > self.maximum:
            raise ValueError(f"a payload of {len(payload)} bytes, at most {self.maximum} fit")
        if self.compressed:
            payload = compress(payload)
        return HEADER.pack(len(payload), self.id) + payload

    def decode(self, kind: type[PacketT], payload: bytes, maximum: int | None = None) -> PacketT:
        """The packet that a payload is.

        Presence of a variable field is decided by its offset, or inline by whether bytes are left; null bits only
        tell of fixed fields (AL-4).

        :param kind: its class.
        :param maximum: bytes of the payload, decompressed, where the caller expects less than the table allows.
        :raises Malformed: where it is none; its offset is one of ``payload`` as it is given.
        """
        limit = self.maximum if maximum is None else min(maximum, self.maximum)
        if not self.compressed:
            return self._decode(kind, payload, limit)
        content = decompress(payload, limit)
        try:
            return self._decode(kind, content, limit)
        except Malformed as error:
            # Nobody can find that byte in what came: only the payload that it was compressed into is at an offset.
            raise Malformed(f"{error.reason} (at byte {error.offset}, decompressed)", 0) from None

    def _decode(self, kind: type[PacketT], payload: bytes, limit: int) -> PacketT:
        if len(payload) > limit:
            raise Malformed(f"{len(payload)} bytes, at most {limit} are allowed", 0)
        if len(payload) < self._variable:
            raise Malformed(f"{len(payload)} bytes, at least {self._variable} are needed", len(payload))
        values = self._decode_fixed(payload)
        end = self._variable
        fields = self._variable_fields
        offsets = self._offsets(payload)
        for (name, field, nullable, _), offset in zip(fields, offsets, strict=True):
            if offset == ABSENT:
                if not nullable:
                    raise Malformed(f"{name} is not there", end)
                values[name] = None
                continue
            if offset != end - self._variable:
                raise Malformed(_misplaced(name, offset, end - self._variable, len(payload) - self._variable), end)
            values[name], end = field.decode(payload, end)
        if end != len(payload):
            raise Malformed(f"{len(payload) - end} bytes that belong to no field", end)
        return kind(**values)

    def _decode_fixed(self, payload: bytes) -> dict[str, Any]:
        raw = self._fixed.unpack_from(payload)
        bits = 0xFF
        if self.null_bits:
            bits, raw = raw[0], raw[1:]
        values: dict[str, Any] = {}
        for (name, field, bit), value in zip(self._fixed_fields, raw, strict=True):
            if bit and not bits & bit:
                values[name] = None
                continue
            try:
                values[name] = field.unpack(value)
            except ValueError as error:
                raise Malformed(f"{name}: {error}", self._offset_of(name)) from None
        return values

    def _offsets(self, payload: bytes) -> tuple[int, ...]:
        if self._table.size:
            return self._table.unpack_from(payload, self._fixed.size)
        return tuple(0 if len(payload) > self._variable else ABSENT for _ in self._variable_fields)

    def _offset_of(self, name: str) -> int:
        offset = 1 if self.null_bits else 0
        for other, field, _ in self._fixed_fields:
            if other == name:
                break
            offset += struct.calcsize("<" + field.format)
        return offset


def _misplaced(name: str, offset: int, expected: int, size: int) -> str:
    """What is wrong with an offset."""
    if not 0 <= offset <= size:
        return f"the offset {offset} of {name} lies outside the block of {size} bytes"
    if offset < expected:
        return f"the offset {offset} of {name} lies inside or before the field in front of it"
    return f"the offset {offset} of {name} leaves {offset - expected} bytes that belong to no field"
