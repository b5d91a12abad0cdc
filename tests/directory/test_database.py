"""The database file: what it is opened from, what it survives, what is said when it cannot be used."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.python.filepath import FilePath
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from connectd.directory import (
    ARGON2ID,
    SEALED_SHA256,
    DamagedDatabaseError,
    Database,
    DatabaseError,
    DiskFullError,
    LockedDatabaseError,
    MissingDatabaseError,
    MissingKeyError,
    NewerDatabaseError,
    ReadOnlyDatabaseError,
    prepare,
    rotate_key,
)
from connectd.directory.database import REMEMBERED_CHANGES, connect, migrate
from connectd.directory.schema import APPLICATION_ID, MIGRATIONS
from connectd.directory.sqlite_errors import explain
from tests.directory.opened import Place, mode

NOBODY = 65534


def scene(name: str, path: str) -> subprocess.Popen[str]:
    """Start one of :mod:`tests.directory.scenes`."""
    command = [sys.executable, "-m", "tests.directory.scenes", name, path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


@contextmanager
def not_root() -> Iterator[None]:
    """Be a user whom permissions bind."""
    if os.geteuid():
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


class DatabaseTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Place(self)
        self.path = self.place.path()

    def assert_line(self, error: Exception, *words: str) -> None:
        """The error is one line that names the file and has these words."""
        self.assertEqual(len(str(error).splitlines()), 1)
        for word in (self.path, *words):
            self.assertIn(word, str(error))

    def assert_refused(self, kind: type[DatabaseError], *words: str, **options: Any) -> None:
        error = self.assertRaises(DatabaseError, self.place.open, **options)
        self.assertIs(type(error), kind)
        self.assert_line(error, *words)


class OpenTests(DatabaseTestCase):
    def test_durable(self) -> None:
        """CH-22: a commit waits for the disk, and the log is what can be replayed after a crash."""
        database = self.place.open()
        pragmas = {
            name: database.row(f"PRAGMA {name}")[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "fullfsync", "trusted_schema")
        }
        self.assertEqual(
            pragmas,
            {
                "journal_mode": "wal",
                "synchronous": 2,
                "foreign_keys": 1,
                "secure_delete": 1,
                "fullfsync": 1,
                "trusted_schema": 0,
            },
        )

    def test_private(self) -> None:
        """Files are their owner's only, whatever the umask; nothing else is left behind."""
        umask = os.umask(0)
        self.addCleanup(os.umask, umask)
        database = self.place.open(keys=None)
        database.accounts.add("alice", "x", by="test")
        names = sorted(os.listdir(self.place.folder))
        self.assertEqual(names, ["connectd.db", "connectd.db-shm", "connectd.db-wal"])
        self.assertEqual({mode(self.place.path(name)) for name in names}, {0o600})

    def test_made_private(self) -> None:
        self.place.open().accounts.add("alice", "x", by="test")
        for name in ("", "-wal", "-shm"):
            os.chmod(self.path + name, 0o644)
        self.place.open()
        self.assertEqual({mode(self.path + name) for name in ("", "-wal", "-shm")}, {0o600})

    def test_again(self) -> None:
        with self.place.open() as database:
            database.accounts.add("alice", "x", by="test")
        self.assertTrue(database.closed)
        self.assertEqual(self.place.open().accounts.get("alice").name, "alice")

    def test_closed(self) -> None:
        database = self.place.open()
        database.close()
        database.close()
        self.assert_line(self.assertRaises(DatabaseError, database.accounts.count), "closed")

    def test_made_by_root(self) -> None:
        """What root makes, or replaces, in a service's directory belongs to the service."""
        if os.geteuid():
            raise SkipTest("only root can give files away")
        os.chown(self.place.folder, NOBODY, NOBODY)
        keys = self.place.key_file()
        database = self.place.open()
        database.accounts.add("alice", "x", by="test")
        rotate_key(database, by="test")
        names = os.listdir(self.place.folder)
        self.assertEqual(len(names), 4)
        self.assertEqual({os.stat(self.place.path(name)).st_uid for name in names}, {NOBODY})
        self.assertEqual(mode(keys.path), 0o600)

    def test_odd_path(self) -> None:
        """Characters that mean something in a URL are only characters of a name."""
        self.path = self.place.path("a?mode=memory&b#c%41 é.db")
        self.place.open(os.path.basename(self.path)).accounts.add("alice", "x", by="test")
        self.assertTrue(os.path.getsize(self.path))
        self.assertEqual(self.place.open(os.path.basename(self.path)).accounts.count(), 1)

    def test_missing(self) -> None:
        self.assert_refused(MissingDatabaseError, "does not exist", create=False)
        self.assertEqual(os.listdir(self.place.folder), ["directory.key"])

    def test_nowhere(self) -> None:
        self.path = self.place.path("no/such.db")
        error = self.assertRaises(DatabaseError, Database.open, self.path)
        self.assert_line(error, "No such file")

    def test_no_file(self) -> None:
        os.mkdir(self.path)
        self.assert_refused(DatabaseError, "is not a file")

    def test_dangling_link(self) -> None:
        os.symlink(self.place.path("gone"), self.path)
        self.assert_refused(DatabaseError, "No such file")

    def test_log_without_database(self) -> None:
        """A log whose database is gone is kept: a new database would destroy it."""
        with open(f"{self.path}-wal", "wb") as log:
            log.write(b"changes")
        self.assert_refused(MissingDatabaseError, "-wal")
        with open(f"{self.path}-wal", "rb") as log:
            self.assertEqual(log.read(), b"changes")

    def test_made_by_two(self) -> None:
        """Of two processes that make it at the same time, the slower one uses what is there."""
        real, others = os.link, []

        def link(source: str, target: str) -> None:
            self.patch(os, "link", real)
            others.append(self.place.open(keys=None))
            others[0].accounts.add("alice", "x", by="other")
            real(source, target)

        self.patch(os, "link", link)
        self.assertEqual(self.place.open(keys=None).accounts.count(), 1)
        self.assertEqual(sorted(os.listdir(self.place.folder))[:2], ["connectd.db", "connectd.db-shm"])

    def test_adbapi(self) -> None:
        """It is the connection that adbapi takes it for."""
        database = connect(self.path)
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO state (name, value) VALUES ('x', 'y')")
        database.rollback()
        database.commit()
        self.assertEqual(database.rows("SELECT * FROM state"), [])
        database.close()
        database.rollback()

    def test_repr(self) -> None:
        self.assertEqual(repr(self.place.open()), f"Database({self.path!r})")


class DamageTests(DatabaseTestCase):
    """Fail closed, say which file, change nothing."""

    def fill(self) -> bytes:
        """A database of some pages, closed; its bytes."""
        with self.place.open(keys=None) as database, database.transaction():
            for number in range(200):
                database.bans.add("account", f"account{number}", reason="x" * 100, by="test")
        with open(self.path, "rb") as file:
            return file.read()

    def write(self, octets: bytes) -> None:
        with open(self.path, "wb") as file:
            file.write(octets)

    def test_empty(self) -> None:
        """An empty file is what is left of a database, not the beginning of one."""
        self.write(b"")
        self.assert_refused(DamagedDatabaseError, "has only 0 bytes", "bring back a backup")
        self.assertEqual(os.path.getsize(self.path), 0)

    def test_not_a_database(self) -> None:
        for octets in (b"x", b"This is a text.\n" * 1000):
            self.write(octets)
            self.assert_refused(DamagedDatabaseError, "is not an SQLite database" if len(octets) > 1 else "1 bytes")
            with open(self.path, "rb") as file:
                self.assertEqual(file.read(), octets)

    def test_truncated(self) -> None:
        octets = self.fill()
        for length in (100, 4096, 5000, 8192, len(octets) - 4096, len(octets) - 1):
            with self.subTest(length=length):
                self.write(octets[:length])
                error = self.assertRaises(DamagedDatabaseError, prepare, self.path)
                self.assert_line(error, "bring back a backup")
                self.assertEqual(os.path.getsize(self.path), length)

    def test_overwritten(self) -> None:
        """Damage inside is found by reading through, and when it is met."""
        octets = bytearray(self.fill())
        for page in range(35, len(octets) // 4096):
            octets[page * 4096 : page * 4096 + 2048] = bytes(2048)
        self.write(bytes(octets))
        self.assertRaises(DamagedDatabaseError, prepare, self.path)
        with self.place.open() as database:
            problems = database.check()
            self.assertTrue(problems)
            for problem in problems:
                self.assertIn("is damaged", problem)
                self.assertIn(self.path, problem)
                self.assertEqual(len(problem.splitlines()), 1)
            self.assertRaises(DamagedDatabaseError, database.bans.list)

    def test_orphans(self) -> None:
        """Rows that belong to nothing are found as well."""
        with self.place.open() as database:
            database.accounts.add("alice", "x", by="test")
            database.execute("PRAGMA foreign_keys = OFF")
            database.execute("DELETE FROM accounts")
            (problem,) = database.check()
        self.assertIn("verifiers belongs to no row of accounts", problem)

    def test_sound(self) -> None:
        self.fill()
        self.assertEqual(self.place.open().check(), [])

    def test_another_program(self) -> None:
        with sqlite3.connect(self.path) as other:
            other.execute("CREATE TABLE notes (text)")
        other.close()
        self.assert_refused(DatabaseError, "belongs to another program")

    def test_newer(self) -> None:
        self.fill()
        with sqlite3.connect(self.path) as other:
            other.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        other.close()
        self.assert_refused(NewerDatabaseError, f"is of version {len(MIGRATIONS) + 1}", "install the newer connectd")


class MigrationTests(DatabaseTestCase):
    STEPS = (*MIGRATIONS, ("CREATE TABLE extra (x)", "INSERT INTO extra VALUES (1)"), ("UPDATE extra SET x = x + 1",))

    def test_steps(self) -> None:
        """An older database takes the steps it has not seen, once."""
        with self.place.open() as database:
            database.accounts.add("alice", "x", by="test")
        for _ in range(2):
            with self.place.open(migrations=self.STEPS) as database:
                self.assertEqual(database.row("SELECT x FROM extra"), (2,))
                self.assertEqual(database.row("PRAGMA user_version"), (len(self.STEPS),))
                self.assertEqual(database.accounts.count(), 1)

    def test_failing_step(self) -> None:
        """A step is taken whole or not at all, and what came before it stays."""
        broken = (*self.STEPS[:-1], ("UPDATE extra SET x = 9", "no such statement"))
        with self.place.open():
            pass
        self.assert_refused(DatabaseError, "no such statement"[:2], migrations=broken)
        with self.place.open(migrations=self.STEPS[:-1]) as database:
            self.assertEqual(database.row("SELECT x FROM extra"), (1,))

    def test_raced(self) -> None:
        """Of two processes that bring it up to date at the same time, the slower one finds nothing to do."""
        with self.place.open(migrations=self.STEPS):
            connection = sqlite3.connect(self.path, isolation_level=None)
            migrate(connection, self.STEPS)
            self.assertEqual(connection.execute("SELECT x FROM extra").fetchall(), [(2,)])
            connection.close()

    def test_application_id(self) -> None:
        self.assertEqual(self.place.open().row("PRAGMA application_id"), (APPLICATION_ID,))


class TransactionTests(DatabaseTestCase):
    def test_all_or_nothing(self) -> None:
        database = self.place.open()
        with self.assertRaises(ZeroDivisionError), database.transaction():
            database.accounts.add("alice", "x", by="test")
            database.bans.add("account", "bob", by="test")
            raise ZeroDivisionError
        self.assertEqual((database.accounts.count(), database.bans.list(), database.audit.list()), (0, [], []))
        database.accounts.add("alice", "x", by="test")

    def test_snapshot(self) -> None:
        """What is read inside is of one moment, whatever others write."""
        database, other = self.place.open(), self.place.open()
        with database.snapshot(), database.snapshot():
            self.assertEqual(database.accounts.count(), 0)
            other.accounts.add("alice", "x", by="test")
            self.assertEqual(database.accounts.count(), 0)
        self.assertEqual(database.accounts.count(), 1)

    def test_remembered_changes(self) -> None:
        """The list of changes does not grow without bound."""
        database = self.place.open()
        with database.transaction():
            database.execute_many(
                "INSERT INTO changes (kind, subject) VALUES ('ban', ?)", [("account x",)] * (REMEMBERED_CHANGES + 500)
            )
        database.bans.add("account", "alice", by="test")
        (count,) = database.row("SELECT count(*) FROM changes")
        self.assertEqual(count, REMEMBERED_CHANGES)

    def test_replaced(self) -> None:
        """A file that was replaced takes no change, which would be lost; nor is it read as if nothing was."""
        database = self.place.open()
        database.accounts.add("alice", "x", by="test")
        database.backup(self.place.path("copy"))
        for replace in (lambda: os.replace(self.place.path("copy"), self.path), lambda: os.unlink(self.path)):
            replace()
            self.assert_line(
                self.assertRaises(DatabaseError, database.accounts.add, "bob", "x", by="test"),
                "was replaced",
                "restart",
            )
            self.assertRaises(DatabaseError, database.snapshot().__enter__)
        self.assertFalse(os.path.exists(self.path))

    def test_secret_columns(self) -> None:
        """COM-9: the database itself refuses what is neither an argon2id text nor sealed."""
        database = self.place.open()
        account = database.accounts.add("alice", "swordfish", by="test").id
        for scheme, data, key in (
            (ARGON2ID, "swordfish", None),
            (ARGON2ID, b"$argon2id$", None),
            ("plain", "swordfish", None),
            (SEALED_SHA256, b"x" * 200, None),
            (SEALED_SHA256, "x" * 200, "0" * 16),
            (SEALED_SHA256, b"x" * 32, "0" * 16),
            (ARGON2ID, "$argon2id$", "0" * 16),
        ):
            with self.subTest(scheme=scheme, data=data):
                error = self.assertRaises(
                    DatabaseError,
                    database.execute,
                    "INSERT OR REPLACE INTO verifiers (account, scheme, data, key_id) VALUES (?, ?, ?, ?)",
                    (account, scheme, data, key),
                )
                self.assertIn("CHECK constraint", str(error))

    def test_wrong_statements(self) -> None:
        """However a statement is run, its error is one line."""
        database = self.place.open()
        for run in (
            lambda: database.execute("no statement"),
            lambda: database.rows("no statement"),
            lambda: list(database.each("no statement")),
            lambda: database.execute_many("no statement", []),
        ):
            self.assert_line(self.assertRaises(DatabaseError, run), "syntax error")

    def test_append_only(self) -> None:
        """The audit trail is only ever added to."""
        database = self.place.open()
        database.audit.add("test", "tested", "x")
        for statement in ("UPDATE audit SET who = 'other'", "DELETE FROM audit"):
            self.assert_line(self.assertRaises(DatabaseError, database.execute, statement), "only ever added to")
        self.assertEqual(len(database.audit.list()), 1)


class TroubleTests(DatabaseTestCase):
    def test_locked(self) -> None:
        """Another process that does not let go: one line after the time-out; reading goes on."""
        database = self.place.open(timeout=0.05)
        database.accounts.add("alice", "x", by="test")
        other = scene("lock", self.path)
        self.addCleanup(other.communicate)
        assert other.stdout is not None
        self.assertEqual(other.stdout.readline(), "locked\n")
        error = self.assertRaises(LockedDatabaseError, database.accounts.add, "bob", "x", by="test")
        self.assert_line(error, "locked by another process", "fuser")
        self.assertEqual(database.accounts.count(), 1)
        other.communicate("")
        database.accounts.add("bob", "x", by="test")

    def test_page_limit(self) -> None:
        """SQLite's own word for no room."""
        database = self.place.open()
        self.fill_up(database)
        database.execute("PRAGMA max_page_count = 1000000")
        database.bans.add("account", "after", by="test")
        self.assertEqual(database.check(), [])

    def fill_up(self, database: Database) -> None:
        (pages,) = database.row("PRAGMA page_count")
        database.execute(f"PRAGMA max_page_count = {pages + 2}")
        count = 0

        def add_for_ever() -> None:
            nonlocal count
            while True:
                database.bans.add("account", f"account{count}", reason="x" * 200, by="test")
                count += 1

        self.assert_line(self.assertRaises(DiskFullError, add_for_ever), "cannot grow", "make room")
        self.assertEqual(len(database.bans.list()), count)

    def test_disk_full(self) -> None:
        """A file that cannot grow: one line, nothing acknowledged is lost, and it goes on when there is room."""
        output, _ = scene("full", self.path).communicate()
        line, added = output.splitlines()
        self.assertTrue(line.startswith("DiskFullError "), line)
        self.assertIn(self.path, line)
        database = self.place.open()
        names = {account.name for account in database.accounts.list()}
        self.assertGreater(int(added), 0)
        self.assertEqual(names, {"before", "after", *(f"account{number}" for number in range(int(added)))})
        self.assertEqual(database.check(), [])

    def test_read_only(self) -> None:
        """A directory or a file that may not be written: which one, and for whom."""
        self.place.folder = tempfile.mkdtemp(prefix="connectd-test-", dir="/tmp")
        self.addCleanup(FilePath(self.place.folder).remove)
        self.path = self.place.path()
        os.chmod(self.place.folder, 0o555)
        with not_root():
            self.assert_line(self.assertRaises(ReadOnlyDatabaseError, Database.open, self.path), "needs to write")
        os.chmod(self.place.folder, 0o755)
        self.place.open(keys=None).close()
        os.chmod(self.path, 0o644)
        with not_root():
            for permissions in (0o777, 0o555):
                if not os.geteuid() or permissions == 0o777:
                    continue
                self.assert_line(self.assertRaises(ReadOnlyDatabaseError, Database.open, self.path), "needs to write")
        self.assertEqual(os.listdir(self.place.folder), ["connectd.db"])

    def test_turned_read_only(self) -> None:
        """SQLite's own word for it."""
        database = self.place.open()
        database.execute("PRAGMA query_only = ON")
        self.assert_line(
            self.assertRaises(ReadOnlyDatabaseError, database.accounts.add, "alice", "x", by="test"), "needs to write"
        )

    def test_other_errors(self) -> None:
        """Whatever else SQLite says is passed on in one line."""
        error: sqlite3.Error
        for code in (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_FULL):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = code
            self.assertIs(type(explain(error, self.path)), DiskFullError)
        for error in (sqlite3.ProgrammingError("odd"), sqlite3.OperationalError("disk I/O error")):
            self.assert_line(explain(error, self.path), str(error), "see to its disk")

    def test_unexpected_journal(self) -> None:
        """A file system on which there can be no write-ahead log is refused."""
        self.place.open().close()
        real = sqlite3.connect

        class Odd(sqlite3.Connection):
            def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
                if statement == "PRAGMA journal_mode = WAL":
                    statement = "SELECT 'delete'"
                return super().execute(statement, *parameters)

        self.patch(sqlite3, "connect", lambda *arguments, **options: real(*arguments, factory=Odd, **options))
        self.assert_refused(DatabaseError, "write-ahead log")

    def test_rollback_fails(self) -> None:
        """A connection that cannot even roll back is given up."""
        database = self.place.open()

        class Broken:
            in_transaction = True

            def execute(self, statement: str) -> None:
                raise sqlite3.OperationalError("disk I/O error")

            def close(self) -> None:
                pass

        database.close()
        database._connection = Broken()  # type: ignore[assignment]
        database.rollback()
        self.assertTrue(database.closed)


class BackupTests(DatabaseTestCase):
    def test_backup(self) -> None:
        """The copy is complete, one file, its owner's only, and replaces an earlier one."""
        database = self.place.open()
        copy = self.place.path("copy.db")
        for count in (1, 2):
            database.accounts.add(f"account{count}", "x", by="test")
            database.backup(copy)
            self.assertEqual(mode(copy), 0o600)
            self.assertFalse([name for name in os.listdir(self.place.folder) if name.startswith((".", "copy.db-"))])
            with self.place.open("copy.db", keys=None) as other:
                self.assertEqual(other.accounts.count(), count)
                self.assertEqual(other.check(), [])

    def test_while_others_write(self) -> None:
        """A backup of a database that another process is writing is of one moment, and disturbs nobody."""
        database = self.place.open()
        other = scene("add_slowly", self.path)
        self.addCleanup(other.wait)
        assert other.stdin is not None
        assert other.stdout is not None
        acknowledged = 0
        for number in range(5):
            for _ in range(10):
                self.assertEqual(other.stdout.readline(), f"account{acknowledged}\n")
                acknowledged += 1
            database.backup(self.place.path("copy.db"))
            with self.place.open("copy.db", keys=None) as copy:
                count = copy.accounts.count()
                self.assertGreaterEqual(count, acknowledged)
                self.assertEqual(
                    {account.name for account in copy.accounts.list()}, {f"account{n}" for n in range(count)}
                )
                self.assertEqual(len(copy.audit.list(limit=100_000)), count, number)
        other.stdin.close()
        self.assertEqual(other.wait(), 0)
        other.stdout.close()

    def test_onto_itself(self) -> None:
        database = self.place.open()
        os.symlink(self.path, self.place.path("link"))
        for path in (self.path, self.place.path("link")):
            error = self.assertRaises(DatabaseError, database.backup, path)
            self.assertIn("would replace the database itself", str(error))

    def test_nowhere(self) -> None:
        database = self.place.open()
        error = self.assertRaises(DatabaseError, database.backup, self.place.path("no/copy.db"))
        self.assertIn("no/copy.db", str(error))
        self.assertIn("untouched", str(error))

    def test_fails(self) -> None:
        """A backup that fails leaves the earlier one."""
        database = self.place.open()
        copy = self.place.path("copy.db")
        database.backup(copy)
        database.accounts.add("alice", "x", by="test")
        real = sqlite3.connect

        class Full(sqlite3.Connection):
            def execute(self, *arguments: Any) -> sqlite3.Cursor:
                raise sqlite3.OperationalError("database or disk is full")

        self.patch(sqlite3, "connect", lambda *arguments, **options: real(*arguments, factory=Full, **options))
        error = self.assertRaises(DatabaseError, database.backup, copy)
        self.assertIn("disk is full", str(error))
        self.patch(sqlite3, "connect", real)
        with self.place.open("copy.db", keys=None) as other:
            self.assertEqual(other.accounts.count(), 0)
        self.assertFalse([name for name in os.listdir(self.place.folder) if name.startswith(".")])


class ImportTests(SynchronousTestCase):
    def test_no_twisted(self) -> None:
        """The synchronous face is for programs without a reactor, and starts without Twisted."""
        code = "import sys, connectd.directory; sys.exit(any(name.startswith('twisted') for name in sys.modules))"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.assertEqual(subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode, 0)


class PrepareTests(DatabaseTestCase):
    def test_prepared(self) -> None:
        """It is there, and nothing is open any more."""
        before = set(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else set()
        prepare(self.path, schemes=[SEALED_SHA256])
        self.assertEqual(os.listdir(self.place.folder), ["connectd.db"])
        if before:
            self.assertEqual(set(os.listdir("/proc/self/fd")), before)

    def test_key_needed(self) -> None:
        """Without its key, what is sealed refuses the start; only where it is needed."""
        with self.place.open() as database:
            database.accounts.add("alice", "x", schemes=[SEALED_SHA256], by="test")
        os.rename(self.place.path("directory.key"), self.place.path("lost"))
        prepare(self.path, schemes=[ARGON2ID])
        error = self.assertRaises(MissingKeyError, prepare, self.path, schemes=[SEALED_SHA256])
        self.assertIn("1 sealed verifiers need it", str(error))


CREATION_FAILURES: list[tuple[str, Callable[..., Any], type[DatabaseError]]] = [
    ("link", PermissionError(1, "Operation not permitted"), ReadOnlyDatabaseError),  # type: ignore[list-item]
    ("link", OSError(28, "No space left on device"), DatabaseError),  # type: ignore[list-item]
    ("fsync", OSError(5, "Input/output error"), DatabaseError),  # type: ignore[list-item]
]


class CreationTests(DatabaseTestCase):
    def test_fails(self) -> None:
        """A database that cannot be made leaves nothing behind."""
        for name, problem, kind in CREATION_FAILURES:

            def refuse(*arguments: Any, problem: Any = problem) -> None:
                raise problem

            real = getattr(os, name)
            self.patch(os, name, refuse)
            with self.subTest(name=name, problem=problem):
                self.assert_refused(kind, keys=None)
                self.assertEqual(os.listdir(self.place.folder), [])
            self.patch(os, name, real)

    def test_sqlite_fails(self) -> None:
        real = sqlite3.connect

        class Full(sqlite3.Connection):
            def execute(self, *arguments: Any) -> sqlite3.Cursor:
                raise sqlite3.OperationalError("database or disk is full")

        self.patch(sqlite3, "connect", lambda *arguments, **options: real(*arguments, factory=Full, **options))
        self.assert_refused(DatabaseError, "disk is full", keys=None)
        self.assertEqual(os.listdir(self.place.folder), [])
