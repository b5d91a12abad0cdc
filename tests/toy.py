"""A toy password protocol: the smallest machine and listener that go the one way all protocols take.

The client sends lines of at most 1024 bytes. ``LOGIN name password`` is answered ``WELCOME name`` or ``NO why``. From
then on ``STREAM n`` is answered by ``STREAMING n``, n bytes and ``DONE``; ``ASK what`` by whatever the listener says;
any other line is a message for the handler. The server's words at the end are ``NO why`` before acceptance and
``BYE why`` after it, but it may say nothing before the first byte of the client (COM-12).

The second half of this module is the test bench: a listener on a fake clock, transports whose other end a test holds,
and a check that every connection had one outcome of the right kind.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from connectd.account_settings import AccountListenerSettings
from connectd.admission import Admission, AdmissionLimits
from connectd.credentials import Password
from connectd.events import Events
from connectd.interfaces import IEventSink, IHandler
from connectd.net.connection import Connection, Peer, Refused
from connectd.net.listener import Context, Listener
from connectd.sansio import (
    AFTER_ACCEPTANCE,
    BEFORE_ACCEPTANCE,
    Decision,
    Established,
    Event,
    LocalProtocolError,
    Machine,
    Outcome,
    Received,
    RemoteProtocolError,
)
from connectd.sessions import HOLD
from connectd.settings import at_least, key

MAXIMUM_LINE = 1024
NOW = 1_790_000_000.0
"""When the clocks of tests begin: reactors tell Unix time."""


@attrs.frozen(kw_only=True)
class ToySettings(AccountListenerSettings):
    """What a toy listener can be told."""

    idle_timeout: float = key(0.0, "A session that says nothing for so long is ended; 0 = never.", check=at_least(0))
    banned: tuple[str, ...] = key((), "Accounts that may not log in.")
    part: int = key(4096, "How much of a stream is written at once.", unit="bytes", check=at_least(1))


# Pure


@attrs.frozen
class Line:
    """A message: one line, without its end."""

    text: bytes

    def encode(self) -> bytes:
        return self.text + b"\n"


@attrs.frozen
class LoginRequested(Decision):
    """Verb: :meth:`ToyMachine.accept`."""

    name: str
    password: bytes = attrs.field(repr=False)


@attrs.frozen
class StreamRequested(Decision):
    """Verb: :meth:`ToyMachine.streamed`."""

    size: int


@attrs.frozen
class AskRequested(Decision):
    """Verb: :meth:`ToyMachine.answer`."""

    what: bytes


class State(enum.Enum):
    """Where a toy connection stands."""

    LOGIN = "login"
    OPEN = "open"


class ToyMachine(Machine):
    """The server's side."""

    __slots__ = ("_heard", "_settings", "_state", "account")

    held_limit = 4096

    def __init__(self, settings: ToySettings, *, now: float) -> None:
        super().__init__(now=now, handshake_timeout=settings.handshake_timeout)
        self._settings = settings
        self._state = State.LOGIN
        self._heard = False
        self.account = ""

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        self._heard = True
        return super().receive_data(data, now)

    def accept(self, account: str, now: float) -> list[Event]:
        self._decided(LoginRequested, "accept")
        self.account = account
        self._state = State.OPEN
        self.established = True
        self._listen(now)
        self._output.append(b"WELCOME %s\n" % account.encode())
        return [Established(), *self._advance(now)]

    def streamed(self, result: object, now: float) -> list[Event]:
        self._decided(StreamRequested, "streamed")
        self._output.append(b"DONE\n")
        return self._advance(now)

    def answer(self, text: bytes, now: float) -> list[Event]:
        self._decided(AskRequested, "answer")
        self._output.append(text + b"\n")
        return self._advance(now)

    def send(self, message: Line | bytes, now: float) -> None:
        if not self.established:
            raise LocalProtocolError("send: nobody logged in")
        self._output.append(message if isinstance(message, bytes) else message.encode())

    def _step(self, now: float) -> list[Event] | None:
        end = self._input.find(b"\n", 0, MAXIMUM_LINE + 1)
        if end < 0:
            if len(self._input) > MAXIMUM_LINE:
                raise RemoteProtocolError("a line without an end", self._consumed + MAXIMUM_LINE)
            return None
        line = bytes(self._input[:end])
        if not line.isascii() or not line:
            raise RemoteProtocolError("a line that is empty or not ASCII", self._consumed)
        word, _, rest = line.partition(b" ")
        found = _TABLE.get((self._state, word), ToyMachine._other)(self, line, rest)
        self._consume(end + 1)
        if self.established:
            self._listen(now)
        return found

    def _login(self, line: bytes, rest: bytes) -> list[Event]:
        name, _, password = rest.partition(b" ")
        if not name or not password:
            raise RemoteProtocolError("LOGIN without a name and a password", self._consumed + 5, told="What?")
        return [LoginRequested(name.decode(), password)]

    def _stream(self, line: bytes, rest: bytes) -> list[Event]:
        if not rest.isdigit() or len(rest) > 12:
            raise RemoteProtocolError("STREAM without a number", self._consumed + 6)
        self._output.append(b"STREAMING %s\n" % rest)
        return [StreamRequested(int(rest))]

    def _ask(self, line: bytes, rest: bytes) -> list[Event]:
        return [AskRequested(rest)]

    def _work(self, line: bytes, rest: bytes) -> list[Event]:
        """Much work from little input: each line is one turn's worth."""
        self.wants_turn = True
        return [Received(Line(line))]

    def _other(self, line: bytes, rest: bytes) -> list[Event]:
        if self._state is State.LOGIN:
            raise RemoteProtocolError("something else than LOGIN", self._consumed, told="Log in first")
        return [Received(Line(line))]

    def _listen(self, now: float) -> None:
        self._deadline = now + self._settings.idle_timeout if self._settings.idle_timeout else None

    def _expire(self, now: float) -> list[Event]:
        return self._end(Outcome.TIMEOUT, "Idle for too long") if self.established else super()._expire(now)

    def _refusal(self, outcome: Outcome, text: str) -> bytes:
        if not self._heard:
            return b""
        return b"%s %s\n" % (b"BYE" if self.established else b"NO", text.encode())


_TABLE: dict[tuple[State, bytes], Callable[[ToyMachine, bytes, bytes], list[Event]]] = {
    (State.LOGIN, b"LOGIN"): ToyMachine._login,
    (State.OPEN, b"STREAM"): ToyMachine._stream,
    (State.OPEN, b"ASK"): ToyMachine._ask,
    (State.OPEN, b"WORK"): ToyMachine._work,
}


# Accounts


@implementer(ICredentialsChecker)
class ToyChecker:
    """Accounts with salted digests; who is unknown costs a digest, too (COM-10).

    :param accounts: passwords by name.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, accounts: Mapping[str, bytes]) -> None:
        self._verifiers = {name: self._digest(password) for name, password in accounts.items()}
        self._decoy = self._digest(b"")
        self.work = 0
        self.pending: list[Deferred[None]] | None = None
        """Where given, each proof waits for one of these."""

    @staticmethod
    def _digest(password: bytes) -> bytes:
        return hashlib.blake2b(password, key=b"salt").digest()

    async def _check(self, credentials: Any) -> str:
        if self.pending is not None:
            turn: Deferred[None] = Deferred()
            self.pending.append(turn)
            await turn
        self.work += 1
        name = credentials.username.decode()
        verifier = self._verifiers.get(name)
        same = hmac.compare_digest(self._digest(credentials.password), verifier or self._decoy)
        if verifier is None or not same:
            raise UnauthorizedLogin("unknown" if verifier is None else f"the password of {name} is wrong")
        return str(name)

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._check(credentials))


# The server


class ToyListener(Listener):
    """Lets in who proves who they are."""

    protocol = "toy"
    credential_interfaces = (IUsernamePassword,)
    settings: ToySettings

    def __init__(self, settings: ToySettings, context: Context) -> None:
        super().__init__(settings, context)
        self.answers: Callable[[bytes], Deferred[bytes]] = succeed
        self.streamed = 0

    def make_machine(self, peer: Peer, now: float) -> ToyMachine:
        return ToyMachine(self.settings, now=now)

    def on_LoginRequested(self, connection: Connection, event: LoginRequested) -> None:
        machine = connection.machine
        assert isinstance(machine, ToyMachine)
        if self.full:
            connection.call(lambda now: machine.refuse("The server is full", now, Outcome.LIMITED))
        else:
            connection.decide(Deferred.fromCoroutine(self._login(connection, event)), machine.accept)

    async def _login(self, connection: Connection, event: LoginRequested) -> str:
        avatar = await self.login(connection, Password(event.name.encode(), event.password))
        if avatar.account in self.settings.banned:
            raise Refused("This account is banned", Outcome.BANNED)
        return avatar.account

    def on_StreamRequested(self, connection: Connection, event: StreamRequested) -> None:
        machine = connection.machine
        assert isinstance(machine, ToyMachine)
        connection.decide(Deferred.fromCoroutine(self._stream(connection, event.size)), machine.streamed)

    async def _stream(self, connection: Connection, size: int) -> None:
        while size:
            part = min(size, self.settings.part)
            connection.write(bytes(part))
            self.streamed += part
            size -= part
            await connection.drained()

    def on_AskRequested(self, connection: Connection, event: AskRequested) -> None:
        machine = connection.machine
        assert isinstance(machine, ToyMachine)
        connection.decide(self.answers(event.what), machine.answer)

    def identity(self, connection: Connection) -> Mapping[str, Any]:
        return {"name": self.account(connection)}

    def account(self, connection: Connection) -> str:
        machine = connection.machine
        assert isinstance(machine, ToyMachine)
        return machine.account


# The bench


@implementer(IEventSink)
class OutcomeChecker:
    """A sink that holds the events and fails on what COM-7 forbids."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._accepted: set[int] = set()
        self._ended: set[int] = set()
        self.faults: list[str] = []

    def event(self, mapping: Mapping[str, Any]) -> None:
        self.events.append(dict(mapping))
        identifier = mapping.get("connection")
        if mapping["event"] == "accepted":
            if identifier in self._accepted:
                self.faults.append(f"accepted twice: {mapping}")
            if identifier in self._ended:
                self.faults.append(f"accepted after its end: {mapping}")
            assert isinstance(identifier, int)
            self._accepted.add(identifier)
        elif mapping["event"] == "ended":
            accepted = identifier in self._accepted
            if identifier is not None and identifier in self._ended:
                self.faults.append(f"ended twice: {mapping}")
            allowed = AFTER_ACCEPTANCE if accepted else BEFORE_ACCEPTANCE
            if Outcome(mapping["outcome"]) not in allowed:
                self.faults.append(f"wrong outcome {'after' if accepted else 'before'} acceptance: {mapping}")
            if not mapping["reason"] or "\n" in mapping["reason"]:
                self.faults.append(f"the reason is not one line: {mapping}")
            if identifier is not None:
                self._ended.add(identifier)

    def outcomes(self) -> list[str]:
        """The outcomes so far, in order."""
        return [event["outcome"] for event in self.events if event["event"] == "ended"]

    @property
    def last(self) -> dict[str, Any]:
        """The latest event."""
        return self.events[-1]


class _Handle:
    """A socket that only tells how much was acknowledged, as Linux does."""

    def __init__(self, transport: FakeTransport) -> None:
        self._transport = transport

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        if (level, option) != (socket.IPPROTO_TCP, socket.TCP_INFO):
            raise OSError
        return bytes(120) + struct.pack("=Q", len(self._transport.received))


@implementer(ITransport, IConsumer, IPushProducer)
class FakeTransport:
    """A TCP transport as Twisted's behaves, with the peer's end in the hands of a test.

    Nothing is written before the clock moves on. ``window`` is how many bytes the peer has room for.
    """

    bufferSize = 65_536

    def __init__(self, clock: Clock, protocol: Any, *, window: int | None = None) -> None:
        self.clock = clock
        self.protocol = protocol
        self.window = window
        self.received = b""
        """What the peer got."""
        self.read_end = False
        """Whether the peer saw the end of our half."""
        self.gone: BaseException | None = None
        """Why the transport is gone."""
        self.reading = True
        self.producer: Any = None
        self.largest_buffer = 0
        self._producer_paused = False
        self._buffer = bytearray()
        self._unread: list[bytes | None] = []
        self._disconnecting = self._half_closing = self._half_closed = self._aborting = False
        self._scheduled = False
        protocol.makeConnection(self)

    # The peer's end

    def peer_sends(self, data: bytes) -> None:
        """The peer writes; we get it now unless we are not reading."""
        self._unread.append(data)
        self._deliver()

    def peer_finishes(self) -> None:
        """The peer closes its half."""
        self._unread.append(None)
        self._deliver()

    def peer_takes(self, count: int | None) -> None:
        """The peer makes room for so many more bytes, or for all."""
        self.window = None if count is None or self.window is None else self.window + count
        self._schedule()

    def peer_breaks(self) -> None:
        """The peer's reset arrives."""
        self._lost(ConnectionLost())

    @property
    def open(self) -> bool:
        """Whether the peer can still send something."""
        return self.gone is None and None not in self._unread

    def _deliver(self) -> None:
        while self._unread and self.reading and self.gone is None and not self._aborting:
            data = self._unread[0]
            if data is not None:
                del self._unread[0]
                self.protocol.dataReceived(data)
                continue
            # The end stays there to be read: who resumes reads it again.
            self.reading = False
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.readConnectionLost()
            else:
                self._lost(ConnectionDone())

    # Our end

    def getPeer(self) -> Any:
        return None

    def getHost(self) -> Any:
        return None

    def getHandle(self) -> Any:
        return _Handle(self)

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(data)
        if self.gone is not None or self._half_closed or not data:
            return
        self._buffer += data
        self.largest_buffer = max(self.largest_buffer, len(self._buffer))
        if self.producer is not None and len(self._buffer) > self.bufferSize:
            self._producer_paused = True
            self.producer.pauseProducing()
        self._schedule()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("a producer is registered")
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        self._schedule()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if self.gone is None and not self._disconnecting:
            self.reading = True
            self.clock.callLater(0, self._deliver)

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        if self.gone is not None or self._disconnecting:
            return
        if self._half_closed:
            self._lost(ConnectionDone())
            return
        self.reading = False
        self._disconnecting = True
        self._schedule()

    def loseWriteConnection(self) -> None:
        self._half_closing = True
        self._schedule()

    def abortConnection(self) -> None:
        if self.gone is None and not self._aborting:
            self._aborting = True
            self.clock.callLater(0, self._lost, ConnectionAborted())

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.clock.callLater(0, self._write)

    def _write(self) -> None:
        self._scheduled = False
        if self.gone is not None or self._aborting:
            return
        count = len(self._buffer) if self.window is None else min(len(self._buffer), self.window)
        self.received += self._buffer[:count]
        del self._buffer[:count]
        if self.window is not None:
            self.window -= count
        if self._buffer:
            return
        if self.producer is not None and self._producer_paused:
            self._producer_paused = False
            self.producer.resumeProducing()
        elif self._disconnecting:
            self._lost(ConnectionDone())
        elif self._half_closing and not self._half_closed:
            self._half_closed = self.read_end = True
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()

    def _lost(self, reason: BaseException) -> None:
        if self.gone is not None:
            return
        self.gone = reason
        self.read_end = True
        self.reading = False
        if self.producer is not None:
            self.producer.stopProducing()
            self.producer = None
        self.protocol.connectionLost(Failure(reason))


class Bench:
    """A toy listener on a fake clock, and whoever connects to it.

    :param handler: who gets its sessions.
    :param limits: for admission and the ledger.
    :param settings: of the listener.
    """

    def __init__(
        self, *, handler: Any = HOLD, limits: AdmissionLimits | None = None, clock: Clock | None = None, **settings: Any
    ) -> None:
        self.clock = Clock() if clock is None else clock
        self.clock.rightNow = NOW
        self.checker = OutcomeChecker()
        limits = AdmissionLimits(connection_rate=0, connections_per_source=0) if limits is None else limits
        self.admission = Admission(limits, clock=self.clock)
        self.events = Events(self.clock.seconds, [self.checker])
        self.accounts = ToyChecker({"ann": b"right", "bob": b"also right"})
        self.context = Context(
            reactor=self.clock,
            admission=self.admission,
            events=self.events,
            find_handler=lambda name: handler,
            checkers=[self.accounts],
        )
        self.listener = ToyListener(ToySettings(**settings), self.context)
        self.listener.startService()
        self.sockets = 0
        self.transports: list[FakeTransport] = []

    def connect(self, host: str = "192.0.2.1", port: int = 4000, *, window: int | None = None) -> FakeTransport | None:
        """A peer's socket comes in; None where it is closed without a byte."""
        self.sockets += 1
        protocol = self.listener.accept(Peer(host, port))
        if protocol is None:
            return None
        transport = FakeTransport(self.clock, protocol, window=window)
        self.transports.append(transport)
        return transport

    def open(self, *, window: int | None = None, host: str = "192.0.2.1") -> FakeTransport:
        """A socket that comes in, for certain."""
        transport = self.connect(host, window=window)
        assert transport is not None
        return transport

    def login(
        self, name: bytes = b"ann", password: bytes = b"right", *, window: int | None = None, host: str = "192.0.2.1"
    ) -> FakeTransport:
        """A peer that logs in with its first bytes."""
        transport = self.open(window=window, host=host)
        transport.peer_sends(b"LOGIN %s %s\n" % (name, password))
        self.pump()
        return transport

    def pump(self, turns: int = 3) -> None:
        """Let what is due happen."""
        for _ in range(turns):
            self.clock.advance(0)

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass, in steps no longer than the sweep's."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - 1e-6:
            self.clock.advance(min(step, end - self.clock.seconds()))
        self.pump()

    def connection(self, transport: FakeTransport) -> Connection:
        """Our end."""
        assert isinstance(transport.protocol, Connection)
        return transport.protocol

    def close(self) -> None:
        """Break what is left, and check what must hold then (COM-7): nothing is left, nothing counted twice."""
        for transport in self.transports:
            transport.peer_breaks()
        self.listener.deadlines.stop()
        listener = self.listener
        left = {
            "connections": len(listener.connections),
            "arriving": len(listener.arriving),
            "sessions": len(self.context.sessions),
            "session_count": listener.session_count,
            "count": self.context.sessions.count("toy"),
            "admitted": self.admission.open_connections,
            "deadlines": len(listener.deadlines),
        }
        assert not any(left.values()), left
        assert not self.checker.faults, self.checker.faults
        ended = len(self.checker.outcomes())
        assert ended == self.sockets, f"{self.sockets} sockets, {ended} outcomes"
        counted = sum(self.events.outcomes.values())
        assert counted == ended, f"{ended} outcomes, {counted} counted"
        accepted = sum(event["event"] == "accepted" for event in self.checker.events)
        assert self.events.accepted["toy"] == accepted


@implementer(IHandler)
class RecordingHandler:
    """Keeps what it is told, and does what a test wants at each message.

    :param on_message: called with (session, message).
    :param opening: what ``open`` returns instead of the receiver, or raises.
    """

    def __init__(self, on_message: Callable[[Any, Any], None] | None = None, opening: Any = None) -> None:
        self.on_message = on_message
        self.opening = opening
        self.receivers: list[Recorder] = []

    def wants(self, protocol: str) -> tuple[str, ...]:
        return ()

    def open(self, session: Any) -> Any:
        recorder = Recorder(self, session)
        self.receivers.append(recorder)
        if isinstance(self.opening, Exception):
            raise self.opening
        if self.opening is not None:
            return self.opening.addCallback(lambda result: recorder)
        return recorder


class Recorder:
    """One session's messages and end."""

    def __init__(self, handler: RecordingHandler, session: Any) -> None:
        self.handler = handler
        self.session = session
        self.messages: list[Any] = []
        self.outcomes: list[Outcome] = []

    def received(self, message: Any) -> None:
        assert not self.outcomes, "a message after the end"
        self.messages.append(message)
        if self.handler.on_message is not None:
            self.handler.on_message(self.session, message)

    def closed(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class BenchCase(SynchronousTestCase):
    """A test on benches, each of which is checked at the end."""

    def bench(self, **arguments: Any) -> Bench:
        bench = Bench(**arguments)
        self.addCleanup(bench.close)
        return bench
