"""Names that somebody has proven to own, by protocol: nobody may take one without a proof afterwards (AL-8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from connectd.directory.errors import DirectoryError

if TYPE_CHECKING:
    from connectd.directory.database import Database

MAXIMUM_NAME: Final = 256
"""Characters of a name."""


class ProvenNames:
    """The proven names of one open database."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, protocol: str, names: Iterable[str]) -> None:
        """Remember names; those that are known stay as they are. They are durable when this returns.

        :param protocol: whose names they are; without spaces.
        :param names: in the one form in which the protocol compares them.
        :raises DirectoryError: for a name that is empty or too long.
        """
        with self._database.transaction():
            for name in names:
                if not 0 < len(name) <= MAXIMUM_NAME:
                    raise DirectoryError(f"a proven name has {len(name)} characters: 1 to {MAXIMUM_NAME} are kept")
                self._database.execute(
                    "INSERT OR IGNORE INTO proven_names (protocol, name, since) VALUES (?, ?, ?)",
                    (protocol, name, self._database.clock()),
                )

    def each(self) -> Iterator[str]:
        """All of them, as :func:`in_memory` writes them."""
        for protocol, name in self._database.each("SELECT protocol, name FROM proven_names"):
            yield in_memory(protocol, name)

    def has(self, written: str) -> bool:
        """Whether one is known, as :func:`in_memory` writes it."""
        protocol, _, name = written.partition(" ")
        found = self._database.row("SELECT 1 FROM proven_names WHERE protocol = ? AND name = ?", (protocol, name))
        return found is not None


def in_memory(protocol: str, name: str) -> str:
    """A name with its protocol as one text: memory keeps one for each, about 130 bytes."""
    return f"{protocol} {name}"
