"""What the two sides of a QUIC connection are told, and what they know of each other."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from collections.abc import Callable
from typing import Literal

import attrs
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from connectd.net.connection import Peer
from connectd.net.quic.identity import Identity, IdentityError

ClientCertificate = Literal["none", "asked", "required"]

VERSIONS = (QuicProtocolVersion.VERSION_1,)
"""The versions of QUIC that are spoken unless told otherwise: what everybody speaks. Each one more costs a handshake
the keys of its first packet."""


@attrs.frozen(kw_only=True)
class ServerParameters:
    """What a QUIC server does.

    :param alpn: the application protocols that it speaks, the best first.
    :param identity: gives the certificate for a new connection: one that gives another from some time on replaces it
        without touching connections that stand.
    :param client_certificate: whether clients are asked for one, and whether those that show none are refused.
    :param handshake_timeout: seconds from the first packet to the end of the QUIC handshake; the settings'
        ``handshake_timeout``, which covers the protocol's own as well, ends it in any case (COM-1).
    :param bidirectional_streams: how many a client may open, ever.
    :param unidirectional_streams: the same for the others.
    :param versions: the versions of QUIC, as their numbers on the wire.
    """

    alpn: tuple[str, ...]
    identity: Callable[[], Identity]
    client_certificate: ClientCertificate = "none"
    handshake_timeout: float | None = None
    bidirectional_streams: int = 1
    unidirectional_streams: int = 0
    versions: tuple[int, ...] = VERSIONS


@attrs.frozen
class Trust:
    """How a client knows that a server is the one it means. Made by one of the class methods."""

    kind: Literal["authorities", "pinned", "insecure"]
    authority: bytes | None = attrs.field(default=None, repr=False)
    digest: bytes = b""

    @classmethod
    def authorities(cls, pem: bytes | None = None) -> Trust:
        """By a certificate for its name that one of these authorities signed; without any, the public ones.

        :param pem: their certificates. What else the file holds is passed over.
        :raises connectd.net.quic.identity.IdentityError: where there is none among it.
        """
        if pem is not None:
            try:
                found = x509.load_pem_x509_certificates(pem)
            except ValueError:
                raise IdentityError("it holds no certificate that can be read (PEM)") from None
            pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in found)
        return cls("authorities", pem)

    @classmethod
    def pinned(cls, sha256: bytes) -> Trust:
        """By its certificate, whatever name stands in it: the SHA-256 of the DER, 32 bytes."""
        if len(sha256) != hashlib.sha256().digest_size:
            raise ValueError("a pin is a SHA-256: 32 bytes")
        return cls("pinned", None, sha256)

    @classmethod
    def insecure(cls) -> Trust:
        """Not at all."""
        return cls("insecure")

    def objection(self, certificate: bytes | None) -> str | None:
        """What is wrong with a server's certificate that only this can tell, or None."""
        if self.kind != "pinned":
            return None
        digest = hashlib.sha256(certificate or b"").digest()
        if hmac.compare_digest(digest, self.digest):
            return None
        return f"the server's certificate is not the pinned one: its SHA-256 is {digest.hex()}"


@attrs.frozen(kw_only=True)
class ClientParameters:
    """What a QUIC client does.

    :param alpn: the application protocols that it offers, the best first.
    :param trust: how it knows the server.
    :param identity: the certificate that it shows when asked for one.
    :param server_name: whom the certificate is to be for; the host that is dialled unless given.
    :param idle_timeout: seconds of silence after which the connection is over.
    :param receive_window: bytes that the server may send before they are read.
    :param send_window: bytes that may be on their way without being acknowledged.
    :param max_datagram_size: bytes of the largest datagrams that are sent.
    :param versions: the versions of QUIC, as their numbers on the wire, the best first.
    """

    alpn: tuple[str, ...]
    trust: Trust = attrs.field(factory=Trust.authorities)
    identity: Identity | None = None
    server_name: str | None = None
    idle_timeout: float = 60.0
    receive_window: int = 1024 * 1024
    send_window: int = 1024 * 1024
    max_datagram_size: int = 1200
    versions: tuple[int, ...] = VERSIONS


@attrs.frozen(kw_only=True)
class Handshake:
    """What a finished QUIC handshake has established.

    :param peer: where the other side is.
    :param alpn: the application protocol.
    :param peer_certificate: the certificate that the other side has shown and proven to own (DER), if any.
    :param certificate: our own, as far as we show one (DER).
    :param version: the version of QUIC, as its number on the wire.
    """

    peer: Peer
    alpn: str
    peer_certificate: bytes | None = attrs.field(repr=False)
    certificate: bytes | None = attrs.field(repr=False)
    version: int


def server_configuration(
    parameters: ServerParameters, identity: Identity, idle_timeout: float, max_datagram_size: int
) -> QuicConfiguration:
    """What aioquic is to do as a server. One object serves all connections with this certificate."""
    return QuicConfiguration(
        is_client=False,
        alpn_protocols=list(parameters.alpn),
        idle_timeout=idle_timeout,
        max_datagram_size=max_datagram_size,
        certificate=identity.leaf,
        certificate_chain=list(identity.chain),
        private_key=identity.key,
        supported_versions=list(parameters.versions),
    )


def client_configuration(parameters: ClientParameters, host: str) -> QuicConfiguration:
    """What aioquic is to do as a client.

    :param host: the host that was dialled.
    """
    trust, identity = parameters.trust, parameters.identity
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=list(parameters.alpn),
        idle_timeout=parameters.idle_timeout,
        max_datagram_size=parameters.max_datagram_size,
        supported_versions=list(parameters.versions),
        server_name=parameters.server_name or host,
        verify_mode=ssl.CERT_REQUIRED if trust.kind == "authorities" else ssl.CERT_NONE,
    )
    if trust.authority is not None:
        configuration.load_verify_locations(cadata=trust.authority)
    if identity is not None:
        configuration.certificate = identity.leaf
        configuration.certificate_chain = list(identity.chain)
        configuration.private_key = identity.key
    return configuration
