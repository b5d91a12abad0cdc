"""Account names: what they may be, which are the same, which look the same."""

from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.directory.errors import InvalidNameError
from connectd.directory.names import MAXIMUM_CHARACTERS, account_key, lookup_key, skeleton

anything = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(codec="ascii"), max_size=20),
    st.text(st.characters(categories=("L", "M", "N")), max_size=8),
    st.text("aAbBеЕоОαΑ0O1lI| \u0301\u0345ßİıﬁ", max_size=8),  # noqa: RUF001
)


class NameTests(SynchronousTestCase):
    def assert_refused(self, name: str, words: str) -> None:
        error = self.assertRaises(InvalidNameError, account_key, name)
        self.assertIn(words, str(error))
        self.assertEqual(len(str(error).splitlines()), 1)
        self.assertTrue(str(error).isprintable(), ascii(str(error)))

    def test_same(self) -> None:
        """Case, composition and compatibility forms do not make another account."""
        for names in (
            ("alice", "Alice", "ALICE", "ａｌｉｃｅ", "𝒜lice"),  # noqa: RUF001
            ("zoë", "ZOË", "zoe\u0308"),
            ("straße", "STRASSE", "strasse"),
            ("ὀδυσσεύς", "ὈΔΥΣΣΕΎΣ"),
            ("\u1fb7", "\u0391\u0342\u0345"),
            ("two words", "Two Words", "two\u00a0words"),
        ):
            with self.subTest(names=names):
                self.assertEqual(len({account_key(name) for name in names}), 1)
                self.assertEqual(len({lookup_key(name.encode()) for name in names}), 1)
        self.assertNotEqual(account_key("alice"), account_key("alicé"))

    def test_good(self) -> None:
        for name in ("a", "x" * 64, "名無し", "محمد", "Иван", "Ольга 2", "a.b-c_d+e@f", "é" * 64, "한국", "山田taro"):
            with self.subTest(name=name):
                self.assertEqual(lookup_key(name), account_key(name))

    def test_length(self) -> None:
        """1 to 64 characters, 255 bytes, also when the compatibility form is written out."""
        self.assert_refused("", "cannot be empty")
        self.assert_refused("x" * 65, "65 characters")
        self.assert_refused("é" * 65, "65 characters")
        self.assert_refused("\U00020000" * 64, "256 bytes")
        self.assert_refused("\ufdfa" * 4, "72 characters")

    def test_characters(self) -> None:
        for character, words in (
            ("\0", "control"),
            ("\n", "control"),
            ("\x7f", "control"),
            ("\x85", "control"),
            ("\u200d", "format"),
            ("\u202e", "format"),
            ("\U000e0041", "format"),
            ("\ud800", "surrogate"),
            ("\ue000", "private"),
            ("\u0378", "unassigned"),
            ("\U0010ffff", "unassigned"),
            ("\u2028", "line separator"),
            ("\u1680", "space of another kind"),
            ("\u20dd", "enclosing"),
            ("\ufe0f", "invisible"),
            ("\u3164", "invisible"),
            ("\u115f", "invisible"),
            ("\u2800", "invisible"),
            ("\u180b", "invisible"),
            ("\U000e0100", "invisible"),
        ):
            with self.subTest(character=ascii(character)):
                self.assert_refused(f"a{character}b", words)
                self.assert_refused(f"é{character}b", words)

    def test_spaces(self) -> None:
        for name in (" a", "a ", " ", "\u3000é", "é\u00a0"):
            self.assert_refused(name, "space")
        self.assert_refused("a  b", "two spaces")
        self.assert_refused("é \u00a0b", "two spaces")

    def test_marks(self) -> None:
        self.assert_refused("\u0327a", "begins with a combining mark")
        self.assert_refused("x" + "\u0327" * 5, "more than 4")
        account_key("x" + "\u0327" * 4)

    def test_alphabets(self) -> None:
        """Letters of two look-alike alphabets do not mix; those of others do."""
        for name in ("p\u0430ypal", "\u0391lice", "\u0430\u03b1", "a\u0561", "a\u03b9\u0345", "\u13aalice"):
            self.assert_refused(name, "look alike")
        self.assert_refused("a\u0345", "Greek and Latin")  # it folds to a Greek letter
        for name in ("日本taro", "\u0430\u04311", "αβ_2", "\u05d8al"):
            account_key(name)

    def test_long_names_in_errors(self) -> None:
        error = self.assertRaises(InvalidNameError, account_key, "\u202e" * 60)
        self.assertLess(len(str(error)), 250)

    def test_look_alikes(self) -> None:
        """Names that are drawn alike have one skeleton."""
        for one, other in (
            ("сосо", "coco"),  # noqa: RUF001
            ("ВОВ", "BOB"),  # noqa: RUF001
            ("ΑΒΕ", "ABE"),  # noqa: RUF001
            ("lrоn".replace("о", "o"), "Iron"),  # noqa: RUF001
            ("player1", "playerl"),
            ("r0b", "Rob"),
            ("сосо\u0301", "cocó"),  # noqa: RUF001
            ("kırk", "kirk"),  # noqa: RUF001
        ):
            with self.subTest(one=one, other=other):
                self.assertNotEqual(account_key(one), account_key(other))
                self.assertEqual(skeleton(one), skeleton(other))

    def test_unlike(self) -> None:
        for one, other in (("вов", "bob"), ("ali", "all"), ("mike", "nike"), ("bob1", "bob2"), ("zoë", "zoe")):
            self.assertNotEqual(skeleton(one), skeleton(other))

    @given(anything)
    @settings(deadline=None, max_examples=400)
    def test_keys(self, name: str) -> None:
        """A key stays what it is, and is found by every spelling that Unicode calls the same."""
        try:
            key = account_key(name)
        except InvalidNameError as error:
            self.assertTrue(str(error).isprintable())
            return
        self.assertEqual(lookup_key(key), key)
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            spelled = unicodedata.normalize(form, name)
            if len(spelled) <= MAXIMUM_CHARACTERS:
                self.assertEqual(lookup_key(spelled), key)
        self.assertEqual(lookup_key(name.casefold()), key)

    @given(st.one_of(st.binary(max_size=300), st.text(max_size=300)))
    @settings(deadline=None, max_examples=200)
    def test_lookup(self, name: str | bytes) -> None:
        """COM-3: whatever a peer calls itself, looking it up raises nothing."""
        key = lookup_key(name)
        if key is None:
            text = name if isinstance(name, str) else name.decode("utf-8", "replace")
            long = len(unicodedata.normalize("NFKC", text)) > MAXIMUM_CHARACTERS or len(text) > MAXIMUM_CHARACTERS
            self.assertTrue(long or isinstance(name, bytes))

    def test_lookup_of_nonsense(self) -> None:
        for name in (b"\xff", b"a" * 300, "é" * 65, "\ufdfa" * 64):
            self.assertIsNone(lookup_key(name))
