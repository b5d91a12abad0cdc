"""The daemon as one Twisted service: every listener, who may come in, what happened, and the windows to look in."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import IServiceCollection, MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

import connectd
from connectd import registry
from connectd.admission import Admission, AdmissionLimits
from connectd.config import Configuration, DaemonSettings, ListenerConfiguration
from connectd.config.daemon import LOG
from connectd.credentials import CredentialsError
from connectd.directory.errors import DirectoryError
from connectd.events import Events
from connectd.interfaces import IHandler, IListenerService
from connectd.net.bound import BindError, BoundSocket
from connectd.net.certificates import CertificateError
from connectd.net.endpoint import EndpointError, parse_endpoint
from connectd.net.inherited import InheritedSockets
from connectd.net.listener import Context
from connectd.net.sockets import bind
from connectd.net.web import Routes, SiteService
from connectd.ops.admin import admin_routes
from connectd.ops.directory import make_directory, needed_schemes, prepare_directory
from connectd.ops.directory_changes import DirectoryChanges
from connectd.ops.event_log import EventFile, EventLines
from connectd.ops.lag import LagProbe
from connectd.ops.metrics import Metrics
from connectd.ops.ownership import Owner
from connectd.ops.snapshot import directory_state
from connectd.ops.status import status_routes
from connectd.settings import ListenerSettings

if TYPE_CHECKING:
    from twisted.cred.checkers import ICredentialsChecker

    from connectd.directory.service import DirectoryService
    from connectd.directory.settings import DirectorySettings

log = Logger()

RETRY = 1.0
"""Seconds after which a directory that could not be read is tried again."""

STATE_MODE = 0o700
"""Permissions of a state directory that had to be made."""


class State(enum.Enum):
    """What the daemon is about."""

    STARTING = "starting"
    """Bound, but not yet accepting: the directory is being read."""
    READY = "ready"
    """All listeners accept."""
    DRAINING = "draining"
    """Peers are being told to go (COM-8)."""
    STOPPED = "stopped"


class StartError(Exception):
    """The daemon cannot start, for reasons that a person can remove.

    :param problems: each of them in one line.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class Daemon(MultiService):
    """All of it. Making one binds every socket and opens every file, so that what can fail fails here, in
    ``makeService``, before a fork and a change of user; it starts nothing.

    :param configuration: what to run; its paths are absolute.
    :param reactor: Twisted's own unless given.
    :param handlers: handlers by name, for ``handler = …``, besides those of plugins.
    :param owner: who the process will be (``twistd --uid``), and is therefore to own what it makes.
    :param checkers: twisted.cred checkers that know the accounts instead of the directory, for all listeners whose
        settings name none.
    :raises StartError: with one problem for each thing that cannot be had; nothing stays bound then.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        reactor: Any = None,
        handlers: Mapping[str, IHandler] | None = None,
        owner: Owner | None = None,
        checkers: Sequence[ICredentialsChecker] = (),
    ) -> None:
        super().__init__()
        if reactor is None:
            from twisted.internet import reactor
        settings = configuration.daemon
        self.settings = settings
        self.state = State.STARTING
        self.started = 0.0
        """When it was started, Unix seconds."""
        self.log_observer: Any = None
        """What the application it is put into shall log with; None leaves that to the runner."""
        self.listeners: list[IListenerService] = []
        self._handlers = dict(handlers or {})
        self._owner = owner
        self._problems: list[str] = []
        self._bound: list[BoundSocket] = []
        self._event_file: EventFile | None = None
        self._schemes = needed_schemes(configuration.listeners)
        self.directory: DirectoryService | None = None
        """Accounts and bans; None where there is no directory."""
        self._opening: Deferred[None] | None = None
        self.changes: DirectoryChanges | None = None
        """Brings what changes in the directory to those who are in."""
        if configuration.directory is not None:
            # First of all services, so that it is the last one to stop.
            self.directory = make_directory(configuration.directory, self._schemes, reactor)
            self.directory.setServiceParent(self)
        directory = self.directory
        bans = None if directory is None else directory.match_address
        self.context = Context(
            reactor=reactor,
            admission=Admission(configuration.admission, clock=reactor, bans=bans),
            events=Events(reactor.seconds),
            find_handler=self._find_handler,
            bind=self._bind,
            drain_timeout=settings.drain_timeout,
            directory=directory,
            checkers=checkers,
        )
        self.metrics = Metrics(
            listeners=lambda: self.listeners,
            events=self.context.events,
            sessions=self.context.sessions,
            admission=self.context.admission,
            lost_events=self.lost_events,
            directory=directory,
        )
        self.context.handshakes = self.metrics.handshake
        self.admin_routes: Routes = admin_routes(self)
        """What the admin socket answers; rooms may add to it."""
        self.status_routes: Routes = status_routes(self)
        """What the status site answers; rooms may add to it."""
        try:
            self._compose(configuration)
        except BaseException:
            self.let_go()
            raise
        if self._problems:
            self.let_go()
            raise StartError(self._problems)

    @classmethod
    def from_settings(
        cls,
        listeners: Iterable[ListenerSettings],
        *,
        daemon: DaemonSettings | None = None,
        admission: AdmissionLimits | None = None,
        handlers: Mapping[str, IHandler] | None = None,
        directory: DirectorySettings | None = None,
        checkers: Sequence[ICredentialsChecker] = (),
        reactor: Any = None,
    ) -> Daemon:
        """Compose a daemon in Python, as a ``.tac`` file does.

        :param listeners: one settings object for each listener; its class tells the protocol.
        :param daemon: what the ``[daemon]`` table says otherwise; without it there is no status page, no admin
            socket and no state directory.
        :param admission: what the ``[admission]`` table says otherwise.
        :param handlers: handlers by name, for the ``handler`` of a listener.
        :param directory: where accounts and bans are; without it there are none.
        :param checkers: twisted.cred checkers that know the accounts instead of the directory, for all listeners whose
            settings name none.
        :raises StartError: where something cannot be had.
        """
        try:
            configured = tuple(ListenerConfiguration(_protocol_of(settings), settings) for settings in listeners)
        except registry.RegistryError as error:
            raise StartError([str(error)]) from error
        configuration = Configuration(
            daemon or DaemonSettings(state_dir="", admin="", status=""),
            admission or AdmissionLimits(),
            configured,
            directory,
        )
        return cls(configuration, reactor=reactor, handlers=handlers, checkers=checkers)

    # Composing

    def _compose(self, configuration: Configuration) -> None:
        settings, reactor = self.settings, self.context.reactor
        if settings.state_dir:
            self._attempt(lambda: self._prepare_state(os.path.abspath(settings.state_dir)))
        self._add_directory(configuration.directory)
        self._add_sinks(settings)
        if settings.admin:
            self._add_window(settings.admin, self.admin_routes, "admin")
        if settings.status:
            self._add_window(settings.status, self.status_routes, "status")
        LagProbe(reactor, self.metrics.lateness).setServiceParent(self)
        for listener in configuration.listeners:
            self._attempt(partial(self._add_listener, listener))
        self._attempt(self._note_unused)

    def _attempt(self, step: Callable[[], None], prefix: str = "") -> None:
        """Do a step of composing; what a person can mend is noted, and the next step is tried all the same."""
        try:
            step()
        except (
            BindError,
            CertificateError,
            CredentialsError,
            DirectoryError,
            EndpointError,
            registry.RegistryError,
        ) as error:
            self._problems.append(f"{prefix}{error}")
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            self._problems.append(f"{prefix}{place}{error.strerror or error}")

    def _prepare_state(self, path: str) -> None:
        if not os.path.isdir(path):
            os.makedirs(path, STATE_MODE)
        self._give(path)

    def _add_directory(self, settings: DirectorySettings | None) -> None:
        if settings is None or self.directory is None:
            return
        self._attempt(lambda: prepare_directory(settings, self._schemes, self._owner), "directory: ")
        self.changes = DirectoryChanges(self.directory, self.context, lambda: self.listeners, settings.poll_interval)
        self.changes.setServiceParent(self)

    def _add_sinks(self, settings: DaemonSettings) -> None:
        if settings.events == LOG:
            self.context.events.sinks.append(EventLines())
        elif settings.events:
            self._attempt(lambda: self._open_event_file(settings.events), "events: ")
        for name in settings.event_sinks:
            self._attempt(partial(self._add_sink_plugin, name), "event_sinks: ")

    def _add_sink_plugin(self, name: str) -> None:
        self.context.events.sinks.append(registry.event_sink(name))

    def _open_event_file(self, path: str) -> None:
        self._event_file = EventFile(
            path, self.context.reactor, size=self.settings.events_file_size, files=self.settings.events_files
        )
        self.context.events.sinks.append(self._event_file)
        self._give(self._event_file.path)

    def _add_window(self, place: str, routes: Routes, name: str) -> None:
        def add() -> None:
            face = self._bind(place, "stream")
            # The admin API asks nobody who they are: it relies on the permissions of the socket's file.
            if name == "admin" and face.port is not None:
                raise BindError(
                    f"{place} is an internet socket, open to everybody (write unix:PATH, or ListenStream=PATH)"
                )
            service = SiteService(face, routes, self.context.reactor)
            service.setName(name)
            service.setServiceParent(self)

        self._attempt(add, f"{name}: ")

    def _add_listener(self, listener: ListenerConfiguration) -> None:
        problems = [f"{listener.protocol}: {problem}" for problem in listener.settings.look()]
        if problems:
            self._problems += problems
            return
        service = registry.protocol(listener.protocol).makeService(listener.settings, self.context)
        self.listeners.append(service)
        service.setServiceParent(self)

    def _bind(self, place: str, kind: Any = None) -> BoundSocket:
        """Bind or inherit a socket; the daemon remembers it, for the case that something else cannot be had."""
        description = parse_endpoint(place)
        if description.kind == "unix":
            # A daemon changes its directory.
            description = attrs.evolve(description, path=os.path.abspath(description.path))
        face = bind(description, kind=kind)
        self._bound.append(face)
        if description.kind == "unix" and not face.inherited:
            self._give(description.path)
        return face

    def _find_handler(self, name: str) -> IHandler:
        handler = self._handlers.get(name)
        return registry.find_handler(name, self.context.reactor) if handler is None else handler

    def _give(self, path: str) -> None:
        if self._owner is not None:
            self._owner.give(path)

    def _note_unused(self) -> None:
        """Sockets that systemd passed and nobody asked for would let their clients wait for ever."""
        inherited = InheritedSockets.of_process()
        if inherited.unused:
            log.warn("sockets passed by systemd that no listener uses: {sockets}", sockets=", ".join(inherited.unused))
        inherited.forget()

    def let_go(self) -> None:
        """Nothing came of it, and it was never started: give back what was had."""
        for face in self._bound:
            face.close()
        if self._event_file is not None:
            self._event_file.close()

    # Telling

    @property
    def ready(self) -> bool:
        """Whether all listeners accept, and the directory can tell whom."""
        return self.obstacle is None

    @property
    def obstacle(self) -> str | None:
        """Why the daemon is not ready, in a few words that anybody may read, or None."""
        if self.state is not State.READY:
            return str(self.state.value)
        if self.directory is not None and not directory_state(self.directory)["ready"]:
            return "the directory cannot be read"
        return None if all(listener.accepting for listener in self.listeners) else "a listener does not accept"

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self.state in (State.DRAINING, State.STOPPED)

    def lost_events(self) -> int:
        """How many events could not be written to the event file."""
        return 0 if self._event_file is None else self._event_file.lost

    # Running

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Belong to an application, and have it log in the configured form."""
        if self.log_observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.log_observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Open the windows and the directory; once that has been read, the doors."""
        self.started = self.context.reactor.seconds()
        Service.startService(self)
        for service in self:
            if service not in self.listeners:
                service.startService()
        if self.directory is None:
            self._open_doors()
        else:
            self._opening = Deferred.fromCoroutine(self._open_doors_in_time())
            self._opening.addErrback(_not_opened)

    async def _open_doors_in_time(self) -> None:
        """Wait until the directory has been read; where it cannot be, it says so in the log."""
        assert self.changes is not None
        while True:
            try:
                # From then on nothing that changes is missed.
                await self.changes.apply()
            except DirectoryError:
                await deferLater(self.context.reactor, RETRY)
            else:
                break
        self._open_doors()

    def _open_doors(self) -> None:
        for listener in self.listeners:
            listener.startService()
        self.state = State.READY
        for service in self:
            if isinstance(service, SiteService):
                log.info("{name} is on {address}", name=service.name, address=service.face.address)
        log.info("connectd {version} is ready", version=connectd.__version__)

    def stopService(self) -> Deferred[Any]:
        """Drain all listeners at once (COM-8), then close the windows; the returned Deferred never fails."""
        Service.stopService(self)
        self.state = State.DRAINING
        if self._opening is not None:
            self._opening.cancel()
        log.info("draining, connections open: {count}", count=self.context.admission.open_connections)
        drained: Deferred[Any] = DeferredList([_stopped(listener) for listener in self.listeners])
        return drained.addCallback(self._close_windows)

    def _close_windows(self, results: Any) -> Deferred[Any]:
        others = [service for service in self if service not in self.listeners]
        closed: Deferred[Any] = DeferredList([_stopped(service) for service in reversed(others)])
        return closed.addCallback(self._stopped)

    def _stopped(self, results: Any) -> None:
        self.state = State.STOPPED
        if self._event_file is not None:
            self._event_file.close()
        log.info("all listeners are stopped")


def _not_opened(failure: Failure) -> None:
    """The listeners were not started: the daemon was stopped before, or something of ours is wrong."""
    if not failure.check(CancelledError):
        log.failure("connectd cannot become ready", failure)


def _stopped(service: Any) -> Deferred[Any]:
    """Stop a service; what goes wrong is logged, for nothing may hold up the others."""
    stopping: Deferred[Any] = maybeDeferred(service.stopService)
    return stopping.addErrback(lambda failure: log.failure("{service} did not stop well", failure, service=service))


def _protocol_of(settings: ListenerSettings) -> str:
    """The name of the protocol whose listeners are told what to do with such settings.

    :raises connectd.registry.RegistryError: where there is none.
    """
    for name, protocol in registry.protocols().items():
        if protocol.settings is type(settings):
            return name
    raise registry.UnknownProtocol(f"no protocol's listeners have settings of the class {type(settings).__name__}")
