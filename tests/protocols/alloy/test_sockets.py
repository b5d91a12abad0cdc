"""Alloy over real UDP sockets on loopback: the listener and the client, in one process and in several."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from connectd.admission import Admission, AdmissionLimits
from connectd.events import Events
from connectd.net.listener import Context
from connectd.net.quic import ClientParameters, Identity, QuicClientEndpoint, Trust
from connectd.protocols.alloy import packets as alloy
from connectd.protocols.alloy.client import AlloyClient, make_endpoint, parse_alloy_url
from connectd.protocols.alloy.plugin import plugin
from connectd.protocols.alloy.server import AlloyListener
from connectd.testing import RecordingHandler
from connectd.testing.recording import Recorder
from tests.ops.composed import folder
from tests.processes import ROOT, Started
from tests.protocols.alloy.lossy import LossyProxy
from tests.protocols.alloy.scene import Player, certificate, certificate_file, listener_settings, write_assets

reactor: Any = _reactor
LIMIT = 30.0
"""Seconds after which something that should happen is given up."""


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until that holds."""
    end = reactor.seconds() + LIMIT
    while not condition():
        if reactor.seconds() > end:
            raise AssertionError(f"not within {LIMIT:g} s: {what}")
        await deferLater(reactor, 0.01)


class SocketCase(TestCase):
    """With a listener on a free port."""

    timeout = 120

    def listen(self, **settings: Any) -> AlloyListener:
        """A listener of this process, which ends with the test."""
        limits = AdmissionLimits(connection_rate=0, connections_per_source=0)
        self.recorder = Recorder()
        self.handler = RecordingHandler(("packets",))
        context = Context(
            reactor=reactor,
            admission=Admission(limits, clock=reactor),
            events=Events(reactor.seconds, [self.recorder]),
            find_handler=lambda name: self.handler,
        )
        settings.setdefault("listen", "udp:0:interface=127.0.0.1")
        listener = AlloyListener(listener_settings(**settings), context)
        listener.startService()
        self.addCleanup(listener.stopService)
        return listener

    def endpoint(self, port: int, *, host: str = "127.0.0.1", alpn: str = "hytale/1") -> QuicClientEndpoint:
        trust = Trust.pinned(Identity.from_pem(certificate()).sha256)
        return QuicClientEndpoint(reactor, host, port, ClientParameters(alpn=(alpn,), trust=trust), timeout=LIMIT)

    async def play(self, port: int, name: str = "ann", **options: Any) -> Player:
        """A player that is in the world; it leaves with the test."""
        player = Player(reactor, name, **options)
        self.addCleanup(player.client.hang_up)
        await player.connect(self.endpoint(port))
        assert player.result is True, player.result
        await player.client.when_entered().addTimeout(LIMIT, reactor)
        return player


def port_of(listener: AlloyListener) -> int:
    return int(listener.faces[0].address.rpartition(":")[2])


class LoopbackTests(SocketCase):
    async def test_session(self) -> None:
        """AL-1, AL-9: in, the world, a packet each way, and out."""
        listener = self.listen(assets=write_assets({"a": os.urandom(500_000)}))
        player = await self.play(port_of(listener))
        self.assertEqual(player.assets, {"a": 500_000})
        player.client.send(alloy.GamePacket(108, b"walk"))
        await until(lambda: alloy.GamePacket(108, b"walk") in self.handler.messages, "the packet arrives")
        self.handler.sessions[0].send(alloy.GamePacket(200, b"look"))
        await until(lambda: alloy.GamePacket(200, b"look") in player.messages, "the answer arrives")
        await player.client.hang_up()
        await until(lambda: self.recorder.outcomes, "an outcome")
        self.assertEqual(self.recorder.outcomes, ["left"])

    async def test_many(self) -> None:
        """Fifty players at once, each a session of its own."""
        listener = self.listen(assets=write_assets({"a": bytes(10_000)}))
        players = [self.play(port_of(listener), f"player{number}") for number in range(50)]
        entered = [Deferred.fromCoroutine(player) for player in players]
        numbers = {(await player).client.client_id for player in entered}
        self.assertEqual(len(numbers), 50)
        self.assertEqual(listener.session_count, 50)

    async def test_lossy_proxy(self) -> None:
        """AL-3: a login and assets through a proxy that loses, doubles and reorders 5 % each; then another port."""
        listener = self.listen(assets=write_assets({"a": os.urandom(300_000)}))
        proxy = LossyProxy(reactor, ("127.0.0.1", port_of(listener)))
        self.addCleanup(proxy.stop)
        player = await self.play(proxy.port)
        self.assertEqual(player.assets, {"a": 300_000})
        self.assertGreater(proxy.lost, 0)
        await proxy.move()
        for number in range(20):
            player.client.send(alloy.GamePacket(108, b"%d" % number))
        await until(lambda: alloy.GamePacket(108, b"19") in self.handler.messages, "packets from another port")
        self.handler.sessions[0].send(alloy.GamePacket(200, b"still here"))
        await until(lambda: alloy.GamePacket(200, b"still here") in player.messages, "the answer goes there")
        self.assertEqual(listener.session_count, 1)
        self.assertEqual(self.recorder.outcomes, [])
        await player.client.hang_up()

    async def test_ipv6(self) -> None:
        """Over IPv6 as well."""
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
                probe.bind(("::1", 0))
        except OSError:
            self.skipTest("there is no IPv6 on this machine")
        listener = self.listen(listen="udp:0:interface=[::1]")
        player = Player(reactor)
        await player.connect(self.endpoint(port_of(listener), host="::1"))
        self.assertIs(player.result, True)
        await player.client.hang_up()

    async def test_by_url(self) -> None:
        """AL-16: a URL pins the certificate, names its authority, or says to trust it; anything else is refused."""
        port = port_of(self.listen())
        pin = Identity.from_pem(certificate()).sha256.hex()
        for query in (f"pin={pin}", "trust=true", f"authority={certificate_file()}"):
            client: AlloyClient = await plugin.connect(
                f"alloy://ann@127.0.0.1:{port}?{query}", reactor, password=b"swordfish"
            )
            self.assertEqual(client.state.value, "PLAY")
            await client.hang_up()
        for query, way_out in ((f"pin={'0' * 64}", "its SHA-256 is"), ("", "pin=SHA-256 or authority=FILE")):
            with self.assertRaises(Exception) as caught:
                await plugin.connect(f"alloy://ann@127.0.0.1:{port}?{query}", reactor, password=b"swordfish")
            self.assertIn("certificate", str(caught.exception))
            self.assertIn(way_out, str(caught.exception))

    async def test_nobody_there(self) -> None:
        """A port on which nothing listens is told soon, and so are names that do not exist."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            url = parse_alloy_url(f"alloy://ann@127.0.0.1:{port}?trust=true&connect_timeout=0.5")
            player = Player(reactor)
            await player.connect(make_endpoint(reactor, url))
            self.assertIsInstance(player.result, Exception)
            self.assertEqual(player.states, ["CONNECTING", "DISCONNECTED"])

    async def test_probe(self) -> None:
        """AL-1: the probe tells states and packets in their order."""
        port = port_of(self.listen(assets=write_assets({f"{number:02}": b"x" for number in range(25)})))
        steps: list[tuple[str, str]] = []
        await plugin.probe(
            f"alloy://ann@127.0.0.1:{port}?trust=true",
            lambda step, detail: steps.append((step, detail)),
            reactor,
            password=b"swordfish",
        )
        names = [step for step, _ in steps if step not in ("AssetInitialize", "AssetFinalize", "asset")]
        self.assertEqual(
            names,
            [
                "CONNECTING",
                "HANDSHAKING",
                "ConnectAccept",
                "AUTHENTICATING",
                "PasswordAccepted",
                "ServerAuthToken",
                "PLAY",
                "certificate",
                "SetClientId",
                "JoinWorld",
                "WorldSettings",
                "WorldLoadFinished",
                "world",
                "DISCONNECTING",
                "DISCONNECTED",
            ],
        )
        self.assertIn(("asset", "and 5 more"), steps)


class ProcessTests(TestCase):
    """The daemon and connectctl as processes."""

    timeout = 180

    def control(self, *arguments: str, password: str = "", cwd: Any = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from connectd.cli.main import main; main()", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, input=password, capture_output=True, text=True, timeout=60, cwd=cwd, env=environment, check=False
        )

    def test_daemon_and_probe(self) -> None:
        """AL-8, COM-8, COM-9: what connectctl init writes is served, probed by password, and drained; no secret is
        anywhere in the logs."""
        place = folder(self)
        made = self.control("init", str(place / "run"))
        self.assertEqual(made.returncode, 0, made.stderr)
        file = place / "run" / "connectd.toml"
        text = file.read_text()
        for wanted, free in (
            ('"udp:5520:interface=127.0.0.1"', '"udp:0:interface=127.0.0.1"'),
            ('"tcp:7890:interface=127.0.0.1"', '"tcp:0:interface=127.0.0.1"'),
        ):
            self.assertIn(wanted, text)
            text = text.replace(wanted, free)
        text = text.replace("[daemon]", '[daemon]\nstatus = ""\nevents = "events.jsonl"', 1)
        file.write_text(text)
        started = Started(self, place, "twistd", "-n", "connectd", "--config", str(file))
        port = started.wait_for_line(r"alloy on 127\.0\.0\.1:(\d+) is listening")[1]
        url = f"alloy://ann@127.0.0.1:{port}?authority={place}/run/state/alloy.pem"
        good = self.control("--json", "probe", "--password-stdin", url, password="demonstration\n")
        self.assertEqual(good.returncode, 0, good.stdout + good.stderr)
        steps = [json.loads(line) for line in good.stdout.splitlines()]
        self.assertIn("PLAY", [step.get("step") for step in steps])
        self.assertTrue(steps[-1]["ok"])
        wrong = self.control("probe", "--password-stdin", url, password="s3cretguess")
        self.assertEqual(wrong.returncode, 1)
        self.assertIn("password is wrong", wrong.stderr)
        started.process.send_signal(signal.SIGTERM)
        started.exit_status()
        events = (place / "run" / "events.jsonl").read_text()
        self.assertIn('"username":"ann"', events.replace(" ", ""))
        everything = started.output + started.errors + events + good.stdout + good.stderr + wrong.stdout + wrong.stderr
        for secret in ("demonstration", "s3cretguess", "PRIVATE KEY"):
            self.assertNotIn(secret, everything)
        self.assertNotIn("Traceback", everything)

    def test_bad_configuration(self) -> None:
        """One line for each mistake, and no traceback."""
        place = folder(self)
        file = place / "connectd.toml"
        file.write_text(
            '[daemon]\nstatus = ""\n[[listener]]\nprotocol = "alloy"\nlisten = "udp:0:interface=127.0.0.1"\n'
            'certificate = "none.pem"\n'
        )
        started = Started(self, place, "twistd", "-n", "connectd", "--config", str(file))
        self.assertEqual(started.exit_status(), 1)
        self.assertRegex(started.errors, r"alloy: certificate: .*none\.pem: there is no such file")
        self.assertNotIn("Traceback", started.output + started.errors)
