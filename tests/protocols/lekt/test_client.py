"""The awaitable client against the real listener, in memory."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.client import ConnectionEnded
from connectd.net.url import URLError
from connectd.protocols.lekt.client import Change, Joined, Left, LektClient, LektDialogue, parse_lekt_url
from connectd.protocols.lekt.packets import DIRECT_TCP, Entry, encode_port
from connectd.protocols.lekt.plugin import plugin
from connectd.protocols.lekt.server import LektListener
from connectd.protocols.lekt.settings import LektClientSettings, LektSettings
from connectd.sansio import Outcome
from connectd.testing import START, Network, segments_of


def entry(host: str, port: int | None = None) -> Entry:
    methods = () if port is None else ((DIRECT_TCP.index, encode_port(port)),)
    return Entry(IPv4Address(host), methods)


class Base(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.listener = self.network.listener(LektListener, LektSettings(listen=""))
        self.clients: list[LektClient] = []
        self.failures: list[BaseException] = []
        self.addCleanup(self.stop)

    def stop(self) -> None:
        for client in self.clients:
            client.stopService()
        self.network.advance(1)
        self.listener.stopService()
        self.network.advance(15)
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def client(self, host: str, port: int = 0, **settings: Any) -> LektClient:
        client = LektClient(
            self.network.clock,
            self.network.endpoint(self.listener, host),
            LektClientSettings(port=port, **settings),
            retry_policy=lambda failures: 2.0,
        )
        self.clients.append(client)
        client.when_joined().addErrback(self.failed)
        client.startService()
        self.network.settle()
        return client

    def failed(self, failure: Failure) -> None:
        assert failure.value is not None
        self.failures.append(failure.value)

    def leave(self, client: LektClient) -> None:
        """Stop a client and see that it is gone."""
        stopped = client.stopService()
        self.network.settle()
        self.successResultOf(stopped)

    def follow(self, client: LektClient) -> list[Change]:
        """Everything that an iteration over the client's changes tells."""
        changes: list[Change] = []

        async def read() -> None:
            async for change in client.changes():
                changes.append(change)  # noqa: PERF401 - each as it comes

        Deferred.fromCoroutine(read())
        return changes


class ClientTests(Base):
    def test_two_clients_see_each_other(self) -> None:
        """LEKT-7, LEKT-9: each heartbeat tells who joined, and never about oneself."""
        alice = self.client("192.0.2.1", 9001)
        self.successResultOf(alice.when_joined())
        seen = self.follow(alice)
        self.assertEqual(seen, [])
        self.client("192.0.2.2", 9002)
        self.network.advance(10)
        self.assertEqual(seen, [Joined(entry("192.0.2.2", 9002))])
        self.assertEqual(alice.clients, [entry("192.0.2.2", 9002)])
        self.assertEqual(self.clients[1].clients, [entry("192.0.2.1", 9001)])

    def test_byte_by_byte(self) -> None:
        """Everything works in any segmentation."""
        self.network.segment = segments_of(1)
        alice = self.client("192.0.2.1", 9001)
        self.client("192.0.2.2")
        self.network.advance(10)
        self.assertEqual(alice.clients, [entry("192.0.2.2")])

    def test_leaving(self) -> None:
        """LEKT-7: who leaves is told at the next heartbeat; the server counts it as left (COM-7)."""
        alice, bob = self.client("192.0.2.1"), self.client("192.0.2.2", 9002)
        self.network.advance(10)
        seen = self.follow(alice)
        self.leave(bob)
        self.network.advance(10)
        self.assertEqual(seen, [Joined(entry("192.0.2.2", 9002)), Left(entry("192.0.2.2", 9002))])
        self.assertEqual(self.network.recorder.outcomes, ["left"])

    def test_heartbeats_keep_it_listed(self) -> None:
        """LEKT-12: with a heartbeat every 10 s nobody is dropped; without any, after three periods."""
        self.client("192.0.2.1")
        bob = self.client("192.0.2.2", heartbeat_period=3600.0)
        self.network.advance(29)
        self.assertEqual(self.network.recorder.outcomes, [])
        self.network.advance(2)
        self.assertEqual(self.network.recorder.outcomes, ["timeout"])
        assert bob.last_end is not None
        self.assertEqual(bob.last_end.reason, "rejected: No heartbeat came in time")

    def test_joins_again_when_cut_off(self) -> None:
        """A broken connection is made again, and the iteration tells only what changed in between."""
        alice = self.client("192.0.2.1")
        bob = self.client("192.0.2.2", 9002)
        carol = self.client("192.0.2.3", 9003)
        self.network.advance(10)
        seen = self.follow(alice)
        self.assertEqual({change.client.port for change in seen}, {9002, 9003})
        del seen[:]
        self.network.wires[0].cut()
        self.leave(carol)
        self.client("192.0.2.4", 9004)
        self.network.advance(3)
        self.assertCountEqual(seen, [Left(entry("192.0.2.3", 9003)), Joined(entry("192.0.2.4", 9004))])
        self.assertCountEqual(alice.clients, [entry("192.0.2.2", 9002), entry("192.0.2.4", 9004)])
        self.assertIsNone(bob.last_end)

    def test_gives_up_on_a_silent_server(self) -> None:
        """A server that does not answer for three periods is left, and joined again."""
        alice = self.client("192.0.2.1")
        self.listener.stop_accepting()
        self.network.wires[0].client.reading = False
        self.network.advance(39)
        self.assertIsNone(alice.last_end)
        self.network.advance(2)
        assert alice.last_end is not None
        self.assertIs(alice.last_end.outcome, Outcome.TIMEOUT)

    def test_refused(self) -> None:
        """LEKT-4: the server's reject text reaches whoever waits."""
        self.listener.reconfigure(LektSettings(listen="", max_sessions=1))
        self.client("192.0.2.1")
        self.client("192.0.2.2")
        (failure,) = self.failures
        assert isinstance(failure, ConnectionEnded)
        self.assertEqual(failure.reason, "rejected: The server is full")
        self.assertIs(failure.outcome, Outcome.REFUSED)
        self.assertEqual(self.network.recorder.outcomes, ["limited"])

    def test_unreachable_then_there(self) -> None:
        """It keeps trying; who asked for one attempt is told at once."""
        self.network.unreachable = True
        client = self.client("192.0.2.1")
        self.assertIsInstance(self.failures[0], ConnectError)
        joined = client.when_joined(attempts=None)
        self.network.unreachable = False
        self.network.advance(3)
        self.successResultOf(joined)

    def test_drain_tells_clients(self) -> None:
        """COM-8: a stopping server tells its clients in LEKT's words."""
        client = self.client("192.0.2.1")
        self.listener.drain(10)
        self.network.advance(1)
        assert client.last_end is not None
        self.assertEqual(client.last_end.reason, "rejected: Server is shutting down")
        self.assertEqual(self.network.recorder.outcomes, ["shutdown"])

    def test_refresh(self) -> None:
        """A heartbeat can be asked for, and awaited."""
        alice = self.client("192.0.2.1")
        self.client("192.0.2.2", 9002)
        answer = alice.refresh()
        self.network.settle()
        update = self.successResultOf(answer)
        self.assertEqual(update.joined, (entry("192.0.2.2", 9002),))
        self.assertEqual(update.time, int(START))

    def test_resync(self) -> None:
        """LEKT-11: a resync replaces the list, and only what differs is told."""
        alice = self.client("192.0.2.1")
        self.client("192.0.2.2", 9002)
        self.network.advance(10)
        seen = self.follow(alice)
        del seen[:]
        answer = alice.refresh(resync=True)
        self.network.settle()
        self.assertEqual(self.successResultOf(answer).joined, ())
        self.assertEqual(seen, [])
        self.assertEqual(alice.clients, [entry("192.0.2.2", 9002)])

    def test_refresh_while_away(self) -> None:
        """Without a connection there is nothing to ask."""
        self.network.unreachable = True
        client = self.client("192.0.2.1")
        self.failureResultOf(client.refresh(), ConnectionError)
        self.network.unreachable = False
        self.network.advance(3)
        self.network.wires[0].cut()
        self.failureResultOf(client.refresh(), ConnectionError)

    def test_unanswered_refresh_fails(self) -> None:
        """Who waits for an answer learns that the connection broke."""
        client = self.client("192.0.2.1")
        answer = client.refresh()
        self.network.wires[0].cut()
        self.failureResultOf(answer, ConnectionError)


class ChangesTests(Base):
    def test_slow_reader_is_told_what_is_still_true(self) -> None:
        """Who came and went between two reads is left out, so that no more waits than there are clients."""
        alice = self.client("192.0.2.1")
        changes = alice.changes()
        for _ in range(3):
            bob = self.client("192.0.2.2", 9002)
            self.network.advance(10)
            self.leave(bob)
            self.network.advance(10)
        self.client("192.0.2.3")
        self.network.advance(10)
        self.assertEqual(self.successResultOf(self.next(changes)), Joined(entry("192.0.2.3")))
        more = self.next(changes)
        self.assertNoResult(more)
        alice.stopService()
        self.failureResultOf(more, StopAsyncIteration)

    def test_stopping_because_it_could_not_join(self) -> None:
        """Whoever is told that a try failed can stop the client then and there."""
        self.network.unreachable = True
        client = LektClient(self.network.clock, self.network.endpoint(self.listener))

        async def join() -> None:
            try:
                await client.when_joined()
            finally:
                await client.stopService()

        joining = Deferred.fromCoroutine(join())
        client.startService()
        self.network.settle()
        self.failureResultOf(joining, ConnectError)

    def next(self, changes: Any) -> Deferred[Change]:
        return Deferred.fromCoroutine(changes.__anext__())

    def test_two_clients_that_look_alike(self) -> None:
        """LEKT-10: clients behind one address may look the same; each is told."""
        alice = self.client("192.0.2.1")
        twins = [self.client("192.0.2.2", 9002) for _ in range(2)]
        self.network.advance(10)
        seen = self.follow(alice)
        self.assertEqual(seen, [Joined(entry("192.0.2.2", 9002))] * 2)
        self.leave(twins[0])
        self.network.advance(10)
        self.assertEqual(seen[2:], [Left(entry("192.0.2.2", 9002))])
        self.assertEqual(alice.clients, [entry("192.0.2.2", 9002)])

    def test_ends_with_the_service(self) -> None:
        """A stopped client ends the iterations over it, those that begin later too."""
        client = self.client("192.0.2.1")
        ended: list[str] = []

        async def read(name: str) -> None:
            async for _ in client.changes():
                pass
            ended.append(name)

        Deferred.fromCoroutine(read("before"))
        self.assertEqual(ended, [])
        client.stopService()
        Deferred.fromCoroutine(read("after"))
        self.assertEqual(ended, ["before", "after"])

    def test_closing_an_iteration(self) -> None:
        """A closed iteration holds nothing any more."""
        client = self.client("192.0.2.1")
        changes: Any = client.changes()
        Deferred.fromCoroutine(changes.aclose())
        Deferred.fromCoroutine(changes.aclose())
        self.client("192.0.2.2")
        self.network.advance(10)
        self.failureResultOf(Deferred.fromCoroutine(changes.__anext__()), StopAsyncIteration)


class DialogueTests(Base):
    def test_steps_are_reported(self) -> None:
        """A probe sees each step of the connection process in order."""
        steps: list[str] = []
        dialogue = LektDialogue(
            self.network.clock,
            LektClientSettings(port=9001),
            report=lambda step, detail: steps.append(f"{step}: {detail}"),
            automatic=False,
        )
        dialled = dialogue.dial(self.network.endpoint(self.listener))
        self.network.settle()
        self.successResultOf(dialled)
        answer = dialogue.heartbeat()
        self.network.settle()
        self.successResultOf(answer)
        self.successResultOf(dialogue.when_established())
        closed = dialogue.hang_up()
        self.network.settle()
        self.successResultOf(closed)
        self.successResultOf(dialogue.when_closed())
        self.failureResultOf(dialogue.when_established(), ConnectionEnded)
        self.assertEqual(
            steps,
            [
                "ServerAccept: the hello was accepted",
                "ServerRequest: method 1 was asked for and told: port 9001",
                "ServerRequest: index 0: setup has ended",
                f"UpdateResponse: server time {int(START)}, 0 joined, 0 left",
            ],
        )

    def test_heartbeat_before_joining(self) -> None:
        """There is nothing to ask before setup has ended."""
        dialogue = LektDialogue(self.network.clock, LektClientSettings())
        self.failureResultOf(dialogue.heartbeat(), ConnectionError)

    def test_cancelling_hangs_up(self) -> None:
        """Who does not want to wait any longer cancels, and the connection is closed."""
        dialogue = LektDialogue(self.network.clock, LektClientSettings())
        dialled = dialogue.dial(self.network.endpoint(self.listener))
        dialled.cancel()
        self.failureResultOf(dialled, CancelledError)
        self.network.settle()
        self.successResultOf(dialogue.when_closed())
        self.assertEqual(self.network.recorder.outcomes, ["left"])


class URLTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """Host, port and the client's settings."""
        server = parse_lekt_url("lekt://play.example?port=9000&heartbeat_period=5")
        self.assertEqual((server.host, server.port), ("play.example", 7890))
        self.assertEqual(server.settings, LektClientSettings(port=9000, heartbeat_period=5.0))
        self.assertEqual(parse_lekt_url("lekt://[2001:db8::1]:1").host, "2001:db8::1")

    def test_mistakes(self) -> None:
        """Each is one line that names the thing."""
        for url, words in (
            ("http://x", "not lekt://"),
            ("lekt://", "names no host"),
            ("lekt://[::1", "lekt://[::1: "),
            ("lekt://x:0", "the port is not a number from 1 to 65535"),
            ("lekt://x:99999", "ort"),
            ("lekt://x/list", "has a path"),
            ("lekt://x?prot=1", "prot"),
            ("lekt://x?port=70000", "70000"),
        ):
            with self.assertRaises(URLError) as caught:
                parse_lekt_url(url)
            self.assertIn(words, str(caught.exception))
            self.assertNotIn("\n", str(caught.exception))

    def test_passwords_are_not_repeated(self) -> None:
        """COM-9: a password in a URL is refused without being shown."""
        for url in (
            "lekt://me:hunter2@play.example",
            "lekt://me:hunter2@play.example:99999",
            "http://me:hunter2@play.example/x",
            "lekt://me:hunter2@[::1",
            "lekt://me:hunter2@",
            "lekt://me:hunter2/x@play.example",
        ):
            with self.assertRaises(URLError) as caught:
                parse_lekt_url(url)
            self.assertNotIn("hunter2", str(caught.exception))


class PluginTests(Base):
    def test_settings(self) -> None:
        """What the rest of connectd knows about LEKT."""
        self.assertEqual((plugin.name, plugin.port), ("lekt", 7890))
        self.assertIs(plugin.settings, LektSettings)
        self.assertIs(plugin.client_settings, LektClientSettings)
        self.assertIsInstance(plugin.makeService(LektSettings(listen=""), self.network.context), LektListener)
