"""FmLTP as the rest of connectd sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from connectd.interfaces import IListenerService, IProtocol
from connectd.protocols.fmltp.settings import FmltpClientSettings, FmltpSettings
from connectd.settings import ListenerSettings

if TYPE_CHECKING:
    from connectd.net.listener import Context


@implementer(IProtocol)
class FmltpPlugin:
    """The wing, with everything heavy imported when it is used."""

    name = "fmltp"
    title = "FmLTP: the FlexMusic handshake and its secured channel (commands)"
    port = 8900
    settings: type[ListenerSettings] = FmltpSettings
    client_settings: type[Any] = FmltpClientSettings
    takes_password = True
    credential_interfaces: tuple[type[Interface], ...] = (IUsernamePassword,)

    @property
    def account_schemes(self) -> tuple[str, ...]:
        from connectd.directory.schemes import ARGON2ID

        return (ARGON2ID,)

    def makeService(self, settings: ListenerSettings, context: Context) -> IListenerService:
        from connectd.protocols.fmltp.server import FmltpListener

        assert isinstance(settings, FmltpSettings)
        return FmltpListener(settings, context)

    def connect(self, url: str, reactor: Any, password: bytes | None = None) -> Deferred[Any]:
        """Log in; fires with a running :class:`connectd.protocols.fmltp.client.FmltpClient`."""
        from connectd.protocols.fmltp.client import FmltpClient

        client = FmltpClient.from_url(reactor, url, password=None if password is None else password.decode())
        client.startService()

        def failed(failure: Any) -> Any:
            return client.stopService().addCallback(lambda result: failure)

        return client.when_ready().addCallbacks(lambda result: client, failed)

    def probe(
        self, url: str, report: Callable[[str, str], None], reactor: Any, password: bytes | None = None
    ) -> Deferred[None]:
        from connectd.protocols.fmltp.probe import probe

        return Deferred.fromCoroutine(probe(url, report, reactor, password))

    def commands(self) -> Any:
        from connectd.protocols.fmltp.commands import fmltp

        return fmltp

    def demonstration(self) -> list[Mapping[str, Any]]:
        return [{"listen": "tcp:8900:interface=127.0.0.1", "handler": "jukebox"}]


plugin = FmltpPlugin()
