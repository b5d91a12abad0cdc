"""A clock, listeners without sockets, and the connections between them and their clients."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from socket import AF_INET
from typing import Any, Literal, Protocol, TypeVar

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet import error
from twisted.internet.defer import Deferred, execute, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer

from connectd import registry
from connectd.admission import Admission, AdmissionLimits
from connectd.events import Events
from connectd.interfaces import IHandler
from connectd.net.bound import BoundSocket
from connectd.net.connection import CLOSE_TIMEOUT, Driver, Peer
from connectd.net.datagram_port import BatchedProtocol
from connectd.net.endpoint import EndpointDescription, parse_endpoint
from connectd.net.listener import Context, Listener
from connectd.net.proxy import encode_v2
from connectd.net.quic.client import ClientEndpoint, QuicClientEndpoint
from connectd.net.quic.parameters import ClientParameters
from connectd.settings import ListenerSettings
from connectd.testing.datagrams import DatagramNetwork, MemoryPort
from connectd.testing.peers import RawPeer, RawServer
from connectd.testing.recording import Recorder
from connectd.testing.segments import Segment, whole
from connectd.testing.slow import SlowChecker, SlowHandler, delay_decisions
from connectd.testing.wire import Wire

ListenerT = TypeVar("ListenerT", bound=Listener)

START = 1_700_000_000.0
"""Where a network's clock begins: Unix seconds."""

ROUNDS = 10_000
"""Looks at all wires after which a conversation counts as endless."""


class Accepting(Protocol):
    """What connections can be made to: a listener, or a :class:`RawServer`."""

    def accept(self, peer: Peer) -> Any: ...


def proxy_header(source: tuple[str, int], destination: tuple[str, int], version: int = 2) -> bytes:
    """What a proxy says before it passes a connection on (COM-5).

    :param source: numeric address and port of the client.
    :param destination: where the client connected to; with one IPv6 address, an IPv4 one is mapped.
    :param version: 1 or 2.
    """
    if version == 2:
        return encode_v2(source, destination)
    hosts = [source[0], destination[0]]
    family = "TCP4"
    if any(":" in host for host in hosts):
        family = "TCP6"
        hosts = [host if ":" in host else f"::ffff:{host}" for host in hosts]
    return f"PROXY {family} {' '.join(hosts)} {source[1]} {destination[1]}\r\n".encode()


class Face(BoundSocket):
    """What a listener takes for its bound socket."""

    __slots__ = ("factory",)

    def __init__(self, description: EndpointDescription) -> None:
        self.description = description
        self.family = AF_INET
        self.inherited = False
        self.address = f"{description.interface or Network.server_host}:{description.port}"
        self.factory: IProtocolFactory | None = None

    def adopt_stream(self, reactor: Any, factory: IProtocolFactory) -> IListeningPort:
        self.factory = factory
        port: Any = _Port(self)
        return port  # type: ignore[no-any-return]  # all that a listener wants of it

    def keep_alive(self) -> None:
        pass

    def close(self) -> None:
        self.factory = None


class DatagramFace(Face):
    """What a listener takes for its bound UDP socket."""

    __slots__ = ("datagrams", "place")

    def __init__(self, description: EndpointDescription, datagrams: DatagramNetwork, port: int) -> None:
        super().__init__(description)
        self.datagrams = datagrams
        self.place = (description.interface or Network.server_host, description.port or port)
        host, number = self.place
        self.address = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"

    def adopt_batches(self, reactor: Any, protocol: BatchedProtocol) -> IListeningPort:
        port: Any = MemoryPort(self.datagrams, self.place, protocol)
        return port  # type: ignore[no-any-return]  # all that a listener wants of it


class _Port:
    """A face that is listened on."""

    def __init__(self, face: Face) -> None:
        self._face = face

    def stopListening(self) -> None:
        self._face.close()


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Leads to a listener of a :class:`Network`."""

    def __init__(self, network: Network, join: Callable[[Callable[[Any], Any]], Any]) -> None:
        self._network = network
        self._join = join

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Connect; a peer that the listener turns away is refused."""
        network = self._network
        if network.latency:
            return deferLater(network.clock, 2 * network.latency, self._join, protocolFactory.buildProtocol)
        return execute(self._join, protocolFactory.buildProtocol)


class Network:
    """A clock, and the connections that live by it.

    :param limits: for admission; unless given, nobody is limited for coming often or twice.
    :param handlers: handlers by name, for ``handler`` in a listener's settings; others are looked for among plugins.
    :param context: whatever else a :class:`connectd.net.listener.Context` can be given.
    :ivar clock: the Twisted ``Clock`` that everything here lives by.
    :ivar segment: how what is written is cut into what is read.
    :ivar latency: seconds from writing to reading. A connection takes two of them to stand.
    :ivar unreachable: True while no connection can be made.
    :ivar prepare: called with each new :class:`Wire` before a byte flows.
    :ivar wires: the connections that stand, in the order in which they were made.
    :ivar datagrams: what carries datagrams: lost, doubled and late as you set it.
    :ivar recorder: what happened.
    :ivar context: what the listeners share.
    """

    server_host = "198.51.100.1"

    def __init__(
        self, limits: AdmissionLimits | None = None, *, handlers: Mapping[str, IHandler] | None = None, **context: Any
    ) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.segment: Segment = whole
        self.latency = 0.0
        self.unreachable = False
        self.prepare: Callable[[Wire], None] = lambda wire: None
        self.wires: list[Wire] = []
        self.ports = count(40_000)
        self.datagrams = DatagramNetwork(self.clock)
        self.recorder = Recorder()
        self.handlers = dict(handlers or {})
        self._listeners: list[Listener] = []
        limits = AdmissionLimits(connection_rate=0, connections_per_source=0) if limits is None else limits
        rooms: dict[str, Any] = {
            "reactor": self.clock,
            "admission": Admission(limits, clock=self.clock),
            "events": Events(self.clock.seconds, [self.recorder]),
            "find_handler": self._find_handler,
            "bind": self._bind,
            "random": random.Random(0).randbytes,  # noqa: S311 - every run is the same
        }
        self.context = Context(**{**rooms, **context})

    # Listeners

    def listener(self, kind: Callable[[Any, Context], ListenerT], settings: ListenerSettings) -> ListenerT:
        """A running listener without sockets.

        :param kind: a protocol's listener class.
        :param settings: its settings. Whatever ``listen`` says, nothing is bound.
        """
        listener = kind(settings, self.context)
        listener.startService()
        self._listeners.append(listener)
        return listener

    def raw_server(self) -> RawServer:
        """A server that says the bytes that a test gives it, to test clients with."""
        return RawServer(self)

    def _find_handler(self, name: str) -> IHandler:
        handler = self.handlers.get(name)
        return registry.find_handler(name, self.clock) if handler is None else handler

    def _bind(self, place: str, kind: Literal["stream", "datagram"]) -> BoundSocket:
        description = parse_endpoint(place)
        return Face(description) if kind == "stream" else DatagramFace(description, self.datagrams, next(self.ports))

    # Connections

    def endpoint(
        self, listener: Accepting, host: str = "192.0.2.1", *, proxy: str = "", proxy_version: int = 2
    ) -> MemoryEndpoint:
        """A client endpoint that leads to a listener.

        :param host: where the client is, as the listener sees it.
        :param proxy: where a proxy is that the connection comes through: its PROXY header goes first (COM-5).
        :param proxy_version: 1 or 2.
        """
        return MemoryEndpoint(self, partial(self._join, listener, host, proxy, proxy_version))

    def quic_endpoint(
        self,
        listener: Listener,
        parameters: ClientParameters,
        host: str = "192.0.2.1",
        *,
        timeout: float = 15.0,
        server_host: str | None = None,
    ) -> QuicClientEndpoint:
        """A client endpoint that leads to a listener over QUIC.

        :param host: where the client is, as the listener sees it.
        :param timeout: seconds for the handshake.
        :param server_host: what the server's certificate is to say, where that is not its address.
        """
        (face,) = listener.faces
        assert isinstance(face, DatagramFace)

        def open_socket(address: Any, endpoint: ClientEndpoint) -> None:
            if self.unreachable:
                raise OSError("the network is unreachable")
            MemoryPort(self.datagrams, (host, next(self.ports)), endpoint)

        if server_host is not None:
            parameters = attrs.evolve(parameters, server_name=server_host)
        return QuicClientEndpoint(self.clock, *face.place, parameters, timeout, open_socket)

    def raw(
        self,
        listener: Accepting,
        host: str = "192.0.2.1",
        *,
        proxy: str = "",
        proxy_version: int = 2,
        window: int | None = None,
    ) -> RawPeer:
        """Connect a peer that says the bytes that a test gives it.

        One that the listener turns away has ``lost`` set and received nothing. For the parameters see
        :meth:`endpoint`.

        :param window: how many bytes it reads; None for all that come.
        :raises twisted.internet.error.ConnectError: where nothing listens.
        """
        peer = RawPeer(self)

        def build(address: Any) -> RawPeer:
            return peer

        try:
            self._join(listener, host, proxy, proxy_version, build, window)
        except _TurnedAway:
            peer.finished, peer.lost = True, error.ConnectionDone()
        self.settle()
        return peer

    def join(self, client: Any, server: Any, host: str = "192.0.2.1") -> Wire:
        """Connect two protocols."""
        wire = Wire(self, (host, next(self.ports)), (self.server_host, 1))
        self._stand(wire, client, server)
        return wire

    def _join(
        self,
        listener: Accepting,
        host: str,
        proxy: str,
        proxy_version: int,
        build: Callable[[Any], Any],
        window: int | None = None,
    ) -> Any:
        if self.unreachable:
            raise error.ConnectError()
        port = next(self.ports)
        wire = Wire(self, (proxy or host, port), (self.server_host, 1))
        server = _accept(listener, wire)
        client = build(wire.server.address)
        wire.client.window = window
        if proxy:
            wire.client.write(proxy_header((host, port), (self.server_host, 1), proxy_version))
        self._stand(wire, client, server)
        return client

    def _stand(self, wire: Wire, client: Any, server: Any) -> None:
        wire.client.protocol, wire.server.protocol = client, server
        self.wires.append(wire)
        self.prepare(wire)
        server.makeConnection(wire.server)
        client.makeConnection(wire.client)

    # Time

    def settle(self) -> None:
        """Let bytes flow until nobody has more to say, without letting time pass.

        :raises AssertionError: where that never happens.
        """
        self.clock.advance(0)
        for _ in range(ROUNDS):
            if not sum(wire.deliver() for wire in self.wires) + self.datagrams.deliver():
                break
            self.clock.advance(0)
        else:
            raise AssertionError(f"the two sides have been talking for {ROUNDS} rounds, and no time has passed")
        self.wires = [wire for wire in self.wires if wire.client.connected or wire.server.connected]

    def advance(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass, and bytes flow all the while.

        :param step: seconds between two looks at the wires, at most.
        """
        self.settle()
        end = self.clock.seconds() + seconds
        while (left := end - self.clock.seconds()) > 1e-6:
            self.clock.advance(min(step, left, self._next_arrival()))
            self.settle()

    def _next_arrival(self) -> float:
        """Seconds until something arrives."""
        now = self.clock.seconds()
        ends = [end for wire in self.wires for end in (wire.client, wire.server)] if self.latency else []
        times = [when for end in ends if (when := end.next_arrival(now)) is not None]
        if self.datagrams.ports:
            # Who speaks over datagrams counts in milliseconds: nobody's timer is passed over.
            times += [call.getTime() for call in self.clock.getDelayedCalls()]
            if (arrival := self.datagrams.next_arrival()) is not None:
                times.append(arrival)
        return max(min(times, default=float("inf")) - now, 1e-6)

    # What takes its time

    def later(self, seconds: float, result: Any = None) -> Deferred[Any]:
        """A Deferred that fires after so many seconds of the network's clock.

        :param result: what it fires with; an exception makes it fail.
        """

        def fire() -> Any:
            if isinstance(result, BaseException):
                raise result
            return result

        return deferLater(self.clock, seconds, fire)

    def slow_handler(self, seconds: float, handler: IHandler) -> IHandler:
        """A handler that takes so long to open each session."""
        return SlowHandler(self.clock, seconds, handler)

    def slow_checker(self, seconds: float, checker: ICredentialsChecker) -> ICredentialsChecker:
        """A credentials checker that takes so long for each answer."""
        return SlowChecker(self.clock, seconds, checker)

    def slow_decisions(self, seconds: float, driver: Driver) -> None:
        """Let every decision of a listener, or of a client's dialogue, wait so long before it is looked at."""
        delay_decisions(driver, self.clock, seconds)

    # The end

    def stop(self) -> None:
        """Stop the listeners, and check that nothing is left of them. Stop your clients first.

        :raises AssertionError: says what is left: connections, sessions, places taken in admission, timers; or which
            connection had no outcome, two of them, or one that does not fit (COM-7).
        """
        self.settle()
        self.unreachable = True
        for listener in self._listeners:
            maybeDeferred(listener.stopService)
        self.advance(self.context.drain_timeout + 2 * CLOSE_TIMEOUT)
        for wire in list(self.wires):
            wire.cut()
        self.settle()
        problems = self.recorder.problems()
        for listener in self._listeners:
            left = {
                "connections": len(listener.connections),
                "connections before their PROXY header": len(listener.arriving),
                "sessions": listener.session_count,
            }
            problems.extend(f"{listener.title}: {number} {what} left" for what, number in left.items() if number)
        if self.context.sessions or self.context.admission.open_connections:
            problems.append(
                f"{len(self.context.sessions)} sessions are registered, "
                f"{self.context.admission.open_connections} connections counted"
            )
        problems.extend(f"a timer is left: {call}" for call in self.clock.getDelayedCalls())
        if problems:
            raise AssertionError("; ".join(problems))


class _TurnedAway(error.ConnectionRefusedError):
    """The listener closed the connection without a byte."""


def _accept(listener: Accepting, wire: Wire) -> Any:
    """The server's protocol for a connection that comes in."""
    address = wire.client.address
    face = next((face for face in getattr(listener, "faces", ()) if isinstance(face, Face)), None)
    if face is None:
        server = listener.accept(Peer.from_address(address))
    elif face.factory is None:
        raise error.ConnectionRefusedError()
    else:
        server = face.factory.buildProtocol(address)
    if server is None:
        raise _TurnedAway()
    return server
