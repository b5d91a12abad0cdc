"""TLS for listeners: wrapped over accepted connections, with a certificate file that may be renewed while it runs.

Admission and the PROXY header come first (COM-4, COM-5), then TLS, then the protocol. The deadline of a connection's
machine covers the handshake, too (COM-1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, ITransport
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from connectd.net.certificate_file import CertificateFile
from connectd.net.certificates import Certificate, CertificateError
from connectd.net.transport_faults import openssl_words

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, in OpenSSL's words: forward secrecy and authenticated encryption. TLS 1.3 has nothing else."""


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
    """A certificate file that may be renewed, and the TLS connections that are made with it.

    :param owner: whose certificate it is, for messages: ``chatr``.
    :param path: the file.
    :param reactor: the reactor.
    :raises CertificateError: where the file cannot be used, its text for the one who starts the daemon.
    """

    def __init__(self, owner: str, path: str, reactor: Any) -> None:
        # Its own context for each file: one cannot change after its first connection.
        self.file = CertificateFile(owner, path, reactor, _context)
        self._factory = TLSMemoryBIOFactory(self, False, Factory(), clock=reactor)

    @property
    def certificate(self) -> Certificate:
        """The present certificate."""
        return self.file.certificate

    def start(self) -> None:
        """Begin to look for new files."""
        self.file.start()

    def stop(self) -> None:
        """Look no more."""
        self.file.stop()

    def protect(self, protocol: IProtocol) -> TLSMemoryBIOProtocol:
        """Lay TLS under a protocol: what comes back is for the socket."""
        return DirectTLS(self._factory, protocol)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """A connection with the present certificate; Twisted asks."""
        return SSL.Connection(self.file.current, None)


def _context(certificate: Certificate) -> SSL.Context:
    try:
        return server_context(certificate)
    except SSL.Error as error:
        raise CertificateError(f"OpenSSL does not take it: {openssl_words(error)}") from None
