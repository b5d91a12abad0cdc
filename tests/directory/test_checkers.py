"""The directory as twisted.cred knows it."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from connectd.directory import ARGON2ID, SEALED_PASSWORD, SEALED_SHA256, DirectoryError, SealingKeyError
from connectd.directory.checkers import DirectoryChecker, IUsernameSecret
from connectd.directory.passwords import WRONG_PASSWORD
from tests.accounts import DirectoryCase, counting_passwords, distrust

SALT = b"salt"


@implementer(IUsernameSecret)
@attrs.define
class Response:
    """A challenge's answer, as a client makes it that knows the password."""

    username: bytes
    answer: bytes
    scheme: str = SEALED_SHA256
    later: bool = False
    seen: list[bytes] = attrs.field(factory=list)

    @classmethod
    def to(cls, name: bytes, password: bytes, **options: Any) -> Response:
        return cls(name, _response(hashlib.sha256(password).digest()), **options)

    def checkSecret(self, secret: bytes) -> bool | Deferred[bool]:
        self.seen.append(secret)
        right = hmac.compare_digest(_response(secret), self.answer)
        return succeed(right) if self.later else right


def _response(secret: bytes) -> bytes:
    return hashlib.sha256(secret + SALT).digest()


class CheckerCase(DirectoryCase):
    def ask(self, credentials: Any) -> Any:
        return DirectoryChecker(self.directory).requestAvatarId(credentials)

    async def wrong(self, credentials: Any) -> None:
        """It is a wrong proof, and says no more than that."""
        try:
            await self.ask(credentials)
        except UnauthorizedLogin as error:
            self.assertEqual(str(error), WRONG_PASSWORD)
        else:
            self.fail("it was taken for right")


class PasswordTests(CheckerCase):
    def test_interface(self) -> None:
        verifyObject(ICredentialsChecker, DirectoryChecker(self.directory))

    async def test_right(self) -> None:
        """However the name is spelt, the account has its own."""
        for name in (b"Ann", b"ANN", "ａｎｎ".encode()):  # noqa: RUF001  # the third one is wide
            self.assertEqual(await self.ask(UsernamePassword(name, b"right")), "Ann")

    async def test_wrong(self) -> None:
        """COM-10: unknown account, wrong password, no name at all: one answer, one hash each."""
        work = counting_passwords(self, self.directory)
        for name, password in ((b"Ann", b"wrong"), (b"nobody", b"right"), (b"\xff", b"right"), (b"", b"")):
            await self.wrong(UsernamePassword(name, password))
        self.assertEqual(work, [False] * 4)

    async def test_without_verifier(self) -> None:
        """COM-10: an account that has no password of this kind costs the same as one that has."""
        await self.change(lambda database: database.accounts.set_password("Ann", "x", schemes=[SEALED_SHA256], by="t"))
        work = counting_passwords(self, self.directory)
        await self.wrong(UsernamePassword(b"Ann", b"x"))
        self.assertEqual(work, [False])

    async def test_unreadable(self) -> None:
        """What cannot be told is no wrong password."""
        distrust(self, self.directory)
        with self.assertRaises(DirectoryError):
            await self.ask(UsernamePassword(b"Ann", b"right"))


class SecretTests(CheckerCase):
    def test_interface(self) -> None:
        verifyObject(IUsernameSecret, Response.to(b"Ann", b"right"))

    async def test_right(self) -> None:
        for later in (False, True):
            self.assertEqual(await self.ask(Response.to(b"ann", b"right", later=later)), "Ann")

    async def test_wrong(self) -> None:
        """COM-10: unknown account, wrong proof, no verifier of the scheme: one answer after the same check, against
        something that looks like any other secret."""
        await self.change(lambda database: database.accounts.set_password("Bob", "x", schemes=[ARGON2ID], by="t"))
        for credentials in (
            Response.to(b"Ann", b"wrong"),
            Response.to(b"nobody", b"right"),
            Response.to(b"Bob", b"x"),
            Response.to(b"Ann", b"right", scheme=SEALED_PASSWORD),
        ):
            await self.wrong(credentials)
            self.assertEqual([len(secret) for secret in credentials.seen], [32])

    async def test_decoy_is_not_a_way_in(self) -> None:
        """Nobody gets in with the secret of a decoy, however they came to know it."""
        for name, scheme in ((b"nobody", SEALED_SHA256), (b"Ann", SEALED_PASSWORD)):
            account = self.directory.find_account(name)
            decoy = self.directory.secret(account, scheme)
            await self.wrong(Response(name, _response(decoy), scheme))

    async def test_without_key(self) -> None:
        """A key that is not there is no wrong proof: nobody can tell."""
        directory = self.make_directory(keys=None)
        directory.startService()
        self.addCleanup(directory.stopService)
        await directory.ready()
        with self.assertRaises(SealingKeyError):
            await DirectoryChecker(directory).requestAvatarId(Response.to(b"Ann", b"right"))
