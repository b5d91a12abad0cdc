"""Keeps the tables of keys in ``configuration.md`` as the settings classes say: ``python docs/settings_tables.py``.

A table stands between ``<!-- settings: MODULE:CLASS -->`` and ``<!-- end -->``. With ``without=MODULE:CLASS`` in the
first of them, rows that the other class has word for word are left out.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("configuration.md")

_TABLE = re.compile(r"(<!-- settings: (\S+)(?: without=(\S+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def current(page: str) -> str:
    """The page with its tables as they should be."""
    return _TABLE.sub(lambda match: f"{match[1]}\n{_table(match[2], match[3])}\n{match[4]}", page)


def _table(name: str, without: str | None) -> str:
    from connectd.config import settings_table

    shared = set(settings_table(_class(without)).splitlines()[2:]) if without else set()
    return "\n".join(line for line in settings_table(_class(name)).splitlines() if line not in shared) + "\n"


def _class(name: str) -> type[Any]:
    module, _, attribute = name.partition(":")
    found: type[Any] = getattr(import_module(module), attribute)
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    PAGE.write_text(current(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
