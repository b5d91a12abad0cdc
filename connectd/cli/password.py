"""Passwords from a person or a pipe: never from an argument, which every user of the machine can see."""

from __future__ import annotations

import hmac
import sys
import warnings
from collections.abc import Callable
from getpass import GetPassWarning, getpass
from typing import Any

import click

from connectd.cli.output import Failed, printable
from connectd.directory.schemes import MAXIMUM_PASSWORD

EMPTY = "a password cannot be empty (nothing was changed)"
TOO_LONG = f"the password is too long: at most {MAXIMUM_PASSWORD} bytes of UTF-8 (nothing was changed)"


def password_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option ``--password-stdin`` of a command, for :func:`new_password`."""
    return click.option(
        "--password-stdin",
        is_flag=True,
        help="Take the password from standard input, UTF-8 without one line ending at the end, instead of asking.",
    )(command)


def new_password(name: str, *, from_stdin: bool) -> str:
    """A password that an account is to have.

    :param name: the account's, for the question.
    :param from_stdin: the value of :func:`password_option`. Otherwise somebody is asked twice, without echo.
    :raises Failed: where there is none to be had.
    """
    password = _piped() if from_stdin else _typed(name)
    if not password:
        raise Failed(EMPTY)
    if len(password.encode()) > MAXIMUM_PASSWORD:
        raise Failed(TOO_LONG)
    return password


def known_password(name: str, *, from_stdin: bool) -> str:
    """The password that somebody has, to log in with; it may be empty.

    :param name: whose it is, for the question.
    :param from_stdin: the value of :func:`password_option`. Otherwise somebody is asked once, without echo.
    :raises Failed: where there is none to be had.
    """
    password = _piped() if from_stdin else _ask(f"Password for {printable(name)}: ")
    if len(password.encode()) > MAXIMUM_PASSWORD:
        raise Failed(TOO_LONG)
    return password


def _piped() -> str:
    if sys.stdin is None:
        raise Failed("standard input is closed, and the password was to come from there (nothing was changed)")
    if sys.stdin.isatty():
        raise click.UsageError("--password-stdin is for a pipe or a file; leave it out to be asked on this terminal")
    try:
        # Room for the line ending, and for one byte by which it is too long.
        octets = sys.stdin.buffer.read(MAXIMUM_PASSWORD + 3)
    except OSError as error:
        raise Failed(f"standard input cannot be read: {error.strerror} (nothing was changed)") from None
    if octets.endswith(b"\n"):
        octets = octets[:-1].removesuffix(b"\r")
    if len(octets) > MAXIMUM_PASSWORD:
        raise Failed(TOO_LONG)
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise Failed(
            f"the password on standard input is not UTF-8: byte {error.start + 1} is wrong (nothing was changed)"
        ) from None


def _typed(name: str) -> str:
    first = _ask(f"Password for {printable(name)}: ")
    if not first:
        raise Failed(EMPTY)
    if not hmac.compare_digest(first.encode(), _ask("The same again: ").encode()):
        raise Failed("the two passwords are not the same (nothing was changed)")
    return first


def _ask(question: str) -> str:
    """What somebody types, without showing it.

    :raises Failed: where there is no terminal, or it is not UTF-8.
    """
    sys.stdout.flush()
    try:
        with warnings.catch_warnings():
            # Otherwise getpass would go on and read what everybody can see.
            warnings.simplefilter("error", GetPassWarning)
            answer = getpass(question)
        answer.encode()
    except GetPassWarning:
        raise Failed("there is no terminal to ask for the password on; pipe it in with --password-stdin") from None
    except UnicodeError:
        raise Failed("the password is not UTF-8 (nothing was changed)") from None
    return answer
