"""Which certificate a server shows (AL-11)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.certificates import CertificateError, make_certificate
from connectd.protocols.alloy.certificate_store import (
    THUMBPRINT,
    choose_certificate,
    read_alloy_certificate,
    thumbprint,
)


class StoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Path(self.mktemp())
        self.store.mkdir()
        self.file = str(self.store / "configured" / "alloy.pem")

    def put(self, name: str) -> str:
        """Put a new certificate there; its thumbprint."""
        pem = make_certificate(["localhost"])
        (self.store / name).write_bytes(pem)
        der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
        return hashlib.sha1(der).hexdigest()

    def chosen(self, wanted: str, store: str | None = None) -> str:
        return choose_certificate(self.file, str(self.store) if store is None else store, {THUMBPRINT: wanted})

    def refused(self, wanted: str, reason: str, store: str | None = None) -> None:
        error = self.assertRaises(CertificateError, self.chosen, wanted, store)
        self.assertIn(reason, str(error))
        self.assertNotIn("\n", str(error))

    def test_configured(self) -> None:
        """AL-11: without a thumbprint the configured file."""
        self.put("other.pem")
        self.assertEqual(choose_certificate(self.file, str(self.store), {}), self.file)
        self.assertEqual(self.chosen(" "), self.file)

    def test_picked(self) -> None:
        """AL-11: the one with that thumbprint, in whichever case it is written."""
        first, second = self.put("a.pem"), self.put("b.pem")
        (self.store / "broken.pem").write_text("nothing")
        (self.store / "a.txt").write_text("nothing")
        self.assertEqual(self.chosen(first), str(self.store / "a.pem"))
        self.assertEqual(self.chosen(second.upper()), str(self.store / "b.pem"))

    def test_not_there(self) -> None:
        """AL-11: it says what is missing, and what is there."""
        there = self.put("a.pem")
        self.refused("0" * 40, there.upper())
        os.unlink(self.store / "a.pem")
        self.refused("0" * 40, "there is no certificate")

    def test_wrong(self) -> None:
        for text in ("abc", "0" * 39, "0" * 41, "g" * 40, "0" * 64):
            self.refused(text, "is no thumbprint")
        self.refused("0" * 40, "no certificate_store", store="")
        self.refused("0" * 40, "cannot be read", store=str(self.store / "nowhere"))

    def test_thumbprint(self) -> None:
        self.assertEqual(thumbprint(b"abc"), "A9993E364706816ABA3E25717850C26C9CD0D89D")


class CurveTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()

    def test_p256(self) -> None:
        Path(self.path).write_bytes(make_certificate(["localhost"]))
        self.assertEqual(read_alloy_certificate(self.path).key.key_size, 256)

    def test_rsa(self) -> None:
        """AL-11: a key that is not on P-256 is refused, by name."""
        key = rsa.generate_private_key(65537, 2048)
        made = x509.load_pem_x509_certificate(make_certificate(["localhost"]))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(made.subject)
            .issuer_name(made.subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(made.not_valid_before_utc)
            .not_valid_after(made.not_valid_after_utc)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
            .sign(key, SHA256())
        )
        Path(self.path).write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        error = self.assertRaises(CertificateError, read_alloy_certificate, self.path)
        self.assertIn("not ECDSA on P-256", str(error))
