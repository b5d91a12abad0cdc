"""The UDP face of the Connect server (CH-32)."""

from __future__ import annotations

from typing import Any

from connectd.net.bound import BoundSocket
from connectd.net.datagrams import DatagramConnection
from connectd.protocols.chatr.binding import BindingMachine


class BindingFace(DatagramConnection):
    """Answers STUN Binding requests on a socket.

    :param reactor: the reactor.
    :param socket: bound for datagrams; :meth:`stop` closes it.
    :param limits: those of :class:`~connectd.protocols.chatr.binding.BindingMachine`.
    """

    machine: BindingMachine

    def __init__(self, reactor: Any, socket: BoundSocket, **limits: Any) -> None:
        super().__init__(reactor, socket, BindingMachine(**limits), lambda event: None)

    @property
    def answered(self) -> int:
        """Requests that got an answer."""
        return self.machine.answered

    @property
    def dropped(self) -> int:
        """Datagrams that got none."""
        return self.machine.dropped
