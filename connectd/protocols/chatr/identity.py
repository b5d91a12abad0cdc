"""Who a client is: a UUID and an RSA key, kept in one file (CH-2).

The file is PEM with a line before it::

    Chatr identity 3f2c0a4e-…
    -----BEGIN PRIVATE KEY-----
    …

Its mode is 600, and the key may be encrypted with a passphrase.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Final
from uuid import UUID, uuid4

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from connectd.directory.files import replace_file, write_new_file
from connectd.directory.registered_keys import fingerprint
from connectd.protocols.chatr.keys import MAXIMUM_BITS, MINIMUM_BITS, encode_key, sign, sign_uuid

DEFAULT_BITS: Final = 4096
PUBLIC_EXPONENT: Final = 65537
_LINE: Final = re.compile(rb"^Chatr identity ([0-9a-f-]{36})\s*$", re.MULTILINE)
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class IdentityError(Exception):
    """An identity file cannot be used: one line that names it, the fault and the way out."""


class PassphraseNeeded(IdentityError):
    """The key is encrypted, and the passphrase is missing or wrong."""


@attrs.frozen
class Identity:
    """A client's UUID and private key.

    Making one signs, 5 ms of work for a key of 4,096 bits and 30 ms for 8,192: it is to be done where one may wait.

    :param uuid: who it is.
    :param private: its key.
    """

    uuid: UUID
    private: RSAPrivateKey = attrs.field(repr=False)
    signature: bytes = attrs.field(init=False, repr=False, eq=False)
    """What a Connect shows (CH-2). In version 1 it is always the same, and as good as the key: a secret."""

    @signature.default
    def _sign_uuid(self) -> bytes:
        return sign_uuid(self.private, self.uuid)

    @property
    def key(self) -> bytes:
        """The public key, DER SubjectPublicKeyInfo: what is registered."""
        return encode_key(self.private.public_key())

    @property
    def fingerprint(self) -> str:
        """How the key is named where it is shown or banned."""
        return fingerprint(self.key)

    def sign(self, body: bytes) -> bytes:
        """Sign a registration's body (CH-20)."""
        return sign(self.private, body)


def generate(bits: int = DEFAULT_BITS, uuid: UUID | None = None) -> Identity:
    """A new identity. It takes a second or so: to be called in a thread.

    :param bits: of the RSA key, 2048 to 8192 (CH-21).
    :param uuid: a random one unless given.
    """
    if not MINIMUM_BITS <= bits <= MAXIMUM_BITS:
        raise ValueError(f"an RSA key of {bits} bits: {MINIMUM_BITS} to {MAXIMUM_BITS} are possible")
    return Identity(uuid4() if uuid is None else uuid, rsa.generate_private_key(PUBLIC_EXPONENT, bits))


def save(identity: Identity, path: str, passphrase: bytes | None = None, *, replace: bool = False) -> None:
    """Write an identity to a file that only its owner can read.

    :param passphrase: encrypts the key.
    :param replace: a file that is there may be replaced.
    :raises IdentityError: where it cannot be written, or is there already.
    """
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    pem = identity.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    octets = b"Chatr identity %s\n%s" % (str(identity.uuid).encode("ascii"), pem)
    try:
        (replace_file if replace else write_new_file)(path, octets)
    except FileExistsError:
        raise IdentityError(f"{path}: is there already (choose another file)") from None
    except OSError as error:
        raise IdentityError(f"{path}: cannot be written: {error.strerror or error}") from None


def load(path: str, passphrase: bytes | None = None) -> Identity:
    """Read an identity file.

    :param passphrase: where the key is encrypted.
    :raises PassphraseNeeded: where it is and this is not its passphrase.
    :raises IdentityError: where the file cannot be used, or others may read it.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise IdentityError(f"{path}: others may read or write it (chmod 600, and think about who has)")
            octets = file.read(1 << 16)
    except FileNotFoundError:
        raise IdentityError(f"{path}: there is no such identity file (connectctl chatr register makes one)") from None
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read: {error.strerror or error}") from None
    line = _LINE.search(octets)
    if line is None:
        raise IdentityError(f"{path}: is no identity file (it has no line: Chatr identity UUID)")
    try:
        uuid = UUID(line[1].decode("ascii"))
        private = serialization.load_pem_private_key(octets[line.end() :].lstrip(), passphrase or None)
    except TypeError:
        problem = "its key has no passphrase" if passphrase else "its key is encrypted, and needs its passphrase"
        raise PassphraseNeeded(f"{path}: {problem}") from None
    except (ValueError, UnsupportedAlgorithm):
        if passphrase:
            raise PassphraseNeeded(f"{path}: this is not its passphrase, or the file is damaged") from None
        raise IdentityError(f"{path}: is damaged (bring it back from its backup)") from None
    if not isinstance(private, RSAPrivateKey):
        raise IdentityError(f"{path}: its key is not an RSA key")
    return Identity(uuid, private)
