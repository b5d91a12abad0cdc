"""Accounts: who may log in, with which password, to which protocols."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import attrs

from connectd.directory.errors import (
    AccountExistsError,
    DirectoryError,
    MissingVerifierError,
    UnknownAccountError,
)
from connectd.directory.hashing import hash_password
from connectd.directory.names import account_key, lookup_key, skeleton
from connectd.directory.schemes import ARGON2ID, SCHEMES, expect_schemes, password_octets, sealed_secret

if TYPE_CHECKING:
    from connectd.directory.database import Database

EVERYTHING: Final = -1
"""SQLite's word for no LIMIT."""

_PROTOCOL: Final = re.compile(r"[a-z][a-z0-9_.-]*")

_COLUMNS: Final = "a.id, a.name, a.created, a.disabled, a.protocols, v.scheme, v.data, v.key_id"


@attrs.frozen
class Verifier:
    """What an account's password is verified with.

    :param scheme: of :data:`connectd.directory.schemes.SCHEMES`.
    :param data: an argon2id text, or sealed bytes.
    :param key_id: of the key that it is sealed with; None where it is not.
    """

    scheme: str
    data: str | bytes = attrs.field(repr=False)
    key_id: str | None = None

    @property
    def reversible(self) -> bool:
        """Whether, with the sealing key, the password itself can be got back from it."""
        return SCHEMES[self.scheme].reversible


@attrs.frozen
class Account:
    """One account, as it was when it was looked up.

    :param id: never used again.
    :param name: as it was given. Names that differ in case, say, are the same (:mod:`connectd.directory.names`).
    :param created: Unix seconds.
    :param disabled: nobody may log in with it.
    :param protocols: those it may use; None: all.
    :param verifiers: by scheme.
    """

    id: int
    name: str
    created: float
    disabled: bool
    protocols: tuple[str, ...] | None
    verifiers: Mapping[str, Verifier]

    def allows(self, protocol: str) -> bool:
        """Whether it may be used with this protocol."""
        return not self.disabled and (self.protocols is None or protocol in self.protocols)


class Accounts:
    """The accounts of one open database.

    Methods that are given a name raise :class:`~connectd.directory.errors.UnknownAccountError` where nobody is called
    that, unless they say otherwise.
    """

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        name: str,
        password: bytes | str,
        *,
        schemes: Iterable[str] = (ARGON2ID,),
        protocols: Iterable[str] | None = None,
        by: str,
    ) -> Account:
        """Make an account. It is durable when this returns. Hashing takes tens of milliseconds.

        :param name: see :mod:`connectd.directory.names`.
        :param password: 1 to 1,024 bytes; text is taken as UTF-8.
        :param schemes: the forms in which to keep it.
        :param protocols: those it may use; None: all.
        :param by: who makes it.
        :raises InvalidNameError: where nobody can be called that.
        :raises AccountExistsError: where somebody is, or is called something that looks like it.
        :raises SealingKeyError: where a sealed scheme is wanted and the key is not there.
        """
        key, drawn, allowed = account_key(name), skeleton(name), _protocol_text(protocols)
        wanted, octets = expect_schemes(schemes), password_octets(password)
        hashed = self._hash(wanted, octets)
        database = self._database
        with database.transaction():
            for column, value, relation in (("key", key, "is"), ("skeleton", drawn, "looks like")):
                row = database.row(f"SELECT name FROM accounts WHERE {column} = ?", (value,))  # noqa: S608  # our names
                if row is not None:
                    raise AccountExistsError(
                        f"the account name {name!r} {relation} that of the account {row[0]!r} (choose another one)"
                    )
            identifier = database.execute(
                "INSERT INTO accounts (name, key, skeleton, created, protocols) VALUES (?, ?, ?, ?, ?)",
                (name, key, drawn, database.clock(), allowed),
            ).lastrowid
            assert identifier is not None
            self._store(identifier, wanted, octets, hashed)
            database.audit.add(by, "account.added", name, schemes=wanted, protocols=_protocols(allowed))
            return self.get(name)

    def set_password(
        self, name: str, password: bytes | str, *, schemes: Iterable[str] | None = None, by: str
    ) -> Account:
        """Give an account another password, in all its schemes. It is durable when this returns.

        :param schemes: keep it in these forms, and no other, from now on; None: in those it is kept in.
        """
        octets = password_octets(password)
        wanted = expect_schemes((self.get(name).verifiers or (ARGON2ID,)) if schemes is None else schemes)
        hashed = self._hash(wanted, octets)
        with self._database.transaction():
            account = self.get(name)
            self._store(account.id, wanted, octets, hashed)
            self._database.audit.add(by, "account.password", account.name, schemes=wanted)
            return self.get(name)

    def set_protocols(self, name: str, protocols: Iterable[str] | None, *, by: str) -> Account:
        """Say which protocols an account may use from now on; None: all."""
        allowed = _protocol_text(protocols)
        with self._database.transaction():
            account = self.get(name)
            self._database.execute("UPDATE accounts SET protocols = ? WHERE id = ?", (allowed, account.id))
            self._database.audit.add(by, "account.protocols", account.name, protocols=_protocols(allowed))
            return self.get(name)

    def set_disabled(self, name: str, disabled: bool, *, by: str) -> Account:
        """Say whether nobody may log in with an account. Sessions that it has go on."""
        with self._database.transaction():
            account = self.get(name)
            self._database.execute("UPDATE accounts SET disabled = ? WHERE id = ?", (disabled, account.id))
            self._database.audit.add(by, "account.disabled" if disabled else "account.enabled", account.name)
            return self.get(name)

    def remove(self, name: str, *, by: str) -> None:
        """Remove an account and its verifiers for good."""
        with self._database.transaction():
            account = self.get(name)
            self._database.execute("DELETE FROM accounts WHERE id = ?", (account.id,))
            self._database.audit.add(by, "account.removed", account.name)

    def find(self, name: str | bytes) -> Account | None:
        """The account of that name, or None."""
        key = lookup_key(name)
        return None if key is None else self.find_key(key)

    def find_key(self, key: str) -> Account | None:
        """The account of that key (:func:`~connectd.directory.names.account_key`), or None."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM accounts AS a LEFT JOIN verifiers AS v ON v.account = a.id WHERE a.key = ?",  # noqa: S608
            (key,),
        )
        return next(_accounts(rows), None)

    def get(self, name: str | bytes) -> Account:
        """The account of that name."""
        account = self.find(name)
        if account is None:
            raise UnknownAccountError(f"there is no account {name!r} (connectctl account list shows them)")
        return account

    def list(self, *, after: str = "", limit: int | None = None) -> list[Account]:
        """Accounts in the order of their keys.

        :param after: only those that come after this name: how to go on.
        :param limit: how many at most; None: all.
        """
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM (SELECT * FROM accounts WHERE key > ? ORDER BY key LIMIT ?) AS a "  # noqa: S608
            "LEFT JOIN verifiers AS v ON v.account = a.id ORDER BY a.key",
            (lookup_key(after) or after, EVERYTHING if limit is None else limit),
        )
        return list(_accounts(rows))

    def each(self) -> Iterator[tuple[str, Account]]:
        """All accounts with their keys, in no order that matters, without holding them all."""
        rows = self._database.each(
            f"SELECT a.key, {_COLUMNS} FROM accounts AS a LEFT JOIN verifiers AS v ON v.account = a.id ORDER BY a.id"  # noqa: S608
        )
        for key, group in groupby(rows, itemgetter(0)):
            for account in _accounts(columns for _, *columns in group):
                yield key, account

    def count(self) -> int:
        """How many there are."""
        return int(self._database.row("SELECT count(*) FROM accounts")[0])

    def unseal(self, account: Account, scheme: str) -> bytes:
        """What a sealed scheme keeps of an account's password.

        :raises MissingVerifierError: where the account has none of that scheme.
        :raises SealingKeyError: where it does not open.
        """
        verifier = account.verifiers.get(scheme)
        if verifier is None or verifier.key_id is None:
            raise MissingVerifierError(
                f"the account {account.name!r} has no {scheme} verifier (set its password again with that scheme)"
            )
        assert isinstance(verifier.data, bytes)
        return self._database.seals.open(verifier.key_id, account.id, scheme, verifier.data)

    def rehash(self, account: Account, hashed: str) -> bool:
        """Put an argon2id verifier of the same password in the place of the account's, which has other parameters.

        :param account: whose password was found right.
        :return: False where the password was changed meanwhile, so that nothing was done.
        """
        former = account.verifiers[ARGON2ID].data
        with self._database.transaction():
            changed = self._database.execute(
                "UPDATE verifiers SET data = ? WHERE account = ? AND scheme = ? AND data = ?",
                (hashed, account.id, ARGON2ID, former),
            ).rowcount
            if changed:
                self._database.audit.add("connectd", "account.rehashed", account.name)
        return bool(changed)

    def _hash(self, schemes: Iterable[str], password: bytes) -> str | None:
        """The slow part, before the transaction."""
        return hash_password(password, parameters=self._database.parameters) if ARGON2ID in schemes else None

    def _store(self, account: int, schemes: Iterable[str], password: bytes, hashed: str | None) -> None:
        """Replace an account's verifiers."""
        database = self._database
        database.execute("DELETE FROM verifiers WHERE account = ?", (account,))
        for scheme in schemes:
            data: tuple[Any, str | None] = (hashed, None)
            if SCHEMES[scheme].sealed:
                data = database.seals.seal(account, scheme, sealed_secret(scheme, password))
            database.execute(
                "INSERT INTO verifiers (account, scheme, data, key_id) VALUES (?, ?, ?, ?)", (account, scheme, *data)
            )


def _accounts(rows: Iterable[Any]) -> Iterator[Account]:
    """Accounts from rows of ``_COLUMNS``, those of one account beside each other."""
    for columns, group in groupby(rows, itemgetter(0, 1, 2, 3, 4)):
        identifier, name, created, disabled, protocols = columns
        verifiers = {scheme: Verifier(scheme, data, key) for *_, scheme, data, key in group if scheme is not None}
        yield Account(identifier, name, created, bool(disabled), _protocols(protocols), verifiers)


def _protocol_text(protocols: Iterable[str] | None) -> str | None:
    """How protocols are stored."""
    if protocols is None:
        return None
    if isinstance(protocols, str):
        raise TypeError("protocols are a list of names")
    names = sorted(set(protocols))
    for name in names:
        if not _PROTOCOL.fullmatch(name):
            raise DirectoryError(f"{name!r} is not the name of a protocol (such as lekt)")
    return " ".join(names)


def _protocols(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(text.split())
