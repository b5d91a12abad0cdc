"""Chatr's puncher: two peers, a network that does what it likes, and forged datagrams (CH-40 to CH-42)."""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from uuid import UUID

from connectd.protocols.chatr.candidates import MAXIMUM_CANDIDATES, Candidate, CandidateKind
from connectd.protocols.chatr.checks import PROBES_PER_SECOND, REMEMBERED_REQUESTS, Pair, Role, username
from connectd.protocols.chatr.puncher import (
    EARLY_CHECKS,
    EARLY_PEERS,
    MAXIMUM_MESSAGE,
    MessageReceived,
    PathEnded,
    PathOpened,
    PunchingMachine,
)
from connectd.protocols.chatr.stun import MessageClass, StunError, decode, encode_request, encode_success
from connectd.sansio import DatagramAddress, Ended, Event, LocalProtocolError, Outcome
from fuzz.script import Script, chunk
from fuzz.watched import require

PEERS = (UUID(int=1), UUID(int=2), UUID(int=3))
ADDRESSES: tuple[DatagramAddress, ...] = tuple((f"192.0.2.{number}", 1231) for number in range(1, 7))
MOST_WAITING = 64
"""Datagrams on their way; further ones are lost."""


class Peer:
    """A machine under watch.

    :param uuid: whose it is.
    :param address: where it is.
    """

    def __init__(self, uuid: UUID, address: DatagramAddress) -> None:
        serial = count(uuid.int << 32)
        self.machine = PunchingMachine(uuid, random=lambda size: next(serial).to_bytes(size, "big"))
        self.uuid = uuid
        self.address = address
        self.asked: dict[bytes, DatagramAddress] = {}
        """Where each request of ours went."""
        self.proven: set[DatagramAddress] = set()
        """From where one of them was answered that had gone there."""
        self.heard: set[tuple[bytes, DatagramAddress]] = set()
        """The requests that came, and from where."""
        self.open: set[UUID] = set()
        self.punching: set[UUID] = set()
        self.ended = False
        self.probes: dict[tuple[UUID, int], list[float]] = defaultdict(list)
        self.rounds: dict[UUID, int] = defaultdict(int)

    def receive(self, data: bytes, source: DatagramAddress, now: float) -> list[tuple[bytes, DatagramAddress]]:
        """A datagram came; what it sends."""
        try:
            read = decode(data)
        except StunError:
            pass
        else:
            if read.message_class is MessageClass.REQUEST:
                self.heard.add((read.transaction_id, source))
            elif read.message_class is MessageClass.SUCCESS and self.asked.get(read.transaction_id) == source:
                self.proven.add(source)
        return self.happened(self.machine.receive_datagram(data, source, now), now)

    def wake(self, now: float) -> list[tuple[bytes, DatagramAddress]]:
        """Time has passed."""
        sent = []
        deadline = self.machine.deadline()
        events = self.machine.handle_deadline(now)
        require(not events or (deadline is not None and deadline <= now), "nothing happens before its time", events)
        sent += self.happened(events, now)
        after = self.machine.deadline()
        require(after is None or after > now, "a deadline that was handled has moved on", after, now)
        return sent

    def happened(self, events: list[Event], now: float) -> list[tuple[bytes, DatagramAddress]]:
        """Check what it said and sent; what it sent."""
        for event in events:
            require(not self.ended, "nothing comes after Ended", event)
            if isinstance(event, PathOpened):
                require(event.peer in self.punching, "only who was asked for is reached", event)
                require(event.candidate.address in self.proven, "only an address that answered is a path", event)
                self.punching.discard(event.peer)
                self.open.add(event.peer)
            elif isinstance(event, PathEnded):
                require(event.peer in self.open | self.punching, "only what began ends", event)
                require(event.reason.isprintable(), "the reason is one line of plain text", event)
                self.open.discard(event.peer)
                self.punching.discard(event.peer)
            elif isinstance(event, MessageReceived):
                require(event.peer in self.open, "messages come over open paths", event)
                require(len(event.data) <= MAXIMUM_MESSAGE, "COM-2: messages are bounded", len(event.data))
            elif isinstance(event, Ended):
                require(event is events[-1], "Ended is the last event", events)
                self.ended = True
        sent = self.machine.datagrams_to_send()
        require(self.machine.datagrams_to_send() == [], "each datagram is given once")
        for data, address in sent:
            self._check(data, address, now)
        self._bounds()
        return sent

    def _check(self, data: bytes, address: DatagramAddress, now: float) -> None:
        if data[0] >= 4:
            require(data[0] in (128, 129), "CH-32: the first byte tells", data[0])
            return
        read = decode(data)
        if read.message_class is MessageClass.SUCCESS:
            require((read.transaction_id, address) in self.heard, "only requests are answered, where they came from")
            return
        require(read.transaction_id not in self.asked, "every request has its own id", read)
        self.asked[read.transaction_id] = address
        for peer in PEERS:
            if read.username == username(peer, self.uuid):
                times = self.probes[peer, self.rounds[peer]]
                times.append(now)
                full = len(times) > PROBES_PER_SECOND
                require(not full or now - times[-1 - PROBES_PER_SECOND] > 0.999, "CH-40: 50 probes a second", times)

    def _bounds(self) -> None:
        machine = self.machine
        require(len(machine._early) <= EARLY_PEERS, "COM-2: early checks are bounded")
        require(all(len(one) <= EARLY_CHECKS for one in machine._early.values()), "COM-2: early checks are bounded")
        for pair in machine._pairs.values():
            require(len(pair.checks) <= MAXIMUM_CANDIDATES, "CH-40: at most 16 candidates", pair.checks)
            require(len(pair.held) <= Pair.held_limit, "COM-2: held messages are bounded")
            require(len(pair._seen) <= REMEMBERED_REQUESTS, "COM-2: remembered requests are bounded")
        waiting = self.punching | self.open
        require(set(machine._pairs) == waiting, "a peer is there from punch to PathEnded", waiting)
        require((machine.deadline() is None) == (not waiting), "it waits for something exactly while there are peers")


def _forged(script: Script, peer: Peer) -> bytes:
    """A datagram that somebody made up, with what he may have read on the way."""
    code = script.byte()
    known = [*peer.asked, *(one for one, _ in peer.heard)]
    which = script.byte()
    transaction_id = known[which % len(known)] if known and code & 1 else script.take(12).ljust(12, b"\0")
    name = username(PEERS[script.byte() % 3], PEERS[script.byte() % 3])
    match code >> 1 & 3:
        case 0:
            return encode_request(transaction_id, name, use_candidate=bool(code & 8))
        case 1:
            return encode_success(transaction_id, ADDRESSES[0], fingerprint=bool(code & 8))
        case 2:
            return b"\x81" + transaction_id
        case _:
            return script.chunk()


def one_input(data: bytes) -> None:
    """Take one of the fuzzer's inputs."""
    script = Script(data)
    now = 1000.0
    peers = [Peer(PEERS[0], ADDRESSES[0]), Peer(PEERS[1], ADDRESSES[1])]
    waiting: list[tuple[DatagramAddress, bytes, DatagramAddress]] = []

    def send(peer: Peer, datagrams: list[tuple[bytes, DatagramAddress]]) -> None:
        for datagram, address in datagrams:
            if len(waiting) < MOST_WAITING:
                waiting.append((peer.address, datagram, address))

    def deliver(at: int, *, keep: bool) -> None:
        source, datagram, address = waiting[at] if keep else waiting.pop(at)
        for peer in peers:
            if peer.address == address:
                send(peer, peer.receive(datagram, source, now))

    while script.left:
        code = script.byte()
        peer = peers[code >> 7]
        match code & 15:
            case 0 | 1:
                now += script.byte() / 32
                for one in peers:
                    send(one, one.wake(now))
            case 2 | 3 | 4 if waiting:
                deliver(script.byte() % len(waiting) if code & 32 else 0, keep=bool(code & 64))
            case 5 if waiting:
                waiting.pop(script.byte() % len(waiting))
            case 6 | 7:
                source = ADDRESSES[script.byte() % len(ADDRESSES)]
                send(peer, peer.receive(_forged(script, peer), source, now))
            case 8 | 9:
                _punch(script, peer, now, code, send)
            case 10:
                target = PEERS[script.byte() % 3]
                try:
                    peer.machine.send(target, script.chunk())
                except LocalProtocolError:
                    require(target not in peer.open, "who is reached can be sent to", target)
                else:
                    require(target in peer.open, "who is not reached cannot be sent to", target)
                send(peer, peer.happened([], now))
            case 11:
                send(peer, peer.happened(peer.machine.close_path(PEERS[script.byte() % 3], now), now))
            case 12:
                now += 5 + script.byte()
            case 13 if code & 64:
                send(peer, peer.happened(peer.machine.close(Outcome.LEFT, "enough", now), now))
                require(peer.ended and peer.machine.ended, "an end is an end")
            case _:
                for _ in range(min(len(waiting), 8)):
                    deliver(0, keep=False)


def _punch(script: Script, peer: Peer, now: float, code: int, send: object) -> None:
    target = PEERS[script.byte() % 3]
    number = script.byte() % 24
    offered = [
        Candidate((ADDRESSES[(number + one) % len(ADDRESSES)][0], 1231 + one // 6), CandidateKind.HOST)
        for one in range(number)
    ]
    role = Role.REQUESTER if code & 16 else Role.ACCEPTER
    try:
        ended = peer.machine.close_path(target, now)
        datagrams = peer.happened(ended, now)
        peer.rounds[target] += 1
        events = peer.machine.punch(target, role, offered, now)
    except LocalProtocolError:
        require(peer.ended or target == peer.uuid, "whoever else can be asked for", target)
    else:
        peer.punching.add(target)
        datagrams += peer.happened(events, now)
    assert callable(send)
    send(peer, datagrams)


_MEET = b"\x18\1\1" + b"\x88\0\1" + b"\x0e" * 8
"""Both ask for each other, and everything arrives."""

SEEDS = (
    _MEET,
    _MEET + b"\x0a\1" + chunk(b"hello") + b"\x0e\x8a\0" + chunk(b"hello") + b"\x0e",
    _MEET + b"\x0b\1\x0e",
    _MEET + b"\x0c\x0b\x00\x00\x0e\x0e" + b"\x0c\xff\x00\x00",
    _MEET + b"\x06\3\x09\0\1\0\1" + b"\x06\3\5\0" + b"\x46\1\4\0" + b"\x0e",
    b"\x88\0\0" + b"\x18\1\1" + b"\x0e" * 6 + b"\x4d",
    b"\x18\2\x17" + b"\x00\x08" * 40,
    b"\x08\1\1\x98\0\1" + b"\x22\0\x62\0\x25\1" * 6 + b"\x00\x20\x0e" * 10,
)
