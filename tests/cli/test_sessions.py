"""connectctl sessions."""

from __future__ import annotations

import json

from connectd.cli import sessions as sessions_module
from connectd.ops.admin import KICKED
from connectd.sansio import Outcome
from tests.cli.admin_server import AdminCase
from tests.ops.composed import add_session


class ListTests(AdminCase):
    """Who is in."""

    def setUp(self) -> None:
        super().setUp()
        self.daemon = self.start()
        for identifier in range(1, 8):
            add_session(self.daemon, identifier, identity={"nickname": "evil\x1b[2J", "port": 4000})
        add_session(self.daemon, 8, "other")

    def test_table(self) -> None:
        """Names that peers gave themselves cannot steer the terminal."""
        lines = self.succeed("sessions", "list", "--protocol", "lekt", "--limit", "0").splitlines()
        self.assertEqual(lines[0].split(), ["id", "protocol", "peer", "account", "since", "identity"])
        self.assertEqual(len(lines), 8)
        cells = lines[1].split()
        self.assertEqual(cells[:4], ["1", "lekt", "192.0.2.1:5000", "ann"])
        self.assertTrue(lines[1].endswith("nickname=evil\\x1b[2J, port=4000"))

    def test_list_goes_without_saying(self) -> None:
        self.assertEqual(self.succeed("sessions"), self.succeed("sessions", "list"))
        self.assertEqual(self.succeed("sessions", "--json"), self.succeed("sessions", "list", "--json"))
        self.configuration.unlink()
        place = f"unix:{self.socket}"
        self.assertEqual(self.succeed("sessions", "--admin", place), self.succeed("sessions", "list", "--admin", place))
        self.assertEqual(self.succeed("sessions", "--admin", place), self.succeed("sessions", "--admin", place, "list"))

    def test_options_without_the_word(self) -> None:
        """What the short list says about --limit can be done with the command that was typed."""
        for options in (("--limit", "0"), ("--limit", "2", "--protocol", "lekt"), ("--protocol", "other", "--json")):
            self.assertEqual(self.succeed("sessions", *options), self.succeed("sessions", "list", *options))
        self.assertIn("sessions list --limit", self.refused("sessions", "--limit", "2", "list", status=2))

    def test_limit(self) -> None:
        lines = self.succeed("sessions", "list", "--limit", "3").splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["id", "1", "2", "3", "3"])
        self.assertEqual(lines[-1], "3 of 8 sessions; --limit 0 lists all")

    def test_pages(self) -> None:
        """All of them, however many the daemon gives at once."""
        self.patch(sessions_module, "PAGE", 3)
        for limit, expected in (("0", 8), ("6", 6), ("7", 7), ("100", 8)):
            answer = json.loads(self.succeed("sessions", "list", "--json", "--limit", limit))
            self.assertEqual([session["id"] for session in answer["sessions"]], list(range(1, expected + 1)))
            self.assertEqual(answer["total"], 8)

    def test_usage(self) -> None:
        self.assertIn("--limit", self.refused("sessions", "list", "--limit", "-1", status=2))
        self.assertIn("ID", self.refused("sessions", "kick", status=2))


class KickTests(AdminCase):
    """Out with somebody."""

    def setUp(self) -> None:
        super().setUp()
        self.wire = add_session(self.start(), 3)

    def test_kick(self) -> None:
        line = self.succeed("sessions", "kick", "3", "--reason", "time to go")
        self.assertEqual(line, "kicked session 3: lekt 192.0.2.1:5000\n")
        self.assertEqual(self.wire.closed, [(Outcome.KICKED, "time to go")])

    def test_json(self) -> None:
        self.assertEqual(json.loads(self.succeed("sessions", "kick", "3", "--json"))["id"], 3)
        self.assertEqual(self.wire.closed, [(Outcome.KICKED, KICKED)])

    def test_unknown(self) -> None:
        self.assertEqual(self.refused("sessions", "kick", "4"), "there is no session 4")
        self.assertEqual(self.wire.closed, [])

    def test_wrong_reason(self) -> None:
        self.assertIn("reason: one line", self.refused("sessions", "kick", "3", "--reason", "two\nlines"))
