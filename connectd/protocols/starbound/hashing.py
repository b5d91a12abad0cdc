"""What proves a password, in either family of generations (SB-3, SB-4, SB-20).

None of this may run to its end on the reactor where it takes thousands of rounds (SB-5): :func:`legacy_hash_steps`
is for being cut into slices.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Generator
from hashlib import sha256
from typing import Final

from connectd.protocols.starbound.encoding import string_bytes

MINIMUM_ROUNDS: Final = 100
"""Fewer are refused by both sides (SB-4)."""
NOT_ENOUGH_ROUNDS: Final = "Not Enough Rounds"

STEP: Final = 200
"""Rounds between two chances to do something else: about 0.1 ms."""


def legacy_salt(account: str | bytes, challenge: str | bytes) -> bytes:
    """The salt of where the server speaks first: UTF-8(account + challenge). The challenge is not base64-decoded."""
    return string_bytes(account) + string_bytes(challenge)


def legacy_secret(password: str | bytes) -> bytes:
    """What suffices instead of the password where the server speaks first (SB-7): sha256 of it, 32 bytes."""
    return sha256(string_bytes(password)).digest()


def legacy_hash_steps(secret: bytes, salt: bytes, rounds: int, step: int = STEP) -> Generator[None, None, bytes]:
    """h = secret; rounds times h = sha256(h + salt) (SB-3), with a pause after each ``step`` rounds.

    :param secret: sha256 of the password, 32 bytes.
    :param salt: of :func:`legacy_salt`.
    :return: the 32 raw bytes, as the value of the generator.
    :raises ValueError: at the first step, where there are fewer than 100 rounds (SB-4).
    """
    if rounds < MINIMUM_ROUNDS:
        raise ValueError(NOT_ENOUGH_ROUNDS)
    digest = secret
    for start in range(0, rounds, step):
        for _ in range(min(step, rounds - start)):
            digest = sha256(digest + salt).digest()
        if start + step < rounds:
            yield
    return digest


def legacy_hash(secret: bytes, salt: bytes, rounds: int) -> bytes:
    """:func:`legacy_hash_steps` at once, for whoever has nothing else to do."""
    steps = legacy_hash_steps(secret, salt, rounds, rounds)
    try:
        next(steps)
    except StopIteration as end:
        digest: bytes = end.value
    return digest


def modern_hash(password: bytes, account: str | bytes, salt: bytes) -> bytes:
    """One sha256(password + account + salt), 32 raw bytes (SB-20)."""
    return sha256(password + string_bytes(account) + salt).digest()


def encode_legacy_response(digest: bytes) -> bytes:
    """The base64 text in which a hash goes over the wire where the server speaks first."""
    return base64.b64encode(digest)


def decode_legacy_response(text: bytes) -> bytes:
    """The hash in a response, or nothing where it is no base64 of 32 bytes: such a proof is simply wrong."""
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
    return digest if len(digest) == sha256().digest_size else b""
