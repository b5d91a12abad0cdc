"""A Starbound server and its players in memory, with a directory that answers at once."""

from __future__ import annotations

import os
from collections.abc import Collection
from itertools import count
from typing import Any
from uuid import UUID

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from connectd.directory import SEALED_PASSWORD, SEALED_SHA256
from connectd.directory.errors import DirectoryError
from connectd.directory.names import lookup_key
from connectd.directory.schemes import sealed_secret
from connectd.protocols.starbound.client import StarboundSession, login
from connectd.protocols.starbound.packets import ClientConnect
from connectd.protocols.starbound.server import StarboundListener
from connectd.protocols.starbound.settings import StarboundClientSettings, StarboundSettings
from connectd.sansio import Outcome
from connectd.testing import Network

SERVER_FIRST = ("seed", "angry-koala", "furious-koala", "enraged-koala")
CLIENT_FIRST = ("1.4", "opensb")
ALL = (*SERVER_FIRST, *CLIENT_FIRST)

PASSWORD = b"swordfish"


@attrs.define
class Account:
    """As much of an account as is asked for."""

    name: str
    password: bytes
    disabled: bool = False
    protocols: Collection[str] | None = None
    verifiers: Collection[str] = (SEALED_SHA256, SEALED_PASSWORD)

    def allows(self, protocol: str) -> bool:
        return self.protocols is None or protocol in self.protocols


class FakeDirectory:
    """Accounts and bans, and how often a secret was asked for."""

    def __init__(self) -> None:
        self.accounts = {"ann": Account("Ann", PASSWORD), "bob": Account("Bob", b"other")}
        self.bans: dict[Any, str] = {}
        self.broken = False
        self.secrets = 0

    def _trust(self) -> None:
        if self.broken:
            raise DirectoryError("the database /x cannot be read")

    def find_account(self, name: str | bytes) -> Account | None:
        self._trust()
        return self.accounts.get(lookup_key(name) or "")

    def secret(self, account: Account | None, scheme: str) -> bytes:
        self.secrets += 1
        if account is None or scheme not in account.verifiers:
            return os.urandom(32)
        return sealed_secret(scheme, account.password)

    def match_account(self, name: str | bytes) -> str | None:
        self._trust()
        return self.bans.get(lookup_key(name))

    def match_address(self, host: str) -> str | None:
        self._trust()
        return self.bans.get(host)

    def match_uuid(self, uuid: UUID) -> str | None:
        self._trust()
        return self.bans.get(uuid)


class Scene(SynchronousTestCase):
    """A test with a listener, or several, on one network."""

    def setUp(self) -> None:
        self.hosts = count()
        self.directory = FakeDirectory()
        self.network = Network(directory=self.directory)
        self.addCleanup(self.network.stop)

    def serve(self, generation: str | tuple[str, ...] = "seed", **settings: Any) -> StarboundListener:
        """A listener; few rounds, for they are another test's affair."""
        settings = {"listen": "", "generation": generation, "rounds": 100, **settings}
        listener = self.network.listener(StarboundListener, StarboundSettings(**settings))
        listener.in_thread = maybeDeferred
        return listener

    def dial(
        self,
        listener: StarboundListener,
        generation: str = "seed",
        account: str = "ann",
        password: bytes | None = PASSWORD,
        *,
        host: str = "",
        player: ClientConnect | None = None,
        **settings: Any,
    ) -> Deferred[StarboundSession]:
        """A client that logs in, and how far it has come. Unless told otherwise it has an address of its own."""
        host = host or f"198.18.{next(self.hosts)}.1"
        dialled = Deferred.fromCoroutine(
            login(
                self.network.clock,
                self.network.endpoint(listener, host),
                account=account,
                password=password,
                player=player,
                settings=StarboundClientSettings(generation=generation, **settings),
            )
        )
        self.network.settle()
        return dialled

    def enter(self, listener: StarboundListener, generation: str = "seed", **options: Any) -> StarboundSession:
        """A client that gets in."""
        return self.successResultOf(self.dial(listener, generation, **options))

    def refused(self, kind: type[Exception], listener: StarboundListener, generation: str, **options: Any) -> str:
        """What a client is told that does not get in."""
        failure: Failure = self.failureResultOf(self.dial(listener, generation, **options), kind)
        return str(failure.value)

    @property
    def last_outcome(self) -> str:
        """How the last connection ended that did."""
        outcome = self.network.recorder.outcomes[-1]
        return Outcome(outcome).value
