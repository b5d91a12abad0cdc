"""The engine for machines without atheris: inputs made of the seeds by chance, the same ones for the same number."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from fuzz.targets import Target

LONGEST = 4096
KEPT = 512
"""Inputs that later ones are made of, besides the seeds."""
CHECKED_EVERY = 64
"""Inputs between two looks at the clock."""


def inputs(seeds: tuple[bytes, ...], seed: int) -> Iterator[bytes]:
    """Without end: the seeds first, then what becomes of them."""
    yield from seeds
    chance = random.Random(seed)
    pool = list(seeds)
    while True:
        data = bytearray(chance.choice(pool))
        for _ in range(1 << chance.randrange(5)):
            _change(data, chance, pool)
        result = bytes(data[:LONGEST])
        if len(pool) < KEPT:
            pool.append(result)
        else:
            pool[chance.randrange(len(seeds), KEPT)] = result
        yield result


def _change(data: bytearray, chance: random.Random, pool: list[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    match chance.randrange(7):
        case 0 if at < len(data):
            data[at] = chance.randrange(256)
        case 1 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 2:
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
        case 3:
            del data[at : at + chance.randrange(1, 9)]
        case 4:
            other = chance.choice(pool)
            begin = chance.randrange(len(other) + 1)
            data[at:at] = other[begin : begin + chance.randrange(1, 65)]
        case 5:
            data[at:] = chance.choice(pool)
        case _ if at < len(data):
            data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))


def fuzz(target: Target, *, seconds: float, seed: int, count: int | None = None) -> tuple[int, bytes | None, str]:
    """Feed a target.

    :param seconds: after so many it ends.
    :param seed: another number, other inputs.
    :param count: or after so many inputs.
    :return: how many inputs there were; the one that broke a promise, or None; and how.
    """
    until = time.monotonic() + seconds
    done = 0
    for data in inputs(target.seeds, seed):
        if done == count or (not done % CHECKED_EVERY and time.monotonic() >= until):
            break
        try:
            target.one_input(data)
        except Exception:
            import traceback

            return done + 1, data, traceback.format_exc()
        done += 1
    return done, None, ""
