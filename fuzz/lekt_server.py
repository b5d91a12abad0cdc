"""LEKT's server machines: several of them with one list, and clients that do anything in any order."""

from __future__ import annotations

import struct
from collections import Counter

from connectd.protocols.lekt.machine import ServerMachine
from connectd.protocols.lekt.presence import Presence
from connectd.protocols.lekt.settings import LektSettings
from connectd.sansio import Ended, Event, Outcome, Received
from fuzz.lekt_output import ServerOutput
from fuzz.script import Script, chunk, cut
from fuzz.watched import Watched, require

PEERS = 4
SETTINGS = LektSettings(heartbeat_limit=6)
MOST_INPUT = 4096 + 12 + 128
"""LEKT-15: 4 KiB and a hello."""

HELLO = b"LEKTH\0\0\0" + struct.pack(">II", 1, 1)
HELLO_WITHOUT_METHODS = b"LEKTH\0\0\0" + struct.pack(">I", 0)
RESPONSE = b"LEKTT\0\0\0" + struct.pack(">II", 1, 4000)
HEARTBEAT = b"LEKTH\0\0\0" + struct.pack(">q", 1)
RESYNC = b"LEKTH\0\0\0" + struct.pack(">q", 0)
LATE_RESPONSE = b"LEKTT\0\0\0" + bytes(4)
WORDS = (HELLO, HELLO_WITHOUT_METHODS, RESPONSE, HEARTBEAT, RESYNC, LATE_RESPONSE, HELLO + RESPONSE + HEARTBEAT)


class _Peer:
    """One connection, and what its client knows."""

    def __init__(self, presence: Presence, address: bytes, now: float) -> None:
        self.address = address
        self.machine = ServerMachine(SETTINGS, presence, now=now)
        self.watched = Watched(self.machine, MOST_INPUT)
        self.output = ServerOutput()
        self.heartbeats = 0
        self._sent_time = False
        self._resyncs: set[int] = set()

    @property
    def listed(self) -> bool:
        """Whether the others are to know it (LEKT-9)."""
        return self.machine.established and self.watched.ended is None

    @property
    def entry(self) -> tuple[bytes, bytes]:
        """How they are to know it."""
        methods = b"".join(index.to_bytes(4, "big") + data for index, data in self.machine.information)
        return self.address, self.address + methods

    def read(self, events: list[Event]) -> bool:
        """Read what the server said. True where it answered a heartbeat."""
        before = self.heartbeats
        for event in events:
            if isinstance(event, Received):
                time = event.message.time
                if time == 0 and self._sent_time:
                    self._resyncs.add(self.heartbeats)
                self._sent_time = self._sent_time or time != 0
                self.heartbeats += 1
        self.output.read(self.watched.sent, self._resyncs)
        require(self.output.answers == self.heartbeats, "LEKT-8: each heartbeat has an answer", self.output.answers)
        if self.watched.ended is not None:
            by_us = self.watched.ended.outcome not in (Outcome.ABORTED, Outcome.LEFT, Outcome.LOST)
            require((self.output.rejected is not None) == by_us, "COM-12: LEKT always says why", self.watched.ended)
        return self.heartbeats > before


class _Server:
    """A listener without sockets."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0
        self.presence = Presence(SETTINGS.heartbeat_period * SETTINGS.silent_periods + 60.0)
        self.peers = [self._peer(index) for index in range(PEERS)]

    def _peer(self, index: int) -> _Peer:
        """Two of them share an address."""
        return _Peer(self.presence, bytes((10, 0, 0, index // 2)), self.now)

    def step(self, script: Script) -> None:
        """One step of the script."""
        code = script.byte()
        index = code % PEERS
        peer = self.peers[index]
        watched, machine, now = peer.watched, peer.machine, self.now
        events: list[Event] = []
        match code // PEERS % 12:
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
                self.now += script.byte() / 16
            case 6:
                self.now += script.byte() - 20
            case 7 if watched.decision is not None:
                events = watched.verb(machine.accept, peer.address, now)
            case 7 | 8 if watched.decision is None:
                watched.misuse(machine.accept, peer.address, now)
                watched.misuse(machine.refuse, "no", now)
            case 8:
                events = watched.verb(machine.refuse, script.chunk().decode("utf-8", "replace").strip() or "no", now)
            case 9:
                events = watched.wake(now)
            case 10:
                events = watched.finish(now, clean=bool(script.byte() % 2)) if watched.ended is None else []
            case 11:
                outcome = Outcome.KICKED if machine.established else Outcome.SHUTDOWN
                events = watched.verb(machine.close, outcome, "enough", now) if watched.ended is None else []
        if peer.read(events):
            self._compare(peer)
        require(len(self.presence) == sum(one.listed for one in self.peers), "LEKT-9: who is in is listed")
        if watched.ended is not None and not isinstance(events[-1] if events else None, Ended):
            self.peers[index] = self._peer(index)

    def _compare(self, peer: _Peer) -> None:
        """Who has just been answered knows exactly who else is there."""
        others = Counter(one.entry for one in self.peers if one.listed and one is not peer)
        if peer.listed:
            require(peer.output.listed == others, "LEKT-7: the client knows who is there", peer.output.listed, others)

    def all_go(self) -> None:
        """At the end nobody is left on the list."""
        for peer in self.peers:
            if peer.watched.ended is None:
                peer.read(peer.watched.finish(self.now, clean=False))
        require(len(self.presence) == 0, "LEKT-9: who is gone is not listed")


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    server = _Server()
    while script.left:
        server.step(script)
    server.all_go()


def _code(kind: int, peer: int = 0) -> int:
    return kind * PEERS + peer


def _join(peer: int) -> bytes:
    return bytes((_code(3, peer), 0, _code(7, peer), _code(3, peer), 2, _code(3, peer), 3))


SEEDS = (
    b"".join(map(_join, range(PEERS)))
    + bytes((_code(10, 1), 1, _code(3, 0), 3, _code(3, 2), 3, _code(6), 30, _code(9))),
    _join(0) + bytes((_code(3), 4, _code(3), 3, _code(6), 81, _code(3), 4)),
    bytes((_code(0),)) + chunk(HELLO) + bytes((_code(7), _code(0))) + chunk(RESPONSE + RESYNC + HEARTBEAT),
    bytes((_code(3, 3), 6, _code(8, 3))) + chunk(b"no \xe2\x82\xac\0 more"),
    bytes((_code(3), 1, _code(7), _code(4), 3, 0, _code(11))) + _join(1),
    bytes((_code(2),)) + chunk(HELLO[:13]) + b"\xff" + bytes((_code(3), 0, _code(2))) + chunk(bytes(255)) + b"\x20",
    b"".join(map(_join, (0, 1))) + bytes((_code(10, 0), 0)) + _join(0) + bytes((_code(3, 1), 3, _code(3, 1), 4)),
)
