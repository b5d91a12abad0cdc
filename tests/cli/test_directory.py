"""connectctl directory, and whose files they are."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import attrs
from click.testing import CliRunner
from rich import console, table  # noqa: F401  # while they can be reached
from twisted.trial.unittest import SynchronousTestCase

from connectd.cli import file_owner
from connectd.cli.directory_access import operator
from connectd.cli.file_owner import acting_as, owner_of, user_name
from connectd.cli.main import connectctl
from connectd.cli.output import Failed
from connectd.directory import Database, DiskFullError
from connectd.directory.audit import Audit
from tests.cli.directory_case import CONFIGURATION, OPERATOR, DirectoryCase, files, root_only
from tests.ops.composed import folder
from tests.processes import LEKT, LIMIT, ROOT, LektClient, Started

SOMEBODY = 65432
"""A user that no database knows."""

CODE = "from connectd.cli.main import main; main()"


class BackupTests(DirectoryCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("Alice")
        self.copy = self.folder / "copy.db"

    def test_backup(self) -> None:
        """A whole database in one private file, readable with the same key."""
        text = self.succeed("directory", "backup", str(self.copy))
        self.assertRegex(text, rf"\Awrote {self.copy}, [0-9]+ bytes; the sealing key is not in it\n\Z")
        self.assertEqual(stat.S_IMODE(self.copy.stat().st_mode), 0o600)
        self.assertNotIn(self.keys.load().octets(), self.copy.read_bytes())
        self.assertNotIn(b"swordfish", self.copy.read_bytes())
        with Database.open(str(self.copy), keys=self.keys) as database:
            account = database.accounts.get("alice")
            self.assertEqual(database.accounts.unseal(account, "sealed-password"), b"swordfish")
        self.assertEqual(self.audited()[0], ("directory.backed-up", str(self.copy)))

    def test_json(self) -> None:
        written = self.json("directory", "backup", str(self.copy))
        self.assertEqual(
            written, {"database": str(self.path), "backup": str(self.copy), "size": self.copy.stat().st_size}
        )

    def test_replaces_a_backup(self) -> None:
        """And an empty file, as mktemp makes them."""
        self.copy.touch()
        self.succeed("directory", "backup", str(self.copy))
        self.add("Bob")
        self.succeed("directory", "backup", str(self.copy))
        with Database.open(str(self.copy)) as database:
            self.assertEqual(database.accounts.count(), 2)

    def test_replaces_nothing_else(self) -> None:
        """Not the key, not a database in use, be it another daemon's, not what is no backup."""
        other = self.folder / "other.db"
        self.addCleanup(Database.open(str(other)).close)
        strange = self.folder / "strange.db"
        strange.write_bytes(b"x" * 100)
        foreign = self.folder / "foreign.db"
        with sqlite3.connect(foreign) as database:
            database.execute("CREATE TABLE x (y)")
        os.mkfifo(self.folder / "pipe")
        link = self.folder / "link"
        link.symlink_to(self.folder / "nowhere")
        for target, problem in (
            (self.keys.path, "is there and is no backup of a directory"),
            (strange, "is there and is no backup of a directory"),
            (foreign, "is there and is no backup of a directory"),
            (self.path, "is a database in use, and no backup"),
            (other, "is a database in use, and no backup"),
            (self.state, "is not a file"),
            (self.folder / "pipe", "is not a file"),
            (link, "is not a file"),
        ):
            before = Path(target).read_bytes() if Path(target).is_file() else b""
            self.assertIn(problem, self.refused("directory", "backup", str(target)), target)
            self.assertEqual(Path(target).read_bytes() if Path(target).is_file() else b"", before)

    def test_cannot_be_written(self) -> None:
        refusal = self.refused("directory", "backup", str(self.folder / "not" / "there"))
        self.assertIn("cannot be written: No such file or directory", refusal)
        self.assertNotIn(("directory.backed-up", str(self.folder / "not" / "there")), self.audited())

    def test_full_disk(self) -> None:
        """The copy counts; that the trail has no room for it is said."""

        def fail(*arguments: object, **details: object) -> None:
            raise DiskFullError("the disk is full")

        self.patch(Audit, "add", fail)
        result = self.run_command("directory", "backup", str(self.copy))
        self.assertEqual(result.exit_code, 0)
        self.assertIn(
            "the backup is complete, but the audit trail does not tell of it: the disk is full", result.stderr
        )

    def test_restored(self) -> None:
        """What the documentation says about bringing it back."""
        self.succeed("directory", "backup", str(self.copy))
        for name in files(self.state) - {"directory.key"}:
            (self.state / name).unlink()
        shutil.copy(self.copy, self.path)
        self.assertIn("no problems", self.succeed("directory", "check"))
        self.assertEqual(self.json("account")["total"], 1)


class CheckTests(DirectoryCase):
    def test_sound(self) -> None:
        self.add("Alice")
        self.succeed("ban", "add", "address", "192.0.2.1", "--reason", "x")
        text = self.succeed("directory", "check")
        self.assertEqual(
            text, f"{self.path}: no problems (accounts 1, bans 1, registered keys 0, sealed verifiers 2)\n"
        )
        self.assertEqual(self.succeed("directory"), text)
        self.assertEqual(
            self.json("directory", "check"),
            {
                "database": str(self.path),
                "problems": [],
                "accounts": 1,
                "bans": 1,
                "registered_keys": 0,
                "sealed_verifiers": 2,
            },
        )

    def problems(self) -> tuple[list[str], list[str]]:
        """What is told, as lines and as JSON."""
        result = self.run_command("directory", "check")
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        *lines, last = [line.removeprefix("connectctl: ") for line in result.stderr.splitlines()]
        self.assertEqual(last, f"{self.path}: {len(lines)} problem{'s' if len(lines) != 1 else ''}")
        result = self.run_command("directory", "check", "--json")
        self.assertEqual(result.exit_code, 1)
        return lines, json.loads(result.stdout)["problems"]

    def test_missing_key(self) -> None:
        self.add("Alice")
        Path(self.keys.path).unlink()
        [problem], told = self.problems()
        self.assertIn("directory.key does not exist", problem)
        self.assertIn("2 sealed verifiers need it", problem)
        self.assertEqual(told, [problem])

    def test_what_does_not_open(self) -> None:
        """A seal that was moved to another account is found, and whose it is."""
        self.add("Alice")
        self.add("Bob")
        connection = sqlite3.connect(self.path)
        self.addCleanup(connection.close)
        with connection:
            connection.execute(
                "UPDATE verifiers SET data = (SELECT data FROM verifiers WHERE account = 1 AND scheme = 'sealed-password')"
                " WHERE account = 2 AND scheme = 'sealed-password'"
            )
        [problem], told = self.problems()
        self.assertIn("was changed or moved since it was sealed", problem)
        self.assertEqual(told, [problem])

    def test_damaged(self) -> None:
        self.add("Alice")
        octets = bytearray(self.path.read_bytes())
        self.path.write_bytes(octets[:4096])
        for path in self.state.glob("*-*"):
            path.unlink()
        lines, told = self.problems()
        self.assertEqual(lines, told)
        self.assertIn(str(self.path), lines[0])

    def test_no_database(self) -> None:
        self.assertIn("does not exist", self.refused("directory", "check", "--json"))


class AuditTests(DirectoryCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("Alice", "--protocols", "tune")
        self.succeed("ban", "add", "address", "192.0.2.1", "--reason", "spam", "--for", "1h")

    def test_table(self) -> None:
        lines = self.succeed("directory", "audit").splitlines()
        self.assertEqual(lines[0].split(), ["time", "who", "action", "subject", "details"])
        self.assertRegex(lines[1], r"olive +ban\.added +address 192\.0\.2\.1 +expires=20\S+ \S+, reason=spam\Z")
        self.assertRegex(lines[2], r"olive +account\.added +Alice +protocols=tune, schemes=argon2id sealed-sha256\Z")

    def test_json_and_limit(self) -> None:
        entries = self.json("directory", "audit")["entries"]
        self.assertEqual([entry["action"] for entry in entries], ["ban.added", "account.added"])
        self.assertEqual(self.json("directory", "audit", "--limit", "1")["entries"], entries[:1])
        self.assertEqual(self.json("directory", "audit", "--limit", "0")["entries"], entries)


class OperatorTests(SynchronousTestCase):
    """Who is at work."""

    def operator(self, sudo_user: str | None, login: str | None) -> str:
        def getlogin() -> str:
            if login is None:
                raise OSError(25, "no terminal")
            return login

        self.patch(os, "getlogin", getlogin)
        environ = {} if sudo_user is None else {"SUDO_USER": sudo_user}
        self.patch(os, "environ", environ)
        return operator()

    def test_who(self) -> None:
        self.assertEqual(self.operator("olive", "root"), "olive")
        self.assertEqual(self.operator("", "oscar"), "oscar")
        self.assertEqual(self.operator(None, None), pwd.getpwuid(os.getuid()).pw_name)

    def test_what_cannot_be_stored(self) -> None:
        self.assertEqual(self.operator("\udcff\n" + "x" * 100, None), ("\\udcff " + "x" * 100)[:64])

    def test_nobody(self) -> None:
        self.assertEqual(user_name(SOMEBODY), f"number {SOMEBODY}")


class OwnerTests(SynchronousTestCase):
    """To whom a file belongs."""

    def setUp(self) -> None:
        self.folder = folder(self)

    def test_directory_of_what_is_not_there(self) -> None:
        self.assertEqual(owner_of(str(self.folder / "x")), os.geteuid())
        self.assertRaises(OSError, owner_of, str(self.folder / "x" / "y"))

    @root_only
    def test_links(self) -> None:
        """A link of root's counts for what it leads to; anybody else's is theirs."""
        target, link = self.folder / "target", self.folder / "link"
        target.touch()
        os.chown(target, SOMEBODY, SOMEBODY)
        link.symlink_to(target)
        self.assertEqual(owner_of(str(link)), SOMEBODY)
        os.chown(target, 0, 0)
        os.lchown(link, SOMEBODY, SOMEBODY)
        self.assertEqual(owner_of(str(link)), SOMEBODY)


class ActingTests(SynchronousTestCase):
    """Root in somebody else's name."""

    def state(self) -> tuple[int, int, list[int]]:
        return os.geteuid(), os.getegid(), sorted(os.getgroups())

    @root_only
    def test_there_and_back(self) -> None:
        before = self.state()
        with acting_as(SOMEBODY):
            self.assertEqual(self.state(), (SOMEBODY, SOMEBODY, [SOMEBODY]))
        self.assertEqual(self.state(), before)
        with self.assertRaises(ZeroDivisionError), acting_as(SOMEBODY):
            raise ZeroDivisionError
        self.assertEqual(self.state(), before)

    @root_only
    def test_with_the_groups_of_a_user(self) -> None:
        user = pwd.getpwnam("nobody")
        with acting_as(user.pw_uid):
            self.assertEqual(self.state()[:2], (user.pw_uid, user.pw_gid))
            self.assertIn(user.pw_gid, os.getgroups())

    def test_nothing_to_do(self) -> None:
        before = self.state()
        for uid in (0, os.geteuid()):
            with acting_as(uid):
                self.assertEqual(self.state(), before)

    @root_only
    def test_not_allowed(self) -> None:
        """As in a container without the capability: one line, and root is what it was."""
        before = self.state()

        def fail(uid: int) -> None:
            raise PermissionError(1, "Operation not permitted")

        become = file_owner._become
        self.patch(file_owner, "_become", fail)
        with self.assertRaises(Failed) as raised, acting_as(SOMEBODY):
            raise AssertionError("this is not reached")
        self.assertIn("root cannot act as the user number 65432", str(raised.exception))
        self.patch(file_owner, "_become", become)
        self.assertEqual(self.state(), before)


@attrs.frozen
class Ended:
    """How a process ended."""

    status: int
    output: str
    errors: str


class OwnershipTests(SynchronousTestCase):
    """Real processes on the directory of a service's user."""

    def setUp(self) -> None:
        self.folder = folder(self)
        self.folder.chmod(0o755)
        self.configuration = self.folder / "connectd.toml"
        self.configuration.write_text(
            CONFIGURATION[: CONFIGURATION.index("[[")] + '[[listener]]\nprotocol = "lekt"\nlisten = "tcp:7001"\n'
        )
        self.state = self.folder / "state"
        self.state.mkdir(0o700)
        self.path = self.state / "connectd.db"

    def run_command(self, *arguments: str) -> Ended:
        """Run connectctl as whoever runs the tests."""
        ended = subprocess.run(
            [sys.executable, "-c", CODE, "--config", str(self.configuration), *arguments],
            cwd=ROOT,
            env={**os.environ, "SUDO_USER": OPERATOR},
            input="swordfish\n",
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def run_as(self, uid: int, *arguments: str) -> Ended:
        """Run connectctl as somebody else, to whom Python itself may be out of reach."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                runner = CliRunner(env={"CONNECTD_CONFIG": None, "SUDO_USER": OPERATOR})
                result = runner.invoke(
                    connectctl, ["--config", str(self.configuration), *arguments], input="swordfish\n"
                )
                os.write(writer, json.dumps([result.exit_code, result.stdout, result.stderr]).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            octets = pipe.read()
        os.waitpid(child, 0)
        return Ended(*json.loads(octets))

    def assert_done(self, ended: Ended) -> None:
        self.assertEqual((ended.status, ended.errors), (0, ""))

    def owners(self) -> set[tuple[int, int, int]]:
        """Owners and modes of everything in the directory."""
        found = [path.stat() for path in self.state.iterdir()]
        return {(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) for status in found}

    @root_only
    def test_root_makes_what_the_service_can_use(self) -> None:
        os.chown(self.state, SOMEBODY, SOMEBODY)
        self.assert_done(self.run_command("key", "create"))
        self.assert_done(self.run_command("account", "add", "Alice", "--password-stdin"))
        self.assert_done(self.run_command("key", "rotate", "--yes"))
        self.assert_done(self.run_command("directory", "backup", str(self.state / "copy.db")))
        self.assertEqual(self.owners(), {(SOMEBODY, SOMEBODY, 0o600)})
        self.assertEqual(files(self.state), {"connectd.db", "directory.key", "copy.db"})
        self.assert_done(self.run_as(SOMEBODY, "account", "disable", "alice"))

    @root_only
    def test_companions_of_an_open_database(self) -> None:
        """While the daemon has it open, with its log beside it, root leaves nothing of its own there."""
        os.chown(self.state, SOMEBODY, SOMEBODY)
        self.assert_done(self.run_command("account", "add", "Alice", "--password-stdin"))
        with acting_as(SOMEBODY):
            database = Database.open(str(self.path))
        self.addCleanup(database.close)
        self.assert_done(self.run_command("account", "disable", "alice"))
        self.assertEqual(files(self.state), {"connectd.db", "connectd.db-wal", "connectd.db-shm"})
        self.assertEqual(self.owners(), {(SOMEBODY, SOMEBODY, 0o600)})
        self.assertTrue(database.accounts.get("alice").disabled)

    @root_only
    def test_backup_elsewhere(self) -> None:
        """It belongs to whom its directory belongs, root's own included."""
        os.chown(self.state, SOMEBODY, SOMEBODY)
        self.assert_done(self.run_command("account", "add", "Alice", "--password-stdin"))
        for owner in (0, SOMEBODY + 1):
            place = self.folder / str(owner)
            place.mkdir(0o700)
            os.chown(place, owner, owner)
            self.assert_done(self.run_command("directory", "backup", str(place / "copy.db")))
            status = (place / "copy.db").stat()
            self.assertEqual((status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)), (owner, owner, 0o600))

    @root_only
    def test_root_follows_no_link_of_the_service(self) -> None:
        """Whoever may write to the directory does nothing with what is root's by it."""
        os.chown(self.state, SOMEBODY, SOMEBODY)
        self.assert_done(self.run_command("account", "add", "Alice", "--password-stdin"))
        precious = self.folder / "precious"
        for name in ("connectd.db-wal", "connectd.db-shm", "connectd.db-journal", "directory.key", "connectd.db"):
            precious.write_text("mine")
            precious.chmod(0o644)
            if name == "connectd.db":
                self.path.unlink()
            (self.state / name).unlink(missing_ok=True)
            (self.state / name).symlink_to(precious)
            os.lchown(self.state / name, SOMEBODY, SOMEBODY)
            for words in (("account", "disable", "alice"), ("key", "rotate", "--yes"), ("key", "create")):
                self.run_command(*words)
                status = precious.stat()
                self.assertEqual(
                    (precious.read_text(), status.st_uid, stat.S_IMODE(status.st_mode)), ("mine", 0, 0o644), name
                )
            if name != "connectd.db":
                (self.state / name).unlink()

    @root_only
    def test_somebody_else_is_refused(self) -> None:
        """In one line that says who may."""
        os.chown(self.state, SOMEBODY, SOMEBODY)
        self.assert_done(self.run_command("account", "add", "Alice", "--password-stdin"))
        for mode, place in ((0o700, self.state), (0o755, self.state)):
            self.state.chmod(mode)
            for words in (
                ("account", "list"),
                ("ban", "add", "address", "192.0.2.1", "--reason", "x"),
                ("key", "create"),
            ):
                ended = self.run_as(SOMEBODY + 1, *words)
                self.assertEqual((ended.status, ended.output), (1, ""))
                self.assertEqual(
                    ended.errors,
                    f"connectctl: {place} belongs to the user number {SOMEBODY}, and number {SOMEBODY + 1} may not write "
                    f"it: run this as number {SOMEBODY} or root\n",
                )
        self.state.chmod(0o777)
        ended = self.run_as(SOMEBODY + 1, "account", "list")
        self.assertIn(f"{self.path} belongs to the user number {SOMEBODY}", ended.errors)
        hidden = self.folder / "hidden"
        hidden.mkdir(0o700)
        self.state.rename(hidden / "state")
        self.configuration.write_text(self.configuration.read_text().replace("state/", "hidden/state/"))
        ended = self.run_as(SOMEBODY + 1, "account", "list")
        self.assertIn(f"{hidden / 'state'} is out of reach for the user number {SOMEBODY + 1}", ended.errors)
        self.assertEqual(len(ended.errors.splitlines()), 1)

    @root_only
    def test_in_a_group_that_may_write(self) -> None:
        """Whoever may write may work, whoever it belongs to."""
        self.state.chmod(0o777)
        ended = self.run_as(SOMEBODY, "account", "add", "Alice", "--password-stdin")
        self.assert_done(ended)
        self.assertEqual(self.owners(), {(SOMEBODY, SOMEBODY, 0o600)})

    def test_own_directory(self) -> None:
        """The usual case, whoever runs the tests."""
        self.assert_done(self.run_command("account", "add", "Alice", "--password-stdin"))
        self.assertEqual({owner for owner, _, _ in self.owners()}, {os.getuid()})
        self.assertIn("Alice", self.run_command("account").output)


class RunningDaemonTests(SynchronousTestCase):
    """Changes beside a daemon that runs."""

    def setUp(self) -> None:
        self.folder = folder(self)
        self.configuration = self.folder / "connectd.toml"
        self.configuration.write_text(
            f'[daemon]\nstatus = ""\n[directory]\npoll_interval = 3600.0\n[[listener]]\nprotocol = "lekt"\nlisten = "{LEKT}"\n'
        )

    def run_command(self, *arguments: str) -> str:
        """What a command prints that succeeds without a warning."""
        runner = CliRunner(env={"CONNECTD_CONFIG": None, "SUDO_USER": OPERATOR})
        result = runner.invoke(connectctl, ["--config", str(self.configuration), *arguments])
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        return result.stdout

    def test_effect_at_once(self) -> None:
        """COM-4: a ban ends the session that it concerns and keeps the next one out; lifted, it lets it in."""
        daemon = Started(
            self, self.folder, "twistd", "-n", "--pidfile=", "connectd", "--config", str(self.configuration)
        )
        port = daemon.port()
        inside = LektClient(self, port)
        inside.join()
        text = self.run_command("ban", "add", "network", "127.0.0.0/8", "--reason", "enough")
        self.assertIn("  ended 1 session or connection\n", text)
        inside.rest()
        self.assertEqual(LektClient(self, port).rest(), b"")
        self.run_command("ban", "remove", "network", "127.0.0.0/8")
        LektClient(self, port).join()
        self.assertIn("no problems", self.run_command("directory", "check"))
        self.run_command("directory", "backup", str(self.folder / "copy.db"))
        self.assertEqual(self.run_command("key", "create").splitlines()[0].split()[:3], ["made", "the", "key"])
        self.assertEqual(daemon.errors, "")
