"""Kill a daemon while clients register with it, again and again, and see that no acknowledged registration is lost.

``python -m tests.protocols.chatr.crash_loop FOLDER ROUNDS SEED`` forks the daemons that are killed, since a fork takes a
few milliseconds and a new interpreter half a second. Each is the real one: ``twistd -n connectd`` with a configuration in
FOLDER, whose registrations come over HTTP. Prints what it did as JSON; the first loss ends it with a traceback.

What got its 200 must be there in the next round, by asking the next daemon; what was refused or never sent must not be.
"""

from __future__ import annotations

import base64
import http.client
import importlib
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from typing import NoReturn
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectd.net.certificates import write_certificate

SOON = 0.15
"""Seconds after the first request when a daemon is killed at the latest."""

CLIENTS = 3
LIMIT = 30.0

CONFIGURATION = """
[daemon]
status = ""
admin = ""
[admission]
connection_rate = 0
connections_per_source = 0
[[listener]]
protocol = "chatr"
certificate = "chatr.pem"
listen = "unix:chatr.sock"
udp = ""
rest = "unix:rest.sock"
registration_rate = 0
"""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the socket of the REST face."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=LIMIT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(LIMIT)
        self.sock.connect(self._path)


class Key:
    """A client's key, and bodies that it has signed."""

    def __init__(self) -> None:
        self._private = rsa.generate_private_key(65537, 2048)
        public = self._private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.text = base64.b64encode(public).decode()
        self.body = json.dumps({"key": self.text}).encode()

    def sign(self, body: bytes) -> str:
        """The header's value for a body."""
        return base64.b64encode(self._private.sign(body, padding.PKCS1v15(), hashes.SHA256())).decode()


class Loop:
    """All rounds on one folder."""

    def __init__(self, folder: str, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.keys = [Key(), Key()]
        # Each key's own registration, and its successor's body signed by the one on record.
        self.first = self.keys[0].sign(self.keys[0].body)
        self.second = self.keys[0].sign(self.keys[1].body)
        self.known: dict[UUID, int] = {}
        """Which key each UUID has; what was under way is not among them until it was looked up."""
        self.under_way: dict[UUID, set[int | None]] = {}
        self.count = {"rounds": 0, "acknowledged": 0, "under_way": 0, "under_way_kept": 0}
        self.lock = threading.Lock()

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def serve(self) -> int:
        """A daemon in a child; its process id."""
        process = os.fork()
        if process:
            return process
        try:
            self._become_the_daemon()
        finally:
            os._exit(3)

    def _become_the_daemon(self) -> NoReturn:
        os.chdir(self.folder)
        log = os.open("daemon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["twistd", "-n", "--pidfile=", "connectd", "--config", "connectd.toml"]
        from twisted.scripts.twistd import run

        run()
        os._exit(0)

    def call(self, method: str, uuid: UUID, body: bytes | None = None, signature: str = "") -> tuple[int, bytes]:
        """One request; raises where the daemon is gone."""
        connection = UnixConnection(self.path("rest.sock"))
        try:
            headers = {"Chatr-PublicKey-Signature": signature} if signature else {}
            connection.request(method, f"/api/1/clients/{uuid}", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait(self, process: int) -> None:
        """Until the daemon answers."""
        end = time.monotonic() + LIMIT
        while True:
            try:
                self.call("GET", UUID(int=0))
            except (OSError, http.client.HTTPException):
                if os.waitpid(process, os.WNOHANG)[0] or time.monotonic() > end:
                    with open(self.path("daemon.log")) as log:
                        raise AssertionError(f"the daemon does not answer:\n{log.read()[-4000:]}") from None
                time.sleep(0.005)
            else:
                return

    def registered(self, uuid: UUID) -> int | None:
        """Which key a UUID has, as the daemon says."""
        status, body = self.call("GET", uuid)
        if status == 404:
            return None
        if status != 200:
            raise AssertionError(f"{uuid}: {status} {body!r}")
        text = json.loads(body)["publicKey"]
        return next(number for number, key in enumerate(self.keys) if key.text == text)

    def register_for_ever(self, seed: int) -> None:
        """A client's thread: it registers, and replaces some of its keys, until nobody answers."""
        choose = random.Random(seed)
        mine: list[UUID] = []
        while True:
            replace = bool(mine) and choose.random() < 0.3
            uuid = mine.pop() if replace else UUID(bytes=choose.randbytes(16))
            key = 1 if replace else 0
            with self.lock:
                self.under_way[uuid] = {0, 1} if replace else {None, 0}
            try:
                signature = self.second if replace else self.first
                status, body = self.call("POST" if replace else "PUT", uuid, self.keys[key].body, signature)
            except (OSError, http.client.HTTPException):
                return
            if status != 200:
                raise AssertionError(f"{uuid}: {status} {body!r}")
            with self.lock:
                del self.under_way[uuid]
                self.known[uuid] = key
                self.count["acknowledged"] += 1
            if not replace:
                mine.append(uuid)

    def round(self, recent: dict[UUID, int]) -> dict[UUID, int]:
        """One daemon's life: what it was left with is looked up, more is registered, it is killed.

        :param recent: what was acknowledged in the round before.
        :return: the same of this one.
        """
        process = self.serve()
        try:
            self.wait(process)
            self.verify(recent)
            before = set(self.known)
            clients = [threading.Thread(target=self.watched, args=(self.random.random(),)) for _ in range(CLIENTS)]
            self.failures: list[BaseException] = []
            for client in clients:
                client.start()
            time.sleep(self.random.random() * SOON)
        finally:
            os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            raise AssertionError(f"the daemon ended by itself: {status}")
        for client in clients:
            client.join()
        if self.failures:
            raise self.failures[0]
        self.count["rounds"] += 1
        return {uuid: key for uuid, key in self.known.items() if uuid not in before}

    def watched(self, seed: float) -> None:
        try:
            self.register_for_ever(int(seed * 2**53))
        except BaseException as error:
            self.failures.append(error)

    def verify(self, known: dict[UUID, int]) -> None:
        """Ask the daemon for these, and for what was under way."""
        for uuid, key in known.items():
            if uuid not in self.under_way and (found := self.registered(uuid)) != key:
                raise AssertionError(f"lost: {uuid} has key {found}, acknowledged was {key}")
        for uuid, allowed in self.under_way.items():
            found = self.registered(uuid)
            if found not in allowed:
                raise AssertionError(f"{uuid} has key {found}, of {allowed}")
            self.count["under_way"] += 1
            if found is not None:
                self.known[uuid] = found
                self.count["under_way_kept"] += found == max(one for one in allowed if one is not None)
        self.under_way.clear()


def main(folder: str, rounds: int, seed: int) -> None:
    loop = Loop(folder, seed)
    write_certificate(loop.path("chatr.pem"))
    with open(loop.path("connectd.toml"), "w") as file:
        file.write(CONFIGURATION)
    # What every daemon imports, once for all of them; the reactor is each one's own.
    for name in ("connectd.ops.daemon", "connectd.protocols.chatr.server", "twisted.scripts.twistd"):
        importlib.import_module(name)
    if "twisted.internet.reactor" in sys.modules:
        raise AssertionError("a reactor cannot be shared by forks")
    recent: dict[UUID, int] = {}
    for _ in range(rounds):
        recent = loop.round(recent)
    process = loop.serve()
    loop.wait(process)
    loop.verify(loop.known)  # the whole of it, at the end
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    print(json.dumps({**loop.count, "registered": len(loop.known)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
