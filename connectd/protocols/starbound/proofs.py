"""What a Starbound client proves who it is with, as twisted.cred credentials."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING, ClassVar

from twisted.cred.credentials import IUsernameHashedPassword
from zope.interface import implementer

from connectd.credentials import IEvenWork
from connectd.directory.checkers import IUsernameSecret
from connectd.directory.schemes import SEALED_PASSWORD, SEALED_SHA256
from connectd.protocols.starbound.hashing import legacy_hash_steps, legacy_salt, modern_hash

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from connectd.workers.slices import Slices, Steps

STEP = 100
"""Rounds of SHA-256 between two looks at the time: about 35 us."""

NOBODY = os.urandom(32)
"""What is hashed where there is no account to compare with."""


@implementer(IUsernameHashedPassword, IUsernameSecret, IEvenWork)
class RoundsProof:
    """The answer to a challenge of the generations where the server speaks first (SB-3): thousands of rounds of
    SHA-256, which are done in slices. Shows nothing of itself.

    :param username: the account, as the client named it: bytes of UTF-8.
    :param challenge: what it was sent as salt.
    :param rounds: how many.
    :param response: what it answered, 32 bytes if it is right.
    :param slices: where the hashing is done. Its refusals are passed on: too many wait, or the budget is spent (SB-5).
    """

    __slots__ = ("_challenge", "_checked", "_response", "_rounds", "_slices", "username")

    scheme: ClassVar[str] = SEALED_SHA256

    def __init__(self, username: bytes, challenge: bytes, rounds: int, response: bytes, slices: Slices) -> None:
        self.username = username
        self._challenge = challenge
        self._rounds = rounds
        self._response = response
        self._slices = slices
        self._checked = False

    def checkPassword(self, password: bytes) -> Deferred[bool]:
        """Compare with a password itself, for checkers that keep those."""
        return self.checkSecret(hashlib.sha256(password).digest())

    def checkSecret(self, secret: bytes) -> Deferred[bool]:
        """Compare with the SHA-256 of a password (SB-7)."""
        self._checked = True
        return self._slices.run(self._compare(secret))

    async def even_out(self) -> None:
        """Hash for nobody, unless there was somebody (COM-10)."""
        if not self._checked:
            await self.checkSecret(NOBODY)

    def _compare(self, secret: bytes) -> Steps[bool]:
        salt = legacy_salt(self.username, self._challenge)
        right = yield from legacy_hash_steps(secret, salt, self._rounds, step=STEP)
        return hmac.compare_digest(right, self._response)


@implementer(IUsernameHashedPassword, IUsernameSecret, IEvenWork)
class SaltedProof:
    """The answer to a challenge of the generations where the client speaks first (SB-20): one SHA-256. Shows nothing of
    itself.

    :param username: the account, as the client named it: bytes of UTF-8.
    :param salt: what it was sent.
    :param response: what it answered, 32 bytes if it is right.
    """

    __slots__ = ("_checked", "_response", "_salt", "username")

    scheme: ClassVar[str] = SEALED_PASSWORD

    def __init__(self, username: bytes, salt: bytes, response: bytes) -> None:
        self.username = username
        self._salt = salt
        self._response = response
        self._checked = False

    def checkPassword(self, password: bytes) -> bool:
        """Compare with a password."""
        self._checked = True
        return hmac.compare_digest(modern_hash(password, self.username, self._salt), self._response)

    checkSecret = checkPassword

    async def even_out(self) -> None:
        """Hash for nobody, unless there was somebody (COM-10)."""
        if not self._checked:
            self.checkPassword(NOBODY)
