"""Starbound in whole daemons, with real sockets and real commands."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

from connectd.directory import SEALED_PASSWORD, SEALED_SHA256, Database
from connectd.protocols.starbound.generations import GENERATIONS
from tests.processes import LIMIT, ROOT, Started
from tests.protocols.starbound.scene import CLIENT_FIRST
from tests.test_processes import ProcessCase

MAIN = "from connectd.cli.main import main; main()"
PASSWORD = "sw\N{LATIN SMALL LETTER O WITH DIAERESIS}rdfish"


class StarboundProcessCase(ProcessCase):
    def connectctl(self, *arguments: str, password: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        return subprocess.run(
            [sys.executable, "-c", MAIN, *arguments],
            cwd=self.folder,
            input=None if password is None else f"{password}\n",
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=2 * LIMIT,
            check=False,
        )

    def probe(self, url: str, password: str | None = None) -> subprocess.CompletedProcess[str]:
        """Probe a server; with a password there is a pipe for it."""
        return self.connectctl("probe", url, *(["--password-stdin"] if password is not None else []), password=password)

    def ports(self, started: Started, count: int) -> list[int]:
        """Where its listeners are, in the order of the configuration."""
        pattern = r"starbound on 127\.0\.0\.1:(\d+) is listening"
        started.wait_for_line(rf"(?s)(?:{pattern}.*?){{{count}}}")
        return [int(port) for port in re.findall(pattern, started.output)]


class DemonstrationTests(StarboundProcessCase):
    """What ``make run`` starts: one listener for each generation."""

    def setUp(self) -> None:
        super().setUp()
        made = self.connectctl("init", ".")
        self.assertEqual((made.returncode, made.stderr), (0, ""))
        path = self.folder / "connectd.toml"
        text = path.read_text()
        for port, generation in enumerate(GENERATIONS, 21025):
            self.assertRegex(
                text, rf'listen = "tcp:{port}:interface=127\.0\.0\.1"(\n|.)*?generation = "{re.escape(generation)}"'
            )
        # The same, where nobody else listens.
        text = re.sub(r'"(tcp|udp):\d+:interface=127\.0\.0\.1"', r'"\1:0:interface=127.0.0.1"', text)
        text = text.replace("[daemon]\n", '[daemon]\nstatus = "tcp:0:interface=127.0.0.1"\n')
        path.write_text(text)
        added = self.connectctl("account", "add", "ann", "--password-stdin", password=PASSWORD)
        self.assertEqual((added.returncode, added.stderr), (0, ""))
        self.added = added.stdout

    def test_account(self) -> None:
        """SB-7, SB-20: an account that this configuration serves is kept in the forms that its generations need."""
        self.assertIn("sealed-sha256", self.added)
        self.assertIn("the password can be got back from sealed-password", self.added)
        with Database.open(str(self.folder / "state" / "connectd.db"), create=False) as database:
            self.assertLessEqual({SEALED_SHA256, SEALED_PASSWORD}, set(database.accounts.get("ann").verifiers))

    def test_probes(self) -> None:
        """connectctl probe logs in to each of them, tells each packet with its time, and hears clearly why not."""
        started = self.start("twistd", "-n", "--pidfile=", "connectd", "--config", "connectd.toml")
        ports = dict(zip(GENERATIONS, self.ports(started, len(GENERATIONS)), strict=True))
        for generation, port in ports.items():
            url = f"starbound://ann@127.0.0.1:{port}?generation={generation}"
            done = self.probe(url, PASSWORD)
            self.assertEqual((done.returncode, done.stderr), (0, ""), generation)
            steps = [line.split(" ms  ")[1].split(":")[0] for line in done.stdout.splitlines()]
            if generation in CLIENT_FIRST:
                packets = "ProtocolRequest ProtocolResponse ClientConnect HandshakeChallenge HandshakeResponse"
                packets += " ConnectSuccess"
            else:
                packets = "ProtocolVersion ClientConnect HandshakeChallenge HandshakeResponse ConnectionResponse"
            expected = ["connect", *packets.split(), "accepted", "closed", "the whole process went well"]
            self.assertEqual(steps, expected)
            times = [float(line.split(" ms")[0]) for line in done.stdout.splitlines()]
            self.assertEqual(times, sorted(times))
            self.assertIn(f"as client 1, generation {generation}", done.stdout)
            self.assertNotIn(PASSWORD, done.stdout)
        for generation in ("seed", "opensb"):
            url = f"starbound://{{}}127.0.0.1:{ports[generation]}?generation={generation}"
            for account, password, said in (
                ("ann@", "wrong", "No such account"),
                ("nobody@", PASSWORD, "No such account"),
                (
                    "",
                    None,
                    "This server requires an account" if generation == "seed" else "Anonymous connections disallowed",
                ),
            ):
                done = self.probe(url.format(account), password)
                self.assertEqual(done.returncode, 1)
                self.assertIn(f"the server refuses: {said}", done.stderr)
        banned = self.connectctl("ban", "add", "account", "ann", "--reason", "spam")
        self.assertEqual(banned.returncode, 0, banned.stderr)
        for generation in ("seed", "1.4"):
            done = self.probe(f"starbound://ann@127.0.0.1:{ports[generation]}?generation={generation}", PASSWORD)
            self.assertIn("the server refuses: You are banned: spam", done.stderr)
        found = self.probe(f"starbound://ann@127.0.0.1:{ports['seed']}?generation=auto", PASSWORD)
        self.assertIn("ProtocolVersion", found.stdout)
        started.process.send_signal(signal.SIGTERM)
        started.exit_status()
        self.assertNotIn("Traceback", started.output + started.errors)
        self.assertNotIn(PASSWORD, started.output + started.errors)


class CommandTests(StarboundProcessCase):
    """One listener from the command line, and the wing's own commands."""

    def test_twistd_starbound(self) -> None:
        """``twistd -n starbound``: anonymous players of several generations need no directory."""
        started = self.start(
            "twistd", "-n", "--pidfile=", "starbound", "--listen", "tcp:0:interface=127.0.0.1",
            "--generation", "seed,1.4,opensb", "--anonymous", "yes",
        )  # fmt: skip
        (port,) = self.ports(started, 1)
        for generation in ("seed", "1.4", "opensb"):
            done = self.probe(f"starbound://127.0.0.1:{port}?generation={generation}")
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_kicked(self) -> None:
        """SB-9: a ban ends the sessions of its account at once; a client that watches hears why."""
        (self.folder / "connectd.toml").write_text(
            '[daemon]\nstatus = ""\n'
            '[[listener]]\nprotocol = "starbound"\nlisten = "tcp:0:interface=127.0.0.1"\ngeneration = "1.4"\n'
        )
        (self.folder / "state").mkdir(0o700)
        self.assertEqual(self.connectctl("key", "create").returncode, 0)
        self.assertEqual(self.connectctl("account", "add", "ann", "--password-stdin", password=PASSWORD).returncode, 0)
        started = self.start("twistd", "-n", "--pidfile=", "connectd", "--config", "connectd.toml")
        (port,) = self.ports(started, 1)
        output = self.folder / "watched"
        with output.open("wb") as lines:
            watching = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    MAIN,
                    "starbound",
                    "watch",
                    "--json",
                    "--password-stdin",
                    f"starbound://ann@127.0.0.1:{port}?generation=1.4",
                ],
                env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=lines,
            )
        self.addCleanup(watching.wait)
        self.addCleanup(watching.kill)
        assert watching.stdin is not None
        watching.stdin.write(PASSWORD.encode() + b"\n")
        watching.stdin.close()
        started.wait_for_line('"event": "accepted"', output)
        banned = self.connectctl("ban", "add", "account", "ANN", "--reason", "spam")
        self.assertEqual((banned.returncode, "ended 1" in banned.stdout), (0, True), banned.stderr)
        started.wait_for_line('"event": "ended"', output)
        ended = json.loads(output.read_text().splitlines()[-1])
        self.assertIn("You are banned: spam", ended["reason"])

    def test_generations(self) -> None:
        listed = self.connectctl("starbound", "generations")
        self.assertEqual(listed.returncode, 0)
        self.assertEqual([line.split()[0] for line in listed.stdout.splitlines()[1:]], list(GENERATIONS))
        rows = json.loads(self.connectctl("starbound", "generations", "--json").stdout)
        self.assertEqual(rows[0], {"name": "seed", "version": 628, "first": "server"})

    def test_wrong_configuration(self) -> None:
        """One line for each mistake, and no traceback."""
        (self.folder / "connectd.toml").write_text(
            '[[listener]]\nprotocol = "starbound"\ngeneration = ["seed", "angry-koala"]\n'
            '[[listener]]\nprotocol = "starbound"\nlisten = "tcp:0"\ngeneration = "1.5"\nrounds = 99\n'
        )
        checked = self.connectctl("check")
        self.assertEqual(checked.returncode, 1)
        self.assertIn("generation: seed and angry-koala cannot share a listener", checked.stderr)
        self.assertIn('generation: "1.5" is not one of', checked.stderr)
        self.assertIn("rounds: 99 is out of range: 100 to 100000", checked.stderr)

    def test_password_file(self) -> None:
        """COM-9: a server's password from a file that others can read stops the start with one line."""
        secret = self.folder / "password"
        secret.write_text("open sesame\n")
        secret.chmod(0o644)
        arguments = ("--listen", "tcp:0:interface=127.0.0.1", "--anonymous", "yes", "--password-file", "password")
        started = self.start("twistd", "-n", "--pidfile=", "starbound", *arguments)
        self.assertEqual(started.exit_status(), 1)
        self.assertEqual(
            started.errors,
            f"connectd: starbound: password_file: {Path(self.folder).absolute()}/password is open to others, mode 0644 "
            f"(chmod 600 {Path(self.folder).absolute()}/password)\n",
        )
        secret.chmod(0o600)
        started = self.start("twistd", "-n", "--pidfile=", "starbound", *arguments)
        (port,) = self.ports(started, 1)
        done = self.probe(f"starbound://127.0.0.1:{port}", "open sesame")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        done = self.probe(f"starbound://127.0.0.1:{port}", "open barley")
        self.assertIn("No such account or incorrect password", done.stderr)
