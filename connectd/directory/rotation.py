"""Another sealing key for all that is sealed, and what to do when a key is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from connectd.directory.errors import DirectoryError, SealingKeyError

if TYPE_CHECKING:
    from connectd.directory.database import Database


@attrs.frozen
class Rotation:
    """What a rotation did.

    :param key: the id of the new key, which is the only one in use unless something did not open.
    :param resealed: how many verifiers are sealed with it now.
    :param unopened: names of the accounts of those that did not open and stay as they are.
    :param kept: ids of former keys that are still in the key file.
    """

    key: str
    resealed: int
    unopened: list[str]
    kept: list[str]


def rotate_key(database: Database, *, by: str) -> Rotation:
    """Make a new sealing key, seal everything anew with it, and take the former keys out of the key file.

    First the key file gets the new key in front of the former ones; then one transaction reseals everything and names
    the new key; then the key file loses those that seal nothing. Whenever this is interrupted, the file has every key
    that the database needs: before the commit that is the former one, after it the new one. Doing it again finishes it.
    Other processes go on meanwhile: they seal with the key that the database names, and read the file again when they
    meet a key that is new to them. The database's lock keeps two rotations apart.

    Backups of the database from before a rotation need the key file from before it: keep them together.

    :param by: who rotates.
    :raises DirectoryError: where the key file cannot be read or written; nothing has changed then.
    """
    seals = database.seals
    with database.transaction():
        ring = seals.reload().with_new_key()
        file = seals.keys
        assert file is not None
        file.store(ring)
        new = ring.ids[0]
        resealed: list[tuple[bytes, str, int, str]] = []
        unopened: list[str] = []
        for account, name, scheme, data, key in database.rows(
            "SELECT v.account, a.name, v.scheme, v.data, v.key_id FROM verifiers AS v "
            "JOIN accounts AS a ON a.id = v.account WHERE v.key_id IS NOT NULL"
        ):
            try:
                secret = ring.open(key, account, scheme, data)
            except SealingKeyError:
                unopened.append(name)
                continue
            resealed.append((ring.seal(new, account, scheme, secret), new, account, scheme))
        database.execute_many("UPDATE verifiers SET data = ?, key_id = ? WHERE account = ? AND scheme = ?", resealed)
        seals.name_key(new)
        database.audit.add(by, "seals.rotated", new, resealed=len(resealed), unopened=len(unopened))
    return Rotation(new, len(resealed), unopened, _drop_unused(database, new))


def give_up_lost_verifiers(database: Database, *, by: str) -> list[str]:
    """Remove the verifiers that are sealed with keys that the key file has not.

    Only for keys that are lost for good: these accounts need new passwords for what they were sealed for.

    :return: their names.
    :raises MissingKeyError: where there is no key file at all (make one first).
    """
    with database.transaction():
        present = database.seals.reload().ids
        lost = [key for key in database.seals.used_keys() if key not in present]
        names: list[str] = []
        for key in lost:
            rows = database.rows(
                "SELECT DISTINCT name FROM accounts WHERE id IN (SELECT account FROM verifiers WHERE key_id = ?)",
                (key,),
            )
            names += [name for (name,) in rows]
            database.execute("DELETE FROM verifiers WHERE key_id = ?", (key,))
            database.audit.add(by, "seals.given_up", key, accounts=len(rows))
    return sorted(set(names))


def _drop_unused(database: Database, key: str) -> list[str]:
    """Take the keys that seal nothing out of the key file.

    :return: the ids of those that stay beside the new one.
    """
    seals = database.seals
    try:
        with database.transaction():  # no other rotation is between its two steps
            ring = seals.reload()
            file = seals.keys
            assert file is not None
            needed = ring.only({key, *seals.used_keys()})
            if needed.ids != ring.ids:
                file.store(needed)
            return [one for one in seals.reload().ids if one != key]
    except DirectoryError:
        # The rotation itself is done and stays so; the next one tries this again.
        return [one for one in seals.ring().ids if one != key]
