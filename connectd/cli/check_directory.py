"""What ``connectctl check`` tells of the directory: the database, and the key that seals what is in it."""

from __future__ import annotations

import os
from typing import Any

import attrs

from connectd.cli.file_owner import acting_as, owner_of
from connectd.config import Configuration
from connectd.directory import SCHEMES, Database, DirectoryError, KeyFile, MissingKeyError, prepare
from connectd.ops.directory import needed_schemes


@attrs.frozen
class DirectoryReport:
    """How the directory is.

    :param problems: what would keep the daemon from starting, one line each.
    :param hints: what should be done soon.
    :param lines: what there is, for people.
    :param facts: the same for programs.
    """

    problems: list[str] = attrs.field(factory=list)
    hints: list[str] = attrs.field(factory=list)
    lines: list[str] = attrs.field(factory=list)
    facts: dict[str, Any] = attrs.field(factory=dict)


def look_at_directory(configuration: Configuration) -> DirectoryReport:
    """Look at the directory as the daemon would at its start. A database that is there is brought up to date; none is
    made."""
    report = DirectoryReport()
    settings = configuration.directory
    if settings is None:
        return report
    path = settings.database_path(os.getcwd())
    report.facts["database"] = path
    try:
        try:
            keys: KeyFile | None = settings.keys()
        except MissingKeyError:
            keys = None
            report.facts["key"] = None
            report.lines.append(
                f'sealing key: the systemd credential "{settings.key_credential}", which only the daemon is given'
            )
        schemes = needed_schemes(configuration.listeners)
        if os.path.lexists(path):
            with acting_as(owner_of(path)):
                _look_at_database(report, path, keys, schemes if keys is not None else ())
        else:
            _expect_folder(report, path, configuration.daemon.state_dir)
        if keys is not None:
            _look_at_key(report, keys, any(SCHEMES[scheme].sealed for scheme in schemes))
    except DirectoryError as error:
        report.problems.append(f"directory: {error}")
    except OSError as error:
        report.problems.append(f"directory: {error.filename or path}: {error.strerror or error}")
    return report


def _look_at_database(report: DirectoryReport, path: str, keys: KeyFile | None, schemes: Any) -> None:
    prepare(path, keys=keys, schemes=schemes)
    with Database.open(path, create=False, keys=keys) as database:
        counts = {"accounts": database.accounts.count(), "bans": len(database.bans.list())}
    report.facts.update(counts)
    found = ", ".join(f"{count} {word if count != 1 else word[:-1]}" for word, count in counts.items())
    report.lines.append(f"directory: {path}, {found}")


def _expect_folder(report: DirectoryReport, path: str, state: str) -> None:
    """Whether the daemon can make the database."""
    folder = os.path.dirname(path)
    if folder != state and not os.path.isdir(folder):
        report.problems.append(f"directory: the folder {folder} of the database does not exist (make it, or set url)")
        return
    report.facts.update(accounts=0, bans=0)
    report.lines.append(f"directory: {path}, which is made when the daemon starts")


def _look_at_key(report: DirectoryReport, keys: KeyFile, needed: bool) -> None:
    """Whether passwords can be sealed; without need of that, a key that is missing is worth no word."""
    report.facts["key"] = keys.path
    if os.path.lexists(keys.path):
        with acting_as(owner_of(keys.path)):
            identifier = keys.load().ids[0]
        report.lines.append(
            f"sealing key: {keys.path} (key {identifier}); keep a backup of it apart from those of the database"
        )
        return
    report.facts["key"] = None
    if needed:
        report.hints.append(
            f"sealing key: {keys.path} is not there, and protocols of this configuration need it for the passwords of "
            "their accounts; make it with: connectctl key create"
        )
