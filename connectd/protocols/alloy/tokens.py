"""
Who a player is, as the session services say it: signed tokens, and the keys they are verified with (AL-5, AL-6, AL-16).

Nothing here waits or fetches; :mod:`connectd.protocols.alloy.key_cache` brings the keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hmac import compare_digest
from typing import Any, Final
from uuid import UUID

import attrs
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey
from joserfc.util import urlsafe_b64decode

ALGORITHM: Final = "EdDSA"
"""The one signature that counts, over Ed25519. A token that names another is refused unread."""

LEEWAY: Final = 300.0
"""Seconds that clocks may differ."""

MAX_TOKEN_LENGTH: Final = 8192
"""Characters of a token."""

MAX_KEYS: Final = 64
"""Keys of a key set that are looked at."""

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_SHOWN: Final = 64


class _Signatures(jws.JWSRegistry):
    """The allow-list, which does not warn for every token that RFC 9864 has a newer name for its signature."""

    def get_alg(self, name: str) -> Any:
        if name != ALGORITHM:
            raise UnsupportedAlgorithmError(f"Algorithm of '{name}' is not allowed")
        return self.algorithms[name]


_SIGNATURES: Final = _Signatures()


class TokenError(Exception):
    """A token does not say what it would have to.

    :param reason: why, in words for the player; nothing of a token is in it but the claim that is wrong.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class KeySetError(ValueError):
    """What should be a key set is none."""


@attrs.frozen
class KeySet:
    """The services' public keys, by their ``kid``."""

    keys: Mapping[str, OKPKey] = attrs.field(factory=dict)

    @classmethod
    def from_json(cls, document: bytes) -> KeySet:
        """Read a JSON Web Key Set (RFC 7517). Keys that are not for Ed25519 signatures are passed over.

        :raises KeySetError: for anything else than a key set.
        """
        try:
            content = json.loads(document)
            entries = content["keys"]
            if not isinstance(entries, list):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError):
            raise KeySetError("the key set is no JSON object with a list of keys") from None
        keys = {}
        for entry in entries[:MAX_KEYS]:
            if (
                isinstance(entry, dict)
                and (entry.get("kty"), entry.get("crv")) == ("OKP", "Ed25519")
                and entry.get("use", "sig") == "sig"
                and entry.get("alg", ALGORITHM) in (ALGORITHM, "Ed25519")
                and isinstance(kid := entry.get("kid"), str)
                and isinstance(point := entry.get("x"), str)
            ):
                try:
                    keys[kid] = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": point})
                except (JoseError, ValueError):
                    continue
        return cls(keys)


@attrs.frozen
class Claims:
    """What a verified token says.

    :param subject: ``sub``: whom it is about.
    :param username: ``username``, or nothing.
    :param scope: the words of ``scope``.
    :param audience: ``aud``.
    :param expires: ``exp``, Unix seconds.
    :param fingerprint: ``cnf`` ``x5t#S256``: base64url(SHA-256(DER)) of the certificate that its holder must show, or
        nothing.
    """

    subject: str
    username: str
    scope: frozenset[str]
    audience: frozenset[str]
    expires: float
    fingerprint: str

    def about(self, uuid: UUID) -> Claims:
        """Insist that it is about a player.

        :raises TokenError: it is about somebody else.
        """
        try:
            same = UUID(self.subject) == uuid
        except ValueError:
            same = False
        if not same:
            raise TokenError(f"it is about {_shown(self.subject)}, not about {uuid}")
        return self

    def with_scope(self, scope: str) -> Claims:
        """Insist on a scope.

        :raises TokenError: it is for something else.
        """
        if scope not in self.scope:
            raise TokenError(f"its scope does not contain {scope}")
        return self

    def for_audience(self, audience: str) -> Claims:
        """Insist on an audience.

        :raises TokenError: it is for another.
        """
        if audience not in self.audience:
            raise TokenError(f"it is for {_shown(', '.join(sorted(self.audience)) or 'nobody')}, not for {audience}")
        return self

    def named(self, username: str) -> Claims:
        """Insist on a username.

        :raises TokenError: it names another.
        """
        if self.username != username:
            raise TokenError(f"it names {_shown(self.username) or 'nobody'}, not {username}")
        return self

    def held_by(self, fingerprint: str | None) -> Claims:
        """Insist that who shows it may: where it names a certificate, that has to be the one that was shown.

        :param fingerprint: of the certificate that came with the connection; None where none came (AL-6).
        :raises TokenError: it is somebody else's.
        """
        if not self.fingerprint:
            return self
        if fingerprint is None:
            raise TokenError("it belongs to a certificate, and none was shown")
        if not compare_digest(self.fingerprint.encode(), fingerprint.encode()):
            raise TokenError("it belongs to another certificate than the one shown")
        return self


def key_identifier(token: str) -> str:
    """Find out with which key a token says it is signed, before anything else of it is believed.

    :raises TokenError: it is no token, too long, or signed in another way than with EdDSA.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        raise TokenError(f"it has {len(token)} characters, and at most {MAX_TOKEN_LENGTH} are taken")
    if _COMPACT.fullmatch(token) is None:
        raise TokenError("it is no signed token")
    try:
        header = json.loads(urlsafe_b64decode(token.partition(".")[0].encode()))
    except (ValueError, RecursionError):
        raise TokenError("its header cannot be read") from None
    if not isinstance(header, dict) or header.get("alg") != ALGORITHM:
        raise TokenError(f"it is not signed with {ALGORITHM}")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise TokenError("it does not say with which key it is signed")
    return kid


def own_subject(token: str) -> str:
    """Whom one's own token is about; nothing where it does not say. It is not verified: what others show has to be."""
    try:
        subject = json.loads(urlsafe_b64decode(token.split(".")[1].encode()))["sub"]
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        return ""
    return subject if isinstance(subject, str) else ""


def verify(token: str, key: OKPKey, issuer: str, now: float) -> Claims:
    """Verify a token's signature, issuer and times.

    What else it has to say is asked of the claims: :meth:`Claims.about` and its siblings.

    :param key: the key that :func:`key_identifier` asks for.
    :param issuer: what ``iss`` must be.
    :param now: Unix seconds.
    :raises TokenError: it does not hold.
    """
    key_identifier(token)
    try:
        payload = jws.deserialize_compact(token, key, registry=_SIGNATURES).payload
    except (JoseError, ValueError, TypeError):
        raise TokenError("its signature is wrong") from None
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise TokenError("its claims cannot be read")
    if claims.get("iss") != issuer:
        raise TokenError("it comes from another issuer")
    expires = _time(claims, "exp")
    if expires is None:
        raise TokenError("it does not say when it expires")
    if now >= expires + LEEWAY:
        raise TokenError("it has expired")
    for name in ("nbf", "iat"):
        begins = _time(claims, name)
        if begins is not None and now < begins - LEEWAY:
            raise TokenError("it is not valid yet")
    return Claims(
        subject=_text(claims, "sub"),
        username=_text(claims, "username"),
        scope=frozenset(_text(claims, "scope").split()),
        audience=_audience(claims),
        expires=expires,
        fingerprint=_fingerprint(claims),
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str):
        raise TokenError(f"its {name} is no text")
    return value


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    # JSON as Python reads it has NaN and infinities, which would compare as valid for ever.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 2**53:
        raise TokenError(f"its {name} is no time")
    return float(value)


def _audience(claims: Mapping[str, Any]) -> frozenset[str]:
    value = claims.get("aud", [])
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise TokenError("its aud is neither a text nor a list of texts")
    return frozenset(entries)


def _fingerprint(claims: Mapping[str, Any]) -> str:
    confirmation = claims.get("cnf")
    if confirmation is None:
        return ""
    # A way of binding that is not known here must not pass as no binding.
    value = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
    if not isinstance(value, str) or not value:
        raise TokenError("its cnf names no certificate in a way that is known here (x5t#S256)")
    return value


def _shown(text: str) -> str:
    """What somebody else wrote, short, and on one line."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:_SHOWN])
    return shown if len(text) <= _SHOWN else f"{shown}…"
