"""The client: into a world by one await, and every step of the way can be watched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from connectd.credentials import CredentialsError
from connectd.net.certificates import CertificateError, read_certificates
from connectd.net.client import ConnectionEnded, Dialogue
from connectd.net.connection import Connection, Refused
from connectd.net.outgoing import HANDLING
from connectd.net.quic import ClientParameters, Identity, IdentityError, QuicClientEndpoint, QuicConnectError, Trust
from connectd.net.url import ServerURL, URLError, parse_url
from connectd.protocols.alloy.asset_download import AssetDownload
from connectd.protocols.alloy.asset_store import AssetError, AssetStore
from connectd.protocols.alloy.client_machine import (
    AssetBegun,
    AssetCompleted,
    AssetReceived,
    GrantReceived,
    PacketReceived,
    PasswordRequested,
    ServerTokenReceived,
    WorldEntered,
    WorldOffered,
    make_connect,
)
from connectd.protocols.alloy.fields import Asset
from connectd.protocols.alloy.fingerprint import fingerprint
from connectd.protocols.alloy.machine import ClientMachine, ConnectionState, StateChanged
from connectd.protocols.alloy.packets import MAXIMUM_USERNAME, Packet
from connectd.protocols.alloy.player_tokens import PlayerTokens
from connectd.protocols.alloy.service_calls import ServicesRefused, ServicesUnavailable
from connectd.protocols.alloy.services_setup import make_player_tokens
from connectd.protocols.alloy.settings import AlloyClientSettings
from connectd.protocols.alloy.tokens import TokenError, own_subject
from connectd.sansio import Ended, Event, Machine, Outcome, Received
from connectd.workers.threads import run_in_thread

log = Logger()

T = TypeVar("T")

PORT: Final = 5520


Ask = Callable[[int | None], "Deferred[bytes]"]


class AlloyClient(Dialogue):
    """One player's connection to a server.

    :param reactor: the reactor.
    :param username: what the player is called: at most 16 ASCII characters.
    :param settings: the client's.
    :param password: the server's, UTF-8; or a function that is asked for it, with the attempts that remain after a
        wrong one (None at first), and gives a Deferred; None: there is none.
    :param tokens: what a login by token needs; None: there is none (AL-16).
    :param store: where assets are kept; what is there is not asked for. None: they are checked and let go (AL-10).
    :param on_state: called with each state that the connection is in (AL-1).
    :param on_packet: called with each packet that the server sends, parts of assets excepted.
    :param on_message: called with each message of PLAY: what this class does not deal with itself.
    :param on_asset: called with each asset that arrived whole, and whose content is what its hash says.
    :param on_assets: called with the assets that are asked for, before they come.
    :param on_part: called with the bytes of content that have come, with each part.
    """

    def __init__(
        self,
        reactor: Any,
        username: str,
        settings: AlloyClientSettings | None = None,
        *,
        password: bytes | Ask | None = None,
        tokens: PlayerTokens | None = None,
        store: AssetStore | None = None,
        on_state: Callable[[ConnectionState], None] = lambda state: None,
        on_packet: Callable[[Packet], None] = lambda packet: None,
        on_message: Callable[[Any], None] = lambda message: None,
        on_asset: Callable[[Asset, int], None] = lambda asset, size: None,
        on_assets: Callable[[Sequence[Asset]], None] = lambda assets: None,
        on_part: Callable[[int], None] = lambda size: None,
    ) -> None:
        super().__init__(reactor)
        self.settings = AlloyClientSettings() if settings is None else settings
        self.username = username
        self.uuid = _uuid(self.settings, username, tokens)
        self.machine: ClientMachine | None = None
        self.on_state = on_state
        self.on_packet = on_packet
        self.on_message = on_message
        self.on_asset = on_asset
        self.on_assets = on_assets
        self.on_part = on_part
        self._password = password
        self._tokens = tokens
        self._store = store
        self._download: AssetDownload | None = None
        self._state = ConnectionState.CONNECTING
        self._entered: list[Deferred[None]] = []
        self._is_in = False
        self._digest = hashlib.sha256()
        self._size = 0

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands (AL-1)."""
        return self._state

    @property
    def client_id(self) -> int | None:
        """The number by which the server means this client, once it has told."""
        return None if self.machine is None else self.machine.client_id

    def connect(self, endpoint: IStreamClientEndpoint) -> Deferred[None]:
        """Connect and log in.

        :return: fires at PLAY. Fails with :class:`~connectd.net.client.ConnectionEnded` where the server said no, or
            with what the endpoint says where there is none, or not the right one. Cancelling it hangs up.
        """
        self.on_state(self._state)
        return self.dial(endpoint).addErrback(self._not_dialled)

    def _not_dialled(self, failure: Any) -> Any:
        if self.connection is None:
            self._change(ConnectionState.DISCONNECTED)
            self._close_tokens()
        if failure.check(QuicConnectError) is not None and str(failure.value).startswith("TLS: bad certificate"):
            return Failure(QuicConnectError(f"{failure.value}; pin=SHA-256 or authority=FILE says whom to trust"))
        return failure

    def _close_tokens(self) -> None:
        if self._tokens is not None:
            self._tokens.close().addErrback(lambda failure: log.failure("the session services stay open", failure))

    def when_entered(self) -> Deferred[None]:
        """Fires once the world is loaded and joined (AL-9); fails with
        :class:`~connectd.net.client.ConnectionEnded` if it never will be."""
        if self.ended is not None:
            return fail(ConnectionEnded(self.ended.outcome, self.ended.reason))
        if self._is_in:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._entered.append(waiter)
        return waiter

    def send(self, message: Any) -> None:
        """Send a packet of PLAY.

        :raises connectd.sansio.LocalProtocolError: for those that are not a player's to send.
        """
        if self.connection is not None:
            self.connection.send(message)

    def make_machine(self, now: float) -> Machine:
        token = None if self._tokens is None else self._tokens.session.identity_token
        connect = make_connect(self.settings, self.username, self.uuid, identity_token=token)
        self.machine = ClientMachine(self.settings, connect, now=now)
        self._change(self.machine.state)
        return self.machine

    # What the machine says

    def _change(self, state: ConnectionState) -> None:
        if state is not self._state:
            self._state = state
            self.on_state(state)

    def on_StateChanged(self, connection: Connection, event: StateChanged) -> None:
        """The connection is in another state."""
        self._change(event.state)

    def on_PacketReceived(self, connection: Connection, event: PacketReceived) -> None:
        """The server said something."""
        self.on_packet(event.packet)

    def on_PasswordRequested(self, connection: Connection, event: PasswordRequested) -> None:
        """Answer with the password; the same wrong one is not given twice."""
        machine = connection.machine
        assert isinstance(machine, ClientMachine)
        if callable(self._password):
            connection.decide(self._password(event.attempts_remaining), machine.respond)
        elif self._password is None:
            connection.call(lambda now: machine.refuse("the server asks for a password, and none was given", now))
        elif event.attempts_remaining is not None:
            connection.call(lambda now: machine.refuse("the password is wrong", now))
        else:
            connection.call(machine.respond, self._password)

    def on_GrantReceived(self, connection: Connection, event: GrantReceived) -> None:
        """Look who the server is, and get both sides what they need (AL-16)."""
        machine, tokens, transport = connection.machine, self._tokens, connection.transport
        assert isinstance(machine, ClientMachine)
        assert tokens is not None
        assert transport is not None
        own = transport.handshake.certificate
        answer = tokens.answer(
            event.authorization_grant, event.server_identity_token, "" if own is None else fingerprint(own)
        )
        connection.decide(
            Deferred.fromCoroutine(_believed("identity token", answer)),
            lambda pair, now: machine.present(pair[0], pair[1], now),
        )

    def on_ServerTokenReceived(self, connection: Connection, event: ServerTokenReceived) -> None:
        """Believe the server if it is the one that shows this certificate (AL-16)."""
        machine, tokens, transport = connection.machine, self._tokens, connection.transport
        assert isinstance(machine, ClientMachine)
        assert tokens is not None
        assert transport is not None
        shown = transport.handshake.peer_certificate
        confirmation = tokens.confirm(event.server_access_token, "" if shown is None else fingerprint(shown))
        connection.decide(
            Deferred.fromCoroutine(_believed("access token", confirmation)), lambda result, now: machine.trust(now)
        )

    def on_WorldOffered(self, connection: Connection, event: WorldOffered) -> None:
        """Ask for what the world needs and is not here."""
        machine = connection.machine
        assert isinstance(machine, ClientMachine)
        offered = tuple(dict.fromkeys(event.settings.required_assets or ())) if self.settings.fetch_assets else ()

        def request(wanted: Sequence[Asset], now: float) -> list[Event]:
            self.on_assets(wanted)
            return machine.request(wanted, now)

        if self._store is None:
            connection.call(lambda now: request(offered, now))
        else:
            connection.decide(run_in_thread(self.reactor, _missing, self._store, offered), request)

    def on_AssetBegun(self, connection: Connection, event: AssetBegun) -> None:
        """An asset begins."""
        if self._store is None:
            self._digest, self._size = hashlib.sha256(), 0
            return
        if self._download is None:
            self._download = AssetDownload(
                self._store,
                self.reactor,
                pause=lambda: connection.pause(HANDLING),
                resume=lambda: connection.resume(HANDLING),
                stored=lambda asset, stored: self.on_asset(asset, stored.size),
                failed=lambda error: connection.close(Outcome.MALFORMED, f"the assets cannot be kept: {error}"),
            )
        self._download.begin(event.asset, event.size)

    def on_AssetReceived(self, connection: Connection, event: AssetReceived) -> None:
        """Some of it."""
        self.on_part(len(event.part))
        if self._download is not None:
            self._download.part(event.part)
        else:
            self._digest.update(event.part)
            self._size += len(event.part)

    def on_AssetCompleted(self, connection: Connection, event: AssetCompleted) -> None:
        """All of it: it has to be what its hash says."""
        if self._download is not None:
            self._download.complete(event.asset)
        elif self._digest.hexdigest() == event.asset.hash:
            self.on_asset(event.asset, self._size)
        else:
            connection.close(Outcome.MALFORMED, f"the asset {event.asset.name!r} is not what its hash says")

    def on_WorldEntered(self, connection: Connection, event: WorldEntered) -> None:
        """The player is in the world, once all assets are kept."""
        if self._download is None:
            self._enter()
        else:
            self._download.finish().addCallback(lambda result: self._enter())

    def _enter(self) -> None:
        if self.ended is not None:
            return
        self._is_in = True
        waiting, self._entered = self._entered, []
        for waiter in waiting:
            waiter.callback(None)

    def on_Received(self, connection: Connection, event: Received) -> None:
        """A message of PLAY."""
        self.on_message(event.message)

    def connection_ended(self, connection: Connection, event: Ended) -> None:
        self._change(ConnectionState.DISCONNECTING)
        super().connection_ended(connection, event)
        if self._download is not None:
            self._download.abandon()
        waiting, self._entered = self._entered, []
        for waiter in waiting:
            waiter.errback(ConnectionEnded(event.outcome, event.reason))

    def connection_closed(self, connection: Connection) -> None:
        if self.machine is not None:
            self.machine.connection_gone()
        self._change(ConnectionState.DISCONNECTED)
        self._close_tokens()
        super().connection_closed(connection)


async def _believed(what: str, checking: Coroutine[Any, Any, T]) -> T:
    """Check something about the server.

    :raises Refused: where it does not hold, or nobody can say, with the reason.
    """
    try:
        return await checking
    except TokenError as error:
        raise Refused(f"the server's {what} is not believed: {error.reason}") from None
    except (ServicesUnavailable, ServicesRefused) as error:
        raise Refused(str(error)) from None


def _missing(store: AssetStore, assets: Sequence[Asset]) -> Sequence[Asset]:
    """What the store lacks, of each content once. Runs in a thread.

    :raises Refused: for an asset whose hash is none.
    """
    try:
        return tuple({asset.hash: asset for asset in reversed(assets) if not store.has(asset.hash)}.values())[::-1]
    except AssetError as error:
        raise Refused(f"the server offers what is no asset: {error}") from None


def _uuid(settings: AlloyClientSettings, username: str, tokens: PlayerTokens | None) -> UUID:
    """Who to be: whom the settings name, or one's own token is about, or somebody made of the name."""
    if settings.uuid:
        return UUID(settings.uuid)
    try:
        return uuid_of(username) if tokens is None else UUID(own_subject(tokens.session.identity_token))
    except ValueError:
        return uuid_of(username)


def uuid_of(username: str) -> UUID:
    """The UUID of a player who has none: made from the user name, always the same."""
    return uuid5(NAMESPACE_URL, f"alloy://{username}")


def parse_alloy_url(url: str) -> ServerURL[AlloyClientSettings]:
    """Take an ``alloy://USERNAME@HOST:PORT`` URL apart.

    :raises connectd.net.url.URLError: with what is wrong with the URL.
    """
    server = parse_url(url, "alloy", PORT, AlloyClientSettings)
    name = server.username
    if not name:
        raise URLError(f"{url}: names no player; write alloy://USERNAME@{server.host}")
    if len(name) > MAXIMUM_USERNAME or not name.isascii() or not name.isprintable():
        raise URLError(f"{url}: a user name has at most {MAXIMUM_USERNAME} printable ASCII characters")
    if sum(1 for chosen in (server.settings.pin, server.settings.authority, server.settings.trust) if chosen) > 1:
        raise URLError(f"{url}: pin, authority and trust exclude each other")
    return server


def make_client(reactor: Any, server: ServerURL[AlloyClientSettings], **options: Any) -> AlloyClient:
    """The client for a server.

    :param options: as for :class:`AlloyClient`.
    :raises connectd.net.url.URLError: where a file that the URL names cannot be used.
    """
    try:
        tokens = make_player_tokens(server.settings, reactor)
    except CredentialsError as error:
        raise URLError(str(error)) from None
    return AlloyClient(reactor, server.username, server.settings, tokens=tokens, **options)


def make_endpoint(reactor: Any, server: ServerURL[AlloyClientSettings]) -> QuicClientEndpoint:
    """The endpoint that leads to a server, and that takes no other server's certificate (AL-16).

    :raises connectd.net.url.URLError: where a file that the URL names cannot be used.
    """
    settings = server.settings
    try:
        if settings.pin:
            trust = Trust.pinned(bytes.fromhex(settings.pin.replace(":", "")))
        elif settings.authority:
            trust = Trust.authorities(_authorities(settings.authority))
        elif settings.trust or settings.services_url:
            # The services bind the server's access token to its certificate, which no authority needs to have signed.
            trust = Trust.insecure()
        else:
            trust = Trust.authorities(None)
        identity = Identity.from_pem(_read(settings.certificate)) if settings.certificate else None
    except OSError as error:
        raise URLError(f"{error.filename}: cannot be read: {error.strerror or error}") from error
    except CertificateError as error:
        raise URLError(str(error)) from error
    except IdentityError as error:
        raise URLError(f"{settings.certificate}: {error}") from error
    parameters = ClientParameters(alpn=(settings.profile,), trust=trust, identity=identity)
    return QuicClientEndpoint(reactor, server.host, server.port, parameters, timeout=settings.connect_timeout)


def _authorities(path: str) -> bytes:
    """The certificates of a PEM file, without a key that may be in it."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in read_certificates(path))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
