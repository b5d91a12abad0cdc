"""Tests of :mod:`connectd.net.tls` and :mod:`connectd.net.trust`, on a clock in memory and on real sockets."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import tempfile
from typing import Any
from unittest import mock

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from connectd.admission import Admission, AdmissionLimits
from connectd.events import Events
from connectd.net.certificate_file import LOOK_INTERVAL
from connectd.net.certificates import Certificate, CertificateError, make_certificate, read_certificates
from connectd.net.connection import Connection
from connectd.net.listener import Context
from connectd.net.outgoing import HIGH_WATER, WRITING
from connectd.net.tls import ServerTLS, server_context
from connectd.net.transport_faults import TransportFault, transport_fault
from connectd.net.trust import NotTrusted, Trust, pin_of
from connectd.sansio import Outcome
from tests.net.test_certificates import bare_certificate
from tests.toy import OutcomeChecker, ToyChecker, ToyListener, ToySettings

reactor: Any = installed_reactor


def logged(test: Any) -> list[str]:
    """The lines of the log at warning and above."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        if event["log_level"] >= LogLevel.info and event.get("log_namespace") == "connectd.net.certificate_file":
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    test.addCleanup(globalLogPublisher.removeObserver, observe)
    return lines


class File:
    """A certificate file that is replaced."""

    def __init__(self, test: Any) -> None:
        folder = tempfile.TemporaryDirectory(prefix="connectd-")
        test.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "server.pem")

    def put(self, octets: bytes) -> bytes:
        """Replace it as certificate clients do: the new file is whole before it has the name."""
        temporary = f"{self.path}.new"
        with open(temporary, "wb") as file:
            file.write(octets)
        os.replace(temporary, self.path)
        return octets


class RenewalTests(SynchronousTestCase):
    """CH-10: a renewed file is picked up."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.file = File(self)
        self.file.put(make_certificate(["first.example"]))
        self.lines = logged(self)
        self.tls = ServerTLS("toy", self.file.path, self.clock)
        self.tls.start()
        self.addCleanup(self.tls.stop)

    def name(self) -> str:
        return self.tls.certificate.leaf.subject.rfc4514_string()

    def test_new_file(self) -> None:
        """CH-10: a new file serves connections from the next look on; those of before keep what they have."""
        before = self.tls.serverConnectionForTLS(None).get_context()
        self.file.put(make_certificate(["second.example"]))
        self.assertEqual(self.name(), "CN=first.example")
        self.clock.advance(LOOK_INTERVAL)
        self.assertEqual(self.name(), "CN=second.example")
        self.assertIsNot(self.tls.serverConnectionForTLS(None).get_context(), before)
        (line,) = self.lines
        self.assertIn(f"toy: the new certificate in {self.file.path} serves from now on", line)

    def test_unchanged(self) -> None:
        """A file that is the same is not read again."""
        before = self.tls.certificate
        self.clock.advance(LOOK_INTERVAL)
        self.assertIs(self.tls.certificate, before)

    def test_broken_file(self) -> None:
        """CH-10: a new file that cannot be used keeps the former one, with one line for each new file."""
        for octets, problem in (
            (b"half a file", "there is no certificate in it"),
            (bare_certificate(), "no subjectAltName"),
        ):
            self.file.put(octets)
            self.clock.advance(LOOK_INTERVAL)
            self.clock.advance(LOOK_INTERVAL)
            self.assertEqual(self.name(), "CN=first.example")
            line = self.lines.pop()
            self.assertIn("toy: the new certificate is not used, the former goes on: ", line)
            self.assertIn(problem, line)
            self.assertEqual(self.lines, [])
        self.file.put(make_certificate(["third.example"]))
        self.clock.advance(LOOK_INTERVAL)
        self.assertEqual(self.name(), "CN=third.example")

    def test_file_given_to_the_daemon(self) -> None:
        """A file that could not be read is read again once its owner or mode is another."""
        self.file.put(make_certificate(["second.example"]))
        refused = CertificateError("this user may not read it")
        with mock.patch.object(self.tls.file, "_read", side_effect=refused):
            self.clock.advance(LOOK_INTERVAL)
        self.assertEqual(self.name(), "CN=first.example")
        os.chmod(self.file.path, 0o640)
        self.clock.advance(LOOK_INTERVAL)
        self.assertEqual(self.name(), "CN=second.example")

    def test_unfit_for_openssl(self) -> None:
        """CH-10: what OpenSSL does not take keeps the former one, too, and is one line at the start."""
        before = self.tls.serverConnectionForTLS(None).get_context()
        refused = SSL.Error([("SSL routines", "", "ca md too weak")])
        with mock.patch("connectd.net.tls.server_context", side_effect=refused):
            self.file.put(make_certificate(["second.example"]))
            self.clock.advance(LOOK_INTERVAL)
            with self.assertRaises(CertificateError) as caught:
                ServerTLS("toy", self.file.path, self.clock)
        self.assertEqual(self.name(), "CN=first.example")
        self.assertIs(self.tls.serverConnectionForTLS(None).get_context(), before)
        (line,) = self.lines
        problem = f"{self.file.path}: OpenSSL does not take it: ca md too weak"
        self.assertEqual(line, f"toy: the new certificate is not used, the former goes on: {problem}")
        self.assertEqual(str(caught.exception), f"toy: certificate: {problem}")

    def test_removed_file(self) -> None:
        """CH-10: so does one that is gone for a while."""
        os.unlink(self.file.path)
        self.clock.advance(LOOK_INTERVAL)
        self.assertIn("there is no such file", self.lines.pop())
        self.file.put(make_certificate(["second.example"]))
        self.clock.advance(LOOK_INTERVAL)
        self.assertEqual(self.name(), "CN=second.example")

    def test_stopped(self) -> None:
        """The timer is the listener's."""
        self.tls.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_start(self) -> None:
        """A file that cannot be used at the start is one line that names it."""
        with self.assertRaises(CertificateError) as caught:
            ServerTLS("toy", self.file.path + "x", self.clock)
        self.assertTrue(str(caught.exception).startswith(f"toy: certificate: {self.file.path}x: there is no such file"))

    def test_old_certificate(self) -> None:
        """One that ends soon, or has ended, is used, and warned about."""
        then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=900)
        self.file.put(make_certificate(["old.example"], now=then))
        tls = ServerTLS("toy", self.file.path, self.clock)
        tls.start()
        tls.stop()
        self.assertIn("ended on", self.lines.pop())


class FaultTests(SynchronousTestCase):
    def test_faults(self) -> None:
        """COM-3: OpenSSL's errors are told in its last word; an alert is the peer's way of leaving."""
        fault = transport_fault(SSL.Error([("SSL routines", "", "wrong version number")]))
        assert fault is not None
        self.assertEqual((fault.reason, fault.outcome), ("TLS: wrong version number", Outcome.MALFORMED))
        alert = transport_fault(SSL.Error([("SSL routines", "", "tlsv1 alert unknown ca")]))
        assert alert is not None
        self.assertEqual(alert.outcome, Outcome.ABORTED)
        for odd in (SSL.Error(), SSL.Error("two\nlines")):
            fault = transport_fault(odd)
            assert fault is not None
            self.assertNotIn("\n", fault.reason)
        own = TransportFault("no")
        self.assertIs(transport_fault(own), own)
        self.assertIsNone(transport_fault(ValueError("ours")))
        self.assertIsNone(transport_fault(None))


class ProtectedListener(ToyListener):
    """The toy protocol behind TLS."""

    tls: ServerTLS

    def protocol_for(self, connection: Connection) -> Any:
        return self.tls.protect(connection)


class Waiter(Protocol):
    """A client that waits."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Deferred[BaseException | None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - as Twisted does
        self.lost.callback(reason.value)


class SocketCase(TestCase):
    """A listener on a real socket, behind TLS."""

    timeout = 60

    def listen(self, pem: bytes) -> None:
        self.file = File(self)
        self.file.put(pem)
        self.outcomes = OutcomeChecker()
        context = Context(
            reactor=reactor,
            admission=Admission(AdmissionLimits(connection_rate=0), clock=reactor),
            events=Events(reactor.seconds, [self.outcomes]),
            drain_timeout=0.5,
            checkers=[ToyChecker({"ann": b"right"})],
        )
        self.listener = ProtectedListener(ToySettings(listen="tcp:0:interface=127.0.0.1"), context)
        self.listener.tls = ServerTLS("toy", self.file.path, reactor)
        self.listener.tls.start()
        self.listener.startService()
        port = self.listener.faces[0].port
        assert port is not None
        self.port = port
        self.addCleanup(self.listener.stopService)
        self.addCleanup(self.listener.tls.stop)

    def shake_hands(self, **options: Any) -> Any:
        """What Python's own ssl module says about a handshake; blocking, so in a thread."""

        def shake() -> Any:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            for name, value in options.items():
                setattr(context, name, value)
            plain = socket.create_connection(("127.0.0.1", self.port), 20)
            with plain, context.wrap_socket(plain) as secured:
                return secured.version(), secured.cipher(), secured.getpeercert(True)

        return deferToThread(shake)

    def connect(self, trust: Trust) -> Deferred[Waiter]:
        endpoint = trust.wrap(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port))
        connecting: Any = endpoint.connect(Factory.forProtocol(Waiter))
        return connecting  # type: ignore[no-any-return]  # a Deferred of what the factory builds

    async def until(self, look: Any) -> None:
        for _ in range(2000):
            if look():
                return
            await deferLater(reactor, 0.01)
        self.fail("it never happened")


class VersionTests(SocketCase):
    async def test_versions(self) -> None:
        """CH-10: TLS 1.2 and 1.3, with forward secrecy and authenticated encryption; nothing older."""
        self.listen(make_certificate(["toy.example"]))
        version, cipher, _ = await self.shake_hands()
        self.assertEqual(version, "TLSv1.3")
        version, cipher, _ = await self.shake_hands(maximum_version=ssl.TLSVersion.TLSv1_2)
        self.assertEqual(version, "TLSv1.2")
        self.assertTrue(cipher[0].startswith("ECDHE-"), cipher)
        old = self.shake_hands(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
        await self.assertFailure(old, ssl.SSLError)

    async def test_renewed_while_it_serves(self) -> None:
        """CH-10: a renewed file serves new connections while old ones go on."""
        first, second = make_certificate(["first.example"]), make_certificate(["second.example"])
        self.listen(first)
        pins = Trust("x", pins=[pin_of(one) for one in read_certificates(self.file.path)])
        old = await self.connect(pins)
        self.file.put(second)
        await self.until(lambda: "second" in self.listener.tls.certificate.leaf.subject.rfc4514_string())
        _, _, shown = await self.shake_hands()
        self.assertIn(b"second.example", shown)
        transport: Any = old.transport
        transport.write(b"LOGIN ann right\n")
        await self.until(lambda: len(self.listener.connections) == 1)
        (connection,) = self.listener.connections
        await self.until(lambda: connection._heard)
        transport.abortConnection()
        await old.lost


class TransportTests(SocketCase):
    async def test_at_once(self) -> None:
        """What is written leaves at once, without a turn of the reactor and without waiting for acknowledgements."""
        client, connection = await self.met()
        below: Any = connection.transport
        self.assertTrue(below.transport.getTcpNoDelay())
        connection.write(b"hello")
        self.assertEqual((below.transport.transport.dataBuffer, below.transport.transport._tempDataBuffer), (b"", []))
        self.assertIsNone(below.transport.transport.producer)
        await self.part(client)

    async def test_high_water(self) -> None:
        """COM-6: behind TLS, too, 256 KiB may wait for a peer that does not read, whose input is paused then; once it
        reads, all comes, in order."""
        client, connection = await self.met()
        client.transport.pauseProducing()
        below: Any = connection.transport
        written = 0
        while not connection._paused & WRITING and written < 64 << 20:
            connection.write(written.to_bytes(8, "big") * 8192)
            written += 65536
            await deferLater(reactor, 0)
        self.assertTrue(connection._paused & WRITING)
        self.assertEqual(below.transport.transport.bufferSize, HIGH_WATER)
        drained = connection.drained()
        client.transport.resumeProducing()
        await drained
        await self.until(lambda: len(client.received) == written)
        self.assertEqual(client.received, b"".join(at.to_bytes(8, "big") * 8192 for at in range(0, written, 65536)))
        await self.part(client)

    async def met(self) -> tuple[Any, Connection]:
        """A client, and the connection to it that it has said something on."""
        self.listen(make_certificate(["toy.example"]))
        client = await self.connect(Trust("x", pins=[pin_of(one) for one in read_certificates(self.file.path)]))
        transport: Any = client.transport
        transport.write(b"LOGIN")
        await self.until(lambda: any(connection._heard for connection in self.listener.connections))
        (connection,) = self.listener.connections
        return client, connection

    async def part(self, client: Any) -> None:
        client.transport.abortConnection()
        await client.lost

    async def test_alert(self) -> None:
        """COM-7: a client that does not like our certificate went away; the event says why."""
        self.listen(make_certificate(["toy.example"]))

        def refuse() -> None:
            context = ssl.create_default_context()
            with socket.create_connection(("127.0.0.1", self.port), 20) as plain:
                context.wrap_socket(plain, server_hostname="toy.example")

        await self.assertFailure(deferToThread(refuse), ssl.SSLError)
        await self.until(self.outcomes.outcomes)
        self.assertEqual(self.outcomes.outcomes(), ["aborted"])


class TrustTests(SocketCase):
    """CH-10: clients refuse servers that are not the right one, before they say anything."""

    async def refused(self, trust: Trust) -> str:
        """Why a server is refused. It has heard nothing from us then."""
        client = await self.connect(trust)
        error = await client.lost
        self.assertIsInstance(error, NotTrusted)
        await self.until(self.outcomes.outcomes)
        self.assertEqual(len(self.listener.context.sessions), 0)
        return str(error).removeprefix("the server's certificate is refused: ")

    async def accepted(self, trust: Trust) -> None:
        client = await self.connect(trust)
        handle: Any = client.transport
        await self.until(lambda: handle._handshakeDone)
        handle.abortConnection()
        await client.lost

    async def test_pinned(self) -> None:
        """CH-10: the pinned certificate is accepted, whatever its name, dates and issuer; no other is."""
        then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2000)
        self.listen(make_certificate(["whatever"], now=then))
        (certificate,) = read_certificates(self.file.path)
        await self.accepted(Trust("else.example", pins=[pin_of(certificate)]))
        await self.accepted(Trust("else.example", pins=[bytes(32), pin_of(certificate)]))
        self.assertEqual(await self.refused(Trust("whatever", pins=[bytes(32)])), "it is not the pinned one")

    async def test_pinned_leaf_of_an_authority(self) -> None:
        """CH-10: an authority's other certificates are not pinned with it."""
        authority = trustme.CA()
        issued = authority.issue_cert("toy.example")
        self.listen(issued.private_key_and_cert_chain_pem.bytes())
        (certificate, *_) = read_certificates(self.file.path)
        await self.accepted(Trust("toy.example", pins=[pin_of(certificate)]))
        other = File(self)
        other.put(authority.cert_pem.bytes())
        pins = [pin_of(one) for one in read_certificates(other.path)]
        self.assertEqual(await self.refused(Trust("toy.example", pins=pins)), "it is not the pinned one")

    async def test_verified(self) -> None:
        """CH-10: without a pin, authority and name have to be right."""
        authority = trustme.CA()
        self.listen(authority.issue_cert("toy.example", "127.0.0.1").private_key_and_cert_chain_pem.bytes())
        trusted = File(self)
        trusted.put(authority.cert_pem.bytes())
        authorities = read_certificates(trusted.path)
        await self.accepted(Trust("toy.example", authorities=authorities))
        await self.accepted(Trust("127.0.0.1", authorities=authorities))
        self.assertEqual(
            await self.refused(Trust("other.example", authorities=authorities)), "it is not for other.example"
        )

    async def test_wrong_address(self) -> None:
        """CH-10: an address is a name like others."""
        authority = trustme.CA()
        self.listen(authority.issue_cert("toy.example", "127.0.0.2").private_key_and_cert_chain_pem.bytes())
        trusted = File(self)
        trusted.put(authority.cert_pem.bytes())
        fault = await self.refused(Trust("127.0.0.1", authorities=read_certificates(trusted.path)))
        self.assertEqual(fault, "it is not for 127.0.0.1")

    async def test_not_a_name(self) -> None:
        """CH-10: an address written as a host name is a mistake that many make: it refuses, and nothing else."""
        with mock.patch("connectd.net.certificates._general_name", x509.DNSName):
            self.listen(make_certificate(["127.0.0.1"]))
        fault = await self.refused(Trust("127.0.0.1", authorities=read_certificates(self.file.path)))
        self.assertEqual(fault, "its subjectAltName has a name in it that is none")

    async def test_unknown_authority(self) -> None:
        """CH-10: the system's authorities do not know a certificate that we made."""
        self.listen(make_certificate(["localhost"]))
        self.assertEqual(await self.refused(Trust("localhost")), "it is self-signed and not pinned")

    async def test_no_alternative_name(self) -> None:
        """CH-10: a certificate without a subjectAltName is refused, pinned or not: service-identity only logs it."""
        self.listen(make_certificate(["old.example"]))
        pem = bare_certificate()
        leaf = x509.load_pem_x509_certificate(pem)
        key: Any = load_pem_private_key(pem[pem.index(b"-----BEGIN PRIVATE") :], None)
        self.listener.tls.file.current = server_context(Certificate((leaf,), key, b""))
        fault = "it has no subjectAltName, so it could be anybody's"
        self.assertEqual(await self.refused(Trust("old.example", pins=[pin_of(leaf)])), fault)
        self.outcomes.events.clear()
        self.assertEqual(await self.refused(Trust("old.example", authorities=[leaf])), fault)

    def test_hostname(self) -> None:
        """What cannot be a host name is said to be so."""
        self.assertRaises(ValueError, Trust, "a" * 70 + ".example")
