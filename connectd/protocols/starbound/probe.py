"""A look at a Starbound server, packet by packet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from connectd.protocols.starbound.client import login


async def probe(url: str, report: Callable[[str, str], None], reactor: Any, password: bytes | None = None) -> None:
    """Log in, tell each packet, leave.

    :param url: ``starbound://[ACCOUNT@]HOST[:PORT][?generation=…]``.
    :param report: called with (step, detail) at each step.
    :param password: of the account, or the server's.
    :raises connectd.protocols.starbound.client.LoginRefused: where the server says no.
    :raises connectd.net.client.ConnectionEnded: where it ends the connection otherwise.
    """
    session = await login(reactor, url, password=password, report=report)
    report("accepted", f"as client {session.client_id}, generation {session.generation}")
    await session.leave()
    report("closed", "left in good order")
