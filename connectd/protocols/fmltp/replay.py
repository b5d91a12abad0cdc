"""Tokens that were here before (FM-15).

Clocks differ, so stamps are compared with each other only, never with our own time.
"""

from __future__ import annotations

from typing import Final

WINDOW: Final = 60
"""Seconds by which a token may be stamped before the newest one that was seen."""

REMEMBERED: Final = 4096
"""Tokens that are remembered at most."""

_KEPT: Final = 16
"""Bytes of an HMAC that are remembered."""


class ReplayError(ValueError):
    """A token that was here before, or may have been."""


class ReplayGuard:
    """Remembers the HMACs of a peer's tokens for as long as a repeat would be let in.

    That is 60 seconds, by the peer's stamps. A peer that sends more tokens in that time than are remembered has the
    window drawn closer, second by second: what is forgotten is too old from then on, so a repeat never passes. Where
    all that is remembered is of one second, nothing more may be taken until that second is over.
    """

    __slots__ = ("_count", "_floor", "_macs", "_newest", "offset")

    def __init__(self) -> None:
        self.offset: float | None = None
        """The peer's clock minus ours, in seconds, by its first token; None until then."""
        self._macs: dict[int, set[bytes]] = {}
        self._count = 0
        self._floor = 0
        self._newest = 0

    def __len__(self) -> int:
        return self._count

    def admit(self, stamp: int, mac: bytes, now: float) -> None:
        """Let a token in, once.

        :param stamp: its time, by the peer's clock.
        :param mac: its HMAC, which was found right.
        :param now: by ours.
        :raises ReplayError: for a repeat, or a token that is too old to tell.
        """
        if self.offset is None:
            self.offset = stamp - now
            self._newest = stamp
            self._floor = max(0, stamp - WINDOW)
        if stamp < self._floor:
            raise ReplayError(f"a token stamped {self._newest - stamp} s before the newest")
        mac = mac[:_KEPT]
        if mac in self._macs.get(stamp, ()):
            raise ReplayError("a token that was here before")
        if stamp > self._newest:
            self._newest = stamp
            if stamp - WINDOW > self._floor:
                self._forget_before(stamp - WINDOW)
        while self._count >= REMEMBERED:
            oldest = min(self._macs)
            if oldest >= stamp:
                raise ReplayError("a token that is too old to tell from a repeat")
            self._forget_before(oldest + 1)
        self._macs.setdefault(stamp, set()).add(mac)
        self._count += 1

    @property
    def full_until(self) -> float | None:
        """When there is room again, by our clock, where there is none: once the peer's newest second is over."""
        if self._count < REMEMBERED or len(self._macs) > 1 or self.offset is None:
            return None
        return self._newest + 1 - self.offset

    def make_room(self, now: float) -> None:
        """Forget a second that is over, where there is no room."""
        until = self.full_until
        if until is not None and now >= until:
            self._forget_before(self._newest + 1)

    def _forget_before(self, floor: int) -> None:
        self._floor = floor
        for stamp in [stamp for stamp in self._macs if stamp < floor]:
            self._count -= len(self._macs.pop(stamp))
