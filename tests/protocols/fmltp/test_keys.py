"""Tests of what reads and writes parameters and keys: ``der``, ``pem``, ``groups``, ``keys``."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.utils import CryptographyDeprecationWarning
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial import util
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.fmltp.der import DerError, DerReader, encode_element, encode_unsigned
from connectd.protocols.fmltp.groups import (
    FFDHE2048,
    FFDHE3072,
    FFDHE4096,
    NAMED,
    PARAMETER_LABELS,
    BadKey,
    Group,
    decode_parameters,
    encode_parameters,
    parse_parameters,
    recognised,
)
from connectd.protocols.fmltp.keys import KEY_LABELS, encode_public_key, parse_public_key
from connectd.protocols.fmltp.pem import MAXIMUM_PEM, PemError, PemReader, encode_pem
from tests.protocols.fmltp.peers import (
    DH_PUBLIC_NUMBER,
    EXAMPLE_PARAMETERS,
    PAIR,
    element,
    integer,
    key_der,
    pem,
)
from tests.strategies import segmentations, truncations

with warnings.catch_warnings():
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    from cryptography.hazmat.primitives.serialization import ParameterFormat, load_pem_parameters

OLD = [util.suppress(category=CryptographyDeprecationWarning)]
"""What the library says about Diffie-Hellman over finite fields is known."""

EXAMPLE = decode_parameters(EXAMPLE_PARAMETERS, minimum_bits=1024)


class DerTests(SynchronousTestCase):
    def unsigned(self, data: bytes, maximum_bits: int = 64) -> int:
        reader = DerReader(data)
        value = reader.unsigned(maximum_bits, "it")
        reader.finish()
        return value

    def test_integers(self) -> None:
        for value, encoded in (
            (0, "020100"),
            (127, "02017f"),
            (128, "02020080"),
            (256, "02020100"),
            (65537, "0203010001"),
        ):
            self.assertEqual(encode_unsigned(value).hex(), encoded)
            self.assertEqual(self.unsigned(bytes.fromhex(encoded)), value)

    @given(st.integers(0, 1 << 5000))
    def test_round_trip(self, value: int) -> None:
        self.assertEqual(encode_unsigned(value), integer(value))
        self.assertEqual(self.unsigned(encode_unsigned(value), 5001), value)

    def test_strict(self) -> None:
        """FM-6: one way to write each thing, definite lengths, nothing negative, nothing left over."""
        for wrong in (
            "", "02", "0200", "0101ff", "0201ff", "0280", "02020001", "02020000", "0202ff80", "028101ff", "02820001",
            "0281020080", "0282000200ff", "02830000010f", "0284000000010f", "028001020000", "02ff", "0202", "020201",
            "0201000", "02010000", "0281", "028200",
        ):  # fmt: skip
            self.assertRaises(DerError, self.unsigned, bytes.fromhex(wrong.ljust(len(wrong) + len(wrong) % 2, "0")))

    def test_bounds(self) -> None:
        """COM-2: a number of more bits is turned away by its length, before it is one."""
        self.assertEqual(self.unsigned(integer(255), 8), 255)
        for wrong in (256, 511, 1 << 9000):
            self.assertRaises(DerError, self.unsigned, integer(wrong), 8)

    def test_bounds_by_length(self) -> None:
        """FM-6: by its length alone: its bytes are not even looked at."""
        longest = 0

        class Counting(bytes):
            def __getitem__(self, place: Any) -> Any:
                nonlocal longest
                found = super().__getitem__(place)
                if isinstance(found, bytes):
                    longest = max(longest, len(found))
                return found

        for bits in (2049 + 8, 9941, 60_000):
            self.assertRaises(DerError, DerReader(Counting(integer(1 << bits))).unsigned, 2048, "it")
        self.assertLessEqual(longest, 2)

    def test_offset(self) -> None:
        inner = DerReader(bytes.fromhex("3006020101030100")).sequence()
        inner.unsigned(8, "one")
        with self.assertRaises(DerError) as caught:
            inner.unsigned(8, "two")
        self.assertEqual(caught.exception.offset, 5)

    def test_elements_do_not_leave_their_sequence(self) -> None:
        inner = DerReader(bytes.fromhex("3003020201") + b"\1\1\1\1").sequence()
        self.assertRaises(DerError, inner.unsigned, 64, "it")

    def test_bit_strings(self) -> None:
        self.assertEqual(DerReader(bytes.fromhex("030400020107")).bit_string().unsigned(8, "it"), 7)
        for wrong in ("0300", "030401020107", "0404000201"):
            self.assertRaises(DerError, DerReader(bytes.fromhex(wrong)).bit_string)

    def test_lengths(self) -> None:
        for length in (0, 127, 128, 255, 256, 65_535):
            self.assertEqual(encode_element(4, bytes(length)), element(4, bytes(length)))

    @given(st.binary(max_size=64))
    def test_anything(self, data: bytes) -> None:
        """COM-3: what is no DER is a DerError, at an offset in it."""
        try:
            reader = DerReader(data).sequence()
            reader.unsigned(64, "it")
            reader.finish()
        except DerError as error:
            self.assertTrue(0 <= error.offset <= len(data))


class PemTests(SynchronousTestCase):
    BLOCK = pem("PUBLIC KEY", bytes(range(200)))

    def read(self, pieces: list[bytes]) -> tuple[bytes, int] | tuple[str, int] | None:
        reader = PemReader(KEY_LABELS)
        data = bytearray()
        for piece in pieces:
            data += piece
            try:
                found = reader.read(data)
            except PemError as error:
                return str(error), error.offset
            if found is not None:
                return found
        return None

    def test_round_trip(self) -> None:
        self.assertEqual(encode_pem(b"PUBLIC KEY", bytes(range(200))), self.BLOCK)
        self.assertEqual(self.read([self.BLOCK]), (bytes(range(200)), len(self.BLOCK) - 1))
        empty = pem("PUBLIC KEY", b"").replace(b"\n\n", b"\n")
        self.assertEqual(self.read([empty]), (b"", len(empty) - 1))

    def test_tolerated(self) -> None:
        """FM-6: CRLF line ends, and text before the BEGIN line."""
        for block in (
            pem("PUBLIC KEY", bytes(50), "\r\n"),
            pem("PUBLIC KEY", bytes(50), "\r"),
            pem("PUBLIC KEY", bytes(50), before="Hello!\n-----BEGIN nothing\n\n"),
            pem("PUBLIC KEY", bytes(50), "\r\n", before="\r\n\r\n"),
            pem("PUBLIC KEY", bytes(50), " \r\n"),
            pem("PUBLIC KEY", bytes(50)).replace(b"A", b"A\n"),
        ):
            found = self.read([block])
            self.assertEqual(found and found[0], bytes(50), block)

    @given(st.data())
    def test_any_segmentation(self, data: st.DataObject) -> None:
        """FM-6: TCP cuts it anywhere; what is right and what is wrong is so in any pieces."""
        block = data.draw(
            st.sampled_from(
                [
                    pem("PUBLIC KEY", bytes(range(200)), "\r\n", before="some text\n"),
                    pem("PUBLIC KEY", bytes(99)).replace(b"-----END", b"----END"),
                    pem("PUBLIC KEY", bytes(99)).replace(b"END PUBLIC", b"END PRIVATE"),
                    pem("RSA PUBLIC KEY", bytes(99)),
                    pem("PUBLIC KEY", bytes(99)).replace(b"AAAA", b"A!AA"),
                    pem("PUBLIC KEY", bytes(99)).replace(b"AAAA", b"A-AA"),
                    pem("PUBLIC KEY", bytes(MAXIMUM_PEM)),
                    pem("PUBLIC KEY", bytes(200), before="x" * (MAXIMUM_PEM - 300)),
                    b"x" * 5000,
                ]
            )
        )
        self.assertEqual(self.read(data.draw(segmentations(block))), self.read([block]))

    @given(truncations(BLOCK))
    def test_not_yet(self, block: bytes) -> None:
        if len(block) < len(self.BLOCK) - 1:
            self.assertIsNone(self.read([block]))

    def test_at_most_4_kib(self) -> None:
        """FM-6: at most 4 KiB, with the text before it."""
        size = len(pem("PUBLIC KEY", bytes(200)).rstrip())
        self.assertEqual(
            self.read([pem("PUBLIC KEY", bytes(200), before="x" * (4095 - size) + "\n")]), (bytes(200), 4096)
        )
        for wrong in (
            [pem("PUBLIC KEY", bytes(200), before="x" * (4096 - size) + "\n")],
            [b"x" * 4096],
            [b"x" * 100_000],
            [pem("PUBLIC KEY", bytes(4000))],
            [b"-----BEGIN PUBLIC KEY-----\n", b"A" * 4096],
        ):
            self.assertEqual(self.read(wrong), ("more than 4096 bytes of PEM", 4096))

    def test_wrong(self) -> None:
        wrong = {
            pem("CERTIFICATE", b"abc"): ("a PEM block of CERTIFICATE", 0),
            pem("PUBLIC KEY", b"abc").replace(b"YWJj", b"YW!j"): ("the PEM block is not base64", 26),
            pem("PUBLIC KEY", b"abc").replace(b"YWJj", b"YWJ"): ("the PEM block is not base64", 26),
            pem("PUBLIC KEY", b"abc").replace(b"END PUBLIC", b"END SECRET"): (
                "the PEM block does not end with its END line",
                32,
            ),
            pem("PUBLIC KEY", b"abc").replace(b"YWJj", b"Proc-Type: 4"): (
                "the PEM block does not end with its END line",
                31,
            ),
        }
        for block, expected in wrong.items():
            self.assertEqual(self.read([block]), expected, block)

    def test_each_byte_is_looked_at_once(self) -> None:
        """The time before authentication is bounded: a block that trickles in is not read again and again."""
        looked = 0

        class Counting(bytearray):
            def find(self, sub: bytes, start: int = 0, end: int = 1 << 30) -> int:  # type: ignore[override]
                nonlocal looked
                looked += max(0, min(len(self), end) - start)
                return super().find(sub, start, end)

        reader = PemReader(KEY_LABELS)
        data = Counting()
        block = pem("PUBLIC KEY", bytes(2500))
        for byte in block:
            data.append(byte)
            reader.read(data)
        self.assertLess(looked, 3 * len(block))


ADDENDS = {
    "ffdhe2048": 560_316, "ffdhe3072": 2_625_351, "ffdhe4096": 5_736_041,
    "modp1536": 741_804, "modp2048": 124_476, "modp3072": 1_690_314, "modp4096": 240_904,
}  # fmt: skip
"""What the RFCs add to the digits of e and pi, so that the result is a safe prime."""


def euler(bits: int) -> int:
    """The integer part of 2^bits times e: the sum of 1/k!."""
    term = total = 1 << bits + 64
    k = 1
    while term:
        term //= k
        total += term
        k += 1
    return total >> 64


def pi(bits: int) -> int:
    """The integer part of 2^bits times pi, by Machin's formula."""

    def arctangent_of_one_over(x: int) -> int:
        term = total = (1 << bits + 64) // x
        k, sign = 3, -1
        while term:
            term //= x * x
            total += sign * (term // k)
            k, sign = k + 2, -sign
        return total

    return 4 * (4 * arctangent_of_one_over(5) - arctangent_of_one_over(239)) >> 64


class GroupTests(SynchronousTestCase):
    suppress = OLD

    def test_named(self) -> None:
        """FM-5: the groups of RFC 7919 and RFC 3526, each digit as the RFC derives it."""
        self.assertEqual(
            {name: group.bits for name, group in NAMED.items()},
            {
                "ffdhe2048": 2048, "ffdhe3072": 3072, "ffdhe4096": 4096,
                "modp1536": 1536, "modp2048": 2048, "modp3072": 3072, "modp4096": 4096,
            },
        )  # fmt: skip
        for name, group in NAMED.items():
            self.assertEqual((group.g, group.name, group.is_named, str(group)), (2, name, True, name))
            digits, addend = (euler, ADDENDS[name]) if name.startswith("ffdhe") else (pi, ADDENDS[name])
            middle = digits(group.bits - 130) + addend
            self.assertEqual(group.p, (1 << group.bits) - (1 << group.bits - 64) + (middle << 64) - 1, name)

    def test_recognised(self) -> None:
        self.assertIs(recognised(FFDHE3072.p, 2), FFDHE3072)
        self.assertFalse(recognised(FFDHE3072.p, 3).is_named)
        self.assertEqual(str(recognised(EXAMPLE.p, 2)), "an unnamed group of 1024 bits")

    def test_equality_and_pickle(self) -> None:
        self.assertEqual(Group(FFDHE2048.p, 2), FFDHE2048)
        self.assertNotEqual(Group(FFDHE2048.p, 3), FFDHE2048)
        again = pickle.loads(pickle.dumps(FFDHE2048))
        self.assertEqual((again, again.name), (FFDHE2048, "ffdhe2048"))
        self.assertLess(len(repr(FFDHE4096)), 80)

    def test_kex_init(self) -> None:
        """FM-4: PKCS#3 in PEM, ending as the page says, for named groups too; what reads PKCS#3 reads it."""
        for group in (*NAMED.values(), EXAMPLE):
            text = encode_parameters(group)
            self.assertTrue(text.startswith(b"-----BEGIN DH PARAMETERS-----\n"))
            self.assertTrue(text.endswith(b"\n-----END DH PARAMETERS-----\n"))
            self.assertEqual(text, pem("DH PARAMETERS", element(0x30, integer(group.p), integer(2))))
        numbers = load_pem_parameters(encode_parameters(FFDHE2048)).parameter_numbers()
        self.assertEqual((numbers.p, numbers.g), (FFDHE2048.p, 2))

    def test_the_example_of_the_page(self) -> None:
        """FM-4: the parameters in the protocol's own documentation."""
        self.assertEqual((EXAMPLE.bits, EXAMPLE.g, EXAMPLE.is_named), (1024, 2, False))
        self.assertEqual(encode_parameters(EXAMPLE), EXAMPLE_PARAMETERS)

    def test_what_cryptography_writes(self) -> None:
        """FM-6: its X9.42 parameters of named groups are read as well."""
        loaded = load_pem_parameters(encode_parameters(FFDHE2048))
        text = loaded.parameter_bytes(Encoding.PEM, ParameterFormat.PKCS3)
        self.assertIn(b"X9.42", text)
        self.assertIs(decode_parameters(text), FFDHE2048)

    def test_private_value_length(self) -> None:
        """FM-4: parsers accept the optional privateValueLength."""
        der = element(0x30, integer(FFDHE2048.p), integer(2), integer(225))
        self.assertIs(decode_parameters(pem("DH PARAMETERS", der)), FFDHE2048)

    def test_x942_forms(self) -> None:
        p, g, q = integer(FFDHE2048.p), integer(2), integer(FFDHE2048.p >> 1)
        validation = element(0x30, element(3, b"\0seed"), integer(1))
        for more in ((), (integer(2),), (validation,), (integer(2), validation)):
            self.assertIs(decode_parameters(pem("X9.42 DH PARAMETERS", element(0x30, p, g, q, *more))), FFDHE2048)
        for wrong in ((), (q, q, q), (q, validation, validation), (q, element(4, b""))):
            self.assertRaises(BadKey, decode_parameters, pem("X9.42 DH PARAMETERS", element(0x30, p, g, *wrong)))

    def test_sizes(self) -> None:
        """FM-5: at least 2048 bits unless told otherwise, never more than 4096."""
        self.assertRaisesRegex(BadKey, "1024 bits, at least 2048", decode_parameters, EXAMPLE_PARAMETERS)
        self.assertRaises(BadKey, decode_parameters, EXAMPLE_PARAMETERS, minimum_bits=1025)
        self.assertIs(decode_parameters(encode_parameters(FFDHE4096)), FFDHE4096)
        for bits in (4097, 4104, 9941, 60_000):
            der = element(0x30, integer((1 << bits) - 1), integer(2))
            error = self.assertRaises(BadKey, parse_parameters, b"DH PARAMETERS", der, minimum_bits=2048)
            self.assertTrue("4096" in str(error), error)

    def test_no_group(self) -> None:
        p = FFDHE2048.p
        for wrong in (
            element(0x30, integer(p - 1), integer(2)),
            element(0x30, integer(p), integer(1)),
            element(0x30, integer(p), integer(0)),
            element(0x30, integer(p), integer(p - 1)),
            element(0x30, integer(p), integer(-2)),
            element(0x30, integer(-p), integer(2)),
            element(0x30, integer(p)),
            element(0x30, integer(p), integer(2), integer(1), integer(1)),
            element(0x30, integer(p), integer(2)) + b"\0",
            element(0x31, integer(p), integer(2)),
            b"",
        ):
            self.assertRaises(BadKey, decode_parameters, pem("DH PARAMETERS", wrong))
        self.assertRaises(BadKey, decode_parameters, b"nothing")
        self.assertRaises(BadKey, decode_parameters, pem("PUBLIC KEY", b""))
        self.assertNotIn(b"PUBLIC KEY", PARAMETER_LABELS)


class PublicKeyTests(SynchronousTestCase):
    suppress = OLD

    def parse(self, der: bytes, group: Group = FFDHE2048) -> int:
        return parse_public_key(der, group)

    def test_written(self) -> None:
        """FM-6: SubjectPublicKeyInfo with dhKeyAgreement, for named groups too, which `cryptography` loads."""
        text = encode_public_key(FFDHE2048, PAIR.public)
        self.assertEqual(text, pem("PUBLIC KEY", key_der(FFDHE2048.p, 2, PAIR.public)))
        numbers = load_pem_public_key(text).public_numbers()  # type: ignore[union-attr]
        self.assertEqual((numbers.y, numbers.parameter_numbers.p), (PAIR.public, FFDHE2048.p))  # type: ignore[union-attr]

    def test_written_as_cryptography_does(self) -> None:
        """FM-6: for a group without a name, byte for byte what deployed peers write."""
        key = load_pem_parameters(EXAMPLE_PARAMETERS).generate_private_key().public_key()
        text = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.assertEqual(encode_public_key(EXAMPLE, key.public_numbers().y), text)

    def test_both_forms(self) -> None:
        """FM-6: dhKeyAgreement, with privateValueLength or without, and X9.42's dhpublicnumber."""
        p, y = FFDHE2048.p, PAIR.public
        self.assertEqual(self.parse(key_der(p, 2, y)), y)
        self.assertEqual(self.parse(key_der(p, 2, y, integer(225))), y)
        self.assertEqual(self.parse(key_der(p, 2, y, integer(p >> 1), kind=DH_PUBLIC_NUMBER)), y)
        written = load_pem_public_key(encode_public_key(FFDHE2048, y)).public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        self.assertEqual(self.parse(written), y)

    def test_y(self) -> None:
        """FM-6: y lies in 2 … p-2."""
        p = FFDHE2048.p
        for y in (2, 3, p - 2):
            self.assertEqual(self.parse(key_der(p, 2, y)), y)
        for y in (0, 1, p - 1, p, p + 1, -2):
            self.assertRaises(BadKey, self.parse, key_der(p, 2, y))

    def test_foreign_group(self) -> None:
        """FM-6: p and g must be those of the exchange."""
        own = FFDHE2048.p
        for p, g in ((NAMED["modp2048"].p, 2), (own, 3), (own - 2, 2), (EXAMPLE.p, 2), (FFDHE3072.p, 2)):
            self.assertRaises(BadKey, self.parse, key_der(p, g, 4))

    def test_a_modulus_of_9941_bits(self) -> None:
        """FM-6: turned away by its length alone: it never becomes a number."""
        error = self.assertRaises(BadKey, self.parse, key_der((1 << 9941) - 1, 2, 5))
        self.assertTrue("the modulus has more than 2048 bits" in str(error), error)
        error = self.assertRaises(BadKey, self.parse, key_der(FFDHE2048.p, 2, 1 << 9941))
        self.assertTrue("y has more than 2048 bits" in str(error), error)

    def test_no_key(self) -> None:
        p, y = FFDHE2048.p, PAIR.public
        good = key_der(p, 2, y)
        rsa = bytes.fromhex("06092a864886f70d010101")
        for wrong in (
            b"", good[:-1], good + b"\0", good[1:], key_der(p, 2, y, kind=rsa), key_der(p, 2, y, integer(1), integer(1)),
            key_der(p, 2, y, kind=DH_PUBLIC_NUMBER), element(0x30, element(0x30, rsa, element(5)), element(3, b"\0")),
            good.replace(b"\x03\x82", b"\x04\x82"),
        ):  # fmt: skip
            self.assertRaises(BadKey, self.parse, wrong)

    @given(st.binary(max_size=100))
    def test_anything(self, data: bytes) -> None:
        self.assertRaises(BadKey, self.parse, data)
