"""Many TLS clients in one process, like :mod:`benchmarks.harness.clients`: non-blocking sockets and epoll."""

from __future__ import annotations

import errno
import select
import ssl
import time
from collections.abc import Callable

import attrs

from benchmarks.harness.clients import CONCURRENCY, TIMEOUT, Unexpected
from benchmarks.harness.sources import client_socket
from benchmarks.harness.usage import allow_descriptors

READ, WRITE = select.EPOLLIN, select.EPOLLOUT


@attrs.frozen
class Dialogue:
    """What a client says once TLS stands.

    :param greeting: what the client with that number says first; nothing: it is done with the handshake.
    :param expect: how many bytes answer it.
    :param respond: what a client that stays answers to what comes later.
    """

    greeting: Callable[[int], bytes] = lambda index: b""
    expect: int = 0
    respond: Callable[[bytes], bytes] = lambda data: b""


class _Client:
    """One connection: it connects, shakes hands, greets, and is done once it has its answer."""

    __slots__ = ("advance", "index", "received", "socket")

    def __init__(self, index: int, address: tuple[str, int], context: ssl.SSLContext) -> None:
        self.index = index
        self.received = b""
        plain = client_socket(index)
        status = plain.connect_ex(address)
        if status not in (0, errno.EINPROGRESS):
            raise Unexpected(f"client {index} cannot connect: {errno.errorcode.get(status, status)}")
        plain.settimeout(None)  # it connects before the handshake, and both are only a moment on loopback
        self.socket = context.wrap_socket(plain, do_handshake_on_connect=False)
        self.socket.setblocking(False)
        self.advance: Callable[[], bool] = self.shake_hands

    def shake_hands(self) -> bool:
        """Whether TLS stands."""
        self.socket.do_handshake()
        return True


class TLSClients:
    """TLS clients of one server, each from an address of its own; whose certificate it is, they do not ask.

    :param port: the server's, on 127.0.0.1.
    :param dialogue: what they say.
    """

    def __init__(self, port: int, dialogue: Dialogue) -> None:
        self._address = ("127.0.0.1", port)
        self._dialogue = dialogue
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._poll = select.epoll()
        self._known: dict[int, _Client] = {}
        self._held: set[int] = set()
        self._started = 0

    def exchange(self, count: int, concurrency: int = CONCURRENCY) -> float:
        """Let so many clients connect, say what they have to, and leave.

        :return: seconds that it took.
        """
        return self._run(count, concurrency, hold=False)

    def hold(self, count: int, concurrency: int = CONCURRENCY) -> float:
        """Let so many clients connect, say what they have to, and stay."""
        allow_descriptors(len(self._held) + count)
        return self._run(count, concurrency, hold=True)

    def stay(self, seconds: float) -> None:
        """Let those who stay answer what comes, for a while."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._turn(left)

    def leave(self) -> float:
        """Let all clients that stay leave."""
        began = time.monotonic()
        for descriptor in self._held:
            self._part(self._known[descriptor])
        self._held.clear()
        while self._known and time.monotonic() - began < TIMEOUT:
            self._turn(1.0)
        return time.monotonic() - began

    # Inside

    def _run(self, count: int, concurrency: int, *, hold: bool) -> float:
        began = time.monotonic()
        before, starting, target = len(self._held), 0, len(self._known) + (count if hold else 0)
        while starting < count or len(self._known) > target or (hold and len(self._held) < before + count):
            while starting < count and len(self._known) - len(self._held) < concurrency:
                self._connect(hold=hold)
                starting += 1
            self._turn(1.0)
            if time.monotonic() - began > TIMEOUT:
                raise Unexpected(f"{len(self._known) - len(self._held)} clients are not done after {TIMEOUT:g} s")
        return time.monotonic() - began

    def _connect(self, *, hold: bool) -> None:
        client = _Client(self._started, self._address, self._context)
        self._started += 1
        self._known[client.socket.fileno()] = client
        client.advance = lambda: self._shake_hands(client, hold)
        self._poll.register(client.socket.fileno(), WRITE)

    def _turn(self, seconds: float) -> None:
        for descriptor, _ in self._poll.poll(seconds):
            client = self._known.get(descriptor)
            if client is None:
                continue
            try:
                client.advance()
            except ssl.SSLWantReadError:
                self._poll.modify(descriptor, READ)
            except ssl.SSLWantWriteError:
                self._poll.modify(descriptor, WRITE)

    def _shake_hands(self, client: _Client, hold: bool) -> bool:
        client.shake_hands()
        self._poll.modify(client.socket.fileno(), READ)
        greeting = self._dialogue.greeting(client.index)
        if greeting:
            client.socket.send(greeting)
        client.advance = lambda: self._hear(client, hold)
        return not self._dialogue.expect and self._done(client, hold)

    def _hear(self, client: _Client, hold: bool) -> bool:
        data = client.socket.recv(65_536)
        if not data:
            raise Unexpected(f"the server closed on client {client.index} after {client.received!r}")
        client.received += data
        if len(client.received) < self._dialogue.expect:
            return False
        return self._done(client, hold)

    def _done(self, client: _Client, hold: bool) -> bool:
        if not hold:
            self._part(client)
            return True
        self._held.add(client.socket.fileno())
        client.advance = lambda: self._respond(client)
        said, client.received = client.received, b""
        self._answer(client, said)
        return True

    def _respond(self, client: _Client) -> bool:
        data = client.socket.recv(65_536)
        if not data:
            raise Unexpected(f"the server closed on client {client.index}, which was to stay")
        self._answer(client, data)
        return True

    def _answer(self, client: _Client, data: bytes) -> None:
        if data and (response := self._dialogue.respond(data)):
            client.socket.send(response)

    def _part(self, client: _Client) -> None:
        """Leave in good order: say so, and close when the server has said so too."""
        client.advance = lambda: self._unwrap(client)
        try:
            self._unwrap(client)
        except ssl.SSLWantReadError:
            self._poll.modify(client.socket.fileno(), READ)

    def _unwrap(self, client: _Client) -> bool:
        descriptor = client.socket.fileno()
        try:
            plain = client.socket.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:  # it closed without a word, or with something on its way
            client.socket.close()
        else:
            plain.close()
        self._known.pop(descriptor, None)
        return True
