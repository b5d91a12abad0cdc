"""The directory as twisted.cred knows it: checks passwords, proofs made with what it keeps sealed, and proofs made with
registered keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, maybeDeferred
from zope.interface import Attribute, implementer

from connectd.directory.errors import DirectoryError
from connectd.directory.passwords import WRONG_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectd.directory.service import DirectoryService


class IUsernameSecret(ICredentials):
    """A name, and a proof that can be compared with what a sealed scheme keeps of the password.

    A protocol's credentials may provide :class:`twisted.cred.credentials.IUsernameHashedPassword` as well, for
    checkers that keep passwords as they are.
    """

    username: bytes = Attribute("The account's name as the peer sent it, bytes of UTF-8.")
    scheme: str = Attribute("The scheme of :mod:`connectd.directory.schemes` whose secret is asked for.")

    def checkSecret(secret: bytes) -> bool | Deferred[bool]:  # noqa: N805  # interface methods have no self
        """Whether the peer's proof was made with this secret, or a Deferred of that.

        It has to do the same work whatever the answer (COM-10) and to compare in constant time (COM-9).
        """


class IKeyProof(ICredentials):
    """A UUID, and a proof that can be checked with the public key that is registered for it."""

    uuid: UUID = Attribute("Whom the proof is for.")

    def checkKey(key: bytes | None) -> bool | Deferred[bool]:  # noqa: N805  # interface methods have no self
        """Whether the proof was made with the private key of this one, or a Deferred of that.

        :param key: DER SubjectPublicKeyInfo; None where none is registered, which is a no after the same work (COM-10).
        """


@implementer(ICredentialsChecker)
class DirectoryChecker:
    """Checks names and passwords against argon2id verifiers, :class:`IUsernameSecret` against sealed ones, and
    :class:`IKeyProof` against registered keys.

    An unknown account, one without a verifier of the scheme and a wrong proof are the same failure after the same
    work (COM-10); so are an unknown UUID and a wrong proof for it. Whether an account may be used, is not asked here.

    :param directory: running.
    """

    credentialInterfaces = (IUsernamePassword, IUsernameSecret, IKeyProof)

    def __init__(self, directory: DirectoryService) -> None:
        self._directory = directory

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """Give the account's name as it is stored; nothing for a proof by key, which is no account's.

        :return: fails with UnauthorizedLogin where the proof is wrong, and with a
            :class:`~connectd.directory.errors.DirectoryError` where nothing can be said.
        """
        if IKeyProof.providedBy(credentials):
            return maybeDeferred(self._check_key, credentials)
        if IUsernameSecret.providedBy(credentials):
            return self._check_secret(credentials)
        return Deferred.fromCoroutine(self._check_password(credentials))

    async def _check_password(self, credentials: Any) -> str:
        account = await self._directory.check_password(credentials.username, credentials.password)
        if account is None:
            raise UnauthorizedLogin(WRONG_PASSWORD)
        return account.name

    def _check_secret(self, credentials: Any) -> Deferred[str]:
        directory, scheme = self._directory, credentials.scheme
        try:
            account = directory.find_account(credentials.username)
            # A decoy, where there is nothing to compare with.
            secret = directory.secret(account, scheme)
        except DirectoryError:
            return fail()

        def checked(right: bool) -> str:
            if not right or account is None or scheme not in account.verifiers:
                raise UnauthorizedLogin(WRONG_PASSWORD)
            return account.name

        # Most answer at once, so no coroutine.
        check = cast("Callable[[bytes], Any]", credentials.checkSecret)
        return maybeDeferred(check, secret).addCallback(checked)

    def _check_key(self, credentials: Any) -> Deferred[str]:
        directory, uuid = self._directory, credentials.uuid
        key = directory.registered_key(uuid)

        def checked(right: bool) -> str:
            # Meanwhile it may have been replaced.
            if not right or key is None or directory.registered_key(uuid) != key:
                raise UnauthorizedLogin(WRONG_PASSWORD)
            return ""

        checking: Deferred[bool] = maybeDeferred(cast("Callable[[bytes | None], Any]", credentials.checkKey), key)
        return checking.addCallback(checked)
