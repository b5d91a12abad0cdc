"""A FmLTP client: connects, exchanges keys, logs in, sends commands, and connects again when it is cut off.

In short::

    client = FmltpClient.from_url(reactor, "fmltp://ann@play.example:8900", password="…")
    client.startService()
    await client.when_ready()
    reply = await client.command("QUEUE Blue in Green")
    print(reply.code, reply.text)
    await client.stopService()

The exchange is not authenticated: whoever is in the path can read and change everything, the password included (FM-16).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, NoReturn

import attrs
from twisted.application.internet import ClientService, backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from connectd.net.client import ConnectionEnded, Dialogue, SessionEndpoint
from connectd.net.connection import Connection
from connectd.net.url import ServerURL, parse_url
from connectd.protocols.fmltp.groups import DEFAULT_MINIMUM_BITS
from connectd.protocols.fmltp.machine import (
    ClientMachine,
    Greeted,
    KeyPairRequested,
    NoticeReceived,
    ReplyReceived,
    SecretRequested,
    VersionReceived,
)
from connectd.protocols.fmltp.packets import AUTHENTICATION_SUCCESSFUL, Reply
from connectd.protocols.fmltp.settings import FmltpClientSettings
from connectd.protocols.fmltp.work import KeyWork
from connectd.sansio import Ended, LocalProtocolError, Machine, Outcome

log = Logger()

PORT = 8900

MAXIMUM_WAITING = 1024
"""Commands that may wait until the server has answered others."""

OPEN_PATH = (
    "the password goes to {place}, and FmLTP's key exchange is not authenticated: whoever is in the path can read and "
    "change everything, the password included"
)
"""FM-16's warning."""

SMALL_GROUP = (
    "the server's parameters have only {bits} bits: what is said can be read by whoever can spend some computing"
)
"""The warning of FM-5."""


@attrs.frozen
class Credentials:
    """Whom to log in as.

    :param username: without spaces, for one ends it (FM-11).
    :param password: may have spaces.
    :raises ValueError: where FmLTP cannot say them; without them (COM-9).
    """

    username: str
    password: str = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.username or " " in self.username or not self.username.isprintable():
            raise ValueError("the user name is empty, or has a space or a control character in it")
        if not self.password or not self.password.isprintable():
            raise ValueError("the password is empty, or has a control character in it")


class AuthenticationFailed(ConnectionEnded):
    """The server did not take the name and the password."""


class FmltpDialogue(Dialogue):
    """One connection of a client; :class:`FmltpClient` is what keeps one.

    :param reactor: the reactor.
    :param settings: the client's.
    :param work: where keys are computed; a running service.
    :param credentials: whom to log in as where the server asks for that.
    :param interactive: without credentials, somebody is going to :meth:`authenticate`; otherwise a server that asks for
        that is left.
    :param report: called with (step, detail) as the connection process goes.
    :param warn: called with a warning (FM-5, FM-16).
    :param notice: called with what the server says unasked.
    :param ended: called with how it ended.
    """

    def __init__(
        self,
        reactor: Any,
        settings: FmltpClientSettings,
        work: KeyWork,
        *,
        credentials: Credentials | None = None,
        interactive: bool = False,
        report: Callable[[str, str], None] = lambda step, detail: None,
        warn: Callable[[str], None] = lambda text: log.warn("{text}", text=text),
        notice: Callable[[Reply], None] = lambda reply: None,
        ended: Callable[[Ended], None] = lambda event: None,
    ) -> None:
        super().__init__(reactor)
        self.settings = settings
        self.machine: ClientMachine | None = None
        self.greeted: Greeted | None = None
        """What the server said when the channel stood."""
        self._work = work
        self._credentials = credentials
        self._interactive = interactive
        self._report = report
        self._warn = warn
        self._notice = notice
        self._ended = ended
        self._warned = False
        self._rejected = False
        self._opening: list[Deferred[Greeted]] = []
        self._commands: deque[tuple[str, Deferred[Reply]]] = deque()
        self._outstanding: deque[Deferred[Reply]] = deque()

    def make_machine(self, now: float) -> Machine:
        self.machine = ClientMachine(self.settings, now=now)
        return self.machine

    # What can be asked for

    def open(self, endpoint: IStreamClientEndpoint) -> Deferred[Greeted]:
        """Connect, until the channel stands. Whoever needs to log in can do that then.

        :return: fails as :meth:`dial` does. Cancelling it hangs up.
        """
        dialled = self.dial(endpoint)
        opened: Deferred[Greeted] = Deferred(lambda cancelled: dialled.cancel())
        self._opening.append(opened)
        dialled.addErrback(self._not_opened, opened)
        return opened

    def _not_opened(self, failure: Failure, opened: Deferred[Greeted]) -> None:
        """The channel came to its end; whoever waits for it to stand is told, others have been told otherwise."""
        if opened in self._opening:
            self._opening.remove(opened)
            if not opened.called:
                opened.errback(failure)

    def authenticate(self, username: str, password: str) -> Deferred[Reply]:
        """Log in.

        :return: fires with the reply, 150 or 151; fails with ConnectionError where the connection ends first.
        :raises connectd.sansio.LocalProtocolError: where that cannot be said, or not now.
        """
        connection, machine = self._usable()
        self._warn_of_open_path(connection)
        machine.authenticate(username, password, self.clock.seconds())
        reply: Deferred[Reply] = Deferred()
        self._outstanding.append(reply)
        _write_out(connection)
        return reply

    def command(self, text: str) -> Deferred[Reply]:
        """Send a command, such as ``QUEUE Blue in Green``, now or when the server has answered those before it.

        :return: fires with the reply, whatever its code; fails with ConnectionError where the connection ends first.
        :raises connectd.sansio.LocalProtocolError: where the text is no command, or too long for this server.
        """
        try:
            _, machine = self._usable()
        except ConnectionError as error:
            return fail(error)
        if len(self._commands) >= MAXIMUM_WAITING:
            return fail(ConnectionError(f"{MAXIMUM_WAITING} commands wait already"))
        reply: Deferred[Reply] = Deferred()
        if self._commands or not machine.can_command:
            self._commands.append((text, reply))
        else:
            self._send(text, reply)
        return reply

    def _usable(self) -> tuple[Connection, ClientMachine]:
        connection, machine = self.connection, self.machine
        if connection is None or machine is None or self.greeted is None or machine.ended:
            raise ConnectionError("not connected" if self.ended is None else self.ended.reason)
        return connection, machine

    def _send(self, text: str, reply: Deferred[Reply]) -> None:
        connection, machine = self._usable()
        machine.command(text, self.clock.seconds())
        self._outstanding.append(reply)
        _write_out(connection)

    def _warn_of_open_path(self, connection: Connection) -> None:
        """FM-16, once."""
        host = connection.peer.host
        if not self._warned and host and not ip_address(host.partition("%")[0]).is_loopback:
            self._warned = True
            self._warn(OPEN_PATH.format(place=connection.peer))

    # What the machine says

    def on_VersionReceived(self, connection: Connection, event: VersionReceived) -> None:
        """The server said what it is."""
        transport = connection.transport
        if hasattr(transport, "setTcpKeepAlive"):
            transport.setTcpKeepAlive(1)  # FM-14
        self._report("VEX_INIT", f"{event.version.name}, version {event.version}; ours is {self.settings.version}")

    def on_KeyPairRequested(self, connection: Connection, event: KeyPairRequested) -> None:
        """The server's parameters are of a size that we take."""
        assert self.machine is not None
        group, machine = event.group, self.machine
        self._report("KEX_INIT", f"{group} ({group.bits} bits)")
        if group.bits < DEFAULT_MINIMUM_BITS:
            self._warn(SMALL_GROUP.format(bits=group.bits))
        connection.decide(self._work.generate(group), machine.key_pair_made)

    def on_SecretRequested(self, connection: Connection, event: SecretRequested) -> None:
        """The server's public key."""
        assert self.machine is not None
        self._report("KEX_ID", "keys are exchanged")
        secret = self._work.compute_secret(event.group, event.pair, event.y)
        connection.decide(secret, self.machine.secret_computed)

    def on_Greeted(self, connection: Connection, event: Greeted) -> None:
        """The channel stands."""
        self.greeted = event
        required = "authentication required" if event.authentication_required else "no authentication required"
        habits = "; it writes as deployed servers do" if event.deployed else ""
        self._report("KEX_FINAL", f"{event.code} {_compared(event.code)}; {required}{habits}")
        waiters, self._opening = self._opening, []
        for waiter in waiters:
            waiter.callback(event)
        if not event.authentication_required:
            return
        if self._credentials is not None:
            try:
                answered: Deferred[Any] = self.authenticate(self._credentials.username, self._credentials.password)
            except LocalProtocolError:
                self._leave(connection, "the user name and the password are too long for this server")
            else:
                answered.addCallback(self._authenticated, connection)
                answered.addErrback(lambda failure: failure.trap(ConnectionError))
        elif not self._interactive:
            self._leave(connection, "the server asks for a user name and a password")

    def _authenticated(self, reply: Reply, connection: Connection) -> None:
        if reply.code != AUTHENTICATION_SUCCESSFUL.code:
            self._leave(connection, str(reply))

    def _leave(self, connection: Connection, reason: str) -> None:
        """There is no way in."""
        self._rejected = True
        connection.close(Outcome.REFUSED, reason)

    def on_ReplyReceived(self, connection: Connection, event: ReplyReceived) -> None:
        """The answer to the oldest command that has none yet."""
        self._report(event.command, str(event.reply))
        if self._outstanding:
            self._outstanding.popleft().callback(event.reply)
        while self._commands and self.machine is not None and not self.machine.ended and self.machine.can_command:
            text, reply = self._commands.popleft()
            try:
                self._send(text, reply)
            except Exception:
                reply.errback(Failure())

    def on_NoticeReceived(self, connection: Connection, event: NoticeReceived) -> None:
        """The server said something unasked."""
        self._report("notice", str(event.reply))
        self._notice(event.reply)

    def not_established(self, event: Ended) -> ConnectionEnded:
        return (AuthenticationFailed if self._rejected else ConnectionEnded)(event.outcome, event.reason)

    def connection_ended(self, connection: Connection, event: Ended) -> None:
        super().connection_ended(connection, event)
        self._ended(event)
        for _, reply in self._commands:
            self._outstanding.append(reply)
        self._commands.clear()
        while self._outstanding:
            self._outstanding.popleft().errback(ConnectionError(event.reason))


def _write_out(connection: Connection) -> None:
    """Have written what the machine was told to say: its own errors are for whoever told it."""
    connection.call(lambda now: [])


def _compared(code: int) -> str:
    """What FM-9's code says."""
    words = ("the same", "ours is newer", "the server's is newer")
    return f"(y {words[code // 10 % 10]}, z {words[code % 10]})"


class FmltpClient(Service):
    """Stays connected to a server, and logged in where it asks for that.

    A name and password that are refused are not tried again: the client stops.

    :param reactor: the reactor.
    :param endpoint: where the server is.
    :param settings: the client's.
    :param credentials: whom to log in as.
    :param retry_policy: gives the seconds to wait after so many failures in a row.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        settings: FmltpClientSettings | None = None,
        *,
        credentials: Credentials | None = None,
        retry_policy: Callable[[int], float] | None = None,
    ) -> None:
        self.settings = FmltpClientSettings() if settings is None else settings
        self.last_end: Ended | None = None
        """How the last connection ended."""
        self.on_ready: Callable[[], None] = lambda: None
        """Called each time that commands can be sent."""
        self.on_notice: Callable[[Reply], None] = lambda reply: None
        """Called with what the server says unasked."""
        self.on_end: Callable[[Ended], None] = lambda event: None
        """Called each time that a connection ends."""
        self.on_warning: Callable[[str], None] = lambda text: log.warn("{text}", text=text)
        """Called once with each warning (FM-5, FM-16)."""
        self._reactor = reactor
        self._credentials = credentials
        self._work = KeyWork(reactor)
        self._dialogue: FmltpDialogue | None = None
        self._warnings: set[str] = set()
        self._rejection: AuthenticationFailed | None = None
        self._leavers: list[Deferred[None]] | None = None
        policy = retry_policy or backoffPolicy(1.0, 60.0, jitter=lambda: random.uniform(0, 1))  # noqa: S311 - a delay
        self._service = ClientService(
            SessionEndpoint(endpoint, self._begin), Factory.forProtocol(Protocol), retryPolicy=policy, clock=reactor
        )

    @classmethod
    def from_url(cls, reactor: Any, url: str, *, password: str | None = None) -> FmltpClient:
        """A client for ``fmltp://USER@HOST:PORT?minimum_bits=…``.

        :param password: the user's.
        :raises connectd.net.url.URLError: with what is wrong with the URL.
        """
        server = parse_fmltp_url(url)
        credentials = None if password is None else Credentials(server.username, password)
        return cls(reactor, server.endpoint(reactor), server.settings, credentials=credentials)

    # The service

    def startService(self) -> None:
        """Connect, and keep connected."""
        Service.startService(self)
        self._work.startService()
        self._service.startService()

    def stopService(self) -> Deferred[None]:
        """Leave; fires once the connection is gone."""
        if self.running:
            Service.stopService(self)
            self._leavers = []
            # In a turn of its own: a ClientService cannot be stopped by whoever it is just telling of a failure.
            stopping: Deferred[Any] = deferLater(self._reactor, 0, self._service.stopService)
            stopping.addCallback(lambda result: self._work.stopService())
            stopping.addErrback(lambda failure: log.failure("a client did not stop well", failure))
            stopping.addCallback(self._left)
        if self._leavers is None:
            return succeed(None)
        leaver: Deferred[None] = Deferred()
        self._leavers.append(leaver)
        return leaver

    def _left(self, result: Any) -> None:
        leavers, self._leavers = self._leavers, None
        for leaver in leavers or ():
            leaver.callback(None)

    def when_ready(self, attempts: int | None = 1) -> Deferred[None]:
        """Fires once commands can be sent.

        :param attempts: after so many failed ones in a row it fails; None goes on for ever. Either way it fails with
            :class:`AuthenticationFailed` where name and password are wrong.
        """
        if self._rejection is not None:
            return fail(self._rejection)
        ready: Deferred[Any] = self._service.whenConnected(failAfterFailures=attempts)
        return ready.addCallbacks(lambda connection: None, self._not_ready)

    def _not_ready(self, failure: Failure) -> NoReturn:
        if self._rejection is not None and failure.check(CancelledError):
            raise self._rejection
        failure.raiseException()
        raise AssertionError

    def command(self, text: str) -> Deferred[Reply]:
        """Send a command; see :meth:`FmltpDialogue.command`. One that was sent when the connection broke is not sent
        again."""
        if self._dialogue is None:
            return fail(ConnectionError("not connected"))
        return self._dialogue.command(text)

    # Inside

    def _begin(self) -> FmltpDialogue:
        dialogue = FmltpDialogue(
            self._reactor,
            self.settings,
            self._work,
            credentials=self._credentials,
            warn=self._warn,
            notice=self._noticed,
            ended=self._ended,
        )
        self._dialogue = dialogue
        dialogue.when_established().addCallbacks(lambda result: self.on_ready(), self._not_established)
        return dialogue

    def _not_established(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, AuthenticationFailed) and self._rejection is None:
            self._rejection = error
            log.error("this client does not try again to log in: {reason}", reason=error.reason)
            if self.running:
                self.stopService().addErrback(lambda failure: log.failure("a client did not stop", failure))

    def _noticed(self, reply: Reply) -> None:
        self.on_notice(reply)

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.add(text)
            self.on_warning(text)

    def _ended(self, event: Ended) -> None:
        self.last_end = event
        self.on_end(event)


def parse_fmltp_url(url: str) -> ServerURL[FmltpClientSettings]:
    """Take a ``fmltp://`` URL apart.

    :raises connectd.net.url.URLError: with what is wrong with it.
    """
    return parse_url(url, "fmltp", PORT, FmltpClientSettings)
