"""HERALD's client, and ``connectctl herald cry``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import click

from connectd.net.client import Dialogue
from connectd.net.connection import Connection
from connectd.net.foreground import run
from connectd.net.url import parse_url
from connectd.sansio import Established, Received
from connectd_herald.machine import ClientMachine, Cry
from connectd_herald.settings import HeraldClientSettings


class HeraldDialogue(Dialogue):
    """One visit: ``dial`` begins it, ``hang_up`` ends it.

    :param heard: called with each :class:`Cry`.
    :param report: called with (step, detail) as it goes.
    """

    def __init__(
        self,
        reactor: Any,
        settings: HeraldClientSettings,
        heard: Callable[[Cry], None] = lambda cry: None,
        report: Callable[[str, str], None] = lambda step, detail: None,
    ) -> None:
        super().__init__(reactor)
        self.settings = settings
        self.heard = heard
        self.report = report

    def make_machine(self, now: float) -> ClientMachine:
        return ClientMachine(self.settings, now=now)

    def cry(self, text: str) -> None:
        """Needs an accepted session."""
        assert self.connection is not None
        self.connection.send(Cry(text))

    def on_Established(self, connection: Connection, event: Established) -> None:
        self.report("welcome", cast(ClientMachine, connection.machine).text)
        super().on_Established(connection, event)

    def on_Received(self, connection: Connection, event: Received) -> None:
        self.heard(event.message)


async def visit(reactor: Any, url: str, **callbacks: Any) -> HeraldDialogue:
    """Come in at ``herald://HOST[:PORT][?name=NAME]``."""
    server = parse_url(url, "herald", 7999, HeraldClientSettings)
    dialogue = HeraldDialogue(reactor, server.settings, **callbacks)
    dialogue.report("connect", f"{server.host} port {server.port} as {server.settings.name}")
    await dialogue.dial(server.endpoint(reactor))
    return dialogue


@click.group()
def herald() -> None:
    """HERALD: cry something to everybody who is there."""


@herald.command()
@click.argument("url")
@click.argument("text")
def cry(url: str, text: str) -> None:
    """Come in at URL (herald://HOST[:PORT][?name=NAME]), cry TEXT, and leave."""

    async def main(reactor: Any) -> None:
        dialogue = await visit(reactor, url)
        dialogue.cry(text)
        await dialogue.hang_up()

    run(main)
