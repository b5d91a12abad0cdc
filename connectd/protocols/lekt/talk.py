"""Conversations over TCP: call a client, or be called, and exchange messages (LEKT-20).

In short::

    conversation = await call(reactor, endpoint, "alice", received=print)
    conversation.say("hello")
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from connectd.net.client import Dialogue, DialogueFactory
from connectd.net.connection import Connection, Refused
from connectd.protocols.lekt.conversation import PART_SIZE, ConversationMachine, Message, NicknameReceived
from connectd.sansio import Ended, Machine, Received

log = Logger()

MAXIMUM_CONVERSATIONS = 64
"""Calls that a :class:`Telephone` has open at once."""

Receive = Callable[["Conversation", Message], None]
Ask = Callable[["Conversation", str], Deferred[bool]]


def always(conversation: Conversation, nickname: str) -> Deferred[bool]:
    """Talk with anybody."""
    return succeed(True)


class Conversation(Dialogue):
    """A conversation with one peer.

    :param reactor: the reactor.
    :param nickname: what we like to be called; at most 64 bytes.
    :param calling: True on the side that connects.
    :param received: called with each message part.
    :param ended: called when it is over.
    :param ask: decides, with the peer's nickname, whether to talk with it.
    """

    def __init__(
        self,
        reactor: Any,
        nickname: str,
        *,
        calling: bool,
        received: Receive = lambda conversation, message: None,
        ended: Callable[[Conversation, Ended], None] = lambda conversation, event: None,
        ask: Ask = always,
    ) -> None:
        super().__init__(reactor)
        self.nickname = nickname
        self.calling = calling
        self._received = received
        self._ended = ended
        self._ask = ask
        self._message_ids = count(1)
        self._machine: ConversationMachine | None = None

    @property
    def peer_nickname(self) -> str:
        """What the peer likes to be called."""
        return "" if self._machine is None else self._machine.peer_nickname

    @property
    def place(self) -> str:
        """The peer's address and port."""
        return "" if self.connection is None else str(self.connection.peer)

    def make_machine(self, now: float) -> Machine:
        self._machine = ConversationMachine(self.nickname, calling=self.calling, now=now)
        return self._machine

    def say(self, text: str | bytes) -> None:
        """Send a message, cut into parts of at most 64 KiB."""
        if self.connection is None:
            raise ConnectionError("not connected")
        data = text.encode() if isinstance(text, str) else text
        identifier = next(self._message_ids)
        for part, start in enumerate(range(0, max(len(data), 1), PART_SIZE)):
            self.connection.send(Message(identifier, part, data[start : start + PART_SIZE]))

    def on_NicknameReceived(self, connection: Connection, event: NicknameReceived) -> None:
        """Ask whether to talk."""
        assert self._machine is not None
        machine = self._machine
        asked = self._ask(self, event.nickname)
        asked.addCallback(_insist)
        connection.decide(asked, lambda agreed, now: machine.accept(now))

    def on_Received(self, connection: Connection, event: Received) -> None:
        """The peer said something."""
        self._received(self, event.message)

    def connection_ended(self, connection: Connection, event: Ended) -> None:
        super().connection_ended(connection, event)
        self._ended(self, event)


def _insist(agreed: bool) -> bool:
    if not agreed:
        raise Refused("I would rather not talk")
    return agreed


def call(reactor: Any, endpoint: IStreamClientEndpoint, nickname: str, **options: Any) -> Deferred[Conversation]:
    """Call a client and agree to talk.

    :param options: of :class:`Conversation`.
    :return: fails with :class:`connectd.net.client.ConnectionEnded` where the other side would not.
    """
    conversation = Conversation(reactor, nickname, calling=True, **options)
    agreed: Deferred[Any] = conversation.dial(endpoint)
    return agreed.addCallback(lambda result: conversation)


class Telephone(Service):
    """Takes calls from other clients.

    :param reactor: the reactor.
    :param endpoint: where to be called: the port that the LEKT client announces.
    :param nickname: what we like to be called.
    :param began: called with each conversation that both sides agreed to.
    :param options: of :class:`Conversation`.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamServerEndpoint,
        nickname: str,
        began: Callable[[Conversation], None],
        **options: Any,
    ) -> None:
        self.reactor = reactor
        self.nickname = nickname
        self.began = began
        self.options = options
        self.conversations: set[Conversation] = set()
        self._endpoint = endpoint
        self._port: IListeningPort | None = None

    async def listen(self) -> IListeningPort:
        """Start to take calls.

        :raises twisted.internet.error.CannotListenError: where the port is taken.
        """
        self._port = await self._endpoint.listen(_Answering(self))
        Service.startService(self)
        return self._port

    def answer(self) -> Conversation | None:
        """A conversation for a new call, or None while too many are open."""
        self.conversations = {one for one in self.conversations if one.ended is None}
        if len(self.conversations) >= MAXIMUM_CONVERSATIONS:
            return None
        conversation = Conversation(self.reactor, self.nickname, calling=False, **self.options)
        self.conversations.add(conversation)
        agreed: Deferred[Any] = conversation.when_established()
        agreed.addCallbacks(
            lambda result: self.began(conversation), lambda failure: self.conversations.discard(conversation)
        )
        agreed.addErrback(lambda failure: log.failure("a conversation could not begin", failure))
        return conversation

    async def hang_up(self) -> None:
        """Take no more calls and end those that are open."""
        Service.stopService(self)
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        for conversation in list(self.conversations):
            await conversation.hang_up("hung up")


class _Answering(Factory):
    """Gives each caller a conversation."""

    noisy = False

    def __init__(self, telephone: Telephone) -> None:
        self.telephone = telephone

    def buildProtocol(self, address: IAddress | None) -> Any:
        conversation = self.telephone.answer()
        return None if conversation is None else DialogueFactory(conversation).buildProtocol(address)
