"""Tests of the client's side of :mod:`connectd.protocols.chatr.machine`."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr.machine import (
    ClientMachine,
    ConnectReceived,
    Denied,
    PeerLocated,
    RequestAccepted,
    RequestReceived,
    Secured,
    ServerMachine,
)
from connectd.protocols.chatr.packets import (
    ClientInfo,
    Connect,
    Connected,
    ConnectionRequest,
    ConnectionRequestAccept,
    ConnectionRequestDenied,
    Disconnect,
    Ping,
    Pong,
)
from connectd.protocols.chatr.settings import ChatrClientSettings, ChatrSettings
from connectd.sansio import Ended, Established, Event, LocalProtocolError, Outcome
from tests.strategies import segmentations

NOW = 1_700_000_000.0
ALICE, BOB = UUID(int=1), UUID(int=2)
PRIVATE, PUBLIC = ip_address("192.168.0.7"), ip_address("203.0.113.9")
INVALID = Disconnect("Invalid Packet").encode()


class ClientCase(SynchronousTestCase):
    def securing(self) -> ClientMachine:
        return ClientMachine(ChatrClientSettings(), ALICE, b"signature", now=NOW)

    def connecting(self) -> ClientMachine:
        machine = self.securing()
        self.assertEqual(machine.transport_ready(NOW), [Secured()])
        return machine

    def connected(self) -> ClientMachine:
        machine = self.connecting()
        machine.data_to_send()
        self.assertEqual(machine.receive_data(Connected().encode(), NOW), [Established()])
        return machine


class ClientTests(ClientCase):
    def test_says_nothing_before_tls(self) -> None:
        """CH-2, CH-10: the signature leaves only once TLS stands, and the server is the right one."""
        machine = self.securing()
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(machine.close(Outcome.ABORTED, "x", NOW), [Ended(Outcome.ABORTED, "x")])
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(machine.transport_ready(NOW), [])
        self.assertEqual(machine.data_to_send(), b"")

    def test_connect(self) -> None:
        """CH-1: Connect comes first, and once."""
        machine = self.connecting()
        self.assertEqual(machine.data_to_send(), Connect(1, ALICE, b"signature").encode())
        self.assertEqual(machine.transport_ready(NOW), [])
        self.assertEqual(machine.data_to_send(), b"")

    def test_refused(self) -> None:
        """CH-2, CH-3: what the server says before Connected is a refusal, after it the end of the session."""
        self.assertEqual(
            self.connecting().receive_data(Disconnect("Failed to\nverify!").encode(), NOW),
            [Ended(Outcome.REFUSED, "refused: Failed to\ufffdverify!")],
        )
        self.assertEqual(
            self.connected().receive_data(Disconnect("Time out").encode(), NOW),
            [Ended(Outcome.KICKED, "disconnected: Time out")],
        )

    def test_pong(self) -> None:
        """CH-5: every Ping is answered with its id, of whatever sign."""
        machine = self.connected()
        self.assertEqual(machine.receive_data(Ping(5).encode() + Ping(-7).encode(), NOW), [])
        self.assertEqual(machine.data_to_send(), Pong(5).encode() + Pong(-7).encode())

    def test_requests(self) -> None:
        """CH-6, CH-7: what a client says about requests."""
        machine = self.connected()
        machine.request(BOB, PRIVATE, NOW)
        machine.accept_request(BOB, PRIVATE, NOW)
        machine.deny_request(BOB, NOW)
        packets: list[Any] = [
            ConnectionRequest(BOB, PRIVATE),
            ConnectionRequestAccept(BOB, PRIVATE),
            ConnectionRequestDenied(BOB),
        ]
        self.assertEqual(machine.data_to_send(), b"".join(packet.encode() for packet in packets))
        for other in (self.securing(), self.connecting()):
            self.assertRaises(LocalProtocolError, other.request, BOB, PRIVATE, NOW)

    def test_told(self) -> None:
        """CH-6, CH-7: what it is told about them."""
        said: list[tuple[Any, Event]] = [
            (ConnectionRequest(BOB, PRIVATE), RequestReceived(BOB, PRIVATE)),
            (ConnectionRequestAccept(BOB, PRIVATE), RequestAccepted(BOB, PRIVATE)),
            (ConnectionRequestDenied(BOB), Denied(BOB)),
            (ClientInfo(BOB, PUBLIC), PeerLocated(BOB, PUBLIC)),
        ]
        data = b"".join(packet.encode() for packet, _ in said)
        self.assertEqual(self.connected().receive_data(data, NOW), [event for _, event in said])

    def test_wrong_packets(self) -> None:
        """CH-1: a server that says what it may not is told, and left."""
        for make, data in (
            (self.connecting, Ping(1).encode()),
            (self.connecting, b"\x81\x40"),
            (self.connected, Connected().encode()),
            (self.connected, Connect(1, BOB, b"").encode()),
            (self.connected, Pong(1).encode()),
            (self.connected, b"\x02\x09\x00"),
            (self.connected, b"\x03\x01\x05a"),
        ):
            machine = make()
            machine.data_to_send()
            *_, ended = machine.receive_data(data, NOW)
            assert isinstance(ended, Ended)
            self.assertEqual((ended.outcome, machine.data_to_send()), (Outcome.MALFORMED, INVALID), data)

    def test_bytes_before_tls(self) -> None:
        (ended,) = self.securing().receive_data(b"x", NOW)
        assert isinstance(ended, Ended)
        self.assertEqual(ended.outcome, Outcome.MALFORMED)

    def test_silence(self) -> None:
        """CH-5: a server from which nothing comes is given up, before Connected and after it."""
        for machine, seconds, reason in (
            (self.connecting(), 30, "the server took too long"),
            (self.connected(), 30, "the server has gone silent"),
        ):
            self.assertEqual(machine.handle_deadline(NOW + seconds - 0.1), [])
            self.assertEqual(machine.handle_deadline(NOW + seconds), [Ended(Outcome.TIMEOUT, reason)])
        machine = self.connected()
        machine.receive_data(Ping(1).encode(), NOW + 20)
        self.assertEqual(machine.deadline(), NOW + 50)

    def test_no_secret_is_shown(self) -> None:
        """COM-9"""
        self.assertNotIn("signature", repr(self.connecting()))


class BothTests(ClientCase):
    @given(st.data())
    def test_each_other(self, data: st.DataObject) -> None:
        """CH-1, CH-4, CH-5: the two sides understand each other in any segmentation."""
        client = self.securing()
        server = ServerMachine(ChatrSettings(), now=NOW)
        server.transport_ready(NOW)
        client.transport_ready(NOW)
        events: list[Event] = []
        for _ in range(4):
            for piece in data.draw(segmentations(client.data_to_send())):
                events += server.receive_data(piece, NOW)
            if server.decision is not None:
                events += server.accept(NOW)
            for piece in data.draw(segmentations(server.data_to_send())):
                events += client.receive_data(piece, NOW)
        self.assertEqual(events, [ConnectReceived(ALICE, b"signature", 1), Established(), Established()])
        self.assertEqual(server.deadline(), NOW + 5)
