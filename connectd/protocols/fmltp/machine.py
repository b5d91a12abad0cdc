"""FmLTP's two sides: who may say what, and when."""

from __future__ import annotations

from connectd.protocols.fmltp.client_machine import (
    ClientMachine,
    Greeted,
    KeyPairRequested,
    NoticeReceived,
    ReplyReceived,
    SecretRequested,
)
from connectd.protocols.fmltp.server_machine import (
    AuthenticationRequested,
    CommandReceived,
    KeyExchangeRequested,
    ServerMachine,
)
from connectd.protocols.fmltp.side import State, VersionReceived

__all__ = [
    "AuthenticationRequested",
    "ClientMachine",
    "CommandReceived",
    "Greeted",
    "KeyExchangeRequested",
    "KeyPairRequested",
    "NoticeReceived",
    "ReplyReceived",
    "SecretRequested",
    "ServerMachine",
    "State",
    "VersionReceived",
]
