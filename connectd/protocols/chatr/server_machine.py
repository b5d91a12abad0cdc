"""Chatr's server side: who may say what and when."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import attrs

from connectd.protocols.chatr.packets import (
    ClientInfo,
    Connect,
    Connected,
    ConnectionRequest,
    ConnectionRequestAccept,
    ConnectionRequestDenied,
    Disconnect,
    IPAddress,
    Ping,
    Pong,
)
from connectd.protocols.chatr.settings import ChatrSettings
from connectd.protocols.chatr.side import MAXIMUM_FRAME, Denied, PacketMachine
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

FAILED_TO_VERIFY: Final = "Failed to verify!"
ALREADY_CONNECTED: Final = "Already connected!"
TIME_OUT: Final = "Time out"

MAXIMUM_FIRST_FRAME: Final = 2048
"""Bytes of a frame before Connected (CH-9)."""

PING_INTERVAL: Final = 5.0
"""Seconds from a matching Pong to the next Ping (CH-5)."""
PING_TIMEOUT: Final = 15.0
"""Seconds after a Ping in which some sign of life must come (CH-5)."""
PROBE_TIMEOUT: Final = 3.0
"""Seconds that a session has to show life when somebody else comes with its UUID (CH-3)."""

_ESTABLISHED = Established()
_CONNECTED = Connected().encode()


class ServerState(enum.Enum):
    """Where a server's connection stands."""

    SECURING = "securing"
    """The TLS handshake is going on."""
    CONNECT = "connect"
    """A Connect is expected, or being decided on."""
    CONNECTED = "connected"

    __hash__ = object.__hash__  # that of Enum is Python, and states are looked up for each message


@attrs.frozen
class ConnectReceived(Decision):
    """A client says who it is. Verb: :meth:`ServerMachine.accept`.

    :param uuid: who it says it is.
    :param signature: what it proves that with (CH-2).
    :param version: of the protocol, as it says; version 1 looks no further at it.
    """

    uuid: UUID
    signature: bytes = attrs.field(repr=False)
    version: int


@attrs.frozen
class Requested(Event):
    """The client asks for another (CH-6)."""

    uuid: UUID
    private_endpoint: IPAddress


@attrs.frozen
class Accepted(Event):
    """The client accepts another's request (CH-7)."""

    uuid: UUID
    private_endpoint: IPAddress


@attrs.frozen
class ShowedLife(Event):
    """Something came from a client while :meth:`ServerMachine.probe` was waiting for that (CH-3)."""


class ServerMachine(PacketMachine):
    """The server's side of one connection.

    :param settings: the listener's.
    :param now: when the connection was accepted, Unix seconds.
    """

    __slots__ = (
        "_connect_timeout",
        "_handshake_due",
        "_heard",
        "_ping_due",
        "_ping_id",
        "_probe_due",
        "_random",
        "uuid",
    )

    held_limit = 16_384

    def __init__(self, settings: ChatrSettings, *, now: float, random: Random = default_random) -> None:
        super().__init__(now=now, handshake_timeout=settings.handshake_timeout)
        self._handshake_due = now + settings.handshake_timeout
        self._connect_timeout = settings.connect_timeout
        self._random = random
        self._state = ServerState.SECURING
        self.uuid: UUID | None = None
        """Who the client says it is, once it has."""
        self._ping_id: int | None = None
        self._ping_due = 0.0
        self._heard = False
        self._probe_due: float | None = None

    def transport_ready(self, now: float) -> list[Event]:
        """TLS stands: from now on the peer can be told things (COM-12), and has a while for its Connect (CH-9)."""
        if self._state is ServerState.SECURING and not self.ended:
            self._state = ServerState.CONNECT
            # The deadline of the whole handshake counts again once the Connect is there.
            self._deadline = min(self._handshake_due, now + self._connect_timeout)
        return []

    # Verbs

    def accept(self, now: float) -> list[Event]:
        """Let the client in (CH-4).

        :raises LocalProtocolError: unless a ConnectReceived is open.
        """
        self._decided(ConnectReceived, "accept")
        self._state = ServerState.CONNECTED
        self.established = True
        self._output.append(_CONNECTED)
        self._ping(now)
        return [_ESTABLISHED, *self._advance(now)]

    def probe(self, now: float) -> list[Event]:
        """Let the session show within 3 seconds that it is alive, or end it (CH-3): ShowedLife comes, or the end.

        :raises LocalProtocolError: where it is no session.
        """
        if not self.established or self.ended:
            raise LocalProtocolError("probe: this is no session")
        if self._ping_id is None:
            self._ping(now)
        self._probe_due = now + PROBE_TIMEOUT
        self._set_deadline()
        return []

    def send(self, message: Any, now: float) -> None:
        """Send a packet of an accepted session: a request, its answer, or where somebody is.

        :raises LocalProtocolError: for anything else, or before acceptance.
        """
        if not self.established or not isinstance(
            message, ConnectionRequest | ConnectionRequestAccept | ConnectionRequestDenied | ClientInfo
        ):
            raise LocalProtocolError(f"there is no way to send a {type(message).__name__} now")
        self._output.append(message.encode())

    # What the client sends

    def _step(self, now: float) -> list[Event] | None:
        if self._state is ServerState.SECURING:
            raise RemoteProtocolError("bytes before TLS stands", self._consumed)
        connected = self._state is ServerState.CONNECTED
        packet = self._packet(_OPCODES[self._state], MAXIMUM_FRAME if connected else MAXIMUM_FIRST_FRAME)
        if packet is None:
            return None
        alive = connected and (not isinstance(packet, Pong) or packet.ping_id == self._ping_id)
        events = _TABLE[self._state, packet.opcode](self, packet, now)
        return [*self._showed_life(), *events] if alive and not self.ended else events

    def _connect(self, packet: Connect, now: float) -> list[Event]:
        self.uuid = packet.uuid
        self._deadline = self._handshake_due
        return [ConnectReceived(packet.uuid, packet.signature, packet.version)]

    def _disconnect(self, packet: Disconnect, now: float) -> list[Event]:
        """The client's words are ignored (CH-4)."""
        return [self._finish(Outcome.LEFT, "the client disconnected")]

    def _pong(self, packet: Pong, now: float) -> list[Event]:
        """A Pong with another id is ignored (CH-5)."""
        if packet.ping_id == self._ping_id:
            self._ping_id = None
            self._ping_due = now + PING_INTERVAL
            self._set_deadline()
        return []

    def _request(self, packet: ConnectionRequest, now: float) -> list[Event]:
        return [Requested(packet.uuid, packet.private_endpoint), Received(packet)]

    def _accepted(self, packet: ConnectionRequestAccept, now: float) -> list[Event]:
        return [Accepted(packet.uuid, packet.private_endpoint), Received(packet)]

    def _denied(self, packet: ConnectionRequestDenied, now: float) -> list[Event]:
        return [Denied(packet.uuid), Received(packet)]

    # Keepalive

    def _ping(self, now: float) -> None:
        self._ping_id = int.from_bytes(self._random(8), "big") >> 1
        self._heard = False
        self._ping_due = now + PING_TIMEOUT
        self._output.append(Ping(self._ping_id).encode())
        self._set_deadline()

    def _showed_life(self) -> list[Event]:
        self._heard = True
        if self._probe_due is None:
            return []
        self._probe_due = None
        self._set_deadline()
        return [ShowedLife()]

    def _set_deadline(self) -> None:
        self._deadline = self._ping_due if self._probe_due is None else min(self._ping_due, self._probe_due)

    def _expire(self, now: float) -> list[Event]:
        if self._state is not ServerState.CONNECTED:
            return self._end(Outcome.TIMEOUT, self._late())
        if self._probe_due is not None and now >= self._probe_due:
            return self._end(Outcome.TIMEOUT, "silent while another connection waits", told=TIME_OUT)
        if self._ping_id is not None and not self._heard:
            return self._end(Outcome.TIMEOUT, "no sign of life after a Ping", told=TIME_OUT)
        self._ping(now)
        return []

    def _late(self) -> str:
        if self._state is ServerState.SECURING:
            return "the TLS handshake took too long"
        return TIME_OUT if self.decision is None else "the decision took too long"

    # The end

    def _refusal(self, outcome: Outcome, text: str) -> bytes:
        """Disconnect, once TLS stands (COM-12)."""
        return b"" if self._state is ServerState.SECURING else Disconnect(text).encode()


_TABLE: dict[tuple[ServerState, int], Callable[[ServerMachine, Any, float], list[Event]]] = {
    (ServerState.CONNECT, Connect.opcode): ServerMachine._connect,
    (ServerState.CONNECTED, Disconnect.opcode): ServerMachine._disconnect,
    (ServerState.CONNECTED, Pong.opcode): ServerMachine._pong,
    (ServerState.CONNECTED, ConnectionRequest.opcode): ServerMachine._request,
    (ServerState.CONNECTED, ConnectionRequestAccept.opcode): ServerMachine._accepted,
    (ServerState.CONNECTED, ConnectionRequestDenied.opcode): ServerMachine._denied,
}
_OPCODES = {state: frozenset(opcode for at, opcode in _TABLE if at is state) for state in ServerState}
