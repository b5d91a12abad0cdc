"""The services' keys: fetched as seldom as possible, never used for ever (AL-5)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy.key_cache import FRESH, REFETCH, RETRY, STALE, KeyCache, TokenVerifier
from connectd.protocols.alloy.service_calls import ServicesUnavailable
from connectd.protocols.alloy.tokens import KeySet, TokenError
from tests.protocols.alloy.session_services import ISSUER
from tests.protocols.alloy.signing import Signer, encoded


class KeyCacheCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.fetches: list[Deferred[KeySet]] = []
        self.cancelled = 0
        self.cache = KeyCache(self.fetch, self.clock)

    def fetch(self) -> Deferred[KeySet]:
        def cancel(fetch: Deferred[KeySet]) -> None:
            self.cancelled += 1

        self.fetches.append(Deferred(cancel))
        return self.fetches[-1]

    def answer(self, *signers: Signer) -> None:
        document = f'{{"keys": {[signer.public() for signer in signers]}}}'.replace("'", '"')
        self.fetches[-1].callback(KeySet.from_json(document.encode()))

    def known(self, waiting: Deferred[Any], *signers: Signer) -> None:
        self.answer(*signers)
        self.successResultOf(waiting)

    def fail_fetch(self) -> None:
        self.fetches[-1].errback(ServicesUnavailable("down"))


class KeyCacheTests(KeyCacheCase):
    def test_first(self) -> None:
        """Nothing is fetched before it is needed; who comes meanwhile waits for the same answer."""
        self.assertEqual(self.fetches, [])
        first, second, unknown = self.cache.key("one"), self.cache.key("one"), self.cache.key("two")
        self.assertEqual(len(self.fetches), 1)
        self.assertNoResult(first)
        self.answer(Signer("one"))
        self.assertIs(self.successResultOf(first), self.successResultOf(second))
        self.failureResultOf(unknown, TokenError)
        self.successResultOf(self.cache.key("one"))
        self.assertEqual(len(self.fetches), 1)

    def test_unknown_keys(self) -> None:
        """AL-5: whoever names keys that do not exist causes one fetch in 5 minutes."""
        self.assertEqual(REFETCH, 300)
        self.cache.key("one")
        self.answer(Signer("one"))
        for number in range(100):
            self.failureResultOf(self.cache.key(f"made up {number}"), TokenError)
        self.clock.advance(REFETCH - 0.01)
        self.failureResultOf(self.cache.key("two"), TokenError)
        self.assertEqual(len(self.fetches), 1)
        self.clock.advance(0.01)
        waiting = self.cache.key("two")
        self.answer(Signer("one"), Signer("two"))
        self.successResultOf(waiting)
        self.assertEqual(len(self.fetches), 2)

    def test_withdrawn(self) -> None:
        """A key that is not in the set any more does not count any more."""
        self.known(self.cache.key("one"), Signer("one"))
        self.clock.advance(REFETCH)
        waiting = self.cache.key("two")
        self.answer(Signer("two"))
        self.successResultOf(waiting)
        self.failureResultOf(self.cache.key("one"), TokenError)

    def test_fresh(self) -> None:
        """After an hour the keys are fetched anew, and nobody waits for that."""
        self.known(self.cache.key("one"), Signer("one"))
        self.clock.advance(FRESH)
        self.successResultOf(self.cache.key("one"))
        self.successResultOf(self.cache.key("one"))
        self.assertEqual(len(self.fetches), 2)
        self.fail_fetch()
        self.successResultOf(self.cache.key("one"))
        self.assertEqual(len(self.fetches), 2)
        self.clock.advance(REFETCH)
        self.successResultOf(self.cache.key("one"))
        self.assertEqual(len(self.fetches), 3)

    def test_new_key_while_down(self) -> None:
        """AL-5, AL-13: whoever shows a key that could not be looked up is told that, not that it is wrong; and nobody
        can have the services asked more often than once in 5 minutes."""
        self.known(self.cache.key("one"), Signer("one"))
        self.clock.advance(REFETCH)
        waiting = self.cache.key("two")
        self.fail_fetch()
        self.failureResultOf(waiting, ServicesUnavailable)
        self.clock.advance(REFETCH - 1)
        self.failureResultOf(self.cache.key("two"), ServicesUnavailable)
        self.assertEqual(len(self.fetches), 2)
        self.clock.advance(1)
        waiting = self.cache.key("two")
        self.answer(Signer("one"))
        self.failureResultOf(waiting, TokenError)

    def test_given_up_by_another(self) -> None:
        """What one who waits does with the answer may be that another one waits no more."""
        first, second = self.cache.key("one"), self.cache.key("one")
        first.addCallback(lambda key: second.cancel())
        self.answer(Signer("one"))
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)

    def test_stale(self) -> None:
        """Keys of yesterday verify nothing, even where the services are down: fail closed."""
        self.known(self.cache.key("one"), Signer("one"))
        self.clock.advance(STALE)
        waiting = self.cache.key("one")
        self.assertNoResult(waiting)
        self.fail_fetch()
        self.failureResultOf(waiting, ServicesUnavailable)
        self.failureResultOf(self.cache.key("one"), ServicesUnavailable)
        self.assertEqual(len(self.fetches), 2)

    def test_down(self) -> None:
        """While they are down they are asked every 10 s, not for every player."""
        waiting = [self.cache.key("one"), self.cache.key("two")]
        self.fail_fetch()
        for each in waiting:
            self.failureResultOf(each, ServicesUnavailable)
        self.failureResultOf(self.cache.key("one"), ServicesUnavailable)
        self.assertEqual(len(self.fetches), 1)
        self.clock.advance(RETRY)
        self.known(self.cache.key("one"), Signer("one"))

    def test_gone(self) -> None:
        """A player that leaves takes nobody else's answer along."""
        leaving, staying = self.cache.key("one"), self.cache.key("one")
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        self.answer(Signer("one"))
        self.successResultOf(staying)

    def test_close(self) -> None:
        waiting = self.cache.key("one")
        self.cache.close()
        self.assertEqual(self.cancelled, 1)
        self.failureResultOf(waiting, ServicesUnavailable)
        self.cache.close()


class TokenVerifierTests(KeyCacheCase):
    def test_verified(self) -> None:
        signer = Signer("one")
        verifier = TokenVerifier(self.cache, ISSUER, self.clock)
        token = signer.sign({"iss": ISSUER, "exp": self.clock.seconds(), "sub": "x"})
        waiting = verifier.verify(token)
        self.answer(signer)
        self.assertEqual(self.successResultOf(waiting).subject, "x")
        self.clock.advance(300)
        self.failureResultOf(verifier.verify(token), TokenError)

    def test_no_token(self) -> None:
        """What is no token causes no fetch."""
        verifier = TokenVerifier(self.cache, ISSUER, self.clock)
        for token in ("", f"{encoded({'alg': 'none', 'kid': 'x'})}.AA.AA", "x" * 9000):
            self.failureResultOf(verifier.verify(token), TokenError)
        self.assertEqual(self.fetches, [])
