"""What connectd uses of aioquic without being promised it. A new version of aioquic that fails here needs a look at
``connectd/net/quic_private.py`` before it is let in (setup.cfg)."""

from __future__ import annotations

import inspect
import logging
import re
import ssl
from typing import Any

import aioquic.quic.connection
from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.buffer import encode_uint_var
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicConnectionError, QuicReceiveContext
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.stream import QuicStreamReceiver, QuicStreamSender
from twisted.trial.unittest import SynchronousTestCase

from connectd.net import quic_private
from connectd.net.quic_private import MAX_BURST, MAX_CRYPTO, BoundedConnection, Bounds, alert_name, encode_initial_close
from tests.net.quic.toy import ALPN, identity

SERVER, CLIENT = ("198.51.100.1", 5520), ("192.0.2.1", 4000)


class Pair:
    """Two connections in memory, at least one of them bounded."""

    def __init__(self, *, ask: bool = False, bounds: Bounds = Bounds(10_000, 5_000), **client: Any) -> None:  # noqa: B008
        self.now = 100.0
        shown = identity()
        options: dict[str, Any] = {"is_client": True, "alpn_protocols": [ALPN], "verify_mode": ssl.CERT_NONE, **client}
        self.client = QuicConnection(configuration=QuicConfiguration(**options))
        self.client.connect(SERVER, self.now)
        self.server = BoundedConnection(
            configuration=QuicConfiguration(
                is_client=False, alpn_protocols=[ALPN], certificate=shown.leaf, private_key=shown.key
            ),
            bounds=bounds,
            ask_for_certificate=ask,
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self.events: dict[bool, list[Any]] = {True: [], False: []}

    def pump(self, seconds: float = 0.2) -> None:
        """Let them talk."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.002
            for sender, receiver, address in ((self.client, self.server, CLIENT), (self.server, self.client, SERVER)):
                timer = sender.get_timer()
                if timer is not None and timer <= self.now:
                    sender.handle_timer(self.now)
                if sender._network_paths:
                    for datagram, _ in sender.datagrams_to_send(self.now):
                        receiver.receive_datagram(datagram, address, self.now)
                while (event := receiver.next_event()) is not None:
                    self.events[receiver is self.client].append(event)

    def of_server(self, kind: type[Any]) -> list[Any]:
        """The server's events of a kind."""
        return [event for event in self.events[False] if isinstance(event, kind)]


class NameTests(SynchronousTestCase):
    """The private names are there, and are what they were."""

    def test_methods(self) -> None:
        """Every method that is overridden exists, with the same parameters."""
        for name, method in inspect.getmembers(BoundedConnection, inspect.isfunction):
            if name in BoundedConnection.__dict__ and name.startswith("_") and name not in ("__init__", "_set_limit"):
                overridden = getattr(QuicConnection, name)
                self.assertEqual(
                    list(inspect.signature(method).parameters), list(inspect.signature(overridden).parameters), name
                )

    def test_attributes(self) -> None:
        """Every private attribute that is used is set by aioquic."""
        source = inspect.getsource(quic_private)
        sources = "".join(
            inspect.getsource(module) for module in (aioquic.quic.connection, aioquic.quic.stream, aioquic.tls)
        ) + inspect.getsource(aioquic.quic.recovery)
        own = {"_ask_for_certificate", "_set_limit", "_BurstPacer"}
        used = set(re.findall(r"\._[a-z]\w+", source)) | set(re.findall(r"def (_[a-z]\w+)", source))
        for name in sorted({name.lstrip(".") for name in used} - own):
            self.assertRegex(sources, rf"\b{name}\b", name)

    def test_nobody_else(self) -> None:
        """No other module touches a private name of aioquic's."""
        from pathlib import Path

        import connectd

        names = "_streams _network_paths _loss _state _close_event _host_cids _cryptos _spaces _peer_certificate"
        pattern = re.compile(rf"quic\.(?:{'|'.join(names.split())})\b")
        for path in Path(connectd.__file__).parent.rglob("*.py"):
            if path.name != "quic_private.py":
                self.assertIsNone(pattern.search(path.read_text()), path)

    def test_logging(self) -> None:
        """What aioquic has to say about peers does not end up on standard error."""
        self.assertTrue(logging.getLogger("quic").hasHandlers())

    def test_alerts(self) -> None:
        """TLS alerts have names."""
        self.assertEqual(alert_name(0x100 + 42), "bad certificate")
        self.assertIsNone(alert_name(0x100 + 255))
        self.assertEqual(int(tls.AlertDescription.certificate_required), 116)
        self.assertEqual(int(tls.AlertDescription.no_application_protocol), 120)


class HandshakeTests(SynchronousTestCase):
    """A connection from its first packet on."""

    def test_states(self) -> None:
        """What is known about a connection changes as it goes."""
        pair = Pair()
        self.assertEqual((pair.server.started, pair.server.address_validated), (False, False))
        self.assertIsNone(pair.server.negotiated_alpn)
        self.assertEqual(pair.server.version, 0)
        pair.pump()
        self.assertTrue(pair.server.started)
        self.assertTrue(pair.server.address_validated)
        self.assertEqual((pair.server.negotiated_alpn, pair.server.version), (ALPN, 1))
        self.assertEqual(pair.server.chosen_id, pair.client.original_destination_connection_id)
        self.assertEqual(len(pair.server.connection_ids), 8)
        self.assertFalse(pair.server.ending)
        self.assertEqual(len(pair.of_server(HandshakeCompleted)), 1)
        pair.client.close(error_code=5, reason_phrase="enough")
        pair.pump(0.004)
        self.assertTrue(pair.server.ending)
        self.assertTrue(pair.server.closed_by_peer)
        closing = pair.server.closing
        assert closing is not None
        self.assertEqual((closing.error_code, closing.frame_type, closing.reason_phrase), (5, None, "enough"))

    def test_certificates(self) -> None:
        """A server that asks gets the client's certificate, or nothing."""
        own = identity("client.example")
        shown = {"certificate": own.leaf, "private_key": own.key}
        for ask, options, expected in ((True, shown, own.certificate), (True, {}, None), (False, shown, None)):
            pair = Pair(ask=ask, **options)
            pair.pump()
            self.assertEqual(len(pair.of_server(HandshakeCompleted)), 1)
            self.assertEqual(pair.server.peer_certificate, expected)

    def test_buffers_are_freed(self) -> None:
        """The 48 KiB of a handshake's buffers do not outlive it, and what comes after it does no harm."""
        pair = Pair()
        pair.pump()
        self.assertEqual(pair.server._crypto_buffers, {})
        pair.client._crypto_streams[tls.Epoch.ONE_RTT].sender.write(b"\x18\0\0\1\0")
        pair.pump()
        (end,) = pair.of_server(ConnectionTerminated)
        self.assertEqual(end.error_code, QuicErrorCode.CRYPTO_ERROR + 10)

    def test_long_handshake(self) -> None:
        """A handshake of more than 64 KiB is cut off, in order or not, and not kept (COM-2)."""
        pair = Pair()
        pair.pump(0.004)
        server = pair.server
        context = QuicReceiveContext(
            epoch=tls.Epoch.INITIAL,
            host_cid=b"",
            network_path=server._network_paths[0],
            quic_logger_frames=None,
            time=pair.now,
            version=1,
        )
        last = encode_uint_var(MAX_CRYPTO - 1) + encode_uint_var(1) + b"x"
        server._handle_crypto_frame(context, 6, Buffer(data=last))
        beyond = encode_uint_var(MAX_CRYPTO) + encode_uint_var(1) + b"x"
        with self.assertRaises(QuicConnectionError) as caught:
            server._handle_crypto_frame(context, 6, Buffer(data=beyond))
        self.assertEqual(caught.exception.error_code, QuicErrorCode.CRYPTO_BUFFER_EXCEEDED)

    def test_refusal(self) -> None:
        """A refusal without state is understood by a client."""
        client = Pair().client
        ((datagram, _),) = client.datagrams_to_send(100.0)
        destination = datagram[6:14]
        source = datagram[15:23]
        close = encode_initial_close(1, destination, source, QuicErrorCode.CONNECTION_REFUSED)
        self.assertLess(len(close), 100)
        client.receive_datagram(close, SERVER, 100.1)
        client.handle_timer(200.0)
        event = client.next_event()
        assert isinstance(event, ConnectionTerminated)
        self.assertEqual(event.error_code, QuicErrorCode.CONNECTION_REFUSED)


class StreamTests(SynchronousTestCase):
    """Flow control by what is consumed."""

    def test_sender(self) -> None:
        """What the counts are made of."""
        sender = QuicStreamSender(0, True)
        sender.write(b"x" * 10)
        self.assertEqual((sender._buffer_start, sender._buffer_stop, sender.highest_offset), (0, 10, 0))
        sender.get_frame(4)
        self.assertEqual(sender.highest_offset, 4)

    def test_receiver(self) -> None:
        """A receiver knows whether it is finished."""
        self.assertFalse(QuicStreamReceiver(0, True).is_finished)

    def test_windows(self) -> None:
        """A peer may send the window, and as much more as was consumed, whatever half of it that is."""
        pair = Pair()
        pair.pump()
        pair.client.send_stream_data(0, bytes(50_000))
        pair.pump()
        received = pair.server._streams[0].receiver.highest_offset
        self.assertEqual(received, 10_000)
        self.assertFalse(pair.server.let_send(0, 10_000, 1))
        self.assertFalse(pair.server.let_send(0, 10_004, 5))
        self.assertTrue(pair.server.let_send(0, 15_000, 5))
        pair.pump()
        self.assertEqual(pair.server._streams[0].receiver.highest_offset, 15_000)
        self.assertFalse(pair.server.let_send(4, 1, 0))

    def test_lost_update(self) -> None:
        """An update of the window that got lost is sent again."""
        pair = Pair()
        pair.pump()
        pair.client.send_stream_data(0, bytes(50_000))
        pair.pump()
        pair.server.let_send(0, 20_000, 1)
        pair.server.datagrams_to_send(pair.now)
        pair.pump(2)
        self.assertEqual(pair.server._streams[0].receiver.highest_offset, 20_000)

    def test_in_flight(self) -> None:
        """No more than the send window is on its way."""
        pair = Pair()
        pair.pump()
        pair.client.send_stream_data(0, b"x")
        pair.pump()
        pair.server.send_stream_data(0, bytes(100_000))
        self.assertEqual(pair.server.unsent(0), 100_000)
        for step in range(10):
            pair.server.datagrams_to_send(pair.now + step / 100)
        self.assertEqual(pair.server.unacknowledged(0) - pair.server.unsent(0), 5_000)
        self.assertEqual(pair.server.acknowledged(0), 0)
        pair.pump(3)
        self.assertEqual(pair.server.acknowledged(0), 100_000)
        self.assertEqual((pair.server.unsent(4), pair.server.unacknowledged(4), pair.server.acknowledged(4)), (0, 0, 0))
        self.assertEqual((pair.server.is_open(0), pair.server.is_open(4)), (True, False))

    def test_limits_are_announced(self) -> None:
        """A peer knows from the beginning how much it may do, and is never let open more streams."""
        pair = Pair()
        pair.pump()
        client = pair.client
        self.assertEqual((client._remote_max_streams_bidi, client._remote_max_streams_uni), (1, 0))
        self.assertEqual((client._remote_max_data, client._remote_max_stream_data_bidi_remote), (10_000, 10_000))
        client.send_stream_data(0, b"x", end_stream=True)
        pair.pump()
        pair.server.send_stream_data(0, b"y", end_stream=True)
        pair.pump(1)
        self.assertFalse(pair.server.is_open(0))
        self.assertEqual(client._remote_max_streams_bidi, 1)

    def test_no_early_data(self) -> None:
        """There are no session tickets, and so no 0-RTT (AL-3)."""
        tickets: list[Any] = []
        pair = Pair()
        pair.client._session_ticket_handler = tickets.append
        pair.client.tls.new_session_ticket_cb = tickets.append
        pair.pump(1)
        self.assertEqual(tickets, [])

    def test_bursts(self) -> None:
        """Bursts are limited to 64 KiB, and to a quarter of the congestion window."""
        pacer = Pair().server._loss._pacer
        pacer.update_rate(congestion_window=1 << 24, smoothed_rtt=0.1)
        self.assertAlmostEqual(pacer.bucket_max * (1 << 24) / 0.1, MAX_BURST)
        pacer.update_rate(congestion_window=12_000, smoothed_rtt=0.1)
        self.assertAlmostEqual(pacer.bucket_max * 12_000 / 0.1, 3000)

    def test_acknowledgements(self) -> None:
        """They go out with the next datagram, or after the time that was said."""
        pair = Pair()
        pair.pump()
        pair.client.send_stream_data(0, b"x")
        ((datagram, _),) = pair.client.datagrams_to_send(pair.now)
        pair.server.receive_datagram(datagram, CLIENT, pair.now)
        self.assertEqual(len(pair.server.datagrams_to_send(pair.now)), 1)
        pair.server.acknowledge_after(0.5)
        pair.client.send_stream_data(0, b"x")
        ((datagram, _),) = pair.client.datagrams_to_send(pair.now + 0.1)
        pair.server.receive_datagram(datagram, CLIENT, pair.now + 0.1)
        self.assertEqual(pair.server.datagrams_to_send(pair.now + 0.1), [])
        self.assertEqual(len(pair.server.datagrams_to_send(pair.now + 0.7)), 1)

    def test_validated_by_token(self) -> None:
        """An address that is known to be right may be sent any amount."""
        pair = Pair()
        for datagram, _ in pair.client.datagrams_to_send(pair.now):
            pair.server.receive_datagram(datagram, CLIENT, pair.now)
        self.assertFalse(pair.server.address_validated)
        pair.server.validate_address()
        self.assertTrue(pair.server.address_validated)
