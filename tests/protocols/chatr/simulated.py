"""A network in memory, on its own clock: hosts, NATs of several kinds, and what happens to datagrams on the way."""

from __future__ import annotations

import enum
import heapq
import random
from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import UUID

import attrs

from connectd.protocols.chatr.candidates import Candidate
from connectd.protocols.chatr.checks import Role
from connectd.protocols.chatr.puncher import PunchingMachine
from connectd.sansio import DatagramAddress, Event

Disturbance = Callable[[bytes, DatagramAddress, DatagramAddress], list[float]]
"""Called with (datagram, source, destination): after how many seconds it arrives, each time it does; none: lost."""

UNANSWERED = 30.0
ANSWERED = 120.0
"""Seconds after which Linux forgets a mapping that nobody answered, and one that somebody did."""


class Mapping(enum.Enum):
    """Which outside port a NAT gives to an inside address."""

    CONE = "one for all destinations, the inside port if it is free"
    LINUX = "the inside port, unless another conversation with that destination has it"
    SYMMETRIC = "a random one for each destination"


class Filtering(enum.Enum):
    """Whose datagrams a NAT lets in to a mapping."""

    NOTHING = "anybody's"
    ADDRESS = "those of addresses that were sent to"
    PORT = "those of addresses and ports that were sent to"


@attrs.frozen
class Kind:
    """A kind of NAT.

    :param hairpin: two hosts behind it reach each other at its outside address.
    :param accepts_strays: takes datagrams that belong to no mapping for its own, and remembers them (Linux without a
        rule that drops them), so that a later mapping cannot have their port.
    """

    mapping: Mapping
    filtering: Filtering
    hairpin: bool = False
    accepts_strays: bool = False


FULL_CONE = Kind(Mapping.CONE, Filtering.NOTHING)
ADDRESS_RESTRICTED = Kind(Mapping.CONE, Filtering.ADDRESS)
PORT_RESTRICTED = Kind(Mapping.CONE, Filtering.PORT)
SYMMETRIC = Kind(Mapping.SYMMETRIC, Filtering.PORT)
MASQUERADE = Kind(Mapping.LINUX, Filtering.PORT)
HAIRPIN = attrs.evolve(PORT_RESTRICTED, hairpin=True)
CARELESS = attrs.evolve(MASQUERADE, accepts_strays=True)


@attrs.define(eq=False)
class _Conversation:
    """A mapping as it is used with one destination."""

    inside: DatagramAddress
    port: int
    peer: DatagramAddress
    used_at: float
    answered: bool = False

    def is_fresh(self, now: float) -> bool:
        return now < self.used_at + (ANSWERED if self.answered else UNANSWERED)


class Nat:
    """A NAT with one outside address."""

    def __init__(self, network: Network, kind: Kind, outside: str) -> None:
        self.network = network
        self.kind = kind
        self.outside = outside
        self.conversations: list[_Conversation] = []
        self.strays: dict[tuple[DatagramAddress, int], float] = {}

    def outward(self, inside: DatagramAddress, destination: DatagramAddress) -> DatagramAddress:
        """Note a datagram that goes out; where it comes from, for those outside."""
        self._forget()
        now = self.network.now
        for one in self.conversations:
            if one.inside == inside and one.peer == destination:
                one.used_at = now
                return self.outside, one.port
        port = self._port(inside, destination)
        self.conversations.append(_Conversation(inside, port, destination, now))
        return self.outside, port

    def inward(self, source: DatagramAddress, port: int) -> DatagramAddress | None:
        """Where a datagram from outside goes, or None where it is dropped."""
        self._forget()
        for one in self.conversations:
            if one.port == port and self._lets_in(one, source):
                if one.peer == source:
                    one.answered = True
                one.used_at = self.network.now
                return one.inside
        if self.kind.accepts_strays:
            self.strays[source, port] = self.network.now
        return None

    def _lets_in(self, one: _Conversation, source: DatagramAddress) -> bool:
        filtering = self.kind.filtering
        if filtering is Filtering.NOTHING:
            return True
        return one.peer == source if filtering is Filtering.PORT else one.peer[0] == source[0]

    def _port(self, inside: DatagramAddress, destination: DatagramAddress) -> int:
        if self.kind.mapping is Mapping.CONE:
            for one in self.conversations:
                if one.inside == inside:
                    return one.port
            taken = {one.port for one in self.conversations}
        else:
            taken = {one.port for one in self.conversations if one.peer == destination}
            taken |= {port for (source, port) in self.strays if source == destination}
        if self.kind.mapping is not Mapping.SYMMETRIC and inside[1] not in taken:
            return inside[1]
        while (port := self.network.random.randint(1024, 65535)) in taken or port == inside[1]:
            pass
        return port

    def _forget(self) -> None:
        now = self.network.now
        self.conversations = [one for one in self.conversations if one.is_fresh(now)]
        self.strays = {key: at for key, at in self.strays.items() if now < at + UNANSWERED}


class Host:
    """A machine on a host: on the Internet, or behind a NAT."""

    def __init__(self, network: Network, machine: PunchingMachine, address: DatagramAddress, nat: Nat | None) -> None:
        self.network = network
        self.machine = machine
        self.address = address
        self.nat = nat
        self.events: list[Event] = []
        self.sent: list[tuple[float, bytes, DatagramAddress]] = []
        self.unplugged = False
        """Nothing of its reaches anybody any more."""

    def call(self, verb: Callable[[float], list[Event]]) -> list[Event]:
        """Call the machine and send what it wants to send."""
        events = verb(self.network.now)
        self.events += events
        for data, destination in self.machine.datagrams_to_send():
            self.sent.append((self.network.now, data, destination))
            if not self.unplugged:
                self.network.send(self, data, destination)
        return events

    def punch(self, peer: UUID, role: Role, offered: list[Candidate]) -> None:
        """Begin to reach a peer."""
        self.call(lambda now: self.machine.punch(peer, role, offered, now))

    def receive(self, data: bytes, source: DatagramAddress) -> None:
        """A datagram is here."""
        self.call(lambda now: self.machine.receive_datagram(data, source, now))

    def told(self, kind: type[Event]) -> list[Any]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


class Network:
    """Everything between the hosts.

    :param disturb: what happens to each datagram; each arrives once, after 20 ms, unless given.
    :param seed: for the ports that NATs choose and the transaction ids.
    """

    def __init__(self, disturb: Disturbance = lambda data, source, destination: [0.02], seed: int = 1) -> None:
        self.now = 1000.0
        self.random = random.Random(seed)
        self.disturb = disturb
        self.hosts: list[Host] = []
        self.nats: dict[str, Nat] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()

    def nat(self, kind: Kind) -> Nat:
        """A new NAT with its own outside address."""
        outside = f"198.51.100.{len(self.nats) + 1}"
        self.nats[outside] = Nat(self, kind, outside)
        return self.nats[outside]

    def host(self, uuid: UUID, nat: Nat | None = None, port: int = 1231) -> Host:
        """A new host with a socket on that port."""
        number = len(self.hosts) + 1
        ip = f"203.0.113.{number}" if nat is None else f"10.0.0.{number}"
        machine = PunchingMachine(uuid, random=self.random.randbytes)
        host = Host(self, machine, (ip, port), nat)
        self.hosts.append(host)
        return host

    def send(self, host: Host, data: bytes, destination: DatagramAddress) -> None:
        """A host sends."""
        if host.nat is None:
            self.route(data, host.address, destination)
        elif any(other.nat is host.nat and other.address[0] == destination[0] for other in self.hosts):
            self.arrive(data, host.address, destination, host.nat)
        elif destination[0].startswith("10."):
            pass  # a private address of somebody else's network leads nowhere
        elif destination[0] != host.nat.outside:
            self.route(data, host.nat.outward(host.address, destination), destination)
        elif host.nat.kind.hairpin:
            source = host.nat.outward(host.address, destination)
            inside = host.nat.inward(source, destination[1])
            if inside is not None:
                self.arrive(data, source, inside, host.nat)

    def route(self, data: bytes, source: DatagramAddress, destination: DatagramAddress) -> None:
        """A datagram is on the Internet."""
        for delay in self.disturb(data, source, destination):
            self.at(self.now + delay, lambda: self.deliver(data, source, destination))

    def deliver(self, data: bytes, source: DatagramAddress, destination: DatagramAddress) -> None:
        """A datagram has come to whoever has that address on the Internet."""
        nat = self.nats.get(destination[0])
        if nat is None:
            self.hand_over(data, source, destination, None)
        elif (inside := nat.inward(source, destination[1])) is not None:
            self.hand_over(data, source, inside, nat)

    def arrive(self, data: bytes, source: DatagramAddress, destination: DatagramAddress, nat: Nat) -> None:
        """A datagram crosses a private network."""
        for delay in self.disturb(data, source, destination):
            self.at(self.now + delay / 10, lambda: self.hand_over(data, source, destination, nat))

    def hand_over(self, data: bytes, source: DatagramAddress, destination: DatagramAddress, nat: Nat | None) -> None:
        """A datagram is at the host, if there is one."""
        for host in self.hosts:
            if host.address == destination and host.nat is nat:
                host.receive(data, source)

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Have something done at a time."""
        heapq.heappush(self._queue, (when, next(self._serial), act))

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now + seconds
        while True:
            due = [(at, host) for host in self.hosts if (at := host.machine.deadline()) is not None]
            timer = min(due, key=lambda one: one[0], default=None)
            arrival = self._queue[0][0] if self._queue else end
            if timer is not None and timer[0] <= min(arrival, end):
                self.now = max(self.now, timer[0])
                timer[1].call(timer[1].machine.handle_deadline)
            elif self._queue and arrival <= end:
                self.now = max(self.now, arrival)
                heapq.heappop(self._queue)[2]()
            else:
                self.now = end
                return
