"""Chatr's REST face on real sockets, with a directory on a disk; and the client's side of it."""

from __future__ import annotations

import base64
import json
import os
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from connectd.admission import Admission, AdmissionLimits
from connectd.directory.service import DirectoryService
from connectd.events import Events
from connectd.net.certificates import make_certificate, read_certificates
from connectd.net.endpoint import parse_endpoint
from connectd.net.listener import Context
from connectd.net.sockets import bind
from connectd.net.trust import Trust, pin_of
from connectd.protocols.chatr.identity import Identity
from connectd.protocols.chatr.keys import InvalidKey, check_key, encode_key
from connectd.protocols.chatr.registration import (
    MAXIMUM_BODY,
    PATH,
    RegistrationError,
    check_binding,
    encode_body,
    parse_body,
    parse_uuid,
)
from connectd.protocols.chatr.registry import KeyRegistry, RegistryError
from connectd.protocols.chatr.server import ChatrListener
from connectd.protocols.chatr.settings import ChatrSettings
from tests.protocols.chatr.scene import identity, private_key, temporary_folder, write_pem
from tests.toy import OutcomeChecker

reactor: Any = installed_reactor

LOOPBACK = "tcp:0:interface=127.0.0.1"


class Collector(Protocol):
    """Keeps what comes until the end."""

    def __init__(self) -> None:
        self.received = b""
        self.over: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over.callback(self.received)


class RestCase(TestCase):
    """A listener with a directory."""

    timeout = 60
    settings: dict[str, Any] = {}
    rest = LOOPBACK
    limits = AdmissionLimits(connection_rate=0)

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.folder = temporary_folder(self)
        self.certificate = write_pem(self.folder)
        self.directory = DirectoryService(os.path.join(self.folder, "connectd.db"), reactor=reactor)
        self.outcomes = OutcomeChecker()
        self.context = Context(
            reactor=reactor,
            admission=Admission(self.limits, clock=reactor),
            events=Events(reactor.seconds, [self.outcomes]),
            bind=lambda place, kind: bind(parse_endpoint(place), environment={}, kind=kind),
            drain_timeout=1.0,
            directory=self.directory,
        )
        settings = {"registration_rate": 0.0, "udp": "", **self.settings}
        self.listener = ChatrListener(
            ChatrSettings(listen=LOOPBACK, rest=self.rest, certificate=self.certificate, **settings), self.context
        )
        self.directory.startService()
        self.addCleanup(self.directory.stopService)
        await self.directory.ready()
        self.listener.startService()
        self.addCleanup(self.listener.stopService)
        assert self.listener.registration is not None
        port = self.listener.registration.face.port
        assert port is not None
        self.port = port
        self.registry = KeyRegistry(reactor, self.url(), self.trust())

    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def trust(self) -> Trust | None:
        return None

    async def ask(self, method: str, path: str, body: bytes | None = None, signature: bytes = b"") -> tuple[int, Any]:
        """A request, and the status and JSON of its answer."""
        status, answer = await self.registry._exchange(method, path, body, signature)
        return status, json.loads(answer)

    async def put(
        self, one: Identity, body: bytes | None = None, path: str = "", signature: bytes = b""
    ) -> tuple[int, Any]:
        body = encode_body(one.key) if body is None else body
        return await self.ask("PUT", path or PATH + str(one.uuid), body, signature or one.sign(body))

    def assertError(self, answer: tuple[int, Any], status: int, error_type: str) -> None:
        self.assertEqual((answer[0], answer[1]["error_type"]), (status, error_type), answer)
        self.assertEqual(set(answer[1]), {"error_message", "error_type"})

    async def speak(self, *pieces: bytes) -> bytes:
        """All that comes back for bytes."""
        collector = Collector()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), collector)
        transport: Any = collector.transport
        for piece in pieces:
            transport.write(piece)
            await deferLater(reactor, 0.01)
        return await collector.over

    async def until(self, look: Any) -> None:
        for _ in range(2000):
            if look():
                return
            await deferLater(reactor, 0.01)
        self.fail("it never happened")


class RegisterTests(RestCase):
    async def test_register_and_read(self) -> None:
        """CH-20: PUT registers, GET reads, in the protocol's form."""
        one = identity(1)
        expected = {"clientId": str(one.uuid), "publicKey": base64.b64encode(one.key).decode()}
        self.assertEqual(await self.put(one), (200, expected))
        self.assertEqual(await self.ask("GET", PATH + str(one.uuid)), (200, expected))
        self.assertEqual(await self.ask("GET", PATH + str(one.uuid).upper()), (200, expected))
        self.assertEqual(self.directory.registered_key(one.uuid), one.key)

    async def test_unknown(self) -> None:
        """CH-20: 404 for a UUID that nobody has, to read or to replace."""
        one = identity(1)
        body = encode_body(one.key)
        self.assertError(await self.ask("GET", PATH + str(one.uuid)), 404, "ClientDoesNotExistException")
        answer = await self.ask("POST", PATH + str(one.uuid), body, one.sign(body))
        self.assertError(answer, 404, "ClientDoesNotExistException")

    async def test_already_registered(self) -> None:
        """CH-20: 409 for a UUID that has a key, whoever asks; the key stays."""
        await self.put(identity(1))
        for key in (0, 1):
            self.assertError(await self.put(identity(1, key)), 409, "ClientAlreadyRegisteredException")
        self.assertEqual(self.directory.registered_key(UUID(int=1)), identity(1).key)

    async def test_bad_signature(self) -> None:
        """CH-20: 401 where the body is not signed with the key that it brings."""
        one = identity(1)
        for signature in (b"x", identity(1, 1).sign(encode_body(one.key)), one.sign(b"else"), bytes(300), bytes(5000)):
            self.assertError(await self.put(one, signature=signature), 401, "InvalidSignatureException")
        self.assertIsNone(self.directory.registered_key(one.uuid))

    async def test_malformed_uuid(self) -> None:
        """CH-20: 400 for what is no UUID in its usual form."""
        for text in ("", "1", str(UUID(int=1))[:-1], UUID(int=1).hex, "{" + str(UUID(int=1)) + "}", "x" * 36):
            self.assertError(await self.ask("GET", PATH + text), 400, "InvalidClientIdException")

    async def test_malformed_key(self) -> None:
        """CH-20, CH-21: 400 for a body without a key that can be registered."""
        one = identity(1)
        for body in (
            b"",
            b"{}",
            b"[1]",
            b'{"key": 1}',
            b'{"key": "?"}',
            b'{"key": ""}',
            b'{"key": "AAAA"}',
            b"\xff",
            b"[" * 9000,
        ):
            self.assertError(await self.put(one, body), 400, "InvalidPublicKeyException")
        doubled = b'{"key": "AAAA", "key": "%s"}' % base64.b64encode(one.key)
        self.assertError(await self.put(one, doubled), 400, "InvalidPublicKeyException")

    async def test_what_java_writes(self) -> None:
        """CH-21: escaped slashes and any white space verify, since the raw bytes are what is signed."""
        one = identity(1)
        text = base64.b64encode(one.key).decode().replace("/", "\\/")
        body = ('\r\n{\t"key" :\n"' + text + '" }  ').encode()
        self.assertIn(b"\\/", body)
        self.assertEqual((await self.put(one, body))[0], 200)
        self.assertEqual(self.directory.registered_key(one.uuid), one.key)

    async def test_too_large(self) -> None:
        """CH-20: 413 for a body over 16 KiB, announced or not, and one of exactly that is read."""
        one = identity(1)
        padded = encode_body(one.key)
        whole = padded + b" " * (MAXIMUM_BODY - len(padded))
        self.assertEqual((await self.put(one, whole))[0], 200)
        self.assertError(await self.put(identity(2), whole + b" "), 413, "RequestTooLargeException")
        head = b"PUT %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % (PATH + str(UUID(int=2))).encode()
        answer = await self.speak(head, b"4001\r\n" + bytes(0x4001) + b"\r\n0\r\n\r\n")
        self.assertIn(b" 413 ", answer.split(b"\r\n")[0])

    async def test_other_paths_and_methods(self) -> None:
        """CH-20: 404 elsewhere; 405 with Allow for other methods; HEAD answers as GET without a body."""
        one = identity(1)
        await self.put(one)
        self.assertError(await self.ask("GET", "/"), 404, "NotFoundException")
        path = (PATH + str(one.uuid)).encode()
        answer = await self.speak(b"DELETE " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertIn(b" 405 ", answer.split(b"\r\n")[0])
        self.assertIn(b"\r\nAllow: GET, HEAD, POST, PUT\r\n", answer)
        head, _, body = (await self.speak(b"HEAD " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")).partition(b"\r\n\r\n")
        self.assertIn(b"HTTP/1.1 200 OK", head)
        self.assertEqual(body, b"")

    async def test_certificate(self) -> None:
        """CH-10: GET /certificate gives what is to be pinned, as PEM, and never the key."""
        answer = await self.speak(b"GET /certificate HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assertIn(b"Content-Type: application/x-pem-file", head)
        self.assertEqual(body, self.listener.tls.certificate.pem)
        self.assertNotIn(b"PRIVATE", answer)

    async def test_failure(self) -> None:
        """CH-20: 500 where the directory cannot be used, and nothing is acknowledged."""
        await self.directory.stopService()
        self.assertError(await self.ask("GET", PATH + str(UUID(int=1))), 500, "InternalException")
        self.assertError(await self.put(identity(1)), 500, "InternalException")
        self.directory.startService()
        await self.directory.ready()

    async def test_full(self) -> None:
        """COM-2: the directory takes so many keys and no more."""
        self.directory.maximum_keys = 1
        await self.put(identity(1))
        self.assertError(await self.put(identity(2)), 500, "InternalException")

    async def test_events(self) -> None:
        """COM-7: each request is one event, with its status."""
        await self.put(identity(1))
        await self.ask("GET", PATH + "x")
        await self.until(lambda: len(self.outcomes.events) == 2)
        self.assertEqual([event["event"] for event in self.outcomes.events], ["request", "request"])
        self.assertEqual([event["status"] for event in self.outcomes.events], [200, 400])
        self.assertEqual(self.context.admission.open_connections, 0)


class BindingTests(RestCase):
    settings = {"require_bound_registration": True}

    async def test_required(self) -> None:
        """CH-23: with require_bound_registration the signed body has to name the UUID."""
        one = identity(1)
        self.assertError(await self.put(one), 400, "InvalidClientIdException")
        self.assertEqual((await self.put(one, encode_body(one.key, one.uuid)))[0], 200)

    async def test_replayed_for_another(self) -> None:
        """CH-23: a body that names a UUID cannot be registered for another."""
        one = identity(1)
        body = encode_body(one.key, one.uuid)
        self.assertError(await self.put(one, body, PATH + str(UUID(int=2))), 400, "InvalidClientIdException")


class ReplaceTests(RestCase):
    async def post(self, signer: Identity, key: bytes, body: bytes | None = None) -> tuple[int, Any]:
        body = encode_body(key) if body is None else body
        return await self.ask("POST", PATH + str(signer.uuid), body, signer.sign(body))

    async def test_replaced(self) -> None:
        """CH-20, CH-22: POST replaces the key, signed with the one on record."""
        await self.put(identity(1))
        new = identity(1, 1)
        self.assertEqual((await self.post(identity(1), new.key))[0], 200)
        self.assertEqual(self.directory.registered_key(UUID(int=1)), new.key)
        self.assertError(await self.post(identity(1), identity(1).key), 401, "InvalidSignatureException")

    async def test_not_by_somebody_else(self) -> None:
        """CH-20: the new key's owner cannot do it, nor can anybody else."""
        await self.put(identity(1))
        self.assertError(await self.post(identity(1, 1), identity(1, 1).key), 401, "InvalidSignatureException")
        self.assertEqual(self.directory.registered_key(UUID(int=1)), identity(1).key)

    async def test_failures_count(self) -> None:
        """COM-11: wrong signatures count for the UUID's failures, as a wrong Connect's does."""
        await self.put(identity(1))
        for _ in range(4):
            await self.post(identity(1, 1), identity(1, 1).key)
        delay = self.context.ledger.failed("127.0.0.1", str(UUID(int=1)), reactor.seconds())
        self.assertEqual(delay, 1.0)

    async def test_unusable_key(self) -> None:
        """CH-21: the new key is one that can be registered."""
        await self.put(identity(1))
        small = rsa.generate_private_key(65537, 1024)
        self.assertError(await self.post(identity(1), encode_key(small.public_key())), 400, "InvalidPublicKeyException")


class RateTests(RestCase):
    settings = {"registration_rate": 2.0}

    async def test_rate(self) -> None:
        """CH-20: 429 beyond registration_rate, for attempts that fail too; reading goes on."""
        self.assertEqual((await self.put(identity(1)))[0], 200)
        self.assertEqual((await self.put(identity(1)))[0], 409)
        self.assertError(await self.put(identity(2)), 429, "TooManyRequestsException")
        self.assertEqual((await self.ask("GET", PATH + str(UUID(int=1))))[0], 200)


class AdmissionTests(RestCase):
    limits = AdmissionLimits(connection_rate=0, connections_per_source=1)

    async def test_limits(self) -> None:
        """COM-4: admission counts connections to this face too; who is one too many gets not a byte."""
        first = Collector()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), first)
        await self.until(lambda: self.context.admission.open_connections == 1)
        self.assertEqual(await self.speak(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), b"")
        self.assertEqual(self.outcomes.outcomes(), ["limited"])
        transport: Any = first.transport
        transport.loseConnection()
        await first.over
        await self.until(lambda: self.context.admission.open_connections == 0)
        self.assertEqual(self.outcomes.outcomes(), ["limited", "aborted"])


class SlowTests(RestCase):
    settings = {"handshake_timeout": 0.5}

    async def test_slow_body(self) -> None:
        """COM-1: a body that does not come in time ends the connection, with one outcome."""
        head = b"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" % (PATH + str(UUID(int=1))).encode()
        self.assertEqual(await self.speak(head, b"{", b'"'), b"")
        await self.until(self.outcomes.outcomes)
        self.assertEqual(self.outcomes.outcomes(), ["timeout"])


class SecureTests(RestCase):
    rest = "tcp:0:interface=127.0.0.1"

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.settings = {"rest_certificate": write_pem(temporary_folder(self), make_certificate(["127.0.0.1"]))}
        await super().setUp()

    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def trust(self) -> Trust | None:
        (certificate,) = read_certificates(self.settings["rest_certificate"])
        return Trust("127.0.0.1", authorities=[certificate])

    async def test_https(self) -> None:
        """CH-10: with a certificate of its own this face is HTTPS, on loopback too; a pin may come over it."""
        self.assertTrue(await self.registry.register(identity(1)))
        self.assertEqual(await self.registry.certificate(), self.listener.tls.certificate.pem)

    async def test_not_trusted(self) -> None:
        """CH-10: a client takes nothing from a server that it does not trust."""
        registry = KeyRegistry(reactor, self.url(), Trust("127.0.0.1", pins=[bytes(32)]))
        with self.assertRaises(RegistryError) as caught:
            await registry.read(UUID(int=1))
        self.assertIn("it is not the pinned one", str(caught.exception))

    async def test_garbage(self) -> None:
        """COM-3: what is no TLS ends the connection, with one outcome."""
        await self.speak(b"GET / HTTP/1.1\r\n\r\n")
        await self.until(self.outcomes.outcomes)
        self.assertEqual(self.outcomes.outcomes(), ["malformed"])


class EverywhereTests(RestCase):
    rest = "tcp:0"

    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def trust(self) -> Trust | None:
        return Trust("x", pins=[pin_of(one) for one in read_certificates(self.certificate)])

    async def test_https_with_the_listeners_certificate(self) -> None:
        """CH-10: on an address that is not loopback it is HTTPS with the listener's certificate."""
        self.assertTrue(await self.registry.register(identity(1)))


class RegistryTests(RestCase):
    async def test_register(self) -> None:
        """CH-23: a client names itself in what it signs; to register twice is no mistake."""
        one = identity(1)
        self.assertTrue(await self.registry.register(one))
        self.assertFalse(await self.registry.register(one))
        with self.assertRaises(RegistryError) as caught:
            await self.registry.register(identity(1, 1))
        self.assertIn("is registered with another key", str(caught.exception))

    async def test_read_and_replace(self) -> None:
        """CH-20: what is registered can be read, and replaced."""
        one = identity(1)
        self.assertIsNone(await self.registry.read(one.uuid))
        await self.registry.register(one, bound=False)
        await self.registry.replace(one, identity(1, 1).key)
        self.assertEqual(await self.registry.read(one.uuid), identity(1, 1).key)
        with self.assertRaises(RegistryError) as caught:
            await self.registry.replace(one, one.key)
        self.assertEqual(caught.exception.error_type, "InvalidSignatureException")

    async def test_no_pin_over_http(self) -> None:
        """CH-10: a certificate that came over plain HTTP is worth nothing."""
        with self.assertRaises(RegistryError):
            await self.registry.certificate()

    async def test_no_server(self) -> None:
        """Nobody there is one line."""
        with self.assertRaises(RegistryError) as caught:
            await KeyRegistry(reactor, "http://127.0.0.1:1").read(UUID(int=1))
        self.assertIn("http://127.0.0.1:1: ", str(caught.exception))

    def test_urls(self) -> None:
        for url in ("ftp://x", "http://", "https://x/path", "https://x?y", "x"):
            self.assertRaises(ValueError, KeyRegistry, reactor, url)


class KeyTests(SynchronousTestCase):
    """CH-21: which keys can be registered."""

    def test_sizes(self) -> None:
        """CH-21: 2,048 to 8,192 bits."""
        check_key(encode_key(private_key().public_key()))
        for bits in (1024, 2047):
            with self.assertRaises(InvalidKey) as caught:
                check_key(encode_key(rsa.generate_private_key(65537, bits).public_key()))
            self.assertIn(f"{bits} bits", str(caught.exception))
        modulus = private_key().public_key().public_numbers().n
        for bits in (8192, 8193):
            number = modulus << (bits - 2048) | 1
            key = encode_key(rsa.RSAPublicNumbers(65537, number).public_key())
            if bits > 8192:
                self.assertRaises(InvalidKey, check_key, key)
            else:
                check_key(key)

    def test_exponents(self) -> None:
        """CH-21: odd, at least 3 and less than 2^33."""
        modulus = private_key().public_key().public_numbers().n
        for exponent in (3, 17, 65537, 2**33 - 1):
            check_key(encode_key(rsa.RSAPublicNumbers(exponent, modulus).public_key()))
        with self.assertRaises(InvalidKey):
            check_key(encode_key(rsa.RSAPublicNumbers(2**33 + 1, modulus).public_key()))

    def test_other_kinds(self) -> None:
        """CH-21: RSA only."""
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        with self.assertRaises(InvalidKey) as caught:
            check_key(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        self.assertEqual(str(caught.exception), "this is not an RSA key")

    def test_one_way_to_write_it(self) -> None:
        """CH-21: bytes behind the key, or another way to write it, would make another fingerprint of the same key."""
        key = encode_key(private_key().public_key())
        for other in (key + b"\0", key[:-1], b"", b"key"):
            self.assertRaises(InvalidKey, check_key, other)


class BodyTests(SynchronousTestCase):
    def test_members(self) -> None:
        """CH-23: clientId is optional, and checked where it is."""
        uuid = UUID(int=5)
        bound = parse_body(encode_body(b"key", uuid))
        self.assertEqual((bound.key, bound.client_id), (b"key", uuid))
        free = parse_body(b'{"key": "a2V5", "more": [1, 2.5, NaN], "clientId": null}')
        self.assertEqual((free.key, free.client_id), (b"key", None))
        check_binding(bound, uuid, required=True)
        check_binding(free, uuid, required=False)
        self.assertRaises(RegistrationError, check_binding, free, uuid, required=True)
        self.assertRaises(RegistrationError, check_binding, bound, UUID(int=6), required=False)
        for text in ("1", '"x"', "[]"):
            with self.assertRaises(RegistrationError) as caught:
                parse_body(b'{"key": "a2V5", "clientId": %s}' % text.encode())
            self.assertEqual(caught.exception.error_type, "InvalidClientIdException")

    def test_huge_numbers(self) -> None:
        """COM-2: numbers of thousands of digits cost nothing."""
        self.assertEqual(parse_body(b'{"key": "a2V5", "n": %s}' % (b"9" * 15000)).key, b"key")

    def test_numbers_are_no_texts(self) -> None:
        """CH-20: a number is no key, though its digits would be base64."""
        for number in (b"888888888881", b"1e99", b"-1234567", b"Infinity"):
            self.assertRaises(RegistrationError, parse_body, b'{"key": %s}' % number)
            self.assertRaises(RegistrationError, parse_body, b'{"key": "a2V5", "clientId": %s}' % number)

    def test_uuid(self) -> None:
        self.assertEqual(parse_uuid("00000000-0000-0000-0000-00000000000A"), UUID(int=10))
