"""Who may be challenged: as many as can be hashed for (SB-5)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.starbound.turnstile import PATIENCE, Ticket, Turnstile


class TurnstileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.room = 2
        self.turnstile = Turnstile(self.clock, lambda: self.room)

    def enter(self, count: int, source: str = "192.0.2.1") -> list[Deferred[Ticket]]:
        return [self.turnstile.enter(source) for _ in range(count)]

    def inside(self, waiters: list[Deferred[Ticket]]) -> list[bool]:
        return [waiter.called for waiter in waiters]

    def test_room(self) -> None:
        """SB-5: as many as there is room for go in at once, the others when somebody has answered, in their order."""
        waiters = self.enter(4)
        self.assertEqual(self.inside(waiters), [True, True, False, False])
        self.assertEqual(self.turnstile.waiting, 2)
        self.turnstile.give_back(self.successResultOf(waiters[1]))
        self.assertEqual(self.inside(waiters), [True, True, True, False])
        self.turnstile.close()
        self.failureResultOf(waiters[3], CancelledError)

    def test_less_room(self) -> None:
        """What is being hashed takes up room as well; whoever knows when that is done tells."""
        waiters = self.enter(2)
        self.room = 1
        self.turnstile.give_back(self.successResultOf(waiters[0]))
        late = self.enter(1)
        self.assertNoResult(late[0])
        self.room = 2
        self.assertNoResult(late[0])
        self.turnstile.look()
        self.successResultOf(late[0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_clients(self) -> None:
        """Who does not answer for half a second keeps nobody out any longer."""
        waiters = self.enter(5)
        self.clock.advance(PATIENCE - 0.01)
        self.assertEqual(self.inside(waiters), [True, True, False, False, False])
        self.clock.advance(0.02)
        self.assertEqual(self.inside(waiters), [True, True, True, True, False])
        # That it comes too late does no harm.
        self.turnstile.give_back(self.successResultOf(waiters[0]))
        self.assertNoResult(waiters[4])
        self.clock.advance(PATIENCE)
        self.successResultOf(waiters[4])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_clients_that_nobody_waited_for(self) -> None:
        self.enter(2)
        self.clock.advance(PATIENCE)
        self.successResultOf(self.enter(1)[0])

    def test_nobody_can_come_in(self) -> None:
        """Without any room there is no clock to wait for."""
        self.room = 0
        [waiter] = self.enter(1)
        self.assertNoResult(waiter)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.room = 1
        self.turnstile.look()
        self.successResultOf(waiter)

    def test_gone_while_waiting(self) -> None:
        waiters = self.enter(4)
        waiters[2].cancel()
        self.failureResultOf(waiters[2], CancelledError)
        self.turnstile.give_back(self.successResultOf(waiters[0]))
        self.successResultOf(waiters[3])
        self.assertEqual((self.turnstile.waiting, self.clock.getDelayedCalls()), (0, []))

    def test_sources_take_turns(self) -> None:
        """SB-5: one source with many silent clients delays only itself, however many they are."""
        self.enter(2, "flood")
        flood = self.enter(400, "flood")
        ann = self.enter(2, "ann")
        bob = self.enter(1, "bob")
        self.clock.advance(PATIENCE)
        self.assertEqual(self.inside([flood[0], *ann, *bob, flood[1]]), [True, True, False, False, False])
        self.clock.advance(PATIENCE)
        self.assertEqual(self.inside([*bob, flood[1], ann[1], flood[2]]), [True, True, False, False])
        flood[5].cancel()
        self.failureResultOf(flood[5], CancelledError)
        self.clock.advance(PATIENCE)
        self.assertEqual(self.inside([ann[1], flood[2], flood[3]]), [True, True, False])
        # Only the flood is left, and what it has waited for is no other's loss.
        self.clock.advance(PATIENCE)
        self.assertEqual(self.inside([flood[3], flood[4], flood[6]]), [True, True, False])
        self.assertEqual(self.turnstile.waiting, 400 - 6)
        self.turnstile.close()
        self.failureResultOf(flood[-1], CancelledError)
        for waiter in flood[6:-1]:
            self.failureResultOf(waiter, CancelledError)

    @given(st.lists(st.sampled_from(["enter", "answer", "cancel", "wait", "shrink", "grow"]), max_size=60), st.data())
    def test_any_order(self, steps: list[str], data: st.DataObject) -> None:
        """Nobody is kept out while there is room, nobody is let in twice, and no timer outlives its need."""
        self.setUp()
        waiting: list[Deferred[Ticket]] = []
        tickets: list[Ticket] = []
        for step in steps:
            if step == "enter":
                waiter = self.turnstile.enter(data.draw(st.sampled_from("abc")))
                waiter.addCallbacks(tickets.append, lambda failure: None)
                waiting.append(waiter)
            elif step == "answer" and tickets:
                self.turnstile.give_back(tickets.pop(data.draw(st.integers(0, len(tickets) - 1))))
            elif step == "cancel" and waiting:
                waiting.pop(data.draw(st.integers(0, len(waiting) - 1))).cancel()
            elif step == "wait":
                self.clock.advance(data.draw(st.sampled_from([0.1, 0.3, PATIENCE])))
            elif step in ("shrink", "grow"):
                self.room = max(0, self.room + (1 if step == "grow" else -1))
                self.turnstile.look()
            waiting = [waiter for waiter in waiting if not waiter.called]
            self.assertEqual(self.turnstile.waiting, len(waiting))
            if waiting and self.room:
                self.assertGreaterEqual(len(self.turnstile._tickets), self.room)
        self.turnstile.close()
        self.assertEqual((self.turnstile.waiting, self.clock.getDelayedCalls()), (0, []))
