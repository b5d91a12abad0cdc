"""A client's UDP socket: paths to other peers, for an application.

In short::

    socket = PeerSocket.bind(reactor, own_uuid, port=1231)
    socket.start()
    path = await socket.punch(peer, Role.REQUESTER, candidates(public, private, 1231))
    path.on_message = print
    path.send(b"hello")
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from connectd.net.bound import BoundSocket
from connectd.net.datagrams import DatagramConnection
from connectd.net.endpoint import EndpointDescription
from connectd.net.sockets import bind
from connectd.protocols.chatr.candidates import Candidate
from connectd.protocols.chatr.checks import Role
from connectd.protocols.chatr.puncher import (
    MAXIMUM_MESSAGE,
    PUNCHING_TIMEOUT,
    MessageReceived,
    PathEnded,
    PathOpened,
    PunchingMachine,
)
from connectd.sansio import DatagramAddress, Event, LocalProtocolError, Outcome, Random, default_random

log = Logger()

KEPT_MESSAGES: Final = 64
"""Messages that wait until :attr:`PeerPath.on_message` is set; the oldest goes."""


class PunchingFailed(Exception):
    """No path to a peer came about.

    :param peer: which.
    :param reason: why, in one line.
    """

    def __init__(self, peer: UUID, reason: str) -> None:
        super().__init__(f"no path to {peer}: {reason}")
        self.peer = peer
        self.reason = reason


class PathClosed(Exception):
    """The path is over; its text says why."""


class PeerPath:
    """A path to a peer: datagrams of up to 1,200 bytes, which may be lost, or come twice or in another order.

    Version 1 proves reachability, not identity (CH-41): whoever answers at :attr:`address` knows both UUIDs, and that
    is all that is known. Nothing is encrypted. An application that needs to know whom it talks with has to prove that
    itself, over this path.

    :ivar peer: the UUID that its checks carry.
    :ivar address: host and port where it is.
    :ivar candidate: how that address became known.
    :ivar identity_proven: always False in version 1.
    """

    identity_proven: Final = False

    def __init__(self, socket: PeerSocket, peer: UUID, candidate: Candidate) -> None:
        self.peer = peer
        self.candidate = candidate
        self.address: DatagramAddress = candidate.address
        self._socket = socket
        self._lost: str | None = None
        self._waiters: list[Deferred[str]] = []
        self._kept: deque[bytes] = deque(maxlen=KEPT_MESSAGES)
        self._on_message: Callable[[bytes], None] | None = None

    @property
    def on_message(self) -> Callable[[bytes], None] | None:
        """Called with each message. Up to 64 wait until it is set, the oldest goes."""
        return self._on_message

    @on_message.setter
    def on_message(self, taker: Callable[[bytes], None] | None) -> None:
        self._on_message = taker
        while self._kept and self._on_message is not None:
            self._on_message(self._kept.popleft())

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._lost is None

    def send(self, data: bytes) -> None:
        """Send a message; whether it arrives is not known.

        :raises ValueError: for more than 1,200 bytes.
        :raises PathClosed: where the path is over.
        """
        if self._lost is not None:
            raise PathClosed(self._lost)
        if len(data) > MAXIMUM_MESSAGE:
            raise ValueError(f"a message of {len(data)} bytes; at most {MAXIMUM_MESSAGE}")
        self._socket.send(self.peer, data)

    def close(self) -> None:
        """Say goodbye and end the path; nothing where it is over."""
        if self._lost is None:
            self._socket.close_path(self.peer)

    def when_lost(self) -> Deferred[str]:
        """Fires with why once the path is over, such as with a peer that has not answered for 30 s (CH-42)."""
        if self._lost is not None:
            return succeed(self._lost)
        waiter: Deferred[str] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    def _received(self, data: bytes) -> None:
        if self._on_message is None:
            self._kept.append(data)
        else:
            self._on_message(data)

    def _over(self, reason: str) -> None:
        self._lost = reason
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(reason)


class PeerSocket:
    """Punches through to peers from one UDP socket, and keeps the paths (CH-40 to CH-42).

    :param reactor: the reactor.
    :param own: our UUID.
    :param socket: bound for datagrams, on the port number of the TLS connection's local end (CH-11); closed by
        :meth:`stop`.
    :param random: random bytes for transaction ids.
    """

    def __init__(self, reactor: Any, own: UUID, socket: BoundSocket, *, random: Random = default_random) -> None:
        self.own = own
        self._machine = PunchingMachine(own, random=random)
        self._connection = DatagramConnection(reactor, socket, self._machine, self._respond)
        self._punching: dict[UUID, Deferred[PeerPath]] = {}
        self._paths: dict[UUID, PeerPath] = {}
        assert socket.port is not None
        self.port: int = socket.port
        """The UDP port."""

    @classmethod
    def bind(
        cls, reactor: Any, own: UUID, *, port: int, interface: str = "", random: Random = default_random
    ) -> PeerSocket:
        """A peer socket on a port of this machine.

        :param port: 0 lets the kernel choose.
        :param interface: numeric address; empty: all, of both families.
        :raises connectd.net.bound.BindError: where it cannot be had.
        """
        description = EndpointDescription("udp", port=port, interface=interface or None)
        return cls(reactor, own, bind(description, kind="datagram"), random=random)

    @property
    def paths(self) -> list[PeerPath]:
        """The paths that are open."""
        return list(self._paths.values())

    def start(self) -> None:
        """Begin to receive: checks of peers may come before we know of them (CH-40)."""
        self._connection.start()

    def stop(self) -> Deferred[None]:
        """Say goodbye on every path and close the socket; it may be called again.

        :return: fires once the socket is closed.
        """
        return self._connection.stop(Outcome.LEFT, "this client left")

    def punch(
        self, peer: UUID, role: Role, candidates: Iterable[Candidate], *, timeout: float = PUNCHING_TIMEOUT
    ) -> Deferred[PeerPath]:
        """Reach a peer that has agreed; a path to it that exists is ended first.

        :param role: the requester is who sent the ConnectionRequest. Where both did and both accepted, both take the
            smaller UUID for the requester.
        :param candidates: see :func:`connectd.protocols.chatr.candidates.candidates`.
        :param timeout: seconds.
        :return: fires with the path; fails with :class:`PunchingFailed`; cancelling it gives up.
        """
        opened: Deferred[PeerPath] = Deferred(lambda deferred: self._cancelled(peer, deferred))
        self.close_path(peer, "replaced by a new request")
        try:
            self._punching[peer] = opened
            self._connection.call(lambda now: self._machine.punch(peer, role, candidates, now, timeout=timeout))
        except LocalProtocolError as error:
            del self._punching[peer]
            return fail(PunchingFailed(peer, str(error)))
        return opened

    def send(self, peer: UUID, data: bytes) -> None:
        """Send a message to a peer; :meth:`PeerPath.send` is what applications use.

        :raises PathClosed: where there is no path to it.
        """

        def verb(now: float) -> list[Event]:
            self._machine.send(peer, data)
            return []

        try:
            self._connection.call(verb)
        except LocalProtocolError as error:
            raise PathClosed(str(error)) from None

    def close_path(self, peer: UUID, reason: str = "closed here") -> None:
        """End the path to a peer, or the way to one."""

        def verb(now: float) -> list[Event]:
            # Not behind other events that wait for their turn: a new path to this peer may follow at once.
            for event in self._machine.close_path(peer, now, reason=reason):
                self._respond(event)
            return []

        self._connection.call(verb)

    def _cancelled(self, peer: UUID, deferred: Deferred[PeerPath]) -> None:
        if self._punching.get(peer) is deferred:
            del self._punching[peer]
            self.close_path(peer, "given up")

    def _respond(self, event: Event) -> None:
        if isinstance(event, MessageReceived):
            path = self._paths.get(event.peer)
            if path is not None:
                path._received(event.data)
        elif isinstance(event, PathOpened):
            opened = PeerPath(self, event.peer, event.candidate)
            self._paths[event.peer] = opened
            self._punching.pop(event.peer).callback(opened)
        elif isinstance(event, PathEnded):
            lost = self._paths.pop(event.peer, None)
            waiting = self._punching.pop(event.peer, None)
            if lost is not None:
                lost._over(event.reason)
            elif waiting is not None:
                waiting.errback(PunchingFailed(event.peer, event.reason))
