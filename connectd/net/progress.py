"""How far a peer has come with reading what was sent to it."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any, Final, cast

_BYTES_ACKED: Final = struct.Struct("=Q")
_BYTES_ACKED_OFFSET: Final = 120
_TCP_INFO_LENGTH: Final = _BYTES_ACKED_OFFSET + _BYTES_ACKED.size


def bytes_acknowledged(connection: Any) -> int | None:
    """
    Tell how many bytes the peer's system has acknowledged so far: the progress that COM-6 looks for.

    The number only grows while the peer makes room by reading. It can be one or two above the bytes written,
    because TCP numbers the opening and the end of a stream too.

    :param connection: a socket, as the ``getHandle`` of a TCP transport gives it; that of TLS is none.
    :return: ``tcpi_bytes_acked`` of Linux's ``TCP_INFO`` (unsigned 64 bits at offset 120; kernel 4.1 and later);
        None if the platform, the kind of socket or the kernel cannot tell.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_LENGTH)
    except (OSError, AttributeError):
        return None
    if len(information) < _TCP_INFO_LENGTH:
        return None
    return cast("int", _BYTES_ACKED.unpack_from(information, _BYTES_ACKED_OFFSET)[0])


def underlying(transport: Any) -> Any:
    """The transport of the socket itself, where another one, such as TLS, lies over it."""
    while (under := getattr(transport, "transport", None)) is not None:
        transport = under
    return transport


def reading_progress(transport: Any) -> object:
    """
    Something that changes while the peer reads what waits for it, and stays the same while it does not (COM-6).

    On Linux's TCP, under TLS too, it is what the peer's system has acknowledged. Elsewhere (Unix sockets, other
    systems) it is how much the transport still holds: once the kernel's buffer is full, that takes more only as the
    peer reads.

    A transport that knows, such as that of a QUIC stream, has a method ``progress`` for it.

    :return: None if nothing can tell.
    """
    progress = getattr(transport, "progress", None)
    if progress is not None:
        return progress()
    transport = underlying(transport)
    handle = getattr(transport, "getHandle", None)
    acknowledged = None if handle is None else bytes_acknowledged(handle())
    if acknowledged is not None:
        return acknowledged
    unsent = getattr(transport, "dataBuffer", None)
    return None if unsent is None else (len(unsent), transport.offset)
