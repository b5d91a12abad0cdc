"""A Chatr listener in front of a directory of so many registered keys."""

from __future__ import annotations

import atexit
import os
import tempfile
from typing import Any
from uuid import UUID

from benchmarks.harness.control import Commands
from benchmarks.servers.listener import LISTEN, serve_listener
from connectd.directory import Database
from connectd.directory.service import DirectoryService
from connectd.net.certificates import write_certificate
from connectd.net.listener import Listener
from connectd.protocols.chatr.server import ChatrListener
from connectd.protocols.chatr.settings import ChatrSettings


def certificate_file() -> str:
    """A certificate with P-256, gone with this process."""
    return _certificate(_folder())


def _folder() -> str:
    folder = tempfile.TemporaryDirectory(prefix="connectd-benchmark-")
    atexit.register(folder.cleanup)
    return folder.name


def _certificate(folder: str) -> str:
    path = os.path.join(folder, "certificate.pem")
    write_certificate(path)
    return path


def serve(reactor: Any, key: str = "", registered: int = 1) -> Commands:
    """Listen.

    :param key: the public key of all clients, hexadecimal DER.
    :param registered: so many UUIDs are registered with it, the first one is 1.
    """
    folder = _folder()
    path = os.path.join(folder, "connectd.db")
    with Database.open(path) as database, database.transaction():
        rows = [(UUID(int=number).bytes, bytes.fromhex(key), 0.0) for number in range(1, registered + 1)]
        database.execute_many("INSERT INTO registered_keys (uuid, key, created) VALUES (?, ?, ?)", rows)
    directory = DirectoryService(path, reactor=reactor)
    settings = ChatrSettings(listen=LISTEN, udp="", rest="", certificate=_certificate(folder))
    ready: list[bool] = []

    def make(context: Any) -> Listener:
        context.directory = directory
        directory.startService()
        directory.ready().addCallback(lambda result: ready.append(True))
        return ChatrListener(settings, context)

    _, commands = serve_listener(reactor, make)
    reactor.addSystemEventTrigger("before", "shutdown", directory.stopService)
    return {**commands, "ready": lambda: bool(ready)}
