"""Starbound clients, as cheap as they can be: the challenge is always the same, and so is the answer."""

from __future__ import annotations

import base64
import hashlib
import select
import socket
import threading
import time
from itertools import count
from typing import Any

from benchmarks.harness.clients import Clients, Step, Unexpected
from benchmarks.harness.control import Commands
from benchmarks.harness.sources import client_socket
from connectd.protocols.starbound.frames import Frame
from connectd.protocols.starbound.generations import GENERATIONS
from connectd.protocols.starbound.hashing import encode_legacy_response, legacy_hash, modern_hash
from connectd.protocols.starbound.packets import ClientConnect, ConnectionResponse, HandshakeResponse, ProtocolRequest
from connectd.protocols.starbound.zstd_stream import Encoder

ACCOUNT, PASSWORD = "Ann", "correct horse"
ROUNDS = 5000
SALT = bytes(range(32))
"""What a server's random bytes begin with."""

TIMEOUT = 60.0
"""Seconds that anything may take."""

PACKET = 1024
"""Bytes of a packet's payload."""

ECHO = 11
"""The number of the packets that are echoed."""

_SEED = GENERATIONS["seed"]
_OPENSB = GENERATIONS["opensb"]


def _connect_frame(ship: int, compressed: bool = False) -> bytes:
    world = bytes(hashlib.shake_128(b"ship").digest(ship)) if ship else b""
    return _SEED.encode(
        ClientConnect(name="Bob", species="human", account=ACCOUNT, shipworld=world), compressed=compressed
    )


def _response() -> bytes:
    secret = hashlib.sha256(PASSWORD.encode()).digest()
    digest = legacy_hash(secret, ACCOUNT.encode() + base64.b64encode(SALT[:24]), ROUNDS)
    return _SEED.encode(HandshakeResponse(encode_legacy_response(digest)))


def _accepted(data: bytearray) -> bool:
    """Whether a ConnectionResponse is whole; it says how long it is, and whether the player is in."""
    if len(data) < 3:
        return False
    if data[0] != _SEED.number(ConnectionResponse) or not data[2]:
        raise Unexpected(f"not accepted: {bytes(data)!r}")
    return len(data) >= 2 + data[1] // 2


def login_steps(ship: int = 0, compressed: bool = False) -> tuple[Step, ...]:
    """A whole login where the server speaks first.

    :param ship: bytes of the shipworld, which do not compress.
    :param compressed: send it as a zlib frame.
    """
    return (Step(b"", 6), Step(_connect_frame(ship, compressed), 40), Step(_response(), _accepted))


def _whole_frame(data: bytearray) -> bool:
    """Whether a frame of less than 64 bytes is there."""
    return len(data) >= 2 and len(data) >= 2 + (data[1] + 1) // 2


class OpenLogin:
    """Logins of OpenStarbound clients. After the first packet both sides speak zstd, one stream for each connection.

    Each client has a UUID of its own. What the stream says after that is the same bytes for all.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        encoder = Encoder()
        encoder.encode(self._player())
        digest = modern_hash(PASSWORD.encode(), ACCOUNT, SALT[:16])
        request = _OPENSB.encode(ProtocolRequest(_OPENSB.version), compressed=True)
        response = encoder.encode(_OPENSB.encode(HandshakeResponse(digest)))
        self.steps = (
            Step(request, _whole_frame),
            Step(lambda answer: Encoder().encode(self._player()), bool),
            Step(response, bool),
        )

    def _player(self) -> bytes:
        uuid = hashlib.sha256(b"%d" % next(self._numbers)).digest()[:16]
        return _OPENSB.encode(ClientConnect(name="Bob", species="human", account=ACCOUNT, uuid=uuid))


class Session:
    """One accepted player where the server speaks first, on a blocking socket.

    :param address: the server's.
    :param index: its own address, of :func:`benchmarks.harness.sources.source`.
    """

    def __init__(self, address: tuple[str, int], index: int) -> None:
        self.socket = client_socket(index)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.receive(6)
        self.socket.sendall(_connect_frame(0))
        self.receive(40)
        self.socket.sendall(_response())
        data = bytearray()
        while not _accepted(data):
            data += self.receive(1)

    def receive(self, size: int) -> bytes:
        """So many bytes."""
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise Unexpected(f"the server closed after {data!r}")
            data += piece
        return data


class Load:
    """What a benchmark can ask for.

    :param port: the server's, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._clients = Clients(port)
        self._sink: socket.socket | None = None

    def logins(self, count: int, ship: int = 0, compressed: bool = False) -> float:
        """Let so many clients log in and leave."""
        return self._clients.exchange(login_steps(ship, compressed), count, 32)

    def open_logins(self, count: int) -> float:
        """Let so many OpenStarbound clients log in and leave."""
        return self._clients.exchange(OpenLogin().steps, count, 32)

    def answers(self, count: int) -> float:
        """Let so many clients make the round trips of such a login with the bare server."""
        steps = (Step(bytes(14), 51), Step(bytes(70), 30), Step(bytes(44), 60))
        return self._clients.exchange(steps, count, 32)

    def rush(self, count: int) -> list[float]:
        """Let so many clients connect, and log in all at once.

        :return: seconds that each took, from the moment that all of them began.
        """
        poll, began = select.epoll(), time.perf_counter()
        waiting: dict[int, tuple[socket.socket, int, bytearray]] = {}
        for index in range(count):
            client = client_socket(10_000 + index)
            client.connect_ex(self._address)
            waiting[client.fileno()] = (client, 0, bytearray())
            poll.register(client.fileno(), select.EPOLLIN)
        connect, response, times = _connect_frame(0), _response(), []
        while waiting:
            if time.perf_counter() - began > TIMEOUT:
                raise Unexpected(f"{len(waiting)} of {count} logins are not done after {TIMEOUT:g} s")
            for descriptor, _ in poll.poll(1.0):
                client, step, received = waiting[descriptor]
                data = client.recv(65_536)
                if not data:
                    raise Unexpected(f"the server closed in step {step} after {bytes(received)!r}")
                received += data
                if step == 2:
                    if _accepted(received):
                        times.append(time.perf_counter() - began)
                        poll.unregister(descriptor)
                        client.close()
                        del waiting[descriptor]
                elif len(received) >= (6, 40)[step]:
                    client.send((connect, response)[step])
                    waiting[descriptor] = (client, step + 1, bytearray())
        return times

    def rushes(self, seconds: float, size: int) -> int:
        """Rush after rush, for so long.

        :return: how many logins that were.
        """
        logins, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            logins += len(self.rush(size))
        return logins

    def echoes(self, seconds: float, rate: float) -> list[float]:
        """Have one session echoed again and again.

        :param rate: echoes asked for in a second.
        :return: seconds that each answer took, from when it was due.
        """
        session = Session(self._address, 9_999)
        frame = Frame(ECHO, b"are you there").encode()
        times: list[float] = []
        due = time.perf_counter()
        end = due + seconds
        while due < end:
            due += 1 / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            session.socket.sendall(frame)
            session.receive(len(frame))
            times.append(time.perf_counter() - due)
        session.socket.close()
        return times

    # Frames

    def backend(self) -> int:
        """Be a backend that reads and drops; its port."""
        self._sink = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._drop, daemon=True).start()
        port: int = self._sink.getsockname()[1]
        return port

    def _drop(self) -> None:
        assert self._sink is not None
        while True:
            client, _ = self._sink.accept()
            with client:
                while client.recv(1 << 20):
                    pass

    def begin_session(self) -> None:
        """Log in, to send frames."""
        self._session = Session(self._address, 9_998)

    def frames(self, count: int, echoed: bool) -> float:
        """Send so many packets of 1 KiB.

        :param echoed: wait for them to come back.
        """
        client, frame = self._session.socket, Frame(ECHO, bytes(PACKET)).encode()
        batch = frame * 64
        began = time.monotonic()
        reading: Any = None
        if echoed:
            reading = threading.Thread(target=self._read, args=(count * len(frame),))
            reading.start()
        for _ in range(count // 64):
            client.sendall(batch)
        if reading is not None:
            reading.join(TIMEOUT)
        return time.monotonic() - began

    def _read(self, size: int) -> None:
        while size:
            data = self._session.socket.recv(1 << 20)
            if not data:
                return
            size -= len(data)


def load(port: int) -> Commands:
    """Give the commands."""
    clients = Load(port)
    return {
        name: getattr(clients, name)
        for name in ("logins", "open_logins", "answers", "rush", "rushes", "echoes", "begin_session", "frames")
    }


def serve_backend() -> Commands:
    """A process that is a backend, and nothing else."""
    return {"port": Load(0).backend}
