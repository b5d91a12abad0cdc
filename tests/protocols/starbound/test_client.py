"""The client: a session, what it says, and how it ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from connectd.directory.settings import DirectorySettings
from connectd.interfaces import IProtocol
from connectd.net.client import ConnectionEnded
from connectd.net.url import URLError
from connectd.ops.daemon import Daemon
from connectd.protocols.starbound.client import (
    MOST_WAITING,
    AccountRequired,
    Banned,
    DuplicatePlayer,
    LoginRefused,
    ServerFull,
    StarboundSession,
    WrongCredentials,
    login,
    make_player,
    parse_starbound_url,
    refusal,
)
from connectd.protocols.starbound.frames import Frame
from connectd.protocols.starbound.generations import GENERATIONS
from connectd.protocols.starbound.packets import HandshakeChallenge, ProtocolVersion
from connectd.protocols.starbound.plugin import plugin
from connectd.protocols.starbound.settings import StarboundClientSettings, StarboundSettings
from connectd.sansio import Outcome
from connectd.testing import RecordingHandler
from tests.accounts import reactor
from tests.directory.opened import Place
from tests.protocols.starbound.scene import ALL, CLIENT_FIRST, PASSWORD, SERVER_FIRST, Scene


class SessionTests(Scene):
    """A session of a client with a listener."""

    def in_a_session(self, generation: str) -> tuple[StarboundSession, RecordingHandler]:
        handler = RecordingHandler()
        self.network.handlers["recording"] = handler
        return self.enter(self.serve(generation, handler="recording"), generation), handler

    def test_frames(self) -> None:
        """Frames go both ways in every generation, large and compressed ones too."""
        for generation in ALL:
            session, handler = self.in_a_session(generation)
            frames = [Frame(30, b"hello"), Frame(31, b""), Frame(32, bytes(100_000), compressed=True)]
            for frame in frames:
                session.send(frame)
            self.network.settle()
            self.assertEqual([(one.id, one.payload) for one in handler.messages], [(f.id, f.payload) for f in frames])
            self.assertEqual([one.compressed for one in handler.messages], [False, False, True])
            for frame in frames:
                handler.sessions[0].send(frame)
            self.network.settle()
            for frame in frames:
                reading = Deferred.fromCoroutine(session.__anext__())
                found = self.successResultOf(reading)
                self.assertEqual((found.id, found.payload), (frame.id, frame.payload))
            self.successResultOf(session.drained())
            closing = session.leave()
            self.network.settle()
            self.successResultOf(closing)
            self.successResultOf(session.when_closed())
            self.assertEqual(handler.outcomes, [Outcome.LEFT])

    def test_iteration(self) -> None:
        """It waits for frames, and ends with the session."""
        session, handler = self.in_a_session("seed")
        self.assertIs(session.__aiter__(), session)
        found: list[Frame] = []

        async def read() -> None:
            async for frame in session:
                self.assertIsNone(session._reader)
                found.append(frame)

        reading = Deferred.fromCoroutine(read())
        self.assertNoResult(reading)
        handler.sessions[0].send(Frame(9, b"x"))
        self.network.settle()
        self.assertEqual([frame.id for frame in found], [9])
        handler.sessions[0].send(Frame(10, b"y"))
        handler.sessions[0].kick("enough")
        self.network.settle()
        self.successResultOf(reading)
        self.assertEqual([frame.id for frame in found], [9, 10])
        self.assertIsNotNone(session.ended)

    def test_slow_reader(self) -> None:
        """COM-6: what nobody reads is bounded; then the server waits."""
        session, handler = self.in_a_session("seed")
        for _ in range(100):
            handler.sessions[0].send(Frame(9, bytes(10_000)))
            self.network.settle()
        self.assertLessEqual(session._waiting, MOST_WAITING + 65_536 + 20_000)
        self.assertFalse(handler.sessions[0].drained().called)
        count = 0
        while session._frames:
            self.successResultOf(Deferred.fromCoroutine(session.__anext__()))
            count += 1
            self.network.settle()
        self.assertEqual((count, session._waiting), (100, 0))

    def test_a_reader_that_gives_up(self) -> None:
        session, handler = self.in_a_session("seed")
        reading = Deferred.fromCoroutine(session.__anext__())
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        handler.sessions[0].send(Frame(9, b"x"))
        self.network.settle()
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(session.__anext__())).id, 9)

    def test_send_too_late(self) -> None:
        session, handler = self.in_a_session("1.4")
        handler.sessions[0].kick("enough")
        self.network.settle()
        with self.assertRaisesRegex(ConnectionEnded, "the server ends the session: enough"):
            session.send(Frame(9, b"x"))
        self.successResultOf(session.leave())

    def test_leaving_in_words(self) -> None:
        """Where the client speaks first it says goodbye."""
        for generation in ALL:
            session, _handler = self.in_a_session(generation)
            session.leave()
            self.network.settle()
            (ended,) = self.network.recorder.named("ended")[-1:]
            self.assertEqual(ended["outcome"], "left")
            self.assertEqual("goodbye" in ended["reason"], generation in CLIENT_FIRST)

    def test_what_comes_with_the_acceptance(self) -> None:
        """Frames that come in one read with the acceptance are not lost."""
        server = self.network.raw_server()
        dialled = Deferred.fromCoroutine(login(self.network.clock, self.network.endpoint(server), account="ann"))
        self.network.settle()
        (peer,) = server.peers
        seed = GENERATIONS["seed"]
        peer.send(seed.encode(ProtocolVersion(628)))
        peer.send(seed.encode(HandshakeChallenge(b"salt", rounds=100)))
        peer.send(b"\x01\x06\x01\x07\x00" + Frame(9, b"x").encode())
        session = self.successResultOf(dialled)
        self.assertEqual((session.client_id, [frame.id for frame in session._frames]), (7, [9]))
        session.leave()
        peer.close()


class LoginTests(Scene):
    """Logins that come to nothing."""

    def dial_raw(self, **settings: Any) -> tuple[Deferred[StarboundSession], Any]:
        """A client, and the server that a test speaks as."""
        server = self.network.raw_server()
        options = StarboundClientSettings(**settings)
        dialled = Deferred.fromCoroutine(
            login(self.network.clock, self.network.endpoint(server), account="ann", password=b"x", settings=options)
        )
        self.network.settle()
        return dialled, server.peers[0]

    def test_refusals(self) -> None:
        """Each way to say no is an exception of its own."""
        for words, kind in (
            ("No such account or incorrect password", WrongCredentials),
            ("No such account 'ann' or incorrect password", WrongCredentials),
            ("You are banned: spam", Banned),
            ("The server is full", ServerFull),
            ("Max player connections", ServerFull),
            ("This server requires an account", AccountRequired),
            ("Anonymous connections disallowed", AccountRequired),
            ("Duplicate player UUID", DuplicatePlayer),
            ("Not today", LoginRefused),
        ):
            found = refusal(ConnectionEnded(Outcome.REFUSED, f"the server refuses: {words}"))
            self.assertIs(type(found), kind)
            self.assertIn(words, str(found))
        ended = ConnectionEnded(Outcome.MALFORMED, "nonsense about no such account")
        self.assertIs(refusal(ended), ended)

    def test_wrong_version(self) -> None:
        """SB-2: a server of another version is told apart clearly."""
        dialled, peer = self.dial_raw()
        peer.send(GENERATIONS["seed"].encode(ProtocolVersion(600)))
        failure = self.failureResultOf(dialled, LoginRefused)
        self.assertIn("the server speaks version 600, we speak 628", str(failure.value))
        self.assertEqual(peer.received, b"")
        peer.close()

    def test_rounds(self) -> None:
        """SB-4: too few and too many rounds are refused, not hashed."""
        for rounds, said in ((99, "Not Enough Rounds"), (100_001, "more than max_rounds"), (-1, "Not Enough Rounds")):
            dialled, peer = self.dial_raw()
            peer.send(GENERATIONS["seed"].encode(ProtocolVersion(628)))
            peer.send(GENERATIONS["seed"].encode(HandshakeChallenge(b"salt", rounds=rounds)))
            self.assertIn(said, str(self.failureResultOf(dialled, LoginRefused).value))
            peer.close()

    def test_server_goes_away(self) -> None:
        dialled, peer = self.dial_raw()
        peer.close()
        self.failureResultOf(dialled, ConnectionEnded)

    def test_cancelled(self) -> None:
        """Cancelling hangs up, also in the middle of hashing."""
        dialled, peer = self.dial_raw()
        peer.send(GENERATIONS["seed"].encode(ProtocolVersion(628)))
        dialled.cancel()
        self.failureResultOf(dialled)
        self.network.advance(15)
        self.assertTrue(peer.finished)
        peer.close()

    def test_deadline(self) -> None:
        """COM-1: a server that says nothing is given up."""
        dialled, peer = self.dial_raw(handshake_timeout=5.0)
        self.network.advance(6)
        self.assertIn("said nothing in time", str(self.failureResultOf(dialled, ConnectionEnded).value))
        peer.close()

    def test_urls(self) -> None:
        server = parse_starbound_url("starbound://ann%20b@play.example?generation=opensb&name=Bob")
        self.assertEqual((server.username, server.host, server.port), ("ann b", "play.example", 21025))
        self.assertEqual((server.settings.generation, server.settings.name), ("opensb", "Bob"))
        for url in ("starbound://ann:secret@host", "starbound://host?generation=2", "lekt://host"):
            failure = self.failureResultOf(Deferred.fromCoroutine(login(self.network.clock, url)), URLError)
            self.assertNotIn("secret", str(failure.value))

    def test_player(self) -> None:
        settings = StarboundClientSettings(uuid="00112233-4455-6677-8899-aabbccddeeff", digest="aabb", name="Bob")
        player = make_player(settings, "ann")
        self.assertEqual(player.uuid, bytes.fromhex("00112233445566778899aabbccddeeff"))
        self.assertEqual((player.asset_digest, player.name, player.account), (b"\xaa\xbb", "Bob", "ann"))
        self.assertNotEqual(make_player(StarboundClientSettings()).uuid, make_player(StarboundClientSettings()).uuid)


class PluginTests(SynchronousTestCase):
    def test_interface(self) -> None:
        verifyObject(IProtocol, plugin)

    def test_demonstration(self) -> None:
        """One listener for each generation, 21025 to 21030."""
        tables = plugin.demonstration()
        self.assertEqual(
            [(table["listen"], table["generation"]) for table in tables],
            [(f"tcp:{21025 + n}:interface=127.0.0.1", name) for n, name in enumerate(GENERATIONS)],
        )


class LoopbackTests(TestCase):
    """With real sockets, a real directory and threads: each family of generations."""

    timeout = 60

    def setUp(self) -> None:
        self.place = Place(self)
        with self.place.open() as database:
            database.accounts.add("Ann", PASSWORD.decode(), schemes=["sealed-sha256", "sealed-password"], by="test")
            database.accounts.add("Eve", "sesame", schemes=["sealed-sha256", "sealed-password"], by="test")
            database.bans.add("account", "eve", reason="spam", by="test")

    async def start(self, *settings: StarboundSettings) -> list[int]:
        """A daemon; where its listeners are."""
        directory = DirectorySettings(url=f"sqlite:///{self.place.path()}", key_file=self.place.key_file().path)
        daemon = Daemon.from_settings(settings, directory=directory)
        daemon.startService()
        self.addCleanup(daemon.stopService)
        assert daemon.directory is not None
        await daemon.directory.ready()
        return [listener.faces[0].port for listener in daemon.listeners]

    async def steps(self, url: str) -> list[str]:
        """What a probe tells."""
        steps: list[str] = []
        await plugin.probe(url, lambda step, detail: steps.append(step), reactor, password=PASSWORD)
        return steps

    async def refused(self, kind: type[Exception], url: str, password: bytes | None = None) -> None:
        try:
            session = await plugin.connect(url, reactor, password=password)
        except kind:
            return
        await session.leave()
        self.fail(f"{url} was let in")

    async def test_families(self) -> None:
        """Right, wrong, unknown, banned, full, anonymous and twice: each clear from the client's side."""
        uuid = "00112233445566778899aabbccddeeff"
        for generation in ("seed", "enraged-koala", "1.4", "opensb"):
            here = "tcp:0:interface=127.0.0.1"
            (port,) = await self.start(StarboundSettings(listen=here, generation=generation, max_sessions=2))
            place, query = f"127.0.0.1:{port}", f"?generation={generation}"
            first = await plugin.connect(f"starbound://ann@{place}{query}&uuid={uuid}", reactor, password=PASSWORD)
            self.assertEqual((first.client_id, first.generation), (1, generation))
            await self.refused(WrongCredentials, f"starbound://ann@{place}{query}", b"wrong")
            await self.refused(WrongCredentials, f"starbound://nobody@{place}{query}", PASSWORD)
            await self.refused(Banned, f"starbound://eve@{place}{query}", b"sesame")
            await self.refused(AccountRequired, f"starbound://{place}{query}")
            await self.refused(DuplicatePlayer, f"starbound://ann@{place}{query}&uuid={uuid}", PASSWORD)
            second = await plugin.connect(f"starbound://ann@{place}{query}", reactor, password=PASSWORD)
            self.assertEqual(second.client_id, 2)
            await self.refused(ServerFull, f"starbound://ann@{place}{query}", PASSWORD)
            for session in (first, second):
                await session.leave()
            steps = await self.steps(f"starbound://ann@{place}{query}")
            self.assertEqual((steps[0], steps[-2:]), ("connect", ["accepted", "closed"]))
            self.assertEqual("ProtocolVersion" in steps, generation in SERVER_FIRST)
