"""A client's assets, kept by the hash of their content (AL-10). It waits for the disk: it belongs in a thread."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from types import TracebackType
from typing import Final

import attrs

from connectd.protocols.alloy.asset_index import HASHING_BLOCK

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_UNFINISHED: Final = ".unfinished-"


class AssetError(Exception):
    """What came is not what was asked for. Its text says what is wrong."""


@attrs.frozen
class StoredAsset:
    """An asset that is here whole.

    :param hash: SHA-256 of its content, in lower-case hexadecimal; also its file's name.
    :param size: in bytes.
    """

    hash: str
    size: int


def check_hash(text: str) -> str:
    """Insist that a text is a hash: it becomes the name of a file.

    :raises AssetError: it is something else.
    """
    if _HASH.fullmatch(text) is None:
        raise AssetError(f"{text[:80]!r} is no SHA-256 hash in lower-case hexadecimal")
    return text


class AssetStore:
    """A directory with one file for each asset, named by its hash, in folders by the first two digits.

    Names that a server gives are never used for files.

    :param path: where it is; it is made when something is stored.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def file(self, hash: str) -> str:
        """Where an asset is, or would be.

        :raises AssetError: for what is no hash.
        """
        return os.path.join(self.path, check_hash(hash)[:2], hash)

    def has(self, hash: str, size: int | None = None) -> bool:
        """Whether an asset is here whole, of that size where it is known."""
        try:
            found = os.stat(self.file(hash)).st_size
        except FileNotFoundError:
            return False
        return size is None or found == size

    def receive(self, hash: str, size: int) -> IncomingAsset:
        """Begin to store an asset.

        :param size: in bytes, as announced.
        :raises AssetError: for what is no hash.
        """
        return IncomingAsset(self, hash, size)

    def __iter__(self) -> Iterator[StoredAsset]:
        """All assets that are here, in the order of their hashes."""
        for folder in _listed(self.path):
            for name in _listed(os.path.join(self.path, folder)):
                if _HASH.fullmatch(name) is not None and name[:2] == folder:
                    yield StoredAsset(name, os.stat(os.path.join(self.path, folder, name)).st_size)

    def verify(self, asset: StoredAsset) -> bool:
        """Read an asset again: whether it is what its name says."""
        digest = sha256()
        with open(self.file(asset.hash), "rb") as file:
            while block := file.read(HASHING_BLOCK):
                digest.update(block)
        return digest.hexdigest() == asset.hash

    def remove(self, hash: str) -> None:
        """Remove an asset; a later fetch asks for it again."""
        os.unlink(self.file(hash))

    def clear_unfinished(self) -> int:
        """Remove what fetches that were killed have left, not what others are receiving now; how many that were."""
        count = 0
        for folder in _listed(self.path):
            for name in _listed(os.path.join(self.path, folder)):
                if name.startswith(_UNFINISHED):
                    count += _clear(os.path.join(self.path, folder, name))
        return count


class IncomingAsset:
    """An asset that is being received. As a context manager it removes what did not become whole."""

    def __init__(self, store: AssetStore, hash: str, size: int) -> None:
        self.hash = hash
        self.size = size
        self.received = 0
        self._path = store.file(hash)
        folder = os.path.dirname(self._path)
        os.makedirs(folder, exist_ok=True)
        self._digest = sha256()
        descriptor, self._unfinished = tempfile.mkstemp(prefix=_UNFINISHED, dir=folder)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        # So that clear_unfinished knows that somebody is at it. The system lets it go with the process.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, part: bytes) -> None:
        """Take a part.

        :raises AssetError: where it becomes more than was announced.
        """
        self.received += len(part)
        if self.received > self.size:
            raise AssetError(f"the asset {self.hash} is larger than the {self.size} bytes announced")
        self._digest.update(part)
        self._file.write(part)

    def finish(self) -> StoredAsset:
        """It is whole: check that, and keep it. From then on a power failure does not take it.

        :raises AssetError: where it is not what was asked for.
        """
        if self.received != self.size:
            raise AssetError(f"the asset {self.hash} has {self.received} of the {self.size} bytes announced")
        if self._digest.hexdigest() != self.hash:
            raise AssetError(f"the asset {self.hash} has the hash {self._digest.hexdigest()}")
        os.fsync(self._file.fileno())
        os.rename(self._unfinished, self._path)
        self._file.close()
        folder = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return StoredAsset(self.hash, self.size)

    def abandon(self) -> None:
        """Remove what came; nothing happens where it was kept."""
        self._file.close()
        try:
            os.unlink(self._unfinished)
        except FileNotFoundError:
            pass

    def __enter__(self) -> IncomingAsset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()


def _clear(path: str) -> bool:
    """Remove an unfinished file, unless somebody is at it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True


def _listed(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
