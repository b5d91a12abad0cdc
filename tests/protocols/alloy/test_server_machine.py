"""Tests of the server's machine: the login, its limits, its time and its end."""

from __future__ import annotations

import hashlib

import attrs
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy import packets as alloy
from connectd.protocols.alloy.fields import HostAddress
from connectd.protocols.alloy.packets import PACKETS, Connect2, Disconnect, PasswordRejected, ServerAuthToken
from connectd.protocols.alloy.server_machine import (
    AccessPresented,
    IdentityPresented,
    PasswordPresented,
    password_hash,
)
from connectd.protocols.alloy.states import ConnectionState, Stage, StateChanged
from connectd.protocols.alloy.world import ROOM_FOR_MISTAKES
from connectd.sansio import Ended, Established, LocalProtocolError, Outcome, Received
from tests.protocols.alloy.pair import ASSETS, CONNECT, NOW, PLAYER, ServerSide, frame


class Case(SynchronousTestCase):
    def assertRefused(
        self, side: ServerSide, told: str, outcome: Outcome = Outcome.REFUSED, offset: int | None = None
    ) -> Ended:
        """It ended so, and the client was told by a Disconnect, last."""
        ended = side.ended
        assert ended is not None
        self.assertEqual(ended.outcome, outcome)
        self.assertIsInstance(side.said[-1], Disconnect)
        self.assertIn(told, side.said[-1].reason)
        self.assertIs(side.machine.state, ConnectionState.DISCONNECTING)
        if offset is not None:
            self.assertEqual(ended.offset, offset)
        return ended


class PasswordTests(Case):
    def test_the_way_in(self) -> None:
        """AL-8, AL-1: Connect, ConnectAccept, PasswordResponse, PasswordAccepted and ServerAuthToken without a field."""
        side = ServerSide()
        self.assertIs(side.machine.state, ConnectionState.HANDSHAKING)
        self.assertEqual(side.hear(CONNECT), [StateChanged(ConnectionState.AUTHENTICATING)])
        self.assertEqual([type(packet) for packet in side.said], [alloy.ConnectAccept])
        self.assertEqual(len(side.challenge), 32)
        (presented,) = side.answer()
        assert isinstance(presented, PasswordPresented)
        self.assertEqual(presented.challenge, side.challenge)
        self.assertFalse(side.machine.established)
        events = side.do(side.machine.accept)
        self.assertEqual(events, [StateChanged(ConnectionState.PLAY), Established()])
        self.assertEqual(side.said[1:], [alloy.PasswordAccepted(), ServerAuthToken()])
        self.assertIs(side.machine.state, ConnectionState.PLAY)
        self.assertFalse(side.machine.verified)

    def test_hash(self) -> None:
        """AL-8: SHA-256 of the challenge and the password's UTF-8, 32 bytes."""
        self.assertEqual(
            password_hash(b"\x01" * 32, "pä".encode()), hashlib.sha256(b"\x01" * 32 + b"p\xc3\xa4").digest()
        )

    def test_three_attempts(self) -> None:
        """AL-8: two times a new challenge, and after the last failure none, and a Disconnect."""
        side = ServerSide()
        side.hear(CONNECT)
        challenges = [side.challenge]
        for remaining in (2, 1):
            side.answer(b"wrong")
            side.do(side.machine.reject)
            self.assertEqual(side.said[-1].attempts_remaining, remaining)
            challenges.append(side.challenge)
        self.assertEqual(len(set(challenges)), 3)
        side.answer(b"wrong")
        side.do(side.machine.reject)
        self.assertEqual(side.said[-2], PasswordRejected(0, None))
        self.assertRefused(side, "Wrong password")

    def test_attempts_are_settable(self) -> None:
        """AL-8: as many as password_attempts says."""
        side = ServerSide(password_attempts=1)
        side.hear(CONNECT)
        side.answer(b"wrong")
        side.do(side.machine.reject)
        self.assertEqual(side.said[-2], PasswordRejected(0, None))
        self.assertRefused(side, "Wrong password")

    def test_right_at_last(self) -> None:
        """AL-8: a wrong answer and a right one."""
        side = ServerSide()
        side.hear(CONNECT)
        side.answer(b"wrong")
        side.do(side.machine.reject)
        self.assertEqual(
            side.answer(), [PasswordPresented(side.challenge, password_hash(side.challenge, b"swordfish"))]
        )
        side.do(side.machine.accept)
        self.assertTrue(side.machine.established)

    def test_challenges_are_used_once(self) -> None:
        """AL-8: what answered one challenge, right as it is, is shown together with the next one."""
        side = ServerSide()
        side.hear(CONNECT)
        first = side.challenge
        right = alloy.PasswordResponse(password_hash(first, b"swordfish"))
        side.hear(right)
        side.do(side.machine.reject)
        (again,) = side.hear(right)
        assert isinstance(again, PasswordPresented)
        self.assertNotEqual(again.challenge, first)
        self.assertNotEqual(password_hash(again.challenge, b"swordfish"), again.hash)

    def test_answers_in_advance_wait(self) -> None:
        """AL-8, COM-2: a second answer is held until the first is judged, and then stands against a new challenge."""
        side = ServerSide()
        side.hear(CONNECT)
        guess = alloy.PasswordResponse(b"x" * 32)
        self.assertEqual(len(side.hear(guess, guess, guess)), 1)
        for _ in range(2):
            (next_one,) = side.do(side.machine.reject)
            self.assertIsInstance(next_one, PasswordPresented)
        side.do(side.machine.reject)
        self.assertRefused(side, "Wrong password")

    def test_an_empty_answer(self) -> None:
        """AL-8: no hash is an answer, and a wrong one."""
        side = ServerSide()
        side.hear(CONNECT)
        (presented,) = side.hear(alloy.PasswordResponse())
        assert isinstance(presented, PasswordPresented)
        self.assertEqual(presented.hash, b"")

    def test_no_password_configured(self) -> None:
        """AL-8: without a token and without a password there is no way in."""
        side = ServerSide(asks_password=False)
        side.hear(CONNECT)
        self.assertRefused(side, "This server requires an account")

    def test_wrong_time(self) -> None:
        """The verbs answer the Decision that is open, and nothing else."""
        side = ServerSide()
        for verb in (side.machine.accept, side.machine.reject):
            self.assertRaises(LocalProtocolError, verb, NOW)
        side.hear(CONNECT)
        self.assertRaises(LocalProtocolError, side.machine.accept, NOW)
        side.answer()
        self.assertRaises(LocalProtocolError, side.machine.grant, "a", "b", NOW)
        self.assertRaises(LocalProtocolError, side.machine.server_token, "a", NOW)


class TokenTests(Case):
    TOKEN = attrs.evolve(CONNECT, identity_token="jwt")

    def test_the_way_in(self) -> None:
        """AL-1: the token path's Decisions in their order."""
        side = ServerSide()
        (presented,) = side.hear(self.TOKEN)
        self.assertEqual(presented, IdentityPresented(self.TOKEN))
        self.assertIs(side.machine.state, ConnectionState.HANDSHAKING)
        self.assertEqual(side.do(side.machine.grant, "g", "i"), [StateChanged(ConnectionState.AUTHENTICATING)])
        self.assertEqual(side.said, [alloy.AuthGrant("g", "i")])
        self.assertEqual(side.hear(alloy.AuthToken("a", "sg")), [AccessPresented("a", "sg")])
        events = side.do(side.machine.server_token, "sa")
        self.assertEqual(events, [StateChanged(ConnectionState.PLAY), Established()])
        self.assertEqual(side.said[1:], [ServerAuthToken("sa")])
        self.assertTrue(side.machine.verified)

    def test_a_token_goes_before_the_password(self) -> None:
        """AL-8: who shows a token is not asked for the password, and nothing of the token is kept (AL-14)."""
        side = ServerSide(asks_password=True)
        side.hear(self.TOKEN)
        self.assertEqual(side.said, [])
        assert side.machine.connect is not None
        self.assertIsNone(side.machine.connect.identity_token)

    def test_incomplete(self) -> None:
        """AL-6: an AuthToken has both."""
        for packet in (alloy.AuthToken("a"), alloy.AuthToken(None, "b")):
            side = ServerSide()
            side.hear(self.TOKEN)
            side.do(side.machine.grant, "g", "i")
            side.hear(packet)
            self.assertRefused(side, "Malformed packet AuthToken", Outcome.MALFORMED)

    def test_refused(self) -> None:
        """COM-12: a no to a Decision is a Disconnect with its words."""
        side = ServerSide()
        side.hear(self.TOKEN)
        side.do(side.machine.refuse, "Authentication service unavailable")
        self.assertRefused(side, "Authentication service unavailable")

    def test_what_does_not_fit(self) -> None:
        """A verb with a token that no packet can carry changes nothing."""
        side = ServerSide()
        side.hear(self.TOKEN)
        self.assertRaises(LocalProtocolError, side.machine.grant, "x" * 5000, "i", NOW)
        self.assertIsInstance(side.machine.decision, IdentityPresented)


class ConnectTests(Case):
    def test_protocol_hash(self) -> None:
        """AL-4: a protocolHash that is not on the list is told so; ``*`` is any."""
        known, unknown = "a" * 64, "b" * 64
        for allowed, shown, fits in (
            (("*",), unknown, True),
            ((known,), known, True),
            ((known,), unknown, False),
            ((known,), known[:-1], False),
            ((known, "*"), unknown, True),
            ((), known, False),
        ):
            side = ServerSide(protocol_hashes=allowed)
            side.hear(attrs.evolve(CONNECT, protocol_hash=shown))
            if fits:
                self.assertIsNone(side.ended)
            else:
                self.assertRefused(side, "Incompatible protocol")

    def test_crc(self) -> None:
        """AL-4, AL-15: the second form shows a CRC instead."""
        for allowed, fits in ((("*",), True), (("-5",), True), (("5", "6"), False)):
            side = ServerSide(profile="hytale/2", protocol_crcs=allowed, protocol_hashes=())
            side.hear(Connect2(uuid=PLAYER, username="ann", crc=-5))
            if fits:
                self.assertIsNone(side.ended)
            else:
                self.assertRefused(side, "Incompatible protocol")

    def test_profiles(self) -> None:
        """AL-15: what ALPN settled on decides which Connect it is."""
        second = Connect2(uuid=PLAYER, username="ann", language="en").encode()
        self.assertIs(ServerSide(profile="hytale/2").login(Connect2(uuid=PLAYER, username="ann")).ended, None)
        side = ServerSide(profile="hytale/1")
        side.hear(second)
        self.assertRefused(side, "Malformed packet Connect", Outcome.MALFORMED)
        side = ServerSide(profile="hytale/2")
        side.hear(CONNECT)
        self.assertRefused(side, "Malformed packet Connect2", Outcome.MALFORMED)

    def test_user_names(self) -> None:
        """AL-17: there is one, and it can be shown."""
        for name in ("", "a\x1b[2J", "a\nb"):
            side = ServerSide()
            side.hear(attrs.evolve(CONNECT, username=name))
            self.assertRefused(side, "Invalid user name", Outcome.MALFORMED, 0)


class BadInputTests(Case):
    def test_out_of_state(self) -> None:
        """AL-1: in every stage every packet that it does not allow ends the connection with a Disconnect."""
        allowed = {
            Stage.CONNECT: {0, 1},
            Stage.PASSWORD: {1, 15},
            Stage.TOKENS: {1, 12},
            Stage.READY: {1, 3, 105},
            Stage.REQUEST: {1, 3, 23},
            Stage.TRANSFER: {1, 3},
            Stage.LOADED: {1, 3, 105},
        }
        for stage, fine in allowed.items():
            for identifier in {*PACKETS, 108, -1, 1 << 30} - fine:
                side = self.at(stage)
                side.hear(frame(identifier, length=0))
                ended = self.assertRefused(side, "Unexpected packet", Outcome.MALFORMED)
                self.assertIn(side.machine._stage.awaited, ended.reason)
            for identifier in fine - {1}:
                self.assertIn((stage, identifier), side.machine.table)

    def at(self, stage: Stage) -> ServerSide:
        side = ServerSide()
        if stage is Stage.PASSWORD:
            side.hear(CONNECT)
        elif stage is Stage.TOKENS:
            side.hear(TokenTests.TOKEN)
            side.do(side.machine.grant, "g", "i")
        elif stage is not Stage.CONNECT:
            side.login()
            if stage is not Stage.READY:
                side.hear(alloy.ClientReady())
            if stage is Stage.TRANSFER:
                side.hear(alloy.RequestAssets(ASSETS))
            elif stage is Stage.LOADED:
                side.hear(alloy.RequestAssets())
        self.assertIs(side.machine._stage, stage)
        return side

    def test_lengths(self) -> None:
        """AL-17: negative, or one over the maximum of its id: malformed when the header is there, and no byte later."""
        for stage, identifier, maximum in (
            (Stage.CONNECT, 0, 38_161),
            (Stage.PASSWORD, 15, 70),
            (Stage.TOKENS, 12, 49_171),
            (Stage.READY, 3, 20),
            (Stage.READY, 105, 2),
            (Stage.CONNECT, 1, 16_384_007),
            (Stage.LOADED, 1, 16_384_007),
        ):
            for length in (-1, -(1 << 31), maximum + 1, (1 << 31) - 1):
                side = self.at(stage)
                side.hear(frame(identifier, length=length)[:7])
                self.assertIsNone(side.ended)
                side.hear(frame(identifier, length=length)[7:])
                self.assertRefused(side, "Malformed packet", Outcome.MALFORMED)
            side = self.at(stage)
            side.hear(frame(identifier, length=maximum))
            self.assertIsNone(side.ended)

    def test_requests_are_as_long_as_what_was_offered(self) -> None:
        """COM-2: RequestAssets is not buffered or decompressed far beyond what asks for every asset there is."""
        from connectd.protocols.alloy.compression import compress

        most = self.at(Stage.REQUEST).machine.world.request_maximum
        self.assertEqual(most, 6 + 3 * 65 + len("firstdir/secondthird") + ROOM_FOR_MISTAKES)
        side = self.at(Stage.REQUEST)
        side.hear(frame(23, length=most + 1000))
        self.assertRefused(side, "Malformed packet RequestAssets", Outcome.MALFORMED)
        side = self.at(Stage.REQUEST)
        side.hear(frame(23, compress(bytes(1 << 20))))
        ended = self.assertRefused(side, "Malformed packet RequestAssets", Outcome.MALFORMED)
        self.assertIn(f"over {most} bytes", ended.reason)

    def test_offsets_of_errors(self) -> None:
        """COM-3: where the first wrong byte is, of all that the client sent."""
        side = ServerSide()
        first = len(CONNECT.encode())
        side.hear(CONNECT)
        side.hear(frame(15, b"\x01\x80\x80\x80\x80\x80"))
        self.assertRefused(side, "Malformed packet PasswordResponse", Outcome.MALFORMED, first + 8 + 1)

    def test_too_much_before_play(self) -> None:
        """AL-14, COM-2: more than 64 KiB at once is more than anything before PLAY needs."""
        side = ServerSide()
        side.hear(CONNECT)
        side.answer()
        side.hear(bytes(65_536))
        self.assertIsNone(side.ended)
        self.assertFalse(side.machine.wants_data)
        side.hear(b"\0")
        self.assertRefused(side, "Too much data", Outcome.MALFORMED)

    def test_disconnect(self) -> None:
        """AL-1: the client may leave in any state, in its own words, of which no more than 4 KiB are waited for."""
        side = ServerSide()
        side.hear(Disconnect(0, "no\nthanks"))
        self.assertEqual(side.ended, Ended(Outcome.ABORTED, "the client disconnected: no\ufffdthanks"))
        self.assertEqual(side.said, [])
        side = ServerSide().login()
        side.hear(Disconnect(1, "boom"))
        self.assertEqual(side.ended, Ended(Outcome.LEFT, "the client crashed: boom"))
        side = ServerSide().login()
        side.hear(Disconnect())
        self.assertEqual(side.ended, Ended(Outcome.LEFT, "the client disconnected: no reason given"))
        side = ServerSide()
        long = Disconnect(0, "ü" * 1_000_000).encode()
        side.hear(long[: 8 + 4095])
        self.assertIsNone(side.ended)
        side.hear(long[8 + 4095 : 8 + 4096])
        assert side.ended is not None
        self.assertEqual(side.ended.outcome, Outcome.ABORTED)
        self.assertTrue(side.ended.reason.endswith("ü"))

    def test_malformed_disconnects(self) -> None:
        """AL-17: a Disconnect whose reason is not as long as it says, or over 4,096,000 characters."""
        for payload, length in (
            (b"", 0),
            (b"\x00", 1),
            (b"\x01\x00\x05ab", 5),
            (b"\x01\x00\x80\x80\x80\x80\x80", 7),
            (b"\x01\x00\x81\x80\xe8\x07" + bytes(4096), 16_384_007),
        ):
            side = ServerSide()
            side.hear(frame(1, payload, length))
            self.assertRefused(side, "malformed Disconnect", Outcome.MALFORMED)

    def test_nothing_after_the_end(self) -> None:
        """Whoever goes on talking is not heard."""
        side = ServerSide(asks_password=False)
        side.hear(CONNECT)
        said = list(side.said)
        self.assertEqual(side.hear(CONNECT, b"x" * 100_000), [])
        self.assertEqual(side.wait(1000), [])
        self.assertEqual(side.said, said)
        side.machine.connection_gone()
        self.assertIs(side.machine.state, ConnectionState.DISCONNECTED)


class TimeTests(Case):
    def test_connect(self) -> None:
        """AL-14: Connect has to be whole within 15 s, however it trickles."""
        side = ServerSide()
        self.assertEqual(side.machine.deadline(), NOW + 15)
        side.wait(14.9)
        side.hear(CONNECT.encode()[:50])
        self.assertIsNone(side.ended)
        side.wait(0.2)
        self.assertRefused(side, "Connect took too long", Outcome.TIMEOUT)

    def test_each_step(self) -> None:
        """AL-14: 30 s for each step of the login, from when it could begin."""
        side = ServerSide()
        side.now += 10
        side.hear(CONNECT)
        self.assertEqual(side.machine.deadline(), side.now + 30)
        side.now += 20
        side.answer(b"wrong")
        side.do(side.machine.reject)
        self.assertEqual(side.machine.deadline(), side.now + 30)
        side.wait(30.1)
        self.assertRefused(side, "The password took too long", Outcome.TIMEOUT)

    def test_tokens(self) -> None:
        """AL-14: the same for tokens."""
        side = ServerSide()
        side.hear(TokenTests.TOKEN)
        side.do(side.machine.grant, "g", "i")
        side.wait(30.1)
        self.assertRefused(side, "The tokens took too long", Outcome.TIMEOUT)

    def test_in_all(self) -> None:
        """AL-14, AL-1: 90 s from the first packet, whatever is going on."""
        side = ServerSide(password_attempts=10)
        side.hear(CONNECT)
        for _ in range(4):
            side.wait(20)
            side.answer(b"wrong")
            side.do(side.machine.reject)
        self.assertEqual(side.machine.deadline(), NOW + 90)
        side.wait(10)
        self.assertRefused(side, "The login took too long", Outcome.TIMEOUT)

    def test_our_own_time_is_not_the_clients(self) -> None:
        """AL-14: while we decide, only the 90 s run (an answer may be delayed by COM-11)."""
        side = ServerSide()
        side.hear(CONNECT)
        side.answer()
        self.assertEqual(side.machine.deadline(), NOW + 90)
        side.wait(60)
        self.assertIsNone(side.ended)
        side.do(side.machine.accept)
        self.assertTrue(side.machine.established)

    def test_settable(self) -> None:
        """AL-14: all of them."""
        side = ServerSide(connect_timeout=2, authentication_timeout=3, handshake_timeout=100)
        self.assertEqual(side.machine.deadline(), NOW + 2)
        side.hear(CONNECT)
        self.assertEqual(side.machine.deadline(), NOW + 3)

    def test_pings(self) -> None:
        """AL-14: every 10 s in PLAY, each with its number and our clock."""
        side = ServerSide().login()
        side.said.clear()
        for number in range(5):
            self.assertEqual(side.machine.deadline(), side.now + 10)
            side.wait(10)
            ping = side.said.pop()
            self.assertEqual((ping.id, ping.time.seconds), (number, int(side.now)))
            side.now += 0.05
            side.hear(alloy.Pong(number))
            side.now -= 0.05
        self.assertAlmostEqual(side.machine.round_trip or 0, 0.05, places=4)
        side.wait(10)
        self.assertLess(abs(side.said[-1].raw - 50_000), 100)
        self.assertEqual((side.said[-1].direct, side.said[-1].tick), (0, 0))

    def test_silence(self) -> None:
        """AL-14: 60 s without a byte end it; any byte is a sign of life."""
        side = ServerSide().login()
        for _ in range(5):
            side.wait(10)
        side.hear(b"\x00")
        for _ in range(5):
            side.wait(10)
        self.assertIsNone(side.ended)
        self.assertEqual(side.machine.deadline(), side.now + 10)
        side.wait(10)
        self.assertRefused(side, "No answer to the server's pings", Outcome.TIMEOUT)

    def test_strange_pongs(self) -> None:
        """AL-14: an answer to nothing is a sign of life, and measures nothing."""
        side = ServerSide().login()
        side.wait(10)
        for packet in (alloy.Pong(1), alloy.Pong(-1), alloy.Pong(0, None, 3), alloy.Pong(-(1 << 31), None, 255)):
            side.hear(packet)
        self.assertIsNone(side.ended)
        self.assertIsNone(side.machine.round_trip)

    def test_a_clock_that_is_set_back(self) -> None:
        """A Pong from before its Ping measures nothing negative."""
        side = ServerSide().login()
        side.wait(10)
        side.now -= 100
        side.hear(alloy.Pong(0))
        side.now += 200
        side.wait(0)
        self.assertEqual(side.said[-1].reason, "No answer to the server's pings")

    def test_ids_of_pings_go_round(self) -> None:
        side = ServerSide().login()
        side.machine._ping_id = 0x7FFF_FFFF
        side.wait(10)
        self.assertEqual(side.said[-1].id, 0x7FFF_FFFF)
        side.hear(alloy.Pong(0))
        side.wait(10)
        self.assertEqual(side.said[-1].id, 0)


class EndTests(Case):
    def test_kicked(self) -> None:
        """COM-8: a kick and a drain say why, by Disconnect; what is a crash of ours is called so (AL-1)."""
        for outcome, kind in ((Outcome.KICKED, 0), (Outcome.SHUTDOWN, 0), (Outcome.FAILED, 1)):
            side = ServerSide().login()
            side.do(side.machine.close, outcome, "because")
            self.assertEqual(side.said[-1], Disconnect(kind, "because"))
            self.assertRefused(side, "because", outcome)

    def test_the_end_of_the_stream(self) -> None:
        """AL-2: a stream that is finished before PLAY was never a session; after it, the client left."""
        side = ServerSide()
        side.hear(CONNECT)
        side.do(side.machine.end_of_stream)
        self.assertEqual(getattr(side.ended, "outcome", None), Outcome.ABORTED)
        for part, outcome in ((b"", Outcome.LEFT), (b"\0\0", Outcome.LOST)):
            side = ServerSide().login()
            side.hear(part)
            side.do(side.machine.end_of_stream)
            self.assertEqual(getattr(side.ended, "outcome", None), outcome)


class HandlerTests(Case):
    def test_game_packets(self) -> None:
        """AL-1: packets that the page does not have are a handler's where it wants them, and out of state elsewhere."""
        side = ServerSide(takes_game_packets=True).login()
        (event,) = side.hear(frame(108, b"walk"))
        self.assertEqual(event, Received(alloy.GamePacket(108, b"walk")))
        assert isinstance(event, Received)
        self.assertEqual(event.message.encode(), frame(108, b"walk"))
        for bad in (frame(108, length=-1), frame(108, length=1_048_577), frame(-5)):
            side = ServerSide(takes_game_packets=True).login()
            side.hear(bad)
            assert side.ended is not None
            self.assertEqual(side.ended.outcome, Outcome.MALFORMED)
        for side in (
            ServerSide(takes_game_packets=True),
            ServerSide(takes_game_packets=True, game_packet_size=0).login(),
        ):
            side.hear(frame(108, b"walk"))
            self.assertRefused(side, "Unexpected packet 108", Outcome.MALFORMED)

    def test_sending(self) -> None:
        """A handler sends packets of the game, and of the page what is its business."""
        side = ServerSide()
        self.assertRaises(LocalProtocolError, side.machine.send, alloy.GamePacket(108, b""), NOW)
        side.login()
        side.said.clear()
        referral = alloy.ClientReferral(HostAddress("h", 1), b"x")
        side.machine.send(referral, NOW)
        side._note([])
        self.assertEqual(side.said, [referral])
        for message in (
            alloy.GamePacket(1, b""),
            alloy.GamePacket(-1, b""),
            alloy.ServerAuthToken("x"),
            Disconnect(0, "x"),
            alloy.ClientReferral(HostAddress("h" * 300, 1)),
            "text",
        ):
            self.assertRaises(LocalProtocolError, side.machine.send, message, NOW)

    def test_relayed_bytes(self) -> None:
        """A backend's frames come in any pieces, and our own words only between two of them."""
        side = ServerSide(takes_game_packets=True).login()
        whole = frame(200, b"abcdef")
        side.machine.data_to_send()
        side.machine.send(whole + whole[:10], NOW)
        self.assertEqual(side.machine.data_to_send(), whole + whole[:10])
        side.machine.handle_deadline(NOW + 10)
        self.assertEqual(side.machine.data_to_send(), b"")
        side.machine.send(whole[10:12], NOW)
        side.machine.send(whole[12:] + whole[:3], NOW)
        data = side.machine.data_to_send()
        self.assertTrue(data.startswith(whole[10:]))
        self.assertTrue(data.endswith(whole[:3]))
        ping = data[len(whole) - 10 : -3]
        self.assertEqual((ping[4], len(ping)), (2, 8 + 29))
        # In the middle of a frame, a Disconnect would be taken for a part of it.
        self.assertEqual(side.machine.close(Outcome.KICKED, "out", NOW), [Ended(Outcome.KICKED, "out")])
        self.assertEqual(side.machine.data_to_send(), b"")

    def test_relayed_nonsense(self) -> None:
        """A backend that sends a negative length is no backend of ours."""
        side = ServerSide().login()
        self.assertRaises(LocalProtocolError, side.machine.send, frame(200, length=-1), NOW)

    def test_game_packets_and_time(self) -> None:
        """AL-14: any byte is a sign of life."""
        side = ServerSide(takes_game_packets=True).login()
        for _ in range(30):
            side.wait(10)
            side.hear(frame(108))
        self.assertIsNone(side.ended)
