"""The lines that connectd adds to ``twistd --help`` and ``twist``, and the protocols it brings."""

from twisted.application.service import ServiceMaker

from connectd.plugins import HandlerLine, ListenerCommand, ProtocolLine

connectd = ServiceMaker(
    "connectd",
    "connectd.tap",
    "The front door: every listener of a configuration file, one policy, one status page.",
    "connectd",
)

lekt = ProtocolLine("lekt", "connectd.protocols.lekt.plugin")
lekt_command = ListenerCommand("lekt", "LEKT: clients find each other (discovery and presence).")

starbound = ProtocolLine("starbound", "connectd.protocols.starbound.plugin")
starbound_command = ListenerCommand("starbound", "Starbound: players join a server, in every generation of the game.")
fmltp = ProtocolLine("fmltp", "connectd.protocols.fmltp.plugin")
fmltp_command = ListenerCommand("fmltp", "FmLTP: the FlexMusic handshake and its secured channel (commands).")
jukebox = HandlerLine("jukebox", "connectd.protocols.fmltp.jukebox", "application")
chatr = ProtocolLine("chatr", "connectd.protocols.chatr.plugin")
chatr_command = ListenerCommand("chatr", "Chatr Connect: clients with registered keys meet over UDP (rendezvous).")
alloy = ProtocolLine("alloy", "connectd.protocols.alloy.plugin")
alloy_command = ListenerCommand("alloy", "Alloy: players enter a world over QUIC (Hytale).")
