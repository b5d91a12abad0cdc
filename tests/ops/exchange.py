"""HTTP exchanges with a site in memory."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.address import UNIXAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from connectd.net.web import Channel, Routes, Site


@attrs.frozen
class Response:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


class Exchange:
    """One connection to a site."""

    def __init__(self, routes: Routes) -> None:
        self.clock = Clock()
        self.site = Site(routes, self.clock)
        self.open()

    def open(self) -> None:
        """Connect (again)."""
        self.transport = StringTransport()
        self.channel: Channel = self.site.buildProtocol(UNIXAddress(None))
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> Response:
        """Send bytes and take the one answer that is there."""
        self.channel.dataReceived(data)
        return self.take()

    def take(self) -> Response:
        """The one answer that came."""
        head, separator, body = self.transport.value().partition(b"\r\n\r\n")
        if not separator:
            raise AssertionError(f"no answer but {head!r}")
        self.transport.clear()
        status, *lines = head.decode("ascii").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return Response(int(status.split()[1]), headers, body)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: Any) -> Response:
        """One request, over a connection of its own, and its answer."""
        if self.transport.disconnecting:
            self.open()
        lines = [f"{method} {path} HTTP/1.1", "Host: connectd", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
