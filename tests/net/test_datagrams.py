"""Tests of :mod:`connectd.net.datagrams`."""

from __future__ import annotations

import socket
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import MessageLengthError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from connectd.net.bound import BoundSocket
from connectd.net.datagrams import DatagramConnection
from connectd.net.endpoint import parse_endpoint
from connectd.net.sockets import bind
from connectd.sansio import DatagramAddress, DatagramMachine, Ended, Event, LocalProtocolError, Outcome, Received

LOCAL = "udp:0:interface=127.0.0.1"


class EchoMachine(DatagramMachine):
    """Sends back what comes, tells it, and says "tick" to whom it knows when its time has come."""

    def __init__(self) -> None:
        super().__init__()
        self.outgoing: list[tuple[bytes, DatagramAddress]] = []
        self.due: float | None = None
        self.known: DatagramAddress | None = None

    def receive_datagram(self, data: bytes, address: DatagramAddress, now: float) -> list[Event]:
        self.known = address
        self.outgoing.append((data, address))
        return [Received(data)]

    def datagrams_to_send(self) -> list[tuple[bytes, DatagramAddress]]:
        outgoing, self.outgoing = self.outgoing, []
        return outgoing

    def deadline(self) -> float | None:
        return self.due

    def handle_deadline(self, now: float) -> list[Event]:
        if self.due is None or now < self.due:
            return []
        self.due = None
        if self.known is not None:
            self.outgoing.append((b"tick", self.known))
        return [Received(b"due")]

    def say(self, *texts: bytes) -> list[Event]:
        """Events of our own."""
        return [Received(text) for text in texts]

    def close(self, outcome: Outcome, reason: str, now: float) -> list[Event]:
        if self.ended:
            return []
        self.ended = True
        if self.known is not None:
            self.outgoing.append((b"bye", self.known))
        return [Ended(outcome, reason)]


class FakePort:
    """What the adapter needs of a UDP port."""

    def __init__(self) -> None:
        self.written: list[tuple[bytes, Any]] = []
        self.error: Exception | None = None

    def write(self, data: bytes, address: Any) -> None:
        if self.error is not None:
            raise self.error
        self.written.append((data, address))

    def stopListening(self) -> None:
        pass


class TimingTests(SynchronousTestCase):
    """Timers, events and what cannot be sent, without a network."""

    endpoint = LOCAL

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[Any] = []
        self.machine = EchoMachine()
        self.socket = bind(parse_endpoint(self.endpoint), kind="datagram")
        self.addCleanup(self.socket.close)
        self.connection = DatagramConnection(self.clock, self.socket, self.machine, self.respond)
        self.port = FakePort()
        with mock.patch.object(BoundSocket, "adopt_datagram", return_value=self.port):
            self.connection.start()
            self.connection.start()

    def respond(self, event: Event) -> None:
        self.events.append(event.message if isinstance(event, Received) else event)

    def test_deadline(self) -> None:
        """The machine is called at its deadline, also where that moved in either direction."""
        self.machine.due = 10.0
        self.connection.call(lambda now: [])
        self.machine.due = 5.0
        self.connection.call(lambda now: [])
        self.clock.advance(4.9)
        self.assertEqual(self.events, [])
        self.machine.due = 7.0
        self.clock.advance(0.2)
        self.assertEqual(self.events, [])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(2)
        self.assertEqual(self.events, [b"due"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_order(self) -> None:
        """Events that come of answering events wait for their turn."""

        def respond(event: Event) -> None:
            self.respond(event)
            if self.events[-1] == b"one":
                self.connection.call(lambda now: self.machine.say(b"three"))

        self.connection._respond = respond
        self.connection.call(lambda now: self.machine.say(b"one", b"two"))
        self.assertEqual(self.events, [b"one", b"two", b"three"])

    def test_mistakes(self) -> None:
        """A responder that raises is logged and disturbs nothing else; a verb's own error is raised."""

        def respond(event: Event) -> None:
            self.respond(event)
            raise ZeroDivisionError

        self.connection._respond = respond
        self.connection.call(lambda now: self.machine.say(b"one", b"two"))
        self.assertEqual(self.events, [b"one", b"two"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

        def verb(now: float) -> list[Event]:
            raise LocalProtocolError("no")

        self.assertRaises(LocalProtocolError, self.connection.call, verb)

    def test_unsendable(self) -> None:
        """What the system does not take is lost, as on the way."""
        for error in (OSError(101, "unreachable"), MessageLengthError("too long"), ValueError("family")):
            self.port.error = error
            self.connection.datagramReceived(b"x", ("192.0.2.1", 9))
        self.assertEqual((self.connection.unsent, self.events), (3, [b"x"] * 3))
        self.port.error = None
        self.connection.datagramReceived(b"y", ("192.0.2.1", 9))
        self.assertEqual(self.port.written, [(b"y", ("192.0.2.1", 9))])

    def test_stop(self) -> None:
        """The machine's last words are sent, the timer is gone, the socket closed; once."""
        self.connection.datagramReceived(b"y", ("192.0.2.1", 9))
        self.machine.due = 10.0
        self.connection.call(lambda now: [])
        self.assertTrue(self.connection.running)
        for _ in range(2):
            self.successResultOf(self.connection.stop(Outcome.LEFT, "enough"))
        self.assertFalse(self.connection.running)
        self.assertEqual([data for data, _ in self.port.written], [b"y", b"bye"])
        self.assertEqual(self.events[1:], [Ended(Outcome.LEFT, "enough")])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.socket.socket.fileno(), -1)

    def test_stop_in_an_event(self) -> None:
        """It may be stopped by whoever it tells something."""

        def respond(event: Event) -> None:
            self.respond(event)
            if isinstance(event, Received):
                self.connection.stop()

        self.connection._respond = respond
        self.machine.due = 1.0
        self.connection.call(lambda now: [])
        self.clock.advance(1)
        self.assertEqual([type(event) for event in self.events], [bytes, Ended])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never_started(self) -> None:
        other = DatagramConnection(self.clock, bind(parse_endpoint(LOCAL)), EchoMachine(), self.respond)
        other.call(lambda now: [])
        self.successResultOf(other.stop())
        self.assertEqual(other.socket.socket.fileno(), -1)


class BothFamiliesTests(TimingTests):
    """The same on a socket for IPv4 and IPv6, if this machine has both."""

    endpoint = "udp:0"

    def setUp(self) -> None:
        super().setUp()
        if self.socket.family != socket.AF_INET6:
            raise self.skipTest("this machine has no IPv6")

    def test_unsendable(self) -> None:
        """Addresses are plain inside and mapped outside."""
        self.connection.datagramReceived(b"y", ("::ffff:192.0.2.1", 9))
        self.assertEqual(self.machine.known, ("192.0.2.1", 9))
        self.connection.datagramReceived(b"z", ("2001:db8::1", 9))
        self.assertEqual(self.machine.known, ("2001:db8::1", 9))
        self.assertEqual([address for _, address in self.port.written], [("::ffff:192.0.2.1", 9), ("2001:db8::1", 9)])


class RealTests(TestCase):
    """COM-3: over real sockets."""

    async def exchange(self, endpoint: str, host: str) -> None:
        bound = bind(parse_endpoint(endpoint), kind="datagram")
        waiting: list[Deferred[Any]] = []
        connection = DatagramConnection(reactor, bound, EchoMachine(), lambda event: waiting.pop().callback(event))
        connection.start()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as peer:
            peer.bind((host, 0))
            peer.settimeout(20)
            for text in (b"one", b"two"):
                came: Deferred[Any] = Deferred()
                waiting.append(came)
                peer.sendto(text, (host, bound.port))
                self.assertEqual(await came, Received(text))
                self.assertEqual(peer.recv(100), text)
            waiting.append(Deferred())
            await connection.stop()
            self.assertEqual(peer.recv(100), b"bye")

    def test_ipv4(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.exchange(LOCAL, "127.0.0.1"))

    def test_ipv6(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.exchange("udp:0:interface=[::1]", "::1"))

    def test_both(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.exchange("udp:0", "127.0.0.1"))

    def test_unreachable(self) -> Deferred[None]:
        """An ICMP error of one peer, whose port is closed, disturbs nobody."""
        return Deferred.fromCoroutine(self.unreachable())

    async def unreachable(self) -> None:
        bound = bind(parse_endpoint(LOCAL), kind="datagram")
        machine = EchoMachine()
        came: Deferred[Any] = Deferred()
        connection = DatagramConnection(reactor, bound, machine, came.callback)
        connection.start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            nobody = closed.getsockname()
        for _ in range(3):
            machine.outgoing.append((b"x", nobody))
            connection.call(lambda now: [])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"still there", ("127.0.0.1", bound.port))
            self.assertEqual(await came, Received(b"still there"))
        connection._respond = lambda event: None
        await connection.stop()
