"""Chatr's listener: clients prove who they are, and are told where others are who agree to that.

It has three faces: TLS for the clients, REST for their registration, and UDP that tells them their address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast
from uuid import UUID

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IListeningPort

from connectd.credentials import CredentialInterfaces
from connectd.directory.checkers import IKeyProof
from connectd.directory.errors import DirectoryError
from connectd.directory.registered_keys import fingerprint
from connectd.net.authentication import NO_ACCOUNTS, Objection, WrongProof
from connectd.net.bound import BoundSocket
from connectd.net.connection import Connection, Peer, Refused
from connectd.net.deadlines import Entry
from connectd.net.listener import Context, Listener
from connectd.net.tls import ServerTLS
from connectd.protocols.chatr.binding_face import BindingFace
from connectd.protocols.chatr.machine import (
    ALREADY_CONNECTED,
    FAILED_TO_VERIFY,
    Accepted,
    ConnectReceived,
    Denied,
    Requested,
    ServerMachine,
    ShowedLife,
)
from connectd.protocols.chatr.proofs import SignedUUID
from connectd.protocols.chatr.rendezvous import Delivery, Rendezvous
from connectd.protocols.chatr.rest import RegistrationFace, is_loopback
from connectd.protocols.chatr.settings import ChatrSettings
from connectd.sansio import Ended, Established, Outcome
from connectd.settings import ListenerSettings
from connectd.workers.threads import BatchedThread

PROBE_INTERVAL = 15.0
"""Seconds in which a session is probed once at most, whoever comes with its UUID (CH-3)."""


@attrs.define(eq=False)
class Place:
    """What a UUID stands for while its client is connected, or about to be.

    :param connection: the client's.
    :param key: what it proved its UUID with, DER SubjectPublicKeyInfo; None where a foreign checker took its word.
    :param probed: when it was last probed.
    :param probe: fires with whether it is alive, while it is being probed.
    """

    connection: Connection
    key: bytes | None
    probed: float = float("-inf")
    probe: Deferred[bool] | None = None


class ChatrListener(Listener):
    """The Connect server on its three faces.

    :param settings: the listener's.
    :param context: the daemon's shared rooms.
    :raises connectd.net.certificates.CertificateError: where there is no usable certificate.
    """

    protocol = "chatr"
    credential_interfaces: ClassVar[CredentialInterfaces] = (IKeyProof,)
    settings: ChatrSettings

    def __init__(self, settings: ChatrSettings, context: Context) -> None:
        self.tls = ServerTLS(self.protocol, settings.certificate, context.reactor)
        super().__init__(settings, context)
        self.rendezvous = Rendezvous()
        self._verifying = BatchedThread(context.reactor)
        self.places: dict[UUID, Place] = {}
        """Who is connected, or about to be."""
        self._expiry: Entry | None = None
        self.registration: RegistrationFace | None = None
        self.rest_tls: ServerTLS | None = None
        if settings.rest:
            face = context.bind(settings.rest, "stream")
            self.faces.append(face)
            if settings.rest_certificate:
                self.rest_tls = ServerTLS(f"{self.protocol}: rest", settings.rest_certificate, context.reactor)
            plain = self.rest_tls is None and is_loopback(face)
            self.registration = RegistrationFace(self, face, None if plain else self.rest_tls or self.tls)
        self.binding: BindingFace | None = None
        if settings.udp:
            admitted = context.admission.tolerates
            self.binding = BindingFace(context.reactor, context.bind(settings.udp, "datagram"), admitted=admitted)

    # Connections

    def make_machine(self, peer: Peer, now: float) -> ServerMachine:
        return ServerMachine(self.settings, now=now, random=self.context.random)

    def protocol_for(self, connection: Connection) -> Any:
        return self.tls.protect(connection)

    def on_ConnectReceived(self, connection: Connection, event: ConnectReceived) -> None:
        """Find out whether it is who it says, and whether there is a place for it."""
        machine = cast(ServerMachine, connection.machine)
        placing = Deferred.fromCoroutine(self._admit(connection, event))
        connection.decide(placing, lambda result, now: machine.accept(now))

    async def _admit(self, connection: Connection, event: ConnectReceived) -> None:
        proof = SignedUUID(event.uuid, event.signature, self._verifying)
        try:
            await self.login(connection, proof, str(event.uuid))
        except WrongProof:
            raise Refused(FAILED_TO_VERIFY) from None
        try:
            objection = self._objection_to(event.uuid, proof.key)
        except DirectoryError:
            raise Refused(NO_ACCOUNTS) from None
        if objection is not None:
            raise Refused(objection.reason, objection.outcome)
        # Only now, for who has proved nothing learns nothing about who is there (CH-3).
        if not await self._is_free(event.uuid):
            raise Refused(ALREADY_CONNECTED)
        if self.full:
            raise Refused("The server is full", Outcome.LIMITED)
        self.places[event.uuid] = Place(connection, proof.key)

    async def _is_free(self, uuid: UUID) -> bool:
        """Whether nobody is connected with that UUID; who is may have to show that it is alive (CH-3)."""
        place = self.places.get(uuid)
        if place is None:
            return True
        now = self.clock.seconds()
        machine = cast(ServerMachine, place.connection.machine)
        if not machine.established or now < place.probed + PROBE_INTERVAL:
            return False
        place.probed = now
        place.probe = Deferred()
        place.connection.call(machine.probe)
        await place.probe
        return uuid not in self.places

    def on_ShowedLife(self, connection: Connection, event: ShowedLife) -> None:
        """A session that was probed is alive."""
        self._probed(self._place_of(connection))

    def on_Established(self, connection: Connection, event: Established) -> None:
        uuid = cast(ServerMachine, connection.machine).uuid
        assert uuid is not None
        self.rendezvous.join(uuid, connection.peer.host)
        super().on_Established(connection, event)

    def connection_ended(self, connection: Connection, event: Ended) -> None:
        place = self._place_of(connection)
        uuid = cast(ServerMachine, connection.machine).uuid
        if place is not None and uuid is not None:
            del self.places[uuid]
            self._deliver(self.rendezvous.leave(uuid))
        super().connection_ended(connection, event)
        self._probed(place)

    def _place_of(self, connection: Connection) -> Place | None:
        """The place of a connection that has one; others may have come with its UUID."""
        uuid = cast(ServerMachine, connection.machine).uuid
        place = None if uuid is None else self.places.get(uuid)
        return place if place is not None and place.connection is connection else None

    @staticmethod
    def _probed(place: Place | None) -> None:
        if place is not None and place.probe is not None:
            probe, place.probe = place.probe, None
            probe.callback(True)

    # Who it is

    def identity(self, connection: Connection) -> Mapping[str, Any]:
        """Its UUID, and the fingerprint of the key that it proved it with."""
        place = self._place_of(connection)
        assert place is not None
        key = {} if place.key is None else {"key": fingerprint(place.key)}
        return {"uuid": str(cast(ServerMachine, connection.machine).uuid), **key}

    def objection(self, connection: Connection) -> Objection | None:
        """Bans of addresses, and of UUIDs and keys."""
        place = self._place_of(connection)
        uuid = cast(ServerMachine, connection.machine).uuid
        if place is not None and uuid is not None and (found := self._objection_to(uuid, place.key)) is not None:
            return found
        return super().objection(connection)

    def _objection_to(self, uuid: UUID, key: bytes | None) -> Objection | None:
        """Why a UUID or its key may not be used (COM-4).

        :raises DirectoryError: where nobody can say.
        """
        directory = self.context.directory
        if directory is None:
            return None
        if (reason := directory.match_uuid(uuid)) is not None:
            return Objection(Outcome.BANNED, f"This client is banned: {reason}")
        if key is not None and (reason := directory.match_key(key)) is not None:
            return Objection(Outcome.BANNED, f"This key is banned: {reason}")
        return None

    # Requests

    def on_Requested(self, connection: Connection, event: Requested) -> None:
        """A client asks for another (CH-6)."""
        now = self.clock.seconds()
        self._deliver(self.rendezvous.request(self._uuid(connection), event.uuid, event.private_endpoint, now))
        self._watch_requests()

    def on_Accepted(self, connection: Connection, event: Accepted) -> None:
        """A client accepts a request (CH-7)."""
        self._deliver(self.rendezvous.accept(self._uuid(connection), event.uuid, event.private_endpoint))

    def on_Denied(self, connection: Connection, event: Denied) -> None:
        """A client denies a request (CH-7)."""
        self._deliver(self.rendezvous.deny(self._uuid(connection), event.uuid))

    def deadline_passed(self, now: float) -> float | None:
        """Requests that nobody has answered in time are denied (CH-7)."""
        self._deliver(self.rendezvous.expire(now))
        due = self.rendezvous.deadline()
        if due is None:
            self._expiry = None
        return due

    def _watch_requests(self) -> None:
        due = self.rendezvous.deadline()
        if due is not None and self._expiry is None:
            self._expiry = self.deadlines.schedule(self, due)

    def _deliver(self, deliveries: list[Delivery]) -> None:
        for uuid, packet in deliveries:
            place = self.places.get(uuid)
            if place is not None:
                place.connection.send(packet)

    @staticmethod
    def _uuid(connection: Connection) -> UUID:
        uuid = cast(ServerMachine, connection.machine).uuid
        assert uuid is not None
        return uuid

    # The service

    def startService(self) -> None:
        self.tls.start()
        if self.rest_tls is not None:
            self.rest_tls.start()
        super().startService()
        if self.binding is not None:
            self.binding.start()

    def adopt(self, face: BoundSocket) -> IListeningPort:
        """Clients at one face, registrations at the other."""
        registration = self.registration
        return super().adopt(face) if registration is None or face is not registration.face else registration.adopt()

    def stop_accepting(self) -> Deferred[None]:
        """Close the sockets of all faces; requests that have come are still answered."""
        stopped: list[Deferred[Any]] = [super().stop_accepting()]
        if self.registration is not None:
            stopped.append(self.registration.stop())
        if self.binding is not None:
            stopped.append(self.binding.stop())
        for tls in (self.tls, self.rest_tls):
            if tls is not None:
                tls.stop()
        return DeferredList(stopped).addCallback(lambda results: None)

    def abort_all(self) -> None:
        super().abort_all()
        if self.registration is not None:
            self.registration.abort()

    def reconfigure(self, settings: ListenerSettings) -> bool:
        """Take new settings; another place or certificate file needs another listener."""
        if not isinstance(settings, ChatrSettings):
            return False
        for name in ("udp", "rest", "certificate", "rest_certificate"):
            if getattr(settings, name) != getattr(self.settings, name):
                return False
        return super().reconfigure(settings)
