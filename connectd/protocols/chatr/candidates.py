"""Where another peer may be reached over UDP: candidates, and how a session's packets become some (CH-40, CH-41)."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from typing import Final

import attrs

from connectd.addresses import MAPPED
from connectd.sansio import DatagramAddress

MAXIMUM_CANDIDATES: Final = 16
"""Candidates of one peer, its own and those that its checks came from together (CH-40)."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_BROADCAST: Final = ipaddress.IPv4Address("255.255.255.255")


class CandidateKind(enum.Enum):
    """How a candidate became known."""

    HOST = "host"
    """The peer named it as its private endpoint."""
    REFLEXIVE = "reflexive"
    """The server saw the peer there."""
    PEER_REFLEXIVE = "peer-reflexive"
    """A valid check came from there."""


@attrs.frozen
class Candidate:
    """An address where a peer may be reached.

    :param address: host and port.
    :param kind: how it became known.
    """

    address: DatagramAddress
    kind: CandidateKind


def candidates(public: IPAddress, private: IPAddress, port: int, *, loopback: bool = False) -> list[Candidate]:
    """The candidates of a version 1 peer (CH-41): its two addresses on the agreed port, as far as they can be sent to.

    Left out are unspecified, multicast, broadcast, link-local and IPv4-mapped addresses (those of CH-8, since neither a
    server nor a peer is believed to have kept that rule), and an address that is there already.

    :param public: ClientInfo's address.
    :param private: the private endpoint of the peer's ConnectionRequest or ConnectionRequestAccept.
    :param port: the agreed port number, ``peer_port``.
    :param loopback: keep loopback addresses: our own server is on this machine, so its peers may be too.
    """
    found: dict[DatagramAddress, Candidate] = {}
    for address, kind in ((public, CandidateKind.REFLEXIVE), (private, CandidateKind.HOST)):
        if _usable(address, loopback):
            place = str(address), port
            found.setdefault(place, Candidate(place, kind))
    return list(found.values())


def _usable(address: IPAddress, loopback: bool) -> bool:
    if address.is_loopback:
        return loopback
    refused = address.is_unspecified or address.is_multicast or address.is_link_local or address == _BROADCAST
    return not refused and not address.packed.startswith(MAPPED)


def at_most(offered: Iterable[Candidate]) -> list[Candidate]:
    """The first :data:`MAXIMUM_CANDIDATES` of the candidates, each address once."""
    found: dict[DatagramAddress, Candidate] = {}
    for candidate in offered:
        if len(found) == MAXIMUM_CANDIDATES:
            break
        found.setdefault(candidate.address, candidate)
    return list(found.values())
