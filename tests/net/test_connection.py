"""Tests of :mod:`connectd.net.connection`: the adapter between a machine and a transport, on a fake clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from connectd.admission import WRONG_PROOF, AdmissionLimits
from connectd.interfaces import Unavailable
from connectd.net.connection import CLOSE_TIMEOUT, LINGER, Connection, Driver, Peer, Refused
from connectd.net.deadlines import Deadlines
from connectd.net.outgoing import HIGH_WATER
from connectd.sansio import Decision, Ended, Event, Machine, Outcome
from connectd.sessions import HOLD
from connectd.settings import LOOPBACK
from tests.toy import NOW, Bench, BenchCase, FakeTransport, Line, RecordingHandler, ToyMachine, ToySettings


class Boom(Exception):
    """What handlers and checkers fail with here."""


def explode(session: Any, message: Any) -> None:
    raise Boom


class PeerTests(SynchronousTestCase):
    def test_text(self) -> None:
        self.assertEqual(str(Peer("192.0.2.1", 5)), "192.0.2.1:5")
        self.assertEqual(str(Peer("2001:db8::1", 5)), "[2001:db8::1]:5")
        self.assertEqual(str(Peer("", 0)), "unix")

    def test_from_address(self) -> None:
        """COM-5: one spelling for each address, whatever socket it came over."""
        self.assertEqual(Peer.from_address(IPv4Address("TCP", "192.0.2.1", 5)), Peer("192.0.2.1", 5))
        self.assertEqual(Peer.from_address(IPv6Address("TCP", "::ffff:192.0.2.1", 5)), Peer("192.0.2.1", 5))
        self.assertEqual(Peer.from_address(IPv6Address("TCP", "::ffff:192.0.2.1%lo", 5)), Peer("192.0.2.1", 5))
        self.assertEqual(Peer.from_address(IPv6Address("TCP", "::ffff:0:0:1", 5)), Peer("::ffff:0:0:1", 5))
        self.assertEqual(Peer.from_address(IPv6Address("TCP", "2001:db8::1", 5)), Peer("2001:db8::1", 5))
        self.assertEqual(Peer.from_address(UNIXAddress(None)), Peer("", 0))

    def test_is_within(self) -> None:
        """COM-5: who counts as trusted."""
        self.assertTrue(Peer("127.9.9.9", 1).is_within(LOOPBACK))
        self.assertTrue(Peer("::1", 1).is_within(LOOPBACK))
        self.assertTrue(Peer("", 0).is_within(()))
        self.assertFalse(Peer("192.0.2.1", 1).is_within(LOOPBACK))
        self.assertFalse(Peer("fe80::1%eth0", 1).is_within(LOOPBACK))


class OutcomeTests(BenchCase):
    """COM-7: one ``accepted`` for each session, exactly one outcome for each connection (the bench counts)."""

    def ended(self, bench: Bench, outcome: Outcome, reason: str) -> dict[str, Any]:
        event = bench.checker.last
        self.assertEqual((event["event"], event["outcome"], event["reason"]), ("ended", outcome.value, reason))
        return event

    def test_accepted(self) -> None:
        bench = self.bench()
        transport = bench.login()
        self.assertEqual(transport.received, b"WELCOME ann\n")
        self.assertEqual(
            bench.checker.events,
            [
                {
                    "event": "accepted",
                    "time": NOW,
                    "protocol": "toy",
                    "listener": "toy on nothing",
                    "connection": 1,
                    "peer": "192.0.2.1:4000",
                    "name": "ann",
                }
            ],
        )
        (session,) = bench.context.sessions
        self.assertEqual((session.id, session.account, session.protocol, session.since), (1, "ann", "toy", NOW))
        self.assertEqual((session.peer, session.identity), (Peer("192.0.2.1", 4000), {"name": "ann"}))
        self.assertIs(bench.context.sessions.get(1), session)
        self.assertEqual(bench.context.sessions.count("toy"), 1)

    def test_left(self) -> None:
        bench = self.bench()
        transport = bench.login()
        bench.pass_time(2)
        transport.peer_finishes()
        event = self.ended(bench, Outcome.LEFT, "the peer closed the connection")
        self.assertEqual((event["duration"], event["account"]), (2.0, "ann"))
        bench.pump()
        self.assertIsInstance(transport.gone, ConnectionDone)

    def test_left_without_half_close(self) -> None:
        """A transport that knows no half closes says it all at once."""
        bench = self.bench()
        transport = bench.login()
        transport._lost(ConnectionDone())
        self.ended(bench, Outcome.LEFT, "the peer closed the connection")

    def test_lost(self) -> None:
        bench = self.bench()
        transport = bench.login()
        transport.peer_breaks()
        self.ended(bench, Outcome.LOST, "the connection was lost")

    def test_lost_in_a_message(self) -> None:
        bench = self.bench()
        transport = bench.login()
        transport.peer_sends(b"half a li")
        transport.peer_finishes()
        self.ended(bench, Outcome.LOST, "the peer closed in the middle of a message")

    def test_aborted(self) -> None:
        bench = self.bench()
        for end in (FakeTransport.peer_finishes, FakeTransport.peer_breaks):
            transport = bench.open()
            transport.peer_sends(b"LOG")
            end(transport)
            self.ended(bench, Outcome.ABORTED, "the peer went away before it was accepted")

    def test_kicked(self) -> None:
        bench = self.bench()
        transport = bench.login()
        (session,) = bench.context.sessions
        session.kick("Be nice")
        self.ended(bench, Outcome.KICKED, "Be nice")
        session.kick("Really")
        session.send(b"never sent")
        bench.pump()
        self.assertEqual(transport.received, b"WELCOME ann\nBYE Be nice\n")

    def test_refused(self) -> None:
        bench = self.bench()
        transport = bench.login(password=b"wrong")
        self.ended(bench, Outcome.REFUSED, WRONG_PROOF)
        self.assertEqual(transport.received, b"NO %s\n" % WRONG_PROOF.encode())

    def test_limited(self) -> None:
        """COM-4: one session more than there is room for, in the protocol's words."""
        bench = self.bench(max_sessions=1)
        bench.login()
        transport = bench.login(b"bob", b"also right")
        self.ended(bench, Outcome.LIMITED, "The server is full")
        self.assertEqual(transport.received, b"NO The server is full\n")

    def test_room_again(self) -> None:
        """COM-4: a session that ended leaves its place to another."""
        bench = self.bench(max_sessions=1)
        bench.login().peer_finishes()
        self.assertEqual(bench.login().received, b"WELCOME ann\n")

    def test_banned(self) -> None:
        """COM-4: a banned account is refused after the exchange, with the protocol's words."""
        bench = self.bench(banned=("ann",))
        transport = bench.login()
        self.ended(bench, Outcome.BANNED, "This account is banned")
        self.assertEqual(transport.received, b"NO This account is banned\n")

    def test_shutdown(self) -> None:
        bench = self.bench()
        for transport in (bench.open(), bench.login()):
            bench.connection(transport).close(Outcome.SHUTDOWN, "Good night")
            self.ended(bench, Outcome.SHUTDOWN, "Good night")

    def test_failed(self) -> None:
        bench = self.bench()
        bench.login()
        (session,) = bench.context.sessions
        session.fail("The service failed")
        self.ended(bench, Outcome.FAILED, "The service failed")

    def test_all_outcomes(self) -> None:
        """COM-7: every outcome there is can happen, and is counted per protocol."""
        bench = self.bench(max_sessions=1, banned=("bob",), idle_timeout=5.0)
        bench.login(b"bob", b"also right")
        bench.login(b"bob", b"wrong")
        bench.open().peer_finishes()
        bench.open().peer_sends(b"\xff\n")
        bench.open()
        bench.pass_time(31)
        bench.login()
        bench.open().peer_sends(b"LOGIN ann right\n")
        bench.pass_time(6)
        for outcome in (Outcome.KICKED, Outcome.FAILED, Outcome.SHUTDOWN):
            bench.connection(bench.login()).close(outcome, "so be it")
        bench.login().peer_finishes()
        bench.login().peer_breaks()
        self.assertEqual({outcome for _, outcome in bench.events.outcomes}, {outcome.value for outcome in Outcome})
        self.assertEqual(bench.events.outcomes["toy", "timeout"], 2)
        self.assertEqual(bench.events.accepted["toy"], 6)

    @settings(deadline=None, max_examples=150)
    @given(
        st.sampled_from(["hold", "record", "raise", "kick", "pause", "later", "never"]),
        st.lists(
            st.one_of(
                st.tuples(
                    st.just("peer_sends"),
                    st.sampled_from(
                        [
                            b"LOGIN ann right\n",
                            b"LOGIN bob wrong\n",
                            b"LOGIN ann right\nhi\nSTREAM 900000\nASK x\n",
                            b"STREAM 700000\n",
                            b"ASK x\n" * 9,
                            b"hi\n",
                            b"hi\nhi\n\xff\n",
                            b"\xff\n",
                            b"h",
                        ]
                    ),
                ),
                st.tuples(st.just("peer_takes"), st.sampled_from([1, 300_000, None])),
                st.tuples(st.just("pass_time"), st.sampled_from([0.25, 3, 12, 31])),
                st.tuples(st.just("session"), st.sampled_from(["kick", "fail", "pause", "resume", "send", "flood"])),
                st.tuples(st.just("end"), st.sampled_from(["finishes", "breaks", "drain", "abort", "opened"])),
            ),
            max_size=14,
        ),
    )
    def test_any_life(self, handling: str, steps: list[tuple[str, Any]]) -> None:
        """COM-7: whatever happens in whatever order, each connection has one outcome of the right kind, its handler
        is told it once, and nothing is left."""
        opening: Deferred[None] | None = Deferred() if handling in ("later", "never") else None
        actions: dict[str, Callable[[Any, Any], None]] = {
            "raise": explode,
            "kick": lambda session, message: session.kick("Enough"),
            "pause": lambda session, message: session.pause(),
        }
        handler: Any = HOLD if handling == "hold" else RecordingHandler(actions.get(handling), opening)
        bench = Bench(handler=handler, stall_timeout=10.0, idle_timeout=60.0)
        transport = bench.open(window=12)
        for step, what in steps:
            sessions = list(bench.context.sessions)
            if step == "peer_sends" and transport.open:
                transport.peer_sends(what)
            elif step == "peer_takes":
                transport.peer_takes(what)
            elif step == "pass_time":
                bench.pass_time(what)
            elif step == "session":
                for session in sessions:
                    arguments: dict[str, list[Any]] = {"kick": ["Out"], "fail": ["Oh"], "send": [b"x\n"]}
                    if what == "flood":
                        session.send(bytes(300_000))
                    else:
                        getattr(session, what)(*arguments.get(what, []))
            elif what == "drain":
                bench.listener.drain(5.0)
            elif what == "abort":
                for connection in list(bench.listener.connections):
                    connection.abort()
            elif what == "opened" and handling == "later" and opening is not None and not opening.called:
                opening.callback(None)
            elif what == "finishes":
                transport.peer_finishes()
            elif what == "breaks":
                transport.peer_breaks()
            bench.pump()
        bench.close()
        for receiver in getattr(handler, "receivers", []):
            if handling not in ("later", "never"):
                self.assertEqual([outcome.value for outcome in receiver.outcomes], bench.checker.outcomes())
        self.flushLoggedErrors(Boom)

    def test_bytes_after_the_end(self) -> None:
        bench = self.bench()
        transport = bench.open()
        transport.peer_sends(b"\xff\n")
        transport.peer_sends(b"LOGIN ann right\n")
        bench.pump()
        self.assertEqual(bench.checker.outcomes(), ["malformed"])

    def test_who_is_left_behind(self) -> None:
        """An end in the middle of a batch: the rest of it is not handed out, and the handler is told once."""
        handler = RecordingHandler(lambda session, message: session.kick("Enough"))
        bench = self.bench(handler=handler)
        transport = bench.login()
        transport.peer_sends(b"one\ntwo\nthree\n")
        (receiver,) = handler.receivers
        self.assertEqual((receiver.messages, receiver.outcomes), ([Line(b"one")], [Outcome.KICKED]))
        self.ended(bench, Outcome.KICKED, "Enough")


class TimeTests(BenchCase):
    def test_one_deadline(self) -> None:
        """COM-1: a peer that dribbles bytes does not extend the time to the accepted session."""
        bench = self.bench()
        transport = bench.open()
        for byte in b"LOGIN ann right"[:14]:
            transport.peer_sends(bytes([byte]))
            bench.pass_time(2)
        self.assertEqual(bench.checker.outcomes(), [])
        bench.pass_time(1.75)
        self.assertEqual(bench.checker.outcomes(), [])
        transport.peer_sends(b"r")
        bench.pass_time(0.5)
        self.assertEqual((bench.checker.outcomes(), bench.checker.last["duration"]), (["timeout"], 30.0))
        self.assertEqual(transport.received, b"NO Handshake took too long\n")

    def test_silent_peer(self) -> None:
        """COM-1, COM-12: on expiry a plain close, where the protocol allows no word yet."""
        bench = self.bench(handshake_timeout=3.0)
        transport = bench.open()
        bench.pass_time(3)
        self.assertEqual((bench.checker.outcomes(), transport.received), (["timeout"], b""))
        self.assertIsInstance(transport.gone, ConnectionDone)

    def test_deadline_while_deciding(self) -> None:
        """COM-1: the proof is part of what the deadline covers; its verification is cancelled."""
        bench = self.bench(handshake_timeout=3.0)
        pending: list[Deferred[None]] = []
        bench.accounts.pending = pending
        transport = bench.login()
        self.assertFalse(pending[0].called)
        bench.pass_time(3)
        self.assertEqual(transport.received, b"NO Handshake took too long\n")
        self.assertTrue(pending[0].called)
        self.assertEqual(bench.accounts.work, 0)

    def test_deadline_ends_with_acceptance(self) -> None:
        """COM-1: the deadline is over once the session is accepted."""
        bench = self.bench()
        bench.login()
        bench.pass_time(40)
        self.assertEqual(bench.checker.outcomes(), [])
        self.assertEqual(len(bench.listener.deadlines), 0)

    def test_moving_deadline(self) -> None:
        """A deadline that moves on is met where it went, with one place in the heap."""
        bench = self.bench(idle_timeout=5.0)
        transport = bench.login()
        for _ in range(20):
            bench.pass_time(1)
            transport.peer_sends(b"still here\n")
            self.assertEqual(len(bench.listener.deadlines), 1)
        bench.pass_time(4.75)
        self.assertEqual(bench.checker.outcomes(), [])
        bench.pass_time(0.5)
        self.assertEqual(transport.received, b"WELCOME ann\nBYE Idle for too long\n")

    def test_earlier_deadline(self) -> None:
        """The deadline of the session lies before that of the handshake: the earlier one counts."""
        bench = self.bench(idle_timeout=2.0)
        bench.login()
        bench.pass_time(2.25)
        self.assertEqual(bench.checker.outcomes(), ["timeout"])


class MalformedTests(BenchCase):
    def test_offset(self) -> None:
        """COM-3: the event says what was wrong at which offset of all that the peer sent."""
        bench = self.bench()
        transport = bench.login()
        for part in (b"fi", b"ne\n", b"\xe4\n"):
            transport.peer_sends(part)
        event = bench.checker.last
        self.assertEqual((event["outcome"], event["offset"]), ("malformed", len(b"LOGIN ann right\nfine\n")))
        self.assertEqual(event["reason"], "a line that is empty or not ASCII")
        bench.pump()
        self.assertEqual(transport.received, b"WELCOME ann\nBYE a line that is empty or not ASCII\n")

    def test_told(self) -> None:
        """COM-3: the peer may be told less than the operator."""
        bench = self.bench()
        transport = bench.login(b"ann", b"")
        self.assertEqual(transport.received, b"NO What?\n")
        self.assertEqual(bench.checker.last["reason"], "LOGIN without a name and a password")

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([b"LOGIN ann right\n", b"STREAM 3\n"]))))
    def test_any_bytes(self, parts: list[bytes]) -> None:
        """COM-3: no input raises, logs a traceback or affects another session; each connection has one outcome."""
        bench = Bench()
        other = bench.login(b"bob", b"also right")
        with capturedLogs() as logs:
            transport = bench.open()
            for part in parts:
                transport.peer_sends(part)
            bench.pump()
            transport.peer_finishes()
            bench.pump()
        self.assertEqual([event for event in logs if event["log_level"] >= LogLevel.warn], [])
        self.assertEqual(len(bench.checker.outcomes()), 1)
        other.peer_sends(b"STREAM 2\n")
        bench.pump()
        self.assertTrue(other.received.endswith(b"STREAMING 2\n\0\0DONE\n"))
        bench.close()

    def test_long_line(self) -> None:
        """COM-2: a line is no longer than the cap, wherever the reads cut it."""
        for parts in ([b"x" * 2000], [b"x" * 500] * 4, [b"x" * 1024, b"\n"]):
            bench = self.bench()
            transport = bench.open()
            for part in parts:
                transport.peer_sends(part)
            malformed = parts[-1] != b"\n"
            reason = "a line without an end" if malformed else "something else than LOGIN"
            self.assertEqual(bench.checker.last["reason"], reason)

    def test_held_input(self) -> None:
        """COM-2: while a Decision is open no more is held than the limit and one read; then the peer is paused."""
        bench = self.bench()
        pending: list[Deferred[None]] = []
        bench.accounts.pending = pending
        transport = bench.login()
        machine = bench.connection(transport).machine
        for _ in range(40):
            transport.peer_sends(b"message\n" * 128)
        self.assertFalse(transport.reading)
        held = len(machine._input)
        self.assertLess(held, ToyMachine.held_limit + 1024)
        self.assertGreaterEqual(held, ToyMachine.held_limit)
        handler = RecordingHandler()
        bench.listener.handler = handler
        pending[0].callback(None)
        bench.pump()
        self.assertTrue(transport.reading)
        self.assertEqual(len(handler.receivers[0].messages), 40 * 128)


class RefusalTests(BenchCase):
    """COM-12: a refusal is sent only in a state in which the protocol allows it."""

    def test_before_the_first_byte(self) -> None:
        """COM-12: no word before the toy protocol allows one."""
        bench = self.bench()
        transport = bench.open()
        bench.connection(transport).close(Outcome.SHUTDOWN, "Good night")
        bench.pump()
        self.assertEqual((transport.received, type(transport.gone)), (b"", ConnectionDone))

    def test_after_the_first_byte(self) -> None:
        """COM-12: the protocol's word where it allows one."""
        bench = self.bench()
        transport = bench.open()
        transport.peer_sends(b"L")
        bench.connection(transport).close(Outcome.SHUTDOWN, "Good night")
        bench.pump()
        self.assertEqual((transport.received, transport.read_end), (b"NO Good night\n", True))


class SecretTests(BenchCase):
    def test_nowhere(self) -> None:
        """COM-9: the password is in no event, log line or repr, whatever happens to the proof."""
        secret = b"xyzzy-plugh"
        bench = self.bench()
        with capturedLogs() as logs:
            bench.login(password=secret)
            bench.login(name=b"nobody", password=secret)
            pending: list[Deferred[None]] = []
            bench.accounts.pending = pending
            bench.login(password=secret)
            pending[0].errback(Boom())
            bench.login(password=secret).peer_breaks()
            transport = bench.login(password=secret)
            decision = bench.connection(transport).machine.decision
        self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)
        text = repr(bench.checker.events) + repr(decision) + repr(bench.connection(transport).machine)
        for event in logs:
            failure = event.get("log_failure")
            text += formatEvent(event) + repr(event) + (failure.getTraceback() if failure is not None else "")
        self.assertIn("LoginRequested", text)
        self.assertNotIn("xyzzy", text)
        self.assertNotIn("xyzzy", repr(bench.listener.settings))


class ProofTests(BenchCase):
    def answer(self, bench: Bench, name: bytes, password: bytes = b"wrong", host: str = "192.0.2.1") -> bytes:
        """What a peer is told at once."""
        return bench.login(name, password, host=host).received

    def test_indistinguishable(self) -> None:
        """COM-10: an unknown account and a wrong proof: the same reply, the same work, the same time."""
        bench = self.bench()
        seen = []
        for name in (b"ann", b"nobody"):
            before = bench.accounts.work
            transport = bench.login(name, b"wrong")
            seen.append(
                (transport.received, transport.read_end, bench.accounts.work - before, bench.checker.outcomes()[-1])
            )
        self.assertEqual(seen[0], seen[1])
        self.assertEqual(seen[0][0], b"NO unknown account or wrong proof\n")

    def test_delays(self) -> None:
        """COM-11: from the 5th failure of one (source, account) on, answers wait 1, 2, 4, 8, 16, 30 seconds."""
        bench = self.bench(handshake_timeout=100.0)
        waits = []
        for _ in range(12):
            transport = bench.login(password=b"wrong")
            waited = 0.0
            while not transport.received:
                bench.pass_time(0.5)
                waited += 0.5
            waits.append(waited)
        self.assertEqual(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30, 30])
        self.assertNotEqual(self.answer(bench, b"bob"), b"")
        self.assertNotEqual(self.answer(bench, b"ann", host="198.51.100.1"), b"")

    def test_live_sessions(self) -> None:
        """COM-11: failures of their source do not touch sessions that are in."""
        bench = self.bench()
        transport = bench.login()
        for number in range(30):
            bench.login(b"nobody%d" % number, b"wrong")
        transport.peer_sends(b"STREAM 1\n")
        bench.pump()
        self.assertTrue(transport.received.endswith(b"DONE\n"))

    def test_shut_out(self) -> None:
        """COM-11: a source that failed too often gets the wrong-proof reply unverified, but for accounts it knows."""
        bench = self.bench()
        self.assertEqual(self.answer(bench, b"ann", b"right"), b"WELCOME ann\n")
        for number in range(20):
            self.answer(bench, b"nobody%d" % number)
        work = bench.accounts.work
        self.assertEqual(self.answer(bench, b"bob", b"also right"), b"NO unknown account or wrong proof\n")
        self.assertEqual(bench.accounts.work, work)
        self.assertEqual(self.answer(bench, b"ann", b"right"), b"WELCOME ann\n")
        self.assertEqual(self.answer(bench, b"bob", b"also right", "198.51.100.1"), b"WELCOME bob\n")
        bench.pass_time(600, 5)
        self.assertEqual(self.answer(bench, b"bob", b"also right"), b"WELCOME bob\n")

    def test_only_proofs_count(self) -> None:
        """COM-11: bad input, hanging up and a full server are no failed proofs."""
        bench = self.bench(max_sessions=1)
        bench.accounts.pending = []
        for _ in range(30):
            bench.open().peer_sends(b"\xff\n")
            bench.login(password=b"wrong").peer_breaks()
        bench.accounts.pending = None
        self.assertEqual(self.answer(bench, b"ann", b"right"), b"WELCOME ann\n")

    def test_hanging_up_while_waiting(self) -> None:
        """COM-11: who hangs up before the answer to the right proof leaves no session and no success."""
        bench = self.bench()
        for _ in range(4):
            bench.login(password=b"wrong")
        bench.login(password=b"wrong").peer_breaks()
        transport = bench.login()
        self.assertEqual(transport.received, b"")
        transport.peer_breaks()
        bench.pass_time(60)
        self.assertEqual(bench.events.accepted["toy"], 0)
        self.assertEqual(bench.clock.getDelayedCalls(), [bench.listener.deadlines._loop.call])


class AdmissionTests(BenchCase):
    """COM-4: before the first protocol byte, and without one."""

    def test_denied(self) -> None:
        """COM-4: a denied address gets no byte."""
        from ipaddress import ip_network

        bench = self.bench(limits=AdmissionLimits(deny=(ip_network("192.0.2.0/24"),)))
        self.assertIsNone(bench.connect("192.0.2.9"))
        self.assertIsNotNone(bench.connect("198.51.100.9"))
        self.assertEqual(bench.checker.events[0]["outcome"], "banned")
        self.assertEqual(bench.checker.events[0]["peer"], "192.0.2.9:4000")

    def test_limits(self) -> None:
        """COM-4: per source and in total; a connection that is gone makes room."""
        bench = self.bench(limits=AdmissionLimits(connection_rate=0, connections_per_source=2, max_connections=3))
        first = bench.open(host="2001:db8::1")
        self.assertIsNotNone(bench.connect("2001:db8::2"))
        self.assertIsNone(bench.connect("2001:db8::3"))
        self.assertIsNotNone(bench.connect("2001:db8:0:1::3"))
        self.assertIsNone(bench.connect("192.0.2.1"))
        first.peer_finishes()
        bench.pump()
        self.assertIsNotNone(bench.connect("2001:db8::3"))
        self.assertEqual(bench.checker.outcomes(), ["limited", "limited", "aborted"])

    def test_rate(self) -> None:
        """COM-4: a source connects no faster than its rate."""
        bench = self.bench(limits=AdmissionLimits(connection_rate=1.0, connection_burst=2.0))
        self.assertEqual([bench.connect() is None for _ in range(3)], [False, False, True])
        bench.pass_time(1)
        self.assertEqual([bench.connect() is None for _ in range(2)], [False, True])

    def test_policy_that_fails(self) -> None:
        """COM-4: a policy that cannot be evaluated refuses."""
        bench = self.bench()

        def bans(host: str) -> str | None:
            raise Boom

        bench.admission._bans = bans
        self.assertIsNone(bench.connect())
        self.assertEqual(bench.checker.outcomes(), ["refused"])

    def test_machine_that_cannot_be_made(self) -> None:
        """A mistake of ours at the door leaves nothing counted."""
        bench = self.bench()
        bench.sockets -= 1

        def broken(peer: Peer, now: float) -> ToyMachine:
            raise Boom

        bench.listener.make_machine = broken  # type: ignore[method-assign]
        self.assertRaises(Boom, bench.connect)
        self.assertEqual(bench.admission.open_connections, 0)


class BackpressureTests(BenchCase):
    """COM-6: who does not read is not written to without bound, is paused, and then dropped."""

    def test_paused(self) -> None:
        """COM-6: past the high-water mark the peer's own input is paused, and taken again once there is room."""
        bench = self.bench()
        transport = bench.login(window=100)
        (session,) = bench.context.sessions
        session.send(bytes(HIGH_WATER - 1000))
        self.assertTrue(transport.reading)
        self.assertTrue(session.drained().called)
        session.send(bytes(2000))
        self.assertFalse(transport.reading)
        drained = session.drained()
        self.assertNoResult(drained)
        transport.peer_takes(HIGH_WATER)
        bench.pump()
        self.assertNoResult(drained)
        transport.peer_takes(None)
        bench.pump()
        self.assertIsNone(self.successResultOf(drained))
        self.assertTrue(transport.reading)

    def test_stream(self) -> None:
        """COM-6: a pull loop that awaits drained() never has much more waiting than the mark."""
        bench = self.bench()
        transport = bench.login(window=12)
        transport.peer_sends(b"STREAM 2000000\n")
        bench.pump()
        for _ in range(8):
            transport.peer_takes(400_000)
            bench.pump(5)
        self.assertEqual(bench.listener.streamed, 2_000_000)
        transport.peer_takes(None)
        bench.pump()
        self.assertLessEqual(transport.largest_buffer, HIGH_WATER + bench.listener.settings.part)
        self.assertTrue(transport.received.endswith(b"DONE\n"))
        self.assertEqual(len(transport.received), len(b"WELCOME ann\nSTREAMING 2000000\nDONE\n") + 2_000_000)

    def test_answers_nobody_reads(self) -> None:
        """COM-6: answers to requests that came in one go are not piled up for who does not read."""
        bench = self.bench()
        bench.listener.answers = lambda what: succeed(bytes(10_000))
        transport = bench.login(window=12)
        transport.peer_sends(b"ASK x\n" * 600)
        bench.pump()
        self.assertLess(transport.largest_buffer, HIGH_WATER + 20_000)
        for _ in range(600):
            transport.peer_takes(100_000)
            bench.pump()
        self.assertEqual(len(transport.received), 12 + 600 * 10_001)
        self.assertLess(transport.largest_buffer, HIGH_WATER + 20_000)

    def test_dropped(self) -> None:
        """COM-6: a peer that reads nothing for stall_timeout is dropped, and not before."""
        bench = self.bench()
        transport = bench.login(window=12)
        transport.peer_sends(b"STREAM 2000000\n")
        bench.pump()
        self.assertFalse(transport.reading)
        bench.pass_time(29.75)
        self.assertEqual(bench.checker.outcomes(), [])
        bench.pass_time(0.5)
        self.assertEqual(bench.checker.outcomes(), ["timeout"])
        self.assertEqual(bench.checker.last["reason"], "the peer stopped reading")
        self.assertIsInstance(transport.gone, ConnectionAborted)

    def test_more_writes_are_no_progress(self) -> None:
        """COM-6: that we go on writing does not count as reading."""
        bench = self.bench()
        transport = bench.login(window=12)
        (session,) = bench.context.sessions
        session.send(bytes(HIGH_WATER + 1))
        for _ in range(16):
            session.send(b"more\n")
            bench.pass_time(2)
        self.assertEqual(bench.checker.outcomes(), ["timeout"])
        self.assertIsInstance(transport.gone, ConnectionAborted)

    def test_slow_reader(self) -> None:
        """COM-6: bytes that were acknowledged are progress, even if the buffer never empties."""
        bench = self.bench()
        transport = bench.login(window=12)
        (session,) = bench.context.sessions
        session.send(bytes(HIGH_WATER + 100_000))
        [connection] = bench.listener.connections
        told: list[float] = []
        self.patch(type(connection.machine), "peer_progressed", lambda machine, now: told.append(now))
        for _ in range(10):
            transport.peer_takes(1)
            bench.pass_time(20)
            self.assertFalse(transport.reading)
        self.assertEqual(bench.checker.outcomes(), [])
        # Its machine hears of it, since it hears nothing else.
        self.assertGreaterEqual(len(told), 5)
        bench.pass_time(60)
        self.assertEqual(bench.checker.outcomes(), ["timeout"])

    def test_no_handle(self) -> None:
        """COM-6: where nobody tells what was acknowledged, only an empty buffer is progress."""
        bench = self.bench()
        transport = bench.login(window=12)
        transport.getHandle = object  # type: ignore[method-assign]
        (session,) = bench.context.sessions
        session.send(bytes(HIGH_WATER + 100))
        transport.peer_takes(1)
        bench.pass_time(30.25)
        self.assertEqual(bench.checker.outcomes(), ["timeout"])

    def test_both_deadlines(self) -> None:
        """COM-6: a stalled peer also has its other deadlines."""
        bench = self.bench(idle_timeout=10.0)
        transport = bench.login(window=12)
        (session,) = bench.context.sessions
        session.send(bytes(HIGH_WATER + 100))
        bench.pass_time(10.25)
        self.assertEqual(bench.checker.last["reason"], "Idle for too long")
        self.assertEqual(transport.received, b"WELCOME ann\n")

    def test_kicked_while_stalled(self) -> None:
        """The end of a peer that does not read takes no longer than the close timeout."""
        bench = self.bench()
        transport = bench.login(window=12)
        (session,) = bench.context.sessions
        session.send(bytes(HIGH_WATER + 100))
        drained = session.drained()
        session.kick("Out")
        self.failureResultOf(drained, CancelledError)
        bench.pass_time(CLOSE_TIMEOUT - 0.25)
        self.assertIsNone(transport.gone)
        bench.pass_time(0.5)
        self.assertIsInstance(transport.gone, ConnectionAborted)

    def test_drained_after_the_end(self) -> None:
        """Whoever streams to a session that is over is told so."""
        bench = self.bench()
        transport = bench.login()
        (session,) = bench.context.sessions
        session.kick("Out")
        self.failureResultOf(session.drained(), CancelledError)
        transport.peer_breaks()
        self.failureResultOf(session.drained(), CancelledError)

    def test_handler_pauses(self) -> None:
        """A handler that takes nothing for now: the peer waits, whatever else pauses and resumes it."""
        handler = RecordingHandler(lambda session, message: session.pause())
        bench = self.bench(handler=handler)
        transport = bench.login(window=HIGH_WATER)
        transport.peer_sends(b"one\n")
        self.assertFalse(transport.reading)
        (receiver,) = handler.receivers
        receiver.session.send(bytes(HIGH_WATER + 10))
        transport.peer_takes(None)
        bench.pump()
        self.assertFalse(transport.reading)
        transport.peer_sends(b"two\n")
        self.assertEqual(receiver.messages, [Line(b"one")])
        receiver.session.resume()
        receiver.session.resume()
        bench.pump()
        self.assertEqual(receiver.messages, [Line(b"one"), Line(b"two")])

    def test_producer_without_transport(self) -> None:
        """What the transport says late does no harm."""
        bench = self.bench()
        transport = bench.login()
        connection = bench.connection(transport)
        transport.peer_breaks()
        connection.pauseProducing()
        connection.resumeProducing()
        connection.stopProducing()
        connection.pause()
        connection.resume()
        connection.write(b"nobody")
        connection.abort()
        connection.close(Outcome.KICKED, "nobody")


class DecisionTests(BenchCase):
    def test_recursion(self) -> None:
        """COM-3: however many requests come at once, and are answered at once, the stack does not grow with them."""
        bench = self.bench()
        transport = bench.login()
        transport.peer_sends(b"ASK x\n" * 680)
        bench.pump()
        self.assertEqual(transport.received, b"WELCOME ann\n" + b"x\n" * 680)
        transport.peer_finishes()
        self.assertEqual(bench.checker.outcomes(), ["left"])

    def test_order(self) -> None:
        """What is written past the machine comes after what the machine said before."""
        bench = self.bench()
        transport = bench.login()
        transport.peer_sends(b"STREAM 5\nASK later\n")
        bench.pump()
        self.assertEqual(transport.received, b"WELCOME ann\nSTREAMING 5\n\0\0\0\0\0DONE\nlater\n")

    def test_failure_refuses(self) -> None:
        """COM-4: a decision that fails refuses, never accepts, and says nothing about why."""
        bench = self.bench()
        pending: list[Deferred[None]] = []
        bench.accounts.pending = pending
        transport = bench.login()
        pending[0].errback(Boom("sqlite is on fire"))
        bench.pump()
        self.assertEqual(transport.received, b"NO Internal error\n")
        self.assertEqual((bench.checker.outcomes(), bench.checker.last["reason"]), (["refused"], "Internal error"))
        self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)

    def test_failure_after_acceptance(self) -> None:
        """COM-7: a decision of a session that fails has an outcome that sessions have."""
        for failure in (Boom(), Refused("Not you")):
            bench = self.bench()
            bench.listener.answers = lambda what, failure=failure: fail(failure)  # type: ignore[misc]
            transport = bench.login()
            transport.peer_sends(b"ASK x\n")
            bench.pump()
            self.assertEqual(bench.checker.outcomes(), ["failed"])
        self.assertEqual(transport.received, b"WELCOME ann\nBYE Not you\n")
        self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)

    def test_cancelled_on_loss(self) -> None:
        """A decision nobody waits for any more is cancelled, and its late result does nothing."""
        for cancellable in (True, False):
            bench = self.bench()
            answer: Deferred[bytes] = (
                Deferred() if cancellable else Deferred(lambda deferred: deferred.callback(b"late"))
            )
            bench.listener.answers = lambda what, answer=answer: answer  # type: ignore[misc]
            transport = bench.login()
            transport.peer_sends(b"ASK x\n")
            self.assertFalse(answer.called)
            transport.peer_breaks()
            self.assertTrue(answer.called)
            self.assertEqual(bench.checker.outcomes(), ["lost"])

    def test_cancelled_by_itself(self) -> None:
        """A decision that somebody else cancelled is a failure like any other."""
        bench = self.bench()
        answer: Deferred[bytes] = Deferred()
        bench.listener.answers = lambda what: answer
        bench.login().peer_sends(b"ASK x\n")
        answer.cancel()
        self.assertEqual(bench.checker.outcomes(), ["failed"])
        self.assertEqual(len(self.flushLoggedErrors(CancelledError)), 1)

    def test_lost_while_an_answer_waits_for_room(self) -> None:
        """An answer that waits until the peer reads is dropped with the peer."""
        bench = self.bench()
        bench.listener.answers = lambda what: succeed(bytes(HIGH_WATER))
        transport = bench.login(window=12)
        transport.peer_sends(b"ASK x\n" * 3)
        bench.pump()
        transport.peer_breaks()
        self.assertEqual(bench.checker.outcomes(), ["lost"])

    def test_wrong_verb(self) -> None:
        """Our own misuse of a machine ends that connection: before acceptance as refused, after it as failed."""
        bench = self.bench()
        for transport, outcome in ((bench.open(), "refused"), (bench.login(), "failed")):
            connection = bench.connection(transport)
            connection.call(ToyMachine.accept.__get__(connection.machine), "ann")
            self.assertEqual(bench.checker.outcomes()[-1], outcome)
        from connectd.sansio import LocalProtocolError

        self.assertEqual(len(self.flushLoggedErrors(LocalProtocolError)), 2)

    def test_no_responder(self) -> None:
        """An event that nobody answers is our mistake: it ends the connection, not the daemon."""
        bench = self.bench()

        class Strange(Event):
            pass

        transport = bench.login()
        bench.connection(transport).call(lambda now: [Strange()])
        self.assertEqual(bench.checker.outcomes(), ["failed"])
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)


class TurnTests(BenchCase):
    """COM-2: a machine that makes much of little input shares the reactor with the others."""

    def messages(self, handler: RecordingHandler) -> list[bytes]:
        return [message.text for message in handler.receivers[0].messages]

    def scheduled(self, bench: Bench) -> int:
        """How many turns the reactor is to give."""
        return sum("_take_turn" in str(call) for call in bench.clock.getDelayedCalls())

    def test_turns(self) -> None:
        """What is left waits for another turn of the reactor, the peer's further input waits behind it."""
        handler = RecordingHandler()
        bench = self.bench(handler=handler)
        transport = bench.login()
        transport.peer_sends(b"WORK 1\nWORK 2\nplain\nWORK 3\n")
        self.assertEqual(self.messages(handler), [b"WORK 1"])
        self.assertFalse(transport.reading)
        transport.peer_sends(b"last\n")
        self.assertEqual(self.scheduled(bench), 1)
        with mock.patch.object(ToyMachine, "turn", autospec=True, side_effect=ToyMachine.turn) as turn:
            bench.pump()
        self.assertEqual(turn.call_count, 3)
        self.assertEqual(self.messages(handler), [b"WORK 1", b"WORK 2", b"plain", b"WORK 3", b"last"])
        self.assertTrue(transport.reading)

    def test_handler_pauses(self) -> None:
        """COM-6: a handler that takes nothing for now gets nothing, and the rest once it resumes."""
        handler = RecordingHandler(lambda session, message: session.pause())
        bench = self.bench(handler=handler)
        transport = bench.login()
        session = handler.receivers[0].session
        transport.peer_sends(b"WORK 1\nWORK 2\nWORK 3\n")
        for count in (1, 2, 3):
            bench.pump(5)
            self.assertEqual(len(self.messages(handler)), count)
            self.assertFalse(transport.reading)
            session.resume()
        bench.pump()
        self.assertEqual(len(self.messages(handler)), 3)
        self.assertTrue(transport.reading)

    def test_resumed_before_its_turn(self) -> None:
        """Pausing and resuming meanwhile makes it one turn, not two."""
        handler = RecordingHandler()
        bench = self.bench(handler=handler)
        transport = bench.login()
        session = handler.receivers[0].session
        transport.peer_sends(b"WORK 1\nWORK 2\nWORK 3\n")
        for _ in range(3):
            session.pause()
            session.resume()
        self.assertEqual(self.scheduled(bench), 1)
        self.assertEqual(len(self.messages(handler)), 1)
        bench.pump()
        self.assertEqual(len(self.messages(handler)), 3)

    def test_end_of_the_stream(self) -> None:
        """Who says much and goes is heard to the end."""
        handler = RecordingHandler()
        bench = self.bench(handler=handler)
        transport = bench.login()
        transport.peer_sends(b"WORK 1\nWORK 2\nWORK 3\n")
        transport.peer_finishes()
        bench.pump(8)
        self.assertEqual(len(self.messages(handler)), 3)
        self.assertEqual(bench.checker.last["outcome"], "left")

    def test_ended_meanwhile(self) -> None:
        """Nothing is left over of a connection that ends before its turn."""
        for end in ("kick", "break", "raise"):
            handler = RecordingHandler(explode if end == "raise" else None)
            bench = self.bench(handler=handler)
            transport = bench.login()
            transport.peer_sends(b"WORK 1\nWORK 2\n")
            if end == "kick":
                handler.receivers[0].session.kick("enough")
            elif end == "break":
                transport.peer_breaks()
            else:
                self.flushLoggedErrors(Boom)
            bench.pump()
            self.assertEqual(len(self.messages(handler)), 1)

    def test_decision_in_a_turn(self) -> None:
        """A Decision that a turn brings is answered like any other, and what follows goes on."""
        bench = self.bench()
        transport = bench.login()
        transport.peer_sends(b"WORK 1\nASK time\nWORK 2\nplain\n")
        bench.pump(6)
        self.assertTrue(transport.reading)
        self.assertEqual(bench.connection(transport).machine.held, 0)


class WorkTests(BenchCase):
    """Pieces of work that a connection owns."""

    def setUp(self) -> None:
        self.at_work = self.bench()
        self.transport = self.at_work.login()
        self.connection = self.at_work.connection(self.transport)

    def test_done(self) -> None:
        work: Deferred[None] = Deferred()
        self.connection.serve(work)
        work.callback(None)
        self.assertEqual(self.at_work.checker.outcomes(), [])

    def test_failure(self) -> None:
        """COM-7: a piece of work that fails fails its session."""
        work: Deferred[None] = Deferred()
        self.connection.serve(work)
        work.errback(Boom())
        self.assertEqual(self.at_work.checker.outcomes(), ["failed"])
        self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)

    def test_cancelled(self) -> None:
        """Work for a peer that is gone is cancelled."""
        works: list[Deferred[None]] = [Deferred(), Deferred()]
        for work in works:
            self.connection.serve(work)
        self.transport.peer_breaks()
        self.assertEqual([work.called for work in works], [True, True])

    def test_too_late(self) -> None:
        """Work for a session that is over is not begun."""
        self.connection.close(Outcome.KICKED, "Out")
        work: Deferred[None] = Deferred()
        self.connection.serve(work)
        self.assertTrue(work.called)


class HandlerTests(BenchCase):
    """COM-7: what a handler does wrong ends its session as ``failed``."""

    def test_messages(self) -> None:
        handler = RecordingHandler(lambda session, message: session.send(message))
        bench = self.bench(handler=handler)
        transport = bench.login()
        transport.peer_sends(b"one\ntw")
        transport.peer_sends(b"o\n")
        bench.pump()
        self.assertEqual(transport.received, b"WELCOME ann\none\ntwo\n")
        transport.peer_finishes()
        (receiver,) = handler.receivers
        self.assertEqual((receiver.messages, receiver.outcomes), ([Line(b"one"), Line(b"two")], [Outcome.LEFT]))

    def test_raising(self) -> None:
        """COM-7: a handler that raises ends its session as failed, once, and gets nothing more."""
        handler = RecordingHandler(explode)
        bench = self.bench(handler=handler)
        other = bench.login(b"bob", b"also right")
        transport = bench.login()
        transport.peer_sends(b"one\ntwo\nthree\n")
        bench.pump()
        self.assertEqual(transport.received, b"WELCOME ann\nBYE Internal error\n")
        self.assertEqual(bench.checker.outcomes(), ["failed"])
        self.assertEqual(handler.receivers[1].messages, [Line(b"one")])
        self.assertEqual(handler.receivers[1].outcomes, [Outcome.FAILED])
        self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)
        self.assertIsNone(other.gone)

    def test_raising_before_the_end(self) -> None:
        """COM-7: where the peer's own end is in the same batch, that is the outcome, and one traceback is enough."""
        handler = RecordingHandler(explode)
        bench = self.bench(handler=handler)
        transport = bench.login()
        transport.peer_sends(b"one\ntwo\nthree\n\xff\n")
        self.assertEqual(bench.checker.outcomes(), ["malformed"])
        (receiver,) = handler.receivers
        self.assertEqual((receiver.messages, receiver.outcomes), ([Line(b"one")], [Outcome.MALFORMED]))
        self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)

    def test_raising_at_the_end(self) -> None:
        """A handler that raises when it is told the end changes nothing about it."""
        handler = RecordingHandler()
        bench = self.bench(handler=handler)
        transport = bench.login()

        def closed(outcome: Outcome) -> None:
            raise Boom

        handler.receivers[0].closed = closed  # type: ignore[method-assign]
        transport.peer_finishes()
        self.assertEqual(bench.checker.outcomes(), ["left"])
        self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)

    def test_not_opening(self) -> None:
        """COM-7: a handler that cannot take the session, at once or later: failed, with the session's words."""
        for opening in (Unavailable("no backend"), fail(Unavailable("no backend"))):
            bench = self.bench(handler=RecordingHandler(opening=opening))
            with capturedLogs() as logs:
                transport = bench.login()
            self.assertEqual(transport.received, b"WELCOME ann\nBYE The service behind this server is not available\n")
            self.assertEqual(bench.checker.outcomes(), ["failed"])
            errors = [event for event in logs if event["log_level"] is LogLevel.error]
            self.assertEqual(len(errors), 1)
            self.assertNotIn("log_failure", errors[0])
            self.assertIn("no backend", formatEvent(errors[0]))

    def test_mistake_in_opening(self) -> None:
        """COM-7: a handler with a mistake fails the session in the same words; the log has what its author needs."""
        bench = self.bench(handler=RecordingHandler(opening=Boom("a mistake")))
        transport = bench.login()
        self.assertEqual(transport.received, b"WELCOME ann\nBYE The service behind this server is not available\n")
        self.assertEqual(bench.checker.outcomes(), ["failed"])
        [failure] = self.flushLoggedErrors(Boom)
        self.assertIn("tests/toy.py", failure.getTraceback())

    def test_opening(self) -> None:
        """While a handler opens, the peer waits; what it sent before comes first, and in order."""
        opening: Deferred[None] = Deferred()
        handler = RecordingHandler(opening=opening)
        bench = self.bench(handler=handler)
        transport = bench.open()
        transport.peer_sends(b"LOGIN ann right\none\ntwo\n")
        bench.pump()
        self.assertFalse(transport.reading)
        transport.peer_sends(b"three\n")
        opening.callback(None)
        bench.pump()
        self.assertEqual(handler.receivers[0].messages, [Line(b"one"), Line(b"two"), Line(b"three")])

    def test_gone_while_opening(self) -> None:
        """A session that ends while its handler opens: the handler is told, exactly once."""
        opening: Deferred[None] = Deferred()
        handler = RecordingHandler(opening=opening)
        bench = self.bench(handler=handler)
        transport = bench.open()
        transport.peer_sends(b"LOGIN ann right\none\n")
        transport.peer_breaks()
        if not opening.called:
            opening.callback(None)
            (receiver,) = handler.receivers
            self.assertEqual((receiver.messages, len(receiver.outcomes)), ([], 1))
        self.assertEqual(bench.checker.outcomes(), ["lost"])

    def test_end_while_it_opens_at_once(self) -> None:
        """COM-7: a handler that opens a session whose end is in the same batch is told the outcome, once."""
        handler = RecordingHandler()
        bench = self.bench(handler=handler)
        bench.open().peer_sends(b"LOGIN ann right\none\n\xff\n")
        (receiver,) = handler.receivers
        self.assertEqual((receiver.messages, receiver.outcomes), ([Line(b"one")], [Outcome.MALFORMED]))

    def test_end_by_opening(self) -> None:
        """COM-7: a handler may end the session while it opens it, and is told that it ended."""
        for later in (False, True):
            handler = RecordingHandler(opening=Deferred(lambda deferred: deferred.callback(None)) if later else None)
            bench = self.bench(handler=handler)
            opening = handler.open

            def open_and_kick(session: Any, opening: Any = opening) -> Any:
                session.kick("Not today")
                return opening(session)

            handler.open = open_and_kick  # type: ignore[method-assign]
            transport = bench.login()
            (receiver,) = handler.receivers
            self.assertEqual((receiver.messages, receiver.outcomes), ([], [Outcome.KICKED]))
            self.assertEqual(transport.received, b"WELCOME ann\nBYE Not today\n")

    def test_gone_before_it_failed_to_open(self) -> None:
        opening: Deferred[None] = Deferred()
        bench = self.bench(handler=RecordingHandler(opening=opening))
        bench.login().peer_breaks()
        if not opening.called:
            opening.errback(Boom())
        self.assertEqual(bench.checker.outcomes(), ["lost"])

    def test_end_while_catching_up(self) -> None:
        """A handler that ends the session at a message that waited gets none of the others."""
        opening: Deferred[None] = Deferred()
        handler = RecordingHandler(lambda session, message: session.kick("Enough"), opening)
        bench = self.bench(handler=handler)
        transport = bench.open()
        transport.peer_sends(b"LOGIN ann right\none\ntwo\n")
        opening.callback(None)
        (receiver,) = handler.receivers
        self.assertEqual((receiver.messages, receiver.outcomes), ([Line(b"one")], [Outcome.KICKED]))

    def test_raising_while_catching_up(self) -> None:
        opening: Deferred[None] = Deferred()
        handler = RecordingHandler(explode, opening)
        bench = self.bench(handler=handler)
        transport = bench.open()
        transport.peer_sends(b"LOGIN ann right\none\ntwo\n")
        opening.callback(None)
        self.assertEqual(bench.checker.outcomes(), ["failed"])
        (receiver,) = handler.receivers
        self.assertEqual((receiver.messages, receiver.outcomes), ([Line(b"one")], [Outcome.FAILED]))
        self.flushLoggedErrors(Boom)

    def test_pausing_while_opening(self) -> None:
        """A handler may pause its session from the beginning."""
        opening: Deferred[None] = Deferred()
        handler = RecordingHandler(lambda session, message: session.pause(), opening)
        bench = self.bench(handler=handler)
        transport = bench.open()
        transport.peer_sends(b"LOGIN ann right\none\n")
        opening.callback(None)
        bench.pump()
        self.assertFalse(transport.reading)
        handler.receivers[0].session.resume()
        self.assertTrue(transport.reading)


class ClosingTests(BenchCase):
    def test_last_words(self) -> None:
        """The last words are flushed and our half is closed, while what the peer still sends is dropped."""
        bench = self.bench()
        transport = bench.login(password=b"wrong")
        self.assertTrue(transport.read_end)
        self.assertIsNone(transport.gone)
        transport.peer_sends(b"never mind\n")
        self.assertTrue(transport.reading)
        transport.peer_finishes()
        self.assertIsInstance(transport.gone, ConnectionDone)

    def test_lingering(self) -> None:
        """A peer that does not close in turn has a while to read, no more."""
        bench = self.bench()
        transport = bench.login(password=b"wrong")
        bench.pass_time(LINGER - 0.25)
        self.assertIsNone(transport.gone)
        bench.pass_time(0.5)
        self.assertIsInstance(transport.gone, ConnectionDone)
        self.assertEqual(len(bench.listener.connections), 0)

    def test_half_closed_before(self) -> None:
        """Where the peer is done before us, nothing is left to wait for."""

        class Farewell(ToyMachine):
            def end_of_stream(self, now: float, *, clean: bool = True) -> list[Event]:
                return self.close(Outcome.ABORTED, "Too early", now)

        bench = self.bench()
        bench.listener.make_machine = lambda peer, now: Farewell(bench.listener.settings, now=now)  # type: ignore
        transport = bench.open()
        transport.peer_sends(b"LOGIN ann")
        transport.peer_finishes()
        bench.pump()
        self.assertEqual(transport.received, b"NO Too early\n")
        self.assertIsInstance(transport.gone, ConnectionDone)

    def test_without_words(self) -> None:
        """Without last words the connection is closed at once, and cut off where it does not flush."""
        bench = self.bench()
        transport = bench.open(window=0)
        connection = bench.connection(transport)
        connection.write(b"unread")
        connection.close(Outcome.SHUTDOWN, "Good night")
        bench.pass_time(CLOSE_TIMEOUT - 0.25)
        self.assertIsNone(transport.gone)
        bench.pass_time(0.5)
        self.assertIsInstance(transport.gone, ConnectionAborted)

    def test_without_half_close(self) -> None:
        """A transport that cannot half close is just closed, last words and all."""

        clock = Clock()
        machine = ToyMachine(ToySettings(), now=NOW)
        driver = Driver(clock, Deadlines(clock), 30.0)
        connection = Connection(9, Peer("192.0.2.1", 1), machine, driver, NOW)
        transport = StringTransport()
        connection.makeConnection(transport)
        connection.dataReceived(b"\xff\n")
        self.assertEqual(transport.value(), b"NO a line that is empty or not ASCII\n")
        self.assertTrue(transport.disconnecting)
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(driver.deadlines), 0)

    def test_abort(self) -> None:
        bench = self.bench()
        transport = bench.login()
        bench.connection(transport).abort()
        bench.pump()
        self.assertIsInstance(transport.gone, ConnectionAborted)
        self.assertEqual(bench.checker.outcomes(), ["lost"])

    def test_paused_peer_is_read_on(self) -> None:
        """The end of a peer that was paused is noticed."""
        handler = RecordingHandler(lambda session, message: session.pause())
        bench = self.bench(handler=handler)
        transport = bench.login()
        transport.peer_sends(b"one\n")
        transport.peer_sends(b"two\n")
        transport.peer_finishes()
        handler.receivers[0].session.kick("Out")
        bench.pump()
        self.assertIsInstance(transport.gone, ConnectionDone)
        handler.receivers[0].session.resume()

    def test_clock_at_zero(self) -> None:
        """A test clock that stands at zero closes like any other."""
        clock = Clock()
        driver = Driver(clock, Deadlines(clock), 30.0)
        connection = Connection(1, Peer("", 0), ToyMachine(ToySettings(), now=0.0), driver, 0.0)
        transport = FakeTransport(clock, connection)
        transport.peer_sends(b"\xff\n")
        clock.advance(0)
        self.assertTrue(transport.read_end)
        transport.peer_finishes()
        self.assertIsInstance(transport.gone, ConnectionDone)


class BrokenMachine(Machine):
    """Raises wherever it is told to."""

    __slots__ = ("raising",)

    def __init__(self, *raising: str) -> None:
        super().__init__(now=NOW, handshake_timeout=5.0)
        self.raising = raising

    def _check(self, where: str) -> None:
        if where in self.raising:
            raise Boom(where)

    def _step(self, now: float) -> list[Event] | None:
        self._check("receive")
        return None

    def _expire(self, now: float) -> list[Event]:
        self._check("expire")
        return super()._expire(now)

    def end_of_stream(self, now: float, *, clean: bool = True) -> list[Event]:
        self._check("end")
        return super().end_of_stream(now, clean=clean)

    def close(self, outcome: Outcome, reason: str, now: float) -> list[Event]:
        self._check("close")
        return super().close(outcome, reason, now)


class MistakeTests(BenchCase):
    """COM-3, COM-7: even a machine with mistakes leaves nothing behind, and its connection has an outcome."""

    def run_into(self, mistake: Callable[[Bench, FakeTransport], None], *raising: str) -> None:
        bench = self.bench()
        bench.listener.make_machine = lambda peer, now: BrokenMachine(*raising)  # type: ignore
        transport = bench.open()
        mistake(bench, transport)
        bench.pass_time(40)
        self.assertIsNotNone(transport.gone)
        self.assertEqual(bench.checker.outcomes(), ["refused"])
        self.assertTrue(self.flushLoggedErrors(Boom))

    def test_receiving(self) -> None:
        self.run_into(lambda bench, transport: transport.peer_sends(b"x"), "receive")

    def test_expiring(self) -> None:
        self.run_into(lambda bench, transport: bench.pass_time(6), "expire")

    def test_end_of_stream(self) -> None:
        self.run_into(lambda bench, transport: transport.peer_finishes(), "end")

    def test_loss(self) -> None:
        self.run_into(lambda bench, transport: transport.peer_breaks(), "end")

    def test_not_even_ending(self) -> None:
        self.run_into(lambda bench, transport: transport.peer_sends(b"x"), "receive", "close")

    def test_loss_and_not_even_ending(self) -> None:
        self.run_into(lambda bench, transport: transport.peer_breaks(), "end", "close")


class DriverTests(SynchronousTestCase):
    def test_bare(self) -> None:
        """A driver need not care about ends."""
        clock = Clock()
        driver = Driver(clock, Deadlines(clock), 30.0)
        connection = Connection(1, Peer("", 0), ToyMachine(ToySettings(), now=0.0), driver, 0.0)
        transport = FakeTransport(clock, connection)
        transport.peer_breaks()
        self.assertTrue(connection.ended)
        self.assertTrue(Decision())
        self.assertEqual(Ended(Outcome.LEFT, "x").offset, None)
