"""Fernet tokens: version 0x80, u64 seconds, 16 bytes IV, AES-128-CBC with PKCS#7 padding, HMAC-SHA256; URL-safe base64.

``cryptography.fernet`` keeps the time and the randomness to itself and wants whole tokens; here both come in, and
the HMAC can be asked for in steps (:mod:`~.tokens`).
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hmac import HMAC

KEY_SIZE: Final = 32
VERSION: Final = 0x80
HEADER_SIZE: Final = 25
"""Version, time and IV."""
MAC_SIZE: Final = 32
BLOCK_SIZE: Final = 16
IV_SIZE: Final = 16
MINIMUM_SIZE: Final = HEADER_SIZE + BLOCK_SIZE + MAC_SIZE
"""Bytes of the smallest token before base64."""

_SHA256 = hashes.SHA256()


def token_size(plaintext: int) -> int:
    """Characters of the token of that many bytes of plaintext, padding included, CRLF not."""
    return -(-(HEADER_SIZE + MAC_SIZE + BLOCK_SIZE * (plaintext // BLOCK_SIZE + 1)) // 3) * 4


def is_token(size: int) -> bool:
    """Whether a token can have that many bytes before base64."""
    return size >= MINIMUM_SIZE and (size - HEADER_SIZE - MAC_SIZE) % BLOCK_SIZE == 0


class FernetKey:
    """A key, and what is done with it.

    :param key: 32 bytes: 16 to sign with, 16 to encrypt with.
    """

    __slots__ = ("_aes", "_mac", "_signing")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"a Fernet key has {KEY_SIZE} bytes")
        self._signing = key[:16]
        self._mac = HMAC(self._signing, _SHA256)
        self._aes = algorithms.AES(key[16:])

    def mac(self) -> HMAC:
        """A new HMAC, to be fed in pieces; copies of it tell what it is so far."""
        return self._mac.copy()

    def encrypt(self, plaintext: bytes, stamp: int, iv: bytes) -> bytes:
        """A token, without line end.

        :param stamp: seconds, Unix time.
        :param iv: 16 bytes that nobody could guess.
        """
        pad = BLOCK_SIZE - len(plaintext) % BLOCK_SIZE
        encryptor = Cipher(self._aes, modes.CBC(iv)).encryptor()
        ciphertext = encryptor.update(plaintext + bytes((pad,)) * pad)
        body = b"".join((b"\x80", stamp.to_bytes(8, "big"), iv, ciphertext))
        return urlsafe_b64encode(body + hmac.digest(self._signing, body, "sha256"))

    def verifies(self, token: bytes) -> bool:
        """Whether a token's HMAC is right.

        :param token: before base64.
        """
        view = memoryview(token)
        return hmac.compare_digest(hmac.digest(self._signing, view[:-MAC_SIZE], "sha256"), view[-MAC_SIZE:])

    def decrypt(self, token: bytes | bytearray) -> bytes:
        """The plaintext of a token.

        :param token: before base64; its HMAC was found right.
        :raises ValueError: where the padding is wrong.
        """
        decryptor = Cipher(self._aes, modes.CBC(bytes(token[9:HEADER_SIZE]))).decryptor()
        with memoryview(token) as view:
            padded = decryptor.update(view[HEADER_SIZE:-MAC_SIZE])
        pad = padded[-1]
        if not 1 <= pad <= BLOCK_SIZE or padded[-pad:] != bytes((pad,)) * pad:
            raise ValueError("wrong padding")
        return padded[:-pad]
