"""Public keys by UUID: who registered as what (CH-20 to CH-23). What a key must be like is the protocol's business."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final
from uuid import UUID

import attrs

from connectd.directory.errors import AlreadyRegisteredError, InvalidKeyError, KeyChangedError, NotRegisteredError

if TYPE_CHECKING:
    from connectd.directory.database import Database

MAXIMUM_KEY: Final = 4096
"""Bytes of a key: RSA with 8192 bits has about 1,060 (CH-21)."""


@attrs.frozen
class RegisteredKey:
    """A key on record.

    :param uuid: whose.
    :param key: the DER SubjectPublicKeyInfo.
    :param created: when the UUID was registered, Unix seconds.
    :param replaced: when this key replaced an earlier one; None where it is the first.
    """

    uuid: UUID
    key: bytes
    created: float
    replaced: float | None


def fingerprint(key: bytes) -> str:
    """How a key is named where it is banned or shown: the SHA-256 of its DER SubjectPublicKeyInfo, in hex."""
    return hashlib.sha256(key).hexdigest()


class RegisteredKeys:
    """The registered keys of one open database."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, uuid: UUID, key: bytes, *, by: str) -> None:
        """Give a UUID its first key. It is durable when this returns (CH-22).

        :param key: the DER SubjectPublicKeyInfo.
        :raises AlreadyRegisteredError: where it has one.
        """
        _expect_size(key)
        with self._database.transaction():
            if self.get(uuid) is not None:
                raise AlreadyRegisteredError(f"{uuid} has a key already (replace it instead)")
            self._database.execute(
                "INSERT INTO registered_keys (uuid, key, created) VALUES (?, ?, ?)",
                (uuid.bytes, key, self._database.clock()),
            )
            self._database.audit.add(by, "key.registered", str(uuid), fingerprint=fingerprint(key))

    def replace(self, uuid: UUID, key: bytes, *, expected: bytes | None = None, by: str) -> None:
        """Give a UUID another key. It is durable when this returns (CH-22).

        :param expected: the key that the replacement was signed with; where that is not the one on record any more,
            nothing is changed.
        :raises NotRegisteredError: where it has none.
        :raises KeyChangedError: where it has another one than expected.
        """
        _expect_size(key)
        with self._database.transaction():
            present = self.get(uuid)
            if present is None:
                raise NotRegisteredError(f"{uuid} has no key that could be replaced (register it)")
            if expected is not None and not hmac.compare_digest(present.key, expected):
                raise KeyChangedError(f"the key of {uuid} was replaced meanwhile (sign with the present one)")
            self._database.execute(
                "UPDATE registered_keys SET key = ?, replaced = ? WHERE uuid = ?",
                (key, self._database.clock(), uuid.bytes),
            )
            self._database.audit.add(
                by, "key.replaced", str(uuid), fingerprint=fingerprint(key), former=fingerprint(present.key)
            )

    def remove(self, uuid: UUID, *, by: str) -> None:
        """Forget a UUID, which may then be registered again by anybody.

        :raises NotRegisteredError: where it has no key.
        """
        with self._database.transaction():
            present = self.get(uuid)
            if present is None:
                raise NotRegisteredError(f"{uuid} has no key")
            self._database.execute("DELETE FROM registered_keys WHERE uuid = ?", (uuid.bytes,))
            self._database.audit.add(by, "key.removed", str(uuid), fingerprint=fingerprint(present.key))

    def get(self, uuid: UUID) -> RegisteredKey | None:
        """The key on record, if there is one."""
        row = self._database.row("SELECT key, created, replaced FROM registered_keys WHERE uuid = ?", (uuid.bytes,))
        return None if row is None else RegisteredKey(uuid, *row)

    def count(self) -> int:
        """How many UUIDs have a key."""
        return int(self._database.row("SELECT count(*) FROM registered_keys")[0])


def _expect_size(key: bytes) -> None:
    if not 0 < len(key) <= MAXIMUM_KEY:
        raise InvalidKeyError(f"the key has {len(key)} bytes: 1 to {MAXIMUM_KEY} can be registered")
