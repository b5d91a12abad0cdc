"""Tests of :mod:`connectd.net.listener`, first on a fake clock, then with what only real sockets show."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import Cooperator, deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from connectd.admission import Admission, AdmissionLimits
from connectd.events import Events
from connectd.interfaces import IListenerService
from connectd.net import connection as connection_module
from connectd.net.bound import BindError, BoundSocket
from connectd.net.client import ConnectionEnded, Dialogue
from connectd.net.connection import LINGER, Connection, Peer
from connectd.net.endpoint import EndpointError, parse_endpoint
from connectd.net.listener import CLOSINGS_PER_TURN, GOODBYE, Accepting, Context, Listener
from connectd.net.sockets import bind
from connectd.sansio import Established, Event, Machine, Outcome
from connectd.sessions import HOLD
from connectd.settings import ListenerSettings
from tests.toy import (
    Bench,
    BenchCase,
    OutcomeChecker,
    RecordingHandler,
    ToyChecker,
    ToyListener,
    ToyMachine,
    ToySettings,
)

reactor: Any = installed_reactor


class BareListener(Listener):
    """A listener that gives nothing but machines."""

    protocol = "bare"

    def make_machine(self, peer: Peer, now: float) -> Machine:
        return ToyMachine(ToySettings(), now=now)


class ListenerTests(BenchCase):
    def test_interface(self) -> None:
        verifyObject(IListenerService, self.bench().listener)

    def test_bare(self) -> None:
        """What a wing does not give is nothing: no identity, no account."""
        bench = self.bench()
        listener = BareListener(ListenerSettings(), bench.context)
        connection = listener.accept(Peer("192.0.2.1", 1))
        assert isinstance(connection, Connection)
        self.assertEqual((listener.identity(connection), listener.account(connection)), ({}, ""))
        self.assertEqual(listener.title, "bare on nothing")
        listener.connection_closed(connection)

    def test_places(self) -> None:
        """A listener binds the place that its settings name, and says so; a wrong one is told at once."""
        bench = self.bench()
        listener = BareListener(ListenerSettings(listen="tcp:0:interface=127.0.0.1"), bench.context)
        (face,) = listener.faces
        self.assertEqual(listener.title, f"bare on 127.0.0.1:{face.port}")
        self.assertFalse(listener.accepting)
        listener.stop_accepting()
        self.assertEqual(face.socket.fileno(), -1)
        self.assertRaises(EndpointError, BareListener, ListenerSettings(listen="here"), bench.context)
        wrong_kind = ListenerSettings(listen="udp:0:interface=127.0.0.1")
        self.assertRaises(BindError, BareListener, wrong_kind, bench.context)

    def test_context(self) -> None:
        """A context without a way to find handlers holds sessions."""
        bench = self.bench()
        context = Context(reactor=bench.clock, admission=bench.admission, events=bench.events)
        self.assertIs(context.find_handler("x"), HOLD)
        self.assertEqual(context.drain_timeout, 10.0)
        context.handshakes("toy", 1.0)

    def test_handshakes(self) -> None:
        """The time from accept to acceptance is told."""
        bench = self.bench()
        told: list[tuple[str, float]] = []
        bench.context.handshakes = lambda protocol, seconds: told.append((protocol, seconds))
        transport = bench.open()
        bench.pass_time(2)
        transport.peer_sends(b"LOGIN ann right\n")
        self.assertEqual(told, [("toy", 2.0)])

    def test_identifiers(self) -> None:
        """Identifiers are unique among all listeners of a daemon."""
        bench = self.bench()
        other = ToyListener(ToySettings(), bench.context)
        first, second = bench.open(), other.accept(Peer("192.0.2.1", 2))
        self.assertEqual((bench.connection(first).id, second.id), (1, 2))
        other.connection_closed(second)

    def test_reconfigure(self) -> None:
        """New settings count for connections from now on; the socket cannot change."""
        bench = self.bench()
        listener = bench.listener
        before = bench.open()
        handler = RecordingHandler()
        bench.context.find_handler = lambda name: handler
        self.assertTrue(listener.reconfigure(ToySettings(handshake_timeout=3.0, stall_timeout=4.0, handler="x")))
        self.assertEqual(listener.stall_timeout, 4.0)
        bench.login()
        self.assertEqual(len(handler.receivers), 1)
        bench.open()
        bench.pass_time(4)
        self.assertEqual(bench.checker.outcomes(), ["timeout"])
        self.assertIsNone(before.gone)
        self.assertFalse(listener.reconfigure(ToySettings(listen="tcp:9999")))
        self.assertFalse(listener.reconfigure(ListenerSettings()))
        self.assertEqual(listener.settings.handshake_timeout, 3.0)

    def test_reconfigure_with_a_wrong_handler(self) -> None:
        """A handler that is not there leaves everything as it was."""
        bench = self.bench()
        settings, handler = bench.listener.settings, bench.listener.handler

        def find(name: str) -> Any:
            raise LookupError(name)

        bench.context.find_handler = find
        self.assertRaises(LookupError, bench.listener.reconfigure, ToySettings(handler="x", stall_timeout=4.0))
        self.assertEqual((bench.listener.settings, bench.listener.handler), (settings, handler))
        self.assertEqual(bench.listener.stall_timeout, 30.0)


class DrainTests(BenchCase):
    """COM-8: shutdown and drain."""

    def turns(self, bench: Bench) -> list[Callable[[], None]]:
        """The turns that a drain takes: the fake clock would give it all of them at once."""
        turns: list[Callable[[], None]] = []
        bench.listener._cooperator = Cooperator(lambda: lambda: True, turns.append)  # type: ignore[arg-type]
        return turns

    def test_words(self) -> None:
        """COM-8: connected peers are told in the protocol's words; a plain close where it has none (COM-12)."""
        bench = self.bench()
        session, greeted, silent = bench.login(), bench.open(), bench.open()
        greeted.peer_sends(b"LOG")
        drained = bench.listener.drain(10.0)
        bench.pump()
        self.assertEqual(session.received, b"WELCOME ann\nBYE Server is shutting down\n")
        self.assertEqual(greeted.received, b"NO Server is shutting down\n")
        self.assertEqual((silent.received, type(silent.gone)), (b"", ConnectionDone))
        self.assertEqual(bench.checker.outcomes(), ["shutdown"] * 3)
        self.assertEqual(bench.checker.last["reason"], GOODBYE)
        self.assertNoResult(drained)
        session.peer_finishes()
        greeted.peer_finishes()
        bench.pump()
        self.assertIsNone(self.successResultOf(drained))
        self.assertEqual(bench.clock.getDelayedCalls(), [bench.listener.deadlines._loop.call])

    def test_limit(self) -> None:
        """COM-8: peers that do not close are closed at the limit."""
        bench = self.bench()
        transport = bench.login(window=12)
        (session,) = bench.context.sessions
        session.send(bytes(1000))
        drained = bench.listener.drain(1.0)
        bench.pass_time(0.75)
        self.assertNoResult(drained)
        self.assertIsNone(transport.gone)
        bench.pass_time(0.5)
        self.assertIsNone(self.successResultOf(drained))
        self.assertIsInstance(transport.gone, ConnectionAborted)
        self.assertEqual(bench.checker.outcomes(), ["shutdown"])

    def test_no_time(self) -> None:
        """COM-8: with no time at all everybody still ends as shutdown."""
        bench = self.bench()
        for _ in range(3 * CLOSINGS_PER_TURN):
            bench.login()
        drained = bench.listener.drain(0.0)
        bench.pump(6)
        self.successResultOf(drained)
        self.assertEqual(bench.checker.outcomes(), ["shutdown"] * 3 * CLOSINGS_PER_TURN)

    def test_no_turn(self) -> None:
        """COM-8: whoever could not be told before the limit still ends as shutdown, and is told on the way."""
        bench = self.bench()
        transports = [bench.login() for _ in range(3)]
        turns = self.turns(bench)
        drained = bench.listener.drain(1.0)
        bench.pass_time(1.25)
        self.assertEqual(bench.checker.outcomes(), ["shutdown"] * 3)
        self.assertIsInstance(transports[0].gone, ConnectionAborted)
        turns.pop()()
        self.successResultOf(drained)

    def test_many(self) -> None:
        """COM-8: others have their turn while many are told."""
        bench = self.bench()
        for _ in range(2 * CLOSINGS_PER_TURN + 1):
            bench.open()
        turns = self.turns(bench)
        drained = bench.listener.drain(10.0)
        for number in range(1, 3):
            turns.pop()()
            self.assertEqual(len(bench.checker.outcomes()), number * CLOSINGS_PER_TURN)
        turns.pop()()
        bench.pass_time(LINGER)
        self.successResultOf(drained)
        self.assertEqual(len(bench.checker.outcomes()), 2 * CLOSINGS_PER_TURN + 1)

    def test_gone_meanwhile(self) -> None:
        """COM-8: who ends between two turns of a drain has its own outcome."""
        bench = self.bench()
        transports = [bench.login() for _ in range(2 * CLOSINGS_PER_TURN)]
        turns = self.turns(bench)
        drained = bench.listener.drain(10.0)
        turns.pop()()
        for transport in transports:
            transport.peer_breaks()
        while turns:
            turns.pop()()
        self.successResultOf(drained)
        self.assertEqual(bench.events.outcomes["toy", "shutdown"], CLOSINGS_PER_TURN)
        self.assertEqual(bench.events.outcomes["toy", "lost"], CLOSINGS_PER_TURN)

    def test_nobody(self) -> None:
        bench = self.bench()
        drained = bench.listener.drain(10.0)
        bench.pump()
        self.successResultOf(drained)

    def test_twice(self) -> None:
        """A shutdown during a drain waits for the same peers."""
        bench = self.bench()
        transport = bench.login()
        drained = [bench.listener.drain(30.0), bench.listener.drain(1.0)]
        bench.pass_time(0.5)
        self.assertIsNone(transport.gone)
        bench.pass_time(1)
        for each in drained:
            self.successResultOf(each)
        self.assertEqual(bench.checker.outcomes(), ["shutdown"])

    def test_decisions(self) -> None:
        """COM-8: what was being decided is called off."""
        bench = self.bench()
        pending: list[Deferred[None]] = []
        bench.accounts.pending = pending
        transport = bench.login()
        bench.listener.drain(10.0)
        bench.pump()
        self.assertTrue(pending[0].called)
        self.assertEqual(transport.received, b"NO Server is shutting down\n")

    def test_stop(self) -> None:
        """COM-8: stopping the service drains within the configured limit, and leaves no timer."""
        bench = self.bench()
        bench.context.drain_timeout = 1.0
        bench.login(window=12)
        stopped = bench.listener.stopService()
        self.assertFalse(bench.listener.running)
        bench.pass_time(1.25)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_lingering_within_the_limit(self) -> None:
        """COM-8: a peer that reads and does not close is closed after a while, long before the limit."""
        bench = self.bench()
        transport = bench.login()
        drained = bench.listener.drain(10.0)
        bench.pass_time(LINGER + 0.5)
        self.successResultOf(drained)
        self.assertIsInstance(transport.gone, ConnectionDone)


# Real sockets


async def until(condition: Callable[[], Any], limit: float = 10.0) -> None:
    """Let the reactor run until something holds."""
    end = reactor.seconds() + limit
    while not condition():
        if reactor.seconds() > end:
            raise AssertionError("this did not come true in time")
        await deferLater(reactor, 0.005)


class Client:
    """A peer with a plain socket, which Twisted does nothing for."""

    def __init__(self, address: Any, *, receive_buffer: int = 0) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(5)
        self.socket.connect(address)
        self.socket.setblocking(False)
        self.received = b""
        self.end: str = ""
        """``closed`` or ``reset`` once that was seen."""

    async def sends(self, data: bytes) -> None:
        """Send all of it, while the reactor runs."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.socket.send(view) :]
            except BlockingIOError:
                await deferLater(reactor, 0.002)

    def reads(self, most: int = 1 << 20) -> int:
        """Read what is there; how much it was."""
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return 0
        except ConnectionError:
            self.end = "reset"
            return 0
        if not data:
            self.end = "closed"
        self.received += data
        return len(data)

    async def reads_until(self, condition: Callable[[], Any]) -> None:
        def met() -> bool:
            while not self.end and self.reads():
                pass
            return bool(condition())

        await until(met)

    async def reads_all(self) -> bytes:
        """Everything up to the end."""
        await self.reads_until(lambda: self.end)
        return self.received


class LoopbackCase(TestCase):
    """A toy listener on a loopback socket."""

    timeout = 60

    def listen(
        self, *, handler: Any = HOLD, limits: AdmissionLimits | None = None, listen: str = "", **settings: Any
    ) -> None:
        self.checker = OutcomeChecker()
        limits = AdmissionLimits(connection_rate=0) if limits is None else limits
        self.accounts = ToyChecker({"ann": b"right"})
        self.context = Context(
            reactor=reactor,
            admission=Admission(limits, clock=reactor),
            events=Events(reactor.seconds, [self.checker]),
            find_handler=lambda name: handler,
            bind=self.bind,
            drain_timeout=0.5,
            checkers=[self.accounts],
        )
        where = ToySettings(listen=listen or "tcp:0:interface=127.0.0.1", **settings)
        self.listener = ToyListener(where, self.context)
        self.listener.startService()
        self.address: Any = self.listener.faces[0].socket.getsockname()
        self.addCleanup(self.check)
        self.addCleanup(self.listener.stopService)

    def bind(self, text: str, kind: Any) -> BoundSocket:
        return bind(parse_endpoint(text), environment={}, kind=kind)

    def check(self) -> None:
        """COM-7: nothing is left, and nothing had a wrong outcome."""
        self.assertEqual(self.checker.faults, [])
        self.assertEqual(len(self.listener.connections) + len(self.listener.arriving), 0)
        self.assertEqual(self.context.admission.open_connections, 0)
        self.assertEqual((len(self.context.sessions), len(self.listener.deadlines)), (0, 0))

    def client(self, *, receive_buffer: int = 0) -> Client:
        client = Client(self.address, receive_buffer=receive_buffer)
        self.addCleanup(client.socket.close)
        return client

    async def login(self, *, receive_buffer: int = 0) -> Client:
        client = self.client(receive_buffer=receive_buffer)
        await client.sends(b"LOGIN ann right\n")
        await client.reads_until(lambda: client.received)
        return client

    def session(self) -> Any:
        (session,) = self.context.sessions
        return session

    def transport(self) -> Any:
        (connection,) = self.listener.connections
        return connection.transport

    async def outcome(self) -> str:
        """The one outcome, once there is one."""
        await until(self.checker.outcomes)
        (outcome,) = self.checker.outcomes()
        return outcome


class LoopbackTests(LoopbackCase):
    async def test_life(self) -> None:
        self.listen()
        client = await self.login()
        self.assertEqual(client.received, b"WELCOME ann\n")
        self.assertTrue(self.listener.accepting)
        session = self.session()
        self.assertEqual((session.peer.host, session.peer.port), client.socket.getsockname())
        self.assertEqual((session.local.host, session.local.port), self.address)
        client.socket.close()
        self.assertEqual(await self.outcome(), "left")
        await until(lambda: not self.listener.connections)

    async def test_refused(self) -> None:
        """COM-4: a connection that is refused before the first byte is closed without one."""
        self.listen(limits=AdmissionLimits(deny=(ip_network("127.0.0.0/8"),)))
        client = self.client()
        self.assertEqual(await client.reads_all(), b"")
        self.assertEqual(await self.outcome(), "banned")

    async def test_half_close(self) -> None:
        """COM-3, COM-12: a peer that closed its half still gets the refusal, and then the end."""
        self.listen()
        client = self.client()
        await client.sends(b"\xff\n")
        client.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(await client.reads_all(), b"NO a line that is empty or not ASCII\n")
        self.assertEqual(client.end, "closed")
        self.assertEqual(await self.outcome(), "malformed")

    async def test_half_close_before_the_answer(self) -> None:
        """COM-7: who closes its half before it is accepted has gone away."""
        self.listen()
        self.accounts.pending = []
        client = self.client()
        await client.sends(b"LOGIN ann right\n")
        client.socket.shutdown(socket.SHUT_WR)
        self.assertEqual((await client.reads_all(), client.end), (b"", "closed"))
        self.assertEqual(await self.outcome(), "aborted")

    async def test_unread_input(self) -> None:
        """COM-12: the last words reach a peer that has sent more than we read."""
        self.listen()
        client = self.client()
        await client.sends(b"\xff\n")
        await self.outcome()
        await client.sends(b"x" * 400_000)
        await client.sends(b"x" * 400_000)
        client.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(await client.reads_all(), b"NO a line that is empty or not ASCII\n")
        self.assertEqual(client.end, "closed")

    async def test_lingering(self) -> None:
        """A peer that neither reads nor closes is closed after a while."""
        self.patch(connection_module, "LINGER", 0.5)
        self.listen()
        client = self.client()
        await client.sends(b"\xff\n")
        await self.outcome()
        start = reactor.seconds()
        await until(lambda: not self.listener.connections)
        self.assertGreater(reactor.seconds() - start, 0.3)
        self.assertLess(reactor.seconds() - start, 5)

    async def test_all_bytes(self) -> None:
        """COM-6: what is written at once, and what has to wait, arrives complete and in order."""
        self.listen()
        client = await self.login()
        session = self.session()
        data = b"".join(b"%07d\n" % number for number in range(1_000_000))
        sent = 0
        size = 1
        while sent < len(data):
            session.send(data[sent : sent + size])
            sent += size
            size = size * 3 % 100_003
            client.reads(10_000)
            drained = session.drained()
            while not drained.called:
                client.reads()
                await deferLater(reactor, 0)
        await client.reads_until(lambda: len(client.received) >= 12 + len(data))
        self.assertEqual(hashlib.sha256(client.received[12:]).digest(), hashlib.sha256(data).digest())
        session.kick("Done")
        self.assertTrue((await client.reads_all()).endswith(b"BYE Done\n"))

    async def test_dropped(self) -> None:
        """COM-6: a peer that reads nothing is paused past the mark, and dropped after stall_timeout."""
        self.listen(stall_timeout=0.4)
        client = await self.login(receive_buffer=4096)
        await client.sends(b"STREAM 100000000\n")
        transport = self.transport()
        await until(lambda: transport not in reactor.getReaders())
        waiting = self.listener.streamed
        await client.sends(b"unheard\n" * 100)
        self.assertEqual(await self.outcome(), "timeout")
        self.assertEqual(self.checker.last["reason"], "the peer stopped reading")
        self.assertEqual(self.listener.streamed, waiting)
        await until(lambda: not self.listener.connections)
        await client.reads_until(lambda: client.end)
        self.assertEqual(client.end, "reset")

    async def test_slow_reader(self) -> None:
        """COM-6: a peer that reads slowly, and never all of it, makes progress: it stays."""
        self.listen(stall_timeout=0.4)
        client = await self.login(receive_buffer=4096)
        await client.sends(b"STREAM 100000000\n")
        transport = self.transport()
        await until(lambda: transport not in reactor.getReaders())
        start = reactor.seconds()
        while reactor.seconds() < start + 1.6:
            client.reads(20_000)
            await deferLater(reactor, 0.01)
        self.assertEqual(self.checker.outcomes(), [])
        self.assertNotIn(transport, reactor.getReaders())

    async def test_broken_while_paused(self) -> None:
        """COM-7: a connection that broke is noticed when something is sent, even if its peer's input is paused."""
        self.listen()
        client = await self.login()
        session = self.session()
        session.pause()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.socket.close()

        def noticed() -> bool:
            if not self.checker.outcomes():
                session.send(b"are you there?\n")
            return bool(self.checker.outcomes())

        await until(noticed, 3.0)
        self.assertEqual(await self.outcome(), "lost")

    async def test_reset(self) -> None:
        """COM-7: a connection that breaks."""
        self.listen()
        client = await self.login()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.socket.close()
        self.assertEqual(await self.outcome(), "lost")

    async def test_drain(self) -> None:
        """COM-8: nobody is accepted any more, everybody is told, and whoever does not close is closed in time."""
        self.listen()
        client, silent = await self.login(), self.client()
        await until(lambda: len(self.listener.connections) == 2)
        start = reactor.seconds()
        drained = self.listener.drain(0.5)
        self.assertEqual(await silent.reads_all(), b"")
        await client.reads_until(lambda: b"BYE Server is shutting down\n" in client.received)
        await drained
        self.assertFalse(self.listener.accepting)
        self.assertLess(reactor.seconds() - start, 1.5)
        self.assertRaises(ConnectionRefusedError, Client, self.address)
        self.assertEqual(self.checker.outcomes(), ["shutdown", "shutdown"])
        self.assertEqual(len(self.listener.connections), 0)

    async def test_abort(self) -> None:
        """What neither reads nor closes is cut off."""
        self.listen()
        client = await self.login(receive_buffer=4096)
        self.session().send(bytes(20_000_000))
        (connection,) = self.listener.connections
        connection.close(Outcome.KICKED, "Out")
        connection.abort()
        await until(lambda: not self.listener.connections)
        await client.reads_until(lambda: client.end)
        self.assertEqual((client.end, await self.outcome()), ("reset", "kicked"))

    async def test_proxy(self) -> None:
        """COM-5: a header in pieces, with the protocol's first bytes in the last of them."""
        self.listen(proxy_protocol=True)
        client = self.client()
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (b"PROXY TCP4 198.51.", b"100.7 203.0.113.1 5555 78", b"90\r\nLOGIN ann right\nASK ", b"x\n"):
            await client.sends(piece)
            await deferLater(reactor, 0.01)
        await client.reads_until(lambda: client.received == b"WELCOME ann\nx\n")
        self.assertEqual(str(self.session().peer), "198.51.100.7:5555")
        client.socket.close()
        self.assertEqual(await self.outcome(), "left")

    async def test_proxy_refused(self) -> None:
        """COM-5: a trusted source without a header, and an untrusted one, get no byte."""
        self.listen(proxy_protocol=True)
        client = self.client()
        await client.sends(b"LOGIN ann right\n")
        self.assertEqual(await client.reads_all(), b"")
        self.assertTrue(
            self.listener.reconfigure(
                ToySettings(listen=self.listener.settings.listen, proxy_protocol=True, trusted_networks=())
            )
        )
        self.assertEqual(await self.client().reads_all(), b"")
        self.assertEqual(self.checker.outcomes(), ["malformed", "refused"])

    async def test_unix(self) -> None:
        """A unix socket's peers have no address, and are counted all the same."""
        directory = self.mktemp()
        os.makedirs(directory)
        path = os.path.relpath(os.path.join(directory, "s"))
        self.listen(listen=f"unix:{path}")
        self.assertEqual(self.listener.title, f"toy on unix:{path}")
        client = await self.login()
        self.assertEqual(str(self.session().peer), "unix")
        self.assertEqual(self.session().local, Peer("", 0))
        self.assertEqual(self.context.admission.open_connections, 1)
        client.socket.close()
        self.assertEqual(await self.outcome(), "left")


class Greeter(ToyMachine):
    """A client's machine: it speaks first, and is content with any answer."""

    __slots__ = ("heard",)

    def __init__(self, greeting: bytes) -> None:
        super().__init__(ToySettings(), now=reactor.seconds())
        self._output.append(greeting)
        self.heard = b""

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        self.heard += data
        if self.established or not self.heard.startswith(b"WELCOME"):
            return []
        self.established = True
        self._deadline = None
        return [Established()]

    def _refusal(self, outcome: Outcome, text: str) -> bytes:
        return b""


class Greeting(Dialogue):
    """One toy client.

    :param greeting: what it says first.
    """

    def __init__(self, greeting: bytes) -> None:
        super().__init__(reactor)
        self.machine = Greeter(greeting)

    def make_machine(self, now: float) -> Machine:
        return self.machine


@implementer(IOpenSSLClientConnectionCreator)
class Unchecked:
    """TLS that looks at no certificate."""

    def __init__(self) -> None:
        self.options = CertificateOptions(verify=False)

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self.options.getContext(), None)


class TlsTests(LoopbackCase):
    """Connections over TLS."""

    def setUp(self) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        pem = issued.private_key_pem.bytes() + b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        certificate = PrivateCertificate.loadPEM(pem)
        self.server_options = certificate.options()
        self.listen(stall_timeout=1.0)
        (port,) = self.listener._ports
        accepting = Accepting(self.listener)
        port.factory = TLSMemoryBIOFactory(self.server_options, False, accepting)  # type: ignore[attr-defined]

    def dial(self, greeting: bytes) -> tuple[Greeting, Deferred[None]]:
        dialogue = Greeting(greeting)
        endpoint = TCP4ClientEndpoint(reactor, *self.address)
        return dialogue, dialogue.dial(wrapClientTLS(Unchecked(), endpoint))

    async def test_speaking_first(self) -> None:
        """A client that speaks before the handshake of TLS is done gets through it."""
        dialogue, dialled = self.dial(b"LOGIN ann right\n")
        await dialled.addTimeout(5, reactor)
        self.session().send(bytes(200_000))
        await until(lambda: len(dialogue.machine.heard) == 12 + 200_000)
        await dialogue.hang_up()
        self.assertEqual(await self.outcome(), "left")

    async def test_refusal(self) -> None:
        """COM-12: a refusal over TLS arrives, and the stream ends as TLS says, not cut off."""
        dialogue, dialled = self.dial(b"LOGIN ann wrong\n")
        try:
            await dialled.addTimeout(5, reactor)
        except ConnectionEnded:
            pass
        else:
            self.fail("accepted")
        await dialogue.when_closed()
        self.assertEqual(dialogue.machine.heard, b"NO unknown account or wrong proof\n")
        ended = dialogue.ended
        assert ended is not None
        self.assertEqual(ended.outcome, Outcome.ABORTED)
        self.assertEqual(await self.outcome(), "refused")

    async def test_clean_end(self) -> None:
        """COM-7: over TLS a session that was kicked ends in good order for the peer: nothing was cut off."""
        dialogue, dialled = self.dial(b"LOGIN ann right\n")
        await dialled.addTimeout(5, reactor)
        self.session().kick("Out")
        await dialogue.when_closed()
        self.assertTrue(dialogue.machine.heard.endswith(b"BYE Out\n"))
        ended = dialogue.ended
        assert ended is not None
        self.assertEqual(ended.outcome, Outcome.LEFT)
        await until(lambda: not self.listener.connections)

    async def test_dropped(self) -> None:
        """COM-6: over TLS, too, a peer that reads nothing is dropped."""
        dialogue, dialled = self.dial(b"LOGIN ann right\nSTREAM 100000000\n")
        await dialled.addTimeout(5, reactor)
        assert dialogue.connection is not None
        dialogue.connection.pause()
        self.assertEqual(await self.outcome(), "timeout")
        self.assertLess(self.listener.streamed, 50_000_000)
        dialogue.connection.abort()
        await dialogue.when_closed()
