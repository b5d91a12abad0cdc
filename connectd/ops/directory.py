"""The directory of a daemon: looked at before a fork, made for after it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from connectd import registry
from connectd.config.places import resolve
from connectd.directory.database import prepare
from connectd.directory.errors import SealingKeyError
from connectd.directory.service import DirectoryService

if TYPE_CHECKING:
    from connectd.config import ListenerConfiguration
    from connectd.directory.settings import DirectorySettings
    from connectd.ops.ownership import Owner

COMPANIONS = ("-wal", "-shm")
"""What SQLite puts beside a database while it is open, and leaves there after a crash."""


def needed_schemes(listeners: Iterable[ListenerConfiguration]) -> frozenset[str]:
    """The verifier schemes that listeners ask the directory for; those with checkers of their own ask for none."""
    schemes: set[str] = set()
    for listener in listeners:
        if getattr(listener.settings, "auth", ()):
            continue
        try:
            needed = getattr(listener.settings, "account_schemes", None)
            schemes.update(registry.protocol(listener.protocol).account_schemes if needed is None else needed)
        except registry.RegistryError:
            continue  # told when the listener is to be made
    return frozenset(schemes)


def prepare_directory(settings: DirectorySettings, schemes: Collection[str], owner: Owner | None = None) -> None:
    """Make the database where there is none, bring it up to date, look whether the sealing key is there, and leave
    nothing open: no connection may live through a fork.

    :param schemes: what :func:`needed_schemes` gave.
    :param owner: whose database and key file it is to be.
    :raises connectd.directory.errors.DirectoryError: with what is wrong.
    :raises OSError: where a file cannot be given to its owner.
    """
    settings = resolve(settings, os.getcwd())
    path, keys = settings.database_path(os.getcwd()), settings.keys()
    if owner is None:
        prepare(path, keys=keys, schemes=schemes)
        return
    for file in (path, *(f"{path}{suffix}" for suffix in COMPANIONS), *(() if keys.credential else (keys.path,))):
        try:
            owner.give(file)
        except FileNotFoundError:
            continue
    # SQLite follows links, so not as root, and what is made is the owner's.
    with owner.acting():
        prepare(path, keys=keys, schemes=schemes)


def make_directory(settings: DirectorySettings, schemes: Collection[str], reactor: Any) -> DirectoryService:
    """The directory as a service. Nothing is opened before it is started; :func:`prepare_directory` tells what is
    wrong with it.

    :param schemes: what :func:`needed_schemes` gave.
    """
    # A daemon changes its directory.
    settings = resolve(settings, os.getcwd())
    try:
        keys = settings.keys()
    except SealingKeyError:
        keys = None
    return DirectoryService(
        settings.database_path(os.getcwd()),
        keys=keys,
        schemes=schemes,
        reactor=reactor,
        poll_interval=settings.poll_interval,
        maximum_keys=settings.maximum_keys,
    )
