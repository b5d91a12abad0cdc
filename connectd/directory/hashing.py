"""argon2id verifiers (no Twisted).

A verifier is the usual text form of an argon2id hash, ``$argon2id$v=19$m=65536,t=3,p=4$<salt>$<hash>``. The
parameters are those of RFC 9106, section 4, for memory-constrained environments: 64 MiB, three passes, four
lanes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import argon2
from argon2.profiles import RFC_9106_LOW_MEMORY

if TYPE_CHECKING:
    from argon2 import Parameters


class UnreadableVerifierError(ValueError):
    """A stored verifier is not an argon2 hash. Its account has to be given a new password."""


def hash_password(password: bytes | str, *, parameters: Parameters = RFC_9106_LOW_MEMORY) -> str:
    """Make the verifier that is stored for a password. Takes tens of milliseconds: not for the reactor.

    :param password: text is taken as its UTF-8 bytes.
    :param parameters: the cost; they become part of the verifier.
    """
    return argon2.PasswordHasher.from_parameters(parameters).hash(octets(password))


def octets(password: bytes | str) -> bytes:
    """The bytes that are hashed."""
    return password if isinstance(password, bytes) else password.encode("utf-8", "surrogatepass")
