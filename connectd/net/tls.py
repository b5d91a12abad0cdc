"""TLS for listeners: wrapped over accepted connections, with a certificate file that may be renewed while it runs.

Admission and the PROXY header come first (COM-4, COM-5), then TLS, then the protocol. The deadline of a connection's
machine covers the handshake, too (COM-1).
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, ITransport
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from connectd.net.certificates import Certificate, CertificateError, read_certificate
from connectd.workers.threads import run_in_thread

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

log = Logger()

LOOK_INTERVAL: Final = 2.0
"""Seconds between two looks whether there is a new certificate file."""

CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, in OpenSSL's words: forward secrecy and authenticated encryption. TLS 1.3 has nothing else."""

SOON: Final = datetime.timedelta(days=7)
"""How long before its end a certificate is warned about."""


def server_context(certificate: Certificate) -> SSL.Context:
    """The TLS settings of a server: TLS 1.2 at least, no renegotiation, no sessions to resume."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION
    )
    # Idle connections give their buffers back.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(CIPHERS)
    context.use_certificate(certificate.leaf)
    context.use_privatekey(certificate.key)
    for above in certificate.chain[1:]:
        context.add_extra_chain_cert(above)
    context.check_privatekey()
    return context


@implementer(ITransport)
class SocketTransport:
    """The transport under TLS: writes to the socket at once, as :class:`connectd.net.outgoing.Outgoing` does without
    TLS.

    Only what the socket does not take waits in Twisted's transport, which is registered for writing then. A handshake
    and a goodbye are four small writes, and each would be a turn of the reactor of its own.

    :param transport: Twisted's, of a TCP connection.
    :param congested: called before something has to wait for the first time.
    """

    __slots__ = ("_congested", "_direct", "_socket", "transport")

    def __init__(self, transport: Any, congested: Callable[[], None]) -> None:
        self.transport = transport
        self._socket = transport.getHandle()
        self._congested = congested
        self._direct = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        """Write, now if that is possible."""
        transport = self.transport
        if self._direct:
            if not transport.connected or transport.disconnecting:
                return
            try:
                sent = self._socket.send(data)
            except OSError:
                sent = 0  # the socket is full; or broken, and the transport will find that out
            if sent == len(data):
                return
            data = data[sent:]
            self._direct = False
            self._congested()
        transport.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Write several."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once everything is written."""
        self.transport.loseConnection()

    def getPeer(self) -> Any:
        """Where the peer is."""
        return self.transport.getPeer()

    def getHost(self) -> Any:
        """Where we are."""
        return self.transport.getHost()


class DirectTLS(TLSMemoryBIOProtocol):
    """TLS that writes to its socket at once. It does not gather small writes: a Connection writes once in a turn."""

    writes_at_once = False
    """Whether the protocol over it need not be its producer before it is told of congestion."""

    def makeConnection(self, transport: Any) -> None:
        """Begin the handshake."""
        if isinstance(transport, tcp.Connection):
            self.writes_at_once = True
            transport = SocketTransport(transport, self._congested)
        super().makeConnection(transport)

    def _congested(self) -> None:
        congested = getattr(self.wrappedProtocol, "congested", None)
        if congested is not None:
            congested()


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """A certificate file, and the TLS connections that are made with it.

    While it runs, it looks at the file now and then. A new one serves new connections; those that stand go on with what
    they began with. A new file that cannot be used is told in one line, and the former goes on.

    :param owner: whose certificate it is, for messages: ``chatr``.
    :param path: the file.
    :param reactor: the reactor.
    :raises CertificateError: where the file cannot be used, its text for the one who starts the daemon.
    """

    def __init__(self, owner: str, path: str, reactor: Any) -> None:
        self.path = os.path.abspath(path)
        self._owner = owner
        self._reactor = reactor
        self._seen = _identity(self.path)
        try:
            self.certificate = read_certificate(self.path)
        except CertificateError as error:
            raise CertificateError(f"{owner}: certificate: {error}") from None
        # Its own context for each file: one cannot change after its first connection.
        self._context = server_context(self.certificate)
        self._reading: Deferred[Any] | None = None
        self._looking = LoopingCall(self.look)
        self._looking.clock = reactor
        self._factory = TLSMemoryBIOFactory(self, False, Factory(), clock=reactor)

    # Connections

    def protect(self, protocol: IProtocol) -> TLSMemoryBIOProtocol:
        """Lay TLS under a protocol: what comes back is for the socket."""
        return DirectTLS(self._factory, protocol)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """A connection with the present certificate; Twisted asks."""
        return SSL.Connection(self._context, None)

    # The file

    def start(self) -> None:
        """Begin to look for new files."""
        self._warn()
        if not self._looking.running:
            running = self._looking.start(LOOK_INTERVAL, now=False)
            running.addErrback(lambda failure: log.failure("nobody looks for a new certificate any more", failure))

    def stop(self) -> None:
        """Look no more."""
        if self._looking.running:
            self._looking.stop()
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()

    def look(self) -> Deferred[Any] | None:
        """Look whether the file is another one; it is read in a thread then."""
        identity = _identity(self.path)
        if identity == self._seen or self._reading is not None:
            return None
        self._seen = identity
        self._reading = run_in_thread(self._reactor, _prepare, self.path)
        return self._reading.addCallbacks(self._take, self._keep).addBoth(self._looked)

    def _take(self, prepared: tuple[Certificate, SSL.Context]) -> None:
        self.certificate, self._context = prepared
        log.info(
            "{owner}: the new certificate in {path} serves from now on, valid until {until:%Y-%m-%d}",
            owner=self._owner,
            path=self.path,
            until=self.certificate.expires,
        )
        self._warn()

    def _keep(self, failure: Failure) -> None:
        if self._reading is None:
            return  # stopped
        if failure.check(CertificateError, SSL.Error) is None:
            log.failure("{owner}: the new certificate could not be read", failure, owner=self._owner)
            return
        log.error(
            "{owner}: the new certificate is not used, the former goes on: {problem}",
            owner=self._owner,
            problem=failure.getErrorMessage() or "OpenSSL does not take it",
        )

    def _looked(self, result: Any) -> Any:
        self._reading = None
        return result

    def _warn(self) -> None:
        left = self.certificate.expires - datetime.datetime.now(datetime.UTC)
        if left < SOON:
            log.warn(
                "{owner}: the certificate in {path} {how} on {until:%Y-%m-%d %H:%M} UTC: renew it",
                owner=self._owner,
                path=self.path,
                how="ended" if left < datetime.timedelta(0) else "ends",
                until=self.certificate.expires,
            )


def _prepare(path: str) -> tuple[Certificate, SSL.Context]:
    """Runs in a thread."""
    certificate = read_certificate(path)
    return certificate, server_context(certificate)


def _identity(path: str) -> tuple[int, int, int, int, int] | None:
    """What tells one file from another at the same path, or one that may be read from one that might not."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
