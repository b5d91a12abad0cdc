"""The client's side of a connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

import attrs

from connectd.protocols.alloy.fields import Asset, Instant
from connectd.protocols.alloy.packets import (
    AnyConnect,
    AssetFinalize,
    AssetInitialize,
    AssetPart,
    AuthGrant,
    AuthToken,
    ClientReady,
    ClientReferral,
    Connect,
    Connect2,
    ConnectAccept,
    JoinWorld,
    Packet,
    PasswordAccepted,
    PasswordRejected,
    PasswordResponse,
    Ping,
    Pong,
    PongType,
    RequestAssets,
    ServerAuthToken,
    SetClientId,
    WorldLoadFinished,
    WorldSettings,
)
from connectd.protocols.alloy.server_machine import password_hash
from connectd.protocols.alloy.settings import AlloyClientSettings
from connectd.protocols.alloy.states import AlloyMachine, Stage
from connectd.sansio import (
    Decision,
    Established,
    Event,
    LocalProtocolError,
    Outcome,
    Random,
    Received,
    RemoteProtocolError,
    default_random,
)


@attrs.frozen
class PacketReceived(Event):
    """The server said something, for those who look at the process step by step.

    :param packet: what.
    """

    packet: Packet


@attrs.frozen
class PasswordRequested(Decision):
    """The server asks for its password (AL-8). Verb: :meth:`ClientMachine.respond`.

    :param attempts_remaining: how often it may be tried, after a wrong one; None at first.
    """

    attempts_remaining: int | None


@attrs.frozen
class GrantReceived(Decision):
    """The server granted a token, and shows who it is (AL-16). Verb: :meth:`ClientMachine.present`."""

    authorization_grant: str = attrs.field(repr=False)
    server_identity_token: str = attrs.field(repr=False)


@attrs.frozen
class ServerTokenReceived(Decision):
    """The server shows its access token (AL-16). Verb: :meth:`ClientMachine.trust`."""

    server_access_token: str = attrs.field(repr=False)


@attrs.frozen
class WorldOffered(Decision):
    """The server says what the world is, and what it needs (AL-9). Verb: :meth:`ClientMachine.request`."""

    settings: WorldSettings


@attrs.frozen
class AssetBegun(Event):
    """An asset that was requested begins.

    :param size: bytes of its content.
    """

    asset: Asset
    size: int


@attrs.frozen
class AssetReceived(Event):
    """Some of the asset's content."""

    part: bytes = attrs.field(repr=False)


@attrs.frozen
class AssetCompleted(Event):
    """The asset is complete, by its size; its content is still to be checked against its hash (AL-10)."""

    asset: Asset


@attrs.frozen
class WorldEntered(Event):
    """All of AL-9 is done: the world is loaded, joined, and the server knows that this client is ready."""


def make_connect(
    settings: AlloyClientSettings,
    username: str,
    uuid: UUID,
    *,
    identity_token: str | None = None,
) -> AnyConnect:
    """The Connect of a client with these settings."""
    if settings.profile == "hytale/2":
        return Connect2(
            crc=settings.crc,
            build=settings.build,
            client_version=settings.client_version,
            uuid=uuid,
            username=username,
            identity_token=identity_token,
            language=settings.language[:16],
        )
    return Connect(
        protocol_hash=settings.protocol_hash,
        uuid=uuid,
        language=settings.language,
        identity_token=identity_token,
        username=username,
    )


def _in_play(*methods: tuple[type[Packet], Any]) -> dict[tuple[Stage, int], Any]:
    """The table's lines for what may come at any time in PLAY."""
    stages = (Stage.READY, Stage.TRANSFER, Stage.LOADED)
    return {(stage, kind.layout.id): method for stage in stages for kind, method in methods}


class ClientMachine(AlloyMachine):
    """The client's side of one connection.

    :param settings: the client's.
    :param connect: its first packet (:func:`make_connect`).
    :param now: when the stream was opened.
    :raises ValueError: where a value of ``connect`` does not fit.
    """

    __slots__ = (
        "_asset",
        "_asset_left",
        "_challenge",
        "_has_token",
        "_heard",
        "_joined",
        "_settings",
        "_wanted",
        "client_id",
    )

    def __init__(
        self, settings: AlloyClientSettings, connect: AnyConnect, *, now: float, random: Random = default_random
    ) -> None:
        super().__init__(
            settings.profile,
            connect_timeout=settings.authentication_timeout,
            authentication_timeout=settings.authentication_timeout,
            handshake_timeout=settings.handshake_timeout,
            game_packet_size=settings.game_packet_size,
            now=now,
        )
        self._settings = settings
        self._has_token = connect.identity_token is not None
        self._challenge: bytes | None = None
        self._heard = now
        self._asset: Asset | None = None
        self._asset_left = 0
        self._wanted: set[Asset] = set()
        self._joined = False
        self.client_id: int | None = None
        """The number by which the server's packets mean this client."""
        self._output.append(connect.encode())

    # The password

    def _challenged(self, packet: ConnectAccept, now: float) -> list[Event]:
        if self._has_token:
            raise self._unexpected("ConnectAccept for a Connect with a token")
        return [PacketReceived(packet), *self._enter(Stage.PASSWORD, now), self._ask(packet.password_challenge, None)]

    def _ask(self, challenge: bytes | None, attempts: int | None) -> PasswordRequested:
        if not challenge:
            raise self._unexpected("no challenge to answer")
        self._challenge = challenge
        return PasswordRequested(attempts)

    def respond(self, password: bytes, now: float) -> list[Event]:
        """Answer the challenge (AL-8).

        :param password: UTF-8. It is not kept.
        :raises LocalProtocolError: unless a PasswordRequested is open.
        """
        self._decided(PasswordRequested, "respond")
        challenge, self._challenge = self._challenge, None
        assert challenge is not None
        self._say(PasswordResponse(password_hash(challenge, password)).encode())
        return self._enter(Stage.PASSWORD, now) + self._advance(now)

    def _accepted(self, packet: PasswordAccepted, now: float) -> list[Event]:
        return [PacketReceived(packet), *self._enter(Stage.ACCEPTED, now)]

    def _rejected(self, packet: PasswordRejected, now: float) -> list[Event]:
        received = PacketReceived(packet)
        if packet.attempts_remaining <= 0 or packet.new_challenge is None:
            # The server's Disconnect says why; whoever does not send one is not waited for long.
            return [received, *self._enter(Stage.REJECTED, now)]
        return [received, self._ask(packet.new_challenge, packet.attempts_remaining)]

    def _admitted(self, packet: ServerAuthToken, now: float) -> list[Event]:
        return [PacketReceived(packet), *self._play(now)]

    # Tokens

    def _granted(self, packet: AuthGrant, now: float) -> list[Event]:
        if not self._has_token:
            raise self._unexpected("AuthGrant for a Connect without a token")
        if packet.authorization_grant is None or packet.server_identity_token is None:
            raise self._unexpected("AuthGrant without a grant or a token")
        changed = self._enter(Stage.TOKENS, now)
        return [
            PacketReceived(packet),
            *changed,
            GrantReceived(packet.authorization_grant, packet.server_identity_token),
        ]

    def present(self, access_token: str, server_authorization_grant: str, now: float) -> list[Event]:
        """The server is who it should be: show it our access token (AL-16).

        :raises LocalProtocolError: unless a GrantReceived is open, or where these are too long.
        """
        try:
            frame = AuthToken(access_token, server_authorization_grant).encode()
        except ValueError as error:
            raise LocalProtocolError(f"present: {error}") from None
        self._decided(GrantReceived, "present")
        self._say(frame)
        return self._enter(Stage.TOKENS, now) + self._advance(now)

    def _server_token(self, packet: ServerAuthToken, now: float) -> list[Event]:
        if packet.server_access_token is None:
            raise self._unexpected("ServerAuthToken without a token")
        return [PacketReceived(packet), ServerTokenReceived(packet.server_access_token)]

    def trust(self, now: float) -> list[Event]:
        """The server's access token is bound to the certificate that it showed (AL-16).

        :raises LocalProtocolError: unless a ServerTokenReceived is open.
        """
        self._decided(ServerTokenReceived, "trust")
        return self._play(now) + self._advance(now)

    # PLAY

    def _play(self, now: float) -> list[Event]:
        self.established = True
        self._hear(now)
        changed = self._enter(Stage.READY, now)
        if self._settings.order == "seed":
            self._say(ClientReady().encode())
        return [*changed, Established()]

    def _offered(self, packet: WorldSettings, now: float) -> list[Event]:
        return [PacketReceived(packet), WorldOffered(packet)]

    def request(self, assets: Sequence[Asset], now: float) -> list[Event]:
        """Ask for assets; for none, too, for that is what the server waits for (AL-9).

        :raises LocalProtocolError: unless a WorldOffered is open, or where it did not offer these.
        """
        offered = self._decision.settings.required_assets if isinstance(self._decision, WorldOffered) else None
        wanted = set(assets)
        if len(wanted) != len(assets) or not wanted <= set(offered or ()):
            raise LocalProtocolError("request: assets that were not offered, or one of them twice")
        self._decided(WorldOffered, "request")
        self._wanted = wanted
        self._say(RequestAssets(tuple(assets)).encode())
        self._stage = Stage.TRANSFER
        return self._advance(now)

    def _asset_begins(self, packet: AssetInitialize, now: float) -> list[Event]:
        if self._asset is not None or packet.asset not in self._wanted or packet.size < 0:
            raise self._unexpected("an asset that was not asked for, or inside another one")
        self._asset, self._asset_left = packet.asset, packet.size
        return [PacketReceived(packet), AssetBegun(packet.asset, packet.size)]

    def _asset_part(self, packet: AssetPart, now: float) -> list[Event]:
        part = packet.part or b""
        if self._asset is None or len(part) > self._asset_left:
            raise self._unexpected("a part of no asset, or beyond its size")
        self._asset_left -= len(part)
        return [AssetReceived(part)]

    def _asset_ends(self, packet: AssetFinalize, now: float) -> list[Event]:
        asset = self._asset
        if asset is None or self._asset_left:
            raise self._unexpected("the end of no asset, or before its size")
        self._asset = None
        self._wanted.discard(asset)
        return [PacketReceived(packet), AssetCompleted(asset)]

    def _loaded(self, packet: WorldLoadFinished, now: float) -> list[Event]:
        if self._wanted or self._asset is not None:
            raise self._unexpected("WorldLoadFinished before all assets came")
        self._stage = Stage.LOADED
        self._stage_deadline = now + self._authentication_timeout
        return [PacketReceived(packet), *self._entered()]

    def _numbered(self, packet: SetClientId, now: float) -> list[Event]:
        self.client_id = packet.client_id
        return [PacketReceived(packet), Received(packet)]

    def _joins(self, packet: JoinWorld, now: float) -> list[Event]:
        again, self._joined = self._joined, True
        return [PacketReceived(packet), Received(packet), *([] if again else self._entered())]

    def _entered(self) -> list[Event]:
        """Whether what came last was the last that was missing."""
        if not self._joined or self._stage is not Stage.LOADED:
            return []
        if self._settings.order == "observed":
            self._say(ClientReady().encode())
        return [WorldEntered()]

    def _referred(self, packet: ClientReferral, now: float) -> list[Event]:
        return [PacketReceived(packet), Received(packet)]

    def _pinged(self, packet: Ping, now: float) -> list[Event]:
        self._say(Pong(packet.id, Instant.at(now), PongType.RAW).encode())
        return [PacketReceived(packet)]

    _sendable = (ClientReady,)

    # Time

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        if self.established and not self.ended:
            self._hear(now)
        return super().receive_data(data, now)

    def _hear(self, now: float) -> None:
        self._deadline = now + self._settings.silence_timeout

    def deadline(self) -> float | None:
        missing = self._missing()
        if missing is None or self._deadline is None or self._decision is not None:
            return super().deadline()
        return min(self._deadline, self._stage_deadline)

    def _missing(self) -> str | None:
        """What the server has to say next on the way into the world. Its pings are no answer to that."""
        if not self.established:
            return None
        if self._stage is Stage.READY:
            return WorldSettings.__name__
        return JoinWorld.__name__ if self._stage is Stage.LOADED and not self._joined else None

    def _expire(self, now: float) -> list[Event]:
        missing = self._missing()
        if missing is not None and now >= self._stage_deadline:
            order = self._settings.order
            return self._end(Outcome.TIMEOUT, f"{missing} did not come (order is {order}: is it the server's as well?)")
        if self.established:
            return self._end(Outcome.TIMEOUT, "the server has said nothing for too long")
        return self._end(Outcome.TIMEOUT, f"the server took too long ({self._stage.awaited} was waited for)")

    # The end

    def _unexpected(self, reason: str) -> RemoteProtocolError:
        return RemoteProtocolError(reason, self._at)

    def _disconnected(self, reason: str, crash: bool) -> Event:
        outcome = Outcome.LEFT if self.established else Outcome.REFUSED
        return self._finish(outcome, f"the server {'crashed' if crash else 'disconnected'}: {reason}")

    table: ClassVar[Mapping[tuple[Stage, int], Any]] = {
        (Stage.CONNECT, ConnectAccept.layout.id): _challenged,
        (Stage.CONNECT, AuthGrant.layout.id): _granted,
        (Stage.PASSWORD, PasswordAccepted.layout.id): _accepted,
        (Stage.PASSWORD, PasswordRejected.layout.id): _rejected,
        (Stage.ACCEPTED, ServerAuthToken.layout.id): _admitted,
        (Stage.TOKENS, ServerAuthToken.layout.id): _server_token,
        (Stage.READY, WorldSettings.layout.id): _offered,
        (Stage.TRANSFER, AssetInitialize.layout.id): _asset_begins,
        (Stage.TRANSFER, AssetPart.layout.id): _asset_part,
        (Stage.TRANSFER, AssetFinalize.layout.id): _asset_ends,
        (Stage.TRANSFER, WorldLoadFinished.layout.id): _loaded,
        **_in_play((Ping, _pinged), (SetClientId, _numbered), (JoinWorld, _joins), (ClientReferral, _referred)),
    }
