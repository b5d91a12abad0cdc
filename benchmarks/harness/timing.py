"""The CPU time of a function that is called many times in this process."""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDS = 15


def each(function: Callable[[int], object], count: int, rounds: int = ROUNDS) -> float:
    """Microseconds of CPU for one call, in the best of several rounds: what disturbs it only adds.

    :param function: is given the number of the call, which goes on over the rounds.
    """
    best = float("inf")
    for index in range(rounds):
        numbers = range(index * count, (index + 1) * count)
        began = time.process_time()
        for number in numbers:
            function(number)
        best = min(best, time.process_time() - began)
    return best / count * 1e6
