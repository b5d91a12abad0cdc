"""Names that somebody has proven to own."""

from __future__ import annotations

import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from connectd.directory import DirectoryError
from connectd.directory.changes import read_changes
from connectd.directory.memory import Memory
from connectd.directory.proven_names import in_memory
from connectd.directory.schema import APPLICATION_ID, MIGRATIONS
from tests.directory.opened import Place


class ProvenNamesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Place(self)
        self.database = self.place.open()

    def test_added(self) -> None:
        """Once proven, always proven, for that protocol alone."""
        self.database.names.add("alloy", ["ann", "00112233-4455-6677-8899-aabbccddeeff"])
        self.database.names.add("alloy", ["ann", "bob"])
        self.assertEqual(
            set(self.database.names.each()),
            {"alloy ann", "alloy bob", "alloy 00112233-4455-6677-8899-aabbccddeeff"},
        )
        self.assertTrue(self.database.names.has(in_memory("alloy", "ann")))
        self.assertFalse(self.database.names.has(in_memory("chatr", "ann")))
        again = self.place.open()
        self.assertTrue(again.names.has("alloy bob"))

    def test_names_with_spaces(self) -> None:
        self.database.names.add("alloy", ["a b c"])
        self.assertTrue(self.database.names.has("alloy a b c"))

    def test_sizes(self) -> None:
        for name in ("", "x" * 257):
            self.assertRaises(DirectoryError, self.database.names.add, "alloy", ["fine", name])
        self.assertEqual(list(self.database.names.each()), [])

    def test_memory(self) -> None:
        """Memory learns of them, all at once or as they come, and of those that are gone."""
        memory = Memory(self.place.clock.seconds)
        self.database.names.add("alloy", ["ann"])
        everything = read_changes(self.database, None)
        assert everything is not None
        memory.apply(everything)
        self.assertTrue(memory.is_proven("alloy", "ann"))
        self.assertFalse(memory.is_proven("alloy", "bob"))
        self.database.names.add("alloy", ["bob"])
        self.database.execute("DELETE FROM proven_names WHERE name = 'ann'")
        some = read_changes(self.database, everything.number)
        assert some is not None
        self.assertFalse(some.everything)
        memory.apply(some)
        self.assertTrue(memory.is_proven("alloy", "bob"))
        self.assertFalse(memory.is_proven("alloy", "ann"))

    def test_older_database(self) -> None:
        """A database from before there were any is brought up to date, and keeps what it has."""
        path = self.place.path("older.db")
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        connection.execute("INSERT INTO registered_keys (uuid, key, created) VALUES (zeroblob(16), x'01', 1)")
        connection.commit()
        connection.close()
        database = self.place.open("older.db")
        database.names.add("alloy", ["ann"])
        self.assertEqual(database.keys.count(), 1)
        self.assertEqual(list(database.names.each()), ["alloy ann"])
