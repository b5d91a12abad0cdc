"""Addresses as admission sees them: packed bytes, their source, and lists of networks (COM-4)."""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Final

from connectd.addresses import MAPPED, pack
from connectd.settings import Network

UNIX: Final = "unix"
"""The source key of every peer without an IP address: the other end of a unix socket, host ``""``."""

MAPPED_PREFIX_LENGTH: Final = 8 * len(MAPPED)

REMEMBERED_DECISIONS: Final = 8192
"""How many hosts an :class:`AddressPolicy` remembers its decision for; the least recently used goes first."""


def unpack(packed: bytes) -> str:
    """The one canonical text of a packed address (RFC 5952 for IPv6)."""
    return str(ipaddress.ip_address(packed))


def network_key(packed: bytes, ipv4_prefix: int, ipv6_prefix: int) -> str:
    """The source key of a packed address: itself for an IPv4 /32, else its network with the prefix."""
    if len(packed) == 4:
        if ipv4_prefix == 32:
            return socket.inet_ntop(socket.AF_INET, packed)
        family, prefix, host_bits = socket.AF_INET, ipv4_prefix, 32 - ipv4_prefix
    else:
        family, prefix, host_bits = socket.AF_INET6, ipv6_prefix, 128 - ipv6_prefix
    network = int.from_bytes(packed, "big") >> host_bits << host_bits
    return f"{socket.inet_ntop(family, network.to_bytes(len(packed), 'big'))}/{prefix}"


def source_key(host: str, *, ipv4_prefix: int = 32, ipv6_prefix: int = 64) -> str:
    """Name the source that a peer belongs to, for everything that is counted per source (COM-4).

    ``"192.0.2.1"`` for an IPv4 /32, ``"192.0.2.0/24"`` or ``"2001:db8::/64"`` for a network, ``"unix"`` for
    the empty host of a unix socket's peer.

    :raises ValueError: where ``host`` is neither empty nor an IP address.
    """
    return network_key(pack(host), ipv4_prefix, ipv6_prefix) if host else UNIX


class NetworkList:
    """Networks, looked up with one dictionary access for each prefix length that occurs among them."""

    __slots__ = ("_tables",)

    def __init__(self, networks: Iterable[Network]) -> None:
        tables: dict[tuple[int, int], dict[int, Network]] = {}
        for network in networks:
            address, prefix = network.network_address.packed, network.prefixlen
            if address.startswith(MAPPED) and prefix >= MAPPED_PREFIX_LENGTH:
                address, prefix = address[len(MAPPED) :], prefix - MAPPED_PREFIX_LENGTH
            host_bits = 8 * len(address) - prefix
            table = tables.setdefault((len(address), host_bits), {})
            table[int.from_bytes(address, "big") >> host_bits] = network
        self._tables: dict[int, list[tuple[int, dict[int, Network]]]] = {4: [], 16: []}
        for (size, host_bits), table in sorted(tables.items(), key=lambda item: item[0], reverse=True):
            self._tables[size].append((host_bits, table))

    def match(self, packed: bytes) -> Network | None:
        """The widest network of the list that the packed address lies in, or None."""
        value = int.from_bytes(packed, "big")
        for host_bits, table in self._tables[len(packed)]:
            if (network := table.get(value >> host_bits)) is not None:
                return network
        return None


class AddressPolicy:
    """A deny and an allow list (COM-4). Deny wins; an empty allow list allows everybody."""

    __slots__ = ("_allow", "_deny", "refusal")

    refusal: Callable[[str], str | None]
    """Why this host may not come in, or None. Remembers its decisions.

    :raises ValueError: where the host is not an IP address.
    """

    def __init__(self, allow: Iterable[Network], deny: Iterable[Network]) -> None:
        allowed = tuple(allow)
        self._allow = NetworkList(allowed) if allowed else None
        self._deny = NetworkList(deny)
        self.refusal = functools.lru_cache(REMEMBERED_DECISIONS)(self._refusal)

    def _refusal(self, host: str) -> str | None:
        packed = pack(host)
        if (network := self._deny.match(packed)) is not None:
            return f"{unpack(packed)} is denied by {network}"
        if self._allow is not None and self._allow.match(packed) is None:
            return f"{unpack(packed)} is not on the allow list"
        return None
