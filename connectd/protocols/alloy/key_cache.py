"""The services' keys, kept and fetched anew as seldom as possible (AL-5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from joserfc.jwk import OKPKey
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from connectd.protocols.alloy.service_calls import ServicesUnavailable
from connectd.protocols.alloy.tokens import Claims, KeySet, TokenError, key_identifier, verify

log = Logger()

REFETCH: Final = 300.0
"""Seconds between two fetches because of keys that nobody knows: anybody can name one."""

RETRY: Final = 10.0
"""Seconds after a fetch that failed while there are no keys."""

FRESH: Final = 3600.0
"""Seconds after which keys are fetched anew beside the use of the old ones."""

STALE: Final = 24 * 3600.0
"""Seconds after which keys are not used any more: one that was withdrawn must not count for ever."""


class Clock(Protocol):
    """Tells the time."""

    def seconds(self) -> float:
        """Unix seconds."""


class KeyCache:
    """The keys that are known.

    :param fetch: fetches all of them; fails with `ServicesUnavailable`.
    :param clock: tells the time.
    """

    def __init__(self, fetch: Callable[[], Deferred[KeySet]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys = KeySet()
        self._fetched = float("-inf")
        """When the keys came."""
        self._next = float("-inf")
        """From when on another fetch is allowed."""
        self._failed = False
        """Whether the latest fetch brought nothing."""
        self._fetching: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []

    def key(self, kid: str) -> Deferred[OKPKey]:
        """Look up a key, and fetch the keys where it may be new.

        :return: fails with `TokenError` where there is no such key, with `ServicesUnavailable` where nobody can say.
        """
        age = self._clock.seconds() - self._fetched
        if age < STALE and kid in self._keys.keys:
            if age >= FRESH and self._may_fetch:
                self._start()
            return succeed(self._keys.keys[kid])
        if self._fetching is None and not self._may_fetch:
            return self._found(None, kid)
        waiting: Deferred[None] = Deferred(self._give_up)
        self._waiting.append(waiting)
        if self._fetching is None:
            self._start()
        return waiting.addCallback(self._found, kid)

    def close(self) -> None:
        """Give up what is being fetched."""
        if self._fetching is not None:
            self._fetching.cancel()

    @property
    def _may_fetch(self) -> bool:
        return self._fetching is None and self._clock.seconds() >= self._next

    def _found(self, result: object, kid: str) -> Deferred[OKPKey]:
        if self._clock.seconds() - self._fetched >= STALE:
            return fail(ServicesUnavailable("the keys of the session services could not be fetched"))
        key = self._keys.keys.get(kid)
        if key is not None:
            return succeed(key)
        if self._failed:
            # It may be a new one, and whoever shows it honest.
            return fail(ServicesUnavailable(f"a key that is not known could not be looked up: {kid[:64]!r}"))
        return fail(TokenError("it is signed with a key that nobody knows"))

    def _give_up(self, waiting: Deferred[None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _start(self) -> None:
        fetching: Deferred[Any] = self._fetch()
        self._fetching = fetching
        fetching.addCallbacks(self._came, self._did_not_come)
        fetching.addBoth(self._ended)

    def _came(self, keys: KeySet) -> None:
        now = self._clock.seconds()
        self._keys, self._fetched, self._next, self._failed = keys, now, now + REFETCH, False

    def _did_not_come(self, failure: Failure) -> None:
        now = self._clock.seconds()
        # While there are keys, whoever names unknown ones must not have them fetched more often than that.
        self._next, self._failed = now + (RETRY if now - self._fetched >= STALE else REFETCH), True
        log.warn("the keys of the session services cannot be fetched: {reason}", reason=failure.getErrorMessage())

    def _ended(self, result: object) -> None:
        self._fetching = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:  # given up meanwhile, by what became of another
                each.callback(None)


class TokenVerifier:
    """Verifies tokens, fetching keys where it must.

    :param keys: the services' keys.
    :param issuer: what ``iss`` must be.
    :param clock: tells the time.
    """

    def __init__(self, keys: KeyCache, issuer: str, clock: Clock) -> None:
        self._keys = keys
        self._issuer = issuer
        self._clock = clock

    def verify(self, token: str) -> Deferred[Claims]:
        """Verify a token's signature, issuer and times.

        :return: fails with `TokenError` or `ServicesUnavailable`.
        """
        try:
            kid = key_identifier(token)
        except TokenError as error:
            return fail(error)
        return self._keys.key(kid).addCallback(lambda key: verify(token, key, self._issuer, self._clock.seconds()))
