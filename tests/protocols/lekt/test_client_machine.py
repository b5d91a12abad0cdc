"""Tests of the client's side of :mod:`connectd.protocols.lekt.machine`, with bytes written by hand."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from ipaddress import IPv4Address

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.lekt.machine import Accepted, ClientMachine, Requested, ServerMachine, Updated
from connectd.protocols.lekt.packets import Entry
from connectd.protocols.lekt.presence import Presence
from connectd.protocols.lekt.settings import LektClientSettings, LektSettings
from connectd.sansio import (
    AFTER_ACCEPTANCE,
    BEFORE_ACCEPTANCE,
    Ended,
    Established,
    Event,
    LocalProtocolError,
    Outcome,
)

START = 1_700_000_000.0

HELLO = bytes.fromhex("4c454b54 48 000000 00000001 00000001")
HELLO_WITHOUT_METHOD = bytes.fromhex("4c454b54 48 000000 00000001 00000000")
RESPONSE = bytes.fromhex("4c454b54 54 000000 00000001 00001f90")
ACCEPT = bytes.fromhex("4c454b54 41 000000")
ASK_1 = bytes.fromhex("4c454b54 54 000000 00000001")
ASK_0 = bytes.fromhex("4c454b54 54 000000 00000000")
REJECT = b"LEKTR\0\0\0no room!\0\0\0\0"
BEAT = bytes.fromhex("4c454b54 48 000000 0000000000000000")

X, Y = "c0000201", "c0000202"
AT_X, AT_Y = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
ENTRY_X, ENTRY_Y = f"0000000c {X} 00000001 00000001", f"0000000c {Y} 00000001 00000002"
CLIENT_X = Entry(AT_X, ((1, b"\0\0\0\1"),))
CLIENT_Y = Entry(AT_Y, ((1, b"\0\0\0\2"),))


def update(time: int, kind: bytes, count: int, rest: str = "") -> bytes:
    """An update with its entries or addresses in hexadecimal."""
    head = b"LEKTH\0\0\0" + time.to_bytes(8, "big", signed=True)
    return head + kind + count.to_bytes(3, "big") + bytes.fromhex(rest)


class ClientCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = START
        self.settings = LektClientSettings(port=8080)

    def machine(self) -> ClientMachine:
        """A machine that has said hello."""
        machine = ClientMachine(self.settings, now=self.now)
        machine.data_to_send()
        return machine

    def say(self, machine: ClientMachine, data: bytes) -> list[Event]:
        return machine.receive_data(data, self.now)

    def greeted(self) -> ClientMachine:
        """A machine in setup; the server has sent 8 bytes."""
        machine = self.machine()
        self.assertEqual(self.say(machine, ACCEPT), [Accepted()])
        return machine

    def joined(self) -> ClientMachine:
        """A machine in the heartbeat phase; the server has sent 32 bytes."""
        machine = self.greeted()
        self.say(machine, ASK_1 + ASK_0)
        self.assertTrue(machine.established)
        machine.data_to_send()
        return machine

    def asked(self) -> ClientMachine:
        """A machine that waits for the answer to its first heartbeat."""
        machine = self.joined()
        machine.heartbeat(self.now)
        self.assertEqual(machine.data_to_send(), BEAT)
        return machine

    def assert_ended(self, machine: ClientMachine, events: list[Event], outcome: Outcome, offset: int | None) -> Ended:
        """Ended once, as the last event, without another byte."""
        self.assertTrue(events, "not ended")
        ended = events[-1]
        assert isinstance(ended, Ended), events
        self.assertEqual(sum(isinstance(event, Ended) for event in events), 1)
        self.assertEqual((ended.outcome, ended.offset), (outcome, offset))
        self.assertIn(outcome, AFTER_ACCEPTANCE if machine.established else BEFORE_ACCEPTANCE)
        self.assertEqual(machine.data_to_send(), b"")
        self.assertTrue(machine.ended)
        self.assertIsNone(machine.deadline())
        return ended


class SetupTests(ClientCase):
    def test_hello(self) -> None:
        """LEKT-1, LEKT-2: the client speaks first, and offers Direct TCP where it has a port."""
        self.assertEqual(ClientMachine(self.settings, now=self.now).data_to_send(), HELLO)
        self.settings = LektClientSettings()
        self.assertEqual(ClientMachine(self.settings, now=self.now).data_to_send(), HELLO_WITHOUT_METHOD)

    def test_bytes(self) -> None:
        """LEKT-5: each request is answered with its index and the port; index 0 is not answered."""
        machine = self.machine()
        self.assertEqual(self.say(machine, ACCEPT[:-1]), [])
        self.assertEqual(self.say(machine, ACCEPT[-1:]), [Accepted()])
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(self.say(machine, ASK_1[:-1]), [])
        self.assertEqual(self.say(machine, ASK_1[-1:]), [Requested(1)])
        self.assertEqual(machine.data_to_send(), RESPONSE)
        self.assertFalse(machine.established)
        self.assertEqual(self.say(machine, ASK_0), [Requested(0), Established()])
        self.assertEqual(machine.data_to_send(), b"")
        self.assertTrue(machine.established)

    def test_nothing_asked(self) -> None:
        """LEKT-5: index 0 may come at once."""
        self.settings = LektClientSettings()
        self.assertEqual(self.say(self.greeted(), ASK_0), [Requested(0), Established()])

    def test_unknown_request(self) -> None:
        """LEKT-5: a method that was not offered is not asked for, nor one twice."""
        for index in ("00000002", "80000000", "ffffffff"):
            machine = self.greeted()
            events = self.say(machine, b"LEKTT\0\0\0" + bytes.fromhex(index))
            ended = self.assert_ended(machine, events, Outcome.MALFORMED, 8 + 8)
            self.assertIn(str(int(index, 16)), ended.reason)
        machine = self.greeted()
        self.say(machine, ASK_1)
        machine.data_to_send()
        self.assert_ended(machine, self.say(machine, ASK_1), Outcome.MALFORMED, 8 + 12 + 8)
        self.settings = LektClientSettings()
        machine = self.greeted()
        self.assert_ended(machine, self.say(machine, ASK_1), Outcome.MALFORMED, 8 + 8)

    def test_types(self) -> None:
        """LEKT-15: in each state every type but those of its own ends it at that byte."""
        for kind in range(256):
            for machine, right, consumed in (
                (self.machine(), b"AR", 0),
                (self.greeted(), b"TR", 8),
                (self.joined(), b"HR", 32),
            ):
                events = self.say(machine, b"LEKT" + bytes((kind,)))
                if kind in right:
                    self.assertEqual(events, [])
                else:
                    self.assert_ended(machine, events, Outcome.MALFORMED, consumed + 4)

    def test_wrong_bytes(self) -> None:
        """LEKT-1: a server that speaks something else is found out at its first wrong byte."""
        for offset in range(4):
            for machine, consumed in ((self.machine(), 0), (self.greeted(), 8), (self.joined(), 32)):
                self.assertEqual(self.say(machine, b"LEKT"[:offset]), [])
                self.assert_ended(machine, self.say(machine, b"\n"), Outcome.MALFORMED, consumed + offset)
            machine = self.machine()
            data = ACCEPT[:offset] + b"\n" + ACCEPT[offset + 1 :]
            self.assert_ended(machine, self.say(machine, data), Outcome.MALFORMED, offset)

    def test_version(self) -> None:
        """LEKT-3: another major version is a misunderstanding; extra is ignored in every message."""
        for machine, kind, consumed in (
            (self.machine(), b"A", 0),
            (self.greeted(), b"T", 8),
            (self.joined(), b"H", 32),
        ):
            self.assertEqual(self.say(machine, b"LEKT" + kind + b"\2\0"), [])
            self.assert_ended(machine, self.say(machine, b"\0"), Outcome.MALFORMED, consumed + 5)
        machine = self.machine()
        self.say(machine, ACCEPT[:7] + b"\1" + ASK_1[:7] + b"\2" + ASK_1[8:] + ASK_0[:7] + b"\3" + ASK_0[8:])
        machine.heartbeat(self.now)
        events = self.say(machine, b"LEKTH\0\0\xff" + update(5, b"A", 0)[8:])
        self.assertEqual(events, [Updated(5, (), ())])
        events = self.say(machine, b"LEKTR\0\0\xff" + REJECT[8:])
        self.assertEqual(machine.data_to_send(), RESPONSE + BEAT)
        self.assert_ended(machine, events, Outcome.LEFT, None)

    def test_minor_version(self) -> None:
        """LEKT-3, COM-3: where the major version is right, the first wrong byte is the minor one's."""
        for machine, kind, consumed in (
            (self.machine(), b"A", 0),
            (self.greeted(), b"T", 8),
            (self.joined(), b"H", 32),
        ):
            events = self.say(machine, b"LEKT" + kind + b"\0\1\0")
            self.assert_ended(machine, events, Outcome.MALFORMED, consumed + 6)


class RejectTests(ClientCase):
    def test_padding(self) -> None:
        """LEKT-4: the text ends at NUL, padded or not; bytes after it mean nothing."""
        for wire in (
            b"LEKTR\0\0\0no room!\0\0\0\0",
            b"LEKTR\0\0\0no room!\0",
            b"LEKTR\0\0\0no room!\0\0",
            b"LEKTR\0\0\0no room!\0whatever comes here\xff",
        ):
            machine = self.machine()
            ended = self.assert_ended(machine, self.say(machine, wire), Outcome.REFUSED, None)
            self.assertIn("no room!", ended.reason)
            self.assertNotIn("whatever", ended.reason)

    def test_in_pieces(self) -> None:
        """LEKT-4: the text is read to its NUL, however it comes."""
        machine = self.machine()
        for byte in b"LEKTR\0\0\0no room!":
            self.assertEqual(self.say(machine, bytes((byte,))), [])
        ended = self.assert_ended(machine, self.say(machine, b"\0"), Outcome.REFUSED, None)
        self.assertIn("no room!", ended.reason)

    def test_in_each_state(self) -> None:
        """LEKT-4, COM-12: the server may reject at any time; after acceptance that is a farewell."""
        for machine, outcome in (
            (self.machine(), Outcome.REFUSED),
            (self.greeted(), Outcome.REFUSED),
            (self.joined(), Outcome.LEFT),
        ):
            self.assertIn("no room!", self.assert_ended(machine, self.say(machine, REJECT), outcome, None).reason)

    def test_length(self) -> None:
        """LEKT-4, COM-2: 255 bytes are the most; who sends no NUL by then is not waited for."""
        machine = self.machine()
        self.assertEqual(self.say(machine, b"LEKTR\0\0\0" + b"x" * 255), [])
        self.assertIn("x" * 255, self.assert_ended(machine, self.say(machine, b"\0"), Outcome.REFUSED, None).reason)
        machine = self.machine()
        events = self.say(machine, b"LEKTR\0\0\0" + b"x" * 256)
        self.assertLess(len(self.assert_ended(machine, events, Outcome.REFUSED, None).reason), 300)
        machine = self.machine()
        events = self.say(machine, b"LEKTR\0\0\0" + b"x" * 100_000)
        self.assertLess(len(self.assert_ended(machine, events, Outcome.REFUSED, None).reason), 300)

    def test_without_end(self) -> None:
        """LEKT-4: a server that closes instead of ending its text has still said why."""
        for machine, outcome in ((self.machine(), Outcome.REFUSED), (self.joined(), Outcome.LEFT)):
            self.assertEqual(self.say(machine, b"LEKTR\0\0\0no room"), [])
            ended = self.assert_ended(machine, machine.end_of_stream(self.now), outcome, None)
            self.assertIn("no room", ended.reason)

    def test_not_utf8(self) -> None:
        """COM-3: a text that is no UTF-8 is a reject all the same."""
        machine = self.machine()
        ended = self.assert_ended(machine, self.say(machine, b"LEKTR\0\0\0no\xff\xfe\0"), Outcome.REFUSED, None)
        self.assertIn("no", ended.reason)

    def test_one_line(self) -> None:
        """COM-3: whatever the text holds, the reason is one line of plain text: no line ends, no terminal codes."""
        machine = self.machine()
        ended = self.assert_ended(
            machine, self.say(machine, b"LEKTR\0\0\0no\nroom\r\x1b[2J\xe2\x80\xa8here\0"), Outcome.REFUSED, None
        )
        self.assertTrue(ended.reason.isprintable(), ended.reason)


class UpdateTests(ClientCase):
    def test_first_answer(self) -> None:
        """LEKT-7: the list, told once it is complete."""
        machine = self.asked()
        wire = update(1, b"A", 2, ENTRY_X + ENTRY_Y)
        for byte in wire[:-1]:
            self.assertEqual(self.say(machine, bytes((byte,))), [])
        self.assertEqual(self.say(machine, wire[-1:]), [Updated(1, (), (CLIENT_X, CLIENT_Y))])
        self.assertEqual(Counter(machine.clients), Counter([CLIENT_X, CLIENT_Y]))

    def test_changes(self) -> None:
        """LEKT-8, LEKT-10: R, then A; who is removed and added alike stayed."""
        machine = self.asked()
        self.say(machine, update(1, b"A", 2, ENTRY_X + ENTRY_Y))
        machine.heartbeat(self.now)
        other = f"0000000c {X} 00000001 00000063"
        wire = update(2, b"R", 2, X + Y) + update(2, b"A", 2, ENTRY_Y + other)
        self.assertEqual(self.say(machine, wire), [Updated(2, (CLIENT_X,), (Entry(AT_X, ((1, b"\0\0\0\x63"),)),))])

    def test_several_removals(self) -> None:
        """LEKT-8: an answer may hold several R."""
        machine = self.asked()
        self.say(machine, update(1, b"A", 2, ENTRY_X + ENTRY_Y))
        machine.heartbeat(self.now)
        self.assertEqual(self.say(machine, update(2, b"R", 1, X) + update(2, b"R", 1, Y)), [])
        self.assertEqual(self.say(machine, update(2, b"A", 0)), [Updated(2, (CLIENT_X, CLIENT_Y), ())])

    def test_end_of_an_answer(self) -> None:
        """LEKT-8: an A with exactly 65,536 entries is followed by another, which may be empty."""
        machine = self.asked()
        entries = bytes.fromhex("00000004" + X) * 65_536
        self.assertEqual(self.say(machine, update(1, b"A", 65_536) + entries), [])
        (event,) = self.say(machine, update(1, b"A", 0))
        assert isinstance(event, Updated)
        self.assertEqual((len(event.joined), len(machine.clients)), (65_536, 65_536))
        machine.heartbeat(self.now)
        events = self.say(machine, update(2, b"R", 1, X) + update(2, b"A", 65_535) + entries[8:])
        self.assertEqual(events, [Updated(2, (Entry(AT_X, ()),), ())])

    def test_unknown_methods(self) -> None:
        """LEKT-5: methods that we do not know are skipped by the entry's size."""
        machine = self.asked()
        entries = (
            f"00000013 {X} 00000001 00000001 00000007 aabbcc00000010 {Y} 00000009 010203040506070800000004 c0000203"
        )
        (event,) = self.say(machine, update(1, b"A", 3, entries))
        assert isinstance(event, Updated)
        self.assertEqual(event.joined, (CLIENT_X, Entry(AT_Y, ()), Entry(IPv4Address("192.0.2.3"), ())))

    def test_two_heartbeats(self) -> None:
        """LEKT-8: answers come in heartbeat order; each is told."""
        machine = self.asked()
        machine.heartbeat(self.now)
        events = self.say(machine, update(1, b"A", 1, ENTRY_X) + update(2, b"A", 1, ENTRY_Y))
        self.assertEqual(events, [Updated(1, (), (CLIENT_X,)), Updated(2, (), (CLIENT_Y,))])

    def test_wrong_kind(self) -> None:
        """COM-3: an update is of kind A or R."""
        for kind in (b"\0", b"a", b"H"):
            machine = self.asked()
            self.assert_ended(machine, self.say(machine, update(1, kind, 0)), Outcome.MALFORMED, 32 + 16)

    def test_cut_short(self) -> None:
        """COM-3: an entry too small for what it begins is told with its offset."""
        machine = self.asked()
        wire = update(1, b"A", 2, ENTRY_X + f"00000009 {Y} 00000001 00")
        self.assert_ended(machine, self.say(machine, wire), Outcome.MALFORMED, 32 + 20 + 16 + 4 + 8)

    def test_time(self) -> None:
        """LEKT-11: 0 until an update came, then the time of the last one."""
        machine = self.asked()
        self.say(machine, update(0x01020304050607, b"A", 0))
        machine.heartbeat(self.now)
        self.assertEqual(machine.data_to_send(), bytes.fromhex("4c454b5448000000 0001020304050607"))
        self.say(machine, update(0x01020304050608, b"A", 0))
        for _ in range(2):
            machine.heartbeat(self.now)
            self.assertEqual(machine.data_to_send(), bytes.fromhex("4c454b5448000000 0001020304050608"))

    def test_heartbeat_too_early(self) -> None:
        """LEKT-7: heartbeats belong after setup, and before the end."""
        ended = self.joined()
        ended.close(Outcome.LEFT, "bye", self.now)
        for machine in (self.machine(), self.greeted(), ended):
            self.assertRaises(LocalProtocolError, machine.heartbeat, self.now)


class ResyncTests(ClientCase):
    def synchronised(self) -> ClientMachine:
        """A machine that knows of two clients and has sent a nonzero time."""
        machine = self.asked()
        self.say(machine, update(1, b"A", 2, ENTRY_X + ENTRY_Y))
        machine.heartbeat(self.now)
        self.say(machine, update(2, b"A", 0))
        machine.data_to_send()
        return machine

    def test_replaces_the_list(self) -> None:
        """LEKT-11: the answer to a 0 replaces the list; what is in both did not change."""
        machine = self.synchronised()
        machine.heartbeat(self.now, resync=True)
        self.assertEqual(machine.data_to_send(), BEAT)
        wire = update(3, b"A", 2, ENTRY_Y + "00000004 c0000203")
        self.assertEqual(self.say(machine, wire[:25]), [])
        new = Entry(IPv4Address("192.0.2.3"), ())
        self.assertEqual(self.say(machine, wire[25:]), [Updated(3, (CLIENT_X,), (new,))])
        self.assertEqual(Counter(machine.clients), Counter([CLIENT_Y, new]))
        machine.heartbeat(self.now)
        self.assertEqual(self.say(machine, update(4, b"A", 1, ENTRY_X)), [Updated(4, (), (CLIENT_X,))])

    def test_empty(self) -> None:
        """LEKT-11: the list may come back empty."""
        machine = self.synchronised()
        machine.heartbeat(self.now, resync=True)
        self.assertEqual(self.say(machine, update(3, b"A", 0)), [Updated(3, (CLIENT_X, CLIENT_Y), ())])

    def test_behind_another_heartbeat(self) -> None:
        """LEKT-8, LEKT-11: the answer to a heartbeat before it is still a difference."""
        machine = self.synchronised()
        machine.heartbeat(self.now)
        machine.heartbeat(self.now, resync=True)
        machine.heartbeat(self.now)
        third = "00000004 c0000203"
        new = Entry(IPv4Address("192.0.2.3"), ())
        self.assertEqual(self.say(machine, update(3, b"A", 1, third)), [Updated(3, (), (new,))])
        self.assertEqual(self.say(machine, update(4, b"A", 1, third)), [Updated(4, (CLIENT_X, CLIENT_Y), ())])
        self.assertEqual(self.say(machine, update(5, b"A", 1, ENTRY_X)), [Updated(5, (), (CLIENT_X,))])

    def test_in_two_updates(self) -> None:
        """LEKT-8, LEKT-11: the list is replaced once, not by each A of the answer."""
        machine = self.synchronised()
        machine.heartbeat(self.now, resync=True)
        self.say(machine, update(3, b"A", 65_536) + bytes.fromhex("00000004 0a000001") * 65_536)
        self.say(machine, update(3, b"A", 1, ENTRY_X))
        self.assertEqual(len(machine.clients), 65_537)

    def test_within_the_cap(self) -> None:
        """LEKT-11, COM-2: a list that replaces another is not counted on top of it."""
        self.settings = LektClientSettings(port=8080, maximum_clients=3)
        machine = self.synchronised()
        machine.heartbeat(self.now, resync=True)
        self.assertEqual(self.say(machine, update(3, b"A", 2, ENTRY_X + ENTRY_Y)), [Updated(3, (), ())])

    def test_before_a_time_was_sent(self) -> None:
        """LEKT-11: a 0 is a resync only after a nonzero time was sent; before that the answer is a difference."""
        presence = Presence(90.0)
        server = ServerMachine(LektSettings(), presence, now=self.now)
        presence.join(AT_X.packed, bytes.fromhex(ENTRY_X), self.now)
        machine = ClientMachine(self.settings, now=self.now)
        server.receive_data(machine.data_to_send(), self.now)
        server.accept(AT_Y.packed, self.now)
        for _ in range(2):
            self.say(machine, server.data_to_send())
            server.receive_data(machine.data_to_send(), self.now)
        self.assertTrue(machine.established)
        for resync in (False, True, False):
            machine.heartbeat(self.now, resync=resync)
            server.receive_data(machine.data_to_send(), self.now)
            self.say(machine, server.data_to_send())
            self.assertEqual(list(machine.clients), [CLIENT_X])


class CapTests(ClientCase):
    def test_entry_size(self) -> None:
        """COM-2, COM-3: an entry is 4 to 4,096 bytes; its size is judged, at its offset, before it is waited for."""
        for size, good in ((0, False), (3, False), (4, True), (4096, True), (4097, False), (2**32 - 1, False)):
            machine = self.asked()
            events = self.say(machine, update(1, b"A", 2, ENTRY_X) + size.to_bytes(4, "big"))
            if good:
                self.assertEqual(events, [], size)
                (event,) = self.say(machine, (bytes.fromhex(Y + "00000007") + bytes(size))[:size])
                assert isinstance(event, Updated)
                self.assertEqual(event.joined, (CLIENT_X, Entry(AT_Y, ())))
            else:
                self.assert_ended(machine, events, Outcome.MALFORMED, 32 + 20 + 16)

    def test_maximum_clients(self) -> None:
        """COM-2: more clients than the setting are not believed, in one update or in several."""
        self.settings = LektClientSettings(port=8080, maximum_clients=2)
        machine = self.asked()
        self.assertEqual(len(self.say(machine, update(1, b"A", 2, ENTRY_X + ENTRY_Y))), 1)
        machine.heartbeat(self.now)
        machine.data_to_send()
        events = self.say(machine, update(2, b"A", 1))
        self.assert_ended(machine, events, Outcome.MALFORMED, 32 + 52 + 17)
        machine = self.asked()
        self.assert_ended(machine, self.say(machine, update(1, b"A", 3)), Outcome.MALFORMED, 32 + 17)

    def test_removed_make_room(self) -> None:
        """COM-2: who left is not counted."""
        self.settings = LektClientSettings(port=8080, maximum_clients=2)
        machine = self.asked()
        self.say(machine, update(1, b"A", 2, ENTRY_X + ENTRY_Y))
        machine.heartbeat(self.now)
        events = self.say(machine, update(2, b"R", 1, X) + update(2, b"A", 1, "00000004 c0000203"))
        self.assertEqual(len(events), 1)
        self.assertFalse(machine.ended)

    def test_addition_count(self) -> None:
        """LEKT-8, COM-2: no A holds more than 65,536 entries."""
        machine = self.asked()
        self.assert_ended(machine, self.say(machine, update(1, b"A", 65_537)), Outcome.MALFORMED, 32 + 17)

    def test_removal_count(self) -> None:
        """LEKT-8, COM-2: no R holds more than 262,144 addresses."""
        machine = self.asked()
        self.assertEqual(self.say(machine, update(1, b"R", 262_144)), [])
        machine = self.asked()
        self.assert_ended(machine, self.say(machine, update(1, b"R", 262_145)), Outcome.MALFORMED, 32 + 17)

    def test_removals_of_strangers(self) -> None:
        """COM-2: removals of addresses that were never listed hold no memory, however many there are."""
        machine = self.asked()
        wires = [
            update(1, b"R", 10_000) + b"".join(number.to_bytes(4, "big") for number in range(start, start + 10_000))
            for start in (0, 10_000)
        ]
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for wire in wires:
                self.assertEqual(self.say(machine, wire), [])
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(after - before, 256 * 1024)

    def test_removal_after_addition(self) -> None:
        """LEKT-8: R comes before A: after a full A only another A can follow in the same answer."""
        machine = self.asked()
        self.say(machine, update(1, b"A", 65_536) + bytes.fromhex("00000004 0a000001") * 65_536)
        events = self.say(machine, update(1, b"R", 1, X))
        self.assert_ended(machine, events, Outcome.MALFORMED, 32 + 20 + 8 * 65_536 + 16)


class TimeTests(ClientCase):
    def test_setup(self) -> None:
        """COM-1: one deadline from connecting to the end of setup; bytes that trickle in do not move it."""
        machine = self.machine()
        self.assertEqual(machine.deadline(), START + 30)
        for byte in ACCEPT + ASK_1 + ASK_0[:-1]:
            self.now += 0.9
            self.say(machine, bytes((byte,)))
            self.assertEqual(machine.deadline(), START + 30)
        machine.data_to_send()
        self.assertEqual(machine.handle_deadline(START + 29.9), [])
        self.assert_ended(machine, machine.handle_deadline(START + 30), Outcome.TIMEOUT, None)

    def test_setup_is_settable(self) -> None:
        """COM-1: the time is the client's setting, and over with the end of setup."""
        self.settings = LektClientSettings(port=8080, handshake_timeout=2.0)
        self.assertEqual(self.machine().deadline(), START + 2)
        self.assertEqual(self.greeted().deadline(), START + 2)
        self.assertIsNone(self.joined().deadline())

    def test_answers(self) -> None:
        """LEKT-12: a server that leaves a heartbeat unanswered for 3 periods is given up; pieces do not count."""
        machine = self.joined()
        self.assertIsNone(machine.deadline())
        self.now += 5
        machine.heartbeat(self.now)
        asked = self.now
        self.assertEqual(machine.deadline(), asked + 30)
        for byte in update(1, b"A", 1, ENTRY_X)[:-1]:
            self.now += 0.5
            self.say(machine, bytes((byte,)))
        machine.heartbeat(self.now)
        self.assertEqual(machine.deadline(), asked + 30)
        machine.data_to_send()
        self.assertEqual(machine.handle_deadline(asked + 29.9), [])
        self.assert_ended(machine, machine.handle_deadline(asked + 30), Outcome.TIMEOUT, None)

    def test_answered(self) -> None:
        """LEKT-12: with everything answered there is nothing to wait for; with another one asked there is."""
        machine = self.asked()
        self.now += 10
        machine.heartbeat(self.now)
        self.now += 10
        self.say(machine, update(1, b"A", 0))
        self.assertEqual(machine.deadline(), self.now + 30)
        self.say(machine, update(1, b"A", 0))
        self.assertIsNone(machine.deadline())
        self.assertEqual(machine.handle_deadline(self.now + 1000), [])

    def test_period(self) -> None:
        """LEKT-12: 10 s and 3 periods unless set otherwise."""
        self.assertEqual((self.settings.heartbeat_period, self.settings.silent_periods), (10.0, 3.0))
        self.settings = LektClientSettings(port=8080, heartbeat_period=4.0, silent_periods=2.5)
        self.assertEqual(self.asked().deadline(), START + 10)


class EndTests(ClientCase):
    def test_end_of_stream(self) -> None:
        """COM-7: before acceptance the server went away; after it, it left or was lost."""
        for machine in (self.machine(), self.greeted()):
            self.assert_ended(machine, machine.end_of_stream(self.now), Outcome.ABORTED, None)
        machine = self.joined()
        self.assert_ended(machine, machine.end_of_stream(self.now), Outcome.LEFT, None)
        machine = self.asked()
        self.say(machine, update(1, b"R", 1, X) + update(1, b"A", 1, ENTRY_X))
        self.assert_ended(machine, machine.end_of_stream(self.now), Outcome.LEFT, None)
        machine = self.joined()
        self.assert_ended(machine, machine.end_of_stream(self.now, clean=False), Outcome.LOST, None)
        machine = self.joined()
        self.say(machine, update(1, b"A", 1)[:9])
        self.assert_ended(machine, machine.end_of_stream(self.now), Outcome.LOST, None)

    def test_end_inside_an_answer(self) -> None:
        """COM-7: a server that closes between the parts of an answer did not leave in good order."""
        for part in (
            update(1, b"A", 2, ENTRY_X),
            update(1, b"R", 2, X),
            update(1, b"R", 1, X),
            update(1, b"A", 65_536) + bytes.fromhex("00000004" + X) * 65_536,
        ):
            machine = self.asked()
            self.assertEqual(self.say(machine, part), [])
            self.assert_ended(machine, machine.end_of_stream(self.now), Outcome.LOST, None)

    def test_close(self) -> None:
        """COM-12: a client has no words for its end; it closes."""
        for machine in (self.machine(), self.greeted(), self.joined()):
            self.assert_ended(machine, machine.close(Outcome.SHUTDOWN, "done", self.now), Outcome.SHUTDOWN, None)

    def test_nothing_after_the_end(self) -> None:
        """COM-3: after its end a machine neither hears nor says anything."""
        for machine in (self.machine(), self.greeted(), self.joined()):
            machine.close(Outcome.SHUTDOWN, "done", self.now)
            for events in (
                self.say(machine, ACCEPT),
                machine.handle_deadline(self.now + 1000),
                machine.close(Outcome.LEFT, "again", self.now),
                machine.end_of_stream(self.now),
            ):
                self.assertEqual(events, [])
            self.assertEqual(machine.data_to_send(), b"")

    def test_misuse(self) -> None:
        """What a client's machine has no room for is raised."""
        self.assertRaises(LocalProtocolError, self.joined().send, Updated(1, (), ()), self.now)
        self.assertRaises(LocalProtocolError, self.joined().refuse, "no", self.now)
