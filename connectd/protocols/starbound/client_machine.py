"""Starbound's client: who may say what when, in each generation."""

from __future__ import annotations

import enum
from typing import Any, Final

import attrs

from connectd.protocols.starbound.encoding import Malformed
from connectd.protocols.starbound.events import ChallengeReceived, PacketReceived, PacketSent
from connectd.protocols.starbound.frames import Frame
from connectd.protocols.starbound.framing import HANDSHAKE_LIMIT, FrameMachine
from connectd.protocols.starbound.generations import GENERATIONS, OPENSB, RETAIL, SEED, Generation, guess
from connectd.protocols.starbound.hashing import MINIMUM_ROUNDS, NOT_ENOUGH_ROUNDS, encode_legacy_response
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
from connectd.protocols.starbound.settings import AUTO, StarboundClientSettings
from connectd.protocols.starbound.variant import NOTHING
from connectd.sansio import Established, Event, Outcome, Random, RemoteProtocolError, default_random
from connectd.wire import one_line

LONGEST_SALT: Final = 1024
"""Bytes of a salt that are believed (SB-20)."""


class State(enum.Enum):
    """Where a client's connection stands."""

    OPENING = "opening"
    """Waiting whether the server speaks first."""
    VERSION = "version"
    """The server speaks first, and has not."""
    PROTOCOL = "protocol"
    """We spoke first."""
    CHALLENGE = "challenge"
    """The ClientConnect is out."""
    VERDICT = "verdict"
    """The response is out, or its Decision is open."""
    SESSION = "session"

    __hash__ = object.__hash__  # that of Enum is Python


_EXPECTED: Final[dict[tuple[bool, State], tuple[type[Packet], ...]]] = {
    (True, State.VERSION): (ProtocolVersion,),
    (True, State.CHALLENGE): (HandshakeChallenge,),
    (True, State.VERDICT): (ConnectionResponse,),
    (False, State.PROTOCOL): (ProtocolResponse,),
    (False, State.CHALLENGE): (HandshakeChallenge, ConnectSuccess, ConnectFailure, ServerDisconnect),
    (False, State.VERDICT): (ConnectSuccess, ConnectFailure, ServerDisconnect),
}
"""What a server may say, by whether it speaks first, and the state."""

ANOTHER_GENERATION: Final = "; the server may be of another generation, which generation=auto finds out"
"""The way out where the first packet is not the one that was expected."""

_ANY_VERSION: Final = frozenset(one.number(ProtocolVersion) for one in GENERATIONS.values() if one.server_first)


class ClientMachine(FrameMachine):
    """The client's side of one connection.

    :param settings: the client's.
    :param player: what it says about itself. Where a UUID is needed and there is none, one is made.
    :param now: when the connection stood.
    """

    __slots__ = (
        "_guessing",
        "_handshake_deadline",
        "_player",
        "_random",
        "_settings",
        "_state",
        "client_id",
        "compression",
        "opened_with",
        "success",
    )

    def __init__(
        self, settings: StarboundClientSettings, player: ClientConnect, *, now: float, random: Random = default_random
    ) -> None:
        super().__init__(now=now, handshake_timeout=settings.handshake_timeout, frame_limit=settings.frame_limit)
        self._settings = settings
        self._player = player
        self._random = random
        self._guessing = settings.generation == AUTO
        self._handshake_deadline = self._deadline
        self.client_id: int | None = None
        self.success: ConnectSuccess | None = None
        """What else the server said at acceptance, where the client speaks first."""
        self.compression = "none"
        """What was agreed on with an OpenStarbound server: zstd or none."""
        self.opened_with: PacketSent | None = None
        """What was said before anything happened."""
        if self._guessing:
            self._state = State.OPENING
            self._deadline = now + min(settings.generation_wait, settings.handshake_timeout)
            return
        self.generation = GENERATIONS[settings.generation]
        self._state = State.VERSION
        if not self.generation.server_first:
            self.opened_with = self._request(self.generation)

    def _request(self, generation: Generation) -> PacketSent:
        """Speak first."""
        self.generation = generation
        self._state = State.PROTOCOL
        compressed = generation is OPENSB
        detail = f"version {generation.version}" + (", compressed" if compressed else "")
        return self._say(ProtocolRequest(generation.version), detail, compressed=compressed)

    # Verbs

    def respond(self, response: bytes, now: float) -> list[Event]:
        """Prove the password.

        :param response: the hash, 32 bytes (:mod:`connectd.protocols.starbound.hashing`).
        :raises LocalProtocolError: unless a ChallengeReceived is open.
        """
        self._decided(ChallengeReceived, "respond")
        assert self.generation is not None
        if self.generation.server_first:
            response = encode_legacy_response(response)
        self._state = State.VERDICT
        return [self._say(HandshakeResponse(response)), *self._advance(now)]

    def disconnect(self, now: float) -> list[Event]:
        """Leave, with a goodbye where the generation has one."""
        if self.ended:
            return []
        polite = self.generation is not None and not self.generation.server_first and self._boundary.reached
        if self.established and polite:
            self._say(ClientDisconnectRequest())
        return [self._finish(Outcome.LEFT if self.established else Outcome.ABORTED, "we left")]

    # What the server sends

    def _expected(self, number: int) -> tuple[type[Packet], int]:
        if self._state is State.OPENING:
            # The server came first.
            if number not in _ANY_VERSION:
                raise Malformed(f"packet {number}, expected was a ProtocolVersion", 0)
            self.generation = next(
                one for one in GENERATIONS.values() if one.server_first and one.number(ProtocolVersion) == number
            )
            self._state = State.VERSION
            self._deadline = self._handshake_deadline
        generation = self.generation
        assert generation is not None
        expected = _EXPECTED[generation.server_first, self._state]
        for kind in expected:
            if number == generation.number(kind):
                return kind, HANDSHAKE_LIMIT
        names = " or ".join(kind.__name__ for kind in expected)
        first = self._state in (State.VERSION, State.PROTOCOL)
        raise Malformed(f"packet {number}, expected was {names}{ANOTHER_GENERATION if first else ''}", 0)

    def _packet(self, packet: Any, size: int, compressed: bool, now: float) -> list[Event]:
        detail, events = _MEANINGS[type(packet)](self, packet, compressed)
        return [PacketReceived(type(packet).__name__, size, detail), *events]

    def _version(self, packet: ProtocolVersion, compressed: bool) -> tuple[str, list[Event]]:
        """SB-2: the versions have to be the same."""
        generation = self.generation
        assert generation is not None
        if self._guessing:
            number = generation.number(ProtocolVersion)
            found = guess(number, packet.version, self._settings.version)
            if found is None:
                raise self._refused(f"the server speaks version {packet.version}, which no generation here has")
            generation = self.generation = found
        expected = self._settings.version if generation is SEED else generation.version
        if packet.version != expected:
            ours = f"we speak {expected} ({generation.name})"
            raise self._refused(f"the server speaks version {packet.version}, {ours}{ANOTHER_GENERATION}")
        return f"version {packet.version}: {generation.name}", [self._connect()]

    def _protocol(self, packet: ProtocolResponse, compressed: bool) -> tuple[str, list[Event]]:
        """SB-21: whether the server speaks our version, and whether it is OpenStarbound."""
        if not packet.allowed:
            raise self._refused(f"the server does not speak version {RETAIL.version}")
        if self.generation is not OPENSB or not compressed:
            self.generation = RETAIL
            return "allowed", [self._connect()]
        info = {"compression": "Zstd"} if packet.info is None else packet.info.value
        compression = info.get("compression", "None") if isinstance(info, dict) else "None"
        if compression not in ("Zstd", "None"):
            raise self._refused(f"the server wants compression {one_line(repr(compression))}")
        self.compression = compression.lower()
        if compression == "Zstd":
            self._compress()
        version = info.get("openProtocolVersion") if isinstance(info, dict) else None
        detail = f"allowed, OpenStarbound, compression {self.compression}"
        if isinstance(version, int):
            detail += f", open protocol version {version}"
        return detail, [self._connect()]

    def _connect(self) -> Event:
        assert self.generation is not None
        self._state = State.CHALLENGE
        player = self._player
        if player.uuid is None and not self.generation.server_first:
            player = attrs.evolve(player, uuid=self._random(16))
        # What it brings is megabytes, and said once.
        self._player = ClientConnect(account=player.account, info=NOTHING)
        detail = f"player {player.name}" + (f", account {player.account}" if player.account else ", no account")
        return self._say(player, one_line(detail))

    def _challenged(self, packet: HandshakeChallenge, compressed: bool) -> tuple[str, list[Event]]:
        """SB-4, SB-20: what is asked of us has to be sensible."""
        generation = self.generation
        assert generation is not None
        detail = f"salt of {len(packet.salt)} bytes"
        if generation.server_first:
            detail += f", {packet.rounds} rounds"
            if packet.rounds < MINIMUM_ROUNDS:
                raise self._refused(f"{NOT_ENOUGH_ROUNDS}: the server asks for {packet.rounds}")
            if packet.rounds > self._settings.max_rounds:
                raise self._refused(
                    f"the server asks for {packet.rounds} rounds, more than max_rounds ({self._settings.max_rounds})"
                )
        elif len(packet.salt) > LONGEST_SALT:
            raise self._refused(f"the server sends a salt of {len(packet.salt)} bytes, more than {LONGEST_SALT}")
        self._state = State.VERDICT
        return detail, [ChallengeReceived(generation.name, self._player.account, packet.salt, packet.rounds)]

    def _answered(self, packet: ConnectionResponse, compressed: bool) -> tuple[str, list[Event]]:
        if not packet.success:
            return self._failed(packet, compressed)
        return f"client id {packet.client_id}", self._in(packet.client_id)

    def _succeeded(self, packet: ConnectSuccess, compressed: bool) -> tuple[str, list[Event]]:
        self.success = packet
        return f"client id {packet.client_id}, server {packet.server_uuid.hex()}", self._in(packet.client_id)

    def _in(self, client_id: int) -> list[Event]:
        self.client_id = client_id
        self._state = State.SESSION
        self.established = True
        self._deadline = None
        return [Established()]

    def _failed(self, packet: Any, compressed: bool) -> tuple[str, list[Event]]:
        reason = one_line(packet.reason)
        return f"refused: {reason}", [self._finish(Outcome.REFUSED, f"the server refuses: {reason}")]

    def _refused(self, reason: str) -> RemoteProtocolError:
        """The server is well-formed, and nobody for us."""
        return RemoteProtocolError(reason, self._offset(0), outcome=Outcome.REFUSED)

    # The accepted session

    @property
    def _last_number(self) -> int:
        assert self.generation is not None
        return self.generation.number(ServerDisconnect)

    def _last(self, frame: Frame) -> list[Event]:
        assert self.generation is not None
        try:
            reason = one_line(self.generation.decode(ServerDisconnect, frame.payload)[0].reason)
        except Malformed:
            reason = "no reason that could be read"
        return [self._finish(Outcome.LEFT, f"the server ends the session: {reason}")]

    # Time and the end

    def _say(self, packet: Packet, detail: str = "", *, compressed: bool = False) -> PacketSent:
        assert self.generation is not None
        data = self.generation.encode(packet, compressed=compressed)
        self._output.append(data)
        return PacketSent(type(packet).__name__, len(data), detail)

    def _expire(self, now: float) -> list[Event]:
        if self._state is State.OPENING:
            deadline = self._deadline = self._handshake_deadline
            if deadline is None or now < deadline:
                # The server waits for us. A retail server understands what OpenStarbound says.
                return [self._request(OPENSB)]
        return self._end(Outcome.TIMEOUT, f"the server said nothing in time ({self._state.value})")


_MEANINGS: Final[dict[type[Packet], Any]] = {
    ProtocolVersion: ClientMachine._version,
    ProtocolResponse: ClientMachine._protocol,
    HandshakeChallenge: ClientMachine._challenged,
    ConnectionResponse: ClientMachine._answered,
    ConnectSuccess: ClientMachine._succeeded,
    ConnectFailure: ClientMachine._failed,
    ServerDisconnect: ClientMachine._failed,
}
