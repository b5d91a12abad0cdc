"""What a process costs, asked by itself: the CPU time of all its threads, and its memory."""

from __future__ import annotations

import resource
import time

DESCRIPTORS_KEPT = 100
"""Descriptors that a process needs besides those of its connections."""


def cpu() -> float:
    """Seconds of user and system time so far."""
    return time.process_time()


def memory() -> int:
    """Bytes that are resident in memory now. Counting them takes a while: not between two readings of :func:`cpu`."""
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))


def allow_descriptors(wanted: int) -> None:
    """Raise this process's limit of open files as far as so many connections need.

    :raises OSError: where the system does not allow it.
    """
    wanted += DESCRIPTORS_KEPT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (ValueError, OSError):
        raise OSError(
            f"{wanted} open files are needed and {hard} are allowed (run: ulimit -Hn {wanted}, or as root)"
        ) from None
