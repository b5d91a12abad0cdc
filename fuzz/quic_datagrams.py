"""A QUIC server's socket: datagrams of any kind, and clients that hold the keys and break the rules inside of them."""

from __future__ import annotations

import random
import ssl
from typing import Any

from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from connectd.net.certificates import make_certificate
from connectd.net.connection import Peer
from connectd.net.quic.ending import Ending
from connectd.net.quic.identity import Identity
from connectd.net.quic.parameters import ServerParameters, server_configuration
from connectd.net.quic.server import ServerEndpoint
from connectd.net.quic.session import Session
from connectd.net.quic_private import MAX_CRYPTO, Bounds
from fuzz.script import Script, chunk
from fuzz.watched import require

ALPN = "fuzz"
SERVER = ("198.51.100.1", 5520)
WINDOW = 4096
THRESHOLD = 8
IDENTITY = Identity.from_pem(make_certificate(["localhost"]))
CONFIGURATION = server_configuration(
    ServerParameters(alpn=(ALPN,), identity=lambda: IDENTITY), IDENTITY, idle_timeout=30.0, max_datagram_size=1200
)
IDLE = 120.0
"""Seconds after which nothing of anybody may be left."""


FAILURES: list[Any] = []
"""What was logged as a mistake of ours: an endpoint lets none of them out."""


@implementer(ILogObserver)
class _Note:
    """Keeps them."""

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event:
            FAILURES.append(event["log_failure"].value)


globalLogPublisher.addObserver(_Note())


class _Listener:
    """The gate, the owner of all sessions, their protocol and the socket: everything that a server has around it."""

    accepting = True
    retry_threshold = THRESHOLD

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000.0)
        self.sent: list[tuple[bytes, Any]] = []
        self.admitted = 0
        self.sessions: dict[Session, bool] = {}
        self.endpoint = ServerEndpoint(self.clock, self)
        socket: Any = self
        self.endpoint.makeConnection(socket)

    def send(self, datagrams: list[tuple[bytes, Any]]) -> None:
        self.sent += datagrams

    def configure(self) -> tuple[QuicConfiguration, Bounds, bool]:
        return CONFIGURATION, Bounds(WINDOW, WINDOW), True

    def admit_peer(self, peer: Peer, now: float) -> bool:
        self.admitted += 1
        return True

    def release_peer(self, peer: Peer) -> None:
        self.admitted -= 1

    def arrived(self, session: Session, peer: Peer, now: float) -> _Listener:
        require(session not in self.sessions, "a session arrives once")
        self.sessions[session] = False
        return self

    def handshake_completed(self, session: Session, alpn: str | None) -> None:
        require(not self.sessions[session], "a handshake is completed once, before the end")
        self.sessions[session] = True
        session.stream(0, WINDOW).protocol = self

    def session_ended(self, session: Session, ending: Ending) -> None:
        require(session in self.sessions, "a session ends once, after its arrival")
        require(ending.reason.isprintable(), "COM-7: the reason is one line of plain text", ending.reason)
        del self.sessions[session]
        self.admitted -= 1

    def session_moved(self, session: Session) -> None: ...

    def dataReceived(self, data: bytes) -> None:
        require(len(data) <= 2 * WINDOW, "COM-2: no more at once than was allowed", len(data))

    def connectionLost(self, reason: object) -> None: ...

    def settle(self) -> list[tuple[bytes, Any]]:
        """Let the server do what it has to do; what it sent."""
        self.clock.advance(0)
        for session in self.sessions:
            held = sum(len(stream.sender._buffer) for stream in session.quic._streams.values())
            require(held <= WINDOW, "COM-2: what is held to be sent is bounded", held)
            for stream in session.quic._crypto_streams.values():
                require(len(stream.receiver._buffer) <= MAX_CRYPTO, "COM-2: a handshake is bounded")
        require(self.endpoint.unvalidated <= THRESHOLD, "AL-3: Retry keeps unvalidated connections few")
        failures = FAILURES.copy()
        FAILURES.clear()
        for failure in failures:
            raise failure
        sent, self.sent = self.sent, []
        return sent


class _Client:
    """A client whose keys the fuzzer has."""

    def __init__(self, index: int) -> None:
        self.address = ("192.0.2.1", 1000 + index)
        self.quic = QuicConnection(
            configuration=QuicConfiguration(is_client=True, alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE)
        )

    def exchange(self, server: _Listener) -> None:
        """One flight each way."""
        now = server.clock.seconds()
        if not self.quic._connect_called:
            self.quic.connect(SERVER, now)
        for datagram, _ in self.quic.datagrams_to_send(now):
            server.endpoint.datagramReceived(datagram, self.address)
        for datagram, address in server.settle():
            if address == self.address:
                self.quic.receive_datagram(datagram, SERVER, now)
        while self.quic.next_event() is not None:
            pass

    def forge(self, payload: bytes) -> bytes:
        """A packet with this payload, of the kind that the client has come to."""
        quic = self.quic
        if not quic._connect_called:
            quic.connect(SERVER, 0.0)
        quic._packet_number += 1
        number = quic._packet_number.to_bytes(8, "big")[-2:]
        payload = payload.ljust(4, b"\0")
        crypto = quic._cryptos[tls.Epoch.ONE_RTT]
        if crypto.send.is_valid():
            return bytes(crypto.encrypt_packet(b"\x41" + quic._peer_cid.cid + number, payload, quic._packet_number))
        initial: CryptoPair = quic._cryptos[tls.Epoch.INITIAL]
        if not initial.send.is_valid():
            return b""
        payload = payload.ljust(1200, b"\0")
        ids = bytes((len(quic._peer_cid.cid),)) + quic._peer_cid.cid + bytes((len(quic.host_cid),)) + quic.host_cid
        length = (len(payload) + 2 + 16 | 0x4000).to_bytes(2, "big")
        header = b"\xc1\0\0\0\1" + ids + b"\0" + length + number
        return bytes(initial.encrypt_packet(header, payload, quic._packet_number))


def one_input(data: bytes) -> None:
    """A script of datagrams, flights, forged packets and time."""
    script = Script(data)
    server = _Listener()
    clients: list[_Client] = []
    raw = random.Random(data)
    steps = 0
    while script.left and steps < 40:
        steps += 1
        code = script.byte()
        if not clients or (code % 8 == 0 and len(clients) < 12):
            clients.append(_Client(len(clients)))
        client = clients[code // 8 % len(clients)]
        match code % 8:
            case 0 | 1 | 2:
                client.exchange(server)
            case 3 | 4:
                server.endpoint.datagramReceived(client.forge(script.chunk()), client.address)
            case 5:
                datagram = script.chunk()
                server.endpoint.datagramReceived(datagram, client.address)
                known = list(server.endpoint.routes)
                if known:
                    place = known[script.byte() % len(known)]
                    server.endpoint.datagramReceived(bytes((script.byte() | 0x40,)) + place + datagram, client.address)
            case 6:
                start = bytes((script.byte() | 0x80,)) + script.take(4).ljust(4, b"\1") + b"\x08"
                server.endpoint.datagramReceived(start + raw.randbytes(1200), client.address)
            case _:
                server.clock.advance(script.byte() / 20)
                client.address = (client.address[0], client.address[1] + 100 * (code // 64))
        server.settle()
    for _ in range(int(IDLE / 2)):
        server.clock.advance(2.0)
        server.settle()
    require(not server.sessions and not server.admitted, "COM-7: everybody has an end", server.sessions)
    require(not server.endpoint.routes, "nobody is left", server.endpoint.routes)
    require(server.endpoint.unvalidated == 0 and not len(server.endpoint.timers), "nothing is left")


FRAMES = (
    bytes.fromhex("0a000568656c6c6f"),  # STREAM
    bytes.fromhex("0e0080000fff0178"),  # STREAM, at the end of the window
    bytes.fromhex("0e0080001000017801"),  # STREAM, beyond it
    bytes.fromhex("0b0400"),  # a second stream
    bytes.fromhex("06000010") + bytes(16),  # CRYPTO
    bytes.fromhex("0680010000017800"),  # CRYPTO, far out
    bytes.fromhex("0400000005"),  # RESET_STREAM
    bytes.fromhex("050000"),  # STOP_SENDING
    bytes.fromhex("1c00000474657374"),  # CONNECTION_CLOSE
    bytes.fromhex("1801000800112233445566778899aabbccddeeff0011223344556677"),  # NEW_CONNECTION_ID
    bytes.fromhex("1900"),  # RETIRE_CONNECTION_ID
    bytes.fromhex("1a0011223344556677"),  # PATH_CHALLENGE
    bytes.fromhex("02ff000000"),  # ACK of what was never sent
    bytes.fromhex("1e"),  # HANDSHAKE_DONE, from the wrong side
)

SEEDS = (
    b"\0\1\2" + b"".join(b"\3" + chunk(frame) for frame in FRAMES[:2]) + b"\7\x20",
    *(b"\0\1\2\3" + chunk(frame) + b"\7\x20" for frame in FRAMES),
    b"\3" + chunk(FRAMES[4]) + b"\7\xff",
    b"\3" + chunk(FRAMES[5]) + b"\7\xff",
    b"\0" * 11 + b"\6\x43\0\0\0\1\6\x03\xff\xff\xff\xff",
    b"\0\1\2\5" + chunk(bytes(40)) + b"\1\0" + b"\x47\x10\2\3" + chunk(FRAMES[0]),
)
