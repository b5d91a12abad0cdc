"""What all peers hold together before they have logged in (SB-8)."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class LoginMemory(Generic[T]):
    """How much each peer holds, in the order in which they came."""

    __slots__ = ("_held", "total")

    def __init__(self) -> None:
        self.total = 0
        """Bytes that all of them hold."""
        self._held: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def note(self, peer: T, held: int) -> None:
        """A peer holds so many bytes now; one that is new came after all others."""
        self.total += held - self._held.get(peer, 0)
        self._held[peer] = held

    def forget(self, peer: T) -> None:
        """A peer has logged in, or is gone."""
        self.total -= self._held.pop(peer, 0)

    def newest(self) -> T:
        """Who came last of those that hold anything.

        :raises LookupError: where nobody does.
        """
        for peer in reversed(self._held):
            if self._held[peer]:
                return peer
        raise LookupError("nobody holds anything")
