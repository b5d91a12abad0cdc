"""Tests of :mod:`connectd.sansio`, on the toy protocol's machine."""

from __future__ import annotations

import ast
import inspect
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd import sansio, wire
from connectd.sansio import (
    AFTER_ACCEPTANCE,
    BEFORE_ACCEPTANCE,
    DatagramMachine,
    Ended,
    Established,
    Event,
    LocalProtocolError,
    Machine,
    Outcome,
    ProtocolError,
    Received,
    RemoteProtocolError,
)
from tests.toy import (
    NOW,
    AskRequested,
    Line,
    LoginRequested,
    StreamRequested,
    ToyMachine,
    ToySettings,
)


class VocabularyTests(SynchronousTestCase):
    def test_outcomes(self) -> None:
        """COM-7: the outcomes before and after acceptance, by name."""
        self.assertEqual(
            {outcome.value for outcome in BEFORE_ACCEPTANCE},
            {"refused", "malformed", "limited", "banned", "timeout", "aborted", "shutdown"},
        )
        self.assertEqual(
            {outcome.value for outcome in AFTER_ACCEPTANCE},
            {"left", "lost", "kicked", "timeout", "malformed", "failed", "shutdown"},
        )
        self.assertEqual(BEFORE_ACCEPTANCE | AFTER_ACCEPTANCE, set(Outcome))

    def test_errors(self) -> None:
        error = RemoteProtocolError("bad port 0", 12)
        self.assertEqual((error.reason, error.told, error.offset), ("bad port 0", "bad port 0", 12))
        self.assertEqual((error.outcome, str(error)), (Outcome.MALFORMED, "bad port 0"))
        error = RemoteProtocolError("version 9", 5, told="Too new", outcome=Outcome.REFUSED)
        self.assertEqual((error.told, error.outcome), ("Too new", Outcome.REFUSED))
        for kind in (RemoteProtocolError, LocalProtocolError):
            self.assertTrue(issubclass(kind, ProtocolError))

    def test_pure(self) -> None:
        """What machines are made of imports nothing that could reach a socket."""
        for module in (sansio, wire):
            tree = ast.parse(inspect.getsource(module))
            names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
            names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            allowed = {"__future__", "abc", "enum", "os", "collections", "typing", "attrs", "struct"}
            self.assertEqual({name.partition(".")[0] for name in names} - allowed, set())

    def test_abstract(self) -> None:
        for kind in (Machine, DatagramMachine):
            make: Any = kind
            self.assertRaises(TypeError, make)


class MachineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.machine = ToyMachine(ToySettings(), now=NOW)

    def accepted(self) -> ToyMachine:
        self.machine.receive_data(b"LOGIN ann right\n", NOW)
        self.machine.accept("ann", NOW)
        self.machine.data_to_send()
        return self.machine

    def ended(self, events: list[Event]) -> Ended:
        """The last event, which is the end; nothing comes after it."""
        last = events[-1]
        assert isinstance(last, Ended)
        machine = self.machine
        self.assertTrue(machine.ended)
        self.assertIsNone(machine.deadline())
        self.assertIsNone(machine.decision)
        self.assertEqual(machine.receive_data(b"LOGIN ann right\n", NOW), [])
        self.assertEqual(machine.end_of_stream(NOW), [])
        self.assertEqual(machine.handle_deadline(NOW + 1e6), [])
        self.assertEqual(machine.close(Outcome.KICKED, "again", NOW), [])
        self.assertRaises(LocalProtocolError, machine.refuse, "again", NOW)
        self.assertRaises(LocalProtocolError, machine.accept, "ann", NOW)
        return last

    def test_turns(self) -> None:
        """COM-2: a step that was much work ends the turn; the next goes on where it ended, and nobody else does."""
        machine = ToyMachine(ToySettings(), now=NOW)
        machine.receive_data(b"LOGIN a b\n", NOW)
        machine.accept("a", NOW)
        self.assertEqual(machine.turn(NOW), [])
        self.assertEqual(len(machine.receive_data(b"WORK 1\nWORK 2\nx\n", NOW)), 1)
        self.assertTrue(machine.wants_turn)
        self.assertEqual(machine.held, len(b"WORK 2\nx\n"))
        self.assertEqual(machine.turn(NOW), [Received(Line(b"WORK 2"))])
        self.assertEqual(machine.turn(NOW), [Received(Line(b"x"))])
        self.assertFalse(machine.wants_turn)
        machine.receive_data(b"WORK 1\nx\n", NOW)
        machine.close(Outcome.KICKED, "enough", NOW)
        self.assertFalse(machine.wants_turn)
        self.assertEqual(machine.turn(NOW), [])

    def test_beginning(self) -> None:
        machine = self.machine
        self.assertEqual((machine.data_to_send(), machine.established, machine.ended), (b"", False, False))
        self.assertEqual(machine.deadline(), NOW + 30.0)
        self.assertIsNone(machine.decision)
        self.assertTrue(machine.wants_data)

    def test_decision(self) -> None:
        """At most one Decision is open; until its verb input is held, not parsed."""
        machine = self.machine
        events = machine.receive_data(b"LOGIN ann right\nLOGIN bob x\nhello\nSTREAM 2\nlater\n", NOW)
        self.assertEqual(events, [LoginRequested("ann", b"right")])
        self.assertEqual(machine.decision, events[0])
        self.assertEqual(machine.receive_data(b"more\n", NOW), [])
        self.assertEqual(machine.data_to_send(), b"")
        events = machine.accept("ann", NOW)
        self.assertEqual(
            events, [Established(), Received(Line(b"LOGIN bob x")), Received(Line(b"hello")), StreamRequested(2)]
        )
        self.assertEqual(machine.data_to_send(), b"WELCOME ann\nSTREAMING 2\n")
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(machine.streamed(None, NOW), [Received(Line(b"later")), Received(Line(b"more"))])
        self.assertIsNone(machine.decision)

    def test_verbs_at_the_wrong_time(self) -> None:
        """Our own misuse is raised to us, and changes nothing."""
        machine = self.machine
        self.assertRaises(LocalProtocolError, machine.accept, "ann", NOW)
        self.assertRaises(LocalProtocolError, machine.refuse, "no", NOW)
        self.assertRaises(LocalProtocolError, machine.send, b"x", NOW)
        machine.receive_data(b"LOGIN ann right\n", NOW)
        error = self.assertRaises(LocalProtocolError, machine.streamed, None, NOW)
        self.assertEqual(str(error), "streamed: no StreamRequested is open")
        self.assertIsInstance(machine.decision, LoginRequested)
        machine.accept("ann", NOW)
        self.assertRaises(LocalProtocolError, machine.accept, "ann", NOW)
        self.assertFalse(machine.ended)

    def test_refuse(self) -> None:
        """COM-12: a refusal answers any Decision, in the protocol's words."""
        self.machine.receive_data(b"LOGIN ann right\n", NOW)
        end = self.ended(self.machine.refuse("No room", NOW, Outcome.LIMITED))
        self.assertEqual(end, Ended(Outcome.LIMITED, "No room"))
        self.assertEqual(self.machine.data_to_send(), b"NO No room\n")

    def test_refuse_a_session(self) -> None:
        """COM-7: an accepted session has an outcome that sessions have, whatever its refusal says."""
        for asked, counted in (
            (Outcome.REFUSED, Outcome.FAILED),
            (Outcome.BANNED, Outcome.FAILED),
            (Outcome.KICKED, Outcome.KICKED),
        ):
            self.setUp()
            machine = self.accepted()
            self.assertEqual(machine.receive_data(b"ASK x\n", NOW), [AskRequested(b"x")])
            self.assertEqual(self.ended(machine.refuse("No", NOW, asked)), Ended(counted, "No"))

    def test_close(self) -> None:
        """COM-12: an end of ours says nothing where the protocol allows no word yet."""
        self.assertEqual(self.ended(self.machine.close(Outcome.SHUTDOWN, "Bye", NOW)), Ended(Outcome.SHUTDOWN, "Bye"))
        self.assertEqual(self.machine.data_to_send(), b"")

    def test_close_a_session(self) -> None:
        machine = self.accepted()
        machine.send(Line(b"first"), NOW)
        machine.send(b"second\n", NOW)
        self.assertEqual(self.ended(machine.close(Outcome.KICKED, "Out", NOW)), Ended(Outcome.KICKED, "Out"))
        self.assertEqual(machine.data_to_send(), b"first\nsecond\nBYE Out\n")

    def test_malformed(self) -> None:
        """COM-3: bad input ends the machine with a refusal and the offset in all that was sent."""
        machine = self.accepted()
        machine.receive_data(b"fine\n", NOW)
        end = self.ended(machine.receive_data(b"fine\n\xff\nnever\n", NOW))
        self.assertEqual(end, Ended(Outcome.MALFORMED, "a line that is empty or not ASCII", 26))
        self.assertEqual(machine.data_to_send(), b"BYE a line that is empty or not ASCII\n")

    def test_events_before_the_fault(self) -> None:
        """COM-3: what was well-formed before the fault is told first."""
        machine = self.accepted()
        events = machine.receive_data(b"one\ntwo\n\xff\n", NOW)
        self.assertEqual(events[:2], [Received(Line(b"one")), Received(Line(b"two"))])
        self.assertEqual(self.ended(events).offset, len(b"LOGIN ann right\none\ntwo\n"))

    def test_deadline(self) -> None:
        """COM-1: it does not move with what comes in, and nothing happens before its time."""
        machine = self.machine
        for second in range(30):
            machine.receive_data(b"x", NOW + second)
            self.assertEqual(machine.deadline(), NOW + 30)
            self.assertEqual(machine.handle_deadline(NOW + second), [])
        end = self.ended(machine.handle_deadline(NOW + 30))
        self.assertEqual(end, Ended(Outcome.TIMEOUT, "Handshake took too long"))
        self.assertEqual(machine.data_to_send(), b"NO Handshake took too long\n")

    def test_no_deadline(self) -> None:
        self.assertEqual(self.accepted().handle_deadline(NOW + 1e6), [])

    def test_end_of_stream(self) -> None:
        """COM-7: aborted before acceptance; after it left, or lost in the middle of something."""
        cases = [
            (b"LOG", True, Outcome.ABORTED),
            (b"", False, Outcome.ABORTED),
            (b"LOGIN ann right\n", True, Outcome.ABORTED),
        ]
        for data, clean, outcome in cases:
            self.setUp()
            self.machine.receive_data(data, NOW)
            self.assertEqual(self.ended(self.machine.end_of_stream(NOW, clean=clean)).outcome, outcome)
            self.assertEqual(self.machine.data_to_send(), b"")
        for data, clean, outcome in [
            (b"", True, Outcome.LEFT),
            (b"", False, Outcome.LOST),
            (b"half a li", True, Outcome.LOST),
        ]:
            self.setUp()
            self.accepted().receive_data(data, NOW)
            self.assertEqual(self.ended(self.machine.end_of_stream(NOW, clean=clean)).outcome, outcome)

    def test_held_input(self) -> None:
        """COM-2: no more is wanted once enough is held for an open Decision; afterwards it is again."""
        machine = self.machine
        machine.receive_data(b"LOGIN ann right\n", NOW)
        line = b"0123456\n"
        for _ in range(ToyMachine.held_limit // len(line)):
            self.assertTrue(machine.wants_data)
            machine.receive_data(line, NOW)
        self.assertFalse(machine.wants_data)
        self.assertEqual(len(machine.accept("ann", NOW)), 1 + ToyMachine.held_limit // len(line))
        self.assertTrue(machine.wants_data)

    def test_input_is_let_go(self) -> None:
        """COM-2: a machine that has ended holds nothing of the peer's."""
        machine = self.machine
        machine.receive_data(b"LOGIN ann right\n" + bytes(5000), NOW)
        machine.close(Outcome.SHUTDOWN, "Bye", NOW)
        self.assertEqual(len(machine._input), 0)

    def test_no_messages(self) -> None:
        """A protocol without messages says so to who would send one."""

        class Silent(Machine):
            __slots__ = ()

            def _step(self, now: float) -> list[Event] | None:
                return None

        machine = Silent(now=NOW, handshake_timeout=1.0)
        error = self.assertRaises(LocalProtocolError, machine.send, b"x", NOW)
        self.assertEqual(str(error), "Silent carries no messages from a handler")
        machine.close(Outcome.SHUTDOWN, "Bye", NOW)
        self.assertEqual(machine.data_to_send(), b"")

    def test_steps_without_events(self) -> None:
        """What means nothing by itself is read past."""

        class Patient(Machine):
            __slots__ = ()

            def _step(self, now: float) -> list[Event] | None:
                if not self._input:
                    return None
                self._consume(1)
                return []

        machine = Patient(now=NOW, handshake_timeout=1.0)
        self.assertEqual(machine.receive_data(b"abc", NOW), [])
        self.assertEqual((len(machine._input), machine._consumed), (0, 3))

    @settings(deadline=None, max_examples=80)
    @given(st.data())
    def test_segmentation(self, data: st.DataObject) -> None:
        """COM-3: in whatever pieces bytes come, they mean the same, down to the offset of what is wrong."""
        lines = data.draw(st.lists(st.sampled_from([b"hi\n", b"ASK x\n", b"\n", b"STREAM 3\n", b"x" * 30 + b"\n"])))
        stream = b"LOGIN ann right\n" + b"".join(lines)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
        whole = self.drive([stream])
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        self.assertEqual(self.drive(pieces), whole)

    def drive(self, pieces: list[bytes]) -> tuple[list[Event], bytes]:
        """What a machine says to these, every Decision answered."""
        machine = ToyMachine(ToySettings(), now=NOW)
        told: list[Event] = []
        for piece in pieces:
            events = machine.receive_data(piece, NOW)
            while events:
                told += events
                last, events = events[-1], []
                if isinstance(last, LoginRequested):
                    events = machine.accept(last.name, NOW)
                elif isinstance(last, StreamRequested):
                    events = machine.streamed(None, NOW)
                elif isinstance(last, AskRequested):
                    events = machine.answer(last.what, NOW)
        told += machine.end_of_stream(NOW)
        return told, machine.data_to_send()

    @settings(deadline=None, max_examples=150)
    @given(st.lists(st.binary(max_size=40)))
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """COM-3: no input raises, and there is exactly one end, last."""
        told, _ = self.drive(pieces)
        self.assertEqual([isinstance(event, Ended) for event in told], [False] * (len(told) - 1) + [True])

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(
            st.one_of(
                st.tuples(
                    st.just("data"),
                    st.sampled_from([b"LOGIN ann x\n", b"ASK x\n", b"STREAM 1\n", b"hi\n", b"h", b"\n"]),
                ),
                st.tuples(st.just("verb"), st.sampled_from(["accept", "streamed", "answer", "refuse", "send"])),
                st.tuples(st.just("time"), st.integers(0, 20)),
                st.tuples(st.just("end"), st.sampled_from(["close", "lost", "eof"])),
            ),
            max_size=25,
        )
    )
    def test_any_order(self, steps: list[tuple[str, Any]]) -> None:
        """Whatever is done in whatever order: at most one Decision is open, one Established, one end, and only
        LocalProtocolError is raised, only to us."""
        machine = ToyMachine(ToySettings(idle_timeout=30.0), now=NOW)
        now = NOW
        told: list[Event] = []
        for step, what in steps:
            open_before = machine.decision
            try:
                if step == "data":
                    events = machine.receive_data(what, now)
                elif step == "time":
                    now += what
                    events = machine.handle_deadline(now)
                elif what in ("accept", "answer", "refuse"):
                    argument: Any = "text" if what != "answer" else b"text"
                    events = getattr(machine, what)(argument, now)
                elif what == "streamed":
                    events = machine.streamed(None, now)
                elif what == "send":
                    machine.send(b"x", now)
                    events = []
                elif what == "close":
                    events = machine.close(Outcome.SHUTDOWN, "Bye", now)
                else:
                    events = machine.end_of_stream(now, clean=what == "eof")
            except LocalProtocolError:
                self.assertEqual(machine.decision, open_before)
                continue
            told += events
            self.assertEqual(machine.established, Established() in told)
            ends = [event for event in told if isinstance(event, Ended)]
            self.assertEqual(bool(ends), machine.ended)
            if ends:
                self.assertEqual((len(ends), told[-1]), (1, ends[0]))
                self.assertIn(ends[0].outcome, AFTER_ACCEPTANCE if machine.established else BEFORE_ACCEPTANCE)
            self.assertLessEqual(told.count(Established()), 1)
