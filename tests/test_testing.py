"""The harness that authors of protocols get: it does to a connection what a network does, and nothing else."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.error import ConnectionRefusedError as Refusal
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

import connectd.testing
from connectd.admission import AdmissionLimits
from connectd.interfaces import IEventSink, IHandler, IReceiver
from connectd.net.client import ConnectionEnded
from connectd.net.progress import bytes_acknowledged
from connectd.registry import HandlerError
from connectd.sansio import Outcome
from connectd.testing import (
    START,
    End,
    Network,
    RawPeer,
    Recorder,
    RecordingHandler,
    SlowChecker,
    Wire,
    every_split,
    proxy_header,
    random_segments,
    segments_of,
    split_at,
    whole,
)
from tests.herald import Cry, HeraldClientSettings, HeraldDialogue, HeraldListener, HeraldSettings

PAGE = Path(__file__).parents[1] / "docs" / "testing.md"
PIECES = 40
"""Examples of each property."""


@implementer(IHalfCloseableProtocol)
class Ear(Protocol):
    """Keeps what its transport says; it answers nothing."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ends = 0
        self.half_closed = 0
        self.lost: list[BaseException | None] = []
        self.paused = 0

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    def readConnectionLost(self) -> None:
        self.ends += 1

    def writeConnectionLost(self) -> None:
        self.half_closed += 1

    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]
        self.lost.append(reason.value)

    # As a producer

    def pauseProducing(self) -> None:
        self.paused += 1

    def resumeProducing(self) -> None:
        self.paused = 0

    def stopProducing(self) -> None:
        self.paused = -1


class Deaf(Protocol):
    """A protocol that is not half-closeable."""

    lost: BaseException | None = None

    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]
        self.lost = reason.value


class SegmentTests(SynchronousTestCase):
    """Pieces are always all of the bytes, in their order."""

    @given(st.binary(max_size=300), st.integers(1, 50), st.integers(0, 1000), st.lists(st.integers(-2, 310)))
    @settings(deadline=None, max_examples=PIECES)
    def test_nothing_is_lost(self, data: bytes, size: int, seed: int, places: list[int]) -> None:
        for segment in (whole, segments_of(size), random_segments(seed, size), split_at(*places)):
            self.assertEqual(b"".join(segment(data)), data)

    def test_sizes(self) -> None:
        self.assertEqual(list(segments_of(2)(b"abcde")), [b"ab", b"cd", b"e"])
        self.assertEqual(list(split_at(4, 1)(b"abcde")), [b"a", b"bcd", b"e"])
        self.assertEqual(list(split_at(0, 5, 9)(b"abcde")), [b"abcde"])
        self.assertEqual(list(whole(b"abcde")), [b"abcde"])

    def test_random_ones_are_the_same_again(self) -> None:
        """A seed stands for one run; another one for another."""
        runs = [[list(random_segments(seed, 7)(bytes(200)))] for seed in (1, 1, 2)]
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])
        self.assertEqual({len(piece) for piece in runs[0][0][:-1]} - set(range(1, 8)), set())

    def test_every_split(self) -> None:
        self.assertEqual(list(every_split(b"abc")), [(b"a", b"bc"), (b"ab", b"c"), (b"a", b"b", b"c")])


class WireCase(SynchronousTestCase):
    """Two protocols that only listen, on a wire."""

    def setUp(self) -> None:
        self.network = Network()

    def wire(self, client: Any = None, server: Any = None) -> tuple[Any, Any]:
        client, server = client or Ear(), server or Ear()
        self.network.join(client, server)
        return client, server


class WireTests(WireCase):
    """A transport in memory behaves as Twisted's own do."""

    def test_pieces(self) -> None:
        """What is written arrives, cut as the network cuts it, at the next turn and not before."""
        client, server = self.wire()
        client.transport.writeSequence([b"abc", b"", b"de"])
        self.assertEqual((server.pieces, client.transport.unread), ([], 5))
        self.network.settle()
        client.transport.write(bytearray(b"fgh"))
        self.network.segment = segments_of(2)
        self.network.settle()
        self.assertEqual(server.pieces, [b"abcde", b"fg", b"h"])
        self.assertEqual((client.transport.delivered, client.transport.unread), (8, 0))

    def test_one_read(self) -> None:
        """No read takes more than Twisted's would."""
        client, server = self.wire()
        client.transport.write(bytes(150_000))
        self.network.settle()
        self.assertEqual([len(piece) for piece in server.pieces], [65536, 65536, 18928])

    def test_segment_that_loses_bytes(self) -> None:
        """A segmentation that is none is a mistake of the test."""
        client, _ = self.wire()
        self.network.segment = lambda data: [data[:1], b""]
        client.transport.write(b"abc")
        self.assertRaises(AssertionError, self.network.settle)

    def test_only_bytes(self) -> None:
        client, _ = self.wire()
        self.assertRaises(TypeError, client.transport.write, "text")

    def test_addresses(self) -> None:
        """IPv4, IPv6 and Unix sockets are told apart."""
        for host, shown in (("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::1"), ("", None)):
            wire = self.network.join(Ear(), Ear(), host)
            self.assertEqual(getattr(wire.server.getPeer(), "host", None), shown)
            self.assertEqual(wire.client.getHost(), wire.server.getPeer())
            self.assertEqual(wire.server.getHost(), wire.client.getPeer())

    def test_producer(self) -> None:
        """Above the buffer's size each write pauses the producer; when all is read, it is resumed once."""
        client, server = self.wire()
        producer = Ear()
        client.transport.registerProducer(producer, True)
        self.assertRaises(RuntimeError, client.transport.registerProducer, Ear(), True)
        client.transport.bufferSize = 4
        client.transport.write(b"abcd")
        self.assertEqual(producer.paused, 0)
        client.transport.write(b"e")
        client.transport.write(b"f")
        self.assertEqual(producer.paused, 2)
        self.network.settle()
        self.assertEqual((producer.paused, server.pieces), (0, [b"abcdef"]))
        client.transport.abortConnection()
        self.network.settle()
        self.assertEqual(producer.paused, -1)
        late = Ear()
        client.transport.registerProducer(late, True)
        self.assertEqual(late.paused, -1)

    def test_unregistered_producer(self) -> None:
        """A producer that has left hears nothing more."""
        client, _ = self.wire()
        producer = Ear()
        client.transport.registerProducer(producer, True)
        client.transport.bufferSize = 0
        client.transport.write(b"a")
        client.transport.unregisterProducer()
        self.network.settle()
        self.assertEqual(producer.paused, 1)

    def test_pause(self) -> None:
        """Who is paused reads nothing, not even the end; a pause between two pieces holds the rest back."""
        client, server = self.wire()
        server.transport.pauseProducing()
        client.transport.write(b"abc")
        client.transport.loseWriteConnection()
        self.network.settle()
        self.assertEqual((server.pieces, server.ends), ([], 0))
        self.network.segment = segments_of(1)
        server.dataReceived = lambda data: (server.pieces.append(data), server.transport.pauseProducing())
        server.transport.resumeProducing()
        self.network.settle()
        self.assertEqual((server.pieces, client.transport.unread), ([b"a"], 2))
        del server.dataReceived
        server.transport.resumeProducing()
        self.network.settle()
        self.assertEqual((server.pieces, server.ends), ([b"a", b"b", b"c"], 1))

    def test_half_close(self) -> None:
        """One half is finished after what was written; the other goes on."""
        client, server = self.wire()
        client.transport.write(b"last")
        client.transport.loseWriteConnection()
        client.transport.loseWriteConnection()
        client.transport.write(b"too late")
        self.network.settle()
        self.assertEqual((server.pieces, server.ends, server.lost), ([b"last"], 1, []))
        self.assertEqual((client.half_closed, server.half_closed), (1, 0))
        server.transport.write(b"answer")
        server.transport.loseConnection()
        self.network.settle()
        self.assertEqual((client.pieces, client.ends, client.lost), ([b"answer"], 1, []))
        self.assertIsInstance(server.lost[0], ConnectionDone)
        client.transport.loseConnection()
        self.network.settle()
        self.assertIsInstance(client.lost[0], ConnectionDone)
        self.assertEqual(self.network.wires, [])

    def test_close(self) -> None:
        """A close waits until all is read, and the other side sees the end of the stream, then is alone."""
        client, server = self.wire()
        client.transport.write(b"last")
        client.transport.loseConnection()
        client.transport.loseConnection()
        client.transport.loseWriteConnection()
        client.transport.resumeProducing()
        client.transport.write(b"too late")
        server.transport.write(b"not read any more")
        self.assertEqual(client.lost, [])
        self.network.settle()
        self.assertEqual((server.pieces, server.ends, server.lost, client.pieces), ([b"last"], 1, [], []))
        self.assertIsInstance(client.lost[0], ConnectionDone)
        server.transport.write(b"to nobody")
        self.network.settle()
        self.assertIsInstance(server.lost[0], ConnectionLost)
        self.assertEqual((len(client.lost), len(server.lost), self.network.wires), (1, 1, []))

    def test_close_with_words_for_nobody(self) -> None:
        """What waits for who is gone keeps nobody from closing."""
        client, server = self.wire()
        server.transport.pauseProducing()
        client.transport.loseConnection()
        self.network.settle()
        self.assertEqual(server.ends, 0)
        server.transport.stopProducing()
        self.network.settle()
        self.assertIsInstance(server.lost[0], ConnectionDone)

    def test_end_without_half_closing(self) -> None:
        """A protocol that knows no half-close is closed by the end of the stream."""
        client, server = self.wire(client=Deaf(), server=Deaf())
        client.transport.loseWriteConnection()
        self.network.settle()
        self.assertIsInstance(server.lost, ConnectionDone)

    def test_abort(self) -> None:
        """An abort takes a turn, loses what is unread, and breaks the other end."""
        client, server = self.wire()
        client.transport.write(b"never read")
        client.transport.abortConnection()
        self.assertEqual(client.lost, [])
        self.network.settle()
        client.transport.abortConnection()
        self.network.settle()
        self.assertEqual((server.pieces, len(client.lost), len(server.lost)), ([], 1, 1))
        self.assertIsInstance(client.lost[0], ConnectionAborted)
        self.assertIsInstance(server.lost[0], ConnectionLost)

    def test_cut(self) -> None:
        """A broken wire breaks both ends, at once; nothing can be said any more."""
        client, server = self.wire()
        client.transport.write(b"never read")
        self.network.wires[0].cut()
        self.assertIsInstance(client.lost[0], ConnectionLost)
        self.assertIsInstance(server.lost[0], ConnectionLost)
        for end in (client.transport, server.transport):
            end.write(b"x")
            end.loseConnection()
            end.loseWriteConnection()
        self.network.settle()
        self.assertEqual((len(client.lost), len(server.lost), server.pieces), (1, 1, []))

    def test_cut_after(self) -> None:
        """A connection breaks at a chosen byte, on either side, and what was to be said about it is not heard."""
        for count in range(5):
            client, server = self.wire()
            server.dataReceived = lambda data, ear=server: (ear.pieces.append(data), ear.transport.write(b"heard"))
            self.network.wires[-1].cut_after(client=count)
            client.transport.write(b"abcd")
            self.network.settle()
            self.assertEqual((b"".join(server.pieces), client.pieces), (b"abcd"[:count], []))
            self.assertIsInstance(client.lost[0], ConnectionLost)
        client, server = self.wire()
        self.network.wires[-1].cut_after(client=1, server=2)
        server.transport.write(b"abcd")
        self.network.settle()
        self.assertEqual((client.pieces, len(server.lost)), ([b"ab"], 1))

    def test_window(self) -> None:
        """A peer takes so many bytes and no more; then it sees no end either."""
        client, server = self.wire()
        server.transport.window = 3
        client.transport.write(b"abcde")
        client.transport.loseConnection()
        self.network.settle()
        self.assertEqual((server.pieces, client.transport.unread, client.lost), ([b"abc"], 2, []))
        server.transport.window = 2
        self.network.settle()
        self.assertEqual((server.pieces, server.ends), ([b"abc", b"de"], 0))
        server.transport.window = None
        self.network.settle()
        self.assertEqual(server.ends, 1)

    def test_progress(self) -> None:
        """The transport tells what the peer's system has confirmed, as Linux does (COM-6)."""
        client, _ = self.wire()
        client.transport.write(b"abcd")
        self.network.settle()
        self.assertRaises(OSError, client.transport.getHandle().getsockopt, 0, 0, 1)
        if sys.platform.startswith("linux"):
            self.assertEqual(bytes_acknowledged(client.transport.getHandle()), 4)

    def test_endless_talk(self) -> None:
        """Two sides that answer each other for ever are a fault, not a hang."""
        client, server = self.wire()
        for one in (client, server):
            one.dataReceived = one.transport.write
        client.transport.write(b"ping")
        self.assertRaises(AssertionError, self.network.settle)


class LatencyTests(WireCase):
    """Bytes are under way for a while."""

    def setUp(self) -> None:
        super().setUp()
        self.network.latency = 0.1

    def test_bytes(self) -> None:
        """Each write arrives after the latency, whatever the step."""
        client, server = self.wire()
        client.transport.write(b"a")
        self.network.advance(0.05)
        client.transport.write(b"b")
        self.network.advance(0.04)
        self.assertEqual(server.pieces, [])
        self.network.advance(0.02)
        self.assertEqual(server.pieces, [b"a"])
        self.network.advance(10)
        self.assertEqual((server.pieces, self.network.clock.seconds()), ([b"a", b"b"], START + 10.11))

    def test_answers(self) -> None:
        """A round trip takes two latencies, within one long advance."""
        client, server = self.wire()
        times: list[float] = []
        server.dataReceived = server.transport.write
        client.dataReceived = lambda data: times.append(self.network.clock.seconds())
        client.transport.write(b"a")
        self.network.advance(1)
        (time,) = times
        self.assertAlmostEqual(time - START, 0.2, 3)

    def test_end(self) -> None:
        """So does the end of a stream, and a close."""
        client, server = self.wire()
        client.transport.loseWriteConnection()
        self.network.advance(0.09)
        self.assertEqual(server.ends, 0)
        self.network.advance(0.02)
        self.assertEqual(server.ends, 1)
        server.transport.write(b"x")
        server.transport.loseConnection()
        self.network.advance(0.09)
        self.assertEqual((client.pieces, server.lost), ([], []))
        self.network.advance(0.02)
        self.assertEqual((client.pieces, client.ends, len(server.lost)), ([b"x"], 1, 1))

    def test_connecting(self) -> None:
        """A connection takes a round trip to stand; who waits can give up."""
        listener = self.network.listener(HeraldListener, HeraldSettings())
        endpoint = self.network.endpoint(listener)
        connecting = endpoint.connect(Factory.forProtocol(Ear))
        self.network.advance(0.15)
        self.assertNoResult(connecting)
        self.network.advance(0.1)
        self.successResultOf(connecting)
        given_up = endpoint.connect(Factory.forProtocol(Ear))
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.network.advance(1)
        self.assertEqual(len(listener.connections), 1)
        self.network.wires[0].cut()
        self.network.stop()


class ListenerCase(SynchronousTestCase):
    """A HERALD listener in memory."""

    def start(self, network: Network | None = None, **settings: Any) -> Network:
        self.network = network or Network()
        self.listener = self.network.listener(HeraldListener, HeraldSettings(**settings))
        return self.network

    def enter(self, name: str = "ada", **options: Any) -> RawPeer:
        """A peer that is in."""
        peer = self.network.raw(self.listener, **options)
        peer.send(f"NAME {name}\n".encode())
        self.assertEqual(peer.take(), b"WELCOME Hear, hear!\n")
        return peer


class RawPeerTests(ListenerCase):
    """Bytes by hand."""

    def test_conversation(self) -> None:
        handler = RecordingHandler()
        self.start(Network(handlers={"record": handler}), handler="record")
        peer = self.enter()
        peer.send(b"CRY hello\n", b"CRY wo", b"rld\n")
        self.assertEqual(handler.messages, [Cry("hello"), Cry("world")])
        (session,) = handler.sessions
        self.assertEqual((session.identity, str(session.peer)), ({"name": "ada"}, f"192.0.2.1:{session.peer.port}"))
        session.send(Cry("hello yourself"))
        self.network.settle()
        self.assertEqual(peer.received, b"CRY hello yourself\n")
        peer.close()
        self.assertIsInstance(peer.lost, ConnectionDone)
        self.assertEqual(handler.outcomes, [Outcome.LEFT])
        self.network.stop()

    def test_every_split(self) -> None:
        """The same bytes in every two pieces mean the same."""
        self.start()
        for pieces in every_split(b"NAME ada\nCRY hello\n"):
            peer = self.network.raw(self.listener)
            peer.send(*pieces)
            self.assertEqual(peer.received, b"WELCOME Hear, hear!\n")
            peer.close()
        self.assertEqual(set(self.network.recorder.outcomes), {"left"})
        self.network.stop()

    def test_ends(self) -> None:
        """A peer that finishes, closes or breaks is told apart."""
        self.start()
        for end, outcome in (("finish", "left"), ("close", "left"), ("reset", "lost")):
            peer = self.enter()
            self.assertFalse(peer.finished)
            getattr(peer, end)()
            self.assertEqual(self.network.recorder.outcomes[-1], outcome)
            self.network.advance(1)
        self.assertTrue(peer.finished)
        self.assertIsInstance(peer.lost, ConnectionAborted)
        self.network.stop()

    def test_refused(self) -> None:
        """It hears the refusal, and that no more will come; then it is for it to close."""
        self.start()
        peer = self.network.raw(self.listener)
        peer.send(b"GIVE me all\n")
        self.assertEqual(peer.received, b'NO "GIVE" is not expected here\n')
        self.assertTrue(peer.finished)
        self.assertIsNone(peer.lost)
        peer.close()
        self.assertEqual(self.network.recorder.outcomes, ["malformed"])
        self.assertEqual(self.network.recorder.named("ended")[0]["offset"], 0)
        self.network.stop()

    def test_turned_away(self) -> None:
        """COM-4: a peer that admission refuses is closed without a byte."""
        self.start(Network(AdmissionLimits(max_connections=1)))
        self.enter()
        peer = self.network.raw(self.listener)
        self.assertEqual((peer.received, peer.finished), (b"", True))
        self.assertIsInstance(peer.lost, ConnectionDone)
        self.assertEqual(self.network.recorder.outcomes, ["limited"])
        self.network.stop()

    def test_does_not_read(self) -> None:
        """COM-6: a peer that reads nothing is dropped after 30 s; one that reads a little now and then is not."""
        handler = RecordingHandler()
        self.start(Network(handlers={"record": handler}), handler="record")
        idle, slow = self.enter("idle"), self.enter("slow")
        idle.window = slow.window = 0
        for session in handler.sessions:
            session.send(bytes(300_000))
        for _ in range(8):
            self.network.advance(5)
            slow.window = 1000
        self.assertEqual(self.network.recorder.outcomes, ["timeout"])
        self.assertIsNotNone(idle.lost)
        self.assertIsNone(slow.lost)
        self.assertEqual(len(slow.received), 8000)
        slow.window = None
        self.assertEqual((slow.window, len(slow.received)), (None, 300_000))
        slow.close()
        self.network.stop()

    if not sys.platform.startswith("linux"):
        test_does_not_read.skip = "only Linux tells how far a peer has read"  # type: ignore[attr-defined]

    def test_window_from_the_beginning(self) -> None:
        self.start()
        peer = self.network.raw(self.listener, window=4)
        peer.send(b"NAME ada\n")
        self.assertEqual(peer.received, b"WELC")
        self.network.recorder.events.clear()
        peer.close()

    def test_raw_server(self) -> None:
        """A client against bytes by hand."""
        network = Network()
        server = network.raw_server()
        heard: list[Cry] = []
        dialogue = HeraldDialogue(network.clock, HeraldClientSettings(name="ada"), heard.append)
        dialled = dialogue.dial(network.endpoint(server))
        network.settle()
        (peer,) = server.peers
        self.assertEqual(peer.take(), b"NAME ada\n")
        peer.send(b"WELCOME well\nCRY ", b"hello\n")
        self.successResultOf(dialled)
        self.assertEqual(heard, [Cry("hello")])
        peer.send(b"BYE now\n")
        self.assertEqual((dialogue.ended and dialogue.ended.outcome, peer.finished), (Outcome.LEFT, True))
        self.assertIs(peer.wire.server, peer.end)


class NetworkTests(ListenerCase):
    """Listeners and clients."""

    def test_client_and_server(self) -> None:
        """A real client, in every fixed and some random segmentations."""
        for segment in (whole, segments_of(1), segments_of(3), random_segments(7), *map(split_at, range(1, 20))):
            handler = RecordingHandler()
            network = self.start(Network(handlers={"record": handler}), handler="record")
            network.segment = segment
            dialogue = HeraldDialogue(network.clock, HeraldClientSettings(name="ada"))
            dialled = dialogue.dial(network.endpoint(self.listener, "192.0.2.7"))
            network.settle()
            self.successResultOf(dialled)
            dialogue.cry("hello")
            network.settle()
            self.assertEqual(handler.messages, [Cry("hello")])
            self.assertEqual(handler.sessions[0].peer.host, "192.0.2.7")
            dialogue.hang_up()
            network.stop()
            self.assertEqual(network.recorder.outcomes, ["left"])

    def test_nothing_is_bound(self) -> None:
        """Whatever the settings name, a listener in memory takes no place, and can be reached while it accepts."""
        network = self.start(listen="tcp:1:interface=203.0.113.1")
        again = network.listener(HeraldListener, HeraldSettings(listen="tcp:1"))
        self.assertEqual(self.listener.title, "herald on 203.0.113.1:1")
        self.assertEqual(again.title, "herald on 198.51.100.1:1")
        self.assertTrue(self.listener.accepting)
        self.listener.stop_accepting()
        self.assertFalse(self.listener.accepting)
        self.assertRaises(Refusal, network.raw, self.listener)
        self.failureResultOf(network.endpoint(self.listener).connect(Factory.forProtocol(Ear)), Refusal)
        self.assertEqual(network.context.bind("udp:1", "datagram").address, "198.51.100.1:1")
        network.stop()

    def test_without_a_place(self) -> None:
        """A listener that listens nowhere is reached all the same."""
        network = self.start(listen="")
        self.enter().close()
        network.stop()

    def test_unreachable(self) -> None:
        network = self.start()
        network.unreachable = True
        self.assertRaises(ConnectError, network.raw, self.listener)
        self.failureResultOf(network.endpoint(self.listener).connect(Factory.forProtocol(Ear)), ConnectError)

    def test_prepare(self) -> None:
        """Each new wire can be told its fate before a byte flows: here, every byte of a login in turn."""
        for count in range(10):
            network = self.start()
            network.prepare = lambda wire, count=count: wire.cut_after(client=count)  # type: ignore[misc]
            dialogue = HeraldDialogue(network.clock, HeraldClientSettings(name="ada"))
            dialled = dialogue.dial(network.endpoint(self.listener))
            network.settle()
            self.failureResultOf(dialled, ConnectionEnded)
            network.stop()
            # Once its last byte is read, the session is accepted.
            self.assertEqual(network.recorder.outcomes, ["aborted" if count < 9 else "lost"])

    def test_proxy(self) -> None:
        """COM-5: a connection through a proxy comes from where its header says, in both versions, byte by byte."""
        for version in (1, 2):
            for host in ("203.0.113.9", "2001:db8::9"):
                network = self.start(proxy_protocol=True)
                network.segment = segments_of(1)
                self.enter(host=host, proxy="127.0.0.1", proxy_version=version)
                (session,) = network.context.sessions
                self.assertEqual(session.peer.host, host)
                dialogue = HeraldDialogue(network.clock, HeraldClientSettings())
                dialled = dialogue.dial(network.endpoint(self.listener, host, proxy="127.0.0.1", proxy_version=version))
                network.settle()
                self.successResultOf(dialled)
                self.assertEqual({session.peer.host for session in network.context.sessions}, {host})
                dialogue.hang_up()
                network.stop()

    def test_proxy_by_hand(self) -> None:
        """COM-5: what a proxy says can be said by hand, and cut short."""
        network = self.start(proxy_protocol=True)
        self.assertEqual(proxy_header(("192.0.2.1", 1), ("192.0.2.2", 2), 1), b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
        header = proxy_header(("192.0.2.1", 1), ("192.0.2.2", 2))
        peer = network.raw(self.listener, "127.0.0.1")
        peer.send(header[:-1])
        network.advance(6)
        self.assertIsNotNone(peer.lost)
        stranger = network.raw(self.listener, "192.0.2.66", proxy="192.0.2.77")
        self.assertIsNotNone(stranger.lost)
        self.assertEqual(network.recorder.outcomes, ["timeout", "refused"])
        network.stop()

    def test_handlers(self) -> None:
        """Handlers come by name, from the network and from plugins."""
        handler = RecordingHandler(wants=["everything"])
        network = Network(handlers={"record": handler})
        verifyObject(IHandler, handler)
        self.assertEqual(list(handler.wants("herald")), ["everything"])
        self.assertIs(network.context.find_handler("record"), handler)
        self.assertRaises(HandlerError, network.context.find_handler, "recrod")
        session: Any = None
        verifyObject(IReceiver, handler.open(session))

    def test_context(self) -> None:
        """Whatever listeners share can be given; randomness is the same in every run."""
        network = Network(drain_timeout=1.5, random=bytes)
        self.assertEqual((network.context.drain_timeout, network.context.random(3)), (1.5, bytes(3)))
        self.assertEqual(Network().context.random(8), Network().context.random(8))

    def test_advance(self) -> None:
        """Time passes exactly, in steps that are looked at."""
        network = Network()
        times: list[float] = []
        network.clock.callLater(0.6, lambda: times.append(network.clock.seconds()))
        network.advance(1.1, step=0.5)
        self.assertEqual(times, [START + 1.0])
        self.assertAlmostEqual(network.clock.seconds(), START + 1.1, 5)


class SlowTests(ListenerCase):
    """What takes its time takes it on the network's clock."""

    def test_later(self) -> None:
        network = Network()
        good, bad = network.later(2, "yes"), network.later(2, KeyError("no"))
        network.advance(1.5)
        self.assertNoResult(good)
        network.advance(1)
        self.assertEqual(self.successResultOf(good), "yes")
        self.failureResultOf(bad, KeyError)

    def test_handler(self) -> None:
        """A peer waits while its handler opens; what it says meanwhile is heard after."""
        recording = RecordingHandler(wants=["all"])
        network = Network()
        network.handlers["slow"] = slow = network.slow_handler(3, recording)
        verifyObject(IHandler, slow)
        self.assertEqual(list(slow.wants("herald")), ["all"])
        self.start(network, handler="slow")
        peer = self.enter()
        peer.send(b"CRY hello\n")
        network.advance(2)
        self.assertEqual((recording.sessions, recording.messages), ([], []))
        network.advance(2)
        self.assertEqual((len(recording.sessions), recording.messages), (1, [Cry("hello")]))
        gone = self.enter("bob")
        gone.reset()
        network.advance(5)
        self.assertEqual(len(recording.sessions), 1)
        network.stop()

    def test_checker(self) -> None:
        network = Network()
        accounts = InMemoryUsernamePasswordDatabaseDontUse()
        accounts.addUser(b"ada", b"right")
        checker = network.slow_checker(2, accounts)
        self.assertIsInstance(checker, SlowChecker)
        self.assertIn(IUsernamePassword, checker.credentialInterfaces)
        answer: Deferred[Any] = checker.requestAvatarId(UsernamePassword(b"ada", b"right"))
        network.advance(1.5)
        self.assertNoResult(answer)
        network.advance(1)
        self.assertEqual(self.successResultOf(answer), b"ada")

    def test_decisions(self) -> None:
        """A listener that decides at once can be made to take its time; who left meanwhile is not let in."""
        network = self.start()
        network.slow_decisions(2, self.listener)
        staying, going = network.raw(self.listener), network.raw(self.listener)
        for peer in (staying, going):
            peer.send(b"NAME ada\nCRY hello\n")
        network.advance(1)
        going.close()
        self.assertEqual(staying.received, b"")
        network.advance(1.5)
        self.assertEqual(staying.received, b"WELCOME Hear, hear!\n")
        self.assertEqual(network.recorder.outcomes, ["aborted"])
        network.stop()

    def test_decisions_that_take_too_long(self) -> None:
        """COM-1: the deadline does not wait for a decision."""
        network = self.start(handshake_timeout=5.0)
        network.slow_decisions(10, self.listener)
        peer = network.raw(self.listener)
        peer.send(b"NAME ada\n")
        network.advance(6)
        self.assertEqual(peer.received, b"NO Handshake took too long\n")
        peer.close()
        network.advance(10)
        self.assertEqual(network.recorder.outcomes, ["timeout"])
        network.stop()


class StopTests(ListenerCase):
    """What is left in the end is found."""

    def test_all_is_well(self) -> None:
        """Peers of every kind are told to go, and nothing is left of them."""
        network = self.start()
        self.enter()
        self.enter(window=None).window = 0
        network.raw(self.listener)
        network.stop()
        self.assertEqual(network.recorder.outcomes, ["shutdown"] * 3)
        self.assertTrue(network.unreachable)

    def complaint(self, network: Network) -> str:
        return str(self.assertRaises(AssertionError, network.stop))

    def test_timer(self) -> None:
        network = self.start()
        network.clock.callLater(1000, print)
        self.assertRegex(self.complaint(network), r"^a timer is left: .*print")

    def test_connection(self) -> None:
        """A listener that forgets to let go of something is found out."""
        network = self.start()
        self.enter()
        self.patch(self.listener, "connection_closed", lambda connection: None)
        complaint = self.complaint(network)
        self.assertIn("herald on 127.0.0.1:7999: 1 connections left; ", complaint)
        self.assertIn("; 0 sessions are registered, 1 connections counted; ", complaint)

    def test_session(self) -> None:
        network = self.start()
        self.enter()
        self.patch(self.listener, "connection_ended", lambda connection, event: None)
        complaint = self.complaint(network)
        self.assertIn("connection 1 was accepted and never ended", complaint)
        self.assertIn("1 sessions left", complaint)
        self.assertIn("1 sessions are registered, 0 connections counted", complaint)


class RecorderTests(SynchronousTestCase):
    """COM-7, as the harness looks at it."""

    def problems(self, *events: tuple[str, int | None, str]) -> list[str]:
        recorder = Recorder()
        verifyObject(IEventSink, recorder)
        for name, connection, outcome in events:
            stamp = {} if connection is None else {"connection": connection}
            recorder.event({"event": name, **stamp, "outcome": outcome})
        return [problem.partition(":")[0] for problem in recorder.problems()]

    def test_fine(self) -> None:
        """Those that never became a connection have no number, and each has an outcome."""
        self.assertEqual(
            self.problems(
                ("accepted", 1, ""),
                ("ended", 1, "left"),
                ("ended", 2, "refused"),
                ("ended", None, "limited"),
                ("ended", None, "banned"),
                ("other", 9, ""),
            ),
            [],
        )

    def test_faults(self) -> None:
        """Each kind of fault has its words."""
        twice = "accepted twice, or after its end"
        self.assertEqual(self.problems(("accepted", 1, ""), ("accepted", 1, ""), ("ended", 1, "left")), [twice])
        self.assertEqual(self.problems(("ended", 1, "refused"), ("accepted", 1, "")), [twice])
        self.assertEqual(self.problems(("ended", 1, "refused"), ("ended", 1, "refused")), ["ended twice"])
        self.assertEqual(self.problems(("ended", 1, "left")), ["this is no outcome before acceptance"])
        after = self.problems(("accepted", 1, ""), ("ended", 1, "aborted"))
        self.assertEqual(after, ["this is no outcome after acceptance"])
        self.assertEqual(self.problems(("accepted", 1, "")), ["connection 1 was accepted and never ended"])


class PageTests(SynchronousTestCase):
    """docs/testing.md: every block runs, and every public name is there."""

    def test_blocks(self) -> None:
        """Each block runs on its own, and none of them leaves anything in the log."""
        blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        self.assertGreater(len(blocks), 8)
        for number, block in enumerate(blocks, 1):
            exec(compile(block, f"<docs/testing.md, block {number}>", "exec"), {"__name__": "example"})
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_names(self) -> None:
        """Every public name of the harness, and every public member of what tests hold in their hands."""
        text = PAGE.read_text(encoding="utf-8")
        for name in connectd.testing.__all__:
            self.assertIn(f"`{name}", text)
        network = Network()
        for thing in (Network, RawPeer, Wire, vars(network)):
            for name in thing if isinstance(thing, dict) else vars(thing):
                if not name.startswith("_") and name not in INTERNAL:
                    self.assertTrue(re.search(rf"`[\w.]*\b{name}\b", text), name)
        self.assertTrue(callable(End))


INTERNAL = {"connectionLost", "connectionMade", "dataReceived", "makeConnection", "readConnectionLost"} | {
    "writeConnectionLost",
    "deliver",
    "finished",
    "lost",
    "ports",
}
"""What transports and protocols say to each other."""
