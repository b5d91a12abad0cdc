"""Every key of an Alloy listener and of an Alloy client."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from uuid import UUID

import attrs

from connectd.protocols.alloy.services_url import base_url_problem
from connectd.quic_settings import QuicListenerSettings, place_problem
from connectd.settings import at_least, between, key, one_of

PROFILES = ("hytale/1", "hytale/2")
ORDERS = ("seed", "observed")
MAXIMUM_PASSWORD = 1024
"""Bytes of UTF-8."""


def _profiles_problem(profiles: tuple[str, ...]) -> str | None:
    unknown = [name for name in profiles if name not in PROFILES]
    if unknown:
        return f'there is no profile "{unknown[0]}"; there are {", ".join(PROFILES)}'
    return None if profiles else f"names none; there are {', '.join(PROFILES)}"


def _hashes_problem(hashes: tuple[str, ...]) -> str | None:
    wrong = [text for text in hashes if text != "*" and (not text.isascii() or not 0 < len(text) <= 64)]
    return f'"{wrong[0]}" is neither "*" nor 1 to 64 ASCII characters' if wrong else None


def _crcs_problem(crcs: tuple[str, ...]) -> str | None:
    wrong = [
        text
        for text in crcs
        if text != "*" and not (re.fullmatch("-?[0-9]{1,10}", text) and -(1 << 31) <= int(text) < 1 << 31)
    ]
    return f'"{wrong[0]}" is neither "*" nor an integer of 32 bits' if wrong else None


def _uuid_problem(text: str) -> str | None:
    try:
        if text:
            UUID(text)
    except ValueError:
        return f'"{text}" is no UUID (such as 12345678-1234-5678-1234-567812345678)'
    return None


def _password_problem(password: str) -> str | None:
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        return "it cannot be written as UTF-8"
    return None if size <= MAXIMUM_PASSWORD else f"it is too long: at most {MAXIMUM_PASSWORD} bytes of UTF-8"


def _services_problem(url: str) -> str | None:
    return base_url_problem(url) if url else None


def _not_empty(text: str) -> str | None:
    return None if text else "it may not be empty"


@attrs.frozen(kw_only=True)
class AlloySettings(QuicListenerSettings):
    """What an Alloy listener can be told."""

    listen: str = key(
        "udp:5520:interface=127.0.0.1",
        "Where to accept connections: udp:PORT[:interface=ADDRESS] or systemd:name=NAME.",
        check=place_problem,
    )
    handshake_timeout: float = key(
        90.0,
        "The time from the first packet to PLAY, whatever the peer sends (COM-1, AL-14).",
        unit="seconds",
        check=between(0.1, 3600),
    )
    send_window: int = key(
        512 * 1024,
        "What may be on its way to one player without being acknowledged. More is faster over long ways, and takes "
        "more memory for each player that downloads (AL-10).",
        unit="bytes",
        check=between(16 * 1024, 64 << 20),
    )
    certificate: str = key(
        "alloy.pem",
        "A PEM file with the certificate chain and the key: ECDSA on P-256, with a subjectAltName.",
        path=True,
    )
    require_client_certificate: bool = key(
        False, "Refuse clients that show no certificate; all are asked for one (AL-7)."
    )
    profiles: tuple[str, ...] = key(
        PROFILES,
        'The forms of the protocol that are spoken, by their names in ALPN: "hytale/1" and "hytale/2" (AL-3, AL-15).',
        check=_profiles_problem,
    )
    order: str = key(
        "seed",
        'How a client enters the world: "seed" begins with ClientReady, "observed" with the assets and ends with '
        "ClientReady, as deployed servers do (AL-9).",
        check=one_of(*ORDERS),
    )
    protocol_hashes: tuple[str, ...] = key(
        ("*",), 'The protocol hashes of hytale/1 clients that are let in; "*" is any (AL-4).', check=_hashes_problem
    )
    protocol_crcs: tuple[str, ...] = key(
        ("*",),
        'The same for the CRC that hytale/2 clients send instead, as decimal numbers; "*" is any (AL-4, AL-15).',
        check=_crcs_problem,
        example='["*"]',
    )
    password: str = key(
        "",
        "The password of the server. Without one, and without password_file, only players with an account come in "
        "(AL-8).",
        check=_password_problem,
        secret=True,
    )
    password_file: str = key(
        "", "A file with the password, UTF-8 with at most one line ending at the end, instead of password.", path=True
    )
    password_attempts: int = key(
        3, "How many wrong passwords one connection may give; the last one ends it (AL-8).", check=between(1, 100)
    )
    connect_timeout: float = key(
        15.0,
        "The time from the first packet to a whole Connect (AL-14).",
        unit="seconds",
        check=between(0.1, 3600),
    )
    authentication_timeout: float = key(
        30.0,
        "The time that a client has for each step of the login (AL-14).",
        unit="seconds",
        check=between(0.1, 3600),
    )
    ping_interval: float = key(
        10.0,
        "How often a client in PLAY is asked whether it is there (AL-14).",
        unit="seconds",
        check=between(0.1, 3600),
    )
    silence_timeout: float = key(
        60.0,
        "A client in PLAY from which nothing came for so long is gone (AL-14).",
        unit="seconds",
        check=between(0.1, 3600),
    )
    certificate_store: str = key(
        "",
        "A directory of PEM files like certificate; the environment variable ALLOY_CERT_THUMBPRINT, 40 hexadecimal "
        "digits, picks one of them instead (AL-11).",
        path=True,
    )
    services_url: str = key(
        "",
        "The session services, which know who players with an account are; empty: there are none, and only the "
        "password lets in (AL-5).",
        check=_services_problem,
        example='"https://sessions.hytale.com"',
    )
    services_authority: str = key(
        "",
        "A PEM file with the authorities that may have signed the services' certificate; empty: those of the system "
        "(AL-13).",
        path=True,
    )
    issuer: str = key(
        "https://sessions.hytale.com", "Whose tokens are believed: what their iss has to be (AL-5).", check=_not_empty
    )
    audience: str = key(
        "",
        "What the aud of players' access tokens has to be; empty: the value of profile (AL-6).",
        example='"my-server"',
    )
    client_scope: str = key(
        "hytale:client", "What the scope of players' tokens has to contain (AL-5).", check=_not_empty
    )
    profile: str = key(
        "",
        "The UUID of the server's profile at the services. With account_token_file a game session is made for it at "
        "the start, kept alive, and deleted at the end (AL-13).",
        check=_uuid_problem,
    )
    account_token_file: str = key(
        "", "A file with the OAuth token of the server's account; it is read again when it is needed.", path=True
    )
    session_token_file: str = key(
        "",
        "A file with the session token of a game session that somebody else makes and ends, instead of "
        "account_token_file.",
        path=True,
    )
    identity_token_file: str = key("", "A file with the identity token of that game session.", path=True)
    world_height: int = key(320, "The height of the world, as clients are told.", unit="blocks", check=at_least(0))
    world: str = key(
        "", "The UUID of the world that clients join; empty: a new one at each start.", check=_uuid_problem
    )
    assets: str = key(
        "",
        "A directory with the files that clients need: all regular files in it and below. Empty: none (AL-10).",
        path=True,
    )
    assets_interval: float = key(
        10.0,
        "How often to look whether the assets have changed; only files that have are read again (AL-10).",
        unit="seconds",
        check=between(0.1, 86400),
    )
    game_packet_size: int = key(
        1_048_576,
        "The largest payload of a packet of the game itself that is handed on to a handler; 0 = none are.",
        unit="bytes",
        check=between(0, 64 << 20),
    )

    def look(self) -> Iterable[str]:
        """Whether certificate, password, tokens and assets can be used."""
        # By name, for machines import these settings, and are to know nothing of Twisted.
        problems: Iterable[str] = import_module("connectd.protocols.alloy.checking").problems(self)
        return (problem.removeprefix("alloy: ") for problem in problems)


@attrs.frozen(kw_only=True)
class AlloyClientSettings:
    """What an Alloy client can be told; also the options of an ``alloy://`` URL's query."""

    profile: str = key("hytale/1", "The form of the protocol: hytale/1 or hytale/2 (AL-15).", check=one_of(*PROFILES))
    order: str = key("seed", "How the server has clients enter: seed or observed (AL-9).", check=one_of(*ORDERS))
    uuid: str = key(
        "", "Who to be; empty: a UUID that is made from the user name, always the same.", check=_uuid_problem
    )
    language: str = key(
        "en-US",
        "The language to ask for; hytale/2 has room for 16 characters.",
        check=lambda text: None if text.isascii() and len(text) <= 128 else f'"{text}" is not ASCII, or over 128 long',
    )
    protocol_hash: str = key(
        "0" * 64,
        "The protocol hash to show (hytale/1).",
        check=lambda text: None if text.isascii() and len(text) <= 64 else "it is not ASCII, or over 64 characters",
    )
    crc: int = key(0, "The CRC to show (hytale/2).", check=between(-(1 << 31), (1 << 31) - 1))
    build: int = key(0, "The build to show (hytale/2).", check=between(-(1 << 31), (1 << 31) - 1))
    client_version: str = key(
        "",
        "The version to show (hytale/2).",
        check=lambda text: None if text.isascii() and len(text) <= 20 else "it is not ASCII, or over 20 characters",
    )
    certificate: str = key(
        "", "A PEM file with a client certificate and its key to show (AL-7); empty: none.", path=True
    )
    authority: str = key("", "A PEM file with the certificates that the server's is to be signed by.", path=True)
    pin: str = key(
        "",
        "The SHA-256 of the server's certificate, 64 hex digits: that one and no other is taken (AL-16).",
        check=lambda text: (
            None
            if not text or re.fullmatch("[0-9a-fA-F]{64}", text.replace(":", ""))
            else "a pin is the 64 hex digits of the SHA-256 of a certificate"
        ),
    )
    trust: bool = key(False, "Take any certificate: for servers on this machine (AL-16).")
    game_packet_size: int = key(
        16_777_216,
        "The largest payload of a packet of the game itself that is understood.",
        unit="bytes",
        check=between(0, 1 << 30),
    )
    services_url: str = key(
        "",
        "The session services, for a login by token instead of a password (AL-16); empty: none.",
        check=_services_problem,
    )
    services_authority: str = key(
        "", "A PEM file with the authorities that may have signed the services' certificate.", path=True
    )
    issuer: str = key("https://sessions.hytale.com", "Whose tokens are believed.", check=_not_empty)
    session_token_file: str = key("", "A file with the session token of the player's game session.", path=True)
    identity_token_file: str = key("", "A file with the identity token of the player's game session.", path=True)
    fetch_assets: bool = key(True, "Ask for the assets of the world, and check them.")
    handshake_timeout: float = key(
        90.0, "The time from the first packet to PLAY.", unit="seconds", check=between(0.1, 3600)
    )
    connect_timeout: float = key(15.0, "The time for the QUIC handshake.", unit="seconds", check=between(0.1, 3600))
    authentication_timeout: float = key(
        30.0, "The time that the server has for each step of the login.", unit="seconds", check=between(0.1, 3600)
    )
    silence_timeout: float = key(
        60.0, "A server from which nothing came for so long is gone (AL-14).", unit="seconds", check=between(0.1, 3600)
    )
