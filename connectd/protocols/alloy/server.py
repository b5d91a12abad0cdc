"""Alloy's listener: who may enter, by what proof, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from connectd.credentials import CredentialsError, Realm, make_portal
from connectd.directory.errors import DirectoryError
from connectd.net.authentication import NO_ACCOUNTS, Authenticator, Objection, WrongProof
from connectd.net.certificates import CertificateError, read_certificate
from connectd.net.connection import Connection
from connectd.net.listener import Context
from connectd.net.quic import Handshake, Identity, QuicListener, ServerParameters
from connectd.protocols.alloy.assets import MemoryAssets
from connectd.protocols.alloy.machine import ConnectionState, ServerMachine, StateChanged
from connectd.protocols.alloy.passwords import ChallengeResponse, ServerPassword
from connectd.protocols.alloy.server_machine import (
    AccessPresented,
    AssetsRequested,
    IdentityPresented,
    PasswordPresented,
)
from connectd.protocols.alloy.settings import AlloySettings
from connectd.protocols.alloy.world import World
from connectd.sansio import Ended, Established, Event, Machine, Outcome
from connectd.secret_file import read_secret
from connectd.settings import ListenerSettings

log = Logger()

ALREADY_CONNECTED = "Already connected"
NO_TOKENS = "This server takes no accounts"
RESERVED = "This name belongs to a player with an account"
FULL = "The server is full"

FORWARD = "forward:"
GAME_PACKETS = "packets"
"""What a handler asks for (``wants``) to be given the packets of the game itself."""


class VerifiedPlayers:
    """Who has ever logged in by token: nobody else may take such a UUID or user name with a password (AL-8).

    This is the interface; nobody logs in by token yet, so that there is nobody to remember.
    """

    def is_taken(self, uuid: UUID, username: str) -> bool:
        """Whether one of the two belongs to a player with an account.

        :raises connectd.directory.errors.DirectoryError: where nobody can say.
        """
        return False


class AlloyListener(QuicListener):
    """One world behind one socket.

    :param settings: the listener's.
    :param context: the daemon's shared rooms.
    :raises connectd.net.bound.BindError: where the socket cannot be had.
    :raises connectd.credentials.CredentialsError: where the certificate, the password or the assets cannot be used.
    """

    protocol = "alloy"
    settings: AlloySettings

    def __init__(self, settings: AlloySettings, context: Context) -> None:
        self._world_uuid = UUID(settings.world) if settings.world else UUID(bytes=context.random(16), version=4)
        self._take(settings)
        super().__init__(settings, context)
        self.verified_players = VerifiedPlayers()
        self._live: dict[UUID, Connection] = {}
        self._next_client_id = 0

    def _take(self, settings: AlloySettings) -> None:
        """Read what the settings name."""
        identity = read_identity(settings.certificate)
        assets = MemoryAssets.from_directory(settings.assets) if settings.assets else MemoryAssets()
        uuid = UUID(settings.world) if settings.world else self._world_uuid
        self.world = World(settings.world_height, uuid, assets)
        self.identity_shown, self.assets = identity, assets

    def _make_authenticator(self, settings: ListenerSettings) -> Authenticator | None:
        assert isinstance(settings, AlloySettings)
        password = read_secret("alloy", "password", settings.password, settings.password_file)
        if not password:
            return None
        checker = ServerPassword(password)
        portal = make_portal("alloy", checker.credentialInterfaces, [checker], Realm())
        return Authenticator(
            "alloy", portal, ledger=self.context.ledger, clock=self.context.reactor, directory=self.context.directory
        )

    def reconfigure(self, settings: ListenerSettings) -> bool:
        """Take new settings, and read certificate, password and assets again, for connections from now on."""
        if not isinstance(settings, AlloySettings):
            return False
        before = self.identity_shown, self.assets, self.world
        taken = False
        try:
            self._take(settings)
            taken = super().reconfigure(settings)
        finally:
            if not taken:
                self.identity_shown, self.assets, self.world = before
        return taken

    # The way in

    def quic_parameters(self) -> ServerParameters:
        return ServerParameters(
            alpn=self.settings.profiles,
            identity=lambda: self.identity_shown,
            client_certificate="required" if self.settings.require_client_certificate else "asked",
            handshake_timeout=self.settings.connect_timeout,
        )

    def make_stream_machine(self, handshake: Handshake, now: float) -> Machine:
        self._next_client_id = self._next_client_id % 0x7FFF_FFFF + 1
        return ServerMachine(
            self.settings,
            self.world,
            self._next_client_id,
            profile=handshake.alpn,
            asks_password=self.authenticator is not None,
            takes_game_packets=self.hands_on_game_packets,
            now=now,
            random=self.context.random,
        )

    @property
    def hands_on_game_packets(self) -> bool:
        """Whether somebody takes the packets of the game itself: a handler that wants them, or a backend, which is
        where the game is."""
        return self.settings.handler.startswith(FORWARD) or GAME_PACKETS in self.handler.wants(self.protocol)

    def states(self) -> Mapping[ConnectionState, int]:
        """How many connections are in which state (AL-1)."""
        counts = Counter(_machine(connection).state for connection in self.connections)
        counts[ConnectionState.CONNECTING] += len(self.arriving)
        return counts

    def on_StateChanged(self, connection: Connection, event: StateChanged) -> None:
        """Nothing is to be done: :meth:`states` asks the machines."""

    # Tokens

    def on_IdentityPresented(self, connection: Connection, event: IdentityPresented) -> None:
        """Nobody here can verify a token, so nobody is let in by one."""
        self._refuse(connection, NO_TOKENS)

    def on_AccessPresented(self, connection: Connection, event: AccessPresented) -> None:
        """It does not come so far."""
        self._refuse(connection, NO_TOKENS)

    # The password

    def on_PasswordPresented(self, connection: Connection, event: PasswordPresented) -> None:
        """Look at the answer, and let in or give another try (AL-8)."""
        connection.decide(
            Deferred.fromCoroutine(self._password(connection, event)),
            lambda right, now: self._answer(connection, right, now),
        )

    async def _password(self, connection: Connection, event: PasswordPresented) -> bool:
        machine = _machine(connection)
        assert machine.connect is not None
        credentials = ChallengeResponse(machine.connect.username.encode(), event.challenge, event.hash)
        try:
            # It is one password for all: guesses at it count together, whoever the guesser claims to be.
            await self.login(connection, credentials, f"the password of {self.title}")
        except WrongProof:
            return False
        return True

    def _answer(self, connection: Connection, right: bool, now: float) -> list[Event]:
        machine = _machine(connection)
        if not right:
            return machine.reject(now)
        objection = self.entry_objection(connection)
        if objection is not None:
            return machine.refuse(objection.reason, now, objection.outcome)
        return machine.accept(now)

    # Who may be here

    def entry_objection(self, connection: Connection) -> Objection | None:
        """Why somebody whose proof is right may not come in, or None: asked in the turn in which it is let in, so that
        nobody comes between (AL-8, COM-4)."""
        connect = _machine(connection).connect
        assert connect is not None
        try:
            objection = self.objection(connection)
            reserved = not _machine(connection).verified and self.verified_players.is_taken(
                connect.uuid, connect.username
            )
        except DirectoryError as error:
            log.error("{listener}: a login was refused unseen: {reason}", listener=self.title, reason=str(error))
            return Objection(Outcome.REFUSED, NO_ACCOUNTS)
        if objection is not None:
            return objection
        if reserved:
            return Objection(Outcome.REFUSED, RESERVED)
        if connect.uuid in self._live:
            return Objection(Outcome.REFUSED, ALREADY_CONNECTED)
        return Objection(Outcome.LIMITED, FULL) if self.full else None

    def objection(self, connection: Connection) -> Objection | None:
        """Why a peer may not stay: besides its address, its UUID and its user name can be banned."""
        found = super().objection(connection)
        directory, connect = self.context.directory, _machine(connection).connect
        if found is not None or directory is None or connect is None:
            return found
        if (reason := directory.match_uuid(connect.uuid)) is not None:
            return Objection(Outcome.BANNED, f"This player is banned: {reason}")
        if (reason := directory.match_account(connect.username)) is not None:
            return Objection(Outcome.BANNED, f"This player is banned: {reason}")
        return None

    def on_Established(self, connection: Connection, event: Established) -> None:
        machine = _machine(connection)
        assert machine.connect is not None
        self._live[machine.connect.uuid] = connection
        super().on_Established(connection, event)

    def connection_ended(self, connection: Connection, event: Ended) -> None:
        connect = _machine(connection).connect
        if connect is not None and self._live.get(connect.uuid) is connection:
            del self._live[connect.uuid]
        super().connection_ended(connection, event)

    def connection_closed(self, connection: Connection) -> None:
        _machine(connection).connection_gone()
        super().connection_closed(connection)

    def identity(self, connection: Connection) -> Mapping[str, Any]:
        """UUID and name as the client gave them, and whether anything but a shared password speaks for them."""
        machine = _machine(connection)
        assert machine.connect is not None
        return {
            "uuid": str(machine.connect.uuid),
            "username": machine.connect.username,
            "verified": machine.verified,
            "profile": machine.profile,
        }

    # Assets

    def on_AssetsRequested(self, connection: Connection, event: AssetsRequested) -> None:
        """Send what is asked for, as fast as the client takes it."""
        connection.serve(Deferred.fromCoroutine(self._send_assets(connection, event)))

    async def _send_assets(self, connection: Connection, event: AssetsRequested) -> None:
        machine, assets = _machine(connection), self.assets
        for asset in event.assets:
            # In a turn of its own: within the one that brought the request nothing is written, so nothing is ever full.
            await deferLater(self.context.reactor, 0)
            connection.call(machine.begin_asset, asset, assets.size(asset))
            for frame, size in assets.parts(asset):
                connection.call(machine.asset_part, frame, size)
                await connection.drained()
            connection.call(machine.end_asset)
            await connection.drained()
        connection.call(machine.finish_assets)

    def _refuse(self, connection: Connection, reason: str, outcome: Outcome = Outcome.REFUSED) -> None:
        machine = connection.machine
        connection.call(lambda now: machine.refuse(reason, now, outcome))


def read_identity(path: str) -> Identity:
    """The certificate of a server, which players' software expects to be ECDSA on P-256 (AL-11).

    :raises connectd.credentials.CredentialsError: where the file has none: one line that says why.
    """
    try:
        certificate = read_certificate(path)
    except CertificateError as error:
        raise CredentialsError(f"alloy: certificate: {error}") from None
    key = certificate.key
    if not (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)):
        raise CredentialsError(
            f"alloy: certificate: {path}: its key is not ECDSA on P-256, which clients expect (connectctl init makes "
            "such a one for a demonstration)"
        )
    return Identity(certificate.leaf, certificate.chain[1:], key)


def _machine(connection: Connection) -> ServerMachine:
    return cast(ServerMachine, connection.machine)
