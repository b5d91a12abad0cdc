"""Who asks for whom: pending requests between connected clients, and their budgets (CH-6 to CH-9). Pure bookkeeping.

Each method tells what to deliver to whom; the listener delivers it.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from uuid import UUID

import attrs

from connectd.protocols.chatr.packets import (
    ClientInfo,
    ConnectionRequest,
    ConnectionRequestAccept,
    ConnectionRequestDenied,
    IPAddress,
    Packet,
)

PENDING_TIME: Final = 30.0
"""Seconds after which a request that nobody answered is denied (CH-7)."""

REQUESTS_PER_REQUESTER: Final = 32
REQUESTS_PER_TARGET: Final = 64
"""Pending requests at once (CH-9)."""

REQUEST_RATE: Final = 1.0
"""Requests per second that a client may make in the long run (CH-9)."""

REQUEST_BURST: Final = 10
"""Requests that it may make at once."""

_BROADCAST: Final = IPv4Address("255.255.255.255")

Delivery = tuple[UUID, Packet]
"""To whom, and what."""


def forwarded(private: IPAddress) -> IPAddress:
    """A private endpoint as others get it: one that could only mislead them becomes the unspecified address (CH-8)."""
    misleading = private.is_loopback or private.is_link_local or private.is_multicast or private.is_unspecified
    if isinstance(private, IPv6Address):
        return IPv6Address(0) if misleading or private.ipv4_mapped is not None else private
    return IPv4Address(0) if misleading or private == _BROADCAST else private


def public_endpoint(address: str) -> IPAddress:
    """A client's address as others are told (CH-7); one that came through a Unix socket has none."""
    return ip_address(address.partition("%")[0]) if address else IPv4Address(0)


@attrs.define(eq=False)
class _Client:
    """Somebody who is connected.

    ``address`` is looked at once somebody may know it; most never meet anybody.

    ``booked`` is its token bucket as one number: each request takes 1 / rate seconds of the future, and the bucket is
    empty while ``booked`` is a whole burst away.
    """

    address: str
    booked: float = 0.0
    requested: set[UUID] | None = None
    asked_by: set[UUID] | None = None


class Rendezvous:
    """The connected clients of one listener, and the requests between them.

    What one client can make it hold is bounded (CH-9): 32 requests that it made and 64 that were made to it, each a
    few hundred bytes.
    """

    __slots__ = ("_clients", "_pending")

    def __init__(self) -> None:
        self._clients: dict[UUID, _Client] = {}
        # When each (requester, target) ends, the oldest first: all of them live equally long.
        self._pending: OrderedDict[tuple[UUID, UUID], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, uuid: UUID) -> bool:
        return uuid in self._clients

    def join(self, uuid: UUID, address: str) -> None:
        """A client is connected.

        :param address: its public address, as the server sees it, numeric; empty where it has none.
        """
        self._clients[uuid] = _Client(address)

    def leave(self, uuid: UUID) -> list[Delivery]:
        """A client is gone: whoever waits for it is denied, what it asked for is cleared (CH-7)."""
        client = self._clients.pop(uuid, None)
        if client is None:
            return []
        for target in client.requested or ():
            del self._pending[uuid, target]
            _discard(self._clients[target].asked_by, uuid)
        requesters = sorted(client.asked_by or ())
        for requester in requesters:
            del self._pending[requester, uuid]
            _discard(self._clients[requester].requested, uuid)
        return [(requester, ConnectionRequestDenied(uuid)) for requester in requesters]

    def request(self, requester: UUID, target: UUID, private: IPAddress, now: float) -> list[Delivery]:
        """A client asks for another (CH-6).

        A repeat while the first is pending says nothing new, and costs nothing (CH-7).
        """
        if (requester, target) in self._pending:
            return []
        denied: list[Delivery] = [(requester, ConnectionRequestDenied(target))]
        client = self._clients[requester]
        if not _take_token(client, now):
            return denied
        asked = self._clients.get(target)
        if asked is None or target == requester:
            return denied
        if len(client.requested or ()) >= REQUESTS_PER_REQUESTER or len(asked.asked_by or ()) >= REQUESTS_PER_TARGET:
            return denied
        self._pending[requester, target] = now + PENDING_TIME
        client.requested = _with(client.requested, target)
        asked.asked_by = _with(asked.asked_by, requester)
        return [(target, ConnectionRequest(requester, forwarded(private)))]

    def accept(self, accepter: UUID, requester: UUID, private: IPAddress) -> list[Delivery]:
        """A client accepts another's request; unless there is one, nothing happens (CH-7)."""
        if not self._clear(requester, accepter):
            return []
        return [
            (requester, ConnectionRequestAccept(accepter, forwarded(private))),
            (requester, ClientInfo(accepter, public_endpoint(self._clients[accepter].address))),
            (accepter, ClientInfo(requester, public_endpoint(self._clients[requester].address))),
        ]

    def deny(self, denier: UUID, requester: UUID) -> list[Delivery]:
        """A client denies another's request; unless there is one, nothing happens (CH-7)."""
        return [(requester, ConnectionRequestDenied(denier))] if self._clear(requester, denier) else []

    def deadline(self) -> float | None:
        """When :meth:`expire` has something to do."""
        return next(iter(self._pending.values()), None)

    def expire(self, now: float) -> list[Delivery]:
        """Deny what nobody has answered in time (CH-7)."""
        deliveries: list[Delivery] = []
        while (when := self.deadline()) is not None and when <= now:
            requester, target = next(iter(self._pending))
            self._clear(requester, target)
            deliveries.append((requester, ConnectionRequestDenied(target)))
        return deliveries

    def _clear(self, requester: UUID, target: UUID) -> bool:
        if self._pending.pop((requester, target), None) is None:
            return False
        _discard(self._clients[requester].requested, target)
        _discard(self._clients[target].asked_by, requester)
        return True


def _take_token(client: _Client, now: float) -> bool:
    # No later than a whole burst away, though the clock may have been set back.
    booked = min(max(client.booked, now), now + REQUEST_BURST / REQUEST_RATE)
    there = booked - now <= (REQUEST_BURST - 1) / REQUEST_RATE + 1e-6
    client.booked = booked + 1 / REQUEST_RATE if there else booked
    return there


def _with(uuids: set[UUID] | None, uuid: UUID) -> set[UUID]:
    if uuids is None:
        return {uuid}
    uuids.add(uuid)
    return uuids


def _discard(uuids: set[UUID] | None, uuid: UUID) -> None:
    if uuids is not None:
        uuids.discard(uuid)
