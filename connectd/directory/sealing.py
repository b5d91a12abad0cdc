"""Sealing: what must be kept in a form that can be used, encrypted under a key that is not in the database.

**The key file** holds 32-byte keys and nothing else, the newest first: one key as :func:`create_key` makes it, two for
as long as a rotation lasts. It is only its owner's to read. Whoever has both the database and this file has every
sealed password; whoever has lost the file has lost them all, and these accounts need new passwords (argon2id verifiers
do not need the key). So back both up, apart from each other.

**A key's id** is the first 8 bytes of SHA-256 over ``connectd key id`` and the key, in hex: it names the key and tells
nothing about it. Every sealed verifier carries the id of its key, and the database says with which key to seal, so
that all processes use the same one.

**A sealed verifier** is a random 12-byte nonce and the AES-256-GCM ciphertext with its 16-byte tag. What is sealed is
the length (two bytes) and the secret, padded with zeros to 64 bytes and multiples of it, so that passwords of usual
length look alike. The account's id, the scheme and the key's id are authenticated with it: moved to another row, it
does not open.

**Rotation** (:func:`connectd.directory.rotation.rotate_key`) puts the new key into the file in front of the old one,
seals everything anew in one transaction that also names the new key, then takes the old one out of the file.
Whenever it stops, the file has the key that the database needs, and running it again finishes it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from connectd.directory.errors import BrokenSealError, DirectoryError, MissingKeyError, WrongKeyError
from connectd.directory.files import replace_file, write_new_file

KEY_SIZE: Final = 32
NONCE_SIZE: Final = 12
BLOCK: Final = 64
MAXIMUM_KEYS: Final = 16
"""How many keys a file may hold; more is something else than a key file."""

CREDENTIALS_DIRECTORY: Final = "CREDENTIALS_DIRECTORY"
"""Where systemd tells a service that its credentials are (``LoadCredential=``)."""

_LENGTH: Final = 2
_PRIVATE: Final = 0o077


def key_id(key: bytes) -> str:
    """The public name of a key: 16 hex digits."""
    return hashlib.sha256(b"connectd key id" + key).hexdigest()[:16]


class KeyRing:
    """The keys of a file, ready to seal and open. Shows none of them.

    :param keys: 32 bytes each, the newest first.
    """

    __slots__ = ("_ciphers", "_keys")

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {key_id(key): key for key in keys}
        self._ciphers = {name: AESGCM(key) for name, key in self._keys.items()}

    @property
    def ids(self) -> list[str]:
        """The ids of the keys, the newest first."""
        return list(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._keys)})"

    def with_new_key(self) -> KeyRing:
        """These keys and a new one in front of them."""
        return KeyRing([os.urandom(KEY_SIZE), *self._keys.values()])

    def only(self, ids: set[str]) -> KeyRing:
        """Those of the keys that have these ids."""
        return KeyRing([key for name, key in self._keys.items() if name in ids])

    def octets(self) -> bytes:
        """The content of a key file."""
        return b"".join(self._keys.values())

    def seal(self, key: str, account: int, scheme: str, secret: bytes) -> bytes:
        """Encrypt a secret for one account and scheme.

        :param key: the id of one of these keys.
        :param secret: at most 65,535 bytes.
        :return: nonce, ciphertext and tag.
        """
        plaintext = len(secret).to_bytes(_LENGTH, "big") + secret
        plaintext += bytes(-len(plaintext) % BLOCK)
        nonce = os.urandom(NONCE_SIZE)
        return nonce + self._ciphers[key].encrypt(nonce, plaintext, _context(key, account, scheme))

    def open(self, key: str, account: int, scheme: str, sealed: bytes) -> bytes:
        """Decrypt what :meth:`seal` gave.

        :raises WrongKeyError: where the key is none of these.
        :raises BrokenSealError: where it was sealed for another account or scheme, or is not what it was.
        """
        cipher = self._ciphers.get(key)
        if cipher is None:
            raise WrongKeyError(
                f"the {scheme} verifier of account {account} is sealed with key {key}, which is not among the keys "
                f"{', '.join(self._keys)} (bring that key file back, or set the account's password again)"
            )
        try:
            plaintext = cipher.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], _context(key, account, scheme))
        except (InvalidTag, ValueError):
            raise BrokenSealError(
                f"the {scheme} verifier of account {account} was changed or moved since it was sealed "
                "(set the account's password again)"
            ) from None
        end = _LENGTH + int.from_bytes(plaintext[:_LENGTH], "big")
        return plaintext[_LENGTH:end]


class KeyFile:
    """Where the sealing keys are: a file, which may be a systemd credential.

    :param path: of the file.
    :param credential: its permissions are systemd's business, and it cannot be written.
    """

    __slots__ = ("credential", "path")

    def __init__(self, path: str, *, credential: bool = False) -> None:
        self.path = path
        self.credential = credential

    @classmethod
    def from_credential(cls, name: str) -> KeyFile:
        """The systemd credential of that name.

        :raises MissingKeyError: where this process was given no credentials.
        """
        directory = os.environ.get(CREDENTIALS_DIRECTORY)
        if not directory:
            raise MissingKeyError(
                f'there is no systemd credential "{name}": {CREDENTIALS_DIRECTORY} is not set '
                f"(add LoadCredentialEncrypted={name}:FILE to the unit, or name a key file instead)"
            )
        return cls(os.path.join(directory, name), credential=True)

    def __repr__(self) -> str:
        return f"KeyFile({self.path!r})"

    def load(self) -> KeyRing:
        """Read the keys.

        :raises MissingKeyError: where there are none to be read.
        """
        try:
            with open(self.path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                octets = file.read(KEY_SIZE * MAXIMUM_KEYS + 1)
        except FileNotFoundError:
            raise MissingKeyError(
                f"the sealing key {self.path} does not exist (bring it back from its backup; "
                "connectctl init makes one for a new directory)"
            ) from None
        except OSError as error:
            raise MissingKeyError(
                f"the sealing key {self.path} cannot be read: {error.strerror} (make it readable for this user)"
            ) from None
        if not self.credential and mode & _PRIVATE:
            raise MissingKeyError(
                f"the sealing key {self.path} is open to others, mode {stat.S_IMODE(mode):04o} (chmod 600 {self.path})"
            )
        if not octets or len(octets) % KEY_SIZE or len(octets) > KEY_SIZE * MAXIMUM_KEYS:
            size = f"{len(octets)} bytes" if len(octets) <= KEY_SIZE * MAXIMUM_KEYS else "more"
            raise MissingKeyError(
                f"the sealing key {self.path} has {size}, and keys of {KEY_SIZE} bytes, {MAXIMUM_KEYS} at most, were "
                "expected: it is something else or cut short (bring it back from its backup)"
            )
        return KeyRing([octets[start : start + KEY_SIZE] for start in range(0, len(octets), KEY_SIZE)])

    def store(self, ring: KeyRing) -> None:
        """Replace the file's keys, all or nothing, and wait for the disk.

        :raises DirectoryError: where that cannot be done.
        """
        if self.credential:
            raise DirectoryError(
                f"the sealing key {self.path} is a systemd credential and cannot be written here (rotate with a key "
                "file, then make the credential anew from it)"
            )
        try:
            replace_file(self.path, ring.octets())
        except OSError as error:
            raise DirectoryError(
                f"the sealing key {self.path} cannot be written: {error.strerror} (nothing has changed)"
            ) from None


def create_key(path: str) -> KeyFile:
    """Make a key file with one new key, for its owner only.

    :raises DirectoryError: where the file exists, which is never overwritten, or cannot be written.
    """
    try:
        write_new_file(path, os.urandom(KEY_SIZE))
    except FileExistsError:
        raise DirectoryError(f"the sealing key {path} exists and is not overwritten (it may be needed)") from None
    except OSError as error:
        raise DirectoryError(f"the sealing key {path} cannot be written: {error.strerror}") from None
    return KeyFile(path)


def _context(key: str, account: int, scheme: str) -> bytes:
    """What is authenticated beside the secret."""
    return f"connectd directory\0{account}\0{scheme}\0{key}".encode()
