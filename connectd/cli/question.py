"""Asking before something that cannot be undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from connectd.cli.output import Failed, printable


def yes_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option ``--yes`` of a command that would ask otherwise."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)


def confirm(question: str) -> None:
    """Ask on standard error, and go on only where the answer is yes.

    :raises Failed: otherwise.
    """
    try:
        agreed = click.confirm(printable(question), err=True)
    except click.Abort:
        click.echo(err=True)
        raise Failed("nobody has said yes, so nothing was changed (--yes does not ask)") from None
    if not agreed:
        raise Failed("nothing was changed")
