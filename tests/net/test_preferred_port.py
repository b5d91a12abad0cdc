"""Connecting from a local port that may not be to be had."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from connectd.net.preferred_port import PreferredPort
from connectd.net.url import ServerURL

reactor: Any = installed_reactor


class PreferredPortTests(TestCase):
    def setUp(self) -> None:
        case = self

        class Server(Protocol):
            def connectionMade(self) -> None:
                case.arrived.callback(self)

        self.arrived: Deferred[Server] = Deferred()
        self.port = reactor.listenTCP(0, Factory.forProtocol(Server), interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)

    async def arrived_from(self, local_port: int) -> int:
        """The port that the server sees."""
        url: ServerURL[Any] = ServerURL("chatr", "", "127.0.0.1", self.port.getHost().port, None)
        client: Any = await url.endpoint(reactor, local_port=local_port).connect(Factory.forProtocol(Protocol))
        server: Any = await self.arrived
        client.transport.abortConnection()
        server.transport.abortConnection()
        port: int = server.transport.getPeer().port
        return port

    async def test_free(self) -> None:
        """CH-11: the wanted port, where it is to be had."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        self.assertEqual(await self.arrived_from(port), port)

    async def test_taken(self) -> None:
        """Another one, where it is not."""
        with socket.socket() as taken:
            taken.bind(("", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.assertNotEqual(await self.arrived_from(port), port)

    async def test_nobody_there(self) -> None:
        """What else goes wrong is told as it is."""

        class Endpoint:
            def connect(self, factory: Any) -> Deferred[Any]:
                failed: Deferred[Any] = Deferred()
                failed.errback(Refused())
                return failed

        endpoint = PreferredPort(Endpoint(), Endpoint())  # type: ignore[arg-type]  # no more is asked of one
        await self.assertFailure(endpoint.connect(Factory()), Refused)

    def test_cancelled(self) -> None:
        waiting: Deferred[Any] = Deferred()

        class Endpoint:
            def connect(self, factory: Any) -> Deferred[Any]:
                return waiting

        connecting = PreferredPort(Endpoint(), Endpoint()).connect(Factory())  # type: ignore[arg-type]  # as above
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
