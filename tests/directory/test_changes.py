"""Memory says what the database says, whoever has changed it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.directory import (
    ARGON2ID,
    SCHEMES,
    SEALED_PASSWORD,
    SEALED_SHA256,
    Database,
    DirectoryError,
    MissingKeyError,
    WrongKeyError,
    rotate_key,
)
from connectd.directory import database as databases
from connectd.directory.changes import MANY_BANS, Changes, pack_account, read_changes, unpack_account
from connectd.directory.memory import Memory
from tests.directory.opened import Place

NAMES = ("alice", "Bob", "ZOË")
UUIDS = (UUID(int=1), UUID(int=2))
VALUES = (("address", "192.0.2.1"), ("network", "198.51.100.0/24"), ("account", "bob"), ("uuid", str(UUIDS[0])))

Operation = Callable[[Database], Any]

operations: st.SearchStrategy[Operation] = st.one_of(
    st.builds(
        lambda name, schemes: lambda d: d.accounts.add(name, "x", schemes=schemes, by="t"),
        st.sampled_from(NAMES),
        st.sampled_from([[ARGON2ID], [SEALED_SHA256], list(SCHEMES)]),
    ),
    st.builds(lambda name: lambda d: d.accounts.set_password(name, "y", by="t"), st.sampled_from(NAMES)),
    st.builds(lambda name: lambda d: d.accounts.set_disabled(name, True, by="t"), st.sampled_from(NAMES)),
    st.builds(lambda name: lambda d: d.accounts.set_protocols(name, ["lekt"], by="t"), st.sampled_from(NAMES)),
    st.builds(lambda name: lambda d: d.accounts.remove(name, by="t"), st.sampled_from(NAMES)),
    st.builds(
        lambda what, reason: lambda d: d.bans.add(*what, reason=reason, by="t"),
        st.sampled_from(VALUES),
        st.text("ab", max_size=2),
    ),
    st.builds(lambda what: lambda d: d.bans.remove(*what, by="t"), st.sampled_from(VALUES)),
    st.builds(
        lambda uuid, key: lambda d: d.keys.register(uuid, key, by="t"),
        st.sampled_from(UUIDS),
        st.binary(min_size=1, max_size=2),
    ),
    st.builds(
        lambda uuid, key: lambda d: d.keys.replace(uuid, key, by="t"),
        st.sampled_from(UUIDS),
        st.binary(min_size=1, max_size=2),
    ),
    st.builds(lambda uuid: lambda d: d.keys.remove(uuid, by="t"), st.sampled_from(UUIDS)),
    st.just(lambda d: rotate_key(d, by="t")),
    st.just(lambda d: d.execute("DELETE FROM changes")),  # as if very much had happened
)


class MemoryTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Place(self)
        self.database = self.place.open()
        self.memory = Memory(self.place.clock.seconds)
        self.seen: int | None = None

    def follow(self, database: Database | None = None) -> Changes | None:
        changes = read_changes(database or self.database, self.seen)
        if changes is not None:
            self.seen = changes.number
            self.memory.apply(changes)
        return changes

    def assert_same(self, database: Database) -> None:
        """Memory gives what the database gives."""
        accounts = database.accounts.list()
        self.assertEqual([self.memory.find_account(name) for name in NAMES], [database.accounts.find(n) for n in NAMES])
        self.assertEqual(self.memory.accounts, len(accounts))
        for account in accounts:
            for scheme, verifier in account.verifiers.items():
                if verifier.key_id is not None:
                    self.assertEqual(self.memory.secret(account, scheme), database.accounts.unseal(account, scheme))
        for uuid in UUIDS:
            present = database.keys.get(uuid)
            self.assertEqual(self.memory.registered_key(uuid), None if present is None else present.key)
        self.assertEqual(self.memory.keys, database.keys.count())
        self.assertEqual(len(self.memory.bans), len(database.bans.list()))
        bans = self.memory.bans
        for (kind, value), found in zip(
            VALUES,
            (
                bans.match_address("192.0.2.1"),
                bans.match_address("198.51.100.77"),
                bans.match_account("BOB"),
                bans.match_uuid(UUIDS[0]),
            ),
            strict=True,
        ):
            ban = database.bans.get(kind, value)
            self.assertEqual(found, None if ban is None else ban.reason or "no reason was given")


class ChangesTests(MemoryTestCase):
    @given(st.lists(st.tuples(operations, st.booleans()), max_size=12))
    @settings(deadline=None, max_examples=40)
    def test_followed(self, steps: list[tuple[Operation, bool]]) -> None:
        """Looked at after every change or now and then, from another connection: nothing is missed."""
        self.place = Place(self)
        writer, reader = self.place.open(), self.place.open()
        self.memory, self.seen = Memory(self.place.clock.seconds), None
        self.follow(reader)
        for operation, look in steps:
            try:
                operation(writer)
            except DirectoryError:
                pass  # there is no such account, or there is one already
            if look:
                self.follow(reader)
                self.assert_same(reader)
        self.follow(reader)
        self.assert_same(reader)
        writer.close()
        reader.close()

    def test_nothing(self) -> None:
        """Where nothing has changed there is nothing to do."""
        self.assertIsNotNone(self.follow())
        self.assertIsNone(self.follow())
        self.database.audit.add("t", "looked", "x")
        self.assertIsNone(self.follow())

    def test_only_what_changed(self) -> None:
        for name in NAMES:
            self.database.accounts.add(name, "x", by="t")
        changes = self.follow()
        assert changes is not None
        self.assertEqual((changes.everything, len(changes.accounts)), (True, 3))
        self.database.accounts.set_password("bob", "y", by="t")
        changes = self.follow()
        assert changes is not None
        self.assertEqual((changes.everything, list(changes.accounts)), (False, ["bob"]))
        self.assert_same(self.database)

    def test_too_much(self) -> None:
        """Who has missed more than is remembered reads everything."""
        self.patch(databases, "REMEMBERED_CHANGES", 3)
        self.follow()
        for number in range(3):
            self.database.bans.add("account", f"account{number}", by="t")
        changes = self.follow()
        assert changes is not None
        self.assertFalse(changes.everything)
        for number in range(4):
            self.database.bans.add("account", f"other{number}", by="t")
        changes = self.follow()
        assert changes is not None
        self.assertTrue(changes.everything)
        self.assertEqual(len(self.memory.bans), 7)

    def test_going_back(self) -> None:
        """A number that the database does not know reads everything."""
        self.seen = 99
        changes = self.follow()
        assert changes is not None
        self.assertTrue(changes.everything)

    def test_many_bans(self) -> None:
        """So many bans at once are a new table, made where they are read."""
        self.follow()
        with self.database.transaction():
            for number in range(MANY_BANS + 1):
                self.database.bans.add("network", f"10.{number}.0.0/16", reason="spam", by="t")
        before = self.memory.bans
        self.follow()
        self.assertIsNot(self.memory.bans, before)
        self.assertEqual(self.memory.bans.match_address("10.7.1.1"), "spam")
        self.database.bans.remove("network", "10.7.0.0/16", by="t")
        before = self.memory.bans
        self.follow()
        self.assertIs(self.memory.bans, before)
        self.assertIsNone(self.memory.bans.match_address("10.7.1.1"))

    def test_one_moment(self) -> None:
        """What is read is of one moment, even when somebody writes while it is read."""
        self.database.accounts.add("alice", "x", schemes=SCHEMES, by="t")
        writer = self.place.open()
        real = self.database.accounts.each

        def each() -> Any:
            writer.accounts.add("Bob", "x", by="t")
            writer.keys.register(UUIDS[0], b"key", by="t")
            return real()

        self.patch(self.database.accounts.__class__, "each", lambda _: each())
        changes = self.follow()
        assert changes is not None
        self.assertEqual((list(changes.accounts), changes.keys), (["alice"], {}))
        self.assertIsNotNone(self.follow())
        self.assert_same(self.database)

    def test_packed(self) -> None:
        account = self.database.accounts.add("ZOË", "x", schemes=SCHEMES, protocols=["lekt", "chatr"], by="t")
        self.assertEqual(unpack_account(pack_account(account)), account)


class SecretTests(MemoryTestCase):
    def test_decoys(self) -> None:
        """COM-10: nobody, and who has no such verifier, gets a secret as well, and always the same."""
        account = self.database.accounts.add("alice", "x", by="t")
        self.follow()
        for scheme in (SEALED_SHA256, SEALED_PASSWORD):
            secrets = {self.memory.secret(somebody, scheme) for somebody in (None, account, None)}
            self.assertEqual([len(secret) for secret in secrets], [32])
            self.assertNotEqual(secrets, {Memory(self.place.clock.seconds).secret(None, scheme)})

    def test_same_work(self) -> None:
        """COM-10: one seal is opened for each."""
        account = self.database.accounts.add("alice", "x", schemes=SCHEMES, by="t")
        self.follow()
        opened: list[str] = []
        ring = type(self.database.seals.ring())
        real = ring.open

        def open_seal(self: Any, key: str, account: int, scheme: str, sealed: bytes) -> bytes:
            opened.append(scheme)
            return real(self, key, account, scheme, sealed)

        self.patch(ring, "open", open_seal)
        self.memory.secret(account, SEALED_SHA256)
        self.memory.secret(None, SEALED_SHA256)
        self.assertEqual(opened, [SEALED_SHA256] * 2)

    def test_without_key(self) -> None:
        """A key that is not there is a failure, and no wrong password; whoever needs none does not notice."""
        account = self.database.accounts.add("alice", "x", schemes=SCHEMES, by="t")
        self.follow(self.place.open(keys=None))
        error = self.assertRaises(MissingKeyError, self.memory.secret, account, SEALED_SHA256)
        self.assertIn("'alice'", str(error))
        self.assertEqual(self.memory.find_account("alice"), account)

    def test_key_file_gone(self) -> None:
        account = self.database.accounts.add("alice", "x", schemes=SCHEMES, by="t")
        rotate_key(self.database, by="t")
        other = self.place.open()
        os.unlink(self.place.path("directory.key"))
        self.follow(other)
        self.assertRaises(MissingKeyError, self.memory.secret, account, SEALED_SHA256)

    def test_other_key(self) -> None:
        account = self.database.accounts.add("alice", "x", schemes=SCHEMES, by="t")
        self.follow()
        moved = unpack_account(pack_account(account))
        rotate_key(self.database, by="t")
        self.follow()
        self.assertRaises(WrongKeyError, self.memory.secret, moved, SEALED_SHA256)
        self.assertEqual(len(self.memory.secret(self.memory.find_account("alice"), SEALED_SHA256)), 32)
