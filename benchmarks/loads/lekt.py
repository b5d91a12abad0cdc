"""LEKT clients: they join with a Direct TCP port, and send heartbeats."""

from __future__ import annotations

import struct

from benchmarks.harness.clients import Clients, Step
from benchmarks.harness.control import Commands

HELLO = b"LEKTH\0\0\0" + struct.pack(">II", 1, 1)
RESPONSE = b"LEKTT\0\0\0" + struct.pack(">II", 1, 4000)
HEARTBEAT = b"LEKTH\0\0\0" + struct.pack(">q", 1)

ACCEPT_SIZE, REQUEST_SIZE, UPDATE_SIZE = 8, 12, 20
ENTRY_SIZE = 16
"""Bytes of a listed client with a Direct TCP port."""

JOIN = (Step(HELLO, ACCEPT_SIZE + REQUEST_SIZE), Step(RESPONSE, REQUEST_SIZE))


def answer_is_whole(data: bytearray) -> bool:
    """Whether all updates of a heartbeat's answer are there; lists here stay below 65,536 clients."""
    offset = 0
    while len(data) - offset >= UPDATE_SIZE:
        kind, count = data[offset + 16], int.from_bytes(data[offset + 17 : offset + 20], "big")
        offset += UPDATE_SIZE + count * (ENTRY_SIZE if kind == ord("A") else 4)
        if kind == ord("A"):
            return len(data) >= offset
    return False


JOIN_AND_LISTEN = (*JOIN, Step(HEARTBEAT, answer_is_whole))
IDLE_HEARTBEAT = Step(HEARTBEAT, UPDATE_SIZE)
"""Nothing has changed since the last one."""


def load(port: int) -> Commands:
    """Give the commands."""
    clients = Clients(port)
    return {
        "exchange": lambda count: clients.exchange(JOIN, count),
        "hold": lambda count: clients.hold(JOIN, count),
        "hold_and_listen": lambda count: clients.hold(JOIN_AND_LISTEN, count),
        "changes": lambda: clients.repeat(Step(HEARTBEAT, answer_is_whole)),
        "heartbeats": lambda times: clients.repeat(IDLE_HEARTBEAT, times),
        "leave": clients.leave,
    }
