"""A Starbound listener with a directory, and what it is compared with."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from argon2.profiles import CHEAPEST
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from benchmarks.harness.control import Commands
from benchmarks.loads.starbound import ACCOUNT, PASSWORD, ROUNDS, SALT
from benchmarks.servers.listener import LISTEN, serve_listener
from connectd.directory import SEALED_PASSWORD, SEALED_SHA256, Database, create_key
from connectd.directory.service import DirectoryService
from connectd.interfaces import IHandler, IReceiver, ISession
from connectd.net.endpoint import parse_endpoint
from connectd.net.forward import Forward
from connectd.net.listener import Listener
from connectd.net.sockets import bind
from connectd.protocols.starbound.frames import Frame
from connectd.protocols.starbound.hashing import legacy_hash
from connectd.protocols.starbound.server import StarboundListener
from connectd.protocols.starbound.settings import StarboundSettings
from connectd.sansio import Outcome
from connectd.sessions import HOLD

BUCKETS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Upper bounds of the tick histogram, milliseconds."""

TICK = 0.001


@implementer(IHandler)
class Echo:
    """Sends every frame back."""

    def wants(self, protocol: str) -> Iterable[str]:
        return ()

    def open(self, session: ISession) -> IReceiver:
        return _Echoing(session)


@implementer(IReceiver)
class _Echoing:
    def __init__(self, session: ISession) -> None:
        self._session = session

    def received(self, message: Frame) -> None:
        self._session.send(message)

    def closed(self, outcome: Outcome) -> None:
        pass


class Ticks:
    """How late the reactor comes to a call that is due each millisecond."""

    def __init__(self, reactor: Any) -> None:
        self.counts: Counter[float] = Counter()
        self.worst = 0.0
        self._due = 0.0
        self._reactor = reactor

    def start(self) -> None:
        """Begin anew."""
        self.counts.clear()
        self.worst = 0.0
        self._due = time.perf_counter() + TICK
        self._reactor.callLater(TICK, self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        late = (now - self._due) * 1e3
        self.counts[next((bound for bound in BUCKETS if late <= bound), float("inf"))] += 1
        self.worst = max(self.worst, late)
        self._due = now + TICK
        self._reactor.callLater(TICK, self._tick)

    def histogram(self) -> dict[str, float]:
        """How many ticks were at most so late, by milliseconds; and the latest."""
        found: dict[str, float] = {f"{bound:g}": self.counts[bound] for bound in BUCKETS}
        return {**found, "more": self.counts[float("inf")], "worst": self.worst}


def serve(reactor: Any, generation: str = "seed", handler: str = "hold", backend: int = 0) -> Commands:
    """Listen.

    :param handler: ``hold``, ``echo``, or ``forward`` to the backend.
    :param backend: its port.
    """
    folder = tempfile.TemporaryDirectory(prefix="connectd-benchmark-")
    path = os.path.join(folder.name, "connectd.db")
    keys = create_key(os.path.join(folder.name, "key"))
    with Database.open(path, keys=keys, parameters=CHEAPEST) as database:
        database.accounts.add(ACCOUNT, PASSWORD, schemes=[SEALED_SHA256, SEALED_PASSWORD], by="benchmark")
    directory = DirectoryService(path, keys=keys, reactor=reactor, parameters=CHEAPEST)
    handlers: dict[str, Any] = {"hold": HOLD, "echo": Echo()}
    if backend:
        handlers["forward"] = Forward(f"tcp:127.0.0.1:{backend}", reactor)
    settings = StarboundSettings(
        listen=LISTEN, generation=generation, handler=handler, rounds=ROUNDS, handshake_timeout=120.0
    )
    directory.startService()

    def make(context: Any) -> Listener:
        return StarboundListener(settings, context)

    _, commands = serve_listener(
        reactor,
        make,
        directory=directory,
        find_handler=handlers.__getitem__,
        # The same challenge for all: the load generator knows the answer.
        random=lambda count: SALT[:count],
    )
    reactor.addSystemEventTrigger("before", "shutdown", directory.stopService)
    reactor.addSystemEventTrigger("after", "shutdown", folder.cleanup)
    ticks = Ticks(reactor)
    return {**commands, "start_ticks": ticks.start, "histogram": ticks.histogram}


def serve_hashing(reactor: Any) -> Commands:
    """No server: the loop of hashes that a login cannot do without, in a process like a server's."""

    def hash_passwords(count: int) -> float:
        began = time.process_time()
        for number in range(count):
            legacy_hash(number.to_bytes(32, "big"), b"Ann" + bytes(32), ROUNDS)
        return time.process_time() - began

    return {"port": lambda: 0, "hash": hash_passwords}


class Answering(Protocol):
    """Answers whatever comes, three times with as many bytes as an OpenStarbound server."""

    answers = (bytes(51), bytes(30), bytes(60))

    def __init__(self) -> None:
        self._turn = 0

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(self.answers[self._turn])
        self._turn += 1


def serve_answers(reactor: Any) -> Commands:
    """The least that a Twisted server can do with three round trips."""
    factory = Factory.forProtocol(Answering)
    factory.noisy = False
    face = bind(parse_endpoint(LISTEN))
    face.adopt_stream(reactor, factory)
    return {"port": lambda: face.port}
