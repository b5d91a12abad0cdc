"""A look at a LEKT server, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from connectd.protocols.lekt.client import LektDialogue, parse_lekt_url


async def probe(url: str, report: Callable[[str, str], None], reactor: Any) -> None:
    """Join, read the list once, leave.

    :param url: ``lekt://HOST[:PORT][?port=…]``.
    :param report: called with (step, detail) at each step.
    :raises connectd.net.client.ConnectionEnded: where the server ends it.
    """
    server = parse_lekt_url(url)
    dialogue = LektDialogue(reactor, server.settings, report=report, automatic=False)
    report("connect", f"{server.host} port {server.port}")
    await dialogue.dial(server.endpoint(reactor, server.settings.handshake_timeout))
    update = await dialogue.heartbeat()
    for entry in update.joined[:20]:
        report("listed", str(entry))
    if len(update.joined) > 20:
        report("listed", f"and {len(update.joined) - 20} more")
    await dialogue.hang_up()
    report("closed", "left in good order")
