"""``connectctl fmltp shell``: commands as somebody types them, and the server's replies."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from connectd.net.client import ConnectionEnded
from connectd.protocols.fmltp.client import FmltpDialogue, parse_fmltp_url
from connectd.protocols.fmltp.packets import Reply
from connectd.protocols.fmltp.terminal import Lines
from connectd.protocols.fmltp.work import KeyWork
from connectd.sansio import Ended, LocalProtocolError, Outcome

LISTED = "Commands: "
"""What connectd's HELP begins with; of other servers' texts, words in capitals are taken for commands."""


class Shell:
    """One conversation with a server.

    :param reactor: the reactor.
    :param url: ``fmltp://[USER@]HOST[:PORT][?…]``.
    :param source: where lines come from.
    :param show: prints a line.
    :param warn: prints a warning.
    """

    def __init__(
        self, reactor: Any, url: str, source: Lines, show: Callable[[str], None], warn: Callable[[str], None]
    ) -> None:
        self.reactor = reactor
        self.server = parse_fmltp_url(url)
        self.source = source
        self.show = show
        self._work = KeyWork(reactor)
        self._over: Ended | None = None
        self._turn: Deferred[Any] | None = None
        self._dialogue = FmltpDialogue(
            reactor,
            self.server.settings,
            self._work,
            interactive=True,
            report=self._report,
            warn=warn,
            notice=self._print,
            ended=self._ended,
        )

    async def run(self) -> None:
        """Talk until somebody says QUIT.

        :raises connectd.net.client.ConnectionEnded: where the server ends it.
        """
        self._work.startService()
        try:
            server = self.server
            greeted = await self._dialogue.open(server.endpoint(self.reactor, server.settings.handshake_timeout))
            await self._list_commands()
            if greeted.authentication_required and server.username and self.source.interactive:
                await self._log_in(server.username)
            while not await self._next():
                pass
            await self._dialogue.when_closed()
        finally:
            await self._dialogue.hang_up()
            await self._work.stopService()

    async def _next(self) -> bool:
        """Send a line; tells whether it was the last one."""
        question = f"{self.server.username}{'@' if self.server.username else ''}{self.server.host}> "
        try:
            line: str | None = await self._or_end(self.source.read(self.reactor, question))
        except ValueError as error:
            self.show(f"* this is not a line of UTF-8: {error}")
            return False
        if line is None:
            line = "QUIT"
        word, _, rest = line.strip().partition(" ")
        if not word:
            return False
        if word.upper() == "AUTH" and rest and " " not in rest and self.source.interactive:
            await self._log_in(rest)
            return False
        try:
            # Names are in capitals; whoever types them need not care.
            reply = await self._dialogue.command(f"{word.upper()} {rest}" if rest else word.upper())
        except LocalProtocolError as error:
            self.show(f"* {error}")
            return False
        except ConnectionError as error:
            raise self._end(str(error)) from None
        self._print(reply)
        if word.upper() == "AUTH":
            await self._list_commands()
        return word.upper() == "QUIT"

    async def _log_in(self, username: str) -> None:
        """Ask for the password."""
        password = await self._or_end(self.source.read_password(self.reactor, f"Password for {username}: "))
        try:
            self._print(await self._dialogue.authenticate(username, password))
        except LocalProtocolError as error:
            self.show(f"* {error}")
        except ConnectionError as error:
            raise self._end(str(error)) from None
        await self._list_commands()

    async def _list_commands(self) -> None:
        """Ask for the names of commands, for whoever has a Tab key."""
        if self.source.interactive and self._over is None:
            try:
                self.source.names = command_names((await self._dialogue.command("HELP")).text)
            except ConnectionError as error:
                raise self._end(str(error)) from None

    def _or_end(self, waited: Deferred[Any]) -> Deferred[Any]:
        """What is waited for, unless the connection ends first."""
        if self._over is not None:
            raise self._end()
        turn: Deferred[Any] = Deferred()
        self._turn = turn

        def done(result: Any) -> None:
            if self._turn is turn:
                self._turn = None
                turn.callback(result)

        waited.addBoth(done)
        return turn

    def _end(self, reason: str = "") -> ConnectionEnded:
        over = self._over
        if over is None:
            return ConnectionEnded(Outcome.LOST, reason)
        return ConnectionEnded(over.outcome, over.reason)

    def _ended(self, event: Ended) -> None:
        self._over = event
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.errback(Failure(self._end()))

    def _report(self, step: str, detail: str) -> None:
        """The steps up to the channel are told; replies are printed by whoever waits for them."""
        if step in ("VEX_INIT", "KEX_INIT", "KEX_FINAL"):
            self.show(f"* {detail}")

    def _print(self, reply: Reply) -> None:
        for line in str(reply).splitlines():
            self.show(line)


def command_names(text: str) -> list[str]:
    """The names of commands in what HELP answers."""
    if text.startswith(LISTED):
        return text.removeprefix(LISTED).splitlines()[0].split(", ")
    return sorted(set(re.findall(r"\b[A-Z][A-Z0-9_-]+\b", text)))
