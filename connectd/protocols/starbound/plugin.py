"""Starbound as the rest of connectd sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from connectd.directory.schemes import SEALED_PASSWORD, SEALED_SHA256
from connectd.interfaces import IListenerService, IProtocol
from connectd.protocols.starbound.generations import GENERATIONS
from connectd.protocols.starbound.settings import StarboundClientSettings, StarboundSettings
from connectd.settings import ListenerSettings

if TYPE_CHECKING:
    from connectd.net.listener import Context


@implementer(IProtocol)
class StarboundPlugin:
    """The wing, with everything heavy imported when it is used."""

    name = "starbound"
    title = "Starbound: players join a server, in every generation of the game"
    port = 21025
    settings: type[ListenerSettings] = StarboundSettings
    client_settings: type[Any] = StarboundClientSettings
    account_schemes: tuple[str, ...] = (SEALED_SHA256, SEALED_PASSWORD)
    takes_password = True

    @property
    def credential_interfaces(self) -> tuple[Any, ...]:
        """What the listener makes of what players send, for ``--help-auth``."""
        from connectd.protocols.starbound.server import StarboundListener

        return StarboundListener.credential_interfaces

    def makeService(self, settings: ListenerSettings, context: Context) -> IListenerService:
        from connectd.protocols.starbound.server import StarboundListener

        assert isinstance(settings, StarboundSettings)
        return StarboundListener(settings, context)

    def connect(self, url: str, reactor: Any, password: bytes | None = None) -> Deferred[Any]:
        """Log in; fires with a :class:`connectd.protocols.starbound.client.StarboundSession`."""
        from connectd.protocols.starbound.client import login

        return Deferred.fromCoroutine(login(reactor, url, password=password))

    def probe(
        self, url: str, report: Callable[[str, str], None], reactor: Any, password: bytes | None = None
    ) -> Deferred[None]:
        from connectd.protocols.starbound.probe import probe

        return Deferred.fromCoroutine(probe(url, report, reactor, password))

    def commands(self) -> Any:
        from connectd.protocols.starbound.commands import starbound

        return starbound

    def demonstration(self) -> list[Mapping[str, Any]]:
        return [
            {"listen": f"tcp:{port}:interface=127.0.0.1", "generation": name}
            for port, name in enumerate(GENERATIONS, self.port)
        ]


plugin = StarboundPlugin()
