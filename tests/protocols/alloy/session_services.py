"""A stand-in for the session services: a real site with real keys, which can be told to be ill."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import UUID

import attrs
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.protocols.alloy.signing import Signer

ISSUER = "https://sessions.example"
CLIENT_SCOPE = "hytale:client"
SERVER_SCOPE = "hytale:server"
LIFE = 3600

Misbehaviour = Callable[[Request], Any]


@attrs.define
class Profile:
    """Somebody with an account: a player or a server."""

    uuid: UUID
    username: str
    scope: str
    account_token: str


@attrs.define
class Grant:
    """An authorization grant: whom it vouches for, and for whom it is."""

    holder: Profile
    audience: str


class SessionServicesSite(Resource):
    """The resource. Its `site` is to be listened with.

    :param seconds: tells the time, Unix seconds.
    """

    isLeaf = True

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__()
        self.seconds = seconds
        self.signer = Signer("key-1")
        self.profiles: dict[str, Profile] = {}
        """By account token."""
        self.sessions: dict[str, Profile] = {}
        """Live game sessions, by session token."""
        self.grants: dict[str, Grant] = {}
        self.calls: list[str] = []
        """What was asked for, in order."""
        self.every_session: list[str] = []
        """All session tokens that there ever were."""
        self._contents: list[tuple[str, Any]] = []
        self.misbehave: dict[str, list[Misbehaviour]] = {}
        """What to do instead of answering, by call; each is used once."""
        self.hanging: list[Request] = []
        """Requests that are never answered."""
        self.claims: dict[str, Any] = {}
        """Changes to every access token; for tokens that lie."""
        self._numbers = count(1)
        self.site = Site(self)

    def add(self, uuid: UUID, username: str, scope: str) -> Profile:
        """Somebody new, with an account token."""
        profile = Profile(uuid, username, scope, f"account-{next(self._numbers)}")
        self.profiles[profile.account_token] = profile
        return profile

    def new_session(self, profile: Profile) -> dict[str, Any]:
        """A game session as the services answer it."""
        token = f"session-{next(self._numbers)}"
        self.sessions[token] = profile
        self.every_session.append(token)
        return {
            "sessionToken": token,
            "identityToken": self.identity_token(profile),
            "expiresAt": self.seconds() + LIFE,
        }

    def identity_token(self, profile: Profile, **changes: Any) -> str:
        """A token that says who somebody is."""
        return self.signer.sign(self._claims(profile, **changes))

    def access_token(self, profile: Profile, audience: str, fingerprint: str, **changes: Any) -> str:
        """A token that says who somebody is, to somebody, over a connection with a certificate."""
        content = self._claims(
            profile, **{"aud": audience, "cnf": {"x5t#S256": fingerprint} if fingerprint else None, **changes}
        )
        return self.signer.sign({name: value for name, value in content.items() if value is not None})

    def _claims(self, profile: Profile, **changes: Any) -> dict[str, Any]:
        now = self.seconds()
        return {
            "iss": ISSUER,
            "sub": str(profile.uuid),
            "username": profile.username,
            "scope": profile.scope,
            "iat": now,
            "nbf": now,
            "exp": now + LIFE,
            **changes,
        }

    def render(self, request: Request) -> Any:
        call = f"{request.method.decode()} {request.path.decode()}"
        self.calls.append(call)
        instead = self.misbehave.get(call)
        if instead:
            return instead.pop(0)(request)
        answers = {
            "GET /.well-known/jwks.json": self._keys,
            "POST /game-session/new": self._new,
            "POST /game-session/refresh": self._refresh,
            "DELETE /game-session": self._delete,
            "POST /server-join/auth-grant": self._grant,
            "POST /server-join/auth-token": self._token,
        }
        try:
            assert request.content is not None
            content = json.loads(request.content.read() or b"{}")
            self._contents.append((request.path.decode(), content))
            answer = answers[call](self._bearer(request), content)
        except _Refusal as refusal:
            request.setResponseCode(refusal.status)
            answer = {"error": "refused"}
        except KeyError:
            request.setResponseCode(404)
            answer = {"error": "unknown"}
        request.setHeader("content-type", "application/json")
        return json.dumps(answer).encode()

    def contents(self, path: str) -> list[Any]:
        """What was sent there, in order."""
        return [content for sent_to, content in self._contents if sent_to == path]

    def hang(self, request: Request) -> Any:
        """Misbehave: never answer."""
        self.hanging.append(request)
        request.notifyFinish().addErrback(lambda failure: None)
        return NOT_DONE_YET

    def _bearer(self, request: Request) -> str:
        return (request.getHeader("authorization") or "").removeprefix("Bearer ")

    def _profile(self, token: str) -> Profile:
        if token not in self.sessions:
            raise _Refusal(401)
        return self.sessions[token]

    def _keys(self, token: str, content: Any) -> Any:
        return {"keys": [self.signer.public()]}

    def _new(self, token: str, content: Any) -> Any:
        profile = self.profiles.get(token)
        if profile is None or content["uuid"] != str(profile.uuid):
            raise _Refusal(401)
        return self.new_session(profile)

    def _refresh(self, token: str, content: Any) -> Any:
        profile = self._profile(token)
        del self.sessions[token]
        return self.new_session(profile)

    def _delete(self, token: str, content: Any) -> Any:
        self._profile(token)
        del self.sessions[token]
        return {}

    def _grant(self, token: str, content: Any) -> Any:
        self._profile(token)
        subject = self.signer.read(content["identityToken"])["sub"]
        holder = next((profile for profile in self.profiles.values() if str(profile.uuid) == subject), None)
        if holder is None:
            raise _Refusal(403)
        name = f"grant-{next(self._numbers)}"
        self.grants[name] = Grant(holder, content["aud"])
        return {"authorizationGrant": name}

    def _token(self, token: str, content: Any) -> Any:
        profile = self._profile(token)
        grant = self.grants.pop(content["authorizationGrant"], None)
        if grant is None or grant.holder is not profile:
            raise _Refusal(403)
        return {
            "accessToken": self.access_token(profile, grant.audience, content.get("x509Fingerprint", ""), **self.claims)
        }


class _Refusal(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


def status(code: int, body: bytes = b"{}", **headers: str) -> Misbehaviour:
    """Misbehave: answer with a status."""

    def answer(request: Request) -> bytes:
        request.setResponseCode(code)
        for name, value in headers.items():
            request.setHeader(name, value)
        return body

    return answer


def reset(request: Request) -> Any:
    """Misbehave: hang up."""
    request.notifyFinish().addErrback(lambda failure: None)
    transport: Any = request.transport
    transport.abortConnection()
    return NOT_DONE_YET


class Endless:
    """Misbehave: an answer that goes on for as long as somebody reads it, up to 200 MB."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended: Deferred[None] = Deferred()

    def __call__(self, request: Request) -> Any:
        request.notifyFinish().addBoth(lambda result: self.ended.callback(None))
        self.request = request
        request.registerProducer(self, False)
        return NOT_DONE_YET

    def resumeProducing(self) -> None:
        if self.sent < 200_000_000:
            self.sent += 65536
            self.request.write(bytes(65536))
        else:
            self.request.unregisterProducer()
            self.request.finish()

    def stopProducing(self) -> None:
        self.request.unregisterProducer()
