"""What holds for both of Starbound's machines whatever is said to them, and in whatever pieces."""

from __future__ import annotations

import functools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.starbound.events import ChallengeReceived, ConnectRequested, ResponseReceived, ShipworldReceived
from connectd.protocols.starbound.frames import Frame
from connectd.protocols.starbound.machine import ClientMachine, ServerMachine
from connectd.protocols.starbound.packets import ClientConnect
from connectd.sansio import AFTER_ACCEPTANCE, BEFORE_ACCEPTANCE, Ended, Established, Event, Machine
from tests.protocols.starbound.exchange import ALL, CLIENT_ID, NOW, client, exchange, player, proof, server, take
from tests.strategies import corruptions, cut, disturbances

FRAMES = (Frame(20, b"hello"), Frame(21, bytes(3000), True), Frame(22, b""), Frame(23, bytes(70_000), True))


class Recorder:
    """Keeps each thing that a machine is told."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.told: list[bytes] = []
        self._receive = machine.receive_data

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        self.told.append(data)
        return self._receive(data, now)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.machine, name)


@functools.cache
def conversation(generation: str) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """What the server and the client are told in a login and a short session: one entry for each turn."""
    who = player(shipworld=bytes(40_000), world_chunks=((b"k", bytes(30_000)), (b"l", None), (b"m" * 300, b"")))
    pair = exchange(generation)
    pair.client = client(generation, who)
    recorders = Recorder(pair.server), Recorder(pair.client)
    pair.server, pair.client = recorders  # type: ignore[assignment]  # they pass everything on
    pair.run()
    assert pair.established == (True, True)
    for frame in FRAMES:
        pair.server.send(frame, NOW)
        pair.client.send(frame, NOW)
    pair.run()
    return tuple(recorders[0].told), tuple(recorders[1].told)


def new(side: int, generation: str) -> ServerMachine | ClientMachine:
    return server(generation, keep_shipworld=True) if side == 0 else client(generation)


def drive(machine: Any, pieces: list[bytes]) -> list[Event]:
    """Feed a machine, answering its Decisions as a server or a client would. What it promises is checked."""
    events: list[Event] = []
    for piece in pieces:
        fresh = take(machine, piece)
        while fresh:
            events += fresh
            event = fresh[-1]
            fresh = []
            if isinstance(event, ConnectRequested):
                anonymous = not event.account and not machine.generation.server_first
                fresh = machine.accept(CLIENT_ID, NOW) if anonymous else machine.challenge(NOW)
            elif isinstance(event, ResponseReceived):
                fresh = machine.accept(CLIENT_ID, NOW)
            elif isinstance(event, ChallengeReceived):
                fresh = machine.respond(proof(event), NOW)
        machine.data_to_send()
    return events


def joined(events: list[Event]) -> list[Any]:
    """The events, with the pieces of the shipworld as one."""
    ship = b"".join(event.data for event in events if isinstance(event, ShipworldReceived))
    return [ship, *(event for event in events if not isinstance(event, ShipworldReceived))]


class SegmentationTests(SynchronousTestCase):
    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def test_any(self, data: st.DataObject) -> None:
        """SB-12: in any segmentation the events are the same, on both sides and in every generation."""
        for generation in ALL:
            for side in (0, 1):
                told = list(conversation(generation)[side])
                expected = joined(drive(new(side, generation), told))
                self.assertTrue(any(isinstance(event, Established) for event in expected))
                pieces: list[bytes] = []
                for one in told:
                    places = st.lists(st.integers(1, max(1, len(one) - 1)), unique=True, max_size=6).map(sorted)
                    pieces += cut(one, data.draw(places)) if len(one) > 1 else [one]
                self.assertEqual(joined(drive(new(side, generation), pieces)), expected)

    def test_every_byte(self) -> None:
        for generation in ALL:
            for side in (0, 1):
                told = list(conversation(generation)[side])
                expected = joined(drive(new(side, generation), told))
                # The largest would take long: every byte of its ends is on its own, and the middle in pieces.
                pieces = [
                    one
                    for data in told
                    for one in cut(data, sorted({*range(1, min(300, len(data))), *range(301, len(data), 97)}))
                ]
                self.assertEqual(joined(drive(new(side, generation), pieces)), expected)


class BadInputTests(SynchronousTestCase):
    """COM-3, COM-7: nothing raises, there is one end, and its outcome fits."""

    def check(self, machine: Any, pieces: list[bytes]) -> None:
        events = drive(machine, pieces)
        if not machine.ended:
            events += machine.end_of_stream(NOW)
        ends = [event for event in events if isinstance(event, Ended)]
        self.assertEqual(len(ends), 1)
        self.assertIs(events[-1], ends[0])
        established = any(isinstance(event, Established) for event in events)
        self.assertIn(ends[0].outcome, AFTER_ACCEPTANCE if established else BEFORE_ACCEPTANCE)
        self.assertTrue(ends[0].reason.isprintable(), ends[0].reason)
        if ends[0].offset is not None:
            self.assertTrue(0 <= ends[0].offset <= sum(map(len, pieces)))
        self.assertEqual(machine.held, 0)
        self.assertEqual(machine.receive_data(b"more", NOW), [])
        self.assertFalse(machine.wants_turn)

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(ALL), st.integers(0, 1), st.data())
    def test_corrupted(self, generation: str, side: int, data: st.DataObject) -> None:
        """Some bytes of a good conversation are others."""
        told = list(conversation(generation)[side])
        index = data.draw(st.integers(0, len(told) - 1))
        told[index] = data.draw(corruptions(told[index]))
        self.check(new(side, generation), told)

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(ALL), st.integers(0, 1), st.data())
    def test_disturbed(self, generation: str, side: int, data: st.DataObject) -> None:
        """SB-1: what was said is said again, too early, too late or not at all."""
        self.check(new(side, generation), data.draw(disturbances(list(conversation(generation)[side]))))

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(ALL), st.integers(0, 1), st.integers(0, 4), st.lists(st.binary(max_size=80), max_size=5))
    def test_random(self, generation: str, side: int, good: int, noise: list[bytes]) -> None:
        """Random bytes in any state."""
        self.check(new(side, generation), [*conversation(generation)[side][:good], *noise])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.binary(max_size=80), max_size=5), st.booleans())
    def test_guessing(self, noise: list[bytes], waited: bool) -> None:
        """The same for a server and a client that wait whether the other speaks first."""
        for machine in (server("seed", "1.4", "opensb"), client("auto")):
            if waited:
                machine.handle_deadline(NOW + 5)
                machine.data_to_send()
            self.check(machine, noise)

    def test_other_generations(self) -> None:
        """What one generation says is said to a machine of each other one."""
        for generation in ALL:
            for other in ALL:
                for side in (0, 1):
                    self.check(new(side, other), list(conversation(generation)[side]))

    def test_anonymous_player(self) -> None:
        """A player without anything."""
        for generation in ALL:
            pair = exchange(generation)
            pair.client = client(generation, ClientConnect())
            self.assertEqual(pair.run().established, (True, True))
