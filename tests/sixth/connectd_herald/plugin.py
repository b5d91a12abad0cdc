"""HERALD as connectd sees it, with everything heavy imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from connectd.interfaces import IListenerService, IProtocol
from connectd.settings import ListenerSettings
from connectd_herald.settings import HeraldClientSettings, HeraldSettings


@implementer(IProtocol)
class HeraldPlugin:
    name = "herald"
    title = "HERALD: cry something to everybody who is there"
    port = 7999
    settings: type[ListenerSettings] = HeraldSettings
    client_settings: type[Any] = HeraldClientSettings
    account_schemes = ()
    takes_password = False

    def makeService(self, settings: ListenerSettings, context: Any) -> IListenerService:
        from connectd_herald.server import HeraldListener

        return HeraldListener(settings, context)

    def connect(self, url: str, reactor: Any) -> Deferred[Any]:
        from connectd_herald.client import visit

        return Deferred.fromCoroutine(visit(reactor, url))

    def probe(self, url: str, report: Callable[[str, str], None], reactor: Any) -> Deferred[None]:
        from connectd_herald.client import visit

        visiting = Deferred.fromCoroutine(visit(reactor, url, report=report))
        return visiting.addCallback(lambda dialogue: dialogue.hang_up())

    def commands(self) -> Any:
        from connectd_herald.client import herald

        return herald

    def demonstration(self) -> list[Mapping[str, Any]]:
        return [{"listen": "tcp:7999:interface=127.0.0.1", "handler": "crier"}]


plugin = HeraldPlugin()
