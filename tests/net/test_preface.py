"""Tests of :mod:`connectd.net.preface`: the PROXY header before the protocol (COM-5)."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionAborted, ConnectionDone

from connectd.admission import AdmissionLimits
from connectd.net import listener as listener_module
from connectd.net.connection import Connection, Peer
from connectd.net.proxy import encode_v2, encode_v2_local
from connectd.sansio import Outcome
from tests.toy import Bench, BenchCase, FakeTransport

PROXY = "127.0.0.1"
CLIENT = ("198.51.100.7", 5555)
SERVER = ("203.0.113.1", 7890)
V1 = b"PROXY TCP4 198.51.100.7 203.0.113.1 5555 7890\r\n"
V2 = encode_v2(CLIENT, SERVER, [(0xE0, b"tlv")])


class PrefaceTests(BenchCase):
    def bench(self, **arguments: Any) -> Bench:
        return super().bench(proxy_protocol=True, **arguments)

    def arrive(self, bench: Bench, *pieces: bytes) -> FakeTransport:
        """A connection from the proxy that brings these bytes."""
        transport = bench.open(host=PROXY)
        for piece in pieces:
            transport.peer_sends(piece)
        bench.pump()
        return transport

    def assert_turned_away(self, bench: Bench, transport: FakeTransport, outcome: Outcome, reason: str) -> None:
        """Closed without a byte, with this one outcome."""
        bench.pump()
        self.assertEqual((transport.received, type(transport.gone)), (b"", ConnectionAborted))
        event = bench.checker.last
        self.assertEqual((event["outcome"], event["reason"]), (outcome.value, reason))
        self.assertEqual(event["peer"], f"{PROXY}:4000")
        self.assertEqual(len(bench.listener.arriving), 0)

    def test_header(self) -> None:
        """COM-5: versions 1 and 2; the address they carry is the peer's for every rule, log line and event."""
        for header in (V1, V2):
            bench = self.bench()
            transport = self.arrive(bench, header + b"LOGIN ann right\n")
            self.assertEqual(transport.received, b"WELCOME ann\n")
            self.assertEqual(bench.checker.last["peer"], "198.51.100.7:5555")
            (session,) = bench.context.sessions
            self.assertEqual(session.peer, Peer(*CLIENT))
            self.assertEqual(len(bench.listener.arriving), 0)

    @settings(deadline=None, max_examples=60)
    @given(st.sampled_from([V1, V2, b"PROXY UNKNOWN\r\n", encode_v2_local()]), st.lists(st.integers(0, 80), max_size=6))
    def test_segmentation(self, header: bytes, cuts: list[int]) -> None:
        """COM-5: the header comes in any pieces, and what follows it belongs to the protocol."""
        bench = Bench(proxy_protocol=True)
        stream = header + b"LOGIN ann right\nASK x\n"
        places = sorted(min(cut, len(stream)) for cut in cuts)
        self.arrive(bench, *[stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)])
        self.assertEqual(bench.transports[0].received, b"WELCOME ann\nx\n")
        bench.close()

    def test_byte_by_byte(self) -> None:
        """COM-5: a header that comes one byte at a time."""
        for header in (V1, V2):
            bench = self.bench()
            transport = self.arrive(bench, *[bytes([byte]) for byte in header])
            self.assertIsInstance(transport.protocol, Connection)
            self.assertEqual(bench.connection(transport).peer, Peer(*CLIENT))

    def test_socket_address_stays(self) -> None:
        """COM-5: UNKNOWN and LOCAL keep the socket's address."""
        for header in (b"PROXY UNKNOWN what ever\r\n", b"PROXY UNKNOWN\r\n", encode_v2_local([(4, b"noop")])):
            bench = self.bench()
            transport = self.arrive(bench, header)
            self.assertEqual(bench.connection(transport).peer, Peer(PROXY, 4000))

    def test_untrusted(self) -> None:
        """COM-5: a source outside the trusted networks is closed at once, header or not."""
        bench = self.bench(trusted_networks=(ip_network("10.0.0.0/8"),))
        self.assertIsNone(bench.connect(PROXY))
        self.assertIsNone(bench.connect("2001:db8::1"))
        self.assertIsNotNone(bench.connect("10.1.2.3"))
        self.assertEqual(bench.checker.outcomes(), ["refused", "refused"])
        self.assertIn("trusted_networks", bench.checker.last["reason"])

    def test_header_where_none_is_expected(self) -> None:
        """COM-5: with proxy_protocol off nobody's header is believed."""
        bench = BenchCase.bench(self)
        transport = bench.open(host=PROXY)
        transport.peer_sends(V1)
        self.assertEqual(bench.checker.last["outcome"], "malformed")
        self.assertEqual(bench.checker.last["peer"], f"{PROXY}:4000")

    def test_missing(self) -> None:
        """COM-5: a trusted source without a header is closed without a byte."""
        bench = self.bench()
        transport = self.arrive(bench, b"LOGIN ann right\n")
        self.assert_turned_away(bench, transport, Outcome.MALFORMED, "PROXY header: not a PROXY header")
        self.assertEqual(bench.checker.last["offset"], 0)

    def test_malformed(self) -> None:
        """COM-3, COM-5: a wrong header ends the connection, with the offset of what is wrong."""
        bench = self.bench()
        transport = self.arrive(bench, b"PROXY TCP4 198.51.100.7 203.0.113.1 ", b"x")
        reason = "PROXY header: source port is not a decimal number from 0 to 65535"
        self.assert_turned_away(bench, transport, Outcome.MALFORMED, reason)
        self.assertEqual(bench.checker.last["offset"], 36)

    def test_nothing_after_the_end(self) -> None:
        """What still arrives from a proxy that was turned away is not looked at."""
        bench = self.bench()
        transport = bench.open(host=PROXY)
        transport.peer_sends(b"x")
        transport.protocol.dataReceived(V1)
        self.assert_turned_away(bench, transport, Outcome.MALFORMED, "PROXY header: not a PROXY header")

    def test_deadline(self) -> None:
        """COM-5: the header has 5 s, however it dribbles."""
        bench = self.bench()
        transport = bench.open(host=PROXY)
        for byte in V1[:10]:
            transport.peer_sends(bytes([byte]))
            bench.pass_time(0.45)
        self.assertEqual(bench.checker.outcomes(), [])
        bench.pass_time(1)
        self.assert_turned_away(bench, transport, Outcome.TIMEOUT, "no PROXY header came in time")

    def test_deadline_of_the_handshake(self) -> None:
        """COM-1, COM-5: one deadline covers everything from accept: the header's time is part of it."""
        bench = self.bench(handshake_timeout=6.0)
        transport = bench.open(host=PROXY)
        bench.pass_time(4)
        transport.peer_sends(V1 + b"LOG")
        bench.pass_time(1.75)
        self.assertEqual(bench.checker.outcomes(), [])
        bench.pass_time(0.5)
        self.assertEqual(bench.checker.outcomes(), ["timeout"])
        self.assertEqual(bench.checker.last["duration"], 6.0)

    def test_short_handshake(self) -> None:
        """COM-1: a handshake timeout below the header's own is the one that counts."""
        bench = self.bench(handshake_timeout=2.0)
        transport = bench.open(host=PROXY)
        bench.pass_time(2.25)
        self.assert_turned_away(bench, transport, Outcome.TIMEOUT, "no PROXY header came in time")

    def test_lost(self) -> None:
        """COM-7: a proxy that goes away before its header is whole."""
        bench = self.bench()
        for end in (FakeTransport.peer_finishes, FakeTransport.peer_breaks):
            transport = bench.open(host=PROXY)
            transport.peer_sends(V1[:20])
            end(transport)
            self.assertEqual(bench.checker.last["outcome"], "aborted")
            self.assertEqual(bench.checker.last["reason"], "the proxy closed before its header was whole")

    def test_admission(self) -> None:
        """COM-4, COM-5: admission goes by the address in the header; who is refused gets no byte."""
        bench = self.bench(limits=AdmissionLimits(deny=(ip_network("198.51.100.0/24"),), connection_rate=0))
        transport = self.arrive(bench, V2 + b"LOGIN ann right\n")
        self.assertEqual((transport.received, type(transport.gone)), (b"", ConnectionAborted))
        event = bench.checker.last
        self.assertEqual((event["outcome"], event["peer"]), ("banned", "198.51.100.7:5555"))

    def test_limits_per_source(self) -> None:
        """COM-4, COM-5: limits count the clients, not the proxy."""
        bench = self.bench(limits=AdmissionLimits(connections_per_source=1, connection_rate=0))
        clients = [encode_v2((f"198.51.100.{number}", 1), SERVER) for number in (1, 1, 2)]
        transports = [self.arrive(bench, header) for header in clients]
        self.assertEqual([transport.gone is None for transport in transports], [True, False, True])
        self.assertEqual(bench.checker.outcomes(), ["limited"])
        transports[0].peer_finishes()
        bench.pump()
        self.assertIsNone(self.arrive(bench, clients[0]).gone)

    def test_proof_limits(self) -> None:
        """COM-5, COM-11: failed proofs count for the address in the header."""
        bench = self.bench(limits=AdmissionLimits(failures_per_source=3, connection_rate=0))
        for _ in range(3):
            self.arrive(bench, V1 + b"LOGIN nobody wrong\n")
        self.assertIn(b"NO", self.arrive(bench, V1 + b"LOGIN ann right\n").received)
        other = encode_v2(("192.0.2.77", 1), SERVER)
        self.assertEqual(self.arrive(bench, other + b"LOGIN ann right\n").received, b"WELCOME ann\n")

    def test_too_many(self) -> None:
        """COM-2: connections that wait for their header are limited in number."""
        self.patch(listener_module, "MAX_ARRIVING", 2)
        bench = self.bench()
        first = bench.open(host=PROXY)
        bench.open(host=PROXY)
        self.assertIsNone(bench.connect(PROXY))
        self.assertEqual(bench.checker.outcomes(), ["limited"])
        first.peer_sends(V1)
        self.assertIsNotNone(bench.connect(PROXY))

    def test_unix(self) -> None:
        """COM-5: a proxy on a unix socket is local, and trusted."""
        bench = self.bench()
        transport = bench.open(host="")
        transport.peer_sends(V1)
        self.assertEqual(bench.connection(transport).peer, Peer(*CLIENT))

    def test_drain(self) -> None:
        """COM-8: who is still announcing a client is closed at once; nobody is there to be told anything."""
        bench = self.bench()
        transport = self.arrive(bench, V1[:20])
        drained = bench.listener.drain(10.0)
        self.assert_turned_away(bench, transport, Outcome.SHUTDOWN, "Server is shutting down")
        bench.pump()
        self.successResultOf(drained)

    def test_half_close_after_the_header(self) -> None:
        """The connection that takes over is told of half closes like any other."""
        bench = self.bench()
        transport = self.arrive(bench, V1 + b"\xff\n")
        self.assertEqual(transport.received, b"NO a line that is empty or not ASCII\n")
        self.assertIsNone(transport.gone)
        transport.peer_finishes()
        bench.pump()
        self.assertIsInstance(transport.gone, ConnectionDone)
