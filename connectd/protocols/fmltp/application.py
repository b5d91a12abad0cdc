"""What an application brings to a FmLTP listener: commands, and perhaps a look at who comes and goes (FM-13).

::

    commands = Commands()

    @commands.command(help="What plays now.")
    def playing(session):
        return "Nothing plays."

    @commands.command(rest=True)
    async def queue(session, title):
        \"\"\"Put a title at the end of the queue.\"\"\"
        position = await jukebox.put(session.account, title)
        return f"{title} is number {position}."

    jukebox_application = Application(commands)

The application is a handler: a ``handlers = {"jukebox": jukebox_application}`` of a daemon that is composed in Python,
or a :class:`~connectd.plugins.HandlerLine` in a plugin file, makes it a word for ``handler = …``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

import attrs
from zope.interface import implementer

from connectd.interfaces import IHandler, ISession
from connectd.protocols.fmltp.packets import COMMAND_ERROR, TOO_FEW_ARGUMENTS, TOO_MANY_ARGUMENTS, Reply
from connectd.sessions import HOLD

BUILT_IN = ("AUTH", "HELP", "QUIT")
"""Commands that every server has and no application can replace (FM-13)."""

LONGEST_ARGUMENT = 1024
"""Characters of an argument, unless a command says otherwise."""

MOST_ARGUMENTS = 64
"""Arguments of a command that takes any number of them."""

_NAME = re.compile(r"[A-Z][A-Z0-9_-]{0,31}", re.ASCII)

Result = Reply | str | None
"""What a command gives back: text is answered with 200, None with ``200 OK.``"""

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class CommandError(Exception):
    """What a command raises to be answered 420 with a text of its own; any other exception is answered
    ``420 Command error.`` and logged.

    :param text: for the peer, in one line.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class WrongArguments(Exception):
    """A command was called with arguments that it does not take.

    :param reply: what the peer is told.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@attrs.frozen
class Command:
    """A registered command.

    :param name: in capitals.
    :param function: called with the session (:class:`connectd.interfaces.ISession`) and the arguments.
    :param help: one line.
    :param arguments: the arguments as HELP shows them, such as ``<title> [artist]``.
    :param least: how many arguments it needs.
    :param most: how many it takes.
    :param rest: the last one is all that is left of the line.
    :param longest: characters that an argument may have.
    """

    name: str
    function: Callable[..., Result | Awaitable[Result]] = attrs.field(repr=False)
    help: str
    arguments: str
    least: int
    most: int
    rest: bool = False
    longest: int = LONGEST_ARGUMENT

    @property
    def usage(self) -> str:
        """Name and arguments."""
        return f"{self.name} {self.arguments}".rstrip()

    def split(self, line: str) -> list[str]:
        """The arguments in the rest of a line; single spaces separate them (FM-11).

        :raises WrongArguments: where there are too few or too many (FM-12), or one is too long.
        """
        if not line:
            found = []
        elif self.rest:
            found = line.split(" ", self.most - 1)
        else:
            found = line.split(" ", self.most)
        if len(found) < self.least:
            raise WrongArguments(TOO_FEW_ARGUMENTS)
        if len(found) > self.most:
            raise WrongArguments(TOO_MANY_ARGUMENTS)
        for number, argument in enumerate(found, 1):
            if len(argument) > self.longest:
                text = f"Argument {number} is too long: at most {self.longest} characters."
                raise WrongArguments(Reply(COMMAND_ERROR, text))
        return found


class Commands:
    """A registry of commands."""

    def __init__(self) -> None:
        self._commands: dict[str, Command] = {}

    def __iter__(self) -> Iterator[Command]:
        return iter(self._commands.values())

    def __len__(self) -> int:
        return len(self._commands)

    def get(self, name: str) -> Command | None:
        """The command of that name."""
        return self._commands.get(name)

    def command(
        self, *, name: str = "", help: str = "", rest: bool = False, longest: int = LONGEST_ARGUMENT
    ) -> Callable[[FunctionT], FunctionT]:
        """Register the function below; see :meth:`add`."""

        def register(function: FunctionT) -> FunctionT:
            self.add(function, name=name, help=help, rest=rest, longest=longest)
            return function

        return register

    def add(
        self,
        function: Callable[..., Result | Awaitable[Result]],
        *,
        name: str = "",
        help: str = "",
        rest: bool = False,
        longest: int = LONGEST_ARGUMENT,
    ) -> Command:
        """Register a function.

        Its first parameter is the session, the others are the command's arguments: those with a default may be left
        out, and ``*names`` takes any number. It gets text and returns, or returns an awaitable of, text, a
        :class:`~connectd.protocols.fmltp.packets.Reply` or None.

        :param name: the command's; that of the function in capitals unless given.
        :param help: one line; the first of the function's docstring unless given.
        :param rest: the last argument is all that is left of the line, spaces included.
        :param longest: characters that an argument may have.
        :raises ValueError: for a name that is none or is taken, a function that cannot be called so, or no help.
        """
        name = (name or getattr(function, "__name__", "")).upper()
        if not _NAME.fullmatch(name):
            raise ValueError(f'"{name}" is no name of a command: a letter, then at most 31 letters, digits, _ or -')
        if name in BUILT_IN or name in self._commands:
            raise ValueError(f"there is a command {name} already")
        told = help or (inspect.getdoc(function) or "").partition("\n")[0]
        if not told.isprintable() or not told:
            raise ValueError(f"the command {name} has no help: one line, or a docstring")
        shown, least, most = _parameters(name, function)
        if rest and not 1 <= most < MOST_ARGUMENTS:
            raise ValueError(f"the command {name} has no last argument that could be the rest of the line")
        command = Command(name, function, told, shown, least, most, rest, longest)
        self._commands[name] = command
        return command


def _parameters(name: str, function: Callable[..., Any]) -> tuple[str, int, int]:
    """The arguments of a function as HELP shows them, how many it needs and how many it takes."""
    parameters = list(inspect.signature(function).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or parameters[0].kind not in positional:
        raise ValueError(f"the command {name} does not take the session as its first argument")
    shown: list[str] = []
    least = most = 0
    for parameter in parameters[1:]:
        word = parameter.name.replace("_", "-")
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            shown.append(f"[{word}…]")
            most = MOST_ARGUMENTS
        elif parameter.kind not in positional:
            raise ValueError(f"the command {name} has a parameter {parameter.name} that no argument could be for")
        elif parameter.default is inspect.Parameter.empty:
            shown.append(f"<{word}>")
            least, most = least + 1, most + 1
        else:
            shown.append(f"[{word}]")
            most += 1
    return " ".join(shown), least, most


@implementer(IHandler)
class Application:
    """A handler that answers commands.

    Subclasses may give ``open`` as well, to know who is there (:class:`connectd.interfaces.IHandler`).

    :param commands: what it answers.
    """

    def __init__(self, commands: Commands) -> None:
        self.commands = commands

    def wants(self, protocol: str) -> Iterable[str]:
        return ()

    def open(self, session: ISession) -> Any:
        """A session was accepted."""
        return HOLD
