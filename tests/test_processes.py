"""The daemon as the processes that an operator runs."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import stat
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from connectd.cli.admin_client import AdminClient
from tests.ops.composed import folder
from tests.processes import LEKT, ROOT, Daemonized, LektClient, Started, wait_for

GOODBYE = b"LEKTR\0\0\0Server is shutting down\0"
"""What LEKT clients are told at the end (COM-8)."""


class ProcessCase(SynchronousTestCase):
    """With a folder for each test, in whose path Unix sockets have room."""

    def setUp(self) -> None:
        self.folder = folder(self)

    def start(self, runner: str, *arguments: str, prefix: tuple[str, ...] = ()) -> Started:
        """A process in the folder."""
        return Started(self, self.folder, runner, *arguments, prefix=prefix)

    def configure(self, daemon: str = "", listener: str = "") -> str:
        """The path of a configuration with one LEKT listener."""
        path = self.folder / "connectd.toml"
        path.write_text(
            f'[daemon]\nstatus = ""\n{daemon}\n[[listener]]\nprotocol = "lekt"\nlisten = "{LEKT}"\n{listener}\n'
        )
        return str(path)

    def daemon(self) -> Daemonized:
        """The daemon that wrote its number into twistd.pid."""
        return Daemonized(self, self.folder / "twistd.pid")


class ForegroundTests(ProcessCase):
    """twistd -n and twist"""

    def serve(self, started: Started) -> None:
        """It lets a client in and, asked to end, tells it so."""
        client = LektClient(self, started.port())
        client.join()
        started.wait_for_line(r"lekt accepted 127\.0\.0\.1:\d+ as session 1")
        started.process.send_signal(signal.SIGTERM)
        self.assertTrue(client.rest().startswith(GOODBYE))
        client.socket.close()
        # The runners end themselves by the signal that they were ended with.
        self.assertEqual(started.exit_status(), -signal.SIGTERM)
        self.assertRegex(started.output, r"lekt shutdown 127\.0\.0\.1:\d+: Server is shutting down")
        self.assertNotIn("Traceback", started.output + started.errors)

    def test_twistd(self) -> None:
        """COM-8: twistd -n lekt"""
        self.serve(self.start("twistd", "-n", "lekt", "--listen", LEKT))

    def test_twist(self) -> None:
        """twist lekt"""
        self.serve(self.start("twist", "--log-format=text", "lekt", "--listen", LEKT))

    def test_configuration(self) -> None:
        """twistd -n connectd --config, with everything on, in JSON."""
        admin, events = self.folder / "state" / "admin.sock", self.folder / "state" / "events.jsonl"
        path = self.configure('log = "json"\nevents = "state/events.jsonl"')
        started = self.start("twistd", "-n", "connectd", "--config", path)
        port = started.port()
        client = LektClient(self, port)
        client.join()
        state = AdminClient(f"unix:{admin}").get("/status")
        self.assertEqual((state["state"], state["sessions"]), ("ready", 1))
        self.assertEqual(state["listeners"][0]["addresses"], [f"127.0.0.1:{port}"])
        AdminClient(f"unix:{admin}").post("/sessions/kick", {"id": 1, "reason": "enough"})
        self.assertTrue(client.rest().startswith(b"LEKTR\0\0\0enough\0"))
        client.socket.close()
        started.process.send_signal(signal.SIGTERM)
        started.exit_status()
        lines = [json.loads(line) for line in started.output.splitlines()]
        self.assertTrue(any(line["text"] == "connectd 0.1.0 is ready" for line in lines), lines)
        self.assertTrue(all({"time", "level", "namespace", "text"} <= set(line) for line in lines))
        outcomes = [json.loads(line).get("outcome") for line in events.read_text().splitlines()]
        self.assertEqual(outcomes, [None, "kicked"])
        self.assertFalse(admin.exists())

    def test_interrupted(self) -> None:
        """Ctrl-C ends it as well."""
        started = self.start("twistd", "-n", "lekt", "--listen", LEKT)
        started.port()
        started.process.send_signal(signal.SIGINT)
        self.assertEqual(started.exit_status(), -signal.SIGINT)
        self.assertIn("all listeners are stopped", started.output)

    def test_example(self) -> None:
        """The .tac of the documentation runs, with its own handler."""
        text = (ROOT / "etc" / "connectd.tac").read_text()
        for place in ("tcp:7890:", "tcp:7891:", "tcp:8025:"):
            self.assertEqual(text.count(place), 1)
            text = text.replace(place, "tcp:0:")
        (self.folder / "connectd.tac").write_text(text)
        started = self.start("twistd", "-ny", "connectd.tac")
        held = LektClient(self, started.port())
        held.join()
        found = started.wait_for_line(
            r"lekt on 127\.0\.0\.1:\d+ is listening\n[^$]*lekt on 127\.0\.0\.1:(\d+) is listening"
        )
        kicked = LektClient(self, int(found[1]))
        kicked.join()
        self.assertTrue(kicked.rest().startswith(b"LEKTR\0\0\0Come back with a port\0"))
        kicked.socket.close()
        started.wait_for_line("somebody went: ")
        started.process.send_signal(signal.SIGTERM)
        self.assertTrue(held.rest().startswith(GOODBYE))
        held.socket.close()
        started.exit_status()
        self.assertNotIn("Traceback", started.output + started.errors)


class DaemonTests(ProcessCase):
    """twistd, gone to the background"""

    def test_daemonized(self) -> None:
        """COM-8: it works after the fork, and SIGTERM tells its clients and leaves nothing behind."""
        log = self.folder / "lekt.log"
        arguments = ("--pidfile", "twistd.pid", "--logfile", log.name, "lekt", "--listen", LEKT)
        started = self.start("twistd", *arguments, "--admin", "unix:admin.sock", "--events", "events.jsonl")
        self.assertEqual(started.exit_status(), 0, started.errors)
        daemon = self.daemon()
        client = LektClient(self, started.port(log))
        client.join()
        self.assertEqual(AdminClient(f"unix:{self.folder}/admin.sock").get("/status")["pid"], daemon.pid)
        os.kill(daemon.pid, signal.SIGTERM)
        self.assertTrue(client.rest().startswith(GOODBYE))
        client.socket.close()
        wait_for("its end", lambda: not daemon.is_running())
        self.assertEqual(
            sorted(path.name for path in self.folder.iterdir()), ["events.jsonl", "lekt.log", "stderr", "stdout"]
        )
        events = [json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines()]
        self.assertEqual([event.get("outcome") for event in events], [None, "shutdown"])
        self.assertNotIn("Traceback", log.read_text())
        self.assertEqual(started.output + started.errors, "")

    def test_json_log(self) -> None:
        """log = "json" goes to the file that twistd would log to by itself."""
        started = self.start("twistd", "connectd", "-c", self.configure('log = "json"\nadmin = ""'))
        self.assertEqual(started.exit_status(), 0, started.errors)
        daemon, log = self.daemon(), self.folder / "twistd.log"
        started.port(log)
        daemon.terminate()
        texts = [json.loads(line)["text"] for line in log.read_text().splitlines()]
        self.assertIn("all listeners are stopped", texts)

    def test_other_user(self) -> None:
        """With --uid, what the daemon makes is that user's: it can go on, rotate its files and clean up."""
        if os.geteuid() != 0:
            raise SkipTest("only root can start a daemon for another user")
        user = pwd.getpwnam("nobody")
        self.folder.chmod(0o755)
        path = self.configure('events = "state/events.jsonl"')
        runner = ("--uid", user.pw_name, "--pidfile", "twistd.pid", "--logfile", "state.log")
        started = self.start("twistd", *runner, "connectd", "--config", path)
        self.assertEqual(started.exit_status(), 0, started.errors)
        daemon = self.daemon()
        client = LektClient(self, started.port(self.folder / "state.log"))
        client.join()
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        self.assertIn(f"\nUid:\t{user.pw_uid}\t{user.pw_uid}\t", status)
        state = self.folder / "state"
        names = ["admin.sock", "events.jsonl", "connectd.db", "connectd.db-wal", "connectd.db-shm"]
        for made in (state, self.folder / "state.log", *(state / name for name in names)):
            found = made.stat()
            self.assertEqual((found.st_uid, found.st_gid), (user.pw_uid, user.pw_gid), made)
        self.assertEqual(stat.S_IMODE(state.stat().st_mode), 0o700)
        self.assertEqual(stat.S_IMODE((state / "admin.sock").stat().st_mode), 0o600)
        client.socket.close()
        daemon.terminate()
        self.assertEqual(sorted(entry.name for entry in state.iterdir()), ["connectd.db", "events.jsonl"])


class InheritedTests(ProcessCase):
    """Sockets that systemd passes"""

    def activate(self, *arguments: str) -> tuple[Started, LektClient]:
        """The runner, started by the first connection to a socket that systemd-socket-activate made, and its client."""
        program = shutil.which("systemd-socket-activate")
        if program is None:
            raise SkipTest("there is no systemd-socket-activate")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        prefix = (program, f"--listen=127.0.0.1:{port}", "--fdname=lekt", "--setenv=PYTHONPATH")
        started = self.start("twistd", *arguments, prefix=prefix)

        def connect() -> LektClient | None:
            try:
                return LektClient(self, port)
            except ConnectionRefusedError:
                return None

        return started, wait_for("systemd-socket-activate listens", connect)

    def test_foreground(self) -> None:
        """The connection that started it is answered."""
        started, client = self.activate("-n", "lekt", "--listen", "systemd:name=lekt")
        client.join()
        started.process.send_signal(signal.SIGTERM)
        self.assertTrue(client.rest().startswith(GOODBYE))
        client.socket.close()
        started.exit_status()

    def test_daemonized(self) -> None:
        """The socket survives the fork, though the process has another number then."""
        started, client = self.activate("--pidfile=twistd.pid", "--logfile=log", "lekt", "--listen=systemd:name=lekt")
        client.join()
        self.assertEqual(started.exit_status(), 0, started.errors)
        daemon = self.daemon()
        os.kill(daemon.pid, signal.SIGTERM)
        self.assertTrue(client.rest().startswith(GOODBYE))
        client.socket.close()
        wait_for("its end", lambda: not daemon.is_running())


class MistakeTests(ProcessCase):
    """What a person got wrong is one line each, and status 1: before the fork as well as in the foreground."""

    def lines(self, *arguments: str, runner: str = "twistd") -> list[str]:
        """What is on standard error of a start that fails."""
        started = self.start(runner, *arguments)
        self.assertEqual(started.exit_status(), 1, started.output)
        self.assertEqual(started.output, "")
        lines = started.errors.splitlines()
        self.assertTrue(all(line.startswith("connectd: ") for line in lines), lines)
        self.assertFalse((self.folder / "twistd.pid").exists())
        return [line.removeprefix("connectd: ") for line in lines]

    def test_port_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for runner, *options in (["twistd", "-n"], ["twistd"], ["twist"]):
                arguments = (*options, "lekt", "--listen", f"tcp:{port}:interface=127.0.0.1")
                [line] = self.lines(*arguments, runner=runner)
                self.assertIn(f"port {port} is already in use", line)

    def test_configuration(self) -> None:
        """Each mistake is a line, and nothing else is said."""
        path = self.configure("drain_timout = 3", 'colour = "red"')
        lines = self.lines("connectd", "-c", path)
        self.assertEqual(len(lines), 2)
        self.assertIn('drain_timout: unknown key; did you mean "drain_timeout"?', lines[0])
        self.assertIn("colour: unknown key", lines[1])

    def test_unreadable_files(self) -> None:
        [line] = self.lines("-n", "connectd", "-c", "missing.toml")
        self.assertTrue(line.startswith("missing.toml: cannot be read: No such file or directory"), line)
        [line] = self.lines("-n", "connectd", "-c", str(self.folder))
        self.assertIn("cannot be read: Is a directory", line)
        [line] = self.lines("-n", "lekt", "--listen", LEKT, "--events", "none/events")
        self.assertIn("none/events: No such file or directory", line)

    def test_usage(self) -> None:
        """Unknown options are told by the runner, as it does for all its commands; wrong values are a line each."""
        started = self.start("twistd", "-n", "lekt", "--no-such")
        self.assertEqual(started.exit_status(), 1)
        self.assertIn("no-such not recognized", started.output)
        self.assertNotIn("Traceback", started.output + started.errors)
        [line] = self.lines("-n", "lekt", "--max-sessions=x")
        self.assertTrue(line.startswith("--max-sessions: "), line)
        [line] = self.lines("-n", "lekt", "--listen", "")
        self.assertTrue(line.startswith("--listen: is missing"), line)


class HelpTests(ProcessCase):
    """twistd --help"""

    def test_listing(self) -> None:
        """Our commands are there, and nothing heavy is imported for them."""
        started = self.start("twistd", "--help")
        self.assertEqual((started.exit_status(), started.errors), (0, ""))
        for command in ("connectd", "lekt"):
            self.assertRegex(started.output, rf"(?m)^    {command} ")

    def test_command(self) -> None:
        for runner in ("twistd", "twist"):
            started = self.start(runner, "lekt", "--help")
            self.assertEqual(started.exit_status(), 0)
            self.assertIn("--heartbeat-period=", started.output)
