"""``connectctl alloy …``: what operators of an Alloy server have to tell others."""

from __future__ import annotations

import click


@click.group(name="alloy")
def alloy() -> None:
    """Alloy: the certificate that players' clients pin."""


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
