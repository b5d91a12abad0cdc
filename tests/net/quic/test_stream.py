"""A QUIC stream as a transport: backpressure really bounds memory, in both directions (COM-2, COM-6)."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.protocol import Protocol
from zope.interface.verify import verifyObject

from connectd.net.outgoing import HIGH_WATER
from connectd.net.progress import reading_progress
from connectd.net.quic.stream import StreamTransport
from connectd.sansio import Outcome
from connectd.testing import Network
from tests.net.quic.case import SERVER, QuicCase
from tests.net.quic.toy import QuicToyListener, Talker, server_connection


class Producer:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class StreamCase(QuicCase):
    """A client that is in, and both ends of its stream."""

    def ends(self, network: Network, listener: QuicToyListener, **changes: Any) -> tuple[Talker, Any, StreamTransport]:
        talker = self.login(network, listener, **changes)
        server = server_connection(listener).transport
        client: Any = talker.transport
        assert isinstance(server, StreamTransport)
        return talker, client, server


class WritingTests(StreamCase):
    """What is written and not read."""

    def test_interfaces(self) -> None:
        """It is the transport that protocols expect."""
        network = self.network()
        _, _, server = self.ends(network, self.listener(network))
        for interface in (ITransport, IConsumer, IPushProducer):
            verifyObject(interface, server)

    def test_peer_that_does_not_read(self) -> None:
        """What was not sent stays under the high-water mark and one write; what was not acknowledged under the window."""
        network = self.network()
        network.datagrams.latency = 0.01
        listener = self.listener(network, part=16_384, send_window=200_000, stall_timeout=20.0)
        talker, client, server = self.ends(network, listener, receive_window=100_000)
        heard = len(talker.heard)
        client.pauseProducing()
        client.write(b"STREAM 5000000\n")
        network.advance(10)
        self.assertEqual(len(talker.heard), heard)
        quic = server.session.quic
        self.assertLessEqual(quic.unsent(0), HIGH_WATER + 16_384)
        self.assertGreater(quic.unsent(0), HIGH_WATER // 2)
        self.assertLessEqual(listener.streamed, HIGH_WATER + 100_000 + 2 * 16_384)
        self.assertLessEqual(sum(map(len, client._held)), 100_000)
        client.resumeProducing()
        network.advance(30)
        self.assertTrue(talker.heard.endswith(b"DONE\n"))
        self.assertEqual(len(talker.heard), heard + len(b"STREAMING 5000000\nDONE\n") + 5_000_000)

    def test_stalled(self) -> None:
        """A peer that makes no progress is dropped after stall_timeout (COM-6)."""
        network = self.network()
        network.datagrams.latency = 0.01
        listener = self.listener(network, stall_timeout=5.0)
        talker, client, _ = self.ends(network, listener, receive_window=50_000)
        client.pauseProducing()
        client.write(b"STREAM 5000000\n")
        network.advance(4)
        self.assertEqual(self.outcomes(network), [])
        network.advance(7)  # at the first look there was progress: the window's worth
        self.assertEqual(self.outcomes(network), [Outcome.TIMEOUT])
        self.assertIsNotNone(talker.lost)

    def test_slow_is_not_stalled(self) -> None:
        """A peer that reads slowly makes progress."""
        network = self.network()
        network.datagrams.latency = 0.01
        listener = self.listener(network, stall_timeout=2.0)
        _, client, server = self.ends(network, listener, receive_window=50_000)
        client.write(b"STREAM 2000000\n")
        for _ in range(10):
            client.pauseProducing()
            before = reading_progress(server)
            client.resumeProducing()
            network.advance(0.02)
            client.pauseProducing()
            network.advance(1.0)
            self.assertNotEqual(reading_progress(server), before)
        self.assertEqual(self.outcomes(network), [])

    def test_unacknowledged(self) -> None:
        """However much a peer would take, no more than the window is on its way to it."""
        network = self.network()
        network.datagrams.latency = 0.5
        listener = self.listener(network, part=1_000_000, send_window=50_000)
        _, client, server = self.ends(network, listener, receive_window=8 << 20)
        client.write(b"STREAM 3000000\n")
        for _ in range(40):
            network.advance(0.25)
            quic = server.session.quic
            self.assertLessEqual(quic.unacknowledged(0) - quic.unsent(0), 50_000)

    def test_producer(self) -> None:
        """A producer hears of the mark, of room, and of the end."""
        network = self.network()
        network.datagrams.latency = 0.01
        _, client, server = self.ends(network, self.listener(network))
        producer = Producer()
        with self.assertRaises(ValueError):
            client.registerProducer(producer, False)
        client.registerProducer(producer, True)
        with self.assertRaises(RuntimeError):
            client.registerProducer(producer, True)
        client.bufferSize = 1000
        client.writeSequence([b"ASK ", b"x" * 900, b"\n"])
        client.write(b"ASK " + b"x" * 900 + b"\n")
        self.assertEqual(producer.told, ["pause"])
        network.advance(1)
        self.assertEqual(producer.told, ["pause", "resume"])
        client.unregisterProducer()
        client.registerProducer(producer, True)
        client.stopProducing()
        network.advance(2)
        self.assertEqual(producer.told, ["pause", "resume", "stop"])
        late = Producer()
        client.registerProducer(late, True)
        self.assertEqual(late.told, ["stop"])
        client.write(b"nobody")
        client.loseConnection()
        client.abortConnection()
        client.resumeProducing()
        self.assertIsNotNone(server)


class ReadingTests(StreamCase):
    """What comes and is not taken."""

    def test_window(self) -> None:
        """While the protocol does not read, a peer can send the receive window and no more."""
        network = self.network()
        network.datagrams.latency = 0.01
        listener = self.listener(network, receive_window=20_000)
        _, client, server = self.ends(network, listener)
        connection = server_connection(listener)
        connection.pause()
        client.write(b"ASK 1\n" * 50_000)
        network.advance(5)
        held = sum(map(len, server._held or []))
        self.assertGreater(held, 19_000)
        self.assertLessEqual(held, 20_000)
        self.assertGreater(client.session.quic.unsent(0), 200_000)
        connection.resume()
        network.advance(20)
        self.assertEqual(client.session.quic.unacknowledged(0), 0)

    def test_window_is_given_back(self) -> None:
        """What is read makes room: as much as one likes goes through a small window."""
        network = self.network()
        network.datagrams.latency = 0.005
        listener = self.listener(network, receive_window=4096)
        talker, client, _ = self.ends(network, listener)
        client.write(b"ASK 1\n" * 5_000)
        network.advance(30)
        self.assertEqual(talker.heard.count(b"\n1") + talker.heard.count(b"1\n"), 10_000)

    def test_liar(self) -> None:
        """A peer that sends more than it was let has broken the rules."""
        network = self.network()
        listener = self.listener(network, receive_window=4096)
        _, client, _ = self.ends(network, listener)
        server_connection(listener).pause()
        quic = client.session.quic
        quic._streams[0].max_stream_data_remote = quic._remote_max_data = 1 << 20
        client.write(b"x" * 20_000)
        network.advance(2)
        self.assertEqual(self.outcomes(network), [Outcome.MALFORMED])
        self.assertIn("FLOW_CONTROL_ERROR", self.last(network)["reason"])

    def test_larger_window(self) -> None:
        """It can be raised, once a peer is known to be worth it."""
        network = self.network()
        network.datagrams.latency = 0.01
        listener = self.listener(network, receive_window=4096)
        _, client, server = self.ends(network, listener)
        server_connection(listener).pause()
        server.set_receive_window(100_000)
        client.write(b"ASK 1\n" * 50_000)
        network.advance(5)
        self.assertGreater(sum(map(len, server._held or [])), 95_000)

    def test_after_the_end(self) -> None:
        """What comes to a stream that is to be closed is passed over."""
        network = self.network()
        network.datagrams.latency = 0.2
        _, client, server = self.ends(network, self.listener(network))
        server.write(b"x" * 5000)
        server.loseConnection()
        client.write(b"ASK 1\n")
        network.advance(3)
        self.assertEqual(self.outcomes(network), [Outcome.LEFT])

    def test_paused_goodbye(self) -> None:
        """A peer that leaves while nobody reads is gone at once; what it said is not waited for."""
        network = self.network()
        _, client, _ = self.ends(network, self.listener(network))
        (listener,) = network._listeners
        connection = server_connection(listener)  # type: ignore[arg-type]
        connection.pause()
        client.write(b"ASK 1\n")
        client.loseConnection()
        network.advance(2)
        self.assertEqual(self.outcomes(network), [Outcome.LEFT])

    def test_end_for_others(self) -> None:
        """A protocol that knows no half-closed streams closes when its peer has finished."""
        network = self.network()
        listener = self.listener(network)
        talker, _, server = self.ends(network, listener)
        self.assertNotIsInstance(talker, type(server_connection(listener)))
        server.session.quic.send_stream_data(0, b"", end_stream=True)
        server.session.touch()
        network.advance(2)
        self.assertIsNotNone(talker.lost)
        self.assertIsInstance(talker, Protocol)
        self.assertEqual(SERVER[1], 5520)
