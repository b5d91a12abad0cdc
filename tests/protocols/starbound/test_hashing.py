"""Tests of :mod:`connectd.protocols.starbound.hashing`."""

from __future__ import annotations

import base64
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.starbound.hashing import (
    MINIMUM_ROUNDS,
    NOT_ENOUGH_ROUNDS,
    STEP,
    decode_legacy_response,
    encode_legacy_response,
    legacy_hash,
    legacy_hash_steps,
    legacy_salt,
    legacy_secret,
    modern_hash,
)

CHALLENGE = "uAciRZkmwKUkek3krU+s2LTvPHE6v2P"
VECTORS = (
    ("swordfish", "", CHALLENGE, "rZufCdBvMEGSNNloAzZ68h6gSe4KRfACKSYQnZ5638Q="),
    ("", "", "5" + CHALLENGE, "4V95zw8AXx63BT31jLuYU4nxonyp7KAyRjJyOBQlc0U="),
    ("test_password", "testing", CHALLENGE, "rpcAIfe7596wnTQxNvkXRMwG+HzmK4F89Dg55UE1bc8="),
)


class LegacyTests(SynchronousTestCase):
    def test_vectors(self) -> None:
        """SB-3, SB-7: the vectors, from no more than sha256 of the password; the challenge is not base64-decoded."""
        for password, account, challenge, expected in VECTORS:
            digest = legacy_hash(legacy_secret(password), legacy_salt(account, challenge), 5000)
            self.assertEqual(encode_legacy_response(digest), expected.encode())
            self.assertEqual(decode_legacy_response(expected.encode()), digest)

    @given(st.integers(MINIMUM_ROUNDS, 700), st.integers(1, 800))
    def test_slices(self, rounds: int, step: int) -> None:
        """SB-5: however it is cut, the hash is the same, and so many pauses are offered."""
        steps = legacy_hash_steps(legacy_secret("a"), b"salt", rounds, step)
        pauses = 0
        try:
            while True:
                next(steps)
                pauses += 1
        except StopIteration as end:
            digest = end.value
        self.assertEqual(pauses, (rounds - 1) // step)
        expected = sha256(b"a").digest()
        for _ in range(rounds):
            expected = sha256(expected + b"salt").digest()
        self.assertEqual(digest, expected)

    def test_pauses_often(self) -> None:
        """SB-5: by default a slice is some 200 rounds, about 0.1 ms."""
        self.assertLessEqual(STEP, 250)
        self.assertEqual(sum(1 for _ in legacy_hash_steps(bytes(32), b"", 5000)), 5000 // STEP - 1)

    def test_not_enough_rounds(self) -> None:
        """SB-4: fewer than 100 rounds are refused."""
        for rounds in (99, 1, 0, -1):
            with self.assertRaises(ValueError) as caught:
                legacy_hash(bytes(32), b"", rounds)
            self.assertEqual(str(caught.exception), NOT_ENOUGH_ROUNDS)
        self.assertEqual(len(legacy_hash(bytes(32), b"", 100)), 32)

    def test_strange_accounts(self) -> None:
        """SB-3: an account that is no UTF-8 is hashed as it came."""
        self.assertEqual(legacy_salt("caf\udce9", b"X"), b"caf\xe9X")
        self.assertEqual(legacy_salt("café", "X"), "caféX".encode())

    def test_wrong_responses(self) -> None:
        """A response that is no base64 of 32 bytes is a wrong proof, nothing worse."""
        for text in (b"", b"?", b"AAAA", b"\xff" * 44, base64.b64encode(bytes(31)), base64.b64encode(bytes(33))):
            self.assertEqual(decode_legacy_response(text), b"", text)


class ModernTests(SynchronousTestCase):
    def test_vector(self) -> None:
        """SB-20: one sha256 of password, account and salt bytes."""
        expected = bytes.fromhex("d0b9a62cfb1a317c44418c3374c5c6d3cb814dfc31482de4544a5fecd6b10747")
        self.assertEqual(modern_hash(b"hunter2", "bob", b"saltsalt"), expected)
        self.assertEqual(modern_hash(b"hunter2", b"bob", b"saltsalt"), expected)
