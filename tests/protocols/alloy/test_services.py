"""Calls to the session services over real sockets: what works, and how each illness of theirs shows (AL-13)."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import UUID

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor as installed_reactor
from twisted.internet import ssl
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from connectd.protocols.alloy.fingerprint import fingerprint
from connectd.protocols.alloy.service_calls import (
    ATTEMPTS,
    MAX_BODY,
    MAX_CALLS,
    MAX_WAITING,
    TIMEOUT,
    ServiceCalls,
    ServicesRefused,
    ServicesUnavailable,
)
from connectd.protocols.alloy.services import SessionServices
from connectd.protocols.alloy.services_url import base_url_problem
from connectd.protocols.alloy.tokens import key_identifier, verify
from tests.protocols.alloy.session_services import (
    CLIENT_SCOPE,
    ISSUER,
    SERVER_SCOPE,
    Endless,
    SessionServicesSite,
    reset,
    status,
)

reactor: Any = installed_reactor
PLAYER, SERVER = UUID(int=1), UUID(int=2)
JWKS = "GET /.well-known/jwks.json"


async def turn() -> None:
    """Let the reactor do what it has to do."""
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    await done


async def until(condition: Any) -> None:
    limit = reactor.seconds() + 30
    while not condition():
        assert reactor.seconds() < limit, "the condition did not come true"
        await turn()


class ServicesCase(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.stand_in = SessionServicesSite(self.clock.seconds)
        self.port = reactor.listenTCP(0, self.stand_in.site, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.services = self.made(f"http://127.0.0.1:{self.port.getHost().port}")

    def made(self, url: str, **more: Any) -> SessionServices:
        services = SessionServices(ServiceCalls(reactor, url, clock=self.clock, **more))
        self.addCleanup(services.close)
        return services

    async def let_pauses_pass(self, call: Deferred[Any]) -> None:
        """Wait for a call, without waiting for the pauses between its attempts."""
        while not call.called:
            await turn()
            left = [delayed.getTime() - self.clock.seconds() for delayed in self.clock.getDelayedCalls()]
            if left and max(left) < TIMEOUT - 1:
                self.clock.advance(max(left))

    async def unavailable(self, call: Deferred[Any]) -> str:
        error = await self.assertFailure(call, ServicesUnavailable)
        return str(error)


class CallTests(ServicesCase):
    async def test_keys(self) -> None:
        keys = await self.services.key_set()
        self.assertEqual(set(keys.keys), {"key-1"})

    async def test_grants(self) -> None:
        """AL-5, AL-6, AL-16: both directions of the exchange, as a server and a player make them."""
        player = self.stand_in.add(PLAYER, "Ann", CLIENT_SCOPE)
        server = self.stand_in.add(SERVER, "Host", SERVER_SCOPE)
        theirs = await self.services.create_game_session(player.account_token, PLAYER)
        ours = await self.services.create_game_session(server.account_token, SERVER)
        self.assertEqual(ours.expires, self.clock.seconds() + 3600)
        grant = await self.services.authorization_grant(ours.session_token, theirs.identity_token, "us")
        token = await self.services.access_token(theirs.session_token, grant, fingerprint(b"certificate"))
        key = (await self.services.key_set()).keys[key_identifier(token)]
        claims = verify(token, key, ISSUER, self.clock.seconds())
        claims.about(PLAYER).named("Ann").for_audience("us").held_by(fingerprint(b"certificate"))

    async def test_game_session(self) -> None:
        server = self.stand_in.add(SERVER, "Host", SERVER_SCOPE)
        first = await self.services.create_game_session(server.account_token, SERVER)
        second = await self.services.refresh_game_session(first.session_token)
        self.assertEqual(set(self.stand_in.sessions), {second.session_token})
        await self.services.delete_game_session(second.session_token)
        self.assertEqual(self.stand_in.sessions, {})

    async def test_secrets(self) -> None:
        """COM-9: tokens are in no repr and no exception."""
        server = self.stand_in.add(SERVER, "Host", SERVER_SCOPE)
        session = await self.services.create_game_session(server.account_token, SERVER)
        self.assertNotIn(session.session_token, repr(session))
        self.assertNotIn(session.identity_token, repr(session))
        call = self.services.refresh_game_session("planted-secret")
        error: Any = await self.assertFailure(call, ServicesRefused)
        self.assertNotIn("planted-secret", f"{error} {error!r}")
        self.assertEqual(error.status, 401)

    async def test_refused(self) -> None:
        """A no is a no: it is not asked for again."""
        await self.assertFailure(self.services.create_game_session("nobody", PLAYER), ServicesRefused)
        self.assertEqual(self.stand_in.calls, ["POST /game-session/new"])


class IllnessTests(ServicesCase):
    async def test_errors_that_pass(self) -> None:
        """AL-13: tried again after a 5xx and after a connection that broke, with a longer pause each time."""
        self.stand_in.misbehave[JWKS] = [status(503), reset]
        call = self.services.key_set()
        await until(lambda: len(self.stand_in.calls) == 1)
        await until(self.clock.getDelayedCalls)
        await self.paused(0.5, 2)
        await self.paused(1.0, 3)
        self.assertEqual(set((await call).keys), {"key-1"})

    async def paused(self, seconds: float, count: int) -> None:
        """The next attempt comes after so many seconds, not earlier."""
        await until(
            lambda: [delayed.getTime() for delayed in self.clock.getDelayedCalls()] == [self.clock.seconds() + seconds]
        )
        self.assertEqual(len(self.stand_in.calls), count - 1)
        self.clock.advance(seconds)
        await until(lambda: len(self.stand_in.calls) == count)

    async def test_errors_that_do_not_pass(self) -> None:
        self.stand_in.misbehave[JWKS] = [status(500)] * 10
        call = self.services.key_set()
        await self.let_pauses_pass(call)
        self.assertEqual(await self.unavailable(call), f"{JWKS}: status 500")
        self.assertEqual(len(self.stand_in.calls), ATTEMPTS)

    async def test_nobody_there(self) -> None:
        await self.port.stopListening()
        call = self.services.key_set()
        await self.let_pauses_pass(call)
        self.assertIn("ConnectionRefusedError", await self.unavailable(call))

    async def test_slow(self) -> None:
        """AL-13: 10 s for an answer, and no second attempt."""
        self.stand_in.misbehave[JWKS] = [self.stand_in.hang]
        call = self.services.key_set()
        await until(lambda: self.stand_in.hanging)
        self.clock.advance(9.9)
        self.assertNoResult(call)
        self.clock.advance(0.1)
        self.assertEqual(await self.unavailable(call), f"{JWKS}: no answer within 10 s")
        self.assertEqual(len(self.stand_in.calls), 1)

    async def test_slow_body(self) -> None:
        """The 10 s are for the whole answer."""
        endless = Endless()
        endless.resumeProducing = lambda: None  # type: ignore[method-assign]  # it begins, and says nothing
        self.stand_in.misbehave[JWKS] = [endless]
        call = self.services.key_set()
        await until(lambda: self.stand_in.calls)
        endless.request.write(b"{")
        for _ in range(20):
            await turn()
        self.clock.advance(10)
        self.assertIn("no answer", await self.unavailable(call))
        await endless.ended

    async def test_huge(self) -> None:
        """200 MB are not read: 64 KiB are, and the connection is closed."""
        endless = Endless()
        self.stand_in.misbehave[JWKS] = [endless]
        self.assertIn(f"more than {MAX_BODY} bytes", await self.unavailable(self.services.key_set()))
        await endless.ended
        self.assertLess(endless.sent, 50_000_000)

    async def test_redirect(self) -> None:
        """A redirect is not followed: tokens go to nobody else."""
        target = f"http://127.0.0.1:{self.port.getHost().port}/elsewhere"
        for code in (301, 302, 303, 307, 308):
            self.stand_in.misbehave[JWKS] = [status(code, location=target)]
            self.assertIn(f"status {code}", await self.unavailable(self.services.key_set()))
        self.assertEqual(set(self.stand_in.calls), {JWKS})

    async def test_compressed_answer(self) -> None:
        """Nothing is inflated."""
        self.stand_in.misbehave[JWKS] = [status(200, b"\x1f\x8b\x08\0", **{"content-encoding": "gzip"})]
        self.assertIn("key set", await self.unavailable(self.services.key_set()))

    async def test_nonsense(self) -> None:
        """An answer that lies about its form is none."""
        for body, reason in (
            (b"", "no JSON object"),
            (b"[]", "no JSON object"),
            (b"{}", "has no sessionToken"),
            (b'{"sessionToken": 5}', "has no sessionToken"),
            (b'{"sessionToken": "a\\r\\nb"}', "has no sessionToken"),
            (b'{"sessionToken": "%s"}' % (b"x" * 8193), "more than 8192"),
            (b'{"sessionToken": "a", "identityToken": "b"}', "no time"),
            (b'{"sessionToken": "a", "identityToken": "b", "expiresAt": true}', "no time"),
            (b'{"sessionToken": "a", "identityToken": "b", "expiresAt": "soon"}', "soon"),
        ):
            self.stand_in.misbehave["POST /game-session/refresh"] = [status(200, body)]
            self.assertIn(reason, await self.unavailable(self.services.refresh_game_session("x")), body)
        self.stand_in.misbehave["POST /server-join/auth-grant"] = [
            status(200, b'{"authorizationGrant": "%s"}' % (b"x" * 4097))
        ]
        self.assertIn("4096", await self.unavailable(self.services.authorization_grant("x", "y", "z")))

    async def test_moments(self) -> None:
        for written in ("1800000000", '"2027-01-15T08:00:00Z"', '"2027-01-15T09:00:00+01:00"', '"2027-01-15T08:00:00"'):
            body = f'{{"sessionToken": "a", "identityToken": "b", "expiresAt": {written}}}'
            self.stand_in.misbehave["POST /game-session/refresh"] = [status(200, body.encode())]
            self.assertEqual((await self.services.refresh_game_session("x")).expires, 1_800_000_000)

    async def test_many(self) -> None:
        """AL-5: 32 calls are under way at once; the others wait, and not without bound."""
        self.stand_in.misbehave[JWKS] = [self.stand_in.hang] * MAX_CALLS
        calls = [self.services.key_set() for _ in range(MAX_CALLS + MAX_WAITING)]
        await until(lambda: len(self.stand_in.calls) == MAX_CALLS)
        self.assertIn("too many calls", await self.unavailable(self.services.key_set()))
        under_way, kept, given_up = calls[:MAX_CALLS], calls[MAX_CALLS : MAX_CALLS + 5], calls[MAX_CALLS + 5 :]
        for call in given_up + under_way:
            call.cancel()
            self.failureResultOf(call, CancelledError)
        for call in kept:
            self.assertEqual(set((await call).keys), {"key-1"})
        self.assertEqual(len(self.stand_in.calls), MAX_CALLS + 5)

    async def test_closed(self) -> None:
        """What is under way when the daemon stops is given up."""
        self.stand_in.misbehave[JWKS] = [self.stand_in.hang]
        call = self.services.key_set()
        await until(lambda: self.stand_in.hanging)
        closing = self.services.close()
        self.failureResultOf(call, CancelledError)
        await closing


class TLSTests(ServicesCase):
    """AL-13: the certificates of the services are verified."""

    def listening(self, pem: bytes) -> str:
        certificate = ssl.PrivateCertificate.loadPEM(pem)
        port = reactor.listenSSL(0, self.stand_in.site, certificate.options(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"https://localhost:{port.getHost().port}"

    def issued(self, authority: trustme.CA, host: str) -> str:
        issued = authority.issue_cert(host)
        return self.listening(issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes())

    def trusting(self, url: str, authority: bytes) -> SessionServices:
        return self.made(url, authorities=[x509.load_pem_x509_certificate(authority)])

    async def test_verified(self) -> None:
        authority = trustme.CA()
        services = self.trusting(self.issued(authority, "localhost"), authority.cert_pem.bytes())
        self.assertEqual(set((await services.key_set()).keys), {"key-1"})

    async def failed(self, services: SessionServices, reason: str) -> None:
        """No, at once, and before anything was said."""
        call = services.key_set()
        self.assertIn(reason, await self.unavailable(call))
        self.assertEqual(self.stand_in.calls, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_somebody_elses_authority(self) -> None:
        url = self.issued(trustme.CA(), "localhost")
        await self.failed(self.trusting(url, trustme.CA().cert_pem.bytes()), "an authority that is not trusted")

    async def test_authorities_of_the_system(self) -> None:
        await self.failed(self.made(self.issued(trustme.CA(), "localhost")), "an authority that is not trusted")

    async def test_another_name(self) -> None:
        authority = trustme.CA()
        url = self.issued(authority, "sessions.example")
        await self.failed(self.trusting(url, authority.cert_pem.bytes()), "it is not for localhost")

    async def test_no_name(self) -> None:
        """A certificate without a subjectAltName could be anybody's, whoever signed it and whatever its subject says:
        Twisted's own policy takes it."""
        pem = nameless_certificate("localhost")
        await self.failed(self.trusting(self.listening(pem), pem), "no subjectAltName")


def nameless_certificate(subject: str) -> bytes:
    """A self-signed certificate and its key, PEM, whose subject is all that says whose it is."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private


class URLTests(TestCase):
    def test_urls(self) -> None:
        for url in ("https://a", "https://a:8443/b/", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost"):
            self.assertIsNone(base_url_problem(url), url)
        for url in (
            "",
            "a",
            "https://",
            "http://a",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "https://a:b",
            "https://a:0",
            "https://user:word@a",
            "https://a?b",
            "https://a#b",
            "https://ü",
            "https://a\n",
        ):
            self.assertIn("write https://HOST", base_url_problem(url) or "", url)
        self.assertRaises(ValueError, ServiceCalls, reactor, "http://a")
