"""Tests of the server's side: :mod:`connectd.protocols.starbound.server_machine`."""

from __future__ import annotations

import base64
import sys
import tracemalloc
import zlib
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.starbound.encoding import encode_signed_vlq, encode_vlq
from connectd.protocols.starbound.events import ConnectRequested, ResponseReceived, ShipworldReceived
from connectd.protocols.starbound.fields import MAXIMUM_WORLD_CHUNKS, WORLD_CHUNKS
from connectd.protocols.starbound.frames import Frame, encode_frame, inflate, read_header
from connectd.protocols.starbound.framing import HANDSHAKE_LIMIT, LONG
from connectd.protocols.starbound.generations import GENERATIONS
from connectd.protocols.starbound.hashing import encode_legacy_response
from connectd.protocols.starbound.machine import ServerMachine
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
    encode_payload,
)
from connectd.protocols.starbound.texts import NO_SUCH_ACCOUNT, UNEXPECTED_PACKET, no_such_account
from connectd.protocols.starbound.variant import EncodedVariant
from connectd.protocols.starbound.zstd_stream import MAXIMUM_WINDOW_LOG, Decoder, Encoder
from connectd.sansio import Ended, Established, Event, LocalProtocolError, Outcome, Received
from tests.protocols.starbound.exchange import (
    ALL,
    CLIENT_FIRST,
    CLIENT_ID,
    NOW,
    ROUNDS,
    SERVER_FIRST,
    UUID,
    counting,
    of,
    player,
    proof,
    server,
    take,
    whole,
)

if sys.version_info >= (3, 14):
    from compression.zstd import compress as zstd_compress
else:
    from backports.zstd import compress as zstd_compress

MEGABYTE = 1 << 20


class Peer:
    """A server's machine, and a client made by hand.

    :param generation: what the client speaks.
    """

    def __init__(self, generation: str, machine: ServerMachine | None = None, **fields: Any) -> None:
        self.generation = GENERATIONS[generation]
        self.machine = server(generation, **fields) if machine is None else machine
        self.events: list[Event] = []
        self.decoder: Decoder | None = None
        self.encoder: Encoder | None = None
        self.separate = False
        """Send a zstd frame for each packet."""

    def raw(self, data: bytes) -> list[Event]:
        events = take(self.machine, data)
        self.events += events
        return events

    def say(self, packet: Packet, *, compressed: bool = False) -> list[Event]:
        data = self.generation.encode(packet, compressed=compressed)
        if self.encoder is not None:
            data = zstd_compress(data) if self.separate else self.encoder.encode(data)
        return self.raw(data)

    def frames(self) -> list[tuple[int, bytes, bool]]:
        """What the server said: (id, payload, compressed)."""
        data = self.machine.data_to_send()
        if self.decoder is not None:
            source, data = bytearray(data), b""
            while piece := self.decoder.decode(source, 100_000):
                data += piece
        found = []
        while data:
            header = read_header(data)
            assert header is not None
            number, length, start = header
            end = start + abs(length)
            payload = data[start:end] if length >= 0 else inflate(data[start:end], 100_000)
            assert payload is not None
            found.append((number, payload, length < 0))
            data = data[end:]
        return found

    def heard(self) -> list[Any]:
        """The packets that the server said."""
        kinds = {number: kind for kind, number in self.generation.numbers.items()}
        return [self.generation.decode_one(kinds[number], payload) for number, payload, _ in self.frames()]

    def opened(self) -> Peer:
        """Up to where the ClientConnect is awaited."""
        if self.generation.server_first:
            assert [type(one) for one in self.heard()] == [ProtocolVersion]
        else:
            opensb = self.generation.name == "opensb"
            self.say(ProtocolRequest(747), compressed=opensb)
            (response,) = self.heard()
            assert isinstance(response, ProtocolResponse)
            if opensb and response.info is not None and response.info.value["compression"] == "Zstd":
                self.encoder, self.decoder = Encoder(), Decoder()
        return self

    def connected(self, who: ClientConnect | None = None) -> Peer:
        """Up to where the first Decision is open."""
        self.opened().say(player() if who is None else who)
        assert isinstance(self.machine.decision, ConnectRequested), self.events
        return self

    def challenged(self, who: ClientConnect | None = None) -> HandshakeChallenge:
        """Up to where the response is awaited."""
        self.connected(who)
        self.machine.challenge(NOW)
        (challenge,) = self.heard()
        assert isinstance(challenge, HandshakeChallenge)
        return challenge

    def answered(self, who: ClientConnect | None = None) -> ResponseReceived:
        """Up to where the second Decision is open."""
        challenge = self.challenged(who)
        self.respond(challenge)
        decision = self.machine.decision
        assert isinstance(decision, ResponseReceived)
        return decision

    def respond(self, challenge: HandshakeChallenge, account: str = "bob") -> list[Event]:
        digest = proof(ResponseReceived("", account, challenge.salt, challenge.rounds, b""))
        return self.say(HandshakeResponse(encode_legacy_response(digest) if self.generation.server_first else digest))

    def accepted(self) -> Peer:
        self.answered()
        self.events += self.machine.accept(CLIENT_ID, NOW)
        self.heard()
        return self

    @property
    def ended(self) -> Ended:
        end = self.events[-1]
        assert isinstance(end, Ended), self.events
        return end


class LoginTests(SynchronousTestCase):
    """The way in, in each generation."""

    def test_versions(self) -> None:
        """SB-2: the server announces the version of its generation; that of the seed can be set."""
        for name, version in (("seed", 628), ("angry-koala", 628), ("furious-koala", 636), ("enraged-koala", 639)):
            self.assertEqual(Peer(name).heard(), [ProtocolVersion(version)])
        self.assertEqual(Peer("seed", version=999).heard(), [ProtocolVersion(999)])
        self.assertEqual(Peer("enraged-koala", version=999).heard(), [ProtocolVersion(639)])
        for name in CLIENT_FIRST:
            self.assertEqual(Peer(name).heard(), [])

    def test_accepted(self) -> None:
        """SB-1, SB-10: all packets in order, and the client id that was given."""
        for name in ALL:
            peer = Peer(name)
            decision = peer.answered()
            self.assertEqual(decision.response, proof(decision))
            self.assertEqual((decision.generation, decision.account), (name, "bob"))
            self.assertEqual(peer.machine.accept(300, NOW), [Established()])
            (last,) = peer.heard()
            self.assertEqual(peer.machine.client_id, 300)
            self.assertIsNone(peer.machine.deadline())
            if name == "enraged-koala":
                self.assertEqual(last, ConnectionResponse(True, 300, celestial=b""))
            elif name in SERVER_FIRST:
                self.assertEqual(last, ConnectionResponse(True, 300))
            else:
                self.assertEqual(last, ConnectSuccess(300, UUID))

    def test_what_is_told(self) -> None:
        """The Decision tells all that the client said, without its ship."""
        for name in ALL:
            who = player("\udcffann", shipworld=b"x" * 100, world_chunks=((b"k", b"v"),))
            decision = Peer(name).connected(who).machine.decision
            assert isinstance(decision, ConnectRequested)
            self.assertEqual((decision.account_bytes, decision.account), (b"\xffann", "\udcffann"))
            self.assertEqual((decision.name, decision.species, decision.uuid), ("Bob", "human", UUID))
            self.assertEqual((decision.packet.shipworld, decision.packet.world_chunks), (b"", ()))
            self.assertEqual(decision.digest, b"")

    def test_server_first_challenge(self) -> None:
        """SB-4, SB-6, SB-3: an empty claim, 32 base64 characters from the generator, the rounds; always."""
        for name in SERVER_FIRST:
            for account in ("bob", ""):
                challenge = Peer(name).challenged(player(account))
                salt = base64.b64encode(counting(24))
                self.assertEqual(challenge, HandshakeChallenge(salt, "", ROUNDS))
                self.assertEqual(len(salt), 32)
            self.assertEqual(Peer(name, rounds=5000).challenged().rounds, 5000)

    def test_client_first_challenge(self) -> None:
        """SB-20: 16 random bytes, for an account only, and then always."""
        for name in CLIENT_FIRST:
            self.assertEqual(Peer(name).challenged(), HandshakeChallenge(counting(16)))
            peer = Peer(name).connected(player(""))
            with self.assertRaises(LocalProtocolError):
                peer.machine.challenge(NOW)
            self.assertEqual(peer.machine.accept(1, NOW), [Established()])
            peer = Peer(name).connected()
            with self.assertRaises(LocalProtocolError):
                peer.machine.accept(1, NOW)

    def test_no_acceptance_without_a_response(self) -> None:
        """SB-1: where the server speaks first nobody comes in without the challenge."""
        for name in SERVER_FIRST:
            for account in ("bob", ""):
                with self.assertRaises(LocalProtocolError):
                    Peer(name).connected(player(account)).machine.accept(1, NOW)

    def test_verbs_at_wrong_times(self) -> None:
        for name in ALL:
            peer = Peer(name)
            with self.assertRaises(LocalProtocolError):
                peer.machine.challenge(NOW)
            with self.assertRaises(LocalProtocolError):
                peer.machine.accept(1, NOW)
            with self.assertRaises(LocalProtocolError):
                peer.machine.refuse("no", NOW)
            with self.assertRaises(LocalProtocolError):
                peer.machine.send(b"", NOW)
            decision = peer.answered()
            with self.assertRaises(LocalProtocolError):
                peer.machine.challenge(NOW)
            self.assertIs(peer.machine.decision, decision)

    def test_wrong_base64(self) -> None:
        """A proof that is no hash is a wrong one, and no more."""
        peer = Peer("seed")
        peer.challenged()
        peer.say(HandshakeResponse(b"nonsense"))
        decision = peer.machine.decision
        assert isinstance(decision, ResponseReceived)
        self.assertEqual(decision.response, b"")

    def test_no_secrets(self) -> None:
        """COM-9: a proof shows in no repr."""
        for name in ALL:
            decision = Peer(name).answered()
            self.assertNotIn("response", repr(decision))


class RefusalTests(SynchronousTestCase):
    """SB-1, SB-9, SB-23, COM-12: who is told what, and when."""

    def test_server_first_completes_all_packets(self) -> None:
        """SB-1: a refused connection goes through the challenge."""
        for name in SERVER_FIRST:
            peer = Peer(name).connected()
            self.assertEqual(peer.machine.refuse("You are banned: x", NOW, Outcome.BANNED), [])
            (challenge,) = peer.heard()
            assert isinstance(challenge, HandshakeChallenge)
            self.assertFalse(peer.machine.ended)
            self.assertIsNone(peer.machine.decision)
            events = peer.respond(challenge)
            self.assertEqual(events, [Ended(Outcome.BANNED, "You are banned: x")])
            (last,) = peer.heard()
            self.assertEqual((last.success, last.client_id, last.reason), (False, 0, "You are banned: x"))

    def test_after_the_response(self) -> None:
        """SB-9, SB-23: a refusal, then the end."""
        for name in ALL:
            peer = Peer(name)
            peer.answered()
            self.assertEqual(peer.machine.refuse("no such", NOW), [Ended(Outcome.REFUSED, "no such")])
            (last,) = peer.heard()
            self.assertEqual(last.reason, "no such")
            self.assertIsInstance(last, ConnectionResponse if name in SERVER_FIRST else ConnectFailure)

    def test_wrong_proof(self) -> None:
        """SB-9, SB-23, COM-9: the client is told which account it named where its generation says so; the event is
        not: people confuse the fields."""
        for name in ALL:
            peer = Peer(name)
            peer.answered()
            end = peer.machine.refuse(NO_SUCH_ACCOUNT, NOW)
            self.assertEqual(end, [Ended(Outcome.REFUSED, NO_SUCH_ACCOUNT)])
            (last,) = peer.heard()
            self.assertEqual(last.reason, no_such_account(name, "bob"))

    def test_client_first_at_once(self) -> None:
        """SB-23: ConnectFailure needs no challenge."""
        for name in CLIENT_FIRST:
            peer = Peer(name).connected()
            events = peer.machine.refuse("Max player connections", NOW, Outcome.LIMITED)
            self.assertEqual(events, [Ended(Outcome.LIMITED, "Max player connections")])
            self.assertEqual(peer.heard(), [ConnectFailure("Max player connections")])

    def test_wrong_version(self) -> None:
        """SB-23: ProtocolResponse false, compressed for whoever compresses."""
        for name in CLIENT_FIRST:
            for compressed in (False, True):
                peer = Peer(name)
                peer.say(ProtocolRequest(746), compressed=compressed)
                self.assertEqual(peer.ended.outcome, Outcome.REFUSED)
                self.assertEqual(peer.frames(), [(1, b"\x00", compressed)])

    def test_no_request(self) -> None:
        """SB-23: another first packet: a plain close."""
        for name in CLIENT_FIRST:
            peer = Peer(name)
            peer.say(player())
            self.assertEqual((peer.ended.outcome, peer.ended.offset), (Outcome.MALFORMED, 0))
            self.assertEqual(peer.machine.data_to_send(), b"")

    def ends(self, peer: Peer, how: str) -> Ended:
        machine = peer.machine
        events = {
            "deadline": lambda: machine.handle_deadline(NOW + 31),
            "drain": lambda: machine.close(Outcome.SHUTDOWN, "Server is shutting down", NOW),
            "malformed": lambda: (
                peer.say(ProtocolRequest(1)) if not peer.generation.server_first else peer.raw(b"\xff")
            ),
        }[how]()
        (end,) = events
        assert isinstance(end, Ended)
        return end

    def test_server_first_before_the_response(self) -> None:
        """SB-1, COM-12: deadline, drain and malformed input before HandshakeResponse close without a word."""
        for name in SERVER_FIRST:
            for how, outcome in (
                ("deadline", Outcome.TIMEOUT),
                ("drain", Outcome.SHUTDOWN),
                ("malformed", Outcome.MALFORMED),
            ):
                for reach in ("opened", "connected", "challenged", "refused"):
                    peer = Peer(name)
                    if reach == "refused":
                        peer.connected().machine.refuse("no", NOW)
                        peer.heard()
                    else:
                        getattr(peer, reach)()
                    self.assertEqual(self.ends(peer, how).outcome, outcome)
                    self.assertEqual(peer.machine.data_to_send(), b"", (name, how, reach))

    def test_server_first_after_the_response(self) -> None:
        """COM-12: from HandshakeResponse on there are words."""
        for name in SERVER_FIRST:
            for how, told in (
                ("deadline", "Handshake took too long"),
                ("drain", "Server is shutting down"),
                ("malformed", UNEXPECTED_PACKET),
            ):
                peer = Peer(name)
                peer.answered()
                self.ends(peer, how)
                (last,) = peer.heard()
                self.assertEqual((last.success, last.reason), (False, told))

    def test_client_first(self) -> None:
        """SB-23: from the ProtocolResponse on there are words; the deadline says "connect timeout"."""
        for name in CLIENT_FIRST:
            for how, told in (
                ("deadline", "connect timeout"),
                ("drain", "Server is shutting down"),
                ("malformed", None),
            ):
                for reach in ("opened", "connected", "challenged", "answered"):
                    peer = Peer(name)
                    getattr(peer, reach)()
                    self.ends(peer, how)
                    (last,) = peer.heard()
                    assert isinstance(last, ConnectFailure)
                    if told is not None:
                        self.assertEqual(last.reason, told)

    def test_client_first_before_the_request(self) -> None:
        """SB-23, COM-12: nothing is said to whom nothing was said yet."""
        for name in CLIENT_FIRST:
            for data in (b"", b"\x00", b"\x00\x08\x00"):
                for how in ("deadline", "drain"):
                    peer = Peer(name)
                    peer.raw(data)
                    self.ends(peer, how)
                    self.assertEqual(peer.machine.data_to_send(), b"")

    def test_accepted(self) -> None:
        """SB-9: where the server speaks first kicks are plain; SB-23: otherwise a ServerDisconnect says why."""
        for name in ALL:
            peer = Peer(name).accepted()
            self.assertEqual(peer.machine.close(Outcome.KICKED, "bye", NOW), [Ended(Outcome.KICKED, "bye")])
            self.assertEqual(peer.heard(), [] if name in SERVER_FIRST else [ServerDisconnect("bye")])

    def test_inside_of_a_frame(self) -> None:
        """A goodbye is only said where a frame can begin."""
        for sent, said in ((b"\x05\x06ab", 0), (b"\x05", 0), (b"\x05\x06abc", 2), (b"\x05\x06abc\x06\x00", 3)):
            peer = Peer("1.4").accepted()
            peer.machine.send(sent, NOW)
            before = peer.machine.data_to_send()
            peer.machine.close(Outcome.KICKED, "bye", NOW)
            after = peer.machine.data_to_send()
            self.assertEqual(before, sent)
            self.assertEqual(bool(after), bool(said))

    def test_long_texts(self) -> None:
        """A text is cut between characters: clients take 4 KiB."""
        peer = Peer("1.4").connected()
        peer.machine.refuse("é" * 4000, NOW)
        self.assertEqual(peer.heard(), [ConnectFailure("é" * 512)])


class OrderTests(SynchronousTestCase):
    """SB-1: no other packet may come in between."""

    def test_before_its_time(self) -> None:
        """Whatever comes while a Decision is open ends it, together with what came before or later."""
        for name in ALL:
            for reach in ("connected", "answered"):
                for packet in (player(), HandshakeResponse(b"x")):
                    peer = Peer(name)
                    getattr(peer, reach)()
                    peer.say(packet)
                    self.assertEqual(peer.ended.outcome, Outcome.MALFORMED)

    def test_pipelined(self) -> None:
        """In one segment with what it should have waited for: no Decision is told of."""
        for name in SERVER_FIRST:
            peer = Peer(name).opened()
            connect = peer.generation.encode(player())
            events = peer.raw(connect + peer.generation.encode(HandshakeResponse(b"x")))
            self.assertEqual([type(event) for event in events], [Ended])
            self.assertEqual(peer.ended.offset, len(connect))

    def test_pipelined_with_zstd(self) -> None:
        """SB-21: the same inside of a zstd stream. That stream's own end is nobody's packet."""
        peer = Peer("opensb").opened()
        assert peer.encoder is not None
        connect = peer.generation.encode(player())
        events = peer.raw(peer.encoder.encode(connect + b"\x0f"))
        self.assertEqual([type(event) for event in events], [Ended])
        for trailing, ends in ((b"", False), (zstd_compress(b""), False), (zstd_compress(b"x"), True), (b"x", True)):
            peer = Peer("opensb").opened()
            events = peer.raw(zstd_compress(connect) + trailing)
            self.assertEqual([type(event) for event in events], [Ended if ends else ConnectRequested], trailing)
            peer = Peer("opensb").opened()
            peer.raw(zstd_compress(connect))
            if trailing:
                self.assertEqual([type(event) for event in peer.raw(trailing)], [Ended] if ends else [])

    def test_two_in_a_frame(self) -> None:
        """SB-22: packets may share a frame, but there is only one ClientConnect."""
        for name in ALL:
            generation = GENERATIONS[name]
            payload = encode_payload(player(), generation.layouts[ClientConnect])
            for compressed in (False, True):
                peer = Peer(name).opened()
                data = encode_frame(generation.number(ClientConnect), payload * 2, compressed=compressed)
                peer.raw(data if peer.encoder is None else peer.encoder.encode(data))
                self.assertEqual(peer.ended.outcome, Outcome.MALFORMED)
                self.assertIn("bytes follow the ClientConnect", peer.ended.reason)

    def test_wrong_packets(self) -> None:
        """Every packet that is not the expected one, in every state and generation."""
        for name in ALL:
            generation = GENERATIONS[name]
            for reach, expected in (("opened", ClientConnect), ("challenged", HandshakeResponse)):
                for number in {*range(20), 127, 255} - {generation.number(expected)}:
                    peer = Peer(name)
                    getattr(peer, reach)()
                    data = bytes((number, 2, 0))
                    peer.raw(data if peer.encoder is None else peer.encoder.encode(data))
                    self.assertEqual(peer.ended.outcome, Outcome.MALFORMED)
                    self.assertIn(f"packet {number}, expected was {expected.__name__}", peer.ended.reason)

    def test_at_the_first_byte(self) -> None:
        """COM-3: a wrong id is noticed at once, at its offset."""
        peer = Peer("seed").opened()
        peer.raw(b"\x08")
        self.assertEqual((peer.ended.outcome, peer.ended.offset), (Outcome.MALFORMED, 0))
        peer = Peer("1.4").opened()
        peer.raw(b"\x08")
        self.assertEqual(peer.ended.offset, 6)

    def test_inside_of_a_packet(self) -> None:
        """COM-3: the offset is that of the wrong byte in all that came; in what is compressed, that of its stream."""
        payload = b"\x00\x09" + bytes(50)
        for compressed, offset in ((False, 3), (True, 2)):
            peer = Peer("seed").opened()
            peer.raw(encode_frame(6, payload, compressed=compressed))
            self.assertEqual(peer.ended, Ended(Outcome.MALFORMED, "a Variant of type 9", offset))


class LimitTests(SynchronousTestCase):
    """SB-8, COM-2: what a stranger can make us hold."""

    def test_client_connect(self) -> None:
        """SB-8: 8 MiB unless set, by the header alone, and inflated."""
        for name in (*SERVER_FIRST, "1.4"):
            generation = GENERATIONS[name]
            number = generation.number(ClientConnect)
            for limit in (8 * MEGABYTE, 5000):
                header = bytes((number,)) + encode_signed_vlq(limit + 1)
                peer = Peer(name, client_connect_limit=limit).opened()
                peer.raw(header)
                self.assertIn(f"at most {limit}", peer.ended.reason)
                peer = Peer(name, client_connect_limit=limit).opened()
                peer.raw(bytes((number,)) + encode_signed_vlq(limit))
                self.assertFalse(peer.machine.ended)
                peer = Peer(name, client_connect_limit=limit).opened()
                peer.raw(bytes((number,)) + encode_signed_vlq(-2 * limit))
                self.assertTrue(peer.machine.ended)

    def test_bomb(self) -> None:
        """SB-8: a compressed ClientConnect stops at the cap while it inflates, and little is held meanwhile."""
        bomb = b"\x00\x01\x00\x00\x00" + encode_vlq(64 * MEGABYTE) + bytes(64 * MEGABYTE)
        stream = zlib.compress(bomb)
        self.assertLess(len(stream), 100_000)
        peer = Peer("seed").opened()
        peer.raw(b"\x06" + encode_signed_vlq(-len(stream)) + stream)
        self.assertEqual(peer.ended.outcome, Outcome.MALFORMED)
        dishonest = b"\x00\x01\x00\x00\x00" + encode_vlq(8 * MEGABYTE - 100) + bytes(64 * MEGABYTE)
        stream = zlib.compress(dishonest)
        peer = Peer("seed").opened()
        data = b"\x06" + encode_signed_vlq(-len(stream)) + stream
        largest = 0
        for start in range(0, len(data), 1000):
            peer.raw(data[start : start + 1000])
            largest = max(largest, peer.machine.held)
        self.assertEqual(peer.ended.outcome, Outcome.MALFORMED)
        self.assertLess(largest, 200_000)

    def test_large_ones_are_dropped(self) -> None:
        """SB-8: of 8 MiB, plain or compressed, next to nothing is held."""
        for name in ALL:
            big = bytes(1_500_000)
            who = player(shipworld=big, world_chunks=((b"key", big), (b"k", None)))
            peer = Peer(name).opened()
            for compressed in (False, True):
                peer = Peer(name).opened()
                data = peer.generation.encode(who, compressed=compressed)
                if peer.encoder is not None:
                    data = peer.encoder.encode(data)
                before, largest = peer.machine.held, 0
                for start in range(0, len(data), 10_000):
                    peer.raw(data[start : start + 10_000])
                    largest = max(largest, peer.machine.held - before)
                self.assertIsInstance(peer.machine.decision, ConnectRequested)
                self.assertLess(largest, 700_000 if name == "opensb" else 120_000, (name, compressed))

    def test_everything_else(self) -> None:
        """SB-8: every other handshake packet has at most 4 KiB, decompressed."""
        for name in ALL:
            generation = GENERATIONS[name]
            overhead = 3 if generation.server_first else 2
            for size, fits in ((HANDSHAKE_LIMIT - overhead, True), (HANDSHAKE_LIMIT - overhead + 1, False)):
                for compressed in (False, True):
                    peer = Peer(name)
                    peer.challenged()
                    peer.say(HandshakeResponse(b"A" * size), compressed=compressed)
                    self.assertEqual(not peer.machine.ended, fits, (name, size, compressed))

    def test_incompressible(self) -> None:
        """What zlib makes longer is judged by what it inflates to."""
        peer = Peer("seed")
        peer.challenged()
        payload = encode_payload(HandshakeResponse(bytes(range(256)) * 15), peer.generation.layouts[HandshakeResponse])
        stream = zlib.compress(payload, 0)
        self.assertGreater(len(stream), len(payload))
        peer.raw(b"\x08" + encode_signed_vlq(-len(stream)) + stream)
        self.assertIsInstance(peer.machine.decision, ResponseReceived)

    def test_besides_the_ship(self) -> None:
        """SB-5, SB-8, SB-11: 1 KiB for each string and the digest, and 256 KiB for all; the largest Variant fits."""
        for name in ALL:
            for field in ("account", "name", "species", "asset_digest"):
                for size, fits in ((1024, True), (1025, False)):
                    text: Any = b"x" * size if field == "asset_digest" else "x" * size
                    peer = Peer(name).opened()
                    peer.say(attrs.evolve(player(), **{field: text}))
                    self.assertEqual(not peer.machine.ended, fits, (name, field, size))
        for value, fits in (([None] * 65_535, True), ("x" * 262_000, True), ("x" * 263_000, False)):
            for name, field in (("seed", "claim"), ("opensb", "info")):
                peer = Peer(name).opened()
                fields: dict[str, Any] = {field: EncodedVariant.of(value)}
                peer.say(attrs.evolve(player(), **fields))
                self.assertEqual(not peer.machine.ended, fits, (name, len(value)))
        peer = Peer("1.4").opened()
        peer.say(player(capabilities=("x" * 1024,) * 300))
        self.assertIn("to be kept", peer.ended.reason)

    def test_held(self) -> None:
        """SB-8: what is held is told: input, what is parsed of it, zlib's and zstd's windows."""
        peer = Peer("seed").opened()
        self.assertEqual(peer.machine.held, 0)
        peer.raw(peer.generation.encode(player())[:1])
        self.assertEqual(peer.machine.held, 1)
        peer = Peer("seed").opened()
        peer.raw(b"\x06" + encode_signed_vlq(MEGABYTE) + b"\x00\x05" + encode_vlq(50_000) + bytes(30_000))
        self.assertTrue(30_000 <= peer.machine.held < 50_000)
        peer.raw(bytes(20_000) + b"\x00" + encode_vlq(1000) + bytes(500))
        self.assertTrue(50_500 <= peer.machine.held < 70_000)
        peer.machine.close(Outcome.LIMITED, "too much", NOW)
        self.assertEqual(peer.machine.held, 0)
        peer = Peer("seed").connected(player(claim=EncodedVariant.of("x" * 60_000)))
        self.assertTrue(60_000 <= peer.machine.held < 61_000)
        compressed = Peer("seed").opened()
        compressed.raw(compressed.generation.encode(player(), compressed=True)[:9])
        self.assertGreater(compressed.machine.held, 32_768)

    def test_held_windows(self) -> None:
        """SB-8, SB-21: a window of 32 MiB is counted as far as it is filled; a larger one is refused."""
        peer = Peer("opensb").opened()
        window = bytes(((MAXIMUM_WINDOW_LOG - 10) << 3,))
        peer.raw(b"\x28\xb5\x2f\xfd\x00" + window + b"\x00")
        declared = peer.machine.held
        self.assertLess(declared, 2 * MEGABYTE)
        peer = Peer("opensb").opened()
        peer.raw(b"\x28\xb5\x2f\xfd\x00" + bytes(((MAXIMUM_WINDOW_LOG - 9) << 3,)) + b"\x00")
        self.assertEqual(peer.ended.outcome, Outcome.MALFORMED)
        self.assertIn("window", peer.ended.reason)

    def test_work_in_turns(self) -> None:
        """SB-11, SB-24: what inflates to tens of thousands of values is not parsed in one turn."""
        chunks = ((b"", None),) * MAXIMUM_WORLD_CHUNKS
        peer = Peer("1.4").opened()
        data = peer.generation.encode(player(world_chunks=chunks), compressed=True)
        self.assertLess(len(data), 2000)
        self.assertEqual(peer.machine.receive_data(data, NOW), [])
        turns = 0
        events: list[Event] = []
        while peer.machine.wants_turn:
            turns += 1
            events += peer.machine.turn(NOW)
        self.assertGreater(turns, 4)
        self.assertEqual([type(event) for event in events], [ConnectRequested])


class ShipworldTests(SynchronousTestCase):
    """SB-8: a server that wants the shipworld gets all of it, before the Decision."""

    def test_handed_out(self) -> None:
        ship = bytes(range(256)) * 300
        world = ((b"\x01", ship), (b"\x02", None), (b"k" * 9000, b""))
        for name in ALL:
            for compressed in (False, True):
                peer = Peer(name, keep_shipworld=True).opened()
                data = peer.generation.encode(player(shipworld=ship, world_chunks=world), compressed=compressed)
                peer.raw(data if peer.encoder is None else peer.encoder.encode(data))
                pieces = [event.data for event in peer.events if isinstance(event, ShipworldReceived)]
                expected = ship if name in SERVER_FIRST else WORLD_CHUNKS.encode(world)
                self.assertEqual(b"".join(pieces), expected)
                self.assertLessEqual(max(map(len, pieces)), 16_384)
                self.assertIsInstance(peer.events[-1], ConnectRequested)

    def test_dropped(self) -> None:
        for name in ALL:
            peer = Peer(name).connected(player(shipworld=b"x" * 50_000, world_chunks=((b"k", b"v"),)))
            self.assertEqual([type(event) for event in peer.events], [ConnectRequested])


class OpenStarboundTests(SynchronousTestCase):
    """SB-21: the negotiation."""

    def test_zstd(self) -> None:
        """A compressed request: a compressed response with info, then zstd in both directions."""
        peer = Peer("opensb")
        self.assertEqual(peer.say(ProtocolRequest(747), compressed=True), [])
        ((number, payload, compressed),) = peer.frames()
        self.assertEqual((number, compressed), (1, True))
        self.assertEqual(
            payload,
            bytes.fromhex("0107020b636f6d7072657373696f6e05045a737464136f70656e50726f746f636f6c56657273696f6e041e"),
        )
        peer.encoder, peer.decoder = Encoder(), Decoder()
        peer.say(player())
        peer.machine.challenge(NOW)
        data = peer.machine.data_to_send()
        self.assertEqual(data[:4], b"\x28\xb5\x2f\xfd")

    def test_none(self) -> None:
        """Without compression the response says so, and the layouts stay OpenStarbound's."""
        peer = Peer("opensb", compression="none")
        peer.say(ProtocolRequest(747), compressed=True)
        ((_, payload, compressed),) = peer.frames()
        self.assertTrue(compressed)
        self.assertIn(b"\x05\x04None", payload)
        peer.say(player())
        self.assertIsInstance(peer.machine.decision, ConnectRequested)

    def test_retail_clients(self) -> None:
        """An uncompressed request: no info, retail's layouts."""
        peer = Peer("1.4", server("opensb"))
        peer.say(ProtocolRequest(747))
        self.assertEqual(peer.frames(), [(1, b"\x01", False)])
        peer.say(player())
        self.assertEqual(peer.machine.generation, GENERATIONS["1.4"])
        self.assertIsInstance(peer.machine.decision, ConnectRequested)

    def test_retail_server(self) -> None:
        """A listener for 1.4 alone treats OpenStarbound's clients as a retail server does."""
        peer = Peer("1.4")
        peer.say(ProtocolRequest(747), compressed=True)
        self.assertEqual(peer.frames(), [(1, b"\x01", False)])
        peer.say(player())
        self.assertIsInstance(peer.machine.decision, ConnectRequested)

    def test_separate_frames(self) -> None:
        """A client may end its zstd frame after each packet."""
        peer = Peer("opensb")
        peer.separate = True
        peer.accepted()
        events = peer.raw(zstd_compress(encode_frame(20, b"abc")) * 2)
        self.assertEqual(events, [Received(Frame(20, b"abc"))] * 2)

    def test_no_zstd(self) -> None:
        """A client that was told zstd and does not speak it is told so, in zstd."""
        peer = Peer("opensb").opened()
        peer.raw(peer.generation.encode(player()))
        self.assertEqual((peer.ended.outcome, peer.ended.offset), (Outcome.MALFORMED, 14))
        self.assertEqual([type(one) for one in peer.heard()], [ConnectFailure])


class SeveralGenerationsTests(SynchronousTestCase):
    """SB-21 and the settable 300 ms: who speaks first on a listener of several generations."""

    def test_client_speaks(self) -> None:
        for name in CLIENT_FIRST:
            machine = server("seed", "1.4", "opensb")
            self.assertEqual(machine.data_to_send(), b"")
            self.assertAlmostEqual(machine.deadline() or 0, NOW + 0.3)
            peer = Peer(name, machine).connected()
            self.assertEqual(peer.machine.generation, GENERATIONS[name])
            self.assertEqual(machine.deadline(), NOW + 30)

    def test_server_speaks(self) -> None:
        machine = server("1.4", "enraged-koala")
        self.assertEqual(machine.handle_deadline(NOW + 0.29), [])
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(machine.handle_deadline(NOW + 0.31), [])
        self.assertEqual(machine.deadline(), NOW + 30)
        peer = Peer("enraged-koala", machine)
        peer.connected()

    def test_settable(self) -> None:
        self.assertAlmostEqual(server("seed", "1.4", generation_wait=2.0).deadline() or 0, NOW + 2)

    def test_too_late(self) -> None:
        """COM-1: the wait does not move the deadline of the handshake."""
        machine = server("seed", "1.4", handshake_timeout=0.2)
        (end,) = machine.handle_deadline(NOW + 5)
        assert isinstance(end, Ended)
        self.assertEqual(end.outcome, Outcome.TIMEOUT)
        machine = server("seed", "1.4")
        machine.handle_deadline(NOW + 1)
        (end,) = machine.handle_deadline(NOW + 30)
        assert isinstance(end, Ended)
        self.assertEqual(end.outcome, Outcome.TIMEOUT)

    def test_wrong_first_byte(self) -> None:
        peer = Peer("1.4", server("seed", "1.4"))
        peer.raw(b"\x06")
        self.assertEqual(peer.ended.outcome, Outcome.MALFORMED)
        self.assertEqual(peer.machine.data_to_send(), b"")

    def test_one_generation_does_not_wait(self) -> None:
        self.assertEqual(server("seed").deadline(), NOW + 30)
        self.assertEqual(server("1.4", "opensb").deadline(), NOW + 30)

    def test_closing_while_waiting(self) -> None:
        machine = server("seed", "1.4")
        self.assertEqual(machine.close(Outcome.SHUTDOWN, "bye", NOW), [Ended(Outcome.SHUTDOWN, "bye")])
        self.assertEqual(machine.data_to_send(), b"")


class SessionTests(SynchronousTestCase):
    """Frames after acceptance."""

    def frames(self, peer: Peer, data: bytes, size: int = 1 << 16) -> list[Any]:
        if peer.encoder is not None:
            data = peer.encoder.encode(data)
        events = take(peer.machine, data, segment=of(size))
        peer.events += events
        return [event.message for event in events if isinstance(event, Received)]

    def test_frames(self) -> None:
        """SB-12: id, payload and whether it was compressed, in any segmentation."""
        sent = [
            Frame(20, b""),
            Frame(7, b"x" * 100),
            Frame(255, b"y" * 70_000),
            Frame(30, b"z" * 5000, True),
            Frame(31, bytes(300_000), True),
            Frame(0, b"end"),
        ]
        data = b"".join(frame.encode() for frame in sent)
        for name in ALL:
            for size in (1, 999, 65_536, len(data)):
                got = self.frames(Peer(name).accepted(), data, size)
                self.assertEqual(got, sent, (name, size))
                self.assertEqual(b"".join(frame.encode() for frame in got), data)

    def test_long_frames(self) -> None:
        """SB-12, SB-22: frames that are kept in pieces until they are whole, between others."""
        sent = [
            Frame(20, b"before"),
            *(Frame(7, bytes(index % 251 for index in range(size))) for size in (LONG - 1, LONG, LONG + 1)),
            Frame(8, bytes(LONG), True),
            Frame(0, b"behind"),
        ]
        data = b"".join(frame.encode() for frame in sent)
        for name in ALL:
            for size in (997, 65_536, len(data)):
                got = self.frames(Peer(name).accepted(), data, size)
                self.assertEqual(got, sent, (name, size))
                self.assertEqual(b"".join(frame.encode() for frame in got), data)

    def test_long_frames_are_not_copied_about(self) -> None:
        """SB-22: a frame of many megabytes takes its own size while it comes, and once more when it is put together:
        each further copy of 64 MiB would stop everybody for a tenth of a second."""
        size = 8 * MEGABYTE
        peer = Peer("seed").accepted()
        head = b"\x07" + encode_signed_vlq(size)
        got = self.frames(peer, head)
        piece = bytes(65_536)
        tracemalloc.start()
        try:
            for _ in range(size // len(piece)):
                got += self.frames(peer, piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertEqual([(frame.id, len(frame.payload)) for frame in got], [(7, size)])
        self.assertLess(peak, 2.5 * size)

    def test_forwarded_as_it_came(self) -> None:
        """A compressed frame's own bytes are passed on, whoever compressed it."""
        for size in (100, 100_000):
            stream = zlib.compress(bytes(size), 9)
            data = b"\x09" + encode_signed_vlq(-len(stream)) + stream
            (frame,) = self.frames(Peer("seed").accepted(), data)
            self.assertEqual(frame.encode(), data)

    def test_too_large(self) -> None:
        """SB-22: 64 MiB a frame unless less is set, compressed or not; the frames before it are handed on."""
        good = Frame(20, b"ok")
        for limit in (64 * MEGABYTE, 2000):
            for length in (limit + 1, -limit - 1):
                peer = Peer("seed", frame_limit=limit).accepted()
                before = sum(len(one) for one in (peer.generation.encode(player()),))
                data = good.encode() + b"\x07" + encode_signed_vlq(length)
                self.assertEqual(self.frames(peer, data), [good])
                self.assertEqual(peer.ended.outcome, Outcome.MALFORMED)
                self.assertGreater(peer.ended.offset or 0, before)
            peer = Peer("seed", frame_limit=limit).accepted()
            self.frames(peer, b"\x07" + encode_signed_vlq(limit))
            self.assertFalse(peer.machine.ended)

    def test_bombs(self) -> None:
        """SB-22: what inflates to more than the limit ends the session while it inflates, in every way of sending."""
        stream = zlib.compress(bytes(3_000_000))
        data = b"\x09" + encode_signed_vlq(-len(stream)) + stream
        for name in ALL:
            peer = Peer(name, frame_limit=1_000_000).accepted()
            self.frames(peer, data)
            self.assertEqual(peer.ended.outcome, Outcome.MALFORMED)
            self.assertIn("inflates to more", peer.ended.reason)

    def test_not_zlib(self) -> None:
        stream = zlib.compress(b"hello")
        for wrong in (b"hello", stream[:-1], stream + b"x"):
            for tail in (b"", b"\x14\x00"):
                peer = Peer("seed").accepted()
                data = b"\x09" + encode_signed_vlq(-len(wrong)) + wrong + tail
                self.assertEqual(self.frames(peer, Frame(1, b"x").encode() + data), [Frame(1, b"x")])
                self.assertEqual(peer.ended.outcome, Outcome.MALFORMED)

    def test_turns(self) -> None:
        """A few bytes that inflate to very many frames, and very many frames, are handed on in turns."""
        tiny = encode_frame(20, b"") * 100_000
        for name, most in (("seed", 2000), ("opensb", 40_000)):
            peer = Peer(name).accepted()
            data = tiny if peer.encoder is None else peer.encoder.encode(tiny)
            got = len(peer.machine.receive_data(data, NOW))
            self.assertLess(got, most)
            while peer.machine.wants_turn:
                events = peer.machine.turn(NOW)
                self.assertLess(len(events), most)
                got += len(events)
            self.assertEqual(got, 100_000)

    def test_too_many_zstd_frames(self) -> None:
        """SB-8, SB-21: before login there may be 1024 separate zstd frames, which cost more time than they have
        bytes; after it any number."""
        for count, outcome in ((1023, None), (1025, Outcome.MALFORMED)):
            peer = Peer("opensb")
            peer.separate = True
            peer.machine.receive_data(encode_frame(0, (747).to_bytes(4, "big"), compressed=True), NOW)
            events = peer.machine.receive_data(zstd_compress(b"") * count, NOW)
            while peer.machine.wants_turn:
                events += peer.machine.turn(NOW)
            self.assertEqual(
                [event.outcome for event in events if isinstance(event, Ended)], [outcome] if outcome else []
            )

    def test_turns_of_empty_zstd_frames(self) -> None:
        """Separate zstd frames cost time even where there is nothing in them."""
        peer = Peer("opensb")
        peer.separate = True
        peer.accepted()
        peer.machine.receive_data(zstd_compress(b"") * 5000, NOW)
        turns = 0
        while peer.machine.wants_turn:
            turns += 1
            self.assertEqual(peer.machine.turn(NOW), [])
        self.assertGreater(turns, 20)

    def test_turns_of_many_elements(self) -> None:
        """SB-8: 16 KiB may hold thousands of values, chunks or strings: 128 are read in a turn, and neither that nor how
        the bytes arrive changes what is understood, or what is wrong."""
        number = encode_vlq
        null, claim, chunks, strings = b"\x01", b"\x06" + number(30_000), number(9_000), number(4_000)
        cases = (
            ("seed", b"\0" + claim + null * 30_000, b"\0\3Bob\5human\0\3ann"),
            ("1.4", bytes(2) + UUID + b"\3Bob\5human" + chunks + b"\1k\1\1v" * 9_000, bytes(21) + b"\1\3ann"),
            ("1.4", bytes(2) + UUID + b"\3Bob\5human" + bytes(21) + strings + b"\1a" * 4_000, b"\1\3ann"),
        )
        for name, much, rest in cases:
            for payload, found in ((much + rest, ConnectRequested), (much, Ended), (much + rest + b"?", Ended)):
                for compressed in (False, True):
                    data = encode_frame(GENERATIONS[name].number(ClientConnect), payload, compressed=compressed)
                    understood = [self.most_in_a_turn(name, segment(data)) for segment in (whole, of(999), of(40_000))]
                    self.assertIsInstance(understood[0][1], found)
                    self.assertEqual([event for most, event in understood], 3 * [understood[0][1]])
                    for most, _ in understood:
                        self.assertLessEqual(most, 128)

    def test_all_of_a_turn(self) -> None:
        """What a turn's reading leaves of it does not decide whether the end of a zstd stream counts as a packet."""
        for count in range(100, 132):
            peer = Peer("opensb")
            peer.separate = True
            peer.say(ProtocolRequest(747), compressed=True)
            frame = peer.generation.encode(player("ann", capabilities=("a",) * count))
            events = peer.raw(zstd_compress(frame) + zstd_compress(b"") * 2)
            self.assertIsInstance(events[-1], ConnectRequested, f"{count} strings")

    def most_in_a_turn(self, name: str, pieces: list[bytes]) -> tuple[int, Event]:
        """How many elements one turn reads at most, and the last event that comes of it all."""
        peer = Peer(name)
        if not peer.generation.server_first:
            peer.say(ProtocolRequest(peer.generation.version))
        machine, events, most, before = peer.machine, list[Event](), 0, 0
        source = None
        for piece in pieces:
            events += machine.receive_data(piece, NOW)
            while True:
                if source is None and machine._body is not None and machine._body.reader is not None:
                    source = machine._body.reader.source
                if source is not None:
                    most, before = max(most, source.elements - before), source.elements
                if not machine.wants_turn:
                    break
                events += machine.turn(NOW)
        return most, events[-1]

    def test_turns_of_zlib(self) -> None:
        """No turn inflates much more than a megabyte."""
        peer = Peer("seed").accepted()
        small = Frame(1, bytes(16_000), True).encode()
        events = peer.machine.receive_data(small * 800, NOW)
        self.assertLess(sum(len(event.message.payload) for event in events if isinstance(event, Received)), 1_100_000)
        self.assertTrue(peer.machine.wants_turn)

    def test_goodbye(self) -> None:
        """A ClientDisconnectRequest is handed on, and ends the session; what follows is not read."""
        for name in CLIENT_FIRST:
            for compressed in (False, True):
                peer = Peer(name).accepted()
                goodbye = peer.generation.encode(ClientDisconnectRequest(), compressed=compressed)
                got = self.frames(peer, Frame(20, b"last").encode() + goodbye + Frame(21, b"").encode())
                self.assertEqual([frame.id for frame in got], [20, 14])
                self.assertEqual(peer.ended.outcome, Outcome.LEFT)

    def test_send(self) -> None:
        """Frames and bytes go out as they are, in zstd where that was agreed on."""
        for name in ALL:
            peer = Peer(name).accepted()
            peer.machine.send(Frame(20, b"abc"), NOW)
            peer.machine.send(b"\x15\x06d", NOW)
            peer.machine.send(b"ef", NOW)
            self.assertEqual(peer.frames(), [(20, b"abc", False), (21, b"def", False)])
            with self.assertRaises(LocalProtocolError):
                peer.machine.send(b"\x00" + b"\xff" * 11, NOW)

    def test_end_of_stream(self) -> None:
        for name in ALL:
            for data, outcome in ((b"", Outcome.LEFT), (b"\x14", Outcome.LOST), (b"\x09\x81\x01\x78", Outcome.LOST)):
                peer = Peer(name).accepted()
                self.frames(peer, data)
                (end,) = peer.machine.end_of_stream(NOW)
                assert isinstance(end, Ended)
                self.assertEqual(end.outcome, outcome, (name, data))
        (end,) = Peer("seed").connected().machine.end_of_stream(NOW)
        assert isinstance(end, Ended)
        self.assertEqual(end.outcome, Outcome.ABORTED)
