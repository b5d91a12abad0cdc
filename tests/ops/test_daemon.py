"""The daemon as one service."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Application, IServiceCollection, Service
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from connectd import registry
from connectd.admission import AdmissionLimits
from connectd.config import Configuration, DaemonSettings, ListenerConfiguration
from connectd.interfaces import IEventSink
from connectd.net.inherited import InheritedSockets
from connectd.ops import daemon as daemon_module
from connectd.ops.daemon import Daemon, StartError, State
from connectd.ops.logs import JSONObserver
from connectd.ops.ownership import Owner
from connectd.protocols.lekt.settings import LektSettings
from connectd.sessions import HOLD, Hold
from connectd.settings import ListenerSettings
from tests.ops.composed import LOOPBACK, composed, folder, until
from tests.ops.recording import record_log

HELLO = b"LEKTH\0\0\0" + struct.pack("!I", 0)
ACCEPTED = b"LEKTA\0\0\0" + b"LEKTT\0\0\0" + struct.pack("!I", 0)


def port_of(daemon: Daemon, index: int = 0) -> int:
    """Where a listener really listens."""
    port: int = daemon.listeners[index].faces[0].port
    return port


class ComposeTests(SynchronousTestCase):
    """Everything is had before anything runs."""

    def problems(self, listeners: list[ListenerSettings] | None = None, **daemon: Any) -> list[str]:
        """Why a daemon cannot start."""
        settings = DaemonSettings(**{"state_dir": "", "admin": "", "status": "", **daemon})
        with self.assertRaises(StartError) as caught:
            Daemon.from_settings(listeners or [], daemon=settings, reactor=Clock())
        for problem in caught.exception.problems:
            self.assertNotIn("\n", problem)
        self.assertEqual(str(caught.exception), "\n".join(caught.exception.problems))
        problems: list[str] = caught.exception.problems
        return problems

    def test_bound_but_quiet(self) -> None:
        """Sockets listen already; nothing else happens before the start, not even a timer."""
        path = folder(self)
        daemon = composed(self, 2, status=LOOPBACK, admin=f"unix:{path}/admin", events=f"{path}/events")
        self.assertEqual(daemon.context.reactor.getDelayedCalls(), [])
        self.assertNotEqual(port_of(daemon, 0), port_of(daemon, 1))
        for index in range(2):
            socket.create_connection(("127.0.0.1", port_of(daemon, index))).close()
        self.assertIs(daemon.state, State.STARTING)
        self.assertFalse(daemon.ready)

    def test_every_problem_is_told(self) -> None:
        """One line for each thing that cannot be had."""
        path = folder(self)
        (path / "file").touch()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            problems = self.problems(
                [LektSettings(listen=f"tcp:{port}:interface=127.0.0.1"), LektSettings(listen=LOOPBACK, handler="hodl")],
                state_dir=str(path / "file" / "state"),
                admin=f"unix:{path}/none/admin.sock",
                status=f"tcp:{port}:interface=127.0.0.1",
                events=str(path / "none" / "events"),
                event_sinks=("missing",),
            )
        expected = [
            f"{path}/file/state: Not a directory",
            f"events: {path}/none/events: No such file or directory",
            'event_sinks: there is no event sink "missing"',
            f"admin: cannot listen on unix:{path}/none/admin.sock: the directory {path}/none does not exist",
            f"status: cannot listen on tcp:{port}:interface=127.0.0.1: port {port} is already in use",
            f"cannot listen on tcp:{port}:interface=127.0.0.1: port {port} is already in use",
            'there is no handler "hodl"',
        ]
        self.assertEqual(len(problems), len(expected), problems)
        for problem, beginning in zip(problems, expected, strict=True):
            self.assertTrue(problem.startswith(beginning), problem)
        self.assertIn('did you mean "hold"', problems[-1])

    def test_nothing_stays_bound(self) -> None:
        """What was had before the first problem is given back."""
        path = folder(self)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.problems(
            [LektSettings(listen=f"tcp:{port}:interface=127.0.0.1"), LektSettings(listen="nonsense")],
            admin=f"unix:{path}/admin.sock",
            events=f"{path}/events",
        )
        socket.create_server(("127.0.0.1", port)).close()
        self.assertEqual([entry.name for entry in path.iterdir()], ["events"])

    def test_nothing_stays_bound_after_a_fault(self) -> None:
        """A mistake of ours is raised as it is, and leaves no socket behind either."""
        path = folder(self)

        def fail(*arguments: object) -> None:
            raise ZeroDivisionError

        self.patch(daemon_module, "LagProbe", fail)
        with self.assertRaises(ZeroDivisionError):
            composed(self, admin=f"unix:{path}/admin.sock")
        self.assertEqual(list(path.iterdir()), [])

    def test_admin_is_for_nobody_else(self) -> None:
        """The admin API asks nobody who they are, so it is only where the system does."""
        with self.assertRaises(ValueError):
            composed(self, admin=LOOPBACK)
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "admin"}
        with socket.create_server(("127.0.0.1", 0)) as listener:
            inherited = InheritedSockets.from_environment(environment, os.getpid(), first=os.dup(listener.fileno()))
            self.patch(InheritedSockets, "of_process", lambda *environment: inherited)
            [problem] = self.problems(admin="systemd:name=admin")
        self.assertIn("ListenStream=PATH", problem)

    def test_permissions_of_the_admin_socket(self) -> None:
        path = folder(self)
        composed(self, admin=f"unix:{path}/admin.sock")
        self.assertEqual(stat.S_IMODE((path / "admin.sock").stat().st_mode), 0o600)

    def test_state_directory(self) -> None:
        """It is made, for its owner only; one that is there keeps its permissions."""
        path = folder(self) / "deep" / "state"
        composed(self, state_dir=str(path), admin=f"unix:{path}/admin.sock")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700)
        path.chmod(0o750)
        composed(self, state_dir=str(path))
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o750)

    def test_owner(self) -> None:
        """What the daemon makes belongs to the user that it becomes."""
        path = folder(self)
        given: list[str] = []
        self.patch(Owner, "give", lambda owner, name: given.append(os.path.relpath(name, path)))
        place = f"unix:{path}/lekt.sock"
        settings = DaemonSettings(
            state_dir=str(path), admin=f"unix:{path}/admin.sock", status=LOOPBACK, events=f"{path}/events"
        )
        configuration = Configuration(
            settings, AdmissionLimits(), (ListenerConfiguration("lekt", LektSettings(listen=place)),)
        )
        self.addCleanup(Daemon(configuration, reactor=Clock(), owner=Owner(12, 34)).let_go)
        self.assertEqual(given, [".", "events", "admin.sock", "lekt.sock"])

    def test_relative_unix_path(self) -> None:
        """A daemon changes its directory; what it bound can be removed all the same."""
        path = folder(self)
        previous = os.getcwd()
        self.addCleanup(os.chdir, previous)
        os.chdir(path)
        daemon = composed(self, admin="unix:admin.sock")
        os.chdir("/")
        daemon.let_go()
        self.assertEqual(list(path.iterdir()), [])

    def test_handlers_by_name(self) -> None:
        own = Hold()
        listeners = [LektSettings(listen=LOOPBACK, handler="own"), LektSettings(listen=LOOPBACK)]
        daemon = Daemon.from_settings(listeners, handlers={"own": own}, reactor=Clock())
        self.addCleanup(daemon.let_go)
        self.assertIs(getattr(daemon.listeners[0], "handler", None), own)
        self.assertIs(getattr(daemon.listeners[1], "handler", None), HOLD)

    def test_settings_of_no_protocol(self) -> None:
        [problem] = self.problems([ListenerSettings(listen=LOOPBACK)])
        self.assertIn("ListenerSettings", problem)

    def test_from_settings_opens_nothing_else(self) -> None:
        previous = os.getcwd()
        self.addCleanup(os.chdir, previous)
        path = folder(self)
        os.chdir(path)
        daemon = Daemon.from_settings([LektSettings(listen=LOOPBACK)], reactor=Clock())
        self.addCleanup(daemon.let_go)
        self.assertEqual(list(path.iterdir()), [])
        self.assertEqual(daemon.context.drain_timeout, 10.0)

    def test_event_sinks(self) -> None:
        """COM-7: events go to the log or the file, and to the plugins that are named."""
        seen: list[Any] = []

        @implementer(IEventSink)
        class Sink:
            def event(self, mapping: Any) -> None:
                seen.append(mapping)

        self.patch(registry, "event_sink", lambda name: Sink())
        logged = record_log(self)
        daemon = composed(self, event_sinks=("one", "two"))
        daemon.context.events.emit("tried", {})
        self.assertEqual([mapping["event"] for mapping in seen], ["tried", "tried"])
        self.assertIn("tried", [formatEvent(event) for event in logged])

    def test_no_event_stream(self) -> None:
        """An empty text for events sends them nowhere but to plugins; they are counted all the same."""
        daemon = composed(self, events="")
        self.assertEqual(daemon.context.events.sinks, [])

    def test_unused_inherited_sockets(self) -> None:
        """A socket that systemd passed and nobody uses is told, and children do not take it for theirs."""
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "spare"}
        with socket.create_server(("127.0.0.1", 0)) as listener:
            inherited = InheritedSockets.from_environment(environment, os.getpid(), first=listener.fileno())
            self.patch(InheritedSockets, "of_process", lambda *environment: inherited)
            logged = record_log(self)
            composed(self)
        self.assertIn("'spare'", formatEvent(logged[0]))
        self.assertEqual(environment, {})


class ApplicationTests(SynchronousTestCase):
    """Put into an application, it brings its log observer."""

    def test_observer(self) -> None:
        daemon = composed(self)
        daemon.log_observer = JSONObserver(lambda line: None)
        application = Application("connectd")
        daemon.setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), daemon.log_observer)
        self.assertEqual(list(IServiceCollection(application)), [daemon])

    def test_no_observer(self) -> None:
        daemon = composed(self)
        application = Application("connectd")
        daemon.setServiceParent(application)
        self.assertIsNone(application.getComponent(ILogObserver, None))

    def test_within_another_service(self) -> None:
        daemon = composed(self)
        daemon.log_observer = JSONObserver(lambda line: None)
        outer = IServiceCollection(Application("outer"))
        daemon.setServiceParent(outer)
        self.assertIs(daemon.parent, outer)


class Client(Protocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.received = b""
        self.gone = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone = True


@attrs.define(eq=False)
class SlowListener(Service):
    """A listener that takes its time to stop."""

    title: str = "slow"
    protocol: str = "slow"
    faces: list[Any] = attrs.field(factory=list)
    connections: list[Any] = attrs.field(factory=list)
    stopping: Deferred[None] | None = None
    parent: Any = None
    running: int = 0
    session_count: int = 0

    @property
    def accepting(self) -> bool:
        return bool(self.running)

    name: Any = None

    def stopService(self) -> Deferred[None]:
        self.running = 0
        self.stopping = Deferred()
        return self.stopping


class RunningTests(TestCase):
    """A daemon on real sockets."""

    def run_daemon(self, listeners: int = 1, **daemon: Any) -> Daemon:
        """A daemon that accepts, until the end of the test."""
        settings = DaemonSettings(**{"state_dir": "", "admin": "", "status": "", **daemon})
        made = Daemon.from_settings([LektSettings(listen=LOOPBACK)] * listeners, daemon=settings)
        made.startService()
        self.addCleanup(lambda: made.running and made.stopService())
        return made

    def connect(self, daemon: Daemon) -> Deferred[Any]:
        """A client of the first listener."""
        endpoint = HostnameEndpoint(reactor, b"127.0.0.1", port_of(daemon))
        connecting: Deferred[Any] = connectProtocol(endpoint, Client())
        return connecting

    @inlineCallbacks
    def test_session_and_shutdown(self) -> Any:
        """COM-7, COM-8: a stopping daemon tells its peers, waits for them, and every outcome is in the file."""
        path = folder(self)
        daemon = self.run_daemon(events=f"{path}/events")
        self.assertTrue(daemon.ready)
        client = yield self.connect(daemon)
        client.transport.write(HELLO)
        yield until(lambda: client.received == ACCEPTED, reactor)
        stopping = daemon.stopService()
        yield until(lambda: client.gone, reactor)
        yield stopping
        self.assertTrue(client.received.startswith(ACCEPTED + b"LEKTR\0\0\0Server is shutting down\0"))
        events = [json.loads(line) for line in Path(path, "events").read_text().splitlines()]
        self.assertEqual([event["event"] for event in events], ["accepted", "ended"])
        self.assertEqual(events[1]["outcome"], "shutdown")
        self.assertIs(daemon.state, State.STOPPED)

    @inlineCallbacks
    def test_nothing_is_left(self) -> Any:
        """After the stop nothing listens, and no path of a socket remains."""
        path = folder(self)
        daemon = self.run_daemon(2, status=LOOPBACK, admin=f"unix:{path}/admin.sock")
        ports = [port_of(daemon, 0), port_of(daemon, 1)]
        status = daemon.getServiceNamed("status").face.port
        yield daemon.stopService()
        for port in [*ports, status]:
            with socket.socket() as client:
                self.assertNotEqual(client.connect_ex(("127.0.0.1", port)), 0)
        self.assertEqual(list(path.iterdir()), [])

    @inlineCallbacks
    def test_windows_stay_open_while_draining(self) -> Any:
        """COM-8: all listeners stop at once; until they have, /readyz says what is going on and /status who is left."""
        path = folder(self)
        daemon = self.run_daemon(admin=f"unix:{path}/admin.sock")
        slow = [SlowListener(), SlowListener()]
        for listener in slow:
            listener.setServiceParent(daemon)
            daemon.listeners.append(listener)  # type: ignore[arg-type]  # it is one as far as this goes
        stopping = daemon.stopService()
        self.assertTrue(all(listener.stopping is not None for listener in slow))
        client = yield connectProtocol(UNIXClientEndpoint(reactor, f"{path}/admin.sock"), Client())
        client.transport.write(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        yield until(lambda: b'"state": "draining"' in client.received, reactor)
        self.assertFalse(daemon.ready)
        for listener in slow:
            assert listener.stopping is not None
            self.assertNoResult(stopping)
            listener.stopping.callback(None)
        yield stopping
        yield until(lambda: client.gone, reactor)

    @inlineCallbacks
    def test_listener_that_fails_to_stop(self) -> Any:
        """It is logged and holds up nobody."""
        daemon = self.run_daemon()
        bad = SlowListener()
        bad.setServiceParent(daemon)
        daemon.listeners.append(bad)  # type: ignore[arg-type]  # it is one as far as this goes
        stopping = daemon.stopService()
        assert bad.stopping is not None
        bad.stopping.errback(ZeroDivisionError())
        yield stopping
        self.assertIs(daemon.state, State.STOPPED)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    @inlineCallbacks
    def test_handshake_is_measured(self) -> Any:
        daemon = self.run_daemon()
        client = yield self.connect(daemon)
        client.transport.write(HELLO)
        yield until(lambda: client.received == ACCEPTED, reactor)
        self.assertIn(b'connectd_handshake_seconds_count{protocol="lekt"} 1.0', daemon.metrics.exposition())
        client.transport.loseConnection()
        yield until(lambda: client.gone and not daemon.context.admission.open_connections, reactor)

    @inlineCallbacks
    def test_lateness_is_measured(self) -> Any:
        daemon = self.run_daemon()
        yield until(lambda: b"connectd_reactor_lateness_seconds_count 2.0" in daemon.metrics.exposition(), reactor)

    @inlineCallbacks
    def test_stopped_without_a_start(self) -> Any:
        daemon = Daemon.from_settings([LektSettings(listen=LOOPBACK)])
        port = port_of(daemon)
        yield daemon.stopService()
        with socket.socket() as client:
            self.assertNotEqual(client.connect_ex(("127.0.0.1", port)), 0)
