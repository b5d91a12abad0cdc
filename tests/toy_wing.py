"""The toy protocol of :mod:`tests.toy` as a plugin, so that a whole daemon can run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred, succeed
from zope.interface import Interface, implementer

from connectd.directory import ARGON2ID, SEALED_PASSWORD
from connectd.interfaces import IListenerService, IProtocol
from connectd.settings import ListenerSettings
from tests.toy import ToyListener, ToySettings


@attrs.frozen(kw_only=True)
class ToyClientSettings:
    """Toy clients can be told nothing."""


@implementer(IProtocol)
class ToyPlugin:
    """The wing, seen from outside."""

    name = "toy"
    title = "TOY: names and passwords"
    port = 7000
    settings: type[ListenerSettings] = ToySettings
    client_settings: type[Any] = ToyClientSettings
    # It needs only the first one; real wings also need sealed ones.
    account_schemes: tuple[str, ...] = (ARGON2ID, SEALED_PASSWORD)
    takes_password = False
    credential_interfaces: tuple[type[Interface], ...] = (IUsernamePassword,)

    def makeService(self, settings: ListenerSettings, context: Any) -> IListenerService:
        assert isinstance(settings, ToySettings)
        return ToyListener(settings, context)

    def connect(self, url: str, reactor: Any) -> Deferred[Any]:
        raise NotImplementedError

    def probe(self, url: str, report: Callable[[str, str], None], reactor: Any) -> Deferred[None]:
        return succeed(None)

    def commands(self) -> Any:
        return None

    def demonstration(self) -> list[Mapping[str, Any]]:
        return [{"listen": "tcp:7000:interface=127.0.0.1"}]


plugin = ToyPlugin()
