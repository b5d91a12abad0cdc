"""The session services: game sessions, grants, tokens, and the keys that tokens are signed with (AL-5, AL-6, AL-16)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import attrs
from twisted.internet.defer import Deferred

from connectd.protocols.alloy.service_calls import ServiceCalls, ServicesUnavailable
from connectd.protocols.alloy.tokens import MAX_TOKEN_LENGTH, KeySet

T = TypeVar("T")

MAX_GRANT_LENGTH: Final = 4096
"""Characters of an authorization grant."""


@attrs.frozen
class GameSession:
    """What a server, or a player, proves itself with to the services.

    :param session_token: the bearer token of further calls.
    :param identity_token: what other parties are shown.
    :param expires: Unix seconds.
    """

    session_token: str = attrs.field(repr=False)
    identity_token: str = attrs.field(repr=False)
    expires: float


class SessionServices:
    """The services at one base URL.

    :param calls: how to reach them.
    """

    def __init__(self, calls: ServiceCalls) -> None:
        self._calls = calls

    def close(self) -> Deferred[None]:
        """Give up all calls and close the connections; fires when they are closed."""
        return self._calls.close()

    # Game sessions

    def create_game_session(self, account_token: str, uuid: UUID) -> Deferred[GameSession]:
        """Begin a game session.

        :param account_token: the OAuth token of the account.
        :param uuid: the profile it is for.
        """
        return self._call("POST", "/game-session/new", account_token, {"uuid": str(uuid)}, _game_session)

    def refresh_game_session(self, session_token: str) -> Deferred[GameSession]:
        """Lengthen a game session; what comes back replaces it."""
        return self._call("POST", "/game-session/refresh", session_token, None, _game_session)

    def delete_game_session(self, session_token: str) -> Deferred[None]:
        """End a game session: an account may only have so many."""
        return self._call("DELETE", "/game-session", session_token, None, lambda body: None)

    # Joining a server

    def authorization_grant(self, session_token: str, identity_token: str, audience: str) -> Deferred[str]:
        """Vouch for who presented an identity token, towards themselves (AL-5, AL-16).

        :param session_token: of the party that asks.
        :param identity_token: the other party's.
        :param audience: whom the grant is for.
        """
        content = {"identityToken": identity_token, "aud": audience}
        return self._call(
            "POST", "/server-join/auth-grant", session_token, content, _text("authorizationGrant", MAX_GRANT_LENGTH)
        )

    def access_token(self, session_token: str, authorization_grant: str, fingerprint: str) -> Deferred[str]:
        """Turn a grant into an access token that is bound to a certificate (AL-6, AL-16).

        :param session_token: of the party that asks.
        :param authorization_grant: what the other party had made for it.
        :param fingerprint: of the certificate of the party that asks (AL-12); nothing where it shows none.
        """
        content = {"authorizationGrant": authorization_grant}
        if fingerprint:
            content["x509Fingerprint"] = fingerprint
        return self._call(
            "POST", "/server-join/auth-token", session_token, content, _text("accessToken", MAX_TOKEN_LENGTH)
        )

    def key_set(self) -> Deferred[KeySet]:
        """Fetch the keys that tokens are signed with."""
        return self._call("GET", "/.well-known/jwks.json", None, None, KeySet.from_json)

    def _call(
        self,
        method: str,
        path: str,
        token: str | None,
        content: Mapping[str, str] | None,
        read: Callable[[bytes], T],
    ) -> Deferred[T]:
        """Make a call and read its answer.

        :return: fails with `ServicesUnavailable` or `ServicesRefused`; cancelling it gives the call up.
        """

        def answered(body: bytes) -> T:
            try:
                return read(body)
            except ValueError as error:
                raise ServicesUnavailable(f"{method} {path}: {error}") from None

        return self._calls.call(method, path, token, content).addCallback(answered)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError("the answer is no JSON object")
    return content


def _field(content: Mapping[str, Any], name: str, maximum: int) -> str:
    value = content.get(name)
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise ValueError(f"the answer has no {name}")
    if len(value) > maximum:
        raise ValueError(f"its {name} has more than {maximum} characters")
    return value


def _text(name: str, maximum: int) -> Callable[[bytes], str]:
    return lambda body: _field(_object(body), name, maximum)


def _game_session(body: bytes) -> GameSession:
    content = _object(body)
    return GameSession(
        _field(content, "sessionToken", MAX_TOKEN_LENGTH),
        _field(content, "identityToken", MAX_TOKEN_LENGTH),
        _moment(content.get("expiresAt")),
    )


def _moment(value: Any) -> float:
    """Read a time, which is an ISO 8601 text or a number of Unix seconds."""
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 2**53:
        return float(value)
    raise ValueError("its expiresAt is no time")
