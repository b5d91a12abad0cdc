"""Starbound's server: who may say what when, in each generation."""

from __future__ import annotations

import base64
import enum
from typing import Any, Final

from connectd.protocols.starbound.encoding import Malformed
from connectd.protocols.starbound.events import ConnectRequested, ResponseReceived, ShipworldReceived
from connectd.protocols.starbound.fields import Source
from connectd.protocols.starbound.frames import Frame
from connectd.protocols.starbound.framing import HANDSHAKE_LIMIT, FrameMachine
from connectd.protocols.starbound.generations import GENERATIONS, OPENSB, RETAIL, SEED, Generation
from connectd.protocols.starbound.hashing import decode_legacy_response
from connectd.protocols.starbound.packets import (
    ClientConnect,
    ClientDisconnectRequest,
    ConnectFailure,
    ConnectionResponse,
    ConnectSuccess,
    HandshakeChallenge,
    HandshakeResponse,
    Packet,
    ProtocolRequest,
    ProtocolResponse,
    ProtocolVersion,
    ServerDisconnect,
)
from connectd.protocols.starbound.settings import StarboundSettings
from connectd.protocols.starbound.texts import (
    CONNECT_TIMEOUT,
    LONGEST,
    NO_SUCH_ACCOUNT,
    UNEXPECTED_PACKET,
    no_such_account,
)
from connectd.protocols.starbound.variant import EncodedVariant
from connectd.sansio import Established, Event, LocalProtocolError, Outcome, Random, RemoteProtocolError, default_random
from connectd.wire import text_field

OPEN_PROTOCOL_VERSION: Final = 15
"""That of OpenStarbound's additions (SB-21)."""

PLAYER_LIMIT: Final = 256 * 1024
"""Bytes of all that a ClientConnect says besides the ship: it is kept until the player is in (SB-8). A Variant of as
many values as may be (SB-11) fits."""
LONGEST_STRING: Final = 1024
"""Bytes of each string and of the digest in a ClientConnect. The account is hashed with each round (SB-3, SB-5)."""

LEGACY_SALT_SIZE: Final = 24
"""Random bytes whose base64 is the 32 characters of a salt."""
SALT_SIZE: Final = 16
"""Random bytes of a salt where the client speaks first (SB-20)."""


class State(enum.Enum):
    """Where a server's connection stands."""

    OPENING = "opening"
    """Somebody speaks first; who, will turn out."""
    REQUEST = "request"
    """The client speaks first, and has not."""
    CONNECT = "connect"
    """The versions fit. The ClientConnect is awaited, or its Decision is."""
    RESPONSE = "response"
    """The challenge is out."""
    VERDICT = "verdict"
    """The response is in: its Decision is awaited."""
    SESSION = "session"

    __hash__ = object.__hash__  # that of Enum is Python


_EXPECTED: Final[dict[State, type[Packet]]] = {
    State.REQUEST: ProtocolRequest,
    State.CONNECT: ClientConnect,
    State.RESPONSE: HandshakeResponse,
}


class ServerMachine(FrameMachine):
    """The server's side of one connection.

    :param settings: the listener's.
    :param now: when the connection was accepted, seconds.
    :param keep_shipworld: hand the shipworld out as it comes, instead of dropping it (SB-8).
    :param server_uuid: who the server is, 16 bytes; for generations in which the client speaks first.
    """

    __slots__ = (
        "_challenge",
        "_connect",
        "_handshake_deadline",
        "_keep_shipworld",
        "_kept",
        "_random",
        "_refused",
        "_server_first",
        "_server_uuid",
        "_settings",
        "_shipworld",
        "_state",
        "client_id",
    )

    def __init__(
        self,
        settings: StarboundSettings,
        *,
        now: float,
        random: Random = default_random,
        keep_shipworld: bool = False,
        server_uuid: bytes = bytes(16),
    ) -> None:
        super().__init__(now=now, handshake_timeout=settings.handshake_timeout, frame_limit=settings.frame_limit)
        self._settings = settings
        self._random = random
        self._keep_shipworld = keep_shipworld
        self._server_uuid = server_uuid
        self._kept = 0
        self._shipworld: list[bytes] = []
        self._connect: ClientConnect | None = None
        self._challenge: HandshakeChallenge | None = None
        self._refused: tuple[Outcome, str] | None = None
        self._handshake_deadline = self._deadline
        self._state = State.REQUEST
        self.client_id: int | None = None
        served = [GENERATIONS[name] for name in settings.generations]
        self._server_first = next((one for one in served if one.server_first), None)
        if self._server_first is not None:
            if len(served) == 1:
                self._speak(self._server_first)
            else:
                self._state = State.OPENING
                self._deadline = now + min(settings.generation_wait, settings.handshake_timeout)

    @property
    def held(self) -> int:
        return super().held + self._kept

    # Verbs

    def challenge(self, now: float) -> list[Event]:
        """Ask for a proof.

        :raises LocalProtocolError: unless a ConnectRequested is open; where the client speaks first, also for one
            without an account (SB-20).
        """
        decision = self._decision
        if isinstance(decision, ConnectRequested) and not self._speaks_first and not decision.account:
            raise LocalProtocolError("challenge: there is no account")
        self._decided(ConnectRequested, "challenge")
        self._send_challenge()
        return []

    def accept(self, client_id: int, now: float) -> list[Event]:
        """Let the player in.

        :param client_id: unique among live sessions and small, from 1 (SB-10).
        :raises LocalProtocolError: unless a ResponseReceived is open, or, where the client speaks first, a
            ConnectRequested without an account.
        """
        decision = self._decision
        if isinstance(decision, ConnectRequested):
            if self._speaks_first or decision.account:
                raise LocalProtocolError("accept: no challenge was answered")
            self._decided(ConnectRequested, "accept")
        else:
            self._decided(ResponseReceived, "accept")
        self.client_id = client_id
        self._state = State.SESSION
        self.established = True
        self._deadline = None
        self._connect = self._challenge = None
        self._kept = 0
        if self._speaks_first:
            self._say(ConnectionResponse(True, client_id, celestial=b""))
        else:
            self._say(ConnectSuccess(client_id, self._server_uuid))
        return [Established(), *self._advance(now)]

    def refuse(self, reason: str, now: float, outcome: Outcome = Outcome.REFUSED) -> list[Event]:
        """Keep the player out.

        Where the server speaks first all five packets are exchanged even so (SB-1): a refused ConnectRequested gets
        its challenge, and the refusal after the response.
        """
        if isinstance(self._decision, ConnectRequested) and self._speaks_first:
            self._decided(ConnectRequested, "refuse")
            self._refused = outcome, reason
            self._send_challenge()
            return []
        return super().refuse(reason, now, outcome)

    def _send_challenge(self) -> None:
        assert self._connect is not None
        if self._speaks_first:
            salt = base64.b64encode(self._random(LEGACY_SALT_SIZE))
            self._challenge = HandshakeChallenge(salt, rounds=self._settings.rounds)
        else:
            self._challenge = HandshakeChallenge(self._random(SALT_SIZE))
        self._state = State.RESPONSE
        self._say(self._challenge)

    # What the client sends

    def _advance(self, now: float) -> list[Event]:
        events = super()._advance(now)
        if self._decision is not None and (self._input or self._plain) and self._is_more():
            # Each side says one thing and waits for the other: nothing may come in between (SB-1).
            if events:
                events.pop()
            events += self._end(
                Outcome.MALFORMED, "a packet before its time", told=UNEXPECTED_PACKET, offset=self._consumed
            )
        return events

    def _is_more(self) -> bool:
        """Whether the client has said more than we have answered. The end of a zstd frame says nothing."""
        decoder = self._decoder
        if decoder is None:
            return True
        # However much the turn has done before: an honest client's is no reason to take it for more.
        self._work = 0.0
        try:
            while not self._plain and self._work < 1 and self._decode(decoder):
                pass
        except Malformed:
            return True
        return bool(self._plain) or self._work >= 1

    @property
    def _speaks_first(self) -> bool:
        return self.generation is not None and self.generation.server_first

    def _speak(self, generation: Generation) -> None:
        """Speak first."""
        self.generation = generation
        self._state = State.CONNECT
        version = self._settings.version if generation is SEED else generation.version
        self._say(ProtocolVersion(version))

    def _expected(self, number: int) -> tuple[type[Packet], int]:
        if self._state is State.OPENING:
            # The client came first (SB-21).
            self._state = State.REQUEST
            self._deadline = self._handshake_deadline
        kind = _EXPECTED[self._state]
        generation = self.generation or RETAIL
        if number != generation.number(kind):
            raise Malformed(f"packet {number}, expected was {kind.__name__}", 0)
        self.generation = generation
        return kind, self._settings.client_connect_limit if kind is ClientConnect else HANDSHAKE_LIMIT

    def _source(self, kind: type[Packet], most: int) -> Source:
        sink = self._shipworld.append if self._keep_shipworld else None
        longest = LONGEST_STRING if kind is ClientConnect else None
        return Source(most, keep=False, sink=sink, most_kept=PLAYER_LIMIT, longest=longest)

    def _handed_out(self) -> list[Event]:
        if not self._shipworld:
            return []
        data = b"".join(self._shipworld)
        self._shipworld.clear()
        return [ShipworldReceived(data)]

    def _packet(self, packet: Any, size: int, compressed: bool, now: float) -> list[Event]:
        assert self.generation is not None
        if isinstance(packet, ProtocolRequest):
            return self._requested(packet, compressed)
        if isinstance(packet, ClientConnect):
            self._connect = packet
            if self._body is not None and self._body.reader is not None:
                self._kept = self._body.reader.source.kept
            return [ConnectRequested(self.generation.name, packet)]
        return self._responded(packet)

    def _requested(self, packet: ProtocolRequest, compressed: bool) -> list[Event]:
        """The client speaks first. OpenStarbound is who compresses that (SB-21)."""
        settings = self._settings
        if packet.version != RETAIL.version:
            self._say(ProtocolResponse(False), compressed=compressed)
            reason = f"the client speaks version {packet.version}, not {RETAIL.version}"
            raise RemoteProtocolError(reason, self._offset(0), outcome=Outcome.REFUSED)
        self._state = State.CONNECT
        if not compressed or OPENSB.name not in settings.generations:
            self._say(ProtocolResponse(True))
            return []
        self.generation = OPENSB
        zstd = settings.compression == "zstd"
        self._output.append(_AGREED[zstd])
        if zstd:
            self._compress()
        return []

    def _responded(self, packet: HandshakeResponse) -> list[Event]:
        generation, connect, challenge = self.generation, self._connect, self._challenge
        assert generation is not None
        assert connect is not None
        assert challenge is not None
        self._state = State.VERDICT
        if self._refused is not None:
            return self._end(*self._refused)
        response = decode_legacy_response(packet.response) if generation.server_first else packet.response
        return [ResponseReceived(generation.name, connect.account, challenge.salt, challenge.rounds, response)]

    # The accepted session

    @property
    def _last_number(self) -> int:
        assert self.generation is not None
        return self.generation.number(ClientDisconnectRequest)

    def _last(self, frame: Frame) -> list[Event]:
        return [self._finish(Outcome.LEFT, "the player said goodbye")]

    # Time and the end

    def _say(self, packet: Packet, *, compressed: bool = False) -> None:
        assert self.generation is not None
        self._output.append(self.generation.encode(packet, compressed=compressed))

    def _expire(self, now: float) -> list[Event]:
        if self._state is State.OPENING and self._server_first is not None:
            deadline = self._deadline = self._handshake_deadline
            if deadline is None or now < deadline:
                # The client waits for us (SB-21).
                self._speak(self._server_first)
                return []
        if self.generation is not None and not self._speaks_first:
            return self._end(Outcome.TIMEOUT, "Handshake took too long", told=CONNECT_TIMEOUT)
        return super()._expire(now)

    def _refusal(self, outcome: Outcome, text: str) -> bytes:
        """SB-1, SB-9, SB-23: what the state has words for."""
        generation = self.generation
        if generation is None:
            return b""
        if text == NO_SUCH_ACCOUNT and self._connect is not None:
            # Only the client is told what it typed: people confuse the fields (COM-9).
            text = no_such_account(generation.name, self._connect.account)
        told = text_field(text, LONGEST).decode()
        if generation.server_first:
            if self._state is not State.VERDICT:
                return b""
            return generation.encode(ConnectionResponse(False, 0, told, celestial=b""))
        if self._state is State.REQUEST:
            return b""
        if self._state is State.SESSION:
            # Inside of a frame whose rest will not come there is no place for it.
            return generation.encode(ServerDisconnect(told)) if self._boundary.reached else b""
        return generation.encode(ConnectFailure(told))

    def _finish(self, outcome: Outcome, reason: str, offset: int | None = None) -> Any:
        self._connect = self._challenge = None
        self._kept = 0
        self._shipworld.clear()
        return super()._finish(outcome, reason, offset)


def _agreed(compression: str) -> bytes:
    info = EncodedVariant.of({"compression": compression, "openProtocolVersion": OPEN_PROTOCOL_VERSION})
    return OPENSB.encode(ProtocolResponse(True, info), compressed=True)


_AGREED: Final = {True: _agreed("Zstd"), False: _agreed("None")}
"""What OpenStarbound clients are answered, with and without zstd: a frame that is always the same (SB-21)."""
