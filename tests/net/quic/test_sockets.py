"""QUIC over real sockets: both ends of ours, a bad network between them, and quiche instead of our client."""

from __future__ import annotations

import json
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol, ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from connectd.admission import Admission, AdmissionLimits
from connectd.events import Events
from connectd.net.listener import Context
from connectd.net.quic import QuicClientEndpoint, QuicConnectError, Trust
from connectd.sansio import Outcome
from tests.net.quic.toy import (
    ALPN,
    QuicToyListener,
    QuicToySettings,
    Talker,
    authority_pem,
    client_parameters,
    identity,
    server_connection,
    talker_factory,
)
from tests.toy import OutcomeChecker, ToyChecker

reactor: Any = the_reactor
LIMIT = 20.0
NODE_MODULES = Path(__file__).parents[3] / ".quiche" / "node_modules"


def quiche_is_missing() -> str | None:
    """Why quiche cannot be tried here, or None."""
    if shutil.which("node") is None:
        return "node is not installed here: quiche is not tried"
    if not (NODE_MODULES / "@matrixai" / "quic").is_dir():
        return "the npm package @matrixai/quic is not installed (make quiche): quiche is not tried"
    return None


async def until(condition: Callable[[], Any], limit: float = LIMIT) -> None:
    """Wait for that to hold."""
    end = reactor.seconds() + limit
    while not condition():
        if reactor.seconds() > end:
            raise AssertionError("it never came to be")
        await deferLater(reactor, 0.01)


class SocketCase(TestCase):
    """A toy listener on a loopback address."""

    timeout = 120

    def listen(self, interface: str = "127.0.0.1", **settings: Any) -> QuicToyListener:
        self.checker = OutcomeChecker()
        self.admission = Admission(AdmissionLimits(connection_rate=0, connections_per_source=0), clock=reactor)
        context = Context(
            reactor=reactor,
            admission=self.admission,
            events=Events(reactor.seconds, [self.checker]),
            checkers=[ToyChecker({"ann": b"right"})],
        )
        listener = QuicToyListener(QuicToySettings(listen=f"udp:0:interface={interface}", **settings), context)
        listener.startService()
        self.addCleanup(self._stop, listener)
        return listener

    async def _stop(self, listener: QuicToyListener) -> None:
        await listener.stopService()
        self.assertEqual(self.checker.faults, [])
        self.assertEqual(self.admission.open_connections, 0)

    async def connect(self, port: int, host: str = "127.0.0.1", **changes: Any) -> Talker:
        endpoint = QuicClientEndpoint(reactor, host, port, client_parameters(**changes), timeout=LIMIT)
        talker: Talker = await endpoint.connect(talker_factory())
        self.addCleanup(self._hang_up, talker)
        return talker

    async def _hang_up(self, talker: Talker) -> None:
        if talker.lost is None and talker.transport is not None:
            talker.transport.abortConnection()
            await talker.gone()

    def port(self, listener: QuicToyListener) -> int:
        port = listener.faces[0].port
        assert port is not None
        return port


class SocketTests(SocketCase):
    """Our client and our listener."""

    async def test_life(self) -> None:
        """Over IPv4: in, some data, out, and nothing left."""
        listener = self.listen()
        talker = await self.connect(self.port(listener))
        talker.transport.write(b"LOGIN ann right\nSTREAM 1000000\n")
        await talker.until(lambda: len(talker.heard) >= len("WELCOME ann\nSTREAMING 1000000\nDONE\n") + 1_000_000)
        self.assertTrue(talker.heard.endswith(b"DONE\n"))
        talker.transport.loseConnection()
        await talker.gone()
        await until(lambda: self.checker.outcomes() == [Outcome.LEFT.value])

    async def test_ipv6(self) -> None:
        """Over IPv6, and to a socket that serves both."""
        if not socket.has_ipv6:
            raise SkipTest("this machine has no IPv6")
        listener = self.listen("[::1]")
        talker = await self.connect(self.port(listener), "::1")
        await until(lambda: listener.connections)
        self.assertEqual(server_connection(listener).peer.host, "::1")
        talker.transport.loseConnection()
        await talker.gone()

    async def test_both_families(self) -> None:
        """An IPv4 client of a dual-stack socket is known by its IPv4 address."""
        listener = self.listen("[::]")
        talker = await self.connect(self.port(listener))
        await until(lambda: listener.connections)
        self.assertEqual(server_connection(listener).peer.host, "127.0.0.1")
        talker.transport.write(b"LOGIN ann right\n")
        await talker.hears(b"WELCOME ann\n")

    async def test_name(self) -> None:
        """A name is looked up, and is what the certificate has to be for."""
        listener = self.listen()
        talker = await self.connect(self.port(listener), "localhost")
        self.assertEqual(bytes(talker.heard), b"")

    async def test_nobody_there(self) -> None:
        """Where nothing listens, that is known at once."""
        handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        handle.bind(("127.0.0.1", 0))
        port = handle.getsockname()[1]
        handle.close()
        with self.assertRaises(QuicConnectError) as caught:
            await self.connect(port)
        self.assertIn("connection refused", str(caught.exception))

    async def test_nobody_answers(self) -> None:
        """A server that says nothing is given up in time."""
        handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(handle.close)
        handle.bind(("127.0.0.1", 0))
        host, port = handle.getsockname()
        endpoint = QuicClientEndpoint(reactor, host, port, client_parameters(), timeout=0.3)
        with self.assertRaises(QuicConnectError) as caught:
            await endpoint.connect(talker_factory())
        self.assertIn("timed out", str(caught.exception))

    async def test_trust(self) -> None:
        """A server that is not who it should be is left, with the reason."""
        listener = self.listen()
        port = self.port(listener)
        for trust, words in (
            (Trust.pinned(bytes(32)), f"its SHA-256 is {identity().sha256.hex()}"),
            (Trust.authorities(), "TLS"),
        ):
            with self.assertRaises(QuicConnectError) as caught:
                await self.connect(port, trust=trust)
            self.assertIn(words, str(caught.exception))
        with self.assertRaises(QuicConnectError) as caught:
            await self.connect(port, server_name="other.example")
        self.assertIn("other.example", str(caught.exception))
        for trust in (Trust.pinned(identity().sha256), Trust.insecure()):
            await self.connect(port, trust=trust)

    async def test_port_change(self) -> None:
        """A client that changes its port mid-session keeps its session."""
        listener = self.listen()
        talker = await self.connect(self.port(listener))
        talker.transport.write(b"LOGIN ann right\n")
        await talker.hears(b"WELCOME ann\n")
        connection = server_connection(listener)
        before = connection.transport.getPeer().port
        transport: Any = talker.transport
        port = transport.session.endpoint.transport
        fresh = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        fresh.setblocking(False)
        fresh.connect(("127.0.0.1", self.port(listener)))
        port.stopReading()
        port.socket.close()
        port.socket, port.fileno = fresh, fresh.fileno
        port.startReading()
        talker.transport.write(b"ASK still\n")
        await talker.hears(b"still\n")
        await until(lambda: connection.transport.getPeer().port != before)
        self.assertEqual(self.checker.outcomes(), [])


class _Back(DatagramProtocol):
    """The proxy's socket for one client."""

    def __init__(self, proxy: BadProxy, client: Any) -> None:
        self.proxy = proxy
        self.client = client

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.proxy.pass_on(self.proxy.transport, datagram, self.client)


class BadProxy(DatagramProtocol):
    """A UDP proxy that loses, doubles and reorders 5 % each, both ways."""

    def __init__(self, server: Any, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.backs: dict[Any, Any] = {}
        self.late: set[Any] = set()
        self.harmed = 0

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if addr not in self.backs:
            self.backs[addr] = reactor.listenUDP(0, _Back(self, addr), "127.0.0.1", 65535)
        self.pass_on(self.backs[addr], datagram, self.server)

    def pass_on(self, port: Any, datagram: bytes, address: Any) -> None:
        chance = self.random.random()
        self.harmed += chance < 0.15
        if chance < 0.05:
            return
        if chance < 0.10:

            def arrive() -> None:
                self.late.discard(call)
                port.write(datagram, address)

            call: Any = reactor.callLater(0.02, arrive)
            self.late.add(call)
            return
        port.write(datagram, address)
        if chance < 0.15:
            port.write(datagram, address)

    async def close(self) -> None:
        for call in self.late:
            call.cancel()
        for port in [self.transport, *self.backs.values()]:
            await port.stopListening()


class BadNetworkTests(SocketCase):
    """A network that loses, doubles and reorders 5 % each."""

    async def test_login(self) -> None:
        """Every login succeeds, and what is said arrives whole and in order."""
        listener = self.listen()
        proxy = BadProxy(("127.0.0.1", self.port(listener)), seed=7)
        port = reactor.listenUDP(0, proxy, "127.0.0.1", 65535)
        self.addCleanup(proxy.close)
        for _ in range(5):
            talker = await self.connect(port.getHost().port)
            talker.transport.write(b"LOGIN ann right\nSTREAM 100000\n")
            await talker.hears(b"DONE\n")
            self.assertEqual(bytes(talker.heard), b"WELCOME ann\nSTREAMING 100000\n" + bytes(100_000) + b"DONE\n")
            talker.transport.loseConnection()
            await talker.gone()
        self.assertGreater(proxy.harmed, 20)


class Quiche(ProcessProtocol):
    """A client process that speaks QUIC with quiche (quiche_client.mjs)."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.complaints = b""
        self.ended: Deferred[None] = Deferred()
        self._rest = b""

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.said += [json.loads(line) for line in lines]

    def errReceived(self, data: bytes) -> None:
        self.complaints += data

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None)

    def send(self, data: bytes) -> None:
        """Bytes for stream 0."""
        self.transport.write(data.hex().encode() + b"\n")  # type: ignore[union-attr]

    def close(self) -> None:
        """CONNECTION_CLOSE with error 0."""
        self.transport.write(b"close\n")  # type: ignore[union-attr]

    @property
    def heard(self) -> bytes:
        """What came on stream 0."""
        return b"".join(bytes.fromhex(one["data"]) for one in self.said if "data" in one)

    def event(self, name: str) -> Any:
        """What was said of that, or None."""
        return next((one[name] for one in self.said if name in one), None)


class QuicheTests(SocketCase):
    """A QUIC stack that is not aioquic gets along with ours."""

    def quiche(self, listener: QuicToyListener, alpn: str, *more: str) -> Quiche:
        """Start a client."""
        if (reason := quiche_is_missing()) is not None:
            raise SkipTest(reason)
        authority = self.mktemp()
        Path(authority).write_bytes(authority_pem())
        client = Quiche()
        script = str(Path(__file__).with_name("quiche_client.mjs"))
        arguments = [str(NODE_MODULES), "127.0.0.1", str(self.port(listener)), alpn, authority, *more]
        node = shutil.which("node")
        assert node is not None
        process = reactor.spawnProcess(client, node, ["node", script, *arguments], env=None)
        self.addCleanup(self._end, client, process)
        return client

    async def _end(self, client: Quiche, process: Any) -> None:
        if process.pid is not None:
            process.signalProcess("KILL")
        await client.ended

    async def wait(self, client: Quiche, condition: Callable[[], Any]) -> None:
        await until(lambda: condition() or client.ended.called)
        self.assertTrue(condition(), (client.said, client.complaints))

    async def test_life(self) -> None:
        """quiche completes the handshake with our application protocol, exchanges stream data and leaves."""
        listener = self.listen()
        client = self.quiche(listener, ALPN)
        await self.wait(client, lambda: client.event("established") == ALPN)
        client.send(b"LOGIN ann right\n")
        await self.wait(client, lambda: client.heard == b"WELCOME ann\n")
        client.send(b"STREAM 3000000\n")
        size = len(b"WELCOME ann\nSTREAMING 3000000\nDONE\n") + 3_000_000
        await self.wait(client, lambda: sum(len(one.get("data", "")) for one in client.said) == 2 * size)
        client.send(b"ASK " + b"x" * 1000 + b"\n")
        await self.wait(client, lambda: client.heard.endswith(b"x" * 1000 + b"\n"))
        client.close()
        await until(lambda: self.checker.outcomes() == [Outcome.LEFT.value])

    async def test_kicked(self) -> None:
        """quiche hears our last words and CONNECTION_CLOSE 0 after them."""
        listener = self.listen()
        client = self.quiche(listener, ALPN)
        await self.wait(client, lambda: client.event("established") == ALPN)
        client.send(b"LOGIN ann right\n")
        await self.wait(client, lambda: client.heard == b"WELCOME ann\n")
        server_connection(listener).close(Outcome.KICKED, "Enough")
        await self.wait(client, lambda: client.event("closed"))
        self.assertTrue(client.heard.endswith(b"BYE Enough\n"))
        closed = client.event("closed")
        self.assertEqual((closed["app"], closed["code"], closed["peer"]), (True, 0, True))

    async def test_other_alpn(self) -> None:
        """With another application protocol, quiche is refused: no_application_protocol."""
        listener = self.listen()
        client = self.quiche(listener, "h3")
        await self.wait(client, lambda: client.event("closed"))
        self.assertIsNone(client.event("established"))
        closed = client.event("closed")
        self.assertEqual((closed["app"], closed["code"], closed["peer"]), (False, 0x178, True))
        await until(lambda: self.checker.outcomes() == [Outcome.MALFORMED.value])

    async def test_retry(self) -> None:
        """quiche comes back with the token of a Retry."""
        listener = self.listen(retry_threshold=0)
        client = self.quiche(listener, ALPN)
        await self.wait(client, lambda: client.event("established") == ALPN)
        client.send(b"LOGIN ann right\n")
        await self.wait(client, lambda: client.heard == b"WELCOME ann\n")

    async def test_certificate(self) -> None:
        """quiche shows its certificate when it is asked for one."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        listener = self.listen(client_certificate="required")
        own = identity("client.example")
        certificate, key = self.mktemp(), self.mktemp()
        Path(certificate).write_bytes(own.leaf.public_bytes(Encoding.PEM))
        Path(key).write_bytes(own.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        client = self.quiche(listener, ALPN, certificate, key)
        await self.wait(client, lambda: client.event("established") == ALPN)
        client.send(b"LOGIN ann right\n")
        await self.wait(client, lambda: client.heard == b"WELCOME ann\n")
        self.assertEqual(listener.handshakes[0].peer_certificate, own.certificate)
