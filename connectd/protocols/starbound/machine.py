"""Starbound's two sides, and what they say: everything that a driver of theirs needs."""

from connectd.protocols.starbound.client_machine import ClientMachine
from connectd.protocols.starbound.events import (
    ChallengeReceived,
    ConnectRequested,
    PacketReceived,
    PacketSent,
    ResponseReceived,
    ShipworldReceived,
)
from connectd.protocols.starbound.frames import Frame
from connectd.protocols.starbound.packets import ClientConnect
from connectd.protocols.starbound.server_machine import ServerMachine

__all__ = [
    "ChallengeReceived",
    "ClientConnect",
    "ClientMachine",
    "ConnectRequested",
    "Frame",
    "PacketReceived",
    "PacketSent",
    "ResponseReceived",
    "ServerMachine",
    "ShipworldReceived",
]
