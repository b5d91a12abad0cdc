"""``connectctl init``: a configuration to begin with."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

import click

from connectd import registry
from connectd.cli.directory_access import one_line
from connectd.cli.file_owner import acting_as, owner_of
from connectd.cli.invocation import DEFAULT_CONFIGURATION, Invocation
from connectd.cli.output import Failed, print_json, print_line
from connectd.config import render
from connectd.config.places import resolve
from connectd.directory import Database, DirectorySettings, create_key
from connectd.net.certificates import write_certificate

STATE = "state"
"""The state directory of a new configuration: the default of ``state_dir``."""

THE_KEY = (
    "What the key is for: some protocols need an account's password itself, or something as good (Starbound does).",
    "  That is kept sealed with this key; all other passwords are kept as hashes, which need none.",
    "If it is lost: what is sealed can be opened by nobody, and these accounts need new passwords. Accounts, bans and",
    "  all else stay.",
    "So back it up now, and keep that backup apart from those of the database: who has both has the passwords.",
)
"""What has to be known about the sealing key before it is needed."""

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600


@click.command()
@click.argument("directory", required=False, type=click.Path(file_okay=False))
@click.option("--force", is_flag=True, help="Replace a configuration that is there.")
@click.option("--print", "print_only", is_flag=True, help="Print the configuration and write nothing.")
@click.pass_obj
def init(invocation: Invocation, directory: str | None, force: bool, print_only: bool) -> None:
    """Write a configuration with one listener of each protocol on loopback, and make the state directory with the
    database of accounts and bans, the key that seals what must not be lost in it, and a certificate for each listener
    that needs one.

    A database, a key and certificates that are there stay. The configuration goes to connectd.toml in DIRECTORY, which
    is made where there is none; without DIRECTORY, to the --config file.
    """
    if print_only:
        click.echo(render(), nl=False)
        return
    file = Path(directory, DEFAULT_CONFIGURATION) if directory is not None else Path(invocation.config)
    state = file.parent / STATE
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(file, render(), replace=force)
        state.mkdir(PRIVATE_DIRECTORY, exist_ok=True)
    except FileExistsError as error:
        what = "is there already; --force replaces it" if error.filename != str(state) else "is not a directory"
        raise Failed(f"{error.filename} {what}") from error
    except OSError as error:
        raise Failed(f"{error.filename}: cannot be written: {error.strerror or error}") from error
    settings = resolve(DirectorySettings(), str(file.parent.absolute()))
    database, key = settings.database_path(str(file.parent.absolute())), settings.key_file
    made = _make_directory(database, key)
    certificates = _make_certificates(file.parent.absolute())
    if invocation.json:
        places = {"configuration": str(file.absolute()), "state": str(state.absolute())}
        print_json({**places, "database": database, "key": key, "key_made": made, "certificates": certificates})
        return
    print_line(f"wrote {file}, made {state} and in it {os.path.basename(database)}")
    print_line(f"{'made' if made else 'kept'} the sealing key {key}")
    for line in THE_KEY if made else ():
        print_line(line)
    for path, new in certificates.items():
        print_line(f"{'made' if new else 'kept'} the certificate {path}, for this machine only")
    print_line("next:")
    print_line(f"  connectctl --config {shlex.quote(str(file))} check")
    print_line(f"  twistd -n connectd --config {shlex.quote(str(file))}")


def _make_directory(path: str, key: str) -> bool:
    """Make the database and its sealing key where they are not there yet.

    :return: whether the key is new.
    """
    with one_line(), acting_as(owner_of(path)), Database.open(path) as database:
        if os.path.lexists(key):
            return False
        used = database.seals.used_keys()
        if used:
            raise Failed(
                f"{key} is not there, and {sum(used.values())} passwords in {path} are sealed with it: bring it back "
                "from its backup (where it is lost for good: connectctl key give-up)"
            )
        create_key(key)
        return True


def _make_certificates(folder: Path) -> dict[str, bool]:
    """Make a certificate for every listener of the demonstration that has the key ``certificate``, for loopback names.

    :return: whether each is new, by its path.
    """
    made: dict[str, bool] = {}
    for protocol in registry.protocols().values():
        for values in protocol.demonstration():
            if path := values.get("certificate"):
                place = str(folder / path)
                try:
                    with acting_as(owner_of(place)):
                        made[place] = write_certificate(place)
                except OSError as error:
                    raise Failed(f"{place}: cannot be written: {error.strerror or error}") from error
    return made


def _write(file: Path, text: str, *, replace: bool) -> None:
    """Write a file that only its owner can read, whole or not at all.

    :raises FileExistsError: where it is there and may not be replaced.
    """
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, PRIVATE_FILE)
            stream.write(text)
        if replace:
            os.replace(temporary, file)
        else:
            try:
                os.link(temporary, file)
            except FileExistsError as error:
                raise FileExistsError(error.errno, error.strerror, str(file)) from error
    finally:
        Path(temporary).unlink(missing_ok=True)
