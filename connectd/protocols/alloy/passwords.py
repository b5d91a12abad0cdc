"""The password of a server, as twisted.cred sees it (AL-8)."""

from __future__ import annotations

import hmac
from typing import Any

import attrs
from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword
from twisted.cred.error import UnauthorizedLogin
from zope.interface import implementer

from connectd.protocols.alloy.server_machine import password_hash


@implementer(IUsernameHashedPassword)
@attrs.frozen(eq=False)
class ChallengeResponse:
    """What a client answered to a challenge. It shows nothing of it.

    :param username: who the client says it is; the password is the same for all.
    :param challenge: what it was asked.
    :param hash: SHA-256 of challenge and password, if it is right.
    """

    username: bytes
    challenge: bytes = attrs.field(repr=False)
    hash: bytes = attrs.field(repr=False)

    def checkPassword(self, password: bytes) -> bool:
        """Compare in constant time (COM-9)."""
        return hmac.compare_digest(password_hash(self.challenge, password), self.hash)


@implementer(ICredentialsChecker)
class ServerPassword:
    """Knows one password. Whoever knows it, too, is let in, and is nobody in particular.

    :param password: UTF-8.
    """

    credentialInterfaces = (IUsernameHashedPassword,)

    def __init__(self, password: bytes) -> None:
        self._password = password

    def requestAvatarId(self, credentials: Any) -> Any:
        """Tell that it is somebody without an account.

        :raises twisted.cred.error.UnauthorizedLogin: where the answer is wrong.
        """
        if not credentials.checkPassword(self._password):
            raise UnauthorizedLogin
        return ANONYMOUS
