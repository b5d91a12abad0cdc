"""A client's assets: nothing but what was asked for is ever kept (AL-10)."""

from __future__ import annotations

import hashlib
import os

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy.asset_store import AssetError, AssetStore, StoredAsset

CONTENT = b"some content"
HASH = hashlib.sha256(CONTENT).hexdigest()


class AssetStoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()
        self.store = AssetStore(self.path)

    def files(self) -> list[str]:
        return [name for _, _, names in os.walk(self.path) for name in names]

    def test_kept(self) -> None:
        """AL-10: what came whole is kept, under its hash, and not asked for again."""
        self.assertFalse(self.store.has(HASH))
        with self.store.receive(HASH, len(CONTENT)) as incoming:
            incoming.write(CONTENT[:5])
            self.assertFalse(self.store.has(HASH))
            incoming.write(CONTENT[5:])
            self.assertEqual(incoming.finish(), StoredAsset(HASH, len(CONTENT)))
        self.assertTrue(self.store.has(HASH))
        self.assertTrue(self.store.has(HASH, len(CONTENT)))
        self.assertFalse(self.store.has(HASH, 5))
        self.assertEqual(self.files(), [HASH])
        self.assertEqual(list(AssetStore(self.path)), [StoredAsset(HASH, len(CONTENT))])
        with open(self.store.file(HASH), "rb") as file:
            self.assertEqual(file.read(), CONTENT)

    def test_wrong_content(self) -> None:
        """AL-10: hash and size are verified."""
        for parts, size, reason in (
            ([b"other content"[:12]], 12, "has the hash"),
            ([CONTENT, b"x"], 12, "larger than the 12 bytes"),
            ([CONTENT], 13, "12 of the 13 bytes"),
            ([], 12, "0 of the 12 bytes"),
        ):
            with self.store.receive(HASH, size) as incoming:
                error = self.assertRaises(AssetError, self.take, incoming, parts)
                self.assertIn(reason, str(error))
            self.assertEqual(self.files(), [])

    def take(self, incoming: object, parts: list[bytes]) -> None:
        for part in parts:
            incoming.write(part)  # type: ignore[attr-defined]  # of one parameter for assertRaises
        incoming.finish()  # type: ignore[attr-defined]

    def test_killed(self) -> None:
        """AL-10: what a killed fetch left is no asset, and can be cleared away."""
        incoming = self.store.receive(HASH, len(CONTENT))
        incoming.write(CONTENT)
        self.assertEqual(list(self.store), [])
        self.assertFalse(self.store.has(HASH))
        # Another fetch clears away nothing of one that goes on.
        self.assertEqual(self.store.clear_unfinished(), 0)
        incoming._file.close()
        self.assertEqual(self.store.clear_unfinished(), 1)
        self.assertEqual(self.store.clear_unfinished(), 0)
        self.assertEqual(self.files(), [])
        incoming.abandon()

    def test_names(self) -> None:
        """AL-10: what is no hash never becomes a file's name."""
        for name in ("", "../../etc/passwd", HASH.upper(), HASH[:-1], HASH + "\n", f"{HASH[:-1]}/", "a" * 65):
            self.assertRaises(AssetError, self.store.receive, name, 1)
            self.assertRaises(AssetError, self.store.has, name)
        self.assertFalse(os.path.exists(self.path))

    def test_verify(self) -> None:
        """What has changed on the disk is found, and can be fetched again."""
        with self.store.receive(HASH, len(CONTENT)) as incoming:
            incoming.write(CONTENT)
            stored = incoming.finish()
        self.assertTrue(self.store.verify(stored))
        with open(self.store.file(HASH), "r+b") as file:
            file.write(b"S")
        self.assertFalse(self.store.verify(stored))
        self.store.remove(HASH)
        self.assertFalse(self.store.has(HASH))

    def test_foreign_files(self) -> None:
        """Other files in the store are none of it."""
        os.makedirs(os.path.join(self.path, "ab"))
        for name in ("notes", f"ab/{HASH}", "ab/x"):
            with open(os.path.join(self.path, name), "w"):
                pass
        self.assertNotEqual(HASH[:2], "ab")
        self.assertEqual(list(self.store), [])
        self.assertEqual(self.store.clear_unfinished(), 0)
