"""Starbound's client machine in every generation: a server that says anything, in zstd or not, cut up in any way."""

from __future__ import annotations

from connectd.protocols.starbound.events import ChallengeReceived
from connectd.protocols.starbound.generations import OPENSB
from connectd.protocols.starbound.machine import ClientMachine
from connectd.protocols.starbound.packets import ClientConnect
from connectd.protocols.starbound.settings import StarboundClientSettings
from connectd.sansio import Event, Outcome
from fuzz.script import Script, cut
from fuzz.starbound_words import FRAME_LIMIT, MOST_HELD, NAMES, compress, words
from fuzz.watched import Watched, require

SETTINGS = tuple(
    StarboundClientSettings(generation=name, max_rounds=1000, frame_limit=FRAME_LIMIT) for name in (*NAMES, "auto")
)
PLAYER = ClientConnect(name="Bob", account="ann", shipworld=bytes(50))


def _machine(code: int) -> ClientMachine:
    return ClientMachine(SETTINGS[code % len(SETTINGS)], PLAYER, now=0.0, random=bytes)


def _respond(machine: ClientMachine, watched: Watched, now: float) -> list[Event]:
    decision = watched.decision
    if decision is None:
        watched.misuse(machine.respond, bytes(32), now)
        return []
    assert isinstance(decision, ChallengeReceived)
    assert machine.generation is not None
    most = 1000 if machine.generation.server_first else 0
    least = 100 if most else 0
    require(least <= decision.rounds <= most, "SB-4: a client hashes neither too little nor too much", decision.rounds)
    require(len(decision.salt) <= 4096, "SB-20: a salt is not long", len(decision.salt))
    return watched.verb(machine.respond, bytes(32), now)


def _converse(script: Script) -> None:
    machine = _machine(script.byte())
    watched, now = Watched(machine, MOST_HELD), 0.0
    while script.left and watched.ended is None:
        said = words(machine.generation or OPENSB, False)
        match script.byte() % 9:
            case 0:
                watched.feed(script.chunk(), now)
            case 1:
                watched.feed(script.chunk() * (script.byte() + 1), now)
            case 2:
                watched.feed(said[script.byte() % len(said)], now)
            case 3:
                for piece in cut(said[script.byte() % len(said)], script.take(2)):
                    watched.feed(piece, now)
            case 4:
                watched.feed(compress(said[script.byte() % len(said)]), now)
            case 5:
                now += script.byte() / 8
                watched.wake(now)
            case 6:
                _respond(machine, watched, now)
            case 7:
                watched.finish(now, clean=bool(script.byte() % 2))
            case 8 if script.byte() % 2:
                watched.verb(machine.disconnect, now)
            case 8:
                watched.verb(machine.close, Outcome.LEFT if machine.established else Outcome.SHUTDOWN, "enough", now)


def _cut_up(script: Script) -> None:
    """The same bytes mean the same, however they are cut."""
    code, sizes = script.byte(), script.take(2)
    turns = [script.chunk() for _ in range(script.byte() % 4)]
    told = []
    for pieces in ([[turn] for turn in turns], [cut(turn, sizes) for turn in turns]):
        machine = _machine(code)
        watched = Watched(machine, MOST_HELD)
        for turn in pieces:
            for piece in turn:
                watched.feed(piece, 1.0)
            while watched.decision is not None:
                _respond(machine, watched, 1.0)
        if watched.ended is None:
            watched.finish(2.0, clean=True)
        told.append((watched.events, bytes(watched.sent)))
    require(told[0] == told[1], "segmentation changes nothing", *told)


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    if script.byte() % 4:
        _converse(script)
    else:
        _cut_up(script)


def _code(name: str) -> int:
    return (*NAMES, "auto").index(name)


SEEDS = (
    bytes((1, _code("seed"), 2, 0, 2, 6, 6, 2, 10, 2, 14, 2, 15)),
    bytes((1, _code("angry-koala"), 2, 0, 2, 6, 6, 2, 12)),
    bytes((1, _code("furious-koala"), 2, 2, 2, 6, 6, 3, 10, 1, 2, 2, 14)),
    bytes((1, _code("enraged-koala"), 2, 4, 2, 8)),
    bytes((1, _code("1.4"), 2, 0, 2, 2, 6, 2, 6, 2, 12, 2, 10)),
    bytes((1, _code("opensb"), 2, 3, 4, 4, 6, 4, 8, 4, 14, 4, 12)),
    bytes((1, _code("opensb"), 2, 0, 2, 4, 6, 2, 10)),
    bytes((1, _code("auto"), 5, 30, 2, 3, 4, 4, 6, 4, 8)),
    bytes((1, _code("auto"), 0, 6)) + b"\0\x08\0\0\x02\x7c" + bytes((2, 6, 6, 8, 1)),
    bytes((0, _code("seed"), 0, 2, 2, 6)) + b"\0\x08\0\0\x02\x74" + bytes((7,)) + b"\x03\x0c\0\x01s\0\0",
)
