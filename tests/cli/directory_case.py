"""Commands that work on a directory: a configuration with two protocols that need more of a password than a hash."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from argon2.profiles import CHEAPEST
from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from connectd.cli import password
from connectd.cli.main import connectctl
from connectd.directory import SEALED_PASSWORD, SEALED_SHA256, Database, KeyFile, create_key
from tests.cli.admin_server import serve
from tests.ops.composed import folder
from tests.toy_protocol import ToyProtocol, install

OPERATOR = "olive"

CONFIGURATION = """
[daemon]
admin = "unix:admin.sock"
status = ""
[directory]
url = "sqlite:///state/connectd.db"
key_file = "state/directory.key"
[[listener]]
protocol = "tune"
listen = "tcp:7001"
[[listener]]
protocol = "lute"
listen = "tcp:7002"
"""


def protocol(name: str, *schemes: str) -> ToyProtocol:
    """A protocol that needs verifiers of these schemes."""
    made = ToyProtocol()
    made.name = name
    made.account_schemes = schemes
    return made


class DirectoryCase(SynchronousTestCase):
    """Runs connectctl with a configuration and its state directory, where there is a sealing key and no database yet.

    The protocols ``tune`` and ``lute`` have listeners; ``flute`` has none.
    """

    def setUp(self) -> None:
        install(
            self, protocol("tune", SEALED_SHA256), protocol("lute", SEALED_PASSWORD), protocol("flute", SEALED_PASSWORD)
        )
        self.folder = folder(self)
        self.configuration = self.folder / "connectd.toml"
        self.configuration.write_text(CONFIGURATION)
        self.state = self.folder / "state"
        self.state.mkdir(0o700)
        self.path = self.state / "connectd.db"
        self.keys = create_key(str(self.state / "directory.key"))
        self.socket = self.folder / "admin.sock"
        self.runner = CliRunner(env={"CONNECTD_CONFIG": None, "SUDO_USER": OPERATOR, "TZ": "UTC"})
        self.refreshed: list[bytes] = []
        opening = Database.open
        self.patch(Database, "open", lambda path, **options: opening(path, **options, parameters=CHEAPEST))

    def open(self) -> Database:
        """The database, until the end of the test."""
        database = Database.open(str(self.path), keys=KeyFile(self.keys.path))
        self.addCleanup(database.close)
        return database

    def run_command(self, *arguments: str, **options: Any) -> Result:
        """Run connectctl with the configuration."""
        return self.runner.invoke(connectctl, ["--config", str(self.configuration), *arguments], **options)

    def succeed(self, *arguments: str, **options: Any) -> str:
        """What a command prints that succeeds."""
        result = self.run_command(*arguments, **options)
        self.assertEqual((result.exit_code, result.stderr), (0, ""), result.output)
        return result.stdout

    def json(self, *arguments: str, **options: Any) -> Any:
        """What a command prints with ``--json``."""
        return json.loads(self.succeed(*arguments, "--json", **options))

    def refused(self, *arguments: str, status: int = 1, **options: Any) -> str:
        """The last line on standard error of a command that fails, and prints nothing else."""
        result = self.run_command(*arguments, **options)
        self.assertEqual((result.exit_code, result.stdout), (status, ""), result.output)
        line = result.stderr.splitlines()[-1]
        self.assertTrue(line.startswith("connectctl: "), line)
        return line.removeprefix("connectctl: ")

    def add(self, name: str, *arguments: str, password: str = "swordfish") -> str:
        """Add an account."""
        return self.succeed("account", "add", name, "--password-stdin", *arguments, input=f"{password}\n")

    def type(self, *answers: str | BaseException) -> list[str]:
        """Have these typed at the terminal; the questions that are asked."""
        left, asked = list(answers), []

        def ask(question: str) -> str:
            asked.append(question)
            answer = left.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        self.patch(password, "getpass", ask)
        return asked

    def run_daemon(self, status: str = "200 OK", **answer: Any) -> None:
        """A daemon that answers to every request."""
        body = json.dumps({"changes": 1, "kicked": 0, "database": str(self.path), **answer}).encode()
        head = f"HTTP/1.1 {status}\r\nServer: connectd\r\nContent-Length: {len(body)}\r\n\r\n".encode()

        def reply(connection: socket.socket) -> None:
            request = b""
            while not request.endswith(b"{}"):
                request += connection.recv(65536)
            self.refreshed.append(request)
            connection.sendall(head + body)

        serve(self, self.socket, reply)

    def audited(self) -> list[tuple[str, str]]:
        """What was done, and with what, the latest first; all of it by the operator."""
        entries = self.open().audit.list()
        self.assertEqual({entry.who for entry in entries} - {OPERATOR}, set())
        return [(entry.action, entry.subject) for entry in entries]


def files(place: Path) -> set[str]:
    """The names of the files in a directory."""
    return set(os.listdir(place))


def root_only(test: Callable[..., Any]) -> Callable[..., Any]:
    """A test that is skipped unless root runs it: it changes who it is."""
    if os.geteuid():
        test.skip = "needs root"  # type: ignore[attr-defined]
    return test
