"""Alloy's packets: frozen classes, each beside the table of how it looks on the wire (AL-17).

A frame is an i32 payload length, an i32 packet id and the payload, little-endian. ``packet.encode()`` gives the whole
frame; :func:`decode` takes an id and a payload.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from uuid import UUID

import attrs

from connectd.protocols.alloy.fields import (
    ASCII,
    I16,
    I32,
    INSTANT,
    U8,
    UUID_FIELD,
    Asset,
    AssetField,
    Assets,
    FixedASCII,
    Host,
    HostAddress,
    Instant,
    Octets,
    String,
)
from connectd.protocols.alloy.layout import HEADER, Fixed, Layout, Variable

HEADER_SIZE: Final = HEADER.size
MAXIMUM_TOKEN: Final = 8192
"""Characters of a token."""
MAXIMUM_GRANT: Final = 4096
"""Characters of an authorization grant."""
MAXIMUM_CHALLENGE: Final = 64
"""Bytes of a challenge and of its answer."""
MAXIMUM_REFERRAL: Final = 4096
MAXIMUM_USERNAME: Final = 16
MAXIMUM_REASON_READ: Final = 4_096_000
MAXIMUM_REASON_SENT: Final = 1024
"""Characters of a Disconnect's reason: what is understood, and what we say."""
MAXIMUM_ASSETS: Final = 65_536
MAXIMUM_PART: Final = 4_096_000
"""Bytes of one part of an asset."""

_TOKEN = String(MAXIMUM_TOKEN)
_GRANT = String(MAXIMUM_GRANT)
_CHALLENGE = Octets(MAXIMUM_CHALLENGE)
_REFERRAL = Octets(MAXIMUM_REFERRAL)
_HOST = Host()
_ASSETS = Assets(MAXIMUM_ASSETS)


class DisconnectType(enum.IntEnum):
    """Why a session is ended, as Disconnect says it."""

    DISCONNECT = 0
    CRASH = 1


class ClientType(enum.IntEnum):
    """What a client is."""

    GAME = 0
    EDITOR = 1


class PongType(enum.IntEnum):
    """At which point of a client's work a Pong was written."""

    RAW = 0
    DIRECT = 1
    TICK = 2


@attrs.frozen
class Packet:
    """What all packets are."""

    layout: ClassVar[Layout]

    def encode(self) -> bytes:
        """The whole frame.

        :raises ValueError: where a value does not fit.
        """
        return self.layout.encode(self)


@attrs.frozen(kw_only=True)
class Connect(Packet):
    """The first packet of a client, as ``hytale/1`` has it (AL-4).

    :param protocol_hash: which version of all packets the client knows, 64 ASCII characters.
    :param identity_token: who the client is, signed; None: it logs in with a password.
    :param referral_data: what another server gave the client to show here.
    :param referral_source: that server.
    """

    protocol_hash: str = ""
    client_type: int = ClientType.GAME
    uuid: UUID
    language: str | None = None
    identity_token: str | None = attrs.field(default=None, repr=False)
    username: str
    referral_data: bytes | None = attrs.field(default=None, repr=False)
    referral_source: HostAddress | None = None

    layout: ClassVar[Layout] = Layout(
        0,
        Fixed("protocol_hash", FixedASCII(64)),
        Fixed("client_type", U8),
        Fixed("uuid", UUID_FIELD),
        Variable("language", ASCII(128)),
        Variable("identity_token", _TOKEN),
        Variable("username", ASCII(MAXIMUM_USERNAME), nullable=False),
        Variable("referral_data", _REFERRAL),
        Variable("referral_source", _HOST),
    )

    @property
    def protocol_version(self) -> str:
        """What the allow list is asked for (AL-4)."""
        return self.protocol_hash


@attrs.frozen(kw_only=True)
class Connect2(Packet):
    """The first packet of a client, as ``hytale/2`` has it (AL-15).

    :param crc: which version of all packets the client knows, an i32.
    :param build: the client's build, an i32.
    :param client_version: the same for people, at most 20 ASCII characters.
    """

    crc: int = 0
    build: int = 0
    client_version: str = ""
    client_type: int = ClientType.GAME
    uuid: UUID
    username: str
    identity_token: str | None = attrs.field(default=None, repr=False)
    language: str = ""
    referral_data: bytes | None = attrs.field(default=None, repr=False)
    referral_source: HostAddress | None = None

    layout: ClassVar[Layout] = Layout(
        0,
        Fixed("crc", I32),
        Fixed("build", I32),
        Fixed("client_version", FixedASCII(20)),
        Fixed("client_type", U8),
        Fixed("uuid", UUID_FIELD),
        Variable("username", ASCII(MAXIMUM_USERNAME), nullable=False),
        Variable("identity_token", _TOKEN),
        Variable("language", ASCII(16), nullable=False),
        Variable("referral_data", _REFERRAL),
        Variable("referral_source", _HOST),
    )

    @property
    def protocol_version(self) -> str:
        """What the allow list is asked for (AL-4)."""
        return str(self.crc)


@attrs.frozen
class Disconnect(Packet):
    """The sender ends the session.

    :param type: a :class:`DisconnectType`.
    :param reason: why, for people.
    """

    type: int = DisconnectType.DISCONNECT
    reason: str | None = None

    layout: ClassVar[Layout] = Layout(1, Fixed("type", U8), Variable("reason", String(MAXIMUM_REASON_READ)))

    @classmethod
    def saying(cls, reason: str, type: int = DisconnectType.DISCONNECT) -> Disconnect:
        """One with no more than the 1,024 characters that we say."""
        return cls(type, reason[:MAXIMUM_REASON_SENT].encode("utf-8", "replace").decode())


@attrs.frozen
class Ping(Packet):
    """The server asks whether the client is there, and tells how long earlier answers took.

    :param id: which Ping.
    :param time: the server's clock.
    :param raw: what the latest Pong of that type took, microseconds; so ``direct`` and ``tick``.
    """

    id: int
    time: Instant | None = None
    raw: int = 0
    direct: int = 0
    tick: int = 0

    layout: ClassVar[Layout] = Layout(
        2,
        Fixed("id", I32),
        Fixed("time", INSTANT, nullable=True),
        Fixed("raw", I32),
        Fixed("direct", I32),
        Fixed("tick", I32),
    )


@attrs.frozen
class Pong(Packet):
    """The answer to a Ping.

    :param id: that of the Ping.
    :param time: the client's clock.
    :param type: a :class:`PongType`.
    :param queue: how many packets wait to be looked at.
    """

    id: int
    time: Instant | None = None
    type: int = PongType.RAW
    queue: int = 0

    layout: ClassVar[Layout] = Layout(
        3, Fixed("id", I32), Fixed("time", INSTANT, nullable=True), Fixed("type", U8), Fixed("queue", I16)
    )


@attrs.frozen(repr=False)
class AuthGrant(Packet):
    """What the client gets an access token with, and who the server is, signed (AL-5)."""

    authorization_grant: str | None = None
    server_identity_token: str | None = None

    layout: ClassVar[Layout] = Layout(
        11, Variable("authorization_grant", _GRANT), Variable("server_identity_token", _TOKEN)
    )


@attrs.frozen(repr=False)
class AuthToken(Packet):
    """The client's access token, and what the server gets its own with (AL-6)."""

    access_token: str | None = None
    server_authorization_grant: str | None = None

    layout: ClassVar[Layout] = Layout(
        12, Variable("access_token", _TOKEN), Variable("server_authorization_grant", _GRANT)
    )


@attrs.frozen(repr=False)
class ServerAuthToken(Packet):
    """The client is in: PLAY begins. After a password login neither field is there (AL-8)."""

    server_access_token: str | None = None
    password_challenge: bytes | None = None

    layout: ClassVar[Layout] = Layout(
        13, Variable("server_access_token", _TOKEN), Variable("password_challenge", _CHALLENGE)
    )


@attrs.frozen(repr=False)
class ConnectAccept(Packet):
    """The server asks for its password (AL-8)."""

    password_challenge: bytes | None = None

    layout: ClassVar[Layout] = Layout(14, Variable("password_challenge", _CHALLENGE))


@attrs.frozen(repr=False)
class PasswordResponse(Packet):
    """The client's answer to a challenge: SHA-256 of challenge and password (AL-8)."""

    hash: bytes | None = None

    layout: ClassVar[Layout] = Layout(15, Variable("hash", _CHALLENGE))


@attrs.frozen
class PasswordAccepted(Packet):
    """The password is right."""

    layout: ClassVar[Layout] = Layout(16, null_bits=False)


@attrs.frozen
class PasswordRejected(Packet):
    """The password is wrong.

    :param attempts_remaining: how often the client may try again.
    :param new_challenge: for the next try; None where there is none.
    """

    attempts_remaining: int
    new_challenge: bytes | None = attrs.field(default=None, repr=False)

    layout: ClassVar[Layout] = Layout(17, Fixed("attempts_remaining", I32), Variable("new_challenge", _CHALLENGE))


@attrs.frozen
class ClientReferral(Packet):
    """The client is sent to another server.

    :param data: what it is to show there.
    """

    host_to: HostAddress | None = None
    data: bytes | None = attrs.field(default=None, repr=False)

    layout: ClassVar[Layout] = Layout(18, Variable("host_to", _HOST), Variable("data", _REFERRAL))


@attrs.frozen
class WorldSettings(Packet):
    """The world, and what a client needs to show it."""

    world_height: int
    required_assets: tuple[Asset, ...] | None = None

    layout: ClassVar[Layout] = Layout(
        20, Fixed("world_height", I32), Variable("required_assets", _ASSETS), compressed=True, maximum=64 << 20
    )


@attrs.frozen
class WorldLoadFinished(Packet):
    """All that was requested has been sent."""

    layout: ClassVar[Layout] = Layout(22, null_bits=False)


@attrs.frozen
class RequestAssets(Packet):
    """Which of the required assets the client does not have."""

    assets: tuple[Asset, ...] | None = None

    layout: ClassVar[Layout] = Layout(23, Variable("assets", _ASSETS), compressed=True, maximum=8 << 20)


@attrs.frozen
class AssetInitialize(Packet):
    """An asset begins.

    :param size: bytes of its content.
    """

    size: int
    asset: Asset

    layout: ClassVar[Layout] = Layout(
        24, Fixed("size", I32), Variable("asset", AssetField(), nullable=False), null_bits=False
    )


@attrs.frozen
class AssetPart(Packet):
    """Some of an asset's content."""

    part: bytes | None = attrs.field(default=None, repr=False)

    layout: ClassVar[Layout] = Layout(25, Variable("part", Octets(MAXIMUM_PART)), compressed=True)


@attrs.frozen
class AssetFinalize(Packet):
    """An asset is complete."""

    layout: ClassVar[Layout] = Layout(26, null_bits=False)


@attrs.frozen
class SetClientId(Packet):
    """The number by which other packets mean this client."""

    client_id: int

    layout: ClassVar[Layout] = Layout(100, Fixed("client_id", I32), null_bits=False)


@attrs.frozen
class JoinWorld(Packet):
    """The client enters a world.

    :param clear: 1: it forgets the one that it was in.
    :param fade: 1: the screen fades over.
    """

    clear: int
    fade: int
    uuid: UUID

    layout: ClassVar[Layout] = Layout(
        104, Fixed("clear", U8), Fixed("fade", U8), Fixed("uuid", UUID_FIELD), null_bits=False
    )


@attrs.frozen
class ClientReady(Packet):
    """The client is ready for the world's chunks, for play: 0 or 1 each."""

    chunks: int = 1
    gameplay: int = 1

    layout: ClassVar[Layout] = Layout(105, Fixed("chunks", U8), Fixed("gameplay", U8), null_bits=False)


@attrs.frozen
class GamePacket:
    """A packet of the game itself, which the page does not describe: handed on as it is.

    :param id: any but those of the page.
    :param payload: as it is on the wire, compressed or not.
    """

    id: int
    payload: bytes = attrs.field(repr=False)

    def encode(self) -> bytes:
        """The whole frame."""
        return HEADER.pack(len(self.payload), self.id) + self.payload


AnyConnect = Connect | Connect2

PACKETS: Final[Mapping[int, type[Packet]]] = {
    kind.layout.id: kind
    for kind in (
        Connect,
        Disconnect,
        Ping,
        Pong,
        AuthGrant,
        AuthToken,
        ServerAuthToken,
        ConnectAccept,
        PasswordResponse,
        PasswordAccepted,
        PasswordRejected,
        ClientReferral,
        WorldSettings,
        WorldLoadFinished,
        RequestAssets,
        AssetInitialize,
        AssetPart,
        AssetFinalize,
        SetClientId,
        JoinWorld,
        ClientReady,
    )
}
"""The packets of the page by their ids; Connect as ``hytale/1`` has it."""

CONNECTS: Final[Mapping[str, type[Connect] | type[Connect2]]] = {"hytale/1": Connect, "hytale/2": Connect2}
"""The profiles, by their names in ALPN, with their first packet (AL-3, AL-15)."""


def decode(identifier: int, payload: bytes, profile: str = "hytale/1", maximum: int | None = None) -> Any:
    """The packet of an id.

    :param payload: what follows the header.
    :param profile: which Connect it is.
    :param maximum: bytes of the payload, decompressed, where less than the table allows is expected.
    :raises KeyError: for an id that is not on the page.
    :raises connectd.protocols.alloy.fields.Malformed: where the payload is no such packet.
    """
    kind = PACKETS[identifier] if identifier else CONNECTS[profile]
    return kind.layout.decode(kind, payload, maximum)
