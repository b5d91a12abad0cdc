"""FmLTP's messages in plain text: versions, the first message of the interpreter, commands and replies.

Before the key exchange they are on the wire as they are; after it, inside tokens (:mod:`~.channel`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import attrs

FRIENDLY_NAME: Final = "FlexMusic"
"""How every friendly name begins (FM-1)."""

MAXIMUM_VERSION_LINE: Final = 1024
"""Bytes of a version line, its end included (FM-2)."""

MAXIMUM_PLAINTEXT: Final = 49_087
"""Bytes in one token, so that the token, with its CRLF, fits into 64 KiB (FM-10)."""

DEPLOYED_COMMAND_LIMIT: Final = 703
"""Bytes of the longest command that a deployed server reads: it takes 1024 bytes at once (FM-10)."""

AUTH: Final = "AUTH"
HELP: Final = "HELP"
QUIT: Final = "QUIT"

AUTHENTICATION_REQUIRED: Final = "Authentication required."

_NUMBERS = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})", re.ASCII)
_READY = re.compile(
    r"1([012])([012]) FmLTP/1\.0 (Interpreter|Intepreter) Ready\.?(?:\r?\n(?:(Authentication required)\.?(?:\r?\n)?)?)?"
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_REPLY = re.compile(r"([1-9][0-9]{2})(?: (.*))?", re.DOTALL | re.ASCII)


def parse_version_number(text: str) -> tuple[int, int, int]:
    """``x.y.z``: the compatibility class, its stepping and sub-stepping.

    :raises ValueError: for another form; integers have at most 9 digits (FM-2).
    """
    found = _NUMBERS.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is no version: three numbers of at most 9 digits, such as 0.0.0')
    return int(found[1]), int(found[2]), int(found[3])


@attrs.frozen
class Version:
    """VEX_INIT and VEX_REPLY: ``<friendly name>,<x>.<y>.<z>`` CRLF (FM-1, FM-2).

    :param name: for people; begins with ``FlexMusic``.
    :param x: the compatibility class: sides that differ in it do not talk (FM-3).
    :param y: the stepping.
    :param z: the sub-stepping.
    """

    name: str
    x: int
    y: int
    z: int

    def __str__(self) -> str:
        return f"{self.x}.{self.y}.{self.z}"

    @classmethod
    def of(cls, name: str, number: str) -> Version:
        """From a name and ``x.y.z``.

        :raises ValueError: where either is not of the form.
        """
        return _version_of(name, number)

    def encode(self) -> bytes:
        return f"{self.name},{self}\r\n".encode()

    @classmethod
    def parse(cls, line: bytes | bytearray) -> Version:
        """From a line, with its end or without. Name and version part at the last comma.

        :raises ValueError: for another form.
        """
        text = line.rstrip(b" \t\r\n").decode("utf-8")
        name, _, number = text.rpartition(",")
        if not name.startswith(FRIENDLY_NAME) or _CONTROL.search(name):
            raise ValueError(f"a friendly name begins with {FRIENDLY_NAME} and has no control characters")
        return cls(name, *parse_version_number(number))


@lru_cache(16)
def _version_of(name: str, number: str) -> Version:
    """Remembered, for there are only as many as there are listeners and kinds of client."""
    return Version.parse(f"{name},{number}".encode())


def _compare(client: int, server: int) -> int:
    """0 for equal, 1 where the client is newer, 2 where the server is."""
    return (client > server) + 2 * (server > client)


def comparison_code(client: Version, server: Version) -> int:
    """FM-9's code: 100, plus ten times how y compares, plus how z does."""
    return 100 + 10 * _compare(client.y, server.y) + _compare(client.z, server.z)


@attrs.frozen
class Ready:
    """KEX_FINAL, the interpreter's first message (FM-9).

    :param code: how the versions compare: 100 … 122.
    :param authentication_required: nothing but AUTH, HELP and QUIT is accepted yet (FM-11).
    :param misspelled: ``Intepreter``, as the deployed server writes.
    """

    code: int
    authentication_required: bool
    misspelled: bool = False

    def encode(self) -> bytes:
        word = "Intepreter" if self.misspelled else "Interpreter"
        text = f"{self.code} FmLTP/1.0 {word} Ready.\r\n"
        return (text + AUTHENTICATION_REQUIRED + "\r\n" if self.authentication_required else text).encode()

    @classmethod
    def parse(cls, plaintext: bytes) -> Ready:
        """From what is in the token; a missing full stop or line end is none of our business.

        :raises ValueError: for another form.
        """
        found = _READY.fullmatch(plaintext.decode("utf-8"))
        if found is None:
            raise ValueError("not FmLTP/1.0's first message")
        return cls(100 + 10 * int(found[1]) + int(found[2]), found[4] is not None, found[3] == "Intepreter")


@attrs.frozen
class Reply:
    """A server's answer to a command: three digits, a space, text, CRLF (FM-12).

    :param code: 100 … 999.
    :param text: without the last line end; lines in it end in CRLF.
    """

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}"

    def encode(self) -> bytes:
        return f"{self.code} {self.text}\r\n".encode("utf-8", "replace")

    @classmethod
    def parse(cls, plaintext: bytes) -> Reply:
        """From what is in the token, with its CRLF or without (deployed servers leave some out).

        :raises ValueError: where it has no code or is not UTF-8.
        """
        found = _REPLY.fullmatch(plaintext.decode("utf-8").removesuffix("\n").removesuffix("\r"))
        if found is None:
            raise ValueError("a reply begins with a three-digit code and a space")
        return cls(int(found[1]), found[2] or "")


@attrs.frozen
class CommandLine:
    """A command as a handler gets it that answers commands itself.

    :param name: the command's.
    :param arguments: the rest of its line, behind one space.
    """

    name: str
    arguments: str = attrs.field(repr=False)

    def encode(self) -> bytes:
        """The line, with CRLF."""
        return f"{self.name} {self.arguments}\r\n".encode() if self.arguments else f"{self.name}\r\n".encode()


SUCCESS: Final = 200
COMMAND_ERROR: Final = 420
GOODBYE: Final = Reply(SUCCESS, "Goodbye.")
AUTHENTICATION_SUCCESSFUL: Final = Reply(150, "Authentication successful.")
AUTHENTICATION_FAILED: Final = Reply(151, "Authentication failed.")
INVALID_COMMAND: Final = Reply(400, "Invalid command.")
TOO_MANY_ARGUMENTS: Final = Reply(410, "Too many arguments.")
TOO_FEW_ARGUMENTS: Final = Reply(411, "Too few arguments.")


def split_command(plaintext: bytes) -> tuple[str, str]:
    """A command's name and the rest of its line, which one space separates (FM-11).

    :raises ValueError: where it is not UTF-8, or not one line without control characters.
    """
    line = plaintext.decode("utf-8").removesuffix("\n").removesuffix("\r")
    if _CONTROL.search(line):
        raise ValueError("a command is one line without control characters")
    name, _, arguments = line.partition(" ")
    if not name:
        raise ValueError("a command begins with its name")
    return name, arguments
