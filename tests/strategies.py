"""Hypothesis strategies for every wing: what a network or a bad peer does to good bytes and good messages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut bytes at the given places, which are sorted and lie inside of them."""
    edges = [0, *places, len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


def segmentations(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """The same bytes as a stream transport may hand them over: whole, byte by byte, or cut anywhere; none empty."""
    if len(data) < 2:
        return st.just(cut(data, []))
    places = st.lists(st.integers(1, len(data) - 1), unique=True, max_size=12).map(sorted)
    return st.one_of(
        places.map(lambda chosen: cut(data, chosen)),
        st.just(cut(data, range(1, len(data)))),
        st.just([data]),
    )


def truncations(data: bytes) -> st.SearchStrategy[bytes]:
    """The beginning of the bytes, with at least one missing."""
    return st.integers(0, max(0, len(data) - 1)).map(lambda length: data[:length])


@st.composite
def corruptions(draw: st.DrawFn, data: bytes, at_most: int = 4) -> bytes:
    """The bytes with one to ``at_most`` of them changed, each to another value."""
    changed = bytearray(data)
    for place in draw(st.lists(st.integers(0, len(data) - 1), unique=True, min_size=1, max_size=at_most)):
        changed[place] ^= draw(st.integers(1, 255))
    return bytes(changed)


@st.composite
def duplications(draw: st.DrawFn, messages: Sequence[T]) -> list[T]:
    """The messages with one of them said again, at once or later."""
    again = draw(st.integers(0, len(messages) - 1))
    place = draw(st.integers(again + 1, len(messages)))
    return [*messages[:place], messages[again], *messages[place:]]


@st.composite
def omissions(draw: st.DrawFn, messages: Sequence[T]) -> list[T]:
    """The messages without one of them."""
    missing = draw(st.integers(0, len(messages) - 1))
    return [*messages[:missing], *messages[missing + 1 :]]


@st.composite
def misorderings(draw: st.DrawFn, messages: Sequence[T]) -> list[T]:
    """The messages in another order: one of them moved to another place. There must be two or more."""
    order = list(messages)
    source = draw(st.integers(0, len(order) - 1))
    target = draw(st.integers(0, len(order) - 1).filter(lambda place: place != source))
    order.insert(target, order.pop(source))
    return order


def disturbances(messages: Sequence[T]) -> st.SearchStrategy[list[T]]:
    """Good messages with one thing wrong about their sequence: one again, one missing, or one out of its place."""
    kinds = [duplications(messages), omissions(messages)]
    if len(messages) > 1:
        kinds.append(misorderings(messages))
    return st.one_of(kinds)
