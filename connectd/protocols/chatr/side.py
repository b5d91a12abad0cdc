"""What Chatr's two sides have in common: frames of packets."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import attrs

from connectd.protocols.chatr.packets import Packet, PacketError, decode_packet, read_varint
from connectd.sansio import Event, Machine, RemoteProtocolError

INVALID_PACKET: Final = "Invalid Packet"

MAXIMUM_FRAME: Final = 8192
"""Bytes of a frame after Connected (CH-9)."""


@attrs.frozen
class Denied(Event):
    """The client denies another's request; at a client: a request of its own was denied (CH-7)."""

    uuid: UUID


def _find_frame(data: bytearray, opcodes: frozenset[int], largest: int, consumed: int) -> tuple[int, int] | None:
    """Where the frame at the start of ``data`` has its opcode and ends, or None until it is whole.

    What is wrong with it is found as early as its first bytes tell, and the same whatever pieces it comes in.

    :param opcodes: those that are right here.
    :param largest: bytes that its length may say.
    :param consumed: where ``data`` begins in all that the peer sent.
    :raises RemoteProtocolError: for a frame that cannot be right.
    """
    try:
        found = read_varint(data)
    except PacketError as error:
        raise RemoteProtocolError(error.reason, consumed + error.offset, told=INVALID_PACKET) from None
    if found is None:
        return None
    length, start = found
    if not 0 < length <= largest:
        raise RemoteProtocolError(
            f"a frame of {length} bytes, where 1 to {largest} are possible", consumed, told=INVALID_PACKET
        )
    if len(data) > start and data[start] not in opcodes:
        raise RemoteProtocolError(f"opcode {data[start]} has no place here", consumed + start, told=INVALID_PACKET)
    return (start, start + length) if len(data) >= start + length else None


class PacketMachine(Machine):
    """A machine whose input is frames of packets."""

    __slots__ = ("_state",)

    def _packet(self, opcodes: frozenset[int], largest: int) -> Packet | None:
        """Take the next packet, or None where it is not whole yet."""
        if not self._input:
            return None
        place = _find_frame(self._input, opcodes, largest, self._consumed)
        if place is None:
            return None
        start, end = place
        try:
            packet = decode_packet(bytes(self._input[start:end]))
        except PacketError as error:
            raise RemoteProtocolError(
                error.reason, self._consumed + start + error.offset, told=INVALID_PACKET
            ) from None
        self._consume(end)
        return packet
