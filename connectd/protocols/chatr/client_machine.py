"""Chatr's client side: who may say what and when."""

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
    Ping,
    Pong,
)
from connectd.protocols.chatr.settings import ChatrClientSettings
from connectd.protocols.chatr.side import MAXIMUM_FRAME, Denied, PacketMachine
from connectd.sansio import Established, Event, LocalProtocolError, Outcome, RemoteProtocolError
from connectd.wire import one_line

VERSION: Final = 1

_ESTABLISHED = Established()


class ClientState(enum.Enum):
    """Where a client's connection stands."""

    SECURING = "securing"
    """The TLS handshake is going on."""
    CONNECTING = "connecting"
    """Connect was sent."""
    CONNECTED = "connected"

    __hash__ = object.__hash__  # that of Enum is Python, and states are looked up for each message


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


class ClientMachine(PacketMachine):
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
        packet = self._packet(_OPCODES[self._state], MAXIMUM_FRAME)
        if packet is None:
            return None
        if self._state is ClientState.CONNECTED:
            self._deadline = now + self._settings.silence_timeout
        return _TABLE[self._state, packet.opcode](self, packet, now)

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


_TABLE: dict[tuple[ClientState, int], Callable[[ClientMachine, Any, float], list[Event]]] = {
    (ClientState.CONNECTING, Connected.opcode): ClientMachine._connected,
    (ClientState.CONNECTING, Disconnect.opcode): ClientMachine._disconnected,
    (ClientState.CONNECTED, Disconnect.opcode): ClientMachine._disconnected,
    (ClientState.CONNECTED, Ping.opcode): ClientMachine._ping,
    (ClientState.CONNECTED, ConnectionRequest.opcode): ClientMachine._request,
    (ClientState.CONNECTED, ConnectionRequestAccept.opcode): ClientMachine._accepted,
    (ClientState.CONNECTED, ConnectionRequestDenied.opcode): ClientMachine._denied,
    (ClientState.CONNECTED, ClientInfo.opcode): ClientMachine._located,
}
_OPCODES = {state: frozenset(opcode for at, opcode in _TABLE if at is state) for state in ClientState}
