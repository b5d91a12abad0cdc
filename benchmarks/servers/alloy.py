"""An Alloy listener, and how much of its work is aioquic's."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

from aioquic.quic.connection import QuicConnection

from benchmarks.harness.control import Commands
from benchmarks.servers.listener import serve_listener
from connectd.net.certificates import write_certificate
from connectd.net.datagram_port import DatagramPort
from connectd.protocols.alloy.server import AlloyListener
from connectd.protocols.alloy.settings import AlloySettings

PASSWORD = "benchmark"
METHODS = ("receive_datagram", "datagrams_to_send", "handle_timer", "send_stream_data", "next_event", "close")
"""Where the work of aioquic's connection begins."""


class Inside:
    """Adds up the CPU time that is spent inside of some methods.

    :param owner: the class that has them: aioquic's connection, unless given.
    :param names: theirs: where the work of aioquic's connection begins, unless given.
    """

    def __init__(self, owner: type[Any] = QuicConnection, *names: str) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._owner = owner
        self._names = names or METHODS

    def watch(self) -> None:
        """From now on. The class itself is changed: a measurement of its own, in a process of its own."""
        for name in self._names:
            setattr(self._owner, name, self._timed(getattr(self._owner, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        clock = time.thread_time

        def timed(*arguments: Any, **named: Any) -> Any:
            if self._depth:
                return method(*arguments, **named)
            self._depth += 1
            began = clock()
            try:
                return method(*arguments, **named)
            finally:
                self.seconds += clock() - began
                self._depth -= 1

        return timed


def serve(reactor: Any, watched: bool = False) -> Commands:
    """Listen.

    :param watched: add up what aioquic does, and what sending does, nearly all of it in the kernel.
    """
    directory = tempfile.TemporaryDirectory(prefix="connectd-benchmark-")
    reactor.addSystemEventTrigger("after", "shutdown", directory.cleanup)
    certificate = os.path.join(directory.name, "alloy.pem")
    write_certificate(certificate)
    inside, sockets = Inside(), Inside(DatagramPort, "send")
    if watched:
        inside.watch()
        sockets.watch()
    settings = AlloySettings(listen="udp:0:interface=127.0.0.1", certificate=certificate, password=PASSWORD)
    _, commands = serve_listener(reactor, lambda context: AlloyListener(settings, context))
    return {
        **commands,
        "inside": lambda: inside.seconds,
        "sockets": lambda: sockets.seconds,
    }
