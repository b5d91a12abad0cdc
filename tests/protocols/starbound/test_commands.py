"""connectctl starbound …, in this process; :mod:`.test_processes` has it with a real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import click
from click.testing import CliRunner
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from connectd.net import foreground
from connectd.protocols.starbound import client
from connectd.protocols.starbound.client import WrongCredentials
from connectd.protocols.starbound.commands import printable, starbound
from connectd.protocols.starbound.frames import Frame
from connectd.protocols.starbound.generations import GENERATIONS
from connectd.sansio import Ended, Outcome

URL = "starbound://ann@127.0.0.1?generation=1.4"


class FakeSession:
    """A session with three packets, which the server ends then."""

    client_id, generation = 7, "1.4"

    def __init__(self) -> None:
        self.frames = [Frame(number, bytes(10 * number)) for number in (1, 2, 3)]
        self.ended: Ended | None = None
        self.left = 0

    def __aiter__(self) -> FakeSession:
        return self

    async def __anext__(self) -> Frame:
        if not self.frames:
            self.ended = Ended(Outcome.LEFT, "the server ends the session: enough\x1b[2J")
            raise StopAsyncIteration
        return self.frames.pop(0)

    async def leave(self) -> None:
        self.left += 1


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.session = FakeSession()
        self.passwords: list[bytes | None] = []
        self.problem: Exception | None = None
        self.patch(foreground, "run", self.run_work)
        self.patch(client, "login", self.login)

    def run_work(self, work: Callable[[Any], Coroutine[Any, Any, None]]) -> bool:
        results: list[Any] = []
        Deferred.fromCoroutine(work(None)).addBoth(results.append)
        if results[0] is not None:
            results[0].raiseException()
        return True

    async def login(self, reactor: Any, url: str, password: bytes | None) -> Any:
        self.passwords.append(password)
        if self.problem is not None:
            raise self.problem
        return self.session

    def call(self, *arguments: str, **options: Any) -> Any:
        return CliRunner().invoke(starbound, arguments, **options)

    def test_generations(self) -> None:
        lines = self.call("generations").output.splitlines()
        self.assertEqual(
            [line.split() for line in lines[1:3]], [["seed", "628", "server"], ["angry-koala", "628", "server"]]
        )
        rows = json.loads(self.call("generations", "--json").output)
        self.assertEqual([row["name"] for row in rows], list(GENERATIONS))

    def test_watch(self) -> None:
        """Each packet is a line, and the end, from which no server can steer the terminal."""
        result = self.call("watch", URL, input="secret\n")
        self.assertEqual((result.exit_code, self.passwords, self.session.left), (0, [b"secret"], 1))
        lines = [line.split("  ", 1)[1] for line in result.output.splitlines() if not line.startswith("Password")]
        self.assertEqual(lines[0], "accepted  client 7, generation 1.4")
        self.assertEqual(lines[1:4], [f"packet    id {number}, bytes {10 * number}" for number in (1, 2, 3)])
        self.assertTrue(lines[4].startswith("ended     outcome left, reason the server ends the session: enough"))
        self.assertNotIn("\x1b", result.output)
        self.assertNotIn("secret", result.output)

    def test_some(self) -> None:
        result = self.call("watch", URL, "--count", "2", "--json", "--password-stdin", input="secret\r\n")
        events = [json.loads(line) for line in result.output.splitlines()]
        self.assertEqual([event["event"] for event in events], ["accepted", "packet", "packet"])
        self.assertEqual((self.passwords, self.session.left), ([b"secret"], 1))
        self.call("watch", URL, "--password-stdin", input="no end of line")
        self.assertEqual(self.passwords[1:], [b"no end of line"])

    def test_anonymous(self) -> None:
        """Without an account nobody is asked."""
        self.call("watch", "starbound://127.0.0.1")
        self.assertEqual(self.passwords, [None])

    def test_problems(self) -> None:
        self.problem = WrongCredentials(Outcome.REFUSED, "the server refuses: No such account")
        result = self.call("watch", "starbound://127.0.0.1")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("starbound://127.0.0.1: the server refuses: No such account", result.output)
        self.assertEqual(self.call("watch", "lekt://127.0.0.1").exit_code, 2)

    def test_json_of_the_call(self) -> None:
        """--json before the command counts as well."""

        class Invocation:
            json = True

        result = CliRunner().invoke(starbound, ["generations"], obj=Invocation())
        self.assertEqual(json.loads(result.output)[0]["name"], "seed")
        self.assertIsInstance(starbound, click.Group)

    def test_printable(self) -> None:
        self.assertEqual(printable("a\x1b[2Jb\n"), "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}")
