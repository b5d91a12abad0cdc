"""Which lines of a server hold memory: tracemalloc, for reports. It makes everything several times slower."""

from __future__ import annotations

import os
import tracemalloc


def start_tracing() -> None:
    """Note from now on where memory comes from."""
    tracemalloc.start()


def traced_lines(most: int) -> list[tuple[str, int, int]]:
    """The lines that hold most of what was allocated since: (``file:line``, bytes, blocks), the largest first."""
    statistics = tracemalloc.take_snapshot().statistics("lineno")[:most]
    return [(_shown(one.traceback[0]), one.size, one.count) for one in statistics]


def _shown(frame: tracemalloc.Frame) -> str:
    """The last three parts of a path, and the line."""
    return f"{os.sep.join(frame.filename.split(os.sep)[-3:])}:{frame.lineno}"
