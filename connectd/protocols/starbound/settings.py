"""Every key of a Starbound listener and of a Starbound client."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable

import attrs

from connectd.account_settings import AccountListenerSettings
from connectd.directory.schemes import SEALED_PASSWORD, SEALED_SHA256
from connectd.protocols.starbound.generations import GENERATIONS, problem
from connectd.settings import at_least, between, key, one_of

AUTO = "auto"
"""The word of a client that does not know who speaks first."""

MEGABYTE = 1 << 20


def _several(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _client_generation_problem(name: str) -> str | None:
    return None if name in GENERATIONS else one_of(AUTO, *GENERATIONS)(name)


def _uuid_problem(text: str) -> str | None:
    if not text or re.fullmatch("[0-9a-fA-F]{32}", text.replace("-", "")):
        return None
    return "is not a UUID: 32 hexadecimal digits, with or without hyphens"


def _text_problem(text: str) -> str | None:
    size = len(text.encode("utf-8", "surrogatepass"))
    return None if size <= 255 else f"has {size} bytes: at most 255"


@attrs.frozen(kw_only=True)
class StarboundSettings(AccountListenerSettings):
    """What a Starbound listener can be told."""

    listen: str = key(
        "tcp:21025:interface=127.0.0.1",
        "Where to accept connections: tcp:PORT[:interface=ADDRESS], unix:PATH or systemd:name=NAME.",
    )
    generation: str | tuple[str, ...] = key(
        "seed",
        "Whose connection process to speak: seed, angry-koala, furious-koala or enraged-koala, where the server speaks "
        "first; 1.4 (retail 1.4.4) or opensb (OpenStarbound, and retail too), where the client does. A list serves "
        "several at once: one of the former, and any of the latter, which are told apart by waiting generation_wait.",
        check=lambda names: problem(_several(names)),
        example='["seed", "1.4", "opensb"]',
    )
    version: int = key(
        628,
        "The protocol version that the generation seed announces; 628 (0x274) is what the seed document shows.",
        check=between(0, 0xFFFFFFFF),
    )
    generation_wait: float = key(
        0.3,
        "Where several generations are served: how long a client may take to speak first before the server does.",
        unit="seconds",
        check=between(0.01, 10),
    )
    anonymous: bool = key(
        False, "Let players in who name no account (SB-6); otherwise they are told that one is required."
    )
    password: str = key(
        "",
        "What players who name no account have to prove they know; empty: nothing. Without meaning in the generations "
        "1.4 and opensb, which never ask them: there they are not let in where this is set.",
        secret=True,
        example='"…"',
    )
    password_file: str = key(
        "",
        "A file that holds that password, for its owner only, instead of password.",
        path=True,
        example='"state/starbound.password"',
    )
    rounds: int = key(
        5000,
        "How many times a password is hashed in the generations where the server speaks first (SB-4).",
        check=between(100, 100_000),
    )
    hash_budget: float = key(
        0.5,
        "The CPU time that checking one password may take; waiting does not count (SB-5).",
        unit="seconds",
        check=between(0.001, 60),
    )
    hashes_in_work: int = key(
        4, "How many passwords are hashed side by side; the others wait in their order (SB-5).", check=between(1, 64)
    )
    hashes_waiting: int = key(
        64,
        'How many logins may wait for hashing; further ones are told "The server is full" (SB-5).',
        check=between(0, 10_000),
    )
    client_connect_limit: int = key(
        8 * MEGABYTE,
        "The largest ClientConnect, which brings the player's ship, decompressed (SB-8). About 200 KiB is usual.",
        unit="bytes",
        check=between(4096, 64 * MEGABYTE),
    )
    login_memory: int = key(
        256 * MEGABYTE,
        "What all peers that have not logged in may hold together on this listener; beyond it the newest of the source "
        "that holds most is closed (SB-8).",
        unit="bytes",
        check=at_least(65_536),
    )
    spool_limit: int = key(
        1024 * MEGABYTE,
        "What the ships of all peers that have not logged in may take up in temporary files together on this listener; "
        "beyond it the newest of the source whose ships take up most is closed (SB-8).",
        unit="bytes",
        check=at_least(65_536),
    )
    frame_limit: int = key(
        64 * MEGABYTE,
        "The largest packet frame of an accepted player, compressed or not (SB-22).",
        unit="bytes",
        check=between(1024, 64 * MEGABYTE),
    )
    compression: str = key(
        "zstd",
        "What OpenStarbound clients are offered: zstd, or none (SB-21).",
        check=one_of("zstd", "none"),
    )
    spool_directory: str = key(
        "",
        "Where ships above 256 KiB are kept for a handler that wants them; empty: the system's place for temporary "
        "files (SB-8).",
        path=True,
    )

    def look(self) -> Iterable[str]:
        """Whether ships can be kept where the settings say; the system's own place is not looked at."""
        if self.spool_directory:
            yield from self.look_at_spool()

    def look_at_spool(self) -> Iterable[str]:
        """Whether ships can be kept, wherever that is (SB-8). Makes a temporary file, and nothing stays of it."""
        try:
            tempfile.TemporaryFile(dir=self.spool_directory or None, buffering=0).close()
        except OSError as error:
            place = self.spool_directory or "the system's place for temporary files"
            yield (
                f"spool_directory: ships cannot be kept in {place}: {error.strerror or error} "
                "(name a directory that exists and may be written)"
            )

    @property
    def generations(self) -> tuple[str, ...]:
        """The names of the generations that are served, at least one."""
        return _several(self.generation)

    @property
    def account_schemes(self) -> tuple[str, ...]:
        """The verifier schemes that these generations need of accounts (SB-7, SB-20)."""
        served = [GENERATIONS[name] for name in self.generations]
        schemes = []
        if any(one.server_first for one in served):
            schemes.append(SEALED_SHA256)
        if any(not one.server_first for one in served):
            schemes.append(SEALED_PASSWORD)
        return tuple(schemes)


@attrs.frozen(kw_only=True)
class StarboundClientSettings:
    """What a Starbound client can be told; also the options of a ``starbound://`` URL's query."""

    generation: str = key(
        "seed",
        "Whose connection process to speak; auto waits whether the server speaks first.",
        check=_client_generation_problem,
    )
    version: int = key(628, "The protocol version of the generation seed.", check=between(0, 0xFFFFFFFF))
    generation_wait: float = key(
        1.0,
        "With generation auto: how long to wait whether the server speaks first. A server of several generations waits "
        "as well, by default 0.3 seconds; who waits less speaks.",
        unit="seconds",
        check=between(0.01, 10),
    )
    name: str = key("connectd", "The player's name.", check=_text_problem)
    species: str = key("human", "The player's species.", check=_text_problem)
    uuid: str = key("", "The player's UUID in hexadecimal digits; empty: a random one, or none.", check=_uuid_problem)
    digest: str = key(
        "",
        "The digest of the client's assets in hexadecimal digits; servers may compare it.",
        check=lambda text: (
            None if re.fullmatch("([0-9a-fA-F]{2}){0,64}", text) else "is not a row of hexadecimal bytes"
        ),
    )
    handshake_timeout: float = key(
        30.0, "The time from connecting to the accepted session.", unit="seconds", check=between(0.1, 3600)
    )
    max_rounds: int = key(
        100_000, "A server that wants a password hashed more often is not believed (SB-4).", check=between(100, 10**7)
    )
    frame_limit: int = key(
        64 * MEGABYTE,
        "The largest packet frame of a server, compressed or not (SB-22).",
        unit="bytes",
        check=between(1024, 64 * MEGABYTE),
    )
