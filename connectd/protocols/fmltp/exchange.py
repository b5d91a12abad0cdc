"""The computations of the key exchange, as plain functions: to be called inline or in a worker process (FM-5 to FM-7).

Arguments and results are integers, bytes and small frozen classes, and can be pickled. Groups with a name are
computed with by ``cryptography``. Of other groups nothing is ever loaded into it, for it would test the modulus at
each key; Python's own ``pow`` serves them, off the reactor.
"""

from __future__ import annotations

import importlib
import math
import os
import warnings
from functools import lru_cache
from typing import Any, Final

import attrs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from connectd.protocols.fmltp.groups import NAMED, BadKey, Group, recognised
from connectd.sansio import Random

QUICK_BITS: Final = 2048
"""Bits of the largest modulus, of a group with a name, with which an exchange takes less than a millisecond."""

ROUNDS: Final = 20
"""Miller-Rabin rounds with random bases: a composite passes with a chance of at most 4^-20."""

_PLACES = ("cryptography.hazmat.primitives.asymmetric.dh", "cryptography.hazmat.decrepit.asymmetric.dh")
_NAMES = ("DHParameterNumbers", "DHPublicNumbers", "DHPrivateNumbers", "generate_parameters")


def _import_dh() -> tuple[Any, ...]:
    """Diffie-Hellman from wherever this version of ``cryptography`` has it, without its warning that it is old."""
    for place in _PLACES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                module = importlib.import_module(place)
                return tuple(getattr(module, name) for name in _NAMES)
            except (ImportError, AttributeError):
                continue
    raise ImportError(f"this version of cryptography has no Diffie-Hellman over finite fields: {', '.join(_PLACES)}")


_ParameterNumbers, _PublicNumbers, _PrivateNumbers, _generate_parameters = _import_dh()


@attrs.frozen
class KeyPair:
    """One side's keys for one exchange.

    :param private: x.
    :param public: y = g^x mod p.
    """

    private: int = attrs.field(repr=False)
    public: int = attrs.field(repr=False)


@attrs.frozen
class KeyExchange:
    """What the side that answers computes in one go.

    :param public: its y.
    :param secret: the shared secret, left-padded with zeros to the modulus' length (FM-7).
    """

    public: int = attrs.field(repr=False)
    secret: bytes = attrs.field(repr=False)


def is_quick(group: Group) -> bool:
    """Whether an exchange takes less than a millisecond, so that it can be done where it is asked for."""
    return group.is_named and group.bits <= QUICK_BITS


@lru_cache(len(NAMED))
def _loaded(group: Group) -> tuple[Any, Any]:
    """A group with a name, as the library wants it: its numbers, and its parameters."""
    numbers = _ParameterNumbers(group.p, group.g)
    return numbers, numbers.parameters()


def _private_bits(group: Group) -> int:
    """Bits of a private value: twice what the modulus is worth, as RFC 7919 has it, and some more."""
    wanted = 256 if group.bits <= 2048 else 288 if group.bits <= 3072 else 336
    return min(wanted, group.bits - 2)


def _power(group: Group, private: int, y: int) -> bytes:
    secret = pow(y, private, group.p)
    if not 2 <= secret <= group.p - 2:
        raise BadKey("the key is in a small subgroup")
    return secret.to_bytes(group.size, "big")


def generate(group: Group, *, random: Random = os.urandom) -> KeyPair:
    """Make a key pair.

    :param random: used where the group has no name; the library has its own.
    """
    if group.is_named:
        numbers = _loaded(group)[1].generate_private_key().private_numbers()
        return KeyPair(numbers.x, numbers.public_numbers.y)
    bits = _private_bits(group)
    private = int.from_bytes(random(bits // 8 + 8), "big") % ((1 << bits) - 2) + 2
    return KeyPair(private, pow(group.g, private, group.p))


def compute_secret(group: Group, pair: KeyPair, y: int) -> bytes:
    """The shared secret, left-padded with zeros to the modulus' length (FM-7).

    :param y: the peer's, in 2 … p-2.
    :raises BadKey: where the result is no secret.
    """
    if not group.is_named:
        return _power(group, pair.private, y)
    numbers, _ = _loaded(group)
    private = _PrivateNumbers(pair.private, _PublicNumbers(pair.public, numbers)).private_key()
    return _exchange(group, private, y)


def _exchange(group: Group, private: Any, y: int) -> bytes:
    numbers, _ = _loaded(group)
    secret: bytes = private.exchange(_PublicNumbers(y, numbers).public_key())
    return secret.rjust(group.size, b"\0")


def answer(group: Group, y: int) -> KeyExchange:
    """A key pair and its shared secret with a peer's y: all that a server has to compute for one client.

    :param y: the client's, in 2 … p-2.
    :raises BadKey: where the result is no secret.
    """
    if not group.is_named:
        pair = generate(group)
        return KeyExchange(pair.public, compute_secret(group, pair, y))
    private = _loaded(group)[1].generate_private_key()
    return KeyExchange(private.public_key().public_numbers().y, _exchange(group, private, y))


def derive_key(secret: bytes) -> bytes:
    """The 32 bytes of a Fernet key: HKDF-SHA256 of the shared secret, without salt and info (FM-7)."""
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=None).derive(secret)


def make_group(bits: int) -> Group:
    """A fresh group with a safe prime and the generator 2. It takes minutes: for a child process (FM-5)."""
    numbers = _generate_parameters(generator=2, key_size=bits).parameter_numbers()
    return recognised(numbers.p, numbers.g)


def check_group(group: Group, *, random: Random = os.urandom) -> None:
    """Check that p and (p - 1) / 2 are prime. Without a name, 4096 bits take seconds: for a child process (FM-5).

    :param random: for the bases, which whoever made the group must not know before.
    :raises BadKey: where one is not.
    """
    if group.is_named:
        return
    p, q = group.p, group.p >> 1
    divisors = math.gcd(p * q, _SMALL_PRIMES)
    if p < 1 << 64 or not p & 1 or divisors != 1 or not _is_probable_prime(q, random) or pow(2, p - 1, p) != 1:
        # With q prime, p is so too where 2^(p-1) = 1 and 2^2 - 1 has no factor in common with it (Pocklington).
        raise BadKey(f"the modulus of {group} is no safe prime")


_SMALL_PRIMES: Final = math.prod(n for n in range(3, 2000, 2) if all(n % m for m in range(3, int(n**0.5) + 1, 2)))
"""The product of the odd primes below 2000."""


def _is_probable_prime(number: int, random: Random) -> bool:
    """Miller-Rabin."""
    if not number & 1:
        return False
    even = number - 1
    twos = (even & -even).bit_length() - 1
    odd = even >> twos
    size = number.bit_length() // 8 + 8
    for _ in range(ROUNDS):
        power = pow(2 + int.from_bytes(random(size), "big") % (number - 3), odd, number)
        if power in (1, even):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == even:
                break
        else:
            return False
    return True
