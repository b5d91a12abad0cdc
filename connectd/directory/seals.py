"""Which key seals: the database's word and the key file, brought together.

The database names the key to seal with. Whoever writes a sealed verifier looks that up in the same transaction, so
while a rotation goes on in another process nothing is sealed with the key that is about to go. A process that meets a
key it does not know reads the key file again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from connectd.directory.errors import MissingKeyError, WrongKeyError
from connectd.directory.sealing import KeyFile, KeyRing

if TYPE_CHECKING:
    from connectd.directory.database import Database

SEALING_KEY: Final = "sealing_key"
"""The row of ``state`` that names the key."""


class Seals:
    """The sealing keys of one open database.

    :param keys: where they are; None where there are none.
    """

    __slots__ = ("_database", "_ring", "keys")

    def __init__(self, database: Database, keys: KeyFile | None) -> None:
        self._database = database
        self._ring: KeyRing | None = None
        self.keys = keys

    def ring(self) -> KeyRing:
        """The keys.

        :raises MissingKeyError: where they cannot be had.
        """
        return self.reload() if self._ring is None else self._ring

    def reload(self) -> KeyRing:
        """The keys, read again.

        :raises MissingKeyError: where they cannot be had.
        """
        self._ring = self._file().load()
        return self._ring

    def seal(self, account: int, scheme: str, secret: bytes) -> tuple[bytes, str]:
        """Seal a secret, inside the transaction that stores it.

        :return: the sealed bytes and the id of their key.
        :raises SealingKeyError: where the key to seal with is not there.
        """
        key = self._sealing_key()
        return self.ring().seal(key, account, scheme, secret), key

    def open(self, key: str, account: int, scheme: str, sealed: bytes) -> bytes:
        """Open what :meth:`seal` gave.

        :raises SealingKeyError: where it does not open.
        """
        ring = self.ring()
        if key not in ring:
            ring = self.reload()
        return ring.open(key, account, scheme, sealed)

    def name_key(self, key: str) -> None:
        """Seal with this key from now on; part of a transaction."""
        self._database.execute(
            "INSERT INTO state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (SEALING_KEY, key),
        )

    def used_keys(self, schemes: Collection[str] | None = None) -> dict[str, int]:
        """The ids of the keys that verifiers are sealed with, and how many are.

        :param schemes: count these only.
        """
        rows = self._database.rows(
            "SELECT key_id, scheme, count(*) FROM verifiers WHERE key_id IS NOT NULL GROUP BY key_id, scheme"
        )
        used: dict[str, int] = {}
        for key, scheme, count in rows:
            if schemes is None or scheme in schemes:
                used[key] = used.get(key, 0) + count
        return used

    def expect_keys(self, schemes: Collection[str]) -> None:
        """See to it that whatever is sealed with these schemes can be opened.

        :raises SealingKeyError: where verifiers of these schemes exist and a key for them is not there.
        """
        used = self.used_keys(schemes)
        if not used:
            return
        try:
            ring = self.reload()
        except MissingKeyError as error:
            raise MissingKeyError(f"{error}; {sum(used.values())} sealed verifiers need it") from None
        for key, count in used.items():
            if key not in ring:
                raise self._wrong(key, f"{count} verifiers are sealed")

    def _file(self) -> KeyFile:
        if self.keys is None:
            raise MissingKeyError("sealed verifiers need a key file, and none is set (see [directory] key_file)")
        return self.keys

    def _sealing_key(self) -> str:
        """The id of the key to seal with, which is one of the ring's."""
        row = self._database.row("SELECT value FROM state WHERE name = ?", (SEALING_KEY,))
        if row is not None and row[0] in self.ring():
            return str(row[0])
        ring = self.reload()
        if row is not None:
            if row[0] in ring:
                return str(row[0])
            if row[0] in self.used_keys():
                raise self._wrong(row[0], "the database seals")
        newest = ring.ids[0]
        self.name_key(newest)
        return newest

    def _wrong(self, key: str, what: str) -> WrongKeyError:
        return WrongKeyError(
            f"{what} with key {key}, and {self._file().path} has only {', '.join(self.ring().ids)} (bring the right "
            "key file back; where that key is lost for good: connectctl key give-up, then new passwords)"
        )
