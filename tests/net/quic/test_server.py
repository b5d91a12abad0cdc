"""The server's socket: routing, Retry, version negotiation, and what is no QUIC at all (AL-3)."""

from __future__ import annotations

import os
import random
import ssl
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from hypothesis import given
from hypothesis import strategies as st

from connectd.admission import AdmissionLimits
from connectd.net.quic import QuicConnectError
from connectd.net.quic.listener import VALIDATION_TIMEOUT
from connectd.net.quic.server import STRAY_PERIOD
from connectd.sansio import Outcome
from connectd.testing import MemoryPort, Network
from tests.net.quic.case import PLACE, SERVER, QuicCase
from tests.net.quic.toy import ALPN, QuicToyListener, QuicToySettings, server_connection
from tests.toy import ToyChecker


class Ear:
    """A socket of somebody who speaks no protocol, and keeps what comes."""

    def __init__(self, network: Network, address: tuple[str, int]) -> None:
        self.network = network
        self.heard: list[bytes] = []
        self.port = MemoryPort(network.datagrams, address, self)  # type: ignore[arg-type]

    def makeConnection(self, transport: object) -> None: ...

    def doStop(self) -> None: ...

    def batch_begins(self) -> None: ...

    def batch_ends(self) -> None: ...

    def datagramReceived(self, datagram: bytes, address: object) -> None:
        self.heard.append(datagram)

    def says(self, datagram: bytes) -> None:
        """Send a datagram to the server."""
        self.port.send([(datagram, SERVER)])
        self.network.settle()


def first_packet(**changes: Any) -> bytes:
    """A proper first packet of a client."""
    given: dict[str, Any] = {"is_client": True, "alpn_protocols": [ALPN], "verify_mode": ssl.CERT_NONE, **changes}
    client = QuicConnection(configuration=QuicConfiguration(**given))
    client.connect(SERVER, 0.0)
    ((datagram, _),) = client.datagrams_to_send(0.0)
    return bytes(datagram)


class RetryTests(QuicCase):
    """Addresses are validated by Retry from a number of unvalidated connections on (AL-3)."""

    def test_always(self) -> None:
        """With the threshold at 0, everybody comes back with a token, and gets in."""
        network = self.network()
        listener = self.listener(network, retry_threshold=0)
        seen: list[bytes] = []
        network.datagrams.watch = lambda datagram, source, destination: seen.append(datagram)
        self.login(network, listener)
        self.assertEqual((seen[1][0] & 0xF0) >> 4, 0xF, "the server's first packet is a Retry")
        self.assertEqual(listener._endpoints[0].unvalidated, 0)
        connection = server_connection(listener)
        self.assertTrue(connection.transport.session.validated)

    def test_threshold(self) -> None:
        """The default is 256 unvalidated connections; then newcomers get a Retry, and no state."""
        network = self.network()
        listener = self.listener(network)
        endpoint = listener._endpoints[0]
        ear = Ear(network, ("203.0.113.1", 1))
        for _ in range(256):
            ear.says(first_packet())
        self.assertEqual((endpoint.unvalidated, len(listener.arriving)), (256, 256))
        ear.heard.clear()
        ear.says(first_packet())
        self.assertEqual((endpoint.unvalidated, len(listener.arriving)), (256, 256))
        (retry,) = ear.heard
        self.assertEqual((retry[0] & 0xF0) >> 4, 0xF)
        self.login(network, listener)
        network.advance(VALIDATION_TIMEOUT + 1)
        self.assertEqual((endpoint.unvalidated, len(listener.arriving)), (0, 0))

    def test_stolen_token(self) -> None:
        """A token is good for the address that it was sent to, and for nobody else: INVALID_TOKEN."""
        network = self.network()
        listener = self.listener(network, retry_threshold=0)
        client = QuicConnection(
            configuration=QuicConfiguration(is_client=True, alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE)
        )
        client.connect(SERVER, 0.0)
        ((datagram, _),) = client.datagrams_to_send(0.0)
        honest, thief = Ear(network, ("203.0.113.1", 1)), Ear(network, ("203.0.113.2", 1))
        honest.says(datagram)
        client.receive_datagram(honest.heard[0], SERVER, 0.1)
        ((again, _),) = client.datagrams_to_send(0.1)
        thief.says(again)
        (answer,) = thief.heard
        self.assertLess(len(answer), 100)
        client.receive_datagram(answer, SERVER, 0.2)
        client.handle_timer(10.0)
        event = client.next_event()
        self.assertEqual(getattr(event, "error_code", None), 0xB)
        self.assertEqual(len(listener.arriving), 0)

    def test_foreign_token(self) -> None:
        """A token of another program, from another time, counts as none."""
        network = self.network()
        listener = self.listener(network)
        ear = Ear(network, ("203.0.113.1", 1))
        ear.says(first_packet(token=b"from somewhere else"))
        self.assertEqual(len(listener.arriving), 1)


class AmplificationTests(QuicCase):
    """Nobody's address can be used against them."""

    def test_spoofed(self) -> None:
        """10,000 first packets from addresses that are not the sender's get at most 3 times their bytes back, and leave
        nothing behind."""
        network = self.network()
        listener = self.listener(network)
        endpoint = listener._endpoints[0]
        packets = [first_packet() for _ in range(300)]
        sent = 0
        for number in range(10_000):
            # Somebody else's connection id each time, as in a real flood.
            packet = packets[number] if number < len(packets) else packets[-1][:6] + os.urandom(8) + packets[-1][14:]
            sent += len(packet)
            source = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1)
            network.datagrams.carry(packet, source, SERVER)
            network.settle()
            self.assertLessEqual(endpoint.unvalidated, 256)
        server_port = network.datagrams.ports[SERVER]
        network.advance(VALIDATION_TIMEOUT + 5, step=1)
        self.assertLessEqual(server_port.sent_bytes, 3 * sent)
        self.assertEqual((endpoint.unvalidated, endpoint.routes, listener.arriving), (0, {}, set()))
        self.assertEqual(len(endpoint.timers), 0)
        self.assertEqual(network.context.admission.open_connections, 0)
        self.assertEqual(set(self.outcomes(network)), {Outcome.TIMEOUT})

    def test_flood_of_refused(self) -> None:
        """COM-2, COM-7: a flood in the name of somebody who may not come has so many outcomes written and no more;
        who shows that it is its own address has its one outcome, and after a while nobody is asked any more."""
        network = self.network(AdmissionLimits(connection_rate=0.5, connection_burst=1))
        listener = self.listener(network, retry_threshold=8)
        endpoint = listener._endpoints[0]
        ear = Ear(network, ("203.0.113.1", 1))
        for _ in range(100):
            ear.says(first_packet())
        self.assertEqual(self.outcomes(network), [Outcome.LIMITED] * 7)
        self.assertEqual((endpoint.unvalidated, endpoint.strays), (1, 7))
        self.assertEqual([(heard[0] & 0xF0) >> 4 for heard in ear.heard[-92:]], [0xF] * 92, "Retry")
        refused = self.dial(network, listener, host="203.0.113.1")
        network.advance(1, step=0.01)
        self.assertIn("CONNECTION_REFUSED", str(self.failureResultOf(refused, QuicConnectError).value))
        self.assertEqual(self.outcomes(network), [Outcome.LIMITED] * 8)
        network.advance(STRAY_PERIOD + VALIDATION_TIMEOUT)
        self.login(network, listener, host="192.0.2.9")
        self.assertEqual((endpoint.unvalidated, endpoint.strays), (0, 0))

    def test_flood_of_unreadable(self) -> None:
        """COM-2: neither does a flood of first packets that cannot be read go on costing the keys of a handshake."""
        network = self.network()
        listener = self.listener(network, retry_threshold=8)
        ear = Ear(network, ("203.0.113.1", 1))
        packet = bytearray(first_packet())
        packet[100] ^= 1
        for _ in range(20):
            ear.says(bytes(packet[:6]) + os.urandom(8) + bytes(packet[14:]))
        self.assertEqual(listener._endpoints[0].strays, 8)
        self.assertEqual(len(ear.heard), 12)
        self.assertEqual(self.outcomes(network), [])
        self.login(network, listener)

    def test_limit(self) -> None:
        """One who never shows its address gets 3 times what it sent, however often the server repeats itself."""
        network = self.network()
        self.listener(network)
        ear = Ear(network, ("203.0.113.1", 1))
        packet = first_packet()
        ear.says(packet)
        network.advance(9)
        self.assertGreater(len(ear.heard), 0)
        self.assertLessEqual(sum(map(len, ear.heard)), 3 * len(packet))


class VersionTests(QuicCase):
    """Versions of QUIC that are not spoken."""

    def test_negotiation(self) -> None:
        """Who speaks another version is told which there are, in fewer bytes than it sent."""
        network = self.network()
        listener = self.listener(network)
        ear = Ear(network, ("203.0.113.1", 1))
        packet = first_packet()
        ear.says(packet[:1] + b"\x1a\x2a\x3a\x4a" + packet[5:])
        (answer,) = ear.heard
        self.assertEqual(answer[1:5], bytes(4))
        self.assertTrue(answer.endswith(b"\0\0\0\1"))
        self.assertEqual(len(listener.arriving), 0)

    def test_client_without_it(self) -> None:
        """A client that speaks none of them says so."""
        network = self.network()
        listener = self.listener(network)
        connecting = self.dial(network, listener, versions=(0x6B3343CF,))
        network.advance(2)
        problem = self.failureResultOf(connecting, QuicConnectError)
        self.assertIn("protocol version", str(problem.value))

    def test_no_loop(self) -> None:
        """A version negotiation is never answered with another."""
        network = self.network()
        self.listener(network)
        ear = Ear(network, ("203.0.113.1", 1))
        packet = first_packet()
        ear.says(packet[:1] + bytes(4) + packet[5:])
        self.assertEqual(ear.heard, [])


class GarbageTests(QuicCase):
    """What is no QUIC is dropped: no answer, no state, no exception (COM-3)."""

    def assert_nothing(self, network: Network, listener: QuicToyListener) -> None:
        endpoint = listener._endpoints[0]
        self.assertEqual((endpoint.routes, endpoint.unvalidated, listener.arriving), ({}, 0, set()))
        self.assertEqual(network.context.admission.open_connections, 0)
        self.assertEqual(self.outcomes(network), [])

    def test_short(self) -> None:
        """Datagrams that are too short to be anything."""
        network = self.network()
        listener = self.listener(network)
        ear = Ear(network, ("203.0.113.1", 1))
        packet = first_packet()
        for size in (0, 1, 5, 6, 20, 100, 1199):
            ear.says(packet[:size])
        self.assertEqual(ear.heard, [])
        self.assert_nothing(network, listener)

    def test_unreadable(self) -> None:
        """A first packet that does not decrypt begins no connection."""
        network = self.network()
        listener = self.listener(network)
        ear = Ear(network, ("203.0.113.1", 1))
        packet = bytearray(first_packet())
        packet[100] ^= 1
        ear.says(bytes(packet))
        self.assert_nothing(network, listener)

    def test_short_chosen_id(self) -> None:
        """A first packet whose connection id is shorter than 8 bytes is none (RFC 9000, 7.2)."""
        network = self.network()
        listener = self.listener(network)
        ear = Ear(network, ("203.0.113.1", 1))
        packet = first_packet()
        ear.says((packet[:5] + b"\x04" + packet[6:10] + packet[14:]).ljust(1200, b"\0"))
        ear.says(packet[:5] + b"\x15" + packet[6:])
        self.assertEqual(ear.heard, [])
        self.assert_nothing(network, listener)

    def test_mixed_into_a_session(self) -> None:
        """Garbage for the ids of a live session does nothing to it."""
        network = self.network()
        listener = self.listener(network)
        talker = self.login(network, listener)
        ear = Ear(network, ("203.0.113.1", 1))
        chance = random.Random(1)
        for connection_id in list(listener._endpoints[0].routes):
            for first in (0x40, 0x5F, 0x7F, 0xC3, 0xE3, 0xF3):
                body = chance.randbytes(chance.randrange(1300))
                ear.says(bytes([first]) + connection_id + body)
                ear.says(bytes([first]) + b"\0\0\0\1\x08" + connection_id + body)
        talker.transport.write(b"ASK still\n")
        network.advance(1)
        self.assertTrue(talker.heard.endswith(b"still\n"))

    @given(
        st.binary(max_size=1400)
        | st.builds(
            lambda flags, version, tail: bytes([flags]) + version + b"\x08" + tail,
            st.integers(0x80, 0xFF),
            st.sampled_from([b"\0\0\0\1", b"\0\0\0\0", b"\x6b\x33\x43\xcf", b"\xff\xff\xff\xff"]),
            st.binary(min_size=1200, max_size=1300),
        )
    )
    def test_anything(self, datagram: bytes) -> None:
        """No datagram makes it raise."""
        network = Network(checkers=[ToyChecker({})])
        listener = network.listener(QuicToyListener, SETTINGS)
        network.datagrams.carry(datagram, ("203.0.113.1", 1), SERVER)
        network.settle()
        self.assert_nothing(network, listener)
        network.stop()

    @given(st.lists(st.tuples(st.integers(0, 1199), st.integers(1, 255)), min_size=1, max_size=6))
    def test_damaged(self, damages: list[tuple[int, int]]) -> None:
        """No damage to a first packet makes it raise, or leaves something behind for good."""
        network = Network(checkers=[ToyChecker({})])
        listener = network.listener(QuicToyListener, SETTINGS)
        packet = bytearray(PACKET)
        for position, change in damages:
            packet[position] ^= change
        network.datagrams.carry(bytes(packet), ("203.0.113.1", 1), SERVER)
        network.advance(VALIDATION_TIMEOUT + 5, step=5)
        endpoint = listener._endpoints[0]
        self.assertEqual((endpoint.routes, endpoint.unvalidated, listener.arriving), ({}, 0, set()))
        network.stop()


class MistakeTests(QuicCase):
    """Mistakes of aioquic's and of ours end one connection and nothing else (COM-3)."""

    def test_exception_in_a_packet(self) -> None:
        """What aioquic lets out for what a peer sent is the peer's fault."""
        network = self.network()
        listener = self.listener(network)
        other = self.login(network, listener)
        talker = self.login(network, listener)
        quic = max(listener.connections, key=lambda connection: connection.id).transport.session.quic

        def fail(datagram: bytes, address: object, now: float) -> None:
            raise ValueError("something that nobody thought of")

        self.patch(quic, "receive_datagram", fail)
        talker.transport.write(b"ASK me\n")
        network.advance(1)
        self.assertEqual(self.outcomes(network), [Outcome.MALFORMED])
        self.assertIn("PROTOCOL_VIOLATION: ValueError in a packet", self.last(network)["reason"])
        other.transport.write(b"ASK still\n")
        network.advance(1)
        self.assertTrue(other.heard.endswith(b"still\n"))

    def test_exception_in_a_turn(self) -> None:
        """A mistake while a connection has its turn is logged, and it ends."""
        network = self.network()
        listener = self.listener(network)
        other = self.login(network, listener)
        talker = self.login(network, listener)
        quic = max(listener.connections, key=lambda connection: connection.id).transport.session.quic

        def fail(now: float) -> None:
            raise RuntimeError("a mistake")

        self.patch(quic, "datagrams_to_send", fail)
        talker.transport.write(b"ASK me\n")
        network.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(len(self.outcomes(network)), 1)
        other.transport.write(b"ASK still\n")
        network.advance(1)
        self.assertTrue(other.heard.endswith(b"still\n"))


class LossTests(QuicCase):
    """A network that loses, doubles and reorders."""

    def test_login(self) -> None:
        """With 5 % of each, every login and everything that is said gets through."""
        for seed in range(20):
            network = self.network()
            network.datagrams._random.seed(seed)
            network.datagrams.latency = 0.02
            network.datagrams.loss = network.datagrams.duplication = network.datagrams.reordering = 0.05
            listener = self.listener(network)
            connecting = self.dial(network, listener)
            network.advance(10)
            talker = self.successResultOf(connecting)
            talker.transport.write(b"LOGIN ann right\nSTREAM 200000\n")
            network.advance(20)
            self.assertTrue(talker.heard.endswith(b"DONE\n"), (seed, len(talker.heard)))
            self.assertEqual(len(talker.heard), 200_034)

    def test_goodbye_is_repeated(self) -> None:
        """A client that has not heard the end is told again when it speaks."""
        network = self.network()
        network.datagrams.latency = 0.05
        listener = self.listener(network)
        talker = self.login(network, listener)
        server_connection(listener).abort()
        network.datagrams.watch = lambda datagram, source, destination: source != SERVER
        network.advance(0.01)
        network.datagrams.watch = None
        talker.transport.write(b"ASK anybody\n")
        network.advance(1)
        self.assertIsNotNone(talker.lost)


SETTINGS = QuicToySettings(listen=PLACE)
PACKET = first_packet()
