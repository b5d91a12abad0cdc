"""What both sides of an Alloy connection share: its states, its frames, and how it ends (AL-1)."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeVar

import attrs

from connectd.protocols.alloy.fields import Malformed, decode_varint
from connectd.protocols.alloy.layout import HEADER
from connectd.protocols.alloy.packets import (
    CONNECTS,
    HEADER_SIZE,
    MAXIMUM_REASON_READ,
    PACKETS,
    Disconnect,
    DisconnectType,
    GamePacket,
)
from connectd.protocols.alloy.relay import Relay
from connectd.sansio import Event, LocalProtocolError, Machine, Outcome, Received, RemoteProtocolError
from connectd.wire import one_line

HELD_BEFORE_PLAY: Final = 65_536
"""Bytes of a peer's input that are kept before PLAY; more ends it (AL-14)."""

REASON_PREFIX: Final = 4096
"""Bytes of a Disconnect's reason that are waited for and shown. The rest is not kept: the session is over."""

_DISCONNECT: Final = Disconnect.layout.id


class ConnectionState(enum.Enum):
    """Where a connection stands (AL-1)."""

    CONNECTING = "CONNECTING"
    """The QUIC handshake is under way."""
    HANDSHAKING = "HANDSHAKING"
    """The stream is open; Connect has not been answered."""
    AUTHENTICATING = "AUTHENTICATING"
    """Tokens or a password are under way."""
    PLAY = "PLAY"
    """The session is accepted."""
    DISCONNECTING = "DISCONNECTING"
    """The last words are on their way."""
    DISCONNECTED = "DISCONNECTED"
    """The connection is gone."""

    __hash__ = object.__hash__  # that of Enum is Python, and states are looked up for each packet


class Stage(enum.Enum):
    """What is waited for within a state. The tables of both machines are about these."""

    CONNECT = ConnectionState.HANDSHAKING, "Connect"
    """Server: Connect has to come. Client: its answer."""
    TOKENS = ConnectionState.AUTHENTICATING, "the tokens"
    """Server: AuthToken has to come. Client: ServerAuthToken."""
    PASSWORD = ConnectionState.AUTHENTICATING, "the password"
    """Server: PasswordResponse has to come. Client: what the server says to it."""
    ACCEPTED = ConnectionState.AUTHENTICATING, "ServerAuthToken"
    """Client: the password was right."""
    REJECTED = ConnectionState.AUTHENTICATING, "the server's Disconnect"
    """Client: the password was wrong for the last time."""
    READY = ConnectionState.PLAY, "the way into the world"
    """Server: ClientReady has to come. Client: WorldSettings have to, in whatever order."""
    REQUEST = ConnectionState.PLAY, "RequestAssets"
    """Server: RequestAssets has to come."""
    TRANSFER = ConnectionState.PLAY, "the assets"
    """Assets are on their way."""
    LOADED = ConnectionState.PLAY, "the game"
    """All that was requested is there."""

    __hash__ = object.__hash__

    def __init__(self, state: ConnectionState, awaited: str) -> None:
        self.state = state
        self.awaited = awaited


@attrs.frozen
class StateChanged(Event):
    """The connection is in another state now (AL-1).

    :param state: that.
    """

    state: ConnectionState


MachineT = TypeVar("MachineT", bound="AlloyMachine")
Method = Callable[[MachineT, Any, float], list[Event]]


class AlloyMachine(Machine):
    """One side of one connection: frames in, packets to the table's methods, and the end.

    :param profile: the form of the protocol, by its name in ALPN.
    :param connect_timeout: seconds for the first answer.
    :param authentication_timeout: seconds for each step of the login.
    :param handshake_timeout: seconds in all (AL-14).
    :param game_packet_size: bytes of the largest payload of a packet of the game itself; 0 takes none.
    """

    __slots__ = (
        "_at",
        "_authentication_timeout",
        "_gone",
        "_relay",
        "_stage",
        "_stage_deadline",
        "game_packet_size",
        "profile",
    )

    held_limit = HELD_BEFORE_PLAY
    table: ClassVar[Mapping[tuple[Stage, int], Method[Any]]]
    """Who may say what when: the method for each packet that a stage allows (AL-1). Disconnect always is."""

    def __init__(
        self,
        profile: str,
        *,
        connect_timeout: float,
        authentication_timeout: float,
        handshake_timeout: float,
        game_packet_size: int,
        now: float,
    ) -> None:
        super().__init__(now=now, handshake_timeout=handshake_timeout)
        self.profile = profile
        self.game_packet_size = game_packet_size
        self._stage = Stage.CONNECT
        self._stage_deadline = now + connect_timeout
        self._authentication_timeout = authentication_timeout
        self._at = 0
        self._gone = False
        self._relay: Relay | None = None

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands (AL-1)."""
        if self._gone:
            return ConnectionState.DISCONNECTED
        return ConnectionState.DISCONNECTING if self.ended else self._stage.state

    def connection_gone(self) -> None:
        """The transport is gone; only whoever drives the machine knows."""
        self._gone = True

    # Frames

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        if not self.established and len(self._input) + len(data) > HELD_BEFORE_PLAY and not self.ended:
            # What is whole in front may still be said, but nothing here needs so much at once (AL-14).
            offset = self._consumed + HELD_BEFORE_PLAY
            return self._end(
                Outcome.MALFORMED,
                f"more than {HELD_BEFORE_PLAY} bytes before PLAY",
                told="Too much data",
                offset=offset,
            )
        return super().receive_data(data, now)

    def _step(self, now: float) -> list[Event] | None:
        data = self._input
        if len(data) < HEADER_SIZE:
            return None
        length, identifier = HEADER.unpack_from(data)
        if identifier == _DISCONNECT:
            return self._disconnect(length)
        method = self.table.get((self._stage, identifier))
        if method is None:
            return self._other(length, identifier, len(data))
        kind = PACKETS[identifier] if identifier else CONNECTS[self.profile]
        maximum = self._maximum(identifier)
        self._check_length(length, kind.layout.largest_payload if maximum is None else maximum[0], kind.__name__)
        end = HEADER_SIZE + length
        if len(data) < end:
            return None
        try:
            packet = kind.layout.decode(kind, bytes(data[HEADER_SIZE:end]), None if maximum is None else maximum[1])
        except Malformed as error:
            raise RemoteProtocolError(
                f"a malformed {kind.__name__}: {error.reason}",
                self._consumed + HEADER_SIZE + error.offset,
                told=f"Malformed packet {kind.__name__}",
            ) from None
        self._at = self._consumed
        self._consume(end)
        return method(self, packet, now)

    def _maximum(self, identifier: int) -> tuple[int, int] | None:
        """Bytes of a packet's payload as it comes and decompressed, where less than its table allows is expected."""
        return None

    def _check_length(self, length: int, maximum: int, name: str) -> None:
        if not 0 <= length <= maximum:
            raise RemoteProtocolError(
                f"{name} with a length of {length} bytes, at most {maximum} are allowed",
                self._consumed,
                told=f"Malformed packet {name}",
            )

    def _other(self, length: int, identifier: int, available: int) -> list[Event] | None:
        """A packet that the table does not know here."""
        known = PACKETS.get(identifier)
        if known is not None or not self.game_packet_size or not self.established or identifier < 0:
            name = f"packet {identifier}" if known is None else known.__name__
            raise RemoteProtocolError(
                f"{name} is not allowed in {self.state.value}, where {self._stage.awaited} was waited for",
                self._consumed + 4,
                told=f"Unexpected packet {name if known is not None else identifier} in {self.state.value}",
            )
        self._check_length(length, self.game_packet_size, f"packet {identifier}")
        end = HEADER_SIZE + length
        if available < end:
            return None
        payload = bytes(self._input[HEADER_SIZE:end])
        self._consume(end)
        return [Received(GamePacket(identifier, payload))]

    # Sending

    def _say(self, frame: bytes) -> None:
        """Queue a frame of our own; behind the one that a handler is in the middle of."""
        if self._relay is None or self._relay.between_frames:
            self._output.append(frame)
        else:
            self._relay.hold(frame)

    def send(self, message: Any, now: float) -> None:
        """Queue a packet of the accepted session, or bytes of whole frames in any segmentation.

        :param message: one of the packets that a handler may send, or a :class:`GamePacket`.
        :raises LocalProtocolError: before PLAY, and for other packets.
        """
        if not self.established or self.ended:
            raise LocalProtocolError(f"send: not in PLAY ({self.state.value})")
        if isinstance(message, bytes):
            if self._relay is None:
                self._relay = Relay()
            self._output += self._relay.take(message)
            return
        if isinstance(message, GamePacket):
            allowed = message.id >= 0 and message.id not in PACKETS
        else:
            allowed = isinstance(message, self._sendable)
        if not allowed:
            raise LocalProtocolError(f"send: a {type(message).__name__} is not a handler's to send")
        try:
            self._say(message.encode())
        except ValueError as error:
            raise LocalProtocolError(f"send: {type(message).__name__}: {error}") from None

    _sendable: ClassVar[tuple[type, ...]] = ()

    # Time

    def deadline(self) -> float | None:
        if self.established or self._deadline is None or self._decision is not None:
            return self._deadline
        return min(self._deadline, self._stage_deadline)

    def handle_deadline(self, now: float) -> list[Event]:
        when = self.deadline()
        if self.ended or when is None or now < when:
            return []
        return self._expire(now)

    def _expire(self, now: float) -> list[Event]:
        if self._deadline is not None and now >= self._deadline:
            return self._end(Outcome.TIMEOUT, "The login took too long")
        return self._end(Outcome.TIMEOUT, f"{self._stage.awaited[0].upper()}{self._stage.awaited[1:]} took too long")

    # States

    def _enter(self, stage: Stage, now: float) -> list[Event]:
        """Wait for something else from now on, for as long as a step of the login may take (AL-14)."""
        before = self._stage.state
        self._stage = stage
        self._stage_deadline = now + self._authentication_timeout
        return [] if stage.state is before else [StateChanged(stage.state)]

    # The end

    def _disconnect(self, length: int) -> list[Event] | None:
        """The peer ends the session. No more of its reason is waited for than can be shown."""
        self._check_length(length, Disconnect.layout.maximum, "Disconnect")
        data = bytes(self._input[HEADER_SIZE : HEADER_SIZE + min(length, REASON_PREFIX)])
        if len(data) < min(length, REASON_PREFIX):
            return None
        reason = "no reason given"
        try:
            if len(data) < 2:
                raise Malformed("a Disconnect without a type", len(data))
            crash = data[1] == DisconnectType.CRASH
            if len(data) > 2:
                size, start = decode_varint(data, 2)
                if size > 4 * MAXIMUM_REASON_READ or size != length - start:
                    raise Malformed(f"a reason of {size} bytes in a packet of {length}", 2)
                text = one_line(data[start:].decode("utf-8", "ignore" if len(data) < length else "replace"))
                reason = text or reason
        except Malformed as error:
            raise RemoteProtocolError(
                f"a malformed Disconnect: {error.reason}", self._consumed + HEADER_SIZE + error.offset
            ) from None
        self._consume(HEADER_SIZE + len(data))
        return [self._disconnected(reason, crash)]

    def end_of_stream(self, now: float, *, clean: bool = True) -> list[Event]:
        """The peer will send no more. A Disconnect that was held for a Decision is still its last word."""
        data = self._input
        if not self.ended and self._decision is not None and len(data) >= HEADER_SIZE:
            length, identifier = HEADER.unpack_from(data)
            with contextlib.suppress(RemoteProtocolError):
                if identifier == _DISCONNECT and (events := self._disconnect(length)):
                    return events
        return super().end_of_stream(now, clean=clean)

    def _disconnected(self, reason: str, crash: bool) -> Event:
        """How the peer's Disconnect is counted."""
        raise NotImplementedError

    def _unfinished(self) -> bool:
        return super()._unfinished() and not self.ended

    def _refusal(self, outcome: Outcome, text: str) -> bytes:
        """Disconnect with a reason that people understand (AL-1); nothing inside somebody's frame."""
        if self._relay is not None and not self._relay.between_frames:
            return b""
        kind = DisconnectType.CRASH if outcome is Outcome.FAILED else DisconnectType.DISCONNECT
        return Disconnect.saying(text, kind).encode()
