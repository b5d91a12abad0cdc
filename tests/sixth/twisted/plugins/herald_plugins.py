"""What HERALD brings. This runs on every call of twistd by anybody: it imports nothing else."""

from connectd.plugins import EventSinkLine, HandlerLine, ListenerCommand, ProtocolLine

herald = ProtocolLine("herald", "connectd_herald.plugin")
herald_command = ListenerCommand("herald", "HERALD: cry something to everybody who is there.")
crier = HandlerLine("crier", "connectd_herald.square", "crier")
doorbell = EventSinkLine("doorbell", "connectd_herald.square", "doorbell")
