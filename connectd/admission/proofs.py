"""Failed proofs: whose answers are delayed, and which sources are shut out (COM-11)."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

import attrs

from connectd.admission.addresses import UNIX, source_key
from connectd.admission.limits import AdmissionLimits

Key = TypeVar("Key", str, bytes)

WINDOW: Final = 600.0
"""Seconds for which a failed proof counts."""
SHUT_OUT: Final = 600.0
"""Seconds for which a source is shut out."""
KNOWN: Final = 86_400.0
"""Seconds for which an account is known from a source after it logged in from there."""
TOLERATED: Final = 4
"""Failures of one (source, account) that are answered at once."""
LONGEST_DELAY: Final = 30.0

MAXIMUM_FAILURES: Final = 65_536
MAXIMUM_SHUT_OUT: Final = 65_536
MAXIMUM_KNOWN: Final = 131_072


@attrs.frozen
class ProofVerdict:
    """What to do with a proof that has arrived."""

    verify: bool
    """False: do not look at it, give the wrong-proof reply."""
    delay: float = 0.0
    """Seconds before that reply, where ``verify`` is False: what a wrong proof would have waited."""


_VERIFY: Final = ProofVerdict(verify=True)


@attrs.define(eq=False)
class _Tally(Generic[Key]):
    key: Key
    count: int = 0


class ProofLedger:
    """Who failed to prove who they are, from where (COM-11). Pure bookkeeping.

    It verifies and delays nothing itself. Only proofs that were verified, on an address-validated connection,
    are to be reported. A "proof" is whatever the protocol has: a password, a signature, a token. An "account"
    is whatever the proof was for: a name, a UUID, a fingerprint; unknown ones are treated alike (COM-10).
    Sources are those of admission (COM-4), except that peers of unix sockets, who all are one source, are
    delayed but never shut out.

    Memory is bounded, the oldest goes first: 65,536 failures (each counts for 10 minutes), 65,536 sources
    that are shut out, 131,072 accounts that are known from a source. Beyond that a failure stops counting
    early, a source is let in early, an account is no longer known. Account names are kept as keyed digests
    only, for people type passwords into the wrong field.

    ``now`` may be set back: until it moves on, no time passes here.

    :param limits: for ``failures_per_source`` and the prefixes; :meth:`replace_limits` changes them later.
    """

    __slots__ = (
        "_elapsed",
        "_failures",
        "_known",
        "_limits",
        "_maximum_failures",
        "_maximum_known",
        "_maximum_shut_out",
        "_now",
        "_pairs",
        "_salt",
        "_shut_out",
        "_sources",
    )

    def __init__(
        self,
        limits: AdmissionLimits,
        *,
        maximum_failures: int = MAXIMUM_FAILURES,
        maximum_shut_out: int = MAXIMUM_SHUT_OUT,
        maximum_known: int = MAXIMUM_KNOWN,
    ) -> None:
        self._limits = limits
        self._maximum_failures = maximum_failures
        self._maximum_shut_out = maximum_shut_out
        self._maximum_known = maximum_known
        self._salt = os.urandom(16)
        self._now: float | None = None
        self._elapsed = 0.0
        # Each failure, oldest first, with the tallies that it counts in.
        self._failures: deque[tuple[float, _Tally[str], _Tally[bytes]]] = deque()
        self._sources: dict[str, _Tally[str]] = {}
        self._pairs: dict[bytes, _Tally[bytes]] = {}
        # Until when, oldest first.
        self._shut_out: OrderedDict[str, float] = OrderedDict()
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def replace_limits(self, limits: AdmissionLimits) -> None:
        """Go by other limits from now on. What was counted stays; changed prefixes make new sources."""
        self._limits = limits

    def verdict(self, source_host: str, account: str, now: float) -> ProofVerdict:
        """Tell whether to verify a proof.

        False while its source is shut out, unless the account succeeded from there in the last 24 hours. Such
        a proof is not to be reported to :meth:`failed`: it neither counts nor extends the shut-out.

        :raises ValueError: where ``source_host`` is neither empty nor an IP address. So do the other methods.
        """
        self._advance(now)
        source, pair = self._keys(source_host, account)
        if not self._limits.failures_per_source or source not in self._shut_out or pair in self._known:
            return _VERIFY
        return ProofVerdict(verify=False, delay=_delay(self._failures_of(pair) + 1))

    def failed(self, source_host: str, account: str, now: float) -> float:
        """A proof was verified and is wrong.

        :return: seconds to wait before the answer: 0 for the first four failures of this source and account
            in 10 minutes, then 1, 2, 4, 8, 16, and 30 from there on.
        """
        time = self._advance(now)
        source, pair = self._keys(source_host, account)
        source_tally = self._sources.setdefault(source, _Tally(source))
        pair_tally = self._pairs.setdefault(pair, _Tally(pair))
        source_tally.count += 1
        pair_tally.count += 1
        delay = _delay(pair_tally.count)
        limit = self._limits.failures_per_source
        if limit and source_tally.count >= limit and source != UNIX and source not in self._shut_out:
            self._shut_out[source] = time + SHUT_OUT
            if len(self._shut_out) > self._maximum_shut_out:
                self._shut_out.popitem(last=False)
        self._failures.append((time, source_tally, pair_tally))
        if len(self._failures) > self._maximum_failures:
            self._drop_oldest_failure()
        return delay

    def delay(self, source_host: str, account: str, now: float) -> float:
        """Tell how long the answer to a right proof waits, before it is reported to :meth:`succeeded`.

        :return: 0 while the source and account have fewer than five failures in 10 minutes; from there on as
            many seconds as the next failure would wait, so that time does not tell right from wrong.
        """
        self._advance(now)
        failures = self._failures_of(self._keys(source_host, account)[1])
        return _delay(failures + 1) if failures > TOLERATED else 0.0

    def succeeded(self, source_host: str, account: str, now: float) -> None:
        """A right proof is answered: the account is known from this source for 24 hours.

        Its failures from there are forgiven. The source's own stay counted: one right account is no licence
        to guess at others.
        """
        self._forgive(self._keys(source_host, account)[1], self._advance(now))

    def succeeded_at_once(self, source_host: str, account: str, now: float) -> bool:
        """Report a right proof whose answer need not wait: :meth:`delay` and :meth:`succeeded` in one.

        :return: False where it has to wait; then nothing was reported.
        """
        time = self._advance(now)
        pair = self._keys(source_host, account)[1]
        if self._failures_of(pair) > TOLERATED:
            return False
        self._forgive(pair, time)
        return True

    def _forgive(self, pair: bytes, time: float) -> None:
        self._pairs.pop(pair, None)
        self._known[pair] = time + KNOWN
        self._known.move_to_end(pair)
        if len(self._known) > self._maximum_known:
            self._known.popitem(last=False)

    def _keys(self, host: str, account: str) -> tuple[str, bytes]:
        source = source_key(host, ipv4_prefix=self._limits.ipv4_prefix, ipv6_prefix=self._limits.ipv6_prefix)
        text = f"{source}\0{account}".encode("utf-8", "surrogatepass")
        return source, hashlib.blake2b(text, digest_size=16, key=self._salt).digest()

    def _failures_of(self, pair: bytes) -> int:
        tally = self._pairs.get(pair)
        return tally.count if tally is not None else 0

    def _advance(self, now: float) -> float:
        """Let time pass, forget what is over, and return the time on a scale that never goes back."""
        if self._now is not None and now > self._now:
            self._elapsed += now - self._now
        self._now = now
        time = self._elapsed
        while self._failures and self._failures[0][0] + WINDOW <= time:
            self._drop_oldest_failure()
        _expire(self._shut_out, time)
        _expire(self._known, time)
        return time

    def _drop_oldest_failure(self) -> None:
        _, source_tally, pair_tally = self._failures.popleft()
        source_tally.count -= 1
        pair_tally.count -= 1
        if not source_tally.count:
            del self._sources[source_tally.key]
        # A success has taken the tally out, and later failures may have begun another one.
        if not pair_tally.count and self._pairs.get(pair_tally.key) is pair_tally:
            del self._pairs[pair_tally.key]


def _expire(until: OrderedDict[Key, float], time: float) -> None:
    while until and next(iter(until.values())) <= time:
        until.popitem(last=False)


def _delay(failures: int) -> float:
    """Seconds that the answer to so many failures in 10 minutes waits."""
    doublings = failures - TOLERATED - 1
    if doublings < 0:
        return 0.0
    return float(1 << doublings) if doublings < 5 else LONGEST_DELAY
