"""Calls to the session services over HTTPS: bounded, timed, tried again where that may help (AL-13).

Twisted's own agent makes them: treq's inflates what it is sent without a bound, and follows redirects with the token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.x509 import Certificate
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

import connectd
from connectd.net.trust import NotTrusted, Trust
from connectd.protocols.alloy.services_url import base_url_problem

log = Logger()

TIMEOUT: Final = 10.0
"""Seconds for one request and its whole answer."""

ATTEMPTS: Final = 3
"""How often a request is tried that fails for a reason that may pass."""

BACKOFF: Final = 0.5
"""Seconds before the second attempt; twice as many before each further one."""

MAX_CALLS: Final = 32
"""Calls that are under way at once (AL-5)."""

MAX_WAITING: Final = 1024
"""Calls that may wait for their turn."""

MAX_BODY: Final = 64 * 1024
"""Bytes of an answer that are read."""


class ServicesUnavailable(Exception):
    """The services could not be asked, or answered something else than they should. Its text is for the operator."""


class ServicesRefused(Exception):
    """The services said no.

    :param status: the HTTP status, 400 to 499.
    """

    def __init__(self, status: int, call: str) -> None:
        super().__init__(f"the session services refuse {call} with status {status}")
        self.status = status


class ServiceCalls:
    """The way to the services at one base URL.

    :param reactor: the reactor.
    :param base_url: such as ``https://sessions.hytale.com``. Plain ``http:`` is taken for loopback addresses only.
    :param authorities: who may have signed the services' certificate; the system's authorities unless given.
    :param agent: makes the requests, instead of one with a pool of its own.
    :param clock: measures time-outs and pauses; the reactor unless given.
    :raises ValueError: for a base URL that cannot be used, in one line.
    """

    def __init__(
        self,
        reactor: Any,
        base_url: str,
        *,
        authorities: Sequence[Certificate] = (),
        agent: IAgent | None = None,
        clock: Any = None,
    ) -> None:
        if (problem := base_url_problem(base_url)) is not None:
            raise ValueError(problem)
        self.base_url = base_url.rstrip("/")
        self._clock = reactor if clock is None else clock
        self._pool: HTTPConnectionPool | None = None
        if agent is None:
            self._pool = HTTPConnectionPool(reactor)
            self._pool.maxPersistentPerHost = MAX_CALLS
            # Attempts are counted here, and what was answered with a reset may have been heard.
            self._pool.retryAutomatically = False
            # Twisted's own policy takes a certificate without a subjectAltName, which could be anybody's.
            trust = Trust(urlsplit(base_url).hostname or "", authorities=authorities)
            agent = Agent(reactor, trust, connectTimeout=TIMEOUT, pool=self._pool)
        self._agent = agent
        self._turns = DeferredSemaphore(MAX_CALLS)
        self._calls: set[Deferred[bytes]] = set()

    async def _close(self) -> None:
        for call in list(self._calls):
            call.cancel()
        if self._pool is not None:
            await self._pool.closeCachedConnections()

    def close(self) -> Deferred[None]:
        """Give up all calls and close the connections; fires when they are closed."""
        return Deferred.fromCoroutine(self._close())

    def call(
        self, method: str, path: str, token: str | None = None, content: Mapping[str, str] | None = None
    ) -> Deferred[bytes]:
        """Make a call when it is its turn.

        :param token: the bearer's.
        :param content: what to send, as JSON.
        :return: the body of a successful answer. Fails with `ServicesUnavailable` or `ServicesRefused`; cancelling it
            gives the call up.
        """
        if len(self._calls) >= MAX_CALLS + MAX_WAITING:
            return defer.fail(ServicesUnavailable(f"too many calls wait for {self.base_url}"))
        call = Deferred.fromCoroutine(self._in_turn(f"{method} {path}", method, path, token, content))
        self._calls.add(call)

        def ended(result: Any) -> Any:
            self._calls.discard(call)
            return result

        return call.addBoth(ended)

    async def _in_turn(
        self, name: str, method: str, path: str, token: str | None, content: Mapping[str, str] | None
    ) -> bytes:
        await self._turns.acquire()
        try:
            return await self._attempts(name, method, path, token, content)
        finally:
            self._turns.release()

    async def _attempts(
        self, name: str, method: str, path: str, token: str | None, content: Mapping[str, str] | None
    ) -> bytes:
        delay = BACKOFF
        for attempt in range(1, ATTEMPTS + 1):
            try:
                request = Deferred.fromCoroutine(self._request(name, method, path, token, content))
                return await request.addTimeout(TIMEOUT, self._clock)
            except defer.TimeoutError:
                raise ServicesUnavailable(f"{name}: no answer within {TIMEOUT:g} s") from None
            except _PassingFailure as failure:
                if attempt == ATTEMPTS:
                    raise ServicesUnavailable(f"{name}: {failure}") from None
                log.debug("{call}: {reason}; trying again", call=name, reason=str(failure))
            await deferLater(self._clock, delay)
            delay *= 2
        raise AssertionError("the last attempt returns or raises")

    async def _request(
        self, name: str, method: str, path: str, token: str | None, content: Mapping[str, str] | None
    ) -> bytes:
        headers = Headers({"user-agent": [f"connectd/{connectd.__version__}"], "accept": ["application/json"]})
        if token is not None:
            headers.setRawHeaders("authorization", [f"Bearer {token}"])
        producer = None
        if content is not None:
            headers.setRawHeaders("content-type", ["application/json"])
            producer = FileBodyProducer(BytesIO(json.dumps(content).encode()))
        url = f"{self.base_url}{path}".encode("ascii")
        try:
            response = await self._agent.request(method.encode(), url, headers, producer)
            body = await _read(response)
        except (CancelledError, ServicesUnavailable):
            raise
        except Exception as error:
            reasons = getattr(error, "reasons", ())
            if any(reason.check(CancelledError) for reason in reasons):
                # How the agent says that a request was given up under way.
                raise CancelledError from None
            for reason in reasons:
                if reason.check(NotTrusted):
                    raise ServicesUnavailable(f"{name}: {reason.getErrorMessage()}") from None
            # Whatever there is between us and them: names, connections, certificates, HTTP. Secrets are not in it.
            raise _PassingFailure(_why(error)) from None
        if response.code >= 500:
            raise _PassingFailure(f"status {response.code}")
        if response.code >= 400:
            raise ServicesRefused(response.code, name)
        if not 200 <= response.code < 300:
            raise ServicesUnavailable(
                f"{name}: status {response.code}, which is no answer (redirects are not followed)"
            )
        return body


class _PassingFailure(Exception):
    """Worth another attempt."""


class _Body(Protocol):
    """Reads an answer, up to what one may have."""

    def __init__(self, done: Deferred[bytes]) -> None:
        self.done = done
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_BODY:
            self._parts.append(data)
        elif not self.done.called:
            self._parts.clear()
            self.done.errback(ServicesUnavailable(f"an answer of more than {MAX_BODY} bytes"))
            self.give_up()

    def give_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(reason)


def _read(response: IResponse) -> Deferred[bytes]:
    done: Deferred[bytes] = Deferred(lambda cancelled: body.give_up())
    body = _Body(done)
    response.deliverBody(body)
    return done


def _why(error: Exception) -> str:
    reasons = getattr(error, "reasons", None)
    if reasons:
        error = reasons[0].value
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
