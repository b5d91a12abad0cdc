"""Many clients on one machine: every address of 127.0.0.0/8 is this machine."""

from __future__ import annotations

import socket

SOURCES = 1 << 20
"""How many different addresses :func:`source` gives."""

_FIRST = 127 << 24 | 1 << 16 | 1
_BIND_ADDRESS_NO_PORT = 24
"""Linux's IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect, when the whole pair of addresses is known."""


def source(index: int) -> str:
    """The address of a client, from 127.1.0.1 on; after :data:`SOURCES` of them they begin anew."""
    return socket.inet_ntoa((_FIRST + index % SOURCES).to_bytes(4, "big"))


def client_socket(index: int) -> socket.socket:
    """A non-blocking TCP socket that connects from :func:`source` ``(index)``."""
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        client.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
    except OSError:
        pass
    client.bind((source(index), 0))
    return client
