"""The client's side of registration: a Chatr server's REST directory (CH-20 to CH-23).

In short::

    registry = KeyRegistry(reactor, "https://chatr.example:8443")
    await registry.register(identity)
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from connectd.net.trust import NotTrusted, Trust
from connectd.protocols.chatr.identity import Identity
from connectd.protocols.chatr.registration import (
    ALREADY_REGISTERED,
    DOES_NOT_EXIST,
    PATH,
    SIGNATURE_HEADER,
    encode_body,
)
from connectd.wire import one_line

LONGEST_ANSWER: Final = 64 * 1024
"""Bytes of an answer that are read."""

CONNECT_TIMEOUT: Final = 15.0
ANSWER_TIMEOUT: Final = 60.0
"""Seconds that an answer may take: a registration waits for the server's disk, and for its patience (COM-11)."""


class RegistryError(Exception):
    """The directory did not do what it was asked for: one line.

    :param message: why.
    :param error_type: the protocol's word for it, or nothing.
    """

    def __init__(self, message: str, error_type: str = "") -> None:
        super().__init__(message)
        self.error_type = error_type


class KeyRegistry:
    """A server's directory of keys.

    :param reactor: the reactor.
    :param url: ``https://HOST[:PORT]``, or ``http://`` on this machine.
    :param trust: who is taken for the server, over HTTPS; its verified host name unless given.
    :raises ValueError: for another URL.
    """

    def __init__(self, reactor: Any, url: str, trust: Trust | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ValueError(f"{url}: is not the address of a directory; write https://HOST:PORT")
        self.url = url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._reactor = reactor
        policy: Any = Trust(parts.hostname) if trust is None else trust
        self._agent = Agent(reactor, contextFactory=policy, connectTimeout=CONNECT_TIMEOUT)

    async def register(self, identity: Identity, *, bound: bool = True) -> bool:
        """Register an identity's key for its UUID.

        :param bound: name the UUID in what is signed, so that nobody can register it for another (CH-23).
        :return: whether it is new; False where just this key is registered already.
        :raises RegistryError: where it is refused, or another key is registered for the UUID.
        """
        body = encode_body(identity.key, identity.uuid if bound else None)
        try:
            await self._ask("PUT", PATH + str(identity.uuid), body, identity.sign(body))
        except RegistryError as error:
            if error.error_type != ALREADY_REGISTERED:
                raise
            if await self.read(identity.uuid) != identity.key:
                raise RegistryError(
                    f"{identity.uuid} is registered with another key (this identity is not the one that it was)",
                    error.error_type,
                ) from None
            return False
        return True

    async def replace(self, identity: Identity, key: bytes, *, bound: bool = True) -> None:
        """Replace the key that is registered for an identity's UUID.

        :param identity: with the private key on record.
        :param key: the new one, DER SubjectPublicKeyInfo.
        """
        body = encode_body(key, identity.uuid if bound else None)
        await self._ask("POST", PATH + str(identity.uuid), body, identity.sign(body))

    async def read(self, uuid: UUID) -> bytes | None:
        """The key that is registered for a UUID, DER SubjectPublicKeyInfo, or None."""
        try:
            content = await self._ask("GET", PATH + str(uuid))
        except RegistryError as error:
            if error.error_type != DOES_NOT_EXIST:
                raise
            return None
        try:
            return base64.b64decode(content["publicKey"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise RegistryError(f"{self.url}: the answer has no key in it") from None

    async def certificate(self) -> bytes:
        """The certificate of the Connect server as PEM, to be pinned (CH-10).

        :raises RegistryError: over plain HTTP, where anybody could have sent it.
        """
        if not self._secure:
            raise RegistryError(f"{self.url}: a certificate is worth nothing unless it comes over https:// (CH-10)")
        status, body = await self._exchange("GET", "/certificate")
        if status != 200:
            raise _problem(self.url, status, body)
        return body

    # How

    async def _ask(self, method: str, path: str, body: bytes | None = None, signature: bytes = b"") -> Any:
        status, answer = await self._exchange(method, path, body, signature)
        if status != 200:
            raise _problem(self.url, status, answer)
        try:
            return json.loads(answer)
        except (ValueError, RecursionError):
            raise RegistryError(f"{self.url}: the answer is not JSON") from None

    async def _exchange(
        self, method: str, path: str, body: bytes | None = None, signature: bytes = b""
    ) -> tuple[int, bytes]:
        headers = Headers({"User-Agent": ["connectd"], "Connection": ["close"]})
        if body is not None:
            headers.addRawHeader("Content-Type", "application/json")
            headers.addRawHeader(SIGNATURE_HEADER, base64.b64encode(signature).decode("ascii"))
        producer = None if body is None else _Body(body)
        asking = Deferred.fromCoroutine(self._request(method, path, headers, producer))
        try:
            return await asking.addTimeout(ANSWER_TIMEOUT, self._reactor)
        except RegistryError:
            raise
        except ResponseFailed as error:
            raise RegistryError(f"{self.url}: {_cause(error)}") from None
        except NotTrusted as error:
            raise RegistryError(f"{self.url}: {error.reason}") from None
        except Exception as error:
            raise RegistryError(f"{self.url}: {one_line(str(error)) or type(error).__name__}") from None

    async def _request(self, method: str, path: str, headers: Headers, producer: _Body | None) -> tuple[int, bytes]:
        url = (self.url + path).encode("ascii")
        response: Any = await self._agent.request(method.encode("ascii"), url, headers, producer)
        collecting = _Answer()
        response.deliverBody(collecting)
        return int(response.code), await collecting.whole


def _problem(url: str, status: int, body: bytes) -> RegistryError:
    try:
        content = json.loads(body)
        error_type, message = str(content["error_type"]), str(content["error_message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        error_type, message = "", f"HTTP status {status}"
    return RegistryError(f"{url}: {one_line(message)[:300]}", error_type)


def _cause(error: ResponseFailed) -> str:
    for reason in error.reasons:
        value = reason.value
        if isinstance(value, NotTrusted):
            return value.reason
        if isinstance(value, RegistryError):
            return str(value)
    first = error.reasons[0].value if error.reasons else error
    return one_line(str(first)) or type(first).__name__


@implementer(IBodyProducer)
class _Body:
    """A request's body."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.length = len(octets)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._octets)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It is out in one piece."""

    def resumeProducing(self) -> None:
        """Nothing waits."""

    def stopProducing(self) -> None:
        """Nothing is under way."""


class _Answer(Protocol):
    """Collects an answer, up to a limit."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred()
        self._octets = b""

    def dataReceived(self, data: bytes) -> None:
        self._octets += data
        if len(self._octets) > LONGEST_ANSWER:
            self._octets = b""
            if not self.whole.called:
                self.whole.errback(RegistryError(f"the answer is longer than {LONGEST_ANSWER} bytes"))
            transport: Any = self.transport
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        if reason.check(ResponseDone):
            self.whole.callback(self._octets)
        else:
            self.whole.errback(reason)
