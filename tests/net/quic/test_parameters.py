"""Certificates, trust, and how ends are put into words."""

from __future__ import annotations

from aioquic.quic.events import ConnectionTerminated
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.quic import Identity, IdentityError, Trust
from connectd.net.quic.ending import describe, error_name
from connectd.sansio import Outcome
from tests.net.quic.toy import authority_pem, identity


def pem_of(key: object) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[attr-defined,no-any-return]


class IdentityTests(SynchronousTestCase):
    """A PEM file with a certificate and its key."""

    def test_read(self) -> None:
        """In any order, and without its key in any repr (COM-9)."""
        own = identity()
        certificate = own.leaf.public_bytes(Encoding.PEM)
        for data in (certificate + pem_of(own.key), pem_of(own.key) + certificate):
            again = Identity.from_pem(data)
            self.assertEqual(again.certificate, own.certificate)
            self.assertEqual(len(again.sha256), 32)
        self.assertNotIn("PrivateKey", repr(own))

    def test_problems(self) -> None:
        """What is wrong is said in one line."""
        own, other = identity(), ec.generate_private_key(ec.SECP256R1())
        certificate = own.leaf.public_bytes(Encoding.PEM)
        odd = ec.generate_private_key(ec.SECP256K1())
        broken = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
        for data, words in (
            (certificate, "no private key"),
            (pem_of(own.key), "no certificate"),
            (certificate + broken, "broken"),
            (certificate + pem_of(other), "does not belong"),
            (certificate + pem_of(odd), "does not sign"),
        ):
            with self.assertRaises(IdentityError) as caught:
                Identity.from_pem(data)
            self.assertIn(words, str(caught.exception))


class TrustTests(SynchronousTestCase):
    """How a client knows its server."""

    def test_authorities(self) -> None:
        """Only the certificates of the file count, and there has to be one."""
        trust = Trust.authorities(pem_of(identity().key) + authority_pem())
        self.assertEqual(trust, Trust.authorities(authority_pem()))
        self.assertNotIn(b"PRIVATE", trust.authority or b"")
        with self.assertRaises(IdentityError):
            Trust.authorities(b"nothing")
        self.assertIsNone(Trust.authorities().authority)

    def test_pins(self) -> None:
        """A pin is the SHA-256 of the one certificate that is taken."""
        self.assertIsNone(Trust.pinned(identity().sha256).objection(identity().certificate))
        self.assertIn("not the pinned one", Trust.pinned(bytes(32)).objection(identity().certificate) or "")
        self.assertIn("not the pinned one", Trust.pinned(bytes(32)).objection(None) or "")
        with self.assertRaises(ValueError):
            Trust.pinned(b"short")


class EndingTests(SynchronousTestCase):
    """What aioquic says of an end, in words and outcomes (COM-7)."""

    def test_words(self) -> None:
        """Each kind of end has its own."""
        for event, by_peer, reason, before, after in (
            ((0x178, 6, ""), False, "no application protocol in common", Outcome.MALFORMED, Outcome.MALFORMED),
            ((10, 8, "two\nlines"), False, "PROTOCOL_VIOLATION: two\ufffdlines", Outcome.MALFORMED, Outcome.MALFORMED),
            ((7, None, ""), True, "the peer closed the connection: application error 7", Outcome.ABORTED, Outcome.LOST),
            ((1, 0, "Idle timeout"), False, "nothing came any more", Outcome.TIMEOUT, Outcome.TIMEOUT),
        ):
            ending = describe(ConnectionTerminated(*event), by_peer)
            self.assertEqual(ending.reason, reason)
            self.assertEqual((ending.outcome(False), ending.outcome(True)), (before, after))
            self.assertIsInstance(ending.exception, ConnectionLost)
        clean = describe(ConnectionTerminated(0, None, ""), True)
        self.assertIsInstance(clean.exception, ConnectionDone)

    def test_names(self) -> None:
        """Also of errors that have none."""
        self.assertEqual(error_name(0x12A), "TLS: bad certificate")
        self.assertEqual(error_name(0x1FF), "TLS alert 255")
        self.assertEqual(error_name(0x9999), "error 0x9999")
        self.assertEqual(error_name(2), "CONNECTION_REFUSED")
