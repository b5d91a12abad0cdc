"""Tests of the client's side, and of both together: :mod:`connectd.protocols.starbound.client_machine`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.starbound.client_machine import ANOTHER_GENERATION
from connectd.protocols.starbound.events import ChallengeReceived, PacketReceived, PacketSent
from connectd.protocols.starbound.frames import Frame, read_header
from connectd.protocols.starbound.generations import GENERATIONS, OPENSB
from connectd.protocols.starbound.machine import ClientMachine
from connectd.protocols.starbound.packets import (
    ClientConnect,
    ClientDisconnectRequest,
    ConnectFailure,
    ConnectionResponse,
    ConnectSuccess,
    HandshakeChallenge,
    HandshakeResponse,
    Packet,
    ProtocolRequest,
    ProtocolResponse,
    ProtocolVersion,
    ServerDisconnect,
)
from connectd.protocols.starbound.variant import EncodedVariant
from connectd.protocols.starbound.zstd_stream import Decoder, Encoder
from connectd.sansio import Ended, Established, Event, LocalProtocolError, Outcome, Received
from tests.protocols.starbound.exchange import (
    ALL,
    CLIENT_FIRST,
    CLIENT_ID,
    NOW,
    SERVER_FIRST,
    UUID,
    accepted,
    client,
    counting,
    exchange,
    of,
    player,
    proof,
    server,
    take,
)
from tests.protocols.starbound.exchange import Exchange as Pair

INFO = EncodedVariant.of({"compression": "Zstd", "openProtocolVersion": 15})


class LoginTests(SynchronousTestCase):
    """Both machines together, in every generation."""

    def test_accepted(self) -> None:
        """SB-1, SB-3, SB-20: each client comes into a server of its generation, however the bytes arrive."""
        for name in ALL:
            for account in ("bob", "", "caf\udce9"):
                for size in (1, 7, 100_000):
                    pair = exchange(name, account=account, segment=of(size)).run()
                    self.assertEqual(pair.established, (True, True), (name, account, size, pair.ends))
                    self.assertEqual(pair.client.client_id, CLIENT_ID)
                    self.assertIsNone(pair.client.deadline())

    def test_packets_in_order(self) -> None:
        """SB-1: the five packets, and those of the other family."""
        for name in ALL:
            pair = exchange(name).run()
            told = [pair.client.opened_with, *pair.client_events] if name in CLIENT_FIRST else pair.client_events
            names = [one.name for one in told if isinstance(one, (PacketSent, PacketReceived))]
            handshake = ["ClientConnect", "HandshakeChallenge", "HandshakeResponse"]
            if name in SERVER_FIRST:
                self.assertEqual(names, ["ProtocolVersion", *handshake, "ConnectionResponse"])
            else:
                self.assertEqual(names, ["ProtocolRequest", "ProtocolResponse", *handshake, "ConnectSuccess"])
            self.assertIsInstance(pair.client_events[-1], Established)

    def test_anonymous(self) -> None:
        """SB-6, SB-20: without an account there is a challenge in one family and none in the other."""
        for name in ALL:
            pair = exchange(name, account="").run()
            challenged = any(isinstance(event, ChallengeReceived) for event in pair.client_events)
            self.assertEqual(challenged, name in SERVER_FIRST)

    def test_wrong_password(self) -> None:
        for name in ALL:
            pair = exchange(name, password=b"wrong").run()
            self.assertEqual(pair.established, (False, False))
            self.assertEqual([end.outcome for end in pair.ends], [Outcome.REFUSED] * 2)
            self.assertEqual(pair.ends[1].reason, "the server refuses: wrong")

    def test_refused(self) -> None:
        """SB-1, SB-9: a client sees a refusal as such, after all five packets where the server speaks first."""
        for name in ALL:
            pair = exchange(name, refusal="You are banned: \x1b[2Jx").run()
            self.assertEqual(pair.ends[1], Ended(Outcome.REFUSED, "the server refuses: You are banned: \ufffd[2Jx"))
            answered = any(
                isinstance(one, PacketSent) and one.name == "HandshakeResponse" for one in pair.client_events
            )
            self.assertEqual(answered, name in SERVER_FIRST)

    def test_compression(self) -> None:
        """SB-21: who agrees on what."""
        for name, listener, offered, compression in (
            ("opensb", "opensb", "zstd", "zstd"),
            ("opensb", "opensb", "none", "none"),
            ("opensb", "1.4", "zstd", "none"),
            ("1.4", "opensb", "zstd", "none"),
        ):
            pair = Pair(server(listener, compression=offered), client(name)).run()
            self.assertEqual(pair.established, (True, True))
            self.assertEqual(pair.client.compression, compression)
            expected = OPENSB if (name, listener) == ("opensb", "opensb") else GENERATIONS["1.4"]
            self.assertEqual((pair.client.generation, pair.server.generation), (expected, expected))

    def test_version_mismatch(self) -> None:
        """SB-2: a client closes where the version is another, and says which."""
        pair = Pair(server("seed", version=700), client("seed")).run()
        self.assertEqual(pair.established, (False, False))
        (end,) = [event for event in pair.client_events if isinstance(event, Ended)]
        self.assertEqual(
            end, Ended(Outcome.REFUSED, "the server speaks version 700, we speak 628 (seed)" + ANOTHER_GENERATION, 2)
        )
        self.assertEqual(pair.client.data_to_send(), b"")
        self.assertEqual(Pair(server("seed", version=700), client("seed", version=700)).run().established, (True, True))

    def test_session(self) -> None:
        """Frames in both directions, zstd or not."""
        for name in ALL:
            pair = accepted(name)
            frames = [Frame(20, bytes(3000)), Frame(21, b"", True), Frame(22, bytes(100_000), True)]
            for frame in frames:
                pair.server.send(frame, NOW)
                pair.client.send(frame, NOW)
            pair.run()
            self.assertEqual([event.message for event in pair.server_events if isinstance(event, Received)], frames)
            self.assertEqual([event.message for event in pair.client_events if isinstance(event, Received)], frames)

    def test_goodbyes(self) -> None:
        """SB-9, SB-23: what each side sees of the other's leaving."""
        for name in ALL:
            pair = accepted(name)
            self.assertEqual(pair.client.disconnect(NOW), [Ended(Outcome.LEFT, "we left")])
            pair.run()
            left = [event.outcome for event in pair.server_events if isinstance(event, Ended)]
            self.assertEqual(left, [Outcome.LEFT] if name in CLIENT_FIRST else [])
            self.assertEqual(pair.client.disconnect(NOW), [])
            pair = accepted(name)
            pair.server.close(Outcome.KICKED, "enough", NOW)
            pair.run()
            if name in CLIENT_FIRST:
                self.assertEqual(pair.client_events[-1], Ended(Outcome.LEFT, "the server ends the session: enough"))
            else:
                self.assertEqual(pair.client_events, [])

    def test_leaving_early(self) -> None:
        for name in ALL:
            machine = client(name)
            machine.data_to_send()
            self.assertEqual(machine.disconnect(NOW), [Ended(Outcome.ABORTED, "we left")])
            self.assertEqual(machine.data_to_send(), b"")

    def test_leaving_inside_of_a_frame(self) -> None:
        pair = accepted("1.4")
        pair.client.send(b"\x14\x06a", NOW)
        pair.client.disconnect(NOW)
        self.assertEqual(pair.client.data_to_send(), b"\x14\x06a")


class GuessTests(SynchronousTestCase):
    """generation = auto: wait briefly, then speak."""

    def test_server_first(self) -> None:
        """A server that speaks first tells its generation."""
        for name in SERVER_FIRST:
            pair = exchange("auto", (name,)).run()
            self.assertEqual(pair.established, (True, True), pair.ends)
            self.assertEqual(pair.client.generation, GENERATIONS[name])

    def test_client_first(self) -> None:
        for name in CLIENT_FIRST:
            pair = Pair(server(name), client("auto", generation_wait=0.3)).run()
            self.assertEqual((pair.server_events, pair.client_events), ([], []))
            self.assertAlmostEqual(pair.client.deadline() or 0, NOW + 0.3)
            self.assertEqual(pair.client.handle_deadline(NOW + 0.2), [])
            pair.wait(0.31)
            self.assertEqual(pair.established, (True, True), pair.ends)
            self.assertEqual(pair.client.generation, GENERATIONS[name])

    def test_both_wait(self) -> None:
        """A listener of several generations speaks before the client does."""
        pair = Pair(server("seed", "opensb"), client("auto")).run()
        pair.wait(0.31)
        self.assertEqual(pair.established, (True, True), pair.ends)
        self.assertEqual(pair.client.generation, GENERATIONS["seed"])

    def test_several(self) -> None:
        for name in ("seed", *CLIENT_FIRST):
            pair = exchange(name, ("seed", "1.4", "opensb")).run().wait(0.31)
            self.assertEqual(pair.established, (True, True), (name, pair.ends))
            self.assertEqual(pair.client.generation, GENERATIONS[name])

    def test_unknown_version(self) -> None:
        """SB-2: a version of no generation is a clear error."""
        machine = client("auto")
        (end,) = [one for one in take(machine, b"\x00\x08\x00\x00\x01\x00") if isinstance(one, Ended)]
        self.assertEqual(end.outcome, Outcome.REFUSED)
        self.assertIn("version 256", end.reason)

    def test_something_else(self) -> None:
        machine = client("auto")
        (end,) = take(machine, b"S")
        assert isinstance(end, Ended)
        self.assertEqual((end.outcome, end.offset), (Outcome.MALFORMED, 0))

    def test_deadline(self) -> None:
        """COM-1: it is one for all of it."""
        machine = client("auto", generation_wait=1.0, handshake_timeout=5.0)
        machine.handle_deadline(NOW + 1)
        self.assertEqual(machine.deadline(), NOW + 5)
        (end,) = machine.handle_deadline(NOW + 5)
        assert isinstance(end, Ended)
        self.assertEqual(end.outcome, Outcome.TIMEOUT)
        (end,) = client("auto", generation_wait=1.0, handshake_timeout=0.5).handle_deadline(NOW + 2)
        assert isinstance(end, Ended)
        self.assertEqual(end.outcome, Outcome.TIMEOUT)


class Served:
    """A client's machine, and a server made by hand."""

    def __init__(self, generation: str, who: ClientConnect | None = None, **fields: Any) -> None:
        self.generation = GENERATIONS[generation]
        self.machine: ClientMachine = client(generation, who, **fields)
        self.events: list[Event] = []
        self.encoder: Encoder | None = None

    def say(self, packet: Packet, *, compressed: bool = False) -> list[Event]:
        data = self.generation.encode(packet, compressed=compressed)
        events = take(self.machine, data if self.encoder is None else self.encoder.encode(data))
        self.events += events
        return events

    def opened(self) -> Served:
        if self.generation.server_first:
            self.say(ProtocolVersion(self.generation.version))
        elif self.generation is OPENSB:
            self.say(ProtocolResponse(True, INFO), compressed=True)
            self.encoder = Encoder()
        else:
            self.say(ProtocolResponse(True))
        return self

    def challenged(self) -> Served:
        rounds = 100 if self.generation.server_first else 0
        self.opened().say(HandshakeChallenge(b"s" * 16, rounds=rounds))
        assert isinstance(self.machine.decision, ChallengeReceived), self.events
        return self

    @property
    def ended(self) -> Ended:
        end = self.events[-1]
        assert isinstance(end, Ended), self.events
        return end


class ServerTests(SynchronousTestCase):
    """What servers say, and what a client makes of it."""

    def test_request(self) -> None:
        """SB-21: OpenStarbound clients send their request compressed, retail clients do not."""
        for name, compressed in (("1.4", False), ("opensb", True)):
            machine = client(name)
            data = machine.data_to_send()
            header = read_header(data)
            assert header is not None
            self.assertEqual((header[0], header[1] < 0), (0, compressed))
            assert machine.opened_with is not None
            self.assertEqual((machine.opened_with.name, machine.opened_with.size), ("ProtocolRequest", len(data)))

    def test_rounds(self) -> None:
        """SB-4: fewer than 100 rounds are refused, more than max_rounds too."""
        for name in SERVER_FIRST:
            for rounds, fine in ((99, False), (0, False), (-5, False), (100, True), (1000, True), (1001, False)):
                served = Served(name, max_rounds=1000).opened()
                served.say(HandshakeChallenge(b"salt", rounds=rounds))
                self.assertEqual(isinstance(served.machine.decision, ChallengeReceived), fine)
                if not fine:
                    self.assertEqual(served.ended.outcome, Outcome.REFUSED)
                    word = "Not Enough Rounds" if rounds < 100 else "max_rounds"
                    self.assertIn(word, served.ended.reason)
        self.assertEqual(client("seed")._settings.max_rounds, 100_000)

    def test_salt(self) -> None:
        """SB-20: a salt of up to 1 KiB; SB-3: any where the server speaks first."""
        for name in ALL:
            for size in (0, 1024, 1025, 4000):
                served = Served(name).opened()
                served.say(HandshakeChallenge(b"s" * size, rounds=100 if name in SERVER_FIRST else 0))
                fine = name in SERVER_FIRST or size <= 1024
                self.assertEqual(isinstance(served.machine.decision, ChallengeReceived), fine, (name, size))

    def test_challenge(self) -> None:
        """What the driver is told, and what goes out."""
        for name in ALL:
            served = Served(name)
            if served.generation is OPENSB:
                served.machine.data_to_send()
            decision = served.challenged().machine.decision
            assert isinstance(decision, ChallengeReceived)
            self.assertEqual((decision.account, decision.account_bytes, decision.salt), ("bob", b"bob", b"s" * 16))
            served.machine.data_to_send()
            (sent,) = served.machine.respond(proof(decision), NOW)
            assert isinstance(sent, PacketSent)
            self.assertEqual(sent.name, "HandshakeResponse")
            self.assertNotIn(proof(decision).hex(), sent.detail)
            with self.assertRaises(LocalProtocolError):
                served.machine.respond(bytes(32), NOW)

    def test_response_without_info(self) -> None:
        """SB-21: a compressed response without info comes from an older server, which wants zstd."""
        served = Served("opensb")
        served.machine.data_to_send()
        served.say(ProtocolResponse(True), compressed=True)
        self.assertEqual(served.machine.compression, "zstd")
        self.assertEqual(served.machine.generation, OPENSB)
        source = bytearray(served.machine.data_to_send())
        self.assertEqual(Decoder().decode(source, 1000)[0], 13)

    def test_retail_response(self) -> None:
        """SB-21: an uncompressed response comes from a retail server; compressed or not is free to retail clients."""
        for name, compressed in (("opensb", False), ("1.4", False), ("1.4", True)):
            served = Served(name)
            served.machine.data_to_send()
            served.say(ProtocolResponse(True), compressed=compressed)
            self.assertEqual((served.machine.generation, served.machine.compression), (GENERATIONS["1.4"], "none"))
            self.assertEqual(served.machine.data_to_send()[0], 13)

    def test_strange_info(self) -> None:
        for info, outcome in (
            ({"compression": "None"}, None),
            ({}, None),
            (None, None),
            ([1], None),
            ({"compression": "Brotli"}, Outcome.REFUSED),
            ({"compression": 5}, Outcome.REFUSED),
            ({"compression": {"a": "\x1b"}}, Outcome.REFUSED),
        ):
            served = Served("opensb")
            served.say(ProtocolResponse(True, EncodedVariant.of(info)), compressed=True)
            self.assertEqual(served.machine.ended, outcome is not None, info)
            if outcome is not None:
                self.assertEqual(served.ended.outcome, outcome)
                self.assertTrue(served.ended.reason.isprintable())
            else:
                self.assertEqual(served.machine.compression, "none")

    def test_not_allowed(self) -> None:
        """SB-23: a server that does not speak our version."""
        for name in CLIENT_FIRST:
            for compressed in (False, True):
                served = Served(name)
                served.say(ProtocolResponse(False), compressed=compressed)
                self.assertEqual(served.ended.outcome, Outcome.REFUSED)
                self.assertIn("747", served.ended.reason)

    def test_while_we_think(self) -> None:
        """SB-23: what comes while the hash is made waits for it: a server may have lost patience."""
        for name in CLIENT_FIRST:
            served = Served(name).challenged()
            self.assertEqual(served.say(ConnectFailure("connect timeout")), [])
            events = served.machine.respond(bytes(32), NOW)
            self.assertEqual(events[-1], Ended(Outcome.REFUSED, "the server refuses: connect timeout"))

    def test_disconnect_before_acceptance(self) -> None:
        for name in CLIENT_FIRST:
            served = Served(name).opened()
            served.say(ServerDisconnect("shutting down"))
            self.assertEqual(served.ended, Ended(Outcome.REFUSED, "the server refuses: shutting down"))

    def test_disconnect_without_a_reason(self) -> None:
        """A goodbye is one, whatever is in it; the frames before it are handed on."""
        pair = accepted("1.4")
        events = take(pair.client, Frame(20, b"x").encode() + b"\x02\x02\x09")
        self.assertEqual(len([event for event in events if isinstance(event, Received)]), 2)
        end = events[-1]
        assert isinstance(end, Ended)
        self.assertEqual(end.outcome, Outcome.LEFT)
        self.assertIn("no reason", end.reason)

    def test_wrong_order(self) -> None:
        """SB-1: every packet that is not expected, in every state and generation."""
        packets = (
            ProtocolVersion(628),
            ProtocolRequest(747),
            ProtocolResponse(True),
            player(),
            HandshakeChallenge(b"s", rounds=100),
            HandshakeResponse(b""),
            ConnectionResponse(True, 1),
            ConnectSuccess(1),
            ConnectFailure(""),
            ServerDisconnect(""),
            ClientDisconnectRequest(),
        )
        allowed: dict[tuple[bool, str], set[type[Packet]]] = {
            (True, "new"): {ProtocolVersion},
            (True, "opened"): {HandshakeChallenge},
            (True, "responded"): {ConnectionResponse},
            (False, "new"): {ProtocolResponse},
            (False, "opened"): {HandshakeChallenge, ConnectSuccess, ConnectFailure, ServerDisconnect},
            (False, "responded"): {ConnectSuccess, ConnectFailure, ServerDisconnect},
        }
        for name in ALL:
            generation = GENERATIONS[name]
            for reach in ("new", "opened", "responded"):
                expected = allowed[generation.server_first, reach]
                for packet in packets:
                    if type(packet) in expected or type(packet) not in generation.layouts:
                        continue
                    served = Served(name)
                    if reach == "opened":
                        served.opened()
                    elif reach == "responded":
                        served.challenged().machine.respond(bytes(32), NOW)
                    served.say(packet)
                    self.assertEqual(served.ended.outcome, Outcome.MALFORMED, (name, reach, packet))
                    self.assertIn("expected was", served.ended.reason)
                    self.assertEqual(ANOTHER_GENERATION in served.ended.reason, reach == "new")

    def test_large_packets(self) -> None:
        """COM-2: a client believes 4 KiB before acceptance."""
        for name in ALL:
            served = Served(name).opened()
            served.say(HandshakeChallenge(b"s" * 5000, rounds=100 if name in SERVER_FIRST else 0))
            self.assertEqual(served.ended.outcome, Outcome.MALFORMED)
            self.assertIn("at most 4096", served.ended.reason)

    def test_uuid(self) -> None:
        """SB-20: where a UUID is needed and there is none, one is made; where it is not, there stays none."""
        for name, expected in (("seed", None), ("1.4", counting(16))):
            served = Served(name, ClientConnect(name="x")).opened()
            data = served.machine.data_to_send()
            if name == "1.4":
                data = data[len(served.generation.encode(ProtocolRequest(747))) :]
            header = read_header(data)
            assert header is not None
            packet = served.generation.decode_one(ClientConnect, data[header[2] :])
            self.assertEqual(packet.uuid, expected)

    def test_the_ship_is_let_go(self) -> None:
        """Megabytes that were said are not kept."""
        served = Served("seed", player(shipworld=bytes(1000))).opened()
        self.assertEqual(served.machine._player.shipworld, b"")

    def test_deadline(self) -> None:
        for name in ALL:
            for reach in ("opened", "challenged"):
                served = Served(name)
                getattr(served, reach)()
                (end,) = served.machine.handle_deadline(NOW + 31)
                assert isinstance(end, Ended)
                self.assertEqual(end.outcome, Outcome.TIMEOUT)

    def test_celestial_information(self) -> None:
        """enraged-koala: with the last bool, without it, and with what it announces."""
        for celestial in (None, b"", bytes(28)):
            served = Served("enraged-koala").challenged()
            served.machine.respond(bytes(32), NOW)
            events = served.say(ConnectionResponse(True, 5, celestial=celestial))
            self.assertIsInstance(events[-1], Established)
            self.assertEqual(served.machine.client_id, 5)

    def test_success(self) -> None:
        served = Served("1.4").challenged()
        served.machine.respond(bytes(32), NOW)
        served.say(ConnectSuccess(300, UUID, chunk_size=50))
        self.assertEqual(served.machine.success, ConnectSuccess(300, UUID, chunk_size=50))
