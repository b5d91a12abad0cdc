"""What holds for both of LEKT's machines whatever the other side sends, in whatever pieces."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.lekt.machine import ClientMachine, HelloReceived, ServerMachine
from connectd.protocols.lekt.presence import Presence
from connectd.protocols.lekt.settings import LektClientSettings, LektSettings
from connectd.sansio import AFTER_ACCEPTANCE, BEFORE_ACCEPTANCE, Ended, Established, Event, Machine, Outcome, Received
from tests.strategies import corruptions, disturbances, segmentations, truncations

NOW = 1_700_000_000.0
HOST = IPv4Address("192.0.2.1")
OTHER = b"\xc0\x00\x02\x02"
OTHER_ENTRY = bytes.fromhex("0000000c c0000202 00000001 000001bb")

# A good session, as each side sends it.
HELLO = bytes.fromhex("4c454b54 48 000000 00000001 00000001")
RESPONSE = bytes.fromhex("4c454b54 54 000000 00000001 00001f90")
LATE_RESPONSE = bytes.fromhex("4c454b54 54 000000 00000000")
BEAT_0 = bytes.fromhex("4c454b54 48 000000 0000000000000000")
BEAT_1 = bytes.fromhex("4c454b54 48 000000 000000006553f100")
FROM_CLIENT = [HELLO, RESPONSE, LATE_RESPONSE, BEAT_0, BEAT_1, BEAT_0, BEAT_1]

ACCEPT = bytes.fromhex("4c454b54 41 000000")
ASK_1 = bytes.fromhex("4c454b54 54 000000 00000001")
ASK_0 = bytes.fromhex("4c454b54 54 000000 00000000")
ADDITION = bytes.fromhex("4c454b54 48 000000 000000006553f100 41 000001") + OTHER_ENTRY
REMOVAL = bytes.fromhex("4c454b54 48 000000 000000006553f100 52 000001 c0000202")
NO_NEWS = bytes.fromhex("4c454b54 48 000000 000000006553f100 41 000000")
FROM_SERVER = [ACCEPT, ASK_1, ASK_0, ADDITION, NO_NEWS, REMOVAL, ADDITION, NO_NEWS]

REJECT = b"LEKTR\0\0\0no room!\0\0\0\0"
EVERY_MESSAGE = [
    *dict.fromkeys(FROM_CLIENT + FROM_SERVER),
    REJECT,
    bytes.fromhex("4c454b54 48 000000 00000000"),
    bytes.fromhex("4c454b54 48 000000 00000400") + b"\xff" * 128,
    bytes.fromhex("4c454b54 48 000000 00000401"),
    bytes.fromhex("4c454b54 48 010000 00000001 00000001"),
    bytes.fromhex("4c454b54 54 000000 00000001 00000000"),
    bytes.fromhex("4c454b54 54 000000 00000002 00001f90"),
    bytes.fromhex("4c454b54 54 000000 00000002"),
    bytes.fromhex("4c454b54 41 010000"),
    bytes.fromhex("4c454b54 48 000000 000000006553f100 41 ffffff"),
    bytes.fromhex("4c454b54 48 000000 000000006553f100 58 000001"),
    bytes.fromhex("4c454b54 48 000000 000000006553f100 41 000001 00000003 c00002"),
    b"GET / HTTP/1.1\r\n\r\n",
    b"",
]
"""Every message of either side, good and bad, for every state of either machine."""


def server_messages(wire: bytes) -> str:
    """The types of what a server has sent, one letter each; fails unless all of it is whole messages."""
    types, place = "", 0
    while place < len(wire):
        assert wire[place : place + 4] == b"LEKT", wire[place:]
        assert wire[place + 5 : place + 8] == bytes(3), wire[place:]
        kind = chr(wire[place + 4])
        types += kind
        place += 8
        if kind == "T":
            place += 4
        elif kind == "H":
            update, count = wire[place + 8 : place + 9], int.from_bytes(wire[place + 9 : place + 12], "big")
            place += 12
            for _ in range(count):
                place += 4 + (int.from_bytes(wire[place : place + 4], "big") if update == b"A" else 0)
        elif kind == "R":
            end = wire.index(b"\0", place)
            assert end - place <= 255
            wire[place:end].decode()
            place += (end - place) // 4 * 4 + 4
            assert not wire[end:place].strip(b"\0")
        else:
            assert kind == "A", kind
    assert place == len(wire), wire
    return types


class Driven:
    """A machine whose every answer is looked at: it never raises, and ends once, with its last event."""

    def __init__(self, case: SynchronousTestCase, machine: Machine) -> None:
        self.case = case
        self.machine = machine
        self.events: list[Event] = []
        self.output = b""
        self.ended: Ended | None = None
        self.fed = 0

    def took(self, events: list[Event]) -> None:
        """Look at what came of one call."""
        case, machine = self.case, self.machine
        if self.ended is not None:
            case.assertEqual(events, [])
            case.assertEqual(machine.data_to_send(), b"")
            return
        for event in events:
            case.assertIsNone(self.ended, "an event after the end")
            if isinstance(event, Ended):
                self.ended = event
        self.events += events
        self.output += machine.data_to_send()
        case.assertEqual(machine.ended, self.ended is not None)
        if self.ended is not None:
            case.assertIn(self.ended.outcome, AFTER_ACCEPTANCE if machine.established else BEFORE_ACCEPTANCE)
            case.assertIsNone(machine.deadline())
            case.assertIsNone(machine.decision)
            if self.ended.offset is not None:
                case.assertLess(self.ended.offset, self.fed)
        case.assertEqual(sum(isinstance(event, Established) for event in self.events), machine.established)

    def feed(self, data: bytes) -> None:
        """Hand it bytes, and let it in where it asks."""
        self.fed += len(data)
        self.took(self.machine.receive_data(data, NOW))
        machine = self.machine
        if isinstance(machine, ServerMachine) and isinstance(machine.decision, HelloReceived):
            self.took(machine.accept(HOST.packed, NOW))

    def finish(self, how: str) -> None:
        """End it in one way or another, if it has not ended yet."""
        machine = self.machine
        if how == "deadline":
            when = machine.deadline()
            self.took(machine.handle_deadline(NOW if when is None else when))
        elif how == "close":
            self.took(machine.close(Outcome.SHUTDOWN, "Going down", NOW))
        else:
            self.took(machine.end_of_stream(NOW, clean=how == "closed"))


class PropertyCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.presence = Presence(90.0)

    def server(self, messages: Sequence[bytes] = ()) -> Driven:
        """A server to which these messages were sent, beside one other listed client."""
        self.presence = Presence(90.0)
        self.presence.join(OTHER, OTHER_ENTRY, NOW)
        driven = Driven(self, ServerMachine(LektSettings(), self.presence, now=NOW))
        for message in messages:
            driven.feed(message)
        return driven

    def client(self, messages: Sequence[bytes] = ()) -> Driven:
        """A client to which these messages were sent; it has asked for an answer as soon as it could."""
        machine = ClientMachine(LektClientSettings(port=8080, maximum_clients=1000), now=NOW)
        driven = Driven(self, machine)
        driven.took([])
        for message in messages:
            driven.feed(message)
            if machine.established and not machine.ended:
                machine.heartbeat(NOW)
                driven.took([])
        return driven

    def check_server(self, driven: Driven, *, by_itself: bool = True) -> None:
        """What a server has sent is whole messages; a reject is the last, exactly where the server ended it."""
        types = server_messages(driven.output)
        self.assertEqual(types.count("R"), int(driven.ended is not None and by_itself))
        self.assertNotIn("R", types[:-1])
        listed = driven.machine.established and driven.ended is None
        self.assertEqual(len(self.presence), 1 + listed)

    def check_client(self, driven: Driven) -> None:
        """A client sends nothing but its hello, one response and heartbeats, and never a refusal."""
        output = driven.output
        self.assertTrue(output.startswith(HELLO))
        output = output[len(HELLO) :].removeprefix(RESPONSE)
        self.assertEqual(len(output) % 16, 0)
        for start in range(0, len(output), 16):
            self.assertEqual(output[start : start + 8], BEAT_0[:8])


class SegmentationTests(PropertyCase):
    @given(segments=segmentations(b"".join(FROM_CLIENT)))
    @settings(deadline=None, max_examples=150)
    def test_server(self, segments: list[bytes]) -> None:
        """LEKT-1, LEKT-5, LEKT-7: however a good session is cut up, it means the same."""
        driven = self.server(segments)
        self.assertEqual(driven.output, ACCEPT + ASK_1 + ASK_0 + ADDITION + NO_NEWS + ADDITION + NO_NEWS)
        kinds = [type(event) for event in driven.events]
        self.assertEqual(kinds, [HelloReceived, Established, Received, Received, Received, Received])
        self.check_server(driven)

    @given(data=st.data())
    @settings(deadline=None, max_examples=150)
    def test_client(self, data: st.DataObject) -> None:
        """LEKT-5, LEKT-8: the same for what a server sends, each answer asked for."""
        whole, cut = self.client(), self.client()
        for answer, resync in (
            (ACCEPT + ASK_1 + ASK_0, None),
            (ADDITION, False),
            (REMOVAL + ADDITION, False),
            (REMOVAL + NO_NEWS, False),
            (ADDITION, True),
            (NO_NEWS, False),
        ):
            for driven in (whole, cut):
                if resync is not None:
                    assert isinstance(driven.machine, ClientMachine)
                    driven.machine.heartbeat(NOW, resync=resync)
                    driven.took([])
            whole.feed(answer)
            for segment in data.draw(segmentations(answer)):
                cut.feed(segment)
        self.assertEqual(len(whole.events), 4 + 5)
        self.assertEqual(cut.events, whole.events)
        self.assertEqual(cut.output, whole.output)
        self.check_client(cut)

    @given(
        data=st.one_of(
            disturbances(FROM_CLIENT).map(b"".join),
            corruptions(b"".join(FROM_CLIENT)),
            truncations(b"".join(FROM_CLIENT)),
        ),
        more=st.data(),
    )
    @settings(deadline=None, max_examples=150)
    def test_bad_server_input(self, data: bytes, more: st.DataObject) -> None:
        """COM-3: a bad session too means the same however it is cut up, down to the offset of its first wrong byte."""
        whole, cut = self.server([data]), self.server(more.draw(segmentations(data)))
        self.assertEqual(cut.ended, whole.ended)
        self.assertEqual(cut.events, whole.events)
        self.assertEqual(cut.output, whole.output)
        self.check_server(cut)
        if whole.ended is not None:
            assert whole.ended.offset is not None
            self.assertIsNone(self.server([data[: whole.ended.offset]]).ended)

    @given(
        data=st.one_of(
            disturbances(FROM_SERVER).map(b"".join),
            corruptions(b"".join(FROM_SERVER)),
            truncations(b"".join(FROM_SERVER)),
        ),
        more=st.data(),
    )
    @settings(deadline=None, max_examples=150)
    def test_bad_client_input(self, data: bytes, more: st.DataObject) -> None:
        """COM-3: and for a client."""
        whole, cut = self.client(), self.client()
        whole.feed(data)
        for segment in more.draw(segmentations(data)):
            cut.feed(segment)
        self.assertEqual(cut.ended, whole.ended)
        self.assertEqual(cut.events, whole.events)
        self.assertEqual(cut.output, whole.output)
        if whole.ended is not None and whole.ended.offset is not None:
            part = self.client()
            part.feed(data[: whole.ended.offset])
            self.assertIsNone(part.ended)


class WrongMessageTests(PropertyCase):
    def test_every_message_in_every_server_state(self) -> None:
        """LEKT-15, COM-3, COM-12: whatever comes when, at most one end, with one reject and nothing after it."""
        for state in range(len(FROM_CLIENT) + 1):
            for message in EVERY_MESSAGE:
                driven = self.server([*FROM_CLIENT[:state], message])
                self.check_server(driven)
                driven.feed(b"\0" * 16)
                self.check_server(driven)
                driven.finish("closed")
                driven.feed(HELLO)

    def test_every_message_in_every_client_state(self) -> None:
        """LEKT-15, COM-3: the same for a client, which refuses nothing aloud."""
        for state in range(len(FROM_SERVER) + 1):
            for message in EVERY_MESSAGE:
                driven = self.client([*FROM_SERVER[:state], message])
                driven.feed(b"\0" * 16)
                self.check_client(driven)
                driven.finish("lost")
                driven.feed(ACCEPT)

    def test_good_sessions_stand(self) -> None:
        """LEKT-7: what all of this is measured against: the good sessions end only when they are ended."""
        server, client = self.server(FROM_CLIENT), self.client(FROM_SERVER)
        self.assertIsNone(server.ended)
        self.assertIsNone(client.ended)
        self.assertTrue(server.machine.established)
        self.assertTrue(client.machine.established)


pieces = st.one_of(
    st.sampled_from(EVERY_MESSAGE),
    st.sampled_from(EVERY_MESSAGE[:-1]).flatmap(truncations),
    st.sampled_from(EVERY_MESSAGE[:-1]).flatmap(corruptions),
    st.binary(max_size=40),
)
endings = st.sampled_from(["deadline", "close", "closed", "lost"])


class NoiseTests(PropertyCase):
    @given(state=st.integers(0, len(FROM_CLIENT)), noise=st.lists(pieces, max_size=6), ending=endings)
    @settings(deadline=None, max_examples=250)
    def test_server(self, state: int, noise: list[bytes], ending: str) -> None:
        """COM-3, COM-12: noise in any state: never an exception, one end, exactly one reject where it is ours."""
        driven = self.server(FROM_CLIENT[:state])
        for piece in noise:
            driven.feed(piece)
        self.check_server(driven)
        ours = driven.ended is not None or ending in ("deadline", "close")
        driven.finish(ending)
        self.assertIsNotNone(driven.ended)
        self.check_server(driven, by_itself=ours)
        driven.feed(HELLO)
        driven.finish("close")

    @given(state=st.integers(0, len(FROM_SERVER)), noise=st.lists(pieces, max_size=6), ending=endings)
    @settings(deadline=None, max_examples=250)
    def test_client(self, state: int, noise: list[bytes], ending: str) -> None:
        """COM-3: the same for a client."""
        driven = self.client(FROM_SERVER[:state])
        for piece in noise:
            driven.feed(piece)
        driven.finish(ending)
        self.check_client(driven)
        driven.finish("close")
        self.assertIsNotNone(driven.ended)
        driven.feed(ACCEPT)

    @given(good=st.integers(0, 5), noise=st.binary(max_size=200), ending=endings)
    @settings(deadline=None, max_examples=100)
    def test_noise_from_the_start(self, good: int, noise: bytes, ending: str) -> None:
        """LEKT-1: random bytes are refused at the first that no hello has."""
        data = HELLO[:good] + noise
        driven = self.server([data])
        wrong = next((place for place in range(min(5, len(data))) if data[place] != b"LEKTH"[place]), None)
        if wrong is not None:
            assert driven.ended is not None
            self.assertEqual(driven.ended.offset, wrong)
            self.assertEqual(driven.output, b"LEKTR\0\0\0Expected a LEKT handshake\0\0\0")
        driven.finish(ending)
        self.client([data]).finish(ending)

    @given(data=truncations(b"".join(FROM_CLIENT)), ending=endings)
    @settings(deadline=None, max_examples=100)
    def test_truncated_session(self, data: bytes, ending: str) -> None:
        """COM-3: the beginning of a good session is no violation; how it then ends is said once."""
        driven = self.server([data])
        self.assertIsNone(driven.ended)
        driven.finish(ending)
        self.assertIsNotNone(driven.ended)
        self.check_server(driven, by_itself=ending in ("deadline", "close"))
