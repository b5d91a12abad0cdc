"""What clients enter: the world's settings and the assets that it needs, encoded once for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from connectd.protocols.alloy.fields import VARINT_SIZE, Asset, AssetField
from connectd.protocols.alloy.packets import MAXIMUM_ASSETS, WorldSettings

ROOM_FOR_MISTAKES: Final = 65_536
"""Bytes that a RequestAssets may have beyond what asks for all that is offered, so that a client which wants something
that is not there is told what (AL-10)."""

_ASSET = AssetField()


class World:
    """A world, shared by all machines of a listener.

    :param height: in blocks.
    :param uuid: what JoinWorld names.
    :param assets: what it needs; of one content hash and name only once.
    :raises ValueError: where they are more than WorldSettings has room for, or one does not fit.
    """

    __slots__ = ("assets", "height", "request_maximum", "settings", "uuid")

    def __init__(self, height: int, uuid: UUID, assets: Iterable[Asset] = ()) -> None:
        self.height = height
        self.uuid = uuid
        self.assets: Mapping[Asset, None] = dict.fromkeys(assets)
        """In the order in which clients are told of them."""
        if len(self.assets) > MAXIMUM_ASSETS:
            raise ValueError(f"{len(self.assets)} assets, at most {MAXIMUM_ASSETS} fit")
        self.settings = WorldSettings(height, tuple(self.assets) or None).encode()
        """The frame of WorldSettings."""
        offered = sum(len(_ASSET.encode(asset)) for asset in self.assets)
        self.request_maximum = 1 + VARINT_SIZE + offered + ROOM_FOR_MISTAKES
        """Bytes of a RequestAssets, decompressed: no more is decompressed."""
