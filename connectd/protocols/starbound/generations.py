"""The generations of Starbound's connection process, as data: version, who speaks first, packet numbers, layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from connectd.protocols.starbound.encoding import Malformed
from connectd.protocols.starbound.frames import encode_frame
from connectd.protocols.starbound.packets import (
    CLIENT_FIRST,
    ENRAGED,
    OPENSTARBOUND,
    SERVER_FIRST,
    ClientConnect,
    ClientDisconnectRequest,
    ConnectFailure,
    ConnectionResponse,
    ConnectSuccess,
    HandshakeChallenge,
    HandshakeResponse,
    Layout,
    Packet,
    PacketT,
    ProtocolRequest,
    ProtocolResponse,
    ProtocolVersion,
    ServerDisconnect,
    decode_payload,
    encode_payload,
)


@attrs.frozen(eq=False)
class Generation:
    """One way to speak.

    :param name: the word for it in configurations.
    :param version: of its protocol.
    :param server_first: the server speaks first, and passwords are hashed in rounds (SB-3); otherwise the client
        does, and they are hashed once (SB-20).
    :param numbers: the packet ids on the wire.
    :param layouts: how the packets look.
    """

    name: str
    version: int
    server_first: bool
    numbers: Mapping[type[Packet], int]
    layouts: Mapping[type[Packet], Layout]

    def number(self, kind: type[Packet]) -> int:
        """The id of a packet; -1 of one that this generation has not, which is nobody's."""
        return self.numbers.get(kind, -1)

    def encode(self, packet: Packet, *, compressed: bool = False) -> bytes:
        """A frame with that packet.

        :raises ValueError: where a field has a value that it cannot have.
        """
        kind = type(packet)
        return encode_frame(self.numbers[kind], encode_payload(packet, self.layouts[kind]), compressed=compressed)

    def decode(self, kind: type[PacketT], payload: bytes) -> list[PacketT]:
        """The packets of a frame's payload (SB-22).

        :raises Malformed: where it is anything else.
        """
        return decode_payload(kind, self.layouts[kind], payload)

    def decode_one(self, kind: type[PacketT], payload: bytes) -> PacketT:
        """The only packet of a frame's payload.

        :raises Malformed: where it is anything else.
        """
        packets = self.decode(kind, payload)
        if len(packets) > 1:
            raise Malformed(f"{len(packets)} packets of the type {kind.__name__} at once", 0)
        return packets[0]


def _server_first(
    name: str, version: int, numbers: Sequence[int], layouts: Mapping[type[Packet], Layout]
) -> Generation:
    kinds = (ProtocolVersion, ClientConnect, HandshakeChallenge, HandshakeResponse, ConnectionResponse)
    return Generation(name, version, True, dict(zip(kinds, numbers, strict=True)), layouts)


_CLIENT_FIRST_NUMBERS: Final[Mapping[type[Packet], int]] = {
    ProtocolRequest: 0,
    ProtocolResponse: 1,
    ServerDisconnect: 2,
    ConnectSuccess: 3,
    ConnectFailure: 4,
    HandshakeChallenge: 5,
    ClientConnect: 13,
    ClientDisconnectRequest: 14,
    HandshakeResponse: 15,
}

SEED: Final = _server_first("seed", 628, (0, 6, 3, 8, 1), SERVER_FIRST)
ANGRY_KOALA: Final = _server_first("angry-koala", 628, (1, 7, 4, 9, 2), SERVER_FIRST)
FURIOUS_KOALA: Final = _server_first("furious-koala", 636, (0, 6, 3, 8, 1), SERVER_FIRST)
ENRAGED_KOALA: Final = _server_first("enraged-koala", 639, (0, 7, 3, 9, 1), ENRAGED)
RETAIL: Final = Generation("1.4", 747, False, _CLIENT_FIRST_NUMBERS, CLIENT_FIRST)
OPENSB: Final = Generation("opensb", 747, False, _CLIENT_FIRST_NUMBERS, OPENSTARBOUND)

GENERATIONS: Final[Mapping[str, Generation]] = {
    one.name: one for one in (SEED, ANGRY_KOALA, FURIOUS_KOALA, ENRAGED_KOALA, RETAIL, OPENSB)
}


def problem(names: Sequence[str]) -> str | None:
    """What is wrong with the generations that one listener is to serve, or None."""
    if not names:
        return f"names no generation: one of {', '.join(GENERATIONS)}"
    for name in names:
        if name not in GENERATIONS:
            return f'"{name}" is not one of {", ".join(GENERATIONS)}'
        if names.count(name) > 1:
            return f'"{name}" is there twice'
    speaking = [name for name in names if GENERATIONS[name].server_first]
    if len(speaking) > 1:
        return (
            f"{' and '.join(speaking)} cannot share a listener: the server speaks first in each, and has to know "
            "which of them to speak (give each a listener of its own)"
        )
    return None


def guess(number: int, version: int, seed_version: int) -> Generation | None:
    """The generation of a server that speaks first, from what it says.

    :param number: the id of its ProtocolVersion.
    :param seed_version: the version that the generation ``seed`` has here.
    """
    named = {ANGRY_KOALA: 628, FURIOUS_KOALA: 636, ENRAGED_KOALA: 639, SEED: seed_version}
    for generation, expected in named.items():
        if number == generation.number(ProtocolVersion) and version == expected:
            return generation
    return None
