"""LEKT's listener: it admits clients to one list and answers their heartbeats from it."""

from __future__ import annotations

from collections.abc import Mapping
from socket import AF_INET, inet_pton
from typing import Any, cast

from connectd.net.connection import Connection, Peer
from connectd.net.listener import Context, Listener
from connectd.protocols.lekt.machine import IPV4_ONLY, HelloReceived, ServerMachine
from connectd.protocols.lekt.packets import DIRECT_TCP, decode_port
from connectd.protocols.lekt.presence import Presence
from connectd.protocols.lekt.settings import LektSettings
from connectd.sansio import Outcome
from connectd.settings import ListenerSettings

RETENTION_MARGIN = 60.0
"""Seconds for which changes are remembered beyond the longest silence, so that a late sweep finds them still there."""


class LektListener(Listener):
    """One list of clients, on one socket.

    :param settings: the listener's.
    :param context: the daemon's shared rooms.
    """

    protocol = "lekt"
    settings: LektSettings

    def __init__(self, settings: LektSettings, context: Context) -> None:
        super().__init__(settings, context)
        self.presence = Presence(_retention(settings))

    def reconfigure(self, settings: ListenerSettings) -> bool:
        """Take new settings; clients that are in keep the pace that they came with."""
        if not super().reconfigure(settings):
            return False
        self.presence.retention = max(self.presence.retention, _retention(self.settings))
        return True

    def make_machine(self, peer: Peer, now: float) -> ServerMachine:
        return ServerMachine(self.settings, self.presence, now=now)

    def on_HelloReceived(self, connection: Connection, event: HelloReceived) -> None:
        """Let in who has an IPv4 address, while there is room (LEKT-13, COM-4)."""
        machine = cast(ServerMachine, connection.machine)
        try:
            address = inet_pton(AF_INET, connection.peer.host)
        except OSError:
            connection.call(lambda now: machine.refuse(IPV4_ONLY, now))
            return
        if self.full:
            connection.call(lambda now: machine.refuse("The server is full", now, Outcome.LIMITED))
        else:
            connection.call(machine.accept, address)

    def identity(self, connection: Connection) -> Mapping[str, Any]:
        """How the client is listed: its port for direct connections, if it announced one."""
        machine = cast(ServerMachine, connection.machine)
        for index, information in machine.information:
            if index == DIRECT_TCP.index:
                return {"direct_tcp_port": decode_port(information)}
        return {}


def _retention(settings: LektSettings) -> float:
    return settings.heartbeat_period * settings.silent_periods + RETENTION_MARGIN
