"""Whom a client takes for the server it wants: one whose certificate is pinned, or whose name is verified (CH-10).

Either way the handshake fails before the client has said anything. A certificate without a subjectAltName is refused
always: service-identity only logs such a one, and it could be anybody's.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from service_identity import CertificateError as BadCertificate
from service_identity import VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from connectd.net.certificates import has_alternative_names, read_certificates
from connectd.net.tls import CIPHERS, DirectTLS
from connectd.net.transport_faults import TransportFault
from connectd.sansio import Outcome

UNPINNED: Final = "it is self-signed and not pinned"
"""What is wrong with a certificate that its own key signed, and that nobody named."""

_FAULTS: Final = {
    9: "it is not valid yet",
    10: "it has expired",
    18: UNPINNED,
    19: "it leads to an authority that is not trusted",
    20: "it comes from an authority that is not trusted",
    21: "it comes from an authority that is not trusted",
    62: "it is for another host",
}
"""OpenSSL's numbers for what people meet."""


class NotTrusted(TransportFault):
    """The server is not the one that was wanted."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"the server's certificate is refused: {fault}", Outcome.REFUSED)


def pin_of(certificate: x509.Certificate) -> bytes:
    """What a certificate is known by: the SHA-256 of its DER."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


@implementer(IOpenSSLClientConnectionCreator, IPolicyForHTTPS)
class Trust:
    """Makes TLS connections to one server and says whether it is the right one.

    :param hostname: what the server is called: verified unless something is pinned, and told to it (SNI).
    :param pins: what :func:`pin_of` gave for the certificates that may be the server's; names, dates and authorities
        then count for nothing.
    :param authorities: certificate authorities; the system's unless given.
    """

    def __init__(
        self, hostname: str, *, pins: Sequence[bytes] = (), authorities: Sequence[x509.Certificate] = ()
    ) -> None:
        self.hostname = hostname
        self.pins = tuple(pins)
        self._is_address = isIPAddress(hostname) or isIPv6Address(hostname)
        try:
            self._ascii = hostname if self._is_address else hostname.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"{hostname}: is no host name") from None
        kind: Any = IPAddress_ID if self._is_address else DNS_ID
        self._service = kind(self._ascii)
        self._context = _client_context(authorities, system=not authorities and not pins)

    @classmethod
    def from_files(cls, hostname: str, certificate: str = "", authorities: str = "") -> Trust:
        """Trust what files say.

        :param certificate: a PEM file with pinned certificates, or nothing.
        :param authorities: a PEM file with authorities, or nothing.
        :raises connectd.net.certificates.CertificateError: where one of them cannot be read.
        """
        return cls(
            hostname,
            pins=[pin_of(one) for one in read_certificates(certificate)] if certificate else (),
            authorities=read_certificates(authorities) if authorities else (),
        )

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A connection that fails with :class:`NotTrusted`, unless it is the right server; Twisted asks."""
        connection = SSL.Connection(self._context, None)
        if not self._is_address:
            connection.set_tlsext_host_name(self._ascii.encode())

        def verify(made: SSL.Connection, shown: crypto.X509, error: int, depth: int, fine: int) -> bool:
            fault = self._fault(shown, error, depth, bool(fine))
            if fault is not None:
                protocol.failVerification(Failure(NotTrusted(fault)))
            return fault is None

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection

    def creatorForNetloc(self, hostname: bytes, port: int) -> Trust:
        """The same for an HTTPS request; Twisted's agent asks."""
        return self

    def wrap(self, endpoint: IStreamClientEndpoint) -> IStreamClientEndpoint:
        """An endpoint that leads to the same place through TLS."""
        return _TLSEndpoint(endpoint, self)

    def _fault(self, shown: crypto.X509, error: int, depth: int, fine: bool) -> str | None:
        certificate = shown.to_cryptography()
        if depth:
            return None if fine or self.pins else _FAULTS.get(error, f"OpenSSL's error {error}")
        if not has_alternative_names(certificate):
            return "it has no subjectAltName, so it could be anybody's"
        if self.pins:
            found = pin_of(certificate)
            matches = [hmac.compare_digest(found, one) for one in self.pins]
            return None if any(matches) else "it is not the pinned one"
        if not fine:
            return _FAULTS.get(error, f"OpenSSL's error {error}")
        try:
            verify_service_identity(extract_patterns(certificate), [self._service], [])
        except VerificationError:
            return f"it is not for {self.hostname}"
        except BadCertificate:
            return "its subjectAltName has a name in it that is none"
        return None


def _client_context(authorities: Sequence[x509.Certificate], *, system: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(CIPHERS)
    if system:
        context.set_default_verify_paths()
    store = context.get_cert_store()
    assert store is not None
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    return context


@implementer(IStreamClientEndpoint)
class _TLSEndpoint:
    """Twisted's own wrapper buffers small writes, which a Connection does already."""

    def __init__(self, endpoint: IStreamClientEndpoint, trust: Trust) -> None:
        self._endpoint = endpoint
        self._trust = trust

    def connect(self, protocolFactory: IProtocolFactory) -> Any:
        connecting: Any = self._endpoint.connect(_WrappingFactory(self._trust, protocolFactory))
        return connecting.addCallback(lambda protocol: protocol.wrappedProtocol)


class _WrappingFactory(Factory):
    noisy = False

    def __init__(self, trust: Trust, wrapped: IProtocolFactory) -> None:
        self._trust = trust
        self._wrapped = wrapped

    def buildProtocol(self, address: Any) -> Any:
        protocol = self._wrapped.buildProtocol(address)
        if protocol is None:
            return None
        return DirectTLS(TLSMemoryBIOFactory(self._trust, True, Factory()), protocol)
