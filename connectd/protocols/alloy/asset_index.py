"""The assets of a directory, by the hash of their content (AL-10). It waits for the disk: it belongs in a thread."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Final

import attrs

MAX_ASSETS: Final = 65_536
"""Assets of one directory: as many as a list of them may name."""

MAX_SIZE: Final = 2**31 - 1
"""Bytes of one asset: its size travels as an i32."""

MAX_NAME_LENGTH: Final = 512
"""Characters of an asset's name."""

HASHING_BLOCK: Final = 1 << 20

_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Without O_NONBLOCK a named pipe would be waited for."""
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC

Identity = tuple[int, int, int, int, int]
"""What tells a file's content from another's without reading it: device, inode, size, times of change in ns."""


class AssetChanged(Exception):
    """An asset is not any more what it was when it was indexed.

    :param name: its name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"the asset {name} has changed or gone")
        self.name = name


@attrs.frozen
class IndexedAsset:
    """A file that may be sent.

    :param hash: SHA-256 of its content, in lower-case hexadecimal.
    :param name: its path within the directory, with slashes.
    :param size: in bytes.
    """

    hash: str
    name: str
    size: int
    identity: Identity = attrs.field(repr=False)


@attrs.frozen
class Scan:
    """What a directory had.

    :param assets: by name. Several files may have the same content, and so the same hash.
    :param problems: what was passed over, a line each.
    """

    assets: Mapping[str, IndexedAsset] = MappingProxyType({})
    problems: tuple[str, ...] = ()


class AssetDirectory:
    """A directory of assets. Nothing outside it is ever opened: symbolic links are not followed, at no depth.

    :param path: where it is.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._known: dict[str, IndexedAsset] = {}
        """By name, as of the last scan."""

    def scan(self) -> Scan:
        """Look at every file, and hash those that are new or have changed since the last scan.

        :raises OSError: where the directory cannot be read.
        """
        problems: list[str] = []
        known: dict[str, IndexedAsset] = {}
        for name, folder, entry in self._files(problems):
            if len(known) == MAX_ASSETS:
                problems.append(f"more than {MAX_ASSETS} assets: {name} and what follows it is left out")
                break
            try:
                known[name] = self._index(name, folder, entry)
            except AssetChanged:
                problems.append(f"{name} changes while it is read; the next look takes it")
            except (OSError, ValueError) as error:
                problems.append(f"{name}: {getattr(error, 'strerror', None) or error}")
        self._known = known
        return Scan(MappingProxyType(known), tuple(problems))

    def open(self, asset: IndexedAsset) -> int:
        """Open an asset for reading.

        :return: a descriptor, which is the caller's to close.
        :raises AssetChanged: where there is another file now, or none.
        """
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            *folders, name = asset.name.split("/")
            for step in folders:
                inner = os.open(step, _OPEN_FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            descriptor = os.open(name, _OPEN_FILE, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                raise AssetChanged(asset.name) from None
            raise
        finally:
            os.close(folder)
        if identity(descriptor) != asset.identity:
            os.close(descriptor)
            raise AssetChanged(asset.name)
        return descriptor

    def _files(self, problems: list[str]) -> Iterator[tuple[str, int, str]]:
        """Go through the directory in the order of names: the path within it, the open folder, the name there."""
        root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            walk = os.fwalk(
                ".", dir_fd=root, onerror=lambda error: problems.append(f"{error.filename}: {error.strerror}")
            )
            for path, folders, files, folder in walk:
                folders.sort()
                for entry in sorted(files):
                    yield os.path.normpath(os.path.join(path, entry)), folder, entry
        finally:
            os.close(root)

    def _index(self, name: str, folder: int, entry: str) -> IndexedAsset:
        if len(name) > MAX_NAME_LENGTH:
            raise ValueError(f"the name has more than {MAX_NAME_LENGTH} characters")
        # Neither is what is no UTF-8.
        if not name.isprintable():
            raise ValueError("the name is not printable")
        status = os.stat(entry, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            raise ValueError("a symbolic link, which is not followed")
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("no file")
        if status.st_size > MAX_SIZE:
            raise ValueError(f"more than {MAX_SIZE} bytes")
        before = self._known.get(name)
        if before is not None and before.identity == _identity(status):
            return before
        descriptor = os.open(entry, _OPEN_FILE, dir_fd=folder)
        try:
            found = identity(descriptor)
            digest = sha256()
            while block := os.read(descriptor, HASHING_BLOCK):
                digest.update(block)
            if found != _identity(status) or identity(descriptor) != found:
                raise AssetChanged(name)
        finally:
            os.close(descriptor)
        return IndexedAsset(digest.hexdigest(), name, status.st_size, found)


def identity(descriptor: int) -> Identity:
    """The identity of an open file."""
    return _identity(os.fstat(descriptor))


def _identity(status: os.stat_result) -> Identity:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
