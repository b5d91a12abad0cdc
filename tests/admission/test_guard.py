"""Tests of :mod:`connectd.admission.guard`."""

from __future__ import annotations

from twisted.cred.error import LoginDenied, UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from connectd.admission import WRONG_PROOF, AdmissionLimits, ProofLedger, guard

HERE = "192.0.2.1"


class WrongSignature(UnauthorizedLogin):
    """A checker's own kind of wrong proof."""


class GuardTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1_790_000_000.0
        self.ledger = ProofLedger(AdmissionLimits())
        self.verified = 0

    def right(self) -> str:
        self.verified += 1
        return "avatar"

    def wrong(self) -> str:
        self.verified += 1
        raise UnauthorizedLogin("no such account: alice")

    def fails(self, times: int, account: str = "alice") -> None:
        for _ in range(times):
            self.ledger.failed(HERE, account, self.clock.seconds())

    def shut_out(self) -> None:
        for number in range(20):
            self.fails(1, f"nobody {number}")

    def assert_wrong_proof(self, answer: Deferred[str]) -> None:
        failure = self.failureResultOf(answer)
        self.assertIs(failure.type, UnauthorizedLogin)
        self.assertEqual(failure.value.args, (WRONG_PROOF,))
        self.assertIsNone(failure.value.__context__)

    def assert_answered_after(self, answer: Deferred[str], seconds: float) -> None:
        self.assertNoResult(answer)
        self.clock.advance(seconds - 0.01)
        self.assertNoResult(answer)
        self.clock.advance(0.01)
        self.assertTrue(answer.called)

    def test_right(self) -> None:
        """COM-11: a right proof is answered at once, however it is verified, and makes its account known."""

        async def later() -> str:
            return await succeed("avatar")

        for verify in (self.right, lambda: succeed("avatar"), later):
            answer: Deferred[str] = guard(self.ledger, HERE, "alice", verify, clock=self.clock)
            self.assertEqual(self.successResultOf(answer), "avatar")
        self.shut_out()
        self.assertTrue(self.ledger.verdict(HERE, "alice", self.clock.seconds()).verify)

    def test_wrong(self) -> None:
        """COM-10, COM-11: whatever was wrong, the failure looks the same, and counts."""

        async def later() -> str:
            raise WrongSignature("bit 7")

        def earlier() -> Deferred[str]:
            return fail(UnauthorizedLogin("wrong password"))

        for verify in (self.wrong, later, earlier):
            answer: Deferred[str] = guard(self.ledger, HERE, "alice", verify, clock=self.clock)
            self.assert_wrong_proof(answer)
        self.fails(1)
        self.assertEqual(self.ledger.failed(HERE, "alice", self.clock.seconds()), 1)

    def test_delays(self) -> None:
        """COM-11: the answers wait 0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30 s."""
        for delay in (0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30):
            answer = guard(self.ledger, HERE, "alice", self.wrong, clock=self.clock)
            if delay:
                self.assert_answered_after(answer, delay)
            self.assert_wrong_proof(answer)
        self.assertEqual(self.clock.calls, [])

    def test_delay_begins_with_the_result(self) -> None:
        """COM-11: failures are counted when verification ends, not when it begins."""
        self.fails(3)
        waiting: list[Deferred[str]] = [Deferred(), Deferred()]
        verifications = iter(waiting)
        answers: list[Deferred[str]] = [
            guard(self.ledger, HERE, "alice", verifications.__next__, clock=self.clock) for _ in waiting
        ]
        self.clock.advance(5)
        for deferred in waiting:
            deferred.errback(UnauthorizedLogin())
        self.assert_wrong_proof(answers[0])
        self.assert_answered_after(answers[1], 1)
        self.assert_wrong_proof(answers[1])

    def test_late_success(self) -> None:
        """COM-11: a success after five failures waits like a failure would, then clears them."""
        self.fails(6)
        answer = guard(self.ledger, HERE, "alice", self.right, clock=self.clock)
        self.assertEqual(self.ledger.delay(HERE, "alice", self.clock.seconds()), 4)
        self.assert_answered_after(answer, 4)
        self.assertEqual(self.successResultOf(answer), "avatar")
        self.assertEqual(self.ledger.delay(HERE, "alice", self.clock.seconds()), 0)

    def test_unverified(self) -> None:
        """COM-10, COM-11: during a shut-out nothing is verified, right or not, and the answer is the usual one."""
        self.shut_out()
        for verify in (self.right, self.wrong):
            self.assert_wrong_proof(guard(self.ledger, HERE, "alice", verify, clock=self.clock))
        self.assertEqual(self.verified, 0)
        self.clock.advance(600)
        answer = guard(self.ledger, HERE, "alice", self.right, clock=self.clock)
        self.assertEqual(self.successResultOf(answer), "avatar")

    def test_unverified_waits(self) -> None:
        """COM-11: an unverified proof waits like a wrong one, and does not count."""
        self.fails(5)
        self.shut_out()
        for _ in range(2):
            answer = guard(self.ledger, HERE, "alice", self.right, clock=self.clock)
            self.assert_answered_after(answer, 2)
            self.assert_wrong_proof(answer)

    def test_other_failures(self) -> None:
        """COM-11: only wrong proofs count: an outage passes through as it is, at once."""
        self.fails(4)

        def outage() -> str:
            raise OSError("database is gone")

        def denied() -> Deferred[str]:
            return fail(LoginDenied("full"))

        self.failureResultOf(guard(self.ledger, HERE, "alice", outage, clock=self.clock), OSError)
        self.failureResultOf(guard(self.ledger, HERE, "alice", denied, clock=self.clock), LoginDenied)
        self.assertEqual(self.ledger.failed(HERE, "alice", self.clock.seconds()), 1)

    def test_garbage(self) -> None:
        """COM-4: what cannot be evaluated is not verified, and fails."""
        self.failureResultOf(guard(self.ledger, "garbage", "alice", self.right, clock=self.clock), ValueError)
        self.assertEqual(self.verified, 0)

    def test_cancel_verification(self) -> None:
        """COM-11: cancelling cancels the verification, which does not count."""
        cancelled: list[Deferred[str]] = []
        self.fails(4)
        answer: Deferred[str] = guard(self.ledger, HERE, "alice", lambda: Deferred(cancelled.append), clock=self.clock)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.ledger.failed(HERE, "alice", self.clock.seconds()), 1)

    def test_cancel_coroutine(self) -> None:
        """COM-11: the same for a coroutine, which may not make a wrong proof out of it."""
        self.fails(9)

        async def verify() -> str:
            try:
                await deferLater(self.clock, 10)
            except CancelledError:
                raise UnauthorizedLogin from None
            raise AssertionError

        answer: Deferred[str] = guard(self.ledger, HERE, "alice", verify, clock=self.clock)
        self.assertEqual(len(self.clock.calls), 1)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(self.clock.calls, [])
        self.assertEqual(self.ledger.delay(HERE, "alice", self.clock.seconds()), 30)

    def test_cancel_wait(self) -> None:
        """COM-11: cancelling cancels the timer of a wrong and of an unverified proof."""
        self.fails(9)
        answer = guard(self.ledger, HERE, "alice", self.wrong, clock=self.clock)
        self.shut_out()
        unverified = guard(self.ledger, HERE, "alice", self.right, clock=self.clock)
        self.assertEqual(len(self.clock.calls), 2)
        for deferred in (answer, unverified):
            deferred.cancel()
            self.failureResultOf(deferred, CancelledError)
        self.assertEqual(self.clock.calls, [])

    def test_cancel_late_success(self) -> None:
        """COM-11: who does not wait for the answer has not succeeded, and the next wrong guess tells nothing."""
        discarded: list[str] = []
        self.fails(6)
        answer = guard(self.ledger, HERE, "alice", self.right, clock=self.clock, discard=discarded.append)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual((discarded, self.clock.calls), (["avatar"], []))
        self.assertEqual(self.ledger.failed(HERE, "alice", self.clock.seconds()), 4)
        self.shut_out()
        self.assertFalse(self.ledger.verdict(HERE, "alice", self.clock.seconds()).verify)

    def test_success_after_cancellation(self) -> None:
        """A verification that cannot be cancelled and succeeds too late is put away, and its end is awaited by nobody."""
        discarded: list[str] = []
        for discard in (discarded.append, None):
            verification: Deferred[str] = Deferred(lambda _: None)
            self.patch(verification, "cancel", lambda: None)
            verifications = iter([verification])
            answer = guard(self.ledger, HERE, "alice", verifications.__next__, clock=self.clock, discard=discard)
            answer.cancel()
            self.failureResultOf(answer, CancelledError)
            verification.callback("avatar")
        self.assertEqual(discarded, ["avatar"])

    def test_discard_fails(self) -> None:
        """What goes wrong with a login that nobody waited for is logged."""

        def discard(avatar: str) -> None:
            raise OSError("cannot log out")

        self.fails(6)
        answer = guard(self.ledger, HERE, "alice", self.right, clock=self.clock, discard=discard)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
