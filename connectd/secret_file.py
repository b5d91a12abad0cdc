"""A secret of the configuration that is kept in a file of its own: a key such as ``password_file`` beside
``password``."""

from __future__ import annotations

import os
import stat
from typing import Final

from connectd.credentials import CredentialsError

MAXIMUM: Final = 1024
"""Bytes of a secret, where nobody says otherwise."""

OTHERS: Final = 0o077


def read_secret(owner: str, name: str, value: str, path: str, maximum: int = MAXIMUM) -> bytes:
    """A secret that is either in the configuration or in a file.

    :param owner: whose it is, for messages.
    :param name: the key that holds it; the key for the path of its file is ``NAME_file``.
    :param value: what the first key says, or nothing.
    :param path: what the second key says, or nothing. The file is its owner's alone; one line ending at its end does
        not belong to the secret.
    :param maximum: bytes that it may have.
    :return: nothing where neither says anything.
    :raises connectd.credentials.CredentialsError: where both do, the file is unfit, or the secret is too long.
    """
    if value and path:
        raise CredentialsError(f"{owner}: {name} and {name}_file: only one of them may be set")
    if not path:
        return _fit(value.encode(), f"{owner}: {name}", maximum)
    where = f"{owner}: {name}_file: {path}"
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(maximum + 3)
    except OSError as error:
        raise CredentialsError(f"{where} cannot be read: {error.strerror}") from None
    if stat.S_ISREG(mode) and mode & OTHERS:
        raise CredentialsError(f"{where} is open to others, mode {stat.S_IMODE(mode):04o} (chmod 600 {path})")
    if secret.endswith(b"\n"):
        secret = secret[:-1].removesuffix(b"\r")
    if not secret:
        raise CredentialsError(f"{where} is empty (write the {name} into it, or leave {name}_file out)")
    return _fit(secret, where, maximum)


def _fit(secret: bytes, where: str, maximum: int) -> bytes:
    if len(secret) > maximum:
        raise CredentialsError(f"{where} is too long: at most {maximum} bytes")
    return secret
