"""The server's side of a connection: who may say what when, up to the world and in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import attrs

from connectd.protocols.alloy.compression import compressed_maximum
from connectd.protocols.alloy.fields import Asset, Instant
from connectd.protocols.alloy.packets import (
    AnyConnect,
    AssetFinalize,
    AssetInitialize,
    AuthGrant,
    AuthToken,
    ClientReady,
    ClientReferral,
    Connect,
    ConnectAccept,
    JoinWorld,
    PasswordAccepted,
    PasswordRejected,
    PasswordResponse,
    Ping,
    Pong,
    RequestAssets,
    ServerAuthToken,
    SetClientId,
    WorldLoadFinished,
)
from connectd.protocols.alloy.settings import AlloySettings
from connectd.protocols.alloy.states import AlloyMachine, Stage
from connectd.protocols.alloy.world import World
from connectd.sansio import (
    Decision,
    Ended,
    Established,
    Event,
    LocalProtocolError,
    Outcome,
    Random,
    Received,
    RemoteProtocolError,
    default_random,
)

CHALLENGE_SIZE: Final = 32
"""Random bytes of a challenge (AL-8)."""

INCOMPATIBLE: Final = "Incompatible protocol"
ACCOUNT_REQUIRED: Final = "This server requires an account"
WRONG_PASSWORD: Final = "Wrong password"  # noqa: S105 - what a player is told
SILENT: Final = "No answer to the server's pings"

_PINGS_REMEMBERED: Final = 8
MAXIMUM_SHOWN: Final = 200
"""Characters of an asset's name that an error quotes."""


@attrs.frozen
class IdentityPresented(Decision):
    """The client shows who it is (AL-5). Verb: :meth:`ServerMachine.grant`.

    :param connect: its Connect, with the identity token.
    """

    connect: AnyConnect


@attrs.frozen
class AccessPresented(Decision):
    """The client shows its access token (AL-6). Verb: :meth:`ServerMachine.server_token`."""

    access_token: str = attrs.field(repr=False)
    server_authorization_grant: str = attrs.field(repr=False)


@attrs.frozen
class PasswordPresented(Decision):
    """The client answered the challenge (AL-8). Verbs: :meth:`ServerMachine.accept`, :meth:`ServerMachine.reject`.

    :param challenge: what it answered to.
    :param hash: SHA-256 of challenge and password, if it is right.
    """

    challenge: bytes = attrs.field(repr=False)
    hash: bytes = attrs.field(repr=False)


@attrs.frozen
class AssetsRequested(Event):
    """The client wants these assets, each for the first time (AL-9). Send each with
    :meth:`ServerMachine.begin_asset` and the methods behind it, then call :meth:`ServerMachine.finish_assets`."""

    assets: tuple[Asset, ...]


def password_hash(challenge: bytes, password: bytes) -> bytes:
    """What answers a challenge: SHA-256(challenge ‖ UTF-8 password) (AL-8)."""
    return hashlib.sha256(challenge + password).digest()


class ServerMachine(AlloyMachine):
    """The server's side of one connection.

    :param settings: the listener's.
    :param world: what clients enter, shared by all machines of the listener.
    :param client_id: the number by which other packets mean this client.
    :param profile: the form of the protocol that ALPN settled on.
    :param asks_password: whether the server has a password (AL-8).
    :param takes_game_packets: whether a handler wants packets of the game itself.
    :param now: when the first packet came.
    """

    __slots__ = (
        "_asks_password",
        "_asset_left",
        "_attempts",
        "_challenge",
        "_heard",
        "_next_ping",
        "_ping_id",
        "_ping_times",
        "_random",
        "_round_trips",
        "_settings",
        "_unsent",
        "client_id",
        "connect",
        "verified",
        "world",
    )

    def __init__(
        self,
        settings: AlloySettings,
        world: World,
        client_id: int,
        *,
        profile: str = "hytale/1",
        asks_password: bool = False,
        takes_game_packets: bool = False,
        now: float,
        random: Random = default_random,
    ) -> None:
        super().__init__(
            profile,
            connect_timeout=settings.connect_timeout,
            authentication_timeout=settings.authentication_timeout,
            handshake_timeout=settings.handshake_timeout,
            game_packet_size=settings.game_packet_size if takes_game_packets else 0,
            now=now,
        )
        self._settings = settings
        self._asks_password = asks_password
        self._random = random
        self.world = world
        self.client_id = client_id
        self.connect: AnyConnect | None = None
        """The client's Connect, without its token."""
        self.verified = False
        """Whether a token says who the client is; a password does not (AL-8)."""
        self._challenge: bytes | None = None
        self._attempts = settings.password_attempts
        self._heard = now
        self._next_ping = now
        self._ping_id = 0
        self._ping_times: tuple[float, ...] = ()
        self._round_trips = (0, 0, 0)
        self._asset_left: int | None = None
        self._unsent: set[Asset] | None = None

    @property
    def round_trip(self) -> float | None:
        """Seconds that the latest Pong of type RAW took, or None."""
        return self._round_trips[0] / 1_000_000 or None

    # Connect

    def _connected(self, packet: AnyConnect, now: float) -> list[Event]:
        if not packet.username or not packet.username.isprintable():
            raise RemoteProtocolError("a user name that is empty or not printable", self._at, told="Invalid user name")
        if not _allowed(packet, self._settings):
            raise RemoteProtocolError(
                f"the protocol {packet.protocol_version[:64]!r} is not allowed here",
                self._at,
                told=INCOMPATIBLE,
                outcome=Outcome.REFUSED,
            )
        self.connect = attrs.evolve(packet, identity_token=None)
        if packet.identity_token is not None:
            return [IdentityPresented(packet)]
        if not self._asks_password:
            raise RemoteProtocolError(
                "no identity token, and the server has no password",
                self._at,
                told=ACCOUNT_REQUIRED,
                outcome=Outcome.REFUSED,
            )
        self._say(ConnectAccept(self._new_challenge()).encode())
        return self._enter(Stage.PASSWORD, now)

    # Tokens

    def grant(self, authorization_grant: str, server_identity_token: str, now: float) -> list[Event]:
        """The identity token is right: give the client what it gets its access token with (AL-5).

        :raises LocalProtocolError: unless an IdentityPresented is open, or where these are too long.
        """
        frame = _encoded(AuthGrant(authorization_grant, server_identity_token), "grant")
        self._decided(IdentityPresented, "grant")
        self._say(frame)
        return self._enter(Stage.TOKENS, now) + self._advance(now)

    def _access(self, packet: AuthToken, now: float) -> list[Event]:
        if packet.access_token is None or packet.server_authorization_grant is None:
            raise RemoteProtocolError(
                "AuthToken without a token or a grant", self._at, told="Malformed packet AuthToken"
            )
        return [AccessPresented(packet.access_token, packet.server_authorization_grant)]

    def server_token(self, server_access_token: str, now: float) -> list[Event]:
        """The access token is right: the client is in (AL-6).

        :raises LocalProtocolError: unless an AccessPresented is open, or where the token is too long.
        """
        frame = _encoded(ServerAuthToken(server_access_token), "server_token")
        self._decided(AccessPresented, "server_token")
        self.verified = True
        return self._play(frame, now)

    # The password

    def _new_challenge(self) -> bytes:
        self._challenge = self._random(CHALLENGE_SIZE)
        return self._challenge

    def _responded(self, packet: PasswordResponse, now: float) -> list[Event]:
        # A challenge is good for one answer, whatever that is (AL-8).
        challenge, self._challenge = self._challenge, None
        assert challenge is not None
        return [PasswordPresented(challenge, packet.hash or b"")]

    def accept(self, now: float) -> list[Event]:
        """The password is right: the client is in, unverified (AL-8).

        :raises LocalProtocolError: unless a PasswordPresented is open.
        """
        self._decided(PasswordPresented, "accept")
        self._say(PasswordAccepted().encode())
        return self._play(ServerAuthToken().encode(), now)

    def reject(self, now: float) -> list[Event]:
        """The password is wrong: the client may try again with a new challenge, or was the last time (AL-8).

        :raises LocalProtocolError: unless a PasswordPresented is open.
        """
        self._decided(PasswordPresented, "reject")
        self._attempts -= 1
        if not self._attempts:
            self._say(PasswordRejected(0).encode())
            return self._end(Outcome.REFUSED, WRONG_PASSWORD)
        self._say(PasswordRejected(self._attempts, self._new_challenge()).encode())
        return self._enter(Stage.PASSWORD, now) + self._advance(now)

    # PLAY

    def _play(self, token: bytes, now: float) -> list[Event]:
        """ServerAuthToken is sent: that is the accepted session (AL-1)."""
        self._say(token)
        self.established = True
        self._heard = now
        self._next_ping = now + self._settings.ping_interval
        self._set_deadline()
        changed = self._enter(Stage.READY, now)
        if self._settings.order == "observed":
            self._offer()
        return [*changed, Established(), *self._advance(now)]

    def _offer(self) -> None:
        self._say(self.world.settings)
        self._stage = Stage.REQUEST

    def _join(self) -> None:
        self._say(SetClientId(self.client_id).encode() + JoinWorld(1, 1, self.world.uuid).encode())

    def _ready(self, packet: ClientReady, now: float) -> list[Event]:
        if self._stage is Stage.READY:
            if self._settings.order == "seed":
                self._join()
                self._offer()
            else:
                self._stage = Stage.LOADED
        return [Received(packet)]

    def _maximum(self, identifier: int) -> tuple[int, int] | None:
        if identifier == RequestAssets.layout.id:
            content = self.world.request_maximum
            return compressed_maximum(content), content
        return None

    def _requested(self, packet: RequestAssets, now: float) -> list[Event]:
        wanted = packet.assets or ()
        unsent = set(wanted)
        if len(unsent) != len(wanted):
            raise RemoteProtocolError("an asset is requested twice", self._at, told="An asset was requested twice")
        for asset in wanted:
            if asset not in self.world.assets:
                name = asset.name[:MAXIMUM_SHOWN]
                raise RemoteProtocolError(
                    f"an asset that is not there is requested: {name!r}", self._at, told=f"Unknown asset: {name}"
                )
        self._stage = Stage.TRANSFER
        self._unsent = unsent
        if not wanted:
            return self.finish_assets(now)
        return [AssetsRequested(wanted)]

    def begin_asset(self, asset: Asset, size: int, now: float) -> list[Event]:
        """An asset begins.

        :param size: bytes of its content.
        :raises LocalProtocolError: where it was not requested, was sent already, or another one is under way.
        """
        if self._stage is not Stage.TRANSFER or self._asset_left is not None or asset not in (self._unsent or ()):
            raise LocalProtocolError("begin_asset: this asset is not to be sent now")
        frame = _encoded(AssetInitialize(size, asset), "begin_asset")
        assert self._unsent is not None
        self._unsent.discard(asset)
        self._asset_left = size
        self._say(frame)
        return []

    def asset_part(self, frame: bytes, size: int, now: float) -> list[Event]:
        """Some of the asset's content.

        :param frame: an :class:`AssetPart` as it is sent, which is encoded once for all clients.
        :param size: bytes of content in it.
        :raises LocalProtocolError: where no asset is under way, or this is more than its size.
        """
        if self._asset_left is None or size > self._asset_left:
            raise LocalProtocolError("asset_part: no asset is under way, or this is more than its size")
        self._asset_left -= size
        self._say(frame)
        return []

    def end_asset(self, now: float) -> list[Event]:
        """The asset is complete.

        :raises LocalProtocolError: where none is under way, or not all of it was sent.
        """
        if self._asset_left != 0:
            raise LocalProtocolError("end_asset: no asset is under way, or it is not complete")
        self._asset_left = None
        self._say(AssetFinalize().encode())
        return []

    def finish_assets(self, now: float) -> list[Event]:
        """All that was requested has been sent: the world is loaded (AL-9).

        :raises LocalProtocolError: where that is not so.
        """
        if self._stage is not Stage.TRANSFER or self._unsent or self._asset_left is not None:
            raise LocalProtocolError("finish_assets: assets are left to be sent")
        self._unsent = None
        self._say(WorldLoadFinished().encode())
        if self._settings.order == "seed":
            self._stage = Stage.LOADED
        else:
            self._join()
            self._stage = Stage.READY
        return []

    _sendable = (ClientReferral, JoinWorld)

    # Time

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        if self.established:
            self._heard = now
        return super().receive_data(data, now)

    def peer_progressed(self, now: float) -> None:
        """Its Pongs wait behind what it is being sent: a part may take a slow client minutes."""
        if self.established:
            self._heard = now
            self._set_deadline()

    def _set_deadline(self) -> None:
        self._deadline = min(self._next_ping, self._heard + self._settings.silence_timeout)

    def _expire(self, now: float) -> list[Event]:
        if not self.established:
            return super()._expire(now)
        if now >= self._heard + self._settings.silence_timeout:
            return self._end(Outcome.TIMEOUT, SILENT)
        if now >= self._next_ping:
            self._say(Ping(self._ping_id, Instant.at(now), *self._round_trips).encode())
            self._ping_id = self._ping_id + 1 & 0x7FFF_FFFF
            self._ping_times = (*self._ping_times[1 - _PINGS_REMEMBERED :], now)
            self._next_ping = now + self._settings.ping_interval
        self._set_deadline()
        return []

    def _ponged(self, packet: Pong, now: float) -> list[Event]:
        """Measure how long the answer took; an old or strange one is a sign of life and no more."""
        age = self._ping_id - packet.id
        if 1 <= age <= len(self._ping_times) and packet.type < len(self._round_trips):
            took = min(int(max(now - self._ping_times[-age], 0) * 1_000_000), 0x7FFF_FFFF)
            trips = list(self._round_trips)
            trips[packet.type] = took
            self._round_trips = (trips[0], trips[1], trips[2])
        return []

    # The end

    def _disconnected(self, reason: str, crash: bool) -> Event:
        if not self.established:
            return self._finish(Outcome.ABORTED, f"the client disconnected: {reason}")
        return self._finish(Outcome.LEFT, f"the client {'crashed' if crash else 'disconnected'}: {reason}")

    def _finish(self, outcome: Outcome, reason: str, offset: int | None = None) -> Ended:
        self._challenge = self._unsent = None
        return super()._finish(outcome, reason, offset)

    table: ClassVar[Mapping[tuple[Stage, int], Any]] = {
        (Stage.CONNECT, Connect.layout.id): _connected,
        (Stage.TOKENS, AuthToken.layout.id): _access,
        (Stage.PASSWORD, PasswordResponse.layout.id): _responded,
        (Stage.READY, ClientReady.layout.id): _ready,
        (Stage.REQUEST, RequestAssets.layout.id): _requested,
        (Stage.LOADED, ClientReady.layout.id): _ready,
        (Stage.READY, Pong.layout.id): _ponged,
        (Stage.REQUEST, Pong.layout.id): _ponged,
        (Stage.TRANSFER, Pong.layout.id): _ponged,
        (Stage.LOADED, Pong.layout.id): _ponged,
    }


def _allowed(packet: AnyConnect, settings: AlloySettings) -> bool:
    allowed = settings.protocol_hashes if isinstance(packet, Connect) else settings.protocol_crcs
    return "*" in allowed or packet.protocol_version in allowed


def _encoded(packet: Any, verb: str) -> bytes:
    try:
        frame: bytes = packet.encode()
    except ValueError as error:
        raise LocalProtocolError(f"{verb}: {error}") from None
    return frame
