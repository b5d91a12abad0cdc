"""One asset on its way to a client, a part at a time (AL-10). It waits for the disk: it belongs in a thread."""

from __future__ import annotations

import os
from threading import Lock
from typing import Final

from connectd.protocols.alloy.asset_index import AssetChanged, AssetDirectory, IndexedAsset, identity
from connectd.protocols.alloy.packets import AssetPart

PART_SIZE: Final = 1 << 20
"""Bytes of content in one part: what a transfer may hold is counted in these."""


class AssetReader:
    """An asset that is read. Its content is what was indexed, or reading it fails; nothing is read ahead.

    It may be closed while it is opened or read in another thread: the file is given back once that is over.

    :param directory: where it is.
    :param asset: which.
    """

    def __init__(self, directory: AssetDirectory, asset: IndexedAsset, part_size: int = PART_SIZE) -> None:
        self._descriptor: int | None = None
        self._closed = False
        self._lock = Lock()
        self._directory = directory
        self._asset = asset
        self._part_size = part_size
        self.left = asset.size
        """Bytes that are still to be read."""

    def open(self) -> None:
        """Open the file, before anything is read.

        :raises AssetChanged: where it is not any more what was indexed.
        :raises OSError: where it cannot be opened.
        """
        with self._lock:
            if not self._closed and self._descriptor is None:
                self._descriptor = self._directory.open(self._asset)

    def read(self) -> tuple[bytes, int]:
        """Read the next part.

        :return: its frame, compressed and encoded, and how many bytes of content are in it.
        :raises AssetChanged: the file was written to, cut or replaced meanwhile.
        :raises OSError: where it cannot be read.
        """
        with self._lock:
            return self._read()

    def _read(self) -> tuple[bytes, int]:
        if self._descriptor is None or not self.left:
            raise EOFError("nothing is left of the asset")
        wanted = min(self._part_size, self.left)
        part = os.read(self._descriptor, wanted)
        while len(part) < wanted:
            more = os.read(self._descriptor, wanted - len(part))
            if not more:
                raise AssetChanged(self._asset.name)
            part += more
        # What was written over meanwhile must not leave as a part of something else. A file that was replaced by
        # another is still whole; that it has lost its name shows in nothing but the last element.
        if identity(self._descriptor)[:-1] != self._asset.identity[:-1]:
            raise AssetChanged(self._asset.name)
        self.left -= wanted
        return AssetPart(part).encode(), wanted

    def close(self) -> None:
        """Give the file back, once nobody reads it any more; a second time nothing happens."""
        with self._lock:
            self._closed = True
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)
