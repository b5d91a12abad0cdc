"""Tests of the server's side of :mod:`connectd.protocols.lekt.machine`, with bytes written by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.lekt import machine as lekt_machine
from connectd.protocols.lekt.machine import IPV4_ONLY, HelloReceived, ServerMachine
from connectd.protocols.lekt.packets import METHODS, Heartbeat, Method, encode_entry
from connectd.protocols.lekt.presence import Presence
from connectd.protocols.lekt.settings import LektSettings
from connectd.sansio import (
    AFTER_ACCEPTANCE,
    BEFORE_ACCEPTANCE,
    Decision,
    Ended,
    Established,
    Event,
    LocalProtocolError,
    Outcome,
    Received,
)

START = 1_700_000_000.0
"""Seconds; 6553f100 in hexadecimal."""

HELLO = bytes.fromhex("4c454b54 48 000000 00000001 00000001")
NO_METHODS = bytes.fromhex("4c454b54 48 000000 00000000")
RESPONSE = bytes.fromhex("4c454b54 54 000000 00000001 00001f90")
LATE_RESPONSE = bytes.fromhex("4c454b54 54 000000 00000000")
BEAT = bytes.fromhex("4c454b54 48 000000 0000000000000000")

ACCEPT = bytes.fromhex("4c454b54 41 000000")
ASK_1 = bytes.fromhex("4c454b54 54 000000 00000001")
ASK_0 = bytes.fromhex("4c454b54 54 000000 00000000")
NO_NEWS = bytes.fromhex("4c454b54 48 000000 000000006553f100 41 000000")

EXPECTED_HANDSHAKE = b"LEKTR\0\0\0Expected a LEKT handshake\0\0\0"
UNSUPPORTED_VERSION = b"LEKTR\0\0\0Unsupported version\0"
TOO_MANY_METHODS = b"LEKTR\0\0\0Too many connection methods\0"
INVALID_PORT = b"LEKTR\0\0\0Invalid port\0\0\0\0"
UNEXPECTED_PACKET = b"LEKTR\0\0\0Unexpected packet\0\0\0"
TOO_MANY_HEARTBEATS = b"LEKTR\0\0\0Too many heartbeats\0"

HOST = IPv4Address("192.0.2.1")


def beat(time: int) -> bytes:
    """A heartbeat with that time."""
    return b"LEKTH\0\0\0" + time.to_bytes(8, "big", signed=True)


def news(time: int, *entries: str, removed: str = "") -> bytes:
    """An answer: hexadecimal addresses that are gone, hexadecimal entries that are new."""
    head = b"LEKTH\0\0\0" + time.to_bytes(8, "big")
    addresses = bytes.fromhex(removed)
    removals = head + b"R" + (len(addresses) // 4).to_bytes(3, "big") + addresses if removed else b""
    return removals + head + b"A" + len(entries).to_bytes(3, "big") + bytes.fromhex("".join(entries))


def told(wire: bytes) -> str:
    """The text of one reject, after a look at its form (LEKT-4)."""
    assert wire[:8] == b"LEKTR\0\0\0", wire
    text, terminator, padding = wire[8:].partition(b"\0")
    assert terminator, wire
    assert not padding.strip(b"\0"), wire
    assert len(wire) % 4 == 0, wire
    assert len(text) <= 255, wire
    return text.decode()


class ServerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = START
        self.settings = LektSettings()
        self.presence = Presence(90.0)

    def machine(self) -> ServerMachine:
        return ServerMachine(self.settings, self.presence, now=self.now)

    def say(self, machine: ServerMachine, data: bytes) -> list[Event]:
        return machine.receive_data(data, self.now)

    def deciding(self, hello: bytes = HELLO) -> ServerMachine:
        """A machine whose Decision is open."""
        machine = self.machine()
        self.assertIsInstance(self.say(machine, hello)[-1], HelloReceived)
        return machine

    def accepted(self, hello: bytes = HELLO, address: IPv4Address = HOST) -> ServerMachine:
        """A machine in setup (or past it, where the hello has no method in common), its output taken."""
        machine = self.deciding(hello)
        machine.accept(address.packed, self.now)
        machine.data_to_send()
        return machine

    def joined(self, address: IPv4Address = HOST, port: int = 8080) -> ServerMachine:
        """A machine in the heartbeat phase, its output taken; the peer has sent 32 bytes."""
        machine = self.accepted(HELLO, address)
        events = self.say(machine, b"LEKTT\0\0\0\0\0\0\1" + port.to_bytes(4, "big"))
        self.assertEqual(events, [Established()])
        self.assertEqual(machine.data_to_send(), ASK_0)
        return machine

    def every_state(self) -> dict[str, ServerMachine]:
        partial = self.machine()
        self.say(partial, HELLO[:9])
        halfway = self.accepted()
        self.say(halfway, RESPONSE[:13])
        beating = self.joined()
        self.say(beating, BEAT[:5])
        return {
            "new": self.machine(),
            "in the hello": partial,
            "deciding": self.deciding(),
            "setup": self.accepted(),
            "in a response": halfway,
            "heartbeat": self.joined(),
            "in a heartbeat": beating,
        }

    def assert_ended(
        self, machine: ServerMachine, events: list[Event], wire: bytes | None, offset: int | None = None
    ) -> Ended:
        """Ended once, as the last event, with exactly these bytes for the peer; None is a reject in any words."""
        self.assertTrue(events, "not ended")
        ended = events[-1]
        assert isinstance(ended, Ended), events
        self.assertEqual(sum(isinstance(event, Ended) for event in events), 1)
        sent = machine.data_to_send()
        if wire is None:
            self.assertTrue(told(sent))
        else:
            self.assertEqual(sent, wire)
        self.assertEqual(ended.offset, offset)
        self.assertTrue(machine.ended)
        self.assertIsNone(machine.deadline())
        self.assertIn(ended.outcome, AFTER_ACCEPTANCE if machine.established else BEFORE_ACCEPTANCE)
        return ended


class HelloTests(ServerCase):
    def test_client_speaks_first(self) -> None:
        """LEKT-1: nothing is said before the hello is whole, nor before it is accepted."""
        machine = self.machine()
        for byte in HELLO[:-1]:
            self.assertEqual(self.say(machine, bytes((byte,))), [])
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(self.say(machine, HELLO[-1:]), [HelloReceived(frozenset({1}))])
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(machine.accept(HOST.packed, self.now), [])
        self.assertEqual(machine.data_to_send(), ACCEPT + ASK_1)

    def test_anything_else(self) -> None:
        """LEKT-1: anything else is refused at its first wrong byte, however it comes."""
        for offset in range(5):
            for wrong in b"\x00\x16Aa\xff":
                if wrong == HELLO[offset]:
                    continue
                machine = self.machine()
                for byte in HELLO[:offset]:
                    self.assertEqual(self.say(machine, bytes((byte,))), [])
                ended = self.assert_ended(machine, self.say(machine, bytes((wrong,))), EXPECTED_HANDSHAKE, offset)
                self.assertEqual(ended.outcome, Outcome.MALFORMED)
        for offset in range(5):
            machine = self.machine()
            data = HELLO[:offset] + HELLO[offset : offset + 1].lower() + HELLO[offset + 1 :]
            self.assert_ended(machine, self.say(machine, data), EXPECTED_HANDSHAKE, offset)
        for data, offset in ((b"GET / HTTP/1.1\r\n\r\n", 0), (b"LEKX", 3), (BEAT[:4] + b"T" + bytes(7), 4)):
            machine = self.machine()
            self.assert_ended(machine, self.say(machine, data), EXPECTED_HANDSHAKE, offset)

    def test_version(self) -> None:
        """LEKT-3: another major or minor is refused once the 8 header bytes are in."""
        for version in (b"\1\0", b"\xff\xff"):
            machine = self.machine()
            self.assertEqual(self.say(machine, b"LEKTH" + version), [])
            self.assertEqual(machine.data_to_send(), b"")
            self.assert_ended(machine, self.say(machine, b"\0"), UNSUPPORTED_VERSION, 5)

    def test_minor_version(self) -> None:
        """LEKT-3, COM-3: where the major version is right, the first wrong byte is the minor one's."""
        machine = self.machine()
        self.assert_ended(machine, self.say(machine, b"LEKTH\0\1\0"), UNSUPPORTED_VERSION, 6)

    def test_extra(self) -> None:
        """LEKT-3: the extra part is ignored in every message, and sent as 0."""
        machine = self.machine()
        self.say(machine, b"LEKTH\0\0\x07" + HELLO[8:])
        machine.accept(HOST.packed, self.now)
        self.say(machine, b"LEKTT\0\0\x08" + RESPONSE[8:])
        self.say(machine, b"LEKTT\0\0\x09" + LATE_RESPONSE[8:])
        self.say(machine, b"LEKTH\0\0\xff" + BEAT[8:])
        self.assertEqual(machine.data_to_send(), ACCEPT + ASK_1 + ASK_0 + NO_NEWS)
        self.assertFalse(machine.ended)

    def test_words(self) -> None:
        """LEKT-2: N = 0, 1 (any nonzero word), 2, 32, 33 and 1024, each with ceil(N/32) words."""
        ones = "ffffffff"
        for hello, methods in (
            ("00000000", []),
            ("00000001 00000000", []),
            ("00000001 00000001", [1]),
            ("00000001 80000000", [1]),
            ("00000001 01000000", [1]),
            ("00000002 00000002", [2]),
            ("00000020 80000001", [1, 32]),
            ("00000021 80000000 00000001", [32, 33]),
            ("00000021 00000000 fffffffe", []),
            ("00000400" + ones * 32, list(range(1, 1025))),
        ):
            machine = self.machine()
            data = b"LEKTH\0\0\0" + bytes.fromhex(hello)
            self.assertEqual(self.say(machine, data[:-1]), [], hello)
            self.assertEqual(self.say(machine, data[-1:]), [HelloReceived(frozenset(methods))], hello)

    def test_too_many_methods(self) -> None:
        """LEKT-2, COM-2: N over 1024 is refused before a single word of its field is taken."""
        for count in ("00000401", "7fffffff", "ffffffff"):
            machine = self.machine()
            self.assertEqual(self.say(machine, b"LEKTH\0\0\0" + bytes.fromhex(count)[:3]), [])
            events = self.say(machine, bytes.fromhex(count)[3:])
            self.assert_ended(machine, events, TOO_MANY_METHODS, 8)

    def test_no_common_method(self) -> None:
        """LEKT-5: with no method in common, request index 0 comes at once, and the session stands."""
        for hello in ("00000000", "00000001 00000000", "00000020 fffffffe", "00000021 00000000 00000001"):
            machine = self.deciding(b"LEKTH\0\0\0" + bytes.fromhex(hello))
            self.assertEqual(machine.accept(HOST.packed, self.now), [Established()])
            self.assertEqual(machine.data_to_send(), ACCEPT + ASK_0)
            self.assertEqual(machine.information, ())

    def test_one_decision(self) -> None:
        """LEKT-4: what comes before the answer is held, not parsed."""
        machine = self.deciding()
        self.assertEqual(self.say(machine, RESPONSE), [])
        self.assertEqual(self.say(machine, BEAT), [])
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(machine.accept(HOST.packed, self.now), [Established(), Received(Heartbeat(0))])
        self.assertEqual(machine.data_to_send(), ACCEPT + ASK_1 + ASK_0 + NO_NEWS)

    def test_reject(self) -> None:
        """LEKT-4: a no is a reject with the reason, and the end."""
        machine = self.deciding()
        ended = self.assert_ended(
            machine,
            machine.refuse("The server is full", self.now, Outcome.LIMITED),
            b"LEKTR\0\0\0The server is full\0\0",
        )
        self.assertEqual((ended.outcome, ended.reason), (Outcome.LIMITED, "The server is full"))
        self.assertEqual(len(self.presence), 0)

    def test_ipv4_only(self) -> None:
        """LEKT-13: the words for a peer whose address cannot be listed."""
        machine = self.deciding()
        self.assert_ended(
            machine, machine.refuse(IPV4_ONLY, self.now), b"LEKTR\0\0\0LEKT lists IPv4 addresses only\0\0"
        )

    def test_misuse(self) -> None:
        """A verb at a wrong time is our own mistake, and is raised."""
        states = self.every_state()
        deciding = states.pop("deciding")
        for machine in states.values():
            self.assertRaises(LocalProtocolError, machine.accept, HOST, self.now)
            self.assertRaises(LocalProtocolError, machine.refuse, "no", self.now)
        deciding.refuse("no", self.now)
        self.assertRaises(LocalProtocolError, deciding.accept, HOST, self.now)
        self.assertRaises(LocalProtocolError, deciding.refuse, "no", self.now)
        self.assertRaises(LocalProtocolError, self.joined().send, Heartbeat(0), self.now)


class SetupTests(ServerCase):
    def test_bytes(self) -> None:
        """LEKT-4, LEKT-5: accept, the request, the response, and request index 0 after it."""
        machine = self.deciding()
        self.assertEqual(machine.accept(HOST.packed, self.now), [])
        self.assertEqual(machine.data_to_send(), ACCEPT + ASK_1)
        self.assertEqual(self.say(machine, RESPONSE[:-1]), [])
        self.assertEqual(machine.data_to_send(), b"")
        self.assertFalse(machine.established)
        self.assertEqual(self.say(machine, RESPONSE[-1:]), [Established()])
        self.assertEqual(machine.data_to_send(), ASK_0)
        self.assertTrue(machine.established)
        self.assertEqual(machine.information, ((1, b"\0\0\x1f\x90"),))

    def test_several_methods(self) -> None:
        """LEKT-5: one request for each method in common, the next only after the answer; then index 0."""
        self.enterContext(mock.patch.dict(METHODS, {3: Method(3, "Third", 8), 40: Method(40, "Fortieth", 0)}))
        machine = self.deciding(b"LEKTH\0\0\0" + bytes.fromhex("00000028 0000000e 00000080"))
        self.assertEqual(machine.accept(HOST.packed, self.now), [])
        self.assertEqual(machine.data_to_send(), ACCEPT + bytes.fromhex("4c454b5454000000 00000003"))
        self.assertEqual(self.say(machine, bytes.fromhex("4c454b5454000000 00000003 0102030405060708")), [])
        self.assertEqual(machine.data_to_send(), bytes.fromhex("4c454b5454000000 00000028"))
        self.assertEqual(self.say(machine, bytes.fromhex("4c454b5454000000 00000028")), [Established()])
        self.assertEqual(machine.data_to_send(), ASK_0)
        self.assertEqual(machine.information, ((3, bytes.fromhex("0102030405060708")), (40, b"")))
        other = self.joined(IPv4Address("192.0.2.9"))
        self.say(other, BEAT)
        entry = "00000014 c0000201 00000003 0102030405060708 00000028"
        self.assertEqual(other.data_to_send(), news(0x6553F100, entry))

    def test_all_at_once(self) -> None:
        """LEKT-5: answers that come before they were asked for, in the right order, are answers."""
        machine = self.deciding(HELLO + RESPONSE + LATE_RESPONSE + BEAT)
        self.assertEqual(machine.accept(HOST.packed, self.now), [Established(), Received(Heartbeat(0))])
        self.assertEqual(machine.data_to_send(), ACCEPT + ASK_1 + ASK_0 + NO_NEWS)

    def test_another_index(self) -> None:
        """LEKT-5, LEKT-15: an answer with another index than the one asked for ends it, at the index."""
        for index in ("00000000", "00000002", "01000000", "ffffffff"):
            machine = self.accepted()
            events = self.say(machine, b"LEKTT\0\0\0" + bytes.fromhex(index))
            self.assert_ended(machine, events, UNEXPECTED_PACKET, 16 + 8)
            self.assertEqual(len(self.presence), 0)

    def test_ports(self) -> None:
        """LEKT-6: 1 and 65535 are ports; 0, 65536 and more are refused."""
        for port in ("00000001", "0000ffff"):
            machine = self.accepted()
            self.assertEqual(self.say(machine, RESPONSE[:12] + bytes.fromhex(port)), [Established()], port)
            self.assertEqual(machine.information, ((1, bytes.fromhex(port)),))
        listed = len(self.presence)
        for port in ("00000000", "00010000", "80000001", "ffffffff"):
            machine = self.accepted()
            self.assertEqual(self.say(machine, RESPONSE[:12] + bytes.fromhex(port)[:3]), [])
            events = self.say(machine, bytes.fromhex(port)[3:])
            ended = self.assert_ended(machine, events, INVALID_PORT, 16 + 12)
            self.assertEqual(ended.outcome, Outcome.MALFORMED)
            self.assertEqual(len(self.presence), listed)

    def test_listed_after_setup(self) -> None:
        """LEKT-9: only who finished setup is listed."""
        other = self.joined(IPv4Address("192.0.2.9"))
        machine = self.accepted()
        self.say(machine, RESPONSE[:-1])
        self.assertEqual(len(self.presence), 1)
        self.say(other, BEAT)
        self.assertEqual(other.data_to_send(), NO_NEWS)
        self.say(machine, RESPONSE[-1:])
        self.assertEqual(len(self.presence), 2)
        self.say(other, BEAT)
        self.assertEqual(other.data_to_send(), news(0x6553F100, "0000000c c0000201 00000001 00001f90"))

    def test_address_as_seen(self) -> None:
        """LEKT-14: the address that is listed is the one given with the acceptance."""
        other = self.joined(IPv4Address("192.0.2.9"))
        self.joined(IPv4Address("203.0.113.250"), 1)
        self.say(other, BEAT)
        self.assertEqual(other.data_to_send(), news(0x6553F100, "0000000c cb0071fa 00000001 00000001"))

    def test_late_response(self) -> None:
        """LEKT-5: an answer to request index 0 is tolerated, once."""
        machine = self.joined()
        self.assertEqual(self.say(machine, LATE_RESPONSE), [])
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(self.say(machine, BEAT), [Received(Heartbeat(0))])
        self.assertEqual(machine.data_to_send(), NO_NEWS)

    def test_second_late_response(self) -> None:
        """LEKT-15: another answer to index 0 is out of order."""
        machine = self.joined()
        self.say(machine, LATE_RESPONSE)
        self.assert_ended(machine, self.say(machine, LATE_RESPONSE), UNEXPECTED_PACKET, 32 + 12 + 8)

    def test_very_late_response(self) -> None:
        """LEKT-15: so is one after the first heartbeat, and one for a method after setup."""
        machine = self.joined()
        self.say(machine, BEAT)
        machine.data_to_send()
        self.assert_ended(machine, self.say(machine, LATE_RESPONSE), UNEXPECTED_PACKET, 32 + 16 + 8)
        machine = self.joined()
        self.assert_ended(machine, self.say(machine, RESPONSE), UNEXPECTED_PACKET, 32 + 8)

    def test_late_response_of_who_has_no_method(self) -> None:
        """LEKT-5: it is tolerated after a setup without a method too."""
        machine = self.accepted(NO_METHODS)
        self.assertEqual(self.say(machine, LATE_RESPONSE), [])
        self.assertFalse(machine.ended)


class HeartbeatTests(ServerCase):
    def test_answer(self) -> None:
        """LEKT-7, LEKT-8: the first answer is the list, the next what changed; time is in whole UTC seconds."""
        machine = self.joined()
        other = self.joined(IPv4Address("192.0.2.2"), 443)
        self.now = START + 1.999
        self.assertEqual(self.say(machine, BEAT), [Received(Heartbeat(0))])
        entry = "0000000c c0000202 00000001 000001bb"
        self.assertEqual(machine.data_to_send(), news(0x6553F101, entry))
        self.now += 10
        self.say(machine, beat(0x6553F101))
        self.assertEqual(machine.data_to_send(), news(0x6553F10B))
        self.say(other, b"\0")
        self.say(machine, beat(0x6553F10B))
        self.assertEqual(machine.data_to_send(), news(0x6553F10B, removed="c0000202"))

    def test_each_is_answered(self) -> None:
        """LEKT-8: each heartbeat has an answer, in order, however many come together."""
        machine = self.joined()
        self.joined(IPv4Address("192.0.2.2"), 443)
        events = self.say(machine, beat(0) + beat(5) + beat(6))
        self.assertEqual(events, [Received(Heartbeat(0)), Received(Heartbeat(5)), Received(Heartbeat(6))])
        entry = "0000000c c0000202 00000001 000001bb"
        self.assertEqual(machine.data_to_send(), news(0x6553F100, entry) + NO_NEWS + NO_NEWS)

    def test_neighbours(self) -> None:
        """LEKT-9, LEKT-10: others behind the same address are listed, and stay when one of them leaves."""
        machine, leaving, staying = self.joined(port=1), self.joined(port=2), self.joined(port=3)
        self.say(machine, BEAT)
        two, three = "0000000c c0000201 00000001 00000002", "0000000c c0000201 00000001 00000003"
        self.assertEqual(machine.data_to_send(), news(0x6553F100, two, three))
        leaving.close(Outcome.KICKED, "bye", self.now)
        self.say(machine, BEAT)
        self.assertEqual(machine.data_to_send(), news(0x6553F100, three, removed="c0000201"))
        self.say(staying, BEAT)
        one = "0000000c c0000201 00000001 00000001"
        self.assertEqual(staying.data_to_send(), news(0x6553F100, one))

    def test_no_method(self) -> None:
        """LEKT-5, LEKT-9: who has no method is listed by its address alone."""
        machine = self.joined()
        self.accepted(NO_METHODS, IPv4Address("192.0.2.2"))
        self.say(machine, BEAT)
        self.assertEqual(machine.data_to_send(), news(0x6553F100, "00000004 c0000202"))

    def test_time_never_backwards(self) -> None:
        """LEKT-11: the clock may be set back; what the client reads never is."""
        machine = self.joined()
        times = []
        for now in (START, START + 7, START + 3, START - 3600, START + 8):
            self.now = now
            self.say(machine, BEAT)
            times.append(int.from_bytes(machine.data_to_send()[8:16], "big") - int(START))
        self.assertEqual(times, [0, 7, 7, 7, 8])

    def test_time_is_informational(self) -> None:
        """LEKT-11: whatever time but 0 the client sends, the answer is what it has missed."""
        machine = self.joined()
        self.say(machine, BEAT)
        self.joined(IPv4Address("192.0.2.2"), 443)
        machine.data_to_send()
        self.say(machine, beat(1))
        self.assertEqual(machine.data_to_send(), news(0x6553F100, "0000000c c0000202 00000001 000001bb"))
        for time in (-1, 2**63 - 1, -(2**63), 1):
            self.say(machine, beat(time))
            self.assertEqual(machine.data_to_send(), NO_NEWS)

    def test_zeros_at_first(self) -> None:
        """LEKT-11: 0 until an update came is no resync: it may be sent often, and is told only what changed."""
        machine = self.joined()
        self.joined(IPv4Address("192.0.2.2"), 443)
        self.say(machine, BEAT)
        machine.data_to_send()
        for _ in range(5):
            self.say(machine, BEAT)
            self.assertEqual(machine.data_to_send(), NO_NEWS)

    def test_resync(self) -> None:
        """LEKT-11: 0 after a nonzero time brings the whole list, as A only."""
        machine = self.joined()
        self.joined(IPv4Address("192.0.2.2"), 443)
        leaving = self.joined(IPv4Address("192.0.2.3"), 1)
        self.say(machine, BEAT + beat(9))
        leaving.close(Outcome.KICKED, "bye", self.now)
        machine.data_to_send()
        entry = "0000000c c0000202 00000001 000001bb"
        self.assertEqual(self.say(machine, BEAT), [Received(Heartbeat(0))])
        self.assertEqual(machine.data_to_send(), news(0x6553F100, entry))
        self.say(machine, beat(9))
        self.assertEqual(machine.data_to_send(), NO_NEWS)

    def test_second_resync(self) -> None:
        """LEKT-11, LEKT-12: a second resync within 60 s is a violation, after that it is none."""
        machine = self.joined()
        self.say(machine, beat(9) + beat(0))
        self.now += 30
        self.say(machine, beat(9))
        self.now += 30.5
        self.assertEqual(self.say(machine, beat(0)), [Received(Heartbeat(0))])
        self.now += 29
        self.say(machine, beat(9))
        self.now += 30.9
        machine.data_to_send()
        ended = self.assert_ended(machine, self.say(machine, beat(0)), TOO_MANY_HEARTBEATS, 32 + 5 * 16 + 8)
        self.assertEqual(ended.outcome, Outcome.MALFORMED)

    def test_second_zero_without_a_time_between(self) -> None:
        """LEKT-11: after a nonzero time each 0 is a resync."""
        machine = self.joined()
        self.say(machine, beat(9) + beat(0))
        machine.data_to_send()
        self.assert_ended(machine, self.say(machine, beat(0)), TOO_MANY_HEARTBEATS, 32 + 2 * 16 + 8)

    def test_too_many(self) -> None:
        """LEKT-12: 20 heartbeats in 5 s are allowed; one more ends the session, and the client is off the list."""
        machine = self.joined()
        for _ in range(20):
            self.say(machine, BEAT)
            self.now += 0.2499
        self.assertEqual(machine.data_to_send()[:20], NO_NEWS)
        events = self.say(machine, BEAT)
        ended = self.assert_ended(machine, events, TOO_MANY_HEARTBEATS, 32 + 20 * 16)
        self.assertEqual(ended.outcome, Outcome.MALFORMED)
        self.assertEqual(len(self.presence), 0)

    def test_any_five_seconds(self) -> None:
        """LEKT-12: the 5 s are any 5 s, not those of a calendar; a steady pace of 20 in a little more goes on."""
        machine = self.joined()
        for _ in range(100):
            self.say(machine, BEAT)
            self.now += 0.2501
        self.assertFalse(machine.ended)
        self.now += 60
        for pause in [0.0] * 10 + [4.9] + [0.0] * 10:
            self.assertFalse(machine.ended)
            self.now += pause
            self.say(machine, BEAT)
        self.assertTrue(machine.ended)
        machine = self.joined()
        for pause in [0.0] * 10 + [5.1] + [0.0] * 19:
            self.now += pause
            self.say(machine, BEAT)
        self.assertFalse(machine.ended)

    def test_twenty_together(self) -> None:
        """LEKT-12: heartbeats are counted where they come together too; the first 20 are answered."""
        machine = self.joined()
        events = self.say(machine, BEAT * 30)
        self.assertEqual(events[:20], [Received(Heartbeat(0))] * 20)
        self.assert_ended(machine, events, NO_NEWS * 20 + TOO_MANY_HEARTBEATS, 32 + 20 * 16)

    def test_limit_is_settable(self) -> None:
        """LEKT-12: the limit is the listener's setting."""
        self.settings = LektSettings(heartbeat_limit=2)
        machine = self.joined()
        self.say(machine, BEAT * 2)
        self.assertFalse(machine.ended)
        self.say(machine, BEAT)
        self.assertTrue(machine.ended)

    def test_silence_after_setup(self) -> None:
        """LEKT-12: 3 periods of 10 s from request index 0, whatever else comes meanwhile."""
        self.now += 20
        machine = self.machine()
        self.now += 15
        self.say(machine, HELLO)
        machine.accept(HOST.packed, self.now)
        self.say(machine, RESPONSE)
        machine.data_to_send()
        asked = self.now
        self.assertEqual(machine.deadline(), asked + 30)
        self.now += 29
        self.say(machine, LATE_RESPONSE)
        self.say(machine, BEAT[:15])
        self.assertEqual(machine.deadline(), asked + 30)
        self.assertEqual(machine.handle_deadline(asked + 29.99), [])
        events = machine.handle_deadline(asked + 30)
        self.assertEqual(self.assert_ended(machine, events, None).outcome, Outcome.TIMEOUT)

    def test_silence_after_a_heartbeat(self) -> None:
        """LEKT-12: each heartbeat starts the 3 periods anew; who is dropped is listed as removed."""
        machine, other = self.joined(), self.joined(IPv4Address("192.0.2.9"))
        self.say(other, BEAT)
        other.data_to_send()
        for _ in range(5):
            self.now += 29
            self.say(machine, BEAT)
            self.say(other, BEAT)
            self.assertEqual(machine.deadline(), self.now + 30)
            self.assertEqual(machine.handle_deadline(self.now), [])
        other.data_to_send()
        silent = self.now
        self.now += 15
        self.say(other, BEAT)
        other.data_to_send()
        self.assertEqual(len(machine.handle_deadline(silent + 30)), 1)
        self.assertEqual(len(self.presence), 1)
        self.say(other, BEAT)
        self.assertEqual(other.data_to_send(), news(int(self.now), removed="c0000201"))

    def test_period_is_settable(self) -> None:
        """LEKT-12: period and periods are the listener's settings; 10 s, 3, 20 in 5 s and 60 s by default."""
        self.assertEqual((self.settings.heartbeat_period, self.settings.silent_periods), (10.0, 3.0))
        self.assertEqual((self.settings.heartbeat_limit, self.settings.resync_interval), (20, 60.0))
        self.settings = LektSettings(heartbeat_period=4.0, silent_periods=2.5)
        self.assertEqual(self.joined().deadline(), START + 10)

    def test_fallen(self) -> None:
        """LEKT-12: who was silent beyond what is remembered, and was not swept yet, is dropped as silent."""
        self.presence = Presence(5.0)
        machine = self.joined()
        self.say(machine, BEAT)
        machine.data_to_send()
        for address in ("192.0.2.2", "192.0.2.3", "192.0.2.4"):
            self.joined(IPv4Address(address))
            self.now += 6
        events = self.say(machine, beat(1) * 3)
        self.assertEqual(self.assert_ended(machine, events, None).outcome, Outcome.TIMEOUT)
        self.assertEqual(len(events), 1)
        self.assertEqual(len(self.presence), 3)


class OrderTests(ServerCase):
    def test_types(self) -> None:
        """LEKT-15: in each state every type but those of its own is refused at that byte."""
        for kind in range(256):
            states: list[tuple[ServerMachine, bytes, bytes, int]] = [
                (self.machine(), b"H", EXPECTED_HANDSHAKE, 0),
                (self.accepted(), b"T", UNEXPECTED_PACKET, 16),
                (self.joined(), b"HT", UNEXPECTED_PACKET, 32),
            ]
            for machine, right, refusal, consumed in states:
                events = self.say(machine, b"LEKT" + bytes((kind,)))
                if kind in right:
                    self.assertEqual(events, [])
                else:
                    self.assert_ended(machine, events, refusal, consumed + 4)

    def test_wrong_bytes(self) -> None:
        """LEKT-15: after the hello a wrong byte of the magic is refused at once, alone or in a whole message."""
        for offset in range(4):
            data = BEAT[:offset] + b"\n" + BEAT[offset + 1 :]
            machine = self.joined()
            self.assert_ended(machine, self.say(machine, data), UNEXPECTED_PACKET, 32 + offset)
            wrong = b"LEKT"[:offset] + b"\n"
            for machine, consumed in ((self.accepted(), 16), (self.joined(), 32)):
                ended = self.assert_ended(machine, self.say(machine, wrong), UNEXPECTED_PACKET, consumed + offset)
                self.assertEqual(ended.outcome, Outcome.MALFORMED)

    def test_later_versions(self) -> None:
        """LEKT-3, LEKT-15: later headers must repeat the version."""
        for make, kind, consumed in ((self.accepted, b"T", 16), (self.joined, b"T", 32), (self.joined, b"H", 32)):
            machine = make()
            self.assertEqual(self.say(machine, b"LEKT" + kind + b"\1\0"), [])
            self.assert_ended(machine, self.say(machine, b"\0"), UNEXPECTED_PACKET, consumed + 5)

    def test_later_minor_version(self) -> None:
        """LEKT-3, COM-3: where the major version is right, the first wrong byte is the minor one's."""
        for machine, consumed in ((self.accepted(), 16), (self.joined(), 32)):
            events = self.say(machine, b"LEKTT\0\1\0")
            self.assert_ended(machine, events, UNEXPECTED_PACKET, consumed + 6)

    def test_second_hello(self) -> None:
        """LEKT-15: a hello during setup is out of order."""
        machine = self.accepted()
        self.assert_ended(machine, self.say(machine, HELLO), UNEXPECTED_PACKET, 16 + 4)

    def test_heartbeat_during_setup(self) -> None:
        """LEKT-15: so is a heartbeat before request index 0, asked for or not."""
        machine = self.accepted()
        self.assert_ended(machine, self.say(machine, BEAT), UNEXPECTED_PACKET, 16 + 4)


class CommonTests(ServerCase):
    def test_one_deadline(self) -> None:
        """COM-1: one deadline from accept to the accepted session; bytes that trickle in do not move it."""
        machine = self.machine()
        self.assertEqual(machine.deadline(), START + 30)
        for byte in HELLO:
            self.now += 0.5
            self.say(machine, bytes((byte,)))
            self.assertEqual(machine.deadline(), START + 30)
        self.now += 0.5
        machine.accept(HOST.packed, self.now)
        self.assertEqual(machine.deadline(), START + 30)
        for byte in RESPONSE[:-1]:
            self.now += 0.5
            self.say(machine, bytes((byte,)))
            self.assertEqual(machine.deadline(), START + 30)
        machine.data_to_send()
        self.assertEqual(machine.handle_deadline(START + 29.9), [])
        events = machine.handle_deadline(START + 30)
        self.assertEqual(self.assert_ended(machine, events, None).outcome, Outcome.TIMEOUT)
        self.assertEqual(len(self.presence), 0)

    def test_deadline_is_settable(self) -> None:
        """COM-1: the time is the listener's setting."""
        self.settings = LektSettings(handshake_timeout=4.0)
        self.assertEqual(self.machine().deadline(), START + 4)

    def test_deadline_in_every_state(self) -> None:
        """COM-1, COM-12: whenever it expires, the peer reads one reject."""
        for state, machine in self.every_state().items():
            events = machine.handle_deadline(self.now + 30)
            self.assertEqual(self.assert_ended(machine, events, None).outcome, Outcome.TIMEOUT, state)

    def test_close_in_every_state(self) -> None:
        """COM-12: LEKT allows a reject in every state, so that an end of ours always says why."""
        for state, machine in self.every_state().items():
            events = machine.close(Outcome.SHUTDOWN, "Going down", self.now)
            ended = self.assert_ended(machine, events, b"LEKTR\0\0\0Going down\0\0")
            self.assertEqual((ended.outcome, ended.reason), (Outcome.SHUTDOWN, "Going down"), state)
        self.assertEqual(len(self.presence), 0)

    def test_nothing_after_the_end(self) -> None:
        """COM-3, LEKT-4: after its end a machine neither hears nor says anything."""
        for state, machine in self.every_state().items():
            machine.close(Outcome.SHUTDOWN, "Going down", self.now)
            machine.data_to_send()
            for events in (
                self.say(machine, HELLO),
                machine.handle_deadline(self.now + 1000),
                machine.close(Outcome.KICKED, "again", self.now),
                machine.end_of_stream(self.now),
            ):
                self.assertEqual(events, [], state)
            self.assertEqual(machine.data_to_send(), b"")

    def test_end_of_stream(self) -> None:
        """COM-7: a peer that goes away was aborted, left or lost, and is off the list."""
        expected = {
            "new": Outcome.ABORTED,
            "in the hello": Outcome.ABORTED,
            "deciding": Outcome.ABORTED,
            "setup": Outcome.ABORTED,
            "in a response": Outcome.ABORTED,
            "heartbeat": Outcome.LEFT,
            "in a heartbeat": Outcome.LOST,
        }
        for state, machine in self.every_state().items():
            ended = self.assert_ended(machine, machine.end_of_stream(self.now), b"")
            self.assertEqual(ended.outcome, expected[state], state)
        machine = self.joined()
        self.assertEqual(
            self.assert_ended(machine, machine.end_of_stream(self.now, clean=False), b"").outcome, Outcome.LOST
        )
        self.assertEqual(len(self.presence), 0)

    def test_held_input(self) -> None:
        """COM-2, LEKT-15: before the answer to a hello 4 KiB are held, and no more than a hello beyond them."""
        machine = self.deciding()
        self.assertEqual(self.say(machine, bytes(4096)), [])
        self.assertFalse(machine.ended)
        self.assert_ended(machine, self.say(machine, bytes(141)), UNEXPECTED_PACKET, 16)

    def test_held_input_pauses(self) -> None:
        """COM-2: at the limit the peer is paused, and goes on after the answer."""
        machine = self.deciding()
        self.assertTrue(machine.wants_data)
        self.say(machine, RESPONSE + BEAT * 2 + bytes(4096 + 140 - 48))
        self.assertFalse(machine.ended)
        self.assertFalse(machine.wants_data)
        machine.accept(HOST.packed, self.now)
        self.assertTrue(machine.ended)

    def test_flood_with_the_hello(self) -> None:
        """COM-3: no Decision is handed over that can no longer be answered, however much comes in one piece."""
        machine = self.machine()
        events = self.say(machine, HELLO + bytes(5000))
        self.assert_ended(machine, events, UNEXPECTED_PACKET, 16)
        self.assertFalse([event for event in events if isinstance(event, Decision)])

    def test_off_the_list_before_the_end_is_told(self) -> None:
        """LEKT-9: whoever ends, by whatever way, is listed no more."""
        ways: list[Callable[[ServerMachine], object]] = [
            lambda machine: machine.close(Outcome.KICKED, "bye", self.now),
            lambda machine: machine.end_of_stream(self.now),
            lambda machine: machine.handle_deadline(self.now + 30),
            lambda machine: self.say(machine, b"nonsense"),
            lambda machine: self.say(machine, BEAT * 21),
        ]
        for way in ways:
            machine = self.joined()
            self.assertEqual(len(self.presence), 1)
            way(machine)
            self.assertEqual(len(self.presence), 0)


class CostTests(ServerCase):
    def test_encoded_once(self) -> None:
        """LEKT-16: a change is encoded once, however many are told of it."""
        encoded: list[bytes] = []

        def counted(address: bytes, methods: Iterable[tuple[int, bytes]]) -> bytes:
            encoded.append(address)
            return encode_entry(address, methods)

        receivers = [self.joined(IPv4Address("10.0.0.0") + number) for number in range(1, 31)]
        self.patch(lekt_machine, "encode_entry", counted)
        leaving, staying = self.joined(port=1), self.joined(port=2)
        self.assertEqual(len(encoded), 2)
        for receiver in receivers:
            self.say(receiver, BEAT)
        leaving.close(Outcome.KICKED, "bye", self.now)
        for receiver in receivers:
            self.say(receiver, BEAT)
            self.assertTrue(receiver.data_to_send().endswith(bytes.fromhex("0000000c c0000201 00000001 00000002")))
        self.assertEqual(len(encoded), 2)
        self.assertFalse(staying.ended)

    def test_idle_heartbeat(self) -> None:
        """LEKT-16: the whole way of an idle heartbeat takes the same with 10 or 1,000 clients listed."""
        counts = []
        for clients in (10, 1000):
            self.presence = Presence(90.0)
            machine = self.joined()
            for number in range(clients):
                self.presence.join(number.to_bytes(4, "big"), b"\0\0\0\4" + number.to_bytes(4, "big"), self.now)
            self.say(machine, BEAT)
            machine.data_to_send()
            calls = 0

            def profile(frame: Any, event: str, argument: Any) -> None:
                nonlocal calls
                calls += event in ("call", "c_call")

            before = sys.getprofile()
            sys.setprofile(profile)
            try:
                self.say(machine, BEAT)
            finally:
                sys.setprofile(before)
            self.assertEqual(machine.data_to_send(), NO_NEWS)
            counts.append(calls)
        self.assertGreater(counts[0], 0)
        self.assertEqual(counts[0], counts[1])
