"""Accounts: who there is, with which verifiers, and what is said when that cannot be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import argon2
from argon2.profiles import CHEAPEST
from twisted.trial.unittest import SynchronousTestCase

from connectd.directory import (
    ARGON2ID,
    SCHEMES,
    SEALED_PASSWORD,
    SEALED_SHA256,
    Account,
    AccountExistsError,
    DirectoryError,
    InvalidNameError,
    InvalidPasswordError,
    MissingKeyError,
    MissingVerifierError,
    UnknownAccountError,
)
from connectd.directory.hashing import hash_password
from tests.directory.opened import NOW, Place

ALL = list(SCHEMES)


class AccountTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Place(self)
        self.database = self.place.open()
        self.accounts = self.database.accounts

    def assert_error(self, kind: type[DirectoryError], words: str, call: Callable[..., Any], *arguments: Any) -> None:
        error = self.assertRaises(DirectoryError, call, *arguments, by="test")
        self.assertIs(type(error), kind)
        self.assertIn(words, str(error))
        self.assertEqual(len(str(error).splitlines()), 1)

    def assert_password(self, account: Account, password: bytes) -> None:
        """Every verifier that the account has is of this password."""
        for scheme, verifier in account.verifiers.items():
            if scheme == ARGON2ID:
                assert isinstance(verifier.data, str)
                self.assertTrue(argon2.PasswordHasher().verify(verifier.data, password))
            else:
                expected = hashlib.sha256(password).digest() if scheme == SEALED_SHA256 else password
                self.assertEqual(self.accounts.unseal(account, scheme), expected)

    def test_add(self) -> None:
        account = self.accounts.add("Alice", "swordfish", schemes=ALL, protocols=["starbound", "lekt"], by="test")
        self.assertEqual(
            (account.name, account.created, account.disabled, account.protocols, sorted(account.verifiers)),
            ("Alice", NOW, False, ("lekt", "starbound"), sorted(ALL)),
        )
        self.assert_password(account, b"swordfish")
        self.assertEqual(self.place.open().accounts.get("ALICE"), account)

    def test_reversible(self) -> None:
        """SB-7, SB-20: rows say which verifiers can be turned back into the password."""
        account = self.accounts.add("alice", "swordfish", schemes=ALL, by="test")
        self.assertEqual(
            {name: verifier.reversible for name, verifier in account.verifiers.items()},
            {ARGON2ID: False, SEALED_SHA256: False, SEALED_PASSWORD: True},
        )

    def test_default(self) -> None:
        """Unless told otherwise: argon2id and nothing sealed, for all protocols."""
        account = self.accounts.add("alice", b"\xff\x00", by="test")
        self.assertEqual((list(account.verifiers), account.protocols), ([ARGON2ID], None))
        self.assert_password(account, b"\xff\x00")

    def test_parameters(self) -> None:
        (verifier,) = self.accounts.add("alice", "x", by="test").verifiers.values()
        assert isinstance(verifier.data, str)
        self.assertEqual(argon2.extract_parameters(verifier.data), CHEAPEST)

    def test_names(self) -> None:
        self.accounts.add("Alice", "x", by="test")
        self.assert_error(AccountExistsError, "is that of the account 'Alice'", self.accounts.add, "aLICE", "x")
        self.assert_error(AccountExistsError, "looks like that of the account 'Alice'", self.accounts.add, "A1ice", "x")
        self.assert_error(InvalidNameError, "control", self.accounts.add, "a\nb", "x")
        self.assertEqual(self.accounts.count(), 1)

    def test_passwords(self) -> None:
        self.assert_error(InvalidPasswordError, "empty", self.accounts.add, "alice", "")
        self.assert_error(InvalidPasswordError, "1025 bytes", self.accounts.add, "alice", "x" * 1025)
        self.assert_error(InvalidPasswordError, "1026 bytes", self.accounts.add, "alice", "é" * 513)
        account = self.accounts.add("alice", "é" * 512, schemes=ALL, by="test")
        self.assert_password(account, ("é" * 512).encode())

    def test_wrong_words(self) -> None:
        for schemes, words in ((["md5"], 'no verifier scheme "md5"'), ([], "needs a verifier scheme")):
            error = self.assertRaises(DirectoryError, self.accounts.add, "alice", "x", schemes=schemes, by="test")
            self.assertIn(words, str(error))
        for protocols in (["Lekt"], ["two words"], [""]):
            error = self.assertRaises(DirectoryError, self.accounts.add, "alice", "x", protocols=protocols, by="test")
            self.assertIn("is not the name of a protocol", str(error))
        self.assertRaises(TypeError, self.accounts.add, "alice", "x", protocols="lekt", by="test")
        self.assertEqual(self.accounts.count(), 0)

    def test_no_key(self) -> None:
        """Without a key nothing is sealed, and no account comes into being without what was wanted."""
        other = self.place.open("other.db", keys=None)
        error = self.assertRaises(MissingKeyError, other.accounts.add, "alice", "x", schemes=ALL, by="test")
        self.assertIn("key_file", str(error))
        self.assertEqual((other.accounts.count(), other.audit.list()), (0, []))
        other.accounts.add("alice", "x", by="test")

    def test_set_password(self) -> None:
        """Another password is another one in all schemes."""
        before = self.accounts.add("alice", "old", schemes=ALL, by="test")
        after = self.accounts.set_password("Alice", "new", by="test")
        self.assertEqual((after.id, sorted(after.verifiers)), (before.id, sorted(ALL)))
        self.assert_password(after, b"new")
        for scheme in ALL:
            self.assertNotEqual(before.verifiers[scheme], after.verifiers[scheme])

    def test_set_schemes(self) -> None:
        self.accounts.add("alice", "old", schemes=ALL, by="test")
        account = self.accounts.set_password("alice", "new", schemes=[SEALED_SHA256], by="test")
        self.assertEqual(list(account.verifiers), [SEALED_SHA256])
        self.assert_password(account, b"new")
        self.database.execute("DELETE FROM verifiers")
        account = self.accounts.set_password("alice", "newer", by="test")
        self.assertEqual(list(account.verifiers), [ARGON2ID])

    def test_policy(self) -> None:
        """COM-4: an account may be disabled, or kept to some protocols."""
        account = self.accounts.add("alice", "x", by="test")
        self.assertTrue(account.allows("lekt"))
        account = self.accounts.set_protocols("alice", ["fmltp", "lekt", "lekt"], by="test")
        self.assertEqual((account.allows("lekt"), account.allows("chatr")), (True, False))
        account = self.accounts.set_disabled("alice", True, by="test")
        self.assertEqual((account.disabled, account.allows("lekt")), (True, False))
        account = self.accounts.set_protocols("alice", None, by="test")
        self.assertFalse(account.allows("chatr"))
        account = self.accounts.set_disabled("alice", False, by="test")
        self.assertTrue(account.allows("chatr"))
        account = self.accounts.set_protocols("alice", [], by="test")
        self.assertEqual((account.protocols, account.allows("lekt")), ((), False))

    def test_remove(self) -> None:
        """Nothing is left of it, and its number is never used again: seals are bound to it."""
        first = self.accounts.add("alice", "x", schemes=ALL, by="test")
        self.accounts.remove("ALICE", by="test")
        self.assertEqual(self.database.rows("SELECT * FROM verifiers"), [])
        self.assertIsNone(self.accounts.find("alice"))
        self.assertGreater(self.accounts.add("alice", "x", by="test").id, first.id)

    def test_unknown(self) -> None:
        for call in (
            lambda **by: self.accounts.set_password("bob", "x", **by),
            lambda **by: self.accounts.set_protocols("bob", None, **by),
            lambda **by: self.accounts.set_disabled("bob", True, **by),
            lambda **by: self.accounts.remove("bob", **by),
        ):
            self.assert_error(UnknownAccountError, "there is no account 'bob'", call)
        self.assertIsNone(self.accounts.find("b" * 300))
        self.assertIsNone(self.accounts.find(b"\xff"))
        self.assertEqual(self.database.audit.list(), [])

    def test_list(self) -> None:
        for name in ("carol", "Bob", "alice", "Dave"):
            self.accounts.add(name, "x", schemes=[ARGON2ID, SEALED_SHA256], by="test")
        self.assertEqual([account.name for account in self.accounts.list()], ["alice", "Bob", "carol", "Dave"])
        self.assertEqual([account.name for account in self.accounts.list(limit=2)], ["alice", "Bob"])
        self.assertEqual([account.name for account in self.accounts.list(after="BOB", limit=1)], ["carol"])
        self.assertEqual({len(account.verifiers) for account in self.accounts.list()}, {2})
        self.assertEqual(dict(self.accounts.each()), {a.name.lower(): a for a in self.accounts.list()})

    def test_unseal(self) -> None:
        account = self.accounts.add("alice", "x", by="test")
        for scheme in (SEALED_SHA256, ARGON2ID):
            error = self.assertRaises(MissingVerifierError, self.accounts.unseal, account, scheme)
            self.assertIn(f"has no {scheme} verifier", str(error))

    def test_rehash(self) -> None:
        """A verifier of other parameters replaces the one that was checked, not one that came after it."""
        account = self.accounts.add("alice", "old", by="test")
        hashed = hash_password("old", parameters=CHEAPEST)
        self.assertTrue(self.accounts.rehash(account, hashed))
        self.assertEqual(self.accounts.get("alice").verifiers[ARGON2ID].data, hashed)
        changed = self.accounts.set_password("alice", "new", by="test")
        self.assertFalse(self.accounts.rehash(account, hashed))
        self.assertEqual(self.accounts.get("alice"), changed)

    def test_audit(self) -> None:
        """Every change has its entry, which says who made it; none has a secret (COM-9)."""
        self.accounts.add("Alice", "swordfish", schemes=ALL, protocols=["lekt"], by="root")
        self.accounts.set_password("alice", "swordfish2", by="bob")
        self.accounts.set_protocols("alice", None, by="root")
        self.accounts.set_disabled("alice", True, by="root")
        self.accounts.set_disabled("alice", False, by="root")
        self.accounts.rehash(self.accounts.get("alice"), hash_password("x", parameters=CHEAPEST))
        self.accounts.remove("alice", by="carol")
        entries = self.database.audit.list()
        self.assertEqual(
            [(entry.who, entry.action, entry.subject) for entry in reversed(entries)],
            [
                ("root", "account.added", "Alice"),
                ("bob", "account.password", "Alice"),
                ("root", "account.protocols", "Alice"),
                ("root", "account.disabled", "Alice"),
                ("root", "account.enabled", "Alice"),
                ("connectd", "account.rehashed", "Alice"),
                ("carol", "account.removed", "Alice"),
            ],
        )
        self.assertEqual(entries[-1].details, {"protocols": ["lekt"], "schemes": ALL})
        self.assertEqual({entry.time for entry in entries}, {NOW})
        for secret in ("swordfish", "$argon2"):
            self.assertNotIn(secret, repr(entries))

    def test_audit_pages(self) -> None:
        for number in range(5):
            self.database.audit.add("test", "tested", f"subject{number % 2}", number=number)
        newest = self.database.audit.list(limit=2)
        self.assertEqual([entry.details["number"] for entry in newest], [4, 3])
        older = self.database.audit.list(limit=2, before=newest[-1].id)
        self.assertEqual([entry.details["number"] for entry in older], [2, 1])
        about = self.database.audit.list(subject="subject1")
        self.assertEqual([entry.details["number"] for entry in about], [3, 1])

    def test_repr(self) -> None:
        """COM-9: an account shows nothing that proves who somebody is."""
        account = self.accounts.add("alice", "swordfish", schemes=ALL, by="test")
        shown = repr(account) + str(account) + repr(account.verifiers)
        self.assertNotIn("$argon2", shown)
        self.assertNotIn("\\x", shown)
