"""LEKT's client machine: a server that says anything, cut up in any way."""

from __future__ import annotations

import struct
from collections import Counter

from connectd.protocols.lekt.machine import ClientMachine, Updated
from connectd.protocols.lekt.packets import Entry
from connectd.protocols.lekt.settings import LektClientSettings
from connectd.sansio import Ended, Event, Outcome
from fuzz.script import Script, chunk, cut
from fuzz.watched import Watched, require

MOST_CLIENTS = 40
MOST_INPUT = 4096 + 20
SETTINGS = (
    LektClientSettings(port=4000, maximum_clients=MOST_CLIENTS),
    LektClientSettings(maximum_clients=MOST_CLIENTS),
)

ACCEPT = b"LEKTA\0\0\0"
REQUEST = b"LEKTT\0\0\0" + struct.pack(">I", 1)
LAST_REQUEST = b"LEKTT\0\0\0" + struct.pack(">I", 0)
REJECT = b"LEKTR\0\0\0The server is full\0\0"
JOINED = ACCEPT + REQUEST + LAST_REQUEST
ADDITION = b"LEKTH\0\0\0" + struct.pack(">qI", 7, ord("A") << 24 | 2)
ADDITION += struct.pack(">I4sIIIII", 12, b"\x0a\0\0\1", 1, 4000, 8, 0x0A000002, 77)
REMOVAL = b"LEKTH\0\0\0" + struct.pack(">qI4s", 8, ord("R") << 24 | 1, b"\x0a\0\0\1")
NOTHING = b"LEKTH\0\0\0" + struct.pack(">qI", 9, ord("A") << 24)
WORDS = (ACCEPT, REQUEST, LAST_REQUEST, REJECT, JOINED, ADDITION, REMOVAL, NOTHING, REMOVAL + NOTHING)


class _Client:
    """A client, and what it was told by its own machine."""

    def __init__(self, settings: LektClientSettings) -> None:
        self.machine = ClientMachine(settings, now=0.0)
        self.watched = Watched(self.machine, MOST_INPUT)
        self.told: Counter[Entry] = Counter()
        self._settings = settings
        self._beats = 0

    def heartbeat(self, now: float, resync: bool) -> None:
        """Ask what changed, where that is possible."""
        if self.machine.established and not self.machine.ended:
            self._beats += 1
            self.watched.verb(lambda: self.machine.heartbeat(now, resync=resync))
        else:
            self.watched.misuse(self.machine.heartbeat, now)

    def note(self, events: list[Event]) -> None:
        """Changes that are told add up to the list."""
        for event in events:
            if isinstance(event, Updated):
                left, joined = Counter(event.left), Counter(event.joined)
                require(left <= self.told, "only who was there leaves", left - self.told)
                require(not left & joined, "nobody leaves and joins at once", left & joined)
                self.told = self.told - left + joined
        if events and isinstance(events[-1], Updated) and not self.machine._unfinished():
            require(Counter(self.machine.clients) == self.told, "the changes that are told add up to the list")
        require(len(self.machine.clients) <= MOST_CLIENTS, "COM-2: so many clients and no more")
        require(len(list(self.machine.clients)) == len(self.machine.clients), "the list knows its length")

    def check_output(self) -> None:
        """All that it said: a hello, an answer for each request, heartbeats."""
        sent = bytes(self.watched.sent)
        require(sent[:16] == b"LEKTH\0\0\0" + struct.pack(">II", 1, bool(self._settings.port)), "a hello comes first")
        rest = sent[16:]
        while rest[:8] == b"LEKTT\0\0\0":
            require(rest[8:16] == struct.pack(">II", 1, self._settings.port), "a response is the one asked for", rest)
            rest = rest[16:]
        require(len(rest) == 16 * self._beats, "what follows is heartbeats", rest)
        for start in range(0, len(rest), 16):
            require(rest[start : start + 8] == b"LEKTH\0\0\0", "what follows is heartbeats", rest)


def _converse(script: Script) -> None:
    client = _Client(SETTINGS[script.byte() % 2])
    watched, machine, now = client.watched, client.machine, 0.0
    while script.left and watched.ended is None:
        events: list[Event] = []
        match script.byte() % 9:
            case 0 | 1:
                events = watched.feed(script.chunk(), now)
            case 2:
                events = watched.feed(script.chunk() * (script.byte() + 1), now)
            case 3:
                events = watched.feed(WORDS[script.byte() % len(WORDS)], now)
            case 4:
                word = WORDS[script.byte() % len(WORDS)]
                for piece in cut(word, script.take(1)):
                    events += watched.feed(piece, now)
            case 5:
                now += script.byte() - 20
                events = watched.wake(now)
            case 6:
                client.heartbeat(now, resync=bool(script.byte() % 2))
            case 7:
                events = watched.finish(now, clean=bool(script.byte() % 2))
            case 8:
                outcome = Outcome.LEFT if machine.established else Outcome.SHUTDOWN
                events = watched.verb(machine.close, outcome, "enough", now)
        client.note(events)
    client.check_output()


def _cut_up(script: Script) -> None:
    """The same bytes mean the same, however they are cut."""
    settings, sizes = SETTINGS[script.byte() % 2], script.take(2)
    data = script.rest()
    whole, pieces = (
        Watched(ClientMachine(settings, now=0.0), MOST_INPUT),
        Watched(ClientMachine(settings, now=0.0), MOST_INPUT),
    )
    whole.feed(data, 1.0)
    for piece in cut(data, sizes):
        pieces.feed(piece, 1.0)
    if whole.ended is None:
        whole.finish(2.0, clean=True)
        pieces.finish(2.0, clean=True)
    require(whole.events == pieces.events, "segmentation changes nothing", whole.events, pieces.events)
    require(whole.sent == pieces.sent, "segmentation changes nothing", whole.sent, pieces.sent)
    require(isinstance(whole.events[-1], Ended), "it ends")


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    if script.byte() % 4:
        _converse(script)
    else:
        _cut_up(script)


SEEDS = (
    b"\1\0\3\4\6\0\3\5\6\0\3\6\3\7\6\1\3\5\7\1",
    b"\1\1\3\0\3\2\6\0\0" + chunk(ADDITION) + b"\7\0",
    b"\1\0\3\0\3\1\3\3",
    b"\1\0\3\4\4\5\0\4\6\0\5\x64",
    b"\1\0\3\4\2" + chunk(ADDITION) + b"\xff",
    b"\0\0\0\0" + JOINED + ADDITION + REMOVAL + NOTHING,
    b"\0\0\3\5" + ACCEPT + REQUEST + REJECT,
)
