"""The directory of a running daemon."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, cast
from uuid import uuid4

import argon2
from argon2.profiles import CHEAPEST
from twisted.application.service import MultiService
from twisted.internet import reactor as the_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from twisted.trial.unittest import TestCase

from connectd.admission import Admission, AdmissionLimits
from connectd.directory import (
    ARGON2ID,
    SCHEMES,
    SEALED_PASSWORD,
    SEALED_SHA256,
    AlreadyRegisteredError,
    DamagedDatabaseError,
    Database,
    DatabaseError,
    DirectoryError,
    KeyChangedError,
    KeyFile,
    MissingKeyError,
    RegistryFullError,
    UnknownAccountError,
    rotate_key,
)
from connectd.directory import service as services
from connectd.directory.changes import read_changes
from connectd.directory.passwords import PasswordVerifier
from connectd.directory.service import GRACE, HOUSEKEEPING_INTERVAL, DirectoryService
from connectd.sansio import Outcome
from tests.directory.opened import NOW, Place

reactor = cast(Any, the_reactor)

OTHER_PARAMETERS = argon2.Parameters(
    type=argon2.Type.ID, version=19, salt_len=16, hash_len=32, time_cost=2, memory_cost=8, parallelism=1
)


class SlowReactor:
    """The reactor with another idea of what time it is."""

    def __init__(self) -> None:
        self.now = NOW
        self.calls: list[tuple[float, Any]] = []

    def seconds(self) -> float:
        return self.now

    def callLater(self, delay: float, function: Any, *arguments: Any) -> Any:
        if not delay:
            return reactor.callLater(0, function, *arguments)
        call = reactor.callLater(3600, function, *arguments)
        self.calls.append((self.now + delay, call))
        return call

    def advance(self, seconds: float) -> None:
        """Let time pass, and what was to happen meanwhile happen now."""
        self.now += seconds
        due = [call for when, call in self.calls if when <= self.now]
        self.calls = [(when, call) for when, call in self.calls if when > self.now]
        for call in due:
            if call.active():
                call.reset(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class ServiceTestCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.place = Place(self)
        self.slow = SlowReactor()
        self.events: list[Any] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def other(self, **options: Any) -> Database:
        """The database as another process has it."""
        return self.place.open(**options)

    def make(self, **options: Any) -> DirectoryService:
        options = {
            "reactor": self.slow,
            "keys": self.place.key_file(),
            "parameters": CHEAPEST,
            "poll_interval": 5.0,
            "timeout": 0.1,
            **options,
        }
        return DirectoryService(self.place.path(), **options)

    async def start(self, **options: Any) -> DirectoryService:
        service = self.make(**options)
        service.startService()
        self.addCleanup(lambda: service.stopService() if service.running else None)
        await service.ready()
        return service

    async def failure_of(self, kind: type[DirectoryError], work: Deferred[Any] | Coroutine[Any, Any, Any]) -> str:
        try:
            await work
        except DirectoryError as error:
            self.assertIs(type(error), kind)
            self.assertEqual(len(str(error).splitlines()), 1)
            return str(error)
        raise self.failureException("nothing was wrong")

    async def until(self, look: Callable[[], object]) -> None:
        while not look():
            await deferLater(reactor, 0.002)

    def errors(self) -> list[str]:
        """What the log has for the operator."""
        return [event["log_format"].format(**event) for event in self.events if event["log_level"] is LogLevel.error]


class LifeTests(ServiceTestCase):
    async def test_nothing_before_start(self) -> None:
        """Making one touches no file and starts no thread: a fork may follow."""
        before = threading.active_count()
        service = self.make()
        self.assertEqual(os.listdir(self.place.folder), ["directory.key"])
        self.assertEqual(threading.active_count(), before)
        for look in (lambda: service.find_account("alice"), lambda: service.match_address("192.0.2.1")):
            self.assertIn("has not been read yet", str(self.assertRaises(DirectoryError, look)))
        self.assertIn("not running", await self.failure_of(DirectoryError, service.refresh()))

    async def test_start_and_stop(self) -> None:
        service = await self.start()
        self.assertIsNone(service.find_account("alice"))
        self.assertIsNone(service.problem)
        await service.ready()
        await service.run(lambda database: database.accounts.add("alice", "x", by="test"))
        await service.stopService()
        self.assertEqual(sorted(os.listdir(self.place.folder)), ["connectd.db", "directory.key"])
        self.assertRaises(DirectoryError, service.find_account, "alice")
        service.startService()
        await service.ready()
        self.assertIsNotNone(service.find_account("alice"))

    async def test_stop_finishes(self) -> None:
        """What was asked for before the stop is done."""
        service = await self.start()
        work = service.run(lambda database: database.accounts.add("alice", "x", by="test"))
        await service.stopService()
        self.assertEqual((await work).name, "alice")
        self.assertEqual(self.other().accounts.count(), 1)

    async def test_stop_at_once(self) -> None:
        """Stopped before it has read anything: whoever waits hears of it."""
        service = self.make()
        service.startService()
        waiting = service.ready()
        await service.stopService()
        self.assertIn("was stopped", await self.failure_of(DirectoryError, waiting))

    async def test_never_started(self) -> None:
        await self.make().stopService()

    async def test_before_the_reactor_runs(self) -> None:
        """A service is started before the reactor runs; one that never ran is stopped all the same."""
        self.patch(self.slow, "callWhenRunning", lambda *arguments: ("startup", arguments))
        self.patch(self.slow, "removeSystemEventTrigger", lambda identifier: None)
        service = self.make()
        service.startService()
        await service.stopService()
        self.assertEqual(os.listdir(self.place.folder), ["directory.key"])

    async def test_child_service(self) -> None:
        parent = MultiService()
        service = self.make()
        service.setServiceParent(parent)
        parent.startService()
        await service.ready()
        await parent.stopService()

    async def test_cancelled_wait(self) -> None:
        service = self.make()
        waiting = service.ready()
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        service.startService()
        await service.ready()
        await service.stopService()

    async def test_installed_reactor(self) -> None:
        service = DirectoryService(self.place.path(), parameters=CHEAPEST)
        service.startService()
        await service.ready()
        await service.stopService()


class AdmissionTests(ServiceTestCase):
    async def test_hook(self) -> None:
        """COM-4: bans are asked before the first byte; before they have been read, nobody is let in."""
        service = self.make()
        admission = Admission(AdmissionLimits(), clock=reactor, bans=service.match_address)
        refusal = admission.admit("192.0.2.1", NOW)
        assert refusal is not None
        self.assertEqual(refusal.outcome, Outcome.REFUSED)
        service.startService()
        self.addCleanup(service.stopService)
        await service.ready()
        self.assertIsNone(admission.admit("192.0.2.1", NOW))
        await service.run(lambda database: database.bans.add("address", "192.0.2.1", reason="spam", by="test"))
        refusal = admission.admit("192.0.2.1", NOW)
        assert refusal is not None
        self.assertEqual(refusal.outcome, Outcome.BANNED)


class ThreadTests(ServiceTestCase):
    async def test_never_on_the_reactor(self) -> None:
        """The database is opened, used and closed in another thread."""
        threads: set[str] = set()
        for name in ("__init__", "execute", "rows", "close"):
            real = getattr(Database, name)

            def note(self: Any, *arguments: Any, name: str = name, real: Any = real, **options: Any) -> Any:
                if name == "__init__" or not self.closed:
                    threads.add(threading.current_thread().name)
                return real(self, *arguments, **options)

            self.patch(Database, name, note)
        service = await self.start()
        await service.run(lambda database: database.accounts.add("alice", "x", by="test"))
        await service.check_password("alice", "x")
        await service.backup(self.place.path("backup.db"))
        service.find_account("alice")
        service.match_address("192.0.2.1")
        await service.stopService()
        self.assertNotIn(threading.current_thread().name, threads)
        self.assertEqual(len(threads), 1)

    async def test_answers_while_the_disk_does_not(self) -> None:
        """A log-in does not wait for a disk that hangs."""
        service = await self.start()
        await service.run(lambda database: database.accounts.add("alice", "x", schemes=SCHEMES, by="test"))
        release = threading.Event()
        stuck = service.run(lambda database: release.wait(30))
        account = service.find_account("alice")
        self.assertIsNotNone(account)
        self.assertEqual(service.secret(account, SEALED_PASSWORD), b"x")
        self.assertEqual(await service.check_password("alice", "x"), account)
        self.assertFalse(stuck.called)
        release.set()
        self.assertTrue(await stuck)

    async def test_read_your_writes(self) -> None:
        """When a change is acknowledged, it is durable and in memory."""
        service = await self.start()
        account = await service.run(lambda database: database.accounts.add("alice", "x", by="test"))
        self.assertEqual(service.find_account(b"ALICE"), account)
        self.assertEqual(self.other().accounts.get("alice"), account)
        await service.run(lambda database: database.bans.add("address", "192.0.2.1", reason="spam", by="test"))
        self.assertEqual(service.match_address("::ffff:192.0.2.1"), "spam")
        self.assertEqual(service.counts, {"accounts": 1, "bans": 1, "keys": 0})

    async def test_operation_fails(self) -> None:
        """A failure is the caller's; everything else goes on, and what the operation did before it is in memory."""
        service = await self.start()

        def half(database: Database) -> None:
            database.accounts.add("alice", "x", by="test")
            database.accounts.remove("bob", by="test")

        await self.failure_of(UnknownAccountError, service.run(half))
        self.assertIsNotNone(service.find_account("alice"))
        await self.assertFailure(service.run(lambda database: 1 // 0), ZeroDivisionError)
        self.assertIsNone(service.problem)

    async def test_cancelled(self) -> None:
        """Who waits no longer gets no answer; what was asked for is done."""
        service = await self.start()
        work = service.run(lambda database: database.accounts.add("alice", "x", by="test"))
        work.cancel()
        await self.assertFailure(work, CancelledError)
        await service.refresh()
        self.assertIsNotNone(service.find_account("alice"))

    async def test_connection_lost(self) -> None:
        """A connection that was given up is opened anew."""
        service = await self.start()
        await service.run(lambda database: database.close())
        account = await service.run(lambda database: database.accounts.add("alice", "x", by="test"))
        self.assertEqual(service.find_account("alice"), account)
        self.assertIsNone(service.problem)


class OtherProcessTests(ServiceTestCase):
    async def test_refresh(self) -> None:
        """Poked, it sees what another process has done."""
        service = await self.start()
        other = self.other()
        other.accounts.add("alice", "x", by="test")
        other.bans.add("account", "bob", reason="spam", by="test")
        self.assertIsNone(service.find_account("alice"))
        await service.refresh()
        self.assertEqual(service.find_account("alice"), other.accounts.get("alice"))
        self.assertEqual(service.match_account("BOB"), "spam")
        other.accounts.remove("alice", by="test")
        await service.refresh()
        self.assertIsNone(service.find_account("alice"))

    async def test_poll(self) -> None:
        """Not poked, it sees it soon."""
        service = await self.start()
        self.other().bans.add("address", "192.0.2.1", by="test")
        self.slow.advance(4.9)
        await deferLater(reactor, 0.02)
        self.assertIsNone(service.match_address("192.0.2.1"))
        self.slow.advance(0.1)
        await self.until(lambda: service.match_address("192.0.2.1"))

    async def test_rotation(self) -> None:
        """A key that another process has made is used as soon as something is sealed with it."""
        service = await self.start(schemes=[SEALED_PASSWORD])
        await service.run(lambda database: database.accounts.add("alice", "swordfish", schemes=SCHEMES, by="test"))
        rotate_key(self.other(), by="test")
        self.assertEqual(service.secret(service.find_account("alice"), SEALED_PASSWORD), b"swordfish")
        await service.refresh()
        self.assertEqual(service.secret(service.find_account("alice"), SEALED_PASSWORD), b"swordfish")
        await service.run(lambda database: database.accounts.set_password("alice", "new", by="test"))
        self.assertEqual(service.secret(service.find_account("alice"), SEALED_PASSWORD), b"new")

    async def test_house_is_kept(self) -> None:
        """Bans that are over are removed in the long run."""
        service = await self.start()
        await service.run(lambda database: database.bans.add("account", "bob", expires=NOW + 60, by="test"))
        self.assertIsNotNone(service.match_account("bob"))
        self.slow.advance(60)
        self.assertIsNone(service.match_account("bob"))
        self.assertEqual(service.counts["bans"], 1)
        self.slow.advance(HOUSEKEEPING_INTERVAL)
        await self.until(lambda: not service.counts["bans"])
        self.assertEqual(self.other().audit.list(limit=1)[0].who, "connectd")
        self.slow.advance(HOUSEKEEPING_INTERVAL)
        await service.refresh()

    async def test_house_cannot_be_kept(self) -> None:
        service = await self.start()
        await service.run(lambda database: database.bans.add("account", "bob", expires=NOW + 60, by="test"))
        other = self.other()
        with other.transaction():
            self.slow.advance(HOUSEKEEPING_INTERVAL)
            await self.until(self.errors)
        self.assertIn("locked by another process", self.errors()[0])


class PasswordTests(ServiceTestCase):
    async def start(self, **options: Any) -> DirectoryService:
        service = await super().start(**options)
        await service.run(lambda database: database.accounts.add("Alice", "swordfish", by="test"))
        await service.run(lambda database: database.accounts.add("bob", "x", schemes=[SEALED_SHA256], by="test"))
        return service

    async def test_check(self) -> None:
        service = await self.start()
        for name, password, right in (
            ("alice", "swordfish", True),
            (b"ALICE", b"swordfish", True),
            ("alice", "Swordfish", False),
            ("alice", "", False),
            ("mallory", "swordfish", False),
            (b"\xff", b"swordfish", False),
            ("bob", "x", False),
        ):
            account = await service.check_password(name, password)
            self.assertEqual(account is not None and account.name == "Alice", right, (name, password))

    async def test_same_work(self) -> None:
        """COM-10: known, unknown, without such a verifier, or no name at all: one check each."""
        service = await self.start()
        passwords = cast(PasswordVerifier, service._passwords)
        checked: list[bool] = []

        class Counting:
            def check(self, verifier: str | None, password: bytes | str) -> Deferred[bool]:
                checked.append(verifier is None)
                return passwords.check(verifier, password)

        self.patch(service, "_passwords", Counting())
        for name in ("alice", "mallory", "bob", b"\xff", "a" * 300):
            self.assertIsNone(await service.check_password(name, "wrong"))
        self.assertEqual(checked, [False, True, True, True, True])

    async def test_changed_meanwhile(self) -> None:
        """A password that was changed, or an account that was removed, while it was being checked, is no right one."""
        for change in (
            lambda database: database.accounts.set_password("alice", "new", by="test"),
            lambda database: database.accounts.remove("alice", by="test"),
        ):
            service = await self.start()

            class Slow:
                async def check(self, *arguments: Any, change: Any = change, service: Any = service) -> bool:
                    await service.run(change)
                    return True

            self.patch(service, "_passwords", Slow())
            self.assertIsNone(await service.check_password("alice", "swordfish"))
            await service.stopService()
            os.unlink(self.place.path())

    async def test_policy_comes_later(self) -> None:
        """COM-4: a disabled account proves itself like any other; whether it may come in is asked then."""
        service = await self.start()
        await service.run(lambda database: database.accounts.set_disabled("alice", True, by="test"))
        account = await service.check_password("alice", "swordfish")
        assert account is not None
        self.assertFalse(account.allows("lekt"))

    async def test_rehash(self) -> None:
        """A verifier of other parameters is made anew when its password is next seen right, and only then."""
        self.other(parameters=OTHER_PARAMETERS).accounts.add("carol", "swordfish", by="test")
        service = await self.start()
        before = service.find_account("carol")
        assert before is not None
        self.assertIsNone(await service.check_password("carol", "wrong"))
        await service.refresh()
        self.assertEqual(service.find_account("carol"), before)
        self.assertEqual(await service.check_password("carol", "swordfish"), before)

        def parameters() -> argon2.Parameters:
            account = service.find_account("carol")
            assert account is not None
            return argon2.extract_parameters(str(account.verifiers[ARGON2ID].data))

        await self.until(lambda: parameters() == CHEAPEST)
        self.assertIsNotNone(await service.check_password("carol", "swordfish"))

    async def test_rehash_fails(self) -> None:
        """That it cannot be stored is no reason to keep anybody out."""
        other = self.other(parameters=OTHER_PARAMETERS)
        other.accounts.add("carol", "swordfish", by="test")
        service = await self.start()
        with other.transaction():
            self.assertIsNotNone(await service.check_password("carol", "swordfish"))
            await self.until(self.errors)
        self.assertIn("carol keeps its old cost", self.errors()[0])
        self.assertNotIn("swordfish", repr(self.events))

    async def test_unreadable(self) -> None:
        """COM-10: the peer sees a wrong password; the operator reads which account it is, and no more (COM-9)."""
        service = await self.start()
        await service.run(
            lambda database: database.execute("UPDATE verifiers SET data = '$argon2id$x' WHERE account = 1")
        )
        self.assertIsNone(await service.check_password("alice", "swordfish"))
        (line,) = self.errors()
        self.assertIn('"Alice" cannot be read', line)
        self.assertNotIn("swordfish", repr(self.events))
        self.assertNotIn("$argon2id", repr(self.events))


class SecretTests(ServiceTestCase):
    async def test_secrets(self) -> None:
        """SB-7, SB-20: what the protocols need, at once."""
        service = await self.start()
        account = await service.run(lambda d: d.accounts.add("alice", "swordfish", schemes=SCHEMES, by="test"))
        self.assertEqual(service.secret(account, SEALED_PASSWORD), b"swordfish")
        self.assertEqual(service.secret(account, SEALED_SHA256).hex()[:16], "b9f195c5cc7ef6af")
        self.assertEqual(len(service.secret(None, SEALED_SHA256)), 32)

    async def test_broken_seal(self) -> None:
        """COM-10: a damaged verifier is a wrong password to the peer, and a line to the operator."""
        service = await self.start()
        await service.run(lambda d: d.accounts.add("alice", "swordfish", schemes=SCHEMES, by="test"))
        await service.run(lambda d: d.execute("UPDATE verifiers SET data = zeroblob(92) WHERE scheme LIKE 'sealed-%'"))
        damaged = service.find_account("alice")
        self.assertEqual(service.secret(damaged, SEALED_PASSWORD), service.secret(None, SEALED_PASSWORD))
        self.assertIn("was changed or moved", self.errors()[0])

    async def test_missing_key(self) -> None:
        """Without the key of what is needed it does not get ready, and lets nobody in, until the key is back."""
        self.other().accounts.add("alice", "swordfish", schemes=SCHEMES, by="test")
        os.rename(self.place.path("directory.key"), self.place.path("lost"))
        service = self.make(schemes=[SEALED_SHA256], keys=KeyFile(self.place.path("gone")))
        service.startService()
        self.addCleanup(service.stopService)
        self.assertIn("1 sealed verifiers need it", await self.failure_of(MissingKeyError, service.ready()))
        self.assertRaises(MissingKeyError, service.find_account, "alice")
        self.assertRaises(MissingKeyError, service.secret, None, SEALED_SHA256)
        await self.failure_of(MissingKeyError, service.check_password("alice", "swordfish"))
        await self.failure_of(MissingKeyError, service.refresh())
        self.assertEqual(len(self.errors()), 1)
        os.rename(self.place.path("lost"), self.place.path("gone"))
        ready = service.ready()
        self.slow.advance(5)
        await ready
        self.assertEqual(service.secret(service.find_account("alice"), SEALED_PASSWORD), b"swordfish")
        self.assertIsNone(service.problem)

    async def test_key_not_needed(self) -> None:
        """Nothing sealed is asked for: no key is no problem."""
        self.other().accounts.add("alice", "swordfish", schemes=SCHEMES, by="test")
        service = await self.start(keys=None, schemes=[ARGON2ID])
        account = await service.check_password("alice", "swordfish")
        self.assertIsNotNone(account)
        self.assertRaises(MissingKeyError, service.secret, account, SEALED_SHA256)


class KeyTests(ServiceTestCase):
    async def test_proven_names(self) -> None:
        """Proven names are durable before anybody relies on them, and known ones cost no write."""
        service = await self.start()
        self.assertFalse(service.is_proven("alloy", "ann"))
        await service.add_proven_names("alloy", ["ann", "bob"])
        self.assertTrue(service.is_proven("alloy", "ann"))
        self.assertTrue(self.other().names.has("alloy bob"))
        self.assertTrue(service.add_proven_names("alloy", ["bob"]).called)
        writing = service.add_proven_names("alloy", ["bob", "eve"])
        self.assertFalse(writing.called)
        await writing

    async def test_register(self) -> None:
        """CH-20, CH-22: acknowledged when it is durable, and known at once."""
        service = await self.start()
        uuid = uuid4()
        self.assertIsNone(service.registered_key(uuid))
        await service.register_key(uuid, b"old", by="chatr")
        self.assertEqual(service.registered_key(uuid), b"old")
        self.assertIsNotNone(self.other().keys.get(uuid))
        await self.failure_of(AlreadyRegisteredError, service.register_key(uuid, b"new", by="chatr"))
        await service.replace_key(uuid, b"new", expected=b"old", by="chatr")
        self.assertEqual(service.registered_key(uuid), b"new")
        await self.failure_of(KeyChangedError, service.replace_key(uuid, b"x", expected=b"old", by="chatr"))

    async def test_full(self) -> None:
        """COM-2: what anybody can make the daemon remember is bounded."""
        service = await self.start(maximum_keys=2)
        for _ in range(2):
            await service.register_key(uuid4(), b"key", by="chatr")
        line = await self.failure_of(RegistryFullError, service.register_key(uuid4(), b"key", by="chatr"))
        self.assertIn("maximum_keys = 2", line)

    async def test_bans(self) -> None:
        service = await self.start()
        uuid = uuid4()
        await service.run(lambda database: database.bans.add("uuid", str(uuid), reason="stolen", by="test"))
        self.assertEqual((service.match_uuid(uuid), service.match_uuid(uuid4())), ("stolen", None))
        self.assertIsNone(service.match_key(b"key"))


class TroubleTests(ServiceTestCase):
    async def test_cannot_open(self) -> None:
        """A database that cannot be used: one line, nobody is let in, and it goes on once it can."""
        with open(self.place.path(), "wb") as file:
            file.write(b"This is a text.\n" * 1000)
        service = self.make()
        service.startService()
        self.addCleanup(service.stopService)
        line = await self.failure_of(DamagedDatabaseError, service.ready())
        self.assertIn("is not an SQLite database", line)
        self.assertEqual((service.problem, self.errors()), (line, [line]))
        for look in (
            lambda: service.find_account("alice"),
            lambda: service.match_address("192.0.2.1"),
            lambda: service.registered_key(uuid4()),
        ):
            self.assertEqual(str(self.assertRaises(DatabaseError, look)), line)
        self.slow.advance(5)
        await deferLater(reactor, 0.02)
        self.assertEqual(self.errors(), [line])
        os.unlink(self.place.path())
        ready = service.ready()
        self.slow.advance(5)
        await ready
        self.assertIsNone(service.find_account("alice"))

    async def test_cannot_read_any_more(self) -> None:
        """COM-4: memory is trusted for a while; a policy that cannot be evaluated then refuses."""
        service = await self.start()
        await service.run(lambda database: database.accounts.add("alice", "x", by="test"))
        os.rename(self.place.path(), self.place.path("away"))
        line = await self.failure_of(DatabaseError, service.refresh())
        self.assertIn("was replaced or removed", line)
        self.assertEqual(service.problem, line)
        self.slow.now += GRACE
        self.assertIsNotNone(service.find_account("alice"))
        self.slow.now += 0.5
        self.assertEqual(str(self.assertRaises(DatabaseError, service.find_account, "alice")), line)
        self.assertEqual(str(self.assertRaises(DatabaseError, service.match_address, "192.0.2.1")), line)
        os.rename(self.place.path("away"), self.place.path())
        await service.refresh()
        self.assertIsNotNone(service.find_account("alice"))
        self.assertIn("can be read again", [event["log_format"] for event in self.events][-1])

    async def test_durable_but_unread(self) -> None:
        """A change that is durable is acknowledged, even when the look that follows it fails."""
        service = await self.start()

        def change_and_vanish(database: Database) -> str:
            database.accounts.add("alice", "x", by="test")
            os.rename(self.place.path(), self.place.path("away"))
            return "done"

        self.assertEqual(await service.run(change_and_vanish), "done")
        self.assertIsNotNone(service.problem)
        os.rename(self.place.path("away"), self.place.path())
        await service.refresh()
        self.assertIsNotNone(service.find_account("alice"))

    async def test_the_unexpected(self) -> None:
        """What nobody has thought of is told like everything else, and the polls go on after it."""
        service = await self.start()

        def odd(*arguments: object) -> None:
            raise RuntimeError("odd")

        self.patch(services, "read_changes", odd)
        self.assertEqual(await service.run(lambda database: "done"), "done")
        self.assertIn("RuntimeError: odd", service.problem or "")
        self.slow.advance(5)
        await deferLater(reactor, 0.02)
        self.patch(services, "read_changes", read_changes)
        self.slow.advance(5)
        await self.until(lambda: service.problem is None)

    async def test_cannot_be_opened_at_all(self) -> None:
        def odd(*arguments: object, **options: object) -> None:
            raise RuntimeError("odd")

        self.patch(Database, "open", odd)
        service = self.make()
        service.startService()
        self.addCleanup(service.stopService)
        self.assertIn("RuntimeError: odd", await self.failure_of(DirectoryError, service.ready()))

    async def test_backup(self) -> None:
        service = await self.start()
        await service.run(lambda database: database.accounts.add("alice", "x", by="test"))
        await service.backup(self.place.path("backup.db"))
        self.assertEqual(self.place.open("backup.db", keys=None).accounts.count(), 1)
