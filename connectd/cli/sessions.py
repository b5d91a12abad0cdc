"""``connectctl sessions``: who is in, and out with whom."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click
from click.core import ParameterSource

from connectd.cli.admin_client import AdminClient, admin_client, admin_option, remember_admin
from connectd.cli.invocation import Invocation, shared_options
from connectd.cli.output import print_json, print_line, print_table

PAGE = 500
"""Sessions that are asked for at once."""


def listing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a list of sessions."""
    limit = click.IntRange(min=0)
    command = click.option("--limit", type=limit, default=100, show_default=True, help="At most so many; 0 lists all.")(
        command
    )
    return click.option("--protocol", metavar="NAME", help="Only sessions of this protocol.")(command)


@click.group(invoke_without_command=True, params=shared_options())
@admin_option
@listing_options
@click.pass_context
def sessions(context: click.Context, admin: str | None, protocol: str | None, limit: int) -> None:
    """List or kick the sessions of the running daemon. Without a command it lists them."""
    remember_admin(context, admin)
    if context.invoked_subcommand is None:
        context.invoke(list_sessions, protocol=protocol, limit=limit)
        return
    for name in ("protocol", "limit"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name} stands behind the command: sessions list --{name} …")


@sessions.command("list")
@admin_option
@listing_options
@click.pass_obj
def list_sessions(
    invocation: Invocation, admin: str | None = None, protocol: str | None = None, limit: int = 100
) -> None:
    """List the accepted sessions, the oldest connections first."""
    found, total = _fetch(admin_client(invocation, admin), protocol, limit)
    if invocation.json:
        print_json({"sessions": found, "total": total})
        return
    print_table(
        ["id", "protocol", "peer", "account", "since", "identity"],
        [
            [
                session["id"],
                session["protocol"],
                session["peer"],
                session["account"],
                datetime.fromtimestamp(session["since"]).astimezone().isoformat(" ", "seconds"),
                ", ".join(f"{name}={value}" for name, value in session["identity"].items()),
            ]
            for session in found
        ],
    )
    if len(found) < total:
        print_line(f"{len(found)} of {total} sessions; --limit 0 lists all")


@sessions.command()
@admin_option
@click.argument("identifier", metavar="ID", type=int)
@click.option("--reason", metavar="TEXT", help="What the peer is told, where its protocol has words for it.")
@click.pass_obj
def kick(invocation: Invocation, admin: str | None, identifier: int, reason: str | None) -> None:
    """End the session with this id."""
    body: dict[str, Any] = {"id": identifier}
    if reason is not None:
        body["reason"] = reason
    kicked = admin_client(invocation, admin).post("/sessions/kick", body)["kicked"]
    if invocation.json:
        print_json(kicked)
    else:
        print_line(f"kicked session {kicked['id']}: {kicked['protocol']} {kicked['peer']}")


def _fetch(client: AdminClient, protocol: str | None, limit: int) -> tuple[list[dict[str, Any]], int]:
    """The first sessions, page by page; and how many there are."""
    found: list[dict[str, Any]] = []
    while True:
        size = min(PAGE, limit - len(found)) if limit else PAGE
        after = found[-1]["id"] if found else 0
        answer = client.get("/sessions", protocol=protocol, limit=size, after=after)
        found += answer["sessions"]
        if len(answer["sessions"]) < size or len(found) == limit:
            return found, answer["total"]
