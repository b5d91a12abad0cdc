"""``twistd fmltp`` as a process with worker processes of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.ops.composed import folder
from tests.processes import Daemonized, Started, wait_for
from tests.protocols.fmltp.deployed import DeployedClient
from tests.workers.test_processes import is_running


def children_of(pid: int) -> list[int]:
    """The numbers of a process's children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class DaemonTests(SynchronousTestCase):
    """Groups that are computed in children"""

    def setUp(self) -> None:
        self.folder = folder(self)
        (self.folder / "accounts").write_text("ann:right\n")
        self.arguments = ("--listen=tcp:0:interface=127.0.0.1", "--auth=file:accounts", "--parameters=ffdhe3072")

    def talk(self, started: Started, log: Path | None = None) -> None:
        """A client's whole life."""
        found = started.wait_for_line(r"fmltp on 127\.0\.0\.1:(\d+) is listening", log)
        client = DeployedClient(int(found[1]))
        self.assertEqual(client.say("AUTH ann wrong"), "151 Authentication failed.\r\n")
        self.assertEqual(client.say("AUTH ann right"), "150 Authentication successful.\r\n")
        self.assertEqual(client.say("QUIT"), "200 Goodbye.\r\n")
        self.assertTrue(client.at_end())
        client.close()

    def children(self, pid: int) -> list[int]:
        """The daemon's one child, which says what it is to whoever looks."""
        children = children_of(pid)
        self.assertEqual(len(children), 1)
        command = Path(f"/proc/{children[0]}/cmdline").read_bytes().split(b"\0")
        self.assertEqual(command[1:4], [b"-P", b"-m", b"connectd.workers.child"])
        return children

    def test_foreground(self) -> None:
        """FM-11: accounts of a twisted.cred checker. SIGTERM leaves no child behind."""
        started = Started(self, self.folder, "twistd", "-n", "--pidfile=", "fmltp", *self.arguments)
        self.talk(started)
        (child,) = self.children(started.process.pid)
        started.process.send_signal(signal.SIGTERM)
        started.exit_status()
        wait_for("the end of the child", lambda: not is_running(child))
        self.assertIn("all listeners are stopped", started.output)
        self.assertNotIn("Traceback", started.output + started.errors)
        self.assertNotIn("worker process", started.output)

    def test_daemonized(self) -> None:
        """Children are started after the fork, and end with the daemon even where that is killed."""
        log = self.folder / "fmltp.log"
        arguments = ("--pidfile", "twistd.pid", "--logfile", log.name, "fmltp", *self.arguments)
        started = Started(self, self.folder, "twistd", *arguments)
        self.assertEqual(started.exit_status(), 0, started.errors)
        daemon = Daemonized(self, self.folder / "twistd.pid")
        self.talk(started, log)
        (child,) = self.children(daemon.pid)
        os.kill(daemon.pid, signal.SIGKILL)
        wait_for("the end of the child", lambda: not is_running(child))
