"""The registry of commands (FM-13)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from connectd.interfaces import IHandler
from connectd.protocols.fmltp.application import Application, Command, Commands, WrongArguments
from connectd.protocols.fmltp.jukebox import application, make_application
from connectd.sessions import HOLD


class RegisterTests(SynchronousTestCase):
    """Commands.add and Commands.command"""

    def added(self, function: Any, **options: Any) -> Command:
        return Commands().add(function, **{"help": "Some help.", **options})

    def test_from_the_function(self) -> None:
        """FM-13: name, help and arguments come from the function."""
        commands = Commands()

        @commands.command()
        def skip_to(session: Any, some_title: str, artist: str = "", *more: str) -> None:
            """Skip to a title.

            And more that HELP does not tell.
            """

        command = commands.get("SKIP_TO")
        assert command is not None
        self.assertIs(command.function, skip_to)
        self.assertEqual(command.usage, "SKIP_TO <some-title> [artist] [more…]")
        self.assertEqual(command.help, "Skip to a title.")
        self.assertEqual((command.least, command.most), (1, 64))
        self.assertEqual([one.name for one in commands], ["SKIP_TO"])
        self.assertEqual(len(commands), 1)
        self.assertIsNone(commands.get("skip_to"))

    def test_given(self) -> None:
        command = self.added(lambda session: None, name="now-playing", help="What plays.")
        self.assertEqual(
            (command.usage, command.help, command.least, command.most), ("NOW-PLAYING", "What plays.", 0, 0)
        )

    def test_names(self) -> None:
        """FM-13: what is built in cannot be replaced, nothing is registered twice, and names are names."""
        for name in ("AUTH", "help", "Quit", "1ST", "A B", "Ä", "A" * 33, "_X"):
            self.assertRaises(ValueError, self.added, lambda session: None, name=name)
        self.assertRaises(ValueError, self.added, lambda session: None)  # "<lambda>"
        commands = Commands()
        commands.add(lambda session: None, name="A", help="Some help.")
        self.assertRaises(ValueError, commands.add, lambda session: None, name="a", help="Some help.")

    def test_functions_that_cannot_be(self) -> None:
        def keyword(session: Any, *, loud: bool) -> None: ...
        def nothing() -> None: ...
        def options(session: Any, **options: Any) -> None: ...
        def unhelpful(session: Any) -> None: ...

        for function in (keyword, nothing, options):
            self.assertRaises(ValueError, self.added, function)
        self.assertRaises(ValueError, self.added, unhelpful, help="")
        self.assertRaises(ValueError, self.added, unhelpful, help="two\nlines")
        self.assertRaises(ValueError, self.added, unhelpful, rest=True)

        def many(session: Any, *words: str) -> None: ...

        self.assertRaises(ValueError, self.added, many, rest=True)


class SplitTests(SynchronousTestCase):
    """Command.split"""

    def command(self, function: Any, **options: Any) -> Command:
        return Commands().add(function, name="X", help="Some help.", **options)

    def assert_wrong(self, command: Command, line: str, expected: str) -> None:
        error = self.assertRaises(WrongArguments, command.split, line)
        self.assertTrue(str(error.reply).startswith(expected), error.reply)

    def test_number(self) -> None:
        """FM-12: too few and too many have codes of their own."""
        command = self.command(lambda session, a, b="": None)
        self.assertEqual(command.split("1"), ["1"])
        self.assertEqual(command.split("1 2"), ["1", "2"])
        self.assert_wrong(command, "", "411 ")
        self.assert_wrong(command, "1 2 3", "410 ")

    def test_single_spaces(self) -> None:
        """FM-11: one space separates; the next one is an empty argument."""
        command = self.command(lambda session, *words: None)
        self.assertEqual(command.split("a  b "), ["a", "", "b", ""])
        self.assertEqual(command.split(""), [])
        self.assert_wrong(command, " ".join("x" * 65), "410 ")
        self.assertEqual(len(command.split(" ".join("x" * 64))), 64)

    def test_rest(self) -> None:
        """The rest of the line, as it is."""
        command = self.command(lambda session, user, text: None, rest=True)
        self.assertEqual(command.split("ann  two words "), ["ann", " two words "])
        self.assert_wrong(command, "ann", "411 ")

    def test_too_long(self) -> None:
        """COM-2: an argument has a limit, which the command may set."""
        command = self.command(lambda session, a, b: None, longest=3)
        self.assertEqual(command.split("äöü abc"), ["äöü", "abc"])
        self.assert_wrong(command, "abc abcd", "420 Argument 2 is too long: at most 3 characters.")

    @given(st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc")), max_size=60), st.integers(1, 5))
    def test_nothing_is_lost(self, line: str, count: int) -> None:
        """What is split can be put together again."""
        command = self.command(eval(f"lambda session, {', '.join('abcde'[:count])}: None"), rest=True)
        try:
            found = command.split(line)
        except WrongArguments:
            self.assertTrue(line == "" or line.count(" ") < count - 1)
        else:
            self.assertEqual(" ".join(found), line)
            self.assertEqual(len(found), count)


class ApplicationTests(SynchronousTestCase):
    def test_handler(self) -> None:
        """An application is a handler that leaves sessions alone."""
        made = Application(Commands())
        verifyObject(IHandler, made)
        self.assertEqual(list(made.wants("fmltp")), [])
        session: Any = None
        self.assertIs(made.open(session), HOLD)

    def test_jukebox(self) -> None:
        """The one that connectd brings."""
        self.assertEqual([command.name for command in application.commands], ["QUEUE", "PLAYING", "SKIP"])
        self.assertIsNot(make_application(), application)
