"""Sealing: what opens, what does not, and what the key file must be like."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.directory.errors import BrokenSealError, DirectoryError, MissingKeyError, WrongKeyError
from connectd.directory.sealing import KEY_SIZE, KeyFile, KeyRing, create_key, key_id
from tests.directory.opened import Place, mode

KEY = bytes(range(32))
RING = KeyRing([KEY])
ID = key_id(KEY)


class SealTests(SynchronousTestCase):
    @given(st.binary(max_size=1024), st.integers(1, 2**60), st.text(max_size=20))
    @settings(deadline=None, max_examples=100)
    def test_round_trip(self, secret: bytes, account: int, scheme: str) -> None:
        self.assertEqual(RING.open(ID, account, scheme, RING.seal(ID, account, scheme, secret)), secret)

    def test_nonces(self) -> None:
        """The same secret is sealed differently each time."""
        self.assertEqual(len({RING.seal(ID, 1, "s", b"x") for _ in range(50)}), 50)

    def test_lengths_are_hidden(self) -> None:
        """COM-9: what is sealed does not tell how long a usual password is."""
        self.assertEqual({len(RING.seal(ID, 1, "s", bytes(length))) for length in range(1, 63)}, {92})
        self.assertEqual(len(RING.seal(ID, 1, "s", bytes(63))), 156)

    def test_bound_to_its_row(self) -> None:
        """Moved to another account or scheme, or said to be of another key, it does not open."""
        other = KeyRing([KEY, bytes(32)])
        sealed = other.seal(ID, 7, "sealed-password", b"swordfish")
        self.assertEqual(other.open(ID, 7, "sealed-password", sealed), b"swordfish")
        for key, account, scheme in (
            (ID, 8, "sealed-password"),
            (ID, 7, "sealed-sha256"),
            (key_id(bytes(32)), 7, "sealed-password"),
        ):
            self.assertRaises(BrokenSealError, other.open, key, account, scheme, sealed)

    @given(st.integers(0, 91), st.integers(1, 255))
    @settings(deadline=None, max_examples=60)
    def test_changed(self, place: int, change: int) -> None:
        sealed = bytearray(RING.seal(ID, 1, "s", b"swordfish"))
        sealed[place] ^= change
        self.assertRaises(BrokenSealError, RING.open, ID, 1, "s", bytes(sealed))

    def test_cut_short(self) -> None:
        sealed = RING.seal(ID, 1, "s", b"swordfish")
        for length in (0, 5, 12, 27, len(sealed) - 1):
            self.assertRaises(BrokenSealError, RING.open, ID, 1, "s", sealed[:length])

    def test_wrong_key(self) -> None:
        other = KeyRing([bytes(32)])
        error = self.assertRaises(WrongKeyError, other.open, ID, 1, "s", RING.seal(ID, 1, "s", b"x"))
        self.assertIn(ID, str(error))
        self.assertIn(key_id(bytes(32)), str(error))

    def test_no_secrets(self) -> None:
        """COM-9: neither repr nor error shows a key or what was sealed."""
        key = b"K" * 32
        ring = KeyRing([key])
        sealed = ring.seal(ring.ids[0], 1, "s", b"swordfish")
        shown = repr(ring) + str(ring)
        for wrong in (lambda: ring.open(ring.ids[0], 2, "s", sealed), lambda: ring.open(ID, 1, "s", sealed)):
            error = self.assertRaises(DirectoryError, wrong)
            shown += str(error) + repr(error) + repr(error.__cause__)
        for secret in ("KKKK", key.hex()[:8], "swordfish"):
            self.assertNotIn(secret, shown)


class KeyFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Place(self)
        self.path = self.place.path("k")

    def assert_refused(self, words: str, keys: KeyFile | None = None) -> None:
        error = self.assertRaises(MissingKeyError, (keys or KeyFile(self.path)).load)
        self.assertIn(words, str(error))
        self.assertIn(self.path if keys is None else keys.path, str(error))
        self.assertEqual(len(str(error).splitlines()), 1)

    def write(self, octets: bytes, permissions: int = 0o600) -> None:
        with open(self.path, "wb") as file:
            file.write(octets)
        os.chmod(self.path, permissions)

    def test_create(self) -> None:
        """32 random bytes, for the owner only, whatever the umask."""
        umask = os.umask(0)
        self.addCleanup(os.umask, umask)
        create_key(self.path)
        self.assertEqual(os.path.getsize(self.path), KEY_SIZE)
        self.assertEqual(mode(self.path), 0o600)
        self.assertEqual(os.listdir(self.place.folder), ["k"])
        ring = KeyFile(self.path).load()
        self.assertEqual(len(ring.ids), 1)
        self.assertNotEqual(ring.ids, create_key(self.place.path("other")).load().ids)

    def test_never_overwritten(self) -> None:
        self.write(KEY)
        error = self.assertRaises(DirectoryError, create_key, self.path)
        self.assertIn("not overwritten", str(error))
        self.assertEqual(KeyFile(self.path).load().ids, [ID])

    def test_create_nowhere(self) -> None:
        error = self.assertRaises(DirectoryError, create_key, self.place.path("no/k"))
        self.assertIn("cannot be written", str(error))

    def test_missing(self) -> None:
        self.assert_refused("does not exist")

    def test_unreadable(self) -> None:
        os.mkdir(self.path)
        self.assert_refused("cannot be read")

    def test_open_to_others(self) -> None:
        self.write(KEY, 0o640)
        self.assert_refused("chmod 600")

    def test_sizes(self) -> None:
        for octets in (b"", KEY[:-1], KEY + b"\n", KEY * 17, b"x" * 31):
            with self.subTest(size=len(octets)):
                self.write(octets)
                self.assert_refused("cut short")

    def test_newest_first(self) -> None:
        self.write(bytes(32) + KEY)
        self.assertEqual(KeyFile(self.path).load().ids, [key_id(bytes(32)), ID])

    def test_credential(self) -> None:
        """A systemd credential may be readable for its group, by an access list; it cannot be written."""
        self.write(KEY, 0o440)
        self.patch(os, "environ", {**os.environ, "CREDENTIALS_DIRECTORY": self.place.folder})
        keys = KeyFile.from_credential("k")
        self.assertEqual(keys.load().ids, [ID])
        self.assertIn("credential", str(self.assertRaises(DirectoryError, keys.store, RING)))
        self.assert_refused("does not exist", KeyFile.from_credential("other"))

    def test_no_credentials(self) -> None:
        self.patch(os, "environ", {})
        error = self.assertRaises(MissingKeyError, KeyFile.from_credential, "k")
        self.assertIn("CREDENTIALS_DIRECTORY", str(error))

    def test_store(self) -> None:
        keys = create_key(self.path)
        ring = keys.load().with_new_key()
        keys.store(ring)
        self.assertEqual(keys.load().ids, ring.ids)
        self.assertEqual(mode(self.path), 0o600)
        self.assertEqual(os.listdir(self.place.folder), ["k"])
        keys.store(ring.only({ring.ids[1]}))
        self.assertEqual(keys.load().ids, ring.ids[1:])

    def test_durable(self) -> None:
        """CH-22: a key is on the disk, and so is its name, before anything is sealed with it."""
        synchronised: list[int] = []
        real = os.fsync

        def note(descriptor: int) -> None:
            synchronised.append(os.fstat(descriptor).st_ino)
            real(descriptor)

        self.patch(os, "fsync", note)
        keys = create_key(self.path)
        folder = os.stat(self.place.folder).st_ino
        self.assertEqual(synchronised, [os.stat(self.path).st_ino, folder])
        keys.store(RING)
        self.assertEqual(synchronised[2:], [os.stat(self.path).st_ino, folder])

    def test_store_fails(self) -> None:
        keys = KeyFile(self.place.path("no/k"))
        self.assertIn("nothing has changed", str(self.assertRaises(DirectoryError, keys.store, RING)))

    def test_repr(self) -> None:
        """COM-9: a key file shows its path and nothing of its content."""
        self.assertEqual(repr(create_key(self.path)), f"KeyFile({self.path!r})")
