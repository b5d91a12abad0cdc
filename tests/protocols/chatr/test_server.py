"""Chatr's listener and its clients, in memory and through TLS."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, fail
from zope.interface.verify import verifyObject

from connectd.interfaces import IListenerService
from connectd.protocols.chatr.checks import Role
from connectd.protocols.chatr.client import NotConnected, Peer, RequestDenied
from connectd.protocols.chatr.settings import ChatrSettings
from connectd.sansio import Outcome
from tests.protocols.chatr.scene import SceneCase, identity


class ComingInTests(SceneCase):
    def test_interface(self) -> None:
        """It is what the daemon expects of every listener."""
        verifyObject(IListenerService, self.listener)

    def test_accepted(self) -> None:
        """CH-1, CH-2, CH-4: a client with a registered key is let in, and its event says who it is."""
        client = self.client(1)
        self.assertTrue(client.connected)
        (event,) = self.network.recorder.named("accepted")
        self.assertEqual(event["uuid"], str(UUID(int=1)))
        self.assertEqual(event["key"], identity(1).fingerprint)
        self.assertEqual(event["peer"].partition(":")[0], "192.0.2.1")

    def test_unknown_and_wrong(self) -> None:
        """CH-2, COM-10: an unknown UUID and a wrong signature are told the same."""
        unknown = self.client(1, register=False)
        self.checker.register(identity(2, key=1))
        wrong = self.client(2, register=False)
        self.assertEqual(self.last_end(unknown), "refused: Failed to verify!")
        self.assertEqual(self.last_end(wrong), "refused: Failed to verify!")
        self.assertEqual(self.network.recorder.outcomes, ["refused", "refused"])

    def test_failures_count(self) -> None:
        """COM-11: from the fifth failure of a source and UUID on, answers are delayed."""
        for attempt in range(4):
            client = self.client(1, register=False, retry_policy=lambda attempts: 1000.0)
            self.assertIsNotNone(client.last_end, attempt)
            client.stopService()
        delayed = self.client(1, register=False, retry_policy=lambda attempts: 1000.0)
        self.assertIsNone(delayed.last_end)
        self.network.advance(1)
        self.assertEqual(self.last_end(delayed), "refused: Failed to verify!")

    def test_full(self) -> None:
        """COM-4: with max_sessions reached the next one is told."""
        settings = ChatrSettings(listen="", udp="", rest="", certificate=self.certificate, max_sessions=1)
        self.assertTrue(self.listener.reconfigure(settings))
        self.client(1)
        second = self.client(2)
        self.assertEqual(self.last_end(second), "refused: The server is full")
        self.assertEqual(self.network.recorder.outcomes, ["limited"])

    def test_a_half_open_handshake(self) -> None:
        """COM-1: a TLS handshake that does not go on ends at the deadline, without a byte, with one outcome."""
        peer = self.network.raw(self.listener)
        peer.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        self.network.advance(29)
        self.assertIsNone(peer.lost)
        self.network.advance(2)
        self.assertIsNotNone(peer.lost)
        self.assertEqual(peer.received, b"")
        (ended,) = self.network.recorder.named("ended")
        self.assertEqual((ended["outcome"], ended["reason"]), ("timeout", "the TLS handshake took too long"))

    def test_no_byte_at_all(self) -> None:
        """COM-1: so does one that never begins."""
        peer = self.network.raw(self.listener)
        self.network.advance(31)
        self.assertEqual((peer.received, self.network.recorder.outcomes), (b"", ["timeout"]))

    def test_garbage(self) -> None:
        """COM-3: what is no TLS ends that connection, with one event that says so."""
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x05\x00" * 50, b"\x16\x03\x01\x00\x05hello"):
            peer = self.network.raw(self.listener)
            peer.send(garbage)
            self.network.advance(1)
            self.assertTrue(peer.finished, garbage)
        ended = self.network.recorder.named("ended")
        self.assertEqual([event["outcome"] for event in ended], ["malformed"] * 3)
        for event in ended:
            self.assertTrue(event["reason"].startswith("TLS: "), event)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_invalid_packet(self) -> None:
        """CH-1: through TLS, too, with the offset in the event."""
        client = self.client(1)
        dialogue: Any = client._dialogue
        dialogue.connection.write(b"\x01\x02")
        self.network.settle()
        self.assertEqual(self.last_end(client), "disconnected: Invalid Packet")
        (ended,) = self.network.recorder.named("ended")
        self.assertEqual(ended["outcome"], "malformed")
        self.assertIn("offset", ended)

    def test_behind_a_proxy(self) -> None:
        """COM-5, CH-7: the PROXY header comes before TLS, and its address is the public one."""
        from ipaddress import ip_network

        settings = ChatrSettings(
            listen="",
            udp="",
            rest="",
            certificate=self.certificate,
            proxy_protocol=True,
            trusted_networks=(ip_network("10.0.0.0/8"),),
        )
        self.assertTrue(self.listener.reconfigure(settings))
        peer = self.network.raw(self.listener, "203.0.113.7", proxy="10.0.0.1")
        (connection,) = self.listener.connections
        self.assertEqual(connection.peer.host, "203.0.113.7")
        peer.close()

    def test_drain(self) -> None:
        """COM-8: at a drain clients are told in Chatr's words."""
        client = self.client(1, retry_policy=lambda attempts: 1000.0)
        self.listener.stopService()
        self.network.advance(1)
        self.assertEqual(self.last_end(client), "disconnected: Server is shutting down")

    def test_kick(self) -> None:
        """COM-7: a kicked client is told why."""
        client = self.client(1)
        (session,) = self.network.context.sessions
        session.kick("be gone")
        self.network.settle()
        self.assertEqual(self.last_end(client), "disconnected: be gone")
        self.assertEqual(self.network.recorder.outcomes, [Outcome.KICKED.value])

    def test_other_files_need_another_listener(self) -> None:
        """What cannot change while it runs is said to be so."""
        for name, value in (("certificate", "other.pem"), ("rest", "tcp:1"), ("udp", "udp:1"), ("listen", "tcp:1")):
            keys: dict[str, Any] = {"listen": "", "udp": "", "rest": "", "certificate": self.certificate, name: value}
            self.assertFalse(self.listener.reconfigure(ChatrSettings(**keys)), name)


class PlaceTests(SceneCase):
    """CH-3: one session for each UUID."""

    def silent(self, number: int = 1) -> Any:
        """A client that is connected and then reads and says nothing."""
        client = self.client(number, retry_policy=lambda attempts: 1000.0)
        dialogue: Any = client._dialogue
        dialogue.connection.pause()
        self.network.settle()
        return client

    def test_alive(self) -> None:
        """CH-3: a session that answers stays, and the newcomer is refused."""
        first = self.client(1)
        second = self.client(1, "198.51.100.9")
        self.assertEqual(self.last_end(second), "refused: Already connected!")
        self.assertTrue(first.connected)

    def test_dead(self) -> None:
        """CH-3: one that shows no life for 3 s gets "Time out", and the newcomer its place."""
        self.silent()
        self.network.advance(6)
        second = self.client(1, "198.51.100.9")
        self.assertFalse(second.connected)
        self.network.advance(2.5)
        self.assertFalse(second.connected)
        self.network.advance(1)
        self.assertTrue(second.connected)
        (ended,) = self.network.recorder.named("ended")
        self.assertEqual((ended["outcome"], ended["reason"]), ("timeout", "silent while another connection waits"))
        self.assertEqual(len(self.network.context.sessions), 1)

    def test_one_probe_in_15_seconds(self) -> None:
        """CH-3: within 15 s of a probe newcomers are refused at once; after that, it is probed again."""
        first = self.client(1)
        never: dict[str, Any] = {"retry_policy": lambda attempts: 1000.0}
        self.assertEqual(self.last_end(self.client(1, "198.51.100.9", **never)), "refused: Already connected!")
        dialogue: Any = first._dialogue
        dialogue.connection.pause()
        self.network.advance(6)
        refused = self.client(1, "198.51.100.10", **never)
        self.assertEqual(self.last_end(refused), "refused: Already connected!")
        self.network.advance(9)
        third = self.client(1, "198.51.100.11", **never)
        self.assertIsNone(third.last_end)
        self.network.advance(4)
        self.assertTrue(third.connected)

    def test_two_newcomers(self) -> None:
        """CH-3: while one waits for the probe, another is refused."""
        self.silent()
        self.network.advance(6)
        second = self.client(1, "198.51.100.9")
        third = self.client(1, "198.51.100.10", retry_policy=lambda attempts: 1000.0)
        self.assertEqual(self.last_end(third), "refused: Already connected!")
        self.network.advance(4)
        self.assertTrue(second.connected)

    def test_newcomer_gives_up(self) -> None:
        """CH-3: a newcomer that goes away during the probe leaves nothing behind."""
        self.silent()
        self.network.advance(6)
        second = self.client(1, "198.51.100.9")
        second.stopService()
        self.network.advance(5)
        self.assertEqual(sorted(self.network.recorder.outcomes), ["aborted", "timeout"])
        self.assertEqual(self.listener.places, {})

    def test_no_presence_oracle(self) -> None:
        """CH-3: who cannot sign is told the same whether the UUID is connected or not."""
        self.client(1)
        stranger = self.client(1, "198.51.100.9", register=False, key=1)
        self.assertEqual(self.last_end(stranger), "refused: Failed to verify!")

    def test_place_is_free_again(self) -> None:
        """A client that left can come back."""
        first = self.client(1)
        first.stopService()
        self.network.advance(1)
        self.assertTrue(self.client(1).connected)


class MeetingTests(SceneCase):
    def setUp(self) -> None:
        super().setUp()
        self.met: list[Peer] = []
        self.alice = self.client(1)
        self.bob = self.client(2)
        self.bob.on_peer = self.met.append

    def test_accepted(self) -> None:
        """CH-6, CH-7: both learn where the other is, as the server sees it."""
        self.bob.on_request = lambda uuid: uuid == UUID(int=1)
        peer = self.ask(self.alice, 2)
        self.assertEqual((peer.uuid, peer.public, peer.role), (UUID(int=2), ip_address("192.0.2.2"), Role.REQUESTER))
        (other,) = self.met
        self.assertEqual((other.uuid, other.public, other.role), (UUID(int=1), ip_address("192.0.2.1"), Role.ACCEPTER))
        self.assertEqual(peer.private, ip_address("192.0.2.2"))

    def ask(self, client: Any, number: int) -> Peer:
        asking = client.request(UUID(int=number))
        self.network.settle()
        return self.successResultOf(asking)  # type: ignore[no-any-return]

    def test_denied(self) -> None:
        """CH-6: no, not there, unknown and oneself are the same to the requester."""
        for number in (2, 3, 99, 1):
            asking = self.alice.request(UUID(int=number))
            self.network.settle()
            self.failureResultOf(asking, RequestDenied)
        self.assertEqual(self.met, [])

    def test_nobody_decides(self) -> None:
        """CH-7: an answer that takes longer than 30 s comes too late."""
        self.bob.on_request = lambda uuid: Deferred()
        asking = self.alice.request(UUID(int=2))
        self.network.advance(29)
        self.assertNoResult(asking)
        self.network.advance(2)
        self.failureResultOf(asking, RequestDenied)

    def test_late_decision(self) -> None:
        """CH-5: while an application decides, its client answers Pings."""
        deciding: Deferred[bool] = Deferred()
        self.bob.on_request = lambda uuid: deciding
        asking = self.alice.request(UUID(int=2))
        self.network.advance(25)
        deciding.callback(True)
        self.network.settle()
        self.assertEqual(self.successResultOf(asking).uuid, UUID(int=2))

    def test_decision_fails(self) -> None:
        """A decision that fails denies."""
        self.bob.on_request = lambda uuid: fail(ValueError("no idea"))
        asking = self.alice.request(UUID(int=2))
        self.network.settle()
        self.failureResultOf(asking, RequestDenied)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_asked_twice(self) -> None:
        """CH-7: who asks twice gets the one answer twice."""
        self.bob.on_request = lambda uuid: self.network.later(5, True)
        first, second = self.alice.request(UUID(int=2)), self.alice.request(UUID(int=2))
        second.cancel()
        third = self.alice.request(UUID(int=2))
        self.network.advance(6)
        self.failureResultOf(second)
        self.assertEqual(self.successResultOf(first), self.successResultOf(third))
        self.assertEqual(len(self.met), 1)

    def test_target_leaves(self) -> None:
        """CH-7: a target that leaves is a denial."""
        self.bob.on_request = lambda uuid: Deferred()
        asking = self.alice.request(UUID(int=2))
        self.network.settle()
        self.bob.stopService()
        self.network.advance(1)
        self.failureResultOf(asking, RequestDenied)

    def test_requester_leaves(self) -> None:
        """CH-7: an acceptance for somebody who left reaches nobody."""
        deciding: Deferred[bool] = Deferred()
        self.bob.on_request = lambda uuid: deciding
        asking = self.alice.request(UUID(int=2))
        self.network.settle()
        self.alice.stopService()
        self.network.advance(1)
        self.failureResultOf(asking, NotConnected)
        deciding.callback(True)
        self.network.advance(1)
        self.assertEqual(self.met, [])

    def test_not_connected(self) -> None:
        """Nobody can be asked for without a server."""
        late = self.client(3, start=False)
        self.failureResultOf(late.request(UUID(int=1)), NotConnected)


class StayingTests(SceneCase):
    def test_keepalive(self) -> None:
        """CH-5: a client that answers stays for as long as it likes."""
        client = self.client(1)
        self.network.advance(120, step=1)
        self.assertTrue(client.connected)
        self.assertIsNone(client.last_end)

    def test_reconnects(self) -> None:
        """A client that is cut off comes back by itself, with growing patience."""
        client = self.client(1)
        ends: list[Any] = []
        client.on_end = ends.append
        self.network.wires[-1].cut()
        self.network.settle()
        self.assertFalse(client.connected)
        self.network.advance(5)
        self.assertTrue(client.connected)
        self.assertEqual([end.outcome for end in ends], [Outcome.LOST])

    def test_silent_server(self) -> None:
        """A server from which nothing comes for 30 s is given up."""
        client = self.client(1, retry_policy=lambda attempts: 1000.0)
        (connection,) = self.listener.connections
        connection.machine._deadline = None
        self.network.advance(31, step=1)
        self.assertEqual(self.last_end(client), "the server has gone silent")
