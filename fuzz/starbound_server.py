"""Starbound's server machine in every generation: a client that says anything, in zstd or not, cut up in any way."""

from __future__ import annotations

from connectd.protocols.starbound.events import ConnectRequested, ResponseReceived, ShipworldReceived
from connectd.protocols.starbound.generations import OPENSB
from connectd.protocols.starbound.machine import ServerMachine
from connectd.protocols.starbound.settings import StarboundSettings
from connectd.sansio import Decision, Ended, Event, Outcome
from fuzz.script import Script, chunk, cut
from fuzz.starbound_words import FRAME_LIMIT, MOST_HELD, NAMES, compress, words
from fuzz.watched import Watched, require

LISTENERS = (*((name,) for name in NAMES), ("1.4", "opensb"), ("seed", "1.4", "opensb"))
SETTINGS = tuple(
    StarboundSettings(
        generation=listener, rounds=100, client_connect_limit=20_000, frame_limit=FRAME_LIMIT, compression=compression
    )
    for listener in LISTENERS
    for compression in ("zstd", "none")
)


def _machine(code: int) -> ServerMachine:
    return ServerMachine(SETTINGS[code % len(SETTINGS)], now=0.0, random=bytes, keep_shipworld=bool(code & 128))


def _check(machine: ServerMachine, watched: Watched, event: Event) -> None:
    if isinstance(event, ShipworldReceived):
        require(machine._keep_shipworld, "SB-8: an unwanted shipworld is dropped")
        require(0 < len(event.data) <= 16_384, "SB-8: the shipworld comes in pieces", len(event.data))
    if isinstance(event, ResponseReceived) and machine.generation is not None:
        require(bool(event.rounds) == machine.generation.server_first, "SB-4, SB-20: the challenge fits", event.rounds)
    if isinstance(event, Ended) and machine.generation is not None and machine.generation.server_first:
        answered = any(isinstance(one, ResponseReceived) for one in watched.events)
        require(answered or machine._refused or not machine.client_id, "SB-1: nobody comes in unasked")


def _converse(script: Script) -> None:
    machine = _machine(script.byte())
    watched, now = Watched(machine, MOST_HELD), 0.0
    while script.left and watched.ended is None:
        events: list[Event] = []
        generation = machine.generation
        said = words(generation or OPENSB, True)
        match script.byte() % 10:
            case 0:
                events = watched.feed(script.chunk(), now)
            case 1:
                events = watched.feed(script.chunk() * (script.byte() + 1), now)
            case 2:
                events = watched.feed(said[script.byte() % len(said)], now)
            case 3:
                for piece in cut(said[script.byte() % len(said)], script.take(2)):
                    events += watched.feed(piece, now)
            case 4:
                events = watched.feed(compress(said[script.byte() % len(said)]), now)
            case 5:
                now += script.byte() / 8
                events = watched.wake(now)
            case 6 | 7:
                events = _verb(machine, watched, script.byte(), now)
            case 8:
                events = watched.finish(now, clean=bool(script.byte() % 2))
            case 9:
                outcome = Outcome.KICKED if machine.established else Outcome.SHUTDOWN
                events = watched.verb(machine.close, outcome, "enough", now)
        for event in events:
            _check(machine, watched, event)


def _verb(machine: ServerMachine, watched: Watched, code: int, now: float) -> list[Event]:
    decision = watched.decision
    if isinstance(decision, ConnectRequested):
        server_first = machine.generation is not None and machine.generation.server_first
        if code % 4 == 3:
            return watched.verb(machine.refuse, "no", now)
        if server_first or decision.account:
            watched.misuse(machine.accept, 1, now)
            return watched.verb(machine.challenge, now)
        watched.misuse(machine.challenge, now)
        return watched.verb(machine.accept, 1, now)
    if isinstance(decision, ResponseReceived):
        return watched.verb(machine.refuse, "no", now) if code % 4 == 3 else watched.verb(machine.accept, 7, now)
    watched.misuse(machine.accept, 1, now)
    watched.misuse(machine.challenge, now)
    watched.misuse(machine.refuse, "no", now)
    if machine.established:
        machine.send(b"\x14\x06abc", now)
        watched.verb(list)
    else:
        watched.misuse(machine.send, b"", now)
    return []


def _answer(machine: ServerMachine, watched: Watched) -> None:
    while watched.decision is not None:
        _verb(machine, watched, 0, 1.0)


def _lasting(events: list[Event]) -> list[Event]:
    """Without the Decision that a packet before its time took back: where both come at once it is not told at all."""
    match events:
        case [*others, Decision(), Ended(reason="a packet before its time") as ended]:
            return [*others, ended]
    return events


def _cut_up(script: Script) -> None:
    """The same bytes mean the same, however they are cut."""
    code, sizes = script.byte() & 127, script.take(2)
    turns = [script.chunk() for _ in range(script.byte() % 4)]
    said = words(OPENSB, True)
    turns += [said[number % len(said)] for number in script.rest()[:8]]
    told = []
    for pieces in ([[turn] for turn in turns], [cut(turn, sizes) for turn in turns]):
        machine = _machine(code)
        watched = Watched(machine, MOST_HELD)
        for turn in pieces:
            for piece in turn:
                watched.feed(piece, 1.0)
            _answer(machine, watched)
        if watched.ended is None:
            watched.finish(2.0, clean=True)
        told.append((_lasting(watched.events), bytes(watched.sent)))
    require(told[0] == told[1], "segmentation changes nothing", *told)


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    if script.byte() % 4:
        _converse(script)
    else:
        _cut_up(script)


def _code(*generations: str, compression: str = "zstd") -> int:
    return 2 * LISTENERS.index(generations) + (compression == "none")


SEEDS = (
    *(bytes((1, _code(name), 2, 0, 2, 1, 6, 0, 2, 4, 6, 0, 2, 8, 2, 9, 8, 1)) for name in NAMES if name[0] not in "1o"),
    bytes((1, _code("1.4"), 2, 0, 2, 2, 6, 0, 2, 6, 6, 0, 2, 10, 2, 11, 2, 8)),
    bytes((1, _code("opensb"), 2, 1, 4, 2, 6, 0, 4, 6, 6, 0, 4, 10, 4, 11, 4, 12, 4, 8)),
    bytes((1, _code("opensb", compression="none"), 2, 1, 3, 2, 3, 7, 6, 0, 2, 6, 6, 3)),
    bytes((1, 128 | _code("opensb"), 2, 1, 4, 4, 6, 0, 9)),
    bytes((1, _code("seed", "1.4", "opensb"), 5, 3, 2, 0, 6, 3, 5, 255)),
    bytes((1, _code("seed"), 2, 0, 6, 3, 2, 4)),
    bytes((0, _code("1.4"), 0, 3, 0)) + bytes((0, 2, 6, 10, 11, 12)),
    bytes((0, _code("opensb"), 2, 2, 1)) + chunk(b"\x00\x08\x00\x00\x02\xeb") + bytes((2, 6)),
)
