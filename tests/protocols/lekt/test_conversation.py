"""LEKT-20: client to client, the machine on its own and over wires in memory."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.client import ConnectionEnded, DialogueFactory
from connectd.protocols.lekt.conversation import PART_SIZE, ConversationMachine, Message, NicknameReceived
from connectd.protocols.lekt.talk import MAXIMUM_CONVERSATIONS, Conversation, Telephone
from connectd.sansio import Ended, Established, Event, LocalProtocolError, Outcome, Received
from connectd.testing import Network, Wire

H = b"LEKTH\0\0\0"
A = b"LEKTA\0\0\0"
R = b"LEKTR\0\0\0"


def caller(nickname: str = "alice") -> ConversationMachine:
    return ConversationMachine(nickname, calling=True, now=0.0)


def called(nickname: str = "bob") -> ConversationMachine:
    return ConversationMachine(nickname, calling=False, now=0.0)


class MachineTests(SynchronousTestCase):
    def test_caller(self) -> None:
        """LEKT-20: the caller names itself, hears a name, confirms, and messages have no header."""
        machine = caller()
        self.assertEqual(machine.data_to_send(), H + b"alice\0")
        self.assertEqual(machine.receive_data(A + b"bob\0", 0), [NicknameReceived("bob")])
        self.assertEqual(machine.accept(0), [Established()])
        self.assertEqual(machine.data_to_send(), A)
        self.assertEqual(machine.peer_nickname, "bob")
        machine.send(Message(1, 0, b"hi"), 0)
        self.assertEqual(machine.data_to_send(), bytes.fromhex("00000001 00000000 00000002") + b"hi")

    def test_called(self) -> None:
        """LEKT-20: the called answers a name with its own, waits for the confirmation, then reads messages."""
        machine = called()
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(machine.receive_data(H + b"alice\0", 0), [NicknameReceived("alice")])
        self.assertEqual(machine.accept(0), [])
        self.assertEqual(machine.data_to_send(), A + b"bob\0")
        self.assertRaises(LocalProtocolError, machine.send, Message(1, 0, b""), 0)
        data = A + bytes.fromhex("00000007 00000002 00000003") + b"abc"
        self.assertEqual(machine.receive_data(data, 0), [Established(), Received(Message(7, 2, b"abc"))])

    def test_refusals(self) -> None:
        """LEKT-20: either side can say R with a reason, and the other side is told it."""
        machine = called()
        machine.receive_data(H + b"alice\0", 0)
        self.assertEqual(machine.refuse("busy", 0), [Ended(Outcome.REFUSED, "busy")])
        self.assertEqual(machine.data_to_send(), R + b"busy\0")
        machine = caller()
        self.assertEqual(machine.receive_data(R + b"busy\0", 0), [Ended(Outcome.REFUSED, "rejected: busy")])
        machine = caller()
        machine.data_to_send()
        machine.receive_data(A + b"mallory\0", 0)
        machine.refuse("not you", 0)
        self.assertEqual(machine.data_to_send(), R + b"not you\0")
        machine = called()
        machine.receive_data(H + b"alice\0", 0)
        machine.accept(0)
        self.assertEqual(machine.receive_data(R + b"no\0", 0), [Ended(Outcome.REFUSED, "rejected: no")])

    def test_any_reason_can_be_told(self) -> None:
        """LEKT-20: a reason is cut between characters and keeps to UTF-8 without NUL."""
        for reason, told in (("\ufffd" * 90, "\ufffd".encode() * 85), ("a\0b\ud800", b"a b?")):
            machine = called()
            machine.receive_data(H + b"alice\0", 0)
            machine.refuse(reason, 0)
            self.assertEqual(machine.data_to_send(), R + told + b"\0")

    def test_nickname_is_at_most_64_bytes(self) -> None:
        """LEKT-20: 64 bytes of UTF-8 are a nickname, 65 are not, on either side."""
        self.assertRaises(ValueError, caller, "é" * 33)
        self.assertRaises(ValueError, caller, "a\0b")
        self.assertEqual(called().receive_data(H + b"x" * 64 + b"\0", 0), [NicknameReceived("x" * 64)])
        machine = called()
        (ended,) = machine.receive_data(H + b"x" * 65, 0)
        self.assertEqual(ended, Ended(Outcome.MALFORMED, "a text too long", 72))
        self.assertEqual(machine.data_to_send(), R + b"Text too long\0")

    def test_padding_before_a_header_is_skipped(self) -> None:
        """LEKT-20: peers that align texts to 4 bytes are understood."""
        for pieces in ([b"al\0\0", A], [b"al\0", b"\0" + A], [b"alice\0\0", b"\0" + A[:3], A[3:]], [b"abc\0", A]):
            machine = called()
            machine.receive_data(H + pieces[0], 0)
            machine.accept(0)
            events = [event for piece in pieces[1:] for event in machine.receive_data(piece, 0)]
            self.assertEqual(events, [Established()])
        for pieces in ([b"abc\0\0" + A], [b"abc\0", b"\0" + A], [b"al\0\0\0" + A]):
            machine = called()
            events = machine.receive_data(H + pieces[0], 0) + machine.accept(0)
            events += [event for piece in pieces[1:] for event in machine.receive_data(piece, 0)]
            self.assertIsInstance(events[-1], Ended)

    def test_too_large_a_part(self) -> None:
        """COM-2: a length over 1 MiB ends it before anything is buffered for it; we do not send one either."""
        machine = self.talking()
        (ended,) = machine.receive_data(bytes.fromhex("00000001 00000000 00100001"), 0)
        assert isinstance(ended, Ended)
        self.assertIs(ended.outcome, Outcome.MALFORMED)
        self.assertEqual(machine.data_to_send(), b"")
        self.assertRaises(LocalProtocolError, self.talking().send, Message(1, 0, bytes((1 << 20) + 1)), 0)

    def talking(self) -> ConversationMachine:
        machine = caller()
        machine.receive_data(A + b"bob\0", 0)
        machine.accept(0)
        machine.data_to_send()
        return machine

    def test_wrong_beginnings(self) -> None:
        """LEKT-20, COM-12: who is called says what was expected; a caller has no word to say before its turn."""
        machine = called()
        self.assertEqual(machine.receive_data(b"LEKTA", 0)[0], Ended(Outcome.MALFORMED, "wrong byte while called", 4))
        self.assertEqual(machine.data_to_send(), R + b"Expected a LEKT handshake\0")
        machine = called()
        machine.receive_data(b"LEKTH\1\0\0", 0)
        self.assertEqual(machine.data_to_send(), R + b"Unsupported version\0")
        machine = called()
        machine.receive_data(H + b"alice\0", 0)
        machine.accept(0)
        machine.data_to_send()
        machine.receive_data(b"x", 0)
        self.assertEqual(machine.data_to_send(), R + b"Unexpected packet\0")
        machine = caller()
        machine.data_to_send()
        machine.receive_data(b"HTTP", 0)
        self.assertEqual(machine.data_to_send(), b"")

    def test_deadline(self) -> None:
        """COM-1: both sides agree within 30 s; bytes that trickle in do not extend it."""
        machine = called()
        for second in range(29):
            self.assertEqual(machine.receive_data(H[second : second + 1] or b"x", second), [])
        (ended,) = machine.handle_deadline(30.0)
        assert isinstance(ended, Ended)
        self.assertIs(ended.outcome, Outcome.TIMEOUT)
        talking = self.talking()
        self.assertIsNone(talking.deadline())

    @settings(max_examples=200, deadline=None)
    @given(st.data(), st.booleans())
    def test_any_bytes(self, data: st.DataObject, calling: bool) -> None:
        """COM-3: nothing that a peer sends raises, and nothing follows the end."""
        machine = caller() if calling else called()
        good = (A if calling else H) + b"peer\0" + A + bytes.fromhex("000000010000000000000002") + b"hi"
        events: list[Event] = []
        for piece in data.draw(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([good, A, H, R, b"\0"])))):
            new = machine.receive_data(piece, 1.0)
            self.assertFalse(new and any(isinstance(event, Ended) for event in events))
            events += new
            while machine.decision is not None:
                events += machine.accept(1.0)

    @given(st.lists(st.integers(1, 8)))
    def test_any_segmentation(self, sizes: list[int]) -> None:
        """The same bytes in any pieces mean the same."""
        data = H + b"alice\0" + A + bytes.fromhex("00000001 00000000 00000002") + b"hi"
        machine, events = called(), []
        for size in [*sizes, len(data)]:
            events += machine.receive_data(data[:size], 0.0)
            data = data[size:]
            if machine.decision is not None:
                events += machine.accept(0.0)
        self.assertEqual(events, [NicknameReceived("alice"), Established(), Received(Message(1, 0, b"hi"))])


class TalkTests(SynchronousTestCase):
    """Two conversations over a wire in memory."""

    def setUp(self) -> None:
        self.network = Network()
        self.heard: list[tuple[str, Message]] = []
        self.over: list[Ended] = []

    def pair(self, **options: Any) -> tuple[Conversation, Conversation]:
        clock = self.network.clock
        alice = Conversation(clock, "alice", calling=True, received=self.hear)
        bob = Conversation(clock, "bob", calling=False, received=self.hear, ended=self.end, **options)
        wire = Wire(self.network, ("192.0.2.1", 1), ("192.0.2.2", 2))
        self.network.wires.append(wire)
        for end, conversation in ((wire.client, alice), (wire.server, bob)):
            end.protocol = DialogueFactory(conversation).buildProtocol(end.getPeer())
        wire.server.protocol.makeConnection(wire.server)
        wire.client.protocol.makeConnection(wire.client)
        self.addCleanup(self.network.settle)
        self.addCleanup(wire.cut)
        return alice, bob

    def hear(self, conversation: Conversation, message: Message) -> None:
        self.heard.append((conversation.peer_nickname, message))

    def end(self, conversation: Conversation, event: Ended) -> None:
        self.over.append(event)

    def test_messages_both_ways(self) -> None:
        """LEKT-20: after the greeting either side sends messages."""
        alice, bob = self.pair()
        self.network.settle()
        alice.say("hello")
        self.network.settle()
        bob.say(b"\xff")
        bob.say("")
        self.network.settle()
        self.assertEqual(
            self.heard,
            [("alice", Message(1, 0, b"hello")), ("bob", Message(1, 0, b"\xff")), ("bob", Message(2, 0, b""))],
        )
        self.assertEqual(alice.place, "192.0.2.2:2")

    def test_long_messages_come_in_parts(self) -> None:
        """A message longer than a part is cut, its parts counted from 0."""
        alice, _ = self.pair()
        self.network.settle()
        alice.say(b"x" * (2 * PART_SIZE + 1))
        self.network.settle()
        parts = [(message.id, message.part, len(message.data)) for _, message in self.heard]
        self.assertEqual(parts, [(1, 0, PART_SIZE), (1, 1, PART_SIZE), (1, 2, 1)])

    def test_declining(self) -> None:
        """The one who is called can decline by name."""
        asked: list[str] = []

        def ask(conversation: Conversation, nickname: str) -> Deferred[bool]:
            asked.append(nickname)
            return succeed(False)

        alice, _ = self.pair(ask=ask)
        agreed = alice.when_established()
        self.network.settle()
        failure = self.failureResultOf(agreed, ConnectionEnded)
        self.assertEqual(failure.value.reason, "rejected: I would rather not talk")
        self.assertEqual(asked, ["alice"])

    def test_saying_without_a_connection(self) -> None:
        """There is nobody to say it to."""
        conversation = Conversation(self.network.clock, "alice", calling=True)
        self.assertRaises(ConnectionError, conversation.say, "hello")
        self.assertEqual((conversation.place, conversation.peer_nickname), ("", ""))


class TelephoneTests(SynchronousTestCase):
    def test_takes_calls_up_to_a_limit(self) -> None:
        """COM-2: calls are taken until too many are open, and again once one is over."""
        reactor: Any = MemoryReactorClock()
        began: list[Conversation] = []
        telephone = Telephone(reactor, TCP4ServerEndpoint(reactor, 0), "bob", began.append)
        self.successResultOf(Deferred.fromCoroutine(telephone.listen()))
        factory = reactor.tcpServers[0][1]
        network = Network()
        network.clock = reactor
        ends = []
        for _ in range(MAXIMUM_CONVERSATIONS):
            wire = Wire(network, ("192.0.2.1", 1), ("192.0.2.2", 2))
            wire.server.protocol = factory.buildProtocol(wire.client.getHost())
            wire.server.protocol.makeConnection(wire.server)
            ends.append(wire.server)
        self.assertIsNone(factory.buildProtocol(ends[0].getHost()))
        ends[0].wire.lost(ends[0], ConnectionError())
        self.assertIsNotNone(telephone.answer())
        for end in ends[1:]:
            end.wire.lost(end, ConnectionError())
        self.successResultOf(Deferred.fromCoroutine(telephone.hang_up()))
        self.assertEqual(began, [])
