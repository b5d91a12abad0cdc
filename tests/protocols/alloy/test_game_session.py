"""A game session that is kept: made, refreshed in time, deleted at the end, whatever the services do (AL-13)."""

from __future__ import annotations

from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy.game_session import MINIMUM_PAUSE, REFRESH_SHARE, GivenGameSession, KeptGameSession
from connectd.protocols.alloy.service_calls import TIMEOUT, ServicesRefused, ServicesUnavailable
from connectd.protocols.alloy.services import GameSession

UUID_ = UUID(int=5)
LIFE = 4000.0


class Services:
    """What a game session asks of the services, answered by the test."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.answers: list[Deferred[GameSession]] = []
        self.deletions: list[Deferred[None]] = []

    def create_game_session(self, account_token: str, uuid: UUID) -> Deferred[GameSession]:
        self.asked.append(("create", account_token, str(uuid)))
        self.answers.append(Deferred())
        return self.answers[-1]

    def refresh_game_session(self, session_token: str) -> Deferred[GameSession]:
        self.asked.append(("refresh", session_token))
        self.answers.append(Deferred())
        return self.answers[-1]

    def delete_game_session(self, session_token: str) -> Deferred[None]:
        self.asked.append(("delete", session_token))
        self.deletions.append(Deferred())
        return self.deletions[-1]


class GameSessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.services = Services()
        self.kept = KeptGameSession(self.services, lambda: "oauth", UUID_, self.clock)  # type: ignore[arg-type]

    def answer(self, name: str) -> GameSession:
        session = GameSession(name, f"identity of {name}", self.clock.seconds() + LIFE)
        self.services.answers[-1].callback(session)
        return session

    def started(self) -> GameSession:
        self.kept.startService()
        return self.answer("a")

    def test_made(self) -> None:
        self.kept.startService()
        waiting = self.kept.current()
        self.assertEqual(self.services.asked, [("create", "oauth", str(UUID_))])
        self.assertNoResult(waiting)
        session = self.answer("a")
        self.assertIs(self.successResultOf(waiting), session)
        self.assertIs(self.successResultOf(self.kept.current()), session)

    def test_refreshed(self) -> None:
        """In time, and again and again; until the answer is there the old one serves."""
        first = self.started()
        self.clock.advance(LIFE * REFRESH_SHARE - 1)
        self.assertEqual(len(self.services.asked), 1)
        self.clock.advance(1)
        self.assertEqual(self.services.asked[-1], ("refresh", "a"))
        self.assertIs(self.successResultOf(self.kept.current()), first)
        second = self.answer("b")
        self.assertIs(self.successResultOf(self.kept.current()), second)
        self.clock.advance(LIFE * REFRESH_SHARE)
        self.assertEqual(self.services.asked[-1], ("refresh", "b"))

    def test_short_life(self) -> None:
        """A session that says it has expired already is not asked for in a circle."""
        self.kept.startService()
        self.services.answers[-1].callback(GameSession("a", "b", 0))
        self.clock.advance(MINIMUM_PAUSE - 1)
        self.assertEqual(len(self.services.asked), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.services.asked), 2)

    def test_refused_refresh(self) -> None:
        """A session that is over is replaced by a new one."""
        self.started()
        self.clock.advance(LIFE)
        self.services.answers[-1].errback(ServicesRefused(401, "refresh"))
        self.assertEqual(self.services.asked[-1][0], "create")
        session = self.answer("c")
        self.assertIs(self.successResultOf(self.kept.current()), session)

    def test_down(self) -> None:
        """While the services are down they are asked now and then, longer and longer apart; nobody waits for it."""
        self.kept.startService()
        waiting = self.kept.current()
        for pause in (10, 20, 40, 80, 160, 300, 300):
            count = len(self.services.asked)
            self.services.answers[-1].errback(ServicesUnavailable("down"))
            self.failureResultOf(self.kept.current(), ServicesUnavailable)
            self.clock.advance(pause - 1)
            self.assertEqual(len(self.services.asked), count)
            self.clock.advance(1)
            self.assertEqual(len(self.services.asked), count + 1)
        self.failureResultOf(waiting, ServicesUnavailable)
        session = self.answer("a")
        self.assertIs(self.successResultOf(self.kept.current()), session)

    def test_down_when_refreshing(self) -> None:
        """A session is used as long as it lasts, and not longer."""
        first = self.started()
        self.clock.advance(LIFE - 1)
        self.services.answers[-1].errback(ServicesUnavailable("down"))
        self.assertIs(self.successResultOf(self.kept.current()), first)
        self.clock.advance(1)
        self.failureResultOf(self.kept.current(), ServicesUnavailable)

    def test_deleted(self) -> None:
        """AL-13: at the end it is always deleted."""
        self.started()
        stopped = self.kept.stopService()
        self.assertEqual(self.services.asked[-1], ("delete", "a"))
        self.assertNoResult(stopped)
        self.services.deletions[-1].callback(None)
        self.successResultOf(stopped)
        self.failureResultOf(self.kept.current(), ServicesUnavailable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deleted_while_made(self) -> None:
        """Also one whose answer is still under way: the services may have made it."""
        self.kept.startService()
        waiting = self.kept.current()
        stopped = self.kept.stopService()
        self.failureResultOf(waiting, ServicesUnavailable)
        self.assertNoResult(stopped)
        self.answer("a")
        self.assertEqual(self.services.asked[-1], ("delete", "a"))
        self.services.deletions[-1].callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deleted_while_refreshed(self) -> None:
        """If that fails, the old one is deleted."""
        self.started()
        self.clock.advance(LIFE)
        stopped = self.kept.stopService()
        self.services.answers[-1].errback(ServicesUnavailable("down"))
        self.assertEqual(self.services.asked[-1], ("delete", "a"))
        self.services.deletions[-1].errback(ServicesUnavailable("down"))
        self.successResultOf(stopped)

    def test_services_that_do_not_answer(self) -> None:
        """The daemon stops all the same."""
        self.started()
        stopped = self.kept.stopService()
        self.clock.advance(2 * TIMEOUT)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_to_delete(self) -> None:
        self.kept.startService()
        self.services.answers[-1].errback(ServicesUnavailable("down"))
        self.successResultOf(self.kept.stopService())
        self.assertEqual(len(self.services.asked), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(KeptGameSession(self.services, str, UUID_, self.clock).stopService())  # type: ignore[arg-type]

    def test_given(self) -> None:
        """A session that somebody else made is used, and left alone."""
        session = GameSession("a", "b", 0)
        given = GivenGameSession(lambda: session)
        given.startService()
        self.assertIs(self.successResultOf(given.current()), session)
        given.stopService()
