"""Tests of :mod:`connectd.settings`."""

from __future__ import annotations

import ipaddress
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from connectd.settings import LOOPBACK, ListenerSettings, at_least, between, key, one_of


@attrs.frozen(kw_only=True)
class Example:
    """Keys of every kind."""

    size: int = key(3, "How large.", unit="bytes", check=at_least(1))
    mood: str = key("good", "How it feels.", check=one_of("good", "bad"), example='"bad"')
    password: str = key("", "The word.", secret=True)
    file: str = key("", "Where it is.", path=True)
    group: str = key("standard", "A word or a file.", path=True, words=("standard", "fresh"))


class KeyTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        self.assertEqual(
            attrs.asdict(Example()), {"size": 3, "mood": "good", "password": "", "file": "", "group": "standard"}
        )

    def test_metadata(self) -> None:
        """One source for TOML keys, options and pages: a field carries all that they say."""
        fields = {field.name: dict(field.metadata) for field in attrs.fields(Example)}
        self.assertEqual(fields["size"], {"documentation": "How large.", "unit": "bytes", "example": "", "path": False})
        self.assertEqual(fields["mood"]["example"], '"bad"')
        self.assertTrue(fields["file"]["path"])
        self.assertEqual(fields["group"]["words"], {"standard", "fresh"})

    def test_keyword_only(self) -> None:
        make: Any = Example
        self.assertRaises(TypeError, make, 4)

    def test_check(self) -> None:
        """A value that cannot be is refused in words that name it."""
        error = self.assertRaises(ValueError, Example, size=0)
        self.assertEqual(str(error), "0 is too small: at least 1")
        error = self.assertRaises(ValueError, Example, mood="odd")
        self.assertEqual(str(error), '"odd" is not one of good, bad')
        self.assertRaises(ValueError, attrs.evolve, Example(), size=-1)

    def test_secret(self) -> None:
        """COM-9: a secret key is in no repr."""
        settings = Example(password="xyzzy", file="plugh")
        self.assertNotIn("xyzzy", repr(settings))
        self.assertIn("plugh", repr(settings))

    def test_frozen(self) -> None:
        settings: Any = Example()
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            settings.size = 4


class CheckTests(SynchronousTestCase):
    def test_at_least(self) -> None:
        self.assertIsNone(at_least(0)(0))
        self.assertEqual(at_least(0.5)(0.4), "0.4 is too small: at least 0.5")

    def test_between(self) -> None:
        check = between(1, 3600)
        self.assertEqual((check(1), check(3600)), (None, None))
        self.assertEqual(check(0.9), "0.9 is out of range: 1 to 3600")
        self.assertEqual(check(3601), "3601 is out of range: 1 to 3600")

    def test_not_a_number(self) -> None:
        """What is neither large nor small enough is out of range, too."""
        self.assertIsNotNone(between(1, 3600)(float("nan")))
        self.assertIsNotNone(at_least(0)(float("nan")))


class ListenerSettingsTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """COM-1, COM-5, COM-6: what holds when the operator says nothing."""
        settings = ListenerSettings()
        self.assertEqual((settings.handshake_timeout, settings.stall_timeout), (30.0, 30.0))
        self.assertEqual((settings.handler, settings.max_sessions), ("hold", 0))
        self.assertEqual((settings.proxy_protocol, settings.trusted_networks), (False, LOOPBACK))
        self.assertIn(ipaddress.ip_address("127.0.0.1"), LOOPBACK[0])

    def test_ranges(self) -> None:
        for wrong in ({"handshake_timeout": 0.0}, {"stall_timeout": 4000.0}, {"max_sessions": -1}):
            self.assertRaises(ValueError, ListenerSettings, **wrong)

    def test_documented(self) -> None:
        """Every key says what it is for, in sentences without a default."""
        for field in attrs.fields(ListenerSettings):
            self.assertRegex(field.metadata["documentation"], r"^[A-Z].*\.$")
