"""``connectctl``: its commands, what they have in common, and its entry point."""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of

import click

import connectd
from connectd.cli.invocation import Invocation, shared_options
from connectd.cli.lazy import LazyCommand, LazyGroup
from connectd.cli.output import print_json, print_line

COMMANDS = {
    "init": LazyCommand("connectd.cli.init", "init", "Write a configuration to begin with."),
    "check": LazyCommand("connectd.cli.check", "check", "Tell what would listen where, or every mistake."),
    "status": LazyCommand("connectd.cli.status", "status", "Tell how the running daemon is."),
    "sessions": LazyCommand("connectd.cli.sessions", "sessions", "List or kick the sessions of the running daemon."),
    "account": LazyCommand("connectd.cli.account", "account", "Add, change or list accounts."),
    "ban": LazyCommand("connectd.cli.ban", "ban", "Keep addresses, accounts and others out."),
    "key": LazyCommand("connectd.cli.key", "key", "Show, make or change the sealing key."),
    "directory": LazyCommand("connectd.cli.directory", "directory", "Check or back up the database; who changed what."),
    "probe": LazyCommand("connectd.cli.probe", "probe", "Walk through the connection process of a server."),
    "version": LazyCommand("connectd.cli.main", "version", "Tell the versions of what runs here."),
}


@click.command(cls=LazyGroup, lazy=COMMANDS, params=shared_options(environment=True))
@click.pass_context
def connectctl(context: click.Context) -> None:
    """Set up connectd, look after it, and look at any server that speaks its protocols."""
    context.ensure_object(Invocation)


@click.command()
@click.pass_obj
def version(invocation: Invocation) -> None:
    """Tell the versions of connectd, Twisted and Python."""
    versions = {
        "connectd": connectd.__version__,
        "twisted": version_of("twisted"),
        "python": platform.python_version(),
    }
    if invocation.json:
        print_json(versions)
    else:
        print_line(", ".join(f"{name} {number}" for name, number in versions.items()))


def main() -> None:
    """The console script."""
    from connectd.cli.log_lines import log_to_standard_error

    log_to_standard_error()
    connectctl.main()
