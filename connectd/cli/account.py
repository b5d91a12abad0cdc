"""``connectctl account``: who may log in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from connectd import registry
from connectd.cli.admin_client import admin_option
from connectd.cli.directory_access import DirectoryAccess, operator, print_ended
from connectd.cli.invocation import Invocation, shared_options
from connectd.cli.moments import local_time
from connectd.cli.output import Failed, print_json, print_line, print_table
from connectd.cli.password import new_password, password_option
from connectd.cli.question import confirm, yes_option
from connectd.directory import SCHEMES, Account, Database
from connectd.directory.names import account_key
from connectd.suggestions import did_you_mean

ALL = "all"
"""The word for all protocols."""


def _text(context: click.Context, parameter: click.Parameter, name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{name!a} is not UTF-8", context, parameter) from None
    return name


name_argument = click.argument("name", callback=_text)


@click.group(invoke_without_command=True, params=shared_options())
@click.pass_context
def account(context: click.Context) -> None:
    """Add, change or list the accounts of the directory, whether the daemon runs or not."""
    if context.invoked_subcommand is None:
        context.invoke(list_accounts)


@account.command()
@name_argument
@click.option("--protocols", metavar="A,B", default=ALL, help="The protocols that it may use; all unless given.")
@password_option
@admin_option
@click.pass_obj
def add(invocation: Invocation, name: str, protocols: str, password_stdin: bool, admin: str | None) -> None:
    """Make an account, and tell in which forms its password is kept."""
    access = DirectoryAccess.of(invocation, admin)
    allowed = _protocols(protocols)
    schemes = access.schemes(allowed)
    with access.opened(create=True) as database:
        _expect_free(database, name)
        access.expect_key(database, schemes)
    password = new_password(name, from_stdin=password_stdin)
    with access.opened() as database:
        added = database.accounts.add(name, password, schemes=schemes, protocols=allowed, by=operator())
    access.changed()
    _print_account(invocation, access, added, "added the account")


@account.command("passwd")
@name_argument
@password_option
@admin_option
@click.pass_obj
def set_password(invocation: Invocation, name: str, password_stdin: bool, admin: str | None) -> None:
    """Give an account another password, in the forms that its protocols need now."""
    access = DirectoryAccess.of(invocation, admin)
    with access.opened() as database:
        found = database.accounts.get(name)
        access.expect_key(database, access.schemes(found.protocols))
    password = new_password(found.name, from_stdin=password_stdin)
    with access.opened() as database:
        schemes = access.schemes(database.accounts.get(name).protocols)
        changed = database.accounts.set_password(name, password, schemes=schemes, by=operator())
    access.changed()
    _print_account(invocation, access, changed, "changed the password of the account")


@account.command("list")
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="At most so many; 0 lists all."
)
@click.pass_obj
def list_accounts(invocation: Invocation, limit: int = 100) -> None:
    """List the accounts in the order of their names."""
    access = DirectoryAccess.of(invocation)
    with access.opened() as database:
        accounts, total = database.accounts.list(limit=limit or None), database.accounts.count()
    described = [_described(access, one) for one in accounts]
    if invocation.json:
        print_json({"accounts": described, "total": total})
        return
    print_table(
        ["name", "state", "protocols", "verifiers", "lacks", "created"],
        [
            [
                one["name"],
                _state(one),
                _protocol_text(one["protocols"]),
                ", ".join(verifier["scheme"] for verifier in one["verifiers"]),
                ", ".join(one["lacks"]),
                local_time(one["created"]),
            ]
            for one in described
        ],
    )
    if len(accounts) < total:
        print_line(f"{len(accounts)} of {total} accounts; --limit 0 lists all")


@account.command()
@name_argument
@click.pass_obj
def show(invocation: Invocation, name: str) -> None:
    """Show one account, and in which forms its password is kept."""
    access = DirectoryAccess.of(invocation)
    with access.opened() as database:
        found = database.accounts.get(name)
    _print_account(invocation, access, found, "the account")


@account.command()
@name_argument
@admin_option
@click.pass_obj
def disable(invocation: Invocation, name: str, admin: str | None) -> None:
    """Let nobody log in with an account until it is enabled again."""
    _set_disabled(invocation, name, admin, disabled=True)


@account.command()
@name_argument
@admin_option
@click.pass_obj
def enable(invocation: Invocation, name: str, admin: str | None) -> None:
    """Let an account that was disabled log in again."""
    _set_disabled(invocation, name, admin, disabled=False)


@account.command("protocols")
@name_argument
@click.argument("protocols", metavar="A,B|all")
@admin_option
@click.pass_obj
def set_protocols(invocation: Invocation, name: str, protocols: str, admin: str | None) -> None:
    """Say which protocols an account may use."""
    access = DirectoryAccess.of(invocation, admin)
    allowed = _protocols(protocols)
    with access.opened() as database:
        changed = database.accounts.set_protocols(name, allowed, by=operator())
    _print_account(invocation, access, changed, "changed the protocols of the account", access.changed())


@account.command()
@name_argument
@yes_option
@admin_option
@click.pass_obj
def remove(invocation: Invocation, name: str, yes: bool, admin: str | None) -> None:
    """Remove an account and its password for good."""
    access = DirectoryAccess.of(invocation, admin)
    with access.opened() as database:
        found = database.accounts.get(name)
    if not yes:
        confirm(f'Remove the account "{found.name}" and its password for good?')
    with access.opened() as database:
        database.accounts.remove(name, by=operator())
    _print_change(invocation, access, found, "removed the account", access.changed())


def _set_disabled(invocation: Invocation, name: str, admin: str | None, *, disabled: bool) -> None:
    access = DirectoryAccess.of(invocation, admin)
    with access.opened() as database:
        changed = database.accounts.set_disabled(name, disabled, by=operator())
    done = "disabled the account" if disabled else "enabled the account"
    _print_change(invocation, access, changed, done, access.changed())


def _expect_free(database: Database, name: str) -> None:
    """Nobody is asked for a password in vain.

    :raises InvalidNameError: where nobody can be called that.
    :raises Failed: where somebody is.
    """
    account_key(name)
    found = database.accounts.find(name)
    if found is not None:
        raise Failed(
            f'there is an account "{found.name}" already (connectctl account passwd gives it another password)'
        )


def _protocols(text: str) -> list[str] | None:
    """The protocols that an operator wrote, None for all.

    :raises click.UsageError: where one is unknown, or there is none.
    """
    if text.strip().lower() == ALL:
        return None
    known = registry.protocol_names()
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise click.UsageError(
                f'there is no protocol "{name}"; known are {", ".join(known)}, and all{did_you_mean(name, known)}'
            )
    if not names:
        raise click.UsageError("no protocol is named; to let nobody log in, disable the account")
    return names


def _described(access: DirectoryAccess, account: Account) -> dict[str, Any]:
    """An account for JSON: nothing that is secret."""
    needed = access.schemes(account.protocols)
    return {
        "name": account.name,
        "disabled": account.disabled,
        "protocols": account.protocols,
        "created": account.created,
        "verifiers": [
            {
                "scheme": scheme,
                "sealed": SCHEMES[scheme].sealed,
                "reversible": SCHEMES[scheme].reversible,
                "description": SCHEMES[scheme].description,
            }
            for scheme in _ordered(account.verifiers)
        ],
        "lacks": [scheme for scheme in needed if scheme not in account.verifiers],
        "superfluous": [scheme for scheme in _ordered(account.verifiers) if scheme not in needed],
        "unserved": [name for name in account.protocols or () if name not in access.served],
    }


def _ordered(schemes: Iterable[str]) -> list[str]:
    return sorted(schemes, key=[*SCHEMES].index)


def _print_change(invocation: Invocation, access: DirectoryAccess, account: Account, done: str, ended: int) -> None:
    """What was done with an account, in short.

    :param ended: how many sessions that has ended.
    """
    if invocation.json:
        print_json({**_described(access, account), "ended": ended})
        return
    print_line(f'{done} "{account.name}"')
    print_ended(ended)


def _print_account(
    invocation: Invocation, access: DirectoryAccess, account: Account, done: str, ended: int | None = None
) -> None:
    """An account and in which forms its password is kept.

    :param ended: how many sessions a change of it has ended, where it can have.
    """
    described = _described(access, account)
    if invocation.json:
        print_json(described if ended is None else {**described, "ended": ended})
        return
    print_line(f'{done} "{account.name}": {_state(described)}, protocols: {_protocol_text(account.protocols)}')
    for verifier in described["verifiers"]:
        print_line(f"  {verifier['scheme']}: {verifier['description']}")
    reversible = [verifier["scheme"] for verifier in described["verifiers"] if verifier["reversible"]]
    print_line(
        f"  with the sealing key, the password can be got back from {', '.join(reversible)}"
        if reversible
        else "  the password cannot be got back from any of these"
    )
    for what, schemes in (("lacks", described["lacks"]), ("does not need", described["superfluous"])):
        if schemes:
            print_line(
                f"  it {what} {', '.join(schemes)} for what this configuration serves; "
                "connectctl account passwd with a password, the same or another, brings that in order"
            )
    if described["unserved"]:
        print_line(f"  this configuration has no listener for {', '.join(described['unserved'])}")
    print_ended(ended or 0)


def _state(described: dict[str, Any]) -> str:
    return "disabled" if described["disabled"] else "enabled"


def _protocol_text(protocols: Iterable[str] | None) -> str:
    return ALL if protocols is None else ", ".join(protocols)
