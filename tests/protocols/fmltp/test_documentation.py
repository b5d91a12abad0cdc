"""The page about FmLTP says what is so: its examples run, its numbers are those of the code."""

from __future__ import annotations

import sys
from typing import Any

from connectd.directory import Database
from connectd.ops.daemon import Daemon
from connectd.protocols.fmltp import (
    application,
    client,
    client_machine,
    interpreter,
    packets,
    pem,
    replay,
    server_machine,
    side,
    tokens,
    work,
)
from connectd.protocols.fmltp import server as server_module
from connectd.workers.processes import Processes
from tests.protocols.fmltp.real import ANN, RealCase, reactor
from tests.test_documentation import blocks, page, run_module, section

PAGE = "protocols/fmltp.md"


class ExampleTests(RealCase):
    def example(self, kind: str, name: str) -> Any:
        """A block of the page, as the module that it is called there."""
        (block,) = blocks(page(PAGE), kind)
        self.addCleanup(sys.modules.pop, name, None)
        return run_module(name, block.body)

    async def test_application(self) -> None:
        """FM-13: the commands of the page, and its client."""
        made = self.example("application", "my_jukebox")
        self.handlers["jukebox"] = made.application
        listener = self.listener(handler="jukebox")
        one = self.client(self.port(listener))
        await one.when_ready()
        said = [
            str(await one.command(text))
            for text in ("QUEUE So What", "FADE-OUT 0", "FADE-OUT x", "QUEUE", "FADE-OUT 1 2")
        ]
        self.assertEqual(
            said,
            [
                "200 So What is number 1, ann.",
                "201 Silence.",
                "420 Seconds are a number up to 10.",
                "411 Too few arguments.",
                "410 Too many arguments.",
            ],
        )
        self.assertEqual((await one.command("HELP QUEUE")).text, "QUEUE <title>: Put a title at the end of the queue.")
        printed: list[tuple[Any, ...]] = []
        page_client = self.example("client", "my_client")
        page_client.print = lambda *words: printed.append(words)
        await page_client.main(reactor, f"fmltp://ann@127.0.0.1:{self.port(listener)}", ANN.password)
        self.assertEqual(printed, [(200, "Blue in Green is number 2, ann.")])

    async def test_tac(self) -> None:
        """A daemon that is composed in Python, with accounts in a directory."""
        path = self.mktemp()
        with Database.open(path) as database:
            database.accounts.add("ann", ANN.password, by="test")
        self.example("application", "my_jukebox")
        (block,) = blocks(page(PAGE), "tac")
        source = block.body.replace("tcp:8900:", "tcp:0:").replace("sqlite:///connectd.db", f"sqlite:///{path}")
        self.assertEqual(source.count("tcp:0:") + source.count(path), 2)
        self.addCleanup(sys.modules.pop, "my_tac", None)
        daemon: Daemon = run_module("my_tac", source).daemon
        daemon.startService()
        self.addCleanup(daemon.stopService)
        await self.until("it is ready", lambda: daemon.ready)
        listener: Any = daemon.listeners[0]
        one = self.client(self.port(listener))
        await one.when_ready()
        self.assertEqual((await one.command("QUEUE So What")).text, "So What is number 1, ann.")


class LimitTests(RealCase):
    def test_stated_limits(self) -> None:
        """COM-2: the numbers of the page are those of the code."""
        text = section(page(PAGE), "## Limits")
        for number in (
            packets.MAXIMUM_VERSION_LINE,
            pem.MAXIMUM_PEM,
            side.EARLY_TOKEN,
            tokens.MAXIMUM_TOKEN,
            packets.MAXIMUM_PLAINTEXT,
            server_machine.EARLY_COMMANDS,
            server_machine.ATTEMPTS,
            replay.REMEMBERED,
            client_machine.OUTSTANDING,
            client.MAXIMUM_WAITING,
            Processes(reactor, [work.check_group]).maximum_waiting,
            application.LONGEST_ARGUMENT,
            application.MOST_ARGUMENTS,
            server_module.COMMANDS_PER_TURN,
        ):
            self.assertRegex(text, rf"\b{number:,}\b")
        self.assertIn(f"at most {packets.DEPLOYED_COMMAND_LIMIT} bytes", page(PAGE))
        self.assertIn(str(interpreter.OK), page(PAGE))
