"""Scenes that need a process of their own: ``python -m tests.directory.scenes NAME FOLDER``."""

from __future__ import annotations

import os
import resource
import select
import sqlite3
import sys

from argon2.profiles import CHEAPEST

from connectd.directory import Database, DirectoryError


def full(path: str) -> None:
    """Add accounts until no file may grow any more, then make room and go on."""
    with Database.open(path, parameters=CHEAPEST) as database:
        database.accounts.add("before", "x", by="scene")
        limit = os.path.getsize(f"{path}-wal") + 400_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        added = 0
        try:
            for added in range(1000):
                database.accounts.add(f"account{added}", "x", by="scene")
        except DirectoryError as error:
            print(type(error).__name__, error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(added)
        database.accounts.add("after", "x", by="scene")


def lock(path: str) -> None:
    """Keep the database for itself until the standard input ends."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    sys.stdin.read()


def add_slowly(path: str) -> None:
    """Add accounts until the standard input ends; says which."""
    with Database.open(path, parameters=CHEAPEST) as database:
        for number in range(10_000):
            database.accounts.add(f"account{number}", "x", by="scene")
            print(f"account{number}", flush=True)
            if select.select([0], [], [], 0.001)[0]:
                return


if __name__ == "__main__":
    {"full": full, "lock": lock, "add_slowly": add_slowly}[sys.argv[1]](sys.argv[2])
