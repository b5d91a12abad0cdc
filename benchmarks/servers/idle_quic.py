"""The baseline for QUIC sessions that wait: aioquic's connections, a dictionary and a timer each, and nothing else."""

from __future__ import annotations

from typing import Any

from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionIdIssued, ConnectionTerminated, StreamDataReceived
from aioquic.quic.packet import pull_quic_header
from twisted.internet.protocol import DatagramProtocol

from benchmarks.harness.control import Commands
from connectd.net.certificates import make_certificate
from connectd.net.quic import Identity

REPLY = b"welcome"


class Bare(DatagramProtocol):
    """Answers the first bytes of each connection."""

    def __init__(self, reactor: Any) -> None:
        identity = Identity.from_pem(make_certificate(["localhost"]))
        self._reactor = reactor
        self._configuration = QuicConfiguration(
            is_client=False,
            alpn_protocols=["hytale/1"],
            certificate=identity.leaf,
            certificate_chain=[],
            private_key=identity.key,
        )
        self._connections: dict[bytes, QuicConnection] = {}
        self._timers: dict[QuicConnection, Any] = {}

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        header = pull_quic_header(Buffer(data=datagram), host_cid_length=8)
        quic = self._connections.get(header.destination_cid)
        if quic is None:
            quic = QuicConnection(
                configuration=self._configuration, original_destination_connection_id=header.destination_cid
            )
            self._connections[header.destination_cid] = self._connections[quic.host_cid] = quic
        quic.receive_datagram(datagram, addr, self._reactor.seconds())
        self._turn(quic)

    def _turn(self, quic: QuicConnection) -> None:
        while (event := quic.next_event()) is not None:
            if isinstance(event, ConnectionIdIssued):
                self._connections[event.connection_id] = quic
            elif isinstance(event, StreamDataReceived) and event.data:
                quic.send_stream_data(event.stream_id, REPLY)
            elif isinstance(event, ConnectionTerminated):
                for identifier in [key for key, one in self._connections.items() if one is quic]:
                    del self._connections[identifier]
        for data, address in quic.datagrams_to_send(self._reactor.seconds()):
            assert self.transport is not None
            self.transport.write(data, address)
        timer, when = self._timers.pop(quic, None), quic.get_timer()
        if timer is not None and timer.active():
            timer.cancel()
        if when is not None:
            self._timers[quic] = self._reactor.callLater(max(0, when - self._reactor.seconds()), self._expired, quic)

    def _expired(self, quic: QuicConnection) -> None:
        quic.handle_timer(self._reactor.seconds())
        self._turn(quic)


def serve(reactor: Any) -> Commands:
    """Listen."""
    protocol = Bare(reactor)
    port = reactor.listenUDP(0, protocol, interface="127.0.0.1")
    return {"port": lambda: port.getHost().port}
