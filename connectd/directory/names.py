"""What an account can be called, and which names are one and the same.

**A name** is what a person typed, and is kept as it is. Measured before and after Unicode's compatibility
normalisation (NFKC), it has 1 to 64 characters and at most 255 bytes of UTF-8. In its normalised form it

* has no control, format, surrogate, private or unassigned characters, and none that are drawn as nothing;
* has no white space but single spaces in its inside (FmLTP splits at spaces: use none for accounts of FmLTP);
* has no enclosing marks, does not begin with a combining mark, and has at most four of these in a row;
* has letters of one look-alike alphabet at most, folded or not: Latin, Greek, Cyrillic, Coptic, Armenian or Cherokee.
  Letters of all other scripts may stand beside each other and beside these.

**The key** tells names apart: the normalised name, case folded and normalised again. ``Zoë``, ``ZOË`` and a
``zoë`` of five code points are one account. Python's Unicode tables may grow; since unassigned characters are
refused and Unicode keeps the normal form of assigned ones, a key stays what it was.

**The skeleton** keeps look-alikes apart: the normalised name with each letter that is drawn like a Latin one replaced
by it (Greek and Cyrillic, capitals by themselves; ``0`` as ``O``; ``1``, ``I`` and ``|`` as ``l``), then case folded.
Two accounts cannot have one skeleton. This is far from all of Unicode's confusables (UTS 39), on purpose: whatever is
refused here is a name that somebody may be called by.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from connectd.directory.errors import InvalidNameError

MAXIMUM_CHARACTERS: Final = 64
MAXIMUM_OCTETS: Final = 255
MAXIMUM_MARKS: Final = 4
"""How many combining marks may follow each other."""

SHOWN: Final = 24
"""How many characters of an impossible name an error shows."""

ALPHABETS: Final = frozenset({"LATIN", "GREEK", "CYRILLIC", "COPTIC", "ARMENIAN", "CHEROKEE"})
"""Those that are drawn alike, by the first word of their letters' Unicode names."""

_FORBIDDEN: Final = {
    "Cc": "a control character",
    "Cf": "a format character",
    "Cs": "a surrogate",
    "Co": "a private character",
    "Cn": "an unassigned character",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
    "Me": "an enclosing mark",
}

_INVISIBLE: Final = frozenset(
    chr(code)
    for codes in (
        (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
        range(0x180B, 0x1810),
        range(0xFE00, 0xFE10),
        range(0xE0100, 0xE01F0),
    )
    for code in codes
)
"""Letters, marks and symbols that are drawn as nothing, beyond the format characters."""

_LOOK_ALIKES: Final = str.maketrans(
    # Greek, Cyrillic and ASCII characters, each with the letter that it is drawn like.
    "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϳονρ" + "АВЕЅІЈКМНОРСТУХԌҺԚԜӀ" + "аесорухѕіјһԁԛԝӏү" + "ı01I|",  # noqa: RUF001  # that is the point
    "ABEZHlKMNOPTYXjovp" + "ABESlJKMHOPCTYXGhQWl" + "aecopyxsijhdqwly" + "iOlll",
)


def account_key(name: str) -> str:
    """What tells this name from others.

    :raises InvalidNameError: where no account can be called that.
    """
    if name.isascii():
        if (problem := _ascii_problem(name)) is not None:
            raise InvalidNameError(problem)
        return name.lower()
    return _folded(_normalised(name))


def lookup_key(name: str | bytes) -> str | None:
    """The key under which a name is looked up, or None where it is no text or too long. Quick, for peers send it.

    For the name of an account it is the account's key. For anything else it is no account's.

    :param name: bytes are taken as UTF-8.
    """
    if len(name) > MAXIMUM_OCTETS:
        return None
    if isinstance(name, bytes):
        try:
            name = name.decode("utf-8")
        except UnicodeDecodeError:
            return None
    if name.isascii():
        return name.lower()
    if len(name) > MAXIMUM_CHARACTERS:
        return None
    # One character can be a whole phrase (U+FDFA): what is too long is not folded as well.
    normal = unicodedata.normalize("NFKC", name)
    return _folded(normal) if len(normal) <= MAXIMUM_CHARACTERS else None


def skeleton(name: str) -> str:
    """What the name looks like. Two names of one skeleton cannot both have an account.

    :param name: for which :func:`account_key` raises nothing.
    """
    # Decomposed, so that letters with accents are replaced as well.
    drawn = unicodedata.normalize("NFKD", name).translate(_LOOK_ALIKES)
    return _folded(drawn)


def _folded(name: str) -> str:
    """Case folded and normalised, such that doing it again changes nothing (Unicode 3.13, D146)."""
    once = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", name).casefold())
    return unicodedata.normalize("NFKC", once.casefold())


def _ascii_problem(name: str) -> str | None:
    """What is wrong with a name of ASCII characters only."""
    if not 0 < len(name) <= MAXIMUM_CHARACTERS:
        return _length_problem(name)
    if not name.isprintable():
        (character, *_) = (c for c in name if not c.isprintable())
        return _problem(name, f"has a control character, U+{ord(character):04X}")
    if " " in name:
        return _space_problem(name, name)
    return None


def _normalised(name: str) -> str:
    """The NFKC form of a name that can be one.

    :raises InvalidNameError: where it cannot.
    """
    if (problem := _length_problem(name)) is not None:
        raise InvalidNameError(problem)
    normal = unicodedata.normalize("NFKC", name)
    problem = _length_problem(normal) or _character_problem(name, normal) or _space_problem(name, normal)
    problem = problem or _alphabet_problem(name, normal)
    if problem is not None:
        raise InvalidNameError(problem)
    return normal


def _length_problem(name: str) -> str | None:
    if not name:
        return f"an account name cannot be empty: 1 to {MAXIMUM_CHARACTERS} characters"
    if len(name) > MAXIMUM_CHARACTERS:
        return _problem(name, f"has {len(name)} characters: at most {MAXIMUM_CHARACTERS}")
    octets = len(name.encode("utf-8", "surrogatepass"))
    if octets > MAXIMUM_OCTETS:
        return _problem(name, f"has {octets} bytes in UTF-8: at most {MAXIMUM_OCTETS}")
    return None


def _character_problem(name: str, normal: str) -> str | None:
    marks = 0
    for index, character in enumerate(normal):
        category = unicodedata.category(character)
        kind = "an invisible character" if character in _INVISIBLE else _FORBIDDEN.get(category)
        if category == "Zs" and character != " ":
            kind = "a space of another kind"
        if kind is not None:
            return _problem(name, f"has {kind}, U+{ord(character):04X}")
        marks = marks + 1 if category in ("Mn", "Mc") else 0
        if marks and not index:
            return _problem(name, f"begins with a combining mark, U+{ord(character):04X}")
        if marks > MAXIMUM_MARKS:
            return _problem(name, f"has more than {MAXIMUM_MARKS} combining marks in a row")
    return None


def _space_problem(name: str, normal: str) -> str | None:
    if normal[0] == " " or normal[-1] == " ":
        return _problem(name, "begins or ends with a space")
    if "  " in normal:
        return _problem(name, "has two spaces in a row")
    return None


def _alphabet_problem(name: str, normal: str) -> str | None:
    letters = {character for character in normal + _folded(normal) if character.isalpha()}
    alphabets = {unicodedata.name(letter, "").partition(" ")[0] for letter in letters} & ALPHABETS
    if len(alphabets) > 1:
        return _problem(
            name, f"mixes letters of {' and '.join(sorted(word.title() for word in alphabets))}, which look alike"
        )
    return None


def _problem(name: str, problem: str) -> str:
    # ascii() shows what a terminal would hide or obey.
    shown = ascii(name) if len(name) <= SHOWN else f"{name[:SHOWN]!a}…"
    return f"the account name {shown} {problem}"
