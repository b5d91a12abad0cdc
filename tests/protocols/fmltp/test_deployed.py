"""Our client and our server with FlexMusic peers as they are deployed, over real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThread

from connectd.net.client import ConnectionEnded
from connectd.protocols.fmltp.application import Application, Commands
from connectd.protocols.fmltp.client import AuthenticationFailed, Credentials
from connectd.protocols.fmltp.groups import FFDHE2048, encode_parameters
from connectd.sansio import LocalProtocolError
from tests.protocols.fmltp.deployed import DeployedClient, DeployedServer, with_client
from tests.protocols.fmltp.real import ANN, RealCase

OLD = "?minimum_bits=1024"


def make_application() -> Application:
    commands = Commands()
    commands.add(lambda session, text: text, name="ECHO", help="Say it again.", rest=True)
    return Application(commands)


class ClientTests(RealCase):
    """connectd's client with a deployed server"""

    def server(self, **options: Any) -> DeployedServer:
        server = DeployedServer(**options)
        self.addCleanup(deferToThread, server.stop)
        return server

    async def test_whole_session(self) -> None:
        """FM-5, FM-8, FM-9, FM-10, FM-12: a group of 1024 bits without a name, which it was told to take; the spelling,
        replies without CRLF, and each command in one read."""
        server = self.server(password=ANN.password)
        client = self.client(server.port, OLD)
        warnings: list[str] = []
        client.on_warning = warnings.append
        await client.when_ready()
        reply = await client.command("ECHO hello")
        self.assertEqual((reply.code, reply.text), (200, "hello"))
        reply = await client.command("NONSENSE")
        self.assertEqual((reply.code, reply.text), (400, "Invalid command"))
        await client.stopService()
        await self.until("QUIT", lambda: server.heard[-1:] == ["QUIT"])
        self.assertEqual(server.heard, [f"AUTH ann {ANN.password}", "ECHO hello", "NONSENSE", "QUIT"])
        self.assertEqual(len(warnings), 1)
        self.assertIn("only 1024 bits", warnings[0])

    async def test_one_outstanding(self) -> None:
        """FM-10: whatever is asked for at once, such a server gets one command after the other."""
        server = self.server()
        client = self.client(server.port, OLD, None)
        await client.when_ready()
        replies = [client.command(f"ECHO {number}") for number in range(20)]
        self.assertEqual([(await reply).text for reply in replies], [str(number) for number in range(20)])
        self.assertEqual(server.heard, [f"ECHO {number}" for number in range(20)])

    async def test_longest_command(self) -> None:
        """FM-10: 703 bytes fit into its one read, and no more are sent."""
        server = self.server()
        client = self.client(server.port, OLD, None)
        await client.when_ready()
        text = "x" * (703 - len("ECHO "))
        self.assertEqual((await client.command(f"ECHO {text}")).text, text)
        self.assertLessEqual(server.reads[-1], 1024)
        self.assertRaises(LocalProtocolError, client.command, f"ECHO {text}x")
        self.assertEqual((await client.command("ECHO on it goes")).text, "on it goes")

    async def test_small_group_refused(self) -> None:
        """FM-5: without being told to, our client does not take 1024 bits."""
        server = self.server()
        error = await self.fails(self.client(server.port, "", None).when_ready(), ConnectionEnded)
        self.assertIn("1024 bits", error.reason)

    async def test_wrong_password(self) -> None:
        """FM-11: 151 without CRLF is a no as well; the same is not tried again."""
        server = self.server(password=ANN.password)
        client = self.client(server.port, OLD, Credentials("ann", "wrong"))
        await self.fails(client.when_ready(None), AuthenticationFailed)
        await self.until("its end", lambda: not client.running)
        self.assertEqual(server.heard.count("AUTH ann wrong"), 1)

    async def test_named_group(self) -> None:
        """A server that was given ffdhe2048."""
        server = self.server(parameters=encode_parameters(FFDHE2048))
        client = self.client(server.port, "", None)
        await client.when_ready()
        self.assertEqual((await client.command("ECHO hello")).text, "hello")


class ServerTests(RealCase):
    """connectd's server with a deployed client"""

    async def talk(self, work: Any, *, ending: str = "", **settings: Any) -> Any:
        """What a client's work comes to, which is done in a thread."""
        self.handlers["echo"] = make_application()
        listener = self.listener(**{"handler": "echo", **settings})
        return await deferToThread(with_client, self.port(listener), work, ending=ending)

    async def test_whole_session(self) -> None:
        """FM-2, FM-4, FM-6, FM-9, FM-11, FM-12: a version without line end; parameters and keys that it can read; a
        failed and a good AUTH; each answer in one read."""

        def work(client: DeployedClient) -> list[Any]:
            said = ["HELP", "ECHO early", "AUTH ann wrong", f"AUTH ann {ANN.password}", "ECHO hello", "QUIT"]
            return [client.greeting, *(client.say(text) for text in said), client.at_end()]

        found = await self.talk(work)
        self.assertEqual(
            found,
            [
                "100 FmLTP/1.0 Interpreter Ready.\r\nAuthentication required.\r\n",
                "200 Commands: AUTH, HELP, QUIT\r\n",
                "400 Invalid command.\r\n",
                "151 Authentication failed.\r\n",
                "150 Authentication successful.\r\n",
                "200 hello\r\n",
                "200 Goodbye.\r\n",
                True,
            ],
        )
        await self.until("its outcome", lambda: self.recorder.outcomes)
        self.assertEqual(self.recorder.outcomes, ["left"])

    async def test_without_accounts(self) -> None:
        """Nothing is asked for; a version with its line end."""
        work = lambda client: (client.greeting, client.say("ECHO hello"))  # noqa: E731 - a line
        found = await self.talk(work, accounts=False, ending="\r\n")
        self.assertEqual(found, ("100 FmLTP/1.0 Interpreter Ready.\r\n", "200 hello\r\n"))

    async def test_quit_after_a_failed_authentication(self) -> None:
        """FM-12: QUIT closes; the deployed server lets the user in then."""

        def work(client: DeployedClient) -> list[Any]:
            return [client.say("AUTH ann wrong"), client.say("QUIT"), client.at_end()]

        self.assertEqual(await self.talk(work), ["151 Authentication failed.\r\n", "200 Goodbye.\r\n", True])
        await self.until("its outcome", lambda: self.recorder.outcomes)
        self.assertEqual(self.recorder.outcomes, ["aborted"])

    async def test_other_groups(self) -> None:
        """FM-5: ffdhe3072, whose keys are computed in a child."""
        found = await self.talk(lambda client: client.greeting, parameters="ffdhe3072", accounts=False)
        self.assertEqual(found, "100 FmLTP/1.0 Interpreter Ready.\r\n")
