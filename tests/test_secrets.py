"""COM-9: secrets are planted in a whole daemon, and then looked for in everything that it lets out."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from twisted.trial.unittest import SynchronousTestCase

from connectd.cli.admin_client import AdminClient, AdminError
from connectd.config import load
from connectd.credentials import Password, make_checker
from connectd.directory import ARGON2ID, SEALED_PASSWORD, SEALED_SHA256, Database, KeyFile, create_key
from connectd.directory.service import DirectoryService
from connectd.directory.settings import DirectorySettings
from tests import toy, toy_protocol, toy_wing
from tests.ops.composed import folder
from tests.processes import LIMIT, Started

PASSWORD = "xyzzy-plugh-right"
NEW_PASSWORD = "xyzzy-plugh-changed"
GUESS = "xyzzy-plugh-guess"
IN_THE_CONFIGURATION = "xyzzy-plugh-memory"

PLUGIN = """\
from connectd.plugins import ProtocolLine

toy = ProtocolLine("toy", "tests.toy_wing")
"""

CONFIGURATION = """\
[daemon]
events = "state/events.jsonl"
log = "{log}"
admin = "unix:state/admin.sock"
status = "tcp:0:interface=127.0.0.1"
[[listener]]
protocol = "toy"
listen = "tcp:0:interface=127.0.0.1"
idle_timeout = 60
[[listener]]
protocol = "toy"
listen = "tcp:0:interface=127.0.0.1"
auth = ["memory:carl:{memory}"]
"""


def forms(secret: bytes) -> set[bytes]:
    """What a secret looks like when somebody prints it one way or another; ends are cut off where they depend on what
    stands beside it."""
    found = {secret, repr(secret)[2:-1].encode(), quote(secret).encode()}
    found |= {secret.hex().encode(), secret.hex().upper().encode(), secret.hex(":").encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # Wherever it begins within a longer text.
        found |= {encode(bytes(shift) + secret)[-(-shift * 8 // 6) : -4] for shift in range(3)}
    found.add(json.dumps(secret.decode("latin-1"))[1:-1].encode())
    return found


class Plant(SynchronousTestCase):
    """Secrets, and where they were looked for."""

    def setUp(self) -> None:
        self.folder = folder(self)
        self.state = self.folder / "state"
        self.state.mkdir(0o700)
        self.path = str(self.state / "connectd.db")
        self.key = create_key(str(self.state / "directory.key"))
        self.secrets: dict[str, bytes] = {
            "the password": PASSWORD.encode(),
            "the changed password": NEW_PASSWORD.encode(),
            "a wrong guess": GUESS.encode(),
            "the password in auth": IN_THE_CONFIGURATION.encode(),
            "the key": Path(self.key.path).read_bytes(),
            "the password's SHA-256": hashlib.sha256(PASSWORD.encode()).digest(),
        }
        with self.open() as database:
            account = database.accounts.add(
                "Ann", PASSWORD, schemes=[ARGON2ID, SEALED_SHA256, SEALED_PASSWORD], by="admin"
            )
        self.plant_verifiers("first", account)
        self.searched: dict[str, bytes] = {}

    def open(self) -> Database:
        return Database.open(self.path, keys=self.key)

    def plant_verifiers(self, which: str, account: Any) -> None:
        """Keep in mind what is stored of an account's password."""
        for scheme, verifier in account.verifiers.items():
            data = verifier.data
            # Of an argon2id text, the hash at its end; parameters may be told.
            secret = data.rpartition("$")[2].encode() if isinstance(data, str) else data[12:]
            self.secrets[f"the {which} {scheme} verifier"] = secret

    def search(self) -> None:
        """None of the secrets is in anything that was collected."""
        found = [
            f"{name} is in {place}"
            for name, secret in self.secrets.items()
            for place, content in self.searched.items()
            if any(form in content for form in forms(secret))
        ]
        self.assertEqual(found, [])


class FormTests(SynchronousTestCase):
    """The search finds what it looks for."""

    def test_found(self) -> None:
        secret = os.urandom(20) + b"\"'\\\n\xff"
        for printed in (
            secret,
            f"<{secret!r}>".encode(),
            secret.hex().encode(),
            base64.b64encode(b"before:" + secret + b":behind"),
            base64.urlsafe_b64encode(b"x" + secret),
            base64.b64encode(b"xy" + secret),
            json.dumps({"secret": secret.decode("latin-1")}).encode(),
        ):
            self.assertTrue(any(form in printed for form in forms(secret)), printed)


class ProcessTests(Plant):
    """A daemon as an operator runs it, with accounts that are used in every way."""

    def setUp(self) -> None:
        super().setUp()
        plugins = self.folder / "path" / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "toy_plugins.py").write_text(PLUGIN)
        self.patch(os, "environ", {**os.environ, "PYTHONPATH": str(self.folder / "path")})

    def start(self, log: str) -> Started:
        (self.folder / "connectd.toml").write_text(CONFIGURATION.format(log=log, memory=IN_THE_CONFIGURATION))
        return Started(self, self.folder, "twistd", "-n", "--pidfile=", "connectd", "--config", "connectd.toml")

    def say(self, port: int, *lines: str) -> bytes:
        """What a client hears that says these lines, and leaves once it has had an answer."""
        with socket.create_connection(("127.0.0.1", port), LIMIT) as client:
            client.sendall("\n".join(lines).encode() + b"\n")
            heard = client.recv(4096)
            client.shutdown(socket.SHUT_WR)
            while data := client.recv(4096):
                heard += data
        return heard

    def collect(self, place: str, content: str | bytes) -> None:
        self.searched[place] = content.encode() if isinstance(content, str) else content

    def run_daemon(self, log: str) -> None:
        started = self.start(log)
        found = started.wait_for_line(
            r"toy on 127\.0\.0\.1:(\d+) is listening[^$]*toy on 127\.0\.0\.1:(\d+) is listening"
            r"[^$]*status is on 127\.0\.0\.1:(\d+)"
        )
        ours, theirs, status = (int(port) for port in found.groups())
        admin = AdminClient(f"unix:{self.state}/admin.sock")
        # Right and wrong, known and unknown, in the wrong field, in a line that is none, and never finished.
        self.assertTrue(self.say(ours, f"LOGIN ann {PASSWORD}", "hello").startswith(b"WELCOME Ann\n"))
        self.assertTrue(self.say(theirs, f"LOGIN carl {IN_THE_CONFIGURATION}").startswith(b"WELCOME carl\n"))
        for line in (
            f"LOGIN ann {GUESS}",
            f"LOGIN nobody {PASSWORD}",
            f"LOGIN {PASSWORD} ann",
            f"LOGIN {PASSWORD}",
            f"PASS {PASSWORD}",
            f"LOGIN ann {PASSWORD}\xff",
        ):
            self.assertTrue(self.say(ours, line).startswith(b"NO "), line)
        # Somebody stays, whose account is changed, looked at and banned.
        staying = socket.create_connection(("127.0.0.1", ours), LIMIT)
        self.addCleanup(staying.close)
        staying.sendall(f"LOGIN Ann {PASSWORD}\n".encode())
        self.assertEqual(staying.recv(4096), b"WELCOME Ann\n")
        for path in ("/status", "/sessions"):
            self.collect(f"admin {path}", json.dumps(admin.get(path)))
        with self.open() as database:
            self.plant_verifiers("second", database.accounts.set_password("ann", NEW_PASSWORD, by="admin"))
            database.bans.add("account", "ann", reason="a planted reason", by="admin")
        self.collect("admin /directory/refresh", json.dumps(admin.post("/directory/refresh", {})))
        self.assertEqual(staying.recv(4096), b"BYE This account is banned: a planted reason\n")
        self.assertIn(b"a planted reason", self.say(ours, f"LOGIN ann {NEW_PASSWORD}"))
        # A directory that breaks.
        os.rename(self.path, f"{self.path}.away")
        with self.assertRaises(AdminError) as caught:
            admin.post("/directory/refresh", {})
        self.collect("an error of the admin API", str(caught.exception))
        os.rename(f"{self.path}.away", self.path)
        for path in ("/", "/metrics", "/readyz"):
            with urlopen(f"http://127.0.0.1:{status}{path}", timeout=LIMIT) as response:
                self.collect(f"status {path}", response.read())
        self.collect("the command line", Path(f"/proc/{started.process.pid}/cmdline").read_bytes())
        started.process.send_signal(signal.SIGTERM)
        started.exit_status()
        for file in self.folder.rglob("*"):
            if file.is_file() and file.name not in ("connectd.toml", "directory.key") and file != Path(self.path):
                self.collect(f"the file {file.name}", file.read_bytes())
        self.control()
        self.search()

    def control(self) -> None:
        """What was collected is what was meant to be."""
        events = self.searched["the file events.jsonl"]
        for said in (
            b"accepted",
            b"refused",
            b"malformed",
            b"kicked",
            b"banned",
            b"audit",
            b"a planted reason",
            b"Ann",
        ):
            self.assertIn(said, events)
        self.assertIn(b"connectd_connections_ended_total", self.searched["status /metrics"])
        self.assertIn(b"Ann", self.searched["admin /sessions"])
        self.assertIn(b"connectd.toml", self.searched["the command line"])
        self.assertIn(b"all listeners are stopped", self.searched["the file stdout"])
        self.assertNotIn(b"Traceback", self.searched["the file stdout"] + self.searched["the file stderr"])

    def test_text_log(self) -> None:
        """COM-9: no log line, event, metric, answer or process list has any of it."""
        self.run_daemon("text")

    def test_json_log(self) -> None:
        """COM-9: nor has the log in JSON, which shows fields of events that the text leaves out."""
        self.run_daemon("json")

    def test_at_rest(self) -> None:
        """COM-9: the database has no password, and not the key that it is sealed with."""
        with self.open() as database:
            database.accounts.set_password("ann", NEW_PASSWORD, by="admin")
            stored = b"".join(file.read_bytes() for file in self.state.iterdir() if file.name != "directory.key")
        self.assertIn(b"$argon2id$", stored)
        for name in ("the password", "the changed password", "the key", "the password's SHA-256"):
            self.assertFalse(any(form in stored for form in forms(self.secrets[name])), name)

    def test_mistakes(self) -> None:
        """COM-9: what is wrong with a secret is told without it, before there is a daemon."""
        text = CONFIGURATION.format(log="text", memory=f"{IN_THE_CONFIGURATION}:odd")
        (self.folder / "connectd.toml").write_text(text)
        started = Started(self, self.folder, "twistd", "-n", "--pidfile=", "connectd", "--config", "connectd.toml")
        self.assertEqual(started.exit_status(), 1)
        self.assertIn('the checker "memory" does not take its argument', started.errors)
        self.collect("standard error", started.errors + started.output)
        self.search()


class ReprTests(Plant):
    """COM-9: whatever is printed while looking for a fault."""

    def test_objects(self) -> None:
        toy_protocol.install(self, toy_wing.ToyPlugin())
        (self.folder / "connectd.toml").write_text(CONFIGURATION.format(log="text", memory=IN_THE_CONFIGURATION))
        configuration = load(self.folder / "connectd.toml")
        with self.open() as database:
            account = database.accounts.get("ann")
            objects: list[Any] = [
                configuration,
                *configuration.listeners,
                account,
                *account.verifiers.values(),
                database,
                database.seals,
                database.seals.ring(),
                self.key,
                KeyFile(self.key.path).load(),
                DirectorySettings(key_file=self.key.path),
                DirectoryService(self.path, keys=self.key),
                Password(PASSWORD.encode(), PASSWORD.encode()),
                toy.LoginRequested("ann", PASSWORD.encode()),
                make_checker("toy", toy.ToyListener.credential_interfaces, f"memory:carl:{IN_THE_CONFIGURATION}"),
                *database.audit.list(),
            ]
        for number, value in enumerate(objects):
            self.searched[f"{number} {type(value).__name__}"] = f"{value!r} {value} {value:}".encode()
        self.assertGreater(len(self.searched), 15)
        self.search()
