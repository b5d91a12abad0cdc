"""The files that a world needs, served from memory: a few, and small ones."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from connectd.credentials import CredentialsError
from connectd.protocols.alloy.fields import MAXIMUM_ASSET_NAME, Asset
from connectd.protocols.alloy.packets import MAXIMUM_ASSETS, AssetPart

MAXIMUM_TOTAL: Final = 16 << 20
"""Bytes of all assets together."""

PART_SIZE: Final = 64 * 1024
"""Bytes of content in one part."""


class AssetsError(CredentialsError):
    """A directory of assets cannot be served: one line that names it, what is wrong and the way out."""


class MemoryAssets:
    """Assets and their content, as it is sent: compressed and encoded once for all clients.

    :param contents: by asset.
    """

    def __init__(self, contents: Mapping[Asset, bytes] | None = None) -> None:
        self._sizes = {asset: len(content) for asset, content in (contents or {}).items()}
        self._parts = {asset: tuple(_encode(content)) for asset, content in (contents or {}).items()}

    @classmethod
    def from_directory(cls, path: str) -> MemoryAssets:
        """All regular files in a directory and those in it, named by their path in it; symbolic links are left out.

        :raises AssetsError: where it cannot be read, or is more than can be served.
        """
        contents: dict[Asset, bytes] = {}
        total = 0
        try:
            for name, file in sorted(_files(path, "")):
                with open(file, "rb") as stream:
                    content = stream.read(MAXIMUM_TOTAL - total + 1)
                total += len(content)
                if total > MAXIMUM_TOTAL or len(contents) >= MAXIMUM_ASSETS:
                    raise AssetsError(
                        f"assets: {path} has more than {MAXIMUM_TOTAL >> 20} MiB or {MAXIMUM_ASSETS} files, which are "
                        "kept in memory (take some out)"
                    )
                if len(name) > MAXIMUM_ASSET_NAME or not name.isprintable():
                    raise AssetsError(
                        f"assets: {path}: the name {name[:80]!r} is not printable, or over {MAXIMUM_ASSET_NAME} "
                        "characters (rename it)"
                    )
                contents[Asset(hashlib.sha256(content).hexdigest(), name)] = content
        except OSError as error:
            raise AssetsError(f"assets: {error.filename or path} cannot be read: {error.strerror or error}") from None
        return cls(contents)

    def __iter__(self) -> Iterator[Asset]:
        return iter(self._sizes)

    def size(self, asset: Asset) -> int:
        """Bytes of its content."""
        return self._sizes[asset]

    def parts(self, asset: Asset) -> Iterable[tuple[bytes, int]]:
        """Its content, in parts: the frame of each, and how many bytes of content are in it."""
        return self._parts[asset]


def _encode(content: bytes) -> Iterator[tuple[bytes, int]]:
    for begin in range(0, len(content), PART_SIZE):
        part = content[begin : begin + PART_SIZE]
        yield AssetPart(part).encode(), len(part)


def _files(path: str, prefix: str) -> Iterator[tuple[str, str]]:
    """(name, path) of the files in a directory and below it."""
    with os.scandir(path) as entries:
        for entry in entries:
            kind = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind):
                yield from _files(entry.path, f"{prefix}{entry.name}/")
            elif stat.S_ISREG(kind):
                yield prefix + entry.name, entry.path
