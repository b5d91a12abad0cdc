"""The whole way into the world by token, over real QUIC, with a stand-in for the services (AL-5, AL-6, AL-16)."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
from argon2.profiles import CHEAPEST
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.python.filepath import FilePath
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from connectd.admission import Admission, AdmissionLimits
from connectd.directory.service import DirectoryService
from connectd.events import Events
from connectd.interfaces import IEventSink
from connectd.net.certificates import make_certificate
from connectd.net.client import ConnectionEnded
from connectd.net.listener import Context
from connectd.net.url import URLError
from connectd.protocols.alloy import asset_store
from connectd.protocols.alloy.asset_store import AssetStore
from connectd.protocols.alloy.client import AlloyClient, make_client, make_endpoint, parse_alloy_url
from connectd.protocols.alloy.fetching import Fetched, fetch
from connectd.protocols.alloy.plugin import plugin
from connectd.protocols.alloy.progress import JsonLines
from connectd.protocols.alloy.server import AlloyListener
from connectd.protocols.alloy.settings import AlloySettings
from connectd.sansio import Outcome
from tests.protocols.alloy.session_services import (
    CLIENT_SCOPE,
    ISSUER,
    SERVER_SCOPE,
    Profile,
    SessionServicesSite,
    status,
)

reactor: Any = installed_reactor
PLAYER, SERVER = UUID(int=1), UUID(int=2)
PASSWORD = "swordfish"


@implementer(IEventSink)
class Recorder:
    """Remembers events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def event(self, event: Any) -> None:
        self.events.append(dict(event))


class Told:
    """Notes how far a fetch is."""

    def __init__(self) -> None:
        self.total = self.missing = self.came_in_all = 0
        self.done: list[tuple[str, int]] = []

    def offered(self, total: int, missing: int) -> None:
        self.total, self.missing = total, missing

    def begun(self, name: str, size: int) -> None:
        """It is told again when it is kept."""

    def came(self, size: int) -> None:
        self.came_in_all += size

    def kept(self, name: str, hash: str, size: int) -> None:
        self.done.append((hash, size))


class EntryCase(TestCase):
    timeout = 60

    def setUp(self) -> Any:
        self.folder = Path(tempfile.mkdtemp(prefix="connectd-test-"))
        self.addCleanup(FilePath(str(self.folder)).remove)
        self.stand_in = SessionServicesSite(reactor.seconds)
        self.player = self.stand_in.add(PLAYER, "Ann", CLIENT_SCOPE)
        self.host = self.stand_in.add(SERVER, "Host", SERVER_SCOPE)
        self.port = reactor.listenTCP(0, self.stand_in.site, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.url = f"http://127.0.0.1:{self.port.getHost().port}"
        self.certificate = self.certificate_file("server")
        (self.folder / "assets").mkdir()
        self.directory = DirectoryService(str(self.folder / "connectd.db"), reactor=reactor, parameters=CHEAPEST)
        self.directory.startService()
        self.addCleanup(self.directory.stopService)
        self.recorder = Recorder()
        return self.directory.ready()

    def certificate_file(self, name: str) -> str:
        path = self.folder / f"{name}.pem"
        path.write_bytes(make_certificate(["localhost", "127.0.0.1"]))
        return str(path)

    def secret(self, name: str, value: str) -> str:
        path = self.folder / name
        path.write_text(value)
        path.chmod(0o600)
        return str(path)

    def listener(self, **more: Any) -> AlloyListener:
        settings = AlloySettings(
            **{
                "listen": "udp:0:interface=127.0.0.1",
                "certificate": self.certificate,
                "services_url": self.url,
                "issuer": ISSUER,
                "audience": "us",
                "profile": str(SERVER),
                "account_token_file": self.secret("account", self.host.account_token),
                "assets": str(self.folder / "assets"),
                **more,
            }
        )
        events = Events(reactor.seconds)
        events.sinks.append(self.recorder)
        context = Context(
            reactor=reactor,
            admission=Admission(AdmissionLimits(), clock=reactor),
            events=events,
            directory=self.directory,
            drain_timeout=1.0,
        )
        listener = AlloyListener(settings, context)
        listener.startService()
        self.addCleanup(self.stopped, listener)
        return listener

    def stopped(self, listener: AlloyListener) -> Any:
        return listener.stopService() if listener.running else None

    def query(self, profile: Profile, name: str = "player") -> str:
        """The part of a URL that has somebody log in by token."""
        session = self.stand_in.new_session(profile)
        return (
            f"services_url={self.url}&issuer={ISSUER}"
            f"&session_token_file={self.secret(f'{name}-session', session['sessionToken'])}"
            f"&identity_token_file={self.secret(f'{name}-identity', session['identityToken'])}"
        )

    def client(self, listener: AlloyListener, query: str, username: str = "Ann", **options: Any) -> AlloyClient:
        port = listener.faces[0].port
        server = parse_alloy_url(f"alloy://{username}@127.0.0.1:{port}?{query or 'trust=yes'}")
        self.endpoint = make_endpoint(reactor, server)
        return make_client(reactor, server, **options)

    async def enter(self, listener: AlloyListener, query: str, username: str = "Ann", **options: Any) -> AlloyClient:
        client = self.client(listener, query, username, **options)
        await client.connect(self.endpoint)
        await client.when_entered()
        self.addCleanup(client.hang_up)
        return client

    async def refused(self, listener: AlloyListener, query: str, username: str = "Ann", **options: Any) -> str:
        client = self.client(listener, query, username, **options)
        error: Any = await self.assertFailure(client.connect(self.endpoint), ConnectionEnded)
        return str(error)


class TokenTests(EntryCase):
    async def test_by_token(self) -> None:
        """AL-5, AL-6, AL-16: in, verified, under the token's own UUID; without a client certificate."""
        listener = self.listener()
        client = await self.enter(listener, self.query(self.player))
        self.assertEqual(client.uuid, PLAYER)
        [session] = listener.context.sessions
        self.assertEqual((session.identity["uuid"], session.identity["verified"]), (str(PLAYER), True))
        self.assertIn("POST /server-join/auth-token", self.stand_in.calls)

    async def test_with_a_certificate(self) -> None:
        """AL-6, AL-7: an access token that is bound to the certificate that is shown."""
        listener = self.listener(require_client_certificate=True)
        certificate = self.certificate_file("player")
        await self.enter(listener, f"{self.query(self.player)}&certificate={certificate}")

    async def test_stolen_token(self) -> None:
        """AL-6: a token that names a certificate, over a connection that shows another one or none."""
        listener = self.listener()
        from connectd.protocols.alloy.fingerprint import fingerprint

        self.stand_in.claims = {"cnf": {"x5t#S256": fingerprint(b"the owner's")}}
        reason = await self.refused(listener, self.query(self.player))
        self.assertIn("Your access token is refused: it belongs to a certificate, and none was shown", reason)
        certificate = self.certificate_file("thief")
        reason = await self.refused(listener, f"{self.query(self.player)}&certificate={certificate}")
        self.assertIn("it belongs to another certificate than the one shown", reason)
        self.assertEqual({event["event"] for event in self.recorder.events} & {"accepted"}, set())

    async def test_forged(self) -> None:
        """AL-5: somebody else's identity token, or an expired one, and why."""
        listener = self.listener()
        reason = await self.refused(listener, f"{self.query(self.player)}&uuid={UUID(int=9)}")
        self.assertIn(f"Your identity token is refused: it is about {PLAYER}", reason)
        reason = await self.refused(listener, self.query(self.player), "Bob")
        self.assertIn("Your access token is refused: it names Ann, not Bob", reason)
        self.assertEqual({event["outcome"] for event in self.recorder.events if "outcome" in event}, {"refused"})

    async def test_claims(self) -> None:
        """AL-5, AL-6: what each token has to say besides who signed it; each wrong claim is named."""
        listener = self.listener()
        for changes, reason in (
            ({"aud": "them"}, "it is for them, not for us"),
            ({"scope": "hytale:server"}, "its scope does not contain hytale:client"),
            ({"sub": str(UUID(int=9))}, "it is about"),
            ({"username": "Bob"}, "it names Bob, not Ann"),
            ({"exp": 1}, "it has expired"),
            ({"nbf": reactor.seconds() + 1000}, "it is not valid yet"),
            ({"iss": "https://evil.example"}, "it comes from another issuer"),
        ):
            self.stand_in.claims = changes
            self.assertIn(
                f"Your access token is refused: {reason}", await self.refused(listener, self.query(self.player))
            )
        self.stand_in.claims = {}
        other = self.stand_in.add(UUID(int=3), "Srv", SERVER_SCOPE)
        reason = await self.refused(listener, self.query(other), "Srv")
        self.assertIn("Your identity token is refused: its scope does not contain hytale:client", reason)
        self.assertEqual({event["event"] for event in self.recorder.events} & {"accepted"}, set())

    async def test_given_session(self) -> None:
        """AL-13: a game session that somebody else keeps is read anew for each login."""
        first, second = (self.stand_in.new_session(self.host) for _ in range(2))
        files = {
            "session_token_file": self.secret("host-session", first["sessionToken"]),
            "identity_token_file": self.secret("host-identity", first["identityToken"]),
        }
        listener = self.listener(account_token_file="", **files)
        client = await self.enter(listener, self.query(self.player))
        await client.hang_up()
        del self.stand_in.sessions[first["sessionToken"]]
        self.assertIn("The session services refuse", await self.refused(listener, self.query(self.player)))
        self.secret("host-session", second["sessionToken"])
        self.secret("host-identity", second["identityToken"])
        client = await self.enter(listener, self.query(self.player))
        await client.hang_up()
        os.unlink(files["session_token_file"])
        self.assertIn("Authentication service unavailable", await self.refused(listener, self.query(self.player)))

    async def test_fetch_by_token(self) -> None:
        """AL-10, AL-16: a fetch asks for no password where a token is shown."""
        port = self.listener().faces[0].port
        query = self.query(self.player)
        url = f"alloy://Ann@127.0.0.1:{port}?{query}"
        self.assertFalse(plugin.needs_password(url))
        self.assertTrue(plugin.needs_password("alloy://Ann@host"))
        self.assertFalse(plugin.needs_password("alloy://host"))
        result = await fetch(reactor, url, AssetStore(str(self.folder / "store")), JsonLines())
        self.assertEqual(result, Fetched(0, 0, 0))

    async def test_services_ill(self) -> None:
        """AL-13: services that do not answer as they should let nobody in."""
        listener = self.listener()
        for misbehaviour in (status(302, location="http://127.0.0.1:1/"), status(200, b"lies"), status(200, b"{}")):
            self.stand_in.misbehave["POST /server-join/auth-grant"] = [misbehaviour]
            reason = await self.refused(listener, self.query(self.player))
            self.assertIn("Authentication service unavailable", reason)
        self.stand_in.misbehave["POST /server-join/auth-grant"] = [status(403)]
        self.assertIn("The session services refuse this login", await self.refused(listener, self.query(self.player)))
        await self.enter(listener, self.query(self.player))

    async def test_no_services(self) -> None:
        listener = self.listener(services_url="", password=PASSWORD)
        self.assertIn("This server takes no accounts", await self.refused(listener, self.query(self.player)))

    async def test_nobodys_name(self) -> None:
        """AL-8: who has ever logged in by token is not impersonated with a password, by UUID or by name."""
        listener = self.listener(password=PASSWORD)
        client = await self.enter(listener, self.query(self.player))
        await client.hang_up()
        password = PASSWORD.encode()
        for query, username in ((f"trust=yes&uuid={PLAYER}", "Other"), ("", "ann")):
            reason = await self.refused(listener, query, username, password=password)
            self.assertIn("This name belongs to a player with an account", reason)
        await self.enter(listener, "", "Bob", password=password)
        await listener.stopService()
        again = self.listener(password=PASSWORD)
        self.assertIn("belongs to a player", await self.refused(again, "", "Ann", password=password))

    async def test_twice(self) -> None:
        listener = self.listener()
        await self.enter(listener, self.query(self.player))
        self.assertIn("Already connected", await self.refused(listener, self.query(self.player)))

    async def test_game_session_ends(self) -> None:
        """AL-13: the server's game session is deleted at shutdown."""
        listener = self.listener()
        await self.enter(listener, self.query(self.player))
        tokens = set(self.stand_in.sessions)
        await listener.stopService()
        self.assertEqual(len(tokens - set(self.stand_in.sessions)), 1)
        self.assertIn("DELETE /game-session", self.stand_in.calls)

    async def test_server_impostor(self) -> None:
        """AL-16: a server that passes on another one's tokens does not show that one's certificate."""
        listener = self.listener()
        from connectd.protocols.alloy import server as module

        self.patch(module, "fingerprint", lambda certificate: "A" * 43)
        reason = await self.refused(listener, self.query(self.player))
        self.assertIn("the server's access token is not believed: it belongs to another certificate", reason)

    async def test_missing_files(self) -> None:
        self.assertRaises(
            URLError, make_client, reactor, parse_alloy_url(f"alloy://Ann@127.0.0.1?services_url={self.url}")
        )

    async def test_secrets(self) -> None:
        """COM-9: no token in any event or log line."""
        listener = self.listener()
        query = self.query(self.player)
        logged: list[str] = []
        from twisted.logger import ILogObserver, formatEvent, globalLogPublisher

        @implementer(ILogObserver)
        def observe(event: Any) -> None:
            logged.append(f"{formatEvent(event)} {event.get('log_failure', '')}")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        await self.refused(listener, f"{query}&uuid={UUID(int=9)}")
        client = await self.enter(listener, query)
        everything = "\n".join([*logged, *(repr(event) for event in self.recorder.events), repr(client.settings)])
        for secret in (*self.stand_in.sessions, self.host.account_token, self.stand_in.identity_token(self.player)):
            self.assertNotIn(secret, everything)


class AssetTests(EntryCase):
    def put(self, name: str, content: bytes) -> str:
        path = self.folder / "assets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    async def fetched(self, listener: AlloyListener, store: AssetStore) -> list[str]:
        """The names of what came."""
        names: list[str] = []
        client = await self.enter(
            listener,
            "",
            password=PASSWORD.encode(),
            store=store,
            on_asset=lambda asset, size: names.append(asset.name),
        )
        await client.hang_up()
        return names

    async def test_from_a_directory(self) -> None:
        """AL-10: whole, verified, kept under the hash, and not asked for twice."""
        large = os.urandom(5_000_000)
        hashes = {self.put("large", large), self.put("deep/small", b"small"), self.put("empty", b"")}
        listener = self.listener(services_url="", password=PASSWORD)
        store = AssetStore(str(self.folder / "store"))
        self.assertEqual(sorted(await self.fetched(listener, store)), ["deep/small", "empty", "large"])
        self.assertEqual({asset.hash for asset in store}, hashes)
        self.assertTrue(all(store.verify(asset) for asset in store))
        self.assertEqual(await self.fetched(listener, store), [])

    async def test_fetch(self) -> None:
        """AL-10: what is fetched is told as it comes, of each content once; the rest is asked for only; the player of
        that name may be playing meanwhile."""
        one, two = self.put("a", b"x" * 2_500_000), self.put("b", b"second")
        self.put("copy of b", b"second")
        listener = self.listener(services_url="", password=PASSWORD)
        playing = await self.enter(listener, "", "ann", password=PASSWORD.encode())
        store = AssetStore(str(self.folder / "store"))
        url = f"alloy://ann@127.0.0.1:{listener.faces[0].port}?trust=yes"
        for wanted in ([(one, 2_500_000), (two, 6)], []):
            told = Told()
            result = await fetch(reactor, url, store, told, PASSWORD.encode())
            self.assertEqual((told.total, told.missing), (3, len(wanted)))
            self.assertEqual(told.done, wanted)
            self.assertEqual(told.came_in_all, sum(size for _, size in wanted))
            self.assertEqual(result, Fetched(3, len(wanted), told.came_in_all))
        await playing.hang_up()

    async def test_fetch_of_lies(self) -> None:
        """AL-10: content that is not what its hash says is not kept, and ends it."""
        self.put("a", b"x" * 1000)
        listener = self.listener(services_url="", password=PASSWORD)
        self.patch(asset_store, "sha256", lambda: hashlib.sha256(b"something else"))
        store = AssetStore(str(self.folder / "store"))
        url = f"alloy://ann@127.0.0.1:{listener.faces[0].port}?trust=yes"
        error: Any = await self.assertFailure(
            Deferred.fromCoroutine(fetch(reactor, url, store, Told(), PASSWORD.encode())), ConnectionEnded
        )
        self.assertIn("the assets cannot be kept", str(error))
        self.assertEqual(list(store), [])

    async def test_changes(self) -> None:
        """AL-10: other files are offered without a restart."""
        self.put("a", b"a")
        listener = self.listener(services_url="", password=PASSWORD, assets_interval=0.1)
        store = AssetStore(str(self.folder / "store"))
        self.assertEqual(await self.fetched(listener, store), ["a"])
        self.put("b", b"b")
        limit = reactor.seconds() + 30
        while not (names := await self.fetched(listener, store)):
            self.assertLess(reactor.seconds(), limit)
        self.assertEqual(names, ["b"])

    async def test_changed_meanwhile(self) -> None:
        """AL-10: an asset that is not any more what was offered ends the connection, with its name."""
        self.put("a", b"a")
        listener = self.listener(services_url="", password=PASSWORD)
        self.put("a", b"other")
        client = self.client(listener, "", password=PASSWORD.encode())
        await client.connect(self.endpoint)
        error: Any = await self.assertFailure(client.when_entered(), ConnectionEnded)
        self.assertIn("The asset a is not available any more", str(error))
        self.assertEqual(error.outcome, Outcome.LEFT)

    async def test_missing_directory(self) -> None:
        from connectd.credentials import CredentialsError

        error = self.assertRaises(CredentialsError, self.listener, assets=str(self.folder / "nowhere"))
        self.assertIn("nowhere cannot be read", str(error))


class SetupTests(EntryCase):
    """Bad configuration stops the start, in one line."""

    async def test_problems(self) -> None:
        from connectd.credentials import CredentialsError
        from connectd.protocols.alloy.services_setup import make_server_tokens

        good = AlloySettings(
            services_url=self.url, profile=str(SERVER), account_token_file=self.secret("account", "token")
        )
        self.assertIsNotNone(make_server_tokens(good, reactor))
        cases: list[tuple[dict[str, Any], str]] = [
            ({"profile": ""}, "needs an audience"),
            ({"profile": "", "audience": "us"}, "needs the profile"),
            ({"account_token_file": ""}, "needs session_token_file"),
            ({"session_token_file": "x"}, "only one of them"),
            ({"account_token_file": str(self.folder / "no")}, "cannot be read"),
            ({"account_token_file": self.secret("binary", "a\x01b")}, "something else than a token"),
            ({"services_authority": str(self.folder / "no")}, "services_authority"),
        ]
        for changes, reason in cases:
            settings = attrs.evolve(good, **changes)
            error = self.assertRaises(CredentialsError, make_server_tokens, settings, reactor)
            self.assertIn(reason, str(error))
            self.assertNotIn("\n", str(error))

    async def test_thumbprint(self) -> None:
        """AL-11: a thumbprint that nothing has stops the start."""
        from connectd.credentials import CredentialsError
        from connectd.protocols.alloy.server import open_certificate

        store = self.folder / "certificates"
        store.mkdir()
        pem = make_certificate(["localhost"])
        (store / "one.pem").write_bytes(pem)
        settings = AlloySettings(certificate=self.certificate, certificate_store=str(store))
        configured = open_certificate(settings, reactor, {}).current
        thumbprint = hashlib.sha1(configured.certificate).hexdigest()
        error = self.assertRaises(
            CredentialsError, open_certificate, settings, reactor, {"ALLOY_CERT_THUMBPRINT": thumbprint}
        )
        self.assertIn("no certificate has the ALLOY_CERT_THUMBPRINT", str(error))
        settings = attrs.evolve(settings, certificate_store=str(self.folder))
        self.assertEqual(
            open_certificate(settings, reactor, {"ALLOY_CERT_THUMBPRINT": thumbprint}).current.certificate,
            configured.certificate,
        )
