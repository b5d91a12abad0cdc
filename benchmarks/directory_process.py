"""A process with a directory of so many accounts in memory."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import random
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from benchmarks.harness.control import Commands
from benchmarks.harness.timing import each
from connectd.directory import ARGON2ID, SCHEMES, SEALED_PASSWORD, SEALED_SHA256, Ban, Database, KeyFile, create_key
from connectd.directory.service import DirectoryService

FEW, MANY = 10, 100_000

LOOK_UPS = 1000
WRITES = 300
TICK = 0.001
"""Seconds between two looks at how late the reactor is."""

HASH = "$argon2id$v=19$m=65536,t=3,p=4$" + "c2FsdHNhbHRzYWx0c2FsdA" + "$" + "x" * 43

T = TypeVar("T")

reactor: Any = installed_reactor


@functools.cache
def made(accounts: int) -> str:
    """The folder of a directory with so many accounts, each with a verifier of every scheme; gone when this process
    ends.
    """
    folder = tempfile.TemporaryDirectory(prefix="connectd-benchmark-")
    atexit.register(folder.cleanup)
    keys = create_key(os.path.join(folder.name, "key"))
    with Database.open(os.path.join(folder.name, "connectd.db"), keys=keys) as database, database.transaction():
        (key,) = keys.load().ids
        ring = database.seals.ring()
        database.seals.name_key(key)
        numbers = range(1, accounts + 1)
        rows = [(number, *[f"player{number}"] * 3, float(number)) for number in numbers]
        database.execute_many("INSERT INTO accounts (id, name, key, skeleton, created) VALUES (?, ?, ?, ?, ?)", rows)
        insert = "INSERT INTO verifiers (account, scheme, data, key_id) VALUES (?, ?, ?, ?)"
        database.execute_many(insert, [(number, ARGON2ID, HASH, None) for number in numbers])
        for scheme in (SEALED_SHA256, SEALED_PASSWORD):
            sealed = [(number, scheme, ring.seal(key, number, scheme, os.urandom(32)), key) for number in numbers]
            database.execute_many(insert, sealed)
    return folder.name


class Process:
    """What the child can be asked for, once each: its reactor runs only once.

    :param folder: of :func:`made`.
    :param accounts: how many there are.
    """

    def __init__(self, folder: str, accounts: int) -> None:
        self._accounts = accounts
        self._directory = DirectoryService(
            os.path.join(folder, "connectd.db"),
            keys=KeyFile(os.path.join(folder, "key")),
            schemes=list(SCHEMES),
            reactor=reactor,
        )

    def look_up(self) -> dict[str, float]:
        """CPU time of the reactor for looking an account up and opening what is sealed."""
        chosen = random.Random(1)
        names = [f"Player{chosen.randrange(1, self._accounts + 1)}".encode() for _ in range(LOOK_UPS)]
        strangers = [f"stranger{number}".encode() for number in range(LOOK_UPS)]
        directory = self._directory

        def log_in(name: bytes) -> None:
            directory.secret(directory.find_account(name), SEALED_SHA256)

        async def measure() -> dict[str, float]:
            return {
                "known": each(lambda number: log_in(names[number % LOOK_UPS]), LOOK_UPS),
                "unknown": each(lambda number: log_in(strangers[number % LOOK_UPS]), LOOK_UPS),
                "address": each(lambda number: directory.match_address("192.0.2.7"), LOOK_UPS),
            }

        return self._run(measure)

    def collect(self) -> float:
        """Seconds of a full garbage collection."""

        async def measure() -> float:
            gc.collect()
            return min(_seconds(gc.collect) for _ in range(5))

        return self._run(measure)

    def start(self) -> dict[str, float]:
        """How long reading takes, and how late the reactor is meanwhile, in seconds."""
        late: list[float] = []
        expected = [time.perf_counter() + TICK]

        def look() -> None:
            now = time.perf_counter()
            late.append(now - expected[0])
            expected[0] = now + TICK

        async def measure() -> dict[str, float]:
            looks.stop()
            late.sort()
            return {"seconds": time.perf_counter() - began, "p99": late[int(len(late) * 0.99)], "worst": late[-1]}

        looks = LoopingCall(look)
        reactor.callWhenRunning(looks.start, TICK, now=False)
        began = time.perf_counter()
        return self._run(measure)

    def write(self) -> dict[str, float]:
        """What an acknowledged change costs the reactor's thread, and how long it takes."""
        directory = self._directory

        async def measure() -> dict[str, float]:
            began, cpu = time.perf_counter(), time.thread_time()
            for number in range(WRITES):
                await directory.run(partial(_ban, number))
            cpu = time.thread_time() - cpu
            return {"cpu": cpu / WRITES * 1e6, "elapsed": (time.perf_counter() - began) / WRITES * 1e6}

        return self._run(measure)

    def _run(self, measure: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> T:
        """Start the directory, measure, stop."""
        found: list[Any] = []

        async def all_of_it() -> None:
            self._directory.startService()
            await self._directory.ready()
            found.append(await measure())
            await self._directory.stopService()

        def end(result: object) -> None:
            found.append(result)
            reactor.stop()

        reactor.callWhenRunning(lambda: Deferred.fromCoroutine(all_of_it()).addBoth(end))
        reactor.run(installSignalHandlers=False)
        if found[-1] is not None:
            found[-1].raiseException()
        result: T = found[0]
        return result


def process(folder: str, accounts: int) -> Commands:
    """Give the commands."""
    child = Process(folder, accounts)
    return {"look_up": child.look_up, "collect": child.collect, "start": child.start, "write": child.write}


def _ban(number: int, database: Database) -> Ban:
    return database.bans.add("account", f"account{number}", by="benchmark")


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began
