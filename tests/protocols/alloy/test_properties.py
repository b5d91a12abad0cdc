"""What holds for both of Alloy's machines whatever the other side sends, in whatever pieces."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy import packets as alloy
from connectd.protocols.alloy.client_machine import ClientMachine, PasswordRequested, WorldOffered
from connectd.protocols.alloy.packets import Disconnect
from connectd.protocols.alloy.server_machine import PasswordPresented, ServerMachine, password_hash
from connectd.protocols.alloy.settings import ORDERS
from connectd.protocols.alloy.states import AlloyMachine
from connectd.sansio import AFTER_ACCEPTANCE, BEFORE_ACCEPTANCE, Decision, Ended, Established, Event, Outcome
from tests.protocols.alloy.pair import ASSETS, CONNECT, NOW, PASSWORD, WORLD, ServerSide, frame, packets
from tests.protocols.alloy.test_client_machine import OFFER, ClientSide
from tests.protocols.alloy.test_packets import PACKET_STRATEGIES
from tests.strategies import corruptions, segmentations, truncations

CHALLENGE = (1).to_bytes(32, "big")
FROM_CLIENT = b"".join(
    packet.encode()
    for packet in (
        CONNECT,
        alloy.PasswordResponse(password_hash(CHALLENGE, PASSWORD)),
        alloy.ClientReady(),
        alloy.RequestAssets(),
        alloy.Pong(0),
        alloy.ClientReady(1, 0),
        Disconnect(0, "bye"),
    )
)
"""A good session, as the client sends it."""
FROM_SERVER = b"".join(
    packet.encode()
    for packet in (
        alloy.ConnectAccept(CHALLENGE),
        alloy.PasswordAccepted(),
        alloy.ServerAuthToken(),
        alloy.SetClientId(7),
        alloy.JoinWorld(1, 1, WORLD),
        OFFER,
        alloy.AssetInitialize(3, ASSETS[0]),
        alloy.AssetPart(b"one"),
        alloy.AssetFinalize(),
        alloy.WorldLoadFinished(),
        alloy.Ping(0),
        Disconnect(0, "bye"),
    )
)
"""The same, as the server sends it."""


def answer(machine: AlloyMachine, events: list[Event]) -> list[Event]:
    """What whoever drives the machine does; returns all events in their order."""
    found: list[Event] = []
    for event in events:
        found.append(event)
        if not isinstance(event, Decision):
            continue
        if isinstance(event, WorldOffered):
            assert isinstance(machine, ClientMachine)
            offered = event.settings.required_assets or ()
            found += answer(machine, machine.request(tuple(dict.fromkeys(offered))[:1], NOW))
        elif isinstance(event, PasswordRequested):
            assert isinstance(machine, ClientMachine)
            found += answer(machine, machine.respond(PASSWORD, NOW))
        elif isinstance(event, PasswordPresented):
            assert isinstance(machine, ServerMachine)
            right = event.hash == password_hash(event.challenge, PASSWORD)
            found += answer(machine, (machine.accept if right else machine.reject)(NOW))
        else:
            found += answer(machine, machine.refuse("no", NOW))
    return found


def run(side: ServerSide | ClientSide, pieces: list[bytes]) -> tuple[list[Event], bytes]:
    """All events, and all that the machine said."""
    events: list[Event] = []
    machine = side.machine
    said = b""
    for piece in pieces:
        events += answer(machine, machine.receive_data(piece, NOW))
        said += machine.data_to_send()
    return events, said


class PropertyTests(SynchronousTestCase):
    def sides(self, order: str = "seed") -> tuple[ServerSide | ClientSide, ...]:
        return ServerSide(order=order), ClientSide(order=order)

    def check(self, side: ServerSide | ClientSide, pieces: list[bytes]) -> None:
        """COM-7: one end, last and of the right kind, said in whole packets; a Disconnect is the last of them."""
        machine = side.machine
        events, said = run(side, pieces)
        ends = [event for event in events if isinstance(event, Ended)]
        self.assertEqual(len(ends), int(machine.ended))
        established = [event for event in events if isinstance(event, Established)]
        self.assertLessEqual(len(established), 1)
        self.assertEqual(bool(established), machine.established)
        if ends:
            self.assertIs(events[-1], ends[0])
            self.assertIn(ends[0].outcome, AFTER_ACCEPTANCE if established else BEFORE_ACCEPTANCE | {Outcome.REFUSED})
            if ends[0].offset is not None:
                self.assertTrue(0 <= ends[0].offset <= sum(map(len, pieces)) + 8)
        whole = packets(said)
        self.assertFalse(any(isinstance(packet, Disconnect) for packet in whole[:-1]))
        if ends and ends[0].outcome is Outcome.MALFORMED:
            self.assertIsInstance(whole[-1], Disconnect)
        limit = 65_536 if not machine.established else 70_000_000
        self.assertLessEqual(len(machine._input), limit)

    @settings(max_examples=60, deadline=None)
    @given(st.data(), st.sampled_from([0, 1]))
    def test_segmentation(self, data: st.DataObject, which: int) -> None:
        """AL-17: what is said does not depend on the pieces in which it comes."""
        wire = (FROM_CLIENT, FROM_SERVER)[which]
        whole = run(self.sides()[which], [wire])
        self.assertEqual(run(self.sides()[which], data.draw(segmentations(wire))), whole)
        self.assertEqual(getattr(whole[0][-1], "outcome", None), Outcome.LEFT)

    @settings(max_examples=150, deadline=None)
    @given(st.data(), st.sampled_from([0, 1]), st.sampled_from(ORDERS))
    def test_damage(self, data: st.DataObject, which: int, order: str) -> None:
        """COM-3: a session with bytes changed or cut off ends in good order, or goes on."""
        wire = data.draw(corruptions((FROM_CLIENT, FROM_SERVER)[which]))
        wire = data.draw(st.one_of(st.just(wire), truncations(wire)))
        self.check(self.sides(order)[which], data.draw(segmentations(wire)))

    @settings(max_examples=150, deadline=None)
    @given(st.data(), st.sampled_from([0, 1]), st.sampled_from(ORDERS))
    def test_any_packets(self, data: st.DataObject, which: int, order: str) -> None:
        """AL-1: any packets in any order: each is allowed, or ends it."""
        chosen = data.draw(st.lists(st.one_of(*PACKET_STRATEGIES.values()), max_size=5))
        good = (FROM_CLIENT, FROM_SERVER)[which]
        frames = []
        while good:
            length = 8 + struct.unpack_from("<i", good)[0]
            frames.append(good[:length])
            good = good[length:]
        prefix = frames[: data.draw(st.integers(0, len(frames)))]
        self.check(self.sides(order)[which], [*prefix, *(packet.encode() for packet in chosen)])

    @settings(max_examples=150, deadline=None)
    @given(
        st.sampled_from([0, 1]), st.integers(-(1 << 31), (1 << 31) - 1), st.integers(-2, 110), st.binary(max_size=300)
    )
    def test_any_frames(self, which: int, length: int, identifier: int, payload: bytes) -> None:
        """AL-17: any length, id and payload at every point of a session."""
        good = (FROM_CLIENT, FROM_SERVER)[which]
        place = 0
        while place <= len(good):
            self.check(self.sides()[which], [good[:place], frame(identifier, payload, length), payload])
            if place == len(good):
                break
            place += 8 + struct.unpack_from("<i", good, place)[0]

    @settings(max_examples=100, deadline=None)
    @given(st.sampled_from([0, 1]), st.lists(st.binary(max_size=200), max_size=5))
    def test_noise(self, which: int, pieces: list[bytes]) -> None:
        """COM-3: whatever comes, nothing is raised."""
        self.check(self.sides()[which], pieces)

    @settings(max_examples=50, deadline=None)
    @given(st.data(), st.sampled_from([0, 1]))
    def test_ends_from_outside(self, data: st.DataObject, which: int) -> None:
        """COM-7, COM-8: wherever it stands, a close, an end of the stream and a deadline end it once."""
        wire = (FROM_CLIENT, FROM_SERVER)[which]
        side = self.sides()[which]
        machine = side.machine
        events, _ = run(side, [wire[: data.draw(st.integers(0, len(wire)))]])
        how = data.draw(st.sampled_from(["close", "stream", "lost", "time"]))
        if how == "close":
            events += machine.close(Outcome.SHUTDOWN, "bye", NOW)
        elif how == "time":
            events += machine.handle_deadline(NOW + 100_000)
        else:
            events += machine.end_of_stream(NOW, clean=how == "stream")
        self.assertEqual(len([event for event in events if isinstance(event, Ended)]), 1)
        packets(machine.data_to_send())
