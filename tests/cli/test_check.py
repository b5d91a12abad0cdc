"""connectctl check."""

from __future__ import annotations

import json
import os
from unittest import skipIf

import attrs

from connectd.cli import check_directory
from connectd.cli.check_directory import look_at_directory
from connectd.config import Configuration, load
from connectd.directory import SEALED_PASSWORD, Database, create_key
from tests import toy_wing
from tests.cli.test_main import CommandCase
from tests.toy_protocol import install

GOOD = """\
[daemon]
admin = "unix:/run/admin.sock"
status = ""
[[listener]]
protocol = "toy"
listen = "tcp:7000"
udp = "udp:7000:interface=127.0.0.1"
handler = "forward:tcp:game:99"
"""


class CheckTests(CommandCase):
    def test_good(self) -> None:
        self.file.write_text(GOOD)
        result = self.run_command("--config", str(self.file), "check")
        self.assert_ends(result, 0)
        self.assertEqual(
            [line.split() for line in result.stdout.splitlines()],
            [
                ["what", "key", "place", "handler"],
                ["connectd", "admin", "unix:/run/admin.sock"],
                ["toy", "listen", "tcp:7000", "forward:tcp:game:99"],
                ["toy", "udp", "udp:7000:interface=127.0.0.1", "forward:tcp:game:99"],
                f"directory: {self.folder}/state/connectd.db, which is made when the daemon starts".split(),
                [f"{self.file}:", "no", "mistakes"],
            ],
        )

    def test_good_json(self) -> None:
        self.file.write_text(GOOD)
        result = self.run_command("--config", str(self.file), "check", "--json")
        self.assert_ends(result, 0)
        told = json.loads(result.stdout)
        self.assertEqual((told["file"], told["problems"], told["hints"]), (str(self.file), [], []))
        self.assertEqual(
            told["directory"],
            {"database": f"{self.folder}/state/connectd.db", "accounts": 0, "bans": 0, "key": None},
        )
        self.assertEqual(
            told["places"][1],
            {"what": "toy", "key": "listen", "place": "tcp:7000", "handler": "forward:tcp:game:99"},
        )

    def test_mistakes(self) -> None:
        self.file.write_text(GOOD.replace("udp =", "udb =").replace("toy", "toi", 0) + "loud = 1\n")
        result = self.run_command("--config", str(self.file), "check")
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        self.assertEqual(
            result.stderr.splitlines(),
            [
                f'connectctl: {self.file}: [[listener]] 1 (toy): udb: unknown key; did you mean "udp"?',
                f"connectctl: {self.file}: [[listener]] 1 (toy): loud: must be true or false, not the number 1",
                f"connectctl: {self.file}: 2 mistakes",
            ],
        )

    def test_mistakes_json(self) -> None:
        self.file.write_text("[a\n")
        result = self.run_command("--config", str(self.file), "check", "--json")
        self.assert_ends(result, 1, f"{self.file}: 1 mistake")
        told = json.loads(result.stdout)
        self.assertEqual((told["file"], told["places"], len(told["problems"])), (str(self.file), [], 1))


class DirectoryTests(CommandCase):
    """What is told of the directory."""

    def setUp(self) -> None:
        super().setUp()
        self.file.write_text(GOOD)
        self.state = self.folder / "state"
        self.state.mkdir(0o700)
        self.path, self.key = str(self.state / "connectd.db"), str(self.state / "directory.key")

    def check(self) -> list[str]:
        """The lines of a check that succeeds, behind the table."""
        result = self.run_command("--config", str(self.file), "check")
        self.assert_ends(result, 0)
        return result.stdout.splitlines()[4:-1]

    def mistakes(self) -> list[str]:
        """The mistakes of one that does not."""
        result = self.run_command("--config", str(self.file), "check")
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        *lines, last = result.stderr.splitlines()
        self.assertEqual(last, f"connectctl: {self.file}: {len(lines)} mistake{'s' if len(lines) != 1 else ''}")
        told = json.loads(self.run_command("--config", str(self.file), "check", "--json").stdout)["problems"]
        self.assertEqual([f"connectctl: {problem}" for problem in told], lines)
        return told  # type: ignore[no-any-return]

    def make_account(self) -> None:
        """An account whose password is sealed, and a ban."""
        with Database.open(self.path, keys=create_key(self.key)) as database:
            database.accounts.add("Ann", "x", schemes=[SEALED_PASSWORD], by="test")
            database.bans.add("address", "192.0.2.1", reason="", by="test")

    def test_sound(self) -> None:
        self.make_account()
        directory, key = self.check()
        self.assertEqual(directory, f"directory: {self.path}, 1 account, 1 ban")
        self.assertRegex(
            key,
            rf"sealing key: {self.key} \(key [0-9a-f]{{16}}\); keep a backup of it apart from those of the database",
        )
        told = json.loads(self.run_command("--config", str(self.file), "check", "--json").stdout)
        self.assertEqual(told["directory"], {"database": self.path, "accounts": 1, "bans": 1, "key": self.key})

    def test_nothing_is_made(self) -> None:
        self.check()
        self.assertEqual(os.listdir(self.state), [])

    def test_key_to_be_made(self) -> None:
        """A key that will be needed and is not there is no mistake yet, but somebody has to make it."""
        self.toy.account_schemes = (SEALED_PASSWORD,)
        hint = self.check()[-1]
        self.assertTrue(hint.startswith(f"sealing key: {self.key} is not there, and protocols"), hint)
        self.assertTrue(hint.endswith("make it with: connectctl key create"), hint)
        told = json.loads(self.run_command("--config", str(self.file), "check", "--json").stdout)
        self.assertEqual(told["hints"], [hint])

    def test_lost_key(self) -> None:
        """With passwords sealed under it, it is a mistake that would keep the daemon from starting."""
        self.make_account()
        os.unlink(self.key)
        self.toy.account_schemes = (SEALED_PASSWORD,)
        [mistake] = self.mistakes()
        self.assertIn(f"directory: the sealing key {self.key} does not exist", mistake)
        self.assertIn("1 sealed verifiers need it", mistake)

    def test_open_key(self) -> None:
        """A key that others can read is told."""
        self.make_account()
        os.chmod(self.key, 0o644)
        [mistake] = self.mistakes()
        self.assertIn("is open to others", mistake)

    def test_damaged(self) -> None:
        (self.state / "connectd.db").write_text("no database")
        [mistake] = self.mistakes()
        self.assertTrue(mistake.startswith(f"directory: the database {self.path} "), mistake)

    def test_no_folder(self) -> None:
        """The daemon makes its state directory, and no other."""
        self.state.rmdir()
        self.check()
        self.file.write_text(GOOD + '[directory]\nurl = "sqlite:///none/x.db"\n')
        self.assertEqual(
            self.mistakes(),
            [
                f"directory: the folder {self.folder}/none of the database does not exist (make it, or set url)",
            ],
        )

    @skipIf(os.geteuid() == 0, "root may read everything")
    def test_out_of_reach(self) -> None:
        self.state.chmod(0)
        self.addCleanup(self.state.chmod, 0o700)
        self.assertEqual(len(self.mistakes()), 1)

    def test_system_says_no(self) -> None:
        def refuse(path: str) -> int:
            raise PermissionError(13, "Permission denied", path)

        self.make_account()
        self.patch(check_directory, "owner_of", refuse)
        self.assertEqual(self.mistakes(), [f"directory: {self.path}: Permission denied"])

    def test_credential(self) -> None:
        """A key that only the daemon is given is not looked for."""
        self.make_account()
        os.unlink(self.key)
        self.file.write_text(GOOD + '[directory]\nkey_credential = "directory.key"\n')
        self.toy.account_schemes = (SEALED_PASSWORD,)
        credential, directory = self.check()
        self.assertEqual(
            credential, 'sealing key: the systemd credential "directory.key", which only the daemon is given'
        )
        self.assertEqual(directory, f"directory: {self.path}, 1 account, 1 ban")

    def test_none(self) -> None:
        """A configuration that was made in Python need not have one."""
        configuration: Configuration = attrs.evolve(load(self.file), directory=None)
        self.assertEqual(look_at_directory(configuration).lines, [])

    def test_checkers(self) -> None:
        """Checkers that a listener could not use are mistakes, one line each; what is right is not told."""
        install(self, toy_wing.ToyPlugin())
        self.file.write_text(
            '[[listener]]\nprotocol = "toy"\nlisten = "tcp:7000"\nauth = ["fiel:x", "memory:ann:swordfish", "anonymous"]\n'
        )
        unknown, other = self.mistakes()
        self.assertIn('toy: auth: there is no checker "fiel"', unknown)
        self.assertIn('toy: auth: the checker "anonymous" checks IAnonymous', other)
