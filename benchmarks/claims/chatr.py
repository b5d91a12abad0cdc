"""What it costs to come to a Chatr server and prove who one is, and to stay there."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from benchmarks.harness.benchmark import Benchmark, Sample
from benchmarks.harness.child import Child, load, server
from benchmarks.harness.cost import cost_of

CONNECTIONS = 1000
IDENTITIES = 1000
SESSIONS = 5000
FEW, MANY = 1000, 100_000
WARM_UP = 200
READY = 120.0


@functools.cache
def _keys(bits: int) -> tuple[str, str]:
    """A private key, PEM, and its public one, hexadecimal DER."""
    private = rsa.generate_private_key(65537, bits)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode(), private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex()


def _wait(listening: Child) -> None:
    """Until the directory is in memory."""
    end = time.monotonic() + READY
    while not listening.call("ready"):
        if time.monotonic() > end:
            raise TimeoutError(f"the directory is not ready after {READY:g} s")
        time.sleep(0.05)


@contextmanager
def _chatr(*, registered: int, identities: int = IDENTITIES, bits: int = 4096) -> Iterator[tuple[Child, Child]]:
    private, public = _keys(bits)
    with server("benchmarks.servers.chatr:serve", key=public, registered=registered) as listening:
        _wait(listening)
        port = listening.call("port")
        with load("benchmarks.loads.chatr:load", port=port, key=private, identities=identities) as clients:
            yield listening, clients


@contextmanager
def _bare() -> Iterator[tuple[Child, Child]]:
    with (
        server("benchmarks.servers.bare_tls:serve") as listening,
        load("benchmarks.loads.chatr:load", port=listening.call("port")) as clients,
    ):
        yield listening, clients


def _connections(listening: Child, clients: Child, label: str) -> Sample:
    """Microseconds of the server's CPU for a connection that comes, proves itself and leaves."""
    clients.call("exchange", count=WARM_UP)
    cost = cost_of(lambda: clients.call("exchange", count=CONNECTIONS), listening)
    notes = {f"{label} per second and core": CONNECTIONS / cost.cpu, f"{label}: server busy, %": 100 * cost.busy}
    return Sample(cost.cpu / CONNECTIONS * 1e6, notes)


def _connects(registered: int) -> Sample:
    with _chatr(registered=registered) as (listening, clients):
        sample = _connections(listening, clients, f"Connects with {registered:,} keys")
        accepted = listening.call("outcomes").get("left", 0)
        if accepted < CONNECTIONS:
            raise ValueError(f"only {accepted} sessions were accepted and left")
        return sample


def _handshakes() -> Sample:
    with _bare() as (listening, clients):
        return _connections(listening, clients, "bare TLS handshakes")


def _memory(listening: Child, clients: Child) -> Sample:
    """Bytes that a connection takes which stays and answers pings."""
    clients.call("exchange", count=WARM_UP)

    def hold() -> None:
        clients.call("hold", count=SESSIONS)
        clients.call("stay", seconds=6.0)  # a Ping and its Pong for everybody

    cost = cost_of(hold, listening, settle=True)
    clients.call("leave")
    return Sample(cost.memory / SESSIONS)


def _idle_sessions() -> Sample:
    with _chatr(registered=SESSIONS + WARM_UP, identities=SESSIONS + WARM_UP, bits=2048) as (listening, clients):
        return _memory(listening, clients)


def _idle_connections() -> Sample:
    with _bare() as (listening, clients):
        return _memory(listening, clients)


BENCHMARKS = [
    Benchmark(
        name="chatr-connect",
        claim="a Connect (TLS 1.3, P-256, RSA-4096, look-up) costs at most 1.6 times a bare Twisted TLS handshake",
        unit="us CPU",
        subject=lambda: _connects(FEW),
        baseline=_handshakes,
        baseline_name="bare TLS handshake, close",
        most=1.6,
    ),
    Benchmark(
        name="chatr-keys",
        claim=f"{MANY:,} registered keys do not slow a Connect",
        unit="us CPU",
        subject=lambda: _connects(MANY),
        baseline=lambda: _connects(FEW),
        baseline_name=f"{FEW:,} keys",
        most=1.05,
    ),
    Benchmark(
        name="chatr-idle-memory",
        claim=f"an idle session takes at most 32 KiB, at {SESSIONS:,} sessions",
        unit="bytes",
        subject=_idle_sessions,
        baseline=_idle_connections,
        baseline_name="bare idle TLS connection",
        most_value=32_768,
    ),
]
