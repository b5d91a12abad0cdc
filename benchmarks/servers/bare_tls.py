"""The baseline of all TLS benchmarks: the least that a Twisted server can do with TLS 1.3 and a P-256 certificate."""

from __future__ import annotations

from typing import Any

from OpenSSL.crypto import X509, PKey
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOFactory

from benchmarks.harness.control import Commands
from benchmarks.servers.chatr import certificate_file
from connectd.net.certificates import read_certificate
from connectd.net.endpoint import parse_endpoint
from connectd.net.sockets import bind


def serve(reactor: Any) -> Commands:
    """Listen on a socket that is bound and adopted as connectd's are; who comes is not spoken with."""
    certificate = read_certificate(certificate_file())
    options = CertificateOptions(
        privateKey=PKey.from_cryptography_key(certificate.key),
        certificate=X509.from_cryptography(certificate.leaf),
    )
    plain = Factory.forProtocol(Protocol)
    plain.noisy = False
    factory = TLSMemoryBIOFactory(options, isClient=False, wrappedFactory=plain)
    factory.noisy = False
    face = bind(parse_endpoint("tcp:0:interface=127.0.0.1"))
    face.adopt_stream(reactor, factory)
    return {"port": lambda: face.port, "ready": lambda: True}
