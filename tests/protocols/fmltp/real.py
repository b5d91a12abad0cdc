"""A listener on a real socket, and clients of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from connectd.admission import Admission, AdmissionLimits
from connectd.events import Events
from connectd.net.listener import Context
from connectd.protocols.fmltp.client import Credentials, FmltpClient, parse_fmltp_url
from connectd.protocols.fmltp.server import FmltpListener
from connectd.protocols.fmltp.settings import FmltpSettings
from connectd.registry import find_handler
from connectd.testing import Recorder
from tests.processes import LIMIT
from tests.toy import ToyChecker

reactor: Any = the_reactor

ANN = Credentials("ann", "right horse battery")


class RealCase(TestCase):
    """Sockets, child processes and time are real; accounts cost nothing."""

    timeout = 180

    def setUp(self) -> None:
        self.recorder = Recorder()
        self.handlers: dict[str, Any] = {}
        self.listeners: list[FmltpListener] = []
        self.checker = ToyChecker({"ann": ANN.password.encode()})

    def listener(self, **settings: Any) -> FmltpListener:
        """A running listener; stopped with the test."""
        context = Context(
            reactor=reactor,
            admission=Admission(AdmissionLimits(connection_rate=0, connections_per_source=0), clock=reactor),
            events=Events(reactor.seconds, [self.recorder]),
            find_handler=lambda name: self.handlers.get(name) or find_handler(name, reactor),
            checkers=[self.checker],
            drain_timeout=2.0,
        )
        listener = FmltpListener(FmltpSettings(**{"listen": "tcp:0:interface=127.0.0.1", **settings}), context)
        listener.startService()
        self.listeners.append(listener)
        self.addCleanup(listener.stopService)
        return listener

    def port(self, listener: FmltpListener) -> int:
        port = listener.faces[0].port
        assert port is not None
        return port

    def client(self, port: int, query: str = "", credentials: Credentials | None = ANN) -> FmltpClient:
        """A running client; stopped with the test."""
        server = parse_fmltp_url(f"fmltp://127.0.0.1:{port}{query}")
        client = FmltpClient(reactor, server.endpoint(reactor), server.settings, credentials=credentials)
        client.startService()
        self.addCleanup(client.stopService)
        return client

    async def fails(self, work: Any, *errors: type[Exception]) -> Any:
        """What a Deferred fails with, which has to be one of these."""
        return await self.assertFailure(work, *errors)

    async def until(self, what: str, look: Callable[[], object]) -> None:
        """Let the reactor go on until something is so."""
        end = time.monotonic() + LIMIT
        while not look():
            if time.monotonic() > end:
                self.fail(f"{what}: not within {LIMIT:g} s")
            await deferLater(reactor, 0.01)
