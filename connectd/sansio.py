"""What every protocol machine promises, without input or output.

A machine holds the whole knowledge of who may say what and when. It never touches a socket, a clock or the
disk: bytes and the time come in as arguments, events and bytes go out. The same machine therefore runs over TCP,
TLS, a QUIC stream, or nothing but memory in a test.

The life of a machine, seen from whoever drives it::

    events = machine.receive_data(data, now)      # never raises for what the peer sent
    ... a Decision among them is answered with one verb, such as machine.accept(now)
    transport.write(machine.data_to_send())       # after each call
    ... machine.turn(now) in a later turn of the reactor, where machine.wants_turn
    ... machine.handle_deadline(now) once machine.deadline() has passed
    ... until Ended: flush, then close
"""

from __future__ import annotations

import abc
import enum
import os
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import attrs

Random = Callable[[int], bytes]
"""Gives that many random bytes; :func:`os.urandom` outside of tests."""


class Outcome(enum.Enum):
    """How a connection ended (COM-7). Every connection has exactly one."""

    REFUSED = "refused"
    """Before acceptance: a policy or a wrong proof said no."""
    MALFORMED = "malformed"
    """The peer broke the protocol, before acceptance or after it."""
    LIMITED = "limited"
    """Before acceptance: a limit was reached."""
    BANNED = "banned"
    """Before acceptance: the address, account or key is banned."""
    TIMEOUT = "timeout"
    """A deadline passed, before acceptance or after it."""
    ABORTED = "aborted"
    """Before acceptance: the peer went away."""
    SHUTDOWN = "shutdown"
    """The listener was drained or stopped, before acceptance or after it."""
    LEFT = "left"
    """After acceptance: the peer closed in good order."""
    LOST = "lost"
    """After acceptance: the connection broke."""
    KICKED = "kicked"
    """After acceptance: an operator or a handler ended the session."""
    FAILED = "failed"
    """After acceptance: the handler raised."""


BEFORE_ACCEPTANCE = frozenset(
    {
        Outcome.REFUSED,
        Outcome.MALFORMED,
        Outcome.LIMITED,
        Outcome.BANNED,
        Outcome.TIMEOUT,
        Outcome.ABORTED,
        Outcome.SHUTDOWN,
    }
)
"""The outcomes that a connection without an accepted session can have (COM-7)."""

AFTER_ACCEPTANCE = frozenset(
    {
        Outcome.LEFT,
        Outcome.LOST,
        Outcome.KICKED,
        Outcome.TIMEOUT,
        Outcome.MALFORMED,
        Outcome.FAILED,
        Outcome.SHUTDOWN,
    }
)
"""The outcomes that an accepted session can have (COM-7)."""


@attrs.frozen
class Event:
    """Something that a machine has to say."""


@attrs.frozen
class Decision(Event):
    """The machine waits for one verb. At most one is open; until then input is held, not parsed."""


DecisionT = TypeVar("DecisionT", bound=Decision)


@attrs.frozen
class Established(Event):
    """The session is accepted: register it now."""


@attrs.frozen
class Received(Event):
    """A message of the accepted session, for its handler.

    :param message: one of the protocol's packets. It has ``encode() -> bytes``, its form on a forwarded stream.
    """

    message: Any


@attrs.frozen
class Ended(Event):
    """The last event, once: flush what is to be sent, then close.

    :param outcome: how it ended (COM-7).
    :param reason: why, for the operator: one line of plain text.
    :param offset: for bad input, the offset of the first wrong byte in all that the peer sent.
    """

    outcome: Outcome
    reason: str
    offset: int | None = None


class ProtocolError(Exception):
    """A protocol was broken, by the peer or by ourselves."""


class LocalProtocolError(ProtocolError):
    """Our own misuse of a machine, such as a verb at a wrong time. Raised to the caller."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol. Stays inside the machine, which turns it into a refusal and :class:`Ended`.

    :param reason: what was wrong, for the operator.
    :param offset: where, counted in bytes from the first that the peer sent (COM-3).
    :param told: the text for the peer where the protocol has one; the reason unless given.
    :param outcome: ``MALFORMED`` unless the peer was well-formed and is refused all the same.
    """

    def __init__(
        self, reason: str, offset: int, *, told: str | None = None, outcome: Outcome = Outcome.MALFORMED
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset
        self.told = reason if told is None else told
        self.outcome = outcome


class Machine(abc.ABC):
    """One side of one connection of a stream protocol.

    A subclass gives ``_step`` (parse one message), ``_refusal`` (the protocol's words for an end that we bring
    about) and the verbs that answer its own :class:`Decision` classes.

    :param now: the time of the accept or connect, seconds.
    :param handshake_timeout: seconds from then to the accepted session (COM-1).
    """

    __slots__ = ("_consumed", "_deadline", "_decision", "_input", "_output", "ended", "established", "wants_turn")

    held_limit: ClassVar[int] = 65_536
    """Bytes of input that are held while a Decision is open before the peer's input is paused (COM-2)."""

    def __init__(self, *, now: float, handshake_timeout: float) -> None:
        self._input = bytearray()
        self._consumed = 0
        self._output: list[bytes] = []
        self._decision: Decision | None = None
        self._deadline: float | None = now + handshake_timeout
        self.established = False
        self.ended = False
        self.wants_turn = False
        """Whether there is input left for another turn of the reactor: pause the peer, and call :meth:`turn` then.

        A subclass sets it in ``_step`` where little input has become much work.
        """

    # What drives the machine

    def transport_ready(self, now: float) -> list[Event]:
        """The way to the peer stands: at once on TCP, behind TLS when its handshake is done.

        Before that nothing can be said. Unless overridden it means nothing: what a machine said earlier is sent now.
        """
        return []

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes from the peer.

        :param data: as they came, in any segmentation.
        :param now: seconds.
        :return: what they meant. Nothing that a peer sends makes this raise.
        """
        if self.ended:
            return []
        self._input += data
        return self._advance(now)

    def end_of_stream(self, now: float, *, clean: bool = True) -> list[Event]:
        """The peer will send no more.

        :param clean: False where the connection broke instead of being closed.
        """
        if self.ended:
            return []
        if not self.established:
            return [self._finish(Outcome.ABORTED, "the peer went away before it was accepted")]
        if clean and not self._unfinished():
            return [self._finish(Outcome.LEFT, "the peer closed the connection")]
        reason = "the peer closed in the middle of a message" if clean else "the connection was lost"
        return [self._finish(Outcome.LOST, reason)]

    def turn(self, now: float) -> list[Event]:
        """Go on with input that was left, see :attr:`wants_turn`. Does nothing where there is none."""
        if not self.wants_turn or self.ended:
            return []
        return self._advance(now)

    def data_to_send(self) -> bytes:
        """What is to be written now; each byte is given once."""
        output = self._output
        if not output:
            return b""
        data = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        return data

    def deadline(self) -> float | None:
        """When :meth:`handle_deadline` wants to be called, in the time of ``now``."""
        return self._deadline

    def handle_deadline(self, now: float) -> list[Event]:
        """Act on a deadline that has passed; does nothing before its time."""
        if self.ended or self._deadline is None or now < self._deadline:
            return []
        return self._expire(now)

    def peer_progressed(self, now: float) -> None:  # noqa: B027  # most machines need not know
        """The peer takes what waits for it, while its own input is held back for that (COM-6): it is slow, and there.

        A machine that ends silent peers takes it for a sign of life.
        """

    def close(self, outcome: Outcome, reason: str, now: float) -> list[Event]:
        """End the connection from our side, in the protocol's own words where its state allows any (COM-12).

        :param outcome: such as ``KICKED`` or ``SHUTDOWN``.
        :param reason: for the peer and for the operator.
        """
        if self.ended:
            return []
        return self._end(outcome, reason)

    def refuse(self, reason: str, now: float, outcome: Outcome = Outcome.REFUSED) -> list[Event]:
        """Answer whatever Decision is open with no.

        :param outcome: what an unaccepted connection is counted as; an accepted session ends as ``FAILED`` unless this
            is one of its own outcomes (COM-7).
        :raises LocalProtocolError: where none is open.
        """
        if self._decision is None or self.ended:
            raise LocalProtocolError("refuse: no decision is open")
        if self.established and outcome not in AFTER_ACCEPTANCE:
            outcome = Outcome.FAILED
        return self._end(outcome, reason)

    def send(self, message: Any, now: float) -> None:
        """Queue a message of the accepted session.

        :raises LocalProtocolError: where the protocol or its state has no room for it.
        """
        raise LocalProtocolError(f"{type(self).__name__} carries no messages from a handler")

    @property
    def decision(self) -> Decision | None:
        """The Decision that waits for its verb."""
        return self._decision

    @property
    def held(self) -> int:
        """Bytes of memory that what the peer has sent takes up here (COM-2)."""
        return len(self._input)

    @property
    def wants_data(self) -> bool:
        """False while more input would only be held: pause the peer until the Decision is made."""
        return self._decision is None or len(self._input) < self.held_limit

    # What a subclass gives

    def _unfinished(self) -> bool:
        """Whether the peer is in the middle of saying something."""
        return bool(self._input)

    @abc.abstractmethod
    def _step(self, now: float) -> list[Event] | None:
        """Consume one message from ``_input``: its events, or None where more bytes are needed.

        :raises RemoteProtocolError: for bad input.
        """

    def _refusal(self, outcome: Outcome, text: str) -> bytes:
        """The protocol's words for an end of ours, or nothing where the state allows none (COM-12)."""
        return b""

    def _expire(self, now: float) -> list[Event]:
        """The deadline has passed. Unless overridden it is that of the handshake (COM-1)."""
        return self._end(Outcome.TIMEOUT, "Handshake took too long")

    # What a subclass uses

    def _advance(self, now: float) -> list[Event]:
        """Parse what is there until more input, a verb or the end is needed."""
        events: list[Event] = []
        self.wants_turn = False
        try:
            while self._decision is None and not self.ended and not self.wants_turn:
                step = self._step(now)
                if step is None:
                    break
                if step:
                    events += step
                    if isinstance(step[-1], Decision):
                        self._decision = step[-1]
        except RemoteProtocolError as error:
            events += self._end(error.outcome, error.reason, told=error.told, offset=error.offset)
        return events

    def _consume(self, count: int) -> None:
        """Drop that many bytes of input."""
        self._consumed += count
        del self._input[:count]

    def _decided(self, kind: type[DecisionT], verb: str) -> DecisionT:
        """Close the open Decision, which must be of that kind, and return it.

        :raises LocalProtocolError: where it is not.
        """
        decision = self._decision
        if self.ended or not isinstance(decision, kind):
            raise LocalProtocolError(f"{verb}: no {kind.__name__} is open")
        self._decision = None
        return decision

    def _end(self, outcome: Outcome, reason: str, *, told: str | None = None, offset: int | None = None) -> list[Event]:
        """Say the protocol's refusal where there is one, and end."""
        refusal = self._refusal(outcome, reason if told is None else told)
        if refusal:
            self._output.append(refusal)
        return [self._finish(outcome, reason, offset)]

    def _finish(self, outcome: Outcome, reason: str, offset: int | None = None) -> Ended:
        """End without another byte."""
        self.ended = True
        self.wants_turn = False
        self._decision = None
        self._deadline = None
        self._input = bytearray()
        return Ended(outcome, reason, offset)


DatagramAddress = tuple[str, int]
"""Where a datagram comes from or goes to: a numeric host, IPv4 never in its IPv6-mapped spelling, and a port."""


class DatagramMachine(abc.ABC):
    """One socket's worth of a datagram protocol, with all the peers that it has.

    Driven like :class:`Machine`: after each call its events are dealt with, ``datagrams_to_send`` is sent, and
    ``handle_deadline`` is called once ``deadline`` has passed. What cannot be sent is lost, and the machine is not
    told: datagrams may be lost anyway.
    """

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = False
        """Whether :class:`Ended` was said: nothing more comes in or goes out."""

    @abc.abstractmethod
    def receive_datagram(self, data: bytes, address: DatagramAddress, now: float) -> list[Event]:
        """Take one datagram. Nothing that a peer sends makes this raise."""

    @abc.abstractmethod
    def datagrams_to_send(self) -> list[tuple[bytes, DatagramAddress]]:
        """What is to be sent now; each datagram is given once."""

    @abc.abstractmethod
    def deadline(self) -> float | None:
        """When :meth:`handle_deadline` wants to be called, in the time of ``now``."""

    @abc.abstractmethod
    def handle_deadline(self, now: float) -> list[Event]:
        """Act on a deadline that has passed; does nothing before its time."""

    @abc.abstractmethod
    def close(self, outcome: Outcome, reason: str, now: float) -> list[Event]:
        """End from our side, every peer in the protocol's words where it has any; the last event is :class:`Ended`."""


default_random: Random = os.urandom
