"""The awaitable client against the real listener, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.client import ConnectionEnded
from connectd.net.url import URLError
from connectd.protocols.fmltp import client as client_module
from connectd.protocols.fmltp.application import Application
from connectd.protocols.fmltp.client import AuthenticationFailed, Credentials, FmltpClient, parse_fmltp_url
from connectd.protocols.fmltp.groups import NAMED, Group, encode_parameters
from connectd.protocols.fmltp.packets import Reply
from connectd.protocols.fmltp.plugin import plugin
from connectd.protocols.fmltp.probe import probe
from connectd.protocols.fmltp.server import FmltpListener
from connectd.protocols.fmltp.settings import FmltpClientSettings, FmltpSettings
from connectd.sansio import LocalProtocolError, Outcome
from connectd.testing import Network, RawPeer
from tests.protocols.fmltp.deployed import DeployedServer
from tests.protocols.fmltp.real import ANN, RealCase, reactor
from tests.protocols.fmltp.test_server import make_application
from tests.toy import ToyChecker
from tests.workers.test_processes import is_running


class Case(SynchronousTestCase):
    """A listener, and clients that stay."""

    def setUp(self) -> None:
        self.checker = ToyChecker({"ann": ANN.password.encode()})
        self.network = Network(handlers={"echo": make_application()}, checkers=[self.checker])
        self.clients: list[FmltpClient] = []
        self.addCleanup(self.stop)

    def stop(self) -> None:
        for client in self.clients:
            client.stopService()
        self.network.advance(1)
        self.network.stop()

    def listen(self, **settings: Any) -> FmltpListener:
        return self.network.listener(FmltpListener, FmltpSettings(handler="echo", **settings))

    def client(
        self, listener: Any, credentials: Credentials | None = ANN, host: str = "192.0.2.1", **settings: Any
    ) -> FmltpClient:
        client = FmltpClient(
            self.network.clock,
            self.network.endpoint(listener, host),
            FmltpClientSettings(**settings),
            credentials=credentials,
            retry_policy=lambda failures: 2.0,
        )
        client.on_warning = lambda text: None
        self.clients.append(client)
        client.startService()
        return client

    def ask(self, client: FmltpClient, text: str) -> Reply:
        answered = client.command(text)
        self.network.settle()
        return self.successResultOf(answered)


class ClientTests(Case):
    def test_session(self) -> None:
        client = self.client(self.listen())
        ready = client.when_ready()
        self.network.settle()
        self.successResultOf(ready)
        self.assertEqual(self.ask(client, "ECHO hello"), Reply(200, "hello"))
        stopped = client.stopService()
        self.network.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(self.network.recorder.outcomes, ["left"])

    def test_reconnects(self) -> None:
        """Cut off, it comes back and logs in again; what had no answer fails and is not said twice."""
        ready: list[None] = []
        client = self.client(self.listen())
        client.on_ready = lambda: ready.append(None)
        self.network.settle()
        self.assertEqual(self.ask(client, "ECHO 1").text, "1")
        self.network.wires[-1].cut()
        lost = client.command("ECHO 2")
        self.failureResultOf(lost, ConnectionError)
        self.network.advance(3)
        self.assertEqual(self.ask(client, "ECHO 3").text, "3")
        self.assertEqual(len(ready), 2)
        assert client.last_end is not None
        self.assertEqual(client.last_end.outcome, Outcome.LOST)

    def test_cut_off_in_the_middle(self) -> None:
        """A command without an answer fails when the connection does, those that wait behind it as well."""
        client = self.client(self.listen())
        self.network.settle()
        self.network.latency = 0.1
        answered = [client.command(f"ECHO {number}") for number in range(40)]
        self.network.wires[-1].cut()
        self.network.settle()
        for one in answered:
            self.failureResultOf(one, ConnectionError)

    def test_wrong_password(self) -> None:
        """COM-11: it is not tried again; whoever waits for the client is told."""
        client = self.client(self.listen(), Credentials("ann", "wrong"))
        ready, later = client.when_ready(None), client.when_ready()
        self.network.advance(10)
        for one in (ready, later, client.when_ready()):
            error = self.failureResultOf(one, AuthenticationFailed).value
            self.assertEqual(str(error), "151 Authentication failed.")
        self.assertEqual(self.checker.work, 1)
        self.assertFalse(client.running)
        self.assertEqual(len(self.network.recorder.events), 1)

    def test_nothing_to_log_in_with(self) -> None:
        """A server that asks for accounts is left at once by a client that has none."""
        client = self.client(self.listen(), None)
        ready = client.when_ready()
        self.network.advance(1)
        error = self.failureResultOf(ready, AuthenticationFailed).value
        self.assertEqual(str(error), "the server asks for a user name and a password")

    def test_too_long_to_log_in(self) -> None:
        """COM-9, FM-10: what does not fit into a command is not sent, and not told."""
        client = self.client(self.listen(), command_limit=20)
        ready = client.when_ready()
        self.network.advance(1)
        error = self.failureResultOf(ready, AuthenticationFailed).value
        self.assertEqual(str(error), "the user name and the password are too long for this server")

    def test_no_server(self) -> None:
        self.network.unreachable = True
        listener = self.listen()
        client = self.client(listener)
        ready = client.when_ready()
        self.network.advance(3)
        self.failureResultOf(ready, ConnectError)
        self.network.unreachable = False
        self.network.advance(3)
        self.successResultOf(client.when_ready())

    def test_stopped_before_it_was_ready(self) -> None:
        self.network.unreachable = True
        client = self.client(self.listen())
        ready = client.when_ready(None)
        first, second = client.stopService(), client.stopService()
        self.network.advance(1)
        self.failureResultOf(ready, CancelledError)
        self.successResultOf(first)
        self.successResultOf(second)
        self.successResultOf(client.stopService())

    def test_another_class(self) -> None:
        """FM-3: a server of another class is left without a word, and the error says which."""
        client = self.client(self.listen(version="3.0.0"), version="2.1.0")
        ready = client.when_ready()
        self.network.settle()
        error = self.failureResultOf(ready, ConnectionEnded).value
        self.assertIn("3.0.0", str(error))
        self.assertIn("2.1.0", str(error))

    def test_commands_that_cannot_be(self) -> None:
        """A mistake of the caller is raised at once, and the connection goes on."""
        client = self.client(self.listen(), command_limit=30)
        self.assertIsInstance(self.failureResultOf(client.command("ECHO")).value, ConnectionError)
        self.network.settle()
        for text in ("", "TWO\r\nLINES", f"ECHO {'x' * 26}"):
            self.assertRaises(LocalProtocolError, client.command, text)
        self.assertEqual(self.ask(client, "ECHO x").text, "x")

    def test_wrong_command_in_the_queue(self) -> None:
        """One that waited until the server had room fails by itself."""
        client = self.client(self.listen())
        self.network.settle()
        answered = [client.command("ECHO x") for _ in range(32)]
        wrong, right = client.command("TWO\nLINES"), client.command("ECHO y")
        self.network.settle()
        self.failureResultOf(wrong, LocalProtocolError)
        self.assertEqual(self.successResultOf(right).text, "y")
        self.assertEqual({self.successResultOf(one).text for one in answered}, {"x"})

    def test_too_many_wait(self) -> None:
        """COM-2"""
        self.patch(client_module, "MAXIMUM_WAITING", 3)
        client = self.client(self.listen())
        self.network.settle()
        answered = [client.command("ECHO x") for _ in range(35)]
        self.failureResultOf(client.command("ECHO x"), ConnectionError)
        self.network.settle()
        for one in answered:
            self.successResultOf(one)

    def test_notice(self) -> None:
        """What a server says unasked."""
        client = self.client(self.listen())
        notices: list[Reply] = []
        client.on_notice = notices.append
        self.network.settle()
        next(iter(self.network.context.sessions)).kick("Enough.")
        self.network.settle()
        self.assertEqual(notices, [Reply(420, "Enough.")])

    def test_silent_server(self) -> None:
        """A server that answers nothing is given up."""
        commands = make_application().commands
        commands.add(lambda session: Deferred(), name="WAIT", help="For ever.")
        self.network.handlers["echo"] = Application(commands)
        client = self.client(self.listen(command_timeout=0.0), reply_timeout=5.0)
        self.network.settle()
        waiting = client.command("WAIT")
        self.network.advance(6)
        self.failureResultOf(waiting, ConnectionError)


class WarningTests(Case):
    """FM-16, FM-5: what whoever sends a password has to know"""

    def warned(self, server_host: str, reconnects: int = 1, **settings: Any) -> list[str]:
        """The warnings of a client of a server at that address."""
        self.network.server_host = server_host
        client = self.client(self.listen(**settings))
        warnings: list[str] = []
        client.on_warning = warnings.append
        self.network.settle()
        for _ in range(reconnects):
            self.network.wires[-1].cut()
            self.network.advance(3)
        self.assertEqual(self.ask(client, "ECHO x").text, "x")
        return warnings

    def test_once(self) -> None:
        """FM-16: once, however often it logs in."""
        [warning] = self.warned("198.51.100.1", reconnects=3)
        self.assertIn("the password goes to 198.51.100.1:1", warning)
        self.assertIn("not authenticated", warning)

    def test_loopback(self) -> None:
        """FM-16: nobody is in the path to ourselves."""
        for host in ("127.0.0.1", "127.8.9.1", "::1"):
            self.assertEqual(self.warned(host), [], host)

    def test_ipv6(self) -> None:
        self.assertEqual(len(self.warned("2001:db8::1")), 1)

    def test_without_a_password(self) -> None:
        """FM-16: a server without accounts gets none."""
        self.assertEqual(self.warned("198.51.100.1", accounts=False), [])

    def test_default(self) -> None:
        """Where nobody asks for them, warnings are in the log."""
        lines: list[str] = []
        self.patch(client_module.log, "warn", lambda line, **fields: lines.append(line.format(**fields)))
        client = FmltpClient(self.network.clock, self.network.endpoint(self.listen()), credentials=ANN)
        self.clients.append(client)
        client.startService()
        self.network.settle()
        self.assertEqual(len(lines), 1)


class CredentialsTests(SynchronousTestCase):
    def test_what_cannot_be_said(self) -> None:
        """COM-9, FM-11: refused before anything is sent, and without the words."""
        for username, password in (("", "x"), ("a b", "x"), ("a\n", "x"), ("a", ""), ("a", "x\r\ny")):
            error = self.assertRaises(ValueError, Credentials, username, password)
            self.assertNotIn("x", str(error).replace("or has", ""))
        self.assertEqual(Credentials("a", " x  y ").password, " x  y ")
        self.assertNotIn("xyzzy", repr(Credentials("ann", "xyzzy")))

    def test_url(self) -> None:
        """The query sets the client's options."""
        server = parse_fmltp_url("fmltp://ann@play.example?minimum_bits=1024&version=1.2.3")
        self.assertEqual((server.username, server.host, server.port), ("ann", "play.example", 8900))
        self.assertEqual((server.settings.minimum_bits, server.settings.version), (1024, "1.2.3"))
        for url in (
            "fmltp://h?minimum_bits=511",
            "fmltp://h?minimum_bits=4097",
            "fmltp://h?version=1",
            "fmltp://h?friendly_name=Other",
            "fmltp://h?no=1",
            "fmltp://ann:password@h",
        ):
            self.assertRaises(URLError, parse_fmltp_url, url)
        self.assertRaises(URLError, FmltpClient.from_url, None, "fmltp://")


class HostileServerTests(Case):
    """What a client does with servers that are none"""

    def server(self, **settings: Any) -> tuple[RawPeer, FmltpClient]:
        raw = self.network.raw_server()
        client = self.client(raw, **settings)
        self.network.settle()
        [peer] = raw.peers
        return peer, client

    def test_dead_server(self) -> None:
        """FM-14: it is given 15 s."""
        _, client = self.server()
        ready = client.when_ready()
        self.network.advance(16)
        self.assertEqual(self.failureResultOf(ready, ConnectionEnded).value.outcome, Outcome.TIMEOUT)


class PluginTests(RealCase):
    """The wing as others see it"""

    async def test_connect(self) -> None:
        """Over real sockets."""
        listener = self.listener(handler="jukebox")
        url = f"fmltp://ann@127.0.0.1:{self.port(listener)}"
        client = await plugin.connect(url, reactor, password=ANN.password.encode())
        self.addCleanup(client.stopService)
        self.assertEqual((await client.command("PLAYING")).code, 200)

    async def test_connect_fails(self) -> None:
        listener = self.listener()
        url = f"fmltp://ann@127.0.0.1:{self.port(listener)}"
        await self.fails(plugin.connect(url, reactor, password=b"wrong"), AuthenticationFailed)

    async def test_probe(self) -> None:
        """Each step is told."""
        listener = self.listener(handler="jukebox")
        url = f"fmltp://ann@127.0.0.1:{self.port(listener)}"
        for password, last in ((ANN.password.encode(), "150 Authentication successful."), (None, "not tried")):
            steps: dict[str, str] = {}
            await plugin.probe(url, steps.__setitem__, reactor, password)
            self.assertEqual(
                list(steps),
                ["connect", "VEX_INIT", "KEX_INIT", "KEX_ID", "KEX_FINAL", "AUTH", "HELP", "QUIT", "closed"],
            )
            self.assertIn(last, steps["AUTH"])

    async def test_probe_refused(self) -> None:
        listener = self.listener()
        url = f"fmltp://ann@127.0.0.1:{self.port(listener)}"
        for password in (b"wrong", b"", b"\xff", b"two\nlines"):
            probing = Deferred.fromCoroutine(probe(url, lambda step, detail: None, reactor, password))
            error = await self.fails(probing, ConnectionEnded)
            self.assertNotIn("lines", str(error))
        listener = self.listener(accounts=False, version="1.0.0")
        probing = plugin.probe(f"fmltp://127.0.0.1:{self.port(listener)}", lambda step, detail: None, reactor)
        await self.fails(probing, ConnectionEnded)

    async def test_unknown_group(self) -> None:
        """FM-5: a group without a name is looked at in a child; one whose modulus is no safe prime is refused."""
        server = DeployedServer()
        self.addCleanup(deferToThread, server.stop)
        client = self.client(server.port, "?minimum_bits=1024", None)
        await client.when_ready()
        self.assertEqual(len(client._work.pids), 1)

    async def test_group_that_takes_too_long(self) -> None:
        """FM-5, COM-1: the check of an unknown group does not outlive the handshake's deadline, nor does its child."""
        slow = Group(NAMED["modp4096"].p, 5)  # a safe prime, but with another generator it has no name
        server = DeployedServer(parameters=encode_parameters(slow))
        self.addCleanup(deferToThread, server.stop)
        client = self.client(server.port, "?handshake_timeout=0.5", None)
        error = await self.fails(client.when_ready(), ConnectionEnded)
        self.assertIs(error.outcome, Outcome.TIMEOUT)
        [pid] = client._work.pids
        await client.stopService()
        self.assertFalse(is_running(pid))
