"""LEKT's two sides: who may say what and when."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from functools import cache, lru_cache
from ipaddress import IPv4Address
from typing import Any, ClassVar

import attrs

from connectd.protocols.lekt.listing import Listing
from connectd.protocols.lekt.packets import (
    ACCEPT,
    DIRECT_TCP,
    ENTRIES_PER_ADDITION,
    ENTRIES_PER_REMOVAL,
    HEADER_SIZE,
    HEARTBEAT,
    HELLO,
    MAXIMUM_METHODS,
    MAXIMUM_REJECT_TEXT,
    METHODS,
    REJECT,
    TRANSFER,
    UPDATE,
    Accept,
    Entry,
    Heartbeat,
    Hello,
    Reject,
    Request,
    Response,
    WrongByte,
    WrongVersion,
    decode_port,
    encode_entry,
    encode_port,
    read_type,
)
from connectd.protocols.lekt.presence import Fallen, Member, Place, Presence
from connectd.protocols.lekt.settings import LektClientSettings, LektSettings
from connectd.sansio import (
    Decision,
    Established,
    Event,
    LocalProtocolError,
    Machine,
    Outcome,
    Random,
    Received,
    RemoteProtocolError,
    default_random,
)
from connectd.wire import Cursor, Truncated, one_line

EXPECTED_HANDSHAKE = "Expected a LEKT handshake"
UNSUPPORTED_VERSION = "Unsupported version"
TOO_MANY_METHODS = "Too many connection methods"
INVALID_PORT = "Invalid port"
UNEXPECTED_PACKET = "Unexpected packet"
TOO_MANY_HEARTBEATS = "Too many heartbeats"
IPV4_ONLY = "LEKT lists IPv4 addresses only"
SILENT = "No heartbeat came in time"

HEARTBEAT_WINDOW = 5.0
"""Seconds over which heartbeats are counted (LEKT-12)."""


_ACCEPT = Accept().encode()
_ESTABLISHED = Established()
_U32 = struct.Struct(">I")
_I64 = struct.Struct(">q")


@cache
def _request(method: int) -> bytes:
    return Request(method).encode()


class ServerState(enum.Enum):
    """Where a server's connection stands."""

    HELLO = "hello"
    SETUP = "setup"
    HEARTBEAT = "heartbeat"

    __hash__ = object.__hash__  # that of Enum is Python, and states are looked up for each message


@attrs.frozen
class HelloReceived(Decision):
    """The client said hello. Verb: :meth:`ServerMachine.accept`.

    :param methods: the indices of the methods that it offers.
    """

    methods: frozenset[int]


@lru_cache(16)
def _hello_received(known: int, words: bytes) -> HelloReceived:
    """What a hello means; remembered, for there are only as many different ones as there are kinds of client."""
    return HelloReceived(Hello(known, struct.unpack(f">{len(words) // 4}I", words)).methods)


class ServerMachine(Machine):
    """The server's side of one connection.

    :param settings: the listener's.
    :param presence: the listener's list, shared by all its machines.
    :param now: when the connection was accepted, Unix seconds.
    """

    __slots__ = (
        "_asked",
        "_heartbeats",
        "_information",
        "_member",
        "_methods",
        "_place",
        "_presence",
        "_resynced",
        "_sent_time",
        "_settings",
        "_state",
        "_tolerated",
        "_updated",
        "address",
    )

    held_limit = 4096 + HEADER_SIZE + 4 + MAXIMUM_METHODS // 8

    def __init__(
        self, settings: LektSettings, presence: Presence, *, now: float, random: Random = default_random
    ) -> None:
        super().__init__(now=now, handshake_timeout=settings.handshake_timeout)
        self._settings = settings
        self._presence = presence
        self._state = ServerState.HELLO
        self.address: bytes | None = None
        self._methods: list[int] | None = None
        self._asked = 0
        self._information: tuple[tuple[int, bytes], ...] = ()
        self._member: Member | None = None
        self._place: Place | None = None
        self._updated = 0
        self._sent_time = False
        self._resynced: float | None = None
        self._tolerated = False
        self._heartbeats: tuple[float, ...] = ()

    @property
    def information(self) -> tuple[tuple[int, bytes], ...]:
        """(method index, information) as the client announced them."""
        return self._information

    # Verbs

    def accept(self, address: bytes, now: float) -> list[Event]:
        """Let the client in and ask for its methods.

        :param address: the IPv4 address that we see (LEKT-14), 4 bytes.

        :raises LocalProtocolError: unless a HelloReceived is open.
        """
        offered = self._decided(HelloReceived, "accept").methods
        self.address = address
        self._state = ServerState.SETUP
        self._methods = sorted(offered & METHODS.keys(), reverse=True)
        self._output.append(_ACCEPT)
        events = self._ask(now)
        return events + self._advance(now) if self._input else events

    # What the client sends

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        events = super().receive_data(data, now)
        if not self.ended and self.decision is not None and len(self._input) > self.held_limit:
            others = [event for event in events if not isinstance(event, Decision)]
            reason = "more input than fits before the answer"
            return others + self._end(Outcome.MALFORMED, reason, told=UNEXPECTED_PACKET, offset=self._consumed)
        return events

    def _step(self, now: float) -> list[Event] | None:
        data = self._input
        if not data:
            return None
        try:
            kind = read_type(data, _SERVER_TYPES[self._state])
        except WrongByte as error:
            raise self._unexpected(f"wrong byte in {self._state.value}", error.offset) from None
        except WrongVersion as error:
            if self._state is not ServerState.HELLO:
                raise self._unexpected(f"{error} after the hello", error.offset) from None
            raise RemoteProtocolError(
                f"unsupported {error}",
                self._consumed + error.offset,
                told=UNSUPPORTED_VERSION,
                outcome=Outcome.REFUSED,
            ) from None
        if kind is None:
            return None
        return _SERVER_TABLE[self._state, kind](self, now)

    def _unexpected(self, reason: str, offset: int) -> RemoteProtocolError:
        told = EXPECTED_HANDSHAKE if self._state is ServerState.HELLO else UNEXPECTED_PACKET
        return RemoteProtocolError(reason, self._consumed + offset, told=told)

    def _hello(self, now: float) -> list[Event] | None:
        data = self._input
        if len(data) < HEADER_SIZE + 4:
            return None
        known = _U32.unpack_from(data, HEADER_SIZE)[0]
        if known > MAXIMUM_METHODS:
            raise RemoteProtocolError(
                f"{known} connection methods", self._consumed + HEADER_SIZE, told=TOO_MANY_METHODS
            )
        count = -(-known // 32)
        size = HEADER_SIZE + 4 + 4 * count
        if len(data) < size:
            return None
        decision = _hello_received(known, bytes(data[HEADER_SIZE + 4 : size]))
        self._consume(size)
        return [decision]

    def _response(self, now: float) -> list[Event] | None:
        data = self._input
        if len(data) < HEADER_SIZE + 4:
            return None
        index = _U32.unpack_from(data, HEADER_SIZE)[0]
        if index != self._asked:
            raise self._unexpected(f"a response for method {index}, asked was {self._asked}", HEADER_SIZE)
        size = HEADER_SIZE + 4 + METHODS[index].size
        if len(data) < size:
            return None
        information = bytes(data[HEADER_SIZE + 4 : size])
        if index == DIRECT_TCP.index and decode_port(information) is None:
            port = int.from_bytes(information, "big")
            raise RemoteProtocolError(f"port {port}", self._consumed + HEADER_SIZE + 4, told=INVALID_PORT)
        self._consume(size)
        self._information = (*self._information, (index, information))
        return self._ask(now)

    def _ask(self, now: float) -> list[Event]:
        """Ask for the next method; with none left, setup is over and the client is listed (LEKT-5, LEKT-9)."""
        self._asked = self._methods.pop() if self._methods else 0
        self._output.append(_request(self._asked))
        if self._asked:
            return []
        assert self.address is not None
        self._methods = None
        self._state = ServerState.HEARTBEAT
        self.established = True
        self._member = self._presence.join(self.address, encode_entry(self.address, self._information), now)
        self._heard(now)
        return [_ESTABLISHED]

    def _late_response(self, now: float) -> list[Event] | None:
        """An answer to request index 0, which wants none, is tolerated once, before the first heartbeat (LEKT-5)."""
        data = self._input
        if len(data) < HEADER_SIZE + 4:
            return None
        index = Cursor(data, HEADER_SIZE).u32()
        if index or self._tolerated or self._heartbeats:
            raise self._unexpected(f"a response for method {index} after setup", HEADER_SIZE)
        self._tolerated = True
        self._consume(HEADER_SIZE + 4)
        return []

    def _heartbeat(self, now: float) -> list[Event] | None:
        data = self._input
        if len(data) < HEADER_SIZE + 8:
            return None
        heartbeat = Heartbeat(_I64.unpack_from(data, HEADER_SIZE)[0])
        recent = tuple(time for time in self._heartbeats if now - HEARTBEAT_WINDOW < time <= now)
        if len(recent) >= self._settings.heartbeat_limit:
            reason = f"more than {self._settings.heartbeat_limit} heartbeats in {HEARTBEAT_WINDOW:g} s"
            raise RemoteProtocolError(reason, self._consumed, told=TOO_MANY_HEARTBEATS)
        self._heartbeats = (*recent, now)
        if heartbeat.time:
            self._sent_time = True
        elif self._sent_time:
            self._resync(now)
        assert self._member is not None
        self._updated = max(self._updated, int(now))
        try:
            updates, self._place = self._presence.answer(self._member, self._place, self._updated)
        except Fallen:
            return self._expire(now)
        self._consume(HEADER_SIZE + 8)
        self._output += updates
        self._heard(now)
        return [Received(heartbeat)]

    def _resync(self, now: float) -> None:
        """The client asks for the whole list again (LEKT-11)."""
        interval = self._settings.resync_interval
        if self._resynced is not None and 0 <= now - self._resynced < interval:
            reason = f"a second resync within {interval:g} s"
            raise RemoteProtocolError(reason, self._consumed + HEADER_SIZE, told=TOO_MANY_HEARTBEATS)
        self._resynced = now
        self._place = None

    # Time and the end

    def _heard(self, now: float) -> None:
        self._deadline = now + self._settings.heartbeat_period * self._settings.silent_periods

    def _expire(self, now: float) -> list[Event]:
        if self.established:
            return self._end(Outcome.TIMEOUT, SILENT)
        return super()._expire(now)

    def _refusal(self, outcome: Outcome, text: str) -> bytes:
        return Reject(text).encode()

    def _finish(self, outcome: Outcome, reason: str, offset: int | None = None) -> Any:
        if self._member is not None:
            self._presence.leave(self._member)
            self._member = None
        return super()._finish(outcome, reason, offset)


_SERVER_TABLE: dict[tuple[ServerState, int], Callable[[ServerMachine, float], list[Event] | None]] = {
    (ServerState.HELLO, HELLO): ServerMachine._hello,
    (ServerState.SETUP, TRANSFER): ServerMachine._response,
    (ServerState.HEARTBEAT, HEARTBEAT): ServerMachine._heartbeat,
    (ServerState.HEARTBEAT, TRANSFER): ServerMachine._late_response,
}
_SERVER_TYPES = {state: bytes(kind for at, kind in _SERVER_TABLE if at is state) for state in ServerState}


class ClientState(enum.Enum):
    """Where a client's connection stands."""

    GREETING = "greeting"
    SETUP = "setup"
    LISTENING = "listening"
    ADDITION = "addition"
    REMOVAL = "removal"


@attrs.frozen
class Accepted(Event):
    """The server accepted the hello."""


@attrs.frozen
class Requested(Event):
    """The server asked for a method's information and got it; index 0 ended setup."""

    method: int


@attrs.frozen
class Updated(Event):
    """The server's answer to a heartbeat is complete.

    :param time: the server's Unix time, seconds.
    :param left: who is gone.
    :param joined: who is new.
    """

    time: int
    left: tuple[Entry, ...]
    joined: tuple[Entry, ...]


class ClientMachine(Machine):
    """The client's side of one connection.

    :param settings: the client's.
    :param now: when the connection stood.
    """

    __slots__ = (
        "_answering",
        "_asked",
        "_last",
        "_outstanding",
        "_remaining",
        "_sent_time",
        "_settings",
        "_state",
        "_time",
        "clients",
    )

    MAXIMUM_ENTRY: ClassVar[int] = 4096
    """Bytes of one listed client that are believed (COM-2)."""

    def __init__(self, settings: LektClientSettings, *, now: float, random: Random = default_random) -> None:
        super().__init__(now=now, handshake_timeout=settings.handshake_timeout)
        self._settings = settings
        self._state = ClientState.GREETING
        self.clients = Listing()
        self._remaining = 0
        self._time = 0
        self._outstanding: list[bool] = []
        self._last = True
        self._answering = False
        self._sent_time = False
        self._asked: set[int] = set()
        self._output.append(Hello.offering(self._offered).encode())

    @property
    def _offered(self) -> tuple[int, ...]:
        return (DIRECT_TCP.index,) if self._settings.port else ()

    # Verbs

    def heartbeat(self, now: float, *, resync: bool = False) -> list[Event]:
        """Ask what changed (LEKT-7), or with ``resync`` for the whole list (LEKT-11).

        :raises LocalProtocolError: before setup has ended.
        """
        if not self.established or self.ended:
            raise LocalProtocolError("heartbeat: setup has not ended")
        time = 0 if resync else self._time
        self._output.append(Heartbeat(time).encode())
        self._outstanding.append(time == 0 and self._sent_time)
        self._sent_time = self._sent_time or time != 0
        if len(self._outstanding) == 1:
            self._expect_answer(now)
        return []

    # What the server sends

    def _step(self, now: float) -> list[Event] | None:
        if self._state is ClientState.ADDITION:
            return self._additions(now)
        if self._state is ClientState.REMOVAL:
            return self._removals(now)
        data = self._input
        try:
            kind = read_type(data, _CLIENT_TYPES[self._state])
        except WrongByte as error:
            raise RemoteProtocolError(
                f"this is not LEKT: wrong byte in {self._state.value}", self._consumed + error.offset
            ) from None
        except WrongVersion as error:
            raise RemoteProtocolError(f"the server speaks {error}", self._consumed + error.offset) from None
        if kind is None:
            return None
        return _CLIENT_TABLE[self._state, kind](self, now)

    def _accepted(self, now: float) -> list[Event] | None:
        self._consume(HEADER_SIZE)
        self._state = ClientState.SETUP
        return [Accepted()]

    def _rejected(self, now: float) -> list[Event] | None:
        """The text ends at NUL, padding or not (LEKT-4)."""
        text, end, _ = self._input[HEADER_SIZE : HEADER_SIZE + MAXIMUM_REJECT_TEXT + 1].partition(b"\0")
        if not end and len(text) <= MAXIMUM_REJECT_TEXT:
            return None
        return self._rejection(bytes(text))

    def _rejection(self, text: bytes) -> list[Event]:
        outcome = Outcome.LEFT if self.established else Outcome.REFUSED
        return [self._finish(outcome, f"rejected: {one_line(text)}")]

    def end_of_stream(self, now: float, *, clean: bool = True) -> list[Event]:
        if not self.ended and self._input[:5] == Reject("").encode()[:5]:
            return self._rejection(bytes(self._input[HEADER_SIZE:]))
        return super().end_of_stream(now, clean=clean)

    def _requested(self, now: float) -> list[Event] | None:
        if len(self._input) < HEADER_SIZE + 4:
            return None
        index = Cursor(self._input, HEADER_SIZE).u32()
        if index and (index not in self._offered or index in self._asked):
            raise RemoteProtocolError(f"the server asked for method {index}", self._consumed + HEADER_SIZE)
        self._consume(HEADER_SIZE + 4)
        if index:
            self._asked.add(index)
            self._output.append(Response(index, encode_port(self._settings.port)).encode())
            return [Requested(index)]
        self._state = ClientState.LISTENING
        self.established = True
        self._deadline = None
        return [Requested(0), Established()]

    def _update(self, now: float) -> list[Event] | None:
        if len(self._input) < HEADER_SIZE + 12:
            return None
        cursor = Cursor(self._input, HEADER_SIZE)
        time, kind, count = cursor.i64(), cursor.u8(), cursor.u24()
        at = self._consumed + HEADER_SIZE + 8
        if kind not in b"AR" or (kind == ord("R") and not self._last):
            raise RemoteProtocolError(f"an update of kind {kind}", at)
        if count > (ENTRIES_PER_ADDITION if kind == ord("A") else ENTRIES_PER_REMOVAL):
            raise RemoteProtocolError(f"an update of {count} entries", at + 1)
        if self._outstanding and self._outstanding[0]:
            self._outstanding[0] = False
            self.clients.clear()
        if kind == ord("A") and count + len(self.clients) > self._settings.maximum_clients:
            raise RemoteProtocolError(f"{count} more clients are not believed", at + 1)
        self._consume(cursor.offset)
        self._time = time
        self._remaining = count
        self._answering = True
        if kind == ord("R"):
            self._state = ClientState.REMOVAL
        else:
            self._state = ClientState.ADDITION
            self._last = count < ENTRIES_PER_ADDITION
        return []

    def _additions(self, now: float) -> list[Event] | None:
        """As many entries as are whole (LEKT-8)."""
        cursor = Cursor(self._input)
        whole = 0
        while self._remaining and cursor.left >= 4:
            size = cursor.u32()
            if not 4 <= size <= self.MAXIMUM_ENTRY:
                raise RemoteProtocolError(f"a client of {size} bytes", self._consumed + whole)
            if cursor.left < size:
                break
            try:
                entry = Entry.decode(cursor.take(size))
            except Truncated as error:
                raise RemoteProtocolError("a client cut short", self._consumed + whole + 4 + error.offset) from None
            self.clients.add(entry)
            self._remaining -= 1
            whole = cursor.offset
        self._consume(whole)
        if self._remaining:
            return None
        self._state = ClientState.LISTENING
        if not self._last:
            return []
        self._answering = False
        if self._outstanding:
            self._outstanding.pop(0)
        if self._outstanding:
            self._expect_answer(now)
        else:
            self._deadline = None
        return self._changes()

    def _removals(self, now: float) -> list[Event] | None:
        """As many addresses as are whole."""
        count = min(self._remaining, len(self._input) // 4)
        cursor = Cursor(self._input)
        for _ in range(count):
            self.clients.remove(IPv4Address(cursor.u32()))
        self._consume(4 * count)
        self._remaining -= count
        if self._remaining:
            return None
        self._state = ClientState.LISTENING
        return []

    def _unfinished(self) -> bool:
        return super()._unfinished() or self._answering

    def _changes(self) -> list[Event]:
        left, joined = self.clients.changes()
        return [Updated(self._time, tuple(left), tuple(joined))]

    # Time and the end

    def _expect_answer(self, now: float) -> None:
        self._deadline = now + self._settings.heartbeat_period * self._settings.silent_periods

    def _expire(self, now: float) -> list[Event]:
        reason = "the server answers no heartbeat" if self.established else "the server took too long"
        return self._end(Outcome.TIMEOUT, reason)


_CLIENT_TABLE: dict[tuple[ClientState, int], Callable[[ClientMachine, float], list[Event] | None]] = {
    (ClientState.GREETING, ACCEPT): ClientMachine._accepted,
    (ClientState.GREETING, REJECT): ClientMachine._rejected,
    (ClientState.SETUP, TRANSFER): ClientMachine._requested,
    (ClientState.SETUP, REJECT): ClientMachine._rejected,
    (ClientState.LISTENING, UPDATE): ClientMachine._update,
    (ClientState.LISTENING, REJECT): ClientMachine._rejected,
}
_CLIENT_TYPES = {state: bytes(kind for at, kind in _CLIENT_TABLE if at is state) for state in ClientState}
