"""A daemon that answers on a Unix socket from a thread, so that commands can block on it as they do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from connectd.cli.main import connectctl
from connectd.ops.daemon import Daemon
from tests.ops.composed import composed, folder
from tests.ops.exchange import Exchange


def serve(test: SynchronousTestCase, path: Path, answer: Callable[[socket.socket], None]) -> None:
    """Have connections to a Unix socket answered, one after the other, until the end of the test."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(16)

    def run() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            with connection:
                answer(connection)

    thread = threading.Thread(target=run)
    thread.start()

    def stop() -> None:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)

    test.addCleanup(stop)


class AdminCase(SynchronousTestCase):
    """Runs connectctl against a daemon, whose admin socket is ``self.socket``."""

    def setUp(self) -> None:
        self.folder = folder(self)
        self.socket = self.folder / "admin.sock"
        self.configuration = self.folder / "connectd.toml"
        self.configuration.write_text(
            f'[daemon]\nadmin = "unix:{self.socket}"\nstatus = ""\n[[listener]]\nprotocol = "lekt"\n'
        )
        self.runner = CliRunner(env={"CONNECTD_CONFIG": None, "TZ": "UTC"})
        self.requests: list[bytes] = []

    def start(self) -> Daemon:
        """A daemon, composed and not started, whose admin API answers."""
        daemon = composed(self)

        def answer(connection: socket.socket) -> None:
            exchange = Exchange(daemon.admin_routes)
            request = b""
            while not exchange.transport.value() and (data := connection.recv(65536)):
                request += data
                exchange.channel.dataReceived(data)
            self.requests.append(request)
            connection.sendall(exchange.transport.value())

        serve(self, self.socket, answer)
        return daemon

    def answer_with(self, data: bytes) -> None:
        """Something else that answers there."""

        def answer(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(data)

        serve(self, self.socket, answer)

    def run_command(self, *arguments: str) -> Result:
        """Run connectctl with the configuration."""
        return self.runner.invoke(connectctl, ["--config", str(self.configuration), *arguments])

    def succeed(self, *arguments: str) -> str:
        """What a command prints that succeeds."""
        result = self.run_command(*arguments)
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        return result.stdout

    def refused(self, *arguments: str, status: int = 1) -> str:
        """The one line on standard error of a command that fails."""
        result = self.run_command(*arguments)
        self.assertEqual((result.exit_code, result.stdout), (status, ""), result.output)
        [line] = result.stderr.splitlines()
        self.assertTrue(line.startswith("connectctl: "), line)
        return line.removeprefix("connectctl: ")
