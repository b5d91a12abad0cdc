"""Tokens as the session services sign them, made without the library that verifies them."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def encoded(value: Any) -> str:
    """The base64url of some bytes, or of a value as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


class Signer:
    """A key of the services.

    :param kid: its name.
    """

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self._key = Ed25519PrivateKey.generate()
        self.signed: list[str] = []
        """All tokens."""

    def public(self) -> dict[str, Any]:
        """The key as an entry of a key set."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "kid": self.kid,
            "x": encoded(self._key.public_key().public_bytes_raw()),
        }

    def sign(self, claims: Any, **header: Any) -> str:
        """A token; ``header`` adds to its header."""
        text = f"{encoded({'alg': 'EdDSA', 'kid': self.kid, **header})}.{encoded(claims)}"
        self.signed.append(f"{text}.{encoded(self._key.sign(text.encode()))}")
        return self.signed[-1]

    def read(self, token: str) -> Any:
        """The claims of a token that this key signed."""
        text, _, signature = token.rpartition(".")
        self._key.public_key().verify(urlsafe_b64decode(f"{signature}=="), text.encode())
        return json.loads(urlsafe_b64decode(f"{text.partition('.')[2]}=="))
