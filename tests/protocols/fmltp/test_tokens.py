"""Tests of :mod:`connectd.protocols.fmltp.fernet` and :mod:`connectd.protocols.fmltp.tokens`."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any
from unittest import mock

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.fmltp import tokens
from connectd.protocols.fmltp.fernet import FernetKey, is_token, token_size
from connectd.protocols.fmltp.packets import MAXIMUM_PLAINTEXT
from connectd.protocols.fmltp.tokens import MAXIMUM_TOKEN, TokenError, TokenReader, line_ends
from tests.strategies import cut, segmentations

KEY = bytes(range(32))
ORACLE = Fernet(urlsafe_b64encode(KEY))

TEXTS = [b"x" * length for length in (0, 15, 16, 31, 32, 47, 48, 100, 127, 128, 500, 703, 2000)]
"""With no padding, one, and two characters of it."""


def sealed(text: bytes, stamp: int = 1_000_000_000) -> bytes:
    """A token, without line end."""
    return ORACLE.encrypt_at_time(text, stamp)


def split(pieces: list[bytes], maximum: int = MAXIMUM_TOKEN) -> tuple[list[bytes], tuple[str, int] | None]:
    """What is in the tokens of a stream, and what was wrong, at which offset."""
    key = FernetKey(KEY)
    reader = TokenReader(key, maximum)
    data = bytearray()
    found: list[bytes] = []
    consumed = 0
    for piece in pieces:
        data += piece
        while True:
            skipped = line_ends(data)
            del data[:skipped]
            consumed += skipped
            if not data:
                break
            try:
                token = reader.read(data)
            except TokenError as error:
                return found, (str(error), consumed + error.offset)
            if token is None:
                break
            found.append(key.decrypt(token[0]))
            consumed += token[1]
            del data[: token[1]]
    return found, None


class FernetTests(SynchronousTestCase):
    def test_the_vector_of_the_specification(self) -> None:
        """FM-7: Fernet, as its own specification has it."""
        key = FernetKey(urlsafe_b64decode("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="))
        token = key.encrypt(b"hello", 499_162_800, bytes(range(16)))
        expected = (
            b"gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=="
        )
        self.assertEqual(token, expected)
        raw = urlsafe_b64decode(expected)
        self.assertTrue(key.verifies(raw))
        self.assertEqual(key.decrypt(raw), b"hello")

    @given(st.binary(max_size=200), st.integers(0, 2**40), st.binary(min_size=16, max_size=16))
    def test_as_cryptography_does(self, text: bytes, stamp: int, iv: bytes) -> None:
        token = FernetKey(KEY).encrypt(text, stamp, iv)
        self.assertEqual(token, ORACLE._encrypt_from_parts(text, stamp, iv))
        self.assertEqual((ORACLE.decrypt(token), ORACLE.extract_timestamp(token)), (text, stamp))
        self.assertEqual(token_size(len(text)), len(token))
        self.assertTrue(is_token(len(urlsafe_b64decode(token))))

    @given(st.integers(0, 104), st.integers(1, 255))
    def test_any_other_byte(self, place: int, change: int) -> None:
        """FM-8: whatever is changed in a token, its HMAC tells."""
        raw = bytearray(urlsafe_b64decode(sealed(b"x" * 40)))
        raw[place] ^= change
        self.assertFalse(FernetKey(KEY).verifies(bytes(raw)))
        self.assertFalse(FernetKey(bytes(32)).verifies(urlsafe_b64decode(sealed(b"x"))))

    def test_wrong_padding(self) -> None:
        """What its own writer padded wrongly is no plaintext."""
        key = FernetKey(KEY)
        for block in (bytes(16), bytes(15) + b"\x11", bytes(14) + b"\1\2", b"\x0f" * 15 + b"\x10"):
            raw = urlsafe_b64decode(_unpadded(block))
            self.assertTrue(key.verifies(raw))
            self.assertRaises(ValueError, key.decrypt, raw)

    def test_key_size(self) -> None:
        self.assertRaises(ValueError, FernetKey, bytes(31))

    def test_is_token(self) -> None:
        """FM-10: 57 + 16k bytes."""
        self.assertEqual([size for size in range(130) if is_token(size)], [73, 89, 105, 121])


def _unpadded(block: bytes) -> bytes:
    """A token whose plaintext is one block that is not padded."""
    encryptor = Cipher(algorithms.AES(KEY[16:]), modes.CBC(bytes(16))).encryptor()
    body = b"\x80" + (1).to_bytes(8, "big") + bytes(16) + encryptor.update(block)
    return urlsafe_b64encode(body + hmac.digest(KEY[:16], body, "sha256"))


class TokenTests(SynchronousTestCase):
    def test_with_crlf(self) -> None:
        """FM-10: a token ends at CR or LF."""
        for end in (b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\r"):
            stream = b"".join(sealed(text) + end for text in TEXTS)
            self.assertEqual(split([stream]), (TEXTS, None))

    def test_without(self) -> None:
        """FM-10: after its padding, or, where it has none, at the first admissible length at which its HMAC verifies."""
        self.assertEqual(split([b"".join(map(sealed, TEXTS))]), (TEXTS, None))
        self.assertEqual(split([sealed(text) for text in TEXTS]), (TEXTS, None))

    @given(st.data())
    def test_any_segmentation(self, data: st.DataObject) -> None:
        """FM-10: split or joined by TCP in any way, with line ends or without."""
        texts = data.draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=5))
        ends = data.draw(
            st.lists(st.sampled_from([b"", b"", b"\r\n", b"\n", b"\r"]), min_size=len(texts), max_size=len(texts))
        )
        stream = b"".join(sealed(text) + end for text, end in zip(texts, ends, strict=True))
        self.assertEqual(split(data.draw(segmentations(stream))), (texts, None))

    @given(st.data())
    def test_bad_streams_in_any_segmentation(self, data: st.DataObject) -> None:
        """FM-10, COM-3: what is wrong is found at the same offset however it comes, and not a token before it is lost."""
        good = data.draw(st.lists(st.sampled_from(TEXTS), max_size=3))
        bad = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=200),
                st.sampled_from(
                    [
                        sealed(b"x" * 47)[:-3] + b"AAA",
                        sealed(b"x")[:-3] + b"A==",
                        b"g",
                        b"gA=",
                        b"gAAAAA+/",
                        b"gAAAAAAA====",
                    ]
                ),
                st.text("gA_-=", min_size=1, max_size=300).map(str.encode),
                st.sampled_from(TEXTS).map(lambda text: sealed(text)[:-1] + b"!"),
            )
        )
        end = data.draw(st.sampled_from([b"", b"\r\n", b"==", b"gAAAAA" * 40]))
        stream = b"".join(sealed(text) + data.draw(st.sampled_from([b"", b"\r\n"])) for text in good) + bad + end
        whole = split([stream])
        self.assertEqual(split(data.draw(segmentations(stream))), whole)
        self.assertEqual(whole[0][: len(good)], good)

    def test_not_a_token(self) -> None:
        """FM-10: each byte that cannot be is found at once, with its offset."""
        good = sealed(b"x" * 47)  # 140 characters, none of them padding
        wrong = {
            b"GET / HTTP/1.1\r\n": 0,
            b"=": 0,
            b"h": 0,
            b"gQ": 1,
            b"g\r\n": 1,
            b"gAAA!": 4,
            b"gAAA+": 4,
            b"gAAA/": 4,
            b"gAAA\0": 4,
            b"gAAA\xff": 4,
            b"gAAA ": 4,
            b"gAAAA=": 5,
            b"gAAA=": 4,
            b"gAAAA=\r\n": 5,
            b"gAAAAA=A": 7,
            b"gAAAAAA=": 0,
            b"gAAAAA==": 0,
            good[:-1] + b"\r\n": 0,
            good[:-4] + b"\r\n": 0,
            good[:70] + b"\n": 0,
            good[:-1] + (b"A" if good[-1:] != b"A" else b"B") + b"\r\n": 0,
            good + b"!": 140,
            good + b"=": 140,
            good + good[:-1] + b"!": 279,
            sealed(b"x")[:-2] + b"\r\n": 0,
            sealed(b"x") + b"=": 100,
            sealed(b"x")[:-2] + b"====\r\n": 100,
        }
        for stream, offset in wrong.items():
            for pieces in ([stream], cut(stream, range(1, len(stream)))):
                error = split(pieces)[1]
                self.assertIsNotNone(error, stream)
                self.assertEqual(error and error[1], offset, stream)

    def test_not_yet(self) -> None:
        """What may become a token is waited for."""
        for text in TEXTS:
            token = sealed(text)
            for size in (1, 2, 3, 50, len(token) - 1, len(token) - 2):
                self.assertEqual(split([token[:size]]), ([], None))

    def test_cap(self) -> None:
        """FM-10: at most 64 KiB, and not a byte more is waited for."""
        longest = b"x" * MAXIMUM_PLAINTEXT
        for end in (b"\r\n", b""):
            self.assertEqual(split([sealed(longest) + end] * 2), ([longest] * 2, None))
            stream = sealed(longest + b"x") + end
            for pieces in ([stream], [stream[:60_000], stream[60_000:65_532], stream[65_532:]]):
                found, error = split(pieces)
                self.assertEqual((found, error and error[1]), ([], MAXIMUM_TOKEN))
        self.assertEqual(
            split([b"gA" + b"A" * 70_000])[1], (f"a token of more than {MAXIMUM_TOKEN} characters", MAXIMUM_TOKEN)
        )
        self.assertEqual(split([sealed(b"x" * 100)], maximum=200)[0], [])
        self.assertEqual(split([sealed(b"x" * 99)], maximum=228)[0], [b"x" * 99])
        for maximum in (97, 98, 99):
            for pieces in ([sealed(b"x")], cut(sealed(b"x"), range(1, 100))):
                error = split(pieces, maximum)[1]
                self.assertEqual(error, (f"a token of more than {maximum} characters", maximum))

    def test_other_base64_of_the_same_bytes(self) -> None:
        """The bits that padding leaves over are nobody's: the token is the same, and so is its HMAC."""
        token = sealed(b"x")
        other = token[:-3] + bytes((token[-3] + 1,)) + b"=="
        self.assertEqual(urlsafe_b64decode(token), urlsafe_b64decode(other))
        self.assertEqual(split([other]), ([b"x"], None))


def differing(one: object, other: object) -> bool:
    """A comparison that finds nothing equal."""
    return False


class CostTests(SynchronousTestCase):
    """How much is hashed and decoded, not how long that takes."""

    def count(self, pieces: list[bytes]) -> tuple[int, int, int]:
        """Bytes hashed, HMACs asked for, characters decoded."""
        hashed = asked = decoded = 0
        real_decode, real_digest = tokens._decode, hmac.digest

        def decode(data: bytearray, start: int, end: int) -> bytes:
            nonlocal decoded
            decoded += end - start
            return real_decode(data, start, end)

        def digest(key: bytes, data: Any, name: str) -> bytes:
            nonlocal hashed, asked
            hashed += len(data)
            asked += 1
            result: bytes = real_digest(key, data, name)
            return result

        class Counting:
            def __init__(self, mac: Any) -> None:
                self.mac = mac

            def update(self, data: Any) -> None:
                nonlocal hashed
                hashed += len(data)
                self.mac.update(data)

            def copy(self) -> Any:
                return Counting(self.mac.copy())

            def finalize(self) -> bytes:
                nonlocal asked
                asked += 1
                result: bytes = self.mac.finalize()
                return result

        real_mac = FernetKey.mac
        with (
            mock.patch.object(tokens, "_decode", decode),
            mock.patch("hmac.digest", digest),
            mock.patch.object(FernetKey, "mac", lambda key: Counting(real_mac(key))),
        ):
            found, error = split(pieces)
        self.assertIsNone(error)
        self.assertTrue(found)
        return hashed, asked, decoded

    def test_a_line_is_hashed_once(self) -> None:
        """FM-10: a token with its line end is hashed and decoded once, as a whole."""
        stream = sealed(b"x" * 10_000) + b"\r\n"
        hashed, asked, decoded = self.count([stream])
        self.assertEqual(asked, 1)
        self.assertLessEqual(hashed, len(stream) * 3 // 4)
        self.assertLessEqual(decoded, len(stream))

    def test_each_byte_is_hashed_once(self) -> None:
        """FM-10: state is carried forward: however a token is cut up, no byte is hashed or decoded twice."""
        for text in (b"x" * 10_000, b"x" * 10_015, b"x" * 10_031):
            token = sealed(text)
            for stream in (token, token + b"\r\n"):
                for size in (1, 7, 64, 1448):
                    hashed, asked, decoded = self.count(cut(stream, range(size, len(stream), size)))
                    self.assertLessEqual(hashed, len(token) * 3 // 4)
                    self.assertLessEqual(decoded, len(token))
                    self.assertLessEqual(asked, len(token) // 64 + 2)

    def test_joined_tokens(self) -> None:
        """FM-10: what many short tokens that were run together cost grows with their number, not with its square."""
        for text in (b"x" * 47, b"x" * 40, b"x" * 90):
            for end in (b"", b"\r\n"):
                stream = sealed(text) * 300 + sealed(b"x") + end
                hashed, asked, decoded = self.count([stream])
                self.assertLessEqual(hashed, 8 * len(stream))
                self.assertLessEqual(asked, 300 * 20)
                self.assertLessEqual(decoded, 10 * len(stream))

    def test_memory(self) -> None:
        """COM-2: beside the bytes themselves, three quarters of their number."""
        reader = TokenReader(FernetKey(KEY))
        data = bytearray(b"gAAAAA")
        while len(data) < MAXIMUM_TOKEN:
            data += b"A" * 1000
            del data[MAXIMUM_TOKEN:]
            self.assertIsNone(reader.read(data))
        self.assertLessEqual(len(reader._decoded), MAXIMUM_TOKEN * 3 // 4)

    def test_compared_in_constant_time(self) -> None:
        """COM-9: every HMAC is compared by ``hmac.compare_digest``."""
        stream = sealed(b"x" * 47) * 2 + sealed(b"x") + b"\r\n" + sealed(b"xx")
        pieces = cut(stream, range(9, len(stream), 9))
        self.assertEqual(len(split(pieces)[0]), 4)
        with mock.patch("hmac.compare_digest", differing):
            self.assertEqual(split([stream])[0], [])
            self.assertEqual(split(pieces)[0], [])
            for single in (sealed(b"x"), sealed(b"x") + b"\r\n", sealed(b"x" * 47) + b"\n"):
                self.assertEqual(split([single])[0], [])
