"""One UDP socket, and the machine that speaks over it: the adapter for datagrams, as Connection is for streams."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from socket import AF_INET6
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from connectd.net.bound import BoundSocket
from connectd.sansio import DatagramMachine, Event, Outcome

log = Logger()

_MAPPED = "::ffff:"


class DatagramConnection(DatagramProtocol):
    """Owns a bound socket and the one timer of a :class:`~connectd.sansio.DatagramMachine`.

    Datagrams and ICMP errors are what they are on the Internet: what cannot be sent (no route, too long, forbidden by a
    packet filter, of a family that the socket has not) is dropped like what is lost on the way, and only counted.

    On a socket for both families, IPv4 peers have their plain addresses.

    :param reactor: the reactor.
    :param socket: where to receive; it is closed by :meth:`stop`.
    :param machine: what speaks the protocol.
    :param respond: called with each event of the machine, in order; what it raises is logged.
    """

    noisy = False

    def __init__(
        self, reactor: Any, socket: BoundSocket, machine: DatagramMachine, respond: Callable[[Event], None]
    ) -> None:
        self.socket = socket
        self.machine = machine
        self.unsent = 0
        """Datagrams that the system did not take."""
        self._reactor = reactor
        self._respond = respond
        self._writes_mapped = socket.family == AF_INET6
        self._port: IListeningPort | None = None
        self._timer: IDelayedCall | None = None
        self._queue: deque[Event] | None = None

    @property
    def running(self) -> bool:
        """Whether datagrams come in."""
        return self._port is not None

    def start(self) -> None:
        """Begin to receive."""
        if self._port is None:
            self._port = self.socket.adopt_datagram(self._reactor, self)
            self._handle([])

    def stop(self, outcome: Outcome = Outcome.SHUTDOWN, reason: str = "the socket was closed") -> Deferred[None]:
        """End the machine, send its last words and close the socket; it may be called again, and without a start.

        :return: fires once the socket is closed.
        """
        self._handle(self.machine.close(outcome, reason, self._reactor.seconds()))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        port, self._port = self._port, None
        self.socket.close()
        stopped: Deferred[Any] = succeed(None) if port is None else maybeDeferred(port.stopListening)
        return stopped.addCallback(lambda result: None)

    def call(self, verb: Callable[[float], list[Event]]) -> None:
        """Call one of the machine's verbs with the time, and act on what follows.

        :raises connectd.sansio.LocalProtocolError: what the verb raises.
        """
        self._handle(verb(self._reactor.seconds()))

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """The reactor has a datagram."""
        host: str = addr[0]
        if host.startswith(_MAPPED) and "." in host:
            host = host[len(_MAPPED) :]
        self._handle(self.machine.receive_datagram(datagram, (host, addr[1]), self._reactor.seconds()))

    def _handle(self, events: list[Event]) -> None:
        """Send what there is, act on events in their order, and be there at the next deadline."""
        self._send()
        if self._queue is not None:
            self._queue.extend(events)
            return
        queue = self._queue = deque(events)
        try:
            while queue:
                event = queue.popleft()
                try:
                    self._respond(event)
                except Exception:
                    log.failure("an event of {address} could not be handled", address=self.socket.address)
        finally:
            self._queue = None
        self._wait()

    def _send(self) -> None:
        outgoing = self.machine.datagrams_to_send()
        port: Any = self._port
        if port is None:
            return
        for data, (host, number) in outgoing:
            if self._writes_mapped and ":" not in host:
                host = _MAPPED + host
            try:
                port.write(data, (host, number))
            except (OSError, ValueError, MessageLengthError):  # InvalidAddressError is a ValueError
                self.unsent += 1

    def _wait(self) -> None:
        """Have the timer run no later than the machine's deadline; one that runs early costs a call, no more."""
        deadline = self.machine.deadline()
        if deadline is None or self._port is None:
            return
        timer = self._timer
        if timer is None or not timer.active():
            self._timer = self._reactor.callLater(max(0.0, deadline - self._reactor.seconds()), self._due)
        elif deadline < timer.getTime():
            timer.reset(max(0.0, deadline - self._reactor.seconds()))

    def _due(self) -> None:
        self._timer = None
        self._handle(self.machine.handle_deadline(self._reactor.seconds()))
