"""The baseline of all TCP benchmarks: the least that a Twisted server can do."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol

from benchmarks.harness.control import Commands
from connectd.net.endpoint import parse_endpoint
from connectd.net.sockets import bind

REQUEST = b"LEKTH\0\0\0\0\0\0\1\0\0\0\1"
REPLY = b"LEKTA\0\0\0"


class Bare(Protocol):
    """Answers the first message; the client closes."""

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(REPLY)


def serve(reactor: Any) -> Commands:
    """Listen on a socket that is bound and adopted as connectd's are."""
    factory = Factory.forProtocol(Bare)
    factory.noisy = False
    face = bind(parse_endpoint("tcp:0:interface=127.0.0.1"))
    face.adopt_stream(reactor, factory)
    return {"port": lambda: face.port}
