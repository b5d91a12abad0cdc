"""Bans in memory, asked on every accept (COM-4): a dictionary access for each prefix length that occurs among them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

from connectd.addresses import pack
from connectd.directory.bans import ACCOUNT, ADDRESS, KEY, NETWORK, UUID_KIND, Ban
from connectd.directory.names import lookup_key
from connectd.directory.registered_keys import fingerprint

NO_REASON: Final = "no reason was given"


class BanTable:
    """What is banned now. Bans that are over stay in it and count for nothing.

    :param clock: gives Unix seconds.
    """

    __slots__ = ("_bans", "_clock", "_networks")

    def __init__(self, clock: Callable[[], float], bans: Iterable[Ban] = ()) -> None:
        self._clock = clock
        self._bans: dict[tuple[str, str], Ban] = {}
        # By the size of addresses in bytes: (host bits, {leading bits: ban}), the longest prefix first.
        self._networks: dict[int, list[tuple[int, dict[int, Ban]]]] = {4: [], 16: []}
        for ban in bans:
            self.put(ban)

    def __len__(self) -> int:
        return len(self._bans)

    def put(self, ban: Ban) -> None:
        """Add a ban, or replace the one of the same thing."""
        self._bans[ban.kind, ban.value] = ban
        if ban.kind in (ADDRESS, NETWORK):
            size, host_bits, prefix = _place(ban.value)
            tables = self._networks[size]
            table = next((table for bits, table in tables if bits == host_bits), None)
            if table is None:
                table = {}
                tables.append((host_bits, table))
                tables.sort(key=lambda entry: entry[0])
            table[prefix] = ban

    def discard(self, kind: str, value: str) -> None:
        """Drop the ban of this, if there is one."""
        ban = self._bans.pop((kind, value), None)
        if ban is not None and kind in (ADDRESS, NETWORK):
            size, host_bits, prefix = _place(value)
            tables = dict(self._networks[size])
            del tables[host_bits][prefix]
            self._networks[size] = [(bits, table) for bits, table in tables.items() if table]

    def match_address(self, host: str) -> str | None:
        """Why an address is banned: the reason of the narrowest ban that holds, or None.

        :raises ValueError: where ``host`` is not an IP address.
        """
        packed = pack(host)
        value = int.from_bytes(packed, "big")
        for host_bits, table in self._networks[len(packed)]:
            ban = table.get(value >> host_bits)
            if ban is not None and not ban.expired(self._clock()):
                return ban.reason or NO_REASON
        return None

    def match_account(self, name: str | bytes) -> str | None:
        """Why an account is banned, or None."""
        key = lookup_key(name)
        return None if key is None else self._match(ACCOUNT, key)

    def match_uuid(self, uuid: UUID) -> str | None:
        """Why a UUID is banned, or None."""
        return self._match(UUID_KIND, str(uuid))

    def match_key(self, key: bytes) -> str | None:
        """Why a public key is banned, or None.

        :param key: its DER SubjectPublicKeyInfo.
        """
        return self._match(KEY, fingerprint(key))

    def _match(self, kind: str, value: str) -> str | None:
        ban = self._bans.get((kind, value))
        return None if ban is None or ban.expired(self._clock()) else ban.reason or NO_REASON


def _place(value: str) -> tuple[int, int, int]:
    """The address size in bytes, the number of host bits and the leading bits of a canonical address or network."""
    network = ipaddress.ip_network(value)
    host_bits = network.max_prefixlen - network.prefixlen
    return network.max_prefixlen // 8, host_bits, int(network.network_address) >> host_bits
