"""What tests of QUIC in memory share: a listener and clients on a fake clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from connectd.admission import AdmissionLimits
from connectd.sansio import Outcome
from connectd.testing import MemoryPort, Network
from tests.net.quic.toy import QuicToyListener, QuicToySettings, Talker, client_parameters, talker_factory
from tests.toy import ToyChecker

PLACE = "udp:5520:interface=198.51.100.1"
SERVER = ("198.51.100.1", 5520)


class QuicCase(SynchronousTestCase):
    """A network of datagrams; whoever is still connected at the end is cut off."""

    def network(self, limits: AdmissionLimits | None = None, **context: Any) -> Network:
        """A network whose accounts are ann and bob; checked at the end of the test."""
        accounts = ToyChecker({"ann": b"right", "bob": b"also right"})
        network = Network(limits, checkers=[accounts], **context)
        self.addCleanup(network.stop)
        return network

    def listener(self, network: Network, **settings: Any) -> QuicToyListener:
        """A running toy listener."""
        return network.listener(QuicToyListener, QuicToySettings(**{"listen": PLACE, **settings}))

    def dial(
        self,
        network: Network,
        listener: QuicToyListener,
        *,
        host: str = "192.0.2.1",
        timeout: float = 15.0,
        **changes: Any,
    ) -> Deferred[Talker]:
        """Begin to connect."""
        endpoint = network.quic_endpoint(listener, client_parameters(**changes), host, timeout=timeout)
        connecting: Deferred[Talker] = endpoint.connect(talker_factory())
        talkers: list[Talker] = []

        def connected(talker: Talker) -> Talker:
            talkers.append(talker)
            return talker

        connecting.addCallback(connected)
        self.addCleanup(self._hang_up, network, connecting, talkers)
        return connecting

    def connect(self, network: Network, listener: QuicToyListener, **changes: Any) -> Talker:
        """A client whose handshake is done."""
        connecting = self.dial(network, listener, **changes)
        network.advance(1)
        return self.successResultOf(connecting)

    def login(self, network: Network, listener: QuicToyListener, **changes: Any) -> Talker:
        """A client that is in."""
        talker = self.connect(network, listener, **changes)
        talker.transport.write(b"LOGIN ann right\n")
        network.advance(1)
        self.assertEqual(bytes(talker.heard), b"WELCOME ann\n")
        return talker

    def outcomes(self, network: Network) -> list[Outcome]:
        """How connections ended so far."""
        return [Outcome(event["outcome"]) for event in network.recorder.events if event["event"] == "ended"]

    def last(self, network: Network) -> dict[str, Any]:
        """The latest event."""
        return dict(network.recorder.events[-1])

    def port_of(self, network: Network, talker: Talker) -> MemoryPort:
        """The socket of a client."""
        transport: Any = talker.transport
        port = transport.session.endpoint.transport
        assert isinstance(port, MemoryPort)
        return port

    def _hang_up(self, network: Network, connecting: Deferred[Talker], talkers: list[Talker]) -> None:
        network.datagrams.watch = None
        connecting.addErrback(lambda failure: None)
        connecting.cancel()
        for talker in talkers:
            if talker.lost is None and talker.transport is not None:
                talker.transport.abortConnection()
        network.advance(2)
