"""A directory in a temporary folder, with cheap hashes and a clock that stands still."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from argon2.profiles import CHEAPEST
from twisted.internet.task import Clock
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase

from connectd.directory import Database, KeyFile, create_key

NOW = 1_800_000_000.0


class Place:
    """A folder for one test's files, and what is opened there."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self._test = test
        self.folder = tempfile.mkdtemp(prefix="connectd-test-")
        test.addCleanup(FilePath(self.folder).remove)
        self.clock = Clock()
        self.clock.advance(NOW)

    def path(self, name: str = "connectd.db") -> str:
        """The path of a file in it."""
        return os.path.join(self.folder, name)

    def key_file(self) -> KeyFile:
        """The key file, which is made where there is none."""
        path = self.path("directory.key")
        return KeyFile(path) if os.path.exists(path) else create_key(path)

    def open(self, name: str = "connectd.db", **options: Any) -> Database:
        """Open the database; the test closes it."""
        options = {"clock": self.clock.seconds, "parameters": CHEAPEST, **options}
        if "keys" not in options:
            options["keys"] = self.key_file()
        database = Database.open(self.path(name), **options)
        self._test.addCleanup(database.close)
        return database


def mode(path: str) -> int:
    """The permissions of a file."""
    return os.stat(path).st_mode & 0o777
