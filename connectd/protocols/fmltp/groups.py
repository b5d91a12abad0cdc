"""Diffie-Hellman groups: those that have a name, and how parameters are written and read (FM-4, FM-5)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import attrs

from connectd.protocols.fmltp import named_groups
from connectd.protocols.fmltp.der import SEQUENCE, DerError, DerReader, encode_element, encode_unsigned
from connectd.protocols.fmltp.pem import PemError, PemReader, encode_pem

MAXIMUM_BITS: Final = 4096
"""Bits of the largest modulus that either side loads (FM-5)."""

DEFAULT_MINIMUM_BITS: Final = 2048
"""Bits of the smallest modulus, unless a client is told to accept less (FM-5)."""

PARAMETERS: Final = b"DH PARAMETERS"
X942_PARAMETERS: Final = b"X9.42 DH PARAMETERS"
PARAMETER_LABELS: Final = frozenset({PARAMETERS, X942_PARAMETERS})


class BadKey(ValueError):
    """Parameters or a key that are not used, and why, in one line for people."""


@attrs.frozen
class Group:
    """The multiplicative group modulo a prime, and a generator. Groups are equal where both numbers are.

    :param p: the modulus.
    :param g: the generator.
    :param name: such as ``ffdhe2048``, or nothing.
    """

    p: int = attrs.field(repr=lambda p: f"{p.bit_length()} bits")
    g: int = attrs.field(repr=lambda g: str(g) if g < 100 else f"{g.bit_length()} bits")
    name: str = attrs.field(default="", eq=False)

    @property
    def bits(self) -> int:
        """Bits of the modulus."""
        return self.p.bit_length()

    @property
    def size(self) -> int:
        """Bytes of the modulus, and so of a shared secret (FM-7)."""
        return (self.p.bit_length() + 7) // 8

    @property
    def is_named(self) -> bool:
        """Whether it is one of RFC 7919's or RFC 3526's, which need no check."""
        return bool(self.name)

    def __str__(self) -> str:
        return self.name or f"an unnamed group of {self.bits} bits"


NAMED: Final[Mapping[str, Group]] = MappingProxyType(
    {
        name: Group(p, 2, name)
        for name, p in (
            ("ffdhe2048", named_groups.FFDHE2048),
            ("ffdhe3072", named_groups.FFDHE3072),
            ("ffdhe4096", named_groups.FFDHE4096),
            ("modp1536", named_groups.MODP1536),
            ("modp2048", named_groups.MODP2048),
            ("modp3072", named_groups.MODP3072),
            ("modp4096", named_groups.MODP4096),
        )
    }
)
"""The groups of RFC 7919 (ffdhe) and RFC 3526 (modp) by name."""

FFDHE2048: Final = NAMED["ffdhe2048"]
FFDHE3072: Final = NAMED["ffdhe3072"]
FFDHE4096: Final = NAMED["ffdhe4096"]

_BY_MODULUS: Final = {group.p: group for group in NAMED.values()}


def recognised(p: int, g: int) -> Group:
    """The group of these numbers: the one with a name where it is one of those."""
    named = _BY_MODULUS.get(p)
    return named if named is not None and named.g == g else Group(p, g)


@lru_cache(16)
def encode_parameters(group: Group) -> bytes:
    """PKCS#3 parameters in PEM: SEQUENCE { INTEGER p, INTEGER g } (FM-4)."""
    return encode_pem(PARAMETERS, encode_element(SEQUENCE, encode_unsigned(group.p), encode_unsigned(group.g)))


def parse_parameters(label: bytes, contents: bytes, *, minimum_bits: int, maximum_bits: int = MAXIMUM_BITS) -> Group:
    """The group in a PEM block of parameters. Nothing is computed with its numbers.

    :param label: of PKCS#3, SEQUENCE { p, g, privateValueLength OPTIONAL }, or of X9.42, SEQUENCE { p, g, q, … }.
    :param minimum_bits: the smallest modulus to take.
    :param maximum_bits: the largest one; more is refused by its length alone.
    :raises BadKey: where it is not one, or not of that size.
    """
    try:
        reader = DerReader(contents)
        fields = reader.sequence()
        reader.finish()
        if label == X942_PARAMETERS:
            p, g = read_x942(fields, maximum_bits)
        else:
            p, g = read_pkcs3(fields, maximum_bits)
    except DerError as error:
        raise BadKey(f"the Diffie-Hellman parameters are not usable: {error}") from None
    if p.bit_length() < minimum_bits:
        raise BadKey(f"the Diffie-Hellman parameters have {p.bit_length()} bits, at least {minimum_bits} are asked for")
    if not p & 1 or not 2 <= g <= p - 2:
        raise BadKey("the Diffie-Hellman parameters are no group's")
    return recognised(p, g)


def read_pkcs3(fields: DerReader, maximum_bits: int) -> tuple[int, int]:
    """PKCS#3's p and g. A privateValueLength may follow; how long our private values are is for us to say."""
    p, g = fields.unsigned(maximum_bits, "the modulus"), fields.unsigned(maximum_bits, "the generator")
    if fields.more:
        fields.unsigned(16, "privateValueLength")
    fields.finish()
    return p, g


def read_x942(fields: DerReader, maximum_bits: int) -> tuple[int, int]:
    """X9.42's p and g. Its q, and j and the validation where they are, are not looked at."""
    p, g = fields.unsigned(maximum_bits, "the modulus"), fields.unsigned(maximum_bits, "the generator")
    fields.unsigned(maximum_bits, "the order")
    if fields.next_is_integer:
        fields.unsigned(maximum_bits, "the cofactor")
    if fields.more:
        fields.skip(SEQUENCE, "the validation parameters")
    fields.finish()
    return p, g


def decode_parameters(
    pem: bytes, *, minimum_bits: int = DEFAULT_MINIMUM_BITS, maximum_bits: int = MAXIMUM_BITS
) -> Group:
    """The group in a PEM file or message.

    :param pem: with text before its BEGIN line or without; what follows the block is ignored.
    :raises BadKey: where there is none, or it is not of that size.
    """
    reader = PemReader(PARAMETER_LABELS)
    try:
        block = reader.read(pem)
    except PemError as error:
        raise BadKey(str(error)) from None
    if block is None:
        raise BadKey("there are no Diffie-Hellman parameters in PEM")
    return parse_parameters(reader.label, block[0], minimum_bits=minimum_bits, maximum_bits=maximum_bits)
