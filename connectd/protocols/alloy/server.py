"""Alloy's listener: who may enter, by what proof, and what becomes of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar, cast
from uuid import UUID

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from connectd.credentials import CredentialsError, Realm, make_portal
from connectd.directory.errors import DirectoryError
from connectd.net.authentication import NO_ACCOUNTS, Authenticator, Objection, WrongProof
from connectd.net.certificate_file import CertificateFile
from connectd.net.certificates import Certificate, CertificateError
from connectd.net.connection import Connection, Refused
from connectd.net.listener import Context
from connectd.net.quic import Handshake, Identity, QuicListener, ServerParameters
from connectd.protocols.alloy.asset_library import AssetLibrary
from connectd.protocols.alloy.asset_sending import send_assets
from connectd.protocols.alloy.certificate_store import choose_certificate, read_alloy_certificate
from connectd.protocols.alloy.fingerprint import fingerprint
from connectd.protocols.alloy.machine import ConnectionState, ServerMachine, StateChanged
from connectd.protocols.alloy.passwords import ChallengeResponse, ServerPassword
from connectd.protocols.alloy.server_machine import (
    AccessPresented,
    AssetsRequested,
    IdentityPresented,
    PasswordPresented,
)
from connectd.protocols.alloy.server_tokens import UNAVAILABLE, ISignedToken, ServerTokens, SignedToken
from connectd.protocols.alloy.service_calls import ServicesRefused, ServicesUnavailable
from connectd.protocols.alloy.services_setup import make_server_tokens
from connectd.protocols.alloy.settings import AlloySettings
from connectd.protocols.alloy.verified_players import VerifiedPlayers
from connectd.protocols.alloy.world import World
from connectd.sansio import Ended, Established, Event, Machine, Outcome
from connectd.secret_file import read_secret
from connectd.settings import ListenerSettings

log = Logger()

T = TypeVar("T")

ALREADY_CONNECTED = "Already connected"
NO_TOKENS = "This server takes no accounts"
RESERVED = "This name belongs to a player with an account"
FULL = "The server is full"

FORWARD = "forward:"
GAME_PACKETS = "packets"
"""What a handler asks for (``wants``) to be given the packets of the game itself."""


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
        self.tokens = make_server_tokens(settings, context.reactor)
        """What players log in by token with; None: they do not."""
        self.certificate_file = open_certificate(settings, context.reactor)
        self.assets = self._make_library(settings, context)
        self.assets.read()
        self.world = self._make_world(settings)
        super().__init__(settings, context)
        self._coming: AssetLibrary | None = None
        """The assets of new settings, while they are read for the first time."""
        self.verified_players = VerifiedPlayers(context.directory)
        self._live: dict[UUID, Connection] = {}
        self._next_client_id = 0

    def _make_library(self, settings: AlloySettings, context: Context) -> AssetLibrary:
        return AssetLibrary(settings.assets, settings.assets_interval, context.reactor, self._assets_changed)

    def _make_world(self, settings: AlloySettings) -> World:
        uuid = UUID(settings.world) if settings.world else self._world_uuid
        return World(settings.world_height, uuid, self.assets)

    def _assets_changed(self, library: AssetLibrary) -> None:
        """Who comes from now on is offered these assets."""
        if not self.running:
            return
        if library is self._coming:
            before, self.assets, self._coming = self.assets, library, None
            before.stopService()
        self.world = self._make_world(self.settings)

    def _make_authenticator(self, settings: ListenerSettings) -> Authenticator | None:
        assert isinstance(settings, AlloySettings)
        checkers: list[ICredentialsChecker] = []
        password = read_secret("alloy", "password", settings.password, settings.password_file)
        self._asks_password = bool(password)
        if password:
            checkers.append(ServerPassword(password))
        if self.tokens is not None:
            checkers.append(self.tokens.checker)
        if password and self.tokens is not None and self.context.directory is None:
            raise CredentialsError(
                "alloy: a password beside services_url needs a directory, which remembers whose names are whose"
            )
        if not checkers:
            return None
        portal = make_portal("alloy", (IUsernameHashedPassword, ISignedToken), checkers, Realm())
        return Authenticator(
            "alloy", portal, ledger=self.context.ledger, clock=self.context.reactor, directory=self.context.directory
        )

    def reconfigure(self, settings: ListenerSettings) -> bool:
        """Take new settings, and read certificate and password again, for connections from now on. Another directory of
        assets is read in a thread, and those of the former are offered until that is done.

        False also where the session services would change: players are being let in with them.
        """
        before = self.settings
        if not isinstance(settings, AlloySettings) or _services_of(settings) != _services_of(before):
            return False
        certificate_file = open_certificate(settings, self.context.reactor)
        if not super().reconfigure(settings):
            return False
        self.certificate_file.stop()
        self.certificate_file = certificate_file
        self.world = self._make_world(settings)
        if self.running:
            certificate_file.start()
            if (settings.assets, settings.assets_interval) != (before.assets, before.assets_interval):
                self._replace_assets(settings)
        return True

    def _replace_assets(self, settings: AlloySettings) -> None:
        if self._coming is not None:
            self._coming.stopService()
        self._coming = library = self._make_library(settings, self.context)
        library.startService()
        if not library.path:
            self._assets_changed(library)

    def startService(self) -> None:
        super().startService()
        self.certificate_file.start()
        self.assets.startService()
        if self.tokens is not None:
            self.tokens.startService()

    def stopService(self) -> Deferred[None]:
        """Drain; then end the game session (AL-13)."""
        self.certificate_file.stop()
        for library in (self.assets, self._coming):
            if library is not None:
                library.stopService()
        stopped = super().stopService()
        tokens = self.tokens
        return stopped if tokens is None else stopped.addCallback(lambda result: tokens.stopService())

    # The way in

    def quic_parameters(self) -> ServerParameters:
        return ServerParameters(
            alpn=self.settings.profiles,
            identity=lambda: self.certificate_file.current,
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
            asks_password=self._asks_password,
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
        """Verify it, and have the services vouch for the player (AL-5)."""
        if self.tokens is None:
            self._refuse(connection, NO_TOKENS)
            return
        machine = _machine(connection)
        connection.decide(
            Deferred.fromCoroutine(self._identify(connection, event, self.tokens)),
            lambda granted, now: machine.grant(granted[0], granted[1], now),
        )

    async def _identify(
        self, connection: Connection, event: IdentityPresented, tokens: ServerTokens
    ) -> tuple[str, str]:
        connect = event.connect
        shown = SignedToken(
            connect.identity_token or "",
            lambda claims: claims.about(connect.uuid).with_scope(tokens.client_scope),
        )
        await self._verify(connection, shown, connect.uuid, "identity token")
        return await self._asked(tokens.grant(shown.token))

    def on_AccessPresented(self, connection: Connection, event: AccessPresented) -> None:
        """Verify it, and have the services make ours; then the player is in (AL-6)."""
        if self.tokens is None:
            self._refuse(connection, NO_TOKENS)
            return
        connection.decide(
            Deferred.fromCoroutine(self._admit(connection, event, self.tokens)),
            lambda token, now: self._let_in(connection, token, now),
        )

    async def _admit(self, connection: Connection, event: AccessPresented, tokens: ServerTokens) -> str:
        connect = _machine(connection).connect
        transport: Any = connection.transport
        assert connect is not None
        handshake: Handshake = transport.handshake
        certificate = handshake.peer_certificate
        shown = SignedToken(
            event.access_token,
            lambda claims: (
                claims.about(connect.uuid)
                .with_scope(tokens.client_scope)
                .for_audience(tokens.audience)
                .named(connect.username)
                .held_by(None if certificate is None else fingerprint(certificate))
            ),
        )
        await self._verify(connection, shown, connect.uuid, "access token")
        # Before anything is asked for on behalf of somebody who may not come in.
        objection = self.entry_objection(connection, verified=True)
        if objection is not None:
            raise Refused(objection.reason, objection.outcome)
        assert handshake.certificate is not None
        token = await self._asked(
            tokens.server_token(event.server_authorization_grant, fingerprint(handshake.certificate))
        )
        try:
            await self.verified_players.remember(connect.uuid, connect.username)
        except DirectoryError as error:
            log.error("{listener}: a player cannot be remembered: {reason}", listener=self.title, reason=str(error))
            raise Refused(NO_ACCOUNTS) from None
        return token

    def _let_in(self, connection: Connection, token: str, now: float) -> list[Event]:
        machine = _machine(connection)
        objection = self.entry_objection(connection, verified=True)
        if objection is not None:
            return machine.refuse(objection.reason, now, objection.outcome)
        return machine.server_token(token, now)

    async def _verify(self, connection: Connection, shown: SignedToken, uuid: UUID, what: str) -> None:
        """Verify a token; a failed proof counts (COM-11).

        :raises Refused: where it does not hold, with the reason, or where nobody can say.
        """
        try:
            await self._asked(_awaited(self.login(connection, shown, str(uuid))))
        except WrongProof:
            raise Refused(f"Your {what} is refused{': ' if shown.reason else ''}{shown.reason}") from None

    async def _asked(self, call: Coroutine[Any, Any, T]) -> T:
        """Ask the services: what they cannot answer is a refusal (AL-13)."""
        try:
            return await call
        except ServicesUnavailable as error:
            log.error("{listener}: {reason}", listener=self.title, reason=str(error))
            raise Refused(UNAVAILABLE) from None
        except ServicesRefused as error:
            log.warn("{listener}: {reason}", listener=self.title, reason=str(error))
            raise Refused("The session services refuse this login") from None

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

    def entry_objection(self, connection: Connection, verified: bool = False) -> Objection | None:
        """Why somebody whose proof is right may not come in, or None: asked in the turn in which it is let in, so that
        nobody comes between (AL-8, COM-4).

        :param verified: whether that proof is a token.
        """
        connect = _machine(connection).connect
        assert connect is not None
        try:
            objection = self.objection(connection)
            reserved = not verified and self.verified_players.is_taken(connect.uuid, connect.username)
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
        sending = send_assets(connection, self.assets, event.assets, self.context.reactor)
        connection.serve(Deferred.fromCoroutine(sending))

    def _refuse(self, connection: Connection, reason: str, outcome: Outcome = Outcome.REFUSED) -> None:
        machine = connection.machine
        connection.call(lambda now: machine.refuse(reason, now, outcome))


def open_certificate(
    settings: AlloySettings, reactor: Any, environment: Mapping[str, str] = os.environ
) -> CertificateFile[Identity]:
    """The certificate of a server: the configured one, or the one that the environment picks (AL-11). A new file in
    its place serves new connections.

    :raises connectd.credentials.CredentialsError: where there is none that can be used: one line that says why.
    """
    try:
        path = choose_certificate(settings.certificate, settings.certificate_store, environment)
    except CertificateError as error:
        raise CredentialsError(f"alloy: certificate: {error}") from None
    try:
        return CertificateFile("alloy", path, reactor, _quic_identity, read_alloy_certificate)
    except CertificateError as error:
        raise CredentialsError(str(error)) from None


def _quic_identity(certificate: Certificate) -> Identity:
    return Identity(certificate.leaf, certificate.chain[1:], certificate.key)


async def _awaited(waiting: Deferred[T]) -> T:
    return await waiting


def _services_of(settings: AlloySettings) -> tuple[str, ...]:
    """What a running listener cannot change about the services."""
    return (
        settings.services_url,
        settings.services_authority,
        settings.issuer,
        settings.audience,
        settings.client_scope,
        settings.profile,
        settings.account_token_file,
        settings.session_token_file,
        settings.identity_token_file,
    )


def _machine(connection: Connection) -> ServerMachine:
    return cast(ServerMachine, connection.machine)
