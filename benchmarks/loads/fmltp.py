"""FmLTP clients, with as little work of their own as the protocol leaves them: one key pair for all."""

from __future__ import annotations

import base64
import selectors
import socket
import time
from collections.abc import Callable, Generator
from typing import Any

from cryptography.fernet import Fernet

from benchmarks.harness.control import Commands
from benchmarks.harness.sources import client_socket
from connectd.protocols.fmltp.exchange import compute_secret, derive_key, generate
from connectd.protocols.fmltp.groups import NAMED, Group
from connectd.protocols.fmltp.keys import KEY_LABELS, encode_public_key, parse_public_key
from connectd.protocols.fmltp.pem import PemReader

VERSION = b"FlexMusic benchmark,0.0.0\r\n"
END_OF_PEM = b"-----\n"
CONCURRENCY = 8
TIMEOUT = 120.0

Talk = Generator[tuple[bytes, Callable[[bytes], bool]], bytes, Any]
"""What a client says, and what tells whether the answer is whole; it is sent the answer."""


def channel_of(secret: bytes) -> Fernet:
    """The key of a channel."""
    return Fernet(base64.urlsafe_b64encode(derive_key(secret)))


class Handshakes:
    """Clients that go through the handshake and leave.

    :param port: the server's.
    :param group: that of its parameters.
    """

    def __init__(self, port: int, group: Group) -> None:
        self._port = port
        self._group = group
        self._pair = generate(group)
        self._key = encode_public_key(group, self._pair.public)
        self._started = 0

    def talk(self) -> Talk:
        """The handshake; gives the channel."""
        version = yield b"", _line
        yield VERSION, lambda data: data.endswith(END_OF_PEM)
        pem = yield self._key, lambda data: data.endswith(END_OF_PEM)
        block = PemReader(KEY_LABELS).read(bytearray(pem))
        assert block is not None
        secret = compute_secret(self._group, self._pair, parse_public_key(block[0], self._group))
        channel = channel_of(secret)
        token = yield channel.encrypt(version) + b"\r\n", _line
        if not channel.decrypt(token).startswith(b"100 FmLTP/1.0 Interpreter Ready"):
            raise AssertionError("this is no KEX_FINAL")
        return channel

    def exchange(self, count: int) -> float:
        """Let so many clients come and leave; seconds that it took."""
        return run(self._port, self.talk, count)


class BareHandshakes(Handshakes):
    """The same arithmetic with a server that has nothing but that."""

    def talk(self) -> Talk:
        size = self._group.size
        y = yield self._pair.public.to_bytes(size, "big"), lambda data: len(data) == size
        channel = channel_of(compute_secret(self._group, self._pair, int.from_bytes(y, "big")))
        token = yield channel.encrypt(VERSION) + b"\r\n", _line
        channel.decrypt(token)


def _line(data: bytes) -> bool:
    return data.endswith(b"\n")


class _Client:
    def __init__(self, index: int, port: int, talk: Talk) -> None:
        self.socket = client_socket(index)
        self.socket.setblocking(True)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(("127.0.0.1", port))
        self.received = b""
        self._talk: Talk | None = talk
        self._whole: Callable[[bytes], bool] = _line
        self._say(next(talk))

    def _say(self, step: tuple[bytes, Callable[[bytes], bool]]) -> None:
        said, self._whole = step
        if said:
            self.socket.sendall(said)

    def readable(self) -> bool:
        """Whether it is gone."""
        data = self.socket.recv(262_144)
        if self._talk is None:
            return not data
        if not data:
            raise AssertionError(f"the server closed after {self.received!r}")
        self.received += data
        if self._whole(self.received):
            received, self.received = self.received, b""
            try:
                self._say(self._talk.send(received))
            except StopIteration:
                self._talk = None
                self.socket.shutdown(socket.SHUT_WR)
        return False


def run(port: int, talk: Callable[[], Talk], count: int) -> float:
    """Let clients talk, a few at a time."""
    began = time.monotonic()
    selector = selectors.DefaultSelector()
    started = running = 0
    while started < count or running:
        while started < count and running < CONCURRENCY:
            client = _Client(started, port, talk())
            selector.register(client.socket, selectors.EVENT_READ, client)
            started, running = started + 1, running + 1
        for key, _ in selector.select(TIMEOUT):
            if key.data.readable():
                selector.unregister(key.data.socket)
                key.data.socket.close()
                running -= 1
        if time.monotonic() - began > TIMEOUT:
            raise AssertionError(f"{running} clients are not done after {TIMEOUT:g} s")
    selector.close()
    return time.monotonic() - began


class Channel(Handshakes):
    """One client that stays, and moves much."""

    def open(self) -> tuple[socket.socket, Fernet]:
        """A connection whose handshake is done."""
        talk = self.talk()
        client = _Client(0, self._port, talk)
        while True:
            client.received += client.socket.recv(262_144)
            if client._whole(client.received):
                received, client.received = client.received, b""
                try:
                    client._say(talk.send(received))
                except StopIteration as end:
                    return client.socket, end.value

    def receive(self, size: int, count: int) -> int:
        """Ask for so many replies of so many bytes, a few at a time; gives how many bytes of plaintext came."""
        connection, channel = self.open()
        asked = answered = 0
        while answered < count:
            while asked < count and asked - answered < 4:
                connection.sendall(channel.encrypt(b"BLOB %d" % size) + b"\r\n")
                asked += 1
            answered += connection.recv(262_144).count(b"\n")
        connection.close()
        return size * count

    def send(self, size: int, count: int) -> int:
        """Send so many commands of so many bytes, each of which is answered shortly."""
        connection, channel = self.open()
        commands = [channel.encrypt(b"TAKE " + b"x" * size) + b"\r\n" for _ in range(count)]
        sent = answered = 0
        while answered < count:
            while sent < count and sent - answered < 4:
                connection.sendall(commands[sent])
                sent += 1
            answered += connection.recv(262_144).count(b"\n")
        connection.close()
        return size * count


def load(port: int, group: str = "ffdhe2048", bare: bool = False) -> Commands:
    """Give the commands."""
    handshakes = (BareHandshakes if bare else Handshakes)(port, NAMED[group])
    channel = Channel(port, NAMED[group])
    return {"exchange": handshakes.exchange, "receive": channel.receive, "send": channel.send}
