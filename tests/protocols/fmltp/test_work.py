"""Where keys are computed."""

from __future__ import annotations

import time

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.connection import Refused
from connectd.protocols.fmltp import exchange, work
from connectd.protocols.fmltp.groups import FFDHE2048, FFDHE4096, Group, decode_parameters
from connectd.protocols.fmltp.work import GroupMaker, KeyWork
from connectd.sansio import Outcome
from tests.protocols.fmltp.deployed import OLD_PARAMETERS
from tests.protocols.fmltp.real import RealCase, reactor

OLD = decode_parameters(OLD_PARAMETERS, minimum_bits=1024)


class FunctionTests(SynchronousTestCase):
    """What children are asked for, in this process"""

    def octets(self, number: int) -> bytes:
        return number.to_bytes((number.bit_length() + 7) // 8, "big")

    def test_two_sides(self) -> None:
        """FM-7: both come to the same secret, through bytes as through numbers."""
        for group in (FFDHE2048, OLD):
            p, g = self.octets(group.p), self.octets(group.g)
            private, public = work.generate(p, g)
            theirs, secret = work.answer(p, g, public)
            self.assertEqual(work.compute_secret(p, g, private, public, theirs), (secret,))
            self.assertEqual(len(secret), group.size)

    def test_check(self) -> None:
        self.assertEqual(work.check_group(self.octets(OLD.p), b"\2"), (b"",))
        (problem,) = work.check_group(self.octets(OLD.p - 2), b"\2")
        self.assertIn(b"no safe prime", problem)

    def test_make(self) -> None:
        p, g = work.make_group(self.octets(512))
        exchange.check_group(Group(int.from_bytes(p, "big"), int.from_bytes(g, "big")))


class Turns(Clock):
    """A reactor in which what is called later is called in the next turn, as in real ones; a clock does it at once."""

    def turn(self) -> None:
        """One turn."""
        calls, self.calls = self.calls, []
        for call in calls:
            call.called = 1
            call.func(*call.args)


class TurnTests(SynchronousTestCase):
    """What is quick is done once in a turn of the reactor"""

    def setUp(self) -> None:
        self.reactor = Turns()
        self.keys = KeyWork(self.reactor)
        self.keys.startService()

    def test_turns(self) -> None:
        """The first at once, each of the others in a turn of its own, in order; one that was taken back in none."""
        asked = [self.keys.generate(FFDHE2048) for _ in range(4)]
        asked[1].cancel()
        self.failureResultOf(asked[1], CancelledError)
        for done in ([True, False, False], [True, True, False], [True, True, True]):
            self.assertEqual([one.called for one in (asked[0], asked[2], asked[3])], done)
            self.reactor.turn()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertTrue(self.keys.generate(FFDHE2048).called)

    def test_stopped(self) -> None:
        """What still waits is given up, and no timer is left."""
        asked = [self.keys.generate(FFDHE2048) for _ in range(3)]
        self.keys.stopService()
        for one in asked[1:]:
            self.failureResultOf(one, CancelledError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class KeyWorkTests(RealCase):
    def work(self) -> KeyWork:
        made = KeyWork(reactor)
        made.startService()
        self.addCleanup(made.stopService)
        return made

    async def test_inline(self) -> None:
        """ffdhe2048 is computed here, without a child."""
        keys = self.work()
        pair = await keys.generate(FFDHE2048)
        made = await keys.answer(FFDHE2048, pair.public)
        self.assertEqual(await keys.compute_secret(FFDHE2048, pair, made.public), made.secret)
        keys.prepare(FFDHE2048)
        self.assertEqual(keys.pids, [])

    async def test_in_a_child(self) -> None:
        """Larger groups, and those without a name."""
        keys = self.work()
        for group in (FFDHE4096, OLD):
            pair = await keys.generate(group)
            made = await keys.answer(group, pair.public)
            self.assertEqual(await keys.compute_secret(group, pair, made.public), made.secret)
        self.assertEqual(len(keys.pids), 1)

    async def test_reactor_goes_on(self) -> None:
        """No exchange of 4096 bits is done in this process: its CPU time hardly grows."""
        keys = self.work()
        pair = await keys.generate(FFDHE4096)
        before = time.process_time()
        for _ in range(20):
            await keys.answer(FFDHE4096, pair.public)
        spent = time.process_time() - before
        start = time.process_time()
        exchange.answer(FFDHE4096, pair.public)
        inline = time.process_time() - start
        self.assertLess(spent / 20, inline / 2)

    async def test_unsafe_group(self) -> None:
        """FM-5: a group without a name is checked before a key is made in it."""
        error = await self.fails(self.work().generate(Group(OLD.p - 2, 2)), Refused)
        self.assertIn("the server's parameters are not safe: the modulus", error.reason)

    async def test_no_children(self) -> None:
        """What cannot be computed is a refusal, not a fault."""
        keys = KeyWork(reactor)
        for failing in (keys.answer(FFDHE4096, 4), keys.generate(FFDHE4096), keys.generate(OLD)):
            error = await self.fails(failing, Refused)
            self.assertIs(error.outcome, Outcome.REFUSED)

    async def test_too_many(self) -> None:
        """COM-2: whom there is no room for is counted as limited."""
        keys = self.work()
        keys.maximum_waiting = 1
        first, second = keys.answer(FFDHE4096, 4), keys.answer(FFDHE4096, 4)
        error = await self.fails(second, Refused)
        self.assertIs(error.outcome, Outcome.LIMITED)
        await first

    async def test_maker(self) -> None:
        """FM-5: a new group comes from a child that ends with it."""
        maker = GroupMaker(reactor)
        maker.startService()
        group = await maker.make(512)
        self.assertEqual((group.bits, group.g, maker.running, maker.pids), (512, 2, 0, []))
