"""Chatr as the rest of connectd sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from connectd.interfaces import IListenerService, IProtocol
from connectd.protocols.chatr.settings import ChatrClientSettings, ChatrSettings
from connectd.settings import ListenerSettings

if TYPE_CHECKING:
    from connectd.net.listener import Context


@implementer(IProtocol)
class ChatrPlugin:
    """The wing, with everything heavy imported when it is used."""

    name = "chatr"
    title = "Chatr Connect: clients with registered keys meet over UDP (rendezvous)"
    port = 1230
    settings: type[ListenerSettings] = ChatrSettings
    client_settings: type[Any] = ChatrClientSettings
    account_schemes: tuple[str, ...] = ()
    takes_password = False

    def makeService(self, settings: ListenerSettings, context: Context) -> IListenerService:
        from connectd.protocols.chatr.server import ChatrListener

        assert isinstance(settings, ChatrSettings)
        return ChatrListener(settings, context)

    def connect(self, url: str, reactor: Any) -> Deferred[Any]:
        """Connect; fires with a running :class:`connectd.protocols.chatr.client.ChatrClient`."""
        from connectd.protocols.chatr.client import ChatrClient

        client = ChatrClient.from_url(reactor, url)
        client.startService()

        def failed(failure: Any) -> Any:
            return client.stopService().addCallback(lambda result: failure)

        return client.when_connected().addCallbacks(lambda result: client, failed)

    def probe(self, url: str, report: Callable[[str, str], None], reactor: Any) -> Deferred[None]:
        from connectd.protocols.chatr.probe import probe

        return Deferred.fromCoroutine(probe(url, report, reactor))

    def commands(self) -> Any:
        from connectd.protocols.chatr.commands import chatr

        return chatr

    def demonstration(self) -> list[Mapping[str, Any]]:
        loopback = "interface=127.0.0.1"
        return [
            {
                "listen": f"tcp:1230:{loopback}",
                "udp": f"udp:1230:{loopback}",
                "rest": f"tcp:8080:{loopback}",
                "certificate": "state/chatr.pem",
            }
        ]


plugin = ChatrPlugin()
