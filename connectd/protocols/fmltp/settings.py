"""Every key of an FmLTP listener and of an FmLTP client."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from connectd.account_settings import AccountListenerSettings
from connectd.directory.schemes import ARGON2ID
from connectd.protocols.fmltp.packets import FRIENDLY_NAME, parse_version_number
from connectd.settings import at_least, between, key

FRESH = "fresh"
"""A new group at each start (FM-5)."""

GROUPS = ("ffdhe2048", "ffdhe3072", "ffdhe4096")
"""The groups that ``parameters`` knows by name."""


def _problem_with(parse: Callable[[str], object]) -> Callable[[str], str | None]:
    def check(value: str) -> str | None:
        try:
            parse(value)
        except ValueError as error:
            return str(error)
        return None

    return check


def _check_name(value: str) -> str | None:
    if not value.startswith(FRIENDLY_NAME) or not value.isprintable() or len(value.encode()) > 900:
        return f'"{value}" is no friendly name: one line of at most 900 bytes that begins with {FRIENDLY_NAME}'
    return None


@attrs.frozen(kw_only=True)
class FmltpSettings(AccountListenerSettings):
    """What an FmLTP listener can be told."""

    listen: str = key(
        "tcp:8900:interface=127.0.0.1",
        "Where to accept connections: tcp:PORT[:interface=ADDRESS], unix:PATH or systemd:name=NAME.",
    )
    handshake_timeout: float = key(
        15.0,
        "The time from accept to SERVER_KEX_FINAL; bytes that trickle in do not extend it (FM-14).",
        unit="seconds",
        check=between(0.1, 3600),
    )
    authentication_timeout: float = key(
        60.0,
        "The time from SERVER_KEX_FINAL to a successful AUTH, where one is required (FM-14).",
        unit="seconds",
        check=between(0.1, 3600),
    )
    idle_timeout: float = key(
        0.0,
        "A session in which no command comes for so long is closed; 0 = never (FM-14).",
        unit="seconds",
        check=at_least(0),
    )
    friendly_name: str = key(
        "FlexMusic connectd", "What the server calls itself; it begins with FlexMusic (FM-1).", check=_check_name
    )
    version: str = key(
        "0.0.0",
        "The version that it announces, x.y.z: a client with another x is not let in (FM-3).",
        check=_problem_with(parse_version_number),
    )
    accounts: bool = key(True, "Whether a client has to AUTH before it may send other commands (FM-11).")
    parameters: str = key(
        "ffdhe2048",
        "The Diffie-Hellman group: ffdhe2048, ffdhe3072, ffdhe4096, the path of a PEM file with PKCS#3 parameters of "
        "2048 to 4096 bits, or fresh for a new one of 2048 bits at each start; that takes up to minutes, and ffdhe2048 "
        "serves until it is there (FM-5).",
        example='"ffdhe3072"',
        path=True,
        words=(FRESH, *GROUPS),
        check=lambda value: None if value else "is empty (write ffdhe2048, say)",
    )
    worker_processes: int = key(
        1,
        "How many child processes at most compute keys in groups other than ffdhe2048; none is started without need.",
        check=between(1, 64),
    )
    command_timeout: float = key(
        60.0,
        "A registered command that has no answer after so long is given up and answered 420; 0 = never (FM-13).",
        unit="seconds",
        check=at_least(0),
    )

    @property
    def account_schemes(self) -> tuple[str, ...]:
        """The verifiers that this listener needs of an account."""
        return (ARGON2ID,) if self.accounts else ()

    def look(self) -> Iterable[str]:
        """Whether the group can be used."""
        from connectd.protocols.fmltp.parameters import ParametersError, load_parameters

        try:
            load_parameters(self.parameters, thorough=True)
        except ParametersError as error:
            yield f"parameters: {error}"


@attrs.frozen(kw_only=True)
class FmltpClientSettings:
    """What an FmLTP client can be told; also the options of an ``fmltp://`` URL's query."""

    friendly_name: str = key(
        "FlexMusic connectd", "What the client calls itself; it begins with FlexMusic (FM-2).", check=_check_name
    )
    version: str = key(
        "0.0.0",
        "The version that it announces, x.y.z: it needs a server with the same x (FM-3).",
        check=_problem_with(parse_version_number),
    )
    minimum_bits: int = key(
        2048,
        "A server whose parameters have fewer bits is refused; less than 2048, for old servers, is unsafe (FM-5).",
        unit="bits",
        check=between(512, 4096),
    )
    handshake_timeout: float = key(
        15.0, "The time from connecting to SERVER_KEX_FINAL (FM-14).", unit="seconds", check=between(0.1, 3600)
    )
    authentication_timeout: float = key(
        60.0,
        "The time from SERVER_KEX_FINAL to a successful AUTH, where one is required (FM-14).",
        unit="seconds",
        check=between(0.1, 3600),
    )
    reply_timeout: float = key(
        60.0,
        "A server that does not answer a command for so long is given up.",
        unit="seconds",
        check=between(0.1, 3600),
    )
    command_limit: int = key(
        0,
        "The longest command to send; 0 = 703 to a server that spells as the deployed ones do, and 49087 to others "
        "(FM-10).",
        unit="bytes",
        check=between(0, 49087),
    )
