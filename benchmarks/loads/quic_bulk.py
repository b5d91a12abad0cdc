"""A download over QUIC, by connectd's own client in a process of its own; and the baseline, which needs no server."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import StreamDataReceived

from benchmarks.harness.control import Commands
from benchmarks.servers.quic import ALPN, REQUEST
from connectd.net.certificates import make_certificate
from connectd.net.quic import Identity
from connectd.net.quic.parameters import VERSIONS

WINDOW = 1024 * 1024


def load(port: int) -> Commands:
    """The commands: a download in a fresh process each time, for there it has a reactor."""

    def download(size: int) -> float:
        command = [sys.executable, "-m", "benchmarks.loads.quic_bulk", str(port), str(size)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)

    return {"exchange": lambda count: None, "download": download}


def bare(size: int) -> float:
    """Bytes a second between two of aioquic's connections in this process, with nothing between them."""
    identity = Identity.from_pem(make_certificate(["localhost"]))
    common: dict[str, Any] = {"alpn_protocols": [ALPN], "supported_versions": list(VERSIONS)}
    client = QuicConnection(configuration=QuicConfiguration(is_client=True, verify_mode=ssl.CERT_NONE, **common))
    client.connect(("server", 1), time.monotonic())
    server = QuicConnection(
        configuration=QuicConfiguration(is_client=False, certificate=identity.leaf, private_key=identity.key, **common),
        original_destination_connection_id=client.original_destination_connection_id,
    )
    received = 0

    def turn() -> None:
        nonlocal received
        for sender, receiver, address in ((client, server, ("client", 1)), (server, client, ("server", 1))):
            now = time.monotonic()
            when = sender.get_timer()
            if when is not None and when <= now:
                sender.handle_timer(now)
            if sender.get_peer_address() is not None:
                for datagram, _ in sender.datagrams_to_send(now):
                    receiver.receive_datagram(datagram, address, time.monotonic())
            while (event := receiver.next_event()) is not None:
                if isinstance(event, StreamDataReceived):
                    received += len(event.data)

    client.send_stream_data(0, REQUEST)
    while received < len(REQUEST):
        turn()
    received, began, written = 0, time.monotonic(), 0
    while received < size:
        if written < size and written - received < WINDOW:
            server.send_stream_data(0, bytes(65_536))
            written += 65_536
        turn()
    return size / (time.monotonic() - began)


def main(port: int, size: int) -> None:
    """Download once, and print the bytes a second."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred
    from twisted.internet.protocol import Factory, Protocol

    from benchmarks.servers.quic import REPLY
    from connectd.net.quic import ClientParameters, QuicClientEndpoint, Trust

    reactor: Any = installed

    class Download(Protocol):
        received = 0
        began = 0.0

        def connectionMade(self) -> None:
            self.transport.write(REQUEST)  # type: ignore[union-attr]

        def dataReceived(self, data: bytes) -> None:
            if not self.began:
                self.began = time.monotonic()
                self.transport.write(b"%d\n" % size)  # type: ignore[union-attr]
            self.received += len(data)
            if self.received >= size + len(REPLY):
                print(size / (time.monotonic() - self.began))
                reactor.stop()

    parameters = ClientParameters(alpn=(ALPN,), trust=Trust.insecure())
    endpoint = QuicClientEndpoint(reactor, "127.0.0.1", port, parameters)
    connecting: Deferred[Any] = endpoint.connect(Factory.forProtocol(Download))
    connecting.addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
