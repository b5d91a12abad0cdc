"""From settings to the session services: what a listener and a client are given to log in by token with."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from connectd.credentials import CredentialsError
from connectd.net.certificates import CertificateError, read_certificates
from connectd.protocols.alloy.game_session import GivenGameSession, KeptGameSession
from connectd.protocols.alloy.player_tokens import PlayerTokens
from connectd.protocols.alloy.server_tokens import ServerTokens
from connectd.protocols.alloy.service_calls import ServiceCalls, ServicesUnavailable
from connectd.protocols.alloy.services import GameSession, SessionServices
from connectd.protocols.alloy.settings import AlloyClientSettings, AlloySettings
from connectd.protocols.alloy.tokens import MAX_TOKEN_LENGTH
from connectd.secret_file import read_secret

FOR_EVER: Final = float("inf")
"""When a game session that somebody else keeps ends: they replace it in time."""


def make_server_tokens(settings: AlloySettings, reactor: Any) -> ServerTokens | None:
    """What a listener logs players in with by token; None where it has no session services.

    :raises connectd.credentials.CredentialsError: where something that belongs to it is missing or unfit, in one line.
    """
    if not settings.services_url:
        return None
    audience = settings.audience or settings.profile
    if not audience:
        raise CredentialsError("alloy: services_url needs an audience, or a profile, that access tokens are for")
    session: GivenGameSession | KeptGameSession
    services = _services(settings, reactor)
    if settings.account_token_file:
        if settings.session_token_file or settings.identity_token_file:
            raise CredentialsError(
                "alloy: account_token_file and session_token_file: only one of them may be set "
                "(a game session is made here, or somebody else makes it)"
            )
        if not settings.profile:
            raise CredentialsError("alloy: account_token_file needs the profile that game sessions are made for")
        account_token = _account_token(settings.account_token_file)
        session = KeptGameSession(services, account_token, UUID(settings.profile), reactor)
    else:
        _given(settings)
        session = GivenGameSession(_replaced(settings))
    return ServerTokens(
        services,
        session,
        issuer=settings.issuer,
        audience=audience,
        client_scope=settings.client_scope,
        clock=reactor,
    )


def make_player_tokens(settings: AlloyClientSettings, reactor: Any) -> PlayerTokens | None:
    """What a client logs in with by token; None where it has no session services.

    :raises connectd.credentials.CredentialsError: where something that belongs to it is missing or unfit, in one line.
    """
    if not settings.services_url:
        return None
    return PlayerTokens(_services(settings, reactor), _given(settings), issuer=settings.issuer, clock=reactor)


def _services(settings: AlloySettings | AlloyClientSettings, reactor: Any) -> SessionServices:
    try:
        authorities = read_certificates(settings.services_authority) if settings.services_authority else ()
    except CertificateError as error:
        raise CredentialsError(f"alloy: services_authority: {error}") from None
    return SessionServices(ServiceCalls(reactor, settings.services_url, authorities=authorities))


def _given(settings: AlloySettings | AlloyClientSettings) -> GameSession:
    tokens = []
    for name in ("session_token", "identity_token"):
        token = _token(name, getattr(settings, f"{name}_file"))
        if not token:
            raise CredentialsError(f"alloy: services_url needs {name}_file (the tokens of a game session)")
        tokens.append(token)
    return GameSession(tokens[0], tokens[1], FOR_EVER)


def _replaced(settings: AlloySettings) -> Callable[[], GameSession]:
    """Reads the files each time: such tokens live for an hour, and whoever keeps the session writes new ones. They are
    small and local."""

    def read() -> GameSession:
        try:
            return _given(settings)
        except CredentialsError as error:
            raise ServicesUnavailable(str(error)) from None

    return read


def _account_token(path: str) -> Callable[[], str]:
    """Reads the file each time: such a token is replaced now and then. It is small and local."""
    path = os.path.abspath(path)

    def read() -> str:
        try:
            return _token("account_token", path)
        except CredentialsError as error:
            raise ServicesUnavailable(str(error)) from None

    _token("account_token", path)
    return read


def _token(name: str, path: str) -> str:
    token = read_secret("alloy", name, "", path, MAX_TOKEN_LENGTH)
    if not token.isascii() or not token.decode("ascii").isprintable():
        raise CredentialsError(f"alloy: {name}_file: {path} holds something else than a token")
    return token.decode("ascii")
