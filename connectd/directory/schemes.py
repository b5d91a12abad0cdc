"""The schemes of verifiers: in which form an account's password is kept, and what can be got back from that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from connectd.directory.errors import DirectoryError, InvalidPasswordError

ARGON2ID: Final = "argon2id"
SEALED_SHA256: Final = "sealed-sha256"
SEALED_PASSWORD: Final = "sealed-password"  # noqa: S105  # a name

MAXIMUM_PASSWORD: Final = 1024
"""Bytes of a password."""


@attrs.frozen
class Scheme:
    """One form in which a password is kept.

    :param name: as accounts and protocols call it.
    :param sealed: it needs the sealing key.
    :param reversible: with that key, the password itself comes back.
    :param description: for people, in a line.
    """

    name: str
    sealed: bool
    reversible: bool
    description: str


SCHEMES: Final[Mapping[str, Scheme]] = {
    scheme.name: scheme
    for scheme in (
        Scheme(ARGON2ID, False, False, "argon2id hash: cannot be turned back, and needs no key"),
        Scheme(
            SEALED_SHA256,
            True,
            False,
            "SHA-256 of the password, sealed: with the key, as good as the password for Starbound (SB-7), and open to "
            "guessing",
        ),
        Scheme(
            SEALED_PASSWORD, True, True, "the password, sealed: with the key it can be turned back (Starbound, SB-20)"
        ),
    )
}
"""All schemes by name."""


def expect_schemes(names: Iterable[str]) -> list[str]:
    """The names of schemes, each once, in the order of :data:`SCHEMES`.

    :raises DirectoryError: where one is unknown, or there is none.
    """
    wanted = set(names)
    for name in sorted(wanted - set(SCHEMES)):
        raise DirectoryError(f'there is no verifier scheme "{name}" (there are {", ".join(SCHEMES)})')
    if not wanted:
        raise DirectoryError(f"an account needs a verifier scheme (there are {', '.join(SCHEMES)})")
    return [name for name in SCHEMES if name in wanted]


def password_octets(password: bytes | str) -> bytes:
    """The bytes of a password; text is taken as UTF-8.

    :raises InvalidPasswordError: where it cannot be one.
    """
    if not isinstance(password, bytes):
        password = password.encode("utf-8", "surrogatepass")
    if not password:
        raise InvalidPasswordError("a password cannot be empty")
    if len(password) > MAXIMUM_PASSWORD:
        raise InvalidPasswordError(f"the password has {len(password)} bytes: at most {MAXIMUM_PASSWORD}")
    return password


def sealed_secret(scheme: str, password: bytes) -> bytes:
    """What a sealed scheme keeps of a password.

    :param scheme: ``SEALED_SHA256`` or ``SEALED_PASSWORD``.
    """
    return hashlib.sha256(password).digest() if scheme == SEALED_SHA256 else password
