"""Logins by token and fetches of assets with real processes: the daemon, connectctl, and a stand-in for the session
services in this one."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from twisted.internet import reactor as installed_reactor
from twisted.internet.threads import deferToThread
from twisted.python.filepath import FilePath
from twisted.trial.unittest import TestCase

from connectd.net.certificates import make_certificate
from connectd.protocols.alloy.asset_store import AssetStore
from connectd.protocols.alloy.client import make_client, make_endpoint, parse_alloy_url
from connectd.protocols.alloy.fingerprint import fingerprint
from tests.processes import ROOT, Started, wait_for
from tests.protocols.alloy.lossy import LossyProxy
from tests.protocols.alloy.session_services import (
    CLIENT_SCOPE,
    ISSUER,
    SERVER_SCOPE,
    Profile,
    SessionServicesSite,
)

reactor: Any = installed_reactor
PLAYER, SERVER = UUID(int=1), UUID(int=2)
PASSWORD = "swordfish"

LOSSY_SIZE = int(os.environ.get("CONNECTD_TEST_LOSSY_BYTES", "10000000"))
"""Bytes of the asset that goes through a lossy network. 200,000,000 take a minute."""


class ProcessCase(TestCase):
    timeout = 600

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="connectd-"))
        self.addCleanup(FilePath(str(self.folder)).remove)
        self.stand_in = SessionServicesSite(reactor.seconds)
        self.player = self.stand_in.add(PLAYER, "Ann", CLIENT_SCOPE)
        self.host = self.stand_in.add(SERVER, "Host", SERVER_SCOPE)
        self.services = reactor.listenTCP(0, self.stand_in.site, interface="127.0.0.1")
        self.addCleanup(self.services.stopListening)
        self.url = f"http://127.0.0.1:{self.services.getHost().port}"
        self.write("server.pem", make_certificate(["localhost", "127.0.0.1"]))
        (self.folder / "assets").mkdir()
        self.outputs: list[str] = []

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    async def daemon(self, **changes: Any) -> Started:
        """A daemon with one Alloy listener; its port is `self.port`."""
        settings = {
            "protocol": "alloy",
            "listen": "udp:0:interface=127.0.0.1",
            "certificate": "server.pem",
            "password": PASSWORD,
            "assets": "assets",
            **changes,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        text = '[daemon]\nstatus = ""\nadmin = ""\nevents = "events.jsonl"\n[[listener]]\n' + "\n".join(lines) + "\n"
        file = self.write("connectd.toml", text.encode())
        started = Started(self, self.folder, "twistd", "-n", "connectd", "--config", str(file))
        found = await deferToThread(started.wait_for_line, r"alloy on 127\.0\.0\.1:(\d+) is listening")
        self.port = int(found[1])
        return started

    def with_tokens(self) -> dict[str, Any]:
        self.write("account.token", self.host.account_token.encode())
        return {
            "password": "",
            "services_url": self.url,
            "issuer": ISSUER,
            "profile": str(SERVER),
            "account_token_file": "account.token",
        }

    def control(self, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", "from connectd.cli.main import main; main()", *arguments],
            input=password,
            capture_output=True,
            text=True,
            timeout=300,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        self.outputs += [done.stdout, done.stderr]
        return done

    async def stopped(self, daemon: Started) -> None:
        """Let it end, and see that no secret is anywhere, nor a traceback."""
        daemon.process.send_signal(signal.SIGTERM)
        self.assertEqual(await deferToThread(daemon.exit_status), -signal.SIGTERM)
        events = (self.folder / "events.jsonl").read_text()
        everything = "\n".join([*self.outputs, daemon.output, daemon.errors, events])
        for secret in (
            PASSWORD,
            self.host.account_token,
            *self.stand_in.every_session,
            *self.stand_in.signer.signed,
            "PRIVATE KEY",
        ):
            self.assertNotIn(secret, everything)
        self.assertNotIn("Traceback", everything)


class ProbeTests(ProcessCase):
    """``connectctl probe alloy://…`` by token."""

    def player_url(self, profile: Profile, **more: str) -> str:
        session = self.stand_in.new_session(profile)
        query = {
            "services_url": self.url,
            "issuer": ISSUER,
            "session_token_file": str(self.write("session.token", session["sessionToken"].encode())),
            "identity_token_file": str(self.write("identity.token", session["identityToken"].encode())),
            **more,
        }
        return f"alloy://{profile.username}@127.0.0.1:{self.port}?" + "&".join(f"{k}={v}" for k, v in query.items())

    async def probe(self, url: str) -> tuple[int, dict[str, str], str]:
        done = await deferToThread(self.control, "--json", "probe", url)
        steps = [json.loads(line) for line in done.stdout.splitlines()]
        return done.returncode, {step["step"]: step["detail"] for step in steps if "step" in step}, done.stderr

    async def test_by_token(self) -> None:
        """AL-5, AL-6, AL-13, AL-16: without a client certificate and with one; the game session ends with the daemon."""
        certificate = make_certificate(["localhost"])
        shown = str(self.write("player.pem", certificate))
        daemon = await self.daemon(**self.with_tokens())
        for more in ({}, {"certificate": shown}):
            status, steps, errors = await self.probe(self.player_url(self.player, **more))
            self.assertEqual(status, 0, errors)
            order = [name for name in steps if name in ("HANDSHAKING", "AuthGrant", "ServerAuthToken", "PLAY", "world")]
            self.assertEqual(order, ["HANDSHAKING", "AuthGrant", "ServerAuthToken", "PLAY", "world"])
            self.assertIn(str(PLAYER), steps["HANDSHAKING"])
        fingerprints = [content.get("x509Fingerprint") for content in self.stand_in.contents("/server-join/auth-token")]
        self.assertEqual([print_ is None for print_ in fingerprints], [True, False, False, False])
        self.assertEqual({len(print_) for print_ in fingerprints if print_}, {43})
        sessions = set(self.stand_in.sessions)
        await self.stopped(daemon)
        self.assertEqual(len(sessions - set(self.stand_in.sessions)), 1)
        self.assertIn("DELETE /game-session", self.stand_in.calls)
        accepted = [json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines()]
        self.assertEqual([event["verified"] for event in accepted if event.get("event") == "accepted"], [True, True])

    async def test_stolen(self) -> None:
        """AL-6: an access token that belongs to somebody's certificate, shown with another one and with none."""
        daemon = await self.daemon(**self.with_tokens())
        self.stand_in.claims = {"cnf": {"x5t#S256": fingerprint(b"the owner's")}}
        thief = str(self.write("thief.pem", make_certificate(["localhost"])))
        for more, reason in (
            ({}, "none was shown"),
            ({"certificate": thief}, "another certificate than the one shown"),
        ):
            status, steps, errors = await self.probe(self.player_url(self.player, **more))
            self.assertEqual(status, 1)
            self.assertIn(reason, errors)
            self.assertNotIn("PLAY", steps)
        await self.stopped(daemon)

    async def test_renewed_certificate(self) -> None:
        """AL-11: a new file serves new connections; a session that stands goes on under the old one."""
        first = make_certificate(["localhost", "127.0.0.1"])
        self.write("server.pem", first)
        daemon = await self.daemon()
        server = parse_alloy_url(f"alloy://ben@127.0.0.1:{self.port}?trust=yes")
        standing = make_client(reactor, server, password=PASSWORD.encode())
        await standing.connect(make_endpoint(reactor, server))
        await standing.when_entered()
        self.write("server.new", make_certificate(["localhost", "127.0.0.1"])).rename(self.folder / "server.pem")
        await deferToThread(daemon.wait_for_line, r"the new certificate in \S+ serves from now on")
        self.write("old.pem", first)
        for name, status in (("old.pem", 1), ("server.pem", 0)):
            pin = (await deferToThread(self.control, "alloy", "pin", name)).stdout.strip()
            url = f"alloy://ann@127.0.0.1:{self.port}?pin={pin}"
            done = await deferToThread(self.control, "probe", "--password-stdin", url, password=PASSWORD)
            self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(standing.state.value, "PLAY")
        await standing.hang_up()
        await self.stopped(daemon)


class FetchTests(ProcessCase):
    """``connectctl alloy assets …``"""

    def put(self, name: str, content: bytes) -> str:
        path = self.folder / "assets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    async def assets(self, *arguments: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
        return await deferToThread(self.control, "alloy", "assets", *arguments, password=password)

    def fetch(self) -> tuple[str, ...]:
        return ("fetch", "--password-stdin", "--json", f"alloy://ann@127.0.0.1:{self.port}?trust=yes")

    async def test_killed(self) -> None:
        """AL-10: a fetch that is killed half-way keeps what came whole; the next asks for the rest only."""
        hashes = {self.put(f"{number:02}", os.urandom(3_000_000)) for number in range(12)}
        daemon = await self.daemon()
        store = AssetStore(str(self.folder / "assets-of-servers"))
        fetching = subprocess.Popen(
            [sys.executable, "-c", "from connectd.cli.main import main; main()", "alloy", "assets", *self.fetch()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.addCleanup(fetching.wait)
        self.addCleanup(fetching.kill)
        assert fetching.stdin is not None
        fetching.stdin.write(PASSWORD.encode())
        fetching.stdin.close()
        await deferToThread(wait_for, "three assets", lambda: len(list(store)) >= 3)
        fetching.kill()
        await deferToThread(fetching.wait)
        kept = {asset.hash for asset in store}
        self.assertTrue(3 <= len(kept) < 12, kept)
        for asset in store:
            self.assertTrue(store.verify(asset))
        again = await self.assets(*self.fetch())
        self.assertEqual(again.returncode, 0, again.stderr)
        *lines, result = [json.loads(line) for line in again.stdout.splitlines()]
        self.assertEqual({line["hash"] for line in lines}, hashes - kept)
        self.assertEqual(result, {"offered": 12, "fetched": 12 - len(kept), "bytes": 3_000_000 * (12 - len(kept))})
        unfinished = [path for path in Path(store.path).rglob("*") if path.name.startswith(".")]
        self.assertEqual(unfinished, [])
        verified = await self.assets("verify")
        self.assertEqual(
            (verified.returncode, verified.stdout), (0, "12 assets are what their names say, 0 were not\n")
        )
        await self.stopped(daemon)

    async def test_lossy(self) -> None:
        """AL-10: a large asset arrives whole through a network that loses 2 % of all packets."""
        block = os.urandom(1 << 20)
        digest, left = hashlib.sha256(), LOSSY_SIZE
        with (self.folder / "assets" / "large").open("wb") as file:
            while left:
                part = hashlib.sha256(b"%d" % left).digest() + block[32:]
                part = part[: min(left, len(part))]
                file.write(part)
                digest.update(part)
                left -= len(part)
        daemon = await self.daemon()
        proxy = LossyProxy(reactor, ("127.0.0.1", self.port), 0.02, disorder=0)
        self.addCleanup(proxy.stop)
        self.port = proxy.port
        began = time.monotonic()
        done = await self.assets(*self.fetch())
        print(f"{LOSSY_SIZE / 1e6:g} MB in {time.monotonic() - began:.1f} s, {proxy.lost} of {proxy.carried} lost")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(proxy.lost, proxy.carried // 100)
        [asset] = AssetStore(str(self.folder / "assets-of-servers"))
        self.assertEqual((asset.hash, asset.size), (digest.hexdigest(), LOSSY_SIZE))
        verified = await self.assets("verify", "--json")
        self.assertEqual(json.loads(verified.stdout), {"good": 1, "damaged": 0})
        await self.stopped(daemon)

    async def test_by_token(self) -> None:
        """AL-10, AL-16: no password is asked for where a token is shown."""
        wanted = self.put("a", b"content")
        daemon = await self.daemon(**self.with_tokens())
        session = self.stand_in.new_session(self.player)
        query = {
            "services_url": self.url,
            "issuer": ISSUER,
            "session_token_file": str(self.write("session.token", session["sessionToken"].encode())),
            "identity_token_file": str(self.write("identity.token", session["identityToken"].encode())),
        }
        url = f"alloy://Ann@127.0.0.1:{self.port}?" + "&".join(f"{key}={value}" for key, value in query.items())
        done = await self.assets("fetch", url, "--store", "elsewhere")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("1 assets are offered; 1 were fetched (7 B), 0 were here", done.stdout)
        listed = await self.assets("list", "--store", "elsewhere")
        self.assertEqual(listed.stdout.split()[0], wanted)
        await self.stopped(daemon)
