"""connectctl init."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from cryptography.x509 import DNSName, SubjectAlternativeName

from connectd.config import load, render
from connectd.directory import SEALED_PASSWORD, Database, KeyFile
from connectd.net.certificates import read_certificate
from tests.cli.test_main import CommandCase


def mode(path: Path) -> int:
    """A path's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


class InitTests(CommandCase):
    def test_directory(self) -> None:
        """Everything that is needed is made, for its owner only, and the way on is told."""
        target = self.folder / "new" / "place"
        result = self.run_command("init", str(target))
        self.assert_ends(result, 0)
        self.assertEqual((target / "connectd.toml").read_text(), render())
        self.assertEqual(mode(target / "connectd.toml"), 0o600)
        self.assertEqual(mode(target / "state"), 0o700)
        self.assertEqual(sorted(os.listdir(target)), ["connectd.toml", "state"])
        made = ["connectd.db", "directory.key", "toy.pem"]
        self.assertEqual(sorted(os.listdir(target / "state")), made)
        self.assertEqual({mode(target / "state" / name) for name in made}, {0o600})
        self.assertIn(f"connectctl --config {target}/connectd.toml check\n", result.stdout)
        self.assertIn(f"twistd -n connectd --config {target}/connectd.toml\n", result.stdout)
        self.assertEqual([one.protocol for one in load(target / "connectd.toml").listeners], ["toy", "toy"])

    def test_configuration_of_another_name(self) -> None:
        file = self.folder / "my own.toml"
        result = self.run_command("--config", str(file), "init")
        self.assert_ends(result, 0)
        self.assertEqual(file.read_text(), render())
        self.assertTrue((self.folder / "state").is_dir())
        self.assertIn(f"--config '{file}' check\n", result.stdout)

    def test_json(self) -> None:
        result = self.run_command("init", str(self.folder), "--json")
        state = self.folder / "state"
        self.assertEqual(
            json.loads(result.stdout),
            {
                "configuration": str(self.file),
                "state": str(state),
                "database": str(state / "connectd.db"),
                "key": str(state / "directory.key"),
                "key_made": True,
                "certificates": {str(state / "toy.pem"): True},
            },
        )

    def test_certificates(self) -> None:
        """Every listener that has the key gets a certificate for this machine; one that is there stays."""
        first = self.run_command("init", str(self.folder))
        path = self.folder / "state" / "toy.pem"
        self.assertIn(f"made the certificate {path}, for this machine only\n", first.stdout)
        names = read_certificate(str(path)).leaf.extensions.get_extension_for_class(SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(DNSName), ["localhost"])
        before = path.read_bytes()
        again = self.run_command("init", str(self.folder), "--force")
        self.assertIn(f"kept the certificate {path}", again.stdout)
        self.assertEqual(path.read_bytes(), before)

    def test_never_overwrites(self) -> None:
        self.file.write_text("mine")
        result = self.run_command("init", str(self.folder))
        self.assert_ends(result, 1, f"{self.file} is there already; --force replaces it")
        self.assertEqual(self.file.read_text(), "mine")
        self.assertEqual(os.listdir(self.folder), ["connectd.toml"])

    def test_dangling_link_is_not_followed(self) -> None:
        self.file.symlink_to(self.folder / "elsewhere")
        self.assertEqual(self.run_command("init", str(self.folder)).exit_code, 1)
        self.assertFalse((self.folder / "elsewhere").exists())

    def test_force(self) -> None:
        """The state directory and what is in it stay."""
        self.file.write_text("mine")
        (self.folder / "state").mkdir()
        (self.folder / "state" / "key").write_text("kept")
        self.assert_ends(self.run_command("init", str(self.folder), "--force"), 0)
        self.assertEqual(self.file.read_text(), render())
        self.assertEqual((self.folder / "state" / "key").read_text(), "kept")

    def test_key_is_explained(self) -> None:
        """What its loss means, and where its backup belongs, is said before it matters; the key itself is not
        (COM-9)."""
        result = self.run_command("init", str(self.folder))
        self.assertIn(f"made the sealing key {self.folder}/state/directory.key\n", result.stdout)
        words = " ".join(result.stdout.split())
        for said in (
            "If it is lost: what is sealed can be opened by nobody, and these accounts need new passwords.",
            "back it up now, and keep that backup apart from those of the database",
        ):
            self.assertIn(said, words)
        key = (self.folder / "state" / "directory.key").read_bytes()
        self.assertNotIn(key.hex(), result.stdout)

    def test_key_stays(self) -> None:
        """A key that is there is never replaced: something may be sealed with it."""
        self.assert_ends(self.run_command("init", str(self.folder)), 0)
        key = (self.folder / "state" / "directory.key").read_bytes()
        result = self.run_command("init", str(self.folder), "--force")
        self.assert_ends(result, 0)
        self.assertEqual((self.folder / "state" / "directory.key").read_bytes(), key)
        self.assertIn("kept the sealing key", result.stdout)
        self.assertNotIn("If it is lost", result.stdout)
        self.assertFalse(json.loads(self.run_command("init", str(self.folder), "--force", "--json").stdout)["key_made"])

    def test_lost_key(self) -> None:
        """A new key would open nothing of what the lost one has sealed, so none is made as if all were well."""
        self.assert_ends(self.run_command("init", str(self.folder)), 0)
        key = self.folder / "state" / "directory.key"
        with Database.open(str(self.folder / "state" / "connectd.db"), keys=KeyFile(str(key))) as database:
            database.accounts.add("Ann", "x", schemes=[SEALED_PASSWORD], by="test")
        key.unlink()
        result = self.run_command("init", str(self.folder), "--force")
        self.assertEqual(result.exit_code, 1)
        self.assertIn(f"{key} is not there, and 1 passwords in", result.stderr)
        self.assertIn("connectctl key give-up", result.stderr)
        self.assertFalse(key.exists())

    def test_no_database(self) -> None:
        """What stands in its place is not touched, and told in one line."""
        (self.folder / "state").mkdir()
        (self.folder / "state" / "connectd.db").write_text("mine")
        result = self.run_command("init", str(self.folder))
        self.assertEqual((result.exit_code, len(result.stderr.splitlines())), (1, 1))
        self.assertEqual((self.folder / "state" / "connectd.db").read_text(), "mine")

    def test_state_is_a_file(self) -> None:
        (self.folder / "state").write_text("")
        result = self.run_command("init", str(self.folder))
        self.assert_ends(result, 1, f"{self.folder}/state is not a directory")

    def test_below_a_file(self) -> None:
        self.file.write_text("")
        result = self.run_command("init", str(self.file / "below"))
        self.assert_ends(result, 1, f"{self.file}/below: cannot be written: Not a directory")

    def test_interrupted_writing_leaves_nothing(self) -> None:
        def fail(*arguments: object) -> None:
            raise OSError(28, "No space left on device", "it")

        self.patch(os, "replace", fail)
        result = self.run_command("init", str(self.folder), "--force")
        self.assert_ends(result, 1, "it: cannot be written: No space left on device")
        self.assertEqual(os.listdir(self.folder), [])

    def test_print(self) -> None:
        result = self.run_command("init", "--print", str(self.folder))
        self.assert_ends(result, 0)
        self.assertEqual(result.stdout, render())
        self.assertEqual(os.listdir(self.folder), [])
