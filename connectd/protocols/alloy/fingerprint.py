"""The name of a certificate towards the session services (AL-12)."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256


def fingerprint(certificate: bytes) -> str:
    """Name a certificate: base64url(SHA-256(DER)) without padding, 43 characters.

    :param certificate: its DER encoding.
    """
    return urlsafe_b64encode(sha256(certificate).digest()).rstrip(b"=").decode("ascii")
