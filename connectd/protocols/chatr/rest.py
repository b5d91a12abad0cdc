"""Chatr's REST face: clients register their keys, and anybody reads them (CH-20 to CH-23)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http

from connectd.admission.guard import guard
from connectd.admission.pace import Pace
from connectd.directory.errors import (
    AlreadyRegisteredError,
    DirectoryError,
    KeyChangedError,
    NotRegisteredError,
    RegistryFullError,
)
from connectd.net.bound import BoundSocket
from connectd.net.connection import Peer
from connectd.net.listener import Accepting
from connectd.net.tls import ServerTLS
from connectd.net.transport_faults import transport_fault
from connectd.net.web import JSON, Channel, Problem, Reply, Request, Routes, Site
from connectd.protocols.chatr.registration import (
    ALREADY_REGISTERED,
    DOES_NOT_EXIST,
    INVALID_SIGNATURE,
    MAXIMUM_BODY,
    MAXIMUM_SIGNATURE_TEXT,
    OTHER_ERRORS,
    PATH,
    SIGNATURE_HEADER,
    Registration,
    RegistrationError,
    check_binding,
    check_signature,
    decode_base64,
    expect_key,
    parse_body,
    parse_uuid,
)
from connectd.sansio import Outcome
from connectd.workers.threads import run_in_thread

if TYPE_CHECKING:
    from connectd.directory.service import DirectoryService
    from connectd.protocols.chatr.server import ChatrListener

log = Logger()

MAXIMUM_CONNECTIONS: Final = 1024
"""Connections to this face at once; for one more, that which was opened first is cut off (COM-2)."""

PEM: Final = "application/x-pem-file"
TOO_MANY_REQUESTS: Final = 429


class _Refusal(Problem):
    """A problem with a name of the protocol."""

    def __init__(self, status: int, text: str, error_type: str) -> None:
        super().__init__(status, text)
        self.error_type = error_type


def json_error(problem: Problem) -> Reply:
    """An error in the protocol's form."""
    error_type = getattr(problem, "error_type", OTHER_ERRORS.get(problem.status, OTHER_ERRORS[500]))
    return _json({"error_message": problem.text, "error_type": error_type}, problem.status)


def _json(content: Any, status: int = http.OK) -> Reply:
    return Reply(json.dumps(content).encode("ascii"), JSON, status)


class _ClientRoutes(Routes):
    """The certificate, and one path for each UUID."""

    def __init__(self, face: RegistrationFace) -> None:
        super().__init__(json_error)
        self.add("GET", "/certificate", face.certificate)
        self._clients = Routes()
        for method, answer in (("GET", face.read), ("PUT", face.register), ("POST", face.replace)):
            self._clients.add(method, PATH, _answering(answer))

    def find(self, method: str, path: str) -> Callable[[Request], Any]:
        if path.startswith(PATH):
            return self._clients.find(method, PATH)
        return super().find(method, path)

    def allowed(self, path: str) -> str:
        return self._clients.allowed(PATH) if path.startswith(PATH) else super().allowed(path)


def _answering(answer: Callable[[Request, UUID], Coroutine[Any, Any, Reply]]) -> Callable[[Request], Deferred[Reply]]:
    """A route of a client's path: with its UUID, and the errors that it raises told in the protocol's form."""

    async def told(request: Request) -> Reply:
        try:
            return await answer(request, parse_uuid(request.path.decode("ascii", "replace").removeprefix(PATH)))
        except RegistrationError as error:
            raise _Refusal(error.status, error.message, error.error_type) from None
        except RegistryFullError:
            raise Problem(http.INTERNAL_SERVER_ERROR, "No more keys are taken here") from None
        except DirectoryError as error:
            log.error("chatr: a request was not answered: {problem}", problem=str(error))
            raise Problem(http.INTERNAL_SERVER_ERROR, "The directory cannot be used at the moment") from None

    return lambda request: Deferred.fromCoroutine(told(request))


class RegistrationFace:
    """The REST face of one listener.

    :param listener: whose.
    :param face: its bound socket.
    :param tls: serves HTTPS; None for plain HTTP.
    """

    def __init__(self, listener: ChatrListener, face: BoundSocket, tls: ServerTLS | None) -> None:
        self.face = face
        self._listener = listener
        self._tls = tls
        self._pace = Pace(0)
        self._drained: list[Deferred[None]] = []
        self.site = Site(
            _ClientRoutes(self),
            listener.context.reactor,
            timeout=listener.settings.handshake_timeout,
            body_limit=MAXIMUM_BODY,
            max_connections=MAXIMUM_CONNECTIONS,
            lost=self._lost,
        )

    # Connections

    def adopt(self) -> IListeningPort:
        """Begin to accept connections."""
        return self.face.adopt_stream(self._listener.context.reactor, Accepting(self._listener, self._admit))

    def stop(self) -> Deferred[None]:
        """Let requests that have come be answered, and end all other connections; fires once all are gone."""
        for channel in list(self.site.channels):
            if not channel.answering:
                channel.transport.abortConnection()
        if not self.site.channels:
            return succeed(None)
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        return drained

    def abort(self) -> None:
        """End all connections."""
        for channel in list(self.site.channels):
            channel.transport.abortConnection()

    def _admit(self, peer: Peer, accepted_at: float) -> Any:
        listener = self._listener
        refusal = listener.context.admission.admit(peer.host, listener.clock.seconds())
        if refusal is not None:
            listener.turned_away(peer, refusal.outcome, refusal.reason)
            return None
        channel = self.site.buildProtocol(None)
        channel.peer = peer
        return channel if self._tls is None else self._tls.protect(channel)

    def _lost(self, channel: Channel, reason: Failure) -> None:
        """A connection is over: it had its one answer, or its one outcome (COM-7)."""
        peer, listener = channel.peer, self._listener
        assert peer is not None
        listener.context.admission.release(peer.host)
        if channel.status is not None:
            stamp = {"protocol": listener.protocol, "listener": listener.title, "peer": str(peer)}
            listener.context.events.emit("request", {**stamp, "status": channel.status})
        else:
            fault = transport_fault(reason.value)
            if fault is not None:
                outcome, text = fault.outcome, fault.reason
            elif channel.timed_out:
                outcome, text = Outcome.TIMEOUT, "the request took too long"
            else:
                outcome, text = Outcome.ABORTED, "the connection was lost before a whole request had come"
            listener.turned_away(peer, outcome, text)
        if not self.site.channels:
            drained, self._drained = self._drained, []
            for waiter in drained:
                waiter.callback(None)

    # Answers

    def certificate(self, request: Request) -> Reply:
        """``GET /certificate``: the certificate of the Connect server, to be pinned (CH-10)."""
        return Reply(self._listener.tls.certificate.pem, PEM)

    async def read(self, request: Request, uuid: UUID) -> Reply:
        """``GET``: the key of a UUID (CH-20)."""
        key = self._directory.registered_key(uuid)
        if key is None:
            raise _does_not_exist()
        return _registered(uuid, key)

    async def register(self, request: Request, uuid: UUID) -> Reply:
        """``PUT``: a UUID's first key; the body is signed with that key (CH-20)."""
        directory = self._directory
        registration, signature, body = self._signed(request, uuid)
        if not await self._verify(registration.key, signature, body):
            raise _wrong_signature()
        try:
            await directory.register_key(uuid, registration.key, by=self._listener.protocol)
        except AlreadyRegisteredError:
            raise RegistrationError(ALREADY_REGISTERED, "This client is registered already") from None
        return _registered(uuid, registration.key)

    async def replace(self, request: Request, uuid: UUID) -> Reply:
        """``POST``: another key for a UUID; the body is signed with the one on record (CH-20, CH-22)."""
        directory, host = self._directory, self._peer(request).host
        registration, signature, body = self._signed(request, uuid)
        present = directory.registered_key(uuid)
        if present is None:
            raise _does_not_exist()
        # Whose the new key is shows at the next Connect; here it has to be one that can be registered.
        await run_in_thread(self._listener.context.reactor, expect_key, registration.key)

        async def prove() -> None:
            if not await self._verify(present, signature, body):
                raise UnauthorizedLogin

        def verify() -> Deferred[None]:
            return Deferred.fromCoroutine(prove())

        context = self._listener.context
        proving: Deferred[None] = guard(context.ledger, host, str(uuid), verify, clock=context.reactor)
        try:
            await proving
        except UnauthorizedLogin:
            raise _wrong_signature() from None
        try:
            await directory.replace_key(uuid, registration.key, expected=present, by=self._listener.protocol)
        except NotRegisteredError:
            raise _does_not_exist() from None
        except KeyChangedError:
            raise _wrong_signature() from None
        return _registered(uuid, registration.key)

    # Inside

    @property
    def _directory(self) -> DirectoryService:
        directory = self._listener.context.directory
        if directory is None:
            raise Problem(http.INTERNAL_SERVER_ERROR, "There is no directory here")
        return directory

    def _peer(self, request: Request) -> Peer:
        peer: Peer = request.channel.peer
        return peer

    def _signed(self, request: Request, uuid: UUID) -> tuple[Registration, bytes, bytes]:
        """What a request wants to have registered, the signature, and the bytes that it is of."""
        listener = self._listener
        self._pace.per_minute = listener.settings.registration_rate
        now = listener.clock.seconds()
        if not self._pace.take(self._peer(request).host, listener.context.admission.limits, now):
            raise Problem(TOO_MANY_REQUESTS, "Too many registrations from here; try again in a minute")
        assert request.content is not None
        body = request.content.read()
        registration = parse_body(body)
        check_binding(registration, uuid, required=listener.settings.require_bound_registration)
        text = request.getHeader(SIGNATURE_HEADER) or ""
        signature = decode_base64(text) if len(text) <= MAXIMUM_SIGNATURE_TEXT else b""
        return registration, signature, body

    def _verify(self, key: bytes, signature: bytes, body: bytes) -> Deferred[bool]:
        return run_in_thread(self._listener.context.reactor, check_signature, key, signature, body)


def is_loopback(face: BoundSocket) -> bool:
    """Whether nobody but this machine reaches a socket."""
    if face.port is None:
        return True
    return ip_address(face.address.rpartition(":")[0].strip("[]").partition("%")[0]).is_loopback


def _registered(uuid: UUID, key: bytes) -> Reply:
    return _json({"clientId": str(uuid), "publicKey": base64.b64encode(key).decode("ascii")})


def _does_not_exist() -> RegistrationError:
    return RegistrationError(DOES_NOT_EXIST, "This client is not registered")


def _wrong_signature() -> RegistrationError:
    return RegistrationError(INVALID_SIGNATURE, f"The signature in {SIGNATURE_HEADER} is not one of this body")
