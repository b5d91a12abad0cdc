"""What of the directory is held in memory: all that decides who comes in, so that no log-in waits for a disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from uuid import UUID

from connectd.directory.accounts import Account, Verifier
from connectd.directory.ban_table import BanTable
from connectd.directory.changes import Changes, pack_account, unpack_account
from connectd.directory.errors import MissingKeyError
from connectd.directory.names import lookup_key
from connectd.directory.proven_names import in_memory
from connectd.directory.schemes import SCHEMES
from connectd.directory.sealing import KEY_SIZE, KeyRing

if TYPE_CHECKING:
    from collections.abc import Mapping

NOBODY: Final = 0
"""The account id that decoys are sealed for; no account has it."""


class Memory:
    """Accounts, registered keys, bans and proven names. It is as good as the last changes it was given.

    :param clock: gives Unix seconds.
    """

    __slots__ = ("_accounts", "_decoy_ring", "_decoys", "_keys", "_names", "_nobody", "_ring", "bans")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.bans = BanTable(clock)
        self._accounts: dict[str, bytes] = {}
        self._keys: dict[bytes, bytes] = {}
        self._names: dict[str, bool] = {}
        self._ring: KeyRing | None = None
        self._decoy_ring = KeyRing([os.urandom(KEY_SIZE)])
        (key,) = self._decoy_ring.ids
        self._decoys: Mapping[str, bytes] = {
            scheme.name: self._decoy_ring.seal(key, NOBODY, scheme.name, os.urandom(KEY_SIZE))
            for scheme in SCHEMES.values()
            if scheme.sealed
        }
        verifiers = {scheme.name: Verifier(scheme.name, os.urandom(96).hex(), None) for scheme in SCHEMES.values()}
        self._nobody = pack_account(Account(NOBODY, "nobody", 0.0, False, None, verifiers))

    @property
    def accounts(self) -> int:
        """How many accounts there are."""
        return len(self._accounts)

    @property
    def keys(self) -> int:
        """How many registered keys there are."""
        return len(self._keys)

    def apply(self, changes: Changes) -> None:
        """Bring it up to date. Quick, however much has changed."""
        self._ring = changes.ring
        if changes.everything:
            self._names = changes.names
        else:
            self._names.update(changes.names)
        if isinstance(changes.bans, BanTable):
            self.bans = changes.bans
        else:
            for (kind, value), ban in changes.bans.items():
                if ban is None:
                    self.bans.discard(kind, value)
                else:
                    self.bans.put(ban)
        if changes.everything:
            self._accounts, self._keys = changes.accounts, changes.keys  # type: ignore[assignment]  # nothing is gone
            return
        for key, account in changes.accounts.items():
            if account is None:
                self._accounts.pop(key, None)
            else:
                self._accounts[key] = account
        for uuid, registered in changes.keys.items():
            if registered is None:
                self._keys.pop(uuid, None)
            else:
                self._keys[uuid] = registered

    def find_account(self, name: str | bytes) -> Account | None:
        """The account of that name, or None, with the same work for either (COM-10).

        :param name: bytes are taken as UTF-8.
        """
        key = lookup_key(name)
        packed = None if key is None else self._accounts.get(key)
        account = unpack_account(self._nobody if packed is None else packed)
        return None if packed is None else account

    def registered_key(self, uuid: UUID) -> bytes | None:
        """The DER SubjectPublicKeyInfo on record, or None."""
        return self._keys.get(uuid.bytes)

    def is_proven(self, protocol: str, name: str) -> bool:
        """Whether somebody has proven to own a name."""
        return self._names.get(in_memory(protocol, name), False)

    def secret(self, account: Account | None, scheme: str) -> bytes:
        """What a sealed scheme keeps of an account's password; for nobody, and for an account without that scheme, a
        random one that was sealed in the same way (COM-10).

        :raises SealingKeyError: where it cannot be opened.
        """
        verifier = None if account is None else account.verifiers.get(scheme)
        if account is None or verifier is None:
            (key,) = self._decoy_ring.ids
            return self._decoy_ring.open(key, NOBODY, scheme, self._decoys[scheme])
        if self._ring is None:
            raise MissingKeyError(
                f"the {scheme} verifier of the account {account.name!r} cannot be opened: there is no sealing key "
                "(bring the key file back)"
            )
        assert isinstance(verifier.data, bytes)
        assert verifier.key_id is not None
        return self._ring.open(verifier.key_id, account.id, scheme, verifier.data)
