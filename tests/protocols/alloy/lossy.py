"""A UDP proxy between real sockets that loses, doubles and reorders datagrams, and can move to another port."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater

LATENESS = 0.02
"""Seconds by which a datagram comes late."""


class _Side(DatagramProtocol):
    """One of its sockets."""

    def __init__(self, proxy: LossyProxy, towards_server: bool) -> None:
        self.proxy = proxy
        self.towards_server = towards_server

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.proxy.came(self, datagram, addr)


class LossyProxy:
    """Carries the datagrams of one client.

    :param reactor: the reactor.
    :param server: (host, port) of the server.
    :param chance: the share of datagrams that are lost.
    :param disorder: the share of those that come twice, and of those that come late; as many as are lost unless given.
    :param seed: of what happens by chance.
    """

    def __init__(
        self,
        reactor: Any,
        server: tuple[str, int],
        chance: float = 0.05,
        seed: int = 1,
        disorder: float | None = None,
    ) -> None:
        self._reactor = reactor
        self._server = server
        self._chance = chance
        self._disorder = chance if disorder is None else disorder
        self._random = random.Random(seed)
        self._client: Any = None
        self._late: set[Deferred[None]] = set()
        self.carried = self.lost = 0
        self._front = _Side(self, towards_server=True)
        self._back = _Side(self, towards_server=False)
        self._ports = [reactor.listenUDP(0, side, interface="127.0.0.1") for side in (self._front, self._back)]

    @property
    def port(self) -> int:
        """Where clients send to."""
        port: int = self._ports[0].getHost().port
        return port

    def move(self) -> Deferred[Any]:
        """Send to the server from another port from now on, as a NAT does that has forgotten a client."""
        old = self._ports[1]
        self._back = _Side(self, towards_server=False)
        self._ports[1] = self._reactor.listenUDP(0, self._back, interface="127.0.0.1")
        return maybeDeferred(old.stopListening)

    def came(self, side: _Side, datagram: bytes, address: Any) -> None:
        """A datagram: see what becomes of it."""
        if side.towards_server:
            self._client = address
        self.carried += 1
        chance = self._random.random
        if chance() < self._chance:
            self.lost += 1
            return
        for _ in range(2 if chance() < self._disorder else 1):
            if chance() < self._disorder:
                self._pass_later(side.towards_server, datagram)
            else:
                self._pass(side.towards_server, datagram)

    def _pass_later(self, towards_server: bool, datagram: bytes) -> None:
        late: Deferred[None] = deferLater(self._reactor, LATENESS, self._pass, towards_server, datagram)
        self._late.add(late)

        def over(result: object) -> None:
            self._late.discard(late)

        late.addBoth(over)

    def _pass(self, towards_server: bool, datagram: bytes) -> None:
        side, address = (self._back, self._server) if towards_server else (self._front, self._client)
        if side.transport is not None:
            side.transport.write(datagram, address)

    def stop(self) -> Deferred[Any]:
        """Close its sockets."""
        for late in list(self._late):
            late.cancel()
        return DeferredList([maybeDeferred(port.stopListening) for port in self._ports])
