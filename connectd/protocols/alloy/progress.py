"""How far a fetch is, for people: a bar on a terminal, lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from connectd.protocols.alloy.fetching import Progress

NAME_SHOWN: Final = 40


@contextmanager
def shown(json_lines: bool) -> Iterator[Progress]:
    """What to tell progress to.

    :param json_lines: write an object a line on standard output.
    """
    if json_lines:
        yield JsonLines()
    elif sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=Console(stderr=True)) as bars:
            yield Bar(bars)
    else:
        yield Lines()


class Bar:
    """A bar for the asset that is coming.

    :param bars: where it is.
    """

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def offered(self, total: int, missing: int) -> None:
        self._bars.console.print(Text(f"{missing} of {total} assets are not here yet"))

    def begun(self, name: str, size: int) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(printable(name), total=size)

    def came(self, size: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, size)

    def kept(self, name: str, hash: str, size: int) -> None:
        self._bars.console.print(Text(f"{hash}  {printable(name)}"))


class Lines:
    """A line for each asset, when it is here."""

    def offered(self, total: int, missing: int) -> None:
        click.echo(f"{missing} of {total} assets are not here yet", err=True)

    def begun(self, name: str, size: int) -> None:
        """Nothing is told before it is whole."""

    def came(self, size: int) -> None:
        """Nothing is told before it is whole."""

    def kept(self, name: str, hash: str, size: int) -> None:
        click.echo(f"{hash}  {printable(name)}", err=True)


class JsonLines:
    """An object for each asset, when it is here."""

    def offered(self, total: int, missing: int) -> None:
        """The last line says that."""

    def begun(self, name: str, size: int) -> None:
        """Nothing is told before it is whole."""

    def came(self, size: int) -> None:
        """Nothing is told before it is whole."""

    def kept(self, name: str, hash: str, size: int) -> None:
        click.echo(json.dumps({"hash": hash, "name": name, "bytes": size}))


def printable(name: str) -> str:
    """The name that a server gives something, without what would steer a terminal."""
    text = "".join(character if character.isprintable() else "?" for character in name[-NAME_SHOWN:])
    return text if len(name) <= NAME_SHOWN else f"…{text}"
