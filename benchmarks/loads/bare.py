"""Clients of the bare server."""

from __future__ import annotations

from benchmarks.harness.clients import Clients, Step
from benchmarks.harness.control import Commands
from benchmarks.servers.bare import REPLY, REQUEST

STEPS = (Step(REQUEST, len(REPLY)),)


def load(port: int) -> Commands:
    """Give the commands."""
    clients = Clients(port)
    return {
        "exchange": lambda count: clients.exchange(STEPS, count),
        "hold": lambda count: clients.hold(STEPS, count),
        "leave": clients.leave,
    }
