"""What a Prometheus server may ask: counters read when it asks, and two histograms kept as things happen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import connectd
from connectd.ops.snapshot import directory_state

if TYPE_CHECKING:
    from connectd.admission import Admission
    from connectd.directory.service import DirectoryService
    from connectd.events import Events
    from connectd.interfaces import IListenerService
    from connectd.sessions import SessionRegistry

CONTENT_TYPE = CONTENT_TYPE_LATEST

HANDSHAKE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds from accept to the accepted session: from a loopback exchange to the deadline of COM-1."""

LATENESS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds by which the reactor is late: from a quiet process to one in trouble."""


class Metrics:
    """The daemon's metrics, in a registry of their own. Labels are protocols, listeners and outcomes only (COM-9).

    :param listeners: gives the listeners at the time of asking.
    :param events: whose counters are read (COM-7).
    :param sessions: who is in.
    :param admission: how many connections are open.
    :param lost_events: gives the number of events that could not be written.
    :param directory: accounts and bans, where there is a directory.
    """

    def __init__(
        self,
        *,
        listeners: Callable[[], Iterable[IListenerService]],
        events: Events,
        sessions: SessionRegistry,
        admission: Admission,
        lost_events: Callable[[], int] = lambda: 0,
        directory: DirectoryService | None = None,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(_Counters(listeners, events, sessions, admission, lost_events))
        if directory is not None:
            self.registry.register(_DirectoryState(directory))
        handshakes = Histogram(
            "connectd_handshake_seconds",
            "Time from accept to the accepted session.",
            ["protocol"],
            buckets=HANDSHAKE_BUCKETS,
            registry=self.registry,
        )
        lateness = Histogram(
            "connectd_reactor_lateness_seconds",
            "How much later than planned the reactor calls, measured 20 times a second.",
            buckets=LATENESS_BUCKETS,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._handshakes = handshakes
        self._children: dict[str, Callable[[float], None]] = {}
        self.lateness: Callable[[float], None] = lateness.observe
        """Takes one measurement of how late the reactor is, in seconds."""

    def handshake(self, protocol: str, seconds: float) -> None:
        """Take the time from accept to acceptance of one session."""
        observe = self._children.get(protocol)
        if observe is None:
            observe = self._children[protocol] = self._handshakes.labels(protocol).observe
        # The wall clock may have been set back meanwhile.
        observe(max(0.0, seconds))

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class _Counters(Collector):
    """Reads the plain counters of the daemon when it is scraped, so that counting costs nothing more."""

    def __init__(
        self,
        listeners: Callable[[], Iterable[IListenerService]],
        events: Events,
        sessions: SessionRegistry,
        admission: Admission,
        lost_events: Callable[[], int],
    ) -> None:
        self._listeners = listeners
        self._events = events
        self._sessions = sessions
        self._admission = admission
        self._lost_events = lost_events

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("connectd", "The version that runs.", {"version": connectd.__version__})
        listeners = list(self._listeners())
        protocols = sorted({listener.protocol for listener in listeners} | set(self._events.accepted))
        accepted = CounterMetricFamily("connectd_sessions_accepted", "Accepted sessions.", labels=["protocol"])
        sessions = GaugeMetricFamily("connectd_sessions", "Accepted sessions that are in.", labels=["protocol"])
        for protocol in protocols:
            accepted.add_metric([protocol], self._events.accepted[protocol])
            sessions.add_metric([protocol], self._sessions.count(protocol))
        yield accepted
        yield sessions
        ended = CounterMetricFamily(
            "connectd_connections_ended",
            "Connections by the one outcome that each has.",
            labels=["protocol", "outcome"],
        )
        for (protocol, outcome), number in sorted(self._events.outcomes.items()):
            ended.add_metric([protocol, outcome], number)
        yield ended
        connections = GaugeMetricFamily("connectd_connections", "Open connections.", labels=["protocol", "listener"])
        for listener in listeners:
            connections.add_metric([listener.protocol, listener.title], len(list(listener.connections)))
        yield connections
        yield GaugeMetricFamily(
            "connectd_admitted_connections",
            "Connections that count against max_connections.",
            value=self._admission.open_connections,
        )
        yield CounterMetricFamily(
            "connectd_events_lost", "Events that could not be written to the event file.", value=self._lost_events()
        )


class _DirectoryState(Collector):
    """How the directory is."""

    def __init__(self, directory: DirectoryService) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        state = directory_state(self._directory)
        yield GaugeMetricFamily(
            "connectd_directory_ready", "Whether accounts and bans can be looked up.", value=float(state["ready"])
        )
        entries = GaugeMetricFamily("connectd_directory_entries", "What the directory holds.", labels=["kind"])
        for kind in ("accounts", "bans", "keys"):
            if state[kind] is not None:
                entries.add_metric([kind], state[kind])
        yield entries
