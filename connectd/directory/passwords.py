"""Passwords: argon2id verifiers, checked in a thread, with the same work whoever asks (COM-10)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from argon2.profiles import RFC_9106_LOW_MEMORY
from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from connectd.directory.hashing import UnreadableVerifierError, octets

if TYPE_CHECKING:
    from argon2 import Parameters

WRONG_PASSWORD: Final = "unknown account or wrong password"  # noqa: S105  # a message
"""The text of the UnauthorizedLogin, whichever of the two it is (COM-10)."""

T = TypeVar("T")


def usable_processors() -> int:
    """How many processors this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


class PasswordVerifier:
    """Checks passwords against verifiers, in threads, a few at a time.

    An unknown account costs the same work as a known one: its password is checked against a decoy that is
    made here with the same parameters. A verifier of other parameters costs what they say until the account's
    password is set again:
    :meth:`is_outdated` finds these.

    Making one takes as long as one hash.

    :param parameters: the cost of the decoy, and of the verifiers of this installation.
    :param run_in_thread: called with a function and its arguments; returns a Deferred of its result.
    :param concurrency: how many checks run at once; others wait their turn. Each takes the memory of the
        parameters. Unless given, as many as there are processors for their lanes, at least one: more would not be
        done sooner, and would keep the reactor waiting for a processor.
    """

    __slots__ = ("_decoy", "_hasher", "_run_in_thread", "_turns")

    def __init__(
        self,
        *,
        parameters: Parameters = RFC_9106_LOW_MEMORY,
        run_in_thread: Callable[..., Deferred[Any]] = deferToThread,
        concurrency: int | None = None,
    ) -> None:
        self._hasher = argon2.PasswordHasher.from_parameters(parameters)
        self._decoy = self._hasher.hash(secrets.token_bytes(32))
        self._run_in_thread = run_in_thread
        if concurrency is None:
            concurrency = max(1, usable_processors() // parameters.parallelism)
        self._turns = DeferredSemaphore(concurrency)

    def check(self, verifier: str | None, password: bytes | str) -> Deferred[bool]:
        """Check a password.

        Cancelling takes it out of the queue; a hash that has begun is finished in its thread.

        :param verifier: what :func:`~connectd.directory.hashing.hash_password` made, or None where there is no such
            account.
        :param password: text is taken as its UTF-8 bytes.
        :return: fires with whether it is right, always False for None. Fails with
            :class:`~connectd.directory.hashing.UnreadableVerifierError`, after the same work, where the verifier is
            not one.
        """
        return self._in_turn(self._matches, verifier, octets(password))

    def hash(self, password: bytes | str) -> Deferred[str]:
        """Make a verifier of today's parameters. Cancelling is as for :meth:`check`.

        :param password: text is taken as its UTF-8 bytes.
        """
        return self._in_turn(self._hasher.hash, octets(password))

    def _in_turn(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Run something in a thread when it is its turn."""
        turn = self._turns.acquire()
        answer: Deferred[T] = Deferred(lambda _: turn.cancel())

        def begin(_: object) -> None:
            work: Deferred[T] = maybeDeferred(self._run_in_thread, function, *arguments)
            work.addBoth(finish)

        def finish(result: T | Failure) -> None:
            # Only now, cancelled or not: until here the thread was busy and the memory was taken.
            self._turns.release()
            if not answer.called:
                answer.callback(result)

        # The only way for a turn to fail is its cancellation, of which the answer tells.
        turn.addCallbacks(begin, lambda _: None)
        return answer

    def is_outdated(self, verifier: str) -> bool:
        """Whether a verifier was made with other parameters than these, or is none at all."""
        try:
            return self._hasher.check_needs_rehash(verifier)
        except InvalidHashError:
            return True

    def _matches(self, verifier: str | None, password: bytes) -> bool:
        """Runs in a thread."""
        try:
            self._hasher.verify(self._decoy if verifier is None else verifier, password)
        except VerifyMismatchError:
            return False
        except (VerificationError, ValueError):
            # Decoding comes before hashing, so the work is still to be done. Where this fails too, it is not
            # the verifier but the machine: that goes to the caller as it is.
            if verifier is None:
                raise
            self._matches(None, password)
            raise UnreadableVerifierError("a stored password verifier is not an argon2 hash") from None
        return verifier is not None
