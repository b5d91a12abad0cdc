"""The nearest known word to one that is not known, for the end of an error message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean "lekt"?`` where one of the known words is near enough, else nothing."""
    nearest = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f'; did you mean "{nearest[0]}"?' if nearest else ""
