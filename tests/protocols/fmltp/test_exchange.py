"""Tests of :mod:`connectd.protocols.fmltp.exchange`."""

from __future__ import annotations

import builtins
import importlib
import os
import pickle
import subprocess
import sys
import warnings
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.fmltp import exchange
from connectd.protocols.fmltp.exchange import (
    KeyExchange,
    KeyPair,
    answer,
    check_group,
    compute_secret,
    derive_key,
    generate,
    is_quick,
    make_group,
)
from connectd.protocols.fmltp.groups import FFDHE2048, FFDHE3072, FFDHE4096, NAMED, BadKey, Group, decode_parameters
from tests.protocols.fmltp.peers import EXAMPLE_PARAMETERS

EXAMPLE = decode_parameters(EXAMPLE_PARAMETERS, minimum_bits=1024)
TOY = Group((1 << 89) - 1, 3)


class ExchangeTests(SynchronousTestCase):
    def test_both_sides_agree(self) -> None:
        for group in (*NAMED.values(), EXAMPLE):
            pair = generate(group)
            found = answer(group, pair.public)
            secret = compute_secret(group, pair, found.public)
            self.assertEqual(found.secret, secret)
            self.assertEqual(len(secret), group.size)
            self.assertEqual(secret, pow(found.public, pair.private, group.p).to_bytes(group.size, "big"))
            self.assertEqual(pair.public, pow(group.g, pair.private, group.p))

    def test_new_keys_each_time(self) -> None:
        """FM-6: the server's key pair is new for every connection."""
        for group in (FFDHE2048, EXAMPLE):
            self.assertEqual(len({answer(group, 5).public for _ in range(5)}), 5)
            self.assertEqual(len({generate(group).private for _ in range(5)}), 5)

    def test_left_padded(self) -> None:
        """FM-7: zeros on the left, to the modulus' length; some secrets in 256 begin with one."""
        for group in (FFDHE2048, EXAMPLE):
            pair = KeyPair(1, group.g)
            self.assertEqual(compute_secret(group, pair, 5), b"\5".rjust(group.size, b"\0"))

    def test_left_padded_whatever_the_library_does(self) -> None:
        private = mock.Mock()
        private.exchange.return_value = b"\1\2"
        self.assertEqual(exchange._exchange(FFDHE2048, private, 5), bytes(254) + b"\1\2")

    def test_derive_key(self) -> None:
        """FM-7: HKDF-SHA256 without salt and info, 32 bytes. RFC 5869's third case, cut to 32."""
        okm = bytes.fromhex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d")
        self.assertEqual(derive_key(b"\x0b" * 22), okm)

    def test_small_subgroup(self) -> None:
        """FM-6: where the result is no secret, there is none."""
        self.assertRaises(BadKey, compute_secret, EXAMPLE, KeyPair(2, 4), EXAMPLE.p - 1)

    def test_private_values(self) -> None:
        self.assertEqual(exchange._private_bits(EXAMPLE), 256)
        self.assertEqual(exchange._private_bits(Group((1 << 3071) + 1, 2)), 288)
        self.assertEqual(exchange._private_bits(Group((1 << 4095) + 1, 2)), 336)
        for byte in (b"\0", b"\xff", b"\x80"):
            pair = generate(EXAMPLE, random=byte.__mul__)
            self.assertTrue(2 <= pair.private < 1 << 256)

    def test_is_quick(self) -> None:
        """FM-5: what is done inline is a named group of 2048 bits at most."""
        self.assertTrue(is_quick(FFDHE2048))
        self.assertFalse(is_quick(FFDHE3072))
        self.assertFalse(is_quick(FFDHE4096))
        self.assertFalse(is_quick(EXAMPLE))

    def test_nothing_of_an_unnamed_group_is_loaded(self) -> None:
        """FM-6: for groups outside RFC 7919 and RFC 3526 the library sees nothing: it would test p at each key."""
        for name in ("_ParameterNumbers", "_PublicNumbers", "_PrivateNumbers"):
            self.patch(exchange, name, mock.Mock(side_effect=AssertionError("loaded")))
        pair = generate(EXAMPLE)
        self.assertEqual(answer(EXAMPLE, pair.public).secret[:0], b"")
        compute_secret(EXAMPLE, pair, 12345)

    def test_jobs_can_be_sent_to_a_child(self) -> None:
        for thing in (KeyPair(1, 2), KeyExchange(1, b"x"), answer, generate, compute_secret, check_group):
            self.assertEqual(pickle.loads(pickle.dumps(thing)), thing)

    def test_secrets_are_not_shown(self) -> None:
        """COM-9."""
        self.assertNotIn("1234", repr(KeyPair(1234, 5)))
        self.assertNotIn("secret!", repr(KeyExchange(1, b"secret!")))

    def test_the_library_s_warning_stays_out_of_logs(self) -> None:
        """Importing and exchanging shows no deprecation warning, in a process that turns warnings into errors."""
        code = (
            "from connectd.protocols.fmltp.exchange import answer, generate, compute_secret\n"
            "from connectd.protocols.fmltp.groups import FFDHE2048 as group\n"
            "pair = generate(group); found = answer(group, pair.public)\n"
            "assert compute_secret(group, pair, found.public) == found.secret\n"
            "import sys; assert 'twisted' not in sys.modules"
        )
        command = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_filters_of_others_are_left_alone(self) -> None:
        before = list(warnings.filters)
        exchange._import_dh()
        self.assertEqual(list(warnings.filters), before)

    def test_from_wherever_it_is(self) -> None:
        """From version 53 it lives in the decrepit namespace only; where there is none at all, that is said."""
        real = importlib.import_module
        asked = []

        def moved(name: str) -> Any:
            asked.append(name)
            if ".decrepit." in name:
                return real("cryptography.hazmat.primitives.asymmetric.dh")
            raise ImportError(name)

        with mock.patch.object(importlib, "import_module", moved):
            self.assertEqual(exchange._import_dh(), exchange._import_dh())
        self.assertEqual(len(asked), 4)
        with mock.patch.object(importlib, "import_module", side_effect=ImportError):
            self.assertRaisesRegex(ImportError, "has no Diffie-Hellman", exchange._import_dh)


class CheckTests(SynchronousTestCase):
    def test_safe_primes(self) -> None:
        """FM-5: a group that is not known by name is checked; the example of the page passes."""
        check_group(EXAMPLE)
        check_group(Group(NAMED["modp1536"].p, 3))

    def test_named_groups_cost_nothing(self) -> None:
        with mock.patch.object(builtins, "pow", side_effect=AssertionError("computed")):
            check_group(FFDHE4096)

    def test_others(self) -> None:
        """FM-5: composite, prime but not safe, safe but for a factor that small primes do not show."""
        q = 2**521 - 1  # prime; 2q + 1 is not
        r = 2**607 - 1  # prime
        for wrong in (
            EXAMPLE.p + 2,
            q,
            2 * q + 1,
            q * r,
            2 * (q * r) + 1,
            EXAMPLE.p * 3,
            4,
            (1 << 1024) - 1,
            23,
            7,
            TOY.p,
        ):
            self.assertRaises(BadKey, check_group, Group(wrong, 2))

    def test_half_of_it(self) -> None:
        """FM-5: only one of p and (p - 1) / 2 is prime, and no small factor gives that away."""
        for wrong in (
            0x1EE236EAE762C9286634B3895A3D7A10D881E6C129F9934B8669CA35FF09152AF,
            0x1D75863F72C5C790850870FDCD851EC30893A4FF286ADC6B0A49F0A7E00DCDB47,
        ):
            self.assertRaises(BadKey, check_group, Group(wrong, 2))

    def test_small_factors_first(self) -> None:
        """Most of what is no safe prime is found out without a single power."""
        with mock.patch.object(builtins, "pow", side_effect=AssertionError("computed")):
            self.assertRaises(BadKey, check_group, Group(EXAMPLE.p * 5, 2))

    def test_strong_pseudoprimes(self) -> None:
        """The bases are random: a number that was made to pass for fixed ones does not pass."""
        arnault = int(
            "1195068768795265792518361315725116351898245581"
        ) * (313 * (1195068768795265792518361315725116351898245581 - 1) + 1)  # fmt: skip
        self.assertFalse(exchange._is_probable_prime(arnault, os.urandom))

    @given(st.integers(5, 20_000))
    def test_miller_rabin(self, number: int) -> None:
        really = number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
        self.assertEqual(exchange._is_probable_prime(number, os.urandom), really)

    def test_rounds(self) -> None:
        asked = []

        def random(count: int) -> bytes:
            asked.append(count)
            return os.urandom(count)

        check_group(EXAMPLE, random=random)
        self.assertEqual(len(asked), exchange.ROUNDS)

    def test_fresh(self) -> None:
        """FM-5: a group of our own making passes its own check."""
        group = make_group(512)
        self.assertEqual((group.bits, group.g, group.is_named), (512, 2, False))
        check_group(group)
