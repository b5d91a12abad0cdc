"""The directory for the daemon: answers from memory at once, changes in a thread, acknowledged when they are durable.

Why memory: a look-up in a thread costs the reactor 16 µs, but its answer waits for the disk and for whatever that
thread is doing; in memory it costs 5 µs, among 10 accounts as among 100,000. What each account costs in memory is told
in :mod:`connectd.directory.changes`.

Why adbapi: its pool of one thread costs the reactor 16 µs for a job, a bare thread pool 15 µs. One thread, because
SQLite takes one writer at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from uuid import UUID

import attrs
from argon2.profiles import RFC_9106_LOW_MEMORY
from twisted.application.service import Service
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from connectd.directory.accounts import Account
from connectd.directory.changes import Changes, read_changes
from connectd.directory.database import Database
from connectd.directory.errors import BrokenSealError, DirectoryError, RegistryFullError
from connectd.directory.hashing import UnreadableVerifierError
from connectd.directory.memory import Memory
from connectd.directory.passwords import PasswordVerifier
from connectd.directory.schemes import ARGON2ID

if TYPE_CHECKING:
    from collections.abc import Collection

    from argon2 import Parameters

    from connectd.directory.sealing import KeyFile

GRACE: Final = 30.0
"""Seconds for which memory is trusted while the database cannot be read; after that nobody is let in."""

HOUSEKEEPING_INTERVAL: Final = 3600.0
"""Seconds between removals of bans that are over."""

T = TypeVar("T")

log = Logger()


@attrs.frozen(repr=False)
class _Done(Generic[T]):
    """What came of a job in the thread.

    :param result: of the operation.
    :param changes: in the database since the last job.
    :param problem: why these could not be read.
    """

    result: T | Failure
    changes: Changes | None
    problem: DirectoryError | None


class _Pool(ConnectionPool):
    """Gives each job the :class:`~connectd.directory.database.Database` itself."""

    @staticmethod
    def connectionFactory(pool: Any) -> Any:  # type: ignore[override]  # any callable does
        return pool.connect()


class DirectoryService(Service):
    """The directory of a running daemon. Starting it opens the database in a thread; nothing is opened before.

    Look-ups raise :class:`~connectd.directory.errors.DirectoryError` before the database has been read, and when it
    could not be read for :data:`GRACE` seconds: whoever asks on behalf of a peer refuses then.

    :param path: of the database, which is made where there is none.
    :param keys: where the sealing keys are.
    :param schemes: the verifier schemes that the listeners ask for (``account_schemes``): without the key of verifiers
        of these, :meth:`ready` fails.
    :param reactor: Twisted's own unless given.
    :param poll_interval: seconds between looks for what other processes have changed.
    :param maximum_keys: how many keys :meth:`register_key` takes; 0 = no limit.
    :param parameters: the cost of argon2id verifiers; others are made anew when their password is next seen.
    :param options: as for :class:`~connectd.directory.database.Database`.
    """

    def __init__(
        self,
        path: str,
        *,
        keys: KeyFile | None = None,
        schemes: Collection[str] = (),
        reactor: Any = None,
        poll_interval: float = 5.0,
        maximum_keys: int = 0,
        parameters: Parameters = RFC_9106_LOW_MEMORY,
        **options: Any,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.path = path
        self.maximum_keys = maximum_keys
        self._keys = keys
        self._schemes = schemes
        self._reactor = reactor
        self._poll_interval = poll_interval
        self._parameters = parameters
        self._options = options
        self._pool: _Pool | None = None
        self._timers: list[LoopingCall] = []
        self._waiting: list[Deferred[None]] = []
        self._memory: Memory | None = None
        self._passwords: PasswordVerifier | None = None
        self._problem: DirectoryError | None = None
        self._trusted = 0.0
        # The thread's own: the number of the last changes that it has handed over.
        self._seen: int | None = None

    # Life

    def startService(self) -> None:
        """Open and read the database, in a thread; see :meth:`ready`."""
        super().startService()
        self._seen = None
        self._pool = _Pool(
            "connectd.directory.database",
            self.path,
            keys=self._keys,
            clock=self._reactor.seconds,
            parameters=self._parameters,
            **self._options,
            cp_reactor=self._reactor,
            cp_min=1,
            cp_max=1,
        )
        self._start_timer(self._poll, self._poll_interval, now=True)
        self._start_timer(self._keep_house, HOUSEKEEPING_INTERVAL, now=False)

    def stopService(self) -> Deferred[None]:
        """Finish what was begun, close the database."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        pool, self._pool = self._pool, None
        for timer in self._timers:
            timer.stop()
        self._timers.clear()
        self._settle_waiting(DirectoryError("the directory was stopped"))
        if pool is None:
            return
        if pool.running:
            # After all jobs, and in the thread: closing may write.
            await deferToThreadPool(self._reactor, pool.threadpool, _close, pool)
        pool.close()
        self._memory = None

    def ready(self) -> Deferred[None]:
        """Fires once the database has been read; fails with the DirectoryError where it cannot be.

        A daemon does not accept anybody before. After a failure it is tried again with every poll.
        """
        if self._memory is not None:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    @property
    def problem(self) -> str | None:
        """Why the database cannot be read now, in one line; None where all is well."""
        return None if self._problem is None else str(self._problem)

    # At once, from memory

    def find_account(self, name: str | bytes) -> Account | None:
        """The account of that name, or None.

        :param name: bytes are taken as UTF-8.
        """
        return self._trusted_memory().find_account(name)

    def secret(self, account: Account | None, scheme: str) -> bytes:
        """What a sealed scheme keeps of an account's password: its SHA-256 (SB-7) or the password (SB-20).

        For None, an account without that scheme, or one whose verifier is damaged, it is a random secret that nobody
        knows, after the same work: go on with it as with any other (COM-10).

        :raises SealingKeyError: where the sealing key is not there. That is no wrong proof.
        """
        memory = self._trusted_memory()
        try:
            return memory.secret(account, scheme)
        except BrokenSealError as error:
            log.error("{problem}", problem=str(error))
            return memory.secret(None, scheme)

    def registered_key(self, uuid: UUID) -> bytes | None:
        """The DER SubjectPublicKeyInfo that is registered for a UUID, or None."""
        return self._trusted_memory().registered_key(uuid)

    def is_proven(self, protocol: str, name: str) -> bool:
        """Whether somebody has proven to own a name (:mod:`connectd.directory.proven_names`)."""
        return self._trusted_memory().is_proven(protocol, name)

    def match_address(self, host: str) -> str | None:
        """Why an address is banned, or None: ``Admission(bans=directory.match_address)`` (COM-4).

        :raises ValueError: where ``host`` is not an IP address.
        """
        return self._trusted_memory().bans.match_address(host)

    def match_account(self, name: str | bytes) -> str | None:
        """Why an account is banned, or None."""
        return self._trusted_memory().bans.match_account(name)

    def match_uuid(self, uuid: UUID) -> str | None:
        """Why a UUID is banned, or None."""
        return self._trusted_memory().bans.match_uuid(uuid)

    def match_key(self, key: bytes) -> str | None:
        """Why a public key, DER SubjectPublicKeyInfo, is banned, or None."""
        return self._trusted_memory().bans.match_key(key)

    @property
    def counts(self) -> dict[str, int]:
        """How many accounts, bans and registered keys there are, for status and metrics."""
        memory = self._trusted_memory()
        return {"accounts": memory.accounts, "bans": len(memory.bans), "keys": memory.keys}

    # With the disk

    def check_password(self, name: str | bytes, password: bytes | str) -> Deferred[Account | None]:
        """Check a password against an account's argon2id verifier, in a thread.

        Whether the account may be used is another question (:meth:`~connectd.directory.accounts.Account.allows`), to be
        asked afterwards.

        :return: fires with the account, or with None where the name or the password is wrong, after the same work
            (COM-10). Fails where that cannot be told.
        """
        return Deferred.fromCoroutine(self._check_password(name, password))

    def run(self, operation: Callable[[Database], T]) -> Deferred[T]:
        """Do anything of the synchronous face in the thread, after what was asked for before.

        :param operation: is given the database. It runs in a thread and shall do one thing.
        :return: fires with its result once that is durable and in memory. Cancelling it does not undo it.
        """
        answer: Deferred[T] = Deferred()
        if self._pool is None:
            answer.errback(DirectoryError(f"the directory {self.path} is not running"))
            return answer

        def finish(result: T | Failure) -> None:
            if not answer.called:
                answer.callback(result)

        work: Deferred[_Done[T]] = self._pool.runWithConnection(self._job, operation)
        work.addCallbacks(self._take, self._failed).addBoth(finish)
        return answer

    def refresh(self) -> Deferred[None]:
        """Look for what others have changed.

        :return: fires once it is in memory; fails where the database cannot be read.
        """
        return self.run(_nothing).addCallback(self._raise_problem)

    def register_key(self, uuid: UUID, key: bytes, *, by: str) -> Deferred[None]:
        """Register a UUID's first key (CH-20); see :class:`~connectd.directory.registered_keys.RegisteredKeys`.

        :return: fires once it is durable (CH-22). Fails with RegistryFullError where no more are taken.
        """
        if self.maximum_keys and self._memory is not None and self._memory.keys >= self.maximum_keys:
            full: Deferred[None] = Deferred()
            full.errback(
                RegistryFullError(
                    f"{self._memory.keys} keys are registered, and no more are taken "
                    f"([directory] maximum_keys = {self.maximum_keys})"
                )
            )
            return full
        return self.run(lambda database: database.keys.register(uuid, key, by=by))

    def replace_key(self, uuid: UUID, key: bytes, *, expected: bytes | None = None, by: str) -> Deferred[None]:
        """Replace a UUID's key (CH-20); see :class:`~connectd.directory.registered_keys.RegisteredKeys`.

        :return: fires once it is durable (CH-22).
        """
        return self.run(lambda database: database.keys.replace(uuid, key, expected=expected, by=by))

    def add_proven_names(self, protocol: str, names: Collection[str]) -> Deferred[None]:
        """Remember names that somebody has proven to own; nothing is written where all of them are known.

        :return: fires once they are durable.
        """
        memory = self._memory
        if memory is not None and all(memory.is_proven(protocol, name) for name in names):
            return succeed(None)
        return self.run(lambda database: database.names.add(protocol, names))

    def backup(self, path: str) -> Deferred[None]:
        """Write a copy of the database (:meth:`~connectd.directory.database.Database.backup`).

        Meanwhile changes wait, log-ins do not.
        """
        return self.run(lambda database: database.backup(path))

    # How

    def _start_timer(self, function: Callable[[], Deferred[Any]], interval: float, *, now: bool) -> None:
        timer = LoopingCall(function)
        timer.clock = self._reactor
        self._timers.append(timer)
        timer.start(interval, now=now).addErrback(lambda failure: log.failure("The directory's timer failed", failure))

    def _job(self, database: Database, operation: Callable[[Database], T]) -> _Done[T]:
        """Runs in the thread."""
        result: T | Failure
        changes, problem = None, None
        try:
            result = operation(database)
        except BaseException:
            result = Failure()
        try:
            if self._seen is None:
                database.seals.expect_keys(self._schemes)
            changes = read_changes(database, self._seen)
            if changes is not None:
                self._seen = changes.number
            if self._passwords is None:
                self._passwords = PasswordVerifier(parameters=self._parameters)  # hashes once
        except Exception as error:
            problem = self._told(error)
        if database.closed and self._pool is not None:
            self._pool.disconnect(database)
        return _Done(result, changes, problem)

    def _take(self, done: _Done[T]) -> T | Failure:
        """A job is done."""
        if done.changes is not None:
            if self._memory is None:
                self._memory = Memory(self._reactor.seconds)
            self._memory.apply(done.changes)
        self._note(done.problem)
        return done.result

    def _failed(self, failure: Failure) -> Failure:
        """The database could not even be opened."""
        self._note(self._told(failure.value))
        return failure

    def _told(self, error: BaseException | None) -> DirectoryError:
        """What is wrong, for the operator, also where nobody has thought of it."""
        if isinstance(error, DirectoryError):
            return error
        return DirectoryError(f"the directory {self.path} cannot be read: {type(error).__name__}: {error}")

    def _note(self, problem: DirectoryError | None) -> None:
        """Remember whether the database can be read, and tell when that changes."""
        former, self._problem = self._problem, problem
        if problem is None:
            self._trusted = self._reactor.seconds()
            if former is not None:
                log.info("The directory {path} can be read again", path=self.path)
        elif former is None or str(former) != str(problem):
            log.error("{problem}", problem=str(problem))
        self._settle_waiting(problem)

    def _settle_waiting(self, problem: DirectoryError | None) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if problem is None:
                one.callback(None)
            else:
                one.errback(problem)

    def _trusted_memory(self) -> Memory:
        memory, problem = self._memory, self._problem
        if memory is None:
            raise (
                DirectoryError(f"the directory {self.path} has not been read yet")
                if problem is None
                else _again(problem)
            )
        if problem is not None and self._reactor.seconds() - self._trusted > GRACE:
            raise _again(problem)
        return memory

    def _raise_problem(self, _: object) -> None:
        if self._problem is not None:
            raise _again(self._problem)

    def _poll(self) -> Deferred[None]:
        # What is wrong has been noted.
        return self.refresh().addErrback(lambda failure: None)

    def _keep_house(self) -> Deferred[Any]:
        expiry = self.run(lambda database: database.bans.expire(by="connectd"))
        return expiry.addErrback(lambda failure: log.error("{problem}", problem=str(failure.value)))

    async def _check_password(self, name: str | bytes, password: bytes | str) -> Account | None:
        account = self.find_account(name)
        passwords = self._passwords
        assert passwords is not None  # made before anything was in memory
        verifier = None if account is None else account.verifiers.get(ARGON2ID)
        stored = None if verifier is None else verifier.data
        assert not isinstance(stored, bytes)
        try:
            right = await passwords.check(stored, password)
        except UnreadableVerifierError:
            log.error(
                'The stored password verifier of account "{account}" cannot be read: set its password again with '
                '"connectctl account passwd"',
                account=account.name if account is not None else "",
            )
            right = False
        if not right or account is None or stored is None:
            return None
        # Meanwhile it may have been removed, or given another password.
        present = self.find_account(name)
        if present is None or present.id != account.id or present.verifiers.get(ARGON2ID) != verifier:
            return None
        if passwords.is_outdated(stored):
            self._rehash(present, password, passwords)
        return present

    def _rehash(self, account: Account, password: bytes | str, passwords: PasswordVerifier) -> None:
        """Make an argon2id verifier of today's parameters, behind the peer's back."""
        work = passwords.hash(password)
        work.addCallback(lambda hashed: self.run(lambda database: database.accounts.rehash(account, hashed)))
        work.addErrback(
            lambda failure: log.error(
                "The password verifier of {account} keeps its old cost: {problem}",
                account=account.name,
                problem=str(failure.value),
            )
        )


def _nothing(database: Database) -> None:
    """The operation of a look for changes."""


def _close(pool: ConnectionPool) -> None:
    for database in list(pool.connections.values()):
        database.close()


def _again(problem: DirectoryError) -> DirectoryError:
    """The same problem, to be raised once more without the traceback of the first time."""
    return type(problem)(str(problem))
