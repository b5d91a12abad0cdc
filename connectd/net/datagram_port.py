"""A UDP port that reads in batches, bounded in time, and writes to its socket directly."""

from __future__ import annotations

import errno
import socket
from typing import Any, Final, Protocol, cast

from twisted.internet import udp
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

log = Logger()

MAX_DATAGRAM: Final = 65_535

BATCH_TIME: Final = 0.004
"""Seconds after which a batch ends, whatever else waits in the socket: a handshake costs a millisecond, and other
connections are to be heard too."""

BATCH_SIZE: Final = 128
"""Datagrams in a batch at most."""

RECEIVE_BUFFER: Final = 4 * 1024 * 1024
"""Bytes that the system is asked to hold for the socket. Its usual 200 KiB are 90 datagrams: a burst of logins."""


class BatchedProtocol(Protocol):
    """A ``DatagramProtocol`` that is told where a batch of datagrams begins and ends.

    :ivar clock: the reactor.
    """

    clock: IReactorTime

    def makeConnection(self, transport: Any) -> None:
        """There is a socket."""

    def doStop(self) -> None:
        """The socket is gone."""

    def batch_begins(self) -> None:
        """Several datagrams may follow one another."""

    def batch_ends(self) -> None:
        """That was all for now: time to answer."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """A datagram, with its sender's address as the socket has it."""

    def connectionRefused(self) -> None:
        """The other side of a connected socket is not there."""


class DatagramPort(udp.Port):
    """The socket of a :class:`BatchedProtocol`.

    Addresses are as the socket has them: for IPv6 with flow and scope, without which a link-local peer has no answer.
    Sending in batches of one system call (UDP_SEGMENT) was measured: it saves 1 µs of the 30 that a packet costs.
    """

    protocol: BatchedProtocol
    socket: socket.socket

    def doRead(self) -> None:
        """Read what is there, as long as that does not take too long."""
        protocol, receive = self.protocol, self.socket.recvfrom
        seconds = protocol.clock.seconds
        until = seconds() + BATCH_TIME
        protocol.batch_begins()
        try:
            for _ in range(BATCH_SIZE):
                try:
                    datagram, address = receive(MAX_DATAGRAM)
                except (BlockingIOError, InterruptedError):
                    break
                except ConnectionRefusedError:
                    protocol.connectionRefused()
                    break
                except OSError:
                    # What the network said about an earlier datagram: QUIC finds out by itself.
                    continue
                try:
                    protocol.datagramReceived(datagram, address)
                except Exception:
                    log.failure("a datagram could not be handled")
                if seconds() > until:
                    break
        finally:
            if self.connected:
                protocol.batch_ends()

    def connectionLost(self, reason: Any = None) -> None:
        """The socket is to be closed; but not for what the network said about a datagram, which is all that it is when
        the reactor believes that a connection broke."""
        problem = 0 if reason is None else self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not problem:
            super().connectionLost(reason)
            return
        self.startReading()
        if problem == errno.ECONNREFUSED:
            self.protocol.connectionRefused()

    def send(self, datagrams: list[tuple[bytes, Any]]) -> None:
        """Send datagrams. One that the system does not take now is lost; QUIC sends it again."""
        connected = self._connectedAddr is not None
        send = self.socket.sendto
        for datagram, address in datagrams:
            try:
                if connected:
                    self.socket.send(datagram)
                else:
                    send(datagram, address)
            except OSError:
                continue


def widen(handle: socket.socket) -> None:
    """Have the system hold more datagrams for a socket, as far as it allows."""
    try:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, RECEIVE_BUFFER)
    except OSError:
        pass


def adopt(reactor: Any, protocol: BatchedProtocol, descriptor: int, family: int, connected: Any = None) -> DatagramPort:
    """Serve a protocol on a bound, non-blocking socket. The descriptor is duplicated.

    :param connected: the one address that the socket is connected to, if it is.
    """
    port = cast("Any", DatagramPort)._fromListeningDescriptor(reactor, descriptor, family, protocol, MAX_DATAGRAM)
    port._connectedAddr = connected
    widen(port._preexistingSocket)
    port.startListening()
    return cast("DatagramPort", port)
