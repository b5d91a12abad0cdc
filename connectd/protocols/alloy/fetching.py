"""Fetching the assets of a server into a store, without staying (AL-10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import uuid4

import attrs

from connectd.protocols.alloy.asset_store import AssetStore
from connectd.protocols.alloy.client import make_client, make_endpoint, parse_alloy_url
from connectd.protocols.alloy.fields import Asset
from connectd.protocols.alloy.packets import AssetInitialize, Packet, WorldSettings


class Progress(Protocol):
    """Who is told how far it is."""

    def offered(self, total: int, missing: int) -> None:
        """So many assets are offered, and so many of them are not here."""

    def begun(self, name: str, size: int) -> None:
        """An asset begins: the name that the server gives it, and its bytes."""

    def came(self, size: int) -> None:
        """So many bytes of it came."""

    def kept(self, name: str, hash: str, size: int) -> None:
        """It is whole, checked and kept."""


@attrs.define
class Fetched:
    """What came of it.

    :param offered: assets that the server offers.
    :param fetched: those that came.
    :param bytes: of these.
    """

    offered: int = 0
    fetched: int = 0
    bytes: int = 0


async def fetch(
    reactor: Any, url: str, store: AssetStore, progress: Progress, password: bytes | None = None
) -> Fetched:
    """Log in, take what the store lacks, leave. What came whole stays, however it ends.

    Whoever logs in by password and names no UUID is a new one each time: the player of that name may be playing, and a
    fetch that was killed lives on at the server for a while.

    :param url: ``alloy://USERNAME@HOST[:PORT][?pin=…]``.
    :raises connectd.net.client.ConnectionEnded: where the server ends it, or sends what was not asked for.
    """
    server = parse_alloy_url(url)
    if not server.settings.uuid and not server.settings.services_url:
        server = attrs.evolve(server, settings=attrs.evolve(server.settings, uuid=str(uuid4())))
    endpoint = make_endpoint(reactor, server)
    fetched = Fetched()

    def heard(packet: Packet) -> None:
        if isinstance(packet, WorldSettings):
            fetched.offered = len(set(packet.required_assets or ()))
        elif isinstance(packet, AssetInitialize):
            progress.begun(packet.asset.name, packet.size)

    def asked(assets: Sequence[Asset]) -> None:
        progress.offered(fetched.offered, len(assets))

    def kept(asset: Asset, size: int) -> None:
        fetched.fetched += 1
        fetched.bytes += size
        progress.kept(asset.name, asset.hash, size)

    client = make_client(
        reactor,
        server,
        password=password,
        store=store,
        on_packet=heard,
        on_assets=asked,
        on_part=progress.came,
        on_asset=kept,
    )
    await client.connect(endpoint)
    await client.when_entered()
    await client.hang_up()
    return fetched
