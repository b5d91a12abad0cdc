"""Client to client: either side with a peer that says anything, and both sides with each other."""

from __future__ import annotations

from connectd.protocols.lekt.conversation import MAXIMUM_PART, ConversationMachine, Message
from connectd.sansio import Ended, Established, Event, Outcome, Received
from fuzz.script import Script, chunk, cut
from fuzz.watched import Watched, require

MOST_INPUT = MAXIMUM_PART + 12

CALL = b"LEKTH\0\0\0Ann\0"
ANSWER = b"LEKTA\0\0\0Bob\0"
CONFIRMATION = b"LEKTA\0\0\0"
REFUSAL = b"LEKTR\0\0\0go away\0"
MESSAGE = Message(7, 0, b"hello").encode()
WORDS = (CALL, ANSWER, CONFIRMATION, REFUSAL, MESSAGE, CALL + CONFIRMATION + MESSAGE, ANSWER + MESSAGE)


def _watched(calling: bool, name: str = "me") -> Watched:
    return Watched(ConversationMachine(name, calling=calling, now=0.0), MOST_INPUT)


def _accept(watched: Watched, now: float) -> list[Event]:
    machine = watched.machine
    assert isinstance(machine, ConversationMachine)
    return watched.verb(machine.accept, now)


def _check_output(watched: Watched, calling: bool, messages: int) -> None:
    """What it said: its name, at most one word of consent or refusal, and messages after consent only."""
    rest = bytes(watched.sent)
    established = any(isinstance(event, Established) for event in watched.events)
    if calling:
        require(rest.startswith(b"LEKTH\0\0\0me\0"), "who calls names itself first", rest)
        rest = rest[11:]
    if rest.startswith(b"LEKTA\0\0\0"):
        rest = rest[8:] if calling else rest.removeprefix(b"LEKTA\0\0\0me\0")
    if established:
        require(len(rest) == messages, "after consent there are messages", rest, messages)
    elif rest:
        require(
            rest.startswith(b"LEKTR\0\0\0") and rest.find(b"\0", 8) == len(rest) - 1, "or a refusal, the last", rest
        )
        require(len(rest) <= 8 + 255 + 1, "a reason is at most 255 bytes", rest)
        rest[8:-1].decode("utf-8")


def _alone(script: Script) -> None:
    """One side, and anything."""
    calling = bool(script.byte() % 2)
    watched = _watched(calling)
    machine, now, messages = watched.machine, 0.0, 0
    assert isinstance(machine, ConversationMachine)
    while script.left and watched.ended is None:
        match script.byte() % 10:
            case 0 | 1:
                watched.feed(script.chunk(), now)
            case 2:
                watched.feed(script.chunk() * (script.byte() + 1), now)
            case 3:
                watched.feed(WORDS[script.byte() % len(WORDS)], now)
            case 4:
                for piece in cut(WORDS[script.byte() % len(WORDS)], script.take(1)):
                    watched.feed(piece, now)
            case 5 if watched.decision is not None:
                _accept(watched, now)
            case 5 | 6 if watched.decision is None:
                watched.misuse(machine.accept, now)
            case 6:
                watched.verb(machine.refuse, script.chunk().decode("utf-8", "replace").strip() or "no", now)
            case 7:
                now += script.byte() - 20
                watched.wake(now)
            case 8:
                message = Message(1, 2, script.chunk())
                if machine.established:
                    machine.send(message, now)
                    messages += len(message.encode())
                    watched.wake(now)
                else:
                    watched.misuse(machine.send, message, now)
            case 9:
                outcome = Outcome.LEFT if machine.established else Outcome.SHUTDOWN
                watched.verb(machine.close, outcome, "enough", now)
    if watched.ended is None:
        watched.finish(now, clean=bool(script.byte() % 2))
    _check_output(watched, calling, messages)


def _cut_up(script: Script) -> None:
    """The same bytes mean the same, however they are cut."""
    calling, sizes = bool(script.byte() % 2), script.take(2)
    data = script.rest()
    whole, pieces = _watched(calling), _watched(calling)
    for watched, parts in ((whole, [data]), (pieces, cut(data, sizes))):
        for part in parts:
            watched.feed(part, 1.0)
            if watched.decision is not None:
                _accept(watched, 1.0)
        if watched.ended is None:
            watched.finish(2.0, clean=True)
    require(whole.events == pieces.events, "segmentation changes nothing", whole.events, pieces.events)
    require(whole.sent == pieces.sent, "segmentation changes nothing", whole.sent, pieces.sent)


def _together(script: Script) -> None:
    """Two sides that are honest understand each other, however their bytes are cut."""
    sides = (_watched(True, "Ann"), _watched(False, "Bob"))
    passed = [0, 0]
    said: tuple[list[Message], list[Message]] = ([], [])

    def exchange(sizes: bytes) -> None:
        moved = True
        while moved:
            moved = False
            for index, side in enumerate(sides):
                fresh = bytes(side.sent[passed[index] :])
                passed[index] += len(fresh)
                moved = moved or bool(fresh)
                other = sides[1 - index]
                for piece in cut(fresh, sizes):
                    other.feed(piece, 1.0)
                    if other.decision is not None:
                        _accept(other, 1.0)

    sizes = script.take(2)
    exchange(sizes)
    require(all(side.machine.established for side in sides), "both agree")
    while script.left:
        index = script.byte() % 2
        message = Message(script.byte(), script.byte(), script.chunk() * (script.byte() + 1))
        said[index].append(message)
        sides[index].machine.send(message, 1.0)
        sides[index].wake(1.0)
    exchange(sizes)
    for index, side in enumerate(sides):
        heard = [event.message for event in sides[1 - index].events if isinstance(event, Received)]
        require(heard == said[index], "what is said is heard", heard, said[index])
        require(not any(isinstance(event, Ended) for event in side.events), "nobody hangs up")


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    match script.byte() % 4:
        case 0:
            _together(script)
        case 1:
            _cut_up(script)
        case _:
            _alone(script)


SEEDS = (
    b"\0\0\3\1\7\0" + chunk(b"hello") + b"\1\0\1\0" + chunk(b"") + b"\0",
    b"\1\0\0\0" + CALL + CONFIRMATION + MESSAGE,
    b"\1\0\0\0" + CALL + bytes(5) + CONFIRMATION + MESSAGE,
    b"\1\1\2\3" + ANSWER + b"\0\0\0" + MESSAGE * 3,
    b"\2\0\3\0\5\3\2\3\4\x08" + chunk(b"you too") + b"\7\0",
    b"\2\1\3\1\5\3\4\x09",
    b"\2\1\3\3",
    b"\2\0\3\0\6" + chunk(b"no, \xe2\x82\xac"),
    b"\2\0\3\0\6" + chunk(b"no" + "\N{EURO SIGN}".encode() * 84),
    b"\2\0\2" + chunk(CALL[:9] + b"x" * 40) + b"\2\7\x64",
)
