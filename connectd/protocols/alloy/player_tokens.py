"""The client's half of a login by token: whom it is talking to, and who it is itself (AL-16)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from connectd.protocols.alloy.key_cache import KeyCache, TokenVerifier
from connectd.protocols.alloy.services import GameSession, SessionServices
from connectd.protocols.alloy.tokens import Claims, TokenError


class PlayerTokens:
    """What a player needs of the session services for one login.

    :param services: the services.
    :param session: the player's own.
    :param issuer: whose tokens are believed.
    :param clock: tells the time.
    """

    def __init__(self, services: SessionServices, session: GameSession, *, issuer: str, clock: Any) -> None:
        self.session = session
        self._services = services
        self._keys = KeyCache(services.key_set, clock)
        self._verifier = TokenVerifier(self._keys, issuer, clock)
        self._server: Claims | None = None

    def close(self) -> Deferred[None]:
        """Give up what is under way."""
        self._keys.close()
        return self._services.close()

    async def answer(self, authorization_grant: str, server_identity_token: str, fingerprint: str) -> tuple[str, str]:
        """Answer AuthGrant: an access token for ourselves, and a grant with which the server gets one for itself.

        :param fingerprint: of our own certificate; nothing where we show none (AL-12).
        :raises TokenError: the server is not who it says.
        :raises ServicesUnavailable: the services cannot be asked.
        :raises ServicesRefused: they say no.
        """
        server = await self._verifier.verify(server_identity_token)
        if not server.subject:
            raise TokenError("it does not say whom it is about")
        self._server = server
        token = self.session.session_token
        access_token = await self._services.access_token(token, authorization_grant, fingerprint)
        return access_token, await self._services.authorization_grant(token, server_identity_token, server.subject)

    async def confirm(self, server_access_token: str, fingerprint: str) -> None:
        """Confirm ServerAuthToken: the server that the services know is the one at the other end of this connection.

        :param fingerprint: of the certificate that the server shows on it (AL-12).
        :raises TokenError: it is another.
        :raises ServicesUnavailable: the keys cannot be fetched.
        """
        claims = await self._verifier.verify(server_access_token)
        if self._server is None or claims.subject != self._server.subject:
            raise TokenError("it is about another server than the one that introduced itself")
        if not claims.fingerprint:
            raise TokenError("it belongs to no certificate, so anybody could show it")
        claims.for_audience(self._server.subject).held_by(fingerprint)
