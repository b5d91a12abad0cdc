"""Verify a proof under the ledger's rules: delays, and the one wrong-proof reply (COM-10, COM-11)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from connectd.admission.proofs import ProofLedger, ProofVerdict

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")

WRONG_PROOF: Final = "unknown account or wrong proof"
"""The text of every UnauthorizedLogin that comes out of :func:`guard`, whatever was wrong (COM-10)."""

log = Logger()


def guard(
    ledger: ProofLedger,
    source_host: str,
    account: str,
    verify: Callable[[], Deferred[T] | Coroutine[Deferred[Any], Any, T] | T],
    *,
    clock: IReactorTime,
    discard: Callable[[T], object] | None = None,
) -> Deferred[T]:
    """Verify a proof that came over an address-validated connection (COM-11).

    The proof is not looked at while its source is shut out. The answer to a wrong proof, to one that was not
    looked at, and to a right one after five wrong ones waits as the ledger says. A right proof counts as a
    success when its answer goes out: whoever hangs up before that learns nothing, and leaves no trace to
    learn it from later.

    Cancelling cancels what is under way: the verification, which then does not count, or the wait.

    :param ledger: told about failures and successes.
    :param source_host: the peer's address (COM-5 applies), ``""`` for a unix socket.
    :param account: what the proof is for, as the peer named it.
    :param verify: looks at the proof; fails with :class:`~twisted.cred.error.UnauthorizedLogin` where it is
        wrong. Any other failure is passed on at once and counts for nothing.
    :param clock: the reactor.
    :param discard: called with a success that nobody will get because of a cancellation; an avatar may want
        to be logged out, say.
    :return: fires with what ``verify`` gave, or fails with an UnauthorizedLogin that always looks the same.
    """
    perform = cast("Callable[[], Deferred[T]]", verify)  # maybeDeferred takes the others as well

    def put_away(value: T) -> None:
        if discard is not None:
            maybeDeferred(discard, value).addErrback(
                lambda failure: log.failure("A login that nobody waited for could not be undone", failure)
            )

    async def prove(verdict: ProofVerdict, work: Deferred[T] | None) -> T:
        wait = verdict.delay
        if work is not None:
            try:
                value = await _detachable(work, put_away)
            except UnauthorizedLogin:
                wait = ledger.failed(source_host, account, clock.seconds())
            else:
                try:
                    await _pause(clock, ledger.delay(source_host, account, clock.seconds()))
                    ledger.succeeded(source_host, account, clock.seconds())
                except BaseException:
                    put_away(value)
                    raise
                return value
        await _pause(clock, wait)
        raise UnauthorizedLogin(WRONG_PROOF)

    try:
        verdict = ledger.verdict(source_host, account, clock.seconds())
    except Exception:
        return fail()
    work = maybeDeferred(perform) if verdict.verify else None
    if work is not None and _has_succeeded(work) and ledger.succeeded_at_once(source_host, account, clock.seconds()):
        return work
    return Deferred.fromCoroutine(prove(verdict, work))


def _has_succeeded(work: Deferred[Any]) -> bool:
    """Whether a result is there: then most proofs are right, nobody waits, and a coroutine would cost more than all
    else that is done about them."""
    return work.called and not work.paused and not isinstance(work.result, Failure)


async def _pause(clock: IReactorTime, seconds: float) -> None:
    if seconds:
        await deferLater(clock, seconds)


def _detachable(work: Deferred[T], put_away: Callable[[T], object]) -> Deferred[T]:
    """Follow a Deferred, but fail with CancelledError when cancelled, whatever becomes of it."""

    def cancelled(follower: Deferred[T]) -> None:
        # First, for a checker may turn its own cancellation into a wrong proof.
        follower.errback(CancelledError())
        work.cancel()

    def settle(result: T | Failure) -> None:
        if not follower.called:
            follower.callback(result)
        elif not isinstance(result, Failure):
            put_away(result)

    follower: Deferred[T] = Deferred(cancelled)
    work.addBoth(settle)
    return follower
