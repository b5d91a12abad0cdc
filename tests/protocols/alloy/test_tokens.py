"""Tokens of the session services: what is believed, and every way not to be (AL-5, AL-6, AL-12)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import OKPKey
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy.fingerprint import fingerprint
from connectd.protocols.alloy.tokens import (
    LEEWAY,
    MAX_TOKEN_LENGTH,
    Claims,
    KeySet,
    KeySetError,
    TokenError,
    key_identifier,
    verify,
)
from tests.protocols.alloy.signing import Signer, encoded

ISSUER = "https://sessions.example"
NOW = 1_800_000_000.0
PLAYER = UUID("00112233-4455-6677-8899-aabbccddeeff")
SIGNER = Signer("one")
OTHER = Signer("one")
PUBLIC = OKPKey.import_key(SIGNER.public())


def claims(**changes: Any) -> dict[str, Any]:
    content = {"iss": ISSUER, "sub": str(PLAYER), "exp": NOW + 60, "username": "Ann", "scope": "hytale:client other"}
    content.update(changes)
    return {name: value for name, value in content.items() if value is not None}


def signed(content: Any, signer: Signer = SIGNER, **header: Any) -> str:
    return signer.sign(content, **header)


class VerifyTests(SynchronousTestCase):
    def refused(self, token: str, reason: str, key: OKPKey = PUBLIC) -> None:
        error = self.assertRaises(TokenError, verify, token, key, ISSUER, NOW)
        self.assertIn(reason, error.reason)
        self.assertNotIn(token or "no token at all", str(error))

    def test_good(self) -> None:
        """AL-5: what the services signed is believed, and says who it is."""
        token = signed(claims(aud=["a", "b"], nbf=NOW, iat=NOW, cnf={"x5t#S256": "abc"}))
        self.assertEqual(key_identifier(token), "one")
        self.assertEqual(
            verify(token, PUBLIC, ISSUER, NOW),
            Claims(str(PLAYER), "Ann", frozenset({"hytale:client", "other"}), frozenset({"a", "b"}), NOW + 60, "abc"),
        )

    def test_sparse(self) -> None:
        token = signed({"iss": ISSUER, "exp": NOW})
        self.assertEqual(verify(token, PUBLIC, ISSUER, NOW), Claims("", "", frozenset(), frozenset(), NOW, ""))

    def test_another_key(self) -> None:
        """AL-5: a token that somebody else signed is worth nothing."""
        self.refused(signed(claims(), OTHER), "signature is wrong")

    def test_changed(self) -> None:
        header, payload, signature = signed(claims()).split(".")
        self.refused(f"{header}.{encoded(claims(sub=str(UUID(int=1))))}.{signature}", "signature is wrong")
        self.refused(f"{encoded({'alg': 'EdDSA', 'kid': 'one', 'x': 1})}.{payload}.{signature}", "signature is wrong")
        self.refused(f"{header}.{payload}.{encoded(bytes(64))}", "signature is wrong")
        self.refused(f"{header}.{payload}.{encoded(b'short')}", "signature is wrong")

    def test_algorithms(self) -> None:
        """AL-5: EdDSA only. Not none, and not an HMAC with the public key as its secret."""
        body = encoded(claims())
        header = encoded({"alg": "none", "kid": "one"})
        self.refused(f"{header}.{body}.", "no signed token")
        self.refused(f"{header}.{body}.AA", "not signed with EdDSA")
        header = encoded({"alg": "HS256", "kid": "one"})
        secret = base64.urlsafe_b64decode(f"{SIGNER.public()['x']}=")
        mac = hmac.digest(secret, f"{header}.{body}".encode(), hashlib.sha256)
        self.refused(f"{header}.{body}.{encoded(mac)}", "not signed with EdDSA")
        for algorithm in ("eddsa", "", None, 5, ["EdDSA"], "ES256"):
            self.refused(f"{encoded({'alg': algorithm, 'kid': 'one'})}.{body}.AA", "not signed with EdDSA")

    def test_header_that_brings_its_own_key(self) -> None:
        """A key in the header is nobody's key."""
        own = OTHER.public()
        self.refused(signed(claims(), OTHER, jwk=own), "signature is wrong")

    def test_critical_header(self) -> None:
        """What a header calls critical and nobody here knows makes the token worth nothing."""
        header = encoded({"alg": "EdDSA", "kid": "one", "crit": ["exp"], "exp": 1})
        _, payload, signature = signed(claims()).split(".")
        self.refused(f"{header}.{payload}.{signature}", "signature is wrong")

    def test_key_identifiers(self) -> None:
        for kid in ("", None, 1, ["one"]):
            token = f"{encoded({'alg': 'EdDSA', 'kid': kid})}.AA.AA"
            error = self.assertRaises(TokenError, key_identifier, token)
            self.assertIn("does not say with which key", error.reason)

    def test_length(self) -> None:
        """AL-17: 8,192 characters; more is not looked at."""
        token = signed(claims())
        error = self.assertRaises(TokenError, key_identifier, "a" * (MAX_TOKEN_LENGTH + 1))
        self.assertIn("8193 characters", error.reason)
        self.assertLess(len(token), MAX_TOKEN_LENGTH)
        padded = signed(claims(pad="x" * 5800))
        self.assertEqual(verify(padded, PUBLIC, ISSUER, NOW).subject, str(PLAYER))

    def test_issuer(self) -> None:
        for issuer in ("https://evil.example", ISSUER + "/", None, 5, [ISSUER]):
            self.refused(signed(claims(iss=issuer)), "another issuer")

    def test_times(self) -> None:
        """AL-5: expired or not yet valid, with 300 s for clocks that differ."""
        self.assertEqual(LEEWAY, 300)
        self.refused(signed(claims(exp=NOW - 300)), "expired")
        self.assertEqual(verify(signed(claims(exp=NOW - 299)), PUBLIC, ISSUER, NOW).expires, NOW - 299)
        self.refused(signed(claims(exp=None)), "when it expires")
        for name in ("nbf", "iat"):
            self.refused(signed(claims(**{name: NOW + 301})), "not valid yet")
            verify(signed(claims(**{name: NOW + 300})), PUBLIC, ISSUER, NOW)

    def test_times_that_are_none(self) -> None:
        value: Any
        for value in ("9999999999", True, [1], {}, float("nan"), float("inf"), 10**400, -(10**400)):
            for name in ("exp", "nbf", "iat"):
                self.refused(signed(claims(**{name: value})), f"its {name} is no time")

    def test_wrong_types(self) -> None:
        value: Any
        for name in ("sub", "username", "scope"):
            for value in (5, ["x"], {}):
                self.refused(signed(claims(**{name: value})), f"its {name} is no text")
        for value in (5, {}, [5], ["a", None]):
            self.refused(signed(claims(aud=value)), "its aud is neither")
        for value in ("x", [], {}, {"jkt": "x"}, {"x5t#S256": ""}, {"x5t#S256": 5}):
            self.refused(signed(claims(cnf=value)), "its cnf names no certificate")

    def test_payloads_that_are_none(self) -> None:
        for payload in (b"", b"[]", b"5", b"{", b"\xff", b"[" * 5000):
            if payload:
                self.refused(signed(payload), "claims cannot be read")

    def test_no_token(self) -> None:
        for token in ("", "a", "a.b", "a.b.c.d", "a.b.c ", " a.b.c", "a.b.c\n", "a.ü.c", "..", "a..c"):
            self.refused(token, "no signed token")
        for header in ("a", "_w", encoded(b"[" * 5000), encoded(b"\xff"), encoded([])):
            self.assertRaises(TokenError, key_identifier, f"{header}.AA.AA")

    @given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,90}"))
    def test_any_text(self, token: str) -> None:
        """COM-3: whatever it is, it is refused with words."""
        self.assertRaises(TokenError, verify, token, PUBLIC, ISSUER, NOW)


class ClaimsTests(SynchronousTestCase):
    good = Claims(str(PLAYER), "Ann", frozenset({"a", "b"}), frozenset({"us"}), NOW, "print")

    def test_good(self) -> None:
        self.good.about(PLAYER).with_scope("a").for_audience("us").named("Ann").held_by("print")

    def test_subject(self) -> None:
        """AL-5: sub must be the uuid of Connect, however it is spelled."""
        error = self.assertRaises(TokenError, self.good.about, UUID(int=1))
        self.assertEqual(error.reason, f"it is about {PLAYER}, not about {UUID(int=1)}")
        Claims(str(PLAYER).upper(), "", frozenset(), frozenset(), 0, "").about(PLAYER)
        for subject in ("", "x" * 2000, "a\nb"):
            other = Claims(subject, "", frozenset(), frozenset(), 0, "")
            error = self.assertRaises(TokenError, other.about, PLAYER)
            self.assertLess(len(error.reason), 200)
            self.assertNotIn("\n", error.reason)

    def test_scope(self) -> None:
        """AL-5: one of the words, not a part of one."""
        self.assertRaises(TokenError, self.good.with_scope, "")
        self.assertRaises(TokenError, self.good.with_scope, "a b")
        self.assertRaises(TokenError, self.good.with_scope, "c")

    def test_audience(self) -> None:
        """AL-6: meant for this server."""
        error = self.assertRaises(TokenError, self.good.for_audience, "them")
        self.assertEqual(error.reason, "it is for us, not for them")
        nobody = Claims("", "", frozenset(), frozenset(), 0, "")
        self.assertIn("nobody", self.assertRaises(TokenError, nobody.for_audience, "them").reason)

    def test_username(self) -> None:
        """AL-6: the username of Connect, exactly."""
        self.assertRaises(TokenError, self.good.named, "ann")

    def test_holder(self) -> None:
        """AL-6: a token that names a certificate is worth nothing with another, or with none."""
        self.assertIn("another", self.assertRaises(TokenError, self.good.held_by, "prinz").reason)
        self.assertIn("none", self.assertRaises(TokenError, self.good.held_by, None).reason)
        self.assertRaises(TokenError, self.good.held_by, "")
        Claims("", "", frozenset(), frozenset(), 0, "").held_by(None)


class KeySetTests(SynchronousTestCase):
    def test_keys(self) -> None:
        """AL-5: the Ed25519 signing keys of the set; what else is in it is passed over."""
        good = {**SIGNER.public(), "kid": "one"}
        others: list[Any] = [
            {**good, "kid": "encryption", "use": "enc"},
            {**good, "kid": "algorithm", "alg": "HS256"},
            {**good, "kid": "curve", "crv": "X25519"},
            {**good, "kid": "short", "x": "AA"},
            {**good, "kid": "none", "x": None},
            {**good, "kid": 5},
            {"kty": "oct", "k": "AAAA", "kid": "secret"},
            "text",
            None,
            {**good, "kid": "two", "use": "sig", "alg": "EdDSA"},
        ]
        keys = KeySet.from_json(json.dumps({"keys": [good, *others]}).encode()).keys
        self.assertEqual(set(keys), {"one", "two"})
        verify(signed(claims()), keys["one"], ISSUER, NOW)

    def test_no_key_set(self) -> None:
        for document in (b"", b"[]", b"{}", b'{"keys": 5}', b'{"keys": {}}', b"\xff", b"[" * 100_000, b"null"):
            self.assertRaises(KeySetError, KeySet.from_json, document)

    def test_many(self) -> None:
        good = SIGNER.public()
        document = json.dumps({"keys": [{**good, "kid": str(number)} for number in range(100)]})
        self.assertEqual(len(KeySet.from_json(document.encode()).keys), 64)


class FingerprintTests(SynchronousTestCase):
    def test_fingerprint(self) -> None:
        """AL-12: base64url of SHA-256, 43 characters, without padding."""
        self.assertEqual(fingerprint(b"abc"), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0")
        self.assertEqual(len(fingerprint(b"")), 43)
