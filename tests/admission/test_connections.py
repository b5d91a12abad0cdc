"""Tests of :mod:`connectd.admission.connections`."""

from __future__ import annotations

import ipaddress
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.admission import Admission, AdmissionLimits, Refusal, source_key
from connectd.sansio import Outcome

UNLIMITED = AdmissionLimits(max_connections=0, connections_per_source=0, connection_rate=0)
HERE = "192.0.2.1"
THERE = "192.0.2.2"


class Gate:
    """An admission and its clock."""

    def __init__(self, limits: AdmissionLimits = UNLIMITED, **keywords: object) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1_790_000_000.0
        self.admission = Admission(limits, clock=self.clock, **keywords)  # type: ignore[arg-type]

    def admit(self, host: str) -> Refusal | None:
        return self.admission.admit(host, self.clock.seconds())

    def outcome(self, host: str) -> Outcome | None:
        refusal = self.admit(host)
        return None if refusal is None else refusal.outcome

    def admitted(self, host: str, attempts: int) -> int:
        return sum(self.admit(host) is None for _ in range(attempts))

    def visit(self, host: str) -> Outcome | None:
        """Come and go at once."""
        outcome = self.outcome(host)
        if outcome is None:
            self.admission.release(host)
        return outcome


class AddressTests(SynchronousTestCase):
    def test_deny(self) -> None:
        """COM-4: a denied address is banned, in whatever form it comes; others are not touched."""
        gate = Gate(AdmissionLimits(deny=(ipaddress.ip_network("192.0.2.0/31"), ipaddress.ip_network("2001:db8::/32"))))
        self.assertEqual(gate.admit(HERE), Refusal(Outcome.BANNED, "192.0.2.1 is denied by 192.0.2.0/31"))
        self.assertEqual(gate.outcome("::ffff:192.0.2.1"), Outcome.BANNED)
        self.assertEqual(gate.outcome("2001:db8::1%eth0"), Outcome.BANNED)
        self.assertIsNone(gate.admit(THERE))
        self.assertIsNone(gate.admit(THERE))
        self.assertEqual(gate.admission.open_connections, 2)
        self.assertEqual(gate.admission.sources, 1)

    def test_allow(self) -> None:
        """COM-4: with an allow list everybody else is banned, and deny wins over it."""
        gate = Gate(
            AdmissionLimits(allow=(ipaddress.ip_network("192.0.2.0/24"),), deny=(ipaddress.ip_network("192.0.2.1"),))
        )
        self.assertIsNone(gate.outcome(THERE))
        self.assertEqual(gate.outcome(HERE), Outcome.BANNED)
        self.assertEqual(gate.outcome("198.51.100.1"), Outcome.BANNED)

    def test_one_of_a_known_source_is_denied(self) -> None:
        """COM-4: the lists go by address, not by source."""
        gate = Gate(AdmissionLimits(deny=(ipaddress.ip_network("2001:db8::2"),)))
        self.assertIsNone(gate.outcome("2001:db8::1"))
        self.assertEqual(gate.outcome("2001:db8::2"), Outcome.BANNED)

    def test_bans(self) -> None:
        """COM-4: the directory's bans are asked with the canonical address, known source or not."""
        asked: list[str] = []

        def bans(address: str) -> str | None:
            asked.append(address)
            return "spam" if address == HERE else None

        gate = Gate(bans=bans)
        self.assertEqual(gate.admit("::ffff:192.0.2.1"), Refusal(Outcome.BANNED, "192.0.2.1 is banned: spam"))
        for host in (THERE, THERE, "2001:DB8:0::1", "fe80::1%eth0"):
            self.assertIsNone(gate.admit(host))
        self.assertEqual(asked, [HERE, THERE, THERE, "2001:db8::1", "fe80::1"])

    def test_datagrams(self) -> None:
        """COM-4: lists and bans go for datagrams as well, which count as no connection."""
        bans = {THERE: "spam"}
        gate = Gate(AdmissionLimits(deny=(ipaddress.ip_network(HERE),)), bans=bans.get)
        tolerated = [gate.admission.tolerates(host) for host in (HERE, THERE, "192.0.2.3", "2001:db8::1", "garbage")]
        self.assertEqual(tolerated, [False, False, True, True, False])
        self.assertEqual((gate.admission.open_connections, gate.admission.sources), (0, 0))


class UnevaluableTests(SynchronousTestCase):
    def refused(self, gate: Gate, host: str) -> str:
        refusal = gate.admit(host)
        assert refusal is not None
        self.assertEqual(refusal.outcome, Outcome.REFUSED)
        self.assertEqual(gate.admission.open_connections, 0)
        return refusal.reason

    def test_garbage(self) -> None:
        """COM-4: a host that is no address is refused, even one that looks like a source key."""
        gate = Gate()
        for host in ("garbage", "unix", "192.0.2.0/24", " "):
            self.assertIn(repr(host), self.refused(gate, host))
        self.refused(gate, None)  # type: ignore[arg-type]
        self.assertEqual(gate.admission.sources, 0)

    def test_source_key_as_host(self) -> None:
        """COM-4: the key of a known source is not a host."""
        gate = Gate()
        self.assertIsNone(gate.admit("2001:db8::1"))
        self.assertEqual(gate.outcome("2001:db8::/64"), Outcome.REFUSED)
        with self.assertRaises(ValueError):
            gate.admission.release("2001:db8::/64")

    def test_bans_raise(self) -> None:
        """COM-4, COM-9: when bans cannot be read the connection is refused; the error's text goes nowhere."""

        def bans(address: str) -> str | None:
            raise OSError("secret://")

        reason = self.refused(Gate(bans=bans), HERE)
        self.assertIn("OSError", reason)
        self.assertNotIn("secret", reason)

    def test_broken_limits(self) -> None:
        """COM-4: limits that make no sense refuse everybody."""
        for name in ("max_connections", "connections_per_source"):
            limits = AdmissionLimits()
            gate = Gate(limits)
            self.assertIsNone(gate.visit(HERE))
            object.__setattr__(limits, name, "many")
            self.refused(gate, HERE)
            if name == "max_connections":
                self.refused(gate, "")

    def test_broken_replacement(self) -> None:
        """COM-4: limits that cannot be applied leave the previous ones in force."""
        gate = Gate(AdmissionLimits(max_connections=1))
        broken = AdmissionLimits(max_connections=5)
        object.__setattr__(broken, "deny", ("nonsense",))
        with self.assertRaises(AttributeError):
            gate.admission.replace_limits(broken)
        self.assertEqual(gate.admission.limits.max_connections, 1)
        self.assertEqual(gate.admitted(HERE, 2), 1)


class CountTests(SynchronousTestCase):
    def test_total(self) -> None:
        """COM-4: the total counts everybody, unix sockets too, and each release makes room for one."""
        gate = Gate(AdmissionLimits(max_connections=3))
        for host in (HERE, "2001:db8::1", ""):
            self.assertIsNone(gate.admit(host))
        for host in (THERE, HERE, ""):
            self.assertEqual(gate.admit(host), Refusal(Outcome.LIMITED, "3 connections are open (max_connections = 3)"))
        gate.admission.release("")
        self.assertIsNone(gate.admit(THERE))
        self.assertEqual(gate.outcome(""), Outcome.LIMITED)

    def test_per_source(self) -> None:
        """COM-4: connections per source, the same source in both notations."""
        gate = Gate(AdmissionLimits(connections_per_source=2))
        self.assertIsNone(gate.admit(HERE))
        self.assertIsNone(gate.admit("::ffff:192.0.2.1"))
        self.assertEqual(
            gate.admit(HERE), Refusal(Outcome.LIMITED, "192.0.2.1 has 2 connections (connections_per_source = 2)")
        )
        self.assertEqual(gate.outcome("::ffff:192.0.2.1"), Outcome.LIMITED)
        self.assertIsNone(gate.admit(THERE))
        gate.admission.release("::ffff:192.0.2.1")
        self.assertIsNone(gate.admit(HERE))

    def test_ipv6_source(self) -> None:
        """COM-4: a /64 is one source, the next /64 another."""
        gate = Gate(AdmissionLimits(connections_per_source=2))
        self.assertIsNone(gate.admit("2001:db8::1"))
        self.assertIsNone(gate.admit("2001:db8::ffff:2"))
        self.assertEqual(gate.outcome("2001:db8::3"), Outcome.LIMITED)
        self.assertIsNone(gate.admit("2001:db8:0:1::3"))
        gate.admission.release("2001:db8::1")
        self.assertIsNone(gate.admit("2001:db8::3"))
        self.assertEqual(gate.admission.sources, 2)

    def test_unix(self) -> None:
        """COM-4: peers of unix sockets are one source without limits of its own."""
        gate = Gate(
            AdmissionLimits(
                connections_per_source=1, connection_rate=1, connection_burst=1, allow=(ipaddress.ip_network(HERE),)
            )
        )
        self.assertEqual(gate.admitted("", 5), 5)
        self.assertEqual((gate.admission.open_connections, gate.admission.sources), (5, 1))
        for _ in range(5):
            gate.admission.release("")
        self.assertEqual((gate.admission.open_connections, gate.admission.sources), (0, 0))

    def test_no_limit(self) -> None:
        """COM-4: 0 is no limit."""
        gate = Gate(UNLIMITED)
        self.assertEqual(gate.admitted(HERE, 500), 500)
        gate = Gate(AdmissionLimits(connections_per_source=0, connection_burst=0))
        self.assertEqual(gate.admitted(HERE, 500), 500)

    def test_release_too_often(self) -> None:
        gate = Gate(AdmissionLimits(connection_rate=1))
        for host in (HERE, "2001:db8::1", ""):
            self.assertIsNone(gate.visit(host))
            with self.assertRaisesRegex(ValueError, "is open"):
                gate.admission.release(host)
        self.assertIsNone(gate.admit("2001:db8::1"))
        with self.assertRaisesRegex(ValueError, "is open"):
            gate.admission.release("2001:db8::2")
        self.assertEqual(gate.admission.open_connections, 1)
        gate.admission.release("2001:db8::1")

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([HERE, "::ffff:192.0.2.1", THERE, "2001:db8::1", "2001:db8::2", ""]), st.booleans()
            ),
            max_size=60,
        )
    )
    @settings(deadline=None, max_examples=100)
    def test_model(self, steps: list[tuple[str, bool]]) -> None:
        """COM-4: counts agree with plain counting, whatever comes and goes in whatever order."""
        gate = Gate(AdmissionLimits(max_connections=7, connections_per_source=3, connection_rate=0))
        hosts: Counter[str] = Counter()
        for host, arrives in steps:
            if arrives:
                of_source = sum(count for other, count in hosts.items() if source_key(other) == source_key(host))
                fits = hosts.total() < 7 and (host == "" or of_source < 3)
                self.assertEqual(gate.outcome(host), None if fits else Outcome.LIMITED)
                hosts[host] += fits
            elif hosts[host]:
                gate.admission.release(host)
                hosts[host] -= 1
            self.assertEqual(gate.admission.open_connections, hosts.total())
            self.assertEqual(gate.admission.sources, len({source_key(h) for h, count in hosts.items() if count}))


class RateTests(SynchronousTestCase):
    def test_burst_then_rate(self) -> None:
        """COM-4: a burst at once, then the rate, and no more than a burst after a quiet time."""
        gate = Gate(AdmissionLimits(connection_rate=20))
        self.assertEqual(gate.admitted(HERE, 50), 40)
        self.assertEqual(
            gate.admit(HERE), Refusal(Outcome.LIMITED, "192.0.2.1 connects too fast (connection_rate = 20)")
        )
        self.assertEqual(gate.admitted(THERE, 50), 40)
        gate.clock.advance(0.049)
        self.assertEqual(gate.admitted(HERE, 5), 0)
        gate.clock.advance(0.001)
        self.assertEqual(gate.admitted(HERE, 5), 1)
        gate.clock.advance(0.5)
        self.assertEqual(gate.admitted(HERE, 50), 10)
        for _ in range(51):
            gate.admission.release(HERE)
        gate.clock.advance(3600)
        self.assertEqual(gate.admitted(HERE, 100), 40)

    def test_ipv6(self) -> None:
        """COM-4: the addresses of a /64 share one bucket."""
        gate = Gate(AdmissionLimits(connection_rate=1, connection_burst=3))
        self.assertEqual([gate.visit(f"2001:db8::{n}") for n in range(4)], [None, None, None, Outcome.LIMITED])
        self.assertIsNone(gate.visit("2001:db8:0:1::"))

    def test_coming_and_going(self) -> None:
        """COM-4: closing a connection gives its token not back."""
        gate = Gate(AdmissionLimits(connection_rate=1, connection_burst=2))
        self.assertEqual([gate.visit(HERE) for _ in range(3)], [None, None, Outcome.LIMITED])

    def test_refused_costs_nothing(self) -> None:
        """COM-4: hammering while refused does not postpone the next admission."""
        gate = Gate(AdmissionLimits(connection_rate=1, connection_burst=1))
        self.assertIsNone(gate.visit(HERE))
        for _ in range(9):
            gate.clock.advance(0.1)
            self.assertEqual(gate.visit(HERE), Outcome.LIMITED)
        gate.clock.advance(0.1)
        self.assertIsNone(gate.visit(HERE))

    def test_clock_set_back(self) -> None:
        """COM-4: after the clock was set back, a source waits for one token, not for the old time to return."""
        gate = Gate(AdmissionLimits(connection_rate=1, connection_burst=2))
        self.assertEqual(gate.admitted(HERE, 2), 2)
        gate.clock.rightNow -= 86400
        self.assertEqual(gate.outcome(HERE), Outcome.LIMITED)
        gate.clock.rightNow += 1
        self.assertIsNone(gate.outcome(HERE))

    @given(
        st.sampled_from([0.5, 1.0, 3.0, 20.0, 1000.0]),
        st.sampled_from([None, 1.0, 2.5, 10.0]),
        st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.0, 7.0]), st.integers(1, 60)), max_size=25),
    )
    @settings(deadline=None, max_examples=100)
    def test_bucket(self, rate: float, burst: float | None, steps: list[tuple[float, int]]) -> None:
        """COM-4: admits what a bucket of tokens would, give or take rounding."""
        limits = AdmissionLimits(connection_rate=rate, connection_burst=burst)
        gate = Gate(limits)
        tokens = limits.burst
        for pause, attempts in steps:
            gate.clock.advance(pause)
            tokens = min(limits.burst, tokens + pause * rate)
            admitted = sum(gate.visit(HERE) is None for _ in range(attempts))
            self.assertLessEqual(admitted, tokens + 0.05)
            self.assertGreaterEqual(admitted, min(attempts, int(tokens - 0.05)))
            tokens -= admitted


class MemoryTests(SynchronousTestCase):
    def test_forgotten(self) -> None:
        """COM-4: a source is forgotten once it has no connection and its bucket is full again, not before."""
        gate = Gate(AdmissionLimits(connection_rate=1, connection_burst=2))
        for host in (HERE, THERE):
            self.assertIsNone(gate.visit(host))
        gate.clock.advance(0.5)
        self.assertEqual(gate.admission.sources, 2)
        self.assertIsNone(gate.admit(THERE))
        gate.clock.advance(0.5)
        self.assertEqual(gate.admission.sources, 1)
        gate.clock.advance(60)
        self.assertEqual(gate.admission.sources, 1)
        gate.admission.release(THERE)
        self.assertEqual(gate.admission.sources, 0)

    def test_amortised(self) -> None:
        """COM-4: passers-by are forgotten as others come, without anybody asking."""
        gate = Gate(AdmissionLimits(connection_rate=10, connection_burst=1))
        for number in range(3000):
            self.assertIsNone(gate.visit(str(ipaddress.ip_address(number))))
            gate.clock.advance(0.01)
        self.assertLess(len(gate.admission._sources), 15)

    def test_cap(self) -> None:
        """COM-4: at the cap the source that has been idle for the longest time makes room."""
        gate = Gate(AdmissionLimits(connection_rate=1, connection_burst=1), maximum_sources=3)
        busy, first, second, new = "192.0.2.10", "192.0.2.11", "192.0.2.12", "192.0.2.13"
        self.assertIsNone(gate.admit(busy))
        self.assertIsNone(gate.visit(first))
        self.assertIsNone(gate.visit(second))
        self.assertIsNone(gate.visit(new))
        self.assertEqual(gate.admission.sources, 3)
        self.assertEqual(gate.visit(second), Outcome.LIMITED)
        self.assertIsNone(gate.visit(first))
        self.assertEqual(gate.outcome(busy), Outcome.LIMITED)
        gate.admission.release(busy)

    def test_all_busy(self) -> None:
        """COM-4: when every source that fits has connections, a new one is limited and known ones are not."""
        gate = Gate(UNLIMITED, maximum_sources=2)
        self.assertIsNone(gate.admit(HERE))
        self.assertIsNone(gate.admit(THERE))
        self.assertEqual(gate.admit("192.0.2.3"), Refusal(Outcome.LIMITED, "all 2 sources that fit have connections"))
        self.assertIsNone(gate.admit(HERE))
        gate.admission.release(THERE)
        self.assertIsNone(gate.admit("192.0.2.3"))
        self.assertEqual(gate.admission.open_connections, 3)


class ReplaceLimitsTests(SynchronousTestCase):
    def test_counts_stay(self) -> None:
        """COM-4: new limits meet the old counts."""
        gate = Gate(AdmissionLimits(connections_per_source=5))
        self.assertEqual(gate.admitted(HERE, 3), 3)
        gate.admission.replace_limits(AdmissionLimits(connections_per_source=2))
        self.assertEqual(gate.outcome(HERE), Outcome.LIMITED)
        gate.admission.release(HERE)
        self.assertEqual(gate.outcome(HERE), Outcome.LIMITED)
        gate.admission.release(HERE)
        self.assertIsNone(gate.outcome(HERE))

    def test_lists(self) -> None:
        """COM-4: a new deny list forgets what the old one said."""
        gate = Gate(AdmissionLimits(deny=(ipaddress.ip_network(THERE),)))
        self.assertIsNone(gate.outcome(HERE))
        gate.admission.replace_limits(AdmissionLimits(deny=(ipaddress.ip_network(HERE),)))
        self.assertEqual(gate.outcome(HERE), Outcome.BANNED)
        self.assertIsNone(gate.outcome(THERE))
        gate.admission.replace_limits(AdmissionLimits())
        self.assertIsNone(gate.outcome(HERE))
        gate.admission.release(HERE)

    def test_rate(self) -> None:
        gate = Gate(AdmissionLimits(connection_rate=1, connection_burst=1))
        self.assertIsNone(gate.visit(HERE))
        self.assertEqual(gate.visit(HERE), Outcome.LIMITED)
        gate.admission.replace_limits(UNLIMITED)
        self.assertIsNone(gate.visit(HERE))

    def test_prefixes(self) -> None:
        """COM-4: with other prefixes the open connections belong to their new sources, and each can be released."""
        hosts = [HERE, HERE, THERE, "192.0.2.200", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", ""]
        gate = Gate(AdmissionLimits(connection_rate=1, connection_burst=10))
        for host in hosts:
            self.assertIsNone(gate.admit(host))
        self.assertIsNone(gate.visit("198.51.100.1"))
        self.assertEqual(gate.admission.sources, 3 + 2 + 1 + 1)

        gate.admission.replace_limits(
            AdmissionLimits(ipv4_prefix=25, ipv6_prefix=48, connections_per_source=3, connection_rate=0)
        )
        self.assertEqual(gate.admission.sources, 2 + 1 + 1)
        self.assertEqual(gate.outcome("192.0.2.3"), Outcome.LIMITED)
        self.assertEqual(gate.outcome("2001:db8:0:2::1"), Outcome.LIMITED)
        self.assertIsNone(gate.visit("192.0.2.201"))
        gate.admission.release(HERE)
        self.assertIsNone(gate.admit("192.0.2.3"))

        gate.admission.replace_limits(AdmissionLimits(ipv6_prefix=128, connections_per_source=1))
        self.assertEqual(gate.admission.sources, 4 + 3 + 1)
        for host in (HERE, THERE, "192.0.2.3", "2001:db8::2"):
            self.assertEqual(gate.outcome(host), Outcome.LIMITED)
        self.assertIsNone(gate.visit("2001:db8::3"))
        for host in [*hosts[1:], "192.0.2.3"]:
            gate.admission.release(host)
        gate.clock.advance(60)
        self.assertEqual((gate.admission.open_connections, gate.admission.sources), (0, 0))

    def test_prefixes_keep_buckets(self) -> None:
        """COM-4: a source with open connections takes its empty bucket along."""
        gate = Gate(AdmissionLimits(connection_rate=1, connection_burst=2))
        self.assertEqual(gate.admitted(HERE, 3), 2)
        gate.admission.replace_limits(AdmissionLimits(connection_rate=1, connection_burst=2, ipv4_prefix=24))
        self.assertEqual(gate.outcome(THERE), Outcome.LIMITED)
