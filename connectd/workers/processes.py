"""Child processes for computations that hold the interpreter lock, such as finite-field Diffie-Hellman.

::

    workers = Processes(reactor, [check_group, exchange])
    workers.setServiceParent(service)
    (secret,) = await workers.perform(exchange, p, g, y, timeout=10)

A job is a function of bytes that returns bytes, from a list that is fixed when the processes are made. A child is
started when there is the first job for it, so never before a fork, and started again where it dies. What a job is about
goes through a pipe and is seen nowhere else. A job costs about 30 µs beyond its own time.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from connectd.workers.child import Function
from connectd.workers.frames import MAXIMUM_FUNCTIONS, FrameBuffer, Status, encode

log = Logger()

START_TIMEOUT = 60.0
"""Seconds in which a child has to have loaded its functions."""

CANCEL_GRACE = 1.0
"""Seconds that a job goes on for which nobody waits any more, before its child is killed to stop it."""

KEPT_ENVIRONMENT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "OPENSSL_CONF", "PATH", "TZ")
"""What a child gets of our environment."""

END_TIMEOUT = 2.0
"""Seconds in which an idle child has to be gone after its input was closed."""

FIRST_RESTART, LAST_RESTART = 0.1, 30.0
"""Seconds before a child that died is started again: the first time, and at most."""

ERRORS = 2000
"""Bytes that are logged of what a child says on standard error while it starts."""


class WorkError(Exception):
    """A job was not done: one line that says why, without what it was about (COM-9)."""


class Busy(WorkError):
    """As many jobs wait as may."""


class WorkFailed(WorkError):
    """The function raised."""


class WorkTimeout(WorkError):
    """The job waited or ran for too long."""


class WorkerDied(WorkError):
    """The process ended in the middle of the job."""


class NotRunning(WorkError):
    """The service is not started, or was stopped."""


class _Job:
    """Something to be done."""

    __slots__ = ("child", "done", "frame", "name", "timeout", "timer")

    def __init__(self, name: str, frame: bytes, timeout: float) -> None:
        self.name = name
        self.frame = frame
        self.timeout = timeout
        self.timer: IDelayedCall | None = None
        self.child: _Child | None = None
        self.done: Deferred[list[bytes]] | None = None

    def watch(self, timer: IDelayedCall | None) -> None:
        """Have this timer instead of the one before."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.timer = timer

    def finish(self, result: list[bytes] | WorkError) -> None:
        """Tell whoever still wants to know."""
        self.frame = b""
        self.child = None
        self.watch(None)
        done, self.done = self.done, None
        if done is None:
            return
        if isinstance(result, WorkError):
            done.errback(result)
        else:
            done.callback(result)


class Processes(Service):
    """Worker processes, and the jobs that wait for them.

    :param reactor: provides IReactorProcess and IReactorTime.
    :param functions: all that jobs can ask for: functions of modules, from bytes to a sequence of bytes.
    :param count: how many children there are at most.
    :param maximum_waiting: jobs that may wait for a child; more fail at once (COM-2).
    :param niceness: how much the children stand back behind others, 0 to 19.
    """

    def __init__(
        self,
        reactor: Any,
        functions: Sequence[Function],
        *,
        count: int = 1,
        maximum_waiting: int = 256,
        niceness: int = 0,
    ) -> None:
        if not 0 < len(functions) <= MAXIMUM_FUNCTIONS:
            raise ValueError(f"{len(functions)} functions: 1 to {MAXIMUM_FUNCTIONS}")
        self.reactor = reactor
        self.count = count
        self.maximum_waiting = maximum_waiting
        self.niceness = niceness
        self.names = [f"{function.__module__}:{function.__qualname__}" for function in functions]
        self._numbers = {function: number for number, function in enumerate(functions)}
        self._waiting: deque[_Job] = deque()
        self._children: list[_Child] = []
        self._deaths = 0
        self._restart: IDelayedCall | None = None

    @property
    def waiting(self) -> int:
        """How many jobs wait for a child."""
        return len(self._waiting)

    @property
    def pids(self) -> list[int]:
        """The numbers of the children."""
        return [child.pid for child in self._children if child.pid is not None]

    def perform(self, function: Function, *arguments: bytes, timeout: float) -> Deferred[list[bytes]]:
        """Have a function called in a child.

        :param function: one of those that were given at the beginning.
        :param timeout: seconds that the job may wait, and then the seconds that it may run.
        :return: fires with what it returned; fails with a :class:`WorkError`. Cancelling it takes the job back; one
            that runs gets a second to come to its end, and is then stopped together with its child.
        :raises ValueError: for another function, or for too many bytes.
        """
        if function not in self._numbers:
            raise ValueError(f"{function!r} is not one of {', '.join(self.names)}")
        number = self._numbers[function]
        milliseconds = max(1, round(timeout * 1000)).to_bytes(8, "big")
        job = _Job(self.names[number], encode(number, (milliseconds, *arguments)), timeout)
        if not self.running:
            return fail(NotRunning(f"{job.name}: the worker processes are not running"))
        if len(self._waiting) >= self.maximum_waiting:
            return fail(Busy(f"{job.name}: {self.maximum_waiting} jobs wait already"))
        done: Deferred[list[bytes]] = Deferred(lambda deferred: self._cancel(job))
        job.done = done
        job.timer = self.reactor.callLater(timeout, self._waited_too_long, job)
        self._waiting.append(job)
        self._turn()
        return done

    def warm(self) -> None:
        """Start a child now, where there is none, so that the first job need not wait for that."""
        if self.running and not self._children and self._restart is None:
            self._start_child()

    # The service

    def stopService(self) -> Deferred[None]:
        """Give up all jobs and end the children; fires once they are gone."""
        Service.stopService(self)
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.finish(NotRunning(f"{job.name}: the worker processes are stopped"))
        gone: Deferred[Any] = DeferredList([child.end() for child in list(self._children)])
        return gone.addCallback(lambda results: None)

    # Inside

    def _turn(self) -> None:
        """Give jobs to idle children, and start one where that is not enough."""
        for child in list(self._children):
            if self._waiting and child.idle:
                child.give(self._waiting.popleft())
        starting = sum(child.starting for child in self._children)
        if len(self._waiting) > starting and len(self._children) < self.count and self._restart is None:
            self._start_child()

    def _start_child(self) -> None:
        child = _Child(self)
        self._children.append(child)
        try:
            child.start()
        except Exception as error:
            log.error("a worker process cannot be started: {reason}", reason=f"{type(error).__name__}: {error}")
            self.child_ended(child, expected=False)

    def _waited_too_long(self, job: _Job) -> None:
        self._waiting.remove(job)
        job.finish(WorkTimeout(f"{job.name}: waited {job.timeout:g} s for a worker process"))

    def _cancel(self, job: _Job) -> None:
        job.done = None  # it fails with CancelledError by itself
        if job.child is None:
            self._waiting.remove(job)
            job.finish([])
        else:
            job.child.limit(CANCEL_GRACE)

    # What children tell

    def child_ready(self) -> None:
        """A child waits for a job."""
        if self.running:
            self._turn()

    def job_done(self) -> None:
        """A child did a job, and waits for another one."""
        self._deaths = 0
        self.child_ready()

    def child_ended(self, child: _Child, *, expected: bool) -> None:
        """A child is gone: start another one where there is something to do, the later the more often that was in
        vain."""
        self._children.remove(child)
        if not self.running:
            return
        if expected:
            self._turn()
        elif self._restart is None:
            delay = min(FIRST_RESTART * 2**self._deaths, LAST_RESTART)
            self._deaths = min(self._deaths + 1, 16)
            self._restart = self.reactor.callLater(delay, self._restarted)

    def _restarted(self) -> None:
        self._restart = None
        self._turn()


class _Child(ProcessProtocol):
    """One worker process. It has one job at a time.

    :param owner: whose it is.
    """

    def __init__(self, owner: Processes) -> None:
        self.owner = owner
        self.starting = True
        self.pid: int | None = None
        self._job: _Job | None = None
        self._frames = FrameBuffer()
        self._errors = b""
        self._ending = ""
        """Why it is to end, where that is our doing."""
        self._cut_off = False
        """A pipe between us is gone; its end is told later, in a turn of the reactor of its own."""
        self._gone: list[Deferred[None]] = []
        self._timer: IDelayedCall | None = None

    @property
    def idle(self) -> bool:
        """Whether it can be given a job."""
        return not self.starting and self._job is None and not self._ending and not self._cut_off

    # Its life

    def start(self) -> None:
        """Start the process.

        :raises OSError: where there is none to be had.
        """
        if not sys.executable:
            raise OSError("this Python does not know where its own program is")
        # It finds the same modules as we do, and has nothing else of our environment.
        environment = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
        # -P: without it, modules in the working directory would come first.
        arguments = [sys.executable, "-P", "-m", "connectd.workers.child"]
        process = self.owner.reactor.spawnProcess(self, sys.executable, arguments, env=environment)
        self.pid = process.pid
        self._timer = self.owner.reactor.callLater(START_TIMEOUT, self._kill, f"not ready within {START_TIMEOUT:g} s")

    def connectionMade(self) -> None:
        self._write(encode(self.owner.niceness, [name.encode() for name in self.owner.names]))

    def end(self) -> Deferred[None]:
        """Let it go, at once where it is busy; fires when it is gone."""
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        if self._job is not None or self.starting:
            self._kill("stopped")
        else:
            self._ending = self._ending or "stopped"
            transport: Any = self.transport
            transport.closeStdin()
            self._watch(self.owner.reactor.callLater(END_TIMEOUT, self._kill, "stopped"))
        return gone

    def _kill(self, reason: str) -> None:
        self._ending = self._ending or reason
        self._watch(None)
        try:
            transport: Any = self.transport
            transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass  # processEnded is on its way

    def _watch(self, timer: IDelayedCall | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = timer

    def inConnectionLost(self) -> None:
        """It takes no more jobs."""
        self._lose_pipe()

    def outConnectionLost(self) -> None:
        """It gives no more answers."""
        self._lose_pipe()

    def _lose_pipe(self) -> None:
        """It is dead or dying; one that did no more than close a pipe is of no use either."""
        self._cut_off = True
        if not self._ending:
            with contextlib.suppress(ProcessExitedAlready):
                transport: Any = self.transport
                transport.signalProcess("KILL")

    def processEnded(self, reason: Failure) -> None:
        """It is gone."""
        self._watch(None)
        expected = bool(self._ending)
        if not expected:
            log.error(
                "worker process {pid} ended: {reason}{errors}",
                pid=self.pid,
                reason=reason.getErrorMessage(),
                errors=f"; it said: {self._errors.decode('utf-8', 'replace').strip()}" if self._errors else "",
            )
        self._ending = self._ending or "it died"
        self.owner.child_ended(self, expected=expected)
        if self._job is not None:
            name = self._job.name
            self._finish(WorkerDied(f"{name}: the worker process ended in the middle of it: {self._ending}"))
        gone, self._gone = self._gone, []
        for waiter in gone:
            waiter.callback(None)

    # Its jobs

    def give(self, job: _Job) -> None:
        """Have a job done."""
        self._job = job
        job.child = self
        self._write(job.frame)
        job.frame = b""
        self.limit(job.timeout)

    def limit(self, seconds: float) -> None:
        """The job may go on for so long."""
        if self._job is not None:
            self._job.watch(self.owner.reactor.callLater(seconds, self._took_too_long))

    def _took_too_long(self) -> None:
        assert self._job is not None
        reason = f"{self._job.name} took too long"
        self._kill(reason)
        self._finish(WorkTimeout(reason))

    def _finish(self, result: list[bytes] | WorkError) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.finish(result)

    # What it says

    def _write(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.writeToChild(0, data)

    def outReceived(self, data: bytes) -> None:
        """Answers."""
        try:
            for kind, parts in self._frames.feed(data):
                self._answered(kind, parts)
        except ValueError as error:
            log.error("worker process {pid} cannot be understood: {reason}", pid=self.pid, reason=str(error))
            self._kill("it could not be understood")

    def _answered(self, kind: int, parts: list[bytes]) -> None:
        if self._ending:
            return
        if kind == Status.READY and self.starting:
            self.starting = False
            self._watch(None)
            # What comes on standard error from here on might be about a job (COM-9).
            self._errors = b""
            self.owner.child_ready()
        elif kind == Status.DONE and self._job is not None:
            self._finish(parts)
            self.owner.job_done()
        elif kind == Status.RAISED and self._job is not None:
            self._finish(WorkFailed(f"{self._job.name} raised {parts[0].decode('ascii', 'replace')}"))
            self.owner.job_done()
        elif kind == Status.UNUSABLE:
            self._errors = parts[0]
        else:
            raise ValueError(f"an answer of the kind {kind} that nobody asked for")

    def errReceived(self, data: bytes) -> None:
        """What goes wrong before it is ready."""
        if self.starting and len(self._errors) < ERRORS:
            self._errors += data[:ERRORS]
