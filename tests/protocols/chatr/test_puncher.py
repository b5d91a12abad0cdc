"""Tests of :mod:`connectd.protocols.chatr.puncher`: what is forged, replayed or reflected changes nothing."""

from __future__ import annotations

import random
from uuid import UUID

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr.candidates import MAXIMUM_CANDIDATES, Candidate, CandidateKind
from connectd.protocols.chatr.checks import ANSWERS_PER_SECOND, REMEMBERED_REQUESTS, Role, username
from connectd.protocols.chatr.puncher import (
    EARLY_CHECKS,
    EARLY_PEERS,
    MAXIMUM_MESSAGE,
    MAXIMUM_PEERS,
    MessageReceived,
    PathEnd,
    PathEnded,
    PathOpened,
    PunchingMachine,
)
from connectd.protocols.chatr.stun import MessageClass, decode, encode_request, encode_success
from connectd.sansio import DatagramAddress, Ended, Event, LocalProtocolError, Outcome

ALICE, BOB, MALLORY = UUID(int=0xA11CE), UUID(int=0xB0B), UUID(int=0xBAD)
AT_ALICE: DatagramAddress = ("203.0.113.1", 1231)
AT_BOB: DatagramAddress = ("203.0.113.2", 1231)
ELSEWHERE: DatagramAddress = ("203.0.113.66", 6666)
NOW = 1000.0
ID = b"abcdefghijkl"

TO_BOB = [Candidate(AT_BOB, CandidateKind.REFLEXIVE)]
TO_ALICE = [Candidate(AT_ALICE, CandidateKind.REFLEXIVE)]

Datagrams = list[tuple[bytes, DatagramAddress]]


def request(
    receiver: UUID = ALICE,
    sender: UUID = BOB,
    transaction_id: bytes = ID,
    *,
    nominate: bool = False,
    key: bytes | None = None,
) -> bytes:
    return encode_request(transaction_id, username(receiver, sender), use_candidate=nominate, key=key)


class Case(SynchronousTestCase):
    """Alice alone, or with Bob, whose datagrams a test hands over itself."""

    key: bytes | None = None

    def setUp(self) -> None:
        self.now = NOW
        chance = random.Random(7)
        self.alice = PunchingMachine(ALICE, random=chance.randbytes)
        self.bob = PunchingMachine(BOB, random=chance.randbytes)
        self.events: list[Event] = []

    def receive(self, data: bytes, address: DatagramAddress = AT_BOB) -> list[Event]:
        """Alice receives; what she makes of it."""
        events = self.alice.receive_datagram(data, address, self.now)
        self.events += events
        return events

    def punch(self, role: Role = Role.REQUESTER, candidates: list[Candidate] = TO_BOB) -> Datagrams:
        """Alice begins; what she sends."""
        self.events += self.alice.punch(BOB, role, candidates, self.now, key=self.key)
        return self.alice.datagrams_to_send()

    def answer(self, sent: tuple[bytes, DatagramAddress]) -> bytes:
        """The answer to a request of Alice's."""
        return encode_success(decode(sent[0]).transaction_id, AT_ALICE, key=self.key, fingerprint=True)

    def open(self) -> None:
        """Let Alice and Bob find each other."""
        self.punch()
        self.bob.punch(ALICE, Role.ACCEPTER, TO_ALICE, self.now, key=self.key)
        self.alice.handle_deadline(self.now + 0.2)
        self.now += 0.2
        for _ in range(6):
            self.pump()
        self.assertEqual([type(event) for event in self.events], [PathOpened])
        self.events.clear()

    def pump(self) -> list[Event]:
        """Hand over what both have to say; what Bob makes of it."""
        theirs: list[Event] = []
        for data, address in self.alice.datagrams_to_send():
            if address == AT_BOB:
                theirs += self.bob.receive_datagram(data, AT_ALICE, self.now)
        for data, address in self.bob.datagrams_to_send():
            if address == AT_ALICE:
                self.receive(data, AT_BOB)
        return theirs

    def wait(self, seconds: float) -> None:
        """Time passes for Alice."""
        end = self.now + seconds
        while (deadline := self.alice.deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.events += self.alice.handle_deadline(self.now)
        self.now = end

    def nothing_came(self) -> None:
        """Nothing was told and nothing is sent."""
        self.assertEqual((self.events, self.alice.datagrams_to_send()), ([], []))


class ForgedTests(Case):
    """CH-40, CH-41: an answer counts only to our own request and from where that went; a request only if it is for us."""

    def test_unknown_transaction(self) -> None:
        """An answer to a request that we never sent is nothing."""
        self.punch()
        self.receive(encode_success(ID, AT_ALICE, fingerprint=True))
        self.nothing_came()

    def test_other_source(self) -> None:
        """An answer from elsewhere than the request went is nothing, and the true one still counts."""
        [sent] = self.punch()
        self.receive(self.answer(sent), ELSEWHERE)
        self.nothing_came()
        self.receive(self.answer(sent), (AT_BOB[0], 1232))
        self.nothing_came()
        self.receive(self.answer(sent))
        [(nomination, address)] = self.alice.datagrams_to_send()
        self.assertEqual((decode(nomination).use_candidate, address), (True, AT_BOB))

    def test_answer_again(self) -> None:
        """An answer counts once."""
        [sent] = self.punch()
        self.receive(self.answer(sent))
        self.alice.datagrams_to_send()
        self.receive(self.answer(sent))
        self.nothing_came()

    def test_error_answer(self) -> None:
        """Errors and indications are nothing; nobody here sends any."""
        [sent] = self.punch()
        good = bytearray(encode_success(decode(sent[0]).transaction_id, AT_ALICE))
        for kind in (b"\x01\x11", b"\0\x11"):
            good[:2] = kind
            self.receive(bytes(good))
        self.nothing_came()

    def test_without_fingerprint(self) -> None:
        """CH-33: FINGERPRINT always, in requests and in answers."""
        [sent] = self.punch()
        self.receive(encode_success(decode(sent[0]).transaction_id, AT_ALICE))
        whole = request()
        self.receive(whole[:2] + (len(whole) - 28).to_bytes(2, "big") + whole[4:-8])
        self.nothing_came()

    def test_reflected(self) -> None:
        """Our own request sent back to us is not addressed to us."""
        [sent] = self.punch()
        self.receive(sent[0])
        self.receive(sent[0], ELSEWHERE)
        self.nothing_came()

    def test_reflected_answer(self) -> None:
        """An answer of ours sent back to us answers nothing."""
        self.punch()
        self.receive(request())
        [(answer, _), *_] = self.alice.datagrams_to_send()
        self.assertEqual(decode(answer).message_class, MessageClass.SUCCESS)
        self.receive(answer)
        self.nothing_came()

    def test_not_for_us(self) -> None:
        """CH-41: a request for somebody else, from somebody unknown, or with another spelling is not answered."""
        self.punch()
        names = (
            username(MALLORY, BOB),
            username(ALICE, MALLORY),
            username(ALICE, BOB).upper(),
            username(ALICE, BOB) + b" ",
            ALICE.hex.encode(),
            b"",
        )
        for index, name in enumerate(names):
            self.receive(encode_request(bytes((index,)) * 12, name))
        self.nothing_came()
        self.assertEqual(list(self.alice._early), [username(ALICE, MALLORY)], "only what is for us is remembered")

    def test_replayed(self) -> None:
        """CH-33: a transaction id counts once: a copy from elsewhere makes no candidate and gets no answer."""
        self.punch()
        self.receive(request())
        self.assertEqual(len(self.alice.datagrams_to_send()), 1)
        self.receive(request(), ELSEWHERE)
        self.receive(request(nominate=True), ELSEWHERE)
        self.nothing_came()
        self.receive(request())
        [(answer, address)] = self.alice.datagrams_to_send()
        self.assertEqual((decode(answer).message_class, address), (MessageClass.SUCCESS, AT_BOB))

    def test_nominated_by_the_accepter(self) -> None:
        """USE-CANDIDATE counts from the requester only: for her who is that herself it is a check like others."""
        [sent] = self.punch()
        self.receive(request(nominate=True))
        self.alice.datagrams_to_send()
        self.receive(self.answer(sent))
        self.assertEqual(self.events, [])

    def test_nominated_but_silent(self) -> None:
        """A forged nomination from an address that answers nothing opens nothing, and the true path opens."""
        [sent] = self.punch(Role.ACCEPTER)
        self.receive(request(transaction_id=b"x" * 12, nominate=True), ELSEWHERE)
        self.receive(self.answer(sent))
        self.assertEqual(self.events, [])
        self.receive(request(nominate=True))
        self.assertEqual(self.events, [PathOpened(BOB, TO_BOB[0])])

    def test_open_path_stays(self) -> None:
        """An open path is moved by nothing: other addresses get no answer, nominated or not."""
        self.open()
        self.receive(request(transaction_id=b"y" * 12, nominate=True), ELSEWHERE)
        self.nothing_came()
        self.alice.send(BOB, b"still there")
        self.assertEqual(self.alice.datagrams_to_send()[0][1], AT_BOB)

    def test_too_many_sources(self) -> None:
        """CH-40: at most 16 candidates: further sources get no answer."""
        self.punch()
        for number in range(60):
            self.receive(request(transaction_id=number.to_bytes(12, "big")), ("192.0.2.1", 1 + number))
        answered = {address for data, address in self.alice.datagrams_to_send() if data[0] == 1}
        self.assertEqual(len(answered), MAXIMUM_CANDIDATES - 1)

    def test_too_many_requests(self) -> None:
        """COM-2: a flood of valid requests gets 100 answers a second, and is remembered within a bound."""
        self.punch()
        for number in range(REMEMBERED_REQUESTS + 50):
            self.receive(request(transaction_id=number.to_bytes(12, "big")))
        answers = [data for data, _ in self.alice.datagrams_to_send() if data[0] == 1]
        self.assertEqual(len(answers), ANSWERS_PER_SECOND)
        [pair] = self.alice._pairs.values()
        self.assertEqual(len(pair._seen), REMEMBERED_REQUESTS)

    @given(data=st.data())
    @settings(deadline=None, max_examples=150)
    def test_anything(self, data: st.DataObject) -> None:
        """Nothing that comes from elsewhere, whatever it says, opens, moves, ends or uses a path."""
        self.setUp()
        if data.draw(st.booleans()):
            self.open()
        else:
            self.punch()
        names = st.sampled_from([username(ALICE, BOB), username(BOB, ALICE), username(ALICE, MALLORY), b"x"])
        ids = st.binary(min_size=12, max_size=12)
        forged = st.one_of(
            st.builds(encode_request, ids, names, use_candidate=st.booleans()),
            st.builds(encode_success, ids, st.just(AT_ALICE), fingerprint=st.booleans()),
            st.builds(lambda rest: b"\x80" + rest, st.binary(max_size=30)),
            st.builds(lambda rest: b"\x81" + rest, ids),
            st.binary(max_size=150),
        )
        for _ in range(data.draw(st.integers(1, 12))):
            source = data.draw(st.sampled_from([ELSEWHERE, (AT_BOB[0], 1), ("2001:db8::1", 5)]))
            self.assertEqual(self.receive(data.draw(forged), source), [])
        [pair] = self.alice._pairs.values()
        self.assertIn(pair.path, (None, AT_BOB))


class SignedTests(Case):
    """CH-33: with a secret, as version 2 has it, every message has to be signed with it."""

    key = b"5ec7e7" * 10

    def test_opens(self) -> None:
        self.open()

    def test_unsigned(self) -> None:
        [sent] = self.punch()
        for key in (None, b"another"):
            self.receive(request(key=key))
            self.receive(encode_success(decode(sent[0]).transaction_id, AT_ALICE, key=key, fingerprint=True))
        self.nothing_came()
        self.receive(request(key=self.key))
        self.assertEqual(len(self.alice.datagrams_to_send()), 1)


class MessageTests(Case):
    """CH-32: datagrams are told apart by their first byte, and messages by where they come from."""

    def test_both_ways(self) -> None:
        self.open()
        self.alice.send(BOB, b"hello")
        self.assertEqual(self.pump(), [MessageReceived(ALICE, b"hello")])
        self.bob.send(ALICE, b"")
        self.pump()
        self.assertEqual(self.events, [MessageReceived(BOB, b"")])

    def test_size(self) -> None:
        """A message has at most 1,200 bytes, in both directions."""
        self.open()
        self.alice.send(BOB, bytes(MAXIMUM_MESSAGE))
        self.assertRaises(LocalProtocolError, self.alice.send, BOB, bytes(MAXIMUM_MESSAGE + 1))
        self.assertEqual(self.pump(), [MessageReceived(ALICE, bytes(MAXIMUM_MESSAGE))])
        self.receive(b"\x80" + bytes(MAXIMUM_MESSAGE + 1))
        self.nothing_came()

    def test_strangers(self) -> None:
        self.open()
        self.receive(b"\x80hello", ELSEWHERE)
        self.nothing_came()

    def test_other_kinds(self) -> None:
        """DTLS, the relay and everything unknown are dropped in version 1."""
        self.open()
        for first in (*range(4, 128), *range(130, 256)):
            self.receive(bytes((first,)) + bytes(20))
        self.receive(b"")
        self.nothing_came()

    def test_ahead(self) -> None:
        """Messages that overtake the last check are kept until the path is open: 16, the oldest goes."""
        [sent] = self.punch(Role.ACCEPTER)
        self.receive(b"\x80too early")
        self.receive(request(nominate=True))
        for number in range(20):
            self.receive(b"\x80%d" % number)
        self.receive(b"\x80elsewhere", ELSEWHERE)
        self.assertEqual(self.events, [])
        self.receive(self.answer(sent))
        opened, *messages = self.events
        self.assertEqual(opened, PathOpened(BOB, TO_BOB[0]))
        self.assertEqual(messages, [MessageReceived(BOB, b"%d" % number) for number in range(4, 20)])

    def test_without_a_path(self) -> None:
        self.assertRaises(LocalProtocolError, self.alice.send, BOB, b"x")
        self.punch()
        self.assertRaises(LocalProtocolError, self.alice.send, BOB, b"x")


class GoodbyeTests(Case):
    """A goodbye ends a path at once; only the peer can say it."""

    def test_said(self) -> None:
        self.open()
        [ended] = self.alice.close_path(BOB, self.now)
        self.assertEqual(ended, PathEnded(BOB, PathEnd.CLOSED, "closed here"))
        self.assertEqual(self.pump(), [PathEnded(ALICE, PathEnd.LEFT, "the peer left")])
        self.assertEqual((self.alice.deadline(), self.bob.deadline()), (None, None))
        self.assertEqual(self.alice.close_path(BOB, self.now), [])

    def test_after_a_keepalive(self) -> None:
        """The last check that came is quoted, answered or not."""
        for answered in (True, False):
            self.setUp()
            self.open()
            self.now += 16
            self.bob.handle_deadline(self.now)
            [(check, _)] = self.bob.datagrams_to_send()
            self.receive(check)
            for data, _ in self.alice.datagrams_to_send() if answered else []:
                self.bob.receive_datagram(data, AT_ALICE, self.now)
            self.alice.close_path(BOB, self.now)
            self.assertEqual([type(event) for event in self.pump()], [PathEnded])

    def test_forged(self) -> None:
        """Without a check of ours it is nothing; neither is one from elsewhere, or ours sent back."""
        self.open()
        self.receive(b"\x81" + ID)
        self.receive(b"\x81")
        self.receive(b"\x81" + ID + b"x")
        self.bob.close_path(ALICE, self.now)
        [(goodbye, _)] = self.bob.datagrams_to_send()
        self.receive(goodbye, ELSEWHERE)
        self.receive(goodbye[:-1] + b"?")
        self.nothing_came()
        self.receive(goodbye)
        self.assertEqual([type(event) for event in self.events], [PathEnded])

    def test_reflected(self) -> None:
        self.open()
        before = attrs.evolve(next(iter(self.alice._pairs.values())).checks[AT_BOB])
        assert before.heard_id is not None
        self.receive(b"\x81" + before.heard_id)
        self.nothing_came()


class LifeTests(Case):
    """Verbs, bounds and the end."""

    def test_misuse(self) -> None:
        self.assertRaises(LocalProtocolError, self.alice.punch, ALICE, Role.REQUESTER, [], NOW)
        for number in range(MAXIMUM_PEERS):
            self.alice.punch(UUID(int=number + 10_000_000), Role.REQUESTER, [], NOW)
        self.assertRaises(LocalProtocolError, self.alice.punch, BOB, Role.REQUESTER, [], NOW)

    def test_replaced(self) -> None:
        """A new request for the same peer ends what there was."""
        self.open()
        [ended] = self.alice.punch(BOB, Role.ACCEPTER, TO_BOB, self.now)
        self.assertEqual(ended, PathEnded(BOB, PathEnd.CLOSED, "replaced by a new request"))
        self.assertRaises(LocalProtocolError, self.alice.send, BOB, b"x")

    def test_same_address(self) -> None:
        """An address carries the path of one peer: another that answers from there gets none."""
        self.open()
        self.alice.punch(MALLORY, Role.REQUESTER, TO_BOB, self.now)
        for _ in range(2):
            for data, _ in self.alice.datagrams_to_send():
                self.receive(encode_success(decode(data).transaction_id, AT_ALICE, fingerprint=True))
        [ended] = self.events
        assert isinstance(ended, PathEnded)
        self.assertEqual((ended.peer, ended.end), (MALLORY, PathEnd.UNREACHABLE))
        self.alice.send(BOB, b"hello")
        self.assertEqual(self.pump(), [MessageReceived(ALICE, b"hello")])

    def test_early_bounds(self) -> None:
        """COM-2: checks ahead of the server's word are remembered within bounds, and answered only after it."""
        for peer in range(EARLY_PEERS + 5):
            for port in range(EARLY_CHECKS + 5):
                name = peer.to_bytes(4, "big") + port.to_bytes(8, "big")
                self.receive(request(sender=UUID(int=peer), transaction_id=name), ("192.0.2.1", 1 + port))
        self.nothing_came()
        self.assertEqual(len(self.alice._early), EARLY_PEERS)
        self.assertEqual({len(sources) for sources in self.alice._early.values()}, {EARLY_CHECKS})
        self.alice.punch(UUID(int=EARLY_PEERS + 4), Role.REQUESTER, [], self.now)
        sources = {address[1] for _, address in self.alice.datagrams_to_send()}
        self.assertEqual(sources, set(range(6, EARLY_CHECKS + 6)))

    def test_close(self) -> None:
        """The end says goodbye to everybody, and is last."""
        self.open()
        events = self.alice.close(Outcome.LEFT, "this client left", self.now)
        self.assertEqual(
            events, [PathEnded(BOB, PathEnd.CLOSED, "this client left"), Ended(Outcome.LEFT, "this client left")]
        )
        self.assertEqual([type(event) for event in self.pump()], [PathEnded])
        self.assertEqual(self.alice.close(Outcome.LEFT, "again", self.now), [])
        self.assertEqual(self.receive(request()), [])
        self.assertIsNone(self.alice.deadline())
        self.assertEqual(self.alice.handle_deadline(self.now + 100), [])
        self.assertRaises(LocalProtocolError, self.alice.punch, BOB, Role.REQUESTER, [], self.now)

    def test_not_before_its_time(self) -> None:
        self.punch()
        self.assertEqual(self.alice.handle_deadline(self.now + 0.1), [])
        self.nothing_came()

    def test_gives_up(self) -> None:
        """CH-40: after 10 s the application is told."""
        self.punch()
        self.wait(9.9)
        self.assertEqual(self.events, [])
        self.wait(0.2)
        [ended] = self.events
        assert isinstance(ended, PathEnded)
        self.assertEqual(ended.end, PathEnd.UNREACHABLE)

    def test_identifiers(self) -> None:
        """CH-40: every request has an id of its own, of 96 random bits."""
        asked: list[int] = []

        def chance(count: int) -> bytes:
            asked.append(count)
            return len(asked).to_bytes(count, "big")

        self.alice = PunchingMachine(ALICE, random=chance)
        self.punch()
        self.wait(5)
        ids = {decode(data).transaction_id for data, _ in self.alice.datagrams_to_send()}
        self.assertEqual(set(asked), {12})
        self.assertEqual(len(ids), len(asked) - 1)
