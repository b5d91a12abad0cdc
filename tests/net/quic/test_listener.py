"""A listener over QUIC: who comes in, and how each connection ends (COM-1, COM-4, COM-7, COM-8)."""

from __future__ import annotations

from functools import partial

import attrs
from twisted.internet.defer import CancelledError

from connectd.admission import AdmissionLimits
from connectd.net.quic import QuicConnectError
from connectd.net.quic.listener import VALIDATION_TIMEOUT, Arrival
from connectd.sansio import Event, Outcome
from tests.net.quic.case import SERVER, QuicCase
from tests.net.quic.toy import QuicToyListener, identity, server_connection


class LifeTests(QuicCase):
    """One session from its first packet to its end."""

    def test_life(self) -> None:
        """A client logs in, talks and leaves; its connection has one outcome (COM-7)."""
        network = self.network()
        listener = self.listener(network)
        talker = self.login(network, listener)
        connection = server_connection(listener)
        self.assertEqual(str(connection.peer.host), "192.0.2.1")
        (handshake,) = listener.handshakes
        self.assertEqual((handshake.alpn, handshake.version), ("toy/1", 1))
        self.assertEqual(handshake.certificate, identity().certificate)
        self.assertIsNone(handshake.peer_certificate)
        self.assertEqual(connection.transport.handshake, handshake)
        self.assertEqual(talker.transport.handshake.peer_certificate, identity().certificate)
        self.assertEqual((connection.local.host, connection.local.port), SERVER)  # type: ignore[union-attr]
        talker.transport.loseConnection()
        network.advance(2)
        self.assertIsNotNone(talker.lost)
        self.assertEqual(self.outcomes(network), [Outcome.LEFT])
        self.assertEqual(listener._endpoints[0].routes, {})

    def test_kicked(self) -> None:
        """The last words arrive before CONNECTION_CLOSE does (AL-3)."""
        network = self.network()
        network.datagrams.latency = 0.05
        listener = self.listener(network)
        talker = self.login(network, listener)
        server_connection(listener).close(Outcome.KICKED, "Enough")
        network.advance(1)
        self.assertTrue(talker.heard.endswith(b"BYE Enough\n"), talker.heard)
        self.assertIsNotNone(talker.lost)
        self.assertEqual(self.outcomes(network), [Outcome.KICKED])

    def test_flush_is_limited(self) -> None:
        """A peer that acknowledges nothing keeps a closing connection for a second at most (AL-3)."""
        network = self.network()
        listener = self.listener(network)
        talker = self.login(network, listener)
        network.datagrams.watch = lambda datagram, source, destination: destination == SERVER
        connection = server_connection(listener)
        connection.close(Outcome.KICKED, "Enough")
        network.advance(0.9)
        self.assertIn(connection, listener.connections)
        network.advance(0.2)
        self.assertNotIn(connection, listener.connections)
        self.assertIsNone(talker.lost)

    def test_vanished(self) -> None:
        """A peer that falls silent is lost after the idle timeout."""
        network = self.network()
        listener = self.listener(network, idle_timeout=20.0)
        talker = self.login(network, listener)
        network.datagrams.watch = lambda datagram, source, destination: False
        network.advance(21)
        self.assertEqual(self.outcomes(network), [Outcome.TIMEOUT])
        self.assertIsNotNone(talker.lost)

    def test_finished_stream(self) -> None:
        """A peer that finishes its stream has closed (AL-2)."""
        network = self.network()
        listener = self.listener(network)
        talker = self.login(network, listener)
        session = talker.transport.session
        session.quic.send_stream_data(0, b"", end_stream=True)
        session.touch()
        network.advance(2)
        self.assertEqual(self.outcomes(network), [Outcome.LEFT])

    def test_reset_stream(self) -> None:
        """A stream that is reset has broken the rules: it is whole or not at all."""
        network = self.network()
        listener = self.listener(network)
        talker = self.login(network, listener)
        session = talker.transport.session
        session.quic.reset_stream(0, 7)
        session.touch()
        network.advance(2)
        self.assertEqual(self.outcomes(network), [Outcome.MALFORMED])
        self.assertIn("the stream was reset", self.last(network)["reason"])

    def test_second_stream(self) -> None:
        """A client has one stream; another, of either kind, ends its connection (AL-2)."""
        for stream in (4, 2):
            network = self.network()
            listener = self.listener(network)
            talker = self.login(network, listener)
            session = talker.transport.session
            # A client that does not care what it is allowed.
            session.quic._remote_max_streams_bidi = session.quic._remote_max_streams_uni = 10
            session.quic._remote_max_stream_data_bidi_remote = session.quic._remote_max_stream_data_uni = 100
            session.quic.send_stream_data(stream, b"more")
            session.touch()
            network.advance(2)
            self.assertEqual(self.outcomes(network), [Outcome.MALFORMED])
            self.assertIn("STREAM_LIMIT_ERROR", self.last(network)["reason"])
            self.assertIn("STREAM_LIMIT_ERROR", str(talker.lost))

    def test_words_without_a_stream(self) -> None:
        """What is said before the client has opened its stream has nowhere to go (COM-12)."""
        network = self.network()
        listener = self.listener(network, handshake_timeout=5.0)
        talker = self.connect(network, listener)
        server_connection(listener).transport.write(b"nobody hears this")
        network.advance(6)
        self.assertEqual(bytes(talker.heard), b"")
        self.assertEqual(self.outcomes(network), [Outcome.TIMEOUT])


class HandshakeTests(QuicCase):
    """Connections that end before there is a protocol have an outcome, too (COM-7)."""

    def test_wrong_alpn(self) -> None:
        """Another application protocol fails the QUIC handshake (AL-3)."""
        network = self.network()
        listener = self.listener(network)
        connecting = self.dial(network, listener, alpn=("h3",))
        network.advance(2)
        problem = self.failureResultOf(connecting, QuicConnectError)
        self.assertIn("no application protocol in common", str(problem.value))
        self.assertEqual(self.outcomes(network), [Outcome.MALFORMED])
        self.assertIn("no application protocol in common", self.last(network)["reason"])

    def test_second_alpn(self) -> None:
        """The server's order decides between several application protocols."""
        network = self.network()
        listener = self.listener(network)
        self.connect(network, listener, alpn=("toy/2",))
        self.connect(network, listener, alpn=("toy/2", "toy/1"))
        self.assertEqual([handshake.alpn for handshake in listener.handshakes], ["toy/2", "toy/1"])

    def test_gone_before_the_end(self) -> None:
        """A client that gives up in the middle of the handshake has aborted."""
        network = self.network()
        network.datagrams.latency = 0.05
        listener = self.listener(network)
        connecting = self.dial(network, listener)
        network.advance(0.06)
        self.assertEqual(len(listener.arriving), 1)
        connecting.cancel()
        network.advance(2)
        self.failureResultOf(connecting, CancelledError)
        self.assertEqual(self.outcomes(network), [Outcome.ABORTED])

    def test_reactor_stops(self) -> None:
        """A client whose reactor stops, which closes its socket, has said its last words and goodbye by then."""
        network = self.network()
        listener = self.listener(network)
        talker = self.login(network, listener)
        connection = server_connection(listener)
        heard: list[bytes] = []

        def receive_data(machine: object, data: bytes, now: float) -> list[Event]:
            heard.append(data)
            return []

        self.patch(type(connection.machine), "receive_data", receive_data)
        talker.transport.write(b"BYE\n")
        port = self.port_of(network, talker)
        del network.datagrams.ports[port.address]
        port.protocol.doStop()
        network.advance(1)
        self.assertEqual(heard, [b"BYE\n"])
        self.assertEqual(self.outcomes(network), [Outcome.LEFT])
        self.assertIsNotNone(talker.lost)

    def test_deadline(self) -> None:
        """The deadline covers the QUIC handshake and what follows as one, from the first packet on (COM-1)."""
        network = self.network()
        network.datagrams.latency = 1.0
        listener = self.listener(network, handshake_timeout=6.0)
        began = network.clock.seconds()
        connecting = self.dial(network, listener)
        network.advance(4)
        self.successResultOf(connecting)
        self.assertEqual(self.outcomes(network), [])
        network.advance(4)
        self.assertEqual(self.outcomes(network), [Outcome.TIMEOUT])
        accepted_at = began + 1.0
        self.assertLess(self.last(network)["time"] - accepted_at, 6.6)

    def test_unvalidated(self) -> None:
        """Somebody who does not show that its address is its own is forgotten without a word."""
        network = self.network()
        listener = self.listener(network)
        self.dial(network, listener)
        network.datagrams.watch = lambda datagram, source, destination: source != SERVER
        network.advance(1)
        self.assertEqual(len(listener.arriving), 1)
        endpoint = listener._endpoints[0]
        self.assertEqual(endpoint.unvalidated, 1)
        network.advance(VALIDATION_TIMEOUT)
        self.assertEqual(self.outcomes(network)[:1], [Outcome.TIMEOUT])

    def test_stalled_handshake(self) -> None:
        """A client that has shown its address and says no more is told that it took too long."""
        network = self.network()
        listener = self.listener(network, client_certificate="asked", handshake_timeout=90.0, quic_timeout=12.0)
        connecting = self.dial(network, listener)
        arrivals = 0

        def first_only(datagram: bytes, source: tuple[str, int], destination: tuple[str, int]) -> bool:
            nonlocal arrivals
            arrivals += destination == SERVER
            return destination != SERVER or arrivals <= 1

        network.datagrams.watch = first_only
        network.advance(0.1)
        (arrival,) = listener.arriving
        assert isinstance(arrival, Arrival)
        arrival.session.validated = True
        listener._endpoints[0].unvalidated -= 1
        network.advance(11.5)
        self.assertEqual(len(listener.arriving), 1)
        network.advance(1)
        self.assertEqual(self.outcomes(network), [Outcome.TIMEOUT])
        self.assertIsNotNone(self.successResultOf(connecting).lost)


class CertificateTests(QuicCase):
    """Certificates of both sides (AL-7)."""

    def test_asked(self) -> None:
        """A client that has a certificate shows it; one that has none comes in as well."""
        network = self.network()
        listener = self.listener(network, client_certificate="asked")
        own = identity("client.example")
        self.login(network, listener, identity=own)
        self.login(network, listener)
        self.assertEqual([handshake.peer_certificate for handshake in listener.handshakes], [own.certificate, None])

    def test_not_asked(self) -> None:
        """Who is not asked shows nothing."""
        network = self.network()
        listener = self.listener(network)
        self.login(network, listener, identity=identity("client.example"))
        self.assertIsNone(listener.handshakes[0].peer_certificate)

    def test_required(self) -> None:
        """Where one is required, who has none is told so and refused."""
        network = self.network()
        listener = self.listener(network, client_certificate="required")
        self.login(network, listener, identity=identity("client.example"))
        talker = self.connect(network, listener)
        network.advance(1)
        self.assertIn("certificate required", str(talker.lost))
        self.assertEqual(self.outcomes(network), [Outcome.REFUSED])
        self.assertEqual(len(listener.handshakes), 1)

    def test_rotation(self) -> None:
        """Another certificate serves new connections; those that stand keep theirs."""
        network = self.network()
        listener = self.listener(network)
        before = self.login(network, listener)
        listener.shown = identity("other.example")
        after = self.login(network, listener)
        shown = [talker.transport.handshake.peer_certificate for talker in (before, after)]
        self.assertEqual(shown, [identity().certificate, identity("other.example").certificate])
        self.assertEqual([handshake.certificate for handshake in listener.handshakes], shown)
        before.transport.write(b"ASK still\n")
        network.advance(1)
        self.assertTrue(before.heard.endswith(b"still\n"))


class AdmissionTests(QuicCase):
    """Addresses are looked at before anything else (COM-4)."""

    def test_refused(self) -> None:
        """Who is not let in is told CONNECTION_REFUSED, in one datagram, and nothing is kept."""
        network = self.network(AdmissionLimits(connections_per_source=1, connection_rate=0))
        listener = self.listener(network)
        self.login(network, listener)
        connecting = self.dial(network, listener)
        network.advance(1)
        problem = self.failureResultOf(connecting, QuicConnectError)
        self.assertIn("CONNECTION_REFUSED", str(problem.value))
        self.assertEqual(self.outcomes(network), [Outcome.LIMITED])
        self.assertEqual((len(listener.arriving), len(listener.connections)), (0, 1))
        self.login(network, listener, host="192.0.2.2")

    def test_denied(self) -> None:
        """An address on the list of those that may not come is banned."""
        from ipaddress import ip_network

        network = self.network(AdmissionLimits(connection_rate=0, deny=(ip_network("192.0.2.0/24"),)))
        listener = self.listener(network)
        connecting = self.dial(network, listener)
        network.advance(1)
        self.failureResultOf(connecting, QuicConnectError)
        self.assertEqual(self.outcomes(network), [Outcome.BANNED])

    def test_place_is_given_back(self) -> None:
        """Every end gives the place back that was taken, before and after the handshake."""
        network = self.network(AdmissionLimits(connections_per_source=1, connection_rate=0))
        listener = self.listener(network)
        for alpn in (("h3",), ("toy/1",)) * 2:
            connecting = self.dial(network, listener, alpn=alpn)
            network.advance(1)
            connecting.addErrback(lambda failure: None)
            result = self.successResultOf(connecting)
            if result is not None:
                result.transport.loseConnection()
            network.advance(1)
        self.assertEqual(network.context.admission.open_connections, 0)

    def test_migration(self) -> None:
        """A client whose port changes keeps its session, and who it is."""
        network = self.network()
        listener = self.listener(network)
        talker = self.login(network, listener)
        port = self.port_of(network, talker)
        port.move(("192.0.2.1", 999))
        talker.transport.write(b"ASK me\n")
        network.advance(1)
        self.assertTrue(talker.heard.endswith(b"me\n"), talker.heard)
        connection = server_connection(listener)
        self.assertEqual(connection.transport.getPeer().port, 999)
        self.assertEqual(self.outcomes(network), [])

    def test_migration_to_another_host(self) -> None:
        """One that appears somewhere else counts there from then on."""
        network = self.network()
        listener = self.listener(network)
        talker = self.login(network, listener)
        self.port_of(network, talker).move(("203.0.113.5", 999))
        talker.transport.write(b"ASK me\n")
        network.advance(1)
        connection = server_connection(listener)
        self.assertEqual((connection.peer.host, connection.peer.port), ("203.0.113.5", 999))
        self.assertTrue(talker.heard.endswith(b"me\n"))

    def _one_packet_from_before(
        self, host: str, listener: QuicToyListener, datagram: bytes, source: tuple[str, int], destination: object
    ) -> bool:
        return source == SERVER or source[0] == host or not listener.arriving

    def test_migration_during_the_handshake(self) -> None:
        """One that moves before its handshake is done is where it is then: counted there, or put out (COM-4)."""
        from ipaddress import ip_network

        for host, outcomes in (("203.0.113.5", []), ("198.18.0.1", [Outcome.BANNED])):
            network = self.network(AdmissionLimits(connection_rate=0, deny=(ip_network("198.18.0.0/16"),)))
            network.datagrams.latency = 0.05
            listener = self.listener(network)
            network.datagrams.watch = partial(self._one_packet_from_before, host, listener)
            connecting = self.dial(network, listener)
            network.advance(0.06)
            (arrival,) = listener.arriving
            assert isinstance(arrival, Arrival)
            (port,) = (port for address, port in network.datagrams.ports.items() if address != SERVER)
            port.move((host, 999))
            # What aioquic makes of the first packet from there that is not the last one of the handshake.
            arrival.session.address = (host, 999)
            arrival.session.owner.session_moved(arrival.session)
            network.advance(1)
            self.assertEqual(self.outcomes(network), outcomes)
            self.assertEqual([connection.peer.host for connection in listener.connections], [host][: not outcomes])
            connecting.addErrback(lambda failure: None)

    def test_migration_to_where_nobody_is_let_in(self) -> None:
        """One that appears where it is not let in is put out (COM-4)."""
        from ipaddress import ip_network

        network = self.network(AdmissionLimits(connection_rate=0, deny=(ip_network("203.0.113.0/24"),)))
        listener = self.listener(network)
        talker = self.login(network, listener)
        self.port_of(network, talker).move(("203.0.113.5", 999))
        talker.transport.write(b"ASK me\n")
        network.advance(2)
        self.assertEqual(self.outcomes(network), [Outcome.KICKED])


class ServiceTests(QuicCase):
    """Draining, settings, and mistakes of ours."""

    def test_drain(self) -> None:
        """A drain refuses newcomers, ends handshakes, and tells everybody who is in (COM-8)."""
        network = self.network()
        network.datagrams.latency = 0.02
        listener = self.listener(network)
        talker = self.login(network, listener)
        arriving = self.dial(network, listener)
        network.advance(0.03)
        self.assertEqual(len(listener.arriving), 1)
        done = listener.drain(5.0)
        self.assertFalse(listener.accepting)
        late = self.dial(network, listener)
        network.advance(3)
        self.assertTrue(talker.heard.endswith(b"BYE Server is shutting down\n"))
        self.assertIsNotNone(talker.lost)
        self.successResultOf(done)
        self.assertEqual(self.outcomes(network), [Outcome.SHUTDOWN, Outcome.SHUTDOWN])
        self.assertIsNotNone(self.successResultOf(arriving).lost)
        problem = self.failureResultOf(late, QuicConnectError)
        self.assertIn("CONNECTION_REFUSED", str(problem.value))
        self.assertNotIn(SERVER, network.datagrams.ports)

    def test_drain_has_a_limit(self) -> None:
        """Who does not listen is cut off at the limit."""
        network = self.network()
        listener = self.listener(network)
        self.login(network, listener)
        network.datagrams.watch = lambda datagram, source, destination: destination == SERVER
        done = listener.drain(0.5)
        network.advance(0.6)
        self.successResultOf(done)
        self.assertEqual(self.outcomes(network), [Outcome.SHUTDOWN])

    def test_reconfigure(self) -> None:
        """New settings are for new connections."""
        network = self.network()
        listener = self.listener(network)
        self.login(network, listener)
        self.assertTrue(listener.reconfigure(attrs.evolve(listener.settings, client_certificate="required")))
        talker = self.connect(network, listener)
        network.advance(1)
        self.assertIn("certificate required", str(talker.lost))
        self.assertFalse(listener.reconfigure(attrs.evolve(listener.settings, listen="udp:1")))

    def test_our_mistake(self) -> None:
        """An exception while the machine is made ends one connection, and counts."""
        network = self.network()
        listener = self.listener(network)

        def fail(handshake: object, now: float) -> object:
            raise RuntimeError("a mistake")

        self.patch(listener, "make_stream_machine", fail)
        self.connect(network, listener)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.outcomes(network), [Outcome.REFUSED])
        self.assertEqual(network.context.admission.open_connections, 0)

    def test_no_proxy_protocol(self) -> None:
        """PROXY headers are for streams: asking for them is a mistake in the configuration (COM-5)."""
        from tests.net.quic.toy import QuicToySettings

        with self.assertRaises(ValueError) as caught:
            QuicToySettings(proxy_protocol=True)
        self.assertIn("PROXY headers are for streams", str(caught.exception))
