"""Who may say what when: the two sides of a connection."""

from connectd.protocols.alloy.client_machine import ClientMachine
from connectd.protocols.alloy.server_machine import ServerMachine
from connectd.protocols.alloy.states import ConnectionState, Stage, StateChanged

__all__ = ["ClientMachine", "ConnectionState", "ServerMachine", "Stage", "StateChanged"]
