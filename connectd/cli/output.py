"""What connectctl prints: lines and tables for people, JSON for programs.

Nothing that came from a peer or a file may steer the terminal: all text goes through :func:`printable`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

MAXIMUM_SHOWN = 2000
"""Characters of one text that are shown."""


class Failed(click.ClickException):
    """The command could not do what it was asked: one line on standard error, exit status 1."""

    exit_code = 1

    def __init__(self, message: object) -> None:
        super().__init__(printable(message))


def printable(value: object) -> str:
    """The text of a value on one line, without control characters and not endlessly long."""
    text = str(value)
    if len(text) > MAXIMUM_SHOWN:
        text = text[:MAXIMUM_SHOWN] + "…"
    text = text.replace("\r\n", " ").replace("\n", " ")
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(ord(character)) for character in text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def nobody_reads() -> None:
    """Standard output was closed, as ``connectctl … | head`` does: write to nowhere from now on, without a word."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)


def print_line(text: object = "") -> None:
    """One line on standard output."""
    click.echo(printable(text))


def print_error(text: object) -> None:
    """One line on standard error."""
    click.echo(f"connectctl: {printable(text)}", err=True)


def print_json(value: Any) -> None:
    """A value as JSON on standard output: on several lines for a terminal, else on one."""
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(value, indent=indent, default=str))


def print_json_line(value: Any) -> None:
    """A value as JSON on exactly one line, for commands that print several."""
    click.echo(json.dumps(value, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output; in full width where that is not a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    width = None if sys.stdout.isatty() else 4 * MAXIMUM_SHOWN
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
