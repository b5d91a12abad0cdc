"""Secrets in files of their own."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from connectd.credentials import CredentialsError
from connectd.secret_file import MAXIMUM, read_secret


class SecretFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def write(self, octets: bytes, mode: int = 0o600) -> None:
        self.path.write_bytes(octets)
        self.path.chmod(mode)

    def read(self, value: str = "") -> bytes:
        return read_secret("toy", "password", value, str(self.path))

    def assert_refused(self, problem: str, value: str = "") -> None:
        with self.assertRaises(CredentialsError) as caught:
            self.read(value)
        self.assertEqual(str(caught.exception), f"toy: {problem}")

    def test_in_the_configuration(self) -> None:
        self.assertEqual(read_secret("toy", "password", "swördfish", ""), "swördfish".encode())
        self.assertEqual(read_secret("toy", "password", "", ""), b"")

    def test_in_a_file(self) -> None:
        """One line ending at the end does not belong to it."""
        for octets, secret in (
            (b"secret", b"secret"),
            (b"secret\n", b"secret"),
            (b"secret\r\n", b"secret"),
            (b" secret\n\n", b" secret\n"),
            (bytes(range(128, 256)), bytes(range(128, 256))),
            (b"x" * MAXIMUM + b"\r\n", b"x" * MAXIMUM),
        ):
            self.write(octets)
            self.assertEqual(self.read(), secret)

    def test_both(self) -> None:
        self.write(b"secret")
        self.assert_refused("password and password_file: only one of them may be set", "another")

    def test_too_long(self) -> None:
        self.write(b"x" * (MAXIMUM + 1))
        self.assert_refused(f"password_file: {self.path} is too long: at most {MAXIMUM} bytes")
        with self.assertRaisesRegex(CredentialsError, "^toy: password is too long"):
            read_secret("toy", "password", "x" * (MAXIMUM + 1), "")

    def test_empty(self) -> None:
        """A file that says nothing is a mistake, not a way in for everybody."""
        for octets in (b"", b"\n", b"\r\n"):
            self.write(octets)
            self.assert_refused(
                f"password_file: {self.path} is empty (write the password into it, or leave password_file out)"
            )

    def test_not_there(self) -> None:
        self.assert_refused(f"password_file: {self.path} cannot be read: No such file or directory")

    def test_open_to_others(self) -> None:
        """COM-9: what everybody on the machine can read is no secret."""
        for mode in (0o640, 0o604, 0o620):
            self.write(b"secret", mode)
            self.assert_refused(
                f"password_file: {self.path} is open to others, mode {mode:04o} (chmod 600 {self.path})"
            )

    def test_from_a_pipe(self) -> None:
        """What a shell gives with ``<(…)`` has no permissions of its own."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.write(writing, b"secret\n")
        os.close(writing)
        self.assertEqual(read_secret("toy", "password", "", f"/proc/self/fd/{reading}"), b"secret")
