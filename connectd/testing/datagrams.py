"""Datagrams in memory: lost, doubled, late and out of order as a test wants them."""

from __future__ import annotations

import heapq
import random
from itertools import count
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.task import Clock

    from connectd.net.datagram_port import BatchedProtocol

Address = tuple[str, int]


class MemoryPort:
    """A bound socket in memory: the transport of its protocol.

    :param network: where it is.
    :param address: (host, port).
    :param protocol: who is told what comes.
    :ivar sent: datagrams that were sent.
    :ivar sent_bytes: their bytes.
    """

    def __init__(self, network: DatagramNetwork, address: Address, protocol: BatchedProtocol) -> None:
        self.address = address
        self.protocol: Any = protocol
        self.sent = 0
        self.sent_bytes = 0
        self._network = network
        network.ports[address] = self
        self.protocol.makeConnection(self)

    def send(self, datagrams: list[tuple[bytes, Any]]) -> None:
        """Send datagrams, as :class:`connectd.net.datagram_port.DatagramPort` does."""
        for datagram, address in datagrams:
            self.write(datagram, address)

    def write(self, datagram: bytes, addr: Any = None) -> None:
        """Send a datagram."""
        self.sent += 1
        self.sent_bytes += len(datagram)
        self._network.carry(datagram, self.address, addr[:2])

    def getHost(self) -> IAddress:
        host, port = self.address
        return IPv6Address("UDP", host, port) if ":" in host else IPv4Address("UDP", host, port)

    def move(self, address: Address) -> None:
        """Be somewhere else from now on, as a client behind a NAT that has forgotten it."""
        del self._network.ports[self.address]
        self.address = address
        self._network.ports[address] = self

    def stopListening(self) -> Deferred[None]:
        if self._network.ports.get(self.address) is self:
            del self._network.ports[self.address]
            self.protocol.doStop()
        return succeed(None)


class DatagramNetwork:
    """Carries datagrams between :class:`MemoryPort` objects.

    :param clock: the time it lives by.
    :param seed: of what happens by chance.
    :ivar latency: seconds from sending to receiving.
    :ivar loss: the share of datagrams that get lost, 0 to 1; so for the next two.
    :ivar duplication: those that come twice.
    :ivar reordering: those that come later than what was sent after them.
    :ivar lateness: seconds by which these are late.
    :ivar maximum: the largest datagram that gets through, bytes.
    :ivar watch: called with each datagram that is sent, from where and to where; one that it answers with False is
        lost.
    """

    def __init__(self, clock: Clock, seed: int = 0) -> None:
        self.clock = clock
        self.ports: dict[Address, MemoryPort] = {}
        self.latency = 0.0
        self.loss = self.duplication = self.reordering = 0.0
        self.lateness = 0.02
        self.maximum = 65_535
        self.watch: Callable[[bytes, Address, Address], bool | None] | None = None
        self._random = random.Random(seed)  # noqa: S311 - every run is the same
        self._way: list[tuple[float, int, bytes, Address, Address]] = []
        self._serial = count()

    def __len__(self) -> int:
        """How many datagrams are on their way."""
        return len(self._way)

    def carry(self, datagram: bytes, source: Address, destination: Address) -> None:
        """Take a datagram, and see what becomes of it."""
        if self.watch is not None and self.watch(datagram, source, destination) is False:
            return
        chance = self._random.random
        if len(datagram) > self.maximum or chance() < self.loss:
            return
        for _ in range(2 if chance() < self.duplication else 1):
            late = self.lateness if chance() < self.reordering else 0.0
            when = self.clock.seconds() + self.latency + late
            heapq.heappush(self._way, (when, next(self._serial), datagram, source, destination))

    def next_arrival(self) -> float | None:
        """When the next datagram arrives."""
        return self._way[0][0] if self._way else None

    def deliver(self) -> bool:
        """Let those receive whose datagrams have arrived; whether there were any."""
        now = self.clock.seconds() + 1e-6
        batches: dict[MemoryPort, list[tuple[bytes, Address]]] = {}
        happened = False
        while self._way and self._way[0][0] <= now:
            _, _, datagram, source, destination = heapq.heappop(self._way)
            happened = True
            port = self.ports.get(destination)
            if port is not None:
                batches.setdefault(port, []).append((datagram, source))
        for port, batch in batches.items():
            port.protocol.batch_begins()
            for datagram, source in batch:
                port.protocol.datagramReceived(datagram, source)
            port.protocol.batch_ends()
        return happened
