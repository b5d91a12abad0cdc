"""What a connection sends, and what happens while the peer does not read it (COM-6)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import INegotiated, IPushProducer
from zope.interface import implementer

from connectd.net.progress import reading_progress, underlying

if TYPE_CHECKING:
    from connectd.net.connection import Driver

HIGH_WATER = 256 * 1024
"""Bytes that may wait for a peer before its own input is paused (COM-6)."""

DECIDING, WRITING, HANDLING, OPENING, STORING, TURNING = 1, 2, 4, 8, 16, 32
"""Why a peer's input is paused: several reasons may hold at once."""


@implementer(IPushProducer)
class Outgoing:
    """The writing half of a connection: the producer of its own transport.

    On TCP a write is a system call at once. Only what the socket does not take goes into the transport's buffer, with
    this object as the producer that hears of it. Until then a connection needs no turn of the reactor to write, and
    its transport none of the attributes that cost more memory than all else about it.
    """

    __slots__ = ("_closing", "_direct", "_paused", "_progress", "_waiters", "driver", "transport")

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.transport: Any = None
        self._closing = 0.0
        self._direct = False
        self._paused = 0
        self._progress: tuple[float, object] | None = None
        self._waiters: list[Deferred[None]] | None = None

    # Writing

    def _attach(self, transport: Any) -> None:
        """Write to this transport from now on.

        TLS asks its producer to pause for what is said before its handshake is done, and pausing would keep that from
        happening: there it is registered once the peer was heard.
        """
        self.transport = transport
        if isinstance(transport, tcp.Connection) and not transport.TLS:
            self._direct = True
        elif not INegotiated.providedBy(transport):
            self._register()
        else:
            _send_at_once(underlying(transport))

    def _register(self) -> None:
        """Let the transport tell when more waits than the high-water mark."""
        if not isinstance(self.transport, tcp.Connection):
            underlying(self.transport).bufferSize = HIGH_WATER
        self.transport.registerProducer(self, True)

    def congested(self) -> None:
        """What lies under us writes at once, and for the first time could not: be told when it can again."""
        self._register()

    def _write(self, data: bytes) -> None:
        if self._direct:
            try:
                sent = self.transport.getHandle().send(data)
            except OSError:
                sent = 0  # the socket is full; or broken, and the transport will find that out
            if sent == len(data):
                return
            data = data[sent:]
            self._direct = False
            self._register()
        transport = self.transport
        if isinstance(transport, tcp.Connection):
            # Their mark is also how much they read at once, and clearing 256 KiB for each read costs 10 us.
            transport.bufferSize = HIGH_WATER
            transport.write(data)
            del transport.bufferSize
        else:
            transport.write(data)

    # Backpressure

    def drained(self) -> Deferred[None]:
        """Fires when what waits for the peer is below the high-water mark; cancelled when the connection ends."""
        if self._closing or self.transport is None:
            return fail(CancelledError())
        if not self._paused & WRITING:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        return waiter

    def pause(self, why: int = HANDLING) -> None:
        """Take nothing from the peer for now."""
        if not self._paused and self.transport is not None and not self._closing:
            self.transport.pauseProducing()
        self._paused |= why

    def resume(self, why: int = HANDLING) -> None:
        """Take the peer's bytes again, unless there is another reason not to."""
        if not self._paused & why:
            return
        self._paused &= ~why
        if not self._paused and self.transport is not None:
            self.transport.resumeProducing()

    def pauseProducing(self) -> None:
        """The transport holds more than the high-water mark: stop listening to who does not read.

        Twisted says so at each write above the mark; the clock starts at the first.
        """
        if self.transport is None or self._progress is not None:
            return
        self.pause(WRITING)
        now = self.driver.clock.seconds()
        self._progress = (now, reading_progress(self.transport))
        self._watch(now + self.driver.stall_timeout)

    def resumeProducing(self) -> None:
        """The transport's buffer is empty again."""
        self._progress = None
        self.resume(WRITING)
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            waiter.callback(None)

    def stopProducing(self) -> None:
        """The transport is gone; its ``connectionLost`` says so too."""

    def _stalled(self, now: float) -> bool:
        """Whether the peer has read nothing for too long."""
        since, before = self._progress or (now, None)
        if now < since + self.driver.stall_timeout:
            return False
        current = reading_progress(self.transport)
        if current is not None and current != before:
            self._progress = (now, current)
            return False
        return True

    def _watch(self, when: float) -> None:
        """Be called at that time at the latest."""
        raise NotImplementedError


def _send_at_once(transport: Any) -> None:
    """What is said right behind a TLS handshake would wait for the peer's delayed acknowledgement of that, 40 ms."""
    if isinstance(transport, tcp.Connection):
        with suppress(OSError):  # it is gone already, or no TCP
            transport.setTcpNoDelay(True)
