"""What all peers hold together before they have logged in (SB-8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LoginMemory(Generic[T]):
    """How much each peer holds, in the order in which they came, and how much each source does."""

    __slots__ = ("_held", "_sources", "total")

    def __init__(self) -> None:
        self.total = 0
        """Bytes that all of them hold."""
        self._held: dict[T, tuple[int, str]] = {}
        self._sources: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def note(self, peer: T, held: int, source_of: Callable[[T], str]) -> None:
        """A peer holds so many bytes now; one that is new came after all others.

        :param source_of: tells where one that is new comes from.
        """
        known = self._held.get(peer)
        before, source = known if known is not None else (0, source_of(peer))
        self._held[peer] = held, source
        self._add(source, held - before)

    def forget(self, peer: T) -> None:
        """A peer has logged in, or is gone."""
        held, source = self._held.pop(peer, (0, ""))
        self._add(source, -held)

    def victim(self) -> T:
        """Who has to go where it is too much: who came last of the source that holds most, of those that hold
        anything. So nobody keeps others out by holding much.

        :raises LookupError: where nobody does.
        """
        if not self._sources:
            raise LookupError("nobody holds anything")
        most = max(self._sources, key=self._sources.__getitem__)
        return next(peer for peer, (held, source) in reversed(self._held.items()) if held and source == most)

    def _add(self, source: str, change: int) -> None:
        self.total += change
        held = self._sources.get(source, 0) + change
        if held:
            self._sources[source] = held
        else:
            self._sources.pop(source, None)
