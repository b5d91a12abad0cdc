"""FmLTP's listener: key exchange, accounts, and commands that an application brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from connectd.credentials import Avatar, Password
from connectd.net.authentication import Authenticator, WrongProof
from connectd.net.connection import Connection, Peer
from connectd.net.listener import Context, Listener
from connectd.protocols.fmltp.application import Commands
from connectd.protocols.fmltp.groups import Group
from connectd.protocols.fmltp.interpreter import Interpreter
from connectd.protocols.fmltp.machine import (
    AuthenticationRequested,
    CommandReceived,
    KeyExchangeRequested,
    ServerMachine,
    VersionReceived,
)
from connectd.protocols.fmltp.packets import Reply
from connectd.protocols.fmltp.parameters import load_parameters
from connectd.protocols.fmltp.settings import FRESH, FmltpSettings
from connectd.protocols.fmltp.work import GroupMaker, KeyWork
from connectd.sansio import Event, Outcome
from connectd.sessions import HOLD, Opening
from connectd.settings import ListenerSettings
from connectd.workers.processes import WorkError

log = Logger()

FULL = "The server is full"

COMMANDS_PER_TURN = 16
"""Commands that are answered in one turn of the reactor; a peer can send hundreds at once."""

SHOWN_NAME = 64
"""Characters of a client's friendly name that are told in events."""


class FmltpListener(Listener):
    """One FmLTP server.

    Who answers commands depends on its handler: an :class:`~connectd.protocols.fmltp.application.Application` by what
    is registered there, ``hold`` knows the built-in ones only, and any other handler, such as ``forward:…``, gets
    each command line as a message and sends replies.

    :param settings: the listener's.
    :param context: the daemon's shared rooms.
    :raises connectd.protocols.fmltp.parameters.ParametersError: where there is no group to be had.
    """

    protocol = "fmltp"
    credential_interfaces = (IUsernamePassword,)
    settings: FmltpSettings

    def __init__(self, settings: FmltpSettings, context: Context) -> None:
        self.group: Group = load_parameters(settings.parameters)
        """What the keys of new connections are made in."""
        self._work = KeyWork(context.reactor, settings.worker_processes)
        self._maker = GroupMaker(context.reactor)
        super().__init__(settings, context)
        for face in self.faces:
            face.keep_alive()  # FM-14
        self._interpreter = self._make_interpreter()
        self._answered = 0
        self._turn: IDelayedCall | None = None

    def _make_authenticator(self, settings: ListenerSettings) -> Authenticator | None:
        return super()._make_authenticator(settings) if cast(FmltpSettings, settings).accounts else None

    def _make_interpreter(self) -> Interpreter | None:
        """What answers commands; None where the handler does it itself."""
        commands = getattr(self.handler, "commands", None)
        if commands is None and self.handler is not HOLD:
            return None
        settings = self.settings
        return Interpreter(
            self.clock,
            Commands() if commands is None else commands,
            timeout=settings.command_timeout,
            accounts=settings.accounts,
        )

    # The service

    def startService(self) -> None:
        self._work.startService()
        self._work.prepare(self.group)
        super().startService()
        if self.settings.parameters == FRESH:
            self._make_fresh_group()

    def stopService(self) -> Deferred[None]:
        stopped = super().stopService()
        making: Deferred[None] | None = self._maker.stopService() if self._maker.running else None
        # The last handshakes may still need keys.
        stopped.addCallback(lambda result: self._work.stopService()).addBoth(self._stop_counting)
        return stopped if making is None else stopped.addCallback(lambda result: making)

    def reconfigure(self, settings: ListenerSettings) -> bool:
        """Take new settings; connections that are open keep their group and what they have logged in as."""
        if not isinstance(settings, FmltpSettings) or settings.worker_processes != self.settings.worker_processes:
            return False
        group = None if settings.parameters == self.settings.parameters else load_parameters(settings.parameters)
        if not super().reconfigure(settings):
            return False
        self._interpreter = self._make_interpreter()
        if group is not None:
            self.group = group
            self._work.prepare(group)
            if settings.parameters == FRESH and self.running:
                self._make_fresh_group()
        return True

    def _make_fresh_group(self) -> None:
        """Use a group of our own as soon as there is one (FM-5)."""
        if self._maker.running:
            return
        self._maker.startService()
        log.info("{title}: making a group; {group} serves until it is there", title=self.title, group=str(self.group))
        made: Deferred[Any] = Deferred.fromCoroutine(self._maker.make())
        made.addCallbacks(self._use_fresh_group, self._no_fresh_group)
        made.addErrback(lambda failure: log.failure("{title}: no group", failure, title=self.title))

    def _use_fresh_group(self, group: Group) -> None:
        if self.settings.parameters != FRESH:
            return
        self.group = group
        self._work.prepare(group)
        log.info("{title}: {group} was made, and is used from now on", title=self.title, group=str(group))

    def _no_fresh_group(self, failure: Any) -> None:
        failure.trap(WorkError)
        if self.running:
            log.error(
                "{title}: there is no fresh group, {group} goes on: {reason}",
                title=self.title,
                group=str(self.group),
                reason=failure.getErrorMessage(),
            )

    # What the machine says

    def make_machine(self, peer: Peer, now: float) -> ServerMachine:
        return ServerMachine(self.settings, self.group, now=now, random=self.context.random)

    def on_VersionReceived(self, connection: Connection, event: VersionReceived) -> None:
        """The client's version; the machine has compared it (FM-3)."""

    def on_KeyExchangeRequested(self, connection: Connection, event: KeyExchangeRequested) -> None:
        """A key pair for this connection alone, and the shared secret (FM-6)."""
        machine = cast(ServerMachine, connection.machine)
        if self.full and not self.settings.accounts:
            connection.call(lambda now: machine.refuse(FULL, now, Outcome.LIMITED))
        else:
            connection.decide(self._work.answer(event.group, event.y), machine.key_exchanged)

    def on_AuthenticationRequested(self, connection: Connection, event: AuthenticationRequested) -> None:
        """A name and a password (FM-11)."""
        machine = cast(ServerMachine, connection.machine)
        if self.full:
            connection.call(lambda now: machine.refuse(FULL, now, Outcome.LIMITED))
            return

        def proved(avatar: Avatar | None, now: float) -> list[Event]:
            return machine.fail(now) if avatar is None else machine.accept(avatar.account, now)

        # Any other refusal, such as that of an account that is disabled, ends the connection.
        login: Deferred[Any] = self.login(connection, Password(event.user, event.password))
        connection.decide(login.addErrback(lambda failure: failure.trap(WrongProof) and None), proved)

    def on_CommandReceived(self, connection: Connection, event: CommandReceived) -> None:
        """A command that the machine does not answer itself."""
        if not isinstance(connection.receiver, Opening):
            self._answer(connection, event)

    def handler_opened(self, connection: Connection) -> None:
        """Answer the command that came before the handler was ready."""
        decision = connection.machine.decision
        if isinstance(decision, CommandReceived):
            self._answer(connection, decision)

    def _answer(self, connection: Connection, event: CommandReceived) -> None:
        machine = cast(ServerMachine, connection.machine)
        interpreter = self._interpreter
        if interpreter is None and not (machine.locked or event.name == "HELP"):
            connection.call(machine.hand_on)
            return
        if interpreter is None:
            interpreter = Interpreter(self.clock, Commands(), accounts=self.settings.accounts)
        answered = interpreter.answer(connection.session, event.name, event.arguments, locked=machine.locked)
        if not isinstance(answered, Reply):
            connection.decide(answered, machine.reply)
        elif self._has_time():
            connection.call(machine.reply, answered)
        else:
            later: Deferred[Reply] = deferLater(self.clock, 0, lambda: answered)
            connection.decide(later, machine.reply)

    def _has_time(self) -> bool:
        """Whether another command may be answered in this turn."""
        if self._turn is None:
            self._turn = self.clock.callLater(0, self._turn_passed)
        self._answered += 1
        return self._answered <= COMMANDS_PER_TURN

    def _turn_passed(self) -> None:
        self._turn = None
        self._answered = 0

    def _stop_counting(self, result: Any) -> Any:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        return result

    def account(self, connection: Connection) -> str:
        return cast(ServerMachine, connection.machine).account

    def identity(self, connection: Connection) -> Mapping[str, Any]:
        """The account, and what the client said that it is."""
        machine = cast(ServerMachine, connection.machine)
        version = machine.peer_version
        identity: dict[str, Any] = {"account": machine.account} if machine.account else {}
        if version is not None:
            identity |= {"client": version.name[:SHOWN_NAME], "version": str(version)}
        return identity
