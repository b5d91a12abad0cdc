"""A machine with a test on its other side, and both machines with nothing between them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from connectd.protocols.alloy.client_machine import ClientMachine, PasswordRequested, WorldOffered, make_connect
from connectd.protocols.alloy.fields import Asset
from connectd.protocols.alloy.packets import AssetPart, Connect, Packet, PasswordResponse, decode
from connectd.protocols.alloy.server_machine import AssetsRequested, PasswordPresented, ServerMachine, password_hash
from connectd.protocols.alloy.settings import AlloyClientSettings, AlloySettings
from connectd.protocols.alloy.world import World
from connectd.sansio import Ended, Event

NOW = 1_790_000_000.0
PLAYER = UUID("00112233-4455-6677-8899-aabbccddeeff")
WORLD = UUID("aaaaaaaa-0000-4000-8000-000000000001")
PASSWORD = b"swordfish"
CONTENTS = {
    Asset("5" * 64, "first"): b"one",
    Asset("6" * 64, "dir/second"): b"",
    Asset("7" * 64, "third"): bytes(1000),
}
ASSETS = tuple(CONTENTS)
CONNECT = Connect(uuid=PLAYER, username="ann", language="en")


class Counting:
    """Random bytes that are never the same twice, and tell how often they were asked for."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(size, "big")


def packets(wire: bytes, profile: str = "hytale/1") -> list[Any]:
    """What whole frames say; fails where one is not whole."""
    found = []
    while wire:
        length, identifier = struct.unpack_from("<ii", wire)
        assert len(wire) >= 8 + length, wire
        found.append(decode(identifier, wire[8 : 8 + length], profile))
        wire = wire[8 + length :]
    return found


def frame(identifier: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """A frame, with a length that may be a lie."""
    return struct.pack("<ii", len(payload) if length is None else length, identifier) + payload


class ServerSide:
    """A server machine, and what came of what it was told."""

    def __init__(
        self,
        *,
        assets: Iterable[Asset] = ASSETS,
        profile: str = "hytale/1",
        asks_password: bool = True,
        takes_game_packets: bool = False,
        **settings: Any,
    ) -> None:
        self.now = NOW
        self.random = Counting()
        self.machine = ServerMachine(
            AlloySettings(**settings),
            World(320, WORLD, assets),
            7,
            profile=profile,
            asks_password=asks_password,
            takes_game_packets=takes_game_packets,
            now=NOW,
            random=self.random,
        )
        self.events: list[Event] = []
        self.said: list[Any] = []

    def hear(self, *what: Packet | bytes) -> list[Event]:
        """The client says this."""
        data = b"".join(one if isinstance(one, bytes) else one.encode() for one in what)
        return self._note(self.machine.receive_data(data, self.now))

    def do(self, verb: Callable[..., list[Event]], *arguments: Any) -> list[Event]:
        """A verb of the machine."""
        return self._note(verb(*arguments, self.now))

    def wait(self, seconds: float) -> list[Event]:
        """Time passes, and the deadline is looked at."""
        self.now += seconds
        return self._note(self.machine.handle_deadline(self.now))

    def _note(self, events: list[Event]) -> list[Event]:
        self.events += events
        self.said += packets(self.machine.data_to_send())
        return events

    @property
    def ended(self) -> Ended | None:
        return next((event for event in self.events if isinstance(event, Ended)), None)

    # The way in

    @property
    def challenge(self) -> bytes:
        """The latest one."""
        for packet in reversed(self.said):
            challenge = getattr(packet, "password_challenge", None) or getattr(packet, "new_challenge", None)
            if isinstance(challenge, bytes):
                return challenge
        raise AssertionError("no challenge was said")

    def answer(self, password: bytes = PASSWORD) -> list[Event]:
        """The client answers the challenge."""
        return self.hear(PasswordResponse(password_hash(self.challenge, password)))

    def login(self, connect: Packet = CONNECT) -> ServerSide:
        """All the way to PLAY."""
        self.hear(connect)
        self.answer()
        self.do(self.machine.accept)
        assert self.machine.established
        return self

    def send_assets(self, assets: Sequence[Asset]) -> None:
        """What a listener does."""
        for asset in assets:
            self.do(self.machine.begin_asset, asset, len(CONTENTS[asset]))
            if CONTENTS[asset]:
                self.do(self.machine.asset_part, AssetPart(CONTENTS[asset]).encode(), len(CONTENTS[asset]))
            self.do(self.machine.end_asset)
        self.do(self.machine.finish_assets)


class Pair:
    """Both machines, and whoever drives them: in good order, unless a test says otherwise."""

    def __init__(self, *, password: bytes = PASSWORD, **settings: Any) -> None:
        shared = {name: settings.pop(name) for name in ("profile", "order") if name in settings}
        self.server = ServerSide(
            profile=shared.get("profile", "hytale/1"), order=shared.get("order", "seed"), **settings
        )
        client_settings = AlloyClientSettings(**shared)
        self.now = NOW
        self.client = ClientMachine(client_settings, make_connect(client_settings, "ann", PLAYER), now=NOW)
        self.password = password
        self.client_events: list[Event] = []

    def run(self) -> Pair:
        """Until neither has more to say."""
        server = self.server
        while True:
            said = self.client.data_to_send()
            if said:
                self._server(server.machine.receive_data(said, self.now))
            answer = server.machine.data_to_send()
            if answer:
                self._client(self.client.receive_data(answer, self.now))
            if not said and not answer:
                return self

    def _server(self, events: list[Event]) -> None:
        machine = self.server.machine
        for event in events:
            self.server.events.append(event)
            if isinstance(event, PasswordPresented):
                right = event.hash == password_hash(event.challenge, PASSWORD)
                self._server(machine.accept(self.now) if right else machine.reject(self.now))
            elif isinstance(event, AssetsRequested):
                for asset in event.assets:
                    machine.begin_asset(asset, len(CONTENTS[asset]), self.now)
                    if CONTENTS[asset]:
                        machine.asset_part(AssetPart(CONTENTS[asset]).encode(), len(CONTENTS[asset]), self.now)
                    machine.end_asset(self.now)
                self._server(machine.finish_assets(self.now))

    def _client(self, events: list[Event]) -> None:
        for event in events:
            self.client_events.append(event)
            if isinstance(event, PasswordRequested):
                self._client(self.client.respond(self.password, self.now))
            elif isinstance(event, WorldOffered):
                self._client(self.client.request(event.settings.required_assets or (), self.now))
