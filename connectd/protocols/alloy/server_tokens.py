"""The server's half of a login by token: who a player is, and what the services say to that (AL-5, AL-6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.application.service import IService, Service
from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import Attribute, implementer

from connectd.protocols.alloy.game_session import GivenGameSession, KeptGameSession
from connectd.protocols.alloy.key_cache import KeyCache, TokenVerifier
from connectd.protocols.alloy.services import SessionServices
from connectd.protocols.alloy.tokens import Claims, TokenError

UNAVAILABLE: Final = "Authentication service unavailable"
"""What a player is told where the services cannot be asked (AL-13)."""


class ISignedToken(ICredentials):
    """A token that a peer shows."""

    token: str = Attribute("The token.")

    def examine(claims: Claims) -> object:  # noqa: N805  # an interface's methods have no self
        """Insist on what its claims have to say besides who issued it and when.

        :raises TokenError: they say something else.
        """


@implementer(ISignedToken)
@attrs.define(eq=False)
class SignedToken:
    """A token and what it has to say. It shows nothing of it.

    :param token: as the peer sent it.
    :param examine: raises `TokenError` where the claims say something else.
    """

    token: str = attrs.field(repr=False)
    examine: Callable[[Claims], object]
    reason: str = attrs.field(default="", init=False)
    """Why it was refused, once it was."""


@implementer(ICredentialsChecker)
class TokenChecker:
    """Knows the keys of the session services. Whoever shows their token is nobody of our accounts.

    :param verifier: verifies signature, issuer and times.
    """

    credentialInterfaces = (ISignedToken,)

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """Verify the token.

        :return: fails with UnauthorizedLogin where it does not hold, with
            :class:`~connectd.protocols.alloy.service_calls.ServicesUnavailable` where nobody can say.
        """
        return Deferred.fromCoroutine(self._verify(credentials))

    async def _verify(self, credentials: Any) -> Any:
        try:
            credentials.examine(await self._verifier.verify(credentials.token))
        except TokenError as error:
            credentials.reason = error.reason
            raise UnauthorizedLogin from None
        return ANONYMOUS


class ServerTokens(Service):
    """Everything that a server needs of the session services, for as long as it runs.

    :param services: the services; they are closed when this stops.
    :param game_session: what the server proves itself with to them.
    :param issuer: whose tokens are believed.
    :param audience: whom access tokens have to be for.
    :param client_scope: what players' tokens have to be for.
    :param clock: tells the time.
    """

    def __init__(
        self,
        services: SessionServices,
        game_session: GivenGameSession | KeptGameSession,
        *,
        issuer: str,
        audience: str,
        client_scope: str,
        clock: Any,
    ) -> None:
        self.audience = audience
        self.client_scope = client_scope
        self._services = services
        self._game_session = game_session
        self._keys = KeyCache(services.key_set, clock)
        self.checker = TokenChecker(TokenVerifier(self._keys, issuer, clock))
        """For the listener's portal."""

    def startService(self) -> None:
        super().startService()
        self._game_session.startService()

    def stopService(self) -> Deferred[None]:
        """End the game session, then all calls."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await maybeDeferred(IService(self._game_session).stopService)
        self._keys.close()
        await self._services.close()

    async def grant(self, identity_token: str) -> tuple[str, str]:
        """What a player whose identity token is right gets (AL-5): a grant for its access token, and who we are.

        :raises ServicesUnavailable: the services cannot be asked.
        :raises ServicesRefused: they say no.
        """
        session = await self._game_session.current()
        grant = await self._services.authorization_grant(session.session_token, identity_token, self.audience)
        return grant, session.identity_token

    async def server_token(self, authorization_grant: str, fingerprint: str) -> str:
        """What a player whose access token is right gets (AL-6): our access token, bound to our certificate.

        :param authorization_grant: what the player had made for us.
        :param fingerprint: of the certificate that the player sees (AL-12).
        :raises ServicesUnavailable: the services cannot be asked.
        :raises ServicesRefused: they say no.
        """
        session = await self._game_session.current()
        return await self._services.access_token(session.session_token, authorization_grant, fingerprint)
