"""What Prometheus gets."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from connectd.sansio import Outcome
from tests.ops.composed import add_session, composed


class MetricsTests(SynchronousTestCase):
    """Counters are those of the daemon at the time of asking."""

    def setUp(self) -> None:
        self.daemon = composed(self)

    def sample(self, name: str, **labels: str) -> float | None:
        """A value as a Prometheus server would read it."""
        text = self.daemon.metrics.exposition().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None

    def test_accepted_and_outcomes(self) -> None:
        """COM-7: sessions and outcomes are counted per protocol."""
        self.assertEqual(self.sample("connectd_sessions_accepted_total", protocol="lekt"), 0)
        self.assertIsNone(self.sample("connectd_connections_ended_total", protocol="lekt", outcome="left"))
        events = self.daemon.context.events
        events.session_accepted("lekt", {"protocol": "lekt", "peer": "x", "connection": 1}, {})
        for _ in range(2):
            events.connection_ended("lekt", {"protocol": "lekt", "peer": "x"}, Outcome.LEFT, "", None)
        self.assertEqual(self.sample("connectd_sessions_accepted_total", protocol="lekt"), 1)
        self.assertEqual(self.sample("connectd_connections_ended_total", protocol="lekt", outcome="left"), 2)

    def test_protocol_whose_listener_is_gone(self) -> None:
        self.daemon.context.events.session_accepted("old", {"protocol": "old", "peer": "x", "connection": 1}, {})
        self.assertEqual(self.sample("connectd_sessions_accepted_total", protocol="old"), 1)

    def test_sessions(self) -> None:
        add_session(self.daemon, 1)
        self.assertEqual(self.sample("connectd_sessions", protocol="lekt"), 1)

    def test_connections(self) -> None:
        [listener] = self.daemon.listeners
        self.assertEqual(self.sample("connectd_connections", protocol="lekt", listener=listener.title), 0)
        self.daemon.context.admission.admit("192.0.2.1", 0.0)
        self.assertEqual(self.sample("connectd_admitted_connections"), 1)

    def test_handshakes(self) -> None:
        """What listeners report, in buckets; the wall clock set back makes no negative time."""
        for seconds in (0.002, 0.3, -5.0):
            self.daemon.context.handshakes("lekt", seconds)
        self.assertEqual(self.sample("connectd_handshake_seconds_count", protocol="lekt"), 3)
        self.assertEqual(self.sample("connectd_handshake_seconds_bucket", protocol="lekt", le="0.0025"), 2)
        self.assertEqual(self.sample("connectd_handshake_seconds_sum", protocol="lekt"), 0.302)

    def test_lateness(self) -> None:
        self.daemon.metrics.lateness(0.02)
        self.assertEqual(self.sample("connectd_reactor_lateness_seconds_bucket", le="0.025"), 1)
        self.assertEqual(self.sample("connectd_reactor_lateness_seconds_bucket", le="0.01"), 0)

    def test_process(self) -> None:
        self.assertIsNotNone(self.sample("process_resident_memory_bytes"))
        self.assertIsNotNone(self.sample("process_open_fds"))
        self.assertEqual(self.sample("connectd_events_lost_total"), 0)

    def test_registries_are_apart(self) -> None:
        """Two daemons in one process do not count for each other."""
        composed(self).context.handshakes("lekt", 1.0)
        self.assertIsNone(self.sample("connectd_handshake_seconds_count", protocol="lekt"))

    def test_nothing_of_a_peer(self) -> None:
        """COM-9: neither accounts nor addresses nor reasons become labels."""
        add_session(self.daemon, 1, identity={"name": "SECRETNAME"})
        events = self.daemon.context.events
        stamp = {"protocol": "lekt", "peer": "SECRETPEER", "connection": 1}
        events.session_accepted("lekt", stamp, {"name": "SECRETNAME"})
        events.connection_ended("lekt", stamp, Outcome.REFUSED, "SECRETREASON", None)
        self.assertNotIn(b"SECRET", self.daemon.metrics.exposition())
