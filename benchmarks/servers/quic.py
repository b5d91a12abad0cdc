"""The smallest protocol over QUIC: a request, a reply that accepts the session, and as many bytes as are asked for."""

from __future__ import annotations

from typing import Any

from aioquic.quic.connection import QuicConnection

from benchmarks.harness.control import Commands
from benchmarks.servers.alloy import METHODS, Inside
from benchmarks.servers.listener import serve_listener
from connectd.net.certificates import make_certificate
from connectd.net.connection import Connection
from connectd.net.listener import Context, Listener
from connectd.net.quic import Handshake, Identity, QuicListener, ServerParameters
from connectd.quic_settings import QuicListenerSettings
from connectd.sansio import Established, Event, Machine, Received

ALPN = "greeting"
REQUEST, REPLY = b"hello\n", b"welcome\n"
PART = 256 * 1024


class GreetingMachine(Machine):
    """The server's side: ``hello`` is answered and accepted; a number after it asks for so many bytes."""

    def _step(self, now: float) -> list[Event] | None:
        end = self._input.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._input[: end + 1])
        self._consume(end + 1)
        if self.established:
            return [Received(int(line))]
        self.established = True
        self._deadline = None
        self._output.append(REPLY)
        return [Established()]


class GreetingListener(QuicListener):
    """Greets everybody, and sends what is asked for."""

    protocol = "greeting"

    def __init__(self, settings: QuicListenerSettings, context: Context) -> None:
        self._identity = Identity.from_pem(make_certificate(["localhost"]))
        super().__init__(settings, context)

    def quic_parameters(self) -> ServerParameters:
        return ServerParameters(alpn=(ALPN,), identity=lambda: self._identity)

    def make_stream_machine(self, handshake: Handshake, now: float) -> Machine:
        return GreetingMachine(now=now, handshake_timeout=self.settings.handshake_timeout)

    def on_Received(self, connection: Connection, event: Received) -> None:
        from twisted.internet.defer import Deferred

        connection.serve(Deferred.fromCoroutine(self._send(connection, event.message)))

    async def _send(self, connection: Connection, size: int) -> None:
        while size > 0:
            connection.write(bytes(min(size, PART)))
            size -= PART
            await connection.drained()


def serve(reactor: Any, watched: bool = False) -> Commands:
    """Listen.

    :param watched: add up what aioquic's connections do.
    """
    inside = Inside(QuicConnection, *METHODS, "__init__", "get_timer")
    if watched:
        inside.watch()
    settings = QuicListenerSettings(listen="udp:0:interface=127.0.0.1")

    def make(context: Context) -> Listener:
        return GreetingListener(settings, context)

    _, commands = serve_listener(reactor, make)
    return {**commands, "inside": lambda: inside.seconds}
