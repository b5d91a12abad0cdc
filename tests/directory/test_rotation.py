"""Another sealing key: whatever happens on the way, the key file opens what the database holds."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from connectd.directory import (
    ARGON2ID,
    SCHEMES,
    SEALED_PASSWORD,
    SEALED_SHA256,
    BrokenSealError,
    Database,
    DirectoryError,
    KeyFile,
    MissingKeyError,
    WrongKeyError,
    create_key,
    give_up_lost_verifiers,
    rotate_key,
)
from tests.directory.opened import Place, mode


class Interrupted(BaseException):
    """The process ends here."""


class RotationTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Place(self)
        self.keys = self.place.key_file()
        self.database = self.place.open()
        for number in range(3):
            self.database.accounts.add(f"account{number}", f"password{number}", schemes=SCHEMES, by="test")

    def assert_opens(self, database: Database | None = None) -> None:
        """Every sealed password opens, for a process that starts now unless told otherwise."""
        database = database or self.place.open()
        accounts = database.accounts.list()
        self.assertEqual(
            [database.accounts.unseal(account, SEALED_PASSWORD) for account in accounts],
            [b"password%d" % number for number in range(3)],
        )

    def sealed(self) -> set[str]:
        """The ids of the keys in use."""
        return {row[0] for row in self.database.rows("SELECT key_id FROM verifiers WHERE key_id IS NOT NULL")}


class RotateTests(RotationTestCase):
    def test_rotate(self) -> None:
        former = self.keys.load().ids
        rotation = rotate_key(self.database, by="root")
        self.assertEqual((rotation.resealed, rotation.unopened, rotation.kept), (6, [], []))
        self.assertEqual(self.keys.load().ids, [rotation.key])
        self.assertNotIn(rotation.key, former)
        self.assertEqual(self.sealed(), {rotation.key})
        self.assertEqual(mode(self.keys.path), 0o600)
        self.assert_opens()
        entry = self.database.audit.list(limit=1)[0]
        self.assertEqual((entry.who, entry.action, entry.details["resealed"]), ("root", "seals.rotated", 6))

    def test_others_go_on(self) -> None:
        """Another process with the former key in memory opens, and seals, with the new one."""
        other = self.place.open()
        self.assert_opens(other)
        rotation = rotate_key(self.database, by="root")
        self.assert_opens(other)
        another = self.place.open()
        another.seals.ring()
        rotation = rotate_key(self.database, by="root")
        another.accounts.set_password("account1", "password1", by="test")
        self.assertEqual(self.sealed(), {rotation.key})
        self.assert_opens()

    def test_interrupted(self) -> None:
        """Wherever it ends before its time, everything opens, and doing it again finishes it."""
        steps = [(KeyFile, "store", 0), (os, "replace", 0), (os, "replace", 1), (KeyFile, "store", 1)]
        for owner, name, when in steps:
            real, count = getattr(owner, name), [0]

            def interrupt(*arguments: object, real: object = real, count: list[int] = count, when: int = when) -> None:
                count[0] += 1
                if count[0] > when:
                    raise Interrupted
                real(*arguments)  # type: ignore[operator]

            with self.subTest(step=name, when=when):
                self.patch(owner, name, interrupt)
                self.assertRaises(Interrupted, rotate_key, self.database, by="root")
                self.patch(owner, name, real)
                self.assert_opens()
                self.place.open().accounts.set_password("account1", "password1", by="test")
                self.assert_opens()
                rotation = rotate_key(self.database, by="root")
                self.assertEqual(self.keys.load().ids, [rotation.key])
                self.assert_opens()

    def test_interrupted_before_commit(self) -> None:
        """The new key is in the file, but the database does not know it: the former one is used on."""
        (former,) = self.keys.load().ids
        self.patch(self.database.seals.__class__, "name_key", lambda *arguments: (_ for _ in ()).throw(Interrupted))
        self.assertRaises(Interrupted, rotate_key, self.database, by="root")
        self.assertEqual(self.keys.load().ids[1:], [former])
        other = self.place.open()
        other.accounts.set_password("account0", "password0", by="test")
        self.assertEqual(self.sealed(), {former})
        self.assert_opens()

    def test_file_cannot_be_written(self) -> None:
        """First the key file, then the database: without the former nothing happens to the latter."""
        before = self.sealed()

        def full(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "replace", full)
        error = self.assertRaises(DirectoryError, rotate_key, self.database, by="root")
        self.assertIn("No space left on device", str(error))
        self.assertEqual(self.sealed(), before)
        self.assert_opens()

    def test_former_key_stays(self) -> None:
        """Where the file cannot be written the second time, the rotation is done; the next one cleans up."""
        (former,) = self.keys.load().ids
        real, count = os.replace, [0]

        def once(*arguments: str) -> None:
            count[0] += 1
            if count[0] > 1:
                raise OSError(28, "No space left on device")
            real(*arguments)

        self.patch(os, "replace", once)
        rotation = rotate_key(self.database, by="root")
        self.assertEqual(rotation.kept, [former])
        self.patch(os, "replace", real)
        self.assert_opens()
        self.assertEqual(rotate_key(self.database, by="root").kept, [])
        self.assertEqual(len(self.keys.load().ids), 1)

    def test_unopened(self) -> None:
        """What does not open stays as it is, with its key, and is reported."""
        (former,) = self.keys.load().ids
        self.database.execute(
            "UPDATE verifiers SET data = zeroblob(92) WHERE account = 2 AND scheme = ?", (SEALED_SHA256,)
        )
        rotation = rotate_key(self.database, by="root")
        self.assertEqual((rotation.resealed, rotation.unopened, rotation.kept), (5, ["account1"], [former]))
        self.assertEqual(self.keys.load().ids, [rotation.key, former])
        self.assert_opens()
        account = self.database.accounts.get("account1")
        self.assertRaises(BrokenSealError, self.database.accounts.unseal, account, SEALED_SHA256)

    def test_nothing_sealed(self) -> None:
        database = self.place.open("other.db")
        rotation = rotate_key(database, by="root")
        self.assertEqual(rotation.resealed, 0)
        account = database.accounts.add("alice", "x", schemes=[SEALED_SHA256], by="test")
        self.assertEqual(account.verifiers[SEALED_SHA256].key_id, rotation.key)

    def test_no_key(self) -> None:
        self.assertRaises(MissingKeyError, rotate_key, self.place.open("other.db", keys=None), by="root")


class LostKeyTests(RotationTestCase):
    def setUp(self) -> None:
        super().setUp()
        (self.lost,) = self.keys.load().ids
        os.rename(self.keys.path, self.place.path("lost"))

    def test_missing(self) -> None:
        """Without the key file: one line for what needs it, nothing for what does not."""
        database = self.place.open(keys=self.keys)
        account = database.accounts.get("account1")
        for call in (
            lambda: database.accounts.unseal(account, SEALED_PASSWORD),
            lambda: database.accounts.set_password("account1", "x", by="test"),
            lambda: rotate_key(database, by="root"),
            lambda: database.seals.expect_keys([SEALED_PASSWORD]),
            lambda: give_up_lost_verifiers(database, by="root"),
        ):
            error = self.assertRaises(MissingKeyError, call)
            self.assertIn(f"{self.keys.path} does not exist", str(error))
            self.assertEqual(len(str(error).splitlines()), 1)
        database.seals.expect_keys([ARGON2ID])
        database.accounts.set_password("account1", "x", schemes=[ARGON2ID], by="test")
        database.accounts.add("other", "x", by="test")

    def test_wrong(self) -> None:
        """With another key: one line that names both; nothing is sealed with it while it would hide the loss."""
        (other,) = create_key(self.keys.path).load().ids
        database = self.place.open()
        account = database.accounts.get("account1")
        for call in (
            lambda: database.accounts.unseal(account, SEALED_PASSWORD),
            lambda: database.accounts.set_password("account1", "x", by="test"),
            lambda: database.seals.expect_keys([SEALED_PASSWORD]),
        ):
            error = self.assertRaises(WrongKeyError, call)
            self.assertIn(self.lost, str(error))
            self.assertIn(other, str(error))
            self.assertEqual(len(str(error).splitlines()), 1)
        self.assertEqual(self.sealed(), {self.lost})
        database.seals.expect_keys([ARGON2ID])
        os.replace(self.place.path("lost"), self.keys.path)
        self.assert_opens()
        self.assert_opens(database)

    def test_rotate_with_wrong_key(self) -> None:
        """What the lost key sealed is kept: the key may be found again."""
        create_key(self.keys.path)
        rotation = rotate_key(self.database, by="root")
        self.assertEqual((rotation.resealed, len(rotation.unopened)), (0, 6))
        self.assertEqual(self.sealed(), {self.lost})
        self.assertEqual(self.keys.load().ids, [rotation.key])

    def test_give_up(self) -> None:
        """Only where the operator says so: what nothing opens any more is removed, the rest stays."""
        create_key(self.keys.path)
        names = give_up_lost_verifiers(self.database, by="root")
        self.assertEqual(names, ["account0", "account1", "account2"])
        self.assertEqual({tuple(account.verifiers) for account in self.database.accounts.list()}, {(ARGON2ID,)})
        self.assertEqual(self.database.audit.list(limit=1)[0].action, "seals.given_up")
        self.database.seals.expect_keys(SCHEMES)
        for number in range(3):
            self.database.accounts.set_password(f"account{number}", f"password{number}", schemes=SCHEMES, by="test")
        self.assert_opens()
        self.assertEqual(give_up_lost_verifiers(self.database, by="root"), [])

    def test_last_one_gone(self) -> None:
        """Once nothing is sealed with the lost key, another one is taken without a word."""
        (other,) = create_key(self.keys.path).load().ids
        for number in range(3):
            self.database.accounts.remove(f"account{number}", by="root")
        account = self.place.open().accounts.add("alice", "x", schemes=[SEALED_SHA256], by="test")
        self.assertEqual(account.verifiers[SEALED_SHA256].key_id, other)
