"""A Starbound client: logs in to a server of any generation, then exchanges packets with it.

In short::

    session = await login(reactor, "starbound://ann@play.example?generation=1.4", password=b"swordfish")
    print("client", session.client_id, "in generation", session.generation)
    session.send(Frame(11, b"…"))
    async for frame in session:
        print(frame.id, len(frame.payload))
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NoReturn

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint

from connectd.net.client import ConnectionEnded, Dialogue
from connectd.net.connection import Connection
from connectd.net.url import ServerURL, parse_url
from connectd.protocols.starbound import texts
from connectd.protocols.starbound.frames import Frame
from connectd.protocols.starbound.generations import GENERATIONS
from connectd.protocols.starbound.hashing import legacy_hash_steps, legacy_salt, modern_hash
from connectd.protocols.starbound.machine import (
    ChallengeReceived,
    ClientMachine,
    PacketReceived,
    PacketSent,
)
from connectd.protocols.starbound.packets import ClientConnect
from connectd.protocols.starbound.settings import StarboundClientSettings
from connectd.sansio import Ended, Machine, Outcome, Received, default_random
from connectd.workers.slices import Slices

PORT: Final = 21025

MOST_WAITING: Final = 256 * 1024
"""Bytes of frames that wait to be read before the server has to wait (COM-6)."""

FRAME_OVERHEAD: Final = 256
"""Bytes that a frame takes besides its payload, in that count."""


class LoginRefused(ConnectionEnded):
    """The server said no. Subclasses tell why, as far as its words do."""


class WrongCredentials(LoginRefused):
    """There is no such account, or the password is wrong."""


class Banned(LoginRefused):
    """The account, the player's UUID or the address is banned."""


class ServerFull(LoginRefused):
    """The server has no room now."""


class AccountRequired(LoginRefused):
    """Players without an account are not let in."""


class DuplicatePlayer(LoginRefused):
    """A player with this UUID is in already."""


_WORDS: Final[tuple[tuple[str, type[LoginRefused]], ...]] = (
    ("no such account", WrongCredentials),
    (texts.banned(""), Banned),
    *((texts.full(name), ServerFull) for name in ("seed", "1.4")),
    *((texts.anonymous(name), AccountRequired) for name in ("seed", "1.4")),
    (texts.DUPLICATE_UUID, DuplicatePlayer),
)


def refusal(ended: ConnectionEnded) -> ConnectionEnded:
    """The exception for a login that came to nothing; of the server's words, the clearest."""
    if ended.outcome is not Outcome.REFUSED:
        return ended
    said = ended.reason.lower()
    for words, kind in _WORDS:
        if words.strip().lower() in said:
            return kind(ended.outcome, ended.reason)
    return LoginRefused(ended.outcome, ended.reason)


class StarboundDialogue(Dialogue):
    """One connection of a client; :func:`login` is what most programs want.

    :param reactor: the reactor.
    :param settings: the client's.
    :param player: who comes.
    :param password: of the player's account, or of a server that has one for players without; bytes of UTF-8.
    :param report: called with (step, detail) for each packet.
    :param received: called with each frame once the session is accepted.
    :param ended: called with how it ended.
    """

    def __init__(
        self,
        reactor: Any,
        settings: StarboundClientSettings,
        player: ClientConnect,
        password: bytes | None = None,
        *,
        report: Callable[[str, str], None] = lambda step, detail: None,
        received: Callable[[Frame], None] = lambda frame: None,
        ended: Callable[[Ended], None] = lambda event: None,
    ) -> None:
        super().__init__(reactor)
        self.settings = settings
        self.machine: ClientMachine | None = None
        self.received = received
        self.ending = ended
        self._player = player
        self._password = b"" if password is None else password
        self._report = report
        self._slices = Slices(reactor, in_work=1, waiting=0)

    def make_machine(self, now: float) -> Machine:
        self.machine = machine = ClientMachine(self.settings, self._player, now=now, random=default_random)
        if machine.opened_with is not None:
            self._tell("sent", machine.opened_with)
        self._slices.startService()
        return machine

    def on_PacketSent(self, connection: Connection, event: PacketSent) -> None:
        """We said something."""
        self._tell("sent", event)

    def on_PacketReceived(self, connection: Connection, event: PacketReceived) -> None:
        """The server said something."""
        self._tell("received", event)

    def on_ChallengeReceived(self, connection: Connection, event: ChallengeReceived) -> None:
        """Prove that we know the password (SB-3, SB-20)."""
        assert self.machine is not None
        connection.decide(self._answer(event), self.machine.respond)

    def _answer(self, event: ChallengeReceived) -> Deferred[bytes]:
        if not GENERATIONS[event.generation].server_first:
            return succeed(modern_hash(self._password, event.account_bytes, event.salt))
        salt = legacy_salt(event.account_bytes, event.salt)
        return self._slices.run(legacy_hash_steps(hashlib.sha256(self._password).digest(), salt, event.rounds, step=32))

    def on_Received(self, connection: Connection, event: Received) -> None:
        """A frame of the session."""
        self.received(event.message)

    def connection_ended(self, connection: Connection, event: Ended) -> None:
        self._password = b""
        super().connection_ended(connection, event)
        self.ending(event)

    def connection_closed(self, connection: Connection) -> None:
        if self._slices.running:
            self._slices.stopService()
        super().connection_closed(connection)

    def _tell(self, direction: str, event: PacketSent | PacketReceived) -> None:
        detail = f", {event.detail}" if event.detail else ""
        self._report(event.name, f"{direction}, {event.size} bytes{detail}")


class StarboundSession:
    """An accepted session. Iterate over it for the server's frames; it ends when the session does.

    :param dialogue: its connection, accepted.
    """

    def __init__(self, dialogue: StarboundDialogue) -> None:
        assert dialogue.connection is not None
        assert dialogue.machine is not None
        self._dialogue = dialogue
        self._connection = dialogue.connection
        self._machine = dialogue.machine
        self._frames: deque[Frame] = deque()
        self._waiting = 0
        self._reader: Deferred[None] | None = None
        dialogue.received = self._received
        dialogue.ending = self._ended

    @property
    def client_id(self) -> int:
        """Which client this is, for the server."""
        assert self._machine.client_id is not None
        return self._machine.client_id

    @property
    def generation(self) -> str:
        """The name of the generation that is spoken."""
        assert self._machine.generation is not None
        return self._machine.generation.name

    @property
    def ended(self) -> Ended | None:
        """How the session ended, or None."""
        return self._dialogue.ended

    def send(self, frame: Frame) -> None:
        """Send a packet.

        :raises connectd.net.client.ConnectionEnded: where the session is over.
        """
        if self.ended is not None:
            self._over(self.ended)
        self._connection.send(frame)

    def drained(self) -> Deferred[None]:
        """Fires when what was sent is below the high-water mark (COM-6)."""
        return self._connection.drained()

    def leave(self) -> Deferred[None]:
        """End the session, in the protocol's words where it has any; fires once the transport is gone."""
        if self.ended is None:
            self._connection.call(self._machine.disconnect)
        return self._dialogue.when_closed()

    def when_closed(self) -> Deferred[None]:
        """Fires once the transport is gone."""
        return self._dialogue.when_closed()

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        while not self._frames:
            if self.ended is not None:
                raise StopAsyncIteration
            self._reader = Deferred()
            await self._reader
        frame = self._frames.popleft()
        self._waiting -= len(frame.payload) + FRAME_OVERHEAD
        if self._waiting <= MOST_WAITING // 2:
            self._connection.resume()
        return frame

    def _received(self, frame: Frame) -> None:
        self._frames.append(frame)
        self._waiting += len(frame.payload) + FRAME_OVERHEAD
        if self._waiting > MOST_WAITING:
            self._connection.pause()
        self._wake()

    def _ended(self, event: Ended) -> None:
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.called:
            reader.callback(None)

    @staticmethod
    def _over(event: Ended) -> NoReturn:
        raise ConnectionEnded(event.outcome, event.reason)


def parse_starbound_url(url: str) -> ServerURL[StarboundClientSettings]:
    """Take a ``starbound://`` URL apart.

    :raises connectd.net.url.URLError: with what is wrong with it.
    """
    return parse_url(url, "starbound", PORT, StarboundClientSettings)


def make_player(settings: StarboundClientSettings, account: str = "") -> ClientConnect:
    """A player as the settings describe it, with a ship that has nothing in it.

    :param account: empty for an anonymous one.
    """
    return ClientConnect(
        asset_digest=bytes.fromhex(settings.digest),
        uuid=bytes.fromhex(settings.uuid.replace("-", "")) if settings.uuid else default_random(16),
        name=settings.name,
        species=settings.species,
        account=account,
    )


async def login(
    reactor: Any,
    server: str | IStreamClientEndpoint,
    *,
    password: bytes | None = None,
    player: ClientConnect | None = None,
    account: str = "",
    settings: StarboundClientSettings | None = None,
    report: Callable[[str, str], None] = lambda step, detail: None,
) -> StarboundSession:
    """Log in.

    :param server: ``starbound://[ACCOUNT@]HOST[:PORT][?generation=…]``, or an endpoint that leads there.
    :param password: of the account, or of a server that has one for players without an account.
    :param player: who comes, instead of whom the settings describe; its ``account`` is the one that counts.
    :param account: for an endpoint, which names none.
    :param settings: for an endpoint; a URL has its own.
    :param report: called with (step, detail) for each packet.
    :raises connectd.net.url.URLError: with what is wrong with the URL.
    :raises LoginRefused: where the server says no.
    :raises connectd.net.client.ConnectionEnded: where it ends the connection otherwise, or cannot be understood.
    """
    if isinstance(server, str):
        parsed = parse_starbound_url(server)
        settings, account = parsed.settings, parsed.username
        endpoint = parsed.endpoint(reactor, settings.handshake_timeout)
        report("connect", f"{parsed.host} port {parsed.port}")
    else:
        endpoint = server
        settings = StarboundClientSettings() if settings is None else settings
    player = make_player(settings, account) if player is None else player
    early: list[Frame] = []  # what one read brings behind the acceptance
    dialogue = StarboundDialogue(reactor, settings, player, password, report=report, received=early.append)
    try:
        await dialogue.dial(endpoint)
    except ConnectionEnded as error:
        raise refusal(error) from None
    session = StarboundSession(dialogue)
    for frame in early:
        session._received(frame)
    return session
