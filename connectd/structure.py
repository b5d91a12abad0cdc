"""From tables of values, or of texts, to settings objects; every mistake is found, not only the first.

The types of a settings class decide what a value must be. The same reading serves TOML (:func:`structure`), and
command-line options and the queries of URLs, whose values are all text (:func:`from_text`).
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import math
import operator
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar, cast

import attrs
import cattrs

from connectd.settings import Network
from connectd.suggestions import did_you_mean

T = TypeVar("T")

MAXIMUM_SHOWN: Final = 80
"""Characters of a wrong value that a problem quotes."""

_BOOLEANS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class StructureError(Exception):
    """A table of values does not make a settings object.

    :param problems: every mistake that was found, one line each: where, which key, what is wrong and the way out.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def structure(cls: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """Make a settings object of the values that TOML gives.

    :param cls: a settings class, its keys made with :func:`connectd.settings.key`.
    :param table: values by key; what is not in it keeps its default.
    :param where: what each problem begins with, such as ``connectd.toml: [admission]``.
    :raises StructureError: with a problem for each unknown key, value of the wrong type and value that its key's
        check rejects.
    """
    return _structure(cls, table, where, _VALUES)


def from_text(cls: type[T], texts: Mapping[str, str], where: str = "") -> T:
    """Make a settings object of texts: of command-line options, or of a URL's query.

    Booleans are true, yes, on, 1 or false, no, off, 0; lists are separated by commas; an empty text unsets a key that
    may be unset.

    :raises StructureError: as :func:`structure`.
    """
    return _structure(cls, texts, where, _TEXTS)


def field_types(cls: type[Any]) -> dict[str, Any]:
    """The keys of a settings class with their types, in their order."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in _fields(cls)}


def _fields(cls: type[Any]) -> tuple[attrs.Attribute[Any], ...]:
    return cast("tuple[attrs.Attribute[Any], ...]", attrs.fields(cls))


class _WrongValue(ValueError):
    """What is wrong with a value, as the rest of a sentence that begins with the key.

    :param discreet: the same without the value, for secrets (COM-9).
    """

    def __init__(self, text: str, discreet: str = "is not allowed here") -> None:
        super().__init__(text)
        self.discreet = discreet


def _structure(cls: type[T], table: Mapping[str, Any], where: str, converter: cattrs.Converter) -> T:
    prefix = f"{where}: " if where else ""
    expected = field_types(cls)
    problems = [
        f"{prefix}{_shown(name)}: unknown key{did_you_mean(name, expected)}" for name in table if name not in expected
    ]
    values: dict[str, Any] = {}
    for field in _fields(cls):
        if field.name in table:
            try:
                values[field.alias or field.name] = _value(field, expected[field.name], table[field.name], converter)
            except ValueError as error:
                problems.append(f"{prefix}{field.name}: {_problem(error, field)}")
        elif field.default is attrs.NOTHING:
            problems.append(f"{prefix}{field.name}: is missing")
    if problems:
        raise StructureError(problems)
    try:
        return cls(**values)
    except ValueError as error:
        # A check over several keys, which only the whole object can do.
        raise StructureError([f"{prefix}{_line(error)}"]) from error


def _value(field: attrs.Attribute[Any], expected: Any, value: Any, converter: cattrs.Converter) -> Any:
    try:
        structured = converter.structure(value, expected)
    except _WrongValue:
        raise
    except Exception as error:
        raise _WrongValue(f"{_described(value)} does not fit here") from error
    if field.validator is not None:
        field.validator(None, field, structured)
    return structured


def _problem(error: ValueError, field: attrs.Attribute[Any]) -> str:
    if field.repr:
        return _line(error)
    # Checks quote what they reject, so of a secret only what we wrote ourselves is told (COM-9).
    discreet = error if isinstance(error, _WrongValue) else _WrongValue("")
    return f"{discreet.discreet} (the value is secret and not shown)"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _shown(text: str) -> str:
    text = text if len(text) <= MAXIMUM_SHOWN else text[:MAXIMUM_SHOWN] + "…"
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def _described(value: Any) -> str:
    """A value in words, for a message."""
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {_shown(str(value))}"
    if isinstance(value, str):
        return f'the text "{_shown(value)}"'
    if isinstance(value, Mapping):
        return "a table"
    return "a list" if isinstance(value, list | tuple) else "a date or time"


def _must_be(what: str, value: Any) -> _WrongValue:
    return _WrongValue(f"must be {what}, not {_described(value)}", f"must be {what}")


# What values must be, in TOML


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _must_be("true or false", value)
    return value


def _whole_number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _must_be("a whole number", value)
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _must_be("a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _WrongValue(f"must be a finite number, not {_shown(str(value))}")
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _must_be("text in quotes", value)
    return value


def _network(value: Any) -> Network:
    if not isinstance(value, str):
        raise _must_be('an address or network in quotes, such as "10.0.0.0/8"', value)
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        pass
    try:
        wider = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise _WrongValue(
            f'"{_shown(value)}" is not an address or network, such as "192.0.2.1", "10.0.0.0/8" or "2001:db8::/32"'
        ) from None
    address = value.partition("/")[0]
    raise _WrongValue(
        f'"{value}" has bits set behind its prefix: write "{wider}" for the network or "{address}" for the one address'
    )


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _must_be("a list in brackets", value)
    return list(value)


# The same, where all there is is text


def _boolean_of_text(value: Any) -> bool:
    boolean = _BOOLEANS.get(value.strip().lower())
    if boolean is None:
        raise _must_be("true or false", value)
    return boolean


def _whole_number_of_text(value: Any) -> int:
    try:
        return int(value)
    except ValueError:
        raise _must_be("a whole number", value) from None


def _number_of_text(value: Any) -> float:
    try:
        number = float(value)
    except ValueError:
        raise _must_be("a number", value) from None
    return _number(number)


def _items_of_text(value: Any) -> list[Any]:
    return [item.strip() for item in value.split(",") if item.strip()]


# How cattrs comes to use them


def _is_tuple(expected: Any) -> bool:
    arguments = typing.get_args(expected)
    return typing.get_origin(expected) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis


def _is_optional(expected: Any) -> bool:
    union = typing.get_origin(expected) in (types.UnionType, typing.Union)
    return union and type(None) in typing.get_args(expected)


def _is_one_or_several(expected: Any) -> bool:
    """Whether it is a text or a list of texts."""
    union = typing.get_origin(expected) in (types.UnionType, typing.Union)
    return union and set(typing.get_args(expected)) == {str, tuple[str, ...]}


def _is_choice(expected: Any) -> bool:
    return typing.get_origin(expected) is typing.Literal or (
        isinstance(expected, type) and issubclass(expected, enum.Enum)
    )


def _converter(
    scalars: Mapping[Any, Callable[[Any], Any]], items: Callable[[Any], list[Any]], unset: Any
) -> cattrs.Converter:
    """A converter that reads values strictly.

    :param scalars: how a value of each simple type is read.
    :param items: how a list is read.
    :param unset: the value that unsets what may be unset.
    """
    converter = cattrs.Converter(detailed_validation=False)

    def read_as(read: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda value, expected: read(value)

    def tuple_of(expected: Any) -> Callable[[Any, Any], tuple[Any, ...]]:
        item_type = typing.get_args(expected)[0]

        def read(value: Any, expected: Any) -> tuple[Any, ...]:
            structured = []
            for number, item in enumerate(items(value), 1):
                try:
                    structured.append(converter.structure(item, item_type))
                except _WrongValue as error:
                    raise _WrongValue(f"item {number}: {error}", f"item {number}: {error.discreet}") from None
            return tuple(structured)

        return read

    def optional(expected: Any) -> Callable[[Any, Any], Any]:
        inner = functools.reduce(
            operator.or_, (argument for argument in typing.get_args(expected) if argument is not type(None))
        )
        return lambda value, expected: None if value == unset else converter.structure(value, inner)

    def one_or_several(expected: Any) -> Callable[[Any, Any], Any]:
        read_several = tuple_of(tuple[str, ...])

        def read(value: Any, expected: Any) -> Any:
            if isinstance(value, str) and not (items is _items_of_text and "," in value):
                return value
            if not isinstance(value, str | list | tuple):
                raise _must_be("text in quotes, or a list of such in brackets", value)
            return read_several(value, expected)

        return read

    def choice(expected: Any) -> Callable[[Any, Any], Any]:
        literal = typing.get_origin(expected) is typing.Literal
        choices = typing.get_args(expected) if literal else tuple(expected)
        known = {str(one if literal else one.value): one for one in choices}

        def read(value: Any, expected: Any) -> Any:
            if isinstance(value, bool) or str(value) not in known:
                raise _must_be(f"one of {', '.join(known)}", value)
            return known[str(value)]

        return read

    converter.register_structure_hook_factory(_is_tuple, tuple_of)
    converter.register_structure_hook_factory(_is_optional, optional)
    converter.register_structure_hook_factory(_is_one_or_several, one_or_several)
    converter.register_structure_hook_factory(_is_choice, choice)
    for scalar, read in scalars.items():
        converter.register_structure_hook(scalar, read_as(read))
    return converter


_VALUES: Final = _converter(
    {bool: _boolean, int: _whole_number, float: _number, str: _text, Network: _network}, _items, unset=None
)
_TEXTS: Final = _converter(
    {
        bool: _boolean_of_text,
        int: _whole_number_of_text,
        float: _number_of_text,
        str: _text,
        Network: _network,
    },
    _items_of_text,
    unset="",
)
