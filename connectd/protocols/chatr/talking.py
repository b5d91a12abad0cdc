"""``connectctl chatr listen`` and ``talk``: lines from a terminal to other clients, over paths that were punched."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any
from uuid import UUID

import click
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from connectd.net.bound import BindError
from connectd.net.url import ServerURL
from connectd.protocols.chatr.candidates import candidates
from connectd.protocols.chatr.client import ChatrClient, Peer, secure_endpoint
from connectd.protocols.chatr.identity import Identity
from connectd.protocols.chatr.peer_socket import PathClosed, PeerPath, PeerSocket, PunchingFailed
from connectd.protocols.chatr.puncher import MAXIMUM_MESSAGE
from connectd.protocols.chatr.settings import ChatrClientSettings
from connectd.sansio import Ended

log = Logger()

Print = Callable[[str], None]

SHORT = 8
"""Characters of a UUID that are shown where it is said often."""


def parse_uuids(texts: Iterable[str]) -> list[UUID]:
    """UUIDs from a command line.

    :raises click.UsageError: where one is none.
    """
    found = []
    for text in texts:
        try:
            found.append(UUID(text))
        except ValueError:
            raise click.UsageError(f'"{text}" is not a UUID') from None
    return found


def bind_peer_socket(reactor: Any, identity: Identity, port: int, status: Print) -> PeerSocket:
    """The UDP socket on the agreed port, or on any where that is taken (CH-11).

    One of two sides may be on another port: the other one answers to where its checks really come from (CH-40).
    """
    try:
        return PeerSocket.bind(reactor, identity.uuid, port=port)
    except BindError as error:
        if not port:
            raise
        chosen = PeerSocket.bind(reactor, identity.uuid, port=0)
        status(f"UDP port {port} cannot be had ({error}); going on with port {chosen.port}, for peers on port {port}")
        return chosen


async def talk(
    reactor: Any,
    server: ServerURL[ChatrClientSettings],
    identity: Identity,
    show: Print,
    status: Print,
    *,
    callee: UUID | None = None,
    friends: Collection[UUID] = (),
    stdin: int = 0,
) -> None:
    """Connect, meet others, and pass lines between standard input and them.

    :param show: prints a line of a conversation.
    :param status: prints a line about what happens.
    :param callee: whom to ask for; then the end of the input, or of the path, is the end. Without one, this goes on
        until it is cancelled.
    :param friends: whose requests to accept; all, where none is named.
    :param stdin: the descriptor to read lines from.
    :raises connectd.net.client.ConnectionEnded: where the server refuses us at the first try.
    """
    socket = bind_peer_socket(reactor, identity, server.settings.peer_port, status)
    client = ChatrClient(reactor, secure_endpoint(reactor, server, socket.port), identity, server.settings)
    chat = Chat(client, socket, server.settings.peer_port or socket.port, show, status, friends)
    chat.ends_with_input = callee is not None
    socket.start()
    client.startService()
    standard_io: Any = StandardIO
    terminal = None
    try:
        await client.when_connected()
        terminal = standard_io(_Lines(chat), stdin=stdin, reactor=reactor)
        if callee is not None:
            await chat.call(callee)
        await chat.finished
    finally:
        if terminal is not None:
            terminal.loseConnection()
        await client.stopService()
        await socket.stop()


class Chat:
    """Whom we talk with, and what is typed.

    :param client: the connection to the server.
    :param socket: the way to peers.
    :param port: the agreed port number (CH-41).
    :param show: prints a line of a conversation.
    :param status: prints a line about what happens.
    :param friends: whose requests to accept; all, where none is named.
    :ivar ends_with_input: stop at the end of the input, and with the last path.
    """

    def __init__(
        self,
        client: ChatrClient,
        socket: PeerSocket,
        port: int,
        show: Print,
        status: Print,
        friends: Collection[UUID],
    ) -> None:
        self.client = client
        self.socket = socket
        self.finished: Deferred[None] = Deferred()
        self.ends_with_input = False
        self._port = port
        self._show = show
        self._status = status
        self._friends = frozenset(friends)
        self._paths: dict[UUID, PeerPath] = {}
        self._typed: list[bytes] = []
        client.on_request = self._asked
        client.on_peer = self._accepted
        client.on_connected = lambda: status(f"connected as {client.identity.uuid}, UDP port {socket.port}")
        client.on_end = self._cut_off

    # Meeting others

    async def call(self, uuid: UUID) -> None:
        """Ask for somebody, and punch through."""
        self._status(f"asking for {uuid}")
        peer = await self.client.request(uuid)
        self._status(f"{_short(uuid)} accepted and is at {peer.public}; punching")
        self._met(await self._punch(peer))

    def _asked(self, uuid: UUID) -> bool:
        welcome = not self._friends or uuid in self._friends
        self._status(f"{uuid} asks for us: {'accepted' if welcome else 'denied'}")
        return welcome

    def _accepted(self, peer: Peer) -> None:
        self._status(f"{_short(peer.uuid)} is at {peer.public}; punching")
        punching = self._punch(peer)
        punching.addCallbacks(self._met, self._not_met)
        punching.addErrback(lambda failure: log.failure("a conversation went wrong", failure))

    def _punch(self, peer: Peer) -> Deferred[PeerPath]:
        places = candidates(peer.public, peer.private, self._port, loopback=peer.loopback)
        return self.socket.punch(peer.uuid, peer.role, places)

    def _met(self, path: PeerPath) -> None:
        uuid = path.peer
        self._paths[uuid] = path
        host, port = path.address
        self._status(f"talking with {uuid} at {host} port {port}; who that is, is not proven (CH-41)")
        path.on_message = lambda data: self._said(uuid, data)
        path.when_lost().addCallback(lambda reason: self._lost(path, reason))
        typed, self._typed = self._typed, []
        for line in typed:
            path.send(line)

    def _not_met(self, failure: Failure) -> None:
        failure.trap(PunchingFailed)
        self._status(failure.getErrorMessage())

    def _lost(self, path: PeerPath, reason: str) -> None:
        if self._paths.get(path.peer) is path:
            del self._paths[path.peer]
        self._status(f"{_short(path.peer)} is gone: {reason}")
        if self.ends_with_input and not self._paths:
            self.finish()

    def _cut_off(self, event: Ended) -> None:
        if self.client.running:
            self._status(f"cut off from the server: {event.reason}; connecting again")

    # Lines

    def _said(self, uuid: UUID, data: bytes) -> None:
        for line in data.decode("utf-8", "replace").splitlines() or [""]:
            self._show(f"{_short(uuid)}: {line}")

    def typed(self, line: bytes) -> None:
        """A line from the terminal, for everybody we talk with."""
        if line.strip() == b"/quit":
            self.finish()
            return
        line = line[:MAXIMUM_MESSAGE]
        if not self._paths:
            if self.ends_with_input and len(self._typed) < 100:
                self._typed.append(line)  # the path is still being made
            else:
                self._status("nobody is there yet")
        for path in list(self._paths.values()):
            try:
                path.send(line)
            except PathClosed:
                continue

    def input_ended(self) -> None:
        """No more lines come."""
        if self.ends_with_input:
            self.finish()

    def finish(self) -> None:
        """Leave, once."""
        if not self.finished.called:
            self.finished.callback(None)


class _Lines(LineOnlyReceiver):
    """Standard input, line by line."""

    delimiter = b"\n"

    def __init__(self, chat: Chat) -> None:
        self.chat = chat

    def lineReceived(self, line: bytes) -> None:
        self.chat.typed(line.rstrip(b"\r"))

    def connectionLost(self, reason: Any = None) -> None:
        self.chat.input_ended()


def _short(uuid: UUID) -> str:
    return str(uuid)[:SHORT]
