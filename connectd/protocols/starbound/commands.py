"""``connectctl starbound …``: the generations there are, and a player that just listens."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

LONGEST_PASSWORD = 1024
"""Bytes of a password that are read."""


@click.group(name="starbound")
def starbound() -> None:
    """Starbound: what generations there are, and watch what a server sends."""


@starbound.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def generations(as_json: bool) -> None:
    """List the generations of the connection process, the words for "generation" in configurations and URLs."""
    from connectd.protocols.starbound.generations import GENERATIONS

    if as_json or _wants_json():
        rows = [
            {"name": one.name, "version": one.version, "first": "server" if one.server_first else "client"}
            for one in GENERATIONS.values()
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo(f"{'generation':<16}{'version':>8}  speaks first")
    for one in GENERATIONS.values():
        click.echo(f"{one.name:<16}{one.version:>8}  {'server' if one.server_first else 'client'}")


@starbound.command()
@click.argument("url")
@click.option("--count", type=click.IntRange(min=1), help="Leave after so many packets.")
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Take the password from standard input, UTF-8 without one line ending at the end, instead of asking.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def watch(url: str, count: int | None, password_stdin: bool, as_json: bool) -> None:
    """Log in to the server at URL (starbound://[ACCOUNT@]HOST[:PORT][?generation=…]) and print the packets that it
    sends, until interrupted."""
    from connectd.net.foreground import run
    from connectd.net.url import URLError
    from connectd.protocols.starbound.client import login, parse_starbound_url

    try:
        account = parse_starbound_url(url).username
    except URLError as error:
        raise click.UsageError(str(error)) from error
    password = _password(account, from_stdin=password_stdin)
    as_json = as_json or _wants_json()

    def show(event: str, **details: Any) -> None:
        if as_json:
            click.echo(json.dumps({"time": round(time.time(), 3), "event": event, **details}))
        else:
            told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in details.items())
            click.echo(f"{time.strftime('%H:%M:%S')}  {event:<9} {told}")

    async def watching(reactor: Any) -> None:
        session = await login(reactor, url, password=password)
        try:
            show("accepted", client=session.client_id, generation=session.generation)
            left = count
            async for frame in session:
                show("packet", id=frame.id, bytes=len(frame.payload))
                left = None if left is None else left - 1
                if left == 0:
                    break
            if session.ended is not None:
                show("ended", outcome=session.ended.outcome.value, reason=printable(session.ended.reason))
        finally:
            await session.leave()

    try:
        run(watching)
    except Exception as error:
        raise click.ClickException(f"{url}: {printable(str(error) or type(error).__name__)}") from error


def printable(text: str) -> str:
    """A text of a server, which cannot move the cursor."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _wants_json() -> bool:
    return bool(getattr(click.get_current_context().obj, "json", False))


def _password(account: str, *, from_stdin: bool) -> bytes | None:
    if from_stdin:
        octets: bytes = sys.stdin.buffer.read(LONGEST_PASSWORD + 2)
        return octets[:-1].removesuffix(b"\r") if octets.endswith(b"\n") else octets
    if not account:
        return None
    asked: str = click.prompt(f"Password for {printable(account)}", hide_input=True, default="", show_default=False)
    return asked.encode()
