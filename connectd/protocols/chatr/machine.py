"""Chatr's two sides, and what they say: everything that a driver of theirs needs."""

from connectd.protocols.chatr.client_machine import (
    ClientMachine,
    PeerLocated,
    RequestAccepted,
    RequestReceived,
    Secured,
)
from connectd.protocols.chatr.server_machine import (
    ALREADY_CONNECTED,
    FAILED_TO_VERIFY,
    Accepted,
    ConnectReceived,
    Requested,
    ServerMachine,
    ShowedLife,
)
from connectd.protocols.chatr.side import Denied

__all__ = [
    "ALREADY_CONNECTED",
    "FAILED_TO_VERIFY",
    "Accepted",
    "ClientMachine",
    "ConnectReceived",
    "Denied",
    "PeerLocated",
    "RequestAccepted",
    "RequestReceived",
    "Requested",
    "Secured",
    "ServerMachine",
    "ShowedLife",
]
