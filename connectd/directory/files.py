"""Small private files that are there whole or not at all, even after a power failure."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

PRIVATE_FILE: Final = 0o600


@contextmanager
def temporary_beside(path: str) -> Iterator[str]:
    """The path of a new empty file, its owner's only, in the directory of another; it is removed afterwards unless it
    has been given another name. What root makes belongs to whom the directory belongs.

    :raises OSError: where none can be made.
    """
    directory, name = os.path.split(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=f".{name}.")  # mode 0600
    try:
        try:
            _give(descriptor, directory)
        finally:
            os.close(descriptor)
        yield temporary
    finally:
        for leftover in (temporary, f"{temporary}-journal", f"{temporary}-wal", f"{temporary}-shm"):
            _remove(leftover)


def write_new_file(path: str, octets: bytes) -> None:
    """Write a file that must not be there yet.

    :raises FileExistsError: where it is.
    :raises OSError: where it cannot be written; there is none then.
    """
    with temporary_beside(path) as temporary:
        with open(temporary, "wb") as file:
            _write(file, octets)
        os.link(temporary, path)
    synchronise_directory(path)


def replace_file(path: str, octets: bytes) -> None:
    """Write a file in the place of what is there. What root writes belongs to whom the former file belonged.

    Only one at a time: of two that do it at once, one fails. In return there is only one name under which a copy can be
    left behind by a process that was killed, and the next one removes it.

    :raises OSError: where it cannot be written; what was there stays.
    """
    directory, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(directory, f".{name}.new")
    _remove(temporary)
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE)
    try:
        with open(descriptor, "wb") as file:
            _give(descriptor, path)
            _write(file, octets)
        os.replace(temporary, path)
    finally:
        _remove(temporary)
    synchronise_directory(path)


def synchronise_file(path: str) -> None:
    """Wait until a file's content is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def synchronise_directory(path: str) -> None:
    """Wait until the name of a file is on the disk."""
    synchronise_file(os.path.dirname(os.path.abspath(path)))


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _write(file: BinaryIO, octets: bytes) -> None:
    """Write, and wait for the disk."""
    file.write(octets)
    file.flush()
    os.fsync(file.fileno())


def _give(descriptor: int, like: str) -> None:
    """Root may be working on a service's files: give an open file the owner of another one, or of a directory."""
    if os.geteuid() == 0:
        status = os.stat(like)
        os.fchown(descriptor, status.st_uid, status.st_gid)
