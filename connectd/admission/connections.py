"""Before the first byte: how many connections, from where, how fast (COM-4)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from connectd.addresses import pack
from connectd.admission.addresses import AddressPolicy, network_key, unpack
from connectd.sansio import Outcome

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from connectd.admission.limits import AdmissionLimits

MAXIMUM_SOURCES: Final = 65_536
FORGOTTEN_AT_ONCE: Final = 2
NEVER: Final = float("-inf")


@attrs.frozen
class Refusal:
    """Why a connection is closed without a byte, or with QUIC's CONNECTION_REFUSED (COM-4)."""

    outcome: Outcome
    """``LIMITED``, ``BANNED``, or ``REFUSED`` where the policy could not be evaluated."""
    reason: str
    """For the event, in one line. The peer never sees it."""


@attrs.define(eq=False)
class _Source:
    """One source: how many connections it has, and its token bucket.

    The bucket is one number. Each admission takes ``1 / rate`` seconds of the future; ``booked`` is when the
    source would be done at exactly its rate. So the bucket is full once ``booked`` has passed, and empty
    while ``booked`` is a whole burst away.
    """

    open: int = 0
    booked: float = NEVER


class Admission:
    """Decides on each new connection before its first byte (COM-4), and counts those that are open.

    Address lists first (deny wins over allow), then bans, the total, the connections of the source, the rate
    of the source. A refused connection takes no token. Anything that goes wrong in here refuses.

    The peer of a unix socket has no address: its host is ``""``, and it is only counted in the total.

    Sources without a connection whose bucket is full again are forgotten. At most ``maximum_sources`` are
    known at once: beyond that the one that has been without connections for the longest time is forgotten
    with its bucket; when all have connections, a new source is refused as limited.

    :param limits: what to enforce; :meth:`replace_limits` changes it later.
    :param clock: the reactor; its ``seconds()`` must be the time that :meth:`admit` is given.
    :param bans: tells why an address is banned, or None; called with the address's canonical text,
        IPv4-mapped IPv6 as IPv4 and without a zone. Runs on every accept, so it must be quick; when it
        raises, the connection is refused.
    """

    __slots__ = (
        "_addresses",
        "_bans",
        "_burst_seconds",
        "_clock",
        "_idle",
        "_interval",
        "_limits",
        "_maximum_sources",
        "_open",
        "_policy",
        "_slack",
        "_sources",
        "_unix_open",
    )

    def __init__(
        self,
        limits: AdmissionLimits,
        *,
        clock: IReactorTime,
        bans: Callable[[str], str | None] | None = None,
        maximum_sources: int = MAXIMUM_SOURCES,
    ) -> None:
        self._clock = clock
        self._bans = bans
        self._maximum_sources = maximum_sources
        self._open = 0
        self._unix_open = 0
        # By source key. A source without connections is also in _idle, in the order in which they became so.
        self._sources: dict[str, _Source] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        # Connections by packed address, for the sources that are more than this one address.
        self._addresses: Counter[bytes] = Counter()
        self._limits = limits
        self._apply(limits)

    @property
    def limits(self) -> AdmissionLimits:
        """What is enforced now."""
        return self._limits

    @property
    def open_connections(self) -> int:
        """How many connections were admitted and not released, unix sockets included."""
        return self._open

    @property
    def sources(self) -> int:
        """How many sources have a connection or a bucket that is not full; all unix peers are one."""
        self._forget(self._clock.seconds(), len(self._idle))
        return len(self._sources) + (self._unix_open > 0)

    def admit(self, host: str, now: float) -> Refusal | None:
        """Decide on a new connection. None lets it in: call :meth:`release` once it is gone.

        Never raises: a policy that cannot be evaluated refuses.

        :param host: the peer's address (COM-5 applies), or ``""`` for a unix socket.
        """
        try:
            return self._decide(host, now)
        except Exception as error:
            # The message may hold anything (a database URL, say); the type alone goes into the event.
            return Refusal(Outcome.REFUSED, f"admission of {host!r} failed: {type(error).__name__}")

    def tolerates(self, host: str) -> bool:
        """Whether an address is neither denied nor banned: for datagrams, which are no connections.

        Never raises: a policy that cannot be evaluated refuses.

        :param host: the peer's address.
        """
        try:
            return self._refuse_address(host, pack(host)) is None
        except Exception:
            return False

    def release(self, host: str) -> None:
        """An admitted connection is gone.

        :param host: as it was given to :meth:`admit`.
        :raises ValueError: where no connection of that host is open, which is the caller's mistake.
        """
        if host == "":
            if not self._unix_open:
                raise ValueError("no connection of a unix socket is open")
            self._unix_open -= 1
            self._open -= 1
            return
        source = self._sources.get(host)
        packed, key = None, host
        if source is None or "/" in host:  # not an IPv4 address that is a source by itself
            packed = pack(host)
            key = self._key(packed)
            source = self._sources.get(key)
        counted = packed is not None and self._is_network(packed)
        if source is None or not source.open or (counted and packed not in self._addresses):
            raise ValueError(f"no connection from {host} is open")
        if packed is not None and counted:
            self._addresses[packed] -= 1
            if not self._addresses[packed]:
                del self._addresses[packed]
        source.open -= 1
        self._open -= 1
        if not source.open:
            if source.booked <= self._clock.seconds():
                del self._sources[key]
            else:
                self._idle[key] = None

    def replace_limits(self, limits: AdmissionLimits) -> None:
        """Enforce other limits on connections from now on. What is open stays, and stays counted.

        When a prefix changes, open connections are counted under their new sources, and buckets of sources
        without connections start full. Whatever this raises, the previous limits stay in force.
        """
        previous = self._limits
        self._apply(limits)
        if (limits.ipv4_prefix, limits.ipv6_prefix) != (previous.ipv4_prefix, previous.ipv6_prefix):
            self._count_anew(previous)

    def _apply(self, limits: AdmissionLimits) -> None:
        policy = AddressPolicy(limits.allow, limits.deny) if limits.allow or limits.deny else None
        rate, burst = limits.connection_rate, limits.burst
        interval = 1 / rate if rate and burst else 0.0
        burst_seconds = burst * interval
        # Sums of floats near 2e9 are off by fractions of a microsecond; that must not cost anybody a token.
        slack = burst_seconds - interval + min(1e-3, interval / 100)
        self._limits, self._policy = limits, policy
        self._interval, self._burst_seconds, self._slack = interval, burst_seconds, slack

    def _key(self, packed: bytes) -> str:
        return network_key(packed, self._limits.ipv4_prefix, self._limits.ipv6_prefix)

    def _is_network(self, packed: bytes) -> bool:
        return len(packed) == 16 or self._limits.ipv4_prefix != 32

    def _decide(self, host: str, now: float) -> Refusal | None:
        limits = self._limits
        if host == "":
            if (refusal := self._refuse_total(limits)) is None:
                self._unix_open += 1
                self._open += 1
            return refusal

        source = self._sources.get(host)
        packed, key = None, host
        if source is None or "/" in host:  # not an IPv4 address that is a known source by itself
            packed = pack(host)
            if (
                ":" in host or self._limits.ipv4_prefix != 32
            ):  # else pack() accepts no other text than the canonical one
                key = self._key(packed)
                source = self._sources.get(key)
        if (refusal := self._refuse_address(host, packed)) is not None:
            return refusal
        if (refusal := self._refuse_total(limits)) is not None:
            return refusal

        if source is None:
            if (source := self._new_source(key, now)) is None:
                return Refusal(Outcome.LIMITED, f"all {self._maximum_sources} sources that fit have connections")
        else:
            most = limits.connections_per_source
            if most and source.open >= most:
                return Refusal(
                    Outcome.LIMITED, f"{key} has {source.open} connections (connections_per_source = {most})"
                )
            if self._interval and source.booked - now > self._slack:
                # More than a whole burst ahead: the clock was set back. The bucket is then just empty.
                source.booked = min(source.booked, now + self._burst_seconds)
                return Refusal(
                    Outcome.LIMITED, f"{key} connects too fast (connection_rate = {limits.connection_rate:g})"
                )
            if not source.open:
                self._idle.pop(key, None)
        source.open += 1
        self._open += 1
        if self._interval:
            source.booked = (source.booked if source.booked > now else now) + self._interval
        if packed is not None and self._is_network(packed):
            self._addresses[packed] += 1
        return None

    def _refuse_address(self, host: str, packed: bytes | None) -> Refusal | None:
        if self._policy is not None and (reason := self._policy.refusal(host)) is not None:
            return Refusal(Outcome.BANNED, reason)
        if self._bans is not None:
            address = host if packed is None else unpack(packed)
            if (reason := self._bans(address)) is not None:
                return Refusal(Outcome.BANNED, f"{address} is banned: {reason}")
        return None

    def _refuse_total(self, limits: AdmissionLimits) -> Refusal | None:
        if limits.max_connections and self._open >= limits.max_connections:
            return Refusal(
                Outcome.LIMITED,
                f"{self._open} connections are open (max_connections = {limits.max_connections})",
            )
        return None

    def _new_source(self, key: str, now: float) -> _Source | None:
        """Make room for a source and add it; None where all that are known have connections."""
        # More than one goes for each that comes, so that what can be forgotten never piles up.
        self._forget(now, FORGOTTEN_AT_ONCE)
        if len(self._sources) >= self._maximum_sources:
            if not self._idle:
                return None
            oldest, _ = self._idle.popitem(last=False)
            del self._sources[oldest]
        source = self._sources[key] = _Source()
        return source

    def _forget(self, now: float, most: int) -> None:
        """Forget up to so many sources without connections whose bucket is full again, the oldest first."""
        while most and self._idle:
            key = next(iter(self._idle))
            if self._sources[key].booked > now:
                return
            del self._idle[key], self._sources[key]
            most -= 1

    def _count_anew(self, previous: AdmissionLimits) -> None:
        """Count open connections under the source keys of the present limits."""
        before, open_by_address = self._sources, self._addresses
        if previous.ipv4_prefix == 32:
            open_by_address = open_by_address.copy()
            for key, source in before.items():
                if "/" not in key and source.open:
                    open_by_address[pack(key)] = source.open
        self._sources, self._idle, self._addresses = {}, OrderedDict(), Counter()
        for packed, count in open_by_address.items():
            source = self._sources.setdefault(self._key(packed), _Source())
            source.open += count
            old = before[network_key(packed, previous.ipv4_prefix, previous.ipv6_prefix)]
            source.booked = max(source.booked, old.booked)
            if self._is_network(packed):
                self._addresses[packed] = count
