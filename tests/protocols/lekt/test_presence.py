"""Tests of :mod:`connectd.protocols.lekt.presence`: what each receiver is told, and what that costs."""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.lekt import presence as lekt_presence
from connectd.protocols.lekt.machine import ClientMachine, HelloReceived, ServerMachine, Updated
from connectd.protocols.lekt.packets import Entry
from connectd.protocols.lekt.presence import Fallen, Member, Place, Presence
from connectd.protocols.lekt.settings import LektClientSettings, LektSettings
from connectd.sansio import Ended, Outcome

TIME = 1_700_000_000
X, Y, Z = b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02", b"\xc0\x00\x02\x03"


def listed(address: bytes, name: bytes) -> bytes:
    """An entry of four bytes that tell it from others: size, address, name."""
    return b"\0\0\0\x08" + address + name


@attrs.frozen
class Answer:
    """The updates of one answer, taken apart by hand: the sizes of its messages, and what they say."""

    time: int
    removals: list[bytes]
    removal_sizes: list[int]
    additions: list[bytes]
    addition_sizes: list[int]


def read_answer(wire: bytes) -> Answer:
    """Take the answer to one heartbeat apart: ``R`` updates, then ``A`` updates, and nothing after them (LEKT-8)."""
    answer = Answer(int.from_bytes(wire[8:16], "big"), [], [], [], [])
    place = 0
    while place < len(wire):
        assert wire[place : place + 8] == b"LEKTH\0\0\0"
        assert int.from_bytes(wire[place + 8 : place + 16], "big") == answer.time
        kind, count = wire[place + 16 : place + 17], int.from_bytes(wire[place + 17 : place + 20], "big")
        place += 20
        if kind == b"R":
            assert not answer.addition_sizes, "R after A"
            answer.removal_sizes.append(count)
            answer.removals.extend(wire[place + 4 * one : place + 4 * one + 4] for one in range(count))
            place += 4 * count
            continue
        assert kind == b"A"
        answer.addition_sizes.append(count)
        for _ in range(count):
            end = place + 4 + int.from_bytes(wire[place : place + 4], "big")
            answer.additions.append(wire[place:end])
            place = end
    assert place == len(wire)
    assert answer.addition_sizes
    return answer


class PresenceCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.presence = Presence(30.0)
        self.places: dict[int, Place | None] = {}

    def join(self, address: bytes, name: bytes, now: float = 0.0) -> Member:
        return self.presence.join(address, listed(address, name), now)

    def heartbeat(self, receiver: Member) -> Answer:
        """What this receiver is told now, remembering its place."""
        updates, place = self.presence.answer(receiver, self.places.get(id(receiver)), TIME)
        self.places[id(receiver)] = place
        return read_answer(b"".join(updates))

    def check(self, receiver: Member, removals: list[bytes], additions: list[tuple[bytes, bytes]]) -> None:
        """Expect an answer: addresses in any order, and (address, name) in any order."""
        answer = self.heartbeat(receiver)
        self.assertEqual(sorted(answer.removals), sorted(removals))
        self.assertEqual(sorted(answer.additions), sorted(listed(*one) for one in additions))


class AnswerTests(PresenceCase):
    def test_bytes(self) -> None:
        """LEKT-8, LEKT-10: one answer, byte by byte: R with the address, then A with who remains there."""
        receiver = self.join(Y, b"self")
        first = self.join(X, b"one.")
        self.join(X, b"two.")
        self.heartbeat(receiver)
        self.presence.leave(first)
        updates, _ = self.presence.answer(receiver, self.places[id(receiver)], TIME)
        self.assertEqual(
            b"".join(updates),
            bytes.fromhex("4c454b5448000000 000000006553f100 52000001 c0000201")
            + bytes.fromhex("4c454b5448000000 000000006553f100 41000001 00000008 c0000201")
            + b"two.",
        )

    def test_only_what_changed(self) -> None:
        """LEKT-7: an answer holds what changed since the last one on this connection, and no more."""
        receiver = self.join(Y, b"self")
        first = self.join(X, b"one.")
        self.check(receiver, [], [(X, b"one.")])
        self.check(receiver, [], [])
        self.join(Z, b"two.")
        self.check(receiver, [], [(Z, b"two.")])
        self.presence.leave(first)
        self.check(receiver, [X], [])
        self.check(receiver, [], [])

    def test_each_receiver_its_own(self) -> None:
        """LEKT-7: what one receiver was told is still news to another."""
        one, two = self.join(X, b"one."), self.join(Y, b"two.")
        self.check(one, [], [(Y, b"two.")])
        third = self.join(Z, b"3rd.")
        self.check(one, [], [(Z, b"3rd.")])
        self.check(two, [], [(X, b"one."), (Z, b"3rd.")])
        self.presence.leave(third)
        self.check(two, [Z], [])
        self.check(one, [Z], [])

    def test_whole_list(self) -> None:
        """LEKT-11: the whole list is A only, whatever changed before it."""
        receiver = self.join(Y, b"self")
        gone = self.join(X, b"one.")
        self.join(Z, b"two.")
        self.heartbeat(receiver)
        self.presence.leave(gone)
        self.places.clear()
        self.check(receiver, [], [(Z, b"two.")])
        self.check(receiver, [], [])

    def test_own_session(self) -> None:
        """LEKT-9: a client is not told about itself, in the whole list or later; its neighbours are listed."""
        receiver = self.join(X, b"self")
        self.check(receiver, [], [])
        self.join(X, b"one.")
        self.check(receiver, [], [(X, b"one.")])
        self.places.clear()
        self.check(receiver, [], [(X, b"one.")])

    def test_came_and_went(self) -> None:
        """LEKT-7: who joined and left between two heartbeats is not mentioned to who never knew."""
        receiver = self.join(Y, b"self")
        self.heartbeat(receiver)
        self.presence.leave(self.join(X, b"one."))
        self.check(receiver, [], [])
        self.presence.leave(self.join(X, b"two."))
        self.join(X, b"3rd.")
        self.check(receiver, [], [(X, b"3rd.")])

    def test_went_and_came(self) -> None:
        """LEKT-10: a client that changed is removed and added."""
        receiver = self.join(Y, b"self")
        member = self.join(X, b"old.")
        self.heartbeat(receiver)
        self.presence.leave(member)
        self.join(X, b"new.")
        self.check(receiver, [X], [(X, b"new.")])

    def test_went_came_and_went(self) -> None:
        receiver = self.join(Y, b"self")
        member = self.join(X, b"old.")
        self.heartbeat(receiver)
        self.presence.leave(member)
        self.presence.leave(self.join(X, b"new."))
        self.check(receiver, [X], [])

    def test_count(self) -> None:
        """LEKT-9: the list counts who is in, several behind one address too."""
        members = [self.join(X, b"one."), self.join(X, b"two."), self.join(Y, b"3rd.")]
        for left in (2, 1, 0):
            self.presence.leave(members.pop())
            self.assertEqual(len(self.presence), left)


class NeighbourTests(PresenceCase):
    """Several clients behind one address."""

    def test_those_who_remain(self) -> None:
        """LEKT-10: R address, then A for each that remains there; clients elsewhere are not mentioned."""
        receiver = self.join(Y, b"self")
        first, second = self.join(X, b"one."), self.join(X, b"two.")
        self.join(X, b"3rd.")
        self.join(Z, b"far.")
        self.heartbeat(receiver)
        self.presence.leave(second)
        self.check(receiver, [X], [(X, b"one."), (X, b"3rd.")])
        self.presence.leave(first)
        self.check(receiver, [X], [(X, b"3rd.")])

    def test_several_leave(self) -> None:
        """LEKT-10: the address is removed once, and each that remains is added once."""
        receiver = self.join(Y, b"self")
        first, second = self.join(X, b"one."), self.join(X, b"two.")
        self.join(X, b"3rd.")
        self.heartbeat(receiver)
        self.presence.leave(second)
        self.presence.leave(first)
        self.check(receiver, [X], [(X, b"3rd.")])

    def test_all_leave(self) -> None:
        """LEKT-10: with nobody left behind the address nothing is added."""
        receiver = self.join(Y, b"self")
        first, second = self.join(X, b"one."), self.join(X, b"two.")
        self.heartbeat(receiver)
        self.presence.leave(first)
        self.presence.leave(second)
        self.check(receiver, [X], [])

    def test_answered_between(self) -> None:
        """LEKT-10: who was told of those who remain is told when they leave."""
        receiver = self.join(Y, b"self")
        first, second = self.join(X, b"one."), self.join(X, b"two.")
        self.heartbeat(receiver)
        self.presence.leave(first)
        self.check(receiver, [X], [(X, b"two.")])
        self.presence.leave(second)
        self.check(receiver, [X], [])

    def test_visitor_unknown(self) -> None:
        """LEKT-7: somebody comes and goes beside somebody known: who never heard of it is told nothing."""
        receiver, late = self.join(Y, b"self"), self.join(Z, b"late")
        self.join(X, b"one.")
        self.heartbeat(receiver)
        visitor = self.join(X, b"new.")
        self.check(late, [], [(Y, b"self"), (X, b"one."), (X, b"new.")])
        self.presence.leave(visitor)
        self.check(receiver, [], [])
        self.check(late, [X], [(X, b"one.")])

    def test_known_one_replaced(self) -> None:
        receiver = self.join(Y, b"self")
        known = self.join(X, b"one.")
        self.heartbeat(receiver)
        self.join(X, b"new.")
        self.presence.leave(known)
        self.check(receiver, [X], [(X, b"new.")])

    def test_receiver_behind_the_address(self) -> None:
        """LEKT-9, LEKT-10: a neighbour leaves: the receiver forgets its address, and hears of the others only."""
        receiver = self.join(X, b"self")
        first = self.join(X, b"one.")
        second = self.join(X, b"two.")
        self.heartbeat(receiver)
        self.presence.leave(first)
        self.check(receiver, [X], [(X, b"two.")])
        self.presence.leave(second)
        self.check(receiver, [X], [])
        self.join(X, b"3rd.")
        self.check(receiver, [], [(X, b"3rd.")])


class BoundaryTests(PresenceCase):
    def test_many(self) -> None:
        """LEKT-8: 262,144 removals are one R, one more makes a second; the whole list is A of 65,536 and a rest."""
        receiver = self.join(b"\0\0\0\0", b"self")
        members = [
            self.presence.join(address, b"\0\0\0\4" + address, 0.0)
            for address in (number.to_bytes(4, "big") for number in range(1, 262_146))
        ]
        whole = self.heartbeat(receiver)
        self.assertEqual(whole.addition_sizes, [65_536, 65_536, 65_536, 65_536, 1])
        self.assertEqual(len(set(whole.additions)), 262_145)
        place = self.places[id(receiver)]
        last = members.pop()
        for member in members:
            self.presence.leave(member)
        answer = self.heartbeat(receiver)
        self.assertEqual((answer.removal_sizes, answer.addition_sizes), ([262_144], [0]))
        self.presence.leave(last)
        self.places[id(receiver)] = place
        answer = self.heartbeat(receiver)
        self.assertEqual((answer.removal_sizes, answer.addition_sizes), ([262_144, 1], [0]))
        self.assertEqual(len(set(answer.removals)), 262_145)


class RetentionTests(PresenceCase):
    def test_fallen(self) -> None:
        """LEKT-12: changes are kept for as long as anybody may be silent; a place before them is no longer served."""
        receiver = self.join(Y, b"self", 100.0)
        self.heartbeat(receiver)
        self.join(X, b"one.", 101.0)
        self.join(Z, b"two.", 131.0)
        self.check(receiver, [], [(X, b"one."), (Z, b"two.")])
        place = self.places[id(receiver)]
        self.presence.leave(self.join(X, b"3rd.", 140.0))
        self.join(Z, b"4th.", 172.0)
        self.join(Z, b"5th.", 204.0)
        with self.assertRaises(Fallen):
            self.presence.answer(receiver, place, TIME)
        self.places.clear()
        self.check(receiver, [], [(X, b"one."), (Z, b"two."), (Z, b"4th."), (Z, b"5th.")])

    def test_fallen_by_removals_alone(self) -> None:
        """LEKT-12: a forgotten removal is as bad as a forgotten addition."""
        receiver = self.join(Y, b"self", 0.0)
        gone = self.join(X, b"one.", 1.0)
        self.heartbeat(receiver)
        self.presence.leave(gone)
        self.join(X, b"two.", 40.0)
        self.join(X, b"3rd.", 80.0)
        self.join(X, b"4th.", 120.0)
        with self.assertRaises(Fallen):
            self.heartbeat(receiver)

    def test_members_outlive_their_change(self) -> None:
        """LEKT-10: who joined long ago leaves like anybody else, with neighbours and without."""
        receiver, gone, neighbour = self.join(Y, b"self"), self.join(X, b"one."), self.join(X, b"two.")
        for now in range(0, 200, 10):
            self.join(Z, b"far.", float(now))
            self.heartbeat(receiver)
        self.assertLess(self.presence.remembered, 10)
        self.presence.leave(gone)
        self.check(receiver, [X], [(X, b"two.")])
        self.presence.leave(neighbour)
        self.check(receiver, [X], [])

    def test_bounded(self) -> None:
        """COM-2: with people coming and going for hours, no more is remembered than retention asks for."""
        for turn in range(3000):
            self.presence.leave(self.join(X, b"one.", turn / 10))
        self.assertGreaterEqual(self.presence.remembered, 2 * 10 * 30 - 20)
        self.assertLessEqual(self.presence.remembered, 2 * 10 * 32)

    def test_nobody_falls_in_time(self) -> None:
        """LEKT-12: a receiver that was silent for less than retention is always served."""
        receivers = [(self.join(Y, b"self", 0.0), delay) for delay in (1, 7, 29)]
        for now in range(200):
            self.join(X, b"%04d" % now, float(now))
            for receiver, delay in receivers:
                if now % delay == 0:
                    self.heartbeat(receiver)
        self.assertLess(self.presence.remembered, 40)


class Untouchable(list[Any]):
    """A log that must not be looked at."""

    def _touched(self, *arguments: Any) -> Any:
        raise AssertionError("an idle heartbeat looked at a log")

    __getitem__ = __iter__ = __len__ = __contains__ = __reversed__ = _touched


def calls_in(function: Callable[[], object]) -> int:
    """How many calls, of Python's and of C's functions, a function takes."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


class CostTests(PresenceCase):
    def test_encoded_once(self) -> None:
        """LEKT-16: every receiver is sent the very bytes that were made when the change happened."""
        receivers = [self.join(b"\x0a\0\0" + bytes((number,)), b"self") for number in range(20)]
        for receiver in receivers:
            self.heartbeat(receiver)
        gone = self.join(X, b"one.")
        entry = listed(X, b"two.")
        self.presence.join(X, entry, 0.0)
        self.presence.leave(gone)
        for receiver in receivers:
            updates, _ = self.presence.answer(receiver, self.places[id(receiver)], TIME)
            self.assertEqual(sum(update is entry for update in updates), 1)

    def idle(self, clients: int) -> Callable[[], object]:
        """An idle heartbeat with that many clients listed, and their joining in the logs."""
        presence = Presence(30.0)
        receiver = presence.join(Y, listed(Y, b"self"), 0.0)
        for number in range(clients):
            presence.join(number.to_bytes(4, "big"), listed(X, b"one."), 0.0)
        _, place = presence.answer(receiver, None, TIME)
        return lambda: presence.answer(receiver, place, TIME)

    def test_idle(self) -> None:
        """LEKT-16: an idle heartbeat takes the same work and memory with 10 or 10,000 clients listed."""
        few, many = self.idle(10), self.idle(10_000)
        self.assertEqual(calls_in(few), calls_in(many))
        tracemalloc.start()
        try:
            many()
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            many()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(peak - before, 4096)

    def test_idle_looks_at_nothing(self) -> None:
        """LEKT-16: the answer to an idle heartbeat is known without the logs."""
        receiver = self.join(Y, b"self")
        self.join(X, b"one.")
        self.heartbeat(receiver)
        for name in ("_additions", "_removals"):
            self.assertIsInstance(getattr(self.presence, name), list)
            self.patch(self.presence, name, Untouchable())
        self.check(receiver, [], [])

    def test_one_change_among_many(self) -> None:
        """LEKT-16: a change costs a receiver what changed, not what is listed."""
        counts = []
        for clients in (10, 5000):
            presence = Presence(30.0)
            receiver = presence.join(Y, listed(Y, b"self"), 0.0)
            for number in range(clients):
                presence.join(number.to_bytes(4, "big"), listed(X, b"one."), 0.0)
            _, place = presence.answer(receiver, None, TIME)
            presence.join(X, listed(X, b"two."), 0.0)
            counts.append(calls_in(lambda held=presence, who=receiver, at=place: held.answer(who, at, TIME)))  # type: ignore[misc]
        self.assertEqual(counts[0], counts[1])


@attrs.define(eq=False)
class Receiver:
    """Both ends of one connection, and what the model knows about it."""

    server: ServerMachine
    client: ClientMachine
    entry: Entry
    heartbeats: int = 0
    heard: bool = False
    """Nothing has changed since the last answer."""
    shared: set[IPv4Address] = attrs.field(factory=set)
    """Where somebody left and others remained since the last answer."""


class World:
    """A listener's machines and their clients on one clock, beside a plain list of who is really there."""

    def __init__(self, case: SynchronousTestCase) -> None:
        self.case = case
        self.now = 1000.0
        self.settings = LektSettings(
            heartbeat_period=2.0, silent_periods=3.0, heartbeat_limit=10_000, resync_interval=0.0
        )
        self.presence = Presence(6.5)
        self.receivers: list[Receiver] = []

    def join(self, host: int, port: int) -> None:
        address = IPv4Address(int.from_bytes(X, "big") + host)
        server = ServerMachine(self.settings, self.presence, now=self.now)
        client = ClientMachine(LektClientSettings(port=port), now=self.now)
        (hello,) = server.receive_data(client.data_to_send(), self.now)
        assert isinstance(hello, HelloReceived)
        server.accept(address.packed, self.now)
        while not client.established:
            client.receive_data(server.data_to_send(), self.now)
            server.receive_data(client.data_to_send(), self.now)
        methods = ((1, port.to_bytes(4, "big")),) if port else ()
        for other in self.receivers:
            other.heard = False
        self.receivers.append(Receiver(server, client, Entry(address, methods)))

    def leave(self, which: int, how: int) -> None:
        receiver = self.receivers[which % len(self.receivers)]
        if how == 0:
            receiver.server.close(Outcome.KICKED, "enough", self.now)
        elif how == 1:
            receiver.server.end_of_stream(self.now, clean=False)
        else:
            receiver.server.receive_data(b"nonsense", self.now)
        self.gone(receiver)

    def gone(self, receiver: Receiver) -> None:
        self.case.assertTrue(receiver.server.ended)
        self.receivers.remove(receiver)
        address = receiver.entry.address
        remains = any(other.entry.address == address for other in self.receivers)
        for other in self.receivers:
            other.heard = False
            if remains:
                other.shared.add(address)

    def heartbeat(self, which: int, resync: bool) -> None:
        """One heartbeat and its answer; afterwards the client's list is the true one without itself."""
        case, receiver = self.case, self.receivers[which % len(self.receivers)]
        resync = resync and receiver.heartbeats > 1
        before = Counter(receiver.client.clients)
        receiver.client.heartbeat(self.now, resync=resync)
        receiver.server.receive_data(receiver.client.data_to_send(), self.now)
        wire = receiver.server.data_to_send()
        answer = read_answer(wire)
        if resync or not receiver.heartbeats:
            case.assertEqual(answer.removals, [])
        elif receiver.heard:
            case.assertEqual(len(wire), 20)
        else:
            named = {IPv4Address(address) for address in answer.removals}
            case.assertLessEqual(named, {entry.address for entry in before} | receiver.shared)
        (updated,) = receiver.client.receive_data(wire, self.now)
        assert isinstance(updated, Updated)
        truth = Counter(other.entry for other in self.receivers if other is not receiver)
        case.assertEqual(Counter(receiver.client.clients), truth)
        case.assertEqual(before - Counter(updated.left) + Counter(updated.joined), truth)
        receiver.heartbeats += 1
        receiver.heard = True
        receiver.shared.clear()

    def wait(self, seconds: float) -> None:
        """Time passes; who was silent for too long is dropped."""
        self.now += seconds
        for receiver in list(self.receivers):
            for event in receiver.server.handle_deadline(self.now):
                assert isinstance(event, Ended)
                self.case.assertEqual(event.outcome, Outcome.TIMEOUT)
                self.gone(receiver)


class WorldTests(SynchronousTestCase):
    step = st.one_of(
        st.tuples(st.just("join"), st.integers(0, 2), st.sampled_from([0, 1, 2])),
        st.tuples(st.just("leave"), st.integers(0, 20), st.integers(0, 2)),
        st.tuples(st.just("heartbeat"), st.integers(0, 20), st.integers(0, 3)),
        st.tuples(st.just("heartbeat"), st.integers(0, 20), st.integers(1, 3)),
        st.tuples(st.just("wait"), st.integers(1, 12), st.just(0)),
    )

    @given(steps=st.lists(step, min_size=10, max_size=70))
    @settings(deadline=None, max_examples=150)
    def test_model(self, steps: list[tuple[str, int, int]]) -> None:
        """LEKT-7 to LEKT-11: after each answer a client's list is the true list without itself."""
        world = World(self)
        for host in range(2):
            world.join(host, 1)
        for kind, one, two in steps:
            if kind == "join":
                world.join(one, two)
            elif kind == "wait":
                world.wait(one / 4)
            elif world.receivers:
                if kind == "leave":
                    world.leave(one, two)
                else:
                    world.heartbeat(one, resync=two == 0)
            self.assertEqual(len(world.presence), len(world.receivers))
        for which in range(len(world.receivers)):
            world.heartbeat(which, resync=False)


class ChurnTests(SynchronousTestCase):
    def test_remembered_at_most(self) -> None:
        """COM-2: however many come and go, no more than a stated number of changes is kept; who is behind falls."""
        self.patch(lekt_presence, "MAXIMUM_REMEMBERED", 1000)
        presence = Presence(90.0)
        reader = presence.join(Y, b"self", 0.0)
        _, place = presence.answer(reader, None, 1)
        for number in range(3000):
            presence.leave(presence.join(number.to_bytes(4, "big"), b"<%04d>" % number, number / 50))
        self.assertLess(presence.remembered, 1300)
        self.assertRaises(Fallen, presence.answer, reader, place, 60)


class CrowdTests(SynchronousTestCase):
    def test_many_leave_one_address(self) -> None:
        """LEKT-10, LEKT-16: those who stay are added again once before the next answer, not once per neighbour."""
        presence = Presence(90.0)
        crowd = [presence.join(X, b"<%04d>" % number, 0.0) for number in range(1000)]
        reader = presence.join(Y, b"self", 0.0)
        _, place = presence.answer(reader, None, 1)
        for member in crowd[:900]:
            presence.leave(member)
        self.assertLess(presence.remembered, 1200)
        updates, place = presence.answer(reader, place, 2)
        answer = b"".join(updates)
        self.assertEqual(answer.count(X), 1)
        self.assertEqual([answer.count(member.entry) for member in crowd], [0] * 900 + [1] * 100)
        for member in crowd[900:]:
            presence.leave(member)
        updates, place = presence.answer(reader, place, 3)
        self.assertEqual(b"".join(updates).count(X), 1)
        self.assertEqual(len(presence), 1)

    def test_coming_and_going_in_a_crowd(self) -> None:
        """LEKT-10, LEKT-16: who comes and goes behind an address costs no log for each neighbour that stays."""
        presence = Presence(90.0)
        crowd = [presence.join(X, b"<%04d>" % number, 0.0) for number in range(1000)]
        reader = presence.join(Y, b"self", 0.0)
        other = presence.join(Z, b"far.", 0.0)
        _, place = presence.answer(reader, None, 1)
        _, elsewhere = presence.answer(other, None, 1)
        before = presence.remembered
        for number in range(100):
            presence.leave(crowd.pop(0))
            crowd.append(presence.join(X, b"<%04d>" % (1000 + number), 1.0))
            _, elsewhere = presence.answer(other, elsewhere, 1)
        self.assertEqual(presence.remembered - before, 200)
        updates, _ = presence.answer(reader, place, 2)
        self.assertEqual(Counter(updates[3:]), Counter(member.entry for member in crowd))
