"""``connectctl key``: the key that seals what the directory must be able to open."""

from __future__ import annotations

import os
from typing import Any

import click

from connectd.cli.admin_client import admin_option
from connectd.cli.directory_access import DirectoryAccess, one_line, operator
from connectd.cli.invocation import Invocation, shared_options
from connectd.cli.moments import local_time
from connectd.cli.output import Failed, print_error, print_json, print_line, print_table
from connectd.cli.question import confirm, yes_option
from connectd.directory import Database, KeyFile, create_key, give_up_lost_verifiers, rotate_key

CREATED = "seals.created"
"""What the audit trail calls the making of a key."""

ROTATION = (
    "A new key is made, all that is sealed is sealed anew with it, and the former key is taken out of {path}.",
    "Backups of the database from before need the key file from before: keep the two together, or make new backups.",
    "The daemon may go on meanwhile. If this is interrupted, nothing is lost: run it again.",
)

LOSS = (
    "What is sealed with a lost key cannot be opened by anybody. It will be removed, and the accounts will need new",
    "passwords for the protocols that needed it (connectctl account passwd). If the key file may still turn up in a",
    "backup, look for it first. Accounts that will need new passwords: {count}",
)


@click.group(invoke_without_command=True, params=shared_options())
@click.pass_context
def key(context: click.Context) -> None:
    """Show, make or change the sealing key; its bytes are never shown."""
    if context.invoked_subcommand is None:
        context.invoke(show)


@key.command()
@click.pass_obj
def show(invocation: Invocation) -> None:
    """Show the ids of the sealing keys, since when there are, and what is sealed with them."""
    access = DirectoryAccess.of(invocation)
    file = _key_file(access)
    with access.opened() as database:
        ids = database.seals.ring().ids
        written = os.stat(file.path).st_mtime
        used = database.seals.used_keys()
        since = {name: _since(database, name) for name in ids}
    keys: list[dict[str, Any]] = [{"id": name, "since": since[name], "seals": used.pop(name, 0)} for name in ids]
    lost = [{"id": name, "seals": count} for name, count in used.items()]
    if invocation.json:
        print_json({"file": file.path, "written": written, "keys": keys, "lost": lost})
        return
    print_line(f"{file.path}, written {local_time(written)}")
    print_table(
        ["key", "since", "sealed verifiers"],
        [[one["id"], local_time(one["since"]) if one["since"] else "", one["seals"]] for one in keys],
    )
    for one in lost:
        print_line(
            f"missing: key {one['id']}, with which {one['seals']} verifiers are sealed (bring its file back; "
            "where it is lost for good: connectctl key give-up)"
        )


@key.command()
@admin_option
@click.pass_obj
def create(invocation: Invocation, admin: str | None) -> None:
    """Make the sealing key of a directory that has none."""
    access = DirectoryAccess.of(invocation, admin)
    file = _key_file(access)
    with access.opened(create=True) as database:
        _expect_nothing_sealed(database, file)
        made = _create(database, file)
    access.changed()
    if invocation.json:
        print_json({"file": file.path, "key": made})
        return
    print_line(f"made the key {made} in {file.path}")
    print_line("Without this file, what is sealed is lost: back it up now, apart from the database.")


@key.command()
@yes_option
@admin_option
@click.pass_obj
def rotate(invocation: Invocation, yes: bool, admin: str | None) -> None:
    """Make a new sealing key and seal everything anew with it."""
    access = DirectoryAccess.of(invocation, admin)
    file = _key_file(access)
    if not yes:
        _explain(invocation, *ROTATION, path=file.path)
        confirm("Rotate the sealing key now?")
    with access.opened() as database:
        rotation = rotate_key(database, by=operator())
    access.changed()
    if rotation.unopened:
        print_error(
            f"{len(rotation.unopened)} verifiers did not open and stay sealed with another key, those of "
            f"{', '.join(rotation.unopened)} (bring that key back, or give these accounts new passwords)"
        )
    if rotation.kept:
        print_error(f"former keys are still in {file.path}: {', '.join(rotation.kept)} (connectctl key show)")
    if invocation.json:
        print_json(
            {
                "file": file.path,
                "key": rotation.key,
                "resealed": rotation.resealed,
                "unopened": rotation.unopened,
                "kept": rotation.kept,
            }
        )
        return
    print_line(f"the sealing key is {rotation.key} now; {rotation.resealed} verifiers are sealed anew")
    print_line(f"Back up {file.path} now, apart from the database.")


@key.command("give-up")
@yes_option
@admin_option
@click.pass_obj
def give_up(invocation: Invocation, yes: bool, admin: str | None) -> None:
    """Go on without a key that is lost for good: remove what is sealed with it, and make a new key if there is none."""
    access = DirectoryAccess.of(invocation, admin)
    file = _key_file(access)
    with access.opened() as database:
        lost = _lost(database, file)
        accounts = _accounts_sealed_with(database, lost)
    if not lost:
        raise Failed(f"no key is lost: all that is sealed can be opened with {file.path}")
    if not yes:
        _explain(invocation, *LOSS, count=len(accounts))
        confirm(f"Give up what is sealed with {', '.join(lost)}?")
    with access.opened() as database:
        made = None if os.path.lexists(file.path) else _create(database, file)
        names = give_up_lost_verifiers(database, by=operator())
    access.changed()
    if invocation.json:
        print_json({"file": file.path, "made": made, "given_up": lost, "accounts": names})
        return
    if made is not None:
        print_line(f"made the key {made} in {file.path}; back it up now, apart from the database")
    print_line(f"gave up what was sealed with {', '.join(lost)}; these accounts need new passwords:")
    for name in names:
        print_line(f"  {name}")


def _key_file(access: DirectoryAccess) -> KeyFile:
    """Where the sealing key is.

    :raises Failed: where only the daemon knows.
    """
    with one_line():
        return access.settings.keys()


def _create(database: Database, file: KeyFile) -> str:
    """Make the key file, and write that down.

    :return: the id of its key.
    """
    made: str = create_key(file.path).load().ids[0]
    database.audit.add(operator(), CREATED, made)
    return made


def _expect_nothing_sealed(database: Database, file: KeyFile) -> None:
    """A new key would open nothing of what another one has sealed.

    :raises Failed: where there is such a thing, and no key file.
    """
    used = database.seals.used_keys()
    if used and not os.path.lexists(file.path):
        raise Failed(
            f"{sum(used.values())} verifiers are sealed with the key {', '.join(used)}, which a new key cannot open: "
            f"bring {file.path} back from its backup (where it is lost for good: connectctl key give-up)"
        )


def _lost(database: Database, file: KeyFile) -> list[str]:
    """The ids of keys with which something is sealed, and which are not in the key file."""
    present = database.seals.ring().ids if os.path.lexists(file.path) else []
    return [name for name in database.seals.used_keys() if name not in present]


def _accounts_sealed_with(database: Database, keys: list[str]) -> list[str]:
    return [
        account.name
        for _, account in database.accounts.each()
        if any(verifier.key_id in keys for verifier in account.verifiers.values())
    ]


def _since(database: Database, name: str) -> float | None:
    """When a key was made, as far as the audit trail knows: it does not of one that came with the directory."""
    entries = database.audit.list(subject=name)
    return entries[-1].time if entries else None


def _explain(invocation: Invocation, *lines: str, **values: object) -> None:
    """Say what is about to happen; where JSON is wanted, beside it."""
    for line in lines:
        click.echo(line.format_map(values), err=invocation.json)
