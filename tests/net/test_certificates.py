"""Tests of :mod:`connectd.net.certificates`: every mistake that an operator can make, in one line."""

from __future__ import annotations

import builtins
import datetime
import os
import stat
import tempfile
from pathlib import Path
from unittest import mock

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.certificates import (
    CertificateError,
    has_alternative_names,
    make_certificate,
    read_certificate,
    read_certificates,
    write_certificate,
)


def bare_certificate(
    *, names: bool = False, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None
) -> bytes:
    """A certificate, without a subjectAltName unless told otherwise, and its key."""
    private = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old.example")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("old.example")]), critical=False)
    certificate = builder.sign(private, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM) + key_pem(private)


def key_pem(private: object, passphrase: bytes | None = None, traditional: bool = False) -> bytes:
    assert isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    form = serialization.PrivateFormat.TraditionalOpenSSL if traditional else serialization.PrivateFormat.PKCS8
    return private.private_bytes(serialization.Encoding.PEM, form, encryption)


class CertificateCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="connectd-")
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "server.pem")

    def write(self, octets: bytes) -> None:
        with open(self.path, "wb") as file:
            file.write(octets)

    def problem(self, octets: bytes | None = None) -> str:
        """What is said about a file, which is one line that begins with its name."""
        if octets is not None:
            self.write(octets)
        with self.assertRaises(CertificateError) as caught:
            read_certificate(self.path)
        text = str(caught.exception)
        self.assertTrue(text.startswith(f"{self.path}: "), text)
        self.assertNotIn("\n", text)
        return text.removeprefix(f"{self.path}: ")


class MakeTests(CertificateCase):
    def test_made(self) -> None:
        """CH-10: P-256, CA:FALSE, a subjectAltName with every name and address."""
        self.write(make_certificate(["chatr.example", "127.0.0.1", "::1"]))
        certificate = read_certificate(self.path)
        leaf = certificate.leaf
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["chatr.example"])
        addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
        self.assertEqual(addresses, ["127.0.0.1", "::1"])
        self.assertFalse(leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        public = leaf.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        self.assertEqual(public.curve.name, "secp256r1")
        self.assertIn(b"BEGIN CERTIFICATE", certificate.pem)
        self.assertNotIn(b"PRIVATE", certificate.pem)
        self.assertNotIn("PRIVATE", repr(certificate))

    def test_written_once(self) -> None:
        """A file is made where there is none, for its owner only, and left alone where there is one."""
        self.assertTrue(write_certificate(self.path))
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        before = Path(self.path).read_bytes()
        self.assertFalse(write_certificate(self.path))
        self.assertEqual(Path(self.path).read_bytes(), before)
        self.assertTrue(has_alternative_names(read_certificate(self.path).leaf))


class ReadTests(CertificateCase):
    def test_chain(self) -> None:
        """CH-10: the server's own first, then those above it."""
        authority = trustme.CA()
        middle = authority.create_child_ca()
        issued = middle.issue_cert("chatr.example")
        self.write(b"".join(blob.bytes() for blob in issued.cert_chain_pems) + issued.private_key_pem.bytes())
        self.assertEqual(len(read_certificate(self.path).chain), 2)
        self.assertEqual(len(read_certificates(self.path)), 2)

    def test_keys(self) -> None:
        """CH-10: ECDSA with P-256 or RSA, in the forms that OpenSSL writes, before or behind the certificate."""
        for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())):
            pem = bare_certificate(names=True, key=key)
            certificate = pem[: pem.index(b"-----BEGIN PRIVATE")]
            for private in (key_pem(key), key_pem(key, traditional=True)):
                for octets in (certificate + private, private + certificate):
                    self.write(octets)
                    self.assertEqual(read_certificate(self.path).key.public_key(), key.public_key())
        parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        self.write(certificate + parameters + private)
        read_certificate(self.path)

    def test_missing(self) -> None:
        self.assertIn("there is no such file (connectctl init makes one", self.problem())

    def test_directory(self) -> None:
        os.mkdir(self.path)
        self.assertEqual(self.problem(), "cannot be read: Is a directory")

    def test_unreadable(self) -> None:
        self.write(b"")

        def refuse(path: str, mode: str) -> None:
            raise PermissionError(13, "Permission denied")

        # Root may read everything.
        with mock.patch.object(builtins, "open", refuse):
            self.assertIn("this user may not read it", self.problem())

    def test_no_certificate(self) -> None:
        for octets in (b"", b"hello", key_pem(ec.generate_private_key(ec.SECP256R1()))):
            self.assertIn("there is no certificate in it", self.problem(octets))

    def test_no_key(self) -> None:
        pem = bare_certificate(names=True)
        self.assertIn("there is no private key in it", self.problem(pem[: pem.index(b"-----BEGIN PRIVATE")]))

    def test_damaged(self) -> None:
        pem = bare_certificate(names=True)
        self.assertIn("a certificate in it is damaged", self.problem(pem.replace(b"MII", b"AAA", 1)))
        broken = pem.replace(b"-----BEGIN PRIVATE KEY-----\nMI", b"-----BEGIN PRIVATE KEY-----\nAA")
        self.assertIn("its private key is damaged", self.problem(broken))

    def test_mismatch(self) -> None:
        first, second = bare_certificate(names=True), bare_certificate(names=True)
        at = first.index(b"-----BEGIN PRIVATE")
        mixed = first[:at] + second[second.index(b"-----BEGIN PRIVATE") :]
        self.assertIn("its private key does not belong to its first certificate", self.problem(mixed))

    def test_passphrase(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = bare_certificate(names=True, key=key)
        locked = pem[: pem.index(b"-----BEGIN PRIVATE")] + key_pem(key, b"secret")
        self.assertIn("its private key has a passphrase", self.problem(locked))

    def test_no_alternative_names(self) -> None:
        """CH-10: a server's certificate has a subjectAltName."""
        self.assertIn("the certificate has no subjectAltName", self.problem(bare_certificate()))

    def test_other_keys(self) -> None:
        """CH-10: no other kinds of key, and none that is too short."""
        pem = bare_certificate(names=True)
        certificate = pem[: pem.index(b"-----BEGIN PRIVATE")]
        for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
            self.assertIn("neither ECDSA with P-256 nor RSA", self.problem(certificate + key_pem(key)))

    def test_too_large(self) -> None:
        """COM-2: what is no certificate file is not read whole."""
        self.assertIn("is larger than", self.problem(bytes(2 << 20)))
