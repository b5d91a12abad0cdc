"""The listener: who is let in, and what it says about them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from connectd.interfaces import IListenerService
from connectd.protocols.lekt.client import LektClient
from connectd.protocols.lekt.server import LektListener
from connectd.protocols.lekt.settings import LektClientSettings, LektSettings
from connectd.sansio import Outcome
from connectd.testing import Network


class ServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.listener = self.network.listener(LektListener, LektSettings(listen=""))
        self.addCleanup(self.network.advance, 1)
        self.addCleanup(self.listener.stopService)

    def client(self, host: str, port: int = 0) -> LektClient:
        client = LektClient(
            self.network.clock, self.network.endpoint(self.listener, host), LektClientSettings(port=port)
        )
        client.startService()
        self.addCleanup(self.network.settle)
        self.addCleanup(client.stopService)
        self.network.settle()
        return client

    def test_interface(self) -> None:
        """It is what the daemon expects of every listener."""
        verifyObject(IListenerService, self.listener)

    def test_ipv4_only(self) -> None:
        """LEKT-13: an IPv6 peer is told so; an IPv4-mapped address counts as IPv4."""
        client = self.client("2001:db8::1")
        assert client.last_end is not None
        self.assertEqual(client.last_end.reason, "rejected: LEKT lists IPv4 addresses only")
        self.assertEqual(self.network.recorder.outcomes, ["refused"])
        client.stopService()
        self.client("192.0.2.1")
        self.assertEqual(len(self.listener.presence), 1)

    def test_full(self) -> None:
        """COM-4: with max_sessions reached the next one is told, and has a place once somebody leaves."""
        self.assertTrue(self.listener.reconfigure(LektSettings(listen="", max_sessions=1)))
        first = self.client("192.0.2.1")
        second = self.client("192.0.2.2")
        assert second.last_end is not None
        self.assertEqual(second.last_end.reason, "rejected: The server is full")
        first.stopService()
        self.network.advance(70)
        self.assertEqual(self.network.recorder.outcomes[:2], ["limited", "left"])
        self.assertEqual([session.peer.host for session in self.network.context.sessions], ["192.0.2.2"])

    def test_identity(self) -> None:
        """COM-7: the accepted event says how the client is listed."""
        self.client("192.0.2.1", 9001)
        self.client("192.0.2.2")
        told = [event.get("direct_tcp_port") for event in self.network.recorder.named("accepted")]
        self.assertEqual(told, [9001, None])

    def test_kick(self) -> None:
        """COM-7: a kicked client is told why, in LEKT's words, and is off the list."""
        client = self.client("192.0.2.1")
        (session,) = self.network.context.sessions
        session.kick("be gone")
        self.network.settle()
        assert client.last_end is not None
        self.assertEqual(client.last_end.reason, "rejected: be gone")
        self.assertEqual(self.network.recorder.outcomes, [Outcome.KICKED.value])
        self.assertEqual(len(self.listener.presence), 0)

    def test_a_slower_pace_after_reload(self) -> None:
        """LEKT-12: with a longer period set, clients that keep to it are not dropped for what is forgotten."""
        self.assertTrue(self.listener.reconfigure(LektSettings(listen="", heartbeat_period=100.0)))
        slow = LektClient(
            self.network.clock,
            self.network.endpoint(self.listener, "192.0.2.9"),
            LektClientSettings(heartbeat_period=290.0),
        )
        slow.startService()
        self.addCleanup(self.network.settle)
        self.addCleanup(slow.stopService)
        for number in range(12):
            client = self.client(f"192.0.2.{number + 10}")
            self.network.advance(49)
            client.stopService()
        self.assertIsNone(slow.last_end)

    def test_other_sockets_need_another_listener(self) -> None:
        """What cannot change while it runs is said to be so."""
        self.assertFalse(self.listener.reconfigure(LektSettings(listen="tcp:1")))
