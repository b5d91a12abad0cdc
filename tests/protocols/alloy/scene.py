"""A listener with a world and players that enter it, in memory and on a clock of their own."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from connectd.net.certificates import make_certificate
from connectd.net.quic import ClientParameters, Identity, Trust
from connectd.protocols.alloy.client import AlloyClient
from connectd.protocols.alloy.packets import Packet
from connectd.protocols.alloy.server import AlloyListener
from connectd.protocols.alloy.settings import AlloyClientSettings, AlloySettings
from connectd.protocols.alloy.states import ConnectionState
from connectd.testing import Network

NAMES = ("localhost", "127.0.0.1", "::1", "198.51.100.1")


@functools.cache
def certificate(number: int = 0) -> bytes:
    """A certificate and its key (PEM): for each number another one, made once."""
    return make_certificate(NAMES)


@functools.cache
def certificate_file() -> str:
    """The path of the server's. It stays as long as this process."""
    folder = tempfile.mkdtemp(prefix="alloy-")
    path = os.path.join(folder, "alloy.pem")
    with open(path, "wb") as file:
        file.write(certificate())
    os.chmod(path, 0o600)
    _folders.append(folder)
    return path


_folders: list[str] = []


def listener_settings(**changes: Any) -> AlloySettings:
    """Those of a listener with a password."""
    given: dict[str, Any] = {
        "listen": "udp:5520:interface=198.51.100.1",
        "certificate": certificate_file(),
        "password": "swordfish",
        **changes,
    }
    return AlloySettings(**given)


def write_assets(contents: Mapping[str, bytes]) -> str:
    """A directory of assets."""
    folder = tempfile.mkdtemp(prefix="alloy-assets-")
    for name, content in contents.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    return folder


class Player:
    """A client, and what came of it."""

    def __init__(
        self,
        reactor: Any,
        name: str = "ann",
        password: bytes | Callable[[int | None], Deferred[bytes]] | None = b"swordfish",
        **settings: Any,
    ) -> None:
        self.states: list[str] = []
        self.packets: list[str] = []
        self.messages: list[Any] = []
        self.assets: dict[str, int] = {}
        self.result: Any = None
        """What connecting came to: True, or why it failed."""
        self.client = AlloyClient(
            reactor,
            name,
            AlloyClientSettings(**settings),
            password=password,
            on_state=lambda state: self.states.append(state.value),
            on_packet=self._packet,
            on_message=self.messages.append,
            on_asset=lambda asset, size: self.assets.update({asset.name: size}),
        )

    def _packet(self, packet: Packet) -> None:
        self.packets.append(type(packet).__name__)

    def connect(self, endpoint: Any) -> Deferred[Any]:
        """Dial; fires with this once something came of it."""

        def came(result: Any) -> Player:
            self.result = True if result is None else result.value
            return self

        return self.client.connect(endpoint).addBoth(came)

    @property
    def reason(self) -> str:
        """Why it is over, in the server's words."""
        return "" if self.client.ended is None else self.client.ended.reason

    @property
    def playing(self) -> bool:
        return self.client.state is ConnectionState.PLAY


class Scene:
    """A network with one listener.

    :param settings: the listener's.
    :param rooms: for :class:`connectd.testing.Network`.
    """

    def __init__(self, rooms: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self.network = Network(**(rooms or {}))
        self.listener = self.network.listener(AlloyListener, listener_settings(**settings))

    def parameters(self, **changes: Any) -> ClientParameters:
        given: dict[str, Any] = {
            "alpn": ("hytale/1",),
            "trust": Trust.pinned(Identity.from_pem(certificate()).sha256),
            **changes,
        }
        return ClientParameters(**given)

    def join(
        self,
        name: str = "ann",
        password: bytes | Callable[[int | None], Deferred[bytes]] | None = b"swordfish",
        *,
        host: str = "192.0.2.1",
        quic: Mapping[str, Any] | None = None,
        seconds: float = 0.2,
        **settings: Any,
    ) -> Player:
        """A player that connects, and a moment for it."""
        player = Player(self.network.clock, name, password, **settings)
        parameters = self.parameters(alpn=(player.client.settings.profile,), **(quic or {}))
        player.connect(self.network.quic_endpoint(self.listener, parameters, host))
        self.network.advance(seconds)
        return player

    @property
    def outcomes(self) -> list[str]:
        return self.network.recorder.outcomes

    def stop(self, *players: Player) -> None:
        """Everybody leaves; nothing is left."""
        for player in players:
            player.client.hang_up()
        self.network.advance(3)
        self.network.stop()
