"""The secured channel: plaintext to tokens and back, with one key for both directions (FM-7, FM-10, FM-15)."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from connectd.protocols.fmltp.exchange import derive_key
from connectd.protocols.fmltp.fernet import HEADER_SIZE, IV_SIZE, MAC_SIZE, FernetKey
from connectd.protocols.fmltp.packets import MAXIMUM_PLAINTEXT
from connectd.protocols.fmltp.replay import ReplayError, ReplayGuard
from connectd.protocols.fmltp.tokens import MAXIMUM_TOKEN, TokenError, TokenReader, line_ends
from connectd.sansio import Random, default_random

STAMPED_ALIKE: Final = 2048
"""Tokens that carry the same second. The next one carries the next, so that no receiver's memory is full of one."""

_MARK_SIZE: Final = 8
_NONCE_SIZE: Final = IV_SIZE - _MARK_SIZE


class ChannelError(ValueError):
    """What came is not what the peer can have sent to us.

    :param offset: of the first wrong byte, or of the token that is wrong, from the start of what was not yet taken.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.offset = offset


class Channel:
    """One side's end of it.

    Both directions use the same key, so a token of ours that somebody sends back would verify. Ours carry a mark: the
    second half of the IV is a keyed hash of its first half, which is random, with a key that nobody else ever has.

    :param secret: the shared secret, left-padded to the modulus' length.
    :param random: gives random bytes.
    :param maximum: characters of the longest token to take.
    """

    __slots__ = ("_alike", "_guard", "_key", "_marking", "_random", "_reader", "_stamp")

    def __init__(self, secret: bytes, *, random: Random = default_random, maximum: int = MAXIMUM_TOKEN) -> None:
        self._key = FernetKey(derive_key(secret))
        self._reader = TokenReader(self._key, maximum)
        self._guard = ReplayGuard()
        self._random = random
        self._marking = random(16)
        self._stamp = 0
        self._alike = 0

    def allow(self, maximum: int) -> None:
        """Take tokens of so many characters from now on; to be called between tokens."""
        self._reader.maximum = maximum

    @property
    def offset(self) -> float | None:
        """The peer's clock minus ours, in seconds, by its first token; None until then."""
        return self._guard.offset

    @property
    def full_until(self) -> float | None:
        """Until when nothing more is taken, where that is so (FM-15)."""
        return self._guard.full_until

    def seal(self, plaintext: bytes, now: float = 0.0) -> bytes:
        """A token with its CRLF, for one write.

        :param plaintext: at most :data:`~.packets.MAXIMUM_PLAINTEXT` bytes.
        :param now: Unix time; that of the token before it unless given. Stamps never go back, whatever the clock does.
        """
        if len(plaintext) > MAXIMUM_PLAINTEXT:
            raise ValueError(f"{len(plaintext)} bytes do not fit into a token: at most {MAXIMUM_PLAINTEXT}")
        stamp = max(int(now), self._stamp)
        if stamp == self._stamp:
            self._alike += 1
            if self._alike >= STAMPED_ALIKE:
                stamp += 1
                self._alike = 0
        else:
            self._alike = 0
        self._stamp = stamp
        nonce = self._random(_NONCE_SIZE)
        return self._key.encrypt(plaintext, stamp, nonce + self._mark(nonce)) + b"\r\n"

    def open(self, data: bytearray, now: float) -> tuple[bytes, int] | None:
        """The plaintext of the first token.

        :param data: what came and was not yet taken; line ends before a token belong to it.
        :return: it, and how many bytes of ``data`` are done with; None until more came, or there is room (FM-15).
        :raises ChannelError: for all that the peer cannot have sent to us.
        """
        self._guard.make_room(now)
        if not data or self._guard.full_until is not None:
            return None
        try:
            found = self._reader.read(data)
        except TokenError as error:
            raise ChannelError(str(error), error.offset) from None
        if found is None:
            return None
        token, size = found
        nonce, mark = token[9 : 9 + _NONCE_SIZE], token[9 + _NONCE_SIZE : HEADER_SIZE]
        if hmac.compare_digest(mark, self._mark(nonce)):
            raise ChannelError("a token of ours came back", 0)
        try:
            self._guard.admit(int.from_bytes(token[1:9], "big"), token[-MAC_SIZE:], now)
            return self._key.decrypt(token), size
        except ReplayError as error:
            raise ChannelError(str(error), 0) from None
        except ValueError as error:
            raise ChannelError(f"a token with {error}", 0) from None

    def skip(self, data: bytearray) -> int:
        """How many bytes stand before the next token: CR and LF of the one before."""
        return line_ends(data)

    def _mark(self, nonce: bytes) -> bytes:
        return hashlib.blake2b(nonce, key=self._marking, digest_size=_MARK_SIZE).digest()
