"""Who has ever logged in by token: nobody else may take such a UUID or user name with a password (AL-8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from twisted.internet.defer import Deferred, succeed

if TYPE_CHECKING:
    from connectd.directory.service import DirectoryService

PROTOCOL: Final = "alloy"


class VerifiedPlayers:
    """They are remembered in the directory, for good.

    :param directory: None: there is none, so that nobody is remembered; a listener with a password has one then.
    """

    def __init__(self, directory: DirectoryService | None) -> None:
        self._directory = directory

    def is_taken(self, uuid: UUID, username: str) -> bool:
        """Whether one of the two belongs to a player with an account.

        :raises connectd.directory.errors.DirectoryError: where nobody can say.
        """
        directory = self._directory
        return directory is not None and any(directory.is_proven(PROTOCOL, name) for name in _names(uuid, username))

    def remember(self, uuid: UUID, username: str) -> Deferred[None]:
        """Somebody has proven to be them; fires once that is durable.

        :return: fails with a DirectoryError where it cannot be written: then they are not let in, or an impostor might
            be later.
        """
        if self._directory is None:
            return succeed(None)
        return self._directory.add_proven_names(PROTOCOL, _names(uuid, username))


def _names(uuid: UUID, username: str) -> tuple[str, str]:
    """User names that differ in the case of their letters only are one."""
    return str(uuid), f"name {username.lower()}"
