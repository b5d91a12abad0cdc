"""The other side of a machine, from bytes and from ``cryptography``'s own Fernet: nothing of ours is used to write them."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import Any

from cryptography.fernet import Fernet

from connectd.protocols.fmltp.exchange import KeyExchange, KeyPair, answer, compute_secret, generate
from connectd.protocols.fmltp.groups import FFDHE2048, Group
from connectd.protocols.fmltp.machine import (
    AuthenticationRequested,
    ClientMachine,
    CommandReceived,
    KeyExchangeRequested,
    KeyPairRequested,
    SecretRequested,
    ServerMachine,
)
from connectd.protocols.fmltp.packets import Reply
from connectd.protocols.fmltp.settings import FmltpClientSettings, FmltpSettings
from connectd.sansio import Ended, Event

NOW = 1_700_000_000.0

SERVER_LINE = b"FlexMusic connectd,0.0.0\r\n"
CLIENT_LINE = b"FlexMusic Python Client Library,0.0.0\r\n"

EXAMPLE_PARAMETERS = b"""-----BEGIN DH PARAMETERS-----
MIGHAoGBAK0a7BmdPoU2/snNlwsT8oW1G76yUTABAGcwoiOTFbAe+XARtx+gkILH
6eyWCKx6mn38HdBd9WdzRSMk6O1j0NrubsuSUKpXZSpc9mTtzyrp8ZfVv+223vci
Z/f5KhcPuk4EijhOd17vqsXXCalSWlP4nh8RlLkqAFuQudvxwNxvAgEC
-----END DH PARAMETERS-----
"""
"""The example of the protocol's own page: 1024 bits."""


def integer(value: int) -> bytes:
    """A DER INTEGER."""
    return element(2, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def element(tag: int, *contents: bytes) -> bytes:
    """A DER element."""
    body = b"".join(contents)
    size = len(body)
    length = bytes((size,)) if size < 128 else b"\x81%c" % size if size < 256 else b"\x82" + size.to_bytes(2, "big")
    return bytes((tag,)) + length + body


DH_KEY_AGREEMENT = bytes.fromhex("06092a864886f70d010301")
DH_PUBLIC_NUMBER = bytes.fromhex("06072a8648ce3e0201")


def key_der(p: int, g: int, y: int, *more: bytes, kind: bytes = DH_KEY_AGREEMENT) -> bytes:
    """A SubjectPublicKeyInfo."""
    parameters = element(0x30, integer(p), integer(g), *more)
    return element(0x30, element(0x30, kind, parameters), element(3, b"\0", integer(y)))


def pem(label: str, contents: bytes, end: str = "\n", before: str = "") -> bytes:
    """A PEM block."""
    text = b64encode(contents).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return (before + end.join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])).encode()


def key_pem(y: int, group: Group = FFDHE2048) -> bytes:
    """KEX_ID."""
    return pem("PUBLIC KEY", key_der(group.p, group.g, y))


def fernet_of(secret: bytes) -> Fernet:
    """FM-7, written out: HKDF-SHA256 without salt and info."""
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return Fernet(urlsafe_b64encode(hmac.digest(extracted, b"\x01", hashlib.sha256)))


PAIR: KeyPair = generate(FFDHE2048)
"""Of the peer, whichever side it is."""
EXCHANGE: KeyExchange = answer(FFDHE2048, PAIR.public)
"""Of a server machine: the same in all tests, so that sessions can be recorded."""
FERNET = fernet_of(compute_secret(FFDHE2048, PAIR, EXCHANGE.public))

KEX_ID = key_pem(PAIR.public)
SERVER_KEX_ID = key_pem(EXCHANGE.public)


def token(text: str | bytes, at: float = NOW) -> bytes:
    """A token with its CRLF."""
    return FERNET.encrypt_at_time(text.encode() if isinstance(text, str) else text, int(at)) + b"\r\n"


def unpadded(text: str | bytes, at: float = NOW) -> bytes:
    """A token as deployed peers write it: without CRLF."""
    return token(text, at)[:-2]


def opened(wire: bytes) -> list[str]:
    """What is in tokens that end with CRLF each."""
    if not wire:
        return []
    assert wire.endswith(b"\r\n"), wire
    return [FERNET.decrypt(line).decode() for line in wire[:-2].split(b"\r\n")]


Answers = Callable[[Any, Event], list[Event] | None]


def never(length: int) -> bytes:
    """A source of randomness that is none, so that sessions repeat."""
    return hashlib.shake_128(length.to_bytes(2, "big")).digest(length)


class Side:
    """A machine, and what it says; its Decisions are answered as ``answers`` has it."""

    machine: ServerMachine | ClientMachine

    def __init__(self) -> None:
        self.now = NOW
        self.events: list[Event] = []
        self.sent = bytearray()

    @property
    def ended(self) -> Ended:
        """How it ended."""
        last = self.events[-1]
        assert isinstance(last, Ended), self.events
        return last

    def feed(self, *pieces: bytes) -> list[Event]:
        """Bytes come in; what it says is in :attr:`sent`."""
        happened: list[Event] = []
        for piece in pieces:
            happened += self.take(self.machine.receive_data(piece, self.now))
        return happened

    def take(self, events: Iterable[Event]) -> list[Event]:
        """Note events, and answer the Decisions among them."""
        happened: list[Event] = []
        for event in events:
            happened.append(event)
            self.events.append(event)
            happened += self.take(self.decide(event))
        self.sent += self.machine.data_to_send()
        return happened

    def decide(self, event: Event) -> list[Event]:
        """Answer a Decision."""
        return []

    def said(self) -> bytes:
        """What it said since it was asked last."""
        self.sent += self.machine.data_to_send()
        said = bytes(self.sent)
        self.sent.clear()
        return said

    def pass_time(self, seconds: float) -> list[Event]:
        """Time passes, and the deadline is asked for."""
        self.now += seconds
        return self.take(self.machine.handle_deadline(self.now))


class Server(Side):
    """A server machine and its client, who is ann with the password ``open sesame``."""

    machine: ServerMachine

    def __init__(self, *, held: tuple[type[Event], ...] = (), group: Group = FFDHE2048, **settings: Any) -> None:
        super().__init__()
        self.held = held
        self.machine = ServerMachine(FmltpSettings(**settings), group, now=NOW)

    def decide(self, event: Event) -> list[Event]:
        machine, now = self.machine, self.now
        if isinstance(event, self.held):
            return []
        if isinstance(event, KeyExchangeRequested):
            return machine.key_exchanged(EXCHANGE, now)
        if isinstance(event, AuthenticationRequested):
            good = (event.user, event.password) == (b"ann", b"open sesame")
            return machine.accept("ann", now) if good else machine.fail(now)
        if isinstance(event, CommandReceived):
            return machine.reply(Reply(200, f"{event.name}|{event.arguments}"), now)
        return []

    def shake_hands(self) -> Server:
        """Up to and with KEX_FINAL, which is not looked at."""
        self.feed(CLIENT_LINE, KEX_ID, token(SERVER_LINE, self.now))
        self.said()
        return self

    def ask(self, text: str | bytes) -> list[str]:
        """Send a command: the replies."""
        self.feed(token(text, self.now))
        return opened(self.said())


class Client(Side):
    """A client machine and its server."""

    machine: ClientMachine

    def __init__(self, *, held: tuple[type[Event], ...] = (), **settings: Any) -> None:
        super().__init__()
        self.held = held
        self.machine = ClientMachine(FmltpClientSettings(**settings), now=NOW)

    def decide(self, event: Event) -> list[Event]:
        if isinstance(event, self.held):
            return []
        if isinstance(event, KeyPairRequested):
            return self.machine.key_pair_made(PAIR, self.now)
        if isinstance(event, SecretRequested):
            return self.machine.secret_computed(compute_secret(event.group, event.pair, event.y), self.now)
        return []

    def shake_hands(self, final: str = "100 FmLTP/1.0 Interpreter Ready.\r\n") -> Client:
        """Up to and with KEX_FINAL."""
        self.feed(SERVER_LINE, PARAMETERS, SERVER_KEX_ID, token(final, self.now))
        self.said()
        return self


PARAMETERS = pem("DH PARAMETERS", element(0x30, integer(FFDHE2048.p), integer(2)))
READY = "100 FmLTP/1.0 Interpreter Ready.\r\n"
LOCKED = READY + "Authentication required.\r\n"
