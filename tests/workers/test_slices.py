"""CPU work in slices beside the reactor's other work (SB-5)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock, LoopingCall
from twisted.trial.unittest import SynchronousTestCase, TestCase

from connectd.workers.slices import SLICE, BudgetSpent, Slices, Steps, TooManyWaiting


class Turns(Clock):
    """A clock that makes one turn at a time, as the reactor does: what a call asks for comes in the next one."""

    def turn(self) -> None:
        for call in self.calls[:]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


class Thread:
    """The CPU time of a thread that does nothing but the work of a test."""

    def __init__(self) -> None:
        self.used = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.used

    def work(self, name: str, steps: int, cost: float = SLICE) -> Steps[str]:
        """So many steps, each of which takes so long."""
        try:
            for _ in range(steps):
                self.used += cost
                self.log.append(name)
                yield
        finally:
            self.log.append(f"end of {name}")
        return name


class SlicesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Turns()
        self.thread = Thread()

    def slices(self, **options: Any) -> Slices:
        slices = Slices(self.clock, clock_of_slices=self.thread, cpu=self.thread, **options)
        slices.startService()
        return slices

    def turn(self) -> list[str]:
        """What is worked on in one turn of the reactor."""
        before = len(self.thread.log)
        self.clock.turn()
        return self.thread.log[before:]


class SlicesTests(SlicesCase):
    def test_result(self) -> None:
        """A job's result comes, in a later turn."""
        done = self.slices().run(self.thread.work("a", 0))
        self.assertNoResult(done)
        self.turn()
        self.assertEqual(self.successResultOf(done), "a")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_length_of_a_slice(self) -> None:
        """SB-5: each turn of the reactor spends 0.25 ms, and goes on with its other work in between."""
        self.assertEqual(SLICE, 0.00025)
        slices = self.slices()
        done = slices.run(self.thread.work("a", 25, SLICE / 10))
        turns = []
        while not done.called:
            turns.append(len([word for word in self.turn() if word == "a"]))
        self.assertEqual(sum(turns), 25)
        # Sums of floats: one step more or less.
        self.assertLessEqual(max(turns), 11)
        self.assertGreaterEqual(len(turns), 3)

    def test_fair(self) -> None:
        """Jobs in work take turns, and who is done makes room for the next."""
        slices = self.slices(in_work=2)
        for name, steps in (("a", 3), ("b", 2), ("c", 1)):
            slices.run(self.thread.work(name, steps))
        self.assertEqual((slices.working, slices.waiting), (2, 1))
        turns = [self.turn() for _ in range(9)]
        self.assertEqual(
            [turn[0] for turn in turns], ["a", "b", "a", "b", "a", "end of b", "end of a", "c", "end of c"]
        )
        self.assertEqual((slices.working, slices.waiting), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_many(self) -> None:
        """SB-5: beyond so many in work and so many that wait, no job is taken."""
        slices = self.slices(in_work=2, waiting=3)
        taken = [slices.run(self.thread.work(str(number), 1)) for number in range(5)]
        refused = self.thread.work("refused", 1)
        next(refused)
        failure = self.failureResultOf(slices.run(refused), TooManyWaiting)
        self.assertEqual(str(failure.value), "3 others wait already")
        self.assertEqual(self.thread.log, ["refused", "end of refused"])
        while not all(done.called for done in taken):
            self.turn()
        self.assertEqual([self.successResultOf(done) for done in taken], ["0", "1", "2", "3", "4"])

    def test_room(self) -> None:
        """Who is about to ask can know whether there is room, and is told when there is again."""
        rooms: list[Any] = []
        slices: Slices = self.slices(in_work=1, waiting=1, freed=lambda: rooms.append(slices.room))
        first, second = (slices.run(self.thread.work(name, 1)) for name in "ab")
        self.assertEqual((slices.room, rooms), (0, []))
        second.addErrback(lambda failure: None).cancel()
        self.assertEqual(rooms, [1])
        first.addCallback(rooms.append)
        self.turn(), self.turn()
        self.assertEqual(rooms, [1, 2, "a"])

    def test_nobody_may_wait(self) -> None:
        slices = self.slices(in_work=1, waiting=0)
        done = slices.run(self.thread.work("a", 1))
        self.failureResultOf(slices.run(self.thread.work("b", 1)), TooManyWaiting)
        self.turn(), self.turn()
        self.assertEqual(self.successResultOf(done), "a")

    def test_budget(self) -> None:
        """SB-5: the budget is of a job's own CPU time; another's, and the time that it waits, do not count."""
        slices = self.slices(in_work=2, budget=3.5 * SLICE)
        greedy = slices.run(self.thread.work("greedy", 100))
        modest = slices.run(self.thread.work("modest", 3))
        for _ in range(20):
            self.clock.rightNow += 3600
            self.clock.turn()
        self.assertEqual(self.successResultOf(modest), "modest")
        failure = self.failureResultOf(greedy, BudgetSpent)
        self.assertEqual(failure.value.budget, 3.5 * SLICE)
        self.assertEqual(str(failure.value), "it took more than 0.000875 s of CPU time")
        self.assertEqual(self.thread.log.count("greedy"), 4)
        self.assertEqual(self.thread.log.count("end of greedy"), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_raises(self) -> None:
        """What a job raises is its own affair."""

        def broken() -> Steps[None]:
            yield
            raise ZeroDivisionError

        slices = self.slices(in_work=1)
        broken_off = slices.run(broken())
        done = slices.run(self.thread.work("a", 1))
        for _ in range(3):
            self.turn()
        self.failureResultOf(broken_off, ZeroDivisionError)
        self.assertEqual(self.successResultOf(done), "a")

    def test_cancelled_in_work(self) -> None:
        slices = self.slices(in_work=1)
        first = slices.run(self.thread.work("a", 5))
        second = slices.run(self.thread.work("b", 1))
        self.turn()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(self.thread.log, ["a", "end of a"])
        self.turn(), self.turn()
        self.assertEqual(self.successResultOf(second), "b")

    def test_cancelled_while_it_waits(self) -> None:
        slices = self.slices(in_work=1)
        first = slices.run(self.thread.work("a", 2))
        second = slices.run(self.thread.work("b", 1))
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(slices.waiting, 0)
        for _ in range(3):
            self.turn()
        self.assertEqual(self.successResultOf(first), "a")
        self.assertNotIn("b", self.thread.log)

    def test_cancelled_last(self) -> None:
        """With the last job the timer goes."""
        self.slices().run(self.thread.work("a", 2)).addErrback(lambda failure: None).cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """SB-5: the service ends what it does, and does nothing before it starts and after it was stopped."""
        slices = self.slices(in_work=1)
        jobs = [slices.run(self.thread.work(name, 3)) for name in "abc"]
        self.turn()
        slices.stopService()
        for job in jobs:
            self.failureResultOf(job, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.failureResultOf(slices.run(self.thread.work("late", 1)), CancelledError)
        self.failureResultOf(Slices(self.clock).run(self.thread.work("early", 1)), CancelledError)
        self.assertEqual(self.thread.log, ["a", "end of a"])

    def test_a_job_that_begins_another(self) -> None:
        """Who gets a result may ask for the next thing at once."""
        slices = self.slices(in_work=1)
        chained = slices.run(self.thread.work("a", 1))
        chained.addCallback(lambda result: slices.run(self.thread.work("b", 1)))
        for _ in range(4):
            self.turn()
        self.assertEqual(self.successResultOf(chained), "b")

    @given(st.lists(st.integers(0, 12), max_size=12), st.integers(1, 5), st.data())
    def test_any_jobs(self, lengths: list[int], in_work: int, data: st.DataObject) -> None:
        """Whatever comes, and whoever gives up: every job ends once, and no timer is left."""
        self.setUp()
        slices = self.slices(in_work=in_work)
        jobs = [slices.run(self.thread.work(str(number), steps)) for number, steps in enumerate(lengths)]
        ends: list[object] = []
        for job in jobs:
            job.addBoth(ends.append)
        while len(ends) < len(jobs):
            self.turn()
            if data.draw(st.integers(0, 5)) == 0:
                job = data.draw(st.sampled_from(jobs))
                if not job.called:
                    job.cancel()
            self.assertLessEqual(slices.working, in_work)
        self.assertEqual((slices.working, slices.waiting), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ReactorTests(TestCase):
    """With the real reactor and real work."""

    def setUp(self) -> None:
        self.slices = Slices(reactor)
        self.slices.startService()
        self.addCleanup(self.slices.stopService)

    def test_other_work_goes_on(self) -> None:
        """SB-5: while 30 jobs are hashing, the reactor has thousands of turns for others."""
        turns = 0

        def count() -> None:
            nonlocal turns
            turns += 1

        counting = LoopingCall(count)
        counting.start(0)
        jobs: list[Deferred[bytes]] = [self.slices.run(_hash(bytes([number]), 5000)) for number in range(30)]

        def check(results: Any) -> None:
            counting.stop()
            self.assertEqual(results[0], _hashed(b"\0", 5000))
            self.assertEqual(len(set(results)), 30)
            # 150,000 hashes take about 75 ms or more: 300 slices.
            self.assertGreater(turns, 100)

        return gatherResults(jobs).addCallback(check)  # type: ignore[return-value]


def _hash(secret: bytes, rounds: int) -> Steps[bytes]:
    sha256: Callable[[bytes], Any] = hashlib.sha256
    for number in range(rounds):
        if not number % 32:
            yield
        secret = sha256(secret + b"salt").digest()
    return secret


def _hashed(secret: bytes, rounds: int) -> bytes:
    for _ in range(rounds):
        secret = hashlib.sha256(secret + b"salt").digest()
    return secret
