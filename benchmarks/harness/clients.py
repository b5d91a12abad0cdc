"""Many TCP clients in one process: raw sockets and epoll, as cheap as Python allows: the server is to be the slow part.

No connection is reset: a client finishes its half, reads until the server has finished the other, and closes then.
"""

from __future__ import annotations

import errno
import select
import time
from collections.abc import Callable, Sequence

import attrs

from benchmarks.harness.sources import client_socket
from benchmarks.harness.usage import allow_descriptors

TIMEOUT = 120.0
"""Seconds that one run may take."""

CONCURRENCY = 64
"""Connections that are on their way at once."""


@attrs.frozen
class Step:
    """What a client says, and how much it waits for.

    :param send: the bytes it sends, or what makes them of the answer to the step before.
    :param expect: how many bytes answer them, or what tells from all bytes since whether the answer is whole.
    """

    send: bytes | Callable[[bytes], bytes]
    expect: int | Callable[[bytearray], bool]


class Unexpected(Exception):
    """The server did something that no benchmark asks for."""


class _Client:
    __slots__ = ("answer", "index", "received", "socket", "step")

    def __init__(self, index: int, address: tuple[str, int]) -> None:
        self.index = index
        self.step = -1
        self.answer = b""
        self.received = bytearray()
        self.socket = client_socket(index)
        status = self.socket.connect_ex(address)
        if status not in (0, errno.EINPROGRESS):
            raise Unexpected(f"client {index} cannot connect: {errno.errorcode.get(status, status)}")


class Clients:
    """Clients of one server, each from an address of its own.

    :param port: the server's, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._poll = select.epoll()
        self._known: dict[int, _Client] = {}
        self._held: list[_Client] = []
        self._started = 0

    def exchange(self, steps: Sequence[Step], count: int, concurrency: int = CONCURRENCY) -> float:
        """Let so many clients connect, go through the steps, and leave.

        :return: seconds that it took.
        """
        return self._run(steps, count, concurrency, hold=False)

    def hold(self, steps: Sequence[Step], count: int, concurrency: int = CONCURRENCY) -> float:
        """Let so many clients connect, go through the steps, and stay."""
        allow_descriptors(len(self._held) + count)
        return self._run(steps, count, concurrency, hold=True)

    def repeat(self, step: Step, times: int = 1) -> float:
        """Let all clients that stay do another step, all at once, and so many times."""
        began = time.monotonic()
        for _ in range(times):
            for client in self._held:
                self._say(client, step)
            running = len(self._held)
            while running:
                running -= sum(self._answered(client, step) for client in self._ready(began))
        return time.monotonic() - began

    def leave(self) -> float:
        """Let all clients that stay leave."""
        began = time.monotonic()
        leaving = len(self._held)
        for client in self._held:
            self._finish(client)
        self._held = []
        while leaving:
            leaving -= sum(self._gone(client) for client in self._ready(began))
        return time.monotonic() - began

    # Inside

    def _run(self, steps: Sequence[Step], count: int, concurrency: int, hold: bool) -> float:
        began = time.monotonic()
        starting = running = 0
        while starting < count or running:
            while starting < count and running < concurrency:
                self._connect()
                starting += 1
                running += 1
            for client in self._ready(began):
                running -= self._proceed(client, steps, hold)
        return time.monotonic() - began

    def _connect(self) -> None:
        client = _Client(self._started, self._address)
        self._started += 1
        descriptor = client.socket.fileno()
        self._known[descriptor] = client
        self._poll.register(descriptor, select.EPOLLOUT)

    def _ready(self, began: float) -> list[_Client]:
        if time.monotonic() - began > TIMEOUT:
            raise Unexpected(f"{len(self._known)} clients are not done after {TIMEOUT:g} s")
        return [self._known[descriptor] for descriptor, _ in self._poll.poll(1.0)]

    def _proceed(self, client: _Client, steps: Sequence[Step], hold: bool) -> bool:
        """Whether the client is done."""
        if client.step < 0:
            self._poll.modify(client.socket.fileno(), select.EPOLLIN)
        elif client.step == len(steps):
            return self._gone(client)
        elif not self._answered(client, steps[client.step]):
            return False
        client.step += 1
        if client.step < len(steps):
            self._say(client, steps[client.step])
            return False
        if hold:
            self._held.append(client)
            return True
        self._finish(client)
        return False

    def _say(self, client: _Client, step: Step) -> None:
        data = step.send if isinstance(step.send, bytes) else step.send(client.answer)
        sent = client.socket.send(data)
        if sent != len(data):
            # More than a socket takes at once.
            client.socket.settimeout(TIMEOUT)
            client.socket.sendall(memoryview(data)[sent:])
            client.socket.setblocking(False)

    def _answered(self, client: _Client, step: Step) -> bool:
        data = client.socket.recv(262_144)
        if not data:
            raise Unexpected(f"the server closed on client {client.index} after {bytes(client.received)!r}")
        client.received += data
        expect = step.expect
        whole = len(client.received) >= expect if isinstance(expect, int) else expect(client.received)
        if whole:
            if isinstance(expect, int) and len(client.received) > expect:
                raise Unexpected(f"client {client.index} got more than {expect} bytes: {bytes(client.received)!r}")
            client.answer = bytes(client.received)
            client.received = bytearray()
        return whole

    def _finish(self, client: _Client) -> None:
        client.socket.shutdown(1)

    def _gone(self, client: _Client) -> bool:
        if client.socket.recv(65_536):
            return False
        descriptor = client.socket.fileno()
        self._poll.unregister(descriptor)
        del self._known[descriptor]
        client.socket.close()
        return True
