"""Both halves of a login by token, against a stand-in for the services over real sockets (AL-5, AL-6, AL-16)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred

from connectd.protocols.alloy.fingerprint import fingerprint
from connectd.protocols.alloy.game_session import GivenGameSession, KeptGameSession
from connectd.protocols.alloy.player_tokens import PlayerTokens
from connectd.protocols.alloy.server_tokens import ServerTokens, SignedToken
from connectd.protocols.alloy.service_calls import ServicesRefused, ServicesUnavailable
from connectd.protocols.alloy.services import GameSession
from connectd.protocols.alloy.tokens import TokenError
from tests.protocols.alloy.session_services import CLIENT_SCOPE, ISSUER, SERVER_SCOPE, Profile, status
from tests.protocols.alloy.signing import Signer
from tests.protocols.alloy.test_services import ServicesCase

PLAYER, SERVER = UUID(int=1), UUID(int=2)
AUDIENCE = "us"
PLAYERS_CERTIFICATE, SERVERS_CERTIFICATE = fingerprint(b"player"), fingerprint(b"server")


class LoginCase(ServicesCase):
    def setUp(self) -> None:
        super().setUp()
        self.player = self.stand_in.add(PLAYER, "Ann", CLIENT_SCOPE)
        self.host = self.stand_in.add(SERVER, "Host", SERVER_SCOPE)
        self.server = self.made_server(GivenGameSession(lambda: self.session(self.host)))
        self.tokens = PlayerTokens(self.services, self.session(self.player), issuer=ISSUER, clock=self.clock)

    def session(self, profile: Profile) -> GameSession:
        made = self.stand_in.new_session(profile)
        return GameSession(made["sessionToken"], made["identityToken"], made["expiresAt"])

    def made_server(self, session: GivenGameSession | KeptGameSession) -> ServerTokens:
        server = ServerTokens(
            self.made(f"http://127.0.0.1:{self.port.getHost().port}"),
            session,
            issuer=ISSUER,
            audience=AUDIENCE,
            client_scope=CLIENT_SCOPE,
            clock=self.clock,
        )
        server.startService()
        self.addCleanup(server.stopService)
        return server

    def identify(self, token: str, uuid: UUID = PLAYER) -> tuple[SignedToken, Deferred[Any]]:
        shown = SignedToken(token, lambda claims: claims.about(uuid).with_scope(CLIENT_SCOPE))
        return shown, self.server.checker.requestAvatarId(shown)

    async def refused(self, shown: SignedToken, checking: Deferred[Any], reason: str) -> None:
        await self.assertFailure(checking, UnauthorizedLogin)
        self.assertIn(reason, shown.reason)
        self.assertNotIn(shown.token, repr(shown) + shown.reason)


class WholeLoginTests(LoginCase):
    async def test_whole(self) -> None:
        """AL-5, AL-6, AL-16: each side knows in the end who the other is, and that it sits at this connection."""
        _, checking = self.identify(self.tokens.session.identity_token)
        await checking
        grant, server_identity = await self.server.grant(self.tokens.session.identity_token)
        access, server_grant = await self.tokens.answer(grant, server_identity, PLAYERS_CERTIFICATE)
        shown = SignedToken(
            access,
            lambda claims: (
                claims.about(PLAYER)
                .with_scope(CLIENT_SCOPE)
                .for_audience(AUDIENCE)
                .named("Ann")
                .held_by(PLAYERS_CERTIFICATE)
            ),
        )
        await self.server.checker.requestAvatarId(shown)
        server_access = await self.server.server_token(server_grant, SERVERS_CERTIFICATE)
        await self.tokens.confirm(server_access, SERVERS_CERTIFICATE)

    async def test_identity_refusals(self) -> None:
        """AL-5: what an identity token has to say."""
        good = self.stand_in.identity_token
        for token, reason in (
            (good(self.host), "not about"),
            (good(self.player, scope="other"), "scope"),
            (good(self.player, iss="https://evil.example"), "issuer"),
            (good(self.player, exp=self.clock.seconds() - 301), "expired"),
            (good(self.player, nbf=self.clock.seconds() + 301), "not valid yet"),
            (Signer("key-1").sign({}), "signature"),
            (Signer("key-2").sign({}), "nobody knows"),
            ("x" * 9000, "9000 characters"),
            ("none", "no signed token"),
        ):
            await self.refused(*self.identify(token), reason)

    async def test_stolen_access_token(self) -> None:
        """AL-6: an access token is worth nothing with another certificate, or with none."""
        token = self.stand_in.access_token(self.player, AUDIENCE, PLAYERS_CERTIFICATE)
        for shown_certificate, reason in ((SERVERS_CERTIFICATE, "another certificate"), (None, "none was shown")):
            shown = SignedToken(token, lambda claims, it=shown_certificate: claims.held_by(it))  # type: ignore[misc]
            await self.refused(shown, self.server.checker.requestAvatarId(shown), reason)

    async def test_services_down(self) -> None:
        """AL-13: never a pass."""
        self.stand_in.misbehave["GET /.well-known/jwks.json"] = [status(400)]
        _, checking = self.identify(self.tokens.session.identity_token)
        await self.assertFailure(checking, ServicesUnavailable)
        self.stand_in.misbehave["POST /server-join/auth-grant"] = [status(403)]
        await self.assertFailure(
            Deferred.fromCoroutine(self.server.grant(self.tokens.session.identity_token)), ServicesRefused
        )

    async def test_kept_session(self) -> None:
        """AL-13: the server's own session is made when it starts and deleted when it stops."""
        before = set(self.stand_in.sessions)
        server = self.made_server(KeptGameSession(self.services, lambda: self.host.account_token, SERVER, self.clock))
        grant, _ = await server.grant(self.tokens.session.identity_token)
        self.assertIn(grant, self.stand_in.grants)
        self.assertEqual(len(self.stand_in.sessions), len(before) + 1)
        await server.stopService()
        self.assertEqual(set(self.stand_in.sessions), before)


class ServerImpostorTests(LoginCase):
    """AL-16: whom a client does not believe."""

    async def untrusted(self, waiting: Any, reason: str) -> None:
        error: Any = await self.assertFailure(Deferred.fromCoroutine(waiting), TokenError)
        self.assertIn(reason, error.reason)

    async def introduced(self) -> None:
        grant, identity = await self.server.grant(self.tokens.session.identity_token)
        await self.tokens.answer(grant, identity, PLAYERS_CERTIFICATE)

    async def test_identity(self) -> None:
        for token, reason in (
            (Signer("key-1").sign({}), "signature"),
            (self.stand_in.identity_token(self.host, exp=0), "expired"),
            (self.stand_in.identity_token(self.host, sub=""), "whom it is about"),
        ):
            await self.untrusted(self.tokens.answer("grant", token, PLAYERS_CERTIFICATE), reason)
        self.assertNotIn("POST /server-join/auth-token", self.stand_in.calls)

    async def test_another_certificate(self) -> None:
        """AL-16: an attacker between who passes on all messages shows another certificate than the real server."""
        await self.introduced()
        token = self.stand_in.access_token(self.host, str(SERVER), SERVERS_CERTIFICATE)
        await self.untrusted(self.tokens.confirm(token, fingerprint(b"attacker")), "another certificate")
        await self.tokens.confirm(token, SERVERS_CERTIFICATE)

    async def test_unbound(self) -> None:
        await self.introduced()
        token = self.stand_in.access_token(self.host, str(SERVER), "", cnf=None)
        await self.untrusted(self.tokens.confirm(token, SERVERS_CERTIFICATE), "no certificate")

    async def test_another_server(self) -> None:
        await self.introduced()
        token = self.stand_in.access_token(self.player, str(SERVER), SERVERS_CERTIFICATE)
        await self.untrusted(self.tokens.confirm(token, SERVERS_CERTIFICATE), "another server")
        token = self.stand_in.access_token(self.host, "somebody", SERVERS_CERTIFICATE)
        await self.untrusted(self.tokens.confirm(token, SERVERS_CERTIFICATE), "it is for somebody")

    async def test_out_of_order(self) -> None:
        token = self.stand_in.access_token(self.host, str(SERVER), SERVERS_CERTIFICATE)
        await self.untrusted(self.tokens.confirm(token, SERVERS_CERTIFICATE), "another server")
