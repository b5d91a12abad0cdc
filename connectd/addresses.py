"""Addresses as bytes: one form for all of admission and the directory's bans."""

from __future__ import annotations

import socket
from typing import Final

MAPPED: Final = bytes(10) + b"\xff\xff"


def pack(host: str) -> bytes:
    """The address in network byte order: 4 bytes for IPv4, 16 for IPv6.

    IPv4-mapped IPv6 (``::ffff:192.0.2.1``) counts as IPv4. A zone (``fe80::1%eth0``) is dropped.

    :raises ValueError: where ``host`` is not the text of an IP address.
    """
    try:
        if ":" not in host:
            return socket.inet_pton(socket.AF_INET, host)
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except (OSError, ValueError):
        raise ValueError(f"{host!r} is not an IP address") from None
    return packed[len(MAPPED) :] if packed.startswith(MAPPED) else packed
