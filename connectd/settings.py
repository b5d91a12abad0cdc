"""How a room states its settings: one attrs class, from which TOML keys, command-line options and pages are made.

Each field is made by :func:`key`, which carries the one sentence that documents it everywhere. Classes are frozen
and keyword-only; a field's type says what the TOML value must be.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import attrs

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
"""An address or a network in prefix notation: ``"10.0.0.0/8"``, ``"::1"``."""

T = TypeVar("T")

LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def key(
    default: T,
    documentation: str,
    *,
    check: Callable[[T], str | None] | None = None,
    unit: str = "",
    example: str = "",
    secret: bool = False,
    path: bool = False,
    words: Collection[str] = (),
) -> T:
    """One settable of a settings class.

    :param default: its value when the operator says nothing.
    :param documentation: what it is for: a sentence or two, without the default, unit and type.
    :param check: tells what is wrong with a value, or None.
    :param unit: such as ``"seconds"`` or ``"bytes"``.
    :param example: a TOML value for the commented configuration, where the default shows too little.
    :param secret: keep it out of every repr (COM-9).
    :param path: a file-system path, relative to the configuration file.
    :param words: values of a path that are words instead.
    """

    def validate(instance: object, attribute: attrs.Attribute[T], value: T) -> None:
        if check is not None and (problem := check(value)) is not None:
            raise ValueError(problem)

    metadata: dict[str, Any] = {"documentation": documentation, "unit": unit, "example": example, "path": path}
    if words:
        metadata["words"] = frozenset(words)
    field: Any = attrs.field(default=default, kw_only=True, repr=not secret, metadata=metadata, validator=validate)
    return field  # type: ignore[no-any-return]  # attrs fields are typed as their values


def at_least(minimum: float) -> Callable[[float], str | None]:
    """A check: the number may not be smaller."""
    return lambda value: None if value >= minimum else f"{value} is too small: at least {minimum}"


def between(minimum: float, maximum: float) -> Callable[[float], str | None]:
    """A check: the number lies in a range, both ends included."""
    return lambda value: None if minimum <= value <= maximum else f"{value} is out of range: {minimum} to {maximum}"


def one_of(*choices: str) -> Callable[[str], str | None]:
    """A check: the text is one of a few."""
    return lambda value: None if value in choices else f'"{value}" is not one of {", ".join(choices)}'


@attrs.frozen(kw_only=True)
class ListenerSettings:
    """What every listener can be told, whatever it speaks. A protocol's settings class inherits from it."""

    listen: str = key(
        "",
        "Where to accept connections: tcp:PORT[:interface=ADDRESS], unix:PATH or systemd:name=NAME.",
        example='"tcp:7890:interface=127.0.0.1"',
    )
    handler: str = key(
        "hold",
        'Who gets accepted sessions: "hold" keeps them, "forward:tcp:HOST:PORT" or "forward:unix:PATH" pipes them to '
        "a backend behind a PROXY v2 header, any other word is the name of a handler plugin.",
    )
    handshake_timeout: float = key(
        30.0,
        "The time from accept to the accepted session; bytes that trickle in do not extend it (COM-1).",
        unit="seconds",
        check=between(0.1, 3600),
    )
    max_sessions: int = key(
        0, "How many accepted sessions this listener may have at once; 0 = no limit (COM-4).", check=at_least(0)
    )
    proxy_protocol: bool = key(False, "Expect a PROXY protocol header, version 1 or 2, before anything else (COM-5).")
    trusted_networks: tuple[Network, ...] = key(
        LOOPBACK, "The networks whose PROXY headers are believed; others are closed at once (COM-5)."
    )
    stall_timeout: float = key(
        30.0,
        "A peer that reads nothing for so long while data waits for it is dropped (COM-6).",
        unit="seconds",
        check=between(0.1, 3600),
    )

    def look(self) -> Iterable[str]:
        """Look at what the settings name, such as files, before there is a listener.

        :return: what is wrong with it, one line each that begins with the key.
        """
        return ()
