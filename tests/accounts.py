"""Accounts for tests: a directory that runs, and counts what it is asked to work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from argon2.profiles import CHEAPEST
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase, TestCase

from connectd.directory import ARGON2ID, SEALED_SHA256, Database
from connectd.directory.service import DirectoryService
from tests.directory.opened import Place

T = TypeVar("T")

reactor: Any = installed_reactor

ACCOUNTS = {"Ann": "right", "Bob": "also right"}


def change(path: str, operation: Callable[[Database], T]) -> T:
    """Do something with the database as another process does."""
    with Database.open(path, parameters=CHEAPEST, create=False) as database:
        return operation(database)


def add_accounts(place: Place) -> str:
    """Make a database with :data:`ACCOUNTS`; its path."""
    with Database.open(place.path(), keys=place.key_file(), parameters=CHEAPEST) as database:
        for name, password in ACCOUNTS.items():
            database.accounts.add(name, password, schemes=[ARGON2ID, SEALED_SHA256], by="test")
    return place.path()


class DirectoryCase(TestCase):
    """With a directory of two accounts, Ann and Bob, that runs in the real reactor."""

    timeout = 60

    def setUp(self) -> Any:
        self.place = Place(self)
        self.path = add_accounts(self.place)
        self.directory = self.make_directory()
        self.directory.startService()
        self.addCleanup(self.directory.stopService)
        return self.directory.ready()

    def make_directory(self, **options: Any) -> DirectoryService:
        """A directory that is not started."""
        options = {"keys": self.place.key_file(), "reactor": reactor, "parameters": CHEAPEST, **options}
        return DirectoryService(self.path, **options)

    async def change(self, operation: Callable[[Database], T]) -> T:
        """Change something in the directory itself: it is in memory at once."""
        return await self.directory.run(operation)


def distrust(test: SynchronousTestCase, directory: DirectoryService) -> None:
    """Let a directory be one that cannot be read."""
    test.patch(directory, "_memory", None)


def counting_passwords(test: SynchronousTestCase, directory: DirectoryService) -> list[bool]:
    """What each argon2id verification of a running directory came to, as it happens: False for a decoy as well."""
    done: list[bool] = []
    passwords: Any = directory._passwords
    assert passwords is not None
    matches = passwords._matches

    class Counting:
        """Stands in for the verifier, whose class has no room for another method."""

        def __getattr__(self, name: str) -> Any:
            return getattr(passwords, name)

        def check(self, verifier: str | None, password: bytes | str) -> Deferred[bool]:
            octets = password if isinstance(password, bytes) else password.encode()
            done.append(matches(verifier, octets))
            return succeed(done[-1])

    test.patch(directory, "_passwords", Counting())
    return done
