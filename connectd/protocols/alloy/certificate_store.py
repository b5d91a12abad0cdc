"""Which certificate a server shows: the configured file, or the one that a thumbprint picks from a store (AL-11)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from hashlib import sha1
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from connectd.net.certificates import Certificate, CertificateError, read_certificate, read_certificates

THUMBPRINT: Final = "ALLOY_CERT_THUMBPRINT"
"""The environment variable: 40 hexadecimal digits, the SHA-1 of the certificate's DER encoding."""

SUFFIX: Final = ".pem"
"""Files of a store that are looked at."""

_FORM: Final = re.compile(r"[0-9A-Fa-f]{40}")


def thumbprint(certificate: bytes) -> str:
    """The name of a certificate in a store.

    :param certificate: its DER encoding.
    :return: 40 hexadecimal digits, in upper case as tools show them.
    """
    # A name among the operator's own files, not a proof of anything.
    return sha1(certificate, usedforsecurity=False).hexdigest().upper()


def choose_certificate(file: str, store: str, environment: Mapping[str, str]) -> str:
    """The path of the file to use: what the environment asks for from the store, else the configured one.

    :param file: the configured file.
    :param store: the directory of the store; nothing: there is none.
    :raises CertificateError: where the thumbprint is none, or nothing in the store has it.
    """
    wanted = environment.get(THUMBPRINT, "").strip()
    if not wanted:
        return file
    if _FORM.fullmatch(wanted) is None:
        raise CertificateError(f"{THUMBPRINT}={wanted[:80]!r} is no thumbprint: 40 hexadecimal digits, a SHA-1")
    if not store:
        raise CertificateError(f"{THUMBPRINT} is set, and there is no certificate_store to look in")
    try:
        names = sorted(name for name in os.listdir(store) if name.endswith(SUFFIX))
    except OSError as error:
        raise CertificateError(f"{store}: the certificate store cannot be read: {error.strerror}") from None
    seen = []
    for name in names:
        path = os.path.join(store, name)
        try:
            found = thumbprint(read_certificates(path)[0].public_bytes(Encoding.DER))
        except CertificateError:
            continue
        if found == wanted.upper():
            return path
        seen.append(f"{name} ({found})")
    has = ", ".join(seen) or f"no certificate (files that end in {SUFFIX})"
    raise CertificateError(f"{store}: no certificate has the {THUMBPRINT} {wanted.upper()}; there is {has}")


def read_alloy_certificate(path: str) -> Certificate:
    """Read a certificate that Alloy's peers take: ECDSA on P-256.

    :raises CertificateError: for any other.
    """
    certificate = read_certificate(path)
    if not isinstance(certificate.key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path}: the key is not ECDSA on P-256, and Alloy's peers take no other")
    return certificate
