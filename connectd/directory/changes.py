"""What has changed in the database since the last look, for those who keep a copy in memory.

A look costs one query where nothing has. What is read is packed for memory right away, in the thread that reads:
100,000 accounts as objects would cost 90 MB, and every full garbage collection 40 ms; as bytes they are
half of that, and the collector does not look at them.
"""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import attrs

from connectd.directory.accounts import Account, Verifier
from connectd.directory.ban_table import BanTable
from connectd.directory.bans import Ban
from connectd.directory.errors import SealingKeyError
from connectd.directory.sealing import KeyRing

if TYPE_CHECKING:
    from connectd.directory.database import Database

MANY_BANS: Final = 100
"""More changes of bans than this, each some microseconds of reactor time, are a new table, made in the thread."""


@attrs.frozen(repr=False)
class Changes:
    """What to change in memory.

    :param number: of the last change that is in it.
    :param everything: it is all there is, not only what has changed.
    :param accounts: packed accounts by key; None for those that are gone.
    :param keys: registered keys by UUID bytes; None for those that are gone.
    :param bans: by kind and value; None for those that are gone. Or all bans there are, where many have changed.
    :param ring: the sealing keys; None where there are none.
    :param names: proven names, with their protocol; False for those that are gone.
    """

    number: int
    everything: bool
    accounts: dict[str, bytes | None]
    keys: dict[bytes, bytes | None]
    bans: dict[tuple[str, str], Ban | None] | BanTable
    ring: KeyRing | None
    names: dict[str, bool] = attrs.field(factory=dict)


def read_changes(database: Database, since: int | None) -> Changes | None:
    """Read what has changed, all of one moment.

    :param since: the number of the last look; None reads everything.
    :return: None where nothing has changed.
    :raises DirectoryError: where the database cannot be read.
    """
    with database.snapshot():
        number = database.change_number()
        if number == since:
            return None
        oldest = database.row("SELECT min(number) FROM changes")[0]
        if since is None or since > number or oldest is None or oldest > since + 1:
            return _everything(database, number)
        return _some(database, since, number)


def pack_account(account: Account) -> bytes:
    """An account as bytes, for this process only."""
    verifiers = tuple((verifier.scheme, verifier.data, verifier.key_id) for verifier in account.verifiers.values())
    return marshal.dumps((account.id, account.name, account.created, account.disabled, account.protocols, verifiers))


def unpack_account(packed: bytes) -> Account:
    """What :func:`pack_account` packed."""
    # These bytes never leave the process.
    identifier, name, created, disabled, protocols, packed_verifiers = marshal.loads(packed)  # noqa: S302
    verifiers = {scheme: Verifier(scheme, data, key) for scheme, data, key in packed_verifiers}
    return Account(identifier, name, created, disabled, protocols, verifiers)


def _everything(database: Database, number: int) -> Changes:
    sealed_with: set[str] = set()
    accounts: dict[str, bytes | None] = {}
    for key, account in database.accounts.each():
        accounts[key] = _pack(account, sealed_with)
    keys: dict[bytes, bytes | None] = dict(database.each("SELECT uuid, key FROM registered_keys"))
    names = dict.fromkeys(database.names.each(), True)
    return Changes(number, True, accounts, keys, _all_bans(database), _ring(database, sealed_with), names)


def _some(database: Database, since: int, number: int) -> Changes:
    sealed_with: set[str] = set()
    accounts: dict[str, bytes | None] = {}
    keys: dict[bytes, bytes | None] = {}
    bans: dict[tuple[str, str], Ban | None] = {}
    names: dict[str, bool] = {}
    changed: list[tuple[str, Any]] = database.rows(
        "SELECT DISTINCT kind, subject FROM changes WHERE number > ?", (since,)
    )
    for kind, subject in changed:
        if kind == "account":
            account = database.accounts.find_key(subject)
            accounts[subject] = None if account is None else _pack(account, sealed_with)
        elif kind == "key":
            registered = database.keys.get(UUID(bytes=subject))
            keys[subject] = None if registered is None else registered.key
        elif kind == "name":
            names[subject] = database.names.has(subject)
        else:
            what, _, value = subject.partition(" ")
            bans[what, value] = database.bans.find(what, value)
    all_or_some = _all_bans(database) if len(bans) > MANY_BANS else bans
    return Changes(number, False, accounts, keys, all_or_some, _ring(database, sealed_with), names)


def _all_bans(database: Database) -> BanTable:
    return BanTable(database.clock, database.bans.list())


def _pack(account: Account, sealed_with: set[str]) -> bytes:
    sealed_with.update(_key_ids(account.verifiers))
    return pack_account(account)


def _key_ids(verifiers: Mapping[str, Verifier]) -> set[str]:
    return {verifier.key_id for verifier in verifiers.values() if verifier.key_id is not None}


def _ring(database: Database, sealed_with: set[str]) -> KeyRing | None:
    """The sealing keys, read again where they lack one that is in use."""
    if database.seals.keys is None:
        return None
    try:
        ring = database.seals.ring()
        return database.seals.reload() if sealed_with - set(ring.ids) else ring
    except SealingKeyError:
        # Whoever needs them is told so; nobody else is bothered.
        return None
