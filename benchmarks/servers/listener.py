"""What a daemon puts around its listeners, as the shipped configuration has it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any, Literal

from twisted.logger import globalLogPublisher, textFileLogObserver

from benchmarks.harness.control import Commands
from connectd.admission import Admission, AdmissionLimits
from connectd.events import Events
from connectd.interfaces import IEventSink
from connectd.net.listener import Context, Listener
from connectd.ops.event_log import EventFile, EventLines
from connectd.ops.lag import LagProbe
from connectd.ops.metrics import Metrics

LISTEN = "tcp:0:interface=127.0.0.1"

LIMITS = AdmissionLimits()
"""The defaults: each client comes from an address of its own, so none is limited."""


def make_context(reactor: Any, sinks: list[IEventSink], **rooms: Any) -> Context:
    """The rooms that listeners share.

    :param rooms: what else they are to share.
    """
    return Context(
        reactor=reactor,
        admission=Admission(LIMITS, clock=reactor),
        events=Events(reactor.seconds, sinks),
        **rooms,
    )


def serve_listener(
    reactor: Any, make: Callable[[Context], Listener], events: Literal["file", "log"] = "file", **rooms: Any
) -> tuple[Listener, Commands]:
    """Start one listener with a sink for events, metrics and the lag probe.

    :param make: makes the listener; its socket is that of :data:`LISTEN`.
    :param events: where events go: a file of JSON lines, or the log, which is a text file then.
    :return: the listener, and what can be asked: its port, and how many connections and sessions it has.
    """
    directory = tempfile.TemporaryDirectory(prefix="connectd-benchmark-")
    path = os.path.join(directory.name, "events")
    if events == "file":
        file = EventFile(path, reactor)
        reactor.addSystemEventTrigger("after", "shutdown", file.close)
        context = make_context(reactor, [file], **rooms)
    else:
        lines = open(path, "w")  # noqa: SIM115 - for as long as the process runs
        globalLogPublisher.addObserver(textFileLogObserver(lines))
        context = make_context(reactor, [EventLines()], **rooms)
    reactor.addSystemEventTrigger("after", "shutdown", directory.cleanup)
    listener = make(context)
    metrics = Metrics(
        listeners=lambda: [listener],
        events=context.events,
        sessions=context.sessions,
        admission=context.admission,
    )
    context.handshakes = metrics.handshake
    LagProbe(reactor, metrics.lateness).startService()
    listener.startService()

    def outcomes() -> dict[str, int]:
        return {outcome: count for (_, outcome), count in context.events.outcomes.items()}

    return listener, {
        "port": lambda: listener.faces[0].port,
        "connections": lambda: len(listener.connections),
        "sessions": lambda: len(context.sessions),
        "outcomes": outcomes,
    }
