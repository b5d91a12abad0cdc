"""connectctl ban."""

from __future__ import annotations

import time
from datetime import datetime

import click
from twisted.trial.unittest import SynchronousTestCase

from connectd.cli.moments import duration, local_time, moment
from tests.cli.directory_case import DirectoryCase

UUID = "12345678-1234-5678-1234-567812345678"
FINGERPRINT = "ab" * 32
HOUR, DAY = 3600.0, 86400.0


class AddTests(DirectoryCase):
    def test_kinds(self) -> None:
        """Each is stored in its one form, which is told."""
        for kind, value, shown in (
            ("address", "::ffff:192.0.2.1", "address 192.0.2.1"),
            ("network", "192.0.2.77/24", "network 192.0.2.0/24"),
            ("network", "192.0.2.5/32", "address 192.0.2.5"),
            ("account", "ALICE", "account alice"),
            ("uuid", UUID.upper(), f"uuid {UUID}"),
            ("KEY", ":".join(["AB"] * 32), f"key {FINGERPRINT}"),
        ):
            text = self.succeed("ban", "add", kind, value, "--reason", "because")
            self.assertEqual(text.splitlines()[0], f"banned the {shown} for ever: because")
        self.assertEqual(len(self.open().bans.list()), 6)
        self.assertEqual(self.audited()[-1], ("ban.added", "address 192.0.2.1"))

    def test_for(self) -> None:
        begin = time.time()
        added = self.json("ban", "add", "address", "192.0.2.1", "--reason", "x", "--for", "1d12h")
        self.assertTrue(begin + 1.5 * DAY <= added["expires"] <= time.time() + 1.5 * DAY)
        self.assertEqual((added["kind"], added["value"], added["reason"]), ("address", "192.0.2.1", "x"))
        [ban] = self.open().bans.list()
        self.assertEqual(ban.expires, added["expires"])

    def test_until(self) -> None:
        moment = datetime.fromisoformat("2999-12-31T18:00+01:00").timestamp()
        added = self.json("ban", "add", "address", "192.0.2.1", "--reason", "x", "--until", "2999-12-31T18:00+01:00")
        self.assertEqual(added["expires"], moment)
        self.assertIn(local_time(moment), self.succeed("ban"))

    def test_wrong_times(self) -> None:
        for options, problem in (
            (["--for", "1h", "--until", "2999-01-01"], "--for and --until say the same"),
            (["--until", "2001-01-01"], "is over; give a time to come"),
            (["--until", "tomorrow"], '"tomorrow" is not a point in time; write 2030-12-31'),
            (["--for", "long"], '"long" is not a time; write 90m'),
            (["--for", "0s"], '"0s" is out of range'),
        ):
            refusal = self.refused("ban", "add", "address", "192.0.2.1", "--reason", "x", *options, status=2)
            self.assertIn(problem, refusal)
        self.assertFalse(self.path.exists())

    def test_wrong_things(self) -> None:
        for kind, value, problem in (
            ("host", "x", "'host' is not one of"),
            ("address", "example.org", "'example.org' is no"),
            ("network", "10.0.0.0/33", "such as 192.0.2.0/24"),
            ("uuid", "1234", "'1234' is no"),
            ("key", "1234", "is not the fingerprint of a key"),
            ("account", " x", "begins or ends with a space"),
        ):
            for words in (("add", kind, value, "--reason", "x"), ("remove", kind, value)):
                self.assertIn(problem, self.refused("ban", *words, status=2))
        self.assertEqual(self.open().bans.list(), [])

    def test_reason(self) -> None:
        """There is always one, and it is one line."""
        self.assertIn("--reason", self.refused("ban", "add", "address", "192.0.2.1", status=2))
        for reason in ("two\nlines", "x" * 201, "\udcff"):
            refusal = self.refused("ban", "add", "address", "192.0.2.1", "--reason", reason, status=2)
            self.assertIn("the reason of a ban is one line", refusal)

    def test_again(self) -> None:
        """The new reason and end replace the former ones, and the command says so."""
        self.succeed("ban", "add", "account", "alice", "--reason", "first", "--for", "1h")
        text = self.succeed("ban", "add", "account", "Alice", "--reason", "second")
        self.assertIn("  this replaces the ban of olive until ", text)
        self.assertIn(": first\n", text)
        [ban] = self.open().bans.list()
        self.assertEqual((ban.reason, ban.expires), ("second", None))

    def test_account_that_is_not_there(self) -> None:
        """It can be banned, but is perhaps a mistake."""
        self.add("Bob")
        self.assertIn(
            "there is no account of that name now", self.succeed("ban", "add", "account", "Bib", "--reason", "x")
        )
        self.assertNotIn("no account", self.succeed("ban", "add", "account", "bob", "--reason", "x"))

    def test_daemon(self) -> None:
        self.run_daemon(kicked=1)
        text = self.succeed("ban", "add", "address", "192.0.2.1", "--reason", "x")
        self.assertTrue(text.endswith("  ended 1 session or connection\n"), text)
        self.assertEqual(self.json("ban", "add", "address", "192.0.2.1", "--reason", "x")["ended"], 1)
        self.succeed("ban", "remove", "address", "192.0.2.1")
        self.assertEqual(len(self.refreshed), 3)
        self.succeed("ban")
        self.assertEqual(len(self.refreshed), 3)


class ListTests(DirectoryCase):
    def setUp(self) -> None:
        super().setUp()
        self.succeed("ban", "add", "address", "192.0.2.1", "--reason", "spam")
        database = self.open()
        database.clock = lambda: time.time() - HOUR
        database.bans.add("account", "bob", reason="over", expires=time.time() - 1, by="olive")

    def test_table(self) -> None:
        """Bans that are over are none any more."""
        lines = self.succeed("ban", "list").splitlines()
        self.assertEqual(lines[0].split(), ["kind", "value", "until", "reason", "by", "since"])
        self.assertEqual(len(lines), 2)
        self.assertEqual(lines[1].split()[:6], ["address", "192.0.2.1", "for", "ever", "spam", "olive"])
        self.assertEqual(self.succeed("ban"), self.succeed("ban", "list"))

    def test_json(self) -> None:
        listed = self.json("ban", "list")
        self.assertEqual(self.json("ban"), listed)
        [ban] = listed["bans"]
        self.assertEqual((ban["value"], ban["expires"], ban["created_by"]), ("192.0.2.1", None, "olive"))

    def test_remove(self) -> None:
        self.assertEqual(
            self.succeed("ban", "remove", "address", "192.0.2.1"), "lifted the ban of the address 192.0.2.1: spam\n"
        )
        self.assertEqual(self.json("ban", "list")["bans"], [])
        self.assertEqual(self.audited()[0], ("ban.removed", "address 192.0.2.1"))
        self.assertIn("there is no ban of the address 192.0.2.1", self.refused("ban", "remove", "address", "192.0.2.1"))

    def test_remove_json(self) -> None:
        self.assertEqual(self.json("ban", "remove", "address", "192.0.2.1")["reason"], "spam")


class MomentTests(SynchronousTestCase):
    """Times as people write them."""

    def setUp(self) -> None:
        self.context = click.Context(click.Command("x"))
        self.option = click.Option(["--x"])

    def test_durations(self) -> None:
        for text, seconds in (
            ("1s", 1), ("90m", 5400), ("12h", 12 * HOUR), ("7d", 7 * DAY), ("2w", 14 * DAY), ("1d12h", 1.5 * DAY),
            (" 1H ", HOUR), ("36525d", 36525 * DAY),
        ):  # fmt: skip
            self.assertEqual(duration(self.context, self.option, text), seconds, text)
        self.assertIsNone(duration(self.context, self.option, None))

    def test_no_durations(self) -> None:
        for text in (
            "",
            "h",
            "1",
            "1y",
            "-1h",
            "1.5h",
            "1 h",
            "0s",
            "36526d",
            "99999999w",
            "1h" * 100,
            "9" * 5000 + "h",
            "\u0661h",
        ):
            self.assertRaises(click.BadParameter, duration, self.context, self.option, text)

    def test_moments(self) -> None:
        for text in ("2030-12-31", "2030-12-31T18:00", "2030-12-31 18:00:05"):
            self.assertEqual(moment(self.context, self.option, text), datetime.fromisoformat(text).timestamp(), text)
        self.assertEqual(moment(self.context, self.option, "1970-01-02T01:00+01:00"), DAY)
        self.assertEqual(moment(self.context, self.option, "1970-01-02T00:00:00Z"), DAY)
        self.assertIsNone(moment(self.context, self.option, None))

    def test_no_moments(self) -> None:
        for text in ("", "x", "2030-13-01", "99999-01-01", "1d"):
            self.assertRaises(click.BadParameter, moment, self.context, self.option, text)

    def test_shown(self) -> None:
        self.assertEqual(datetime.fromisoformat(local_time(86400.0)).timestamp(), DAY)
        self.assertEqual(local_time(1e20), "100000000000000000000 s")
