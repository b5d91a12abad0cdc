"""COM-9: secrets planted in a Starbound daemon, and looked for in all that it lets out."""

from __future__ import annotations

import base64
import hashlib
import json
import signal
from pathlib import Path

from connectd.cli.admin_client import AdminClient
from connectd.directory import SEALED_PASSWORD, SEALED_SHA256, Database, create_key
from connectd.protocols.starbound.client import StarboundDialogue, make_player
from connectd.protocols.starbound.events import ChallengeReceived, ConnectRequested, ResponseReceived
from connectd.protocols.starbound.packets import ClientConnect, HandshakeResponse
from connectd.protocols.starbound.proofs import RoundsProof, SaltedProof
from connectd.protocols.starbound.settings import StarboundClientSettings, StarboundSettings
from connectd.workers.slices import Slices
from tests.protocols.starbound.test_processes import StarboundProcessCase
from tests.test_secrets import forms

PASSWORD = "xyzzy-plugh-right"
GUESS = "xyzzy-plugh-guess"
SERVER = "xyzzy-plugh-server"

CONFIGURATION = f"""\
[daemon]
events = "state/events.jsonl"
log = "json"
status = ""
[[listener]]
protocol = "starbound"
listen = "tcp:0:interface=127.0.0.1"
generation = ["seed", "1.4", "opensb"]
anonymous = true
password = "{SERVER}"
"""


class SecretTests(StarboundProcessCase):
    def test_nowhere(self) -> None:
        """COM-9: right and wrong passwords, in the right and in the wrong field, and what is kept of them."""
        (self.folder / "connectd.toml").write_text(CONFIGURATION)
        state = self.folder / "state"
        state.mkdir(0o700)
        key = create_key(str(state / "directory.key"))
        with Database.open(str(state / "connectd.db"), keys=key) as database:
            database.accounts.add("ann", PASSWORD, schemes=[SEALED_SHA256, SEALED_PASSWORD], by="test")
        started = self.start("twistd", "-n", "--pidfile=", "connectd", "--config", "connectd.toml")
        (port,) = self.ports(started, 1)
        outputs = []
        for generation in ("seed", "1.4", "opensb"):
            url = f"starbound://{{}}127.0.0.1:{port}?generation={generation}"
            right = self.probe(url.format("ann@"), PASSWORD)
            self.assertEqual(right.returncode, 0, right.stderr)
            for account, password in (("ann@", GUESS), ("nobody@", PASSWORD), ("", GUESS), (f"{PASSWORD}@", "ann")):
                refused = self.probe(url.format(account), password)
                self.assertEqual(refused.returncode, 1)
                if account != f"{PASSWORD}@":  # what somebody wrote into a URL is shown to them
                    outputs.append(refused.stdout + refused.stderr)
            outputs.append(right.stdout)
        entered = self.probe(f"starbound://127.0.0.1:{port}?generation=seed", SERVER)
        self.assertEqual(entered.returncode, 0, entered.stderr)
        admin = AdminClient(f"unix:{state}/admin.sock")
        outputs += [json.dumps(admin.get(path)) for path in ("/status", "/sessions")]
        started.process.send_signal(signal.SIGTERM)
        started.exit_status()
        outputs += [started.output, started.errors, (state / "events.jsonl").read_text()]
        searched = "\n".join(outputs).encode() + (state / "connectd.db").read_bytes()
        self.assertIn(b"No such account", searched)
        self.assertIn(b"HandshakeResponse", searched)
        digest = hashlib.sha256(PASSWORD.encode()).digest()
        for secret in (PASSWORD.encode(), GUESS.encode(), SERVER.encode(), digest, Path(key.path).read_bytes()):
            self.assertFalse(any(form in searched for form in forms(secret)))

    def test_representations(self) -> None:
        """COM-9: nothing shows a secret that somebody prints while looking for a fault. What was given as account may be
        one: people confuse the fields."""
        slices = Slices(None)  # type: ignore[arg-type]  # never started
        response = hashlib.sha256(b"response").digest()
        shown = "".join(
            f"{value!r} {value}"
            for value in (
                RoundsProof(b"xyzzy", b"salt", 5000, response, slices),
                SaltedProof(b"xyzzy", b"salt", response),
                StarboundSettings(password="xyzzy"),
                StarboundDialogue(None, StarboundClientSettings(), make_player(StarboundClientSettings()), b"xyzzy"),
                ResponseReceived("seed", "xyzzy", b"salt", 5000, response),
                ChallengeReceived("seed", "xyzzy", b"salt", 5000),
                ConnectRequested("seed", ClientConnect(account="xyzzy")),
                HandshakeResponse(base64.b64encode(response)),
            )
        )
        self.assertNotIn("xyzzy", shown)
        self.assertFalse(any(form in shown.encode() for form in forms(response)))
