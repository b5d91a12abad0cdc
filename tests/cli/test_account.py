"""connectctl account."""

from __future__ import annotations

import argon2

from connectd.cli.main import connectctl
from connectd.directory import ARGON2ID, SEALED_PASSWORD, SEALED_SHA256
from tests.cli.directory_case import DirectoryCase

PASSWORD = "swordfish"


class AddTests(DirectoryCase):
    def test_verifiers(self) -> None:
        """All forms that the served protocols need, and argon2id; the command says what can be turned back."""
        text = self.add("Alice")
        self.assertEqual(text.splitlines()[0], 'added the account "Alice": enabled, protocols: all')
        for scheme in (ARGON2ID, SEALED_SHA256, SEALED_PASSWORD):
            self.assertIn(f"\n  {scheme}: ", text)
        self.assertIn("the password can be got back from sealed-password\n", text)
        database = self.open()
        account = database.accounts.get("alice")
        self.assertEqual(set(account.verifiers), {ARGON2ID, SEALED_SHA256, SEALED_PASSWORD})
        self.assertEqual(database.accounts.unseal(account, SEALED_PASSWORD), PASSWORD.encode())
        self.assertTrue(argon2.PasswordHasher().verify(str(account.verifiers[ARGON2ID].data), PASSWORD))
        self.assertEqual(self.audited(), [("account.added", "Alice")])

    def test_protocols(self) -> None:
        """SB-7, SB-20: nothing sealed is stored for protocols that the account may not use."""
        text = self.add("Alice", "--protocols", "tune")
        self.assertIn("protocols: tune\n", text)
        self.assertIn("the password cannot be got back from any of these\n", text)
        account = self.open().accounts.get("alice")
        self.assertEqual((account.protocols, set(account.verifiers)), (("tune",), {ARGON2ID, SEALED_SHA256}))

    def test_protocol_without_a_listener(self) -> None:
        """Only what is served is stored, and the command says that it is not."""
        text = self.add("Alice", "--protocols", "flute, tune")
        self.assertIn("this configuration has no listener for flute\n", text)
        self.assertNotIn(SEALED_PASSWORD, self.open().accounts.get("alice").verifiers)

    def test_wrong_protocols(self) -> None:
        refusal = self.refused("account", "add", "Alice", "--protocols", "tune,luta", status=2)
        self.assertIn(
            'there is no protocol "luta"; known are flute, lute, tune, and all; did you mean "lute"?', refusal
        )
        self.assertIn("no protocol is named", self.refused("account", "add", "Alice", "--protocols", ",", status=2))
        self.assertFalse(self.path.exists())

    def test_json(self) -> None:
        """COM-9: what is printed has no verifier in it."""
        added = self.json("account", "add", "Alice", "--password-stdin", input=PASSWORD)
        self.assertEqual(
            [(verifier["scheme"], verifier["sealed"], verifier["reversible"]) for verifier in added["verifiers"]],
            [(ARGON2ID, False, False), (SEALED_SHA256, True, False), (SEALED_PASSWORD, True, True)],
        )
        self.assertEqual((added["name"], added["protocols"], added["disabled"]), ("Alice", None, False))
        self.assertEqual((added["lacks"], added["superfluous"], added["unserved"]), ([], [], []))
        self.assertEqual(
            set(added["verifiers"][0]), {"scheme", "sealed", "reversible", "description"}, "no data, no key"
        )

    def test_password_is_no_argument(self) -> None:
        """There is no way to give one on the command line, where everybody on the machine sees it."""
        for words in (
            ("Alice", PASSWORD),
            ("Alice", "--password", PASSWORD),
            ("Alice", f"--password-stdin={PASSWORD}"),
        ):
            result = self.run_command("account", "add", *words)
            self.assertEqual(result.exit_code, 2)
        self.assertFalse(self.path.exists())

    def test_typed(self) -> None:
        asked = self.type(PASSWORD, PASSWORD)
        self.succeed("account", "add", "Alice")
        self.assertEqual(asked, ["Password for Alice: ", "The same again: "])

    def test_nobody_is_asked_in_vain(self) -> None:
        """A name that cannot be had, and a key that is not there, are found before the password is asked for."""
        asked = self.type()
        self.add("Alice")
        self.assertIn('there is an account "Alice" already', self.refused("account", "add", "ALICE"))
        self.assertIn("begins or ends with a space", self.refused("account", "add", " x"))
        self.keys.store(self.keys.load())
        (self.state / "directory.key").unlink()
        self.assertIn("directory.key does not exist", self.refused("account", "add", "Bob"))
        self.assertEqual(asked, [])

    def test_look_alike(self) -> None:
        self.add("Alice")
        self.assertIn("looks like", self.refused("account", "add", "A1ice", "--password-stdin", input=f"{PASSWORD}\n"))

    def test_no_key_is_needed_for_a_hash(self) -> None:
        (self.state / "directory.key").unlink()
        self.configuration.write_text(self.configuration.read_text().replace('"tune"', '"lekt"'))
        from tests.cli.directory_case import protocol
        from tests.toy_protocol import install

        install(self, protocol("lekt"), protocol("lute", SEALED_PASSWORD))
        self.add("Alice", "--protocols", "lekt")
        self.assertEqual(set(self.open().accounts.get("alice").verifiers), {ARGON2ID})

    def test_without_a_state_directory(self) -> None:
        (self.state / "directory.key").unlink()
        self.state.rmdir()
        self.assertIn("connectd.db cannot be made", self.refused("account", "add", "Alice"))


class PasswordTests(DirectoryCase):
    def test_passwd(self) -> None:
        """The account gets the forms that its protocols need now, and no other."""
        self.add("Alice", "--protocols", "tune")
        self.succeed("account", "protocols", "alice", "lute")
        text = self.succeed("account", "passwd", "ALICE", "--password-stdin", input="new\n")
        self.assertEqual(text.splitlines()[0], 'changed the password of the account "Alice": enabled, protocols: lute')
        database = self.open()
        account = database.accounts.get("alice")
        self.assertEqual(set(account.verifiers), {ARGON2ID, SEALED_PASSWORD})
        self.assertEqual(database.accounts.unseal(account, SEALED_PASSWORD), b"new")
        self.assertEqual(self.audited()[0], ("account.password", "Alice"))

    def test_unknown(self) -> None:
        self.add("Alice")
        asked = self.type()
        self.assertIn("there is no account 'Bob'", self.refused("account", "passwd", "Bob"))
        self.assertEqual(asked, [])

    def test_typed_for_the_name_as_it_is_stored(self) -> None:
        self.add("Alice")
        asked = self.type("new", "new")
        self.succeed("account", "passwd", "alice")
        self.assertEqual(asked[0], "Password for Alice: ")


class ListTests(DirectoryCase):
    def setUp(self) -> None:
        super().setUp()
        for name in ("Bob", "alice", "Zoë"):
            self.add(name)

    def test_table(self) -> None:
        self.succeed("account", "disable", "bob")
        self.succeed("account", "protocols", "zoë", "tune")
        lines = self.succeed("account", "list").splitlines()
        self.assertEqual(lines[0].split(), ["name", "state", "protocols", "verifiers", "lacks", "created"])
        self.assertEqual([line.split()[:3] for line in lines[1:]], [
            ["alice", "enabled", "all"], ["Bob", "disabled", "all"], ["Zoë", "enabled", "tune"],
        ])  # fmt: skip
        self.assertIn("argon2id, sealed-sha256, sealed-password", lines[1])

    def test_list_goes_without_saying(self) -> None:
        self.assertEqual(self.succeed("account"), self.succeed("account", "list"))
        self.assertEqual(self.succeed("account", "--json"), self.succeed("account", "list", "--json"))

    def test_limit(self) -> None:
        self.assertEqual(
            self.succeed("account", "list", "--limit", "2").splitlines()[-1], "2 of 3 accounts; --limit 0 lists all"
        )
        self.assertEqual(len(self.succeed("account", "list", "--limit", "0").splitlines()), 4)
        listed = self.json("account", "list", "--limit", "1")
        self.assertEqual(([one["name"] for one in listed["accounts"]], listed["total"]), (["alice"], 3))
        self.assertIn("--limit", self.refused("account", "list", "--limit", "-1", status=2))

    def test_show(self) -> None:
        self.assertIn('the account "Bob": enabled, protocols: all\n', self.succeed("account", "show", "BOB"))
        self.assertEqual(self.json("account", "show", "bob"), self.json("account", "list")["accounts"][1])
        self.assertIn("there is no account 'eve'", self.refused("account", "show", "eve"))

    def test_secrets_are_nowhere(self) -> None:
        """COM-9: no command shows a password, a verifier or a key, and neither does the trail."""
        account = self.open().accounts.get("bob")
        secrets = [PASSWORD, self.keys.load().octets().hex()]
        secrets += [data if isinstance(data := one.data, str) else data.hex() for one in account.verifiers.values()]
        printed = "".join(
            self.succeed(*words, *form)
            for words in (
                ("account", "list"),
                ("account", "show", "bob"),
                ("key",),
                ("directory", "audit"),
                ("directory",),
            )
            for form in ((), ("--json",))
        )
        for secret in secrets:
            self.assertNotIn(secret, printed)

    def test_names_that_are_no_text(self) -> None:
        """An argument that is not UTF-8 names nobody, and does not steer the terminal."""
        for command in ("show", "add", "remove", "disable", "passwd"):
            refusal = self.refused("account", command, "\udcff\x1b[2J", status=2)
            self.assertIn("'\\udcff\\x1b[2J' is not UTF-8", refusal)
        self.assertIn("there is no account '\\x1b[2J'", self.refused("account", "show", "\x1b[2J"))
        self.assertIn("has a control character", self.refused("account", "add", "\x1b[2J"))


class ChangeTests(DirectoryCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("Alice")

    def test_disable_and_enable(self) -> None:
        self.assertEqual(self.succeed("account", "disable", "alice"), 'disabled the account "Alice"\n')
        self.assertTrue(self.open().accounts.get("alice").disabled)
        self.assertFalse(self.json("account", "enable", "alice")["disabled"])
        self.assertFalse(self.open().accounts.get("alice").disabled)
        self.assertEqual(self.audited()[:2], [("account.enabled", "Alice"), ("account.disabled", "Alice")])
        self.assertIn("there is no account", self.refused("account", "disable", "bob"))

    def test_protocols(self) -> None:
        """What the account lacks for its protocols, and what it keeps in vain, is told."""
        text = self.succeed("account", "protocols", "alice", "TUNE")
        self.assertIn("it does not need sealed-password for what this configuration serves", text)
        self.succeed("account", "passwd", "alice", "--password-stdin", input="x")
        self.assertIn("it lacks sealed-password for", self.succeed("account", "protocols", "alice", "all"))
        shown = self.json("account", "show", "alice")
        self.assertEqual((shown["protocols"], shown["lacks"]), (None, [SEALED_PASSWORD]))
        self.assertIn("there is no protocol", self.refused("account", "protocols", "alice", "x", status=2))

    def test_remove(self) -> None:
        self.assertEqual(self.succeed("account", "remove", "alice", "--yes"), 'removed the account "Alice"\n')
        self.assertIsNone(self.open().accounts.find("alice"))
        self.assertEqual(self.audited()[0], ("account.removed", "Alice"))
        self.assertIn("there is no account", self.refused("account", "remove", "alice", "--yes"))

    def test_remove_asks(self) -> None:
        for answer in ("n\n", "\n", ""):
            result = self.run_command("account", "remove", "alice", input=answer)
            self.assertEqual(result.exit_code, 1)
            self.assertIn('Remove the account "Alice" and its password for good? [y/N]: ', result.stderr)
            self.assertRegex(result.stderr, r"\nconnectctl: .*nothing was changed[^\n]*\n\Z")
        self.assertIsNotNone(self.open().accounts.find("alice"))
        result = self.run_command("account", "remove", "alice", "--json", input="y\n")
        self.assertEqual(result.exit_code, 0)
        self.assertTrue(result.stdout.startswith('{"name": "Alice"'), "the question is not in the way")
        self.assertIsNone(self.open().accounts.find("alice"))


class DaemonTests(DirectoryCase):
    """Telling the daemon."""

    def test_told(self) -> None:
        """Every change is told, and nothing else is."""
        self.run_daemon(kicked=2)
        self.add("Alice")
        for words in (
            ("protocols", "alice", "tune"),
            ("disable", "alice"),
            ("enable", "alice"),
            ("remove", "alice", "--yes"),
        ):
            told = len(self.refreshed)
            text = self.succeed("account", *words)
            self.assertEqual(len(self.refreshed), told + 1, words)
            self.assertTrue(text.endswith("  ended 2 sessions or connections\n"), text)
        self.assertTrue(self.refreshed[0].startswith(b"POST /directory/refresh HTTP/1.1\r\n"))
        told = len(self.refreshed)
        self.add("Bob")
        self.succeed("account", "passwd", "bob", "--password-stdin", input="x")
        self.assertEqual(len(self.refreshed), told + 2)
        self.succeed("account")
        self.succeed("account", "show", "bob")
        self.refused("account", "show", "eve")
        self.assertEqual(len(self.refreshed), told + 2)
        self.assertEqual(self.json("account", "disable", "bob")["ended"], 2)

    def test_not_running(self) -> None:
        """Silently fine: nothing is there, or what a daemon left when it was killed."""
        self.add("Alice")
        import socket

        left = socket.socket(socket.AF_UNIX)
        left.bind(str(self.socket))
        left.close()
        self.succeed("account", "disable", "alice")

    def test_no_admin_socket(self) -> None:
        for place in ("", "systemd:name=admin"):
            self.configuration.write_text(self.configuration.read_text().replace("unix:admin.sock", place))
            self.add(f"Alice{place[:1]}")

    def test_cannot_be_told(self) -> None:
        """The change is made, and one line says that the daemon sees it later."""
        self.add("Alice")
        self.run_daemon("503 Service Unavailable", error="the disk is\non fire")
        result = self.run_command("account", "disable", "alice")
        self.assertEqual((result.exit_code, result.stdout), (0, 'disabled the account "Alice"\n'))
        self.assertEqual(
            result.stderr,
            "connectctl: the change is made, but the daemon could not be told; it looks every 5 s: "
            "the disk is on fire\n",
        )
        self.assertTrue(self.open().accounts.get("alice").disabled)

    def test_daemon_with_another_directory(self) -> None:
        self.add("Alice")
        self.run_daemon(database="/elsewhere/connectd.db")
        result = self.run_command("account", "disable", "alice")
        self.assertEqual(result.exit_code, 0)
        self.assertIn("uses /elsewhere/connectd.db: it runs with another configuration\n", result.stderr)

    def test_admin_option(self) -> None:
        self.configuration.write_text(self.configuration.read_text().replace("unix:admin.sock", ""))
        self.run_daemon()
        self.add("Alice", "--admin", f"unix:{self.socket}")
        self.assertEqual(len(self.refreshed), 1)
        self.assertIn("--admin", self.refused("account", "disable", "alice", "--admin", "nonsense"))
        self.assertFalse(self.open().accounts.get("alice").disabled)


class ConfigurationTests(DirectoryCase):
    def test_mistakes(self) -> None:
        self.configuration.write_text("[daemon]\nx = 1\n")
        self.assertIn("there is no listener", self.refused("account", "list"))

    def test_no_database(self) -> None:
        self.assertIn("does not exist", self.refused("account", "list"))
        self.assertFalse(self.path.exists())

    def test_every_command_has_help(self) -> None:
        import click

        for name in ("account", "ban", "key", "directory"):
            group = connectctl.get_command(click.Context(connectctl), name)
            assert isinstance(group, click.Group)
            for command in group.commands:
                self.assertIn("--json", self.succeed(name, command, "--help"))
