"""The toy protocol over QUIC: a listener, a client that speaks by hand, and certificates."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import attrs
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from connectd.net.connection import Connection
from connectd.net.listener import Context
from connectd.net.quic import ClientParameters, Handshake, Identity, QuicListener, ServerParameters, Trust
from connectd.net.quic.parameters import ClientCertificate
from connectd.quic_settings import QuicListenerSettings
from connectd.settings import at_least, key
from tests.toy import ToyListener, ToyMachine, ToySettings

ALPN = "toy/1"


@functools.cache
def authority() -> trustme.CA:
    """Who signs the certificates of tests."""
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@functools.cache
def identity(name: str = "localhost") -> Identity:
    """A certificate for a name, 127.0.0.1 and ::1."""
    leaf = authority().issue_cert(name, "127.0.0.1", "::1", "198.51.100.1", key_type=trustme.KeyType.ECDSA)
    return Identity.from_pem(leaf.private_key_and_cert_chain_pem.bytes())


def authority_pem() -> bytes:
    """The certificate that signed all the others."""
    pem: bytes = authority().cert_pem.bytes()
    return pem


@attrs.frozen(kw_only=True)
class QuicToySettings(QuicListenerSettings):
    """What a toy listener over QUIC can be told."""

    auth: tuple[str, ...] = key((), "Checkers.")
    banned: tuple[str, ...] = key((), "Accounts that may not log in.")
    part: int = key(4096, "How much of a stream is written at once.", unit="bytes", check=at_least(1))
    client_certificate: str = key("none", "Whether clients are asked for a certificate.")
    quic_timeout: float = key(0.0, "Time for the QUIC handshake alone; 0 = none.")


class QuicToyListener(ToyListener, QuicListener):
    """Lets in who proves who they are, over QUIC."""

    settings: QuicToySettings  # type: ignore[assignment]  # those of TCP have other keys

    def __init__(self, settings: QuicToySettings, context: Context) -> None:
        self.shown = identity()
        self.handshakes: list[Handshake] = []
        super().__init__(settings, context)  # type: ignore[arg-type]

    def quic_parameters(self) -> ServerParameters:
        asked: Any = self.settings.client_certificate
        wanted: ClientCertificate = asked
        return ServerParameters(
            alpn=(ALPN, "toy/2"),
            identity=lambda: self.shown,
            client_certificate=wanted,
            handshake_timeout=self.settings.quic_timeout or None,
        )

    def make_stream_machine(self, handshake: Handshake, now: float) -> ToyMachine:
        self.handshakes.append(handshake)
        return ToyMachine(ToySettings(handshake_timeout=self.settings.handshake_timeout), now=now)


class Talker(Protocol):
    """A client that says what a test gives it, and keeps what it hears."""

    transport: Any

    def __init__(self) -> None:
        self.heard = bytearray()
        self.lost: Failure | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self._look()

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - Twisted's signature
        self.lost = reason
        self._look()

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires once that holds."""
        done: Deferred[None] = Deferred()
        self._waiting.append((condition, done))
        self._look()
        return done

    def hears(self, text: bytes) -> Deferred[None]:
        """Fires once that was said."""
        return self.until(lambda: text in self.heard)

    def gone(self) -> Deferred[None]:
        """Fires once the connection is over."""
        return self.until(lambda: self.lost is not None)

    def _look(self) -> None:
        for entry in list(self._waiting):
            if entry[0]():
                self._waiting.remove(entry)
                entry[1].callback(None)


def client_parameters(**changes: Any) -> ClientParameters:
    """A client that trusts the tests' authority."""
    given: dict[str, Any] = {"alpn": (ALPN,), "trust": Trust.authorities(authority_pem()), **changes}
    return ClientParameters(**given)


def talker_factory() -> Factory:
    """Makes one :class:`Talker` for each connection."""
    return Factory.forProtocol(Talker)


def server_connection(listener: QuicToyListener) -> Connection:
    """The one connection that a listener has."""
    (connection,) = listener.connections
    return connection
