"""Starbound's packets: frozen classes, and how each generation lays them out.

A class has the fields of all generations; a layout says which of them go over the wire, in which order and as what.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from connectd.protocols.starbound.encoding import Malformed
from connectd.protocols.starbound.fields import (
    BOOL,
    BYTES,
    CELESTIAL,
    F32,
    I32,
    OPTIONAL_UUID,
    OPTIONAL_VARIANT,
    SHIPWORLD,
    STRING,
    STRINGS,
    U8,
    U32,
    UUID,
    VARIANT,
    VLQ,
    WORLD_CHUNKS,
    Kind,
    Source,
)
from connectd.protocols.starbound.variant import NOTHING, EncodedVariant


@attrs.frozen
class Packet:
    """One of the packets of the connection process."""


PacketT = TypeVar("PacketT", bound=Packet)


@attrs.frozen
class ProtocolVersion(Packet):
    """The server speaks first: this is what it says.

    :param version: of its protocol.
    """

    version: int


@attrs.frozen
class ProtocolRequest(Packet):
    """The client speaks first: this is what it says. OpenStarbound clients send it compressed.

    :param version: of its protocol.
    """

    version: int


@attrs.frozen
class ProtocolResponse(Packet):
    """Whether the server speaks that version.

    :param info: for OpenStarbound clients, what follows (SB-21).
    """

    allowed: bool
    info: EncodedVariant | None = None


@attrs.frozen
class ClientConnect(Packet):
    """The player, and the ship.

    :param asset_digest: of the client's assets.
    :param claim: where the server speaks first; null.
    :param uuid: of the player, 16 bytes.
    :param shipworld: where the server speaks first: a whole file.
    :param account: empty for an anonymous player.
    :param allow_assets_mismatch: the client wants in even where the digests differ.
    :param world_chunks: where the client speaks first: the ship, as (key, value or None) each (SB-24).
    :param ship_level: the ship's upgrades from here on.
    :param info: of OpenStarbound clients.
    """

    asset_digest: bytes = b""
    claim: EncodedVariant = NOTHING
    uuid: bytes | None = None
    name: str = ""
    species: str = ""
    shipworld: bytes = attrs.field(default=b"", repr=lambda data: f"<{len(data)} bytes>")
    account: str = attrs.field(default="", repr=False)  # people type passwords there (COM-9)
    allow_assets_mismatch: bool = True
    world_chunks: tuple[tuple[bytes, bytes | None], ...] = attrs.field(
        default=(), repr=lambda chunks: f"<{len(chunks)} chunks>"
    )
    ship_level: int = 0
    max_fuel: int = 0
    crew_size: int = 0
    fuel_efficiency: float = 1.0
    ship_speed: float = 0.0
    capabilities: tuple[str, ...] = ()
    intro_complete: bool = True
    info: EncodedVariant = NOTHING


@attrs.frozen
class HandshakeChallenge(Packet):
    """What the password is to be hashed with.

    :param claim: where the server speaks first; empty.
    :param salt: where the server speaks first, 32 base64 characters; otherwise 16 random bytes.
    :param rounds: where the server speaks first (SB-4).
    """

    salt: bytes
    claim: str = ""
    rounds: int = 0


@attrs.frozen
class HandshakeResponse(Packet):
    """The proof.

    :param claim: where the server speaks first; empty.
    :param response: where the server speaks first, base64 of the hash; otherwise its 32 bytes.
    """

    response: bytes = attrs.field(repr=False)
    claim: str = ""


@attrs.frozen
class ConnectionResponse(Packet):
    """The last word where the server speaks first.

    :param client_id: 0 without success.
    :param reason: empty with success.
    :param celestial: in enraged-koala, what follows: nothing at all (None), a false (empty), or celestial information.
    """

    success: bool
    client_id: int = 0
    reason: str = ""
    celestial: bytes | None = None


@attrs.frozen
class ConnectSuccess(Packet):
    """The player is in.

    :param server_uuid: 16 bytes.
    :param planetary_orbits: the shape of the universe from here on.
    """

    client_id: int
    server_uuid: bytes = bytes(16)
    planetary_orbits: int = 12
    satellite_orbits: int = 12
    chunk_size: int = 100
    xy_minimum: int = -1_000_000_000
    xy_maximum: int = 1_000_000_000
    z_minimum: int = -1_000_000_000
    z_maximum: int = 1_000_000_000


@attrs.frozen
class ConnectFailure(Packet):
    """The player is not in."""

    reason: str


@attrs.frozen
class ServerDisconnect(Packet):
    """The server ends the session."""

    reason: str


@attrs.frozen
class ClientDisconnectRequest(Packet):
    """The client ends the session."""

    request: int = 0


Layout: TypeAlias = tuple[tuple[str, Kind], ...]
"""(name of the field, its kind) in the order of the wire."""

SERVER_FIRST: Final[Mapping[type[Packet], Layout]] = {
    ProtocolVersion: (("version", U32),),
    ClientConnect: (
        ("asset_digest", BYTES),
        ("claim", VARIANT),
        ("uuid", OPTIONAL_UUID),
        ("name", STRING),
        ("species", STRING),
        ("shipworld", SHIPWORLD),
        ("account", STRING),
    ),
    HandshakeChallenge: (("claim", STRING), ("salt", BYTES), ("rounds", I32)),
    HandshakeResponse: (("claim", STRING), ("response", BYTES)),
    ConnectionResponse: (("success", BOOL), ("client_id", VLQ), ("reason", STRING)),
}

ENRAGED: Final[Mapping[type[Packet], Layout]] = {
    **SERVER_FIRST,
    ConnectionResponse: (*SERVER_FIRST[ConnectionResponse], ("celestial", CELESTIAL)),
}

CLIENT_FIRST: Final[Mapping[type[Packet], Layout]] = {
    ProtocolRequest: (("version", U32),),
    ProtocolResponse: (("allowed", BOOL),),
    ServerDisconnect: (("reason", STRING),),
    ConnectSuccess: (
        ("client_id", VLQ),
        ("server_uuid", UUID),
        ("planetary_orbits", I32),
        ("satellite_orbits", I32),
        ("chunk_size", I32),
        ("xy_minimum", I32),
        ("xy_maximum", I32),
        ("z_minimum", I32),
        ("z_maximum", I32),
    ),
    ConnectFailure: (("reason", STRING),),
    HandshakeChallenge: (("salt", BYTES),),
    ClientConnect: (
        ("asset_digest", BYTES),
        ("allow_assets_mismatch", BOOL),
        ("uuid", UUID),
        ("name", STRING),
        ("species", STRING),
        ("world_chunks", WORLD_CHUNKS),
        ("ship_level", U32),
        ("max_fuel", U32),
        ("crew_size", U32),
        ("fuel_efficiency", F32),
        ("ship_speed", F32),
        ("capabilities", STRINGS),
        ("intro_complete", BOOL),
        ("account", STRING),
    ),
    ClientDisconnectRequest: (("request", U8),),
    HandshakeResponse: (("response", BYTES),),
}

OPENSTARBOUND: Final[Mapping[type[Packet], Layout]] = {
    **CLIENT_FIRST,
    ProtocolResponse: (*CLIENT_FIRST[ProtocolResponse], ("info", OPTIONAL_VARIANT)),
    ClientConnect: (*CLIENT_FIRST[ClientConnect], ("info", VARIANT)),
}


def encode_payload(packet: Packet, layout: Layout) -> bytes:
    """
    :raises ValueError: where a field has a value that it cannot have; it names the field.
    """
    parts = []
    for name, kind in layout:
        try:
            parts.append(kind.encode(getattr(packet, name)))
        except ValueError as error:
            raise ValueError(f"{type(packet).__name__}.{name}: {error}") from None
    return b"".join(parts)


class PacketReader:
    """Reads the packets of one frame as their bytes arrive.

    :param kind: the packets' class; all packets of a frame are of one type.
    :param layout: how they look.
    :param source: where the bytes come in.
    """

    __slots__ = ("_kind", "_layout", "_reading", "source")

    def __init__(self, kind: type[PacketT], layout: Layout, source: Source) -> None:
        self.source = source
        self._kind: Any = kind
        self._layout = layout
        self._reading = self._read()

    def feed(self, data: bytes, *, complete: bool = False) -> Any:
        """Take the next bytes of the payload.

        :param complete: they are the last.
        :return: the packet once it is whole, else None. Further calls without data give those that follow it, or go on
            where the source is ``pausing``. With ``complete`` it is a packet for certain, unless it is.
        :raises Malformed: where the bytes are none; its offset counts from the payload's beginning.
        """
        source = self.source
        if data:
            source.buffer += data
        source.complete = complete
        source.pausing = False
        try:
            next(self._reading)
        except StopIteration as end:
            self._reading = self._read()
            return end.value
        if complete and not source.pausing:
            raise Malformed(f"{self._kind.__name__} is cut off", source.position + len(source.buffer))
        return None

    def _read(self) -> Generator[None, None, Any]:
        values = {}
        for name, kind in self._layout:
            values[name] = yield from kind.read(self.source)
        return self._kind(**values)


MAXIMUM_PACKETS: Final = 131_072
"""Packets that may share one frame (SB-22)."""


def decode_payload(kind: type[PacketT], layout: Layout, payload: bytes, most: int = MAXIMUM_PACKETS) -> list[PacketT]:
    """The packets of a whole frame: one, or several of one type back to back (SB-22).

    :param most: how many there may be.
    :raises Malformed: where the payload is anything else.
    """
    reader = PacketReader(kind, layout, Source(len(payload)))
    packets = [reader.feed(payload, complete=True)]
    while reader.source.buffer:
        if len(packets) == most:
            raise Malformed(f"more than {most} packets in a frame", reader.source.position)
        packets.append(reader.feed(b"", complete=True))
    return packets
