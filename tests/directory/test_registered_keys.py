"""Registered keys (CH-20 to CH-22)."""

from __future__ import annotations

from uuid import uuid4

from twisted.trial.unittest import SynchronousTestCase

from connectd.directory import (
    AlreadyRegisteredError,
    InvalidKeyError,
    KeyChangedError,
    NotRegisteredError,
    RegisteredKey,
    fingerprint,
)
from tests.directory.opened import NOW, Place

OLD, NEW = b"\x30\x82 old", b"\x30\x82 new"


class RegisteredKeyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Place(self)
        self.database = self.place.open()
        self.keys = self.database.keys
        self.uuid = uuid4()

    def test_register(self) -> None:
        """CH-20, CH-22: a UUID is registered once; what was acknowledged is there for whoever opens the file next."""
        self.assertIsNone(self.keys.get(self.uuid))
        self.keys.register(self.uuid, OLD, by="chatr")
        self.assertEqual(self.place.open().keys.get(self.uuid), RegisteredKey(self.uuid, OLD, NOW, None))
        error = self.assertRaises(AlreadyRegisteredError, self.keys.register, self.uuid, NEW, by="chatr")
        self.assertIn(str(self.uuid), str(error))
        self.assertEqual(self.keys.count(), 1)

    def test_replace(self) -> None:
        """CH-20, CH-22: a key is replaced where there is one."""
        error = self.assertRaises(NotRegisteredError, self.keys.replace, self.uuid, NEW, by="chatr")
        self.assertIn(str(self.uuid), str(error))
        self.keys.register(self.uuid, OLD, by="chatr")
        self.place.clock.advance(5)
        self.keys.replace(self.uuid, NEW, by="chatr")
        self.assertEqual(self.keys.get(self.uuid), RegisteredKey(self.uuid, NEW, NOW, NOW + 5))

    def test_expected(self) -> None:
        """Of two replacements that were signed with the same key only one is made."""
        self.keys.register(self.uuid, OLD, by="chatr")
        self.keys.replace(self.uuid, NEW, expected=OLD, by="chatr")
        self.assertRaises(KeyChangedError, self.keys.replace, self.uuid, b"third", expected=OLD, by="chatr")
        present = self.keys.get(self.uuid)
        assert present is not None
        self.assertEqual(present.key, NEW)

    def test_remove(self) -> None:
        self.assertRaises(NotRegisteredError, self.keys.remove, self.uuid, by="root")
        self.keys.register(self.uuid, OLD, by="chatr")
        self.keys.remove(self.uuid, by="root")
        self.assertIsNone(self.keys.get(self.uuid))

    def test_size(self) -> None:
        """COM-2: what anybody can make the database hold is bounded."""
        for key in (b"", bytes(4097)):
            self.assertRaises(InvalidKeyError, self.keys.register, self.uuid, key, by="chatr")
        self.keys.register(self.uuid, bytes(4096), by="chatr")
        self.assertRaises(InvalidKeyError, self.keys.replace, self.uuid, bytes(4097), by="chatr")

    def test_audit(self) -> None:
        self.keys.register(self.uuid, OLD, by="chatr")
        self.keys.replace(self.uuid, NEW, by="chatr")
        self.keys.remove(self.uuid, by="root")
        removed, replaced, registered = self.database.audit.list(subject=str(self.uuid))
        self.assertEqual((registered.action, registered.details), ("key.registered", {"fingerprint": fingerprint(OLD)}))
        self.assertEqual(
            (replaced.action, replaced.details),
            ("key.replaced", {"fingerprint": fingerprint(NEW), "former": fingerprint(OLD)}),
        )
        self.assertEqual((removed.action, removed.who), ("key.removed", "root"))

    def test_fingerprint(self) -> None:
        self.assertEqual(fingerprint(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
