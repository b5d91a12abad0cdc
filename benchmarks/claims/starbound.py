"""What Starbound logins cost, what they do to others, and what passes through after them."""

from __future__ import annotations

import threading
import time
from typing import Any

from benchmarks.harness.benchmark import Benchmark, Sample
from benchmarks.harness.child import Child, ChildError, load, server
from benchmarks.harness.cost import cost_of

SERVER = "benchmarks.servers.starbound:serve"
LOAD = "benchmarks.loads.starbound:load"

LOGINS, OPEN_LOGINS = 200, 1500
SHIP = 200 * 1024
RUSH = 200
SECONDS = 4.0
ECHO_RATE = 200.0
FRAMES = 128_000
PATIENCE = 30.0


def _logins(ship: int) -> Sample:
    """Logins for each second of the server's CPU."""
    with server(SERVER) as listening, load(LOAD, port=listening.call("port")) as clients:
        clients.call("logins", count=30, ship=ship)
        cost = cost_of(lambda: clients.call("logins", count=LOGINS, ship=ship), listening)
        _expect_only(listening, "left")
    return Sample(LOGINS / cost.cpu, {"server busy, %": 100 * cost.busy})


def _hashes() -> Sample:
    """What the same CPU time gives the bare loop."""
    with server("benchmarks.servers.starbound:serve_hashing") as hashing:
        hashing.call("hash", count=30)
        return Sample(LOGINS / hashing.call("hash", count=LOGINS))


def _open_logins() -> Sample:
    with server(SERVER, generation="opensb") as listening, load(LOAD, port=listening.call("port")) as clients:
        clients.call("open_logins", count=200)
        cost = cost_of(lambda: clients.call("open_logins", count=OPEN_LOGINS), listening)
        _expect_only(listening, "left")
    return Sample(cost.cpu / OPEN_LOGINS * 1e6, {"opensb logins per second and core": OPEN_LOGINS / cost.cpu})


def _answers() -> Sample:
    with (
        server("benchmarks.servers.starbound:serve_answers") as listening,
        load(LOAD, port=listening.call("port")) as clients,
    ):
        clients.call("answers", count=200)
        cost = cost_of(lambda: clients.call("answers", count=OPEN_LOGINS), listening)
    return Sample(cost.cpu / OPEN_LOGINS * 1e6)


def _echoes(size: int) -> Sample:
    """The 99th percentile of a session's echoes while others rush in again and again."""
    with (
        server(SERVER, handler="echo") as listening,
        load(LOAD, port=listening.call("port")) as clients,
        load(LOAD, port=listening.call("port")) as player,
    ):
        done: list[Any] = []
        rushing = threading.Thread(target=lambda: done.append(clients.call("rushes", seconds=SECONDS, size=size)))
        if size:
            rushing.start()
        times = sorted(player.call("echoes", seconds=SECONDS, rate=ECHO_RATE))
        if size:
            rushing.join(PATIENCE)
            if not done:
                raise ChildError("the rush did not end")
            _expect_only(listening, "left")
    notes = {"logins in that time": float(done[0])} if size else {}
    return Sample(times[int(len(times) * 0.99)] * 1e3, notes)


def _frames(handler: str) -> Sample:
    """Packets for each second of the server's CPU."""
    with load("benchmarks.loads.starbound:serve_backend") as sink:
        backend = sink.call("port") if handler == "forward" else 0
        with (
            server(SERVER, handler=handler, backend=backend) as listening,
            load(LOAD, port=listening.call("port")) as clients,
        ):
            clients.call("begin_session")
            clients.call("frames", count=FRAMES // 10, echoed=handler == "echo")
            _rest(listening)
            cpu = listening.call("cpu")
            clients.call("frames", count=FRAMES, echoed=handler == "echo")
            _rest(listening)
            cpu = listening.call("cpu") - cpu
    return Sample(FRAMES / cpu)


def _rest(listening: Child) -> None:
    """Wait until the server has nothing to do."""
    before = -1.0
    end = time.monotonic() + PATIENCE
    while (cpu := listening.call("cpu")) - before > 0.005 and time.monotonic() < end:
        before = cpu
        time.sleep(0.1)


def _expect_only(listening: Child, outcome: str) -> None:
    outcomes = listening.call("outcomes")
    if set(outcomes) - {outcome}:
        raise ChildError(f"connections ended otherwise: {outcomes}")


BENCHMARKS = [
    Benchmark(
        name="starbound-login",
        claim="a login with 5000 rounds leaves at least three quarters of a core to the hashing itself",
        unit="a second and core",
        subject=lambda: _logins(0),
        baseline=_hashes,
        baseline_name="bare loop of hashes",
        least=0.75,
    ),
    Benchmark(
        name="starbound-login-ship",
        claim="with a ship of 200 KiB, still 0.65",
        unit="a second and core",
        subject=lambda: _logins(SHIP),
        baseline=_hashes,
        baseline_name="bare loop of hashes",
        least=0.65,
    ),
    Benchmark(
        name="starbound-open-login",
        claim="an OpenStarbound login costs at most 2.5 times a bare Twisted exchange with as many round trips",
        unit="us CPU",
        subject=_open_logins,
        baseline=_answers,
        baseline_name="bare accept, three answers, close",
        most=2.5,
    ),
    Benchmark(
        name="starbound-echo",
        claim=f"while {RUSH} players rush in at once, again and again, another one is answered in 10 ms (p99)",
        unit="ms (p99)",
        subject=lambda: _echoes(RUSH),
        baseline=lambda: _echoes(0),
        baseline_name="without a rush",
        most_value=10.0,
    ),
    Benchmark(
        name="starbound-frames",
        claim="60,000 packets of 1 KiB a second and core pass from a player to a backend",
        unit="a second and core",
        subject=lambda: _frames("forward"),
        baseline=lambda: _frames("echo"),
        baseline_name="sent back by a handler",
        least_value=60_000,
    ),
]
