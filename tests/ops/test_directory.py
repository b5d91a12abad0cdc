"""The directory of a daemon, before the fork."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Any, ClassVar

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from connectd.config import ListenerConfiguration
from connectd.directory import (
    ARGON2ID,
    SEALED_PASSWORD,
    SEALED_SHA256,
    Database,
    DirectoryError,
    MissingKeyError,
    create_key,
)
from connectd.directory.settings import DirectorySettings
from connectd.ops.daemon import Daemon, StartError
from connectd.ops.directory import make_directory, needed_schemes, prepare_directory
from connectd.ops.ownership import Owner
from connectd.protocols.lekt.settings import LektSettings
from tests import toy, toy_protocol, toy_wing
from tests.ops.composed import LOOPBACK, folder


class DirectoryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder(self)
        self.path = str(self.folder / "connectd.db")
        self.settings = DirectorySettings(url=f"sqlite:///{self.path}", key_file=str(self.folder / "key"))

    def seal_something(self) -> None:
        """Have an account whose password needs the key."""
        with Database.open(self.path, keys=create_key(self.settings.key_file)) as database:
            database.accounts.add("Ann", "right", schemes=[SEALED_PASSWORD], by="test")


class SchemesTests(SynchronousTestCase):
    def schemes(self, *listeners: ListenerConfiguration) -> set[str]:
        toy_protocol.install(self, toy_wing.ToyPlugin(), toy_protocol.broken_protocol())
        return set(needed_schemes(listeners))

    def test_needed(self) -> None:
        """What the protocols need of accounts, unless their accounts are somebody else's."""
        ours = ListenerConfiguration("toy", toy.ToySettings())
        theirs = ListenerConfiguration("toy", toy.ToySettings(auth=("memory:",)))
        other = ListenerConfiguration("broken", LektSettings())
        self.assertEqual(self.schemes(), set())
        self.assertEqual(self.schemes(theirs, other), set())
        self.assertEqual(self.schemes(theirs, ours, other), {ARGON2ID, SEALED_PASSWORD})

    def test_settings_tell(self) -> None:
        """Where it depends on a listener's settings, these tell; an accountless one may need nothing."""

        @attrs.frozen(kw_only=True)
        class Telling(toy.ToySettings):
            account_schemes: ClassVar[tuple[str, ...]] = (SEALED_SHA256,)

        @attrs.frozen(kw_only=True)
        class Silent(toy.ToySettings):
            account_schemes: ClassVar[tuple[str, ...]] = ()

        self.assertEqual(self.schemes(ListenerConfiguration("toy", Telling())), {SEALED_SHA256})
        self.assertEqual(self.schemes(ListenerConfiguration("toy", Silent())), set())
        self.assertEqual(self.schemes(ListenerConfiguration("toy", Telling(auth=("memory:",)))), set())


class PrepareTests(DirectoryCase):
    def test_made(self) -> None:
        """Where there is none it is made; nothing sealed needs no key."""
        prepare_directory(self.settings, {ARGON2ID, SEALED_PASSWORD})
        self.assertEqual(os.listdir(self.folder), ["connectd.db"])

    def test_nothing_stays_open(self) -> None:
        """No connection and no thread may live through a fork."""
        threads = threading.active_count()
        prepare_directory(self.settings, {ARGON2ID})
        service = make_directory(self.settings, {ARGON2ID}, Clock())
        names = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_open(name)]
        self.assertEqual([name for name in names if name.startswith(str(self.folder))], [])
        self.assertEqual(threading.active_count(), threads)
        self.assertRaises(DirectoryError, service.find_account, "Ann")

    def test_missing_key(self) -> None:
        """What is sealed needs its key before anybody is told that all is well."""
        self.seal_something()
        prepare_directory(self.settings, {SEALED_PASSWORD})
        os.unlink(self.settings.key_file)
        prepare_directory(self.settings, {ARGON2ID})
        self.assertRaises(MissingKeyError, prepare_directory, self.settings, {SEALED_PASSWORD})

    def test_relative_paths(self) -> None:
        """A daemon changes its directory."""
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        service = make_directory(DirectorySettings(url="sqlite:///x.db", key_file="key"), (), Clock())
        prepare_directory(DirectorySettings(url="sqlite:///x.db", key_file="key"), ())
        self.assertEqual(service.path, str(self.folder / "x.db"))
        self.assertEqual(os.listdir(self.folder), ["x.db"])

    def test_settings(self) -> None:
        service: Any = make_directory(DirectorySettings(poll_interval=2.0, maximum_keys=7), {ARGON2ID}, Clock())
        self.assertEqual((service._poll_interval, service.maximum_keys, service._schemes), (2.0, 7, {ARGON2ID}))

    def test_owner(self) -> None:
        """Database, what SQLite leaves beside it, and key belong to the user that the daemon becomes; nothing that is
        a link, and a credential stays whose it is."""
        given: list[str] = []
        acting: list[str] = []

        @contextlib.contextmanager
        def act(owner: Owner) -> Any:
            acting.append("begins")
            yield
            self.assertTrue(os.path.exists(self.path))
            acting.append("ends")

        self.patch(Owner, "acting", act)
        self.patch(Owner, "give", lambda owner, path: given.append(os.path.basename(path)))
        prepare_directory(self.settings, (), Owner(12, 34))
        self.assertEqual(given, ["connectd.db", "connectd.db-wal", "connectd.db-shm", "key"])
        self.assertEqual(acting, ["begins", "ends"])
        self.patch(os, "environ", {"CREDENTIALS_DIRECTORY": str(self.folder)})
        del given[:]
        prepare_directory(DirectorySettings(url=self.settings.url, key_credential="key"), (), Owner(12, 34))
        self.assertNotIn("key", given)

    def test_really_owned(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can give files away")
        self.seal_something()
        os.chown(self.folder, 12, 34)
        prepare_directory(self.settings, {SEALED_PASSWORD}, Owner(12, 34))
        for name in ("connectd.db", "key"):
            status = os.stat(self.folder / name)
            self.assertEqual((status.st_uid, status.st_gid), (12, 34), name)
        (self.folder / "new").mkdir()
        os.chown(self.folder / "new", 12, 34)
        prepare_directory(DirectorySettings(url=f"sqlite:///{self.folder}/new/x.db"), (), Owner(12, 34))
        self.assertEqual((self.folder / "new" / "x.db").stat().st_uid, 12)

    def test_link_in_the_way(self) -> None:
        """What the user has put where root would open it is not followed."""
        if os.geteuid() != 0:
            raise SkipTest("only root can be led astray")
        prepare_directory(self.settings, ())
        os.chown(self.folder, 12, 34)
        precious = folder(self) / "precious"
        precious.touch(0o600)
        os.symlink(precious, f"{self.path}-wal")
        self.assertRaises(PermissionError, prepare_directory, self.settings, (), Owner(12, 34))
        self.assertEqual((precious.stat().st_uid, precious.stat().st_mode & 0o777), (0, 0o600))


class StartTests(DirectoryCase):
    """What a daemon says when its directory cannot be used."""

    def problems(self, settings: DirectorySettings) -> list[str]:
        with self.assertRaises(StartError) as caught:
            Daemon.from_settings([LektSettings(listen=LOOPBACK)], directory=settings, reactor=Clock())
        problems: list[str] = caught.exception.problems
        return problems

    def test_one_line(self) -> None:
        Path(self.path).write_text("no database")
        [line] = self.problems(self.settings)
        self.assertTrue(line.startswith(f"directory: the database {self.path} "), line)
        missing = DirectorySettings(url=f"sqlite:///{self.folder}/none/x.db")
        [line] = self.problems(missing)
        self.assertTrue(line.startswith(f"directory: the database {self.folder}/none/x.db cannot be made"), line)

    def test_missing_credential(self) -> None:
        """One line for it, and no other that follows from it: a listener with accounts does not complain as well."""
        self.patch(os, "environ", {})
        toy_protocol.install(self, toy_wing.ToyPlugin())
        settings = DirectorySettings(url=self.settings.url, key_credential="key")
        with self.assertRaises(StartError) as caught:
            Daemon.from_settings([toy.ToySettings(listen=LOOPBACK)], directory=settings, reactor=Clock())
        [line] = caught.exception.problems
        self.assertTrue(line.startswith('directory: there is no systemd credential "key"'), line)

    def test_accounts_of_nobody(self) -> None:
        """A listener with accounts that nobody knows is refused at start, and so is a checker that does not fit."""
        toy_protocol.install(self, toy_wing.ToyPlugin())
        for auth, told in (((), "nobody knows its accounts"), (("anonymous",), "checks IAnonymous, and what toy has")):
            with self.assertRaises(StartError) as caught:
                Daemon.from_settings([toy.ToySettings(listen=LOOPBACK, auth=auth)], reactor=Clock())
            [line] = caught.exception.problems
            self.assertIn(told, line)


def _is_open(descriptor: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{descriptor}")
