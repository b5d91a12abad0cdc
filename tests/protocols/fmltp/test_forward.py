"""``handler = "forward:…"``: a backend answers the commands, over real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver

from connectd.net.proxy import TLV_CONNECTD_ACCOUNT, TLV_CONNECTD_PROTOCOL
from connectd.protocols.fmltp.packets import MAXIMUM_PLAINTEXT, Reply
from tests.protocols.fmltp.real import RealCase, reactor


class Backend(LineReceiver):
    """Answers lines, in any number of pieces."""

    MAX_LENGTH = 1 << 20
    preface = b""

    def connectionMade(self) -> None:
        self.setRawMode()

    def rawDataReceived(self, data: bytes) -> None:
        self.preface += data
        if len(self.preface) >= 16 and len(self.preface) >= 16 + int.from_bytes(self.preface[14:16], "big"):
            size = 16 + int.from_bytes(self.preface[14:16], "big")
            self.preface, rest = self.preface[:size], self.preface[size:]
            self.factory.began(self)
            self.setLineMode(rest)

    def lineReceived(self, line: bytes) -> None:
        transport: Any = self.transport
        if line == b"LEAVE":
            transport.loseConnection()
        elif line == b"MUCH":
            transport.write(b"200 " + b"x" * (MAXIMUM_PLAINTEXT + 1) + b"\r\n")
        else:
            transport.write(b"200 You said ")
            reactor.callLater(0.05, transport.write, line + b".\r\n")


class BackendFactory(Factory):
    protocol = Backend
    noisy = False

    def __init__(self) -> None:
        self.backends: list[Backend] = []

    def began(self, backend: Backend) -> None:
        self.backends.append(backend)


class ForwardTests(RealCase):
    async def serve(self) -> Any:
        """A client of a listener whose commands go to the backend."""
        self.factory = BackendFactory()
        waiting: Deferred[Any] = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.factory)
        backend = await waiting
        self.addCleanup(backend.stopListening)
        listener = self.listener(handler=f"forward:tcp:127.0.0.1:{backend.getHost().port}")
        client = self.client(self.port(listener))
        await client.when_ready()
        return client

    async def test_commands(self) -> None:
        """Commands come as lines behind a PROXY header, and answers go back in whole lines."""
        client = await self.serve()
        self.assertEqual(await client.command("PLAY So What"), Reply(200, "You said PLAY So What."))
        self.assertEqual(await client.command("STOP"), Reply(200, "You said STOP."))
        self.assertEqual((await client.command("HELP")).text, "Commands: AUTH, HELP, QUIT")
        preface = self.factory.backends[0].preface
        for kind, value in ((TLV_CONNECTD_PROTOCOL, b"fmltp"), (TLV_CONNECTD_ACCOUNT, b"ann")):
            self.assertIn(bytes([kind]) + len(value).to_bytes(2, "big") + value, preface)

    async def test_backend_leaves(self) -> None:
        """COM-12: the client is told, in a 420, which answers what it has asked for."""
        client = await self.serve()
        reply = await client.command("LEAVE")
        self.assertEqual(reply, Reply(420, "The service behind this server closed the connection"))
        await self.until("an outcome", lambda: self.recorder.outcomes)
        self.assertEqual(self.recorder.outcomes, ["kicked"])

    async def test_line_too_long(self) -> None:
        """COM-2: a backend's line that fits into no token ends the session, and nothing else."""
        client = await self.serve()
        self.assertEqual(await client.command("MUCH"), Reply(420, "The service behind this server failed"))
        await self.until("an outcome", lambda: self.recorder.outcomes)
        self.assertEqual(self.recorder.outcomes, ["failed"])
