"""Where one token ends and the next begins (FM-10).

Deployed peers write tokens without anything between them and rely on one write being one read. So a token ends at CR
or LF, after its ``=`` padding, or, where it has none, at the first length that a token can have at which its HMAC is
right. Whole lines are decoded and hashed at once. Otherwise the HMAC is carried along: each byte is hashed once, and
a copy of the state is asked at each admissible length, of which there is one in 64 characters.
"""

from __future__ import annotations

import binascii
import hmac
import re
from typing import Final

from cryptography.hazmat.primitives.hmac import HMAC

from connectd.protocols.fmltp.fernet import HEADER_SIZE, MAC_SIZE, FernetKey, is_token

MAXIMUM_TOKEN: Final = 65_532
"""Characters of the longest token: with its CRLF it fits into 64 KiB."""

_FIRST: Final = 140
"""Characters of the shortest token without padding; the others are longer by multiples of 64."""
_STEP: Final = 64
_STEP_BYTES: Final = 48
_AT_ONCE: Final = 8 * _STEP
"""Characters that are decoded at once: most tokens of peers that end none with CRLF are short."""

_OUTSIDE = re.compile(rb"[^A-Za-z0-9_-]")
_LINE_ENDS = re.compile(rb"[\r\n]*")
_TO_STANDARD = bytes.maketrans(b"-_+/", b"+/!!")
_VERSION_AND_TIME = frozenset(b"ABCDEFGHIJKLMNOP")
"""The second character of a token whose first byte is 0x80."""
_CR, _LF, _PADDING = b"\r\n="


class TokenError(ValueError):
    """Bytes that are not tokens.

    :param offset: of the first wrong byte, or of the token that is wrong, from the start of the token.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.offset = offset


def line_ends(data: bytearray) -> int:
    """How many CR and LF the bytes begin with: they may stand between tokens."""
    if not data or data[0] not in b"\r\n":
        return 0
    found = _LINE_ENDS.match(data)
    return found.end() if found else 0


class TokenReader:
    """Splits what a peer sends into tokens whose HMAC is right.

    Where nothing of a line was looked at before, it is taken for one token, which it is unless the peer runs tokens
    together; then the rest of that line is walked. So a byte is hashed once, and in such a line twice.

    The bytes belong to the caller, who passes the same ones again with more behind them until a token is whole, and
    then drops that token's bytes. Beyond those, it holds at most three quarters of their number, decoded.

    A peer that has the key can write a token whose beginning is a token as well. What that means depends on whether
    its line end came with it; nobody but that peer can do this.

    :param key: of the exchange.
    :param maximum: characters of the longest token to take, at most :data:`MAXIMUM_TOKEN`.
    """

    __slots__ = ("_decoded", "_hashed", "_key", "_mac", "_scanned", "maximum")

    def __init__(self, key: FernetKey, maximum: int = MAXIMUM_TOKEN) -> None:
        self._key = key
        self.maximum = maximum
        self._mac: HMAC | None = None
        self._decoded = bytearray()
        self._hashed = 0
        self._scanned = 0

    def read(self, data: bytearray) -> tuple[bytes, int] | None:
        """The first token.

        :param data: begins where a token begins, with no CR or LF.
        :return: its bytes before base64, and how many characters it has in ``data``; None until it is whole.
        :raises TokenError: for what is none.
        """
        if not self._decoded:
            _check_start(data)
        scanned = self._scanned
        end = data.find(b"\n", scanned, self.maximum + 2)
        if end >= 0 and not scanned:
            size = end - 1 if data[end - 1] == _CR else end
            token = self._whole(data, size)
            if token is not None:
                return token, size
        found = _OUTSIDE.search(data, scanned, self.maximum + 1)
        end = len(data) if found is None else found.start()
        kind = None if found is None else data[end]
        if kind == _PADDING and not scanned:
            size = end + -end % 4
            token = self._whole(data, size)
            if token is not None:
                return token, size
        split = self._walk(data, min(end, self.maximum))
        if split is not None:
            return split
        if kind is None:
            if end > self.maximum:
                raise TokenError(f"a token of more than {self.maximum} characters", self.maximum)
        elif kind == _PADDING:
            size = self._padded_size(data, end)
            if size:
                return self._padded(data, size), size
        elif kind in b"\r\n":
            raise TokenError("a token that does not verify", 0)
        else:
            raise TokenError("a byte that is in no token", end)
        self._scanned = end
        return None

    def _padded_size(self, data: bytearray, end: int) -> int:
        """Characters of a token with padding at ``end``; 0 until all of it is there."""
        size = end + -end % 4
        if size - end not in (1, 2):
            raise TokenError("padding where none can be", end)
        if size > self.maximum:
            raise TokenError(f"a token of more than {self.maximum} characters", self.maximum)
        if len(data) < size:
            return 0
        if data[size - 1] != _PADDING:
            raise TokenError("padding that is cut short", size - 1)
        return size

    def _whole(self, data: bytearray, size: int) -> bytes | None:
        """A token of which the end is known and nothing was decoded yet; None where that is not all of the truth."""
        if size % 4 or size > self.maximum:
            return None
        try:
            token = _decode(data, 0, size)
        except binascii.Error:
            return None
        if -(-len(token) // 3) * 4 != size or not is_token(len(token)) or not self._key.verifies(token):
            return None
        self._scanned = 0
        return token

    def _walk(self, data: bytearray, end: int) -> tuple[bytes, int] | None:
        """Ask at each admissible length up to ``end`` whether a token ends there."""
        decoded = self._decoded
        done = len(decoded) // 3 * 4
        size = done + _STEP if done else _FIRST
        if size > end:
            return None
        mac = self._mac
        if mac is None:
            mac = self._mac = self._key.mac()
        while size <= end:
            last = min(size + _AT_ONCE, end - (end - size) % _STEP)
            decoded += _decode(data, done, last)
            token = self._ask(mac, size // 4 * 3)
            if token is not None:
                size = len(token) // 3 * 4
                self._start_again(end - size)
                return token, size
            done, size = last, last + _STEP
        return None

    def _ask(self, mac: HMAC, first: int) -> bytes | None:
        """Ask at each admissible length from ``first`` to what is decoded."""
        decoded, hashed = self._decoded, self._hashed
        with memoryview(decoded) as view:
            for size in range(first, len(decoded) + 1, _STEP_BYTES):
                mac.update(view[hashed : size - MAC_SIZE])
                hashed = size - MAC_SIZE
                if hmac.compare_digest(mac.copy().finalize(), view[hashed:size]):
                    return bytes(view[:size])
        self._hashed = hashed
        return None

    def _padded(self, data: bytearray, size: int) -> bytes:
        """A token with padding, of which the beginning was walked."""
        decoded = self._decoded
        token = bytes(decoded) + _decode(data, len(decoded) // 3 * 4, size)
        mac = self._mac or self._key.mac()
        if is_token(len(token)):
            with memoryview(token) as view:
                mac.update(view[self._hashed : -MAC_SIZE])
                if hmac.compare_digest(mac.finalize(), view[-MAC_SIZE:]):
                    self._start_again()
                    return token
        raise TokenError("a token that does not verify", 0)

    def _start_again(self, scanned: int = 0) -> None:
        """Forget all of the token that was found.

        :param scanned: how many bytes behind it are known to be of the alphabet.
        """
        self._mac = None
        self._decoded = bytearray()
        self._hashed = 0
        self._scanned = scanned


def _check_start(data: bytearray) -> None:
    """Turn away what is no token at its first byte."""
    if data[0] != ord("g"):
        raise TokenError("not a token", 0)
    if len(data) > 1 and data[1] not in _VERSION_AND_TIME:
        raise TokenError("not a token", 1)


def _decode(data: bytearray, start: int, end: int) -> bytes:
    """URL-safe base64, and nothing but that.

    :raises binascii.Error: for anything else.
    """
    return binascii.a2b_base64(data[start:end].translate(_TO_STANDARD), strict_mode=True)


assert _FIRST // 4 * 3 == HEADER_SIZE + MAC_SIZE + _STEP_BYTES
