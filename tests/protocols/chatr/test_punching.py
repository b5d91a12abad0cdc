"""Punching through simulated NATs: what works, what does not, and what it costs (CH-40 to CH-42)."""

from __future__ import annotations

import random
from ipaddress import IPv4Address
from itertools import pairwise
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr.candidates import Candidate, CandidateKind, candidates
from connectd.protocols.chatr.checks import CONSENT_TIMEOUT, PROBES_PER_SECOND, Role
from connectd.protocols.chatr.puncher import MessageReceived, PathEnd, PathEnded, PathOpened
from connectd.protocols.chatr.stun import is_stun
from connectd.sansio import DatagramAddress
from tests.protocols.chatr.simulated import (
    ADDRESS_RESTRICTED,
    CARELESS,
    FULL_CONE,
    HAIRPIN,
    MASQUERADE,
    PORT_RESTRICTED,
    SYMMETRIC,
    Disturbance,
    Host,
    Kind,
    Nat,
    Network,
)

ALICE, BOB = UUID(int=0xA11CE), UUID(int=0xB0B)
PORT = 1231


def shuffled(seed: int) -> Disturbance:
    """Every datagram takes its own time."""
    chance = random.Random(seed)

    def disturb(data: bytes, source: DatagramAddress, destination: DatagramAddress) -> list[float]:
        return [chance.uniform(0.01, 0.3)]

    return disturb


class Scene:
    """Two peers of version 1, with the addresses that a server would have told them."""

    def __init__(self, network: Network, alice: Nat | None, bob: Nat | None) -> None:
        self.network = network
        self.alice = network.host(ALICE, alice)
        self.bob = network.host(BOB, bob)

    @staticmethod
    def offered(host: Host) -> list[Candidate]:
        """CH-41: what the other side is told about a host."""
        private = host.address[0]
        return candidates(IPv4Address(host.nat.outside if host.nat else private), IPv4Address(private), PORT)

    def punch(self, delay: float = 0.05) -> None:
        """Both begin; Bob, who accepts, a little later."""
        self.alice.punch(BOB, Role.REQUESTER, self.offered(self.bob))
        self.network.run(delay)
        self.bob.punch(ALICE, Role.ACCEPTER, self.offered(self.alice))

    def opened(self) -> bool:
        """Whether there is one path, and messages pass over it in both directions."""
        mine, theirs = self.alice.told(PathOpened), self.bob.told(PathOpened)
        if not mine or not theirs:
            return False
        for one, other in ((self.alice, self.bob), (self.bob, self.alice)):
            for _attempt in range(60):  # a datagram may be lost
                one.machine.send(other.machine.own, b"hello")
                one.call(lambda now: [])
                self.network.run(0.3)
                if other.told(MessageReceived):
                    break
            else:
                return False
        return True


def scene(alice: Kind | None, bob: Kind | None, network: Network | None = None) -> Scene:
    """Two peers, each behind its own NAT or on the Internet."""
    network = network or Network()
    return Scene(network, *(None if kind is None else network.nat(kind) for kind in (alice, bob)))


class OutcomeTests(SynchronousTestCase):
    """CH-40, CH-41: who reaches whom with one agreed port."""

    def outcome(self, alice: Kind | None, bob: Kind | None) -> bool:
        results = set()
        for first, second in ((alice, bob), (bob, alice)):
            for seed in (1, 2, 3):
                one = scene(first, second, Network(seed=seed))
                one.punch()
                one.network.run(12)
                results.add(one.opened())
        self.assertEqual(len(results), 1, "it does not depend on who asks, nor on chance")
        return results.pop()

    def test_works(self) -> None:
        """NATs that keep ports, of every kind, reach each other; so do hosts on the Internet."""
        keeping = (None, FULL_CONE, ADDRESS_RESTRICTED, PORT_RESTRICTED, MASQUERADE)
        for index, alice in enumerate(keeping):
            for bob in keeping[index:]:
                self.assertTrue(self.outcome(alice, bob), (alice, bob))

    def test_symmetric(self) -> None:
        """Random ports work only against who answers the real source of a check, and lets it in."""
        for kind in (None, FULL_CONE, ADDRESS_RESTRICTED):
            self.assertTrue(self.outcome(SYMMETRIC, kind), kind)
        for kind in (PORT_RESTRICTED, MASQUERADE, SYMMETRIC):
            self.assertFalse(self.outcome(SYMMETRIC, kind), kind)

    def test_peer_reflexive(self) -> None:
        """A valid request from an address that was no candidate makes it one."""
        one = scene(SYMMETRIC, FULL_CONE)
        one.punch()
        one.network.run(1)
        [opened] = one.bob.told(PathOpened)
        self.assertEqual(opened.candidate.kind, CandidateKind.PEER_REFLEXIVE)
        self.assertNotEqual(opened.candidate.address[1], PORT)
        self.assertTrue(one.opened())

    def test_careless(self) -> None:
        """A NAT that takes stray datagrams for its own breaks punching, where the stray comes first."""
        one = scene(MASQUERADE, CARELESS)
        one.punch(delay=0.5)
        one.network.run(12)
        self.assertFalse(one.opened())

    def test_same_nat(self) -> None:
        """Two hosts behind one NAT need their private candidates, or a NAT that turns datagrams back."""
        for kind, private, expected in (
            (MASQUERADE, True, True),
            (SYMMETRIC, True, True),
            (MASQUERADE, False, False),
            (HAIRPIN, True, True),
        ):
            network = Network()
            nat = network.nat(kind)
            one = Scene(network, nat, nat)
            if not private:
                one.offered = lambda host: Scene.offered(host)[:1]  # type: ignore[method-assign]  # this scene only
            one.punch()
            network.run(12)
            self.assertEqual(one.opened(), expected, kind)
            if expected and not kind.hairpin:
                self.assertEqual(one.alice.told(PathOpened)[0].candidate.kind, CandidateKind.HOST)

    def test_hairpin(self) -> None:
        """Without private candidates a NAT that turns datagrams back is enough."""
        network = Network()
        nat = network.nat(HAIRPIN)
        one = Scene(network, nat, nat)
        one.alice.address = ("10.0.0.1", 4001)  # a NAT with one outside address keeps only one of two equal ports
        offers = {
            BOB: [Candidate((nat.outside, PORT), CandidateKind.REFLEXIVE)],
            ALICE: [Candidate((nat.outside, 4001), CandidateKind.REFLEXIVE)],
        }
        one.alice.punch(BOB, Role.REQUESTER, offers[BOB])
        one.bob.punch(ALICE, Role.ACCEPTER, offers[ALICE])
        network.run(12)
        self.assertTrue(one.opened())

    def test_no_candidates(self) -> None:
        """Who was told nothing usable waits for the other's checks."""
        one = scene(None, None)
        one.alice.punch(BOB, Role.REQUESTER, [])
        one.bob.punch(ALICE, Role.ACCEPTER, one.offered(one.alice))
        one.network.run(1)
        self.assertTrue(one.opened())


class TimingTests(SynchronousTestCase):
    """CH-40, CH-42: when, how often and for how long."""

    def test_schedule(self) -> None:
        """CH-40: every candidate at once, then after 200 ms, then ever more slowly, for 10 s."""
        network = Network()
        alice = network.host(ALICE)
        offered = [Candidate((f"192.0.2.{number}", 9), CandidateKind.HOST) for number in range(3)]
        alice.punch(BOB, Role.REQUESTER, offered)
        self.assertEqual([address for _, _, address in alice.sent], [one.address for one in offered])
        network.run(30)
        times = [round(at - 1000, 3) for at, _, address in alice.sent if address == offered[0].address]
        self.assertEqual(times[:4], [0, 0.2, 0.5, 0.95])
        gaps = [round(second - first, 3) for first, second in pairwise(times)]
        self.assertEqual(gaps, sorted(gaps))
        self.assertLessEqual(gaps[-1], 1.61)
        self.assertGreater(times[-1], 8.4)
        self.assertLess(times[-1], 10)
        [ended] = alice.told(PathEnded)
        self.assertEqual(ended.end, PathEnd.UNREACHABLE)
        self.assertIsNone(alice.machine.deadline())

    def test_rate(self) -> None:
        """CH-40: at most 16 candidates and 50 probes in any second, whatever the peer does."""
        network = Network()
        alice = network.host(ALICE)
        offered = [Candidate((f"192.0.2.{number}", 9), CandidateKind.HOST) for number in range(40)]
        alice.punch(BOB, Role.REQUESTER, offered)
        network.run(11)
        times = [at for at, _, _ in alice.sent]
        self.assertEqual({address for _, _, address in alice.sent}, {one.address for one in offered[:16]})
        self.assertGreater(len(times), 100)
        for first, later in zip(times, times[PROBES_PER_SECOND:], strict=False):
            self.assertGreaterEqual(later - first, 1.0)

    def test_keepalive(self) -> None:
        """CH-42: a check every 15 s keeps the NATs' mappings and the consent, for hours."""
        one = scene(MASQUERADE, MASQUERADE)
        one.punch()
        one.network.run(5)
        for host in (one.alice, one.bob):
            host.sent.clear()
        one.network.run(3600)
        requests = [at for at, data, _ in one.alice.sent if data[:2] == b"\0\1"]
        gaps = {round(second - first) for first, second in pairwise(requests)}
        self.assertEqual(gaps, {15})
        self.assertTrue(one.opened())
        self.assertEqual(one.alice.told(PathEnded) + one.bob.told(PathEnded), [])

    def test_consent(self) -> None:
        """CH-42: after 30 s without an answer the application is told, and nothing more is sent."""
        one = scene(None, None)
        one.punch()
        one.network.run(5)
        one.bob.unplugged = True
        cut = one.network.now
        one.network.run(60)
        [ended] = one.alice.told(PathEnded)
        self.assertEqual((ended.peer, ended.end), (BOB, PathEnd.CONSENT_LOST))
        self.assertIn("30 seconds", ended.reason)
        last = max(at for at, _, _ in one.alice.sent)
        self.assertTrue(cut + CONSENT_TIMEOUT - 16 < last <= cut + CONSENT_TIMEOUT, last - cut)
        self.assertIsNone(one.alice.machine.deadline())

    def test_one_loss(self) -> None:
        """CH-42: keepalives that are lost are sent again before 15 s have passed."""
        one = scene(None, None)
        one.punch()
        one.network.run(5)
        start = one.network.now
        one.network.disturb = lambda data, source, destination: [] if one.network.now < start + 35 else [0.02]
        one.network.run(120)
        self.assertEqual(len(one.alice.told(PathEnded)), 1, "35 s are too long")
        again = scene(None, None)
        again.punch()
        again.network.run(5)
        start = again.network.now
        again.network.disturb = lambda data, source, destination: [] if again.network.now < start + 20 else [0.02]
        again.network.run(120)
        self.assertEqual(again.alice.told(PathEnded) + again.bob.told(PathEnded), [])
        self.assertTrue(again.opened())

    def test_late_word(self) -> None:
        """CH-40: checks may arrive before the server's message does; they are remembered, and not answered till then."""
        for delay, expected in ((5.0, True), (9.0, True), (25.0, False)):
            one = scene(None, MASQUERADE)
            one.bob.nat = None
            one.bob.address = ("203.0.113.9", 1231)
            one.alice.punch(BOB, Role.REQUESTER, one.offered(one.bob))
            one.network.run(delay)
            self.assertEqual(one.bob.sent, [])
            one.bob.punch(ALICE, Role.ACCEPTER, [])
            self.assertEqual(bool(one.bob.sent), expected)
            one.network.run(5)
            self.assertEqual(one.opened(), expected)


class NominationTests(SynchronousTestCase):
    """CH-40: the first pair that works both ways is chosen, and the requester nominates."""

    def test_one_path(self) -> None:
        """Several ways work: both sides take the same one."""
        for seed in range(20):
            network = Network(shuffled(seed), seed)
            one = scene(None, None, network)
            # Each has a second address, which the simulation delivers to the same host.
            for host, other in ((one.alice, "203.0.113.101"), (one.bob, "203.0.113.102")):
                self.alias(network, host, other)
            offers = {
                host: [
                    Candidate(host.address, CandidateKind.REFLEXIVE),
                    Candidate((second, PORT), CandidateKind.HOST),
                ]
                for host, second in ((one.alice, "203.0.113.101"), (one.bob, "203.0.113.102"))
            }
            one.alice.punch(BOB, Role.REQUESTER, offers[one.bob])
            one.bob.punch(ALICE, Role.ACCEPTER, offers[one.alice])
            network.run(15)
            self.assertTrue(one.opened(), seed)

    @staticmethod
    def alias(network: Network, host: Host, second: str) -> None:
        """Have datagrams to a second address reach the host too; it answers from its first one, as if by the route."""
        deliver = network.deliver

        def delivered(data: bytes, source: DatagramAddress, destination: DatagramAddress) -> None:
            deliver(data, source, host.address if destination[0] == second else destination)

        network.deliver = delivered  # type: ignore[method-assign]  # this network only

    def test_nobody_but_the_requester(self) -> None:
        """USE-CANDIDATE counts from the requester only: two accepters never meet."""
        one = scene(None, None)
        one.alice.punch(BOB, Role.ACCEPTER, one.offered(one.bob))
        one.bob.punch(ALICE, Role.ACCEPTER, one.offered(one.alice))
        one.network.run(12)
        self.assertEqual(one.alice.told(PathOpened) + one.bob.told(PathOpened), [])

    def test_silent_nominee(self) -> None:
        """A nominee that falls silent is replaced by another candidate that has answered."""
        network = Network()
        one = scene(None, None, network)
        second = ("203.0.113.102", PORT)
        carol = network.host(BOB)
        carol.address = second
        answers: list[float] = []

        def disturb(data: bytes, source: DatagramAddress, destination: DatagramAddress) -> list[float]:
            """The first candidate answers once and is never heard again."""
            if source == one.bob.address:
                answers.append(network.now)
                return [0.01] if len(answers) == 1 else []
            return [0.05]

        network.disturb = disturb
        offered = [
            Candidate(one.bob.address, CandidateKind.REFLEXIVE),
            Candidate(second, CandidateKind.HOST),
        ]
        one.bob.punch(ALICE, Role.ACCEPTER, [])
        carol.punch(ALICE, Role.ACCEPTER, [])
        one.alice.punch(BOB, Role.REQUESTER, offered)
        network.run(9)
        [opened] = one.alice.told(PathOpened)
        self.assertEqual(opened.candidate.address, second)


class DisturbedTests(SynchronousTestCase):
    """Loss, reordering and duplication change how long it takes, not what comes out."""

    @given(seed=st.integers(0, 10_000), loss=st.floats(0, 0.45), again=st.floats(0, 0.5), jitter=st.floats(0, 0.4))
    @settings(deadline=None, max_examples=60)
    def test_disturbed(self, seed: int, loss: float, again: float, jitter: float) -> None:
        """CH-40: with a good part of all datagrams lost, late or twice, nobody raises, and what opens opens once."""
        chance = random.Random(seed)

        def disturb(data: bytes, source: DatagramAddress, destination: DatagramAddress) -> list[float]:
            if chance.random() < loss:
                return []
            copies = 2 if chance.random() < again else 1
            return [0.01 + chance.random() * jitter for _ in range(copies)]

        one = scene(MASQUERADE, PORT_RESTRICTED, Network(disturb, seed))
        one.punch()
        one.network.run(11)
        for host in (one.alice, one.bob):
            self.assertLessEqual(len(host.told(PathOpened)), 1)
        if loss < 0.2:
            self.assertTrue(one.opened())

    @given(lost=st.lists(st.booleans(), max_size=40))
    @settings(deadline=None, max_examples=60)
    def test_loss_patterns(self, lost: list[bool]) -> None:
        """CH-40: whatever is lost at first, the path opens once datagrams pass again."""
        pattern = list(lost)

        def disturb(data: bytes, source: DatagramAddress, destination: DatagramAddress) -> list[float]:
            return [] if pattern and is_stun(data) and pattern.pop(0) else [0.02]

        one = scene(MASQUERADE, MASQUERADE, Network(disturb))
        one.punch()
        one.network.run(11)
        if sum(lost) <= 12:
            self.assertTrue(one.opened())

    def test_mapping_timeout(self) -> None:
        """Linux forgets an answered mapping after 120 s: a path that is kept alive outlives it, a silent one ends."""
        one = scene(MASQUERADE, MASQUERADE)
        one.punch()
        one.network.run(2)
        nat = one.alice.nat
        assert nat is not None
        one.network.run(600)
        self.assertTrue(one.opened())
        one.alice.unplugged = one.bob.unplugged = True
        one.network.run(130)
        nat._forget()
        self.assertEqual(nat.conversations, [])
        self.assertEqual([event.end for event in one.alice.told(PathEnded)], [PathEnd.CONSENT_LOST])
