"""The UDP side of a Chatr client, without input or output: paths to other peers through their NATs (CH-40 to CH-42).

One machine has one socket and any number of peers on it. The first byte of a datagram tells what it is (CH-32)::

    0 to 3     STUN: checks and their answers (stun.py)
    20 to 63   DTLS     version 2
    64         relay    version 2
    128        message: u8 128, up to 1,200 bytes for the application
    129        goodbye: u8 129, 12 bytes: the transaction id of the last check that came over this path

Anything else is dropped, as is a message from an address that is nobody's path. A goodbye counts only where it quotes
a check of the receiver's, which nobody but the peer (and who sits on the way) has read.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

import attrs

from connectd.protocols.chatr.candidates import MAXIMUM_CANDIDATES, Candidate
from connectd.protocols.chatr.checks import CONSENT_TIMEOUT, Pair, PairState, Role
from connectd.protocols.chatr.stun import (
    TRANSACTION_ID_SIZE,
    BindingMessage,
    MessageClass,
    StunError,
    decode,
    is_stun,
)
from connectd.sansio import (
    DatagramAddress,
    DatagramMachine,
    Ended,
    Event,
    LocalProtocolError,
    Outcome,
    Random,
    default_random,
)

PUNCHING_TIMEOUT: Final = 10.0
"""Seconds that checks are sent for (CH-40)."""
MAXIMUM_MESSAGE: Final = 1200
"""Bytes of one application message, so that it fits any path without fragments."""
MAXIMUM_PEERS: Final = 256
"""Peers that one machine has at once."""
EARLY_PEERS: Final = 16
"""Peers whose checks are remembered although nobody has asked for them yet."""
EARLY_CHECKS: Final = MAXIMUM_CANDIDATES
"""Checks that are remembered for each of those, one for each source."""
EARLY_TIME: Final = 10.0
"""Seconds that they are remembered."""

MESSAGE: Final = 128
GOODBYE: Final = 129
_MESSAGE: Final = bytes((MESSAGE,))
_GOODBYE: Final = bytes((GOODBYE,))
_GOODBYE_SIZE: Final = 1 + TRANSACTION_ID_SIZE
_HEX: Final = re.compile(rb"[0-9a-f]{32}")


class PathEnd(enum.Enum):
    """Why there is no path, or no longer one."""

    UNREACHABLE = "unreachable"
    """Punching took too long."""
    CONSENT_LOST = "consent lost"
    """No check was answered for 30 s (CH-42)."""
    LEFT = "left"
    """The peer said goodbye."""
    CLOSED = "closed"
    """We ended it."""


@attrs.frozen
class PathOpened(Event):
    """Datagrams pass in both directions. In version 1 that is all: who answers has not proven who it is (CH-41).

    :param peer: the UUID that its checks carry.
    :param candidate: where it is.
    """

    peer: UUID
    candidate: Candidate


@attrs.frozen
class PathEnded(Event):
    """The peer is gone, or never came; the last event of this peer.

    :param peer: which.
    :param end: why.
    :param reason: one line for a person.
    """

    peer: UUID
    end: PathEnd
    reason: str


@attrs.frozen
class MessageReceived(Event):
    """A message came over a path.

    :param peer: whose path.
    :param data: up to 1,200 bytes.
    """

    peer: UUID
    data: bytes


class PunchingMachine(DatagramMachine):
    """All peers of one UDP socket.

    :param own: our UUID.
    :param random: random bytes for transaction ids.
    """

    __slots__ = ("_deadline", "_early", "_names", "_outgoing", "_own_prefix", "_pairs", "_paths", "_random", "own")

    def __init__(self, own: UUID, *, random: Random = default_random) -> None:
        super().__init__()
        self.own = own
        self._random = random
        self._own_prefix = own.hex.encode() + b":"
        self._pairs: dict[UUID, Pair] = {}
        self._names: dict[bytes, Pair] = {}
        self._paths: dict[DatagramAddress, Pair] = {}
        self._early: dict[bytes, dict[DatagramAddress, tuple[BindingMessage, float]]] = {}
        self._outgoing: list[tuple[bytes, DatagramAddress]] = []
        self._deadline: float | None = None

    # Verbs

    def punch(
        self,
        peer: UUID,
        role: Role,
        candidates: Iterable[Candidate],
        now: float,
        *,
        timeout: float = PUNCHING_TIMEOUT,
        key: bytes | None = None,
    ) -> list[Event]:
        """Begin to reach a peer; :class:`PathOpened` or :class:`PathEnded` follows. An older path to it is ended.

        :param role: the requester nominates.
        :param candidates: where it may be; at most 16 count. There may be none: its own checks show more.
        :param timeout: seconds.
        :param key: the pair's secret (version 2); None: the peer is known by its UUID only.
        :raises LocalProtocolError: after the end, for ourselves, or for more than 256 peers.
        """
        if self.ended:
            raise LocalProtocolError("punch: this socket is closed")
        if peer == self.own:
            raise LocalProtocolError("punch: nobody reaches himself")
        events = self.close_path(peer, now, reason="replaced by a new request")
        if len(self._pairs) >= MAXIMUM_PEERS:
            raise LocalProtocolError(f"punch: {MAXIMUM_PEERS} peers at most")
        pair = Pair(
            self.own, peer, role, candidates, self._outgoing, random=self._random, now=now, timeout=timeout, key=key
        )
        self._pairs[peer] = self._names[pair.name] = pair
        for address, (message, heard_at) in self._early.pop(pair.name, {}).items():
            if now < heard_at + EARLY_TIME:
                pair.receive_request(message, address, now)
        pair.handle_deadline(now)
        return events + self._settle(pair, PairState.CHECKING)

    def send(self, peer: UUID, data: bytes) -> None:
        """Send a message over the path to a peer.

        :param data: at most 1,200 bytes; it may be lost, or come twice or late.
        :raises LocalProtocolError: where there is no path, or for too long a message.
        """
        pair = self._pairs.get(peer)
        if pair is None or pair.path is None:
            raise LocalProtocolError(f"send: there is no path to {peer}")
        if len(data) > MAXIMUM_MESSAGE:
            raise LocalProtocolError(f"send: a message of {len(data)} bytes; at most {MAXIMUM_MESSAGE}")
        self._outgoing.append((_MESSAGE + data, pair.path))

    def close_path(self, peer: UUID, now: float, *, reason: str = "closed here") -> list[Event]:
        """End the path to a peer, or the way to one, and say goodbye; nothing where there is none."""
        pair = self._pairs.get(peer)
        if pair is None:
            return []
        if pair.path is not None and pair.farewell is not None:
            self._outgoing.append((_GOODBYE + pair.farewell, pair.path))
        ended = self._remove(pair, PathEnd.CLOSED, reason)
        self._find_deadline()
        return ended

    # The contract

    def receive_datagram(self, data: bytes, address: DatagramAddress, now: float) -> list[Event]:
        if self.ended or not data:
            return []
        if data[0] == MESSAGE:
            return self._message(data, address)
        if data[0] == GOODBYE:
            return self._goodbye(data, address)
        return self._binding(data, address, now) if is_stun(data) else []

    def datagrams_to_send(self) -> list[tuple[bytes, DatagramAddress]]:
        outgoing = self._outgoing[:]
        self._outgoing.clear()  # the pairs hold this very list
        return outgoing

    def deadline(self) -> float | None:
        return self._deadline

    def handle_deadline(self, now: float) -> list[Event]:
        if self._deadline is None or now < self._deadline:
            return []
        events: list[Event] = []
        for pair in list(self._pairs.values()):
            if pair.deadline() <= now:
                before = pair.state
                pair.handle_deadline(now)
                events += self._changes(pair, before)
        self._find_deadline()
        return events

    def close(self, outcome: Outcome, reason: str, now: float) -> list[Event]:
        if self.ended:
            return []
        events: list[Event] = []
        for peer in list(self._pairs):
            events += self.close_path(peer, now, reason=reason)
        self._early.clear()
        self.ended = True
        return [*events, Ended(outcome, reason)]

    # What comes in

    def _message(self, data: bytes, address: DatagramAddress) -> list[Event]:
        if len(data) > 1 + MAXIMUM_MESSAGE:
            return []
        pair = self._paths.get(address)
        if pair is not None:
            return [MessageReceived(pair.peer, data[1:])]
        for pair in self._pairs.values():
            if pair.state is PairState.CHECKING and (check := pair.checks.get(address)) is not None and check.nominated:
                pair.held.append((data[1:], address))
        return []

    def _goodbye(self, data: bytes, address: DatagramAddress) -> list[Event]:
        pair = self._paths.get(address)
        if pair is None or len(data) != _GOODBYE_SIZE or not pair.is_farewell(data[1:]):
            return []
        ended = self._remove(pair, PathEnd.LEFT, "the peer left")
        self._find_deadline()
        return ended

    def _binding(self, data: bytes, address: DatagramAddress, now: float) -> list[Event]:
        try:
            message = decode(data)
        except StunError:
            return []
        if message.message_class is MessageClass.REQUEST:
            return self._request(message, address, now)
        if message.message_class is MessageClass.SUCCESS:
            for pair in self._pairs.values():
                if pair.awaits(message.transaction_id):
                    before = pair.state
                    pair.receive_success(message, address, now)
                    return self._settle(pair, before)
        return []

    def _request(self, message: BindingMessage, address: DatagramAddress, now: float) -> list[Event]:
        name = message.username
        if name is None or not name.startswith(self._own_prefix):
            return []
        pair = self._names.get(name)
        if pair is None:
            self._remember(message, name, address, now)
            return []
        before = pair.state
        pair.receive_request(message, address, now)
        return self._settle(pair, before)

    def _remember(self, message: BindingMessage, name: bytes, address: DatagramAddress, now: float) -> None:
        """A check came before the word of the server (CH-40): it gets no answer until there is one."""
        if not _HEX.fullmatch(name, len(self._own_prefix)):
            return
        sources = self._early.pop(name, {})
        sources.pop(address, None)
        _make_room(sources, EARLY_CHECKS)
        sources[address] = message, now
        _make_room(self._early, EARLY_PEERS)
        self._early[name] = sources

    # What comes of it

    def _settle(self, pair: Pair, before: PairState) -> list[Event]:
        events = self._changes(pair, before)
        self._find_deadline()
        return events

    def _changes(self, pair: Pair, before: PairState) -> list[Event]:
        """The events of what a pair has just become."""
        if pair.state is before:
            return []
        if pair.state is PairState.ENDED:
            if before is PairState.OPEN:
                reason = f"consent was lost: no answer in {CONSENT_TIMEOUT:.0f} seconds"
                return self._remove(pair, PathEnd.CONSENT_LOST, reason)
            return self._remove(pair, PathEnd.UNREACHABLE, "no candidate of the peer answered in time")
        assert pair.path is not None
        if pair.path in self._paths:
            return self._remove(pair, PathEnd.UNREACHABLE, "another peer's path leads to the address that answered")
        self._paths[pair.path] = pair
        held = [MessageReceived(pair.peer, data) for data, address in pair.held if address == pair.path]
        pair.held.clear()
        return [PathOpened(pair.peer, pair.checks[pair.path].candidate), *held]

    def _remove(self, pair: Pair, end: PathEnd, reason: str) -> list[Event]:
        del self._pairs[pair.peer], self._names[pair.name]
        if pair.path is not None and self._paths.get(pair.path) is pair:
            del self._paths[pair.path]
        return [PathEnded(pair.peer, end, reason)]

    def _find_deadline(self) -> None:
        self._deadline = min((pair.deadline() for pair in self._pairs.values()), default=None)


def _make_room(remembered: dict[Any, Any], most: int) -> None:
    """Let the oldest go where the next one would be one too many."""
    if len(remembered) >= most:
        del remembered[next(iter(remembered))]
