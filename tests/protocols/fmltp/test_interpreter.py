"""What is answered to commands (FM-12, FM-13)."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.fmltp.application import CommandError, Commands
from connectd.protocols.fmltp.interpreter import FAILED, OK, TIMED_OUT, Interpreter
from connectd.protocols.fmltp.jukebox import LONGEST_QUEUE, make_application
from connectd.protocols.fmltp.packets import INVALID_COMMAND, MAXIMUM_PLAINTEXT, Reply


@attrs.frozen
class Caller:
    """A session, as far as commands look at it."""

    id: int = 7
    account: str = "Ann"
    peer: str = "192.0.2.1:5000"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.commands = Commands()
        self.interpreter = Interpreter(self.clock, self.commands, timeout=5.0)

    def add(self, function: Any, name: str = "X") -> None:
        self.commands.add(function, name=name, help="Some help.")

    def say(self, line: str, *, locked: bool = False) -> Any:
        """The answer to a line."""
        name, _, rest = line.partition(" ")
        return self.interpreter.answer(Caller(), name, rest, locked=locked)


class AnswerTests(Case):
    """Interpreter.answer"""

    def test_kinds_of_results(self) -> None:
        """FM-12: text is a success, None is one without words, and a Reply is what it is."""
        for result, expected in (
            ("Fine.", Reply(200, "Fine.")),
            ("", Reply(200, "")),
            (None, OK),
            (Reply(250, "Odd."), Reply(250, "Odd.")),
            ("one\ntwo\r\nthree\n", Reply(200, "one\r\ntwo\r\nthree")),
            ("tab\t\x1b[2J\x00", Reply(200, "tab\t\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}")),
            ("\ud800", Reply(200, "\N{REPLACEMENT CHARACTER}")),
        ):
            self.commands = self.interpreter.commands = Commands()
            self.add(lambda session, result=result: result)
            self.assertEqual(self.say("X"), expected)

    def test_arguments(self) -> None:
        """The session comes first, then what the line has."""
        self.add(lambda session, a, b="-": f"{session.account} {a} {b}")
        self.assertEqual(self.say("X 1"), Reply(200, "Ann 1 -"))
        self.assertEqual(self.say("X 1 2"), Reply(200, "Ann 1 2"))
        self.assertEqual(self.say("X").code, 411)
        self.assertEqual(self.say("X 1 2 3").code, 410)

    def test_awaitables(self) -> None:
        """Coroutines and Deferreds alike."""
        waited: Deferred[str] = Deferred()

        async def later(session: Any) -> str:
            return f"It is {await waited}."

        self.add(later)
        self.add(lambda session: succeed("Fired."), "Y")
        answered = self.say("X")
        self.assertNoResult(answered)
        waited.callback("done")
        self.assertEqual(self.successResultOf(answered), Reply(200, "It is done."))
        self.assertEqual(self.successResultOf(self.say("Y")), Reply(200, "Fired."))

    def test_errors(self) -> None:
        """FM-12, FM-13: an error is 420, the peer learns nothing of it, and the operator everything, once."""

        def fails(session: Any) -> str:
            raise KeyError("xyzzy")

        async def fails_later(session: Any) -> str:
            raise KeyError("xyzzy")

        self.add(fails)
        self.add(fails_later, "Y")
        self.assertEqual(self.say("X"), FAILED)
        self.assertEqual(self.successResultOf(self.say("Y")), FAILED)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)

    def test_errors_for_the_peer(self) -> None:
        """CommandError is told, and not logged."""

        def full(session: Any) -> str:
            raise CommandError("The queue is full.")

        async def full_later(session: Any) -> str:
            raise CommandError("Still full.")

        self.add(full)
        self.add(full_later, "Y")
        self.assertEqual(self.say("X"), Reply(420, "The queue is full."))
        self.assertEqual(self.successResultOf(self.say("Y")), Reply(420, "Still full."))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_results_that_are_none(self) -> None:
        """What cannot be said is an error of the command."""
        too_long = "x" * (MAXIMUM_PLAINTEXT - 5)
        for result in (5, b"bytes", Reply(20, "Two digits."), too_long):
            self.commands = self.interpreter.commands = Commands()
            self.add(lambda session, result=result: result)
            self.assertEqual(self.say("X"), FAILED, result)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 4)
        self.commands = self.interpreter.commands = Commands()
        self.add(lambda session: too_long[1:])
        self.assertEqual(len(self.say("X").encode()), MAXIMUM_PLAINTEXT)

    def test_error_text_too_long(self) -> None:
        def talks(session: Any) -> str:
            raise CommandError("x" * MAXIMUM_PLAINTEXT)

        self.add(talks)
        self.assertEqual(self.say("X"), FAILED)
        self.assertEqual(len(self.flushLoggedErrors(CommandError)), 1)

    def test_too_slow(self) -> None:
        """A command that does not end is given up."""
        cancelled: list[Any] = []
        self.add(lambda session: Deferred(cancelled.append))
        answered = self.say("X")
        self.clock.advance(4.9)
        self.assertNoResult(answered)
        self.clock.advance(0.2)
        self.assertEqual(self.successResultOf(answered), TIMED_OUT)
        self.assertEqual(len(cancelled), 1)
        self.interpreter.timeout = 0
        answered = self.say("X")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        answered.cancel()
        self.assertEqual(self.successResultOf(answered), FAILED)

    def test_cancels_itself(self) -> None:
        """What a command waits for may be cancelled by others: that is a command error, and no end of the session."""
        shared: Deferred[None] = Deferred()
        self.add(lambda session: shared)
        answered = self.say("X")
        shared.cancel()
        self.assertEqual(self.successResultOf(answered), FAILED)

    def test_hung_up(self) -> None:
        """Cancelling the answer cancels the command."""
        cancelled: list[Any] = []

        async def waits(session: Any) -> None:
            await Deferred(cancelled.append)

        self.add(waits)
        answered = self.say("X")
        answered.cancel()
        self.assertEqual(self.successResultOf(answered), FAILED)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unknown(self) -> None:
        """FM-13: 400; names are in capitals."""
        self.add(lambda session: None)
        for line in ("Y", "x", "X1", "", "AUTH a b"):
            self.assertEqual(self.say(line), INVALID_COMMAND, line)

    def test_knows(self) -> None:
        self.add(lambda session: None)
        self.assertEqual([self.interpreter.knows(name) for name in ("HELP", "X", "Y")], [True, True, False])


class HelpTests(Case):
    """HELP is made from the registry (FM-13)."""

    def setUp(self) -> None:
        super().setUp()
        self.commands.add(lambda session, title, artist="": None, name="QUEUE", help="Put it into the queue.")

    def test_list(self) -> None:
        self.assertEqual(self.say("HELP"), Reply(200, "Commands: AUTH, HELP, QUIT, QUEUE"))

    def test_one(self) -> None:
        self.assertEqual(self.say("HELP QUEUE"), Reply(200, "QUEUE <title> [artist]: Put it into the queue."))
        self.assertEqual(self.say("HELP queue"), self.say("HELP QUEUE"))
        self.assertTrue(self.say("HELP AUTH").text.startswith("AUTH <user> <password>: "))
        self.assertEqual(self.say("HELP NOTHING"), INVALID_COMMAND)
        self.assertEqual(self.say("HELP QUEUE QUIT").code, 410)

    def test_locked(self) -> None:
        """FM-11: before AUTH, an application's commands are neither answered nor told."""
        self.assertEqual(self.say("HELP", locked=True), Reply(200, "Commands: AUTH, HELP, QUIT"))
        self.assertEqual(self.say("HELP QUEUE", locked=True), INVALID_COMMAND)
        self.assertEqual(self.say("QUEUE x", locked=True), INVALID_COMMAND)

    def test_without_accounts(self) -> None:
        self.interpreter = Interpreter(self.clock, self.commands, accounts=False)
        self.assertEqual(self.say("HELP"), Reply(200, "Commands: HELP, QUIT, QUEUE"))


class JukeboxTests(Case):
    """The application that connectd brings."""

    def setUp(self) -> None:
        super().setUp()
        self.interpreter = Interpreter(self.clock, make_application().commands)

    def test_queue(self) -> None:
        self.assertEqual(self.say("PLAYING"), Reply(200, "Nothing plays."))
        self.assertEqual(self.say("QUEUE Blue in Green"), Reply(200, "Blue in Green is number 1 in the queue."))
        self.say("QUEUE So What")
        self.assertEqual(
            self.say("PLAYING").text, "2 in the queue:\r\n1. Blue in Green (for Ann)\r\n2. So What (for Ann)"
        )
        self.assertEqual(self.say("SKIP"), Reply(200, "1 skipped, 1 in the queue."))
        self.assertEqual(self.say("SKIP 5"), Reply(200, "1 skipped, 0 in the queue."))

    def test_limits(self) -> None:
        """COM-2"""
        for _ in range(LONGEST_QUEUE):
            self.assertEqual(self.say("QUEUE x").code, 200)
        self.assertEqual(self.say("QUEUE x"), Reply(420, "The queue is full."))
        self.assertEqual(self.say(f"QUEUE {'x' * 201}").code, 420)
        for count in ("0", "21", "x", "-1", "²"):
            self.assertEqual(self.say(f"SKIP {count}").code, 420, count)
