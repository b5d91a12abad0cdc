"""Tokens of a player, signed and verified in one process."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.harness.control import Commands
from connectd.protocols.alloy.tokens import KeySet, key_identifier, verify

ISSUER, PLAYER, AUDIENCE, SCOPE, PRINT = "https://sessions.example", UUID(int=7), "us", "hytale:client", "A" * 43
ROUNDS = 3000


def load() -> Commands:
    """The commands: microseconds of CPU for each token, and for its signature alone."""
    key = Ed25519PrivateKey.generate()
    now = 1_800_000_000.0
    claims = {
        "iss": ISSUER,
        "sub": str(PLAYER),
        "aud": AUDIENCE,
        "exp": now + 3600,
        "iat": now,
        "nbf": now,
        "username": "Ann",
        "scope": SCOPE,
        "cnf": {"x5t#S256": PRINT},
    }
    text = f"{_encoded(json.dumps({'alg': 'EdDSA', 'kid': 'one'}))}.{_encoded(json.dumps(claims))}"
    signature = key.sign(text.encode())
    token = f"{text}.{_encoded(signature)}"
    public = key.public_key()
    entry = {"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": _encoded(public.public_bytes_raw())}
    keys = KeySet.from_json(json.dumps({"keys": [entry]}).encode())

    def whole() -> None:
        found = verify(token, keys.keys[key_identifier(token)], ISSUER, now)
        found.about(PLAYER).with_scope(SCOPE).for_audience(AUDIENCE).named("Ann").held_by(PRINT)

    return {
        "verify": lambda: _microseconds(whole),
        "signature": lambda: _microseconds(lambda: public.verify(signature, text.encode())),
    }


def _encoded(value: str | bytes) -> str:
    return urlsafe_b64encode(value.encode() if isinstance(value, str) else value).rstrip(b"=").decode()


def _microseconds(act: Any) -> float:
    began = time.process_time()
    for _ in range(ROUNDS):
        act()
    return (time.process_time() - began) / ROUNDS * 1e6
