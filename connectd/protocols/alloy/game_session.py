"""What this side proves itself with to the session services: given by the operator, or had from them and kept alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, execute, fail, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from connectd.protocols.alloy.service_calls import TIMEOUT, ServicesRefused, ServicesUnavailable
from connectd.protocols.alloy.services import GameSession, SessionServices

log = Logger()

REFRESH_SHARE: Final = 0.75
"""After how much of a session's life it is refreshed."""

MINIMUM_PAUSE: Final = 10.0
"""Seconds before a session that was just had is refreshed, whatever it says, and before the first further attempt."""

MAXIMUM_PAUSE: Final = 300.0
"""Seconds between two attempts to have a session, while that fails."""


class GivenGameSession(Service):
    """A game session that somebody else makes, replaces in time and ends.

    :param read: gives it; asked each time. It fails with `ServicesUnavailable`.
    """

    def __init__(self, read: Callable[[], GameSession]) -> None:
        self._read = read

    def current(self) -> Deferred[GameSession]:
        """The session."""
        return execute(self._read)


class KeptGameSession(Service):
    """A game session for as long as this service runs: made at its start, refreshed in time, deleted at its end.

    :param services: who makes it.
    :param account_token: gives the OAuth token of the account it is made for; it is read when it is needed.
    :param uuid: the profile it is made for.
    :param reactor: the reactor.
    """

    def __init__(self, services: SessionServices, account_token: Callable[[], str], uuid: UUID, reactor: Any) -> None:
        self._services = services
        self._account_token = account_token
        self._uuid = uuid
        self._reactor = reactor
        self._session: GameSession | None = None
        self._keeping: Deferred[None] | None = None
        self._sleeping: Deferred[None] | None = None
        self._waiting: list[Deferred[GameSession]] = []
        self._trouble: str | None = None

    def current(self) -> Deferred[GameSession]:
        """The session; at the start it may have to be waited for.

        :return: fails with `ServicesUnavailable` where there is none to be had at the moment.
        """
        if self._session is not None and self._reactor.seconds() < self._session.expires:
            return succeed(self._session)
        if self._trouble is not None or not self.running:
            return fail(ServicesUnavailable(f"there is no game session: {self._trouble or 'the service is stopped'}"))
        waiting: Deferred[GameSession] = Deferred(self._give_up)
        self._waiting.append(waiting)
        return waiting

    def startService(self) -> None:
        super().startService()
        self._keeping = Deferred.fromCoroutine(self._keep()).addErrback(self._not_kept)

    def stopService(self) -> Deferred[None]:
        """Delete the session, also one that is only being made: an account may only have so many."""
        super().stopService()
        keeping, self._keeping = self._keeping, None
        if self._sleeping is not None:
            self._sleeping.cancel()
        self._tell_waiting(Failure(ServicesUnavailable("there is no game session: the service is stopped")))
        return succeed(None) if keeping is None else keeping.addTimeout(2 * TIMEOUT, self._reactor, _given_up)

    def _give_up(self, waiting: Deferred[GameSession]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    async def _keep(self) -> None:
        pause = MINIMUM_PAUSE
        while self.running:
            try:
                self._session = await self._renewed()
            except (ServicesUnavailable, ServicesRefused) as error:
                self._trouble, wait = str(error), pause
                pause = min(2 * pause, MAXIMUM_PAUSE)
                log.warn("no game session could be had: {reason}", reason=self._trouble)
                self._tell_waiting(Failure(ServicesUnavailable(f"there is no game session: {self._trouble}")))
            else:
                self._trouble, pause = None, MINIMUM_PAUSE
                wait = max(MINIMUM_PAUSE, REFRESH_SHARE * (self._session.expires - self._reactor.seconds()))
                self._tell_waiting(self._session)
            if self.running:
                await self._sleep(wait)
        await self._delete()

    def _not_kept(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._trouble = "something is wrong here"
        log.failure("the game session is not kept any more", failure)

    async def _sleep(self, seconds: float) -> None:
        self._sleeping = deferLater(self._reactor, seconds)
        try:
            await self._sleeping
        except CancelledError:
            if self.running:
                raise
        finally:
            self._sleeping = None

    def _tell_waiting(self, result: GameSession | Failure) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:  # given up meanwhile, by what became of another
                each.callback(result)

    async def _renewed(self) -> GameSession:
        if self._session is not None:
            try:
                return await self._services.refresh_game_session(self._session.session_token)
            except ServicesRefused as error:
                # It is over, for whatever reason: another one, then.
                log.info("{reason}; asking for a new game session", reason=str(error))
                self._session = None
        return await self._services.create_game_session(self._account_token(), self._uuid)

    async def _delete(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            await self._services.delete_game_session(session.session_token)
        except (ServicesUnavailable, ServicesRefused) as error:
            log.warn("the game session could not be deleted; it ends by itself: {reason}", reason=str(error))


def _given_up(result: object, seconds: float) -> None:
    log.warn("the game session could not be deleted within {seconds:g} s; it ends by itself", seconds=seconds)
