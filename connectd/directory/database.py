"""The database of the directory: one SQLite file, written so that what was acknowledged stays (no Twisted).

Write-ahead log, ``synchronous=FULL``, foreign keys, one transaction for each change. Every process that uses the
directory opens the file for itself. The file and its companions (``-wal``, ``-shm``) are their owner's only.

It is also what :class:`twisted.enterprise.adbapi.ConnectionPool` takes for a DB-API module: :func:`connect` gives a
:class:`Database`, which is used as the connection.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from argon2.profiles import RFC_9106_LOW_MEMORY

from connectd.directory.accounts import Accounts
from connectd.directory.audit import Audit
from connectd.directory.bans import Bans
from connectd.directory.errors import (
    DamagedDatabaseError,
    DatabaseError,
    MissingDatabaseError,
    NewerDatabaseError,
)
from connectd.directory.files import (
    PRIVATE_FILE,
    synchronise_directory,
    synchronise_file,
    temporary_beside,
)
from connectd.directory.proven_names import ProvenNames
from connectd.directory.registered_keys import RegisteredKeys
from connectd.directory.schema import APPLICATION_ID, MIGRATIONS
from connectd.directory.seals import Seals
from connectd.directory.sqlite_errors import damaged, explain, read_only

if TYPE_CHECKING:
    from argon2 import Parameters

    from connectd.directory.sealing import KeyFile

BUSY_TIMEOUT: Final = 10.0
"""Seconds to wait for another process's transaction."""

REMEMBERED_CHANGES: Final = 10_000
"""How many changes are kept for those who follow them."""

SMALLEST: Final = 512
"""Bytes of the smallest database that SQLite knows; all have a multiple of it."""

PROBLEMS: Final = 10
"""How many problems a check reports at most."""

apilevel: Final = "2.0"
threadsafety: Final = 1
paramstyle: Final = "qmark"


class Database:
    """The directory, for one thread at a time. Make one with :meth:`open`; it is a context manager that closes it.

    :param path: the absolute path of the file.
    :param keys: where the sealing keys are; None where nothing sealed is made or opened.
    :param timeout: seconds to wait for other processes.
    :param clock: gives Unix seconds.
    :param parameters: the cost of new argon2id verifiers.
    """

    def __init__(
        self,
        path: str,
        *,
        keys: KeyFile | None = None,
        timeout: float = BUSY_TIMEOUT,
        clock: Callable[[], float] = time.time,
        parameters: Parameters = RFC_9106_LOW_MEMORY,
        migrations: Sequence[Sequence[str]] = MIGRATIONS,
    ) -> None:
        self.path = path
        self.clock = clock
        self.parameters = parameters
        self._migrations = migrations
        self._identity = _identity(path)
        # Asked before a connection makes the log: without one nobody is writing, and nobody was interrupted.
        whole = os.path.exists(f"{path}-wal") or not os.path.getsize(path) % SMALLEST
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = _connected(path, timeout)
            self._expect_ours()
            if not whole:  # SQLite would read zeros for what is missing
                raise damaged(path, "has no whole number of pages: it was cut short")
            self._prepare()
        except sqlite3.Error as error:
            self.close()
            raise explain(error, path) from error
        except BaseException:
            self.close()
            raise
        self.seals = Seals(self, keys)
        """The sealing key in use."""
        self.audit = Audit(self)
        self.accounts = Accounts(self)
        self.bans = Bans(self)
        self.keys = RegisteredKeys(self)
        self.names = ProvenNames(self)

    @classmethod
    def open(cls, path: str, *, create: bool = True, **options: Any) -> Database:
        """Open the database; where there is none, make it.

        :param path: of the file; its directory must exist.
        :param create: False: raise where there is none.
        :param options: as for the class.
        :raises DatabaseError: where it cannot be used.
        """
        path = os.path.abspath(path)
        if not os.path.lexists(path):
            _expect_nothing_else(path)
            if not create:
                raise MissingDatabaseError(
                    f"the database {path} does not exist (connectctl init makes one; see [directory] url)"
                )
            _create(path)
        _expect_usable(path)
        _make_private(path)
        return cls(path, **options)

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self.path!r})"

    @property
    def closed(self) -> bool:
        """Whether it can be used no more."""
        return self._connection is None

    def close(self) -> None:
        """Close it. What was acknowledged is safe either way."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # Statements and transactions, for the rooms of the directory

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement.

        :raises DatabaseError: where SQLite fails.
        """
        try:
            return self._open_connection.execute(statement, parameters)
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def execute_many(self, statement: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run one statement with each of these parameters.

        :raises DatabaseError: where SQLite fails.
        """
        try:
            self._open_connection.executemany(statement, parameters)
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run one statement and give all its rows.

        :raises DatabaseError: where SQLite fails.
        """
        try:
            return self._open_connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def each(self, statement: str, parameters: Sequence[Any] = ()) -> Iterator[Any]:
        """Run one statement and give its rows one by one.

        :raises DatabaseError: where SQLite fails.
        """
        try:
            yield from self._open_connection.execute(statement, parameters)
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def row(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """The first row, or None."""
        rows = self.rows(statement, parameters)
        return rows[0] if rows else None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is one change: all of it is safe on the disk when this ends, or none of it is done.

        Inside another one it is a part of that.

        :raises DatabaseError: where SQLite fails.
        """
        if self._open_connection.in_transaction:
            yield
            return
        self.execute("BEGIN IMMEDIATE")
        try:
            self._expect_same_file()
            yield
            self.execute("DELETE FROM changes WHERE number <= ?", (self.change_number() - REMEMBERED_CHANGES,))
            self.execute("COMMIT")
        except BaseException:
            self.rollback()
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        if self._open_connection.in_transaction:
            yield
            return
        self._expect_same_file()
        self.execute("BEGIN")
        try:
            yield
        finally:
            self.rollback()

    def change_number(self) -> int:
        """The number of the last change of any account, ban or key."""
        row = self.row("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
        return int(row[0]) if row is not None else 0

    # What adbapi asks of a connection

    def commit(self) -> None:
        """Nothing is left to do: each change commits itself."""

    def rollback(self) -> None:
        """Undo what an unfinished transaction did."""
        connection = self._connection
        if connection is not None and connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                # SQLite has rolled back by itself, or the file is gone: either way nothing is committed. Without this
                # connection its locks are gone as well.
                self.close()

    # Care

    def check(self) -> list[str]:
        """Read the whole file and tell what is wrong with it, in one line each; nothing where it is sound."""
        try:
            found = [row[0] for row in self.rows(f"PRAGMA integrity_check({PROBLEMS})") if row[0] != "ok"]
            orphans = self.rows("PRAGMA foreign_key_check")
        except DamagedDatabaseError as error:
            return [str(error)]
        found = [" ".join(problem.split()) for problem in found]
        found += [f"row {row[1]} of {row[0]} belongs to no row of {row[2]}" for row in orphans[:PROBLEMS]]
        return [str(damaged(self.path, f"is damaged: {problem}")) for problem in found]

    def backup(self, path: str) -> None:
        """Write a copy of the database as it is at this moment, for its owner only, while everything goes on.

        Sealed verifiers stay sealed in it: keep a backup of the key file elsewhere.

        :param path: of the copy, which replaces what is there once it is complete.
        :raises DatabaseError: where it cannot be written.
        """
        path = os.path.abspath(path)
        if os.path.exists(path) and os.path.samefile(path, self.path):
            raise DatabaseError(f"the backup {path} would replace the database itself (choose another path)")
        try:
            with temporary_beside(path) as temporary:
                copy = sqlite3.connect(temporary)
                try:
                    self._open_connection.backup(copy)
                    copy.execute("PRAGMA journal_mode = DELETE")  # one file, without companions
                finally:
                    copy.close()
                synchronise_file(temporary)
                os.replace(temporary, path)
            synchronise_directory(path)
        except sqlite3.Error as error:
            raise DatabaseError(f"the backup {path} cannot be written: {error} (the database is untouched)") from error
        except OSError as error:
            raise DatabaseError(
                f"the backup {path} cannot be written: {error.strerror} (the database is untouched)"
            ) from error

    # How it is opened

    @property
    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise DatabaseError(f"the database {self.path} is closed (open it again)")
        return self._connection

    def _expect_same_file(self) -> None:
        """A file that was replaced takes no more changes: they would be lost."""
        if _identity(self.path) != self._identity:
            raise DatabaseError(
                f"the database {self.path} was replaced or removed while it was in use "
                "(restart the daemon to use what is there now; this change was not made)"
            )

    def _expect_ours(self) -> None:
        application = self._open_connection.execute("PRAGMA application_id").fetchone()[0]
        if application != APPLICATION_ID:
            raise DatabaseError(
                f"the database {self.path} belongs to another program (application_id {application:#x}; "
                "choose another path)"
            )

    def _prepare(self) -> None:
        """Set the connection up, bring an older database up to date."""
        connection = self._open_connection
        for pragma in ("foreign_keys = ON", "secure_delete = ON", "trusted_schema = OFF", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {pragma}")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise DatabaseError(f"the database {self.path} cannot have a write-ahead log (use a local disk)")
        for pragma in ("synchronous = FULL", "fullfsync = ON", "checkpoint_fullfsync = ON"):
            connection.execute(f"PRAGMA {pragma}")
        if self._version() < len(self._migrations):
            migrate(connection, self._migrations)
        elif self._version() > len(self._migrations):
            raise NewerDatabaseError(
                f"the database {self.path} is of version {self._version()}, and this connectd knows those up to "
                f"{len(self._migrations)} (install the newer connectd again, or bring back a backup from before it)"
            )

    def _version(self) -> int:
        return int(self._open_connection.execute("PRAGMA user_version").fetchone()[0])


def connect(path: str, **options: Any) -> Database:
    """The DB-API's word for :meth:`Database.open`."""
    return Database.open(path, **options)


def prepare(path: str, *, keys: KeyFile | None = None, schemes: Collection[str] = (), **options: Any) -> None:
    """Make the database where there is none, bring it up to date, read it through, and leave nothing open.

    For commands that look before they leap, and for what runs before a fork.

    :param schemes: the verifier schemes that will be asked for: sealed ones need their key.
    :raises DirectoryError: with what is wrong.
    """
    with Database.open(path, keys=keys, **options) as database:
        problems = database.check()
        if problems:
            raise DamagedDatabaseError(problems[0])
        database.seals.expect_keys(schemes)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    """Take the steps that a database has not seen, each in a transaction of its own.

    :raises sqlite3.Error: where one fails; those before it stay taken.
    """
    for number, statements in enumerate(migrations, 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have been faster.
            if connection.execute("PRAGMA user_version").fetchone()[0] < number:
                for statement in statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _connected(path: str, timeout: float) -> sqlite3.Connection:
    # A plain open() of the file would be wrong: closing it drops the locks of all connections in this process.
    url = f"file:{quote(os.fsencode(path))}?mode=rw"
    return sqlite3.connect(url, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)


def _create(path: str) -> None:
    """Make a database without tables. It appears at its path complete: an empty file there is always one cut short."""
    try:
        with temporary_beside(path) as temporary:
            connection = _connected(temporary, BUSY_TIMEOUT)
            try:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()
            synchronise_file(temporary)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return  # another process was faster
        synchronise_directory(path)
    except sqlite3.Error as error:
        raise explain(error, path) from error
    except PermissionError:
        raise read_only(path) from None
    except OSError as error:
        raise DatabaseError(f"the database {path} cannot be made: {error.strerror} (see [directory] url)") from error


def _expect_nothing_else(path: str) -> None:
    """Where the file is gone but its log is there, a new database would destroy what the log holds."""
    for companion in (f"{path}-wal", f"{path}-journal"):
        if os.path.exists(companion) and os.path.getsize(companion):
            raise MissingDatabaseError(
                f"the database {path} is missing, but {companion} with its last changes is there "
                "(bring the file back beside it, or put that one aside to begin anew)"
            )


def _expect_usable(path: str) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        raise DatabaseError(f"the database {path} cannot be used: {error.strerror} (see [directory] url)") from error
    if not stat.S_ISREG(status.st_mode):
        raise DatabaseError(f"the database {path} is not a file (see [directory] url)")
    effective = os.access in os.supports_effective_ids
    if not all(os.access(place, os.W_OK, effective_ids=effective) for place in (path, os.path.dirname(path))):
        raise read_only(path)
    if status.st_size < SMALLEST:
        # SQLite would take it for a new one.
        raise damaged(path, f"has only {status.st_size} bytes: it was cut short")


def _make_private(path: str) -> None:
    """Take what others may do with the file and its companions away, where it is ours to take."""
    for name in (path, f"{path}-wal", f"{path}-shm"):
        try:
            if stat.S_IMODE(os.stat(name).st_mode) & ~PRIVATE_FILE:
                os.chmod(name, PRIVATE_FILE)
        except OSError:
            continue  # there is none, or it belongs to somebody else, who decides


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
