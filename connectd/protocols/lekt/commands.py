"""``connectctl lekt …``: watch a list of clients, and talk with one of them."""

from __future__ import annotations

import json
import time

import click


@click.group(name="lekt")
def lekt() -> None:
    """LEKT: watch who comes and goes, and talk with them."""


@lekt.command()
@click.argument("url")
@click.option("--port", type=click.IntRange(0, 65535), help="Announce this TCP port for direct connections.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def watch(url: str, port: int | None, as_json: bool) -> None:
    """Join the server at URL (lekt://HOST[:PORT]) and print who comes and goes, until interrupted.

    Cut off, it joins again.
    """
    from connectd.net.foreground import run
    from connectd.protocols.lekt.watching import watch as watching

    json_lines = as_json or getattr(click.get_current_context().obj, "json", False)

    def show(word: str, address: str, direct: int | None) -> None:
        if json_lines:
            print_line(json.dumps({"time": round(time.time(), 3), "event": word, "address": address, "port": direct}))
        else:
            place = address if direct is None else f"{address}:{direct}"
            print_line(f"{time.strftime('%H:%M:%S')}  {word:<6}  {place}")

    run(lambda reactor: watching(reactor, _with_port(url, port), show, print_status))


@lekt.command()
@click.argument("url")
@click.option("--nickname", required=True, help="What you like to be called: at most 64 bytes.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default="free port", help="Take calls on this TCP port."
)
@click.option("--call", "callee", metavar="ADDRESS:PORT", help="Call this client as soon as you have joined.")
def talk(url: str, nickname: str, port: int, callee: str | None) -> None:
    """Join the server at URL and talk with other clients directly.

    Lines that you type go to everybody you are talking with. A line that begins with / is a command: /who lists the
    clients, /call ADDRESS:PORT calls one, /quit leaves. Conversations are not encrypted.
    """
    from connectd.net.foreground import run
    from connectd.protocols.lekt.conversation import MAXIMUM_NICKNAME, encode_named
    from connectd.protocols.lekt.packets import HELLO
    from connectd.protocols.lekt.talking import parse_place
    from connectd.protocols.lekt.talking import talk as talking

    try:
        encode_named(HELLO, nickname, MAXIMUM_NICKNAME)
        place = None if callee is None else parse_place(callee)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    run(lambda reactor: talking(reactor, url, nickname, port, place, print_line))


def print_line(text: str) -> None:
    """A line on standard output, at once. What peers named themselves cannot move the cursor."""
    click.echo("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text))


def print_status(text: str) -> None:
    """A line on standard error."""
    click.echo(text, err=True)


def _with_port(url: str, port: int | None) -> str:
    if port is None:
        return url
    return f"{url}{'&' if '?' in url else '?'}port={port}"
