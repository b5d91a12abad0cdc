"""``connectctl fmltp …``: talk with a server."""

from __future__ import annotations

from typing import Any

import click


@click.group(name="fmltp")
def fmltp() -> None:
    """FmLTP: log in to a server and send it commands."""


@fmltp.command()
@click.argument("url")
def shell(url: str) -> None:
    """Connect to the server at URL (fmltp://[USER@]HOST[:PORT]), and send it the commands that you type.

    On a terminal there are line editing, a history and completion of command names; the password of USER is asked for,
    and for AUTH with a name alone as well. What has a password in it does not get into the history, which is kept
    nowhere.

    Otherwise, each line of standard input is a command, AUTH USER PASSWORD for one, and the end of the input is QUIT.

    The key exchange is not authenticated: whoever is in the path to the server can read and change everything.
    """
    import sys

    from connectd.net.foreground import run
    from connectd.protocols.fmltp.shell import Shell
    from connectd.protocols.fmltp.terminal import Lines, Terminal

    with Terminal() if sys.stdin is not None and sys.stdin.isatty() else Lines() as source:

        async def talk(reactor: Any) -> None:
            await Shell(reactor, url, source, print_line, print_warning).run()

        run(talk)


def print_line(text: str) -> None:
    """A line on standard output, at once. What a server says cannot move the cursor."""
    click.echo("".join(one if one.isprintable() or one == "\t" else "\N{REPLACEMENT CHARACTER}" for one in text))


def print_warning(text: str) -> None:
    """A line on standard error."""
    click.echo(f"connectctl: {text}", err=True)
