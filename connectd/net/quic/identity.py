"""A certificate and its key, as one side of a QUIC connection shows them."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

_KEY: Final = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----.*?-----END ([A-Z]+ )?PRIVATE KEY-----", re.DOTALL)
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)


class IdentityError(ValueError):
    """A certificate that cannot be used: one line that says why."""


@attrs.frozen(eq=False)
class Identity:
    """A certificate chain and the key of its first certificate.

    :param leaf: the certificate itself.
    :param chain: those that it is signed by, without the root.
    :param key: its private key.
    """

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...] = attrs.field(repr=False)
    key: Any = attrs.field(repr=False)
    certificate: bytes = attrs.field(init=False, repr=False)
    """The certificate as DER."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "certificate", self.leaf.public_bytes(Encoding.DER))

    @property
    def sha256(self) -> bytes:
        """The digest that people pin: SHA-256 of the certificate's DER, 32 bytes."""
        return hashlib.sha256(self.certificate).digest()

    @classmethod
    def from_pem(cls, data: bytes) -> Identity:
        """From a PEM file's content: the certificate, those above it, and the key, in any order.

        :raises IdentityError: where something is missing or does not fit.
        """
        found = _KEY.search(data)
        if found is None:
            raise IdentityError("it holds no private key (PEM, not encrypted)")
        try:
            key = load_pem_private_key(found.group(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise IdentityError("its private key is broken, encrypted or of an unknown kind") from None
        try:
            leaf, *chain = x509.load_pem_x509_certificates(data)
        except ValueError:
            raise IdentityError("it holds no certificate that can be read (PEM)") from None
        if not _usable(key):
            raise IdentityError("TLS 1.3 does not sign with its key: take ECDSA on P-256 or P-384, Ed25519, or RSA")
        if _public(key) != _public(leaf):
            raise IdentityError("its private key does not belong to its first certificate")
        return cls(leaf, tuple(chain), key)


def _usable(key: Any) -> bool:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return isinstance(key.curve, _CURVES)
    return isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)


def _public(holder: Any) -> bytes:
    encoded: bytes = holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded
