"""connectctl status, and the client of the admin API under it."""

from __future__ import annotations

import json
import os
import socket

from connectd.cli import admin_client
from connectd.cli.admin_client import AdminClient, AdminError
from connectd.sansio import Outcome
from tests.cli.admin_server import AdminCase, serve
from tests.ops.composed import NOW, add_session


def http(body: bytes, status: str = "200 OK") -> bytes:
    """An HTTP answer."""
    return f"HTTP/1.1 {status}\r\nServer: connectd\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class StatusTests(AdminCase):
    """How the daemon is."""

    def setUp(self) -> None:
        super().setUp()
        self.daemon = self.start()
        self.daemon.started = NOW - 3600
        add_session(self.daemon, 1)
        stamp = {"protocol": "lekt", "peer": "x", "connection": 1}
        for outcome in (Outcome.LOST, Outcome.REFUSED, Outcome.REFUSED):
            self.daemon.context.events.connection_ended("lekt", stamp, outcome, "", None)

    def test_text(self) -> None:
        [listener] = self.daemon.listeners
        lines = self.succeed("status").splitlines()
        self.assertEqual(
            lines[0],
            f"connectd 0.1.0 is starting, up 1 h 0 min (process {os.getpid()}): sessions 1, connections 0",
        )
        self.assertEqual(lines[3].split(), ["lekt", listener.faces[0].address, "no", "0", "0"])
        self.assertEqual(lines[6].split(), ["lekt", "1", "0", "lost", "1,", "refused", "2"])
        self.assertNotIn("events could not be written", "".join(lines))

    def test_lost_events(self) -> None:
        self.patch(self.daemon, "lost_events", lambda: 7)
        self.assertIn("7 events could not be written; the log says why\n", self.succeed("status"))

    def test_json(self) -> None:
        """For scripts, the answer as it is."""
        state = json.loads(self.succeed("status", "--json"))
        self.assertEqual((state["state"], state["sessions"], state["uptime"]), ("starting", 1, 3600.0))

    def test_admin_option(self) -> None:
        """It stands in for a configuration."""
        self.configuration.unlink()
        self.assertIn("connectd", self.succeed("status", "--admin", f"unix:{self.socket}"))
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.assertIn("connectd", self.succeed("status", "--admin", "unix:admin.sock"))


class FailureTests(AdminCase):
    """Every way in which the daemon cannot be asked is one line that says what to do."""

    def test_not_running(self) -> None:
        """No socket, or one that was left behind."""
        expected = f"the daemon is not running: nobody answers on unix:{self.socket} (start it, or say where it is "
        self.assertTrue(self.refused("status").startswith(expected))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.socket))
        self.assertTrue(self.refused("status").startswith(expected))

    def test_permission(self) -> None:
        """Root may do everything, so the refusal of the system is put in its place."""

        def connect(connection: admin_client._UnixConnection) -> None:
            raise PermissionError(13, "Permission denied")

        self.patch(admin_client._UnixConnection, "connect", connect)
        self.assertIn("permission denied to unix:", self.refused("status"))

    def test_timeout(self) -> None:
        self.patch(admin_client, "TIMEOUT", 0.05)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.socket))
            listener.listen()
            with self.assertRaises(AdminError) as caught:
                AdminClient(f"unix:{self.socket}", 0.05).get("/status")
        self.assertEqual(
            caught.exception.format_message(), f"the daemon on unix:{self.socket} did not answer within 0.05 s"
        )

    def test_something_else_answers(self) -> None:
        for data in (
            b"SSH-2.0-x\r\n",
            http(b"<html>"),
            http(b"[" * 100_000),
            http(b"{}").replace(b"connectd", b"nginx"),
        ):
            with self.subTest(data=data[:20]):
                self.answer_with(data)
                self.assertEqual(self.refused("status"), f"what answers on unix:{self.socket} is not connectd")
                self.doCleanups()
                self.setUp()

    def test_cut_off(self) -> None:
        """Half an answer is none, even where it could be read."""
        self.answer_with(http(b"{}       ")[:-7])
        self.assertIn("its answer ended 7 bytes early", self.refused("status"))

    def test_closes_at_once(self) -> None:
        serve(self, self.socket, lambda connection: None)
        self.assertIn(str(self.socket), self.refused("status"))

    def test_error_of_the_daemon(self) -> None:
        """Its own words are told, and its status code is there for commands that look at it."""
        self.answer_with(http(b'{"error": "not \\u001b now"}', "409 Conflict"))
        self.assertEqual(self.refused("status"), "not \\x1b now")
        with self.assertRaises(AdminError) as caught:
            AdminClient(f"unix:{self.socket}").get("/status")
        self.assertEqual(caught.exception.status, 409)

    def test_error_without_words(self) -> None:
        for body in (b"[]", b"{}"):
            with self.subTest(body=body):
                self.answer_with(http(body, "500 Internal Server Error"))
                self.assertEqual(self.refused("status"), "the daemon answered with status 500")
                self.doCleanups()
                self.setUp()

    def test_no_admin_socket(self) -> None:
        self.configuration.write_text('[daemon]\nadmin = ""\n[[listener]]\nprotocol = "lekt"\n')
        self.assertIn("the daemon has no admin socket", self.refused("status"))

    def test_socket_without_a_path(self) -> None:
        """A socket of systemd has its path in the unit, which only the operator knows."""
        for place in ("systemd:name=admin", "tcp:80"):
            self.assertIn("write --admin unix:PATH", self.refused("status", "--admin", place))
        self.assertIn("--admin: cannot read endpoint", self.refused("status", "--admin", "nonsense"))

    def test_configuration_with_mistakes(self) -> None:
        self.configuration.write_text('x = 1\n[[listener]]\nprotocol = "lekt"\n')
        self.assertIn("x: unknown table", self.refused("status"))
