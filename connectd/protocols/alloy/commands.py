"""``connectctl alloy …``: the assets of servers, and what operators of an Alloy server have to tell others."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click

STORE = "assets-of-servers"
"""Where assets are kept where nobody says otherwise."""


@click.group(name="alloy")
def alloy() -> None:
    """Alloy: the certificate that players' clients pin; the assets of servers, fetched and checked."""


@alloy.command()
@click.argument("certificate", type=click.Path(dir_okay=False))
def pin(certificate: str) -> None:
    """Print the SHA-256 of the server's certificate in the PEM file CERTIFICATE, which clients take as ?pin=…"""
    from cryptography.hazmat.primitives.hashes import SHA256

    from connectd.net.certificates import CertificateError, read_certificates

    try:
        leaf = read_certificates(certificate)[0]
    except CertificateError as error:
        raise click.ClickException(str(error)) from error
    click.echo(leaf.fingerprint(SHA256()).hex())


@alloy.group()
def assets() -> None:
    """Fetch the assets of a server, list and check those that are here.

    They are kept in a directory, each under the SHA-256 of its content; whatever names servers give them, they are
    written nowhere else.
    """


def store_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option ``--store`` of a command."""
    return click.option(
        "--store",
        type=click.Path(file_okay=False),
        default=STORE,
        show_default=True,
        help="The directory that the assets are kept in.",
    )(command)


@assets.command()
@click.argument("url")
@store_option
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Take the server's password from standard input, UTF-8 without one line ending at the end, instead of asking.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def fetch(url: str, store: str, password_stdin: bool, as_json: bool) -> None:
    """Log in to the server at URL (alloy://USERNAME@HOST[:PORT]), take the assets that are not here yet, leave.

    What came whole stays, also where it is interrupted: the next time only the rest is fetched.
    """
    from connectd.net.client import ConnectionEnded
    from connectd.net.foreground import run
    from connectd.net.url import URLError
    from connectd.protocols.alloy.asset_store import AssetStore
    from connectd.protocols.alloy.client import parse_alloy_url
    from connectd.protocols.alloy.fetching import Fetched
    from connectd.protocols.alloy.fetching import fetch as fetching
    from connectd.protocols.alloy.progress import shown

    json_lines = as_json or getattr(click.get_current_context().obj, "json", False)
    try:
        settings = parse_alloy_url(url).settings
    except URLError as error:
        raise click.UsageError(str(error)) from None
    password = None if settings.services_url else _password(from_stdin=password_stdin)
    kept = AssetStore(store)
    kept.clear_unfinished()
    results: list[Fetched] = []
    with shown(json_lines) as progress:

        async def work(reactor: Any) -> None:
            results.append(await fetching(reactor, url, kept, progress, password))

        try:
            finished = run(work)
        except URLError as error:
            raise click.UsageError(str(error)) from None
        except (ConnectionEnded, OSError) as error:
            raise click.ClickException(_line(str(error))) from None
    if not finished:
        raise click.ClickException("interrupted; what came whole is kept")
    [result] = results
    if json_lines:
        click.echo(json.dumps({"offered": result.offered, "fetched": result.fetched, "bytes": result.bytes}))
    else:
        click.echo(
            f"{result.offered} assets are offered; {result.fetched} were fetched ({_size(result.bytes)}), "
            f"{result.offered - result.fetched} were here"
        )


@assets.command(name="list")
@store_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(store: str, as_json: bool) -> None:
    """List the assets that are here."""
    from connectd.protocols.alloy.asset_store import AssetStore

    json_lines = as_json or getattr(click.get_current_context().obj, "json", False)
    for asset in AssetStore(store):
        if json_lines:
            click.echo(json.dumps({"hash": asset.hash, "bytes": asset.size}))
        else:
            click.echo(f"{asset.hash}  {_size(asset.size):>10}")


@assets.command()
@store_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def verify(store: str, as_json: bool) -> None:
    """Read all assets that are here again; those that are damaged are removed, so that they are fetched again.

    The exit status is 1 where there are any.
    """
    from connectd.protocols.alloy.asset_store import AssetStore

    json_lines = as_json or getattr(click.get_current_context().obj, "json", False)
    kept = AssetStore(store)
    good = damaged = 0
    for asset in kept:
        if kept.verify(asset):
            good += 1
            continue
        damaged += 1
        kept.remove(asset.hash)
        if json_lines:
            click.echo(json.dumps({"hash": asset.hash, "damaged": True}))
        else:
            click.echo(f"{asset.hash}  was damaged, and is removed")
    if json_lines:
        click.echo(json.dumps({"good": good, "damaged": damaged}))
    else:
        click.echo(f"{good} assets are what their names say, {damaged} were not")
    if damaged:
        raise click.exceptions.Exit(1)


def _password(*, from_stdin: bool) -> bytes:
    if from_stdin:
        line = sys.stdin.buffer.read(1 << 16)
        return line.removesuffix(b"\n").removesuffix(b"\r")
    typed: str = click.prompt("Password of the server", hide_input=True, default="", show_default=False, err=True)
    return typed.encode()


def _line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
