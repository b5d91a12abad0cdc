"""Bans: addresses, networks, accounts, UUIDs and keys that are not let in (COM-4)."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from uuid import UUID

import attrs

from connectd.directory.errors import InvalidBanError, InvalidNameError, NotBannedError
from connectd.directory.names import account_key

if TYPE_CHECKING:
    from connectd.directory.database import Database

ADDRESS: Final = "address"
NETWORK: Final = "network"
ACCOUNT: Final = "account"
UUID_KIND: Final = "uuid"
KEY: Final = "key"
KINDS: Final = (ADDRESS, NETWORK, ACCOUNT, UUID_KIND, KEY)

MAXIMUM_REASON: Final = 200
"""Characters of a reason, which some protocols tell the peer (SB-9)."""

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_COLUMNS: Final = "kind, value, reason, expires, created, created_by"


@attrs.frozen
class Ban:
    """One ban.

    :param kind: one of :data:`KINDS`.
    :param value: what is banned, in canonical form: an address, a network with its prefix length, an account's key
        (:func:`~connectd.directory.names.account_key`), a UUID, a key's fingerprint.
    :param reason: for the log and, where the protocol has room, for the peer.
    :param expires: Unix seconds; None: never.
    :param created: Unix seconds.
    :param created_by: who said so.
    """

    kind: str
    value: str
    reason: str
    expires: float | None
    created: float
    created_by: str

    def expired(self, now: float) -> bool:
        """Whether it is over."""
        return self.expires is not None and self.expires <= now


def canonical(kind: str, value: str) -> tuple[str, str]:
    """The one form of what is banned. A network of one address is that address; IPv4-mapped IPv6 is IPv4.

    :param kind: one of :data:`KINDS`.
    :param value: a network may have host bits set, which are dropped; an account need not exist; a key is named by its
        fingerprint (:func:`~connectd.directory.registered_keys.fingerprint`), in hex, with colons or without.
    :raises InvalidBanError: where there is no such thing.
    """
    if kind not in KINDS:
        raise InvalidBanError(f"there is no kind of ban {kind!r} (there are {', '.join(KINDS)})")
    try:
        if kind in (ADDRESS, NETWORK):
            return _network(kind, value)
        if kind == ACCOUNT:
            return kind, account_key(value)
        if kind == UUID_KIND:
            return kind, str(UUID(value))
    except InvalidNameError as error:
        raise InvalidBanError(str(error)) from None
    except ValueError:
        example = {ADDRESS: "192.0.2.1", NETWORK: "192.0.2.0/24"}.get(kind, "12345678-1234-5678-1234-567812345678")
        raise InvalidBanError(f"{value!r} is no {kind} (such as {example})") from None
    digest = value.replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(digest):
        raise InvalidBanError(f"{value!r} is not the fingerprint of a key (the 64 hex digits of its SHA-256)")
    return kind, digest


class Bans:
    """The bans of one open database."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, kind: str, value: str, *, reason: str = "", expires: float | None = None, by: str) -> Ban:
        """Ban something; what is banned already gets the new reason and end. It is durable when this returns.

        :param reason: one line of at most 200 characters.
        :param expires: Unix seconds; None: never.
        :raises InvalidBanError: where it cannot be banned, or the ban would be over already.
        """
        kind, value = canonical(kind, value)
        now = self._database.clock()
        if len(reason) > MAXIMUM_REASON or not reason.isprintable():
            raise InvalidBanError(f"the reason of a ban is one line of at most {MAXIMUM_REASON} characters")
        if expires is not None and not now < expires < float("inf"):
            raise InvalidBanError(f"the ban of {value} would be over at once (give a time to come, or none)")
        ban = Ban(kind, value, reason, expires, now, by)
        with self._database.transaction():
            self._database.execute(
                f"INSERT INTO bans ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) "  # noqa: S608  # our columns
                "ON CONFLICT (kind, value) DO UPDATE SET reason = excluded.reason, expires = excluded.expires, "
                "created = excluded.created, created_by = excluded.created_by",
                attrs.astuple(ban),
            )
            self._database.audit.add(by, "ban.added", f"{kind} {value}", reason=reason, expires=expires)
        return ban

    def remove(self, kind: str, value: str, *, by: str) -> Ban:
        """Lift a ban.

        :return: what it was.
        :raises NotBannedError: where there is none of exactly this.
        """
        kind, value = canonical(kind, value)
        with self._database.transaction():
            ban = self.find(kind, value)
            if ban is None:
                raise NotBannedError(f"there is no ban of the {kind} {value} (connectctl ban list shows them)")
            self._delete(ban, by, "ban.removed")
        return ban

    def expire(self, *, by: str) -> list[Ban]:
        """Remove the bans that are over. They count for nothing in any case.

        :return: what they were.
        """
        select = f"SELECT {_COLUMNS} FROM bans WHERE expires <= ? ORDER BY id"  # noqa: S608  # our columns
        now = self._database.clock()
        if self._database.row(select, (now,)) is None:
            return []  # which needs no lock
        with self._database.transaction():
            expired = [Ban(*row) for row in self._database.rows(select, (now,))]
            for ban in expired:
                self._delete(ban, by, "ban.expired")
        return expired

    def get(self, kind: str, value: str) -> Ban | None:
        """The ban of exactly this, over or not."""
        return self.find(*canonical(kind, value))

    def find(self, kind: str, value: str) -> Ban | None:
        """The ban of what is in canonical form already."""
        row = self._database.row(
            f"SELECT {_COLUMNS} FROM bans WHERE kind = ? AND value = ?",  # noqa: S608  # our columns
            (kind, value),
        )
        return None if row is None else Ban(*row)

    def list(self) -> list[Ban]:
        """All bans, in the order in which they were first made."""
        return [Ban(*row) for row in self._database.rows(f"SELECT {_COLUMNS} FROM bans ORDER BY id")]  # noqa: S608

    def _delete(self, ban: Ban, by: str, action: str) -> None:
        self._database.execute("DELETE FROM bans WHERE kind = ? AND value = ?", (ban.kind, ban.value))
        self._database.audit.add(by, action, f"{ban.kind} {ban.value}", reason=ban.reason)


def _network(kind: str, value: str) -> tuple[str, str]:
    """An address or a network in its canonical form.

    :raises ValueError: where it is neither.
    """
    if kind == ADDRESS and "/" in value:
        raise ValueError(value)
    network = ipaddress.ip_network(value.partition("%")[0] if kind == ADDRESS else value, strict=False)
    if network.version == 6 and network.prefixlen >= 96:
        mapped = ipaddress.IPv6Address(network.network_address).ipv4_mapped
        if mapped is not None:
            network = ipaddress.ip_network((mapped, network.prefixlen - 96))
    if network.prefixlen == network.max_prefixlen:
        return ADDRESS, str(network.network_address)
    return NETWORK, str(network)
