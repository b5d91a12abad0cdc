"""``connectctl chatr …``: register a key, see what is registered, and talk with others over a punched path."""

from __future__ import annotations

from typing import Any

import click

URL = "chatr://127.0.0.1:1230"
REGISTRY = "http://127.0.0.1:8080"


@click.group(name="chatr")
def chatr() -> None:
    """Chatr: register a key, and talk with other clients directly.

    A client's identity, its UUID and private key, is in a file. Unless told otherwise, the server is the one of the
    configuration (--config), or else of this machine.
    """


def _identity_option(command: Any) -> Any:
    command = click.option(
        "--passphrase-file",
        type=click.Path(dir_okay=False, exists=True),
        help="A file whose first line is the passphrase of the identity's key; asked for, where the key has one.",
    )(command)
    return click.option(
        "--identity",
        "identity",
        type=click.Path(dir_okay=False),
        default="chatr-identity.pem",
        show_default=True,
        help="The file with the UUID and the private key.",
    )(command)


def _server_options(command: Any) -> Any:
    command = click.option("--url", help=f"The Connect server: chatr://HOST[:PORT].  [default: {URL}]")(command)
    return _registry_options(command)


def _registry_options(command: Any) -> Any:
    command = click.option("--registry", help=f"Where keys are registered.  [default: {REGISTRY}]")(command)
    return click.option(
        "--certificate",
        type=click.Path(dir_okay=False, exists=True),
        help="A PEM file with the server's certificate: exactly that one is accepted. Otherwise its name is verified.",
    )(command)


@chatr.command()
@_identity_option
@_registry_options
@click.option("--bits", type=click.IntRange(2048, 8192), default=4096, show_default=True, help="Of a new RSA key.")
@click.option("--encrypt", is_flag=True, help="Ask for a passphrase that encrypts a new key.")
@click.option("--replace", is_flag=True, help="Make a new key, and let it replace the one that is registered.")
@click.pass_context
def register(
    context: click.Context,
    identity: str,
    passphrase_file: str | None,
    registry: str | None,
    certificate: str | None,
    bits: int,
    encrypt: bool,
    replace: bool,
) -> None:
    """Register the key of an identity, which is made where there is none."""
    from connectd.protocols.chatr.enrolling import Enrolment, run_command

    enrolment = Enrolment(context.obj, identity, passphrase_file, registry=registry, certificate=certificate)
    run_command(lambda reactor: enrolment.register(reactor, bits=bits, encrypt=encrypt, replace=replace), context)


@chatr.command()
@_identity_option
@_registry_options
@click.option("--offline", is_flag=True, help="Do not ask the registry.")
@click.pass_context
def show(
    context: click.Context,
    identity: str,
    passphrase_file: str | None,
    registry: str | None,
    certificate: str | None,
    offline: bool,
) -> None:
    """Tell an identity's UUID, the fingerprint of its key, and whether that is what is registered."""
    from connectd.protocols.chatr.enrolling import Enrolment, run_command

    enrolment = Enrolment(context.obj, identity, passphrase_file, registry=registry, certificate=certificate)
    run_command(lambda reactor: enrolment.show(reactor, offline=offline), context)


@chatr.command()
@_identity_option
@_server_options
@click.option("--peer-port", type=click.IntRange(0, 65535), help="The UDP port that both sides punch on.")
@click.option("--from", "friends", multiple=True, metavar="UUID", help="Accept these only; all, unless given.")
@click.pass_context
def listen(
    context: click.Context,
    identity: str,
    passphrase_file: str | None,
    url: str | None,
    registry: str | None,
    certificate: str | None,
    peer_port: int | None,
    friends: tuple[str, ...],
) -> None:
    """Connect, accept who asks for this client, and exchange lines with them, until it is stopped or /quit is
    typed.

    An identity is made and registered where there is none. The lines go over UDP, directly from one to the other; they
    are not encrypted, and who is at the other end is not proven.
    """
    from connectd.protocols.chatr.enrolling import Enrolment, run_command
    from connectd.protocols.chatr.talking import parse_uuids

    enrolment = Enrolment(context.obj, identity, passphrase_file, url=url, registry=registry, certificate=certificate)
    accepted = parse_uuids(friends)
    run_command(lambda reactor: enrolment.talk(reactor, peer_port=peer_port, friends=accepted), context)


@chatr.command()
@click.argument("uuid")
@_identity_option
@_server_options
@click.option("--peer-port", type=click.IntRange(0, 65535), help="The UDP port that both sides punch on.")
@click.pass_context
def talk(
    context: click.Context,
    uuid: str,
    identity: str,
    passphrase_file: str | None,
    url: str | None,
    registry: str | None,
    certificate: str | None,
    peer_port: int | None,
) -> None:
    """Connect, ask for the client UUID, and exchange lines with it, until the input or the path ends.

    See listen for what is encrypted and proven: nothing.
    """
    from connectd.protocols.chatr.enrolling import Enrolment, run_command
    from connectd.protocols.chatr.talking import parse_uuids

    enrolment = Enrolment(context.obj, identity, passphrase_file, url=url, registry=registry, certificate=certificate)
    (callee,) = parse_uuids((uuid,))
    run_command(lambda reactor: enrolment.talk(reactor, peer_port=peer_port, callee=callee), context)
