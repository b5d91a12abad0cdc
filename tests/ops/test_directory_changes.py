"""What changes in the directory while listeners run."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from connectd.admission import Admission, AdmissionLimits
from connectd.directory import Database, DirectoryError
from connectd.events import Events
from connectd.net.connection import Peer
from connectd.net.listener import Context
from connectd.ops import directory_changes
from connectd.ops.directory_changes import Applied, DirectoryChanges
from tests.accounts import DirectoryCase, change, reactor
from tests.directory.opened import Place
from tests.ops.composed import until
from tests.toy import OutcomeChecker, ToyListener, ToySettings


class Transport:
    """A peer's socket that keeps what is written to it."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def loseConnection(self) -> None:
        self.closed = True

    loseWriteConnection = abortConnection = loseConnection

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


class ChangesCase(DirectoryCase):
    """With a toy listener whose accounts are the directory's."""

    def setUp(self) -> Any:
        return super().setUp().addCallback(lambda result: Deferred.fromCoroutine(self.begin()))

    async def begin(self) -> None:
        self.checker = OutcomeChecker()
        admission = Admission(AdmissionLimits(), clock=reactor, bans=self.directory.match_address)
        self.context = Context(
            reactor=reactor,
            admission=admission,
            events=Events(reactor.seconds, [self.checker]),
            directory=self.directory,
        )
        self.listener = ToyListener(ToySettings(), self.context)
        self.addCleanup(self.listener.stopService)
        self.changes = DirectoryChanges(self.directory, self.context, lambda: [self.listener], 3600.0)
        self.changes.startService()
        self.addCleanup(self.changes.stopService)
        self.assertEqual(await self.changes.apply(), Applied(0, 0))

    def connect(self, host: str = "192.0.2.1") -> Any:
        """A peer that has not said anything."""
        connection: Any = self.listener.accept(Peer(host, 4000))
        if connection is not None:
            connection.makeConnection(Transport())
            self.addCleanup(self.leave, connection)
        return connection

    def leave(self, connection: Any) -> None:
        if connection.transport is not None:
            connection.connectionLost(Failure(ConnectionLost()))

    async def login(self, name: str = "Ann", password: str = "right", host: str = "192.0.2.1") -> Any:
        """A peer that is in."""
        connection = self.connect(host)
        connection.dataReceived(f"LOGIN {name} {password}\n".encode())
        await until(lambda: connection.session is not None, reactor)
        return connection

    def audited(self) -> list[dict[str, Any]]:
        """The ``audit`` events so far."""
        return [event for event in self.checker.events if event["event"] == "audit"]


class KickTests(ChangesCase):
    """COM-4: bans, and what becomes of accounts, take effect at once for those who are in."""

    async def kicked(self, operation: Any, connection: Any, words: str) -> None:
        """After a change by somebody else, this session is over, in the protocol's words, and no other is."""
        other = await self.login("Bob", "second", host="198.51.100.1")
        change(self.path, operation)
        self.assertEqual(await self.changes.apply(), Applied(1, 1))
        self.assertIsNone(connection.session)
        self.assertIn(f"BYE {words}\n".encode(), connection.transport.written)
        self.assertEqual(self.checker.last["outcome"], "kicked")
        self.assertEqual((self.checker.last["reason"], self.checker.last["account"]), (words, "Ann"))
        self.assertIsNotNone(other.session)
        self.assertEqual(self.checker.faults, [])

    async def begin(self) -> None:
        await super().begin()
        await self.change(lambda database: database.accounts.set_password("Bob", "second", by="test"))
        await self.changes.apply()

    async def test_account_banned(self) -> None:
        await self.kicked(
            lambda database: database.bans.add("account", "ann", reason="spam", by="admin"),
            await self.login(),
            "This account is banned: spam",
        )

    async def test_account_disabled(self) -> None:
        await self.kicked(
            lambda database: database.accounts.set_disabled("ann", True, by="admin"),
            await self.login(),
            "This account is disabled",
        )

    async def test_account_removed(self) -> None:
        await self.kicked(
            lambda database: database.accounts.remove("ann", by="admin"),
            await self.login(),
            "This account was removed",
        )

    async def test_protocols_changed(self) -> None:
        await self.kicked(
            lambda database: database.accounts.set_protocols("ann", ["lekt"], by="admin"),
            await self.login(),
            "This account may not be used for toy",
        )

    async def test_address_banned(self) -> None:
        await self.kicked(
            lambda database: database.bans.add("address", "192.0.2.1", reason="flood", by="admin"),
            await self.login(),
            "This address is banned: flood",
        )

    async def test_network_banned(self) -> None:
        await self.kicked(
            lambda database: database.bans.add("network", "192.0.2.0/24", reason="flood", by="admin"),
            await self.login(),
            "This address is banned: flood",
        )

    async def test_not_in_yet(self) -> None:
        """Who was let in before the ban and has not proved who they are comes no further; nor does the next one."""
        silent, talking = self.connect(), self.connect()
        talking.dataReceived(b"LOG")
        change(self.path, lambda database: database.bans.add("address", "192.0.2.1", reason="flood", by="admin"))
        self.assertEqual(await self.changes.apply(), Applied(1, 2))
        self.assertEqual(silent.transport.written, b"")
        self.assertEqual(talking.transport.written, b"NO This address is banned: flood\n")
        self.assertEqual(self.checker.outcomes(), ["banned", "banned"])
        self.assertIsNone(self.connect())

    async def test_proving(self) -> None:
        """Whose proof is being looked at when the account is banned does not come in either."""
        pending: Deferred[None] = Deferred()
        checking = self.directory.check_password

        def check(name: Any, password: Any) -> Any:
            return pending.addCallback(lambda result: checking(name, password))

        self.patch(self.directory, "check_password", check)
        connection = self.connect()
        connection.dataReceived(b"LOGIN Ann right\n")
        change(self.path, lambda database: database.bans.add("account", "ann", reason="spam", by="admin"))
        self.assertEqual(await self.changes.apply(), Applied(1, 0))
        pending.callback(None)
        await until(self.checker.outcomes, reactor)
        self.assertEqual(self.checker.outcomes(), ["banned"])
        self.assertIsNone(connection.session)

    async def test_harmless(self) -> None:
        """Changes that are no reason to send anybody away do not make it look at everybody, nor does what it has looked
        at already."""
        await self.login()
        change(self.path, lambda database: database.bans.add("address", "192.0.2.77", reason="", by="admin"))
        self.assertEqual(await self.changes.apply(), Applied(1, 0))
        self.patch(self.listener, "objection", None)
        change(self.path, lambda database: database.accounts.add("Carl", "x", by="admin"))
        await self.change(lambda database: database.accounts.set_password("Ann", "y", by="admin"))
        self.assertEqual(await self.changes.apply(), Applied(2, 0))

    async def test_many(self) -> None:
        """However many there are, all are looked at, and the reactor gets its turns meanwhile."""
        self.patch(directory_changes, "CONNECTIONS_PER_TURN", 2)
        self.patch(directory_changes, "ENDINGS_PER_TURN", 2)
        for host in ("192.0.2.1", "198.51.100.1"):
            for _ in range(5):
                await self.login(host=host)
        turns = []
        looking = self.listener.objection

        def look(connection: Any) -> Any:
            turns.append(reactor.seconds())
            reactor.callLater(0, turns.append, None)
            return looking(connection)

        self.patch(self.listener, "objection", look)
        change(self.path, lambda database: database.bans.add("network", "198.51.100.0/24", reason="x", by="admin"))
        self.assertEqual(await self.changes.apply(), Applied(1, 5))
        self.assertEqual(self.listener.session_count, 5)
        self.assertIn(None, turns[:8])

    async def test_broken_meanwhile(self) -> None:
        """Where nobody can say who may stay, nobody is sent away; once it can be said, it is made good."""
        connection = await self.login()
        change(self.path, lambda database: database.bans.add("account", "ann", reason="spam", by="admin"))

        def broken(connection: object) -> None:
            raise DirectoryError("the database cannot be read")

        patch = self.patch(self.listener, "objection", broken)
        with self.assertRaises(DirectoryError):
            await self.changes.apply()
        self.assertIsNotNone(connection.session)
        patch.restore()
        self.assertEqual(await self.changes.apply(), Applied(0, 1))
        self.assertIsNone(connection.session)

    async def test_one_that_fails(self) -> None:
        """A mistake about one connection is logged, and saves no other."""
        first, second = await self.login(), await self.login()
        looking = self.listener.objection

        def look(connection: Any) -> Any:
            return 1 / 0 if connection is first else looking(connection)

        self.patch(self.listener, "objection", look)
        change(self.path, lambda database: database.bans.add("account", "ann", reason="spam", by="admin"))
        self.assertEqual(await self.changes.apply(), Applied(1, 1))
        self.assertIsNone(second.session)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_gone_already(self) -> None:
        """A connection that is closing is left alone."""
        connection = await self.login()
        connection.session.kick("enough")
        change(self.path, lambda database: database.bans.add("account", "ann", reason="spam", by="admin"))
        self.assertEqual(await self.changes.apply(), Applied(1, 0))


class EventTests(ChangesCase):
    """Each change is an ``audit`` event, too."""

    async def test_once_each(self) -> None:
        """Whoever made it; with what there is to know and nothing secret (COM-9); in order, and once."""
        change(
            self.path,
            lambda database: database.accounts.add("Carl", "swordfish", protocols=["lekt", "toy"], by="admin"),
        )
        await self.change(lambda database: database.bans.add("address", "192.0.2.9", reason="spam", by="somebody"))
        for _ in range(2):
            await self.changes.apply()
        added, banned = self.audited()
        number = added.pop("entry")
        self.assertEqual(banned["entry"], number + 1)
        self.assertLess(abs(added.pop("changed") - added.pop("time")), 60)
        self.assertEqual(
            added,
            {
                "event": "audit",
                "who": "admin",
                "action": "account.added",
                "subject": "Carl",
                "schemes": "argon2id",
                "protocols": "lekt, toy",
            },
        )
        self.assertEqual(
            {key: banned[key] for key in ("who", "action", "subject", "reason")},
            {"who": "somebody", "action": "ban.added", "subject": "address 192.0.2.9", "reason": "spam"},
        )
        self.assertNotIn("expires", banned)
        self.assertNotIn("swordfish", repr(self.checker.events))

    async def test_details_do_not_override(self) -> None:
        """What an entry says of itself cannot pass for who made it."""
        change(self.path, lambda database: database.audit.add("me", "forged", "x", event="ended", entry=0, changed="y"))
        await self.changes.apply()
        [event] = self.audited()
        self.assertEqual((event["event"], event["action"]), ("audit", "forged"))
        self.assertGreater(event["entry"], 0)
        self.assertIsInstance(event["changed"], float)

    async def test_pages(self) -> None:
        """However many there are, they come in their order."""
        self.patch(directory_changes, "PAGE", 3)

        def add_many(database: Database) -> None:
            for number in range(10):
                database.audit.add("me", "account.added", str(number))

        change(self.path, add_many)
        self.assertEqual((await self.changes.apply()).changes, 10)
        self.assertEqual([event["subject"] for event in self.audited()], [str(number) for number in range(10)])

    async def test_poll(self) -> None:
        """Changes that nobody tells of are found, too."""
        changes = DirectoryChanges(self.directory, self.context, lambda: [self.listener], 0.01)
        changes.startService()
        self.addCleanup(changes.stopService)
        await changes.apply()
        connection = await self.login()
        change(self.path, lambda database: database.bans.add("account", "ann", reason="spam", by="admin"))
        await until(lambda: connection.session is None, reactor)
        self.assertEqual([event["action"] for event in self.audited()], ["ban.added"])

    async def test_unreadable(self) -> None:
        """It goes on when the directory can be read again."""

        def broken() -> Any:
            raise DirectoryError("the database cannot be read")

        changes = DirectoryChanges(self.directory, self.context, lambda: [self.listener], 0.01)
        patch = self.patch(self.directory, "refresh", broken)
        changes.startService()
        self.addCleanup(changes.stopService)
        with self.assertRaises(DirectoryError):
            await changes.apply()
        patch.restore()
        await changes.apply()
        change(self.path, lambda database: database.accounts.add("Carl", "x", by="admin"))
        await until(self.audited, reactor)

    async def test_stopped(self) -> None:
        """A second stop, and one before the start, do nothing."""
        self.changes.stopService()
        self.changes.stopService()


class GapTests(SynchronousTestCase):
    def test_gap(self) -> None:
        """Numbers that are missing from the trail hide nothing behind them."""
        database = Place(self).open()
        database.audit.add("me", "first", "x")
        database.execute("UPDATE sqlite_sequence SET seq = 5000 WHERE name = 'audit'")
        database.audit.add("me", "second", "x")
        [entry] = directory_changes._page(database, 1)
        self.assertEqual((entry.id, entry.action), (5001, "second"))
        self.assertEqual(directory_changes._page(database, 5001), [])
        self.assertEqual(directory_changes._newest(database), 5001)

    def test_empty(self) -> None:
        self.assertEqual(directory_changes._newest(Place(self).open()), 0)
