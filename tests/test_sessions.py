"""Tests of :mod:`connectd.sessions`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from connectd.interfaces import IHandler, IReceiver, ISession
from connectd.net.connection import Peer
from connectd.sansio import Outcome
from connectd.sessions import HOLD, Opening, Session, SessionRegistry


class FakeWire:
    """A connection that keeps what it is asked for."""

    def __init__(self, identifier: int) -> None:
        self.id = identifier
        self.peer = Peer("192.0.2.1", 4000)
        self.local = Peer("198.51.100.1", 7890)
        self.calls: list[Any] = []
        self.waiter: Deferred[None] = succeed(None)

    def send(self, message: Any) -> None:
        self.calls.append(("send", message))

    def drained(self) -> Deferred[None]:
        return self.waiter

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def close(self, outcome: Outcome, reason: str) -> None:
        self.calls.append((outcome, reason))


def make_session(identifier: int, protocol: str = "toy") -> Session:
    return Session(FakeWire(identifier), protocol, "toy on nothing", 12.5, {"name": "ann"}, "ann")


class WantedTests(SynchronousTestCase):
    def test_wanted(self) -> None:
        """A handler finds what it asked for, and nobody can put anything there for all others."""
        wire = FakeWire(7)
        self.assertEqual(Session(wire, "toy", "toy on nothing", 1.0, {}, wanted={"ship": 5}).wanted, {"ship": 5})
        wanted: Any = Session(wire, "toy", "toy on nothing", 1.0, {}).wanted
        self.assertEqual(dict(wanted), {})
        with self.assertRaises(TypeError):
            wanted["ship"] = 5


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wire = FakeWire(7)
        self.session = Session(self.wire, "toy", "toy on nothing", 12.5, {"name": "ann"})

    def test_interface(self) -> None:
        verifyObject(ISession, self.session)

    def test_what_it_tells(self) -> None:
        session = self.session
        self.assertEqual((session.id, session.peer, session.local), (7, self.wire.peer, self.wire.local))
        self.assertEqual((session.account, session.identity, session.since), ("", {"name": "ann"}, 12.5))

    def test_what_it_does(self) -> None:
        """COM-7: kick and fail have outcomes of their own."""
        session = self.session
        session.send(b"x")
        session.pause()
        session.resume()
        session.kick("Be nice")
        session.fail("The service failed")
        self.assertEqual(
            self.wire.calls,
            [
                ("send", b"x"),
                "pause",
                "resume",
                (Outcome.KICKED, "Be nice"),
                (Outcome.FAILED, "The service failed"),
            ],
        )
        self.assertIs(session.drained(), self.wire.waiter)


class SessionRegistryTests(SynchronousTestCase):
    def test_life(self) -> None:
        registry = SessionRegistry()
        first, second, third = make_session(1), make_session(2), make_session(3, "other")
        for session in (first, second, third):
            registry.add(session)
        self.assertEqual((len(registry), registry.count("toy"), registry.count("other")), (3, 2, 1))
        self.assertEqual(list(registry), [first, second, third])
        self.assertIs(registry.get(2), second)
        self.assertIsNone(registry.get(4))
        registry.remove(second)
        registry.remove(second)
        self.assertIsNone(registry.get(2))
        self.assertEqual((len(registry), registry.count("toy"), registry.count("nothing")), (2, 1, 0))

    def test_changes_while_looking(self) -> None:
        """Whoever goes through all sessions may end some of them on the way."""
        registry = SessionRegistry()
        for identifier in range(5):
            registry.add(make_session(identifier))
        for session in registry:
            registry.remove(session)
        self.assertEqual(len(registry), 0)


class HoldTests(SynchronousTestCase):
    def test_hold(self) -> None:
        verifyObject(IHandler, HOLD)
        receiver = HOLD.open(make_session(1))
        verifyObject(IReceiver, receiver)
        self.assertEqual(list(HOLD.wants("toy")), [])
        receiver.received(b"gone by")
        receiver.closed(Outcome.LEFT)


class OpeningTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.opened: Deferred[Any] = Deferred()
        self.opening = Opening()

    def test_keeps(self) -> None:
        verifyObject(IReceiver, self.opening)
        self.opening.wait(self.opened)
        self.opening.received(b"one")
        self.opening.received(b"two")
        self.assertEqual((self.opening.messages, self.opening.outcome), ([b"one", b"two"], None))
        self.assertNoResult(self.opened)

    def test_closed(self) -> None:
        """A handler that is still opening is called off when the session ends."""
        self.opening.wait(self.opened)
        self.opening.received(b"one")
        self.opening.closed(Outcome.LOST)
        self.assertEqual((self.opening.messages, self.opening.outcome), ([], Outcome.LOST))
        self.failureResultOf(self.opened, CancelledError)

    def test_closed_before(self) -> None:
        """So is one that begins to open when the session is over already."""
        self.opening.closed(Outcome.KICKED)
        self.opening.wait(self.opened)
        self.failureResultOf(self.opened, CancelledError)
