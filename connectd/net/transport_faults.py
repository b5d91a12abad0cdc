"""What goes wrong under a protocol: in TLS, which has words of its own for it."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionClosed

from connectd.sansio import Outcome


class TransportFault(Exception):
    """What lies under the protocol, such as TLS, could not go on.

    :param reason: for the operator: one line.
    :param outcome: how the connection is counted before acceptance.
    """

    def __init__(self, reason: str, outcome: Outcome = Outcome.MALFORMED) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outcome = outcome


def transport_fault(error: BaseException | None) -> TransportFault | None:
    """What was wrong under a protocol, or None where its connection just ended.

    :param error: what Twisted says that a connection was lost with.
    """
    if error is None or isinstance(error, ConnectionClosed):
        return None
    if isinstance(error, TransportFault):
        return error
    from OpenSSL import SSL

    if not isinstance(error, SSL.Error):
        return None
    words = openssl_words(error)
    # An alert is what the peer says of us: it went away.
    outcome = Outcome.ABORTED if "alert" in words else Outcome.MALFORMED
    return TransportFault(f"TLS: {words}", outcome)


def openssl_words(error: Any) -> str:
    """OpenSSL's own words: the last of its list of (library, function, reason)."""
    try:
        return str(error.args[0][-1][-1]) or "error"
    except (IndexError, TypeError):
        return " ".join(str(error).split()) or type(error).__name__
