"""Tests of :mod:`connectd.net.forward`."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import error
from twisted.internet import reactor as installed_reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from connectd.interfaces import IHandler, IReceiver
from connectd.net.connection import Peer
from connectd.net.forward import BROKEN, CLOSED, FLUSH_TIMEOUT, STALL_TIMEOUT, Backend, Forward, ForwardError, header
from connectd.net.outgoing import HIGH_WATER
from connectd.net.proxy import ProxyHeader, ProxyHeaderParser
from connectd.sansio import LocalProtocolError, Outcome
from connectd.sessions import Session
from tests.net.test_listener import Client, LoopbackCase, until
from tests.test_sessions import FakeWire
from tests.toy import BenchCase, FakeTransport, Line, ToyMachine

reactor: Any = installed_reactor

UNAVAILABLE = b"WELCOME ann\nBYE The service behind this server is not available\n"


def parsed(data: bytes) -> tuple[ProxyHeader, bytes]:
    """The PROXY header at the beginning of these bytes, and what follows it."""
    parser = ProxyHeaderParser()
    found = parser.feed(data)
    assert found is not None
    return found, parser.remainder


class PlaceTests(SynchronousTestCase):
    def test_good(self) -> None:
        for place in (
            "tcp:127.0.0.1:9000",
            "tcp:[::1]:9000",
            "tcp:game.example.net:65535",
            "tcp:localhost:1",
            "unix:/run/game.sock",
            "unix:a:b",
        ):
            verifyObject(IHandler, Forward(place, MemoryReactorClock()))

    def test_bad(self) -> None:
        """A place that names no backend is refused at once, in one line that says how to write it."""
        for place, problem in (
            ("", "it begins with neither tcp: nor unix:"),
            ("tcp", "the host or the port is missing"),
            ("udp:127.0.0.1:1", "it begins with neither tcp: nor unix:"),
            ("tcp:", "the host or the port is missing"),
            ("tcp:9000", "the host or the port is missing"),
            ("tcp::9000", "the host or the port is missing"),
            ("tcp:host:", "the port '' is not a number from 1 to 65535"),
            ("tcp:host:0", "the port '0' is not a number from 1 to 65535"),
            ("tcp:host:65536", "the port '65536' is not a number from 1 to 65535"),
            ("tcp:host:٣", "the port '\\u0663' is not a number from 1 to 65535"),
            ("tcp:host:+1", "the port '+1' is not a number from 1 to 65535"),
            ("tcp:::1:9000", "the host '::1' is neither a name nor an address"),
            ("tcp:[::1:9000", "the host '[::1' is neither a name nor an address"),
            ("tcp:[host]:9000", "'[host]' is not an IPv6 address"),
            ("tcp:two words:9000", "the host 'two words' is neither a name nor an address"),
            ("tcp:line\nbreak:9000", "the host 'line\\nbreak' is neither a name nor an address"),
            ("unix:", "the path is missing"),
            ("unix:/a\0b", "the path is no path of at most 107 bytes"),
            ("unix:/" + "x" * 107, "the path is no path of at most 107 bytes"),
        ):
            error = self.assertRaises(ForwardError, Forward, place, MemoryReactorClock())
            self.assertIsInstance(error, ValueError)
            self.assertEqual(
                str(error),
                f"cannot forward to {place!a}: {problem} "
                "(write tcp:HOST:PORT, with an IPv6 address in brackets, or unix:PATH)",
            )
            self.assertNotIn("\n", str(error))

    def test_wants_nothing(self) -> None:
        self.assertEqual(list(Forward("unix:/x", MemoryReactorClock()).wants("toy")), [])


class HeaderTests(SynchronousTestCase):
    def header(self, peer: Peer, local: Peer | None, account: str = "") -> ProxyHeader:
        wire = FakeWire(42)
        wire.peer, wire.local = peer, local  # type: ignore[assignment]
        found, rest = parsed(header(Session(wire, "toy", "toy on nothing", 0.0, {}, account)))
        self.assertEqual(rest, b"")
        return found

    def test_addresses(self) -> None:
        """COM-5: the backend sees the peer's address as ours, and where it arrived."""
        found = self.header(Peer("192.0.2.1", 4000), Peer("198.51.100.1", 7890))
        self.assertEqual((found.source, found.destination), (("192.0.2.1", 4000), ("198.51.100.1", 7890)))
        found = self.header(Peer("2001:db8::1", 4000), Peer("2001:db8::2", 7890))
        self.assertEqual((found.source, found.destination), (("2001:db8::1", 4000), ("2001:db8::2", 7890)))

    def test_no_destination(self) -> None:
        """Where we do not know the destination, the header says so in the source's family."""
        for local in (None, Peer("", 0)):
            found = self.header(Peer("192.0.2.1", 4000), local)
            self.assertEqual(found.destination, ("0.0.0.0", 0))
            found = self.header(Peer("2001:db8::1", 4000), local)
            self.assertEqual(found.destination, ("::", 0))

    def test_zone(self) -> None:
        found = self.header(Peer("fe80::1%eth0", 4000), None)
        self.assertEqual(found.source, ("fe80::1", 4000))

    def test_no_address(self) -> None:
        """A peer of a unix socket has no address to tell: a LOCAL header, with the same TLVs."""
        found = self.header(Peer("", 0), Peer("", 0), "ann")
        self.assertEqual((found.source, found.destination), (None, None))
        self.assertEqual(found.tlvs, ((0xE0, b"42"), (0xE1, b"toy"), (0xE2, b"ann")))

    def test_account(self) -> None:
        """Session, protocol and account; no TLV for an account that there is not."""
        found = self.header(Peer("192.0.2.1", 1), None, "Zoë")
        self.assertEqual(found.tlvs, ((0xE0, b"42"), (0xE1, b"toy"), (0xE2, "Zoë".encode())))
        self.assertEqual(self.header(Peer("192.0.2.1", 1), None).tlvs, ((0xE0, b"42"), (0xE1, b"toy")))


class ForwardCase(BenchCase):
    """A bench whose handler forwards, to a backend in the hands of the test."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.forward = Forward("tcp:127.0.0.1:9000", self.reactor)
        self.at = self.bench(handler=self.forward, clock=self.reactor)
        self.addCleanup(self.check_timers)

    def check_timers(self) -> None:
        """No timer is left once everybody is gone."""
        self.reactor.advance(0)
        calls: Any = self.reactor.getDelayedCalls()
        self.assertEqual([call for call in calls if call.func is not self.at.listener.deadlines._loop], [])

    def connect(self, window: int | None = None) -> FakeTransport:
        """The backend answers the latest attempt."""
        factory = self.reactor.tcpClients[-1][2]
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 9000))
        backend = FakeTransport(self.reactor, protocol, window=window)
        self.addCleanup(backend.peer_breaks)
        self.at.pump()
        return backend

    def session(self, window: int | None = None) -> tuple[FakeTransport, FakeTransport]:
        """An accepted session and its backend."""
        peer = self.at.login(window=window)
        backend = self.connect()
        self.header, rest = parsed(backend.received)
        self.assertEqual(rest, b"")
        backend.received = b""
        return peer, backend

    def ended(self, outcome: Outcome, reason: str) -> None:
        self.assertEqual(self.at.checker.outcomes(), [outcome.value])
        self.assertEqual(self.at.checker.last["reason"], reason)


class PipeTests(ForwardCase):
    def test_both_ways(self) -> None:
        """The header first, then messages in the form of the forwarded stream; and back."""
        peer, backend = self.session()
        self.assertEqual(self.reactor.tcpClients[0][:2], ("127.0.0.1", 9000))
        self.assertEqual(self.header.source, ("192.0.2.1", 4000))
        self.assertEqual(self.header.tlvs, ((0xE0, b"1"), (0xE1, b"toy"), (0xE2, b"ann")))
        peer.peer_sends(b"hello\nwor")
        peer.peer_sends(b"ld\n")
        backend.peer_sends(b"welcome to the game\n")
        self.at.pump()
        self.assertEqual(backend.received, b"hello\nworld\n")
        self.assertEqual(peer.received, b"WELCOME ann\nwelcome to the game\n")

    def test_waiting_messages(self) -> None:
        """What the peer sent while we were connecting comes after the header, in order; then the peer is read again."""
        peer = self.at.open()
        peer.peer_sends(b"LOGIN ann right\none\ntwo\n")
        self.at.pump()
        self.assertFalse(peer.reading)
        peer.peer_sends(b"three\n")
        backend = self.connect()
        self.assertEqual(parsed(backend.received)[1], b"one\ntwo\nthree\n")

    def test_bytes(self) -> None:
        """A message that is bytes already passes as it is."""
        _, backend = self.session()
        (session,) = self.at.context.sessions
        (connection,) = self.at.listener.connections
        verifyObject(IReceiver, connection.receiver)
        connection.receiver.received(b"raw")
        connection.receiver.received(Line(b"cooked"))
        self.at.pump()
        self.assertEqual(backend.received, b"rawcooked\n")
        session.kick("Out")

    def test_interfaces(self) -> None:
        self.session()
        (connection,) = self.at.listener.connections
        receiver = connection.receiver
        self.assertIsInstance(receiver, Backend)
        self.assertFalse(hasattr(receiver, "__dict__"))


class ConnectTests(ForwardCase):
    def fail(self, reason: Exception) -> None:  # type: ignore[override]
        self.reactor.tcpClients[-1][2].clientConnectionFailed(self.reactor.connectors[-1], Failure(reason))
        self.at.pump()

    def test_refused(self) -> None:
        """COM-7: a backend that is not there fails the session, with one line that names it and the cause."""
        peer = self.at.login()
        with capturedLogs() as logs:
            self.fail(error.ConnectionRefusedError())
        self.assertEqual(peer.received, UNAVAILABLE)
        self.ended(Outcome.FAILED, "The service behind this server is not available")
        (line,) = [formatEvent(event) for event in logs]
        self.assertIn("cannot reach the backend tcp:127.0.0.1:9000: Connection was refused by other side", line)

    def test_timeout(self) -> None:
        """COM-7: a backend that does not answer within connect_timeout fails the session."""
        peer = self.at.login()
        self.assertEqual(self.reactor.tcpClients[0][3], 5.0)
        self.fail(error.TimeoutError())
        self.assertEqual(peer.received, UNAVAILABLE)
        self.ended(Outcome.FAILED, "The service behind this server is not available")

    def test_timeout_of_a_lookup(self) -> None:
        """COM-7: looking a name up is part of connect_timeout."""
        looked_up: list[str] = []

        class Slow:
            def resolveHostName(self, receiver: Any, name: str, *arguments: Any, **options: Any) -> Any:
                looked_up.append(name)
                receiver.resolutionBegan(receiver)
                return receiver

        self.reactor.installNameResolver(Slow())  # type: ignore[arg-type]
        self.at.listener.handler = Forward("tcp:game.example.net:9000", self.reactor, connect_timeout=2.0)
        peer = self.at.login()
        self.assertEqual(looked_up, ["game.example.net"])
        self.at.pass_time(2.25)
        self.assertEqual(peer.received, UNAVAILABLE)
        self.ended(Outcome.FAILED, "The service behind this server is not available")

    def test_gone_while_connecting(self) -> None:
        """A session that ends first takes the attempt with it: the backend is told nothing."""
        peer = self.at.login()
        peer.peer_breaks()
        self.assertTrue(self.reactor.connectors[-1].stoppedConnecting)
        self.ended(Outcome.LOST, "the connection was lost")

    def test_account_too_long(self) -> None:
        """An account that does not fit into a header fails the session: the backend gets none that says less."""
        self.at.listener.account = lambda connection: "x" * 70_000  # type: ignore[method-assign]
        peer = self.at.login()
        self.assertEqual(self.reactor.tcpClients, [])
        self.assertEqual(peer.received, UNAVAILABLE)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_unix(self) -> None:
        self.at.listener.handler = Forward("unix:/run/game.sock", self.reactor)
        self.at.login()
        self.assertEqual(self.reactor.unixClients[0][0], "/run/game.sock")
        self.reactor.unixClients[0][1].clientConnectionFailed(
            self.reactor.connectors[-1], Failure(error.ConnectionRefusedError())
        )
        self.ended(Outcome.FAILED, "The service behind this server is not available")

    def test_ipv6(self) -> None:
        self.at.listener.handler = Forward("tcp:[::1]:9000", self.reactor)
        self.at.login()
        self.assertEqual(self.reactor.tcpClients[0][:2], ("::1", 9000))
        self.fail(error.ConnectionRefusedError())


class BackpressureTests(ForwardCase):
    """COM-6, on both sides of the pipe."""

    def test_backend_reads_slowly(self) -> None:
        """COM-6: a backend that does not read makes its peer wait; once it does, the peer is read again."""
        peer = self.at.login()
        backend = self.connect(window=200)
        line = b"x" * 1000 + b"\n"
        for _ in range(200):
            peer.peer_sends(line)
        self.assertFalse(peer.reading)
        self.assertLess(backend.largest_buffer, backend.bufferSize + 2000)
        for _ in range(20):
            backend.peer_takes(20_000)
            self.at.pump()
        self.assertTrue(peer.reading)
        self.assertLess(backend.largest_buffer, backend.bufferSize + 2000)
        self.assertEqual(parsed(backend.received)[1], line * 200)

    def test_backend_stops_reading(self) -> None:
        """COM-6: a backend that reads nothing for long fails its session, whose peer did nothing wrong."""
        peer = self.at.login()
        backend = self.connect(window=200)
        backend.window = 0
        for _ in range(80):
            peer.peer_sends(b"x" * 1000 + b"\n")
        self.at.pass_time(STALL_TIMEOUT - 0.25)
        self.assertEqual(self.at.checker.outcomes(), [])
        with capturedLogs() as logs:
            self.at.pass_time(0.5)
        self.ended(Outcome.FAILED, BROKEN)
        (line,) = [formatEvent(event) for event in logs if event["log_level"] is LogLevel.error]
        self.assertIn("failed session 1 of toy on nothing: it has read nothing for 30 s", line)
        self.assertIsInstance(backend.gone, ConnectionAborted)

    def test_backend_reads_a_little(self) -> None:
        """COM-6: a backend that makes progress is waited for, at each byte anew."""
        peer = self.at.login()
        backend = self.connect(window=200)
        for _ in range(80):
            peer.peer_sends(b"x" * 1000 + b"\n")
        for _ in range(5):
            backend.peer_takes(1)
            self.at.pass_time(20)
        self.assertEqual(self.at.checker.outcomes(), [])
        self.assertFalse(peer.reading)

    def test_full_while_catching_up(self) -> None:
        """COM-6: messages that waited may fill the backend's buffer: the peer stays paused."""
        peer = self.at.open()
        peer.peer_sends(b"LOGIN ann right\n" + (b"x" * 1000 + b"\n") * 80)
        self.at.pump()
        backend = self.connect(window=200)
        self.assertFalse(peer.reading)
        backend.peer_takes(100_000)
        self.at.pump()
        self.assertTrue(peer.reading)

    def test_peer_reads_slowly(self) -> None:
        """COM-6: a backend that sends more than the peer reads is not read either."""
        peer, backend = self.session(window=12)
        data = b"y" * 10_000
        for _ in range(60):
            backend.peer_sends(data)
            self.at.pump()
        self.assertFalse(backend.reading)
        self.assertLess(peer.largest_buffer, HIGH_WATER + len(data) + 1)
        for _ in range(10):
            peer.peer_takes(100_000)
            self.at.pump()
        self.assertTrue(backend.reading)
        self.assertEqual(peer.received, b"WELCOME ann\n" + data * 60)
        self.assertLess(peer.largest_buffer, HIGH_WATER + len(data) + 1)

    def test_peer_stops_reading(self) -> None:
        """COM-6: a peer that reads nothing is dropped, and its backend let go."""
        _, backend = self.session(window=12)
        for _ in range(60):
            backend.peer_sends(b"y" * 10_000)
        self.at.pass_time(30.5)
        self.ended(Outcome.TIMEOUT, "the peer stopped reading")
        self.at.pump()
        self.assertTrue(backend.read_end)
        backend.peer_finishes()
        self.assertIsInstance(backend.gone, ConnectionDone)

    def test_backend_gone_while_the_peer_is_waited_for(self) -> None:
        peer, backend = self.session(window=12)
        for _ in range(60):
            backend.peer_sends(b"y" * 10_000)
        backend.peer_breaks()
        self.ended(Outcome.FAILED, BROKEN)
        peer.peer_takes(None)
        self.at.pump()


class EndTests(ForwardCase):
    def test_backend_closes(self) -> None:
        """COM-7: a backend that closes in good order ends its session, after all that it sent."""
        peer, backend = self.session()
        peer.peer_sends(b"quit\n")
        backend.peer_sends(b"good night\n")
        backend.peer_finishes()
        self.at.pump()
        self.ended(Outcome.KICKED, CLOSED)
        self.assertEqual(peer.received, b"WELCOME ann\ngood night\nBYE " + CLOSED.encode() + b"\n")
        self.assertEqual(backend.received, b"quit\n")
        self.assertIsInstance(backend.gone, ConnectionDone)

    def test_backend_closes_at_once(self) -> None:
        """COM-7: the same over a transport that knows no half closes."""
        _, backend = self.session()
        backend._lost(ConnectionDone())
        self.ended(Outcome.KICKED, CLOSED)

    def test_backend_breaks(self) -> None:
        """COM-7: a backend whose connection breaks fails its session, in one line."""
        peer, backend = self.session()
        with capturedLogs() as logs:
            backend.peer_breaks()
        self.at.pump()
        self.ended(Outcome.FAILED, BROKEN)
        self.assertEqual(peer.received, b"WELCOME ann\nBYE " + BROKEN.encode() + b"\n")
        (line,) = [formatEvent(event) for event in logs if event["log_level"] is LogLevel.error]
        self.assertIn("the backend tcp:127.0.0.1:9000 failed session 1 of toy on nothing: ", line)

    def test_peer_leaves(self) -> None:
        """The rest of a session that is over reaches the backend before our half is closed."""
        peer, backend = self.session()
        backend.window = 0
        peer.peer_sends(b"last words\n")
        peer.peer_finishes()
        self.at.pump()
        self.ended(Outcome.LEFT, "the peer closed the connection")
        self.assertFalse(backend.read_end)
        backend.peer_takes(100)
        self.at.pump()
        self.assertEqual((backend.received, backend.read_end), (b"last words\n", True))
        backend.peer_sends(b"too late\n")
        backend.peer_finishes()
        self.assertIsInstance(backend.gone, ConnectionDone)

    def test_peer_leaves_while_its_backend_waits(self) -> None:
        """A backend that was not read is read to its end."""
        peer, backend = self.session(window=12)
        for _ in range(60):
            backend.peer_sends(b"y" * 10_000)
        self.assertFalse(backend.reading)
        peer.peer_breaks()
        self.at.pump()
        self.assertTrue(backend.reading)
        backend.peer_finishes()
        self.assertIsInstance(backend.gone, ConnectionDone)

    def test_backend_does_not_close(self) -> None:
        """A backend that neither reads the rest nor closes is cut off."""
        peer, backend = self.session()
        peer.peer_breaks()
        self.at.pass_time(FLUSH_TIMEOUT - 0.25)
        self.assertIsNone(backend.gone)
        self.at.pass_time(0.5)
        self.assertIsInstance(backend.gone, ConnectionAborted)

    def test_backend_paused_at_the_end(self) -> None:
        """The time for reading does not run on once the session is over."""
        peer = self.at.login()
        backend = self.connect(window=200)
        for _ in range(80):
            peer.peer_sends(b"x" * 1000 + b"\n")
        peer.peer_breaks()
        backend.peer_takes(None)
        backend.window = None
        self.at.pass_time(1)
        self.assertTrue(backend.read_end)
        self.ended(Outcome.LOST, "the connection was lost")
        backend.peer_finishes()

    def test_late(self) -> None:
        """What a backend's connection hears after its end does no harm."""
        peer, backend = self.session()
        (connection,) = self.at.listener.connections
        receiver = connection.receiver
        backend.peer_breaks()
        receiver.received(b"nobody")
        receiver.closed(Outcome.FAILED)
        self.assertIsNone(backend.producer)
        peer.peer_finishes()

    def test_drain(self) -> None:
        """COM-8: at a shutdown backends are let go with their sessions."""
        peer, backend = self.session()
        drained = self.at.listener.drain(10.0)
        self.at.pump()
        self.ended(Outcome.SHUTDOWN, "Server is shutting down")
        self.assertTrue(backend.read_end)
        backend.peer_finishes()
        peer.peer_finishes()
        self.successResultOf(drained)


class RefusingTests(ForwardCase):
    def test_no_room_for_messages(self) -> None:
        """COM-7: bytes for a protocol that carries none fail the session: one clear line, no traceback."""

        class Deaf(ToyMachine):
            def send(self, message: Any, now: float) -> None:
                raise LocalProtocolError("toys carry no messages")

        self.at.listener.make_machine = lambda peer, now: Deaf(self.at.listener.settings, now=now)  # type: ignore
        peer, backend = self.session()
        with capturedLogs() as logs:
            for _ in range(10):
                backend.peer_sends(b"hello\n")
            self.at.pump()
        self.ended(Outcome.FAILED, BROKEN)
        (line,) = [formatEvent(event) for event in logs if event["log_level"] >= LogLevel.warn]
        self.assertIn("failed session 1 of toy on nothing: it sent bytes, and toys carry no messages", line)
        self.assertTrue(backend.read_end)
        backend.peer_finishes()
        self.assertEqual(peer.received, b"WELCOME ann\nBYE " + BROKEN.encode() + b"\n")


class Game(Protocol):
    """A backend: keeps what it got, echoes what follows the header in capitals."""

    transport: Any

    def __init__(self, games: list[Game]) -> None:
        self.data = b""
        self.lost: Deferred[None] = Deferred()
        games.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if self.data.endswith(b"shout\n"):
            self.transport.write(b"SHOUT\n")
        elif self.data.endswith(b"enough\n"):
            self.transport.write(b"x" * 100_000)
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.lost.callback(None)


class GameFactory(Factory):
    noisy = False

    def __init__(self) -> None:
        self.games: list[Game] = []

    def buildProtocol(self, address: Any) -> Game:
        return Game(self.games)


class LoopbackForwardTests(LoopbackCase):
    """A backend behind real sockets."""

    def serve(self, unix: bool = False) -> str:
        self.factory = GameFactory()
        if unix:
            directory = self.mktemp()
            os.makedirs(directory)
            path = os.path.relpath(os.path.join(directory, "b"))
            port = reactor.listenUNIX(path, self.factory)
            place = f"unix:{path}"
        else:
            port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
            place = f"tcp:127.0.0.1:{port.getHost().port}"
        self.addCleanup(port.stopListening)
        self.listen(handler=Forward(place, reactor))
        return place

    async def both(self) -> tuple[Client, Game]:
        client = await self.login()
        await until(lambda: self.factory.games and self.factory.games[0].data)
        return client, self.factory.games[0]

    async def test_pipe(self) -> None:
        """The header, then what the peer says; what the backend says; and the end."""
        self.serve()
        await self.talk()

    async def test_unix(self) -> None:
        """The same over a unix socket."""
        self.serve(unix=True)
        await self.talk()

    async def talk(self) -> None:
        client, game = await self.both()
        found, rest = parsed(game.data)
        self.assertEqual((found.source, found.destination), (client.socket.getsockname(), self.address))
        self.assertEqual(rest, b"")
        await client.sends(b"hello\nshout\n")
        await client.reads_until(lambda: client.received.endswith(b"SHOUT\n"))
        client.socket.close()
        await game.lost
        self.assertEqual(parsed(game.data)[1], b"hello\nshout\n")
        await until(lambda: not self.listener.connections)
        self.assertEqual(self.checker.outcomes(), ["left"])

    async def test_backend_closes(self) -> None:
        """COM-7: all that a backend sent before it closed arrives, then the protocol's own words."""
        self.serve()
        client, game = await self.both()
        await client.sends(b"enough\n")
        expected = b"WELCOME ann\n" + b"x" * 100_000 + b"BYE " + CLOSED.encode() + b"\n"
        self.assertEqual(await client.reads_all(), expected)
        self.assertEqual(await self.outcome(), "kicked")
        await game.lost

    async def test_no_backend(self) -> None:
        """COM-7: nobody listens there."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.listen(handler=Forward(f"tcp:127.0.0.1:{taken.getsockname()[1]}", reactor))
            client = self.client()
            await client.sends(b"LOGIN ann right\n")
            self.assertEqual(await client.reads_all(), UNAVAILABLE)
            self.assertEqual(await self.outcome(), "failed")

    async def test_much(self) -> None:
        """COM-6: a backend that stops reading for a while gets everything in the end, in order."""
        self.serve()
        client, game = await self.both()
        game.transport.pauseProducing()
        data = b"".join(b"%07d\n" % number for number in range(200_000))
        view = memoryview(data)
        refused = 0
        while view:
            try:
                view = view[client.socket.send(view) :]
                refused = 0
            except BlockingIOError:
                refused += 1
                if refused == 20:
                    game.transport.resumeProducing()
                await deferLater(reactor, 0.005)
        game.transport.resumeProducing()
        client.socket.shutdown(socket.SHUT_WR)
        await game.lost
        self.assertEqual(parsed(game.data)[1], data)
        await until(lambda: not self.listener.connections)
