"""QUIC on the default reactor: connections as Twisted transports, listeners and client endpoints (docs/quic.md)."""

from connectd.net.quic.client import QuicClientEndpoint, QuicConnectError
from connectd.net.quic.identity import Identity, IdentityError
from connectd.net.quic.listener import QuicListener
from connectd.net.quic.parameters import ClientParameters, Handshake, ServerParameters, Trust

__all__ = [
    "ClientParameters",
    "Handshake",
    "Identity",
    "IdentityError",
    "QuicClientEndpoint",
    "QuicConnectError",
    "QuicListener",
    "ServerParameters",
    "Trust",
]
