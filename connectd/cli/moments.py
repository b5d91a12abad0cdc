"""Times as operators write and read them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click

LONGEST = timedelta(days=36525)
"""The longest time that can be said; whoever means more means for ever."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(?:[0-9]{1,8}[smhdw]){1,8}")
_PART = re.compile(r"([0-9]+)([smhdw])")


def duration(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """The callback of an option for a time such as ``90m``, ``7d`` or ``1d12h``; in seconds.

    :raises click.BadParameter: where it is none.
    """
    if text is None:
        return None
    written = text.strip().lower()
    if not _DURATION.fullmatch(written):
        raise click.BadParameter(f'"{text}" is not a time; write 90m, 12h, 7d, 2w or 1d12h', context, parameter)
    length = sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in _PART.findall(written)), timedelta())
    if not timedelta() < length <= LONGEST:
        raise click.BadParameter(f'"{text}" is out of range: more than 0 s, at most 100 years', context, parameter)
    return length.total_seconds()


def moment(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """The callback of an option for a point in time as ISO 8601 writes it, local unless it says otherwise; in Unix
    seconds.

    :raises click.BadParameter: where it is none.
    """
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f'"{text}" is not a point in time; write 2030-12-31, 2030-12-31T18:00 or 2030-12-31T18:00+01:00',
            context,
            parameter,
        ) from None


def local_time(seconds: float) -> str:
    """A point in time for people, in their time zone.

    :param seconds: of Unix time.
    """
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s"
