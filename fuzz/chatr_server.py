"""Chatr's server machines with one rendezvous: several clients that do anything in any order (CH-1 to CH-9)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from uuid import UUID

from connectd.protocols.chatr.machine import Accepted, Denied, Requested, ServerMachine
from connectd.protocols.chatr.rendezvous import (
    REQUESTS_PER_REQUESTER,
    REQUESTS_PER_TARGET,
    Delivery,
    Rendezvous,
)
from connectd.protocols.chatr.settings import ChatrSettings
from connectd.sansio import Ended, Established, Event, Outcome
from fuzz.chatr_output import frames
from fuzz.script import Script, chunk, cut
from fuzz.watched import Watched, require

PEERS = 4
SETTINGS = ChatrSettings()
PIECE = 4096
MOST_INPUT = ServerMachine.held_limit + PIECE
"""COM-2: what is held while a Decision is open, and a piece more."""

UUIDS = tuple(UUID(int=number + 1) for number in range(PEERS))
ADDRESSES = tuple(IPv4Address(f"192.0.2.{number + 1}") for number in range(PEERS))


def _frame(payload: bytes) -> bytes:
    size = len(payload)
    return (bytes((size,)) if size < 128 else bytes((size & 0x7F | 0x80, size >> 7))) + payload


def connect(uuid: UUID, signature: bytes = b"signature") -> bytes:
    return _frame(b"\0" + struct.pack(">I16si", 1, uuid.bytes, len(signature)) + signature)


_PRIVATE = b"\4" + bytes((10, 0, 0, 7))

WORDS = (
    *(connect(uuid) for uuid in UUIDS),
    *(_frame(bytes((opcode,)) + uuid.bytes + _PRIVATE) for opcode in (5, 6) for uuid in UUIDS),
    *(_frame(b"\7" + uuid.bytes) for uuid in UUIDS),
    _frame(b"\5" + UUIDS[0].bytes + b"\6" + bytes(15) + b"\1"),
    _frame(b"\1\3bye"),
    _frame(b"\4" + bytes(8)),
    _frame(b"\2"),
    b"\0",
    b"\xff\xff\xff\xff\xff",
    connect(UUIDS[0], bytes(1024)),
)


class _Peer:
    """One connection, and what was said over it."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.machine = ServerMachine(SETTINGS, now=now, random=lambda count: bytes(count - 1) + bytes((number + 1,)))
        self.watched = Watched(self.machine, MOST_INPUT)
        self.told: list[tuple[int, bytes]] = []
        self.secured = False
        self.joined: UUID | None = None
        self.asked: set[UUID] = set()
        """Whom it has asked for since it came."""
        self.accepted: set[UUID] = set()
        """Whose request it has accepted."""

    def read(self) -> list[tuple[int, bytes]]:
        """What was said since the last time, by a second reader."""
        said = frames(bytes(self.watched.sent))
        self.watched.sent.clear()
        for opcode, payload in said:
            require(self.secured, "COM-12: nothing is said before TLS stands", opcode)
            require(all(before != 1 for before, _ in self.told), "nothing follows Disconnect", opcode)
            require(opcode in (1, 2, 3, 5, 6, 7, 8), "only what a server may say", opcode)
            first = not self.told
            require(opcode in (1, 2) if first else opcode != 2, "Connected or Disconnect is first", self.told, opcode)
            self.told.append((opcode, payload))
        return said


class _Server:
    """A listener without sockets."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0
        self.rendezvous = Rendezvous()
        self.peers = [_Peer(number, self.now) for number in range(PEERS)]
        self.met: set[frozenset[UUID]] = set()
        """Who has agreed to meet."""

    def step(self, script: Script) -> None:
        """One step of the script."""
        code = script.byte()
        peer = self.peers[code % PEERS]
        watched, machine, now = peer.watched, peer.machine, self.now
        events: list[Event] = []
        match code // PEERS % 16:
            case 0 | 1:
                events = self.feed(peer, script.chunk())
            case 2:
                events = self.feed(peer, script.chunk() * (script.byte() + 1))
            case 3 | 4:
                events = self.feed(peer, WORDS[script.byte() % len(WORDS)])
            case 5:
                word = WORDS[script.byte() % len(WORDS)]
                for piece in cut(word, script.take(1)):
                    events += self.feed(peer, piece)
            case 6:
                self.now += script.byte() / 16
            case 7:
                self.now += script.byte() - 20
            case 8 if watched.decision is not None:
                events = self.accept(peer)
            case 8 | 9 if watched.decision is None:
                watched.misuse(machine.accept, now)
                watched.misuse(machine.refuse, "no", now)
            case 9:
                events = watched.verb(machine.refuse, script.chunk().decode("utf-8", "replace").strip() or "no", now)
            case 10:
                events = watched.wake(now)
                self.deliver(self.rendezvous.expire(now))
            case 11:
                events = watched.finish(now, clean=bool(script.byte() % 2)) if watched.ended is None else []
            case 12:
                outcome = Outcome.KICKED if machine.established else Outcome.SHUTDOWN
                events = watched.verb(machine.close, outcome, "enough", now) if watched.ended is None else []
            case 13:
                peer.secured = peer.secured or watched.ended is None
                events = watched.verb(machine.transport_ready, now) if watched.decision is None else []
            case 14 if machine.established and watched.ended is None:
                events = watched.verb(machine.probe, now)
            case 14:
                watched.misuse(machine.probe, now)
            case _:
                events = self.feed(peer, b"\x09\x04" + bytes(7) + bytes((peer.number + 1 >> 1,)))
        self.happened(peer, events)

    def feed(self, peer: _Peer, data: bytes) -> list[Event]:
        """Bytes, as long as the machine wants some."""
        events: list[Event] = []
        for start in range(0, len(data), PIECE):
            if peer.watched.ended is None and peer.machine.wants_data:
                events += peer.watched.feed(data[start : start + PIECE], self.now)
        return events

    def accept(self, peer: _Peer) -> list[Event]:
        """Let it in, unless somebody is there with that UUID; as the listener does."""
        uuid = peer.machine.uuid
        assert uuid is not None
        if any(one.joined == uuid for one in self.peers):
            return peer.watched.verb(peer.machine.refuse, "Already connected!", self.now)
        return peer.watched.verb(peer.machine.accept, self.now)

    def happened(self, peer: _Peer, events: list[Event]) -> None:
        """Do what the listener does with them."""
        for event in events:
            uuid = peer.machine.uuid
            if isinstance(event, Established):
                assert uuid is not None
                peer.joined = uuid
                self.rendezvous.join(uuid, str(ADDRESSES[peer.number]))
            elif isinstance(event, Requested):
                assert uuid is not None
                peer.asked.add(event.uuid)
                self.deliver(self.rendezvous.request(uuid, event.uuid, event.private_endpoint, self.now))
            elif isinstance(event, Accepted):
                assert uuid is not None
                if any(one.joined == event.uuid and uuid in one.asked for one in self.peers):
                    self.met.add(frozenset((uuid, event.uuid)))
                self.deliver(self.rendezvous.accept(uuid, event.uuid, event.private_endpoint))
            elif isinstance(event, Denied):
                assert uuid is not None
                self.deliver(self.rendezvous.deny(uuid, event.uuid))
            elif isinstance(event, Ended) and peer.joined is not None:
                gone, peer.joined = peer.joined, None
                self.deliver(self.rendezvous.leave(gone))
                require(gone not in self.rendezvous, "who is gone is not there")
        self.read(peer)
        if peer.watched.ended is not None:
            self.peers[peer.number] = _Peer(peer.number, self.now)
        require(len(self.rendezvous) <= PEERS * min(REQUESTS_PER_REQUESTER, REQUESTS_PER_TARGET), "CH-9: bounded")

    def deliver(self, deliveries: list[Delivery]) -> None:
        """Tell whoever is there."""
        for uuid, packet in deliveries:
            [peer] = [one for one in self.peers if one.joined == uuid]
            if peer.watched.ended is None:
                peer.machine.send(packet, self.now)
                peer.watched._settle()
                self.read(peer)

    def read(self, peer: _Peer) -> None:
        """CH-7: no public address, and nothing of a target's, before both have agreed."""
        for opcode, payload in peer.read():
            if opcode in (6, 8):
                assert peer.machine.uuid is not None
                both = frozenset((peer.machine.uuid, UUID(bytes=payload[:16])))
                require(both in self.met, "CH-7: nothing is revealed before acceptance", opcode, both)


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    server = _Server()
    while script.left:
        server.step(script)
    for peer in server.peers:
        if peer.watched.ended is None:
            server.happened(peer, peer.watched.finish(server.now, clean=False))
    require(len(server.rendezvous) == 0, "with nobody there nothing is pending")


def _code(kind: int, peer: int = 0) -> int:
    return kind * PEERS + peer


def _join(peer: int) -> bytes:
    return bytes((_code(13, peer), _code(3, peer), peer, _code(8, peer)))


_REQUEST, _ACCEPT, _DENY = PEERS, 2 * PEERS, 3 * PEERS
"""Places in WORDS, with the number of whom they name."""

SEEDS = (
    b"".join(map(_join, range(PEERS))),
    _join(0) + _join(1) + bytes((_code(3, 0), _REQUEST + 1, _code(3, 1), _ACCEPT)),
    _join(0) + _join(1) + bytes((_code(3, 0), _REQUEST + 1, _code(3, 1), _DENY, _code(3, 1), _ACCEPT)),
    _join(2) + bytes((_code(3, 2), _REQUEST, _code(3, 2), _REQUEST + 2, _code(15, 2), _code(7), 60, _code(10, 2))),
    _join(0) + _join(1) + bytes((_code(3, 0), _REQUEST + 1, _code(7), 52, _code(10, 1), _code(11, 1), 1)),
    _join(0) + bytes((_code(14, 0), _code(6), 80, _code(10, 0), _code(12, 0))) + _join(0),
    bytes((_code(13), _code(0))) + chunk(connect(UUIDS[0])[:20]) + bytes((_code(0),)) + chunk(connect(UUIDS[0])[20:]),
    bytes((_code(13, 3), _code(5, 3), 22, 3, _code(9, 3))) + chunk(b"no \xe2\x82\xac"),
    bytes((_code(13), _code(2))) + chunk(b"\xff\x0f" + bytes(250)) + b"\x20",
)
