"""What changes in the directory while the daemon runs: told as events, and brought to those who are in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import Cooperator, LoopingCall
from twisted.logger import Logger

from connectd.directory.errors import DirectoryError

if TYPE_CHECKING:
    from connectd.directory.audit import AuditEntry
    from connectd.directory.database import Database
    from connectd.directory.service import DirectoryService
    from connectd.interfaces import IListenerService
    from connectd.net.listener import Context

log = Logger()

PAGE = 500
"""Audit entries that are read at once."""

CONNECTIONS_PER_TURN = 100
"""Connections that are looked at before the reactor may do something else: about a millisecond."""

ENDINGS_PER_TURN = 16
"""Connections that are ended before the reactor may do something else."""

HARMLESS = frozenset(
    {"account.added", "account.enabled", "account.password", "account.rehashed", "ban.removed", "ban.expired"}
)
HARMLESS_PREFIXES = ("directory.", "key.", "seals.")
"""Actions that are no reason to send anybody away; after any other, all who are in are looked at."""


@attrs.frozen
class Applied:
    """What came of a look.

    :param changes: how many changes there were.
    :param kicked: how many sessions and connections were ended because of them.
    """

    changes: int
    kicked: int


class DirectoryChanges(Service):
    """Follows the audit trail of a running directory, whoever writes it. Each entry becomes one ``audit`` event; after
    a change that may concern somebody who is in, everybody is looked at, and who may not stay is told why and ended
    (COM-4).

    :param directory: running before this starts.
    :param context: has the events and the reactor.
    :param listeners: gives the listeners at the time.
    :param interval: seconds between looks when nobody says that something has changed.
    """

    def __init__(
        self,
        directory: DirectoryService,
        context: Context,
        listeners: Callable[[], Iterable[IListenerService]],
        interval: float,
    ) -> None:
        self._directory = directory
        self._context = context
        self._listeners = listeners
        self._interval = interval
        self._last: int | None = None
        self._everybody_is_due = False
        self._turns = DeferredLock()
        self._loop = LoopingCall(self._poll)
        self._loop.clock = context.reactor
        self._cooperator = Cooperator(
            # One step in each turn of the reactor.
            terminationPredicateFactory=lambda: lambda: True,
            scheduler=lambda turn: context.reactor.callLater(0, turn),
        )

    def startService(self) -> None:
        """Begin with what changes from now on."""
        super().startService()
        following = self._loop.start(self._interval, now=True)
        following.addErrback(lambda failure: log.failure("changes of the directory are no longer followed", failure))

    def stopService(self) -> Any:
        """Follow no longer; what was begun ends by itself."""
        if self._loop.running:
            self._loop.stop()
        return super().stopService()

    def apply(self) -> Deferred[Applied]:
        """Look now, and fire once everything that was found has been told and has taken effect.

        :return: fails with a :class:`~connectd.directory.errors.DirectoryError` where the directory cannot be read.
        """
        return self._turns.run(lambda: Deferred.fromCoroutine(self._apply()))

    def _poll(self) -> Deferred[Any]:
        # The directory has told what is wrong with it.
        return self.apply().addErrback(lambda failure: failure.trap(DirectoryError) and None)

    async def _apply(self) -> Applied:
        # Reading them brings the directory's memory up to date, too.
        await self._directory.refresh()
        if self._last is None:
            self._last = await self._directory.run(_newest)
            return Applied(0, 0)
        changes = kicked = 0
        while entries := await self._directory.run(lambda database: _page(database, self._last or 0)):
            for entry in entries:
                self._tell(entry)
                self._everybody_is_due = self._everybody_is_due or not _is_harmless(entry.action)
            changes += len(entries)
            self._last = entries[-1].id
        if self._everybody_is_due:
            kicked = await self._look_at_everybody()
            self._everybody_is_due = False
        return Applied(changes, kicked)

    def _tell(self, entry: AuditEntry) -> None:
        details = {name: _flat(value) for name, value in entry.details.items() if value is not None}
        stamp = {"who": entry.who, "action": entry.action, "subject": entry.subject, "entry": entry.id}
        self._context.events.emit("audit", {**stamp, "changed": entry.time}, details)

    async def _look_at_everybody(self) -> int:
        kicked = 0

        def look() -> Iterator[None]:
            nonlocal kicked
            for listener in list(self._listeners()):
                for number, connection in enumerate(list(listener.connections), 1):
                    if _sent_away(listener, connection):
                        kicked += 1
                        if not kicked % ENDINGS_PER_TURN:
                            yield
                    if not number % CONNECTIONS_PER_TURN:
                        yield

        await self._cooperator.cooperate(look()).whenDone()
        return kicked


def _sent_away(listener: Any, connection: Any) -> bool:
    """End a connection that may not stay, and tell whether it was one.

    :raises connectd.directory.errors.DirectoryError: where nobody can say.
    """
    if connection.machine.ended:
        return False
    try:
        objection = listener.objection(connection)
        if objection is None:
            return False
        if connection.session is None:
            connection.close(objection.outcome, objection.reason)
        else:
            connection.session.kick(objection.reason)
    except DirectoryError:
        raise
    except Exception:
        log.failure("nobody can say whether connection {id} may stay", id=connection.id)
        return False
    return True


def _is_harmless(action: str) -> bool:
    return action in HARMLESS or action.startswith(HARMLESS_PREFIXES)


def _flat(value: Any) -> Any:
    """A detail as an event has it: a list as one text."""
    return ", ".join(str(item) for item in value) if isinstance(value, list | tuple) else value


def _newest(database: Database) -> int:
    """Runs in the directory's thread."""
    entries = database.audit.list(limit=1)
    return entries[0].id if entries else 0


def _page(database: Database, last: int) -> list[AuditEntry]:
    """The entries behind that one, the oldest first, a page at most. Runs in the directory's thread."""
    newest = _newest(database)
    while last < newest:
        entries = database.audit.list(before=last + PAGE + 1, limit=PAGE)
        if found := [entry for entry in reversed(entries) if entry.id > last]:
            return found
        last += PAGE
    return []
