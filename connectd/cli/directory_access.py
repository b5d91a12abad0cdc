"""How commands work on the directory: on the database itself, and the running daemon is told afterwards."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from connectd.cli.admin_client import AdminClient, AdminError
from connectd.cli.file_owner import ROOT, acting_as, owner_of, user_name
from connectd.cli.output import Failed, print_error, print_line, printable
from connectd.directory import ARGON2ID, SCHEMES, Database, DirectoryError, DirectorySettings, KeyFile, MissingKeyError
from connectd.ops.directory import needed_schemes

if TYPE_CHECKING:
    from connectd.cli.invocation import Invocation
    from connectd.config import Configuration

NOTICE_TIMEOUT = 15.0
"""Seconds that the daemon has to bring a change to everybody who is in."""

LONGEST_OPERATOR = 64


@attrs.frozen
class DirectoryAccess:
    """A command's way to the directory of a configuration.

    :param configuration: the whole of it.
    :param settings: its ``[directory]``.
    :param path: of the database.
    :param daemon: tells the daemon of changes; None where it has no admin socket.
    """

    configuration: Configuration
    settings: DirectorySettings
    path: str
    daemon: AdminClient | None

    @classmethod
    def of(cls, invocation: Invocation, admin: str | None = None) -> DirectoryAccess:
        """The way to the directory that a call of connectctl means.

        :param admin: the value of the option ``--admin``, if the command has one.
        :raises Failed: where the configuration has mistakes, or has no directory.
        """
        configuration = invocation.configuration()
        settings = configuration.directory
        if settings is None or not settings.url:
            raise Failed(f'{invocation.config}: there is no directory (set url = "sqlite:///PATH" in [directory])')
        folder = os.path.dirname(os.path.abspath(invocation.config))
        place = admin or configuration.daemon.admin
        daemon = AdminClient(place, NOTICE_TIMEOUT) if admin or place.startswith("unix:") else None
        return cls(configuration, settings, settings.database_path(folder), daemon)

    @property
    def served(self) -> set[str]:
        """The protocols that the configuration has listeners for."""
        return {listener.protocol for listener in self.configuration.listeners}

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Inside, root is the user to whom the database belongs. Nothing should be done there but what concerns it.

        :raises Failed: where this user cannot work on it; also, in one line, for what goes wrong inside.
        """
        with one_line(), acting_as(self.owner()):
            if os.getuid() != ROOT:
                self._expect_ours()
            yield

    def open(self, *, create: bool = False) -> Database:
        """The database, to be used while :meth:`acting` and closed there.

        :param create: make it where there is none.
        :raises DirectoryError: where it cannot be used.
        """
        return Database.open(self.path, create=create, keys=self._keys())

    @contextmanager
    def opened(self, *, create: bool = False) -> Iterator[Database]:
        """The database, while :meth:`acting`."""
        with self.acting(), self.open(create=create) as database:
            yield database

    def owner(self) -> int:
        """The number of the user to whom the database belongs, or will."""
        try:
            return owner_of(self.path)
        except OSError:
            return os.geteuid()  # opening it tells what is wrong

    def schemes(self, protocols: Collection[str] | None) -> list[str]:
        """In which forms an account's password is needed.

        :param protocols: those that it may use; None: all.
        :return: argon2id, and what the protocols need that the configuration has listeners for.
        """
        listeners = self.configuration.listeners
        needed = needed_schemes(one for one in listeners if protocols is None or one.protocol in protocols)
        return sorted({ARGON2ID, *needed}, key=[*SCHEMES].index)

    def expect_key(self, database: Database, schemes: Iterable[str]) -> None:
        """See to it that passwords can be kept in these forms, before anybody is asked for one.

        :raises DirectoryError: where one of them needs the sealing key and it is not there.
        """
        if any(SCHEMES[scheme].sealed for scheme in schemes):
            self.settings.keys()
            database.seals.reload()

    def changed(self) -> int:
        """Let a running daemon see at once what has changed. Where it cannot be told, it looks by itself, soon.

        :return: how many sessions and other connections it has ended for that.
        """
        if self.daemon is None:
            return 0
        try:
            answer = self.daemon.post("/directory/refresh", {})
        except AdminError as error:
            # Nobody answers: then it does not run, and reads the database when it starts.
            if not isinstance(error.__context__, FileNotFoundError | ConnectionRefusedError):
                print_error(
                    "the change is made, but the daemon could not be told; it looks every "
                    f"{self.settings.poll_interval:g} s: {error.message}"
                )
            return 0
        if os.path.realpath(answer["database"]) != os.path.realpath(self.path):
            print_error(
                f"the change is made in {self.path}, but the daemon on {self.daemon.place} uses {answer['database']}: "
                "it runs with another configuration"
            )
        return int(answer["kicked"])

    def _keys(self) -> KeyFile | None:
        try:
            return self.settings.keys()
        except MissingKeyError:
            # A systemd credential, which only the daemon is given. Most commands do without.
            return None

    def _expect_ours(self) -> None:
        """Say who could, where this user cannot: opening it could only say that it does not work.

        :raises Failed: then.
        """
        folder = os.path.dirname(self.path)
        for place, mode in ((folder, os.W_OK | os.X_OK), (self.path, os.W_OK)):
            try:
                owner = os.stat(place).st_uid
            except PermissionError:
                raise Failed(
                    f"{place} is out of reach for the user {user_name(os.getuid())}: run this as the user that the "
                    "daemon runs as, or as root"
                ) from None
            except OSError:
                return
            if owner != os.getuid() and not os.access(place, mode):
                raise Failed(
                    f"{place} belongs to the user {user_name(owner)}, and {user_name(os.getuid())} may not write it: "
                    f"run this as {user_name(owner)} or root"
                )


@contextmanager
def one_line() -> Iterator[None]:
    """What goes wrong with the directory ends the command in one line."""
    try:
        yield
    except DirectoryError as error:
        raise Failed(error) from error


def operator() -> str:
    """Who is at work, for the audit trail: whoever called sudo, or has logged in, or whose process it is."""
    name = os.environ.get("SUDO_USER") or _login_name()
    return printable(name)[:LONGEST_OPERATOR]


def _login_name() -> str:
    try:
        return os.getlogin()
    except OSError:
        return user_name(os.getuid())


def print_ended(count: int) -> None:
    """Tell how many sessions a change has ended (:meth:`DirectoryAccess.changed`)."""
    if count:
        print_line(f"  ended {count} {'sessions or connections' if count != 1 else 'session or connection'}")
