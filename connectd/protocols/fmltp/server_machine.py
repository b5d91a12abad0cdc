"""FmLTP's server: who may say what, and when."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any, Final

import attrs

from connectd.protocols.fmltp.exchange import KeyExchange
from connectd.protocols.fmltp.groups import BadKey, Group, encode_parameters
from connectd.protocols.fmltp.keys import KEY_LABELS, encode_public_key, parse_public_key
from connectd.protocols.fmltp.packets import (
    AUTH,
    AUTHENTICATION_FAILED,
    AUTHENTICATION_SUCCESSFUL,
    COMMAND_ERROR,
    GOODBYE,
    HELP,
    INVALID_COMMAND,
    MAXIMUM_PLAINTEXT,
    QUIT,
    TOO_FEW_ARGUMENTS,
    CommandLine,
    Ready,
    Reply,
    Version,
    comparison_code,
    split_command,
)
from connectd.protocols.fmltp.pem import PemReader
from connectd.protocols.fmltp.settings import FmltpSettings
from connectd.protocols.fmltp.side import Side, State, VersionReceived
from connectd.protocols.fmltp.tokens import MAXIMUM_TOKEN
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
from connectd.wire import one_line

ATTEMPTS: Final = 3
"""Failed AUTHs of which the last one ends the connection (FM-11)."""

EARLY_COMMANDS: Final = 32
"""Commands before an AUTH succeeds; the next one ends the connection."""

LONGEST_REASON: Final = 500
"""Characters of what a client is told about an end of ours."""


@attrs.frozen
class KeyExchangeRequested(Decision):
    """The client sent its key, and it may be computed with. Verb: :meth:`ServerMachine.key_exchanged`.

    :param group: of the exchange.
    :param y: the client's public value, in 2 … p-2.
    """

    group: Group
    y: int = attrs.field(repr=False)


@attrs.frozen
class AuthenticationRequested(Decision):
    """The client wants to be somebody. Verbs: :meth:`ServerMachine.accept`, :meth:`ServerMachine.fail`.

    Shows neither, for people confuse the two.

    :param user: its bytes, UTF-8.
    :param password: its bytes, UTF-8.
    """

    user: bytes = attrs.field(repr=False)
    password: bytes = attrs.field(repr=False)


@attrs.frozen
class CommandReceived(Decision):
    """The client wants something. Verb: :meth:`ServerMachine.reply`.

    :param name: the command's.
    :param arguments: the rest of its line, behind one space.
    """

    name: str
    arguments: str = attrs.field(repr=False)


class ServerMachine(Side):
    """The server's side of one connection.

    :param settings: the listener's.
    :param group: of the key exchange.
    :param now: when the connection was accepted, Unix seconds.
    :param random: gives random bytes.
    """

    __slots__ = ("_commands", "_group", "_lines", "_settings", "account", "attempts")

    def __init__(self, settings: FmltpSettings, group: Group, *, now: float, random: Random = default_random) -> None:
        own = Version.of(settings.friendly_name, settings.version)
        super().__init__(own, now=now, handshake_timeout=settings.handshake_timeout, random=random)
        self._settings = settings
        self._group = group
        self._commands = 0
        self._lines = bytearray()
        self.account = ""
        self.attempts = 0
        self._output.append(own.encode())

    # Verbs

    def key_exchanged(self, exchange: KeyExchange, now: float) -> list[Event]:
        """Answer the client's key with one that was made for it.

        :param exchange: what :func:`~.exchange.answer` gave for the Decision's group and y.
        :raises LocalProtocolError: unless a KeyExchangeRequested is open.
        """
        self._decided(KeyExchangeRequested, "key_exchanged")
        self._output.append(encode_public_key(self._group, exchange.public))
        self._open_channel(exchange.secret)
        self._state = State.CHALLENGE
        return self._advance(now)

    def accept(self, account: str, now: float) -> list[Event]:
        """The user is who they say they are.

        :param account: the account's name.
        :raises LocalProtocolError: unless an AuthenticationRequested is open.
        """
        self._decided(AuthenticationRequested, "accept")
        self.account = account
        self._say(AUTHENTICATION_SUCCESSFUL.encode(), now)
        return self._establish(now) + self._advance(now)

    def fail(self, now: float) -> list[Event]:
        """They are not; the third time ends the connection (FM-11).

        :raises LocalProtocolError: unless an AuthenticationRequested is open.
        """
        self._decided(AuthenticationRequested, "fail")
        self.attempts += 1
        self._say(AUTHENTICATION_FAILED.encode(), now)
        if self.attempts >= ATTEMPTS:
            return [self._finish(Outcome.REFUSED, f"{ATTEMPTS} failed authentications")]
        return self._advance(now)

    def reply(self, reply: Reply, now: float) -> list[Event]:
        """Answer a command.

        :raises LocalProtocolError: unless a CommandReceived is open, or where the reply does not fit into a token.
        """
        plaintext = _fitting("reply", reply.encode())
        self._decided(CommandReceived, "reply")
        self._answer(plaintext, now)
        return self._advance(now)

    def hand_on(self, now: float) -> list[Event]:
        """Leave a command to the session's handler, which answers by :meth:`send` or not at all.

        :raises LocalProtocolError: unless a CommandReceived is open.
        """
        command = self._decided(CommandReceived, "hand_on")
        if self.established:
            self._idle(now)
        return [Received(CommandLine(command.name, command.arguments)), *self._advance(now)]

    def send(self, message: Any, now: float) -> None:
        """Say something unasked, as handlers do that answer commands themselves.

        :param message: a :class:`~.packets.Reply`, which is one token; or bytes of a stream of lines, from which all
            lines that are complete become one token, and the rest waits for its line end.
        :raises LocalProtocolError: before the session is accepted, or where a reply or line does not fit into a token.
        """
        if not self.established or self.ended:
            raise LocalProtocolError("send: there is no session")
        if isinstance(message, Reply):
            self._answer(_fitting("send", message.encode()), now)
            return
        lines = self._lines
        lines += message
        while lines:
            end = lines.rfind(b"\n", 0, MAXIMUM_PLAINTEXT) + 1
            if not end:
                if len(lines) > MAXIMUM_PLAINTEXT:
                    # The session is going to end: nothing of this can be said then either.
                    self._lines = bytearray()
                    _fitting("send", lines)
                return
            self._answer(bytes(lines[:end]), now)
            del lines[:end]

    # What the client sends

    def _step(self, now: float) -> list[Event] | None:
        if not self._input:
            return None
        return _STEPS[self._state](self, now)

    def _version(self, now: float) -> list[Event] | None:
        found = self._read_version()
        if found is None:
            return None
        version, _ = found
        if version.x != self._own.x:
            raise self._incompatible(version)
        self._state = State.KEY
        self._pem = PemReader(KEY_LABELS)
        self._output.append(encode_parameters(self._group))
        return [VersionReceived(version, comparison_code(version, self._own))]

    def _key(self, now: float) -> list[Event] | None:
        block = self._read_pem()
        if block is None:
            return None
        try:
            y = parse_public_key(block[1], self._group)
        except BadKey as error:
            raise RemoteProtocolError(str(error), self._consumed) from None
        self._consume(block[2])
        self._pem = None
        return [KeyExchangeRequested(self._group, y)]

    def _challenge(self, now: float) -> list[Event] | None:
        """KEX_CHAL: our own first line, under the key (FM-8)."""
        plaintext = self._read_token(now)
        if plaintext is None:
            return None
        if not hmac.compare_digest(plaintext.strip(), self._own.encode().strip()):
            raise RemoteProtocolError("the challenge is another text", self._at)
        assert self.peer_version is not None
        code = comparison_code(self.peer_version, self._own)
        self._say(Ready(code, self._settings.accounts).encode(), now)
        if not self._settings.accounts:
            return self._establish(now)
        self._state = State.LOCKDOWN
        self._deadline = now + self._settings.authentication_timeout
        return []

    def _lockdown(self, now: float) -> list[Event] | None:
        """AUTH, HELP and QUIT are all that there is (FM-11)."""
        plaintext = self._read_token(now)
        if plaintext is None:
            return None
        self._commands += 1
        if self._commands > EARLY_COMMANDS:
            return self._end(Outcome.LIMITED, f"more than {EARLY_COMMANDS} commands before a successful AUTH")
        try:
            name, arguments = split_command(plaintext)
        except ValueError:
            return self._answer(INVALID_COMMAND.encode(), now)
        if name == AUTH:
            user, _, password = arguments.partition(" ")
            if not user or not password:
                return self._answer(TOO_FEW_ARGUMENTS.encode(), now)
            return [AuthenticationRequested(user.encode(), password.encode())]
        if name == QUIT:
            return self._quit(now)
        if name == HELP:
            return [CommandReceived(name, arguments)]
        return self._answer(INVALID_COMMAND.encode(), now)

    def _command(self, now: float) -> list[Event] | None:
        plaintext = self._read_token(now)
        if plaintext is None:
            return None
        try:
            name, arguments = split_command(plaintext)
        except ValueError:
            return self._answer(INVALID_COMMAND.encode(), now)
        if name == QUIT:
            return self._quit(now)
        if name == AUTH:
            return self._answer(INVALID_COMMAND.encode(), now)
        self._deadline = None  # until it is answered
        return [CommandReceived(name, arguments)]

    def _quit(self, now: float) -> list[Event]:
        """FM-12: QUIT always closes."""
        self._say_rest()
        self._say(GOODBYE.encode(), now)
        if self.established:
            return [self._finish(Outcome.LEFT, "the client quit")]
        return [self._finish(Outcome.ABORTED, "the client quit before it was accepted")]

    def _answer(self, plaintext: bytes, now: float) -> list[Event]:
        self._say(plaintext, now)
        if self.established:
            self._idle(now)
        return []

    def _say_rest(self) -> None:
        """What a handler said last, though its line has no end."""
        if self._lines:
            assert self._channel is not None
            self._output.append(self._channel.seal(bytes(self._lines)))
            self._lines = bytearray()

    # Acceptance, time and the end

    def _establish(self, now: float) -> list[Event]:
        assert self._channel is not None
        self._channel.allow(MAXIMUM_TOKEN)
        self._state = State.READY
        self.established = True
        self._idle(now)
        return [Established()]

    def _idle(self, now: float) -> None:
        timeout = self._settings.idle_timeout
        self._deadline = now + timeout if timeout else None

    def _expire(self, now: float) -> list[Event]:
        if self.established:
            return self._end(Outcome.TIMEOUT, f"no command came for {self._settings.idle_timeout:g} s")
        if self._state is State.LOCKDOWN:
            return self._end(Outcome.TIMEOUT, "no AUTH succeeded in time")
        return super()._expire(now)

    def _refusal(self, outcome: Outcome, text: str) -> bytes:
        """Nothing before KEX_FINAL (COM-12), and nothing into a channel that somebody meddles with."""
        if self._channel is None or self._state is State.CHALLENGE or outcome is Outcome.MALFORMED:
            return b""
        self._say_rest()
        if isinstance(self._decision, AuthenticationRequested) and outcome in _NO:
            return self._channel.seal(AUTHENTICATION_FAILED.encode())
        return self._channel.seal(Reply(COMMAND_ERROR, one_line(text)[:LONGEST_REASON]).encode())


def _fitting(verb: str, plaintext: bytes | bytearray) -> bytes:
    """
    :raises LocalProtocolError: for more than a token holds.
    """
    if len(plaintext) > MAXIMUM_PLAINTEXT:
        raise LocalProtocolError(f"{verb}: {len(plaintext)} bytes, at most {MAXIMUM_PLAINTEXT} fit into a token")
    return bytes(plaintext)


_NO = frozenset({Outcome.REFUSED, Outcome.BANNED, Outcome.LIMITED})
"""Ends that are an answer to an AUTH."""

_STEPS: dict[State, Callable[[ServerMachine, float], list[Event] | None]] = {
    State.VERSION: ServerMachine._version,
    State.KEY: ServerMachine._key,
    State.CHALLENGE: ServerMachine._challenge,
    State.LOCKDOWN: ServerMachine._lockdown,
    State.READY: ServerMachine._command,
}
