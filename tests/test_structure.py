"""Settings objects from values and from texts."""

from __future__ import annotations

import datetime
import enum
import ipaddress
from typing import Any, Literal

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.settings import Network, between, key
from connectd.structure import StructureError, field_types, from_text, structure
from connectd.suggestions import did_you_mean
from tests.toy_protocol import ToySettings


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen(kw_only=True)
class Rare:
    """Types that few settings have."""

    colour: Colour = key(Colour.RED, "Which.")  # noqa: RUF009
    size: Literal["small", "large"] = key("small", "How large.")
    generation: Literal[1, 2] = key(1, "Which one.")
    table: dict[str, int] = key({}, "Numbers by name.")  # noqa: RUF009
    source: Network | None = key(None, "From where.")  # noqa: RUF009


@attrs.frozen(kw_only=True)
class Demanding:
    """Without a default, and with a check over two keys."""

    low: int
    high: int = key(10, "The upper end.")

    def __attrs_post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


@attrs.frozen(kw_only=True)
class Secretive:
    """Whose values must not be told."""

    pin: int = key(1000, "The number.", secret=True, check=between(1000, 9999))
    words: tuple[str, ...] = key((), "The words.", secret=True)


def problems_of(make: Any, *arguments: Any) -> list[str]:
    """The problems that making a settings object ends with."""
    try:
        made = make(*arguments)
    except StructureError as error:
        ended = error
    else:
        raise AssertionError(f"no problem was found; it made {made}")
    assert str(ended) == "\n".join(ended.problems)
    assert not any("\n" in problem for problem in ended.problems)
    return ended.problems


class StructureTests(SynchronousTestCase):
    def test_nothing_is_all_defaults(self) -> None:
        self.assertEqual(structure(ToySettings, {}), ToySettings())

    def test_every_kind(self) -> None:
        made = structure(
            ToySettings,
            {
                "listen": "tcp:1",
                "period": 5,
                "count": 7,
                "loud": True,
                "limit": 2.5,
                "names": ["a", "b"],
                "sizes": [1, 2],
                "friends": ["10.0.0.0/8", "::1", "192.0.2.1"],
            },
        )
        self.assertEqual(
            made,
            ToySettings(
                listen="tcp:1",
                period=5.0,
                count=7,
                loud=True,
                limit=2.5,
                names=("a", "b"),
                sizes=(1, 2),
                friends=tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "::1/128", "192.0.2.1/32"))),
            ),
        )
        self.assertIs(type(made.period), float)

    def test_rare_types(self) -> None:
        made = structure(
            Rare,
            {"colour": "blue", "size": "large", "generation": 2, "table": {"a": 1}, "source": "10.0.0.0/8"},
        )
        self.assertEqual(
            made,
            Rare(
                colour=Colour.BLUE,
                size="large",
                generation=2,
                table={"a": 1},
                source=ipaddress.ip_network("10.0.0.0/8"),
            ),
        )

    def test_unknown_keys(self) -> None:
        self.assertEqual(
            problems_of(structure, ToySettings, {"perriod": 1, "zzz": 2, "b\x1b[2Jad": 3}, "connectd.toml: [x]"),
            [
                'connectd.toml: [x]: perriod: unknown key; did you mean "period"?',
                "connectd.toml: [x]: zzz: unknown key",
                "connectd.toml: [x]: b\\x1b[2Jad: unknown key",
            ],
        )

    def test_wrong_types(self) -> None:
        """Each type says what it takes and what it got; a boolean is no number, a number is no text."""
        for name, value, problem in [
            ("period", "x", 'must be a number, not the text "x"'),
            ("period", True, "must be a number, not the boolean true"),
            ("period", [1], "must be a number, not a list"),
            ("period", float("nan"), "must be a finite number, not nan"),
            ("period", float("inf"), "must be a finite number, not inf"),
            ("limit", "", 'must be a number, not the text ""'),
            ("count", 1.0, "must be a whole number, not the number 1.0"),
            ("count", False, "must be a whole number, not the boolean false"),
            ("count", datetime.date(2020, 1, 1), "must be a whole number, not a date or time"),
            ("loud", 1, "must be true or false, not the number 1"),
            ("loud", "true", 'must be true or false, not the text "true"'),
            ("mood", 5, "must be text in quotes, not the number 5"),
            ("mood", {"a": 1}, "must be text in quotes, not a table"),
            ("names", "ann", 'must be a list in brackets, not the text "ann"'),
            ("names", ["ann", 5], "item 2: must be text in quotes, not the number 5"),
            ("friends", [5], 'item 1: must be an address or network in quotes, such as "10.0.0.0/8", not the number 5'),
        ]:
            self.assertEqual(problems_of(structure, ToySettings, {name: value}), [f"{name}: {problem}"])

    def test_number_too_large_for_a_float(self) -> None:
        [problem] = problems_of(structure, ToySettings, {"period": 10**400})
        self.assertEqual(problem, f"period: must be a finite number, not 1{'0' * 79}…")

    def test_wrong_rare_types(self) -> None:
        for name, value, problem in [
            ("colour", "green", 'must be one of red, blue, not the text "green"'),
            ("size", 3, "must be one of small, large, not the number 3"),
            ("generation", True, "must be one of 1, 2, not the boolean true"),
            ("table", 3, "the number 3 does not fit here"),
        ]:
            self.assertEqual(problems_of(structure, Rare, {name: value}), [f"{name}: {problem}"])

    def test_networks(self) -> None:
        for text, problem in [
            (
                "10.0.0.1/8",
                '"10.0.0.1/8" has bits set behind its prefix: write "10.0.0.0/8" for the network or "10.0.0.1" for '
                "the one address",
            ),
            (
                "2001:db8::1/32",
                '"2001:db8::1/32" has bits set behind its prefix: write "2001:db8::/32" for the network or '
                '"2001:db8::1" for the one address',
            ),
            (
                "example.org",
                '"example.org" is not an address or network, such as "192.0.2.1", "10.0.0.0/8" or "2001:db8::/32"',
            ),
            (
                "10.0.0.0/33",
                '"10.0.0.0/33" is not an address or network, such as "192.0.2.1", "10.0.0.0/8" or "2001:db8::/32"',
            ),
        ]:
            self.assertEqual(problems_of(structure, ToySettings, {"friends": [text]}), [f"friends: item 1: {problem}"])

    def test_checks(self) -> None:
        self.assertEqual(
            problems_of(structure, ToySettings, {"period": 0.1, "mood": "odd"}, "here"),
            ["here: period: 0.1 is out of range: 0.5 to 60", 'here: mood: "odd" is not one of good, bad'],
        )

    def test_all_mistakes_at_once(self) -> None:
        problems = problems_of(structure, ToySettings, {"nmaes": 1, "period": 0, "count": "x", "handler": 1})
        self.assertEqual(len(problems), 4)

    def test_missing(self) -> None:
        self.assertEqual(problems_of(structure, Demanding, {}, "here"), ["here: low: is missing"])

    def test_check_over_several_keys(self) -> None:
        self.assertEqual(problems_of(structure, Demanding, {"low": 11}, "here"), ["here: low is above high"])
        self.assertEqual(problems_of(structure, Demanding, {"low": 11}), ["low is above high"])

    def test_secrets_are_not_told(self) -> None:
        """COM-9: whatever is wrong with a secret, its value is not in the message."""
        for name, value, problem in [
            ("pin", 77, "is not allowed here"),
            ("pin", "hunter2", "must be a whole number"),
            ("words", ["good", 77], "item 2: must be text in quotes"),
            ("words", "hunter2", "must be a list in brackets"),
        ]:
            self.assertEqual(
                problems_of(structure, Secretive, {name: value}),
                [f"{name}: {problem} (the value is secret and not shown)"],
            )

    def test_field_types(self) -> None:
        self.assertEqual(field_types(Secretive), {"pin": int, "words": tuple[str, ...]})

    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    )

    @settings(deadline=None, max_examples=150)
    @given(st.dictionaries(st.sampled_from([*field_types(ToySettings), "x", "\n"]), values, max_size=6))
    def test_anything_is_settings_or_problems(self, table: dict[str, Any]) -> None:
        """Whatever a table holds, the end is a settings object or problems of one line each."""
        try:
            structure(ToySettings, table)
        except StructureError as error:
            self.assertTrue(error.problems)
            for problem in error.problems:
                self.assertEqual(len(problem.splitlines()), 1, problem)


class FromTextTests(SynchronousTestCase):
    def test_every_kind(self) -> None:
        self.assertEqual(
            from_text(
                ToySettings,
                {
                    "period": "5",
                    "count": "7",
                    "loud": "Yes",
                    "limit": "2.5",
                    "names": "a, b,",
                    "sizes": "1,2",
                    "friends": "10.0.0.0/8,::1",
                    "mood": "bad",
                },
            ),
            structure(
                ToySettings,
                {
                    "period": 5.0,
                    "count": 7,
                    "loud": True,
                    "limit": 2.5,
                    "names": ["a", "b"],
                    "sizes": [1, 2],
                    "friends": ["10.0.0.0/8", "::1"],
                    "mood": "bad",
                },
            ),
        )

    def test_empty_texts(self) -> None:
        made = from_text(ToySettings, {"limit": "", "names": "", "listen": ""})
        self.assertEqual((made.limit, made.names, made.listen), (None, (), ""))

    def test_booleans(self) -> None:
        for text, value in [("true", True), ("on", True), ("1", True), ("false", False), ("off", False), ("no", False)]:
            self.assertIs(from_text(ToySettings, {"loud": text}).loud, value)

    def test_problems(self) -> None:
        for name, text, problem in [
            ("period", "soon", 'must be a number, not the text "soon"'),
            ("period", "", 'must be a number, not the text ""'),
            ("period", "nan", "must be a finite number, not nan"),
            ("period", "99", "99.0 is out of range: 0.5 to 60"),
            ("count", "1.5", 'must be a whole number, not the text "1.5"'),
            ("loud", "maybe", 'must be true or false, not the text "maybe"'),
            ("sizes", "1,x", 'item 2: must be a whole number, not the text "x"'),
            ("mode", "1", 'unknown key; did you mean "mood"?'),
        ]:
            self.assertEqual(
                problems_of(from_text, ToySettings, {name: text}, "toy://host"), [f"toy://host: {name}: {problem}"]
            )


@attrs.frozen(kw_only=True)
class Choosy:
    """Wants one text or several."""

    colours: str | tuple[str, ...] = key("red", "The colours.")


class OneOrSeveralTests(SynchronousTestCase):
    """A key that is usually one text, and may be a list of texts."""

    def test_values(self) -> None:
        for value, expected in (
            ("blue", "blue"),
            ("blue,green", "blue,green"),
            (["blue"], ("blue",)),
            (["blue", "green"], ("blue", "green")),
            ([], ()),
        ):
            self.assertEqual(structure(Choosy, {"colours": value}).colours, expected)
        self.assertEqual(Choosy().colours, "red")

    def test_texts(self) -> None:
        for text, expected in (("blue", "blue"), ("blue, green", ("blue", "green")), ("", ""), ("blue,", ("blue",))):
            self.assertEqual(from_text(Choosy, {"colours": text}).colours, expected)

    def test_wrong(self) -> None:
        for value, problem in (
            (3, "colours: must be text in quotes, or a list of such in brackets, not the number 3"),
            (["blue", 3], "colours: item 2: must be text in quotes, not the number 3"),
        ):
            with self.assertRaises(StructureError) as caught:
                structure(Choosy, {"colours": value})
            self.assertEqual(caught.exception.problems, [problem])


class SuggestionTests(SynchronousTestCase):
    def test_nearest(self) -> None:
        self.assertEqual(did_you_mean("LEKTT", ["lekt", "chatr"]), '; did you mean "lekt"?')

    def test_none_near_enough(self) -> None:
        self.assertEqual(did_you_mean("gopher", ["lekt", "chatr"]), "")
