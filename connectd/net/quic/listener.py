"""A listener whose sessions are QUIC connections: what it needs beyond what every listener does."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Final, Literal

from aioquic.quic.configuration import QuicConfiguration
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from connectd.net.bound import BoundSocket
from connectd.net.connection import Connection, Peer
from connectd.net.listener import Context, Listener
from connectd.net.quic.ending import CERTIFICATE_REQUIRED, Ending
from connectd.net.quic.identity import Identity
from connectd.net.quic.parameters import Handshake, ServerParameters, server_configuration
from connectd.net.quic.server import ServerEndpoint
from connectd.net.quic.session import Session
from connectd.net.quic.stream import udp_address
from connectd.net.quic_private import Bounds
from connectd.quic_settings import QuicListenerSettings
from connectd.sansio import Machine, Outcome
from connectd.settings import ListenerSettings

log = Logger()

FIRST_STREAM: Final = 0
"""The first bidirectional stream that a client opens."""

VALIDATION_TIMEOUT: Final = 10.0
"""Seconds in which a newcomer has to show that it receives what is sent to its address. After them it is forgotten
without a word: what it would be told could be for somebody else."""


class Arrival:
    """A peer whose QUIC handshake is under way: it has an outcome, and no protocol yet.

    :param listener: where it arrived.
    :param peer: where it is.
    :param opened: when its first packet came.
    """

    __slots__ = ("_certificate", "_deadline", "_entry", "_listener", "_moved", "opened", "peer", "session")

    def __init__(self, listener: QuicListener, session: Session, peer: Peer, opened: float) -> None:
        self._listener = listener
        self.session = session
        self.peer = peer
        self.opened = opened
        self._moved = False
        self._certificate = listener.certificate
        listener.arriving.add(self)
        timeout = listener.settings.handshake_timeout
        own = listener.parameters.handshake_timeout
        self._deadline = opened + (timeout if own is None else min(own, timeout))
        self._entry = listener.deadlines.schedule(self, min(opened + VALIDATION_TIMEOUT, self._deadline))

    def handshake_completed(self, session: Session, alpn: str | None) -> None:
        """TLS is done: the protocol begins (:class:`~connectd.net.quic.session.Owner`)."""
        listener = self._listener
        certificate = session.quic.peer_certificate
        if certificate is None and listener.parameters.client_certificate == "required":
            session.close(CERTIFICATE_REQUIRED, "a client certificate is required", transport=True)
            self._turn_away(Outcome.REFUSED, "it showed no client certificate, and one is required")
            return
        session.handshake = Handshake(
            peer=self.peer,
            alpn=alpn or "",
            peer_certificate=certificate,
            certificate=self._certificate,
            version=session.quic.version,
        )
        self._finish()
        session.owner = listener
        listener.begin(session, self.opened)
        if self._moved:
            listener.session_moved(session)

    def session_ended(self, session: Session, ending: Ending) -> None:
        """It is over before it began."""
        outcome = Outcome.ABORTED if ending.clean else ending.outcome(False)
        self._turn_away(outcome, f"QUIC handshake: {ending.reason}")

    def session_moved(self, session: Session) -> None:
        """Its address changed; whether it may be there is asked once it has a protocol to be told in."""
        self._moved = True

    def deadline_passed(self, now: float) -> float | None:
        """The sweep found it due (COM-1)."""
        if self.session.validated and now < self._deadline:
            return self._deadline
        if self.session.validated:
            self.session.close()
        else:
            self.session.drop()
        self._turn_away(Outcome.TIMEOUT, "the QUIC handshake took too long")
        return None

    def close(self, outcome: Outcome, reason: str) -> None:
        """End it (COM-8)."""
        self.session.close()
        self._turn_away(outcome, reason)

    def _turn_away(self, outcome: Outcome, reason: str) -> None:
        listener = self._listener
        if self in listener.arriving:
            self._finish()
            listener.context.admission.release(self.peer.host)
            listener.turned_away(self.peer, outcome, reason)

    def _finish(self) -> None:
        self._listener.arriving.discard(self)
        self._listener.deadlines.cancel(self._entry)


class QuicListener(Listener):
    """The server side of a protocol that lives on one stream of a QUIC connection. A wing's ``server.py`` inherits.

    Its handshake counts as part of the protocol's own: admission comes before anything (COM-4), one deadline covers
    both (COM-1), and each connection has one outcome, whichever of the two it ends in (COM-7).

    :param settings: the wing's settings.
    :param context: the daemon's shared rooms.
    """

    socket_kind: ClassVar[Literal["stream", "datagram"]] = "datagram"
    settings: QuicListenerSettings

    def __init__(self, settings: QuicListenerSettings, context: Context) -> None:
        super().__init__(settings, context)
        self.parameters = self.quic_parameters()
        self._endpoints: list[ServerEndpoint] = []
        self._configuration: tuple[Identity, QuicConfiguration, Bounds] | None = None
        self._accepting = False

    # What a wing gives

    @abc.abstractmethod
    def quic_parameters(self) -> ServerParameters:
        """What QUIC is to do, from the settings. Asked for at the start and when the settings have changed."""

    @abc.abstractmethod
    def make_stream_machine(self, handshake: Handshake, now: float) -> Machine:
        """The server machine for a new connection, once its QUIC handshake is done.

        :param now: when its first packet came: the deadline counts from there (COM-1).
        """

    def make_machine(self, peer: Peer, now: float) -> Machine:
        raise RuntimeError("a QUIC connection has a machine once its handshake is done: make_stream_machine")

    # The way in (connectd.net.quic.server.Gate)

    @property
    def accepting(self) -> bool:
        return self._accepting

    @property
    def retry_threshold(self) -> int:
        """From how many unvalidated connections on newcomers are told to come back."""
        return self.settings.retry_threshold

    def configure(self) -> tuple[QuicConfiguration, Bounds, bool]:
        """For a new connection: with the certificate of now."""
        parameters, settings = self.parameters, self.settings
        identity = parameters.identity()
        if self._configuration is None or self._configuration[0] is not identity:
            configuration = server_configuration(
                parameters, identity, settings.idle_timeout, settings.max_datagram_size
            )
            bounds = Bounds(
                settings.receive_window,
                settings.send_window,
                parameters.bidirectional_streams,
                parameters.unidirectional_streams,
            )
            self._configuration = identity, configuration, bounds
        return (*self._configuration[1:], parameters.client_certificate != "none")

    def release_peer(self, peer: Peer) -> None:
        """What came was no connection: it has no outcome either."""
        self.context.admission.release(peer.host)

    def arrived(self, session: Session, peer: Peer, now: float) -> Arrival:
        """A peer was let in and has begun its handshake."""
        return Arrival(self, session, peer, now)

    @property
    def certificate(self) -> bytes | None:
        """The certificate (DER) of the newest connection."""
        return None if self._configuration is None else self._configuration[0].certificate

    def begin(self, session: Session, opened: float) -> None:
        """A handshake is done: the protocol takes over.

        :param opened: when its first packet came.
        """
        handshake = session.handshake
        assert handshake is not None
        peer = handshake.peer
        try:
            machine = self.make_stream_machine(handshake, opened)
        except BaseException:
            self.context.admission.release(peer.host)
            self.turned_away(peer, Outcome.REFUSED, "Internal error")
            raise
        connection = Connection(next(self.context.identifiers), peer, machine, self, opened)
        self.connections.add(connection)
        transport = session.stream(FIRST_STREAM, self.settings.receive_window)
        transport.protocol = connection
        connection.makeConnection(transport)

    # What becomes of a connection (connectd.net.quic.session.Owner)

    def handshake_completed(self, session: Session, alpn: str | None) -> None:
        """A handshake is done once."""

    def session_ended(self, session: Session, ending: Ending) -> None:
        """Its connection is told."""

    def session_moved(self, session: Session) -> None:
        """The peer is somewhere else now: another port is nothing, another host has to be let in (COM-4)."""
        peer = Peer.from_address(udp_address(session.address))
        for stream in session.streams:
            connection = stream.protocol
            if isinstance(connection, Connection) and connection.peer.host != peer.host:
                refusal = self.context.admission.admit(peer.host, self.clock.seconds())
                if refusal is not None:
                    established = connection.machine.established
                    connection.close(Outcome.KICKED if established else refusal.outcome, refusal.reason)
                    return
                self.context.admission.release(connection.peer.host)
                connection.peer = peer

    # The service

    def adopt(self, face: BoundSocket) -> IListeningPort:
        self._accepting = True
        endpoint = ServerEndpoint(self.clock, self)
        self._endpoints.append(endpoint)
        return face.adopt_batches(self.context.reactor, endpoint)

    def stop_accepting(self) -> Deferred[None]:
        """Let nobody new in. The sockets stay until the last connection is gone: they carry them all."""
        self._accepting = False
        return succeed(None)

    def drain(self, limit: float) -> Deferred[None]:
        return super().drain(limit).addCallback(lambda result: self._close_sockets())

    def _close_sockets(self) -> Deferred[None]:
        for endpoint in self._endpoints:
            endpoint.flush()
        self._endpoints.clear()
        ports, self._ports = self._ports, []
        stopped = [maybeDeferred(port.stopListening) for port in ports]
        for face in self.faces:
            face.close()
        done: Deferred[Any] = DeferredList(stopped)
        return done.addCallback(lambda results: None)

    def reconfigure(self, settings: ListenerSettings) -> bool:
        if not super().reconfigure(settings):
            return False
        self.parameters = self.quic_parameters()
        self._configuration = None
        return True
