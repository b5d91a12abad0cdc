"""A daemon with a directory: when it is ready, who may come in, and what the admin socket does."""

from __future__ import annotations

import json
import sqlite3
from functools import partial
from typing import Any

from argon2.profiles import CHEAPEST
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from connectd.admission import AdmissionLimits
from connectd.directory import Database, DirectoryError
from connectd.directory.service import DirectoryService
from connectd.directory.settings import DirectorySettings
from connectd.ops import daemon as daemon_module
from connectd.ops import directory as directory_module
from connectd.ops.daemon import Daemon, State
from connectd.ops.snapshot import directory_state, snapshot
from connectd.protocols.lekt.settings import LektSettings
from tests import toy_protocol, toy_wing
from tests.accounts import add_accounts, change, counting_passwords
from tests.directory.opened import Place
from tests.ops.composed import LOOPBACK, composed, until
from tests.ops.exchange import Exchange, Response
from tests.ops.recording import record_log
from tests.ops.test_daemon import Client, port_of
from tests.toy import OutcomeChecker, ToySettings

reactor: Any = installed_reactor


class DaemonCase(TestCase):
    """With a toy listener whose accounts are in a directory."""

    timeout = 60

    def setUp(self) -> None:
        toy_protocol.install(self, toy_wing.ToyPlugin())
        self.patch(directory_module, "DirectoryService", partial(DirectoryService, parameters=CHEAPEST))
        self.place = Place(self)
        self.path = add_accounts(self.place)

    def make(self, *listeners: Any, **options: Any) -> Daemon:
        """A daemon that is not started."""
        settings = DirectorySettings(url=f"sqlite:///{self.path}", key_file=self.place.path("directory.key"))
        daemon = Daemon.from_settings(listeners or [ToySettings(listen=LOOPBACK)], directory=settings, **options)
        self.checker = OutcomeChecker()
        daemon.context.events.sinks.append(self.checker)
        self.addCleanup(lambda: daemon.running and daemon.stopService())
        self.addCleanup(daemon.let_go)
        return daemon

    async def run_daemon(self, *listeners: Any, **options: Any) -> Daemon:
        """A daemon that accepts."""
        daemon = self.make(*listeners, **options)
        daemon.startService()
        await until(lambda: daemon.ready, reactor)
        return daemon

    async def say(self, daemon: Daemon, line: bytes) -> Any:
        """A client that says one line and has an answer."""
        endpoint = HostnameEndpoint(reactor, b"127.0.0.1", port_of(daemon))
        client: Any = await connectProtocol(endpoint, Client())
        self.addCleanup(client.transport.abortConnection)
        client.transport.write(line)
        await until(lambda: client.received or client.gone, reactor)
        return client

    async def ask(self, routes: Any, method: str, path: str, body: bytes = b"") -> Response:
        """One request to a site in memory."""
        site = Exchange(routes)
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        site.channel.dataReceived(request.encode() + body)
        await until(site.transport.value, reactor)
        return site.take()


class ReadinessTests(DaemonCase):
    async def test_doors_open_last(self) -> None:
        """Nobody is accepted before the directory has been read, by whichever listener; /readyz says 503 until then,
        and the windows are open."""
        daemon = self.make(ToySettings(listen=LOOPBACK), ToySettings(listen=LOOPBACK))
        assert daemon.directory is not None
        daemon.startService()
        self.assertIs(daemon.state, State.STARTING)
        self.assertFalse(any(listener.accepting for listener in daemon.listeners))
        response = await self.ask(daemon.status_routes, "GET", "/readyz")
        self.assertEqual((response.status, response.body), (503, b"starting\n"))
        await daemon.directory.ready()
        self.assertIs(daemon.state, State.STARTING)
        await until(lambda: daemon.ready, reactor)
        self.assertTrue(all(listener.accepting for listener in daemon.listeners))
        response = await self.ask(daemon.status_routes, "GET", "/readyz")
        self.assertEqual((response.status, response.body), (200, b"ready\n"))

    async def test_connections_wait(self) -> None:
        """Who connects before is not turned away, but waits in the kernel's queue."""
        daemon = self.make()
        endpoint = HostnameEndpoint(reactor, b"127.0.0.1", port_of(daemon))
        client: Any = await connectProtocol(endpoint, Client())
        client.transport.write(b"LOGIN ann right\n")
        self.addCleanup(client.transport.abortConnection)
        daemon.startService()
        await until(lambda: client.received, reactor)
        self.assertEqual(client.received, b"WELCOME Ann\n")

    async def test_directory_that_comes_late(self) -> None:
        """A database that cannot be read at the start is waited for; what is wrong is in the log and in /status."""
        logged = record_log(self)
        daemon = self.make()
        assert daemon.directory is not None
        self.patch(daemon_module, "RETRY", 0.01)
        self.patch(daemon.directory, "_poll_interval", 0.05)
        self.patch(daemon.directory, "_options", {"timeout": 0.01})
        locker = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(locker.close)
        locker.execute("PRAGMA locking_mode = EXCLUSIVE")
        locker.execute("BEGIN EXCLUSIVE")
        daemon.startService()
        await until(lambda: daemon.directory and daemon.directory.problem, reactor)
        state = snapshot(daemon)["directory"]
        self.assertEqual((state["ready"], state["problem"]), (False, daemon.directory.problem))
        self.assertIsNone(state["accounts"])
        self.assertFalse(daemon.ready)
        self.assertIn(daemon.directory.problem, [event.get("problem") for event in logged])
        self.assertIn(b"connectd_directory_ready 0.0", daemon.metrics.exposition())
        self.assertNotIn(b"connectd_directory_entries{", daemon.metrics.exposition())
        locker.execute("ROLLBACK")
        locker.close()
        await until(lambda: daemon.ready, reactor)
        self.assertIn(b"connectd_directory_ready 1.0", daemon.metrics.exposition())
        self.assertIn(b'connectd_directory_entries{kind="accounts"} 2.0', daemon.metrics.exposition())

    async def test_stopped_while_waiting(self) -> None:
        """A daemon that is stopped before it was ready opens no door any more."""
        daemon = self.make()
        daemon.startService()
        await daemon.stopService()
        self.assertIs(daemon.state, State.STOPPED)
        self.assertFalse(any(listener.accepting for listener in daemon.listeners))

    async def test_mistake_of_ours(self) -> None:
        """It is logged, and the daemon is not ready."""
        daemon = self.make()
        self.patch(daemon.listeners[0], "startService", lambda: 1 / 0)
        daemon.startService()
        await until(lambda: self.flushLoggedErrors(ZeroDivisionError), reactor)
        self.assertFalse(daemon.ready)

    async def test_lost_later(self) -> None:
        """A directory that cannot be trusted any more lets nobody in (COM-4), and a load balancer is told."""
        daemon = await self.run_daemon()
        inside = await self.say(daemon, b"LOGIN ann right\n")

        def nothing(directory: object) -> Any:
            raise DirectoryError("the database cannot be read")

        patch = self.patch(DirectoryService, "_trusted_memory", nothing)
        response = await self.ask(daemon.status_routes, "GET", "/readyz")
        self.assertEqual((response.status, response.body), (503, b"the directory cannot be read\n"))
        outside = await self.say(daemon, b"LOGIN ann right\n")
        self.assertEqual((outside.received, outside.gone), (b"", True))
        self.assertEqual(self.checker.outcomes(), ["refused"])
        self.assertIn("admission of '127.0.0.1' failed: DirectoryError", self.checker.last["reason"])
        self.assertFalse(inside.gone)
        patch.restore()
        self.assertTrue(daemon.ready)

    async def test_directory_stops_last(self) -> None:
        """COM-8: as long as somebody is in, accounts can be looked up."""
        daemon = await self.run_daemon()
        await self.say(daemon, b"LOGIN ann right\n")
        directory = daemon.directory
        assert directory is not None
        seen: list[Any] = []
        listener: Any = daemon.listeners[0]
        stopping = listener.stopService

        def stop() -> Any:
            return stopping().addCallback(lambda result: seen.append(directory.counts["accounts"]))

        self.patch(listener, "stopService", stop)
        await daemon.stopService()
        self.assertEqual(seen, [2])
        self.assertRaises(DirectoryError, directory.find_account, "ann")


class LoginTests(DaemonCase):
    async def test_accounts(self) -> None:
        """Ann comes in with her password, and nobody with another one or without an account."""
        daemon = await self.run_daemon()
        self.assertEqual((await self.say(daemon, b"LOGIN ANN right\n")).received, b"WELCOME Ann\n")
        wrong = await self.say(daemon, b"LOGIN ann wrong\n")
        unknown = await self.say(daemon, b"LOGIN nobody right\n")
        self.assertEqual(wrong.received, unknown.received)
        self.assertEqual(wrong.received, b"NO unknown account or wrong proof\n")

    async def test_same_work(self) -> None:
        """COM-10: wrong password, unknown account, a name that is none, accounts that may not be used and one that has
        no password: the same answer, after one hash each."""

        def arrange(database: Database) -> None:
            for name in ("Dora", "Emma", "Fred"):
                database.accounts.add(name, "right", by="test")
            database.accounts.set_disabled("Dora", True, by="test")
            database.accounts.set_protocols("Emma", [], by="test")
            database.bans.add("account", "fred", reason="spam", by="test")

        change(self.path, arrange)
        daemon = await self.run_daemon()
        assert daemon.directory is not None
        work = counting_passwords(self, daemon.directory)
        answers = []
        for name in (b"ann", b"nobody", b"(" * 70, b"dora", b"emma", b"fred"):
            answers.append((await self.say(daemon, b"LOGIN %s wrong\n" % name)).received)
            self.assertEqual(len(work), len(answers), name)
        self.assertEqual(set(answers), {b"NO unknown account or wrong proof\n"})
        self.assertEqual(set(work), {False})
        self.assertEqual({event["reason"] for event in self.checker.events}, {"unknown account or wrong proof"})

    async def test_shut_out(self) -> None:
        """COM-11: a source that failed too often costs no hash any more, and learns nothing; who logged in from there
        before still can, and live sessions are none the wiser."""
        limits = AdmissionLimits(connection_rate=0, failures_per_source=6)
        daemon = await self.run_daemon(admission=limits)
        assert daemon.directory is not None
        live = await self.say(daemon, b"LOGIN ann right\n")
        work = counting_passwords(self, daemon.directory)
        for number in range(6):
            await self.say(daemon, b"LOGIN stranger%d wrong\n" % number)
        self.assertEqual(len(work), 6)
        answers = {(await self.say(daemon, line)).received for line in (b"LOGIN bob wrong\n", b"LOGIN x wrong\n")}
        answers.add((await self.say(daemon, b"LOGIN bob also right\n")).received)
        self.assertEqual((answers, len(work)), ({b"NO unknown account or wrong proof\n"}, 6))
        self.assertEqual((await self.say(daemon, b"LOGIN ANN right\n")).received, b"WELCOME Ann\n")
        self.assertEqual(len(work), 7)
        live.transport.write(b"ASK are you there\n")
        await until(lambda: live.received.endswith(b"are you there\n"), reactor)

    async def test_one_ledger(self) -> None:
        """COM-11: failures at one listener count at the other."""
        daemon = await self.run_daemon(
            ToySettings(listen=LOOPBACK), ToySettings(listen=LOOPBACK), admission=AdmissionLimits(failures_per_source=2)
        )
        assert daemon.directory is not None
        work = counting_passwords(self, daemon.directory)
        for name in (b"ann", b"bob"):
            await self.say(daemon, b"LOGIN %s wrong\n" % name)
        daemon.listeners.reverse()
        self.assertEqual((await self.say(daemon, b"LOGIN ann right\n")).received[:3], b"NO ")
        self.assertEqual(len(work), 2)
        daemon.context.replace_limits(AdmissionLimits(failures_per_source=0))
        self.assertEqual((await self.say(daemon, b"LOGIN ann right\n")).received, b"WELCOME Ann\n")

    async def test_banned_address(self) -> None:
        """COM-4: before the first byte."""
        change(self.path, lambda database: database.bans.add("network", "127.0.0.0/8", reason="test", by="admin"))
        daemon = await self.run_daemon()
        client = await self.say(daemon, b"LOGIN ann right\n")
        self.assertEqual((client.received, self.checker.outcomes()), (b"", ["banned"]))
        self.assertEqual(self.checker.last["reason"], "127.0.0.1 is banned: test")

    async def test_other_checkers(self) -> None:
        """Accounts of a listener's own, and those of whoever composes the daemon."""
        ours = InMemoryUsernamePasswordDatabaseDontUse(dora=b"mine")
        daemon = await self.run_daemon(
            ToySettings(listen=LOOPBACK, auth=("memory:carl:secret",)), ToySettings(listen=LOOPBACK), checkers=[ours]
        )
        self.assertEqual((await self.say(daemon, b"LOGIN carl secret\n")).received, b"WELCOME carl\n")
        self.assertEqual((await self.say(daemon, b"LOGIN ann right\n")).received[:3], b"NO ")
        daemon.listeners.reverse()
        self.assertEqual((await self.say(daemon, b"LOGIN dora mine\n")).received, b"WELCOME dora\n")

    async def test_without_accounts(self) -> None:
        """A protocol without accounts has the bans of the directory."""
        toy_protocol.install(self, toy_wing.ToyPlugin(), _lekt())
        change(self.path, lambda database: database.bans.add("address", "127.0.0.1", reason="test", by="admin"))
        daemon = await self.run_daemon(LektSettings(listen=LOOPBACK))
        client = await self.say(daemon, b"LEKTH\0\0\0\0\0\0\0")
        self.assertEqual((client.received, self.checker.outcomes()), (b"", ["banned"]))


def _lekt() -> Any:
    from connectd.protocols.lekt.plugin import plugin

    return plugin


class RefreshTests(DaemonCase):
    """POST /directory/refresh"""

    async def refresh(self, daemon: Daemon, body: bytes = b"{}", status: int = 200) -> Any:
        response = await self.ask(daemon.admin_routes, "POST", "/directory/refresh", body)
        self.assertEqual(response.status, status, response.body)
        return json.loads(response.body)

    async def test_takes_effect_at_once(self) -> None:
        """COM-4: who was banned is out when the answer comes, and cannot come back; the change is an event."""
        daemon = await self.run_daemon()
        client = await self.say(daemon, b"LOGIN ann right\n")
        change(self.path, lambda database: database.bans.add("account", "ann", reason="spam", by="admin"))
        self.assertEqual(await self.refresh(daemon), {"changes": 1, "kicked": 1, "database": self.path})
        self.assertEqual(len(daemon.context.sessions), 0)
        await until(lambda: client.gone, reactor)
        self.assertEqual(client.received, b"WELCOME Ann\nBYE This account is banned: spam\n")
        again = await self.say(daemon, b"LOGIN ann right\n")
        self.assertEqual(again.received, b"NO This account is banned: spam\n")
        self.assertEqual(
            [(event["event"], event.get("outcome")) for event in self.checker.events],
            [("accepted", None), ("audit", None), ("ended", "kicked"), ("ended", "banned")],
        )
        self.assertEqual(self.checker.faults, [])

    async def test_nothing_new(self) -> None:
        daemon = await self.run_daemon()
        self.assertEqual(await self.refresh(daemon), {"changes": 0, "kicked": 0, "database": self.path})

    async def test_wrong_bodies(self) -> None:
        daemon = await self.run_daemon()
        for body in (b"", b"[]", b'{"force": true}'):
            self.assertEqual(set(await self.refresh(daemon, body, 400)), {"error"})

    async def test_unreadable(self) -> None:
        """The reason is told in one line."""
        daemon = await self.run_daemon()
        assert daemon.directory is not None

        def broken() -> Deferred[None]:
            failed: Deferred[None] = Deferred()
            failed.errback(DirectoryError("the database cannot be read"))
            return failed

        self.patch(daemon.directory, "refresh", broken)
        self.assertEqual(await self.refresh(daemon, status=503), {"error": "the database cannot be read"})

    async def test_status(self) -> None:
        daemon = await self.run_daemon()
        response = await self.ask(daemon.admin_routes, "GET", "/status")
        expected = {"database": self.path, "ready": True, "problem": None, "accounts": 2, "bans": 0, "keys": 0}
        self.assertEqual(json.loads(response.body)["directory"], expected)


class WithoutDirectoryTests(SynchronousTestCase):
    def test_refresh(self) -> None:
        response = Exchange(composed(self).admin_routes).ask("POST", "/directory/refresh", b"{}")
        self.assertEqual(
            (response.status, json.loads(response.body)), (404, {"error": "this daemon runs without a directory"})
        )

    def test_status(self) -> None:
        daemon = composed(self)
        self.assertIsNone(snapshot(daemon)["directory"])
        self.assertNotIn(b"connectd_directory", daemon.metrics.exposition())

    def test_not_read_yet(self) -> None:
        """Before it was read there is a reason, too."""
        state = directory_state(DirectoryService("/x/connectd.db"))
        self.assertEqual(
            (state["ready"], state["problem"]), (False, "the directory /x/connectd.db has not been read yet")
        )
