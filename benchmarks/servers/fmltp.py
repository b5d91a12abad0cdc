"""A FmLTP listener, and the least that a server can do that makes the same computations."""

from __future__ import annotations

import base64
import time
import warnings
from collections.abc import Callable
from typing import Any

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from twisted.internet.protocol import Factory, Protocol

from benchmarks.harness.control import Commands
from benchmarks.servers.listener import LISTEN, serve_listener
from connectd.net.endpoint import parse_endpoint
from connectd.net.sockets import bind
from connectd.protocols.fmltp.application import Application
from connectd.protocols.fmltp.application import Commands as ApplicationCommands
from connectd.protocols.fmltp.groups import NAMED
from connectd.protocols.fmltp.server import FmltpListener
from connectd.protocols.fmltp.settings import FmltpSettings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cryptography.hazmat.primitives.asymmetric.dh import DHParameterNumbers, DHPublicNumbers


class Slices:
    """Notes for how long the reactor was kept at one thing, in CPU time of its thread: all that one ready socket
    brought about, or what was due to be called; and the longest turn, in which there may be many of them."""

    def __init__(self, reactor: Any) -> None:
        self._longest = self._turn = self._longest_turn = 0.0
        reactor._doReadOrWrite = self._timed(reactor._doReadOrWrite)
        reactor.runUntilCurrent = self._timed(reactor.runUntilCurrent, begins_turn=True)

    def _timed(self, function: Callable[..., Any], *, begins_turn: bool = False) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            if begins_turn:
                self._longest_turn, self._turn = max(self._longest_turn, self._turn), 0.0
            began = time.thread_time()
            try:
                return function(*arguments)
            finally:
                spent = time.thread_time() - began
                self._longest = max(self._longest, spent)
                self._turn += spent

        return timed

    def take(self) -> dict[str, float]:
        """The longest since the last call, seconds."""
        found = {"slice": self._longest, "turn": self._longest_turn}
        self._longest = self._longest_turn = 0.0
        return found


def serve(reactor: Any, group: str = "ffdhe2048", slices: bool = False) -> Commands:
    """Listen, with an application that moves much.

    :param slices: watch what the reactor is kept at.
    """
    commands = ApplicationCommands()
    commands.add(lambda session, size: "x" * (int(size) - 6), name="BLOB", help="Much.")
    commands.add(lambda session, data: None, name="TAKE", help="Much.", longest=1 << 20)
    application = Application(commands)

    def make(context: Any) -> FmltpListener:
        context.find_handler = lambda name: application
        return FmltpListener(FmltpSettings(listen=LISTEN, accounts=False, parameters=group), context)

    listener, asked = serve_listener(reactor, make)
    reactor.addSystemEventTrigger("before", "shutdown", listener.stopService)
    if slices:
        asked = {**asked, "longest": Slices(reactor).take}
    return asked


class Bare(Protocol):
    """Key generation, exchange, HKDF, and two Fernet operations."""

    parameters: Any
    numbers: Any
    size: int

    def __init__(self) -> None:
        self.channel: Fernet | None = None
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        self.data += data
        if self.channel is not None:
            if self.data.endswith(b"\n"):
                self.channel.decrypt(self.data)
                transport.write(self.channel.encrypt(b"100 FmLTP/1.0 Interpreter Ready.\r\n") + b"\r\n")
        elif len(self.data) == self.size:
            private = self.parameters.generate_private_key()
            y = private.public_key().public_numbers().y
            peer = DHPublicNumbers(int.from_bytes(self.data, "big"), self.numbers).public_key()
            secret = private.exchange(peer).rjust(self.size, b"\0")
            key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=None).derive(secret)
            self.channel = Fernet(base64.urlsafe_b64encode(key))
            self.data = b""
            transport.write(y.to_bytes(self.size, "big"))


def serve_bare(reactor: Any, group: str = "ffdhe2048") -> Commands:
    """Listen on a socket that is bound and adopted as connectd's are."""
    named = NAMED[group]
    Bare.numbers = DHParameterNumbers(named.p, named.g)
    Bare.parameters, Bare.size = Bare.numbers.parameters(), named.size
    factory = Factory.forProtocol(Bare)
    factory.noisy = False
    face = bind(parse_endpoint(LISTEN))
    face.adopt_stream(reactor, factory)

    def fernet(size: int, count: int, decrypt: bool) -> float:
        """Seconds of CPU for so many tokens, made or read."""
        channel, plaintext = Fernet(Fernet.generate_key()), b"x" * size
        token = channel.encrypt(plaintext)
        began = time.process_time()
        for _ in range(count):
            channel.decrypt(token) if decrypt else channel.encrypt(plaintext)
        return time.process_time() - began

    return {"port": lambda: face.port, "fernet": fernet}
