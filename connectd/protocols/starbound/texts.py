"""What refused players are told, in the words of their generation (SB-9, SB-23)."""

from __future__ import annotations

from typing import Final

from connectd.protocols.starbound.generations import GENERATIONS

NO_SUCH_ACCOUNT: Final = "No such account or incorrect password"
DUPLICATE_UUID: Final = "Duplicate player UUID"
CONNECT_TIMEOUT: Final = "connect timeout"
UNEXPECTED_PACKET: Final = "Unexpected packet"

LONGEST: Final = 1024
"""Bytes of a text that a peer is told."""


def no_such_account(generation: str, account: str) -> str:
    """For an unknown account and a wrong proof alike (COM-10)."""
    if GENERATIONS[generation].server_first:
        return NO_SUCH_ACCOUNT
    return f"No such account '{account}' or incorrect password"


def anonymous(generation: str) -> str:
    """For a player without an account, where one is needed."""
    return "This server requires an account" if _server_first(generation) else "Anonymous connections disallowed"


def full(generation: str) -> str:
    """Where there is no room (COM-4)."""
    return "The server is full" if _server_first(generation) else "Max player connections"


def banned(reason: str) -> str:
    """For a banned account, UUID or address."""
    return f"You are banned: {reason}"


def _server_first(generation: str) -> bool:
    return GENERATIONS[generation].server_first
