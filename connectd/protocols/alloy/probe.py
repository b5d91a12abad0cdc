"""A look at an Alloy server, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from connectd.protocols.alloy.client import make_client, make_endpoint, parse_alloy_url
from connectd.protocols.alloy.fields import Asset
from connectd.protocols.alloy.packets import (
    AssetInitialize,
    ClientReferral,
    ConnectAccept,
    JoinWorld,
    Packet,
    PasswordRejected,
    Ping,
    SetClientId,
    WorldSettings,
)
from connectd.protocols.alloy.states import ConnectionState

SHOWN = 20
"""Assets that are told one by one."""


async def probe(url: str, report: Callable[[str, str], None], reactor: Any, password: bytes | None = None) -> None:
    """Log in, enter the world, leave.

    :param url: ``alloy://USERNAME@HOST[:PORT][?pin=…&profile=…]``.
    :param report: called with (step, detail) at each step: states in capitals, packets by their names.
    :param password: the server's.
    :raises connectd.net.client.ConnectionEnded: where the server ends it.
    """
    server = parse_alloy_url(url)
    endpoint = make_endpoint(reactor, server)
    assets = 0
    client = make_client(reactor, server, password=password)

    def changed(state: ConnectionState) -> None:
        if state is ConnectionState.CONNECTING:
            report(state.value, f"{server.host} port {server.port}, offering {server.settings.profile}")
        elif state is ConnectionState.HANDSHAKING:
            report(state.value, f"the QUIC handshake is done; Connect as {client.username}, {client.uuid}")
        else:
            report(state.value, _STATES[state])

    def heard(packet: Packet) -> None:
        nonlocal assets
        if isinstance(packet, AssetInitialize):
            assets += 1
            if assets > SHOWN:
                return
        detail = _DETAILS.get(type(packet))
        report(type(packet).__name__, "" if detail is None else detail(packet))

    def arrived(asset: Asset, size: int) -> None:
        if assets <= SHOWN:
            report("asset", f"{asset.name}: {size} bytes, and they are what their hash says")

    client.on_state, client.on_packet, client.on_asset = changed, heard, arrived
    await client.connect(endpoint)
    if client.connection is not None and (transport := client.connection.transport) is not None:
        report("certificate", _certificate(transport.handshake.peer_certificate))
    await client.when_entered()
    if assets > SHOWN:
        report("asset", f"and {assets - SHOWN} more")
    report("world", f"entered as client {client.client_id}")
    await client.hang_up()


def _certificate(certificate: bytes | None) -> str:
    from hashlib import sha256

    return "none was shown" if certificate is None else f"SHA-256 {sha256(certificate).hexdigest()}"


_STATES = {
    ConnectionState.AUTHENTICATING: "the server asks who is there",
    ConnectionState.PLAY: "accepted",
    ConnectionState.DISCONNECTING: "the last words are said",
    ConnectionState.DISCONNECTED: "the connection is gone",
}

_DETAILS: dict[type[Packet], Callable[[Any], str]] = {
    ConnectAccept: lambda packet: f"a challenge of {len(packet.password_challenge or b'')} bytes",
    PasswordRejected: lambda packet: f"{packet.attempts_remaining} attempts remain",
    WorldSettings: lambda packet: f"height {packet.world_height}, {len(packet.required_assets or ())} assets",
    AssetInitialize: lambda packet: f"{packet.asset.name}, {packet.size} bytes",
    SetClientId: lambda packet: str(packet.client_id),
    JoinWorld: lambda packet: str(packet.uuid),
    ClientReferral: lambda packet: (
        f"to {packet.host_to.host}:{packet.host_to.port}" if packet.host_to else "to nowhere"
    ),
    Ping: lambda packet: f"number {packet.id}",
}
