"""Chatr with real processes: the commands, and secrets that stay inside."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr.identity import Identity, save
from connectd.protocols.chatr.registration import PATH, SIGNATURE_HEADER, encode_body
from tests.processes import LIMIT, ROOT, Started
from tests.protocols.chatr.scene import private_key, temporary_folder, write_pem
from tests.test_secrets import forms

CONNECTCTL = "from connectd.cli.main import main; main()"

CONFIGURATION = """\
[daemon]
events = "state/events.jsonl"
status = ""
admin = "unix:state/admin.sock"
[admission]
connection_rate = 0
connections_per_source = 0
[[listener]]
protocol = "chatr"
listen = "tcp:0:interface=127.0.0.1"
udp = "udp:0:interface=127.0.0.1"
rest = "tcp:{rest}:interface=127.0.0.1"
certificate = "state/chatr.pem"
registration_rate = 0
"""


class ProcessCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(temporary_folder(self))
        (self.folder / "state").mkdir(0o700)
        self.certificate = write_pem(str(self.folder / "state"))
        self.configure(0)

    def configure(self, rest: int) -> None:
        (self.folder / "connectd.toml").write_text(CONFIGURATION.format(rest=rest))

    def start(self) -> Started:
        started = Started(self, self.folder, "twistd", "-n", "--pidfile=", "connectd", "--config", "connectd.toml")
        started.wait_for_line("is ready")
        return started

    def ports(self, started: Started) -> tuple[int, int]:
        """Those of the Connect server and of the REST face."""
        connect = started.wait_for_line(r"chatr on 127\.0\.0\.1:(\d+) is listening\n")
        rest = started.wait_for_line(r"is listening at 127\.0\.0\.1:(\d+)")
        return int(connect[1]), int(rest[1])

    def control(self, *arguments: str, status: int = 0, stdin: str = "") -> str:
        """What connectctl prints."""
        done = subprocess.run(
            [sys.executable, "-c", CONNECTCTL, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=4 * LIMIT,
            check=False,
        )
        self.assertEqual(done.returncode, status, f"{done.stdout}{done.stderr}")
        return done.stdout + done.stderr


def register(port: int, one: Identity) -> int | None:
    """The status of a registration, or None where the server went away before it answered."""
    body = encode_body(one.key, one.uuid)
    headers = {SIGNATURE_HEADER: base64.b64encode(one.sign(body)).decode()}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request("PUT", PATH + str(one.uuid), body, headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class CommandTests(ProcessCase):
    def test_commands(self) -> None:
        """Register, show, replace the key, probe."""
        started = self.start()
        connect, rest = self.ports(started)
        places = ["--registry", f"http://127.0.0.1:{rest}"]
        self.assertIn(
            "registered", self.control("chatr", "register", "--identity", "bob.pem", "--bits", "2048", *places)
        )
        self.assertEqual(os.stat(self.folder / "bob.pem").st_mode & 0o777, 0o600)
        self.assertIn("was registered already", self.control("chatr", "register", "--identity", "bob.pem", *places))
        facts = json.loads(self.control("chatr", "show", "--json", "--identity", "bob.pem", *places))
        self.assertTrue(facts["registered"])
        probe = f"chatr://127.0.0.1:{connect}?identity=bob.pem&certificate=state/chatr.pem"
        trace = self.control("probe", probe)
        for step in ("connect:", "TLS: TLSv1.3", "Connect:", "Connected: accepted", "closed:", "went well"):
            self.assertIn(step, trace)
        self.assertIn("has a new key", self.control("chatr", "register", "--replace", "--identity", "bob.pem", *places))
        self.control("probe", probe)
        unpinned = self.control("probe", f"chatr://127.0.0.1:{connect}?identity=bob.pem", status=1)
        self.assertIn(
            "the server's certificate is refused: it is self-signed and not pinned; certificate=FILE pins it", unpinned
        )
        self.assertIn("no such identity file", self.control("chatr", "show", "--identity", "no.pem", status=1))


class SecretTests(ProcessCase):
    def test_secrets(self) -> None:
        """COM-9: a signature of version 1 is as good as the key for ever: no log line, event or answer has it, nor any
        of the keys."""
        started = self.start()
        connect, rest = self.ports(started)
        one = Identity(uuid4(), private_key())
        save(one, str(self.folder / "one.pem"))
        self.assertEqual(register(rest, one), 200)
        stranger = Identity(one.uuid, private_key(1))
        save(stranger, str(self.folder / "stranger.pem"))
        query = "certificate=state/chatr.pem"
        said = self.control("probe", f"chatr://127.0.0.1:{connect}?identity=one.pem&{query}")
        said += self.control("probe", f"chatr://127.0.0.1:{connect}?identity=stranger.pem&{query}", status=1)
        self.assertIn("refused: Failed to verify!", said)
        started.process.send_signal(signal.SIGTERM)
        started.exit_status()
        events = (self.folder / "state" / "events.jsonl").read_bytes()
        for word in (b"accepted", b"refused", b"request", str(one.uuid).encode()):
            self.assertIn(word, events)
        searched = said.encode() + events + started.output.encode() + started.errors.encode()
        secrets: dict[str, Any] = {
            "the signature": one.signature,
            "the wrong signature": stranger.signature,
            "the body's signature": one.sign(encode_body(one.key, one.uuid)),
            "the private key": one.private.private_numbers().d.to_bytes(256, "big"),
        }
        for name, secret in secrets.items():
            for form in forms(secret):
                self.assertNotIn(form, searched, name)
        for value in (one, one.private, stranger):
            self.assertNotIn(str(one.private.private_numbers().d), repr(value))
