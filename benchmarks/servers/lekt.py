"""A LEKT listener, with as many further clients listed as a benchmark likes."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any, Literal

from benchmarks.harness.control import Commands
from benchmarks.servers.listener import LISTEN, serve_listener
from connectd.net.listener import Listener
from connectd.protocols.lekt.packets import DIRECT_TCP, Entry, encode_port
from connectd.protocols.lekt.server import LektListener
from connectd.protocols.lekt.settings import LektSettings

_FIRST = int(IPv4Address("10.0.0.1"))


def serve(reactor: Any, listed: int = 0, events: Literal["file", "log"] = "file") -> Commands:
    """Listen.

    :param listed: so many clients are on the list without a connection.
    :param events: where events go.
    """
    settings = LektSettings(listen=LISTEN)
    lekt: list[LektListener] = []

    def make(context: Any) -> Listener:
        lekt.append(LektListener(settings, context))
        return lekt[0]

    _, commands = serve_listener(reactor, make, events)
    for index in range(listed):
        address = IPv4Address(_FIRST + index)
        entry = Entry(address, ((DIRECT_TCP.index, encode_port(1 + index % 65535)),))
        lekt[0].presence.join(address.packed, entry.encode(), reactor.seconds())
    return {**commands, "listed": lambda: len(lekt[0].presence)}
