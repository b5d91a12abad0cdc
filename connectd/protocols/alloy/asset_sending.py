"""Sending what a client asked for, as fast as it takes it, and holding no more than two parts meanwhile (AL-10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from twisted.logger import Logger

from connectd.net.connection import Connection
from connectd.protocols.alloy.asset_index import AssetChanged
from connectd.protocols.alloy.asset_library import AssetLibrary
from connectd.protocols.alloy.fields import Asset
from connectd.protocols.alloy.server_machine import MAXIMUM_SHOWN, ServerMachine
from connectd.sansio import Outcome
from connectd.workers.threads import run_in_thread

log = Logger()

GONE: Final = "The asset {name} is not available any more"
"""What a client is told whose asset has changed since it was offered."""


async def send_assets(connection: Connection, library: AssetLibrary, assets: Sequence[Asset], reactor: Any) -> None:
    """Send assets, one after the other, then say that this was all.

    An asset that has changed ends the connection: half of it may have been sent.
    """
    machine = cast(ServerMachine, connection.machine)
    for asset in assets:
        try:
            await _send(connection, machine, library, asset, reactor)
        except (AssetChanged, OSError, KeyError) as error:
            log.warn("alloy: the asset {name} cannot be sent: {reason}", name=asset.name, reason=str(error))
            connection.close(Outcome.FAILED, GONE.format(name=asset.name[:MAXIMUM_SHOWN]))
            return
    connection.call(machine.finish_assets)


async def _send(
    connection: Connection, machine: ServerMachine, library: AssetLibrary, asset: Asset, reactor: Any
) -> None:
    reader = library.reader(asset)
    try:
        await run_in_thread(reactor, reader.open)
        connection.call(machine.begin_asset, asset, reader.left)
        while reader.left:
            frame, size = await library.read_part(reader)
            connection.call(machine.asset_part, frame, size)
            # Else the part stays here while the next is read.
            del frame
            await connection.drained()
        connection.call(machine.end_asset)
    finally:
        # In a thread: one that is still opening or reading, for a client that has gone, has to come to its end first.
        closing = run_in_thread(reactor, reader.close)
        closing.addErrback(lambda failure: log.failure("alloy: the asset {name} stays open", failure, name=asset.name))
