"""LEKT as the rest of connectd sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from connectd.interfaces import IListenerService, IProtocol
from connectd.protocols.lekt.settings import LektClientSettings, LektSettings
from connectd.settings import ListenerSettings

if TYPE_CHECKING:
    from connectd.net.listener import Context


@implementer(IProtocol)
class LektPlugin:
    """The wing, with everything heavy imported when it is used."""

    name = "lekt"
    title = "LEKT: clients find each other (discovery and presence)"
    port = 7890
    settings: type[ListenerSettings] = LektSettings
    client_settings: type[Any] = LektClientSettings
    account_schemes: tuple[str, ...] = ()
    takes_password = False

    def makeService(self, settings: ListenerSettings, context: Context) -> IListenerService:
        from connectd.protocols.lekt.server import LektListener

        assert isinstance(settings, LektSettings)
        return LektListener(settings, context)

    def connect(self, url: str, reactor: Any) -> Deferred[Any]:
        """Join; fires with a running :class:`connectd.protocols.lekt.client.LektClient`."""
        from connectd.protocols.lekt.client import LektClient

        client = LektClient.from_url(reactor, url)
        client.startService()

        def failed(failure: Any) -> Any:
            return client.stopService().addCallback(lambda result: failure)

        return client.when_joined().addCallbacks(lambda result: client, failed)

    def probe(self, url: str, report: Callable[[str, str], None], reactor: Any) -> Deferred[None]:
        from connectd.protocols.lekt.probe import probe

        return Deferred.fromCoroutine(probe(url, report, reactor))

    def commands(self) -> Any:
        from connectd.protocols.lekt.commands import lekt

        return lekt

    def demonstration(self) -> list[Mapping[str, Any]]:
        return [{"listen": "tcp:7890:interface=127.0.0.1"}]


plugin = LektPlugin()
