"""Tests of the listener and the client over QUIC, in memory: who comes in, who does not, and what becomes of them."""

from __future__ import annotations

import os
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from connectd.admission import AdmissionLimits
from connectd.credentials import CredentialsError
from connectd.directory.errors import DatabaseError
from connectd.net.quic import Identity
from connectd.protocols.alloy import client as client_module
from connectd.protocols.alloy import packets as alloy
from connectd.protocols.alloy.asset_reader import AssetReader
from connectd.protocols.alloy.client import uuid_of
from connectd.protocols.alloy.client_machine import make_connect
from connectd.protocols.alloy.fields import HostAddress
from connectd.protocols.alloy.packets import GamePacket
from connectd.protocols.alloy.server import AlloyListener
from connectd.protocols.alloy.states import ConnectionState
from connectd.sansio import Outcome
from connectd.testing import Network, RecordingHandler
from tests.protocols.alloy.scene import (
    Player,
    Scene,
    certificate,
    certificate_file,
    listener_settings,
    write_assets,
)


class Bans:
    """A directory that knows bans, as far as a listener asks."""

    def __init__(self) -> None:
        self.uuids: dict[UUID, str] = {}
        self.accounts: dict[str, str] = {}
        self.addresses: dict[str, str] = {}
        self.broken = False

    def _look(self, found: str | None) -> str | None:
        if self.broken:
            raise DatabaseError("the disk is gone")
        return found

    def is_proven(self, protocol: str, name: str) -> bool:
        return False

    def match_uuid(self, uuid: UUID) -> str | None:
        return self._look(self.uuids.get(uuid))

    def match_account(self, name: str) -> str | None:
        return self._look(self.accounts.get(name))

    def match_address(self, host: str) -> str | None:
        return self._look(self.addresses.get(host))


class LoginTests(SynchronousTestCase):
    def test_in(self) -> None:
        """AL-1, AL-8: by password into PLAY, every state seen on both sides."""
        scene = Scene()
        player = scene.join()
        self.assertIs(player.result, True)
        self.assertEqual(player.states, ["CONNECTING", "HANDSHAKING", "AUTHENTICATING", "PLAY"])
        states = scene.listener.states()
        self.assertEqual(states[ConnectionState.PLAY], 1)
        self.assertEqual(sum(states.values()), 1)
        (session,) = scene.network.context.sessions
        self.assertEqual(
            session.identity,
            {"uuid": str(uuid_of("ann")), "username": "ann", "verified": False, "profile": "hytale/1"},
        )
        self.assertEqual(session.account, "")
        scene.stop(player)
        self.assertEqual(player.states[-2:], ["DISCONNECTING", "DISCONNECTED"])
        self.assertEqual(scene.outcomes, ["left"])

    def test_second_profile(self) -> None:
        """AL-3, AL-15: both profiles are offered at once, and ALPN settles which it is."""
        scene = Scene()
        first, second = scene.join(), scene.join("ben", profile="hytale/2")
        self.assertTrue(first.playing)
        self.assertTrue(second.playing)
        profiles = sorted(session.identity["profile"] for session in scene.network.context.sessions)
        self.assertEqual(profiles, ["hytale/1", "hytale/2"])
        scene.stop(first, second)

    def test_other_protocols(self) -> None:
        """AL-3: what is not spoken here fails the QUIC handshake."""
        scene = Scene(profiles=("hytale/1",))
        player = scene.join(profile="hytale/2")
        self.assertIsInstance(player.result, Exception)
        self.assertEqual(player.states, ["CONNECTING", "DISCONNECTED"])
        self.assertEqual(scene.outcomes, ["malformed"])
        scene.stop()

    def test_world(self) -> None:
        """AL-9: the world with its assets, in both orders; what is in the directory is named by its path in it."""
        contents = {"b.txt": b"hello", "deep/er/a.bin": bytes(300_000), "empty": b""}
        for order in ("seed", "observed"):
            scene = Scene(assets=write_assets(contents), order=order, world_height=7)
            player = scene.join(order=order)
            entered = player.client.when_entered()
            scene.network.advance(1)
            self.successResultOf(entered)
            self.assertEqual(player.assets, {name: len(content) for name, content in contents.items()})
            self.assertEqual(player.client.client_id, 1)
            scene.stop(player)

    def test_nothing_is_fetched(self) -> None:
        """AL-9: a client that has everything asks for nothing."""
        scene = Scene(assets=write_assets({"a": b"x"}))
        player = scene.join(fetch_assets=False)
        self.successResultOf(player.client.when_entered())
        self.assertEqual(player.assets, {})
        scene.stop(player)

    def test_more_than_flows_at_once(self) -> None:
        """COM-6: assets wait until the client takes them, and pings go on meanwhile (AL-14)."""
        scene = Scene(assets=write_assets({"big": os.urandom(6_000_000)}))
        player = scene.join(seconds=0)
        held: list[int] = []
        for _ in range(400):
            scene.network.advance(0.01)
            held.extend(len(connection.machine._output) for connection in scene.listener.connections)
            if player.assets:
                break
        self.assertEqual(player.assets, {"big": 6_000_000})
        self.assertLessEqual(max(held), 2)
        scene.stop(player)

    def test_kicked_during_a_transfer(self) -> None:
        """COM-7: the transfer goes with the session."""
        scene = Scene(assets=write_assets({"big": os.urandom(3_000_000)}))
        scene.network.datagrams.latency = 0.01
        player = scene.join(seconds=0.15)
        self.assertEqual(player.assets, {})
        (session,) = scene.network.context.sessions
        session.kick("enough")
        scene.network.advance(5)
        self.assertIn("enough", player.reason)
        self.assertEqual(scene.outcomes, ["kicked"])
        scene.stop()

    def test_an_asset_that_is_not_what_it_says(self) -> None:
        """AL-10: a client believes the hash, not the server."""
        scene = Scene(assets=write_assets({"a": b"hello"}))
        original = AssetReader.read

        def lying(reader: AssetReader) -> tuple[bytes, int]:
            original(reader)
            return alloy.AssetPart(b"hullo").encode(), 5

        self.patch(AssetReader, "read", lying)
        player = scene.join()
        self.assertIn("not what its hash says", player.reason)
        self.assertEqual(player.assets, {})
        scene.stop()


class PasswordTests(SynchronousTestCase):
    def test_wrong(self) -> None:
        """AL-8: wrong is wrong, and a client does not say the same wrong thing twice."""
        scene = Scene()
        player = scene.join(password=b"wrong")
        self.assertIn("password", str(player.result))
        self.assertEqual(scene.outcomes, ["aborted"])
        scene.stop()

    def test_three_times(self) -> None:
        """AL-8: three failures and a Disconnect; each answer is another try of one connection."""
        scene = Scene()
        asked: list[int | None] = []

        def ask(remaining: int | None) -> Deferred[bytes]:
            asked.append(remaining)
            return succeed(b"wrong")

        player = scene.join(password=ask)
        self.assertEqual(asked, [None, 2, 1])
        self.assertEqual(str(player.result), "the server disconnected: Wrong password")
        self.assertEqual(scene.outcomes, ["refused"])
        scene.stop()

    def test_right_in_the_end(self) -> None:
        """AL-8: the second try may be right."""
        scene = Scene()
        player = scene.join(password=lambda remaining: succeed(b"no" if remaining is None else b"swordfish"))
        self.assertTrue(player.playing)
        scene.stop(player)

    def test_none_given(self) -> None:
        scene = Scene()
        player = scene.join(password=None)
        self.assertIn("none was given", str(player.result))
        scene.stop()

    def test_none_configured(self) -> None:
        """AL-8: a server without a password is for those with an account."""
        scene = Scene(password="")
        player = scene.join()
        self.assertEqual(str(player.result), "the server disconnected: This server requires an account")
        self.assertEqual(scene.outcomes, ["refused"])
        scene.stop()

    def test_tokens_are_refused(self) -> None:
        """AL-5, AL-13: a token that nobody can verify lets nobody in, though there is a password."""
        scene = Scene()
        player = Player(scene.network.clock)
        self.patch(
            client_module,
            "make_connect",
            lambda settings, name, uuid, identity_token: make_connect(settings, name, uuid, identity_token="jwt"),
        )
        player.connect(scene.network.quic_endpoint(scene.listener, scene.parameters()))
        scene.network.advance(0.2)
        self.assertEqual(str(player.result), "the server disconnected: This server takes no accounts")
        self.assertEqual(scene.outcomes, ["refused"])
        scene.stop()

    def test_a_file(self) -> None:
        """AL-8: the password may be in a file of its own, UTF-8, without its line ending."""
        path = os.path.join(write_assets({}), "password")
        with open(path, "wb") as file:
            file.write("pässword\n".encode())
        os.chmod(path, 0o600)
        scene = Scene(password="", password_file=path)
        player = scene.join(password="pässword".encode())
        self.assertTrue(player.playing)
        scene.stop(player)

    def test_guesses_count_together(self) -> None:
        """COM-11: it is one password, whoever guesses claims to be: from the 5th failure on, answers are delayed."""
        scene = Scene(password_attempts=1)
        for number in range(4):
            player = scene.join(f"guest{number}", password=lambda remaining: succeed(b"wrong"))
            self.assertIn("Wrong password", player.reason)
        player = scene.join("guest5", password=lambda remaining: succeed(b"wrong"))
        self.assertIsNone(player.result)
        scene.network.advance(0.5)
        self.assertIsNone(player.result)
        scene.network.advance(0.5)
        self.assertIn("Wrong password", player.reason)
        # Who knows it waits as long, and is let in.
        player = scene.join("right")
        self.assertIsNone(player.result)
        scene.network.advance(2)
        self.assertIs(player.result, True)
        scene.stop(player)

    def test_longest_delay(self) -> None:
        """COM-11, AL-14: an answer that waits 30 s does not run into the deadline of a step."""
        scene = Scene(password_attempts=20)
        answers: list[int | None] = []

        def ask(remaining: int | None) -> Deferred[bytes]:
            answers.append(remaining)
            return succeed(b"wrong")

        player = scene.join(password=ask, authentication_timeout=100, handshake_timeout=300)
        scene.network.advance(1 + 2 + 4 + 8 + 16 + 30)
        self.assertEqual(len(answers), 11)
        self.assertEqual(scene.outcomes, [])
        # The 90 s in all are what ends it.
        scene.network.advance(30)
        self.assertEqual(scene.outcomes, ["timeout"])
        self.assertIn("The login took too long", player.reason)
        scene.stop()

    def test_shut_out(self) -> None:
        """COM-11, COM-10: at the limit the source's proofs are not looked at, and the answer is the same."""
        limits = AdmissionLimits(connection_rate=0, connections_per_source=0, failures_per_source=3)
        scene = Scene({"limits": limits})
        player = scene.join(password=lambda remaining: succeed(b"wrong"))
        self.assertEqual(player.reason, "the server disconnected: Wrong password")
        player = scene.join()
        self.assertIn("password", player.reason)
        self.assertFalse(player.playing)
        other = scene.join(host="192.0.2.77")
        self.assertTrue(other.playing)
        scene.stop(other)

    def test_secrets(self) -> None:
        """COM-9: neither the password, nor a hash or challenge of it, is in an event or a repr."""
        scene = Scene()
        player = scene.join()
        scene.join("eve", password=lambda remaining: succeed(b"sword5ish"))
        text = repr(scene.network.recorder.events) + repr(scene.listener.settings) + repr(player.client.settings)
        for secret in ("swordfish", "sword5ish"):
            self.assertNotIn(secret, text)
        scene.stop(player)


class WhoMayTests(SynchronousTestCase):
    def test_live_uuid(self) -> None:
        """AL-8: a second session for a live UUID is refused, after its proof; who has left is no longer live."""
        scene = Scene()
        first = scene.join()
        second = scene.join(host="192.0.2.2")
        self.assertEqual(str(second.result), "the server disconnected: Already connected")
        self.assertTrue(first.playing)
        third = scene.join(host="192.0.2.2", password=lambda remaining: succeed(b"wrong"))
        self.assertIn("Wrong password", third.reason)
        first.client.hang_up()
        scene.network.advance(0.2)
        again = scene.join(host="192.0.2.2")
        self.assertTrue(again.playing)
        other = scene.join("ben")
        self.assertTrue(other.playing)
        scene.stop(again, other)

    def test_at_the_same_time(self) -> None:
        """AL-8: of two that prove themselves at once, one comes in."""
        scene = Scene()
        one, two = scene.join(seconds=0), scene.join(seconds=0)
        scene.network.advance(1)
        self.assertEqual([one.playing, two.playing].count(True), 1)
        self.assertEqual(len(scene.network.context.sessions), 1)
        scene.stop(one, two)

    def test_full(self) -> None:
        """COM-4: as many sessions as max_sessions says."""
        scene = Scene(max_sessions=1)
        first = scene.join()
        second = scene.join("ben")
        self.assertEqual(str(second.result), "the server disconnected: The server is full")
        self.assertEqual(scene.outcomes, ["limited"])
        scene.stop(first)

    def test_banned(self) -> None:
        """COM-4: UUIDs and user names are banned after the proof, in words; and while they are there."""
        bans = Bans()
        bans.uuids[uuid_of("ann")] = "spam"
        bans.accounts["ben"] = "worse"
        scene = Scene({"directory": bans})
        for name, told in (("ann", "banned: spam"), ("ben", "banned: worse")):
            player = scene.join(name)
            self.assertIn(told, str(player.result))
        wrong = scene.join("ann", password=lambda remaining: succeed(b"wrong"))
        self.assertIn("Wrong password", wrong.reason)
        self.assertEqual(scene.outcomes, ["banned", "banned", "refused"])
        carl = scene.join("carl")
        (connection,) = [one for one in scene.listener.connections if one.session]
        self.assertIsNone(scene.listener.objection(connection))
        for table, key in ((bans.uuids, uuid_of("carl")), (bans.accounts, "carl"), (bans.addresses, "192.0.2.1")):
            table[key] = "now"  # type: ignore[index]  # each has its own keys
            objection = scene.listener.objection(connection)
            assert objection is not None
            self.assertEqual(objection.outcome, Outcome.BANNED)
            self.assertIn("banned: now", objection.reason)
            table.clear()
        scene.stop(carl)

    def test_nobody_can_say(self) -> None:
        """COM-4: where bans cannot be looked up, nobody comes in."""
        bans = Bans()
        scene = Scene({"directory": bans})
        bans.broken = True
        player = scene.join()
        self.assertFalse(player.playing)
        self.assertIn("cannot be looked up", player.reason)
        self.flushLoggedErrors()
        scene.stop()

    def test_reserved(self) -> None:
        """AL-8: what belongs to somebody who has logged in by token is nobody else's."""
        scene = Scene()
        self.patch(scene.listener.verified_players, "is_taken", lambda uuid, username: username == "ann")
        player = scene.join()
        self.assertIn("belongs to a player with an account", str(player.result))
        other = scene.join("ben")
        self.assertTrue(other.playing)
        scene.stop(other)

    def test_incompatible(self) -> None:
        """AL-4: who speaks another version is told so."""
        scene = Scene(protocol_hashes=("f" * 64,))
        player = scene.join()
        self.assertEqual(str(player.result), "the server disconnected: Incompatible protocol")
        other = scene.join(protocol_hash="f" * 64)
        self.assertTrue(other.playing)
        scene.stop(other)

    def test_client_certificates(self) -> None:
        """AL-7: everybody is asked for one; whether it has to come is settable."""
        mine = Identity.from_pem(certificate(1))
        for required in (False, True):
            scene = Scene(require_client_certificate=required)
            with_one = scene.join("ann", quic={"identity": mine})
            self.assertTrue(with_one.playing)
            (connection,) = scene.listener.connections
            self.assertEqual(connection.transport.handshake.peer_certificate, mine.certificate)
            without = scene.join("ben")
            self.assertEqual(without.playing, not required)
            if required:
                self.assertEqual(scene.outcomes, ["refused"])
            scene.stop(with_one, without)


class EndTests(SynchronousTestCase):
    def test_drain(self) -> None:
        """COM-8: everybody is told, in words."""
        scene = Scene()
        player = scene.join()
        done = scene.listener.drain(10)
        scene.network.advance(3)
        self.successResultOf(done)
        self.assertEqual(player.reason, "the server disconnected: Server is shutting down")
        self.assertEqual(scene.outcomes, ["shutdown"])
        self.assertEqual(player.states[-1], "DISCONNECTED")
        scene.stop()

    def test_silent_client(self) -> None:
        """AL-14: who vanishes is pinged, and gone after 60 s."""
        scene = Scene(idle_timeout=600)
        player = scene.join()
        scene.network.advance(65)
        self.assertTrue(player.playing)
        self.assertGreaterEqual(player.packets.count("Ping"), 6)
        scene.network.datagrams.loss = 1.0
        scene.network.advance(75)
        self.assertEqual(scene.outcomes, ["timeout"])
        scene.stop()

    def test_vanished_before_play(self) -> None:
        """AL-14: a client that says nothing is ended after 15 s, and holds nothing."""
        scene = Scene()
        asked: Deferred[bytes] = Deferred()
        player = scene.join(password=lambda remaining: asked)
        self.assertEqual(scene.listener.states()[ConnectionState.AUTHENTICATING], 1)
        scene.network.advance(31)
        self.assertIn("The password took too long", player.reason)
        self.assertEqual(scene.outcomes, ["timeout"])
        scene.stop()

    def test_stalled_in_quic(self) -> None:
        """AL-14: the 15 s of a Connect count from the first packet, so that QUIC's own handshake takes no longer."""
        scene = Scene(retry_threshold=0)
        heard = 0

        def two_only(datagram: bytes, source: tuple[str, int], destination: tuple[str, int]) -> bool:
            nonlocal heard
            heard += destination[1] == 5520
            return destination[1] != 5520 or heard <= 2

        scene.network.datagrams.watch = two_only
        scene.join(seconds=14.5)
        self.assertEqual(len(scene.listener.arriving), 1)
        scene.network.advance(1)
        self.assertEqual((len(scene.listener.arriving), scene.outcomes), (0, ["timeout"]))
        scene.network.datagrams.watch = None
        scene.stop()

    def test_lossy_network(self) -> None:
        """AL-3: a login through a network that loses, doubles and reorders 5 % of all datagrams."""
        for seed in range(5):
            scene = Scene(assets=write_assets({"a": os.urandom(200_000)}))
            network = scene.network.datagrams
            network._random.seed(seed)
            network.loss = network.duplication = network.reordering = 0.05
            network.latency = 0.01
            player = scene.join(seconds=0)
            for _ in range(200):
                scene.network.advance(0.1)
                if player.assets:
                    break
            self.assertEqual(player.assets, {"a": 200_000})
            network.loss = 0
            scene.stop(player)

    def test_another_port(self) -> None:
        """AL-3: a client whose port changes in the middle of its session keeps it."""
        scene = Scene()
        player = scene.join()
        (port,) = [port for port in scene.network.datagrams.ports.values() if port.address[0] == "192.0.2.1"]
        port.move(("192.0.2.1", 61_000))
        player.client.send(alloy.ClientReady(1, 1))
        scene.network.advance(35)
        self.assertTrue(player.playing)
        self.assertEqual(len(scene.network.context.sessions), 1)
        self.assertGreaterEqual(player.packets.count("Ping"), 3)
        scene.stop(player)
        self.assertEqual(scene.outcomes, ["left"])


class HandlerTests(SynchronousTestCase):
    def test_messages(self) -> None:
        """A handler gets ClientReady, and what the page does not have where it wants that; and answers."""
        for wants, expected in (
            ((), [alloy.ClientReady()]),
            (("packets",), [alloy.ClientReady(), GamePacket(108, b"x")]),
        ):
            handler = RecordingHandler(wants)
            scene = Scene({"handlers": {"game": handler}}, handler="game")
            player = scene.join()
            player.client.send(GamePacket(108, b"x"))
            scene.network.advance(0.2)
            self.assertEqual(handler.messages, expected)
            if wants:
                handler.sessions[0].send(GamePacket(200, b"y"))
                scene.network.advance(0.2)
                self.assertIn(GamePacket(200, b"y"), player.messages)
            else:
                self.assertIn("Unexpected packet 108", player.reason)
            scene.stop(player)

    def test_backend(self) -> None:
        """A backend is where the game is: it is given all of its packets."""
        handler = RecordingHandler()
        name = "forward:tcp:192.0.2.9:1"
        scene = Scene({"handlers": {name: handler}}, handler=name)
        player = scene.join()
        player.client.send(GamePacket(108, b"x"))
        scene.network.advance(0.2)
        self.assertIn(GamePacket(108, b"x"), handler.messages)
        handler.sessions[0].send(GamePacket(200, b"y").encode() + GamePacket(201, b"z").encode()[:5])
        handler.sessions[0].send(GamePacket(201, b"z").encode()[5:])
        scene.network.advance(0.2)
        self.assertEqual(player.messages[-2:], [GamePacket(200, b"y"), GamePacket(201, b"z")])
        scene.stop(player)

    def test_referral(self) -> None:
        """AL-17: a handler may send a player on."""
        handler = RecordingHandler()
        scene = Scene({"handlers": {"game": handler}}, handler="game")
        player = scene.join()
        referral = alloy.ClientReferral(HostAddress("other.example", 5520), b"ticket")
        handler.sessions[0].send(referral)
        scene.network.advance(0.2)
        self.assertIn(referral, player.messages)
        scene.stop(player)


class SettingsTests(SynchronousTestCase):
    def test_mistakes(self) -> None:
        """One line for each, that names the thing and the way out."""
        folder = write_assets({"a": b"x"})
        network = Network()
        rsa = os.path.join(folder, "rsa.pem")
        with open(rsa, "wb") as file:
            file.write(_rsa())
        for settings, words in (
            ({"certificate": os.path.join(folder, "none.pem")}, "there is no such file"),
            ({"certificate": os.path.join(folder, "a")}, "no certificate in it"),
            ({"certificate": rsa}, "not ECDSA on P-256"),
            ({"password": "x", "password_file": "y"}, "only one of them"),
            ({"password": "", "password_file": os.path.join(folder, "none")}, "cannot be read"),
            ({"assets": os.path.join(folder, "none")}, "cannot be read"),
        ):
            with self.assertRaises(CredentialsError) as caught:
                AlloyListener(listener_settings(**settings), network.context)
            text = str(caught.exception)
            self.assertIn(words, text)
            self.assertNotIn("\n", text)

    def test_links_are_left_out(self) -> None:
        """AL-10: nothing outside of the directory is served."""
        folder = write_assets({"a": b"x"})
        os.symlink("/etc/hostname", os.path.join(folder, "link"))
        os.symlink("/etc", os.path.join(folder, "folder"))
        listener = AlloyListener(listener_settings(assets=folder), Network().context)
        self.assertEqual([asset.name for asset in listener.assets], ["a"])

    def test_values(self) -> None:
        for name, value in (
            ("profiles", ("hytale/3",)),
            ("profiles", ()),
            ("order", "other"),
            ("protocol_hashes", ("ü",)),
            ("protocol_hashes", ("",)),
            ("protocol_crcs", ("x",)),
            ("protocol_crcs", ("2147483648",)),
            ("world", "none"),
            ("password", "x" * 1025),
            ("password", "\udcff"),
            ("proxy_protocol", True),
            ("listen", "tcp:5520"),
        ):
            self.assertRaises(ValueError, listener_settings, **{name: value})

    def test_reconfigured(self) -> None:
        """New settings are for connections from now on; those that stand stay."""
        scene = Scene()
        first = scene.join()
        folder = write_assets({"new": b"x"})
        changed = listener_settings(password="other", assets=folder, require_client_certificate=True)
        self.assertTrue(scene.listener.reconfigure(changed))
        self.assertTrue(first.playing)
        second = scene.join("ben", b"other", quic={"identity": Identity.from_pem(certificate(1))})
        self.assertEqual(second.assets, {"new": 1})
        self.assertFalse(scene.listener.reconfigure(listener_settings(listen="udp:1")))
        self.assertEqual([asset.name for asset in scene.listener.assets], ["new"])
        with self.assertRaises(CredentialsError):
            scene.listener.reconfigure(listener_settings(password_file="/none"))
        self.assertEqual([asset.name for asset in scene.listener.assets], ["new"])
        third: Any = scene.join("carl", b"other", quic={"identity": Identity.from_pem(certificate(1))})
        self.assertTrue(third.playing)
        scene.stop(first, second, third)

    def test_world(self) -> None:
        """The UUID of the world is settable, and another one at each start otherwise."""
        text = "aaaaaaaa-0000-4000-8000-000000000001"
        network = Network()
        self.assertEqual(AlloyListener(listener_settings(world=text), network.context).world.uuid, UUID(text))
        one, two = (AlloyListener(listener_settings(), network.context).world.uuid for _ in range(2))
        self.assertNotEqual(one, two)
        self.assertTrue(os.path.exists(certificate_file()))


def _rsa() -> bytes:
    import trustme

    leaf = trustme.CA().issue_cert("localhost", key_type=trustme.KeyType.RSA)
    pem: bytes = leaf.private_key_and_cert_chain_pem.bytes()
    return pem
