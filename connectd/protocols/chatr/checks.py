"""The checks between two peers: when a request is sent where, and what its answer proves (CH-40 to CH-42).

Life of a pair::

    CHECKING   requests to every candidate; the requester nominates the first that answers
       |  the nominating request was answered (requester)
       |  a nominated candidate has answered our request too (accepter)
    OPEN       one candidate is the path; a request every 15 s shows that the peer still wants it
       |  30 s without an answer, a goodbye, or our own close
    ENDED

What a check proves: an answer with the 96 random bits of our request, from the address that the request went to, can
only come from somebody who received it there. In version 1 it does not say who that is.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import attrs

from connectd.protocols.chatr.candidates import MAXIMUM_CANDIDATES, Candidate, CandidateKind, at_most
from connectd.protocols.chatr.pace import SlidingWindow
from connectd.protocols.chatr.stun import (
    TRANSACTION_ID_SIZE,
    BindingMessage,
    encode_request,
    encode_success,
)
from connectd.sansio import DatagramAddress, Random

FIRST_INTERVAL: Final = 0.2
"""Seconds from the first request to a candidate to the second (CH-40)."""
BACKOFF: Final = 1.5
LONGEST_INTERVAL: Final = 1.6
"""Requests to one candidate go out 0, 0.2, 0.5, 0.95, 1.6, 2.6, 4.2, 5.8, 7.4 and 9.0 s after the start."""
PROBES_PER_SECOND: Final = 50
"""Requests that a pair sends within any second (CH-40)."""
ANSWERS_PER_SECOND: Final = 100
"""Requests that a pair answers within any second: twice what a peer may send."""
NOMINATION_PATIENCE: Final = 2.0
"""Seconds without an answer after which the requester nominates another candidate that has answered."""
KEEPALIVE_INTERVAL: Final = 15.0
"""Seconds from an answer on an open path to the next request (CH-42)."""
CONSENT_TIMEOUT: Final = 30.0
"""Seconds without an answer after which an open path is lost (CH-42)."""
FIRST_RETRY: Final = 0.5
LONGEST_RETRY: Final = 2.0
"""Seconds from a keepalive without an answer to the next: 0.5, 1, 2, 2, 2 …, so that some lost ones cost no path."""
REMEMBERED_REQUESTS: Final = 1024
"""Transaction ids of the peer that are remembered, so that a replay moves nothing; more than a pair sends in 10 s."""
TRIGGER_INTERVAL: Final = 0.05
"""A request from a candidate that has not answered yet brings the next one to it forward, to so long after the last."""
_REMEMBERED_ANSWERS: Final = 16
_NEVER: Final = float("inf")


class Role(enum.Enum):
    """Which side of an accepted request a peer is."""

    REQUESTER = "requester"
    """Sent the ConnectionRequest; nominates."""
    ACCEPTER = "accepter"
    """Sent the ConnectionRequestAccept."""


class PairState(enum.Enum):
    """How far a pair has come."""

    CHECKING = "checking"
    OPEN = "open"
    ENDED = "ended"


def username(receiver: UUID, sender: UUID) -> bytes:
    """The USERNAME of a check: ``<receiver's UUID>:<sender's UUID>``, 32 lower-case hex digits each (CH-33, CH-41)."""
    return f"{receiver.hex}:{sender.hex}".encode()


@attrs.define
class Check:
    """What is known about one candidate.

    :param candidate: the address and how it became known.
    :param next_at: when the next request goes there.
    :param interval: seconds from that one to the one after it.
    :param answered: it has answered a request of ours: datagrams pass in both directions.
    :param nominated: a valid request from there, by the requester, chose it.
    :param sent_at: when the last request went there.
    :param answered_ids: the requests of ours that were answered; no more than are sent while checking.
    :param heard_id: the last request that came from there.
    """

    candidate: Candidate
    next_at: float
    interval: float = FIRST_INTERVAL
    answered: bool = False
    nominated: bool = False
    sent_at: float = -_NEVER
    answered_ids: list[bytes] = attrs.field(factory=list)
    heard_id: bytes | None = None


@attrs.frozen
class Transaction:
    """A request of ours that has no answer yet.

    :param address: where it went; an answer from elsewhere is none.
    :param nominating: it said USE-CANDIDATE.
    """

    address: DatagramAddress
    nominating: bool


class Pair:
    """Two peers on their way to a path, and the path.

    Whoever drives it (:class:`connectd.protocols.chatr.puncher.PunchingMachine`) looks at :attr:`state` afterwards.

    :param own: our UUID.
    :param peer: the other's.
    :param role: which side of the request we are.
    :param offered: the peer's candidates; what exceeds 16 is left out.
    :param outgoing: takes (datagram, address) of what is to be sent.
    :param random: random bytes for transaction ids.
    :param now: seconds.
    :param timeout: seconds for the path to open (CH-40).
    :param key: the pair's secret, which signs every message; None in version 1 (CH-41).
    """

    __slots__ = (
        "_answer_window",
        "_answered_ids",
        "_expires",
        "_key",
        "_nominated_at",
        "_nominee",
        "_outgoing",
        "_own_name",
        "_probe_window",
        "_random",
        "_retry",
        "_seen",
        "_silent_since",
        "_transactions",
        "checks",
        "held",
        "name",
        "next_keepalive",
        "path",
        "peer",
        "role",
        "state",
    )

    held_limit = 16
    """Application datagrams that are kept while they come ahead of the check that opens the path; the oldest goes."""

    def __init__(
        self,
        own: UUID,
        peer: UUID,
        role: Role,
        offered: Iterable[Candidate],
        outgoing: list[tuple[bytes, DatagramAddress]],
        *,
        random: Random,
        now: float,
        timeout: float,
        key: bytes | None = None,
    ) -> None:
        self.peer = peer
        self.role = role
        self.name = username(own, peer)
        """The USERNAME of requests that come in."""
        self.state = PairState.CHECKING
        self.path: DatagramAddress | None = None
        self.checks = {one.address: Check(one, now) for one in at_most(offered)}
        self.held: deque[tuple[bytes, DatagramAddress]] = deque(maxlen=self.held_limit)
        self.next_keepalive = _NEVER
        self._own_name = username(peer, own)
        self._key = key
        self._outgoing = outgoing
        self._random = random
        self._expires = now + timeout
        self._nominee: DatagramAddress | None = None
        self._nominated_at = now
        self._retry = FIRST_RETRY
        self._silent_since = now
        self._transactions: dict[bytes, Transaction] = {}
        self._answered_ids: deque[bytes] = deque(maxlen=_REMEMBERED_ANSWERS)
        self._seen: dict[bytes, DatagramAddress] = {}
        self._probe_window = SlidingWindow(PROBES_PER_SECOND)
        self._answer_window = SlidingWindow(ANSWERS_PER_SECOND)

    # What the peer sends

    def receive_request(self, message: BindingMessage, address: DatagramAddress, now: float) -> None:
        """Take a request whose USERNAME is :attr:`name`; what is forged or replayed changes nothing."""
        if not self._is_genuine(message):
            return
        first_source = self._seen.get(message.transaction_id)
        if first_source is not None:
            if first_source == address:  # the network said it twice
                self._answer(message, address, now)
            return
        check = self._check_for(address, now)
        if check is None or (self.state is PairState.OPEN and address != self.path):
            return  # a nomination is final: who wants another path gets no answer there and comes back
        if len(self._seen) == REMEMBERED_REQUESTS:
            del self._seen[next(iter(self._seen))]
        self._seen[message.transaction_id] = address
        check.heard_id = message.transaction_id
        self._answer(message, address, now)
        if self.state is PairState.OPEN:
            return
        if message.use_candidate and self.role is Role.ACCEPTER:
            check.nominated = True
        if not check.answered:
            check.next_at = min(check.next_at, max(now, check.sent_at + TRIGGER_INTERVAL))
        elif check.nominated:
            self._open(check, now)
        self._probe(now)

    def receive_success(self, message: BindingMessage, address: DatagramAddress, now: float) -> None:
        """Take an answer to :meth:`awaits` a request of ours; from elsewhere than the request went it is none."""
        transaction = self._transactions.get(message.transaction_id)
        if transaction is None or transaction.address != address or not self._is_genuine(message):
            return
        del self._transactions[message.transaction_id]
        if self.state is PairState.OPEN:
            self._consented(message.transaction_id, now)
            return
        check = self.checks[address]
        check.answered = True
        check.answered_ids.append(message.transaction_id)
        if address != self._nominee:
            check.next_at = _NEVER
        if self.role is Role.ACCEPTER:
            if check.nominated:
                self._open(check, now)
        elif transaction.nominating:
            self._open(check, now)
        elif self._nominee is None:
            self._nominate(check, now)
            self._probe(now)

    def awaits(self, transaction_id: bytes) -> bool:
        """Whether a request of ours with this id has no answer yet."""
        return transaction_id in self._transactions

    def is_farewell(self, transaction_id: bytes) -> bool:
        """Whether a goodbye quotes a request that we sent over the path: nobody else has read it."""
        if transaction_id in self._answered_ids:
            return True
        return self.state is PairState.OPEN and transaction_id in self._transactions

    @property
    def farewell(self) -> bytes | None:
        """The id of the last request that came over the path, for our goodbye."""
        return None if self.path is None else self.checks[self.path].heard_id

    # Time

    def deadline(self) -> float:
        """When :meth:`handle_deadline` has something to do."""
        if self.state is PairState.OPEN:
            return min(self.next_keepalive, self._silent_since + CONSENT_TIMEOUT)
        due = min((check.next_at for check in self.checks.values()), default=_NEVER)
        if self._nominee is not None:
            due = min(due, self._nominated_at + NOMINATION_PATIENCE)
        return min(max(due, self._probe_window.free_at()), self._expires)

    def handle_deadline(self, now: float) -> None:
        """Send what is due; :attr:`state` is ENDED where time is up."""
        if self.state is PairState.OPEN:
            self._keep_alive(now)
        elif now >= self._expires:
            self.state = PairState.ENDED
        else:
            if self._nominee is not None and now >= self._nominated_at + NOMINATION_PATIENCE:
                self._nominate_another(self._nominee, now)
            self._probe(now)

    # Inside

    def _is_genuine(self, message: BindingMessage) -> bool:
        """Whether a peer of ours sends such: FINGERPRINT always, nothing unknown, signed where there is a secret."""
        if not message.has_fingerprint or message.unknown:
            return False
        return self._key is None or message.is_signed_with(self._key)

    def _check_for(self, address: DatagramAddress, now: float) -> Check | None:
        """The check of the address that a request came from, which may be a new candidate."""
        check = self.checks.get(address)
        if check is None and self.state is PairState.CHECKING and len(self.checks) < MAXIMUM_CANDIDATES:
            check = self.checks[address] = Check(Candidate(address, CandidateKind.PEER_REFLEXIVE), now)
        return check

    def _answer(self, message: BindingMessage, address: DatagramAddress, now: float) -> None:
        if self._answer_window.take(now):
            data = encode_success(message.transaction_id, address, key=self._key, fingerprint=True)
            self._outgoing.append((data, address))

    def _send_request(self, address: DatagramAddress, *, nominating: bool) -> None:
        transaction_id = self._random(TRANSACTION_ID_SIZE)
        self._transactions[transaction_id] = Transaction(address, nominating)
        data = encode_request(transaction_id, self._own_name, use_candidate=nominating, key=self._key)
        self._outgoing.append((data, address))

    def _probe(self, now: float) -> None:
        """Send the requests that are due, longest due first, as far as the limit allows."""
        if self.state is not PairState.CHECKING:
            return
        due = [check for check in self.checks.values() if check.next_at <= now]
        due.sort(key=lambda check: check.next_at)
        for check in due:
            if not self._probe_window.take(now):
                break
            address = check.candidate.address
            self._send_request(address, nominating=address == self._nominee)
            check.sent_at = now
            check.next_at = now + check.interval
            check.interval = min(check.interval * BACKOFF, LONGEST_INTERVAL)

    def _nominate(self, check: Check, now: float) -> None:
        self._nominee = check.candidate.address
        self._nominated_at = now
        check.next_at = now
        check.interval = FIRST_INTERVAL

    def _nominate_another(self, nominee: DatagramAddress, now: float) -> None:
        """The nominee is silent: it has to prove itself again, and another that has answered takes its place."""
        silent = self.checks[nominee]
        silent.answered = False
        self._nominee = None
        for check in self.checks.values():
            if check.answered:
                self._nominate(check, now)
                return

    def _open(self, check: Check, now: float) -> None:
        self.state = PairState.OPEN
        self.path = check.candidate.address
        self._transactions = {key: one for key, one in self._transactions.items() if one.address == self.path}
        self._answered_ids.extend(check.answered_ids)
        self._silent_since = now
        self.next_keepalive = now + KEEPALIVE_INTERVAL

    def _consented(self, transaction_id: bytes, now: float) -> None:
        self._silent_since = now
        self.next_keepalive = now + KEEPALIVE_INTERVAL
        self._retry = FIRST_RETRY
        self._answered_ids.append(transaction_id)
        self._transactions.clear()

    def _keep_alive(self, now: float) -> None:
        if now >= self._silent_since + CONSENT_TIMEOUT:
            self.state = PairState.ENDED
        elif now >= self.next_keepalive and self.path is not None:
            self._send_request(self.path, nominating=False)
            self.next_keepalive = now + self._retry
            self._retry = min(2 * self._retry, LONGEST_RETRY)
