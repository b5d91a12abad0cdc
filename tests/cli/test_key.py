"""connectctl key."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from connectd.cli import key as key_module
from connectd.directory import ARGON2ID, SEALED_PASSWORD, KeyFile, Rotation, create_key
from connectd.directory import rotation as rotation_module
from tests.cli.directory_case import DirectoryCase, files


class KeyCase(DirectoryCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.keys.path)

    def ids(self) -> list[str]:
        return KeyFile(self.keys.path).load().ids

    def password(self, name: str) -> bytes:
        """The sealed password of an account."""
        database = self.open()
        return database.accounts.unseal(database.accounts.get(name), SEALED_PASSWORD)


class ShowTests(KeyCase):
    def test_ids_and_dates(self) -> None:
        """COM-9: ids and dates, and nothing of the key."""
        self.add("Alice")
        [former] = self.ids()
        self.succeed("key", "rotate", "--yes")
        [present] = self.ids()
        shown = self.json("key", "show")
        [key] = shown["keys"]
        self.assertEqual((key["id"], key["seals"], shown["lost"]), (present, 2, []))
        self.assertEqual(key["since"], self.open().audit.list()[0].time)
        self.assertEqual(shown["file"], str(self.file))
        text = self.succeed("key")
        self.assertIn(present, text)
        self.assertNotIn(former, text)
        self.assertNotIn(self.file.read_bytes().hex(), text)

    def test_key_that_came_with_the_directory(self) -> None:
        self.add("Alice")
        [key] = self.json("key")["keys"]
        self.assertEqual((key["id"], key["since"]), (self.ids()[0], None))
        self.assertIn(key["id"], self.succeed("key"))

    def test_missing(self) -> None:
        self.add("Alice")
        [lost] = self.ids()
        self.file.unlink()
        self.assertIn("directory.key does not exist", self.refused("key"))
        create_key(str(self.file))
        self.assertEqual(self.json("key")["lost"], [{"id": lost, "seals": 2}])
        self.assertIn(f"missing: key {lost}, with which 2 verifiers are sealed", self.succeed("key"))

    def test_credential(self) -> None:
        """Only the daemon has it."""
        self.configuration.write_text(self.configuration.read_text().replace("key_file", "key_credential"))
        self.patch(
            os, "environ", {name: value for name, value in os.environ.items() if name != "CREDENTIALS_DIRECTORY"}
        )
        self.assertIn("CREDENTIALS_DIRECTORY is not set", self.refused("key", "create"))
        self.assertIn("CREDENTIALS_DIRECTORY is not set", self.refused("account", "add", "Alice"))
        self.succeed("ban", "add", "address", "192.0.2.1", "--reason", "x")
        self.succeed("directory", "check")


class CreateTests(KeyCase):
    def test_create(self) -> None:
        self.file.unlink()
        self.run_daemon()
        made = self.json("key", "create")
        self.assertEqual([made["key"]], self.ids())
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assertEqual(self.audited(), [("seals.created", made["key"])])
        self.assertIsNotNone(self.json("key")["keys"][0]["since"])
        self.assertEqual(len(self.refreshed), 1)

    def test_text(self) -> None:
        self.file.unlink()
        text = self.succeed("key", "create")
        self.assertEqual(text.splitlines()[0], f"made the key {self.ids()[0]} in {self.file}")
        self.assertIn("back it up", text)

    def test_never_overwrites(self) -> None:
        before = self.file.read_bytes()
        self.assertIn("exists and is not overwritten", self.refused("key", "create"))
        self.assertEqual(self.file.read_bytes(), before)

    def test_not_in_the_place_of_a_lost_one(self) -> None:
        """It would open nothing; what to do is said."""
        self.add("Alice")
        [lost] = self.ids()
        self.file.unlink()
        refusal = self.refused("key", "create")
        self.assertIn(f"2 verifiers are sealed with the key {lost}, which a new key cannot open", refusal)
        self.assertIn("connectctl key give-up", refusal)
        self.assertFalse(self.file.exists())


class RotateTests(KeyCase):
    def test_rotate(self) -> None:
        for name in ("Alice", "Bob"):
            self.add(name, password=f"of {name}")
        [former] = self.ids()
        result = self.run_command("key", "rotate", input="y\n")
        self.assertEqual(result.exit_code, 0, result.output)
        [present] = self.ids()
        self.assertNotEqual(present, former)
        self.assertIn("Backups of the database from before need the key file from before", result.stdout)
        self.assertIn(f"the sealing key is {present} now; 4 verifiers are sealed anew", result.stdout)
        self.assertEqual((self.password("alice"), self.password("bob")), (b"of Alice", b"of Bob"))
        self.assertEqual(self.audited()[0], ("seals.rotated", present))

    def test_asks(self) -> None:
        self.add("Alice")
        before = self.ids()
        result = self.run_command("key", "rotate", input="n\n")
        self.assertEqual(result.exit_code, 1)
        self.assertTrue(result.stderr.endswith("connectctl: nothing was changed\n"))
        self.assertEqual(self.ids(), before)

    def test_json(self) -> None:
        self.add("Alice")
        self.run_daemon()
        rotated = self.json("key", "rotate", "--yes")
        self.assertEqual(
            (rotated["key"], rotated["resealed"], rotated["unopened"], rotated["kept"]), (self.ids()[0], 2, [], [])
        )
        self.assertEqual(len(self.refreshed), 1)
        result = self.run_command("key", "rotate", "--json", input="y\n")
        self.assertTrue(result.stdout.startswith("{"), "the explanation is not in the way")
        self.assertIn("A new key is made", result.stderr)

    def test_interrupted(self) -> None:
        """Wherever it stops, everything opens afterwards, and doing it again finishes it."""
        self.add("Alice")

        class PulledOut(BaseException):
            pass

        def pull_out(*arguments: object) -> None:
            raise PulledOut

        for target, name in ((rotation_module, "_drop_unused"), (KeyFile, "store")):
            patch = self.patch(target, name, pull_out)
            with self.assertRaises(PulledOut):
                self.run_command("key", "rotate", "--yes", catch_exceptions=False)
            patch.restore()
            self.assertEqual(self.password("alice"), b"swordfish")
        self.succeed("key", "rotate", "--yes")
        self.assertEqual(len(self.ids()), 1)
        self.assertEqual(self.password("alice"), b"swordfish")

    def test_what_does_not_open(self) -> None:
        """It stays as it is, and the operator is told whose it is."""
        self.add("Alice")
        self.file.unlink()
        create_key(str(self.file))
        result = self.run_command("key", "rotate", "--yes")
        self.assertEqual(result.exit_code, 0)
        self.assertIn("verifiers did not open and stay sealed with another key, those of Alice", result.stderr)

    def test_former_keys_that_stay(self) -> None:
        """The operator is told, for the file is more than the new key then."""
        self.add("Alice")
        self.patch(key_module, "rotate_key", lambda database, by: Rotation("new", 0, [], ["former"]))
        result = self.run_command("key", "rotate", "--yes")
        self.assertEqual(
            result.stderr, f"connectctl: former keys are still in {self.file}: former (connectctl key show)\n"
        )

    def test_without_a_key(self) -> None:
        self.add("Alice")
        self.file.unlink()
        self.assertIn("directory.key does not exist", self.refused("key", "rotate", "--yes"))


class GiveUpTests(KeyCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("Alice")
        [self.lost] = self.ids()
        self.file.unlink()

    def test_give_up(self) -> None:
        """There is a way on after the loss of the key."""
        result = self.run_command("key", "give-up", input="y\n")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("Accounts that will need new passwords: 1\n", result.stdout)
        self.assertIn(
            f"gave up what was sealed with {self.lost}; these accounts need new passwords:\n  Alice\n", result.stdout
        )
        self.assertEqual(set(self.open().accounts.get("alice").verifiers), {ARGON2ID})
        self.assertNotIn(self.lost, self.ids())
        self.succeed("account", "passwd", "alice", "--password-stdin", input="new")
        self.assertEqual(self.password("alice"), b"new")
        self.assertEqual([action for action, _ in self.audited()[1:3]], ["seals.given_up", "seals.created"])

    def test_with_another_key(self) -> None:
        create_key(str(self.file))
        [present] = self.ids()
        self.run_daemon()
        given_up = self.json("key", "give-up", "--yes")
        self.assertEqual((given_up["made"], given_up["given_up"], given_up["accounts"]), (None, [self.lost], ["Alice"]))
        self.assertEqual((self.ids(), len(self.refreshed)), ([present], 1))

    def test_asks(self) -> None:
        self.assertEqual(self.run_command("key", "give-up").exit_code, 1)
        self.assertIn(SEALED_PASSWORD, self.open().accounts.get("alice").verifiers)
        self.assertFalse(self.file.exists())

    def test_nothing_is_lost(self) -> None:
        """What can be opened is not given up."""
        other = create_key(str(self.state / "other"))
        self.assertEqual(files(self.state), {"other", "connectd.db"})
        self.succeed("key", "give-up", "--yes")
        self.succeed("account", "passwd", "alice", "--password-stdin", input="new")
        self.assertIn("no key is lost", self.refused("key", "give-up", "--yes"))
        self.assertEqual(self.password("alice"), b"new")
        self.assertTrue(other.load())
