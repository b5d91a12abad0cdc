"""``connectctl ban``: who is not let in."""

from __future__ import annotations

import time

import attrs
import click

from connectd.cli.admin_client import admin_option
from connectd.cli.directory_access import DirectoryAccess, operator, print_ended
from connectd.cli.invocation import Invocation, shared_options
from connectd.cli.moments import duration, local_time, moment
from connectd.cli.output import print_json, print_line, print_table
from connectd.directory import KINDS, Ban, InvalidBanError

EXAMPLES = "address 192.0.2.1, network 192.0.2.0/24, account NAME, uuid UUID, key SHA256-OF-ITS-DER"

kind_argument = click.argument("kind", metavar="KIND", type=click.Choice(KINDS, case_sensitive=False))
value_argument = click.argument("value")


@click.group(invoke_without_command=True, params=shared_options())
@click.pass_context
def ban(context: click.Context) -> None:
    """Keep addresses, networks, accounts, UUIDs or keys out, whether the daemon runs or not."""
    if context.invoked_subcommand is None:
        context.invoke(list_bans)


@ban.command(epilog=f"KIND and VALUE: {EXAMPLES}.")
@kind_argument
@value_argument
@click.option("--reason", metavar="TEXT", required=True, help="Why; told to the peer where its protocol has words.")
@click.option(
    "--for", "length", metavar="TIME", callback=duration, help="How long: 90m, 12h, 7d, 1d12h; else for ever."
)
@click.option("--until", metavar="ISO", callback=moment, help="Until when: 2030-12-31 or 2030-12-31T18:00, local time.")
@admin_option
@click.pass_obj
def add(
    invocation: Invocation,
    kind: str,
    value: str,
    reason: str,
    length: float | None,
    until: float | None,
    admin: str | None,
) -> None:
    """Ban something; what is banned already gets the new reason and the new end."""
    now = time.time()
    if length is not None and until is not None:
        raise click.UsageError("--for and --until say the same in two ways; give one of them")
    if until is not None and until <= now:
        raise click.UsageError(f"--until: {local_time(until)} is over; give a time to come")
    expires = until if length is None else now + length
    access = DirectoryAccess.of(invocation, admin)
    with access.opened(create=True) as database:
        try:
            former = database.bans.get(kind, value)
            added = database.bans.add(kind, value, reason=reason, expires=expires, by=operator())
        except InvalidBanError as error:
            raise click.UsageError(str(error)) from error
        known = kind != "account" or database.accounts.find(value) is not None
    ended = access.changed()
    if invocation.json:
        print_json({**attrs.asdict(added), "ended": ended})
        return
    print_line(f"banned the {added.kind} {added.value} {_end(added)}: {added.reason}")
    if former is not None and not former.expired(now):
        print_line(f"  this replaces the ban of {former.created_by} {_end(former)}: {former.reason}")
    if not known:
        print_line("  there is no account of that name now")
    print_ended(ended)


@ban.command("list")
@click.pass_obj
def list_bans(invocation: Invocation) -> None:
    """List the bans that are not over."""
    access = DirectoryAccess.of(invocation)
    with access.opened() as database:
        bans = [one for one in database.bans.list() if not one.expired(time.time())]
    if invocation.json:
        print_json({"bans": [attrs.asdict(one) for one in bans], "total": len(bans)})
        return
    print_table(
        ["kind", "value", "until", "reason", "by", "since"],
        [
            [
                one.kind,
                one.value,
                "for ever" if one.expires is None else local_time(one.expires),
                one.reason,
                one.created_by,
                local_time(one.created),
            ]
            for one in bans
        ],
    )


@ban.command()
@kind_argument
@value_argument
@admin_option
@click.pass_obj
def remove(invocation: Invocation, kind: str, value: str, admin: str | None) -> None:
    """Lift the ban of exactly this."""
    access = DirectoryAccess.of(invocation, admin)
    with access.opened() as database:
        try:
            removed = database.bans.remove(kind, value, by=operator())
        except InvalidBanError as error:
            raise click.UsageError(str(error)) from error
    access.changed()
    if invocation.json:
        print_json(attrs.asdict(removed))
    else:
        print_line(f"lifted the ban of the {removed.kind} {removed.value}: {removed.reason}")


def _end(ban: Ban) -> str:
    return "for ever" if ban.expires is None else f"until {local_time(ban.expires)}"
