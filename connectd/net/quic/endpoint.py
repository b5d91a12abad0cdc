"""A UDP socket that QUIC connections share: what client and server have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from connectd.net.quic.session import Session
from connectd.net.quic.timers import Timers

log = Logger()

CONNECTION_ID_LENGTH: Final = 8
"""Bytes of the connection ids that we give out. A short header does not say how long its id is."""

LONG_HEADER: Final = 0x80


class Endpoint(DatagramProtocol):
    """Sessions on one UDP socket. What is to be sent goes out once for each batch of datagrams that came.

    :param clock: the reactor.
    :ivar routes: sessions by the connection ids that their peers address them by.
    """

    noisy = False

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.timers = Timers(clock)
        self.routes: dict[bytes, Session] = {}
        self._dirty: deque[Session] = deque()
        self._batch = False
        self._scheduled: Any = None
        self._stopped = False

    @property
    def local_address(self) -> Any:
        """Where the socket is."""
        host = self.transport.getHost()  # type: ignore[union-attr]
        return (host.host, host.port)

    # The socket

    def batch_begins(self) -> None:
        """Several datagrams follow one another; nothing is sent until :meth:`batch_ends`."""
        self._batch = True

    def batch_ends(self) -> None:
        """That was all for now."""
        self._batch = False
        if self._dirty:
            self.flush()

    def send(self, datagrams: list[tuple[bytes, Any]]) -> None:
        """Send datagrams. One that the system does not take is lost, as any may be."""
        if not self._stopped:
            self.transport.send(datagrams)  # type: ignore[union-attr]

    def stopProtocol(self) -> None:
        """The socket is closed."""
        self._stopped = True
        self.timers.stop()
        self._dirty.clear()
        self.routes.clear()
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None

    # Sessions

    def touch(self, session: Session) -> None:
        """A session has something to do before this turn ends."""
        if session.dirty or self._stopped:
            return
        session.dirty = True
        self._dirty.append(session)
        if not self._batch and self._scheduled is None:
            self._scheduled = self.clock.callLater(0, self._flush_later)

    def _flush_later(self) -> None:
        self._scheduled = None
        self.flush()

    def flush(self) -> None:
        """Let the sessions that have something to do do it, each once; who has more waits for the next turn."""
        now = self.clock.seconds()
        self._batch = True
        try:
            for _ in range(len(self._dirty)):
                session = self._dirty.popleft()
                session.dirty = False
                try:
                    session.turn(now)
                except Exception:
                    log.failure("a QUIC connection failed")
                    session.fail()
        finally:
            self._batch = False
        if self._dirty and self._scheduled is None and not self._stopped:
            self._scheduled = self.clock.callLater(0, self._flush_later)

    def session_ended(self, session: Session, tell: Callable[[], None]) -> None:
        """A session has ended.

        :param tell: tells its streams.
        """
        tell()

    def forget(self, session: Session) -> None:
        """A session is gone for good."""
        session.gone = True
        self.timers.forget(session)
        for connection_id in session.quic.connection_ids:
            self.routes.pop(connection_id, None)
        self.routes.pop(session.quic.chosen_id, None)
