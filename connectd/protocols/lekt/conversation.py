"""Client to client: two clients that found each other through a server talk over one of their methods (LEKT-20).

The one who connects (A) speaks first::

    A: header H, nickname NUL          B: header A, nickname NUL   or   header R, reason NUL
    A: header A                        or   header R, reason NUL
    both: u32 id, u32 part, u32 length, bytes …

Texts are not padded; before a header a reader skips the zero bytes with which a peer aligned its text to 4.
"""

from __future__ import annotations

import enum
import struct
from typing import Any

import attrs

from connectd.protocols.lekt.packets import (
    ACCEPT,
    HEADER_SIZE,
    HELLO,
    REJECT,
    WrongByte,
    WrongVersion,
    header,
    read_type,
)
from connectd.sansio import (
    Decision,
    Established,
    Event,
    LocalProtocolError,
    Machine,
    Outcome,
    Random,
    Received,
    RemoteProtocolError,
    default_random,
)
from connectd.wire import Cursor, one_line, text_field

MAXIMUM_NICKNAME = 64
MAXIMUM_REASON = 255
MAXIMUM_PART = 1 << 20
"""Bytes of one message part that are believed (COM-2)."""
PART_SIZE = 1 << 16
"""Bytes of the parts that we cut messages into."""

_MESSAGE = struct.Struct(">III")


@attrs.frozen
class Message:
    """A part of a message: u32 id, u32 part, u32 length, bytes; no header.

    :param id: which message.
    :param part: which part of it, from 0.
    :param data: at most 1 MiB.
    """

    id: int
    part: int
    data: bytes

    def encode(self) -> bytes:
        return _MESSAGE.pack(self.id, self.part, len(self.data)) + self.data


def encode_named(kind: int, text: str, maximum: int) -> bytes:
    """A header and a NUL-terminated text.

    :raises ValueError: for a text that is too long or has a NUL in it.
    """
    data = text.encode()
    if len(data) > maximum or b"\0" in data:
        raise ValueError(f"{text!r}: at most {maximum} bytes of UTF-8 without NUL")
    return header(kind) + data + b"\0"


class ConversationState(enum.Enum):
    """Where a conversation stands."""

    CALLED = "called"
    CALLING = "calling"
    CONFIRMING = "confirming"
    TALKING = "talking"


@attrs.frozen
class NicknameReceived(Decision):
    """The other side named itself. Verb: :meth:`ConversationMachine.accept`.

    :param nickname: at most 64 bytes; whatever the peer likes to be called.
    """

    nickname: str


class ConversationMachine(Machine):
    """One side of a conversation.

    :param nickname: what we like to be called.
    :param calling: True on the side that connected.
    :param now: when the connection stood.
    :param handshake_timeout: seconds until both sides have agreed.
    :raises ValueError: for a nickname over 64 bytes.
    """

    __slots__ = ("_nickname", "_padding", "_state", "peer_nickname")

    def __init__(
        self,
        nickname: str,
        *,
        calling: bool,
        now: float,
        handshake_timeout: float = 30.0,
        random: Random = default_random,
    ) -> None:
        super().__init__(now=now, handshake_timeout=handshake_timeout)
        hello = encode_named(HELLO, nickname, MAXIMUM_NICKNAME)
        self._nickname = nickname
        self._state = ConversationState.CALLING if calling else ConversationState.CALLED
        self._padding = 0
        self.peer_nickname = ""
        if calling:
            self._output.append(hello)

    # Verbs

    def accept(self, now: float) -> list[Event]:
        """Talk with the peer that named itself.

        :raises LocalProtocolError: unless a NicknameReceived is open.
        """
        self.peer_nickname = self._decided(NicknameReceived, "accept").nickname
        if self._state is ConversationState.CALLED:
            self._output.append(encode_named(ACCEPT, self._nickname, MAXIMUM_NICKNAME))
            self._state = ConversationState.CONFIRMING
            return self._advance(now)
        self._output.append(header(ACCEPT))
        return self._talk() + self._advance(now)

    def send(self, message: Any, now: float) -> None:
        """Send a :class:`Message`.

        :raises LocalProtocolError: before both sides have agreed, or for too large a part.
        """
        if self._state is not ConversationState.TALKING or not isinstance(message, Message):
            raise LocalProtocolError("send: a Message, once both sides have agreed")
        if len(message.data) > MAXIMUM_PART:
            raise LocalProtocolError(f"send: a part of {len(message.data)} bytes; at most {MAXIMUM_PART}")
        self._output.append(message.encode())

    # What the peer sends

    def _step(self, now: float) -> list[Event] | None:
        if self._state is ConversationState.TALKING:
            return self._message()
        while self._padding and self._input[:1] == b"\0":
            self._padding -= 1
            self._consume(1)
        try:
            kind = read_type(self._input, _TYPES[self._state])
        except WrongByte as error:
            raise self._unexpected(error.offset) from None
        except WrongVersion as error:
            raise RemoteProtocolError(
                f"the peer speaks {error}", self._consumed + error.offset, told="Unsupported version"
            ) from None
        if kind is None:
            return None
        if kind == REJECT:
            reason = self._text(MAXIMUM_REASON)
            return None if reason is None else [self._finish(Outcome.REFUSED, f"rejected: {reason}")]
        if self._state is ConversationState.CONFIRMING:
            self._consume(HEADER_SIZE)
            return self._talk()
        nickname = self._text(MAXIMUM_NICKNAME)
        return None if nickname is None else [NicknameReceived(nickname)]

    def _unexpected(self, offset: int) -> RemoteProtocolError:
        told = "Expected a LEKT handshake" if not self._consumed else "Unexpected packet"
        return RemoteProtocolError(f"wrong byte while {self._state.value}", self._consumed + offset, told=told)

    def _text(self, maximum: int) -> str | None:
        """The NUL-terminated text behind the header, once it is whole."""
        data = self._input
        end = data.find(b"\0", HEADER_SIZE, HEADER_SIZE + maximum + 1)
        if end < 0:
            if len(data) > HEADER_SIZE + maximum:
                raise RemoteProtocolError(
                    "a text too long", self._consumed + HEADER_SIZE + maximum, told="Text too long"
                )
            return None
        text = one_line(bytes(data[HEADER_SIZE:end]))
        self._consume(end + 1)
        self._padding = -(end + 1) % 4
        return text

    def _talk(self) -> list[Event]:
        self._state = ConversationState.TALKING
        self.established = True
        self._deadline = None
        return [Established()]

    def _message(self) -> list[Event] | None:
        if len(self._input) < _MESSAGE.size:
            return None
        cursor = Cursor(self._input)
        identifier, part, length = cursor.u32(), cursor.u32(), cursor.u32()
        if length > MAXIMUM_PART:
            raise RemoteProtocolError(f"a message part of {length} bytes", self._consumed + 8)
        if cursor.left < length:
            return None
        message = Message(identifier, part, cursor.take(length))
        self._consume(cursor.offset)
        return [Received(message)]

    def _refusal(self, outcome: Outcome, text: str) -> bytes:
        """``R`` with the reason, where it is our turn to answer; messages have no word for it."""
        if self._state is ConversationState.TALKING or (
            self._state is ConversationState.CALLING and self._decision is None
        ):
            return b""
        return header(REJECT) + text_field(text, MAXIMUM_REASON) + b"\0"


_TYPES = {
    ConversationState.CALLED: bytes((HELLO,)),
    ConversationState.CALLING: bytes((ACCEPT, REJECT)),
    ConversationState.CONFIRMING: bytes((ACCEPT, REJECT)),
}
