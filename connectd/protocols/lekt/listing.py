"""A client's picture of who else is there, kept from the server's updates (LEKT-8, LEKT-10)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address

from connectd.protocols.lekt.packets import Entry


class Listing:
    """The listed clients, and what changed about them since :meth:`changes` was last asked.

    Several clients may look exactly alike: the same address, the same port. They are counted.
    """

    __slots__ = ("_before", "_count", "_entries")

    def __init__(self) -> None:
        self._entries: dict[IPv4Address, Counter[Entry]] = {}
        self._before: dict[IPv4Address, Counter[Entry]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        for entries in self._entries.values():
            yield from entries.elements()

    def _touch(self, address: IPv4Address) -> Counter[Entry]:
        """Remember how an address was before the first change since :meth:`changes`."""
        entries = self._entries.setdefault(address, Counter())
        if address not in self._before:
            self._before[address] = Counter(entries)
        return entries

    def add(self, entry: Entry) -> None:
        """A client is there."""
        self._touch(entry.address)[entry] += 1
        self._count += 1

    def remove(self, address: IPv4Address) -> None:
        """All clients behind an address are gone; one that is not listed is nobody's loss."""
        if address not in self._entries:
            return
        entries = self._touch(address)
        self._count -= entries.total()
        entries.clear()

    def clear(self) -> None:
        """The whole list comes anew."""
        for address in list(self._entries):
            self.remove(address)

    def changes(self) -> tuple[list[Entry], list[Entry]]:
        """Who left and who joined since the last call. Who was removed and added alike is not mentioned."""
        left: list[Entry] = []
        joined: list[Entry] = []
        for address, before in self._before.items():
            after = self._entries[address]
            left += (before - after).elements()
            joined += (after - before).elements()
            if not after:
                del self._entries[address]
        self._before.clear()
        return left, joined
