"""Kill a process while it changes the directory, again and again, and see that nothing acknowledged is lost.

``python -m tests.directory.crash_loop FOLDER ROUNDS SEED`` forks the children that are killed: a fork takes a few
milliseconds, a new interpreter a hundred. Prints what it did as JSON; the first loss ends it with a traceback.

A child says what it is about to do, does it, and says that it was acknowledged. What was said to be acknowledged must be
there, what was never begun must not, and what was under way may be there or not, but only whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from argon2.profiles import CHEAPEST

from connectd.directory import SCHEMES, SEALED_PASSWORD, SEALED_SHA256, Database, KeyFile, create_key, rotate_key

SOON = 0.03
"""Seconds after its birth when a child is killed at the latest, in every other round."""

MOST_LINES = 40
"""Lines after which it is killed at the latest, in the rounds between."""

MOMENT = 0.003
"""Seconds that pass after the last of these lines, at most."""

FRESH = 10
"""Every so many rounds the database is made anew, so that making it is interrupted as well."""

Facts = dict[str, Any]
"""What the database should hold: a subject and its state, None where it is gone."""


class Loop:
    """All rounds on one folder."""

    def __init__(self, folder: str, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.generation = 0
        self.facts: Facts = {}
        self.count = {"rounds": 0, "acknowledged": 0, "under_way_kept": 0, "under_way_dropped": 0, "idle": 0}
        create_key(self.path("key"))

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def open(self) -> Database:
        return Database.open(
            self.path(f"connectd{self.generation}.db"), keys=KeyFile(self.path("key")), parameters=CHEAPEST
        )

    def round(self, number: int) -> None:
        """One child's life, and what is left of it."""
        if not number % FRESH:
            self.generation, self.facts = number, {}
        reading, writing = os.pipe()
        seed = self.random.random()
        process = os.fork()
        if not process:
            os.close(reading)
            try:
                self.change_for_ever(number, random.Random(seed), writing)
            finally:
                os._exit(1)
        os.close(writing)
        with open(reading, "rb") as pipe:
            lines = [pipe.readline() for _ in range(self.random.randrange(MOST_LINES))] if number % 2 else []
            time.sleep(self.random.random() * (MOMENT if number % 2 else SOON))
            os.kill(process, signal.SIGKILL)
            lines += pipe.read().splitlines(keepends=True)
        _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            raise AssertionError(f"round {number}: the child ended by itself")
        self.verify(number, [json.loads(line) for line in lines if line.endswith(b"\n")])

    def change_for_ever(self, round_number: int, choose: random.Random, pipe: int) -> None:
        """The child."""
        with self.open() as database:
            facts = dict(self.facts)
            for number in range(100_000):
                after, operation = self.step(database, facts, f"{round_number}x{number}", choose)
                os.write(pipe, json.dumps(after).encode() + b"\n")
                operation()
                os.write(pipe, b"true\n")
                facts |= after

    def step(
        self, database: Database, facts: Facts, unique: str, choose: random.Random
    ) -> tuple[Facts, Callable[[], Any]]:
        """Something to do, and what will be so afterwards."""
        accounts = [subject[8:] for subject, state in facts.items() if subject.startswith("account ") and state]
        kind = choose.choice(["add", "add", "add", "password", "remove", "ban", "key", "rotate"])
        if kind == "ban":
            return {f"ban {unique}": unique}, lambda: database.bans.add("account", unique, reason=unique, by="loop")
        if kind == "key":
            uuid = UUID(bytes=hashlib.md5(unique.encode()).digest())
            return {f"key {uuid}": unique}, lambda: database.keys.register(uuid, unique.encode(), by="loop")
        if kind == "rotate":
            return {}, lambda: rotate_key(database, by="loop")
        if kind == "add" or not accounts:
            return {f"account {unique}": unique}, lambda: database.accounts.add(
                unique, unique, schemes=SCHEMES, by="loop"
            )
        name = choose.choice(accounts)
        if kind == "remove":
            return {f"account {name}": None}, lambda: database.accounts.remove(name, by="loop")
        return {f"account {name}": unique}, lambda: database.accounts.set_password(name, unique, by="loop")

    def verify(self, number: int, lines: list[Any]) -> None:
        """Compare what was said with what is there."""
        expected, under_way = dict(self.facts), None
        for line in lines:
            if line is True:
                expected |= under_way or {}
                under_way = None
                self.count["acknowledged"] += 1
            else:
                under_way = line
        with self.open() as database:
            found = self.read(database)
            if not number % FRESH and (problems := database.check()):
                raise AssertionError(f"round {number}: {problems}")
        perhaps = {**expected, **(under_way or {})}
        if found == {subject: state for subject, state in expected.items() if state is not None}:
            self.count["under_way_dropped" if under_way else "idle"] += 1
            self.facts = expected
        elif found == {subject: state for subject, state in perhaps.items() if state is not None}:
            self.count["under_way_kept"] += 1
            self.facts = perhaps
        else:
            lost = {
                subject: (state, found.get(subject))
                for subject, state in expected.items()
                if state != found.get(subject)
            }
            raise AssertionError(f"round {number}: lost {lost}, under way {under_way}")
        self.count["rounds"] += 1
        leftovers = [name for name in os.listdir(self.folder) if name.startswith(".key.")]
        if leftovers not in ([], [".key.new"]):
            raise AssertionError(f"round {number}: {leftovers} are left behind")

    def read(self, database: Database) -> Facts:
        """What the database holds; each account's password, from both of its sealed verifiers."""
        found: Facts = {}
        for account in database.accounts.list():
            password = database.accounts.unseal(account, SEALED_PASSWORD)
            if hashlib.sha256(password).digest() != database.accounts.unseal(account, SEALED_SHA256):
                raise AssertionError(f"{account.name} has two passwords")
            if len(account.verifiers) != len(SCHEMES):
                raise AssertionError(f"{account.name} lacks verifiers")
            found[f"account {account.name}"] = password.decode()
        for ban in database.bans.list():
            found[f"ban {ban.value}"] = ban.reason
        for uuid, key in database.rows("SELECT uuid, key FROM registered_keys"):
            found[f"key {UUID(bytes=uuid)}"] = key.decode()
        return found


def main(folder: str, rounds: int, seed: int) -> None:
    loop = Loop(folder, seed)
    for number in range(rounds):
        loop.round(number)
    print(json.dumps(loop.count))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
