"""``connectctl directory``: care for the database of accounts, bans and keys."""

from __future__ import annotations

import os
import struct
from typing import Any, Final

import attrs
import click

from connectd.cli.directory_access import DirectoryAccess, one_line, operator
from connectd.cli.file_owner import ROOT, acting_as
from connectd.cli.invocation import Invocation, shared_options
from connectd.cli.moments import local_time
from connectd.cli.output import Failed, print_error, print_json, print_line, print_table
from connectd.directory import SCHEMES, Account, Database, DatabaseError, DirectoryError, MissingDatabaseError
from connectd.directory.accounts import EVERYTHING
from connectd.directory.schema import APPLICATION_ID

BACKED_UP: Final = "directory.backed-up"
"""What the audit trail calls a backup."""

_HEADER: Final = struct.Struct(">16s2xB49xI")
"""The beginning of an SQLite file: magic, how it is written (1; 2 with a write-ahead log), and the application's id."""

_MAGIC: Final = b"SQLite format 3\0"


@click.group(invoke_without_command=True, params=shared_options())
@click.pass_context
def directory(context: click.Context) -> None:
    """Check or back up the database, and show who changed what, whether the daemon runs or not."""
    if context.invoked_subcommand is None:
        context.invoke(check)


@directory.command()
@click.argument("file", type=click.Path())
@click.pass_obj
def backup(invocation: Invocation, file: str) -> None:
    """Write a copy of the database to FILE while everything goes on; an earlier backup there is replaced.

    The sealing key is not in it: back its file up too, and keep it apart.
    """
    access = DirectoryAccess.of(invocation)
    target = os.path.abspath(file)
    _expect_no_loss(target)
    with access.acting():
        database = access.open()
    try:
        with one_line(), acting_as(_writer(target)):
            database.backup(target)
            size = os.stat(target).st_size
        with access.acting():
            _write_down(database, target)
    finally:
        with access.acting():
            database.close()
    if invocation.json:
        print_json({"database": access.path, "backup": target, "size": size})
    else:
        print_line(f"wrote {target}, {size} bytes; the sealing key is not in it")


@directory.command()
@click.pass_obj
def check(invocation: Invocation) -> None:
    """Read the whole database, open all that is sealed, and tell every problem.

    The exit status is 1 where there is one.
    """
    access = DirectoryAccess.of(invocation)
    found: dict[str, Any] = {"database": access.path, "problems": []}
    with access.acting():
        try:
            with access.open() as database:
                found["problems"] += database.check()
                found |= _counted(database)
                found["problems"] += _sealing_problems(access, database)
        except MissingDatabaseError:
            raise
        except DatabaseError as error:
            found["problems"].append(str(error))
    if invocation.json:
        print_json(found)
    if problems := found["problems"]:
        for problem in () if invocation.json else problems:
            print_error(problem)
        raise Failed(f"{access.path}: {len(problems)} problem{'s' if len(problems) != 1 else ''}")
    if not invocation.json:
        counts = ", ".join(
            f"{name.replace('_', ' ')} {count}" for name, count in found.items() if isinstance(count, int)
        )
        print_line(f"{access.path}: no problems ({counts})")


@directory.command()
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="At most so many; 0 shows all."
)
@click.pass_obj
def audit(invocation: Invocation, limit: int) -> None:
    """Show who changed what, the latest change first."""
    access = DirectoryAccess.of(invocation)
    with access.opened() as database:
        entries = database.audit.list(limit=limit or EVERYTHING)
    if invocation.json:
        print_json({"entries": [attrs.asdict(entry) for entry in entries]})
        return
    print_table(
        ["time", "who", "action", "subject", "details"],
        [
            [
                local_time(entry.time),
                entry.who,
                entry.action,
                entry.subject,
                ", ".join(_detail(name, value) for name, value in entry.details.items() if value not in (None, "")),
            ]
            for entry in entries
        ],
    )


def _expect_no_loss(target: str) -> None:
    """A backup replaces nothing but a backup: not the sealing key, not a database that is in use.

    :raises Failed: where there is something else.
    """
    try:
        if not os.path.lexists(target):
            return
        if not os.path.isfile(target):
            raise Failed(f"{target} is not a file; choose another place for the backup")
        with open(target, "rb") as file:
            header = file.read(_HEADER.size)
    except OSError as error:
        raise Failed(f"{target}: cannot be read: {error.strerror}") from None
    if not header:
        return
    whole = len(header) == _HEADER.size
    magic, written, application = _HEADER.unpack(header) if whole else (b"", 0, 0)
    if magic != _MAGIC or application != APPLICATION_ID:
        raise Failed(f"{target} is there and is no backup of a directory; choose another place, or remove it")
    if written != 1:
        raise Failed(f"{target} is a database in use, and no backup; choose another place")


def _writer(target: str) -> int:
    """As whom root writes the copy: as the user to whom its directory belongs, and who can do there what they like."""
    try:
        return os.stat(os.path.dirname(target)).st_uid
    except OSError:
        return ROOT  # writing it tells what is wrong


def _write_down(database: Database, target: str) -> None:
    try:
        database.audit.add(operator(), BACKED_UP, target)
    except DirectoryError as error:
        # The copy is there, which is what counts when the disk is full.
        print_error(f"the backup is complete, but the audit trail does not tell of it: {error}")


def _counted(database: Database) -> dict[str, int]:
    return {
        "accounts": database.accounts.count(),
        "bans": len(database.bans.list()),
        "registered_keys": database.keys.count(),
        "sealed_verifiers": sum(database.seals.used_keys().values()),
    }


def _sealing_problems(access: DirectoryAccess, database: Database) -> list[str]:
    """What does not open that should: one line for a missing key, else one for each verifier."""
    try:
        access.settings.keys()
    except DirectoryError:
        return []  # a systemd credential, which only the daemon has
    try:
        database.seals.expect_keys(SCHEMES)
    except DirectoryError as error:
        return [str(error)]
    return [
        str(problem)
        for _, account in database.accounts.each()
        for scheme, verifier in account.verifiers.items()
        if verifier.key_id is not None and (problem := _opening_problem(database, account, scheme)) is not None
    ]


def _opening_problem(database: Database, account: Account, scheme: str) -> DirectoryError | None:
    try:
        database.accounts.unseal(account, scheme)
    except DirectoryError as error:
        return error
    return None


def _detail(name: str, value: Any) -> str:
    if name == "expires":
        value = local_time(value)
    return f"{name}={' '.join(map(str, value)) if isinstance(value, list) else value}"
