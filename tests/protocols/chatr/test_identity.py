"""Tests of :mod:`connectd.protocols.chatr.identity` and of what is signed with it."""

from __future__ import annotations

import os
from unittest import mock
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr.client import ChatrDialogue
from connectd.protocols.chatr.identity import Identity, IdentityError, PassphraseNeeded, generate, load, save
from connectd.protocols.chatr.keys import verify_uuid
from connectd.protocols.chatr.packets import Connect
from connectd.protocols.chatr.settings import ChatrClientSettings
from tests.protocols.chatr.scene import identity, private_key, temporary_folder


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = os.path.join(temporary_folder(self), "me.pem")

    def problem(self, path: str = "", passphrase: bytes | None = None) -> str:
        with self.assertRaises(IdentityError) as caught:
            load(path or self.path, passphrase)
        text = str(caught.exception)
        self.assertNotIn("\n", text)
        return text

    def write(self, octets: bytes) -> None:
        with open(os.open(self.path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
            file.write(octets)

    def test_round_trip(self) -> None:
        """What is saved is loaded; only its owner can read the file."""
        one = identity(7)
        save(one, self.path)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        found = load(self.path)
        self.assertEqual((found.uuid, found.key), (one.uuid, one.key))

    def test_passphrase(self) -> None:
        """A key with a passphrase opens with that one only."""
        save(identity(7), self.path, b"swordfish")
        self.assertIn(b"ENCRYPTED", open(self.path, "rb").read())  # noqa: SIM115 - a test's
        self.assertEqual(load(self.path, b"swordfish").uuid, UUID(int=7))
        for wrong in (None, b"", b"perch"):
            with self.assertRaises(PassphraseNeeded) as caught:
                load(self.path, wrong)
            self.assertNotIn("swordfish", str(caught.exception))
            self.assertNotIn("perch", str(caught.exception))

    def test_no_passphrase_needed(self) -> None:
        save(identity(7), self.path)
        self.assertIn("its key has no passphrase", self.problem(passphrase=b"x"))

    def test_never_overwritten(self) -> None:
        """An identity that is there stays, unless it is to be replaced."""
        save(identity(7), self.path)
        with self.assertRaises(IdentityError):
            save(identity(8), self.path)
        self.assertEqual(load(self.path).uuid, UUID(int=7))
        save(identity(8), self.path, replace=True)
        self.assertEqual(load(self.path).uuid, UUID(int=8))

    def test_open_to_others(self) -> None:
        """A file that others can read is refused."""
        save(identity(7), self.path)
        for mode in (0o640, 0o604, 0o620):
            os.chmod(self.path, mode)
            self.assertIn("others may read or write it", self.problem())

    def test_mistakes(self) -> None:
        """Whatever else is wrong is one line."""
        self.assertIn("there is no such identity file", self.problem())
        self.assertIn("cannot be written", str(self.failure("/nowhere/me.pem")))
        self.write(b"hello")
        self.assertIn("has no line: Chatr identity UUID", self.problem())
        self.write(b"Chatr identity %s\nhello" % str(UUID(int=1)).encode())
        self.assertIn("is damaged", self.problem())
        self.write(b"Chatr identity " + b"-" * 36 + b"\n")
        self.assertIn("is damaged", self.problem())
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.write(b"Chatr identity %s\n" % str(UUID(int=1)).encode() + pem)
        self.assertIn("its key is not an RSA key", self.problem())

    def failure(self, path: str) -> IdentityError:
        with self.assertRaises(IdentityError) as caught:
            save(identity(7), path)
        error: IdentityError = caught.exception
        return error

    def test_generated(self) -> None:
        """CH-21: keys of 2,048 to 8,192 bits."""
        one = generate(2048)
        self.assertEqual((one.private.key_size, one.uuid.version), (2048, 4))
        self.assertEqual(generate(2048, UUID(int=3)).uuid, UUID(int=3))
        for bits in (1024, 2047, 8193):
            self.assertRaises(ValueError, generate, bits)


class SignatureTests(SynchronousTestCase):
    def test_signature(self) -> None:
        """CH-2: RSA PKCS#1 v1.5 with SHA-256 over the 16 bytes of the UUID, always the same."""
        one = identity(1)
        self.assertTrue(verify_uuid(one.key, one.signature, one.uuid))
        self.assertEqual(one.signature, identity(1).signature)
        for wrong in (
            identity(2).signature,
            identity(1, 1).signature,
            b"",
            bytes(256),
            bytes(512),
            bytes(1024),
            b"x" * 7,
        ):
            self.assertFalse(verify_uuid(one.key, wrong, one.uuid))

    def test_signed_once(self) -> None:
        """CH-2: it is made with the identity, and not in the reactor at each connection."""
        one = identity(1)
        with mock.patch("connectd.protocols.chatr.identity.sign_uuid", side_effect=AssertionError):
            dialogue = ChatrDialogue(Clock(), ChatrClientSettings(), one)
            for _ in range(2):
                machine = dialogue.make_machine(0.0)
                machine.transport_ready(0.0)
                self.assertEqual(machine.data_to_send(), Connect(1, one.uuid, one.signature).encode())

    def test_nobody(self) -> None:
        """CH-2, COM-10: an unknown UUID is a no, after the same work: a decoy of the signature's size is asked."""
        one = identity(1)
        for signature in (one.signature, b"", bytes(256), bytes(1024), bytes(300), bytes(2000)):
            self.assertFalse(verify_uuid(None, signature, one.uuid))
        self.assertFalse(verify_uuid(b"no key", one.signature, one.uuid))

    def test_same_work(self) -> None:
        """CH-2, COM-10: exactly one RSA operation, of the size of the signature, whoever is asked for."""
        from connectd.protocols.chatr import keys

        sizes: list[int] = []
        genuine = keys.is_signed

        def counted(public: RSAPublicKey, signature: bytes, data: bytes) -> bool:
            sizes.append(public.key_size)
            return genuine(public, signature, data)

        with mock.patch.object(keys, "is_signed", counted):
            for size, bits in ((256, 2048), (512, 4096), (300, 2400), (1024, 8192), (0, 2048), (17, 2048)):
                for key in (None, identity(1).key):
                    sizes.clear()
                    verify_uuid(key, bytes(size), UUID(int=1))
                    self.assertEqual(sizes, [bits], (size, key is None))

    def test_no_secret_is_shown(self) -> None:
        """COM-9"""
        one = Identity(UUID(int=1), private_key())
        self.assertEqual(repr(one), f"Identity(uuid={UUID(int=1)!r})")
