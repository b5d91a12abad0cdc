"""Chatr's two sides: who may say what and when."""

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
    Packet,
    PacketError,
    Ping,
    Pong,
    decode_packet,
    read_varint,
)
from connectd.protocols.chatr.settings import ChatrClientSettings, ChatrSettings
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
from connectd.wire import one_line

INVALID_PACKET: Final = "Invalid Packet"
FAILED_TO_VERIFY: Final = "Failed to verify!"
ALREADY_CONNECTED: Final = "Already connected!"
TIME_OUT: Final = "Time out"

VERSION: Final = 1
MAXIMUM_FIRST_FRAME: Final = 2048
"""Bytes of a frame before Connected (CH-9)."""
MAXIMUM_FRAME: Final = 8192
"""Bytes of a frame after Connected (CH-9)."""

PING_INTERVAL: Final = 5.0
"""Seconds from a matching Pong to the next Ping (CH-5)."""
PING_TIMEOUT: Final = 15.0
"""Seconds after a Ping in which some sign of life must come (CH-5)."""
PROBE_TIMEOUT: Final = 3.0
"""Seconds that a session has to show life when somebody else comes with its UUID (CH-3)."""

_ESTABLISHED = Established()
_CONNECTED = Connected().encode()


def _find_frame(data: bytearray, opcodes: frozenset[int], largest: int, consumed: int) -> tuple[int, int] | None:
    """Where the frame at the start of ``data`` has its opcode and ends, or None until it is whole.

    What is wrong with it is found as early as its first bytes tell, and the same whatever pieces it comes in.

    :param opcodes: those that are right here.
    :param largest: bytes that its length may say.
    :param consumed: where ``data`` begins in all that the peer sent.
    :raises RemoteProtocolError: for a frame that cannot be right.
    """
    try:
        found = read_varint(data)
    except PacketError as error:
        raise RemoteProtocolError(error.reason, consumed + error.offset, told=INVALID_PACKET) from None
    if found is None:
        return None
    length, start = found
    if not 0 < length <= largest:
        raise RemoteProtocolError(
            f"a frame of {length} bytes, where 1 to {largest} are possible", consumed, told=INVALID_PACKET
        )
    if len(data) > start and data[start] not in opcodes:
        raise RemoteProtocolError(f"opcode {data[start]} has no place here", consumed + start, told=INVALID_PACKET)
    return (start, start + length) if len(data) >= start + length else None


class _PacketMachine(Machine):
    """What both sides have in common: frames of packets, and Disconnect for last words."""

    __slots__ = ("_state",)

    def _packet(self, opcodes: frozenset[int], largest: int) -> Packet | None:
        """Take the next packet, or None where it is not whole yet."""
        if not self._input:
            return None
        place = _find_frame(self._input, opcodes, largest, self._consumed)
        if place is None:
            return None
        start, end = place
        try:
            packet = decode_packet(bytes(self._input[start:end]))
        except PacketError as error:
            raise RemoteProtocolError(
                error.reason, self._consumed + start + error.offset, told=INVALID_PACKET
            ) from None
        self._consume(end)
        return packet


# The server's side


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
class Denied(Event):
    """The client denies another's request; at a client: a request of its own was denied (CH-7)."""

    uuid: UUID


@attrs.frozen
class ShowedLife(Event):
    """Something came from a client while :meth:`ServerMachine.probe` was waiting for that (CH-3)."""


class ServerMachine(_PacketMachine):
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
        packet = self._packet(_SERVER_OPCODES[self._state], MAXIMUM_FRAME if connected else MAXIMUM_FIRST_FRAME)
        if packet is None:
            return None
        alive = connected and (not isinstance(packet, Pong) or packet.ping_id == self._ping_id)
        events = _SERVER_TABLE[self._state, packet.opcode](self, packet, now)
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


_SERVER_TABLE: dict[tuple[ServerState, int], Callable[[ServerMachine, Any, float], list[Event]]] = {
    (ServerState.CONNECT, Connect.opcode): ServerMachine._connect,
    (ServerState.CONNECTED, Disconnect.opcode): ServerMachine._disconnect,
    (ServerState.CONNECTED, Pong.opcode): ServerMachine._pong,
    (ServerState.CONNECTED, ConnectionRequest.opcode): ServerMachine._request,
    (ServerState.CONNECTED, ConnectionRequestAccept.opcode): ServerMachine._accepted,
    (ServerState.CONNECTED, ConnectionRequestDenied.opcode): ServerMachine._denied,
}
_SERVER_OPCODES = {state: frozenset(opcode for at, opcode in _SERVER_TABLE if at is state) for state in ServerState}


# The client's side


class ClientState(enum.Enum):
    """Where a client's connection stands."""

    SECURING = "securing"
    """The TLS handshake is going on."""
    CONNECTING = "connecting"
    """Connect was sent."""
    CONNECTED = "connected"

    __hash__ = object.__hash__


@attrs.frozen
class Secured(Event):
    """TLS stands, and Connect was sent."""


@attrs.frozen
class RequestReceived(Event):
    """Somebody wants to connect to this client (CH-6): ``accept_request`` or ``deny_request``, within 30 s."""

    uuid: UUID
    private_endpoint: IPAddress


@attrs.frozen
class RequestAccepted(Event):
    """Somebody accepted this client's request; where they are follows (CH-7)."""

    uuid: UUID
    private_endpoint: IPAddress


@attrs.frozen
class PeerLocated(Event):
    """Where the other party of an accepted request is (CH-7)."""

    uuid: UUID
    public_endpoint: IPAddress


class ClientMachine(_PacketMachine):
    """The client's side of one connection.

    :param settings: the client's.
    :param uuid: who this client is.
    :param signature: of its UUID (CH-2).
    :param now: when the connection was dialled, seconds.
    """

    __slots__ = ("_settings", "_signature", "_uuid")

    def __init__(self, settings: ChatrClientSettings, uuid: UUID, signature: bytes, *, now: float) -> None:
        super().__init__(now=now, handshake_timeout=settings.handshake_timeout)
        self._settings = settings
        self._uuid = uuid
        self._signature = signature
        self._state = ClientState.SECURING

    def transport_ready(self, now: float) -> list[Event]:
        """The server is the right one, and nobody listens in: only now it is told who this client is."""
        if self._state is not ClientState.SECURING or self.ended:
            return []
        self._state = ClientState.CONNECTING
        self._output.append(Connect(VERSION, self._uuid, self._signature).encode())
        return [Secured()]

    # Verbs

    def request(self, uuid: UUID, private_endpoint: IPAddress, now: float) -> list[Event]:
        """Ask for another client (CH-6).

        :param private_endpoint: where this client is in its own network.
        :raises LocalProtocolError: before acceptance and after the end; so do the others.
        """
        return self._say(ConnectionRequest(uuid, private_endpoint))

    def accept_request(self, uuid: UUID, private_endpoint: IPAddress, now: float) -> list[Event]:
        """Accept another's request (CH-7)."""
        return self._say(ConnectionRequestAccept(uuid, private_endpoint))

    def deny_request(self, uuid: UUID, now: float) -> list[Event]:
        """Deny another's request (CH-7)."""
        return self._say(ConnectionRequestDenied(uuid))

    def _say(self, packet: Packet) -> list[Event]:
        if not self.established or self.ended:
            raise LocalProtocolError(f"{type(packet).__name__}: not connected")
        self._output.append(packet.encode())
        return []

    # What the server sends

    def _step(self, now: float) -> list[Event] | None:
        if self._state is ClientState.SECURING:
            raise RemoteProtocolError("bytes before TLS stands", self._consumed)
        packet = self._packet(_CLIENT_OPCODES[self._state], MAXIMUM_FRAME)
        if packet is None:
            return None
        if self._state is ClientState.CONNECTED:
            self._deadline = now + self._settings.silence_timeout
        return _CLIENT_TABLE[self._state, packet.opcode](self, packet, now)

    def _connected(self, packet: Connected, now: float) -> list[Event]:
        self._state = ClientState.CONNECTED
        self.established = True
        self._deadline = now + self._settings.silence_timeout
        return [_ESTABLISHED]

    def _disconnected(self, packet: Disconnect, now: float) -> list[Event]:
        words = one_line(packet.message)
        if self.established:
            return [self._finish(Outcome.KICKED, f"disconnected: {words}")]
        return [self._finish(Outcome.REFUSED, f"refused: {words}")]

    def _ping(self, packet: Ping, now: float) -> list[Event]:
        self._output.append(Pong(packet.ping_id).encode())
        return []

    def _request(self, packet: ConnectionRequest, now: float) -> list[Event]:
        return [RequestReceived(packet.uuid, packet.private_endpoint)]

    def _accepted(self, packet: ConnectionRequestAccept, now: float) -> list[Event]:
        return [RequestAccepted(packet.uuid, packet.private_endpoint)]

    def _denied(self, packet: ConnectionRequestDenied, now: float) -> list[Event]:
        return [Denied(packet.uuid)]

    def _located(self, packet: ClientInfo, now: float) -> list[Event]:
        return [PeerLocated(packet.uuid, packet.public_endpoint)]

    # Time and the end

    def _expire(self, now: float) -> list[Event]:
        reason = "the server has gone silent" if self.established else "the server took too long"
        return self._end(Outcome.TIMEOUT, reason)

    def _refusal(self, outcome: Outcome, text: str) -> bytes:
        return b"" if self._state is ClientState.SECURING else Disconnect(text).encode()


_CLIENT_TABLE: dict[tuple[ClientState, int], Callable[[ClientMachine, Any, float], list[Event]]] = {
    (ClientState.CONNECTING, Connected.opcode): ClientMachine._connected,
    (ClientState.CONNECTING, Disconnect.opcode): ClientMachine._disconnected,
    (ClientState.CONNECTED, Disconnect.opcode): ClientMachine._disconnected,
    (ClientState.CONNECTED, Ping.opcode): ClientMachine._ping,
    (ClientState.CONNECTED, ConnectionRequest.opcode): ClientMachine._request,
    (ClientState.CONNECTED, ConnectionRequestAccept.opcode): ClientMachine._accepted,
    (ClientState.CONNECTED, ConnectionRequestDenied.opcode): ClientMachine._denied,
    (ClientState.CONNECTED, ClientInfo.opcode): ClientMachine._located,
}
_CLIENT_OPCODES = {state: frozenset(opcode for at, opcode in _CLIENT_TABLE if at is state) for state in ClientState}
