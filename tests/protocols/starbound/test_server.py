"""The listener and its clients, in every generation (SB-5 to SB-10, SB-20, SB-23)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from connectd.interfaces import IListenerService
from connectd.net.client import ConnectionEnded
from connectd.protocols.starbound.client import (
    AccountRequired,
    Banned,
    DuplicatePlayer,
    LoginRefused,
    ServerFull,
    WrongCredentials,
)
from connectd.protocols.starbound.generations import GENERATIONS
from connectd.protocols.starbound.packets import ClientConnect, HandshakeResponse
from connectd.protocols.starbound.server import StarboundListener
from connectd.protocols.starbound.settings import StarboundSettings
from connectd.protocols.starbound.variant import EncodedVariant
from connectd.testing import RecordingHandler
from tests.ops.recording import record_log
from tests.protocols.starbound.scene import ALL, CLIENT_FIRST, SERVER_FIRST, Scene
from tests.toy import ToySettings

HEX = "00112233445566778899aabbccddeeff"


class LoginTests(Scene):
    """Who has an account, and proves it, comes in; who does not hears why."""

    def test_interface(self) -> None:
        """It is what the daemon expects of every listener."""
        verifyObject(IListenerService, self.serve())

    def test_right_password(self) -> None:
        """SB-3, SB-20: in every generation the right password lets its account in, by the name that is stored."""
        for generation in ALL:
            listener = self.serve(generation)
            session = self.enter(listener, generation, uuid=HEX, name="Bob\N{SNOWMAN}", species="glitch")
            self.assertEqual((session.client_id, session.generation), (1, generation))
            (accepted,) = self.network.recorder.named("accepted")[-1:]
            self.assertEqual(
                {name: accepted[name] for name in ("player", "species", "uuid", "client_id", "generation")},
                {
                    "player": "Bob\N{SNOWMAN}",
                    "species": "glitch",
                    "uuid": HEX,
                    "client_id": 1,
                    "generation": generation,
                },
            )
            (inside,) = self.network.context.sessions
            self.assertEqual(inside.account, "Ann")
            session.leave()
            self.network.settle()
            self.assertEqual((self.last_outcome, len(self.network.context.sessions)), ("left", 0))

    def test_spelling(self) -> None:
        """The hash is over the account as the client spells it; which account it is, the directory says."""
        for generation in ("seed", "1.4"):
            listener = self.serve(generation)
            self.enter(listener, generation, account="ANN").leave()

    def test_wrong_password(self) -> None:
        """COM-10, SB-9, SB-23: an unknown account and a wrong password are the same refusal, after the same work."""
        for generation in ALL:
            listener = self.serve(generation)
            work = []
            jobs = self.count_jobs(listener)
            for account, password in (("ann", b"wrong"), ("nobody", b"swordfish"), ("x" * 200, b"a"), ("ann", None)):
                before = self.directory.secrets
                jobs.clear()
                told = self.refused(WrongCredentials, listener, generation, account=account, password=password)
                name = f" '{account[:64]}'" if generation in CLIENT_FIRST else ""
                self.assertIn("No such account", told)
                self.assertIn("or incorrect password", told)
                self.assertIn(name[:40], told)
                self.assertEqual(self.last_outcome, "refused")
                work.append((self.directory.secrets - before, len(jobs)))
            self.assertEqual(work, [(1, int(generation in SERVER_FIRST))] * 4)

    def count_jobs(self, listener: StarboundListener) -> list[Any]:
        """What is hashed in slices from now on."""
        jobs: list[Any] = []
        run = listener.slices.run

        def counted(steps: Any) -> Any:
            jobs.append(steps)
            return run(steps)

        self.patch(listener.slices, "run", counted)
        return jobs

    def test_operators_do_not_see_what_was_typed_as_account(self) -> None:
        """COM-9: people confuse the fields, so a failed login tells nobody but its client what it was for."""
        logged = record_log(self)
        for generation in ALL:
            self.refused(WrongCredentials, self.serve(generation), generation, account="xyzzy-secret", password=b"a")
        self.assertNotIn("xyzzy", str(self.network.recorder.events) + str(logged))

    def test_account_without_verifier(self) -> None:
        """SB-7, SB-20: an account whose password was not kept for these generations fails as an unknown one."""
        self.directory.accounts["ann"].verifiers = ()
        for generation in ALL:
            self.refused(WrongCredentials, self.serve(generation), generation)

    def test_disabled(self) -> None:
        self.directory.accounts["ann"].disabled = True
        for generation in ALL:
            told = self.refused(LoginRefused, self.serve(generation), generation)
            self.assertIn("This account is disabled", told)
            self.refused(WrongCredentials, self.serve(generation), generation, password=b"wrong")

    def test_banned_account(self) -> None:
        """SB-9, SB-23: who is banned hears why, once it has proved who it is."""
        self.directory.bans["ann"] = "spam"
        for generation in ALL:
            listener = self.serve(generation)
            self.assertIn("You are banned: spam", self.refused(Banned, listener, generation))
            self.assertEqual(self.last_outcome, "banned")
            self.refused(WrongCredentials, listener, generation, password=b"wrong")

    def test_banned_uuid(self) -> None:
        """SB-9, SB-23: a banned player's UUID does not come in with any account."""
        self.directory.bans[UUID(HEX)] = "griefing"
        for generation in ALL:
            listener = self.serve(generation)
            self.assertIn("You are banned: griefing", self.refused(Banned, listener, generation, uuid=HEX))
            self.assertEqual(self.last_outcome, "banned")
            self.enter(listener, generation).leave()

    def test_full(self) -> None:
        """SB-9, SB-23: with max_sessions reached the next player hears so, and comes in once there is room."""
        for generation in ALL:
            listener = self.serve(generation, max_sessions=1)
            first = self.enter(listener, generation)
            told = self.refused(ServerFull, listener, generation)
            self.assertIn("The server is full" if generation in SERVER_FIRST else "Max player connections", told)
            self.assertEqual(self.last_outcome, "limited")
            first.leave()
            self.network.settle()
            self.enter(listener, generation).leave()

    def test_duplicate_uuid(self) -> None:
        """SB-23: one player is in once; after it has left, it may come again."""
        for generation in ALL:
            listener = self.serve(generation)
            first = self.enter(listener, generation, uuid=HEX)
            told = self.refused(DuplicatePlayer, listener, generation, uuid=HEX, account="bob", password=b"other")
            self.assertIn("Duplicate player UUID", told)
            self.enter(listener, generation, account="bob", password=b"other").leave()
            first.leave()
            self.network.settle()
            self.enter(listener, generation, uuid=HEX).leave()

    def test_duplicate_uuid_at_the_last_moment(self) -> None:
        """SB-10, SB-23: of two that prove themselves at the same time, one comes in."""
        listener = self.serve("seed", max_sessions=0)
        self.network.latency = 0.1
        dialled = [self.dial(listener, uuid=HEX) for _ in range(2)]
        self.network.advance(3)
        self.assertEqual(listener.session_count, 1)
        self.successResultOf(dialled[0]).leave()
        self.failureResultOf(dialled[1], DuplicatePlayer)
        self.network.advance(1)

    def test_full_at_the_last_moment(self) -> None:
        listener = self.serve("seed", max_sessions=1)
        self.network.latency = 0.1
        dialled = [self.dial(listener) for _ in range(3)]
        self.network.advance(3)
        self.assertEqual(listener.session_count, 1)
        self.successResultOf(dialled[0]).leave()
        for other in dialled[1:]:
            self.failureResultOf(other, ServerFull)
        self.network.advance(1)

    def test_no_uuid(self) -> None:
        """Where the server speaks first a player may have no UUID, and so may another."""
        listener = self.serve("seed")
        player = ClientConnect(name="Bob", species="human", account="ann")
        sessions = [self.enter(listener, player=player) for _ in range(2)]
        self.assertEqual([session.client_id for session in sessions], [1, 2])
        self.assertNotIn("uuid", self.network.recorder.named("accepted")[-1])

    def test_client_ids(self) -> None:
        """SB-10: unique among live sessions and small; of who has left, they are given anew."""
        for generation in ("seed", "opensb"):
            listener = self.serve(generation)
            sessions = [self.enter(listener, generation) for _ in range(4)]
            self.assertEqual([session.client_id for session in sessions], [1, 2, 3, 4])
            for index in (1, 2):
                sessions[index].leave()
            self.network.settle()
            self.assertEqual([self.enter(listener, generation).client_id for _ in range(3)], [2, 3, 5])

    def test_directory_is_broken(self) -> None:
        """COM-4: where nobody can say whether a player may come in, it may not."""
        record_log(self)
        self.directory.broken = True
        for generation in ALL:
            for account in ("ann", ""):
                listener = self.serve(generation, anonymous=True)
                told = self.refused(LoginRefused, listener, generation, account=account)
                self.assertIn("Accounts cannot be looked up at the moment", told)

    def test_refused_in_order(self) -> None:
        """SB-1: all five packets are exchanged for a connection that is refused from the start."""
        for generation in SERVER_FIRST:
            listener = self.serve(generation)
            peer = self.network.raw(listener)
            words = GENERATIONS[generation]
            said = []
            peer.send(words.encode(ClientConnect(name="Bob", species="human")))
            said.append(peer.take())
            self.assertNotIn(b"account", said[0])
            self.assertFalse(peer.finished)
            peer.send(words.encode(HandshakeResponse(b"anything")))
            self.assertIn(b"This server requires an account", peer.take())
            self.assertTrue(peer.finished)
            peer.close()


class AnonymousTests(Scene):
    """Players without an account (SB-6)."""

    def test_refused(self) -> None:
        """SB-6, SB-9, SB-23: not unless the configuration says so."""
        for generation in ALL:
            listener = self.serve(generation)
            told = self.refused(AccountRequired, listener, generation, account="")
            server_first = generation in SERVER_FIRST
            self.assertIn(
                "This server requires an account" if server_first else "Anonymous connections disallowed", told
            )

    def test_allowed(self) -> None:
        """SB-6: then without a password, and with an account as before."""
        for generation in ALL:
            listener = self.serve(generation, anonymous=True)
            session = self.enter(listener, generation, account="", password=None)
            (inside,) = self.network.context.sessions
            self.assertEqual((inside.account, session.client_id), ("", 1))
            session.leave()
            self.refused(WrongCredentials, listener, generation, password=b"wrong")
            self.enter(listener, generation).leave()

    def test_server_password(self) -> None:
        """SB-6: or with the server's own."""
        for generation in SERVER_FIRST:
            listener = self.serve(generation, anonymous=True, password="open sesame")
            self.enter(listener, generation, account="", password=b"open sesame").leave()
            for wrong in (b"", b"open", b"swordfish"):
                self.refused(WrongCredentials, listener, generation, account="", password=wrong)

    def test_server_password_is_guarded(self) -> None:
        """COM-11: guesses at it count as those at any password."""
        listener = self.serve(anonymous=True, password="open sesame")
        for _ in range(4):
            self.refused(WrongCredentials, listener, "seed", account="", password=b"guess", host="192.0.2.1")
        dialled = self.dial(listener, account="", password=b"guess", host="192.0.2.1")
        self.assertNoResult(dialled)
        self.network.advance(2)
        self.failureResultOf(dialled, WrongCredentials)

    def test_server_password_that_is_not_asked_for(self) -> None:
        """SB-20: where the client speaks first nobody without an account is asked, so nobody comes in unasked."""
        for generation in CLIENT_FIRST:
            listener = self.serve(generation, anonymous=True, password="open sesame")
            self.refused(AccountRequired, listener, generation, account="", password=b"open sesame")

    def test_nobody_knows_accounts(self) -> None:
        """A server for players without accounts needs no directory."""
        self.network.context.directory = None
        listener = self.serve(("seed", "1.4"), anonymous=True)
        self.enter(listener, "1.4", account="").leave()
        self.refused(WrongCredentials, listener, "1.4", account="ann")


class LaterTests(Scene):
    """What happens to those who are in, or were there first."""

    def test_objection(self) -> None:
        """COM-4: a ban that comes later ends the session of its account, UUID or address."""
        for generation in ALL:
            listener = self.serve(generation)
            session = self.enter(listener, generation, uuid=HEX, host="192.0.2.1")
            (connection,) = listener.connections
            self.assertIsNone(listener.objection(connection))
            for subject in ("ann", UUID(HEX), "192.0.2.1"):
                self.directory.bans = {subject: "enough"}
                objection = listener.objection(connection)
                assert objection is not None
                self.assertEqual((objection.outcome.value, objection.reason), ("banned", "You are banned: enough"))
            self.directory.bans = {}
            connection.session.kick("You are banned: enough")
            self.network.settle()
            assert session.ended is not None
            if generation in CLIENT_FIRST:
                self.assertIn("You are banned: enough", session.ended.reason)
            self.network.advance(3)

    def test_objection_to_a_stranger(self) -> None:
        """Who has told nothing yet can only have a banned address."""
        listener = self.serve()
        peer = self.network.raw(listener)
        (connection,) = listener.connections
        self.assertIsNone(listener.objection(connection))
        self.directory.bans = {"192.0.2.1": "enough"}
        objection = listener.objection(connection)
        assert objection is not None
        self.assertEqual(objection.reason, "You are banned: enough")
        peer.close()

    def test_reconfigured(self) -> None:
        """New settings are for connections from now on; a server's password that cannot be had changes nothing."""
        listener = self.serve("seed")
        self.enter(listener)
        changed = StarboundSettings(
            listen="", generation="1.4", anonymous=True, hashes_waiting=7, hashes_in_work=2, hash_budget=0.25
        )
        self.assertTrue(listener.reconfigure(changed))
        self.enter(listener, "1.4", account="")
        slices = listener.slices
        self.assertEqual((slices.most_waiting, slices.in_work, slices.budget), (7, 2, 0.25))
        with self.assertRaisesRegex(Exception, "starbound: password_file: .* cannot be read"):
            listener.reconfigure(StarboundSettings(listen="", password_file="/nowhere"))
        self.assertIs(listener.settings, changed)
        self.assertFalse(listener.reconfigure(ToySettings(listen="")))
        self.assertFalse(listener.reconfigure(StarboundSettings(listen="tcp:1:interface=127.0.0.1")))

    def test_drained(self) -> None:
        """COM-8: in the generations that have words for it, players are told."""
        for generation in ALL:
            listener = self.serve(generation)
            session = self.enter(listener, generation)
            listener.drain(5)
            self.network.advance(3)
            assert session.ended is not None
            self.assertEqual("Server is shutting down" in session.ended.reason, generation in CLIENT_FIRST)


class SeveralGenerationsTests(Scene):
    """One listener for all of them (SB-21)."""

    def test_all(self) -> None:
        """Clients that speak first are told apart from those that wait, by waiting for 0.3 s."""
        listener = self.serve(("furious-koala", "1.4", "opensb"))
        for generation in CLIENT_FIRST:
            self.enter(listener, generation).leave()
        waiting = self.dial(listener, "furious-koala")
        self.network.advance(0.2, 0.01)
        self.assertNoResult(waiting)
        self.network.advance(0.2, 0.01)
        self.assertEqual(self.successResultOf(waiting).generation, "furious-koala")

    def test_settable(self) -> None:
        listener = self.serve(("seed", "1.4"), generation_wait=1.0)
        waiting = self.dial(listener, "seed")
        self.network.advance(0.9, 0.01)
        self.assertNoResult(waiting)
        self.network.advance(0.4, 0.01)
        self.successResultOf(waiting)

    def test_auto(self) -> None:
        """A client that does not know either waits longer, and finds every generation."""
        for generation in (*ALL, ("seed", "1.4", "opensb")):
            listener = self.serve(generation)
            dialled = self.dial(listener, "auto")
            self.network.advance(2, 0.05)
            session = self.successResultOf(dialled)
            self.assertEqual(session.generation, "seed" if isinstance(generation, tuple) else generation)


class RushTests(Scene):
    """Many at once (SB-5, SB-8)."""

    def test_all_are_served(self) -> None:
        """SB-5: 200 players at the same moment are all served, though at most 68 can hash or wait at a time."""
        listener = self.serve("seed")
        self.network.latency = 0.05
        dialled = [self.dial(listener, host=f"192.0.2.{number}") for number in range(200)]
        self.assertEqual(listener.turnstile.waiting, 0)
        self.network.advance(0.22, 0.01)
        self.assertEqual(listener.turnstile.waiting, 200 - 68)
        self.network.advance(5)
        for one in dialled:
            self.successResultOf(one)
        self.assertEqual((listener.session_count, listener.turnstile.waiting), (200, 0))

    def test_sources_take_turns(self) -> None:
        """SB-5: who comes after many of one source waits for one of them."""
        listener = self.serve("seed")
        room = 0
        listener.turnstile._room = lambda: room
        dialled = [self.dial(listener, host=host) for host in (*3 * ("192.0.2.1",), "192.0.2.2")]
        room = 1
        listener.turnstile.look()
        self.network.advance(5)
        self.assertEqual([self.successResultOf(one).client_id for one in dialled], [1, 3, 4, 2])

    def test_too_many_wait(self) -> None:
        """SB-5: who answers when as many wait as may hears that the server is full."""
        listener = self.serve("seed", hashes_in_work=1, hashes_waiting=2)
        # Nothing is hashed before the clock moves on, and here it only does for the wires.
        self.patch(self.network.clock, "callLater", self.hold_slices(listener))
        dialled = [self.dial(listener) for _ in range(3)]
        self.assertEqual((listener.slices.working, listener.slices.waiting), (1, 2))
        # The turnstile would let nobody else to the challenge; this one had got there before.
        listener.turnstile._room = lambda: 100
        self.refused(ServerFull, listener, "seed")
        self.assertEqual(self.last_outcome, "limited")
        self.held[0].reset(0)
        self.network.settle()
        for one in dialled:
            self.successResultOf(one).leave()

    def hold_slices(self, listener: StarboundListener) -> Callable[..., Any]:
        """A callLater that keeps the first slice back."""
        clock = self.network.clock
        self.held: list[Any] = []
        later = clock.callLater

        def call_later(delay: float, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            if function == listener.slices._spend and not self.held:
                self.held.append(later(1e6, function))
                return self.held[0]
            return later(delay, function, *arguments, **options)

        return call_later

    def test_budget(self) -> None:
        """SB-5: a hash that takes more CPU time than it may lets nobody in."""
        logged = record_log(self)
        listener = self.serve("seed", rounds=100_000, hash_budget=0.001)
        self.refused(ServerFull, listener, "seed", max_rounds=100_000)
        self.assertIn("a password was not checked", str(logged))

    def test_gone_while_hashing(self) -> None:
        """SB-5: who hangs up costs no more work."""
        listener = self.serve("seed", rounds=100_000)
        self.network.latency = 0.1
        dialled = self.dial(listener)
        self.patch(self.network.clock, "callLater", self.hold_slices(listener))
        self.network.advance(1.5)
        self.assertEqual(listener.slices.working, 1)
        dialled.cancel()
        self.failureResultOf(dialled)
        self.network.advance(1.0)
        self.assertEqual((listener.slices.working, listener.turnstile.waiting), (0, 0))

    def test_memory(self) -> None:
        """SB-8: what peers hold is known after each turn, and gone when they are in or away."""
        listener = self.serve("seed")
        frame = GENERATIONS["seed"].encode(ClientConnect(name="Bob" * 300, species="human", account="ann"))
        peers = [self.network.raw(listener, host=f"192.0.2.{number}") for number in range(1, 4)]
        for peer in peers:
            peer.send(frame[:500])
        self.assertGreaterEqual(listener.memory.total, 1200)
        self.assertEqual(listener.memory.total, sum(one.machine.held for one in listener.connections))
        session = self.enter(listener)
        for peer in peers:
            peer.close()
        self.assertEqual((listener.memory.total, len(listener.memory)), (0, 0))
        session.leave()

    def test_what_is_said_besides_the_ship(self) -> None:
        """SB-5, SB-8: all of it is little, and counts until the player is in: an account of megabytes would be hashed
        thousands of times."""
        for generation in ALL:
            listener = self.serve(generation, client_connect_limit=1 << 20)
            for large in ("account", "name", "species"):
                texts: dict[str, Any] = {"name": "Bob", "species": "human", "account": "ann", large: "x" * 66_000}
                player = ClientConnect(uuid=bytes(16), **texts)
                self.refused(ConnectionEnded, listener, generation, player=player)
                self.assertEqual(self.last_outcome, "malformed")
            if generation in SERVER_FIRST:
                peer = self.network.raw(listener)
                player = ClientConnect(claim=EncodedVariant.of("x" * 60_000), species="human", account="ann")
                peer.send(GENERATIONS[generation].encode(player))
                self.assertGreaterEqual(listener.memory.total, 60_000)
                peer.close()
                self.assertEqual(listener.memory.total, 0)

    def test_newest_is_limited(self) -> None:
        """SB-8: the newest of the source that holds most goes; who came from elsewhere, and those inside, stay."""
        self.network.handlers["ships"] = RecordingHandler(wants=["shipworld"])
        listener = self.serve("seed", login_memory=200_000, handler="ships")
        inside = self.enter(listener)
        frame = GENERATIONS["seed"].encode(
            ClientConnect(name="Bob", species="human", shipworld=bytes(300_000), account="ann")
        )
        first, second, third = (self.network.raw(listener, host=f"192.0.2.{number}") for number in (7, 7, 9))
        first.send(frame[:90_000])
        second.send(frame[:90_000])
        third.send(frame[:9])
        self.assertEqual(self.network.recorder.outcomes, [])
        self.assertLessEqual(listener.memory.total, 200_000)
        first.send(frame[90_000:150_000])
        self.assertEqual(self.network.recorder.outcomes[0], "limited")
        self.assertTrue(second.finished)
        self.assertFalse(first.finished)
        self.assertIsNone(inside.ended)
        self.assertIn("hold too much memory", self.network.recorder.named("ended")[0]["reason"])
        for peer in (first, second, third):
            peer.reset()

    def test_ships_on_disk(self) -> None:
        """SB-8: what goes to temporary files before login has a bound too, which gives way as memory does; the ships of
        those inside do not count."""
        self.network.handlers["ships"] = RecordingHandler(wants=["shipworld"])
        listener = self.serve("seed", spool_limit=2_000_000, handler="ships")
        who = ClientConnect(name="Bob", species="human", shipworld=bytes(1_500_000), account="ann")
        inside = self.enter(listener, player=who)
        self.assertEqual((listener.stored.total, len(listener.stored)), (0, 0))
        frame = GENERATIONS["seed"].encode(who)
        first, second, third = (self.network.raw(listener, host=f"192.0.2.{number}") for number in (7, 7, 9))
        for peer, count in ((first, 900_000), (second, 600_000), (third, 300_000)):
            peer.send(frame[:count])
        self.network.settle()
        self.assertEqual(self.network.recorder.outcomes, [])
        self.assertTrue(1_700_000 < listener.stored.total <= 1_800_000)
        third.send(frame[300_000:700_000])
        self.network.settle()
        self.assertEqual(self.network.recorder.outcomes, ["limited"])
        self.assertEqual((first.finished, second.finished, third.finished), (False, True, False))
        self.assertIn("take up too much space", self.network.recorder.named("ended")[0]["reason"])
        self.assertIsNone(inside.ended)
        for peer in (first, second, third):
            peer.reset()
        self.network.settle()
        self.assertEqual((listener.stored.total, len(listener.stored)), (0, 0))


class ShipTests(Scene):
    """The ship, for a handler that wants it (SB-8)."""

    def connect(self, handler: RecordingHandler, generation: str, ship: bytes) -> StarboundSettings:
        self.network.handlers["ships"] = handler
        listener = self.serve(generation, handler="ships")
        if generation in SERVER_FIRST:
            player = ClientConnect(name="Bob", species="human", account="ann", shipworld=ship)
        else:
            player = ClientConnect(
                name="Bob",
                species="human",
                account="ann",
                uuid=bytes(16),
                world_chunks=((b"key", ship), (b"gone", None)),
            )
        self.session = self.enter(listener, generation, player=player)
        return listener.settings

    def test_dropped(self) -> None:
        """SB-8: a ship that nobody wants is dropped while it is parsed."""
        for generation in ALL:
            handler = RecordingHandler()
            self.connect(handler, generation, bytes(600_000))
            self.assertEqual(dict(handler.sessions[0].wanted), {})

    def test_wanted(self) -> None:
        """SB-8: a handler that says "shipworld" finds it in the session, in a file above 256 KiB, until the end."""
        for generation in ALL:
            for size in (1000, 300_000):
                handler = RecordingHandler(wants=["shipworld"])
                ship = b"SBBF01" + bytes(size)
                self.connect(handler, generation, ship)
                spool = handler.sessions[0].wanted["shipworld"]
                self.assertEqual(spool.in_file, size == 300_000)
                found = b""
                while piece := self.successResultOf(spool.read(len(found))):
                    found += piece
                if generation in SERVER_FIRST:
                    self.assertEqual(found, ship)
                else:
                    self.assertEqual(len(found), spool.size)
                    self.assertTrue(found.startswith(b"\x02\x03key\x01"))
                    self.assertTrue(found.endswith(ship + b"\x04gone\x00"))
                self.session.leave()
                self.network.settle()
                self.failureResultOf(spool.read(), ValueError)

    def test_slow_disk(self) -> None:
        """SB-8: while the disk is slow the client waits, and nothing piles up."""
        handler = RecordingHandler(wants=["shipworld"])
        self.network.handlers["ships"] = handler
        listener = self.serve("seed", handler="ships")
        jobs: list[Deferred[None]] = []

        def later(function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
            job: Deferred[None] = Deferred()
            jobs.append(job)
            return job.addCallback(lambda result: function(*arguments))

        listener.in_thread = later
        player = ClientConnect(name="Bob", species="human", account="ann", shipworld=bytes(2_000_000))
        dialled = self.dial(listener, player=player)
        (connection,) = listener.connections
        self.assertNoResult(dialled)
        turns = 0
        while jobs:
            turns += 1
            self.assertLess(listener.memory.total, 1_200_000)
            jobs.pop(0).callback(None)
            self.network.settle()
        self.assertGreater(turns, 0)
        self.successResultOf(dialled).leave()
        self.network.settle()
        while jobs:
            jobs.pop(0).callback(None)
        self.assertTrue(connection.ended)

    def test_no_place(self) -> None:
        """SB-8: where the handler wants ships and there is no place for them, that is told at the start."""
        logged = record_log(self)
        self.network.handlers["ships"] = RecordingHandler(wants=["shipworld"])
        self.serve("seed", spool_directory="/nowhere/at/all")
        self.assertEqual(logged, [])
        self.serve("seed", handler="ships")
        self.assertEqual(logged, [])
        self.serve("seed", handler="ships", spool_directory="/nowhere/at/all")
        self.assertEqual(len(logged), 1)
        self.assertIn("spool_directory: ships cannot be kept in /nowhere/at/all: No such file", str(logged))

    def test_disk_is_full(self) -> None:
        """Then the player is not let in, and the operator hears what to do."""
        logged = record_log(self)
        handler = RecordingHandler(wants=["shipworld"])
        self.network.handlers["ships"] = handler
        listener = self.serve("seed", handler="ships", spool_directory="/nowhere/at/all")
        player = ClientConnect(name="Bob", species="human", account="ann", shipworld=bytes(300_000))
        self.refused(ConnectionEnded, listener, "seed", player=player)
        self.assertIn("spool_directory names another place", str(logged))
        self.assertEqual(self.last_outcome, "refused")
