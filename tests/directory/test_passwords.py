"""Tests of :mod:`connectd.directory.passwords`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import argon2
from argon2.exceptions import HashingError, VerificationError
from argon2.profiles import CHEAPEST, RFC_9106_LOW_MEMORY
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from connectd.directory.hashing import UnreadableVerifierError, hash_password
from connectd.directory.passwords import PasswordVerifier

SALTED = argon2.Parameters(
    type=argon2.Type.ID, version=19, salt_len=16, hash_len=16, time_cost=1, memory_cost=8, parallelism=1
)


def at_once(function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
    return maybeDeferred(function, *arguments)


class Threads:
    """Threads that run when they are told to."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def run(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.jobs.append((done, function, arguments))
        return done

    def finish(self) -> None:
        done, function, arguments = self.jobs.pop(0)
        maybeDeferred(function, *arguments).chainDeferred(done)


class HashTests(SynchronousTestCase):
    def test_profile(self) -> None:
        """COM-10: without a word, RFC 9106's profile for little memory."""
        verifier = hash_password("swordfish")
        self.assertTrue(verifier.startswith("$argon2id$v=19$m=65536,t=3,p=4$"))
        self.assertEqual(argon2.extract_parameters(verifier), RFC_9106_LOW_MEMORY)
        self.assertNotIn("swordfish", verifier)

    def test_salted(self) -> None:
        self.assertNotEqual(hash_password(b"x", parameters=CHEAPEST), hash_password(b"x", parameters=CHEAPEST))

    @given(
        st.one_of(st.binary(max_size=40), st.text(max_size=40)), st.one_of(st.binary(max_size=40), st.text(max_size=40))
    )
    @settings(deadline=None, max_examples=60)
    def test_round_trip(self, password: bytes | str, other: bytes | str) -> None:
        """Text is its UTF-8 bytes, and every byte counts, NUL and what is no UTF-8 as well."""
        verifier = PasswordVerifier(parameters=SALTED, run_in_thread=at_once)
        stored = hash_password(password, parameters=SALTED)
        self.assertIs(self.successResultOf(verifier.check(stored, password)), True)
        octets, others = (p if isinstance(p, bytes) else p.encode() for p in (password, other))
        self.assertIs(self.successResultOf(verifier.check(stored, octets)), True)
        self.assertIs(self.successResultOf(verifier.check(stored, other)), octets == others)

    def test_lone_surrogates(self) -> None:
        verifier = PasswordVerifier(parameters=SALTED, run_in_thread=at_once)
        stored = hash_password("\udcff", parameters=SALTED)
        self.assertIs(self.successResultOf(verifier.check(stored, "\udcff")), True)
        self.assertIs(self.successResultOf(verifier.check(stored, "?")), False)


class WorkTests(SynchronousTestCase):
    """How much is hashed for whom."""

    def setUp(self) -> None:
        self.work: list[argon2.Parameters] = []
        real = argon2.PasswordHasher.verify

        def verify(hasher: argon2.PasswordHasher, verifier: str, password: bytes) -> bool:
            # What is no verifier is turned away before any hashing.
            if verifier.startswith("$argon2id$") and not verifier.endswith("$"):
                self.work.append(argon2.extract_parameters(verifier))
            return real(hasher, verifier, password)

        self.patch(argon2.PasswordHasher, "verify", verify)
        self.verifier = PasswordVerifier(parameters=SALTED, run_in_thread=at_once)
        self.stored = hash_password("swordfish", parameters=SALTED)

    def test_same_work(self) -> None:
        """COM-10: right, wrong and unknown cost one hash each, of the same parameters."""
        results = [
            self.successResultOf(self.verifier.check(stored, password))
            for stored, password in (
                (self.stored, "swordfish"),
                (self.stored, "wrong"),
                (None, "swordfish"),
                (None, ""),
            )
        ]
        self.assertEqual(results, [True, False, False, False])
        self.assertEqual(self.work, [SALTED] * 4)

    def test_decoy_is_nobodys(self) -> None:
        """COM-10: an unknown account stays unknown, even with the decoy's own password."""
        self.patch(argon2.PasswordHasher, "verify", lambda *arguments: True)
        self.assertIs(self.successResultOf(self.verifier.check(None, "x")), False)

    def test_unreadable(self) -> None:
        """COM-10: a verifier that is none costs one hash as well, and admits nobody."""
        for stored in ("", "swordfish", "$2b$12$abc", "$argon2id$v=19$m=8,t=1,p=1$", "é"):
            self.work.clear()
            failure = self.failureResultOf(self.verifier.check(stored, "swordfish"), UnreadableVerifierError)
            self.assertNotIn("swordfish", str(failure.value))
            self.assertEqual(self.work, [SALTED])

    def test_machine_fails(self) -> None:
        """COM-10: when hashing itself fails, that is no wrong password and no unreadable verifier."""

        def verify(hasher: argon2.PasswordHasher, verifier: str, password: bytes) -> bool:
            raise VerificationError("Memory allocation error")

        self.patch(argon2.PasswordHasher, "verify", verify)
        for stored in (self.stored, None):
            self.failureResultOf(self.verifier.check(stored, "swordfish"), VerificationError)

    def test_outdated(self) -> None:
        self.assertFalse(self.verifier.is_outdated(self.stored))
        self.assertTrue(self.verifier.is_outdated(hash_password("swordfish", parameters=CHEAPEST)))
        self.assertTrue(self.verifier.is_outdated("$2b$12$abc"))

    def test_no_secrets(self) -> None:
        """COM-9: nothing shows the decoy or a verifier."""
        self.assertNotIn("$argon2", repr(self.verifier) + str(self.verifier))


class TurnTests(SynchronousTestCase):
    """So many at once, the others wait."""

    def setUp(self) -> None:
        self.threads = Threads()
        self.verifier = PasswordVerifier(parameters=SALTED, run_in_thread=self.threads.run, concurrency=2)
        self.stored = hash_password("swordfish", parameters=SALTED)

    def test_concurrency(self) -> None:
        """COM-2: however many ask, only so much memory is taken at once."""
        answers = [self.verifier.check(self.stored, "swordfish") for _ in range(5)]
        self.assertEqual(len(self.threads.jobs), 2)
        self.threads.finish()
        self.assertTrue(self.successResultOf(answers[0]))
        self.assertEqual(len(self.threads.jobs), 2)
        for _ in range(4):
            self.threads.finish()
        self.assertEqual([self.successResultOf(answer) for answer in answers[1:]], [True] * 4)

    def test_cancel_waiting(self) -> None:
        """A check that waits for its turn never runs once it is cancelled."""
        answers = [self.verifier.check(self.stored, "swordfish") for _ in range(4)]
        answers[2].cancel()
        self.failureResultOf(answers[2], CancelledError)
        for _ in range(3):
            self.threads.finish()
        self.assertEqual(self.threads.jobs, [])
        self.assertTrue(self.successResultOf(answers[3]))

    def test_cancel_running(self) -> None:
        """COM-2: a thread that still hashes keeps its turn, cancelled or not."""
        answers = [self.verifier.check(self.stored, "swordfish") for _ in range(3)]
        answers[0].cancel()
        self.failureResultOf(answers[0], CancelledError)
        self.assertEqual(len(self.threads.jobs), 2)
        self.threads.finish()
        self.threads.finish()
        self.threads.finish()
        self.assertEqual([self.successResultOf(answer) for answer in answers[1:]], [True, True])

    def test_hash(self) -> None:
        """COM-2: making a verifier takes a turn like checking one."""
        self.verifier.check(self.stored, "swordfish")
        self.verifier.check(self.stored, "swordfish")
        made = self.verifier.hash("new")
        self.assertEqual(len(self.threads.jobs), 2)
        self.threads.finish()
        self.threads.finish()
        self.threads.finish()
        answer = self.verifier.check(self.successResultOf(made), "new")
        self.threads.finish()
        self.assertTrue(self.successResultOf(answer))

    def test_thread_fails(self) -> None:
        """A failure is passed on and gives the turn back."""

        def no_thread(function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
            raise HashingError("no threads left")

        verifier = PasswordVerifier(parameters=SALTED, run_in_thread=no_thread, concurrency=1)
        for _ in range(2):
            self.failureResultOf(verifier.check(None, "x"), HashingError)

    def test_not_a_password(self) -> None:
        """A mistake of the caller does not take a turn."""
        for _ in range(3):
            with self.assertRaises(AttributeError):
                self.verifier.check(None, None)  # type: ignore[arg-type]
        self.verifier.check(None, "x")
        self.assertEqual(len(self.threads.jobs), 1)
        self.threads.finish()


class ThreadTests(TestCase):
    async def test_real_threads(self) -> None:
        """The reactor's own threads do it unless told otherwise."""
        verifier = PasswordVerifier(parameters=SALTED)
        stored = hash_password("swordfish", parameters=SALTED)
        self.assertIs(await verifier.check(stored, b"swordfish"), True)
        self.assertIs(await verifier.check(None, b"swordfish"), False)
