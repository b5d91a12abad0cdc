"""RSA keys and what is signed with them: CH-2, CH-20, CH-21. Nothing here is quick enough for the reactor's thread."""

from __future__ import annotations

import secrets
from functools import lru_cache
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

MINIMUM_BITS: Final = 2048
MAXIMUM_BITS: Final = 8192
EXPONENT_LIMIT: Final = 1 << 33
"""Public exponents are odd, at least 3 and less than this (CH-21)."""

_DECOY_EXPONENT: Final = 65537


class InvalidKey(ValueError):
    """A key cannot be registered: one line that says why."""


def check_key(key: bytes) -> RSAPublicKey:
    """Load a key that somebody wants to register (CH-21).

    :param key: DER SubjectPublicKeyInfo. There must be one way only to write a key, since bans name its fingerprint.
    :raises InvalidKey: where it is no RSA key of 2048 to 8192 bits with a usable exponent.
    """
    try:
        public = load_der_public_key(key)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidKey("this is not the DER SubjectPublicKeyInfo of a public key") from None
    if not isinstance(public, RSAPublicKey):
        raise InvalidKey("this is not an RSA key")
    if not MINIMUM_BITS <= public.key_size <= MAXIMUM_BITS:
        raise InvalidKey(f"an RSA key of {public.key_size} bits: {MINIMUM_BITS} to {MAXIMUM_BITS} are possible")
    exponent = public.public_numbers().e
    if not 3 <= exponent < EXPONENT_LIMIT or not exponent % 2:
        raise InvalidKey("the public exponent is not odd, at least 3 and less than 2^33")
    if encode_key(public) != key:
        raise InvalidKey("this RSA key is not written as DER demands")
    return public


def encode_key(public: RSAPublicKey) -> bytes:
    """A key as DER SubjectPublicKeyInfo."""
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign(private: RSAPrivateKey, data: bytes) -> bytes:
    """SHA256withRSA, as Java calls it: PKCS#1 v1.5."""
    return private.sign(data, PKCS1v15(), hashes.SHA256())


def sign_uuid(private: RSAPrivateKey, uuid: UUID) -> bytes:
    """What a Connect proves its UUID with (CH-2): it is a key to the door for ever, for whoever sees it."""
    return sign(private, uuid.bytes)


def is_signed(public: RSAPublicKey, signature: bytes, data: bytes) -> bool:
    """Whether a signature is that of this key for this data."""
    try:
        public.verify(signature, data, PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def verify_uuid(key: bytes | None, signature: bytes, uuid: UUID) -> bool:
    """Whether a signature proves a UUID (CH-2). To be called in a thread: OpenSSL releases the interpreter lock.

    The work depends on the length of the signature and on nothing that the directory knows (CH-2, COM-10): where there
    is no key, or one of another size, whose signature this cannot be, a decoy of the signature's size is asked in its
    place. What is left is the key's exponent, if it is an unusual one.

    :param key: the DER SubjectPublicKeyInfo on record, or None.
    """
    size = len(signature)
    decoy = _decoy(min(max(size, MINIMUM_BITS // 8), MAXIMUM_BITS // 8))
    try:
        public = load_der_public_key(decoy if key is None else key)
    except (ValueError, UnsupportedAlgorithm):
        public = load_der_public_key(decoy)
        key = None
    if not isinstance(public, RSAPublicKey) or (public.key_size + 7) // 8 != size:
        is_signed(_loaded_decoy(decoy), signature.rjust(MINIMUM_BITS // 8, b"\0"), uuid.bytes)
        return False
    return is_signed(public, signature, uuid.bytes) and key is not None


@lru_cache(maxsize=1024)
def _decoy(size: int) -> bytes:
    """The key of nobody, with a modulus of so many bytes; its factors are known to nobody either."""
    modulus = secrets.randbits(8 * size) | 1 << 8 * size - 1 | 1
    return encode_key(RSAPublicNumbers(_DECOY_EXPONENT, modulus).public_key())


def _loaded_decoy(decoy: bytes) -> RSAPublicKey:
    public = load_der_public_key(decoy)
    assert isinstance(public, RSAPublicKey)
    return public
