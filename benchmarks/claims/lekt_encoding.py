"""How often a change is encoded (LEKT-16). Counted, not timed: in this process, without sockets."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from benchmarks.harness.benchmark import Benchmark, Sample
from benchmarks.harness.sources import source
from benchmarks.loads.lekt import ENTRY_SIZE, HEARTBEAT, HELLO, RESPONSE, UPDATE_SIZE
from connectd.protocols.lekt import machine as server_machine
from connectd.protocols.lekt import packets
from connectd.protocols.lekt.machine import ServerMachine
from connectd.protocols.lekt.packets import Entry
from connectd.protocols.lekt.presence import Presence
from connectd.protocols.lekt.settings import LektSettings

MANY, FEW = 1000, 1


@contextmanager
def _counting() -> Iterator[list[int]]:
    """Count how often an entry is encoded, wherever that is asked for."""
    count = [0]
    encode_entry, encode = packets.encode_entry, Entry.encode

    def counted(*arguments: Any) -> bytes:
        count[0] += 1
        return encode_entry(*arguments)

    def counted_method(entry: Entry) -> bytes:
        count[0] += 1
        return encode(entry)

    with mock.patch.object(server_machine, "encode_entry", counted), mock.patch.object(Entry, "encode", counted_method):
        yield count


def _encodings(receivers: int) -> Sample:
    """One client joins while so many others are there, and they all hear of it."""
    presence = Presence(90.0)
    settings = LektSettings()
    indices = itertools.count()

    def join() -> ServerMachine:
        machine = ServerMachine(settings, presence, now=0.0)
        machine.receive_data(HELLO, 0.0)
        machine.accept(socket.inet_aton(source(next(indices))), 0.0)
        machine.receive_data(RESPONSE, 0.0)
        machine.data_to_send()
        return machine

    machines = [join() for _ in range(receivers)]
    for machine in machines:
        machine.receive_data(HEARTBEAT, 1.0)
        machine.data_to_send()
    with _counting() as count:
        join()
        for machine in machines:
            machine.receive_data(HEARTBEAT, 2.0)
            answer = machine.data_to_send()
            if len(answer) != UPDATE_SIZE + ENTRY_SIZE:
                raise AssertionError(f"a receiver heard {answer!r}")
    return Sample(count[0])


BENCHMARKS = [
    Benchmark(
        name="lekt-encode-once",
        claim=f"a change is encoded once, not once for each of {MANY:,} receivers",
        unit="encodings",
        subject=lambda: _encodings(MANY),
        baseline=lambda: _encodings(FEW),
        baseline_name=f"with {FEW} receiver",
        most=1.0,
        most_value=1,
        exact=True,
    )
]
