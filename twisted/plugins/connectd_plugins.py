"""The lines that connectd adds to ``twistd --help`` and ``twist``, and the protocols it brings."""

from twisted.application.service import ServiceMaker

from connectd.plugins import ListenerCommand, ProtocolLine

connectd = ServiceMaker(
    "connectd",
    "connectd.tap",
    "The front door: every listener of a configuration file, one policy, one status page.",
    "connectd",
)

lekt = ProtocolLine("lekt", "connectd.protocols.lekt.plugin")
lekt_command = ListenerCommand("lekt", "LEKT: clients find each other (discovery and presence).")

alloy = ProtocolLine("alloy", "connectd.protocols.alloy.plugin")
alloy_command = ListenerCommand("alloy", "Alloy: players enter a world over QUIC (Hytale).")
