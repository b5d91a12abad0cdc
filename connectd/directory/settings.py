"""What an operator can set about the directory: the ``[directory]`` table."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import unquote

import attrs

from connectd.directory.sealing import KeyFile
from connectd.settings import at_least, between, key

SQLITE: Final = "sqlite:///"


def _url_problem(url: str) -> str | None:
    path = url.removeprefix(SQLITE)
    if path == url or not path:
        return f"{url!r} is not the URL of a database; write {SQLITE}PATH (four slashes for an absolute path)"
    return None


@attrs.frozen(kw_only=True)
class DirectorySettings:
    """Where accounts, bans and registered keys are, and how they are kept."""

    url: str = key(
        f"{SQLITE}state/connectd.db",
        f"The database: {SQLITE}PATH, relative to this file, or with one more slash for an absolute path.",
        check=_url_problem,
    )
    key_file: str = key(
        "state/directory.key",
        "The key that seals what must not be hashed (Starbound passwords). Without it they are lost: back it up, apart "
        "from the database.",
        path=True,
    )
    key_credential: str = key(
        "",
        "The name of the systemd credential (LoadCredentialEncrypted=) that has the key, instead of key_file.",
        example='"directory.key"',
    )
    poll_interval: float = key(
        5.0,
        "How often to look for what other processes, such as connectctl, have changed without saying so.",
        unit="seconds",
        check=between(0.1, 3600),
    )
    maximum_keys: int = key(
        200_000,
        "How many Chatr clients may register; each takes about 450 bytes of memory. 0 = no limit.",
        check=at_least(0),
    )

    def database_path(self, folder: str) -> str:
        """The absolute path of the database.

        :param folder: the absolute path of the folder of the configuration file.
        """
        return os.path.abspath(os.path.join(folder, unquote(self.url.removeprefix(SQLITE))))

    def keys(self) -> KeyFile:
        """Where the sealing keys are; they need not be there.

        :raises MissingKeyError: where a credential is wanted and this process was given none.
        """
        return KeyFile.from_credential(self.key_credential) if self.key_credential else KeyFile(self.key_file)
