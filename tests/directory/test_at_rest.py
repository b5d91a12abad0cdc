"""A stolen database yields no password, and nothing that stands for one."""

from __future__ import annotations

import base64
import hashlib
import os

from twisted.trial.unittest import SynchronousTestCase

from connectd.directory import SCHEMES, SEALED_SHA256, Database, MissingKeyError, WrongKeyError, create_key, rotate_key
from tests.directory.opened import Place

PASSWORDS = ("swordfish-1f8a", "correct horse battery", "pässwörd-密码-Ω", "changed-to-another")
ACCOUNT = "alice"


def traces(password: str) -> dict[str, bytes]:
    """What must not be found, by what it is."""
    octets = password.encode()
    sha256 = hashlib.sha256(octets).digest()
    found = {"password": octets, "UTF-16": password.encode("utf-16-le"), "SHA-256": sha256}
    for name, value in list(found.items()):
        found[f"{name} in hex"] = value.hex().encode()
        found[f"{name} in upper-case hex"] = value.hex().upper().encode()
        found[f"{name} in base64"] = base64.b64encode(value).rstrip(b"=")[:-1]
        found[f"{name} in URL-safe base64"] = base64.urlsafe_b64encode(value).rstrip(b"=")[:-1]
        found[f"half of the {name}"] = value[: len(value) // 2]
    for digest in ("md5", "sha1", "sha512"):
        found[digest] = hashlib.new(digest, octets).digest()
    return found


class StolenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Place(self)
        self.database = self.place.open()
        for number, password in enumerate(PASSWORDS[:3]):
            self.database.accounts.add(f"{ACCOUNT}{number}", password, schemes=SCHEMES, by="test")
        self.database.accounts.set_password(f"{ACCOUNT}0", PASSWORDS[3], by="test")
        self.database.backup(self.place.path("backup.db"))

    def files(self) -> dict[str, bytes]:
        """Everything but the key."""
        found = {}
        for name in os.listdir(self.place.folder):
            if name != "directory.key":
                with open(self.place.path(name), "rb") as file:
                    found[name] = file.read()
        return found

    def assert_nothing(self) -> None:
        files = self.files()
        self.assertIn(b"$argon2id$", b"".join(files.values()))  # the search finds what is there
        self.assertIn(b"alice1", b"".join(files.values()))
        for password in PASSWORDS:
            for what, trace in traces(password).items():
                for name, octets in files.items():
                    self.assertNotIn(trace, octets, f"{what} of {password!r} in {name}")

    def test_bytes(self) -> None:
        """SB-7, SB-20: the file, its log and a backup hold neither passwords nor their hashes."""
        self.assertEqual(sorted(self.files()), ["backup.db", "connectd.db", "connectd.db-shm", "connectd.db-wal"])
        self.assert_nothing()
        self.database.close()
        self.assert_nothing()

    def test_after_rotation(self) -> None:
        rotate_key(self.database, by="test")
        self.database.accounts.remove(f"{ACCOUNT}2", by="test")
        self.assert_nothing()

    def test_the_key_is_not_in_it(self) -> None:
        with open(self.place.path("directory.key"), "rb") as file:
            key = file.read()
        for trace in (key, key.hex().encode(), base64.b64encode(key)[:-1], key[:16], key[16:]):
            for octets in self.files().values():
                self.assertNotIn(trace, octets)

    def test_without_key(self) -> None:
        """The thief opens the database, and no verifier."""
        thief = Place(self)
        for name, octets in self.files().items():
            with open(thief.path(name), "wb") as file:
                file.write(octets)
        for keys, kind in ((None, MissingKeyError), (create_key(thief.path("own.key")), WrongKeyError)):
            with Database.open(thief.path("backup.db"), keys=keys) as database:
                for account in database.accounts.list():
                    self.assertRaises(kind, database.accounts.unseal, account, SEALED_SHA256)
