"""What a network does to a stream: the same bytes in other pieces."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

Segment = Callable[[bytes], Iterable[bytes]]
"""Cuts what one side wrote into the pieces in which the other side reads it."""


def whole(data: bytes) -> Iterable[bytes]:
    """Everything in one piece."""
    return (data,)


def segments_of(size: int) -> Segment:
    """Pieces of that many bytes.

    :param size: 1 lets every byte arrive on its own.
    """
    return lambda data: [data[start : start + size] for start in range(0, len(data), size)]


def split_at(*places: int) -> Segment:
    """Whatever is there to be read is cut at these places, counted from its first byte.

    One run with ``split_at(n)`` for each n up to the length of the longest message tries every split of every message.
    """

    def split(data: bytes) -> Iterator[bytes]:
        start = 0
        for place in sorted(places):
            if start < place < len(data):
                yield data[start:place]
                start = place
        yield data[start:]

    return split


def random_segments(seed: int, largest: int = 64) -> Segment:
    """Pieces of random sizes, the same ones in every run with that seed.

    :param largest: bytes of the largest piece.
    """
    source = random.Random(seed)  # noqa: S311 - nothing depends on these being secret

    def split(data: bytes) -> Iterator[bytes]:
        start = 0
        while start < len(data):
            end = start + source.randint(1, largest)
            yield data[start:end]
            start = end

    return split


def every_split(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """All the ways to read the same bytes in two pieces, and last, each on its own.

    For what speaks bytes by hand: ``for pieces in every_split(data): network.raw(listener).send(*pieces)``.
    """
    for place in range(1, len(data)):
        yield data[:place], data[place:]
    yield tuple(data[place : place + 1] for place in range(len(data)))
