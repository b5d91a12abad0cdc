"""Clients that prove who they are, or fail to: each from an address of its own, so that none is delayed (COM-11)."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from itertools import count

import attrs

from benchmarks.harness.clients import Unexpected
from benchmarks.harness.control import Commands
from benchmarks.harness.sources import client_socket

ACCOUNTS = ("Alice", "Bob", "Carol", "Dave")
STRANGERS = ("Alicf", "Boc", "Carom", "Davf")
"""Names of the same lengths that nobody has."""

PASSWORD, WRONG = "correct horse", "battery staples"

TIMEOUT = 60.0
"""Seconds that a single answer may take."""

NOTHING_SOONER = 0.05
"""Seconds to wait where nothing is due."""


class Proofs:
    """Clients of one server.

    :param port: the server's, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._numbers = count()

    def connect(self) -> socket.socket:
        """A client's socket, from an address that no other has."""
        client = client_socket(next(self._numbers))
        client.settimeout(TIMEOUT)
        client.connect(self._address)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def refusals(self, rounds: int) -> dict[str, list[float]]:
        """Let wrong passwords be refused, for known and for unknown accounts in turn.

        :return: seconds from the proof to its answer, in order, for ``known`` and ``unknown``.
        """
        times: dict[str, list[float]] = {"known": [], "unknown": []}
        for index in range(rounds):
            # Who comes first changes as well.
            for kind in ("known", "unknown") if index % 2 else ("unknown", "known"):
                name = (ACCOUNTS if kind == "known" else STRANGERS)[index // 2 % len(ACCOUNTS)]
                times[kind].append(self._refusal(name))
        return times

    def _refusal(self, name: str) -> float:
        with self.connect() as client:
            began = time.perf_counter()
            client.sendall(f"LOGIN {name} {WRONG}\n".encode())
            answer = client.recv(4096)
            elapsed = time.perf_counter() - began
        if not answer.startswith(b"NO unknown account or wrong proof"):
            raise Unexpected(f"{name}: {answer!r}")
        return elapsed

    def echoes(self, seconds: float, echo_rate: float, login_rate: float) -> list[float]:
        """Have one session answered again and again while others log in.

        :param echo_rate: questions a second.
        :param login_rate: logins that begin in a second.
        :return: seconds that each answer took, from when the question was due.
        """
        with self.connect() as session:
            self._log_in(session)
            session.setblocking(False)
            return _Echoes(self, session, seconds, echo_rate, login_rate).run()

    def _log_in(self, client: socket.socket) -> None:
        client.sendall(f"LOGIN {ACCOUNTS[0]} {PASSWORD}\n".encode())
        answer = client.recv(4096)
        if not answer.startswith(b"WELCOME"):
            raise Unexpected(f"{answer!r}")


@attrs.define(eq=False)
class _Echoes:
    """One run of :meth:`Proofs.echoes`."""

    proofs: Proofs
    session: socket.socket
    seconds: float
    echo_rate: float
    login_rate: float
    times: list[float] = attrs.field(factory=list)
    logging_in: dict[int, socket.socket] = attrs.field(factory=dict)

    def run(self) -> list[float]:
        poll = select.epoll()
        poll.register(self.session, select.EPOLLIN)
        began = time.perf_counter()
        end = began + self.seconds
        questions, logins = _moments(began, self.echo_rate), _moments(began, self.login_rate)
        question, login = next(questions), next(logins)
        asked = 0.0
        while (now := time.perf_counter()) < end or asked:
            if now > end + TIMEOUT:
                raise Unexpected("an echo did not come")
            if login <= now < end:
                self._begin(poll)
                login = next(logins)
            if not asked and question <= now < end:
                asked, question = question, next(questions)
                self.session.send(b"ASK are you there\n")
            due = min(login, end if asked else question)
            for descriptor, _ in poll.poll(max(0.0, min(due - time.perf_counter(), NOTHING_SOONER))):
                if descriptor == self.session.fileno():
                    self.session.recv(4096)
                    # A question that waits for the answer to the one before has been due all the while.
                    self.times.append(time.perf_counter() - asked)
                    asked = 0.0
                else:
                    self._finish(poll, descriptor)
        for client in self.logging_in.values():
            client.close()
        return self.times

    def _begin(self, poll: select.epoll) -> None:
        client = self.proofs.connect()
        client.sendall(f"LOGIN {ACCOUNTS[1]} {PASSWORD}\n".encode())
        client.setblocking(False)
        self.logging_in[client.fileno()] = client
        poll.register(client, select.EPOLLIN)

    def _finish(self, poll: select.epoll, descriptor: int) -> None:
        poll.unregister(descriptor)
        client = self.logging_in.pop(descriptor)
        answer = client.recv(4096)
        client.close()
        if not answer.startswith(b"WELCOME"):
            raise Unexpected(f"{answer!r}")


def _moments(began: float, rate: float) -> Iterator[float]:
    """When something is due that happens so many times a second; never, where that is none."""
    if not rate:
        yield float("inf")
    for number in count(1):
        yield began + number / rate


def load(port: int) -> Commands:
    """Give the commands."""
    proofs = Proofs(port)
    return {"refusals": proofs.refusals, "echoes": proofs.echoes}
