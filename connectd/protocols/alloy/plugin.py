"""Alloy as the rest of connectd sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from connectd.interfaces import IListenerService, IProtocol
from connectd.protocols.alloy.settings import AlloyClientSettings, AlloySettings
from connectd.settings import ListenerSettings

if TYPE_CHECKING:
    from connectd.net.listener import Context


@implementer(IProtocol)
class AlloyPlugin:
    """The wing, with everything heavy imported when it is used."""

    name = "alloy"
    title = "Alloy: players enter a world over QUIC (Hytale)"
    port = 5520
    settings: type[ListenerSettings] = AlloySettings
    client_settings: type[Any] = AlloyClientSettings
    account_schemes: tuple[str, ...] = ()
    takes_password = True

    def makeService(self, settings: ListenerSettings, context: Context) -> IListenerService:
        from connectd.protocols.alloy.server import AlloyListener

        assert isinstance(settings, AlloySettings)
        return AlloyListener(settings, context)

    def connect(self, url: str, reactor: Any, password: bytes | None = None) -> Deferred[Any]:
        """Log in; fires at PLAY with a :class:`connectd.protocols.alloy.client.AlloyClient`."""
        from connectd.protocols.alloy.client import make_client, make_endpoint, parse_alloy_url

        server = parse_alloy_url(url)
        client = make_client(reactor, server, password=password)
        return client.connect(make_endpoint(reactor, server)).addCallback(lambda result: client)

    def probe(
        self, url: str, report: Callable[[str, str], None], reactor: Any, password: bytes | None = None
    ) -> Deferred[None]:
        from connectd.protocols.alloy.probe import probe

        return Deferred.fromCoroutine(probe(url, report, reactor, password))

    def needs_password(self, url: str) -> bool:
        """Whether a client logs in with the server's password: one that has session services does not."""
        from connectd.net.url import URLError
        from connectd.protocols.alloy.client import parse_alloy_url

        try:
            return not parse_alloy_url(url).settings.services_url
        except URLError:
            return False  # whoever connects says what is wrong with it

    def commands(self) -> Any:
        from connectd.protocols.alloy.commands import alloy

        return alloy

    def demonstration(self) -> list[Mapping[str, Any]]:
        return [
            {
                "listen": "udp:5520:interface=127.0.0.1",
                "certificate": "state/alloy.pem",
                "password": "demonstration",
            }
        ]


plugin = AlloyPlugin()
