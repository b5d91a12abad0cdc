"""FmLTP's client: who may say what, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from connectd.protocols.fmltp.exchange import KeyPair
from connectd.protocols.fmltp.groups import PARAMETER_LABELS, BadKey, Group, parse_parameters
from connectd.protocols.fmltp.keys import KEY_LABELS, encode_public_key, parse_public_key
from connectd.protocols.fmltp.packets import (
    AUTH,
    AUTHENTICATION_SUCCESSFUL,
    COMMAND_ERROR,
    DEPLOYED_COMMAND_LIMIT,
    MAXIMUM_PLAINTEXT,
    QUIT,
    Ready,
    Reply,
    Version,
    comparison_code,
    split_command,
)
from connectd.protocols.fmltp.pem import PemReader
from connectd.protocols.fmltp.settings import FmltpClientSettings
from connectd.protocols.fmltp.side import Side, State, VersionReceived
from connectd.protocols.fmltp.tokens import MAXIMUM_TOKEN
from connectd.sansio import (
    Decision,
    Established,
    Event,
    LocalProtocolError,
    Outcome,
    Random,
    RemoteProtocolError,
    default_random,
)
from connectd.wire import one_line

OUTSTANDING: Final = 32
"""Commands that may wait for their replies at once; at a deployed server it is one (FM-10)."""


@attrs.frozen
class KeyPairRequested(Decision):
    """The server's parameters may be computed with. Verb: :meth:`ClientMachine.key_pair_made`.

    :param group: of the exchange; one without a name is yet to be checked, away from here.
    """

    group: Group


@attrs.frozen
class SecretRequested(Decision):
    """The server's key is there. Verb: :meth:`ClientMachine.secret_computed`.

    :param group: of the exchange.
    :param pair: ours.
    :param y: the server's public value, in 2 … p-2.
    """

    group: Group
    pair: KeyPair = attrs.field(repr=False)
    y: int = attrs.field(repr=False)


@attrs.frozen
class Greeted(Event):
    """The channel stands, and the server's interpreter is ready (FM-9).

    :param code: how the server says that the versions compare: 100 … 122.
    :param authentication_required: :meth:`ClientMachine.authenticate` comes first.
    :param deployed: the server spells as the deployed ones do, and is taken for one of them.
    """

    code: int
    authentication_required: bool
    deployed: bool


@attrs.frozen
class ReplyReceived(Event):
    """The answer to a command.

    :param command: the command's name.
    :param reply: what the server said.
    """

    command: str
    reply: Reply


@attrs.frozen
class NoticeReceived(Event):
    """The server said something that it was not asked for, such as why it closes."""

    reply: Reply


class ClientMachine(Side):
    """The client's side of one connection.

    :param settings: the client's.
    :param now: when the connection stood, Unix seconds.
    :param random: gives random bytes.
    """

    __slots__ = ("_answer", "_challenge", "_group", "_outstanding", "_pair", "_settings", "deployed")

    def __init__(self, settings: FmltpClientSettings, *, now: float, random: Random = default_random) -> None:
        own = Version.of(settings.friendly_name, settings.version)
        super().__init__(own, now=now, handshake_timeout=settings.handshake_timeout, random=random)
        self._settings = settings
        self._challenge = b""
        self._group: Group | None = None
        self._pair: KeyPair | None = None
        self._outstanding: deque[str] = deque()
        self._answer: Reply | None = None
        self.deployed = False

    @property
    def command_limit(self) -> int:
        """Bytes of the longest command that the server takes (FM-10)."""
        if self._settings.command_limit:
            return self._settings.command_limit
        return DEPLOYED_COMMAND_LIMIT if self.deployed else MAXIMUM_PLAINTEXT

    @property
    def can_command(self) -> bool:
        """Whether a command may be sent now."""
        if self.ended or self._state not in (State.LOCKDOWN, State.READY):
            return False
        return len(self._outstanding) < (1 if self.deployed else OUTSTANDING)

    # Verbs

    def key_pair_made(self, pair: KeyPair, now: float) -> list[Event]:
        """Send our key.

        :param pair: what :func:`~.exchange.generate` gave for the Decision's group.
        :raises LocalProtocolError: unless a KeyPairRequested is open.
        """
        group = self._decided(KeyPairRequested, "key_pair_made").group
        self._group, self._pair = group, pair
        self._state = State.KEY
        self._pem = PemReader(KEY_LABELS)
        self._output.append(encode_public_key(group, pair.public))
        return self._advance(now)

    def secret_computed(self, secret: bytes, now: float) -> list[Event]:
        """Show the server that we have the key (FM-8).

        :param secret: what :func:`~.exchange.compute_secret` gave for the Decision.
        :raises LocalProtocolError: unless a SecretRequested is open.
        """
        self._decided(SecretRequested, "secret_computed")
        self._open_channel(secret)
        self._state = State.CHALLENGE
        self._say(self._challenge, now)
        return self._advance(now)

    def authenticate(self, user: str, password: str, now: float) -> list[Event]:
        """Send AUTH; the answer is a :class:`ReplyReceived`, and Established where it is 150.

        :raises LocalProtocolError: where the state has no room for it, or for a user with a space in it, a password
            that is empty, or a control character.
        """
        if not self.locked:
            raise LocalProtocolError("authenticate: the server does not ask for it now")
        if not user or " " in user or not password:
            raise LocalProtocolError("authenticate: a user's name has no space, and neither it nor a password is empty")
        return self.command(f"{AUTH} {user} {password}", now)

    def command(self, text: str, now: float) -> list[Event]:
        """Send a command; the answer is a :class:`ReplyReceived`.

        :param text: its name, and its arguments with one space before each.
        :raises LocalProtocolError: where the state has no room for it, it is too long, or has a control character.
        """
        if not self.can_command:
            raise LocalProtocolError("command: not now")
        try:
            plaintext = text.encode()
        except UnicodeEncodeError:
            raise LocalProtocolError("command: it has characters that are none in UTF-8") from None
        if len(plaintext) > self.command_limit:
            raise LocalProtocolError(f"command: {len(plaintext)} bytes, the server takes {self.command_limit}")
        try:
            name, _ = split_command(plaintext + b"\r\n")
        except ValueError as error:
            raise LocalProtocolError(f"command: {error}") from None
        self._outstanding.append(name)
        self._say(plaintext, now)
        if self.established and len(self._outstanding) == 1:
            self._deadline = now + self._settings.reply_timeout
        return []

    # What the server sends

    def _step(self, now: float) -> list[Event] | None:
        if not self._input:
            return None
        return _STEPS[self._state](self, now)

    def _version(self, now: float) -> list[Event] | None:
        found = self._read_version()
        if found is None:
            return None
        version, self._challenge = found
        if version.x != self._own.x:
            raise self._incompatible(version)
        self._state = State.PARAMETERS
        self._pem = PemReader(PARAMETER_LABELS)
        self._output.append(self._own.encode())
        return [VersionReceived(version, comparison_code(self._own, version))]

    def _parameters(self, now: float) -> list[Event] | None:
        """Their size is looked at before anything is loaded (FM-5)."""
        block = self._read_pem()
        if block is None:
            return None
        label, contents, size = block
        try:
            group = parse_parameters(label, contents, minimum_bits=self._settings.minimum_bits)
        except BadKey as error:
            raise RemoteProtocolError(str(error), self._consumed, outcome=Outcome.REFUSED) from None
        self._consume(size)
        return [KeyPairRequested(group)]

    def _key(self, now: float) -> list[Event] | None:
        block = self._read_pem()
        if block is None:
            return None
        assert self._group is not None
        assert self._pair is not None
        try:
            y = parse_public_key(block[1], self._group)
        except BadKey as error:
            raise RemoteProtocolError(str(error), self._consumed) from None
        self._consume(block[2])
        self._pem = None
        pair, self._pair = self._pair, None
        return [SecretRequested(self._group, pair, y)]

    def _final(self, now: float) -> list[Event] | None:
        """KEX_FINAL: the interpreter's first message (FM-9)."""
        plaintext = self._read_token(now)
        if plaintext is None:
            return None
        try:
            ready = Ready.parse(plaintext)
        except ValueError:
            raise RemoteProtocolError("KEX_FINAL is another text", self._at) from None
        assert self._channel is not None
        self._channel.allow(MAXIMUM_TOKEN)
        self.deployed = ready.misspelled
        greeted = Greeted(ready.code, ready.authentication_required, ready.misspelled)
        if not ready.authentication_required:
            return [greeted, self._establish()]
        self._state = State.LOCKDOWN
        self._deadline = now + self._settings.authentication_timeout
        return [greeted]

    def _reply(self, now: float) -> list[Event] | None:
        plaintext = self._read_token(now)
        if plaintext is None:
            return None
        try:
            reply = Reply.parse(plaintext)
        except ValueError as error:
            raise RemoteProtocolError(f"a reply of another form: {error}", self._at) from None
        self._answer = reply
        if not self._outstanding:
            return [NoticeReceived(reply)]
        name = self._outstanding.popleft()
        events: list[Event] = [ReplyReceived(name, reply)]
        if self.locked and name == AUTH and reply.code == AUTHENTICATION_SUCCESSFUL.code:
            events.append(self._establish())
        if self.established:
            self._deadline = now + self._settings.reply_timeout if self._outstanding else None
        return events

    def _establish(self) -> Established:
        self._state = State.READY
        self.established = True
        self._deadline = None
        return Established()

    # Time and the end

    def end_of_stream(self, now: float, *, clean: bool = True) -> list[Event]:
        """The server is gone; what it said last may tell why."""
        answer = self._answer
        if not self.ended and clean and not self._unfinished() and answer is not None:
            if not self.established and not self._outstanding:
                return [self._finish(Outcome.REFUSED, f"the server closed after {one_line(str(answer))}")]
            if self.established and answer.code == COMMAND_ERROR:
                return [self._finish(Outcome.LEFT, f"the server closed: {one_line(answer.text)}")]
        return super().end_of_stream(now, clean=clean)

    def _expire(self, now: float) -> list[Event]:
        if self.established:
            return self._end(Outcome.TIMEOUT, f"no reply came for {self._settings.reply_timeout:g} s")
        if self._state is State.LOCKDOWN:
            return self._end(Outcome.TIMEOUT, "no AUTH succeeded in time")
        return self._end(Outcome.TIMEOUT, "the server took too long")

    def _refusal(self, outcome: Outcome, text: str) -> bytes:
        """A client that leaves says QUIT, where that is a command."""
        if self._channel is None or self._state is State.CHALLENGE or outcome is Outcome.MALFORMED:
            return b""
        return self._channel.seal(QUIT.encode())


_STEPS: dict[State, Callable[[ClientMachine, float], list[Event] | None]] = {
    State.VERSION: ClientMachine._version,
    State.PARAMETERS: ClientMachine._parameters,
    State.KEY: ClientMachine._key,
    State.CHALLENGE: ClientMachine._final,
    State.LOCKDOWN: ClientMachine._reply,
    State.READY: ClientMachine._reply,
}
