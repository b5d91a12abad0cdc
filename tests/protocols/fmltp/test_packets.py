"""Tests of :mod:`connectd.protocols.fmltp.packets`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.fmltp.fernet import token_size
from connectd.protocols.fmltp.packets import (
    DEPLOYED_COMMAND_LIMIT,
    MAXIMUM_PLAINTEXT,
    CommandLine,
    Ready,
    Reply,
    Version,
    comparison_code,
    parse_version_number,
    split_command,
)
from connectd.protocols.fmltp.settings import FmltpClientSettings, FmltpSettings


class VersionTests(SynchronousTestCase):
    def test_form(self) -> None:
        """FM-1: `<friendly name>,<x>.<y>.<z>` CRLF."""
        version = Version("FlexMusic Server", 0, 0, 0)
        self.assertEqual(version.encode(), b"FlexMusic Server,0.0.0\r\n")
        self.assertEqual(Version.parse(b"FlexMusic Server,0.0.0\r\n"), version)
        self.assertEqual(str(Version("FlexMusic", 1, 22, 333)), "1.22.333")
        self.assertEqual(Version.of("FlexMusic", "1.22.333"), Version("FlexMusic", 1, 22, 333))

    def test_last_comma(self) -> None:
        """FM-2: name and version part at the last comma."""
        self.assertEqual(Version.parse(b"FlexMusic, our own,1.2.3"), Version("FlexMusic, our own", 1, 2, 3))

    def test_line_ends(self) -> None:
        """FM-2: with CRLF, LF or neither, and white space before it, which deployed peers strip."""
        for end in (b"\r\n", b"\n", b"", b" \r\n", b"\t"):
            self.assertEqual(Version.parse(b"FlexMusic,1.2.3" + end), Version("FlexMusic", 1, 2, 3))

    def test_nine_digits(self) -> None:
        """FM-2: integers have at most 9 digits."""
        self.assertEqual(Version.parse(b"FlexMusic,999999999.0.007"), Version("FlexMusic", 999_999_999, 0, 7))
        self.assertRaises(ValueError, Version.parse, b"FlexMusic,1000000000.0.0")

    def test_other_forms(self) -> None:
        """FM-2: a name that does not begin with FlexMusic, or another form."""
        for line in (
            b"", b"\r\n", b"FlexMusic", b"FlexMusic\r\n", b"flexmusic,0.0.0", b"Music,0.0.0", b" FlexMusic,0.0.0", b",0.0.0",
            b"FlexMusic,0.0", b"FlexMusic,0.0.0.0", b"FlexMusic,0.0.", b"FlexMusic,0.0.-1", b"FlexMusic,0.0.+1",
            b"FlexMusic,0.0.1_0", b"FlexMusic, 0.0.0", b"FlexMusic,0.0.\xd9\xa1", b"FlexMusic\xff,0.0.0",
            b"FlexMusic\0,0.0.0", b"FlexMusic\x1b[2J,0.0.0", b"FlexMusic,0.0.0,", b"FlexMusic,a.b.c",
        ):  # fmt: skip
            self.assertRaises(ValueError, Version.parse, line)
        self.assertRaises(ValueError, Version.parse, "FlexMusic,0.0.\u0661".encode())

    @given(st.integers(0, 999_999_999), st.integers(0, 999_999_999), st.integers(0, 999_999_999))
    def test_round_trip(self, x: int, y: int, z: int) -> None:
        version = Version("FlexMusic \N{EIGHTH NOTE}, and more", x, y, z)
        self.assertEqual(Version.parse(version.encode()), version)

    def test_settings(self) -> None:
        """FM-1: a configuration that could not be announced is turned away when it is read."""
        for settings in (FmltpSettings, FmltpClientSettings):
            for bad in (
                {"version": "1.0"},
                {"friendly_name": "Winamp"},
                {"friendly_name": "FlexMusic\r\n"},
                {"friendly_name": "FlexMusic" * 101},
            ):
                self.assertRaises(ValueError, settings, **bad)
            self.assertEqual(settings(version="1.2.3").version, "1.2.3")
        self.assertEqual(parse_version_number("1.2.3"), (1, 2, 3))


class ComparisonTests(SynchronousTestCase):
    def test_the_full_table(self) -> None:
        """FM-9: tens digit 0 equal y, 1 client newer, 2 server newer; units digit the same for z."""
        server = Version("FlexMusic", 3, 5, 5)
        expected = {
            (5, 5): 100, (5, 6): 101, (5, 4): 102,
            (6, 5): 110, (6, 6): 111, (6, 4): 112,
            (4, 5): 120, (4, 6): 121, (4, 4): 122,
        }  # fmt: skip
        for (y, z), code in expected.items():
            self.assertEqual(comparison_code(Version("FlexMusic", 3, y, z), server), code)


class ReadyTests(SynchronousTestCase):
    def test_encode(self) -> None:
        """FM-9: as it is on the wire."""
        self.assertEqual(Ready(102, False).encode(), b"102 FmLTP/1.0 Interpreter Ready.\r\n")
        self.assertEqual(Ready(120, True).encode(), b"120 FmLTP/1.0 Interpreter Ready.\r\nAuthentication required.\r\n")
        self.assertEqual(Ready(100, False, True).encode(), b"100 FmLTP/1.0 Intepreter Ready.\r\n")

    def test_what_deployed_servers_write(self) -> None:
        """FM-9: the spelling `Intepreter`, and no full stop."""
        self.assertEqual(Ready.parse(b"100 FmLTP/1.0 Intepreter Ready\r\n"), Ready(100, False, True))
        deployed = b"100 FmLTP/1.0 Intepreter Ready.\r\nAuthentication required.\r\n"
        self.assertEqual(Ready.parse(deployed), Ready(100, True, True))

    def test_without_line_ends(self) -> None:
        for end in (b"", b"\n", b"\r\n"):
            self.assertEqual(Ready.parse(b"121 FmLTP/1.0 Interpreter Ready." + end), Ready(121, False))
            locked = b"121 FmLTP/1.0 Interpreter Ready.\r\nAuthentication required" + end
            self.assertEqual(Ready.parse(locked), Ready(121, True))

    def test_round_trip(self) -> None:
        for code in (100, 101, 102, 110, 111, 112, 120, 121, 122):
            for required in (False, True):
                self.assertEqual(Ready.parse(Ready(code, required).encode()), Ready(code, required))

    def test_other_texts(self) -> None:
        """FM-9: nothing else is taken for it."""
        for text in (
            b"", b"100", b"130 FmLTP/1.0 Interpreter Ready.\r\n", b"103 FmLTP/1.0 Interpreter Ready.\r\n",
            b"200 FmLTP/1.0 Interpreter Ready.\r\n", b"100 FmLTP/2.0 Interpreter Ready.\r\n",
            b"100 FmLTP/1.0 Interpreter ready.\r\n", b"100 FmLTP/1.0 Interpreter Ready.\r\nGo away.\r\n",
            b"100 FmLTP/1.0 Interpreter Ready.\r\nAuthentication required.\r\n.", b"\xff", b" 100 FmLTP/1.0 Interpreter Ready.",
        ):  # fmt: skip
            self.assertRaises(ValueError, Ready.parse, text)


class ReplyTests(SynchronousTestCase):
    def test_form(self) -> None:
        """FM-12: a three-digit code, and CRLF at the end."""
        self.assertEqual(Reply(200, "Goodbye.").encode(), b"200 Goodbye.\r\n")
        self.assertEqual(Reply.parse(b"200 Goodbye.\r\n"), Reply(200, "Goodbye."))
        self.assertEqual(str(Reply(400, "No.")), "400 No.")

    def test_missing_line_ends(self) -> None:
        """FM-12: deployed servers leave CRLF out of some replies."""
        self.assertEqual(Reply.parse(b"430 No backend"), Reply(430, "No backend"))
        self.assertEqual(Reply.parse(b"200 Help:\r\nUsage: X\r\nhelp"), Reply(200, "Help:\r\nUsage: X\r\nhelp"))
        self.assertEqual(Reply.parse(b"200"), Reply(200, ""))

    def test_other_forms(self) -> None:
        for text in (b"", b"20 x", b"2000 x", b"x00 x", b"099 x", b"200x", b"\xd9\xa1\xd9\xa1\xd9\xa1 x", b"200 \xff"):
            self.assertRaises(ValueError, Reply.parse, text)

    def test_not_unicode(self) -> None:
        """An application's mistake does not end its session."""
        self.assertEqual(Reply(200, "a\udcffb").encode(), b"200 a?b\r\n")

    @given(st.integers(100, 999), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")))
    def test_round_trip(self, code: int, text: str) -> None:
        self.assertEqual(Reply.parse(Reply(code, text).encode()), Reply(code, text))


class CommandTests(SynchronousTestCase):
    def test_split(self) -> None:
        """FM-11: single spaces separate; the rest of the line is kept as it is."""
        self.assertEqual(split_command(b"HELP"), ("HELP", ""))
        self.assertEqual(split_command(b"AUTH ann  a b \r\n"), ("AUTH", "ann  a b "))
        self.assertEqual(
            split_command("PLAY caf\xe9 \U0001f469\u200d\U0001f469\t1\n".encode()),
            ("PLAY", "caf\xe9 \U0001f469\u200d\U0001f469\t1"),
        )

    def test_not_a_line(self) -> None:
        for text in (
            b"",
            b"\r\n",
            b" HELP",
            b"HELP\r\nQUIT",
            b"HELP\0",
            b"\x1b",
            b"HELP \xc2\x85",
            b"\xff",
            b"HELP\n\n",
        ):
            self.assertRaises(ValueError, split_command, text)

    def test_line_for_a_handler(self) -> None:
        self.assertEqual(CommandLine("HELP", "").encode(), b"HELP\r\n")
        self.assertEqual(CommandLine("PLAY", "a  b").encode(), b"PLAY a  b\r\n")


class LimitTests(SynchronousTestCase):
    def test_a_deployed_server_reads_1024_bytes(self) -> None:
        """FM-10: 703 bytes of plaintext, with CRLF behind the token, are the most that fits into them."""
        self.assertLessEqual(token_size(DEPLOYED_COMMAND_LIMIT) + 2, 1024)
        self.assertGreater(token_size(DEPLOYED_COMMAND_LIMIT + 1) + 2, 1024)

    def test_the_longest_token(self) -> None:
        """FM-10: what we send fits into a receiver's 64 KiB."""
        self.assertLessEqual(token_size(MAXIMUM_PLAINTEXT) + 2, 65_536)
        self.assertGreater(token_size(MAXIMUM_PLAINTEXT + 1) + 2, 65_536)
