"""Tests of :mod:`connectd.protocols.chatr.rendezvous`: who is told what about whom."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr.packets import (
    ClientInfo,
    ConnectionRequest,
    ConnectionRequestAccept,
    ConnectionRequestDenied,
    IPAddress,
)
from connectd.protocols.chatr.rendezvous import Rendezvous, forwarded

NOW = 1_700_000_000.0
PRIVATE = ip_address("192.168.0.7")
OTHER = ip_address("10.0.0.9")


def uuid(number: int) -> UUID:
    return UUID(int=number)


A, B, C = uuid(1), uuid(2), uuid(3)


def public(number: int) -> IPAddress:
    return IPv4Address("203.0.113.0") + number


class RendezvousCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.rendezvous = Rendezvous()
        for number in (1, 2, 3):
            self.rendezvous.join(uuid(number), str(public(number)))


class RequestTests(RendezvousCase):
    def test_forwarded(self) -> None:
        """CH-6: a request reaches its target with the UUID and private endpoint of the sender, and nothing public."""
        self.assertEqual(self.rendezvous.request(A, B, PRIVATE, NOW), [(B, ConnectionRequest(A, PRIVATE))])

    def test_denied_in_the_same_bytes(self) -> None:
        """CH-6: unknown, offline, oneself, and denied by the target: identical bytes, so that presence does not show."""
        unknown = self.rendezvous.request(A, uuid(99), PRIVATE, NOW)
        self.assertEqual(unknown, [(A, ConnectionRequestDenied(uuid(99)))])
        self.assertEqual(self.rendezvous.request(A, A, PRIVATE, NOW), [(A, ConnectionRequestDenied(A))])
        self.rendezvous.leave(C)
        offline = self.rendezvous.request(A, C, PRIVATE, NOW)
        self.rendezvous.join(C, str(public(3)))
        self.rendezvous.request(A, C, PRIVATE, NOW)
        self.assertEqual(self.rendezvous.deny(C, A), offline)
        self.assertEqual([packet.encode() for _, packet in offline], [b"\x11\x07" + C.bytes])

    def test_repeat(self) -> None:
        """CH-7: a repeat while pending is neither forwarded nor extends it."""
        self.rendezvous.request(A, B, PRIVATE, NOW)
        self.assertEqual(self.rendezvous.request(A, B, OTHER, NOW + 20), [])
        self.assertEqual(self.rendezvous.deadline(), NOW + 30)
        self.assertEqual(self.rendezvous.expire(NOW + 29.9), [])
        self.assertEqual(self.rendezvous.expire(NOW + 30), [(A, ConnectionRequestDenied(B))])

    def test_time(self) -> None:
        """CH-7: after 30 s without an answer the requester is told no, once; an answer after that is ignored."""
        self.rendezvous.request(A, B, PRIVATE, NOW)
        self.rendezvous.request(B, C, PRIVATE, NOW + 1)
        self.assertEqual(self.rendezvous.expire(NOW + 30.5), [(A, ConnectionRequestDenied(B))])
        self.assertEqual(self.rendezvous.deadline(), NOW + 31)
        self.assertEqual(self.rendezvous.accept(B, A, OTHER), [])
        self.assertEqual(self.rendezvous.deny(B, A), [])
        self.assertEqual(self.rendezvous.expire(NOW + 60), [(B, ConnectionRequestDenied(C))])
        self.assertIsNone(self.rendezvous.deadline())


class AnswerTests(RendezvousCase):
    def test_accepted(self) -> None:
        """CH-7: the requester gets the acceptance with the accepter's private endpoint, then both ClientInfo with the
        public address of the other."""
        self.rendezvous.request(A, B, PRIVATE, NOW)
        self.assertEqual(
            self.rendezvous.accept(B, A, OTHER),
            [
                (A, ConnectionRequestAccept(B, OTHER)),
                (A, ClientInfo(B, public(2))),
                (B, ClientInfo(A, public(1))),
            ],
        )
        self.assertEqual(self.rendezvous.accept(B, A, OTHER), [])

    def test_no_address(self) -> None:
        """CH-7: who came through a Unix socket has no address to tell; a zone is no part of one."""
        self.rendezvous.leave(B)
        self.rendezvous.join(B, "")
        self.rendezvous.leave(A)
        self.rendezvous.join(A, "fe80::1%eth0")
        self.rendezvous.request(A, B, PRIVATE, NOW)
        _, (_, of_bob), (_, of_alice) = self.rendezvous.accept(B, A, OTHER)
        self.assertEqual((of_bob, of_alice), (ClientInfo(B, IPv4Address(0)), ClientInfo(A, ip_address("fe80::1"))))

    def test_unsolicited(self) -> None:
        """CH-7: an acceptance or denial without a request is ignored; one from X naming Y answers Y's request to X."""
        self.assertEqual(self.rendezvous.accept(B, A, OTHER), [])
        self.assertEqual(self.rendezvous.deny(B, A), [])
        self.rendezvous.request(A, B, PRIVATE, NOW)
        for accepter, requester in ((A, B), (C, A), (B, C), (A, A)):
            self.assertEqual(self.rendezvous.accept(accepter, requester, OTHER), [])
            self.assertEqual(self.rendezvous.deny(accepter, requester), [])
        self.assertEqual(len(self.rendezvous), 1)

    def test_both_directions(self) -> None:
        """CH-7: two clients that ask for each other have a request each."""
        self.rendezvous.request(A, B, PRIVATE, NOW)
        self.rendezvous.request(B, A, PRIVATE, NOW)
        self.assertEqual(self.rendezvous.deny(B, A), [(A, ConnectionRequestDenied(B))])
        self.assertEqual(len(self.rendezvous.accept(A, B, OTHER)), 3)

    def test_target_leaves(self) -> None:
        """CH-7: whoever waits for a client that leaves is denied."""
        self.rendezvous.request(A, B, PRIVATE, NOW)
        self.rendezvous.request(C, B, PRIVATE, NOW)
        denied = ConnectionRequestDenied(B)
        self.assertEqual(self.rendezvous.leave(B), [(A, denied), (C, denied)])
        self.assertEqual((len(self.rendezvous), self.rendezvous.expire(NOW + 60)), (0, []))

    def test_requester_leaves(self) -> None:
        """CH-7: what a client that leaves has asked for is cleared: its target's answer reaches nobody."""
        self.rendezvous.request(A, B, PRIVATE, NOW)
        self.assertEqual(self.rendezvous.leave(A), [])
        self.assertEqual(self.rendezvous.accept(B, A, OTHER), [])
        self.rendezvous.join(A, str(public(1)))
        self.assertEqual(self.rendezvous.accept(B, A, OTHER), [])
        self.assertEqual(len(self.rendezvous.request(A, B, PRIVATE, NOW)), 1)

    def test_leaving_twice(self) -> None:
        """A client that is not there leaves nothing behind."""
        self.assertEqual(self.rendezvous.leave(uuid(99)), [])


class HygieneTests(SynchronousTestCase):
    def test_misleading_endpoints(self) -> None:
        """CH-8: loopback, link-local, multicast, broadcast, unspecified and mapped ones are forwarded as unspecified, with
        the version that they had."""
        for text in ("127.0.0.1", "127.9.9.9", "169.254.1.1", "224.0.0.1", "239.1.2.3", "255.255.255.255", "0.0.0.0"):
            self.assertEqual(forwarded(ip_address(text)), IPv4Address("0.0.0.0"), text)
        for text in ("::1", "fe80::1", "ff02::1", "::", "::ffff:192.168.0.7", "::ffff:127.0.0.1"):
            self.assertEqual(forwarded(ip_address(text)), IPv6Address("::"), text)

    def test_others(self) -> None:
        """CH-8: all others go through as they are."""
        for text in ("192.168.0.7", "10.0.0.1", "203.0.113.9", "100.64.0.1", "fd00::1", "2001:db8::1"):
            self.assertEqual(forwarded(ip_address(text)), ip_address(text))

    def test_on_the_way(self) -> None:
        """CH-8: in requests and in acceptances."""
        rendezvous = Rendezvous()
        rendezvous.join(A, str(public(1)))
        rendezvous.join(B, str(public(2)))
        loopback = ip_address("127.0.0.1")
        self.assertEqual(rendezvous.request(A, B, loopback, NOW), [(B, ConnectionRequest(A, IPv4Address(0)))])
        self.assertEqual(rendezvous.accept(B, A, ip_address("::1"))[0], (A, ConnectionRequestAccept(B, IPv6Address(0))))


class BudgetTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.rendezvous = Rendezvous()

    def crowd(self, count: int, start: int = 1) -> list[UUID]:
        found = [uuid(number) for number in range(start, start + count)]
        for one in found:
            self.rendezvous.join(one, str(public(1)))
        return found

    def test_rate(self) -> None:
        """CH-9: ten requests at once, then one in a second; what is more is denied and not forwarded."""
        requester, *targets = self.crowd(30)
        forwarded_to = [self.rendezvous.request(requester, target, PRIVATE, NOW)[0][0] for target in targets[:12]]
        self.assertEqual(forwarded_to, [*targets[:10], requester, requester])
        self.assertEqual(self.rendezvous.request(requester, targets[12], PRIVATE, NOW + 0.9)[0][0], requester)
        self.assertEqual(self.rendezvous.request(requester, targets[12], PRIVATE, NOW + 1.0)[0][0], targets[12])
        self.assertEqual(self.rendezvous.request(requester, targets[13], PRIVATE, NOW + 1.1)[0][0], requester)

    def test_rate_counts_the_absent(self) -> None:
        """CH-9: asking for who is not there costs the same."""
        (requester,) = self.crowd(1)
        for number in range(10):
            self.rendezvous.request(requester, uuid(100 + number), PRIVATE, NOW)
        (target,) = self.crowd(1, 50)
        self.assertEqual(self.rendezvous.request(requester, target, PRIVATE, NOW)[0][0], requester)

    def test_repeats_cost_nothing(self) -> None:
        """CH-9, CH-7: a repeat takes nothing of the budget."""
        requester, *targets = self.crowd(12)
        for _ in range(50):
            self.rendezvous.request(requester, targets[0], PRIVATE, NOW)
        found = [self.rendezvous.request(requester, target, PRIVATE, NOW)[0][0] for target in targets[1:10]]
        self.assertEqual(found, targets[1:10])

    def test_clock_set_back(self) -> None:
        """CH-9: a clock that is set back locks nobody out for longer than a burst takes."""
        requester, *targets = self.crowd(30)
        for target in targets[:10]:
            self.rendezvous.request(requester, target, PRIVATE, NOW)
        back = NOW - 3600
        self.assertEqual(self.rendezvous.request(requester, targets[10], PRIVATE, back)[0][0], requester)
        self.assertEqual(self.rendezvous.request(requester, targets[10], PRIVATE, back + 1)[0][0], targets[10])

    def test_pending_of_a_requester(self) -> None:
        """CH-9: 32 pending requests of one requester."""
        requester, *targets = self.crowd(40)
        now = NOW
        found = []
        for target in targets[:34]:
            found.append(self.rendezvous.request(requester, target, PRIVATE, now)[0][0])
            now += 0.8
        self.assertEqual(found, [*targets[:32], requester, requester])
        self.rendezvous.deny(targets[0], requester)
        self.assertEqual(self.rendezvous.request(requester, targets[35], PRIVATE, now)[0][0], targets[35])

    def test_pending_of_a_target(self) -> None:
        """CH-9: 64 pending requests to one target."""
        target, *requesters = self.crowd(70)
        found = [self.rendezvous.request(one, target, PRIVATE, NOW)[0][0] for one in requesters[:66]]
        self.assertEqual(found, [*[target] * 64, requesters[64], requesters[65]])
        self.rendezvous.leave(requesters[0])
        self.assertEqual(self.rendezvous.request(requesters[64], target, PRIVATE, NOW + 1)[0][0], target)


steps = st.lists(
    st.tuples(
        st.sampled_from(["request", "accept", "deny", "leave", "join", "wait"]), st.integers(1, 4), st.integers(1, 4)
    ),
    max_size=60,
)


class PropertyTests(SynchronousTestCase):
    @given(steps)
    def test_anything(self, script: list[tuple[str, int, int]]) -> None:
        """CH-7: whatever happens, only who is there is told anything, a public address goes to who asked or accepted only,
        and a request ends once at most."""
        rendezvous, now = Rendezvous(), NOW
        here: set[UUID] = set()
        pending: set[tuple[UUID, UUID]] = set()
        for what, first, second in script:
            one, other = uuid(first), uuid(second)
            if what == "join" and one not in here:
                here.add(one)
                rendezvous.join(one, str(public(first)))
                continue
            if what == "wait":
                now += 10 * first
                deliveries = rendezvous.expire(now)
            elif one not in here:
                continue
            elif what == "request":
                deliveries = rendezvous.request(one, other, PRIVATE, now)
                if deliveries and isinstance(deliveries[0][1], ConnectionRequest):
                    self.assertNotIn((one, other), pending)
                    pending.add((one, other))
            elif what == "accept":
                deliveries = rendezvous.accept(one, other, PRIVATE)
                self.assertEqual(bool(deliveries), (other, one) in pending)
                pending.discard((other, one))
            elif what == "deny":
                deliveries = rendezvous.deny(one, other)
                self.assertEqual(bool(deliveries), (other, one) in pending)
                pending.discard((other, one))
            else:
                here.discard(one)
                deliveries = rendezvous.leave(one)
                pending = {pair for pair in pending if pair[0] != one}
            for to, packet in deliveries:
                self.assertIn(to, here)
                if isinstance(packet, ClientInfo):
                    self.assertEqual(what, "accept")
                    self.assertIn(to, (one, other))
                if isinstance(packet, ConnectionRequestDenied) and what in ("wait", "leave"):
                    self.assertIn((to, packet.uuid), pending)
                    pending.discard((to, packet.uuid))
            self.assertEqual(len(rendezvous), len(pending))
