"""One daemon on the default reactor that serves all protocols at once, under load."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from connectd import registry
from connectd.protocols.chatr.identity import generate, save
from tests.processes import LIMIT, ROOT, Started

reactor: Any = installed_reactor

PASSWORD = "swordfish"
TIMES = 10
"""How often each client connects, goes through everything, and leaves."""


class AllProtocolsTests(TestCase):
    """The configuration of ``connectctl init``, on free ports and without limits on one source."""

    timeout = 300

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="connectd-test-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.connectctl("init", ".")
        path = self.folder / "connectd.toml"
        text = re.sub(r'"(tcp|udp):\d+:', r'"\1:0:', path.read_text())
        text = text.replace("[daemon]\n", '[daemon]\nevents = "events.jsonl"\nstatus = ""\n')
        text = text.replace("[admission]\n", "[admission]\nconnections_per_source = 0\nconnection_rate = 0\n")
        path.write_text(re.sub(r'\[\[listener\]\]\nprotocol = "chatr"\n', r"\g<0>registration_rate = 0\n", text))
        self.connectctl("account", "add", "ann", "--password-stdin", standard_input=PASSWORD)
        self.daemon = Started(self, self.folder, "twistd", "-n", "--pidfile=", "connectd", "--config", "connectd.toml")
        self.daemon.wait_for_line("connectd .* is ready")

    def connectctl(self, *arguments: str, standard_input: str | None = None) -> None:
        done = subprocess.run(
            [sys.executable, "-c", "from connectd.cli.main import main; main()", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            input=standard_input,
            capture_output=True,
            text=True,
            timeout=2 * LIMIT,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def port(self, pattern: str, number: int = 0) -> int:
        return int(re.findall(rf"{pattern}:(\d+)", self.daemon.output)[number])

    def urls(self) -> Iterator[tuple[str, bytes | None]]:
        """The clients: a URL for each, and the password that it gives."""
        password = PASSWORD.encode()
        for _ in range(4):
            yield f"lekt://127.0.0.1:{self.port('lekt on 127.0.0.1')}", None
        for number, generation in enumerate(("seed", "angry-koala", "furious-koala", "enraged-koala", "1.4", "opensb")):
            port = self.port("starbound on 127.0.0.1", number)
            yield f"starbound://ann@127.0.0.1:{port}?generation={generation}", password
        for _ in range(3):
            yield f"fmltp://ann@127.0.0.1:{self.port('fmltp on 127.0.0.1')}", password
        for number in range(4):
            authority = self.folder / "state" / "alloy.pem"
            url = f"alloy://player{number}@127.0.0.1:{self.port('alloy on 127.0.0.1')}?authority={authority}"
            yield url, b"demonstration"
        certificate = self.folder / "state" / "chatr.pem"
        for number in range(3):
            identity = self.folder / f"identity{number}.pem"
            save(generate(2048), str(identity))
            registry_url = f"http://127.0.0.1:{self.port('chatr on .* is listening at 127.0.0.1')}"
            self.connectctl("chatr", "register", "--identity", str(identity), "--registry", registry_url)
            port = self.port("chatr on 127.0.0.1")
            yield f"chatr://127.0.0.1:{port}?identity={identity}&certificate={certificate}", None

    async def client(self, url: str, password: bytes | None) -> None:
        """Connect again and again."""
        protocol = registry.protocol(url.partition(":")[0])
        options = {} if password is None else {"password": password}
        for _ in range(TIMES):
            await protocol.probe(url, lambda step, detail: None, reactor, **options)

    async def test_all_at_once(self) -> None:
        """All clients of all protocols at the same time: each gets through, each time."""
        clients = list(self.urls())
        self.assertEqual({url.partition(":")[0] for url, _ in clients}, set(registry.protocol_names()))
        working = [Deferred.fromCoroutine(self.client(url, password)) for url, password in clients]
        await gatherResults(working, consumeErrors=True)
        self.daemon.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.daemon.exit_status(), -signal.SIGTERM)
        self.assertNotIn("Traceback", self.daemon.output + self.daemon.errors)
        events = [json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines()]
        expected = Counter(url.partition(":")[0] for url, _ in clients for _ in range(TIMES))
        accepted = Counter(event["protocol"] for event in events if event["event"] == "accepted")
        self.assertEqual(accepted, expected)
        ended = Counter(event["protocol"] for event in events if event.get("outcome") == "left")
        self.assertEqual(ended, expected)
