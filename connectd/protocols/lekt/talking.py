"""``connectctl lekt talk``: a small chat between clients that found each other."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.stdio import StandardIO
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver

from connectd.net.client import ConnectionEnded
from connectd.protocols.lekt.client import LektClient, parse_lekt_url
from connectd.protocols.lekt.conversation import Message
from connectd.protocols.lekt.packets import Entry
from connectd.protocols.lekt.talk import Conversation, Telephone, call
from connectd.sansio import Ended

log = Logger()

Print = Callable[[str], None]


async def talk(
    reactor: Any,
    url: str,
    nickname: str,
    port: int,
    callee: tuple[str, int] | None,
    show: Print,
    *,
    stdin: int = 0,
) -> None:
    """Join, take calls, and pass lines between standard input and whoever we talk with, until the input ends.

    :param port: the TCP port to take calls on; 0 for a free one.
    :param callee: address and port of a client to call at once.
    :param show: prints a line.
    :param stdin: the descriptor to read lines from.
    :raises connectd.net.url.URLError: for a wrong URL.
    """
    server = parse_lekt_url(url)
    chat = Chat(reactor, nickname, show)
    listening = await chat.telephone(port).listen()
    address: Any = listening.getHost()
    settings = attrs.evolve(server.settings, port=address.port)
    client = LektClient(reactor, server.endpoint(reactor), settings)
    chat.client = client
    client.startService()
    standard_io: Any = StandardIO
    terminal = standard_io(_Lines(chat), stdin=stdin, reactor=reactor)
    try:
        await client.when_joined()
        show(f"joined {server.host}; taking calls on port {settings.port}; /who, /call ADDRESS:PORT, /quit")
        if callee is not None:
            await chat.call(*callee)
        await chat.quitting
    finally:
        terminal.loseConnection()
        await chat.hang_up()
        await client.stopService()


def parse_place(text: str) -> tuple[str, int]:
    """``ADDRESS:PORT``, as clients are listed.

    :raises ValueError: for anything else.
    """
    host, _, port = text.strip().rpartition(":")
    try:
        address = IPv4Address(host)
    except AddressValueError:
        raise ValueError(f"{text}: not ADDRESS:PORT with an IPv4 address") from None
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text}: not a port; 1 to 65535")
    return str(address), int(port)


class Chat:
    """Whom we talk with, and what is typed.

    :param reactor: the reactor.
    :param nickname: what we like to be called.
    :param show: prints a line.
    """

    def __init__(self, reactor: Any, nickname: str, show: Print) -> None:
        self.reactor = reactor
        self.nickname = nickname
        self.show = show
        self.client: LektClient | None = None
        self.quitting: Deferred[None] = Deferred()
        self._conversations: list[Conversation] = []
        self._telephone: Telephone | None = None

    def telephone(self, port: int) -> Telephone:
        """What takes our calls."""
        endpoint = TCP4ServerEndpoint(self.reactor, port)
        self._telephone = Telephone(
            self.reactor, endpoint, self.nickname, self._began, received=self._received, ended=self._ended
        )
        return self._telephone

    async def call(self, host: str, port: int) -> None:
        """Call a client, and say so if it would not talk."""
        endpoint = TCP4ClientEndpoint(self.reactor, host, port, timeout=10)
        try:
            conversation = await call(self.reactor, endpoint, self.nickname, received=self._received, ended=self._ended)
        except (ConnectionEnded, ConnectError) as error:
            self.show(f"* {host}:{port} could not be called: {error}")
        else:
            self._began(conversation)

    def _began(self, conversation: Conversation) -> None:
        self._conversations.append(conversation)
        self.show(f"* talking with {conversation.peer_nickname} at {conversation.place}")

    def _ended(self, conversation: Conversation, event: Ended) -> None:
        if conversation in self._conversations:
            self._conversations.remove(conversation)
            self.show(f"* {conversation.peer_nickname} is gone: {event.reason}")

    def _received(self, conversation: Conversation, message: Message) -> None:
        for line in message.data.decode("utf-8", "replace").splitlines() or [""]:
            self.show(f"{conversation.peer_nickname}: {line}")

    def typed(self, line: str) -> None:
        """A line from the terminal."""
        word, _, rest = line.partition(" ")
        if word == "/quit":
            self.quit()
        elif word == "/who":
            self._who()
        elif word == "/call":
            try:
                place = parse_place(rest)
            except ValueError as error:
                self.show(f"* {error}")
            else:
                calling = Deferred.fromCoroutine(self.call(*place))
                calling.addErrback(lambda failure: log.failure("a call went wrong", failure))
        elif word.startswith("/"):
            self.show(f"* {word} is not a command: /who, /call ADDRESS:PORT, /quit")
        elif not self._conversations:
            self.show("* nobody is listening: /call ADDRESS:PORT first")
        else:
            for conversation in self._conversations:
                conversation.say(line)

    def _who(self) -> None:
        clients: list[Entry] = [] if self.client is None else self.client.clients
        for entry in clients:
            self.show(f"  {entry}")
        self.show(f"* {len(clients)} other{'' if len(clients) == 1 else 's'} listed")

    def quit(self) -> None:
        """Leave, once."""
        if not self.quitting.called:
            self.quitting.callback(None)

    async def hang_up(self) -> None:
        """End all conversations."""
        for conversation in list(self._conversations):
            await conversation.hang_up()
        if self._telephone is not None:
            await self._telephone.hang_up()


class _Lines(LineOnlyReceiver):
    """Standard input, line by line."""

    delimiter = b"\n"

    def __init__(self, chat: Chat) -> None:
        self.chat = chat

    def lineReceived(self, line: bytes) -> None:
        self.chat.typed(line.decode("utf-8", "replace").rstrip("\r"))

    def connectionLost(self, reason: Any = None) -> None:
        self.chat.quit()
