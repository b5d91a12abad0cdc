"""A Chatr daemon as a process, for tests that come to it from outside."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from connectd.net.certificates import write_certificate
from tests.ops.composed import folder
from tests.processes import Started

CONFIGURATION = """
[daemon]
status = ""
[admission]
connection_rate = 0
[[listener]]
protocol = "chatr"
certificate = "chatr.pem"
listen = "tcp:{port}:interface={host}"
udp = "udp:{port}:interface={host}"
rest = "tcp:{rest}:interface={host}"
"""


class DaemonCase(SynchronousTestCase):
    """With a folder and a certificate for each test.

    :ivar host: where :meth:`serve` put the daemon.
    :ivar port: of its Connect server, on TCP and on UDP.
    :ivar registry: the URL of its REST face: HTTPS unless on loopback.
    :ivar certificate: the path of its certificate, with its key.
    """

    host: str
    port: int
    registry: str

    def setUp(self) -> None:
        self.folder = folder(self)
        self.certificate = str(self.folder / "chatr.pem")
        write_certificate(self.certificate)

    def serve(self, host: str = "127.0.0.1", port: int = 0, rest: int = 0, prefix: tuple[str, ...] = ()) -> Started:
        """Start the daemon and wait until it listens.

        :param port: of TCP and UDP; 0: two that are free.
        :param rest: of the REST face.
        :param prefix: a command before it.
        """
        (self.folder / "connectd.toml").write_text(CONFIGURATION.format(host=host, port=port, rest=rest))
        daemon = Started(self, self.folder, "twistd", "-n", "connectd", "--config", "connectd.toml", prefix=prefix)
        self.host, at = host, re.escape(host)
        self.port = int(daemon.wait_for_line(rf"chatr on {at}:(\d+) is listening\n")[1])
        found = daemon.wait_for_line(rf"is listening at {at}:(\d+)")[1]
        self.registry = f"{'http' if host.startswith('127.') else 'https'}://{host}:{found}"
        return daemon
