"""Starbound's two machines talking in memory, and what tests give them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from connectd.protocols.starbound.hashing import legacy_hash, legacy_salt, legacy_secret, modern_hash
from connectd.protocols.starbound.machine import (
    ChallengeReceived,
    ClientConnect,
    ClientMachine,
    ConnectRequested,
    ResponseReceived,
    ServerMachine,
)
from connectd.protocols.starbound.settings import StarboundClientSettings, StarboundSettings
from connectd.sansio import Ended, Established, Event, Machine

SERVER_FIRST = ("seed", "angry-koala", "furious-koala", "enraged-koala")
CLIENT_FIRST = ("1.4", "opensb")
ALL = SERVER_FIRST + CLIENT_FIRST
NOW = 1000.0
PASSWORD = b"swordfish"
ROUNDS = 100
UUID = bytes(range(16))
CLIENT_ID = 7

Segment = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data]


def of(size: int) -> Segment:
    return lambda data: [data[start : start + size] for start in range(0, len(data), size)]


def counting(count: int) -> bytes:
    """Random bytes that are not."""
    return bytes(index & 0xFF for index in range(count))


def player(account: str = "bob", **fields: Any) -> ClientConnect:
    return ClientConnect(name="Bob", species="human", uuid=UUID, account=account, **fields)


def server(*generations: str, keep_shipworld: bool = False, **fields: Any) -> ServerMachine:
    settings = StarboundSettings(generation=generations, **{"rounds": ROUNDS, **fields})
    return ServerMachine(settings, now=NOW, random=counting, keep_shipworld=keep_shipworld, server_uuid=UUID)


def client(generation: str, who: ClientConnect | None = None, **fields: Any) -> ClientMachine:
    settings = StarboundClientSettings(generation=generation, **fields)
    return ClientMachine(settings, player() if who is None else who, now=NOW, random=counting)


def proof(challenge: Any, password: bytes = PASSWORD) -> bytes:
    """The hash that a challenge or a response's Decision asks for."""
    if challenge.rounds:
        salt = legacy_salt(challenge.account, challenge.salt)
        return legacy_hash(legacy_secret(password), salt, challenge.rounds)
    return modern_hash(password, challenge.account, challenge.salt)


def take(machine: Machine, data: bytes, now: float = NOW, segment: Segment = whole) -> list[Event]:
    """Let a machine have bytes, and all the turns that it wants."""
    events: list[Event] = []
    for piece in segment(data):
        events += machine.receive_data(piece, now)
        while machine.wants_turn:
            events += machine.turn(now)
    return events


@attrs.define
class Exchange:
    """A server and a client, and what they said.

    :param password: what the client knows.
    :param refusal: what the server answers instead of yes to a ConnectRequested.
    :param segment: what the network does to each piece of data.
    """

    server: ServerMachine
    client: ClientMachine
    password: bytes = PASSWORD
    refusal: str | None = None
    segment: Segment = whole
    server_events: list[Event] = attrs.field(factory=list)
    client_events: list[Event] = attrs.field(factory=list)
    now: float = NOW

    def run(self) -> Exchange:
        """Until nothing more happens."""
        while self.step():
            pass
        return self

    def step(self) -> bool:
        """What each says now reaches the other."""
        said = self.client.data_to_send()
        self._server(take(self.server, said, self.now, self.segment) if said else [])
        answered = self.server.data_to_send()
        self._client(take(self.client, answered, self.now, self.segment) if answered else [])
        return bool(said or answered)

    def wait(self, seconds: float) -> Exchange:
        """Time passes."""
        self.now += seconds
        self._server(self.server.handle_deadline(self.now))
        self._client(self.client.handle_deadline(self.now))
        return self.run()

    def _server(self, events: list[Event]) -> None:
        machine = self.server
        while events:
            self.server_events += events
            event = events[-1]
            events = []
            if isinstance(event, ConnectRequested):
                if self.refusal is not None:
                    events = machine.refuse(self.refusal, self.now)
                elif event.account or event.generation in SERVER_FIRST:
                    events = machine.challenge(self.now)
                else:
                    events = machine.accept(CLIENT_ID, self.now)
            elif isinstance(event, ResponseReceived):
                if event.response == proof(event):
                    events = machine.accept(CLIENT_ID, self.now)
                else:
                    events = machine.refuse("wrong", self.now)

    def _client(self, events: list[Event]) -> None:
        while events:
            self.client_events += events
            event = events[-1]
            events = []
            if isinstance(event, ChallengeReceived):
                events = self.client.respond(proof(event, self.password), self.now)

    @property
    def established(self) -> tuple[bool, bool]:
        return self.server.established, self.client.established

    @property
    def ends(self) -> list[Ended]:
        return [one for one in self.server_events + self.client_events if isinstance(one, Ended)]


def exchange(generation: str, listener: tuple[str, ...] = (), account: str = "bob", **fields: Any) -> Exchange:
    """A login in one generation."""
    return Exchange(server(*(listener or (generation,))), client(generation, player(account)), **fields)


def accepted(generation: str, **fields: Any) -> Exchange:
    """A session that stands."""
    result = exchange(generation, **fields).run()
    assert result.established == (True, True), result.ends
    assert any(isinstance(event, Established) for event in result.server_events)
    result.server_events.clear()
    result.client_events.clear()
    return result
