"""What connectctl prints."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.cli.output import (
    MAXIMUM_SHOWN,
    Failed,
    print_error,
    print_json,
    print_json_line,
    print_line,
    print_table,
    printable,
)


class Terminal(io.StringIO):
    """An output that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class PrintableTests(SynchronousTestCase):
    @given(st.text())
    def test_nothing_steers_the_terminal(self, text: str) -> None:
        self.assertTrue(printable(text).isprintable())

    def test_escapes(self) -> None:
        self.assertEqual(printable("a\x1b[2J\u202eb\U000e0001\u00e9"), "a\\x1b[2J\\u202eb\\U000e0001\u00e9")

    def test_one_line(self) -> None:
        self.assertEqual(printable("a\r\nb\nc\rd"), "a b c\\x0dd")

    def test_long(self) -> None:
        self.assertEqual(printable("x" * (MAXIMUM_SHOWN + 1)), "x" * MAXIMUM_SHOWN + "…")

    def test_failed(self) -> None:
        error = Failed("no\x07")
        self.assertEqual((error.format_message(), error.exit_code), ("no\\x07", 1))


class PrintTests(SynchronousTestCase):
    def printed(self, write: Any, *arguments: Any, terminal: bool = False, stream: str = "stdout") -> str:
        output = Terminal() if terminal else io.StringIO()
        self.patch(sys, stream, output)
        write(*arguments)
        return output.getvalue()

    def test_lines(self) -> None:
        self.assertEqual(self.printed(print_line, "a\tb"), "a\\x09b\n")
        self.assertEqual(self.printed(print_line), "\n")
        self.assertEqual(self.printed(print_error, "a\nb", stream="stderr"), "connectctl: a b\n")

    def test_json(self) -> None:
        """One line for programs, several for a terminal; without characters that a terminal obeys."""
        value = {"a": [1, "\x9b\x1b"], "b": Failed}
        text = self.printed(print_json, value)
        self.assertEqual(text.count("\n"), 1)
        self.assertTrue(text.strip().isprintable())
        self.assertEqual(json.loads(text), {"a": [1, "\x9b\x1b"], "b": str(Failed)})
        self.assertEqual(self.printed(print_json, {"a": 1}, terminal=True), '{\n  "a": 1\n}\n')
        self.assertEqual(self.printed(print_json_line, {"a": 1}, terminal=True), '{"a": 1}\n')

    def test_table(self) -> None:
        text = self.printed(print_table, ("name", "number"), [("[bold]x[/]\x1b", 5), ("y" * 300, "")])
        self.assertEqual(
            text.splitlines(),
            [f"{'name':<300}  number", f"{'[bold]x[/]' + chr(92) + 'x1b':<300}  5", "y" * 300],
        )

    def test_table_on_a_terminal(self) -> None:
        self.patch(sys, "argv", ["connectctl"])
        text = self.printed(print_table, ("name",), [("y" * 300,)], terminal=True)
        self.assertEqual(text.count("y"), 300)
        self.assertGreater(len(text.splitlines()), 2)
