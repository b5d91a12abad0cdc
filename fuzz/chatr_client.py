"""Chatr's client machine, fed by any server (CH-1, CH-5 to CH-9)."""

from __future__ import annotations

from ipaddress import IPv4Address
from uuid import UUID

from connectd.protocols.chatr.machine import ClientMachine
from connectd.protocols.chatr.packets import MAXIMUM_STRING
from connectd.protocols.chatr.settings import ChatrClientSettings
from connectd.sansio import Event, Outcome
from fuzz.chatr_output import frames
from fuzz.chatr_server import WORDS as CLIENT_WORDS
from fuzz.chatr_server import _frame
from fuzz.script import Script, chunk, cut
from fuzz.watched import Watched, require

UUIDS = (UUID(int=1), UUID(int=2))
SETTINGS = ChatrClientSettings()
MOST_INPUT = 8192 + 5
PRIVATE = IPv4Address("10.0.0.7")
NOW = 1000.0

WORDS = (
    b"\x01\x02",
    b"\x09\x03" + bytes(range(8)),
    _frame(b"\1\3bye"),
    *(_frame(bytes((opcode,)) + UUIDS[1].bytes + b"\4" + bytes((10, 0, 0, 8))) for opcode in (5, 6, 8)),
    _frame(b"\7" + UUIDS[1].bytes),
    _frame(b"\1" + bytes((MAXIMUM_STRING & 0x7F | 0x80, MAXIMUM_STRING >> 7)) + b"x" * MAXIMUM_STRING),
    *CLIENT_WORDS[-7:],
)


def _machine() -> Watched:
    return Watched(ClientMachine(SETTINGS, UUIDS[0], b"signature", now=NOW), MOST_INPUT)


def _read(watched: Watched) -> None:
    """What it said, by a second reader."""
    machine = watched.machine
    said = frames(bytes(watched.sent))
    for index, (opcode, _) in enumerate(said):
        require(opcode in (0, 1, 4, 5, 6, 7), "only what a client may say", opcode)
        require((opcode == 0) == (index == 0), "CH-1: Connect is first, and said once", opcode, index)
        require(opcode != 1 or index == len(said) - 1, "nothing follows Disconnect", said)
        require(opcode in (0, 1) or machine.established, "requests come after Connected", opcode)


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    watched, fed, now = _machine(), b"", NOW
    machine = watched.machine
    assert isinstance(machine, ClientMachine)
    quiet = True  # as long as only bytes came, cutting them up differently changes nothing
    if script.byte() & 1:
        watched.verb(machine.transport_ready, now)
    while script.left:
        code = script.byte()
        match code % 8:
            case 0 | 1 | 2:
                word = WORDS[code // 8 % len(WORDS)] if code % 8 else script.chunk() * (1 + code // 64 * 16)
                for start in range(0, len(word), MOST_INPUT // 2):
                    piece = word[start : start + MOST_INPUT // 2]
                    fed += piece if watched.ended is None else b""
                    watched.feed(piece, now)
            case 3:
                now += script.byte() / 4
                quiet = False
                watched.wake(now)
            case 4:
                quiet = False
                watched.verb(machine.transport_ready, now)
            case 5:
                quiet = False
                if machine.established and watched.ended is None:
                    watched.verb(machine.request, UUIDS[1], PRIVATE, now)
                    watched.verb(machine.accept_request, UUIDS[1], PRIVATE, now)
                    watched.verb(machine.deny_request, UUIDS[1], now)
                else:
                    watched.misuse(machine.request, UUIDS[1], PRIVATE, now)
            case 6 if watched.ended is None:
                quiet = False
                if code & 64:
                    watched.finish(now, clean=bool(code & 32))
                else:
                    outcome = Outcome.LEFT if machine.established else Outcome.SHUTDOWN
                    watched.verb(machine.close, outcome, "enough", now)
            case _:
                pass
        _read(watched)
    if quiet and data and data[0] & 1:
        _cut_differently(watched, fed, bytes((len(data) % 7, len(data) % 3)))


def _cut_differently(watched: Watched, fed: bytes, sizes: bytes) -> None:
    again = _machine()
    machine = again.machine
    assert isinstance(machine, ClientMachine)
    again.verb(machine.transport_ready, NOW)
    events: list[Event] = []
    for piece in cut(fed, sizes):
        if again.ended is None:
            events += again.feed(piece, NOW)
    before, after = [one.events for one in (watched, again)]
    require(before == after, "segmentation changes nothing", before, after)
    require(watched.sent == again.sent, "segmentation changes nothing", watched.sent, again.sent)


SEEDS = (
    b"\1\1\x09\x19\x21\x29\x31\x05\x11",
    b"\1\1\x09\x03\x20\x09\x03\x7f\x03\x7f",
    b"\1\1\0" + chunk(b"\x09\x03") + b"\0" + chunk(bytes(8)) + b"\x26",
    b"\0\1",
    b"\1\x11",
    b"\1\1\x39\x46",
    b"\1\1\xc0" + chunk(b"\x80\x40" + bytes(200)),
)
