"""Many QUIC clients at once: a handshake, a request, its reply, and away."""

from __future__ import annotations

import selectors
import socket
import ssl
import time

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived

from benchmarks.harness.control import Commands
from benchmarks.harness.sources import source
from benchmarks.servers.quic import ALPN, REPLY, REQUEST
from connectd.net.quic.parameters import VERSIONS

AT_ONCE = 24
LIMIT = 60.0


class Client:
    """One connection.

    :param index: gives it an address of its own.
    :param port: the server's.
    """

    def __init__(self, index: int, port: int, configuration: QuicConfiguration) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((source(index), 0))
        self.server = ("127.0.0.1", port)
        self.socket.connect(self.server)
        self.socket.setblocking(False)
        self.quic = QuicConnection(configuration=configuration)
        self.quic.connect(self.server, time.monotonic())
        self.quic.send_stream_data(0, REQUEST)
        self.heard = b""
        self.send()

    def send(self) -> None:
        """What there is."""
        for datagram, _ in self.quic.datagrams_to_send(time.monotonic()):
            self.socket.send(datagram)

    def read(self) -> bool:
        """Take what came; whether that was all, and the client has left."""
        while True:
            try:
                datagram = self.socket.recv(65_536)
            except BlockingIOError:
                break
            self.quic.receive_datagram(datagram, self.server, time.monotonic())
        return self._turn()

    def tick(self) -> bool:
        """Mind the timer."""
        when = self.quic.get_timer()
        if when is not None and when <= time.monotonic():
            self.quic.handle_timer(time.monotonic())
            return self._turn()
        return False

    def _turn(self) -> bool:
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                self.heard += event.data
            elif isinstance(event, ConnectionTerminated):
                raise AssertionError(f"the server closed: {event}")
        done = self.heard == REPLY
        if done:
            self.quic.close()
        self.send()
        return done


def load(port: int) -> Commands:
    """Give the commands."""
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE, supported_versions=list(VERSIONS)
    )
    begun = 0

    def exchange(count: int) -> None:
        """So many come and go, many at once."""
        nonlocal begun
        selector = selectors.DefaultSelector()
        end = time.monotonic() + LIMIT
        last, left = begun + count, count
        while left:
            while begun < last and len(selector.get_map()) < AT_ONCE:
                client = Client(begun, port, configuration)
                selector.register(client.socket, selectors.EVENT_READ, client)
                begun += 1
            ready = [key.data for key, _ in selector.select(0.005)]
            finished = [client for client in ready if client.read()]
            finished += [key.data for key in list(selector.get_map().values()) if key.data.tick()]
            for client in dict.fromkeys(finished):
                selector.unregister(client.socket)
                client.socket.close()
                left -= 1
            if time.monotonic() > end:
                raise AssertionError(f"{left} handshakes are not done")
        selector.close()

    return {"exchange": exchange}
