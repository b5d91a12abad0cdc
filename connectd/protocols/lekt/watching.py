"""``connectctl lekt watch``: who comes and who goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from connectd.protocols.lekt.client import Joined, LektClient

Show = Callable[[str, str, int | None], None]


async def watch(reactor: Any, url: str, show: Show, status: Callable[[str], None]) -> None:
    """Join and tell of every change, for ever.

    :param show: called with ("joined" or "left", address, Direct TCP port).
    :param status: called with a line about our own connection.
    :raises connectd.net.client.ConnectionEnded: where the server refuses us at the first try.
    """
    client = LektClient.from_url(reactor, url)
    client.on_join = lambda: status(f"joined {url}")
    client.on_end = lambda event: status(f"cut off: {event.reason}; joining again")
    client.startService()
    try:
        await client.when_joined()
        async for change in client.changes():
            word = "joined" if isinstance(change, Joined) else "left"
            show(word, str(change.client.address), change.client.port)
    finally:
        client.on_end = lambda event: None
        await client.stopService()
