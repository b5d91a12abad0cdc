"""Worker processes, with real children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from connectd.workers import processes
from connectd.workers.child import Function
from connectd.workers.processes import Busy, NotRunning, Processes, WorkerDied, WorkFailed, WorkTimeout
from tests.processes import LIMIT, ROOT, wait_for
from tests.workers import functions

reactor: Any = the_reactor

ALL: list[Function] = [
    functions.reverse,
    functions.pid,
    functions.raises,
    functions.dies,
    functions.hangs,
    functions.sleeps,
    functions.prints,
    functions.huge,
    functions.niceness,
    functions.environment,
    functions.closes_its_pipes,
]


def is_running(pid: int) -> bool:
    """Whether a process is there that is more than a number that nobody has asked for its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class WorkersCase(TestCase):
    """With worker processes that end with the test."""

    timeout = 120

    def workers(self, **options: Any) -> Processes:
        workers = Processes(reactor, ALL, **options)
        workers.startService()
        self.addCleanup(workers.stopService)
        return workers

    async def until(self, what: str, look: Any) -> None:
        """Let the reactor go on until something is so."""
        end = time.monotonic() + LIMIT
        while not look():
            if time.monotonic() > end:
                self.fail(f"{what}: not within {LIMIT:g} s")
            await deferLater(reactor, 0.01)


class JobTests(WorkersCase):
    """perform"""

    async def test_results(self) -> None:
        """Bytes come back, large and small, in the order of the jobs."""
        workers = self.workers()
        large = os.urandom(300_000)
        jobs = [workers.perform(functions.reverse, part, b"", timeout=LIMIT) for part in (b"abc", large, b"")]
        found = await gatherResults(jobs)
        self.assertEqual(found, [[b"cba", b""], [large[::-1], b""], [b"", b""]])

    async def test_lazy(self) -> None:
        """There is no child before the first job (a daemon forks after it was made), and then one serves all."""
        workers = self.workers()
        self.assertEqual(workers.pids, [])
        pids = [await workers.perform(functions.pid, timeout=LIMIT) for _ in range(3)]
        self.assertEqual(pids, [[b"%d" % workers.pids[0]]] * 3)
        self.assertNotEqual(workers.pids, [os.getpid()])

    async def test_warm(self) -> None:
        """A child that was started before the first job takes it."""
        workers = self.workers()
        workers.warm()
        workers.warm()
        [pid] = workers.pids
        self.assertEqual(await workers.perform(functions.pid, timeout=LIMIT), [b"%d" % pid])

    async def test_several(self) -> None:
        """Two children work at the same time."""
        workers = self.workers(count=2)
        sleeping = workers.perform(functions.sleeps, b"%d" % (4 * LIMIT), timeout=8 * LIMIT)
        found = await gatherResults([workers.perform(functions.reverse, b"ab", timeout=LIMIT) for _ in range(5)])
        self.assertEqual(found, [[b"ba"]] * 5)
        self.assertEqual(len(workers.pids), 2)
        sleeping.cancel()
        await self.assertFailure(sleeping, CancelledError)

    async def test_raises(self) -> None:
        """COM-9: what a function raised is told by its class only, and the child goes on."""
        workers = self.workers()
        error = await self.assertFailure(workers.perform(functions.raises, b"xyzzy", timeout=LIMIT), WorkFailed)
        self.assertEqual(str(error), "tests.workers.functions:raises raised KeyError")
        [pid] = workers.pids
        error = await self.assertFailure(workers.perform(functions.huge, timeout=LIMIT), WorkFailed)
        self.assertIn("ValueError", str(error))
        self.assertEqual(await workers.perform(functions.pid, timeout=LIMIT), [b"%d" % pid])

    async def test_pipes_of_their_own(self) -> None:
        """What a function prints does not get between the frames, and there is nothing for it to read."""
        workers = self.workers()
        self.assertEqual(await workers.perform(functions.prints, timeout=LIMIT), [b""])
        self.assertEqual(await workers.perform(functions.reverse, b"ab", timeout=LIMIT), [b"ba"])

    async def test_niceness(self) -> None:
        workers = self.workers(niceness=7)
        self.assertEqual(await workers.perform(functions.niceness, timeout=LIMIT), [b"%d" % (os.nice(0) + 7)])

    async def test_nothing_to_see(self) -> None:
        """COM-9: neither the command line nor the environment of a child has anything of a job or of our own
        environment."""
        self.patch(os, "environ", {**os.environ, "CONNECTD_TEST_SECRET": "xyzzy"})
        workers = self.workers()
        found = await workers.perform(functions.environment, timeout=LIMIT)
        self.assertNotIn(b"xyzzy", b"".join(found))
        command = Path(f"/proc/{workers.pids[0]}/cmdline").read_bytes()
        self.assertEqual(command.split(b"\0")[1:], [b"-P", b"-m", b"connectd.workers.child", b""])

    def test_only_registered_functions(self) -> None:
        """Nothing but what was given at the beginning can be asked for."""
        workers = Processes(reactor, [functions.reverse])
        for function in (functions.pid, os.system):
            self.assertRaises(ValueError, workers.perform, function, timeout=1)
        self.assertRaises(ValueError, Processes, reactor, [])

    def test_too_large(self) -> None:
        """COM-2: a job that no frame has room for is the caller's mistake."""
        self.assertRaises(ValueError, self.workers().perform, functions.reverse, bytes(1 << 21), timeout=1)

    async def test_queue(self) -> None:
        """COM-2: so many jobs wait and no more."""
        workers = self.workers(maximum_waiting=3)
        waiting = [workers.perform(functions.reverse, b"ab", timeout=LIMIT) for _ in range(3)]
        self.assertEqual(workers.waiting, 3)
        error = await self.assertFailure(workers.perform(functions.reverse, b"", timeout=LIMIT), Busy)
        self.assertEqual(str(error), "tests.workers.functions:reverse: 3 jobs wait already")
        self.assertEqual(await gatherResults(waiting), [[b"ba"]] * 3)
        self.assertEqual(workers.waiting, 0)

    async def test_not_running(self) -> None:
        workers = Processes(reactor, ALL)
        await self.assertFailure(workers.perform(functions.reverse, timeout=1), NotRunning)
        workers.warm()
        self.assertEqual(workers.pids, [])


class EndTests(WorkersCase):
    """Jobs and children that come to an end"""

    async def test_deadline(self) -> None:
        """A job that takes too long fails, its child is killed, and the next job has another one."""
        workers = self.workers()
        await workers.perform(functions.reverse, timeout=LIMIT)
        [first] = workers.pids
        await self.assertFailure(workers.perform(functions.hangs, timeout=0.2), WorkTimeout)
        self.assertEqual(await workers.perform(functions.reverse, b"ab", timeout=LIMIT), [b"ba"])
        self.assertNotEqual(workers.pids, [first])
        await self.until("the end of the first", lambda: not is_running(first))

    async def test_waited_too_long(self) -> None:
        """A job that never got a child fails as well, and takes none with it."""
        workers = self.workers()
        await workers.perform(functions.reverse, timeout=LIMIT)
        sleeping = workers.perform(functions.sleeps, b"%d" % (4 * LIMIT), timeout=8 * LIMIT)
        error = await self.assertFailure(workers.perform(functions.reverse, timeout=0.1), WorkTimeout)
        self.assertEqual(str(error), "tests.workers.functions:reverse: waited 0.1 s for a worker process")
        self.assertEqual((workers.waiting, len(workers.pids)), (0, 1))
        sleeping.cancel()
        await self.assertFailure(sleeping, CancelledError)

    async def test_died(self) -> None:
        """The job of a child that dies fails, those that wait are done by another one, a while later."""
        workers = self.workers()
        died = workers.perform(functions.dies, timeout=LIMIT)
        waiting = workers.perform(functions.reverse, b"ab", timeout=LIMIT)
        await self.assertFailure(died, WorkerDied)
        self.assertEqual(workers.pids, [])
        self.assertEqual(await waiting, [b"ba"])

    async def test_idle_child_died(self) -> None:
        """A child that dies while it has nothing to do is replaced when it is needed."""
        workers = self.workers()
        await workers.perform(functions.reverse, timeout=LIMIT)
        [pid] = workers.pids
        os.kill(pid, signal.SIGKILL)
        await self.until("its end", lambda: not workers.pids)
        self.assertEqual(await workers.perform(functions.reverse, b"ab", timeout=LIMIT), [b"ba"])

    async def test_job_while_idle_child_dies(self) -> None:
        """A job that comes between the end of a child's pipes and the word of its death waits for another child."""
        workers = self.workers()
        await workers.perform(functions.reverse, timeout=LIMIT)
        [child] = workers._children
        jobs: list[Any] = []
        tell = child.childConnectionLost

        def lost(descriptor: int) -> None:
            tell(descriptor)
            jobs.append(workers.perform(functions.reverse, b"ab", timeout=LIMIT))

        self.patch(child, "childConnectionLost", lost)
        os.kill(workers.pids[0], signal.SIGKILL)
        await self.until("the end of its pipes", lambda: len(jobs) == 3)
        self.assertEqual(await gatherResults(jobs), [[b"ba"]] * 3)

    async def test_closed_pipe(self) -> None:
        """A child that closes a pipe and goes on is of no use: it is replaced."""
        workers = self.workers()
        await workers.perform(functions.reverse, timeout=LIMIT)
        [pid] = workers.pids
        await self.assertFailure(workers.perform(functions.closes_its_pipes, timeout=LIMIT), WorkerDied)
        self.assertFalse(is_running(pid))
        self.assertEqual(await workers.perform(functions.reverse, b"ab", timeout=LIMIT), [b"ba"])

    async def test_cancelled(self) -> None:
        """A job that was taken back while it waited is never begun; one that runs is stopped with its child."""
        self.patch(processes, "CANCEL_GRACE", 0.1)
        workers = self.workers()
        await workers.perform(functions.reverse, timeout=LIMIT)
        [pid] = workers.pids
        running = workers.perform(functions.hangs, timeout=LIMIT)
        waiting = workers.perform(functions.dies, timeout=LIMIT)
        for job in (waiting, running):
            job.cancel()
            await self.assertFailure(job, CancelledError)
        self.assertEqual(await workers.perform(functions.reverse, b"ab", timeout=LIMIT), [b"ba"])
        self.assertNotEqual(workers.pids, [pid])

    async def test_cancelled_and_done_in_time(self) -> None:
        """A job that comes to its end within the grace does not cost its child."""
        workers = self.workers()
        await workers.perform(functions.reverse, timeout=LIMIT)
        [pid] = workers.pids
        job = workers.perform(functions.sleeps, b"0.01", timeout=LIMIT)
        job.cancel()
        await self.assertFailure(job, CancelledError)
        self.assertEqual(await workers.perform(functions.pid, timeout=LIMIT), [b"%d" % pid])

    async def test_stop(self) -> None:
        """All jobs fail, and no child is left; jobs that come later fail, too."""
        workers = self.workers(count=2)
        await workers.perform(functions.reverse, timeout=LIMIT)
        running = workers.perform(functions.hangs, timeout=LIMIT)
        waiting = [workers.perform(functions.hangs, timeout=LIMIT) for _ in range(3)]
        pids = workers.pids
        self.assertEqual(len(pids), 2)
        stopped = workers.stopService()
        await self.assertFailure(running, WorkerDied)
        for job in waiting:
            await self.assertFailure(job, NotRunning, WorkerDied)
        await stopped
        self.assertFalse(any(is_running(pid) for pid in pids))
        await self.assertFailure(workers.perform(functions.reverse, timeout=1), NotRunning)

    async def test_stop_idle(self) -> None:
        """A child with nothing to do ends by itself."""
        workers = self.workers()
        await workers.perform(functions.reverse, timeout=LIMIT)
        await workers.stopService()
        self.assertEqual(workers.pids, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_cannot_start(self) -> None:
        """Without children, jobs wait for their time and fail; it is tried again, later and later, and told each
        time."""
        lines: list[str] = []
        self.patch(processes.log, "error", lambda text, **fields: lines.append(text.format(**fields)))
        self.patch(processes, "FIRST_RESTART", 0.02)
        executable = sys.executable
        self.patch(sys, "executable", "")
        workers = self.workers()
        job = workers.perform(functions.reverse, b"ab", timeout=LIMIT)
        await self.until("two attempts", lambda: len(lines) > 1)
        self.assertIn("cannot be started: OSError: this Python does not know", lines[0])
        self.patch(sys, "executable", executable)
        self.assertEqual(await job, [b"ba"])

    async def test_ends_at_once(self) -> None:
        """What keeps a child from being ready is in the log."""
        lines: list[str] = []
        self.patch(processes.log, "error", lambda text, **fields: lines.append(text.format(**fields)))

        def local() -> list[bytes]:
            return []

        workers = Processes(reactor, [local])
        workers.startService()
        self.addCleanup(workers.stopService)
        job = workers.perform(local, timeout=LIMIT)
        await self.until("a line", lambda: lines)
        self.assertRegex(
            lines[0], r"worker process \d+ ended: .*; it said: ImportError: tests.workers.test_processes has"
        )
        job.cancel()
        await self.assertFailure(job, CancelledError)

    async def test_nonsense(self) -> None:
        """A child that says what nobody asked for is killed, and fails its job."""
        lines: list[str] = []
        self.patch(processes.log, "error", lambda text, **fields: lines.append(text.format(**fields)))
        workers = self.workers()
        await workers.perform(functions.reverse, timeout=LIMIT)
        for said in (b"\xff\xff\xff\xff", b"\0\0\0\1\0", b"\0\0\0\1\x09"):
            job = workers.perform(functions.sleeps, b"%d" % LIMIT, timeout=2 * LIMIT)
            await self.until("a child", lambda: workers._children and workers._children[0]._job)
            workers._children[0].outReceived(said)
            await self.assertFailure(job, WorkerDied)
        self.assertTrue(all("cannot be understood" in line for line in lines), lines)
        self.assertEqual(len(lines), 3)


SERVER = """
import sys
from twisted.internet import reactor
from connectd.workers.processes import Processes
from tests.workers import functions

workers = Processes(reactor, [functions.pid, functions.hangs])
workers.startService()

def told(result):
    print(result[0].decode(), flush=True)
    workers.perform(functions.hangs, timeout=600).addErrback(lambda failure: None)

workers.perform(functions.pid, timeout=60).addCallback(told)
reactor.run()
"""


class OrphanTests(TestCase):
    """Children whose daemon is gone"""

    def started(self) -> tuple[subprocess.Popen[bytes], int]:
        """A process with a child, and the child's number."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, env=environment)

        def end() -> None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

        self.addCleanup(end)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    def test_killed(self) -> None:
        """A child ends with its daemon even where that was killed, and even in the middle of a long computation."""
        process, child = self.started()
        self.assertTrue(is_running(child))
        process.kill()
        process.wait()
        wait_for("the end of the child", lambda: not is_running(child))

    def test_terminated(self) -> None:
        """What the daemon drains on, such as Ctrl-C in its terminal, does not end the child before it."""
        process, child = self.started()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(child, number)
        self.assertTrue(is_running(child))
        process.terminate()
        process.wait()
        wait_for("the end of the child", lambda: not is_running(child))
