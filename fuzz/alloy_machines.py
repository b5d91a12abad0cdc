"""Alloy's two machines, each with another side that says anything at any time."""

from __future__ import annotations

from uuid import UUID

from connectd.protocols.alloy import packets as alloy
from connectd.protocols.alloy.client_machine import (
    ClientMachine,
    GrantReceived,
    PasswordRequested,
    ServerTokenReceived,
    WorldOffered,
    make_connect,
)
from connectd.protocols.alloy.fields import Asset
from connectd.protocols.alloy.packets import Disconnect
from connectd.protocols.alloy.server_machine import (
    AccessPresented,
    AssetsRequested,
    IdentityPresented,
    PasswordPresented,
    ServerMachine,
)
from connectd.protocols.alloy.settings import AlloyClientSettings, AlloySettings
from connectd.protocols.alloy.world import World
from connectd.sansio import Ended, Event, Outcome
from fuzz.script import Script, chunk, cut
from fuzz.watched import Watched, require

MOST_INPUT = 200_000
"""Before PLAY 64 KiB (AL-14); in it the largest packet that is allowed, and what came with it."""
PLAYER = UUID(int=0x00112233445566778899AABBCCDDEEFF)
ASSETS = (Asset("1" * 64, "one"), Asset("2" * 64, "two"))
WORLD = World(320, PLAYER, ASSETS)
TOKEN = "jwt"
CONNECT = alloy.Connect(uuid=PLAYER, username="ann")

WORDS = tuple(
    packet.encode()
    for packet in (
        CONNECT,
        alloy.Connect(uuid=PLAYER, username="ann", identity_token=TOKEN),
        alloy.Connect2(uuid=PLAYER, username="ann"),
        alloy.PasswordResponse(bytes(32)),
        alloy.AuthToken("a", "b"),
        alloy.ClientReady(),
        alloy.RequestAssets(ASSETS),
        alloy.RequestAssets(),
        alloy.Pong(0),
        Disconnect(0, "bye"),
        alloy.GamePacket(200, b"game"),
        alloy.ConnectAccept(bytes(32)),
        alloy.AuthGrant("g", "i"),
        alloy.PasswordAccepted(),
        alloy.PasswordRejected(2, bytes(32)),
        alloy.PasswordRejected(0),
        alloy.ServerAuthToken(),
        alloy.ServerAuthToken("a"),
        alloy.SetClientId(1),
        alloy.JoinWorld(1, 1, PLAYER),
        alloy.WorldSettings(320, ASSETS),
        alloy.AssetInitialize(3, ASSETS[0]),
        alloy.AssetPart(b"abc"),
        alloy.AssetFinalize(),
        alloy.WorldLoadFinished(),
        alloy.Ping(0),
    )
)


def _server(choice: int) -> ServerMachine:
    settings = AlloySettings(order="observed" if choice & 1 else "seed", game_packet_size=1000)
    return ServerMachine(
        settings,
        WORLD,
        1,
        profile="hytale/2" if choice & 2 else "hytale/1",
        asks_password=not choice & 4,
        takes_game_packets=bool(choice & 8),
        now=0.0,
        random=bytes,
    )


def _client(choice: int) -> ClientMachine:
    settings = AlloyClientSettings(
        order="observed" if choice & 1 else "seed",
        profile="hytale/2" if choice & 2 else "hytale/1",
        game_packet_size=1000,
    )
    token = TOKEN if choice & 4 else None
    return ClientMachine(settings, make_connect(settings, "ann", PLAYER, identity_token=token), now=0.0)


def _decide(watched: Watched, now: float, choice: int) -> list[Event]:
    """A verb for the Decision that is open, or a no to it."""
    machine, decision = watched.machine, watched.decision
    if choice % 4 == 0:
        return watched.verb(machine.refuse, "no", now)
    if isinstance(machine, ServerMachine):
        match decision:
            case IdentityPresented():
                return watched.verb(machine.grant, "g", "i", now)
            case AccessPresented():
                return watched.verb(machine.server_token, "t", now)
            case PasswordPresented():
                return watched.verb(machine.reject if choice % 4 == 1 else machine.accept, now)
    elif isinstance(machine, ClientMachine):
        match decision:
            case PasswordRequested():
                return watched.verb(machine.respond, b"swordfish", now)
            case GrantReceived():
                return watched.verb(machine.present, "a", "g", now)
            case ServerTokenReceived():
                return watched.verb(machine.trust, now)
            case WorldOffered(settings):
                wanted = tuple(dict.fromkeys(settings.required_assets or ()))[: choice % 4]
                return watched.verb(machine.request, wanted, now)
    raise AssertionError(decision)


def _transfer(watched: Watched, events: list[Event], now: float) -> None:
    """Send what was asked for."""
    machine = watched.machine
    for event in events:
        if isinstance(event, AssetsRequested) and isinstance(machine, ServerMachine) and not machine.ended:
            for asset in event.assets:
                watched.verb(machine.begin_asset, asset, 3, now)
                watched.verb(machine.asset_part, WORDS[-4], 3, now)
                watched.verb(machine.end_asset, now)
            watched.verb(machine.finish_assets, now)


def _check_output(sent: bytes, machine: ServerMachine | ClientMachine) -> None:
    """Whole packets, each of which can be read again; a Disconnect is the last."""
    place = 0
    while place < len(sent):
        length, identifier = (int.from_bytes(sent[place + at : place + at + 4], "little") for at in (0, 4))
        end = place + 8 + length
        require(end <= len(sent), "whole packets are said", sent[place:])
        alloy.decode(identifier, sent[place + 8 : end], machine.profile)
        require(identifier != Disconnect.layout.id or end == len(sent), "a Disconnect is the last word")
        place = end


def _converse(script: Script, machine: ServerMachine | ClientMachine) -> None:
    watched, now = Watched(machine, MOST_INPUT), 0.0
    while script.left and watched.ended is None:
        events: list[Event] = []
        match script.byte() % 8:
            case 0:
                events = watched.feed(script.chunk(), now)
            case 1:
                events = watched.feed(script.chunk() * (script.byte() + 1), now)
            case 2 | 3:
                events = watched.feed(WORDS[script.byte() % len(WORDS)], now)
            case 4:
                for piece in cut(WORDS[script.byte() % len(WORDS)], script.take(1)):
                    events += watched.feed(piece, now)
            case 5:
                now += script.byte() - 20
                events = watched.wake(now)
            case 6:
                if watched.decision is not None:
                    events = _decide(watched, now, script.byte())
                elif isinstance(machine, ServerMachine):
                    watched.misuse(machine.accept, now)
                else:
                    watched.misuse(machine.respond, b"x", now)
            case 7:
                if script.byte() % 2:
                    events = watched.finish(now, clean=bool(script.byte() % 2))
                else:
                    outcome = Outcome.KICKED if machine.established else Outcome.SHUTDOWN
                    events = watched.verb(machine.close, outcome, "enough", now)
        _transfer(watched, events, now)
    _check_output(bytes(watched.sent), machine)


def _cut_up(script: Script, choice: int) -> None:
    """The same bytes mean the same, however they are cut."""
    make = _server if choice & 16 else _client
    sizes, data = script.take(2), script.rest()
    whole, pieces = (Watched(make(choice), MOST_INPUT) for _ in range(2))
    for watched, parts in ((whole, [data]), (pieces, cut(data, sizes))):
        for part in parts:
            watched.feed(part, 1.0)
        while watched.decision is not None:
            _transfer(watched, _decide(watched, 1.0, 2), 1.0)
    if len(data) < MOST_INPUT // 4:
        require(whole.sent == pieces.sent, "segmentation changes nothing", whole.sent, pieces.sent)
    for watched in (whole, pieces):
        if watched.ended is None:
            watched.finish(2.0, clean=True)
        require(isinstance(watched.events[-1], Ended), "it ends")


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    kind, choice = script.byte() % 4, script.byte()
    if kind == 0:
        _cut_up(script, choice)
    else:
        _converse(script, _server(choice) if kind < 3 else _client(choice))


SEEDS = (
    b"\1\0\2\0\2\3\6\2\2\5\2\6\2\10\2\5",
    b"\1\1\2\0\2\3\6\1\2\3\6\2\2\7\2\5",
    b"\1\4\2\1\6\2\2\4\6\2\2\5",
    b"\1\0\4\0\7\2\3\6\1\2\3\6\1\2\3\6\1",
    b"\1\10\2\0\2\3\6\2\2\12\5\40\5\40\5\140",
    b"\3\0\2\13\6\1\2\15\2\20\2\22\2\23\2\24\6\1\2\25\2\26\2\27\2\30\2\31",
    b"\3\4\2\14\6\1\2\21\6\1\2\24\6\2\2\30",
    b"\3\0\2\13\6\1\2\16\6\1\2\17\2\11",
    b"\0\20\3\7" + WORDS[0] + WORDS[3] + WORDS[5] + WORDS[7],
    b"\0\0\3\7" + WORDS[11] + WORDS[13] + WORDS[16],
    b"\1\0\0" + chunk(b"\xff\xff\xff\xff\0\0\0\0"),
)
