"""The trail of who changed what: one entry for each change, in the same transaction, only ever added to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from connectd.directory.database import Database


@attrs.frozen
class AuditEntry:
    """One change.

    :param id: entries are numbered in the order of the changes.
    :param time: Unix seconds.
    :param who: made it.
    :param action: such as ``account.added``.
    :param subject: the account's name, the ban (``network 192.0.2.0/24``) or the UUID.
    :param details: what else is to know; never a secret.
    """

    id: int
    time: float
    who: str
    action: str
    subject: str
    details: Mapping[str, Any]


class Audit:
    """The audit trail of one open database."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, who: str, action: str, subject: str, **details: Any) -> None:
        """Add an entry; to the transaction that is open, if one is.

        :param details: what can be written as JSON; nothing secret (COM-9).
        """
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO audit (time, who, action, subject, details) VALUES (?, ?, ?, ?, ?)",
                (self._database.clock(), who, action, subject, json.dumps(details, sort_keys=True)),
            )

    def list(self, *, limit: int = 100, before: int | None = None, subject: str | None = None) -> list[AuditEntry]:
        """Entries, the newest first.

        :param limit: how many at most.
        :param before: only those with smaller ids: how to go on.
        :param subject: only those about this.
        """
        conditions = ["1"]
        parameters: list[Any] = []
        if before is not None:
            conditions.append("id < ?")
            parameters.append(before)
        if subject is not None:
            conditions.append("subject = ?")
            parameters.append(subject)
        rows = self._database.rows(
            "SELECT id, time, who, action, subject, details FROM audit "  # noqa: S608  # the conditions are ours
            f"WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",
            (*parameters, limit),
        )
        return [
            AuditEntry(identifier, time, who, action, about, json.loads(details))
            for identifier, time, who, action, about, details in rows
        ]
