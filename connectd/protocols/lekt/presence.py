"""Who is listed, and what changed since anybody last heard: LEKT-8 to LEKT-10 at the price of LEKT-16.

Changes are kept in two logs, one of clients that were added and one of addresses that were removed. A
receiver's place in them is a :class:`Place`. What it has missed is a slice of each log, so an answer is put together
from bytes that were encoded once, when the change happened, whoever receives it; with nothing new it costs nothing.

A client that leaves takes its addition out of the log again. Where it was one of several behind an address, whoever
knew it is told to remove the whole address and to add those who are there now (LEKT-10). That is one removal in the
log, however many of them left before the next answer, and nothing for each that stays.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

from connectd.protocols.lekt.packets import encode_additions, encode_nothing, encode_removals

MAXIMUM_REMEMBERED: Final = 500_000
"""Changes that are kept at most (COM-2). A receiver that is further behind has to join again."""


@attrs.define(eq=False)
class Member:
    """A listed client.

    :param address: its IPv4 address, 4 bytes.
    :param entry: how it is listed, encoded.
    :param position: its place in the log of additions.
    """

    address: bytes
    entry: bytes
    position: int


@attrs.frozen
class Place:
    """Up to where a receiver knows the two logs."""

    additions: int
    removals: int


class Fallen(Exception):
    """A receiver's place lies before what is remembered: it was silent for too long, or through too many changes."""


class Presence:
    """The list of a LEKT server.

    :param retention: seconds for which changes are remembered: longer than a client may be silent. May be raised.
    """

    def __init__(self, retention: float) -> None:
        self.retention = retention
        self._members: dict[bytes, tuple[Member, ...]] = {}
        self._shared: dict[bytes, int] = {}
        self._count = 0
        self._additions: list[Member | None] = []
        self._removals: list[tuple[int, bytes]] = []
        self._first = Place(0, 0)
        self._place = Place(0, 0)
        self._marks: deque[tuple[float, Place]] = deque()

    def __len__(self) -> int:
        """How many clients are listed."""
        return self._count

    @property
    def remembered(self) -> int:
        """How many changes are kept in memory."""
        return len(self._additions) + len(self._removals)

    def join(self, address: bytes, entry: bytes, now: float) -> Member:
        """List a client.

        :param address: its IPv4 address, 4 bytes.
        :param entry: how it is listed, encoded: the one time that this change is.
        """
        self._forget(now)
        member = Member(address, entry, self._place.additions)
        self._members[address] = (*self._members.get(address, ()), member)
        self._count += 1
        self._additions.append(member)
        self._place = Place(self._place.additions + 1, self._place.removals)
        return member

    def leave(self, member: Member) -> None:
        """Take a client off the list."""
        address, position = member.address, member.position
        group = self._members[address]
        remaining = tuple(other for other in group if other is not member) if len(group) > 1 else ()
        if position >= self._first.additions:
            self._additions[position - self._first.additions] = None
        self._count -= 1
        if remaining:
            self._members[address] = remaining
        else:
            del self._members[address]
        if remaining or address in self._shared:
            # One removal for all of them: whoever knew any of them knew the one who came first.
            self._shared[address] = min(position, self._shared.get(address, position))
        else:
            self._remove(position, address)

    def answer(self, member: Member, place: Place | None, time: int) -> tuple[list[bytes], Place]:
        """What a receiver has to be told.

        :param member: the receiver's own entry, which it is not told about (LEKT-9).
        :param place: what the last answer returned; None for the whole list.
        :param time: Unix seconds, for the updates.
        :return: encoded updates, and the receiver's new place.
        :raises Fallen: where the place is no longer remembered.
        """
        if self._shared:
            shared, self._shared = self._shared, {}
            for address, position in shared.items():
                self._remove(position, address)
        if place is None:
            everybody = [one.entry for group in self._members.values() for one in group if one is not member]
            return encode_additions(time, everybody), self._place
        if place is self._place or place == self._place:
            # Our own object, so that all who are up to date hold the same one.
            return [encode_nothing(time)], self._place
        first = self._first
        if place.additions < first.additions or place.removals < first.removals:
            raise Fallen
        known = place.additions
        removed = dict.fromkeys(
            address for position, address in self._removals[place.removals - first.removals :] if position < known
        )
        additions = [
            one.entry
            for one in self._additions[known - first.additions :]
            if one is not None and one is not member and one.address not in removed
        ]
        for address in removed:
            additions += [one.entry for one in self._members.get(address, ()) if one is not member]
        return encode_removals(time, list(removed)) + encode_additions(time, additions), self._place

    def _remove(self, position: int, address: bytes) -> None:
        self._removals.append((position, address))
        self._place = Place(self._place.additions, self._place.removals + 1)

    def _since(self, place: Place) -> int:
        """How many changes there were after a place."""
        return self._place.additions - place.additions + self._place.removals - place.removals

    def _forget(self, now: float) -> None:
        """Drop changes that everybody who may still be connected has heard, and those beyond what is remembered at all.

        Done when somebody joins: without that, no more changes than there are clients can come.
        """
        marks = self._marks
        if not marks or marks[-1][0] + 1.0 <= now:
            marks.append((now, self._place))
        forgotten = None
        while marks and (marks[0][0] + self.retention < now or self._since(marks[0][1]) > MAXIMUM_REMEMBERED):
            forgotten = marks.popleft()[1]
        if forgotten is not None:
            del self._additions[: forgotten.additions - self._first.additions]
            del self._removals[: forgotten.removals - self._first.removals]
            self._first = forgotten
