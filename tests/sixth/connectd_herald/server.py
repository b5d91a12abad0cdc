"""HERALD's listener."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from connectd.net.connection import Connection, Peer
from connectd.net.listener import Listener
from connectd.sansio import Outcome
from connectd_herald.machine import NameGiven, ServerMachine
from connectd_herald.settings import HeraldSettings


class HeraldListener(Listener):
    """Lets people in by their names, and leaves what they cry to a handler."""

    protocol = "herald"
    settings: HeraldSettings

    def make_machine(self, peer: Peer, now: float) -> ServerMachine:
        return ServerMachine(self.settings, now=now)

    def on_NameGiven(self, connection: Connection, event: NameGiven) -> None:
        machine = cast(ServerMachine, connection.machine)
        if self.full:
            connection.call(lambda now: machine.refuse("The square is full", now, Outcome.LIMITED))
        elif not event.name or event.name in self.settings.reserved_names:
            connection.call(lambda now: machine.refuse("Nobody may be called so", now))
        else:
            connection.call(machine.accept)

    def identity(self, connection: Connection) -> Mapping[str, Any]:
        return {"name": cast(ServerMachine, connection.machine).name}
