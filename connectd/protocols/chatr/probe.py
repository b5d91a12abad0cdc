"""A look at a Chatr server, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from connectd.net.client import ConnectionEnded
from connectd.net.trust import UNPINNED
from connectd.protocols.chatr.client import ChatrDialogue, load_identity, parse_chatr_url, secure_endpoint


async def probe(url: str, report: Callable[[str, str], None], reactor: Any) -> None:
    """Connect, be accepted, leave.

    :param url: ``chatr://HOST[:PORT]?identity=FILE[&certificate=FILE]``.
    :param report: called with (step, detail) at each step.
    :raises connectd.net.client.ConnectionEnded: where the server ends it, or is not the right one.
    """
    server = parse_chatr_url(url)
    identity = load_identity(server)
    dialogue = ChatrDialogue(reactor, server.settings, identity, report=report)
    report("connect", f"{server.host} port {server.port}")
    try:
        await dialogue.dial(secure_endpoint(reactor, server, timeout=server.settings.handshake_timeout))
    except ConnectionEnded as error:
        if not error.reason.endswith(UNPINNED):
            raise
        raise ConnectionEnded(error.outcome, f"{error.reason}; certificate=FILE pins it") from error
    await dialogue.hang_up()
    report("closed", "left in good order")
