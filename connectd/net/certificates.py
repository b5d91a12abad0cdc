"""Certificates as files: reading what an operator gives us, and making one for a demonstration.

A certificate file is PEM: the server's certificate, those that lead to its authority, and the private key.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Iterable
from typing import Final

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectd.directory.files import write_new_file

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

MAXIMUM_FILE: Final = 1 << 20
"""Bytes of a certificate file."""

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")
"""What a demonstration's certificate is for."""

LIFETIME: Final = datetime.timedelta(days=825)
"""How long one that we make is valid: as long as all clients accept."""

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\s*", re.DOTALL)


class CertificateError(Exception):
    """A certificate file cannot be used: one line that names it, the fault and the way out."""


@attrs.frozen
class Certificate:
    """A server's certificate, what leads to its authority, and its private key.

    :param chain: certificates, the server's own first.
    :param key: its private key.
    :param pem: the server's own certificate as PEM, for those who pin it.
    """

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = attrs.field(repr=False)
    pem: bytes = attrs.field(repr=False)

    @property
    def leaf(self) -> x509.Certificate:
        """The server's own certificate."""
        return self.chain[0]

    @property
    def expires(self) -> datetime.datetime:
        """When it ends."""
        return self.leaf.not_valid_after_utc


def read_certificate(path: str) -> Certificate:
    """Read a certificate file.

    :raises CertificateError: where it is not there, may not be read, or is not what a server needs: a certificate with
        a subjectAltName, and the private key to it, ECDSA with P-256 or RSA with 2048 bits or more.
    """
    octets = _read(path, "connectctl init makes one for a demonstration; the key certificate names another")
    chain = _certificates(path, octets)
    key = _private_key(path, octets)
    leaf = chain[0]
    if leaf.public_key() != key.public_key():
        raise CertificateError(
            f"{path}: its private key does not belong to its first certificate (the server's own comes first)"
        )
    if not has_alternative_names(leaf):
        raise CertificateError(
            f"{path}: the certificate has no subjectAltName, so that clients cannot tell whose it is (have one issued "
            "that names the host)"
        )
    return Certificate(chain, key, leaf.public_bytes(serialization.Encoding.PEM))


def read_certificates(path: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file, whatever else is in it.

    :raises CertificateError: where it cannot be read, or has none.
    """
    return _certificates(path, _read(path, "ask whoever runs the server for it"))


def has_alternative_names(certificate: x509.Certificate) -> bool:
    """Whether a certificate says in a subjectAltName whose it is."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return False
    return len(list(names)) > 0


def make_certificate(names: Iterable[str], *, now: datetime.datetime | None = None) -> bytes:
    """A self-signed certificate and its key: ECDSA with P-256, no authority (CA:FALSE), for these names.

    :param names: host names and numeric addresses, all of which become its subjectAltName.
    :param now: when it begins; now, unless given.
    :return: PEM, what :func:`read_certificate` reads.
    """
    names = list(names)
    began = datetime.datetime.now(datetime.UTC) if now is None else now
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ.
        .not_valid_before(began - datetime.timedelta(hours=1))
        .not_valid_after(began + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private


def write_certificate(path: str, names: Iterable[str] = LOOPBACK_NAMES) -> bool:
    """Make a certificate file where there is none; only its owner can read it.

    :return: whether it is new.
    :raises OSError: where it cannot be written.
    """
    if os.path.lexists(path):
        return False
    try:
        write_new_file(path, make_certificate(names))
    except FileExistsError:
        return False
    return True


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _read(path: str, way_out: str) -> bytes:
    try:
        with open(path, "rb") as file:
            octets = file.read(MAXIMUM_FILE + 1)
    except FileNotFoundError:
        raise CertificateError(f"{path}: there is no such file ({way_out})") from None
    except PermissionError:
        raise CertificateError(f"{path}: this user may not read it (let the daemon's user own it)") from None
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(octets) > MAXIMUM_FILE:
        raise CertificateError(f"{path}: is larger than {MAXIMUM_FILE} bytes, which no certificate is")
    return octets


def _certificates(path: str, octets: bytes) -> tuple[x509.Certificate, ...]:
    found = _CERTIFICATE.findall(octets)
    if not found:
        raise CertificateError(f"{path}: there is no certificate in it (it has to be PEM: -----BEGIN CERTIFICATE-----)")
    try:
        return tuple(x509.load_pem_x509_certificate(one) for one in found)
    except ValueError:
        raise CertificateError(f"{path}: a certificate in it is damaged (copy the file again)") from None


def _private_key(path: str, octets: bytes) -> PrivateKey:
    # Without the certificates, which are not looked through for a key.
    rest = _CERTIFICATE.sub(b"", octets)
    # EC keys of OpenSSL's own form come with a block of parameters before them.
    rest = re.sub(rb"-----BEGIN EC PARAMETERS-----.*?-----END EC PARAMETERS-----\s*", b"", rest, flags=re.DOTALL)
    if b"PRIVATE KEY-----" not in rest:
        raise CertificateError(
            f"{path}: there is no private key in it (it has to follow the certificates: cat chain.pem key.pem)"
        )
    try:
        key = serialization.load_pem_private_key(rest, password=None)
    except TypeError:
        raise CertificateError(f"{path}: its private key has a passphrase (store it without one, mode 600)") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(f"{path}: its private key is damaged or of an unknown kind") from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return key
    raise CertificateError(f"{path}: its private key is neither ECDSA with P-256 nor RSA with 2048 bits or more")
