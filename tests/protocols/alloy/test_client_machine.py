"""Tests of the client's machine: what it answers, and what it takes from no server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy import packets as alloy
from connectd.protocols.alloy.client_machine import (
    AssetCompleted,
    ClientMachine,
    GrantReceived,
    PacketReceived,
    PasswordRequested,
    ServerTokenReceived,
    WorldEntered,
    WorldOffered,
    make_connect,
)
from connectd.protocols.alloy.fields import Asset, HostAddress
from connectd.protocols.alloy.packets import PACKETS, Connect, Connect2, Disconnect
from connectd.protocols.alloy.server_machine import password_hash
from connectd.protocols.alloy.settings import AlloyClientSettings
from connectd.protocols.alloy.states import ConnectionState, Stage, StateChanged
from connectd.sansio import Ended, Established, Event, LocalProtocolError, Outcome, Received
from tests.protocols.alloy.pair import ASSETS, NOW, PLAYER, WORLD, frame, packets

OFFER = alloy.WorldSettings(320, ASSETS)


class ClientSide:
    """A client machine, with a test for its server."""

    def __init__(self, token: str | None = None, **settings: Any) -> None:
        self.settings = AlloyClientSettings(**settings)
        self.now = NOW
        connect = make_connect(self.settings, "ann", PLAYER, identity_token=token)
        self.machine = ClientMachine(self.settings, connect, now=NOW)
        self.events: list[Event] = []
        self.said = packets(self.machine.data_to_send(), self.settings.profile)

    def hear(self, *what: alloy.Packet | bytes) -> list[Event]:
        data = b"".join(one if isinstance(one, bytes) else one.encode() for one in what)
        return self._note(self.machine.receive_data(data, self.now))

    def do(self, verb: Callable[..., list[Event]], *arguments: Any) -> list[Event]:
        return self._note(verb(*arguments, self.now))

    def wait(self, seconds: float) -> list[Event]:
        self.now += seconds
        return self._note(self.machine.handle_deadline(self.now))

    def _note(self, events: list[Event]) -> list[Event]:
        self.events += events
        self.said += packets(self.machine.data_to_send(), self.settings.profile)
        return events

    @property
    def ended(self) -> Ended | None:
        return next((event for event in self.events if isinstance(event, Ended)), None)

    def login(self) -> ClientSide:
        self.hear(alloy.ConnectAccept(bytes(32)))
        self.do(self.machine.respond, b"swordfish")
        self.hear(alloy.PasswordAccepted(), alloy.ServerAuthToken())
        assert self.machine.established
        return self

    def load(self, *assets: Asset) -> ClientSide:
        self.hear(OFFER)
        self.do(self.machine.request, assets)
        return self


class LoginTests(SynchronousTestCase):
    def test_connect(self) -> None:
        """AL-4: Connect first, in the form of the profile (AL-15)."""
        side = ClientSide(language="de", protocol_hash="ab")
        self.assertEqual(
            side.said, [Connect(protocol_hash="ab", uuid=PLAYER, language="de", username="ann", identity_token=None)]
        )
        self.assertIs(side.machine.state, ConnectionState.HANDSHAKING)
        side = ClientSide(profile="hytale/2", crc=5, build=6, client_version="7", language="x" * 20, token="jwt")
        expected = Connect2(
            crc=5, build=6, client_version="7", uuid=PLAYER, username="ann", language="x" * 16, identity_token="jwt"
        )
        self.assertEqual(side.said, [expected])

    def test_password(self) -> None:
        """AL-8: the answer is the hash of this challenge; a new one is answered anew."""
        side = ClientSide()
        events = side.hear(alloy.ConnectAccept(b"\x01" * 32))
        self.assertEqual(
            events,
            [
                PacketReceived(alloy.ConnectAccept(b"\x01" * 32)),
                StateChanged(ConnectionState.AUTHENTICATING),
                PasswordRequested(None),
            ],
        )
        side.do(side.machine.respond, b"wrong")
        self.assertEqual(side.said[-1], alloy.PasswordResponse(password_hash(b"\x01" * 32, b"wrong")))
        events = side.hear(alloy.PasswordRejected(2, b"\x02" * 32))
        self.assertEqual(events[-1], PasswordRequested(2))
        side.do(side.machine.respond, b"right")
        self.assertEqual(side.said[-1], alloy.PasswordResponse(password_hash(b"\x02" * 32, b"right")))
        events = side.hear(alloy.PasswordAccepted(), alloy.ServerAuthToken())
        self.assertEqual(events[-2:], [StateChanged(ConnectionState.PLAY), Established()])
        self.assertEqual(side.said[-1], alloy.ClientReady())

    def test_rejected_for_good(self) -> None:
        """AL-8: after the last failure the server's Disconnect is waited for."""
        side = ClientSide()
        side.hear(alloy.ConnectAccept(b"\x01" * 32))
        side.do(side.machine.respond, b"wrong")
        side.hear(alloy.PasswordRejected(0), Disconnect(0, "Wrong password"))
        self.assertEqual(side.ended, Ended(Outcome.REFUSED, "the server disconnected: Wrong password"))

    def test_tokens(self) -> None:
        """AL-16: the token path's Decisions; nothing is believed before they are made."""
        side = ClientSide(token="jwt")
        events = side.hear(alloy.AuthGrant("g", "i"))
        self.assertEqual(events[-1], GrantReceived("g", "i"))
        self.assertIs(side.machine.state, ConnectionState.AUTHENTICATING)
        side.do(side.machine.present, "a", "sg")
        self.assertEqual(side.said[-1], alloy.AuthToken("a", "sg"))
        events = side.hear(alloy.ServerAuthToken("sa"))
        self.assertEqual(events[-1], ServerTokenReceived("sa"))
        self.assertFalse(side.machine.established)
        self.assertEqual(side.do(side.machine.trust), [StateChanged(ConnectionState.PLAY), Established()])

    def test_wrong_time(self) -> None:
        side = ClientSide()
        self.assertRaises(LocalProtocolError, side.machine.respond, b"x", NOW)
        self.assertRaises(LocalProtocolError, side.machine.present, "a", "b", NOW)
        self.assertRaises(LocalProtocolError, side.machine.trust, NOW)
        self.assertRaises(LocalProtocolError, side.machine.request, (), NOW)
        self.assertRaises(LocalProtocolError, side.machine.send, alloy.ClientReady(), NOW)
        token = ClientSide(token="jwt")
        token.hear(alloy.AuthGrant("g", "i"))
        self.assertRaises(LocalProtocolError, token.machine.present, "x" * 9000, "b", NOW)

    def test_what_a_server_may_not_ask(self) -> None:
        """AL-16: no password of somebody with a token, no grant to somebody without one, nothing half."""
        for token, packet in (
            ("jwt", alloy.ConnectAccept(bytes(32))),
            (None, alloy.AuthGrant("g", "i")),
            (None, alloy.ConnectAccept()),
            (None, alloy.ConnectAccept(b"")),
            ("jwt", alloy.AuthGrant("g")),
            ("jwt", alloy.AuthGrant(None, "i")),
        ):
            side = ClientSide(token=token)
            side.hear(packet)
            assert side.ended is not None
            self.assertEqual(side.ended.outcome, Outcome.MALFORMED)
            self.assertIsInstance(side.said[-1], Disconnect)
        side = ClientSide(token="jwt")
        side.hear(alloy.AuthGrant("g", "i"))
        side.do(side.machine.present, "a", "sg")
        side.hear(alloy.ServerAuthToken())
        self.assertEqual(getattr(side.ended, "outcome", None), Outcome.MALFORMED)


class OutOfStateTests(SynchronousTestCase):
    ALLOWED: tuple[tuple[Stage, Callable[[], ClientSide], set[int]], ...] = (
        (Stage.CONNECT, ClientSide, {1, 11, 14}),
        (Stage.PASSWORD, lambda: _after(ClientSide(), "challenge"), {1, 16, 17}),
        (Stage.ACCEPTED, lambda: _after(ClientSide(), "challenge", "accepted"), {1, 13}),
        (Stage.REJECTED, lambda: _after(ClientSide(), "challenge", "rejected"), {1}),
        (Stage.TOKENS, lambda: _after(ClientSide(token="jwt"), "granted"), {1, 13}),
        (Stage.READY, lambda: ClientSide().login(), {1, 2, 18, 20, 100, 104}),
        (Stage.TRANSFER, lambda: ClientSide().login().load(*ASSETS), {1, 2, 18, 22, 24, 25, 26, 100, 104}),
        (Stage.LOADED, lambda: _after(ClientSide().login().load(), "loaded"), {1, 2, 18, 100, 104}),
    )

    def test_out_of_state(self) -> None:
        """AL-1: in every stage, every packet that it does not allow ends the connection with a Disconnect."""
        for stage, make, fine in self.ALLOWED:
            for identifier in set(PACKETS) - fine:
                side = make()
                self.assertIs(side.machine._stage, stage)
                side.hear(frame(identifier, length=0))
                assert side.ended is not None
                self.assertEqual(side.ended.outcome, Outcome.MALFORMED)
                self.assertIn("Unexpected packet", side.said[-1].reason)
            for identifier in fine - {1}:
                self.assertIn((stage, identifier), make().machine.table)

    def test_lengths(self) -> None:
        """AL-17: a length over the maximum of its id is malformed before it is buffered."""
        for stage, make, fine in self.ALLOWED:
            for identifier in fine:
                for length in (-1, PACKETS[identifier].layout.largest_payload + 1):
                    side = make()
                    side.hear(frame(identifier, length=length))
                    assert side.ended is not None, (stage, identifier)
                    self.assertEqual(side.ended.outcome, Outcome.MALFORMED)

    def test_game_packets(self) -> None:
        """Packets of the game are the user's, in PLAY."""
        side = ClientSide()
        side.hear(frame(200, b"x"))
        self.assertEqual(getattr(side.ended, "outcome", None), Outcome.MALFORMED)
        side = ClientSide().login()
        self.assertEqual(side.hear(frame(200, b"x")), [Received(alloy.GamePacket(200, b"x"))])
        side.machine.send(alloy.GamePacket(108, b"y"), NOW)
        self.assertEqual(side.machine.data_to_send(), frame(108, b"y"))


def _after(side: ClientSide, *steps: str) -> ClientSide:
    for step in steps:
        if step == "challenge":
            side.hear(alloy.ConnectAccept(bytes(32)))
            side.do(side.machine.respond, b"x")
        elif step == "accepted":
            side.hear(alloy.PasswordAccepted())
        elif step == "rejected":
            side.hear(alloy.PasswordRejected(0))
        elif step == "granted":
            side.hear(alloy.AuthGrant("g", "i"))
            side.do(side.machine.present, "a", "b")
        elif step == "loaded":
            side.hear(alloy.WorldLoadFinished())
    return side


class PlayTests(SynchronousTestCase):
    def test_seed(self) -> None:
        """AL-9: ready at once; in the world when it is joined and loaded, in whatever order that comes."""
        side = ClientSide().login()
        self.assertEqual(side.said[-1], alloy.ClientReady())
        side.hear(alloy.SetClientId(7), alloy.JoinWorld(1, 1, WORLD))
        self.assertEqual(side.hear(OFFER)[-1], WorldOffered(OFFER))
        side.do(side.machine.request, ())
        self.assertEqual(side.said[-1], alloy.RequestAssets(()))
        self.assertEqual(side.hear(alloy.WorldLoadFinished())[-1], WorldEntered())

    def test_observed(self) -> None:
        """AL-9: ready when all is there."""
        side = ClientSide(order="observed").login()
        self.assertIsInstance(side.said[-1], alloy.PasswordResponse)
        side.load()
        side.hear(alloy.WorldLoadFinished())
        self.assertIsInstance(side.said[-1], alloy.RequestAssets)
        self.assertEqual(side.hear(alloy.SetClientId(1), alloy.JoinWorld(1, 1, WORLD))[-1], WorldEntered())
        self.assertEqual(side.said[-1], alloy.ClientReady())
        self.assertNotIn(WorldEntered(), side.hear(alloy.JoinWorld(1, 1, WORLD)))

    def test_requests(self) -> None:
        """AL-9: only what was offered, and each asset once."""
        side = ClientSide().login()
        side.hear(OFFER)
        for wanted in ((Asset("0" * 64, "x"),), (ASSETS[0], ASSETS[0])):
            self.assertRaises(LocalProtocolError, side.machine.request, wanted, NOW)
        side.do(side.machine.request, ASSETS[:1])
        self.assertEqual(side.said[-1], alloy.RequestAssets(ASSETS[:1]))

    def test_assets(self) -> None:
        """AL-9: an asset is what was asked for, as long as was said, and one after the other."""
        begin, part, end = alloy.AssetInitialize(3, ASSETS[0]), alloy.AssetPart(b"one"), alloy.AssetFinalize()
        side = ClientSide().login().load(*ASSETS[:2])
        self.assertEqual(side.hear(begin, part, end)[-1], AssetCompleted(ASSETS[0]))
        for wrong in (
            (alloy.AssetInitialize(3, ASSETS[2]),),
            (begin, part, end, begin),
            (alloy.AssetInitialize(-1, ASSETS[0]),),
            (begin, alloy.AssetInitialize(3, ASSETS[1])),
            (part,),
            (end,),
            (begin, end),
            (begin, part, part),
            (begin, part, alloy.WorldLoadFinished()),
            (begin, part, end, alloy.WorldLoadFinished()),
        ):
            side = ClientSide().login().load(*ASSETS[:2])
            side.hear(*wrong)
            assert side.ended is not None, wrong
            self.assertEqual(side.ended.outcome, Outcome.MALFORMED)

    def test_pings(self) -> None:
        """AL-14: a Ping is answered with its number and our clock."""
        side = ClientSide().login()
        side.hear(alloy.Ping(5))
        pong = side.said[-1]
        self.assertEqual((pong.id, pong.type, pong.time.seconds), (5, 0, int(NOW)))

    def test_silence(self) -> None:
        """AL-14: a server that says nothing for 60 s is gone."""
        side = ClientSide().login()
        side.hear(alloy.JoinWorld(1, 1, WORLD), OFFER)
        side.do(side.machine.request, ())
        side.wait(50)
        side.hear(alloy.Ping(0), alloy.WorldLoadFinished())
        side.wait(59.9)
        self.assertIsNone(side.ended)
        side.wait(0.2)
        self.assertEqual(getattr(side.ended, "outcome", None), Outcome.TIMEOUT)

    def test_wrong_order(self) -> None:
        """AL-9, AL-14: a server that waits for a client that waits for it is not waited for, however it pings."""
        for order, step in (("observed", "WorldSettings"), ("seed", "WorldSettings"), ("observed", "JoinWorld")):
            side = ClientSide(order=order).login()
            if step == "JoinWorld":
                side.load()
                side.hear(alloy.WorldLoadFinished())
            for _ in range(3):
                side.wait(9.9)
                side.hear(alloy.Ping(0))
            self.assertIsNone(side.ended)
            self.assertEqual(side.machine.deadline(), NOW + 30)
            side.wait(0.4)
            assert side.ended is not None
            self.assertEqual(side.ended.outcome, Outcome.TIMEOUT)
            self.assertEqual(side.ended.reason, f"{step} did not come (order is {order}: is it the server's as well?)")

    def test_no_deadline_in_the_world(self) -> None:
        """AL-14: who decides about the world, loads it or is in it has no step to be late with."""
        side = ClientSide().login()
        side.hear(alloy.SetClientId(1), alloy.JoinWorld(1, 1, WORLD), OFFER)
        for number in range(4):
            side.wait(20)
            side.hear(alloy.Ping(number))
        side.do(side.machine.request, ())
        side.wait(40)
        side.hear(alloy.WorldLoadFinished())
        side.wait(40)
        self.assertIsNone(side.ended)

    def test_deadlines(self) -> None:
        """AL-14: 30 s for each step of the server's, 90 s in all."""
        side = ClientSide()
        side.wait(30)
        assert side.ended is not None
        self.assertEqual(side.ended.outcome, Outcome.TIMEOUT)
        side = ClientSide()
        side.hear(alloy.ConnectAccept(bytes(32)))
        side.wait(60)
        self.assertIsNone(side.ended)
        side.wait(30)
        self.assertEqual(getattr(side.ended, "outcome", None), Outcome.TIMEOUT)

    def test_referral(self) -> None:
        """AL-17: where to go instead is told to the user."""
        side = ClientSide().login()
        referral = alloy.ClientReferral(HostAddress("h", 1), b"x")
        self.assertEqual(side.hear(referral), [PacketReceived(referral), Received(referral)])

    def test_disconnects(self) -> None:
        """AL-1: before PLAY the server refused, in it the session is over."""
        for make, outcome in ((ClientSide, Outcome.REFUSED), (lambda: ClientSide().login(), Outcome.LEFT)):
            side = make()
            side.hear(Disconnect(0, "Server is shutting down"))
            self.assertEqual(side.ended, Ended(outcome, "the server disconnected: Server is shutting down"))

    def test_last_words_during_a_decision(self) -> None:
        """AL-1: what the server said at last is heard though somebody still thinks about the password."""
        side = ClientSide()
        side.hear(alloy.ConnectAccept(bytes(32)), Disconnect(0, "too slow"))
        self.assertIsNone(side.ended)
        side.do(side.machine.end_of_stream)
        self.assertEqual(side.ended, Ended(Outcome.REFUSED, "the server disconnected: too slow"))
        for held in (b"\x01", frame(1, length=-1), frame(1, b"\1", 100), frame(16)):
            side = ClientSide()
            side.hear(alloy.ConnectAccept(bytes(32)), held)
            side.do(side.machine.end_of_stream)
            self.assertEqual(getattr(side.ended, "outcome", None), Outcome.ABORTED)

    def test_leaving(self) -> None:
        """AL-1: leaving is a Disconnect, too."""
        side = ClientSide().login()
        side.do(side.machine.close, Outcome.LEFT, "this client left")
        self.assertEqual(side.said[-1], Disconnect(0, "this client left"))
        self.assertIs(side.machine.state, ConnectionState.DISCONNECTING)
        side.machine.connection_gone()
        self.assertIs(side.machine.state, ConnectionState.DISCONNECTED)
