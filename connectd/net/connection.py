"""The one adapter between a machine and a transport: TCP, TLS and a QUIC stream alike.

A :class:`Connection` moves bytes from the transport into its machine and back, hands the machine's events to a
:class:`Driver` (the server or the client of a protocol), keeps the deadlines, and minds that neither side holds
memory without bound.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    INegotiated,
    IProtocol,
    IReactorTime,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from connectd.net.deadlines import Deadlines, Entry
from connectd.net.outgoing import DECIDING, HANDLING, TURNING, WRITING, Outgoing
from connectd.net.transport_faults import TransportFault, transport_fault
from connectd.sansio import AFTER_ACCEPTANCE, Ended, Event, Machine, Outcome
from connectd.settings import Network

log = Logger()

LINGER = 2.0
"""Seconds in which a peer can read our last words before unread input of its resets the connection."""

CLOSE_TIMEOUT = 10.0
"""Seconds after which a connection that does not finish closing is aborted."""

_DONE = Failure(ConnectionDone())


@attrs.frozen
class Peer:
    """Where a peer is: the address that every rule, log line and limit uses.

    :param host: a numeric address, or nothing for a Unix socket.
    :param port: its port, or 0.
    """

    host: str
    port: int

    def __str__(self) -> str:
        if not self.host:
            return "unix"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def from_address(cls, address: Any) -> Peer:
        """From Twisted's address objects; IPv4-mapped IPv6 becomes IPv4."""
        host = getattr(address, "host", "")
        if host.startswith("::ffff:"):
            mapped = ipaddress.IPv6Address(host.partition("%")[0]).ipv4_mapped
            host = str(mapped) if mapped is not None else host
        return cls(host, getattr(address, "port", 0))

    def is_within(self, networks: Iterable[Network]) -> bool:
        """Whether the address lies in one of the networks; a Unix socket's peer is local and does."""
        if not self.host:
            return True
        address = ipaddress.ip_address(self.host.partition("%")[0])
        return any(address.version == network.version and address in network for network in networks)


class Refused(Exception):
    """What a decision's Deferred fails with to say no in plain words.

    :param reason: for the peer and the operator.
    :param outcome: how the connection is counted (COM-7).
    """

    def __init__(self, reason: str, outcome: Outcome = Outcome.REFUSED) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outcome = outcome


class Driver:
    """Who answers a connection's events: for an event ``X`` its method ``on_X(connection, event)``.

    :param clock: the reactor.
    :param deadlines: where connections wait for their time.
    :param stall_timeout: seconds without progress after which a peer that does not read is dropped (COM-6).
    """

    def __init__(self, clock: IReactorTime, deadlines: Deadlines, stall_timeout: float) -> None:
        self.clock = clock
        self.deadlines = deadlines
        self.stall_timeout = stall_timeout
        self._responders: dict[type[Event], Callable[[Any, Any], None]] = {}

    def responder(self, kind: type[Event]) -> Callable[[Any, Any], None]:
        """The method that answers a kind of event."""
        method = self._responders.get(kind)
        if method is None:
            method = self._responders[kind] = getattr(self, f"on_{kind.__name__}")
        return method

    def connection_ended(self, connection: Connection, event: Ended) -> None:
        """The machine ended: the one outcome of this connection."""

    def connection_closed(self, connection: Connection) -> None:
        """The transport is gone."""


@implementer(IProtocol, IHalfCloseableProtocol, IHandshakeListener)
class Connection(Outgoing):
    """One connection, on either side.

    :param identifier: unique in this process.
    :param peer: where the peer is (COM-5).
    :param machine: what speaks the protocol.
    :param driver: who answers the machine's events.
    :param opened: when it was accepted or dialled, seconds.
    """

    __slots__ = (
        "__weakref__",
        "_entry",
        "_heard",
        "_peer_finished",
        "_pending",
        "_queue",
        "_turn",
        "_works",
        "ended",
        "id",
        "machine",
        "opened",
        "peer",
        "receiver",
        "session",
    )

    def __init__(self, identifier: int, peer: Peer, machine: Machine, driver: Driver, opened: float) -> None:
        super().__init__(driver)
        self.id = identifier
        self.peer = peer
        self.machine = machine
        self.opened = opened
        self.ended = False
        self.session: Any = None
        self.receiver: Any = None
        self._entry: Entry | None = None
        self._heard = False
        self._peer_finished = False
        self._pending: Deferred[Any] | None = None
        self._queue: deque[Event] | None = None
        self._turn: IDelayedCall | None = None
        self._works: set[Deferred[Any]] | None = None

    @property
    def local(self) -> Peer | None:
        """Where the peer's connection arrived, while there is one."""
        return None if self.transport is None else Peer.from_address(self.transport.getHost())

    # Answers to events

    def call(self, verb: Callable[..., list[Event]], *arguments: Any) -> None:
        """Call one of the machine's verbs with the time as last argument, and act on what follows."""
        try:
            events = verb(*arguments, self.driver.clock.seconds())
        except Exception:
            self._fail(Failure())
        else:
            self._handle(events)

    def decide(self, deferred: Deferred[Any], verb: Callable[[Any, float], list[Event]]) -> None:
        """Answer the open Decision when a Deferred fires.

        It is cancelled when the connection goes away first. A failure refuses, never accepts: with the words of
        :class:`Refused`, or with "Internal error" and a logged traceback.

        :param verb: called with the result and the time.
        """
        self._pending = deferred
        deferred.addCallback(self._decided, verb)
        deferred.addErrback(self._undecided)

    def _decided(self, result: Any, verb: Callable[[Any, float], list[Event]]) -> None:
        self._pending = None
        if self.machine.ended:
            return
        if self._paused & WRITING:
            # Who asks and does not read gets no more answers until there is room (COM-6).
            self.drained().addCallbacks(lambda ignored: self._decided(result, verb), lambda cancelled: None)
        else:
            self.call(verb, result)

    def _undecided(self, failure: Failure) -> None:
        self._pending = None
        if self.machine.ended:
            return
        if isinstance(failure.value, Refused):
            reason, outcome = failure.value.reason, failure.value.outcome
        else:
            log.failure("a decision failed on connection {id}", failure, id=self.id)
            reason, outcome = "Internal error", Outcome.REFUSED
        self.call(lambda now: self.machine.refuse(reason, now, outcome))

    def serve(self, work: Deferred[Any]) -> None:
        """Own a piece of work for this peer, such as a file that is streamed to it: not a decision, input goes on.

        It is cancelled when the connection ends first. A failure ends the connection.
        """
        if self.ended:
            work.addErrback(lambda failure: None)
            work.cancel()
            return
        if self._works is None:
            self._works = set()
        self._works.add(work)
        work.addBoth(self._served, work)

    def _served(self, result: Any, work: Deferred[Any]) -> None:
        if self._works is not None:
            self._works.discard(work)
        if isinstance(result, Failure) and not self.machine.ended:
            self._fail(result)

    def send(self, message: Any) -> None:
        """Send a message of the accepted session.

        :raises connectd.sansio.LocalProtocolError: where the protocol has no room for it.
        """
        if self.machine.ended:
            return
        self.machine.send(message, self.driver.clock.seconds())
        if self._queue is None:
            self._settle()

    def write(self, data: bytes) -> None:
        """Write bytes past the machine, behind what it has said so far."""
        if self.transport is not None and not self._closing:
            self._flush()
            self._write(data)

    def close(self, outcome: Outcome, reason: str) -> None:
        """End the connection in the protocol's own words where it has any."""
        if not self.machine.ended:
            self.call(self.machine.close, outcome, reason)

    def abort(self) -> None:
        """Close the transport at once, whatever is unsent."""
        if self.transport is not None:
            self.transport.abortConnection()

    # The transport's side

    def makeConnection(self, transport: Any) -> None:
        """The transport is there."""
        self._attach(transport)
        self.connectionMade()

    def connectionMade(self) -> None:
        """Say what the machine says first; behind TLS that comes later, but the deadline counts from here (COM-1)."""
        if self._direct or not INegotiated.providedBy(self.transport):
            self._transport_ready(self.opened)
        else:
            self._settle()

    def handshakeCompleted(self) -> None:
        """TLS stands."""
        if not self.machine.ended:
            self._transport_ready(self.driver.clock.seconds())

    def _transport_ready(self, now: float) -> None:
        events = self.machine.transport_ready(now)
        if events:
            self._handle(events)
        else:
            self._settle()

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the peer."""
        if self.machine.ended:
            return
        if not self._heard:
            self._heard = True
            if not self._direct and INegotiated.providedBy(self.transport) and not self._tells_congestion():
                self._register()
        try:
            events = self.machine.receive_data(data, self.driver.clock.seconds())
        except Exception:
            self._fail(Failure())
        else:
            self._handle(events)

    def readConnectionLost(self) -> None:
        """The peer finished its half of the stream; what it still waits for can reach it."""
        self._peer_finished = True
        if not self._closing:
            self.call(self.machine.end_of_stream)
        elif self._direct:
            self.transport.connectionLost(_DONE)
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our half is finished: all was flushed."""

    def connectionLost(self, reason: Failure) -> None:
        """The transport is gone."""
        self.transport = None
        if not self.machine.ended:
            fault = transport_fault(reason.value)
            if fault is not None:
                self._under_us(fault)
            else:
                clean = reason.check(ConnectionDone) is not None
                self.call(lambda now: self.machine.end_of_stream(now, clean=clean))
        if self._entry is not None:
            self.driver.deadlines.cancel(self._entry)
            self._entry = None
        self._release()
        self.driver.connection_closed(self)

    def _tells_congestion(self) -> bool:
        """Whether the transport calls :meth:`congested` by itself (:class:`connectd.net.tls.DirectTLS`)."""
        return getattr(self.transport, "writes_at_once", False)

    def _under_us(self, fault: TransportFault) -> None:
        outcome = fault.outcome
        if self.machine.established and outcome not in AFTER_ACCEPTANCE:
            outcome = Outcome.LOST
        self.call(self.machine.close, outcome, fault.reason)

    def deadline_passed(self, now: float) -> float | None:
        """The sweep found this connection due; tells when it is due next."""
        if self._closing:
            return self._linger(now)
        if self._progress is not None and self._stalled(now):
            self.close(Outcome.TIMEOUT, "the peer stopped reading")
            self.abort()
            return None
        if self._progress is not None and self._progress[0] == now:
            self.machine.peer_progressed(now)
        self.call(self.machine.handle_deadline)
        return self._due()

    def _due(self) -> float | None:
        if self._closing:
            return self._closing + LINGER
        when = self.machine.deadline()
        if self._progress is not None:
            stall = self._progress[0] + self.driver.stall_timeout
            when = stall if when is None else min(when, stall)
        if when is None:
            self._entry = None
        return when

    def _linger(self, now: float) -> float | None:
        """Last words are out, or should be: close, and a while later without asking."""
        if now < self._closing + CLOSE_TIMEOUT:
            self.transport.loseConnection()
            return self._closing + CLOSE_TIMEOUT
        self.transport.abortConnection()
        return None

    # Inside

    def _handle(self, events: list[Event]) -> None:
        """Hand events to their methods in order, then send what came of it.

        What one of these methods brings about comes right after it, without recursion: a peer decides how many
        messages it sends at once.
        """
        if self._queue is not None:
            self._queue.extendleft(reversed(events))
            return
        if events:
            queue = self._queue = deque(events)
            while queue and not self.ended:
                self._respond(queue.popleft())
                if queue:
                    self._flush()
            self._queue = None
        self._settle()

    def _respond(self, event: Event) -> None:
        try:
            if isinstance(event, Ended):
                self.ended = True
                self.driver.connection_ended(self, event)
            else:
                self.driver.responder(type(event))(self, event)
        except Exception:
            self._fail(Failure())

    def _fail(self, failure: Failure) -> None:
        """A mistake of ours or of a handler: it ends this connection and nothing else."""
        log.failure("connection {id} failed", failure, id=self.id)
        machine = self.machine
        if machine.ended:
            # Only its end is left to be told.
            while self._queue and not isinstance(self._queue[0], Ended):
                self._queue.popleft()
            return
        outcome = Outcome.FAILED if machine.established else Outcome.REFUSED
        try:
            events = machine.close(outcome, "Internal error", self.driver.clock.seconds())
        except Exception:
            log.failure("the machine of connection {id} cannot even end", id=self.id)
            machine.ended = True
            events = [Ended(outcome, "Internal error")]
        self._handle(events)

    def _flush(self) -> None:
        """Write what the machine has to say. Its last words are left for :meth:`_settle`."""
        if self.transport is not None and not self._closing and not self.machine.ended:
            data = self.machine.data_to_send()
            if data:
                self._write(data)

    def _settle(self) -> None:
        """After each turn: write, pause or resume, keep the deadline, close after the end."""
        if self._closing or self.transport is None:
            if self.machine.ended:
                self._release()
            return
        machine = self.machine
        data = machine.data_to_send()
        if data:
            self._write(data)
        if machine.ended:
            self._finish(lingering=bool(data) and not self._peer_finished)
            return
        if machine.wants_turn and not self._paused & TURNING:
            self.pause(TURNING)
            self._schedule_turn()
        if not machine.wants_data:
            self.pause(DECIDING)
        elif self._paused:
            self.resume(DECIDING)
        when = machine.deadline()
        if when is not None:
            self._watch(when)

    def resume(self, why: int = HANDLING) -> None:
        super().resume(why)
        if self._paused == TURNING:
            self._schedule_turn()

    def _schedule_turn(self) -> None:
        if self._turn is None:
            self._turn = self.driver.clock.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        """Let the machine go on with what it left, unless there is another reason to wait: then :meth:`resume` asks
        again."""
        self._turn = None
        if self._paused != TURNING:
            return
        self._paused = 0
        self.call(self.machine.turn)
        if not self._paused and self.transport is not None and not self._closing:
            self.transport.resumeProducing()

    def _watch(self, when: float) -> None:
        if self._entry is not None:
            if self._entry[0] <= when:
                return
            self.driver.deadlines.cancel(self._entry)
        self._entry = self.driver.deadlines.schedule(self, when)

    def _finish(self, lingering: bool) -> None:
        """Flush and close. With last words for the peer, read on for a moment: unread input would reset them."""
        self._closing = self.driver.clock.seconds() or 1e-9
        self._progress = None
        self._release()
        transport = self.transport
        if self._direct and self._peer_finished:
            # Both sides are done and nothing waits: no turn of the reactor is needed to find that out.
            transport.connectionLost(_DONE)
            return
        if not self._direct:
            transport.unregisterProducer()
        if self._paused:
            transport.resumeProducing()
        # On the class: what TLS passes on is that of the socket under it, and would cut TLS's own goodbye off.
        if lingering and hasattr(type(transport), "loseWriteConnection"):
            transport.loseWriteConnection()
            self._watch(self._closing + LINGER)
        else:
            transport.loseConnection()
            if self.transport is not None:
                self._watch(self._closing + CLOSE_TIMEOUT)

    def _release(self) -> None:
        """Let go of whoever waits for this connection."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.cancel()
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
        works, self._works = self._works, None
        for work in works or ():
            work.cancel()
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            waiter.cancel()
