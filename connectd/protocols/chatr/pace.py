"""How much may happen within a second, exactly: the UDP side answers and probes within fixed limits (CH-32, CH-40)."""

from __future__ import annotations

from collections import deque


class SlidingWindow:
    """At most so many of something within any second.

    :param most: how many.
    """

    __slots__ = ("_times",)

    def __init__(self, most: int) -> None:
        self._times: deque[float] = deque(maxlen=most)

    def free_at(self) -> float:
        """From when on there is room for one more."""
        times = self._times
        return times[0] + 1.0 if len(times) == times.maxlen else float("-inf")

    def take(self, now: float) -> bool:
        """Take room for one, or say that there is none."""
        if self._times and now < self._times[-1] - 1.0:
            self._times.clear()  # the clock was set back
        if now < self.free_at():
            return False
        self._times.append(now)
        return True
