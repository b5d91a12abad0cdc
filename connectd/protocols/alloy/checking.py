"""What ``connectctl check`` finds in the files that an Alloy listener's settings name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.task import Clock

from connectd.credentials import CredentialsError
from connectd.protocols.alloy.server import open_certificate
from connectd.protocols.alloy.services_setup import make_server_tokens
from connectd.protocols.alloy.settings import AlloySettings
from connectd.secret_file import read_secret


def problems(settings: AlloySettings) -> Iterator[str]:
    """Everything that would keep the listener from starting, a line each. Nobody is asked over the network, and the
    assets are not read."""
    looks: list[Callable[[], Any]] = [
        lambda: open_certificate(settings, Clock()),
        lambda: read_secret("alloy", "password", settings.password, settings.password_file),
        lambda: make_server_tokens(settings, Clock()),
        lambda: _look_at(settings.assets),
    ]
    for look in looks:
        try:
            look()
        except CredentialsError as error:
            yield str(error)


def _look_at(assets: str) -> None:
    try:
        if assets:
            os.scandir(assets).close()
    except OSError as error:
        raise CredentialsError(f"alloy: assets: {assets} cannot be read: {error.strerror}") from None
