"""How a QUIC connection ended, in words."""

from __future__ import annotations

from typing import Final

import attrs
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from twisted.internet.error import ConnectionClosed, ConnectionDone, ConnectionLost

from connectd.net.quic_private import alert_name
from connectd.sansio import Outcome
from connectd.wire import one_line

IDLE: Final = "Idle timeout"
"""What aioquic calls the end of a connection from which nothing came any more."""

NO_APPLICATION_PROTOCOL: Final = QuicErrorCode.CRYPTO_ERROR + 120
BAD_CERTIFICATE: Final = QuicErrorCode.CRYPTO_ERROR + 42
CERTIFICATE_REQUIRED: Final = QuicErrorCode.CRYPTO_ERROR + 116


@attrs.frozen
class Ending:
    """The end of a QUIC connection.

    :param by_peer: whether the peer brought it about.
    :param clean: whether it was meant to end now: closed with error 0.
    :param timed_out: whether nothing came any more.
    :param error: the error code of CONNECTION_CLOSE.
    :param reason: why, in one line of plain text.
    """

    by_peer: bool
    clean: bool
    timed_out: bool
    error: int
    reason: str

    @property
    def exception(self) -> ConnectionClosed:
        """What a protocol's ``connectionLost`` is told."""
        return ConnectionDone(self.reason) if self.clean else ConnectionLost(self.reason)

    def outcome(self, established: bool) -> Outcome:
        """How a connection that this has ended is counted (COM-7), unless it was meant to end.

        :param established: whether its session was accepted.
        """
        if self.timed_out:
            return Outcome.TIMEOUT
        if not self.by_peer:
            return Outcome.MALFORMED
        return Outcome.LOST if established else Outcome.ABORTED


def describe(event: ConnectionTerminated, by_peer: bool) -> Ending:
    """Put an end into words.

    :param event: aioquic's.
    :param by_peer: whether it was the peer's CONNECTION_CLOSE.
    """
    application = event.frame_type is None
    timed_out = not by_peer and event.error_code == QuicErrorCode.INTERNAL_ERROR and event.reason_phrase == IDLE
    clean = event.error_code == QuicErrorCode.NO_ERROR
    if timed_out:
        reason = "nothing came any more"
    elif clean:
        reason = "the peer closed the connection" if by_peer else "closed"
    else:
        name = f"application error {event.error_code}" if application else error_name(event.error_code)
        said = one_line(event.reason_phrase) if event.reason_phrase else ""
        reason = f"{name}: {said}" if said else name
        if by_peer:
            reason = f"the peer closed the connection: {reason}"
    return Ending(by_peer, clean, timed_out, event.error_code, reason)


def error_name(error: int) -> str:
    """The name of a transport error, as RFC 9000 and RFC 8446 have it."""
    if error == NO_APPLICATION_PROTOCOL:
        return "no application protocol in common"
    if QuicErrorCode.CRYPTO_ERROR <= error < QuicErrorCode.CRYPTO_ERROR + 256:
        name = alert_name(error)
        return f"TLS alert {error - QuicErrorCode.CRYPTO_ERROR}" if name is None else f"TLS: {name}"
    try:
        return QuicErrorCode(error).name
    except ValueError:
        return f"error {error:#x}"


PADDING: Final = int(QuicFrameType.PADDING)
"""The frame type that stands for none in a transport's CONNECTION_CLOSE."""
