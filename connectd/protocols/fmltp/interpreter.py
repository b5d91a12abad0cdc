"""Answers commands: HELP, and those that the application registered (FM-11, FM-12, FM-13)."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.logger import Logger

from connectd.protocols.fmltp.application import Command, CommandError, Commands, Result, WrongArguments
from connectd.protocols.fmltp.packets import (
    COMMAND_ERROR,
    INVALID_COMMAND,
    MAXIMUM_PLAINTEXT,
    SUCCESS,
    TOO_MANY_ARGUMENTS,
    Reply,
)

log = Logger()

OK = Reply(SUCCESS, "OK.")
FAILED = Reply(COMMAND_ERROR, "Command error.")
TIMED_OUT = Reply(COMMAND_ERROR, "The command took too long.")

_HELP: dict[str, tuple[str, str]] = {
    "AUTH": ("AUTH <user> <password>", "Log in; the password is the rest of the line."),
    "HELP": ("HELP [command]", "List the commands, or tell about one."),
    "QUIT": ("QUIT", "Say goodbye."),
}


class Interpreter:
    """What a listener answers to commands that its machine does not answer itself.

    :param clock: the reactor.
    :param commands: those of the application.
    :param timeout: seconds that a command may take; 0 = any time.
    :param accounts: HELP tells of AUTH.
    """

    def __init__(self, clock: Any, commands: Commands, *, timeout: float = 0.0, accounts: bool = True) -> None:
        self.clock = clock
        self.commands = commands
        self.timeout = timeout
        self._built_in = dict(_HELP)
        if not accounts:
            del self._built_in["AUTH"]

    def knows(self, name: str) -> bool:
        """Whether a command is answered here."""
        return name == "HELP" or self.commands.get(name) is not None

    def answer(self, session: Any, name: str, line: str, *, locked: bool) -> Reply | Deferred[Reply]:
        """Answer a command.

        :param session: whose it is (:class:`connectd.interfaces.ISession`); None while it is locked.
        :param line: the rest of the line behind the name.
        :param locked: nobody has logged in yet, so that only HELP is answered (FM-11).
        :return: a Deferred where that takes time; cancelling it cancels the command.
        """
        if name == "HELP":
            return self._help(line, locked=locked)
        command = None if locked else self.commands.get(name)
        if command is None:
            return INVALID_COMMAND
        try:
            result = command.function(session, *command.split(line))
            if not inspect.isawaitable(result):
                return _reply(result)
        except WrongArguments as error:
            return error.reply
        except Exception as error:
            return _error_reply(command, session, error)
        return Deferred.fromCoroutine(self._wait(command, session, result))

    async def _wait(self, command: Command, session: Any, result: Any) -> Reply:
        try:
            waiting = result if isinstance(result, Deferred) else Deferred.fromCoroutine(_awaited(result))
            if self.timeout:
                waiting.addTimeout(self.timeout, self.clock)
            return _reply(await waiting)
        except TookTooLong:
            log.error("the command {name} took longer than {seconds:g} s", name=command.name, seconds=self.timeout)
            return TIMED_OUT
        except CancelledError:
            # By a connection that ended, where nobody hears this, or by the command itself.
            log.debug("the command {name} was cancelled", name=command.name)
            return FAILED
        except Exception as error:
            return _error_reply(command, session, error)

    def _help(self, line: str, *, locked: bool) -> Reply:
        listed = {name: f"{usage}: {told}" for name, (usage, told) in self._built_in.items()}
        if not locked:
            listed.update((command.name, f"{command.usage}: {command.help}") for command in self.commands)
        if not line:
            return Reply(SUCCESS, f"Commands: {', '.join(listed)}")
        if " " in line:
            return TOO_MANY_ARGUMENTS
        found = listed.get(line.upper())
        return INVALID_COMMAND if found is None else Reply(SUCCESS, found)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _error_reply(command: Command, session: Any, error: Exception) -> Reply:
    """What a peer is told about an error: only what it is meant to be told."""
    if isinstance(error, CommandError):
        try:
            return _reply(Reply(COMMAND_ERROR, error.text))
        except ValueError:
            pass
    log.failure("the command {name} failed for session {id}", name=command.name, id=getattr(session, "id", None))
    return FAILED


def _reply(result: Result) -> Reply:
    """The reply for what a command gave back.

    :raises ValueError: where no reply can be made of it.
    """
    if result is None:
        return OK
    reply = result if isinstance(result, Reply) else Reply(SUCCESS, _text(result))
    text = "\r\n".join(_lines(reply.text))
    if not 100 <= reply.code <= 999:
        raise ValueError(f"{reply.code} is no code of a reply: three digits")
    if len(text.encode()) > MAXIMUM_PLAINTEXT - 6:
        raise ValueError(f"the reply is too long: at most {MAXIMUM_PLAINTEXT - 6} bytes")
    return Reply(reply.code, text)


def _text(result: object) -> str:
    if not isinstance(result, str):
        raise ValueError(f"a command gives text, a Reply or None, not {type(result).__name__}")
    return result


def _lines(text: str) -> Iterable[str]:
    """The lines of a text, in which nothing moves a terminal's cursor."""
    for line in text.splitlines() or [""]:
        if line.isprintable():
            yield line
        else:
            yield "".join(one if one.isprintable() or one == "\t" else "\N{REPLACEMENT CHARACTER}" for one in line)
