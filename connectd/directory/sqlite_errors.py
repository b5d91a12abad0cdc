"""What SQLite's errors mean to the person who runs the daemon."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from connectd.directory.errors import (
    DamagedDatabaseError,
    DatabaseError,
    DiskFullError,
    LockedDatabaseError,
    ReadOnlyDatabaseError,
)

NO_ROOM: Final = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_TRUNCATE})
"""How SQLite tells of a full disk, a quota or a file size limit where it does not say ``SQLITE_FULL``."""


def read_only(path: str) -> ReadOnlyDatabaseError:
    """The database or its directory may not be written."""
    return ReadOnlyDatabaseError(
        f"the database {path} cannot be written: this user needs to write to the file and to its directory "
        "(change their owner, or the read-only mount)"
    )


def damaged(path: str, what: str) -> DamagedDatabaseError:
    """The file is not what it was.

    :param what: is wrong with it.
    """
    return DamagedDatabaseError(
        f"the database {path} {what} (stop the daemon, put the file aside together with its -wal, and bring back a "
        "backup; nothing was changed)"
    )


def _locked(path: str, text: str) -> DatabaseError:
    return LockedDatabaseError(
        f"the database {path} is locked by another process, which does not let go "
        f"(find it with: fuser -v {path}; nothing was changed)"
    )


def _full(path: str, text: str) -> DatabaseError:
    return DiskFullError(
        f"the database {path} cannot grow: {text} (make room on its disk or raise the limit; this change was not made, "
        "all earlier ones are safe)"
    )


def _unusable(path: str, text: str) -> DatabaseError:
    return DatabaseError(f"the database {path} cannot be used: {text} (see to its disk and permissions)")


_BY_CODE: Final[dict[int, Callable[[str, str], DatabaseError]]] = {
    sqlite3.SQLITE_BUSY: _locked,
    sqlite3.SQLITE_LOCKED: _locked,
    sqlite3.SQLITE_READONLY: lambda path, text: read_only(path),
    sqlite3.SQLITE_PERM: lambda path, text: read_only(path),
    sqlite3.SQLITE_FULL: _full,
    sqlite3.SQLITE_CORRUPT: lambda path, text: damaged(path, f"is damaged: {text}"),
    sqlite3.SQLITE_NOTADB: lambda path, text: damaged(path, "is not an SQLite database"),
}


def explain(error: sqlite3.Error, path: str) -> DatabaseError:
    """Say in one line what happened and what to do."""
    code = getattr(error, "sqlite_errorcode", 0)  # absent where the sqlite3 module itself complains
    if code in NO_ROOM:
        return _full(path, str(error))
    return _BY_CODE.get(code & 0xFF, _unusable)(path, str(error))
