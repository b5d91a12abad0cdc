"""Diffie-Hellman public keys as SubjectPublicKeyInfo: KEX_ID of both sides (FM-6).

A peer's key is read here and nowhere else. It has to be of the group of the exchange, so of all that it says only y
is ever computed with.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from connectd.protocols.fmltp.der import (
    BIT_STRING,
    OBJECT_IDENTIFIER,
    SEQUENCE,
    DerError,
    DerReader,
    encode_element,
    encode_unsigned,
)
from connectd.protocols.fmltp.groups import BadKey, Group, read_pkcs3, read_x942
from connectd.protocols.fmltp.pem import encode_pem

PUBLIC_KEY: Final = b"PUBLIC KEY"
KEY_LABELS: Final = frozenset({PUBLIC_KEY})

DH_KEY_AGREEMENT: Final = bytes.fromhex("2a864886f70d010301")
"""dhKeyAgreement, 1.2.840.113549.1.3.1: PKCS#3's."""

DH_PUBLIC_NUMBER: Final = bytes.fromhex("2a8648ce3e0201")
"""dhpublicnumber, 1.2.840.10046.2.1: X9.42's."""


def encode_public_key(group: Group, y: int) -> bytes:
    """A key in PEM.

    SEQUENCE { SEQUENCE { dhKeyAgreement, SEQUENCE { INTEGER p, INTEGER g } }, BIT STRING { INTEGER y } }
    """
    key = encode_element(BIT_STRING, b"\0", encode_unsigned(y))
    return encode_pem(PUBLIC_KEY, encode_element(SEQUENCE, _algorithm(group), key))


@lru_cache(16)
def _algorithm(group: Group) -> bytes:
    """What the keys of a group have in common."""
    parameters = encode_element(SEQUENCE, encode_unsigned(group.p), encode_unsigned(group.g))
    return encode_element(SEQUENCE, encode_element(OBJECT_IDENTIFIER, DH_KEY_AGREEMENT), parameters)


def parse_public_key(contents: bytes, group: Group) -> int:
    """A peer's y, after all checks that need no computation.

    :param contents: a SubjectPublicKeyInfo, with PKCS#3's or X9.42's parameters.
    :param group: of the exchange.
    :raises BadKey: where it is not a key, of another group, or y is not in 2 … p-2.
    """
    bits = group.bits
    try:
        reader = DerReader(contents)
        fields = reader.sequence()
        reader.finish()
        algorithm = fields.sequence()
        key = fields.bit_string()
        fields.finish()
        kind = algorithm.object_identifier()
        if kind not in (DH_KEY_AGREEMENT, DH_PUBLIC_NUMBER):
            raise BadKey("the key is no Diffie-Hellman key")
        parameters = algorithm.sequence()
        algorithm.finish()
        if kind == DH_KEY_AGREEMENT:
            p, g = read_pkcs3(parameters, bits)
        else:
            p, g = read_x942(parameters, bits)
        y = key.unsigned(bits, "y")
        key.finish()
    except DerError as error:
        raise BadKey(f"the key is not usable: {error}") from None
    if p != group.p or g != group.g:
        raise BadKey("the key is of another group than the exchange")
    if not 2 <= y <= p - 2:
        raise BadKey("the key's y is not in 2 … p-2")
    return y
