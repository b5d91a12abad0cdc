"""How often each source may do something: token buckets, a bounded number of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from connectd.admission.addresses import source_key
from connectd.admission.limits import AdmissionLimits

MAXIMUM_SOURCES: Final = 65_536


class Pace:
    """Lets each source do something so many times a minute (COM-4 says what a source is), and as many at once.

    Memory is bounded: of more than ``maximum_sources`` the one that has been quiet for the longest time is forgotten.

    :param per_minute: how many times; 0 = without limit.
    """

    __slots__ = ("_booked", "_maximum_sources", "per_minute")

    def __init__(self, per_minute: float, *, maximum_sources: int = MAXIMUM_SOURCES) -> None:
        self.per_minute = per_minute
        self._maximum_sources = maximum_sources
        # When each source would be done at exactly that pace, the quietest first.
        self._booked: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._booked)

    def take(self, host: str, limits: AdmissionLimits, now: float) -> bool:
        """Whether a source may do it once more; if so, that counts.

        :param host: the peer's address, ``""`` for a Unix socket.
        :param limits: for what counts as one source.
        """
        if not self.per_minute:
            return True
        source = source_key(host, ipv4_prefix=limits.ipv4_prefix, ipv6_prefix=limits.ipv6_prefix)
        interval = 60.0 / self.per_minute
        burst = max(60.0, interval)
        # No later than a whole burst away, though the clock may have been set back.
        booked = min(max(self._booked.get(source, now), now), now + burst)
        there = booked - now <= burst - interval + 1e-6
        self._booked[source] = booked + interval if there else booked
        self._booked.move_to_end(source)
        while self._booked and next(iter(self._booked.values())) <= now:
            self._booked.popitem(last=False)
        if len(self._booked) > self._maximum_sources:
            self._booked.popitem(last=False)
        return there
