"""Tests of the server's side of :mod:`connectd.protocols.chatr.machine`, with bytes written by hand."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr.machine import (
    Accepted,
    ConnectReceived,
    Denied,
    Requested,
    ServerMachine,
    ShowedLife,
)
from connectd.protocols.chatr.packets import (
    ClientInfo,
    Connect,
    Connected,
    ConnectionRequest,
    ConnectionRequestAccept,
    ConnectionRequestDenied,
    Disconnect,
    Ping,
    Pong,
)
from connectd.protocols.chatr.settings import ChatrSettings
from connectd.sansio import Ended, Established, Event, LocalProtocolError, Outcome, Received
from tests.strategies import segmentations

START = 1_700_000_000.0
ALICE = UUID("00112233-4455-6677-8899-aabbccddeeff")
BOB = UUID("ffeeddcc-bbaa-9988-7766-554433221100")
PRIVATE = ip_address("192.168.0.7")

CONNECT = Connect(1, ALICE, b"signature").encode()
INVALID = Disconnect("Invalid Packet").encode()
TIME_OUT = Disconnect("Time out").encode()
FIRST_ID, SECOND_ID, THIRD_ID = 0x0101010101010101 >> 1, 0x0202020202020202 >> 1, 0x0303030303030303 >> 1


class Numbers:
    """Random bytes that are not: 01 01 01…, 02 02 02…, and so on."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, count: int) -> bytes:
        self.calls += 1
        return bytes([self.calls]) * count


class ServerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = START

    def securing(self) -> ServerMachine:
        return ServerMachine(ChatrSettings(), now=self.now, random=Numbers())

    def ready(self) -> ServerMachine:
        machine = self.securing()
        self.assertEqual(machine.transport_ready(self.now), [])
        return machine

    def deciding(self) -> ServerMachine:
        machine = self.ready()
        (decision,) = machine.receive_data(CONNECT, self.now)
        self.assertIsInstance(decision, ConnectReceived)
        return machine

    def connected(self) -> ServerMachine:
        """Accepted, its output taken; a Ping is outstanding."""
        machine = self.deciding()
        self.assertEqual(machine.accept(self.now), [Established()])
        machine.data_to_send()
        return machine

    def answered(self) -> ServerMachine:
        """No Ping is outstanding."""
        machine = self.connected()
        self.say(machine, Pong(FIRST_ID))
        return machine

    def probed(self) -> ServerMachine:
        machine = self.connected()
        machine.probe(self.now)
        return machine

    def states(self) -> dict[str, Callable[[], ServerMachine]]:
        return {
            "securing": self.securing,
            "ready": self.ready,
            "deciding": self.deciding,
            "connected": self.connected,
            "answered": self.answered,
            "probed": self.probed,
        }

    def say(self, machine: ServerMachine, *packets: object) -> list[Event]:
        data = b"".join(one if isinstance(one, bytes) else one.encode() for one in packets)  # type: ignore[attr-defined]
        return machine.receive_data(data, self.now)

    def refused(self, machine: ServerMachine, data: bytes, offset: int) -> None:
        """CH-1: the peer is told "Invalid Packet", and the event says where."""
        *_, ended = machine.receive_data(data, self.now)
        assert isinstance(ended, Ended)
        self.assertEqual((ended.outcome, ended.offset), (Outcome.MALFORMED, offset), ended)
        self.assertEqual(machine.data_to_send(), INVALID)
        self.assertEqual(machine.receive_data(CONNECT, self.now), [])


class ConnectTests(ServerCase):
    def test_connect(self) -> None:
        """CH-1, CH-4: Connect, a decision, Connected and the first Ping, in this order."""
        machine = self.ready()
        self.assertEqual(self.say(machine, CONNECT), [ConnectReceived(ALICE, b"signature", 1)])
        self.assertEqual(machine.data_to_send(), b"")
        self.assertFalse(machine.established)
        self.assertEqual(machine.accept(self.now), [Established()])
        self.assertEqual(machine.data_to_send(), Connected().encode() + Ping(FIRST_ID).encode())
        self.assertEqual(machine.uuid, ALICE)

    def test_version_is_ignored(self) -> None:
        """CH-1: whatever version a Connect says, it is one of version 1."""
        for version in (0, 2, 0xFFFFFFFF):
            machine = self.ready()
            (decision,) = self.say(machine, Connect(version, ALICE, b"x"))
            self.assertEqual(decision, ConnectReceived(ALICE, b"x", version))

    def test_anything_else_first(self) -> None:
        """CH-1: the first packet is Connect."""
        others: list[Any] = [Disconnect("x"), Connected(), Ping(1), Pong(1), ConnectionRequest(BOB, PRIVATE)]
        others += [ConnectionRequestAccept(BOB, PRIVATE), ConnectionRequestDenied(BOB), ClientInfo(BOB, PRIVATE)]
        for packet in others:
            self.refused(self.ready(), packet.encode(), 1)
        for data in (b"\x05\x09abcd", b"\x01\xff"):
            self.refused(self.ready(), data, 1)

    def test_second_connect(self) -> None:
        """CH-1: a second Connect ends it, before the answer to the first and after it."""
        self.refused(self.connected(), CONNECT, len(CONNECT) + 1)
        machine = self.ready()
        (decision,) = self.say(machine, CONNECT, CONNECT)
        self.assertIsInstance(decision, ConnectReceived)
        *_, ended = machine.accept(self.now)
        self.assertEqual(ended, Ended(Outcome.MALFORMED, "opcode 0 has no place here", len(CONNECT) + 1))

    def test_what_only_the_server_says(self) -> None:
        """CH-1: a client sends no Connected, Ping or ClientInfo."""
        for packet in (Connected(), Ping(1), ClientInfo(BOB, PRIVATE)):
            self.refused(self.connected(), packet.encode(), len(CONNECT) + 1)

    def test_unknown_opcodes(self) -> None:
        """CH-1: opcodes that nobody knows, in every state; those of version 2 are such."""
        for opcode in (9, 10, 11, 0x40, 255):
            self.refused(self.ready(), bytes((2, opcode, 0)), 1)
            self.refused(self.connected(), bytes((2, opcode, 0)), len(CONNECT) + 1)

    def test_bad_payloads(self) -> None:
        """CH-1: trailing and missing bytes, bad Strings and Addresses, at the offset of the first wrong byte."""
        start = len(CONNECT)
        self.refused(self.connected(), b"\x0a\x04" + bytes(9), start + 10)
        self.refused(self.connected(), b"\x08\x04" + bytes(7), start + 2)
        self.refused(self.connected(), b"\x03\x01\x01\xff", start + 3)
        self.refused(self.connected(), b"\x13\x05" + bytes(16) + b"\x05\0", start + 18)
        self.refused(self.ready(), b"\x19\x00" + bytes(20) + b"\xff\xff\xff\xff", 22)
        self.refused(self.ready(), b"\x99\x08\x00" + bytes(20) + b"\0\0\4\1" + bytes(1024), 23)
        self.refused(self.ready(), b"\x02\x00\x00", 2)

    def test_frames_over_the_cap(self) -> None:
        """CH-9: a frame over 2 KiB before Connected, over 8 KiB after it, is refused once its length is there."""
        self.refused(self.ready(), b"\x81\x10", 0)
        self.assertEqual(self.ready().receive_data(b"\x80\x10", self.now), [])
        self.refused(self.connected(), b"\x81\x40", len(CONNECT))
        self.assertEqual(self.connected().receive_data(b"\x80\x40", self.now), [])
        self.refused(self.ready(), b"\0", 0)
        self.refused(self.connected(), b"\0", len(CONNECT))

    def test_bad_lengths(self) -> None:
        """CH-1: a length that is no VarInt."""
        self.refused(self.ready(), b"\x80\x80\x80\x80\x80", 4)
        self.refused(self.ready(), b"\xff\xff\xff\xff\x08", 4)
        self.refused(self.connected(), b"\x80\x80\x80\x80\x10", len(CONNECT) + 4)

    def test_bytes_before_tls(self) -> None:
        """COM-12: without TLS nothing is taken and nothing is said."""
        machine = self.securing()
        (ended,) = self.say(machine, CONNECT)
        assert isinstance(ended, Ended)
        self.assertEqual((ended.outcome, machine.data_to_send()), (Outcome.MALFORMED, b""))

    def test_refused(self) -> None:
        """CH-2: a refusal is a Disconnect."""
        machine = self.deciding()
        self.assertEqual(machine.refuse("Failed to verify!", self.now), [Ended(Outcome.REFUSED, "Failed to verify!")])
        self.assertEqual(machine.data_to_send(), Disconnect("Failed to verify!").encode())

    def test_held_input(self) -> None:
        """COM-2: while the decision is open, 16 KiB are held before the peer is paused."""
        machine = self.deciding()
        self.assertTrue(machine.wants_data)
        self.assertEqual(machine.receive_data(bytes(16_383), self.now), [])
        self.assertTrue(machine.wants_data)
        machine.receive_data(b"?", self.now)
        self.assertFalse(machine.wants_data)

    def test_secrets(self) -> None:
        """COM-9: the signature shows in no event."""
        (decision,) = self.ready().receive_data(CONNECT, self.now)
        self.assertNotIn("signature", repr(decision))


class DeadlineTests(ServerCase):
    def test_connect_deadline(self) -> None:
        """CH-9: a Connect has 10 s after TLS, however the bytes come."""
        machine = self.securing()
        self.now += 8
        machine.transport_ready(self.now)
        self.now += 9.9
        self.say(machine, CONNECT[:-1])
        self.assertEqual(machine.handle_deadline(self.now), [])
        self.now += 0.1
        (ended,) = machine.handle_deadline(self.now)
        self.assertEqual(ended, Ended(Outcome.TIMEOUT, "Time out"))
        self.assertEqual(machine.data_to_send(), TIME_OUT)

    def test_whole_deadline(self) -> None:
        """COM-1: TLS, Connect and the decision have 30 s together; TLS alone is ended without a word."""
        machine = self.securing()
        self.assertEqual(machine.deadline(), START + 30)
        (ended,) = machine.handle_deadline(START + 30)
        self.assertEqual(ended, Ended(Outcome.TIMEOUT, "the TLS handshake took too long"))
        self.assertEqual(machine.data_to_send(), b"")
        self.now = START + 25
        late = ServerMachine(ChatrSettings(), now=START)
        late.transport_ready(self.now)
        self.assertEqual(late.deadline(), START + 30)

    def test_decision_deadline(self) -> None:
        """CH-9, COM-1: once the Connect is there, the deadline of the whole handshake counts."""
        machine = self.deciding()
        self.assertEqual(machine.deadline(), START + 30)
        (ended,) = machine.handle_deadline(START + 30)
        self.assertEqual(ended, Ended(Outcome.TIMEOUT, "the decision took too long"))

    def test_transport_ready_once(self) -> None:
        """TLS stands once; after the end it means nothing."""
        machine = self.connected()
        deadline = machine.deadline()
        self.assertEqual(machine.transport_ready(self.now + 1), [])
        self.assertEqual(machine.deadline(), deadline)


class KeepaliveTests(ServerCase):
    def passes(self, machine: ServerMachine, seconds: float) -> list[Event]:
        self.now += seconds
        return machine.handle_deadline(self.now)

    def test_next_ping(self) -> None:
        """CH-5: the next Ping comes 5 s after the matching Pong, with another id of 63 bits."""
        machine = self.connected()
        self.now += 1
        self.assertEqual(self.say(machine, Pong(FIRST_ID)), [])
        self.assertEqual(self.passes(machine, 4.9), [])
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(self.passes(machine, 0.1), [])
        self.assertEqual(machine.data_to_send(), Ping(SECOND_ID).encode())

    def test_ids_have_63_bits(self) -> None:
        """CH-5: an id is never negative."""
        machine = ServerMachine(ChatrSettings(), now=START, random=lambda count: b"\xff" * count)
        machine.transport_ready(START)
        self.say(machine, CONNECT)
        machine.accept(START)
        self.assertEqual(machine.data_to_send(), Connected().encode() + Ping(2**63 - 1).encode())

    def test_silence(self) -> None:
        """CH-5: nothing for 15 s after a Ping: Time out."""
        machine = self.connected()
        self.assertEqual(self.passes(machine, 14.9), [])
        self.assertEqual(self.passes(machine, 0.1), [Ended(Outcome.TIMEOUT, "no sign of life after a Ping")])
        self.assertEqual(machine.data_to_send(), TIME_OUT)

    def test_wrong_pong(self) -> None:
        """CH-5: a Pong with another id is ignored, and shows no life."""
        machine = self.connected()
        self.now += 5
        self.assertEqual(self.say(machine, Pong(FIRST_ID + 1), Pong(-1)), [])
        self.assertEqual(self.passes(machine, 10), [Ended(Outcome.TIMEOUT, "no sign of life after a Ping")])
        self.assertEqual(self.say(self.answered(), Pong(FIRST_ID)), [])

    def test_talks_but_does_not_answer(self) -> None:
        """CH-5: who talks but does not answer the Ping gets a new one after 15 s, and the old one counts no more."""
        machine = self.connected()
        self.now += 14
        self.say(machine, ConnectionRequestDenied(BOB))
        self.assertEqual(self.passes(machine, 1), [])
        self.assertEqual(machine.data_to_send(), Ping(SECOND_ID).encode())
        self.say(machine, Pong(FIRST_ID))
        self.assertEqual(self.passes(machine, 15), [Ended(Outcome.TIMEOUT, "no sign of life after a Ping")])

    def test_half_a_packet(self) -> None:
        """CH-5: a packet that is not whole shows no life."""
        machine = self.connected()
        self.say(machine, Pong(FIRST_ID).encode()[:-1])
        self.assertEqual(self.passes(machine, 15), [Ended(Outcome.TIMEOUT, "no sign of life after a Ping")])

    def test_one_outstanding(self) -> None:
        """CH-5: one Ping at a time."""
        machine = self.connected()
        for _ in range(14):
            self.assertEqual(self.passes(machine, 1), [])
        self.assertEqual(machine.data_to_send(), b"")


class ProbeTests(ServerCase):
    def test_with_an_outstanding_ping(self) -> None:
        """CH-3: a Ping that is outstanding serves; nothing within 3 s is the end."""
        machine = self.connected()
        self.now += 2
        self.assertEqual(machine.probe(self.now), [])
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(machine.handle_deadline(self.now + 2.9), [])
        (ended,) = machine.handle_deadline(self.now + 3)
        self.assertEqual(ended, Ended(Outcome.TIMEOUT, "silent while another connection waits"))
        self.assertEqual(machine.data_to_send(), TIME_OUT)

    def test_without_one(self) -> None:
        """CH-3: where none is outstanding, a Ping is sent."""
        machine = self.answered()
        machine.probe(self.now)
        self.assertEqual(machine.data_to_send(), Ping(SECOND_ID).encode())
        self.assertEqual(machine.deadline(), self.now + 3)

    def test_life(self) -> None:
        """CH-3: whatever comes shows life, once; a Pong with another id does not."""
        for packet in (Pong(FIRST_ID), ConnectionRequestDenied(BOB), ConnectionRequest(BOB, PRIVATE)):
            machine = self.probed()
            self.assertEqual(self.say(machine, Pong(7)), [])
            self.assertEqual(self.say(machine, packet)[0], ShowedLife())
            self.assertNotIn(ShowedLife(), self.say(machine, packet))
            self.assertEqual(machine.handle_deadline(self.now + 3), [])

    def test_leaves(self) -> None:
        """CH-3: a session that leaves while it is probed shows no life by that."""
        machine = self.probed()
        self.assertEqual(self.say(machine, Disconnect("bye")), [Ended(Outcome.LEFT, "the client disconnected")])

    def test_no_session(self) -> None:
        """CH-3: only a session can be probed."""
        for machine in (self.ready(), self.deciding()):
            self.assertRaises(LocalProtocolError, machine.probe, self.now)


class RequestTests(ServerCase):
    def test_what_clients_ask(self) -> None:
        """CH-6, CH-7: requests and their answers go to the listener, and to the session's handler."""
        machine = self.answered()
        request, accept = ConnectionRequest(BOB, PRIVATE), ConnectionRequestAccept(BOB, PRIVATE)
        denied = ConnectionRequestDenied(BOB)
        self.assertEqual(
            self.say(machine, request, accept, denied),
            [
                Requested(BOB, PRIVATE),
                Received(request),
                Accepted(BOB, PRIVATE),
                Received(accept),
                Denied(BOB),
                Received(denied),
            ],
        )
        self.assertEqual(machine.data_to_send(), b"")

    def test_what_they_are_told(self) -> None:
        """CH-6, CH-7: what is sent is sent as it is."""
        machine = self.answered()
        packets: list[Any] = [ConnectionRequest(BOB, PRIVATE), ConnectionRequestDenied(BOB), ClientInfo(BOB, PRIVATE)]
        for packet in packets:
            machine.send(packet, self.now)
        self.assertEqual(machine.data_to_send(), b"".join(packet.encode() for packet in packets))
        for wrong in (Connected(), Connect(1, ALICE, b""), b"bytes", Ping(1)):
            self.assertRaises(LocalProtocolError, machine.send, wrong, self.now)
        self.assertRaises(LocalProtocolError, self.ready().send, packets[0], self.now)

    def test_disconnect(self) -> None:
        """CH-4: a client's Disconnect ends it; its words are ignored, and it is answered nothing."""
        machine = self.connected()
        events = self.say(machine, Disconnect("you are all fools\n"), ConnectionRequest(BOB, PRIVATE))
        self.assertEqual(events, [Ended(Outcome.LEFT, "the client disconnected")])
        self.assertEqual(machine.data_to_send(), b"")


class EveryStateTests(ServerCase):
    def test_close(self) -> None:
        """COM-8, COM-12: an end of ours is a Disconnect with the reason once TLS stands, and nothing before."""
        for name, make in self.states().items():
            machine = make()
            machine.data_to_send()
            outcome = Outcome.KICKED if machine.established else Outcome.SHUTDOWN
            self.assertEqual(machine.close(outcome, "enough", self.now), [Ended(outcome, "enough")], name)
            told = b"" if name == "securing" else Disconnect("enough").encode()
            self.assertEqual(machine.data_to_send(), told, name)
            self.assertIsNone(machine.deadline(), name)

    def test_end_of_stream(self) -> None:
        """COM-7: a peer that goes away aborts before acceptance, and leaves or is lost after it."""
        for name, make in self.states().items():
            for clean in (True, False):
                machine = make()
                (ended,) = machine.end_of_stream(self.now, clean=clean)
                assert isinstance(ended, Ended)
                expected = Outcome.ABORTED if not machine.established else Outcome.LEFT if clean else Outcome.LOST
                self.assertEqual(ended.outcome, expected, name)

    def test_misuse(self) -> None:
        """A verb without its decision is our own mistake."""
        for name, make in self.states().items():
            if name != "deciding":
                self.assertRaises(LocalProtocolError, make().accept, self.now)
                self.assertRaises(LocalProtocolError, make().refuse, "no", self.now)

    @given(st.binary(min_size=1, max_size=200))
    def test_garbage(self, data: bytes) -> None:
        """CH-1, COM-3: whatever comes in whatever state ends it with "Invalid Packet", or is taken; nothing is raised."""
        for name, make in self.states().items():
            machine = make()
            machine.data_to_send()
            events = machine.receive_data(data, self.now)
            if events and isinstance(events[-1], Ended) and events[-1].outcome is Outcome.MALFORMED:
                told = machine.data_to_send()
                self.assertTrue(told.endswith(INVALID) if name != "securing" else not told, name)


sessions = st.lists(
    st.sampled_from(
        [
            Pong(FIRST_ID),
            Pong(5),
            ConnectionRequest(BOB, PRIVATE),
            ConnectionRequestAccept(BOB, ip_address("fd00::1")),
            ConnectionRequestDenied(BOB),
            Disconnect("bye"),
            Ping(1),
            b"\x81\x40",
            b"\x02\x09\x00",
            b"\x05\x04",
        ]
    ),
    max_size=8,
)


class SegmentationTests(ServerCase):
    @given(sessions, st.data())
    def test_any_segmentation(self, packets: list[object], data: st.DataObject) -> None:
        """CH-1: the same bytes mean the same, in whatever pieces they come."""
        said = CONNECT + b"".join(one if isinstance(one, bytes) else one.encode() for one in packets)  # type: ignore[attr-defined]

        def played(pieces: list[bytes]) -> tuple[list[Event], bytes]:
            machine, events, output = self.ready(), [], b""
            for piece in pieces:
                events += machine.receive_data(piece, self.now)
                if machine.decision is not None:
                    events += machine.accept(self.now)
                output += machine.data_to_send()
            return events, output

        self.assertEqual(played(data.draw(segmentations(said))), played([said]))
