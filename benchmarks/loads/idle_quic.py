"""Clients over QUIC, one after the other: those of the bare server, and players of Alloy."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from uuid import UUID

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived

from benchmarks.harness.control import Commands
from benchmarks.harness.sources import source
from benchmarks.servers.alloy import PASSWORD
from benchmarks.servers.idle_quic import REPLY
from connectd.protocols.alloy.packets import (
    ClientReady,
    Connect,
    ConnectAccept,
    PasswordResponse,
    RequestAssets,
    decode,
)
from connectd.protocols.alloy.server_machine import password_hash

LIMIT = 20.0
CONFIGURATION = QuicConfiguration(is_client=True, alpn_protocols=["hytale/1"], verify_mode=ssl.CERT_NONE)


class Client:
    """One connection.

    :param index: gives it an address of its own.
    :param port: the server's.
    """

    def __init__(self, index: int, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((source(index), 0))
        self.server = ("127.0.0.1", port)
        self.socket.connect(self.server)
        self.socket.settimeout(0.02)
        self.quic = QuicConnection(configuration=CONFIGURATION)
        self.quic.connect(self.server, time.monotonic())
        self.heard = b""
        self.over = False

    def say(self, data: bytes, answer: int) -> None:
        """Send bytes on stream 0, and wait until so many came in all."""
        self.quic.send_stream_data(0, data)
        self.turn()
        end = time.monotonic() + LIMIT
        while len(self.heard) < answer:
            self.listen()
            if self.over or time.monotonic() > end:
                raise AssertionError(f"no answer: {self.heard!r}")

    def listen(self) -> None:
        """Take a datagram."""
        try:
            self.quic.receive_datagram(self.socket.recv(65_536), self.server, time.monotonic())
        except TimeoutError:
            self.quic.handle_timer(time.monotonic())
        self.turn()

    def turn(self) -> None:
        """Deal with what came, send what there is."""
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                self.heard += event.data
            elif isinstance(event, ConnectionTerminated):
                self.over = True
        for datagram, _ in self.quic.datagrams_to_send(time.monotonic()):
            self.socket.send(datagram)

    def leave(self) -> None:
        """CONNECTION_CLOSE."""
        self.quic.close()
        self.turn()
        self.socket.close()

    def packet(self, identifier: int) -> bytes:
        """The payload of the first packet of that id that came, or nothing."""
        place = 0
        while len(self.heard) - place >= 8:
            length, found = struct.unpack_from("<ii", self.heard, place)
            if found == identifier and len(self.heard) - place >= 8 + length:
                return self.heard[place + 8 : place + 8 + length]
            place += 8 + length
        return b""


def greet(client: Client, index: int) -> None:
    """What the bare server is for."""
    client.say(b"hello", len(REPLY))


def play(client: Client, index: int) -> None:
    """Into the world of Alloy."""
    client.say(Connect(uuid=UUID(int=index), username=f"player{index}").encode(), 42)
    accept = decode(14, client.heard[8:42])
    assert isinstance(accept, ConnectAccept)
    assert accept.password_challenge is not None
    answer = password_hash(accept.password_challenge, PASSWORD.encode())
    client.say(PasswordResponse(answer).encode(), 42 + 8 + 17)
    before = len(client.heard)
    client.say(ClientReady().encode(), before + 12 + 26 + 20)
    before = len(client.heard)
    client.say(RequestAssets().encode(), before + 8)


class Clients:
    """Those of one kind.

    :param port: the server's.
    :param plays: into Alloy's world, or the bare server's greeting.
    """

    def __init__(self, port: int, plays: bool) -> None:
        self._port = port
        self._act = play if plays else greet
        self._next = 0
        self._held: list[Client] = []

    def come(self) -> Client:
        """One more."""
        client, index = Client(self._next, self._port), self._next
        self._next += 1
        self._act(client, index)
        return client

    def exchange(self, count: int) -> None:
        """So many come and go."""
        for _ in range(count):
            self.come().leave()

    def hold(self, count: int) -> None:
        """So many come and stay."""
        self._held += [self.come() for _ in range(count)]

    def leave(self) -> None:
        """They go."""
        for client in self._held:
            client.leave()
        self._held.clear()


def load(port: int, plays: bool = False) -> Commands:
    """Give the commands."""
    clients = Clients(port, plays)
    return {"exchange": clients.exchange, "hold": clients.hold, "leave": clients.leave}


def load_players(port: int) -> Commands:
    """The commands for Alloy."""
    return load(port, plays=True)
