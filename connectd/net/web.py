"""The little HTTP server under the status site, the admin socket and whatever else speaks HTTP: exact paths, small
bodies, no surprises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http

from connectd.net.bound import BoundSocket
from connectd.net.connection import Peer

log = Logger()

IDLE_TIMEOUT = 30.0
"""Seconds in which a connection has to send its whole request, unless its site says otherwise."""

CLOSE_TIMEOUT = 10.0
"""Seconds after an answer in which the peer has to take it, and TLS's goodbye, before the connection is cut off."""

MAX_CONNECTIONS = 128
"""Connections to one site at once, unless it says otherwise; for one more, that which was opened first is cut off."""

BODY_LIMIT = 64 * 1024
"""Bytes of a request's body, unless its site says otherwise; a longer one is answered with 413 and the connection
closed."""

DISCARDED = 1024 * 1024
"""Bytes that are still read after that, so that who is sending them gets to read the answer."""

HTML = "text/html; charset=utf-8"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

PHRASES: Mapping[int, bytes] = {413: b"Content Too Large", 429: b"Too Many Requests"}
"""What Twisted has other words or none for."""

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What every answer carries unless its reply says otherwise."""


@attrs.frozen
class Reply:
    """An answer.

    :param body: its bytes.
    :param content_type: their media type.
    :param status: the HTTP status code.
    :param headers: further headers, over those of :data:`HEADERS`.
    """

    body: bytes
    content_type: str = TEXT
    status: int = http.OK
    headers: Mapping[str, str] = {}


class Problem(Exception):
    """What a route raises to answer with an error.

    :param status: the HTTP status code.
    :param text: one line for whoever asked.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


Answer = Callable[["Request"], "Reply | Deferred[Reply]"]
"""A route: takes the request, returns or promises the reply, or raises :class:`Problem`."""


def plain_error(problem: Problem) -> Reply:
    """An error in words."""
    return Reply(f"{problem.text}\n".encode(), TEXT, problem.status)


class Routes:
    """What a site answers: one function for each path and method. Rooms add theirs with :meth:`add`.

    :param error: makes the reply for a :class:`Problem`.
    """

    def __init__(self, error: Callable[[Problem], Reply] = plain_error) -> None:
        self.error = error
        self._routes: dict[str, dict[str, Answer]] = {}

    def add(self, method: str, path: str, answer: Answer) -> None:
        """Answer requests of that method for exactly that path. A ``GET`` route answers ``HEAD`` as well.

        :raises ValueError: where something answers there already.
        """
        methods = self._routes.setdefault(path, {})
        if method in methods:
            raise ValueError(f"{method} {path} is answered already")
        methods[method] = answer

    def find(self, method: str, path: str) -> Answer:
        """The function for a request.

        :raises Problem: 404 or 405.
        """
        methods = self._routes.get(path)
        if methods is None:
            raise Problem(http.NOT_FOUND, "There is nothing here")
        answer = methods.get("GET" if method == "HEAD" else method)
        if answer is None:
            raise Problem(http.NOT_ALLOWED, "This method is not allowed here")
        return answer

    def allowed(self, path: str) -> str:
        """The value of an ``Allow`` header."""
        methods = set(self._routes.get(path, ()))
        return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


class Request(http.Request):
    """A request that its site's routes answer."""

    channel: Any

    def __init__(self, channel: Any, queued: Any) -> None:
        super().__init__(channel, queued, parsePOSTFormSubmission=False)
        self._received = 0
        self._refused = False

    def gotLength(self, length: int | None) -> None:
        """The headers are read: refuse a body that is announced too long."""
        # A body of unknown length would go to a temporary file; this one stays in memory, and is counted.
        super().gotLength(0)
        if length is not None and length > self.channel.site.body_limit:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body, up to the limit."""
        self._received += len(data)
        if self._received > DISCARDED:
            self._refuse_body()
            self.channel.transport.abortConnection()
        elif self._received > self.channel.site.body_limit:
            self._refuse_body()
        elif not self._refused:
            super().handleContentChunk(data)

    def _refuse_body(self) -> None:
        """Say so at once, without waiting for the rest, which nobody will look at."""
        if self._refused:
            return
        self._refused = True
        site = self.channel.site
        reply = site.routes.error(
            Problem(http.REQUEST_ENTITY_TOO_LARGE, f"The body is larger than {site.body_limit} bytes")
        )
        self.channel.answered(self, reply.status)
        self.channel.transport.write(
            b"HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (reply.status, PHRASES[413], reply.content_type.encode(), len(reply.body), reply.body)
        )

    def process(self) -> None:
        """Answer, unless that was done before the body had come."""
        if self._refused:
            self.channel.loseConnection()
            return
        self.channel.answering = True
        routes = self.channel.site.routes
        path = self.path.decode("ascii", "replace")
        method = self.method.decode("ascii", "replace")
        answering = maybeDeferred(lambda: routes.find(method, path)(self))
        finished = self.notifyFinish()
        finished.addErrback(lambda gone: answering.cancel())
        answering.addErrback(self._failed, routes)
        answering.addCallback(self._reply, routes)
        answering.addErrback(lambda failure: log.failure("an HTTP answer could not be sent", failure))

    def argument(self, name: str, default: str = "") -> str:
        """A value of the query, the last one where there are several."""
        values = (self.args or {}).get(name.encode())
        return values[-1].decode("utf-8", "replace") if values else default

    def _failed(self, failure: Failure, routes: Routes) -> Reply:
        problem = failure.value
        if not isinstance(problem, Problem):
            if not self._disconnected:
                log.failure("{method} {path} failed", failure, method=self.method, path=self.path)
            problem = Problem(http.INTERNAL_SERVER_ERROR, "Internal error; the log says more")
        reply: Reply = routes.error(problem)
        return reply

    def _reply(self, reply: Reply, routes: Routes) -> None:
        if self._disconnected:
            return
        self.setResponseCode(reply.status, PHRASES.get(reply.status))
        headers = {**HEADERS, **reply.headers}
        headers["Server"] = "connectd"
        headers["Date"] = http.datetimeToString().decode("ascii")
        headers["Content-Type"] = reply.content_type
        headers["Content-Length"] = str(len(reply.body))
        if reply.status == http.NOT_ALLOWED:
            headers["Allow"] = routes.allowed(self.path.decode("ascii", "replace"))
        for name, value in headers.items():
            self.setHeader(name, value)
        self.channel.answered(self, reply.status)
        self.write(reply.body)
        self.finish()


class Channel(http.HTTPChannel):
    """One connection to a site, which knows it while it is open.

    :ivar peer: where the peer is, for those to whom that matters (COM-5).
    :ivar answering: whether a whole request has come.
    :ivar status: the status that it was answered with.
    :ivar timed_out: whether its time was up.
    """

    site: Site
    transport: Any
    peer: Peer | None = None
    answering = False
    status: int | None = None
    timed_out = False

    def answered(self, request: Request, status: int) -> None:
        """The one request of this connection has its answer."""
        self.status = status

    def timeoutConnection(self) -> None:
        """The request did not come in time; or the answer was not taken."""
        if self.status is not None:
            self.transport.abortConnection()
            return
        self.timed_out = True
        super().timeoutConnection()

    def loseConnection(self) -> None:
        """Close, soon: under TLS the peer would decide how long that takes."""
        if self.status is not None:
            self.setTimeout(CLOSE_TIMEOUT)
        super().loseConnection()

    def connectionMade(self) -> None:
        self.site.channels[self] = None
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.channels.pop(self, None)
        super().connectionLost(reason)
        self.site.lost(self, reason)

    def checkPersistence(self, request: http.Request, version: bytes) -> bool:
        """One request a connection: several that come together would be answered in one turn of the reactor, whether
        anybody reads the answers or not."""
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def resetTimeout(self) -> None:
        """Bytes that trickle in extend nothing: a whole request has to come in time."""


class Site(http.HTTPFactory):
    """Answers HTTP requests by its routes.

    :param routes: what to answer.
    :param reactor: keeps the time for idle connections.
    :param timeout: seconds in which a connection has to send its whole request.
    :param body_limit: bytes of a request's body.
    :param max_connections: how many connections it has at once.
    :param lost: told of each connection that is gone, and why.
    """

    protocol: Any = Channel
    noisy = False

    def __init__(
        self,
        routes: Routes,
        reactor: Any,
        *,
        timeout: float = IDLE_TIMEOUT,
        body_limit: int = BODY_LIMIT,
        max_connections: int = MAX_CONNECTIONS,
        lost: Callable[[Channel, Failure], None] = lambda channel, reason: None,
    ) -> None:
        super().__init__(timeout=timeout, reactor=reactor)
        self.routes = routes
        self.body_limit = body_limit
        self.max_connections = max_connections
        self.lost = lost
        self.channels: dict[Channel, None] = {}
        """The open connections, the oldest first."""

    def buildProtocol(self, address: IAddress | None) -> Any:
        if len(self.channels) >= self.max_connections:
            # Who asks is answered at once, so the oldest is one that does not ask; it must not keep others from asking.
            oldest = next(iter(self.channels))
            del self.channels[oldest]
            oldest.transport.abortConnection()
        channel: Any = super().buildProtocol(address)
        channel.site = self
        channel.requestFactory = Request
        return channel

    def startFactory(self) -> None:
        """There is no access log, nor the clock that would serve it."""

    def stopFactory(self) -> None:
        """Nothing was started."""

    def log(self, request: object) -> None:
        """There is no access log."""


class SiteService(Service):
    """A site on a bound socket.

    :param face: where it listens; closed when the service stops.
    :param routes: what it answers.
    :param reactor: the reactor.
    """

    def __init__(self, face: BoundSocket, routes: Routes, reactor: Any) -> None:
        self.face = face
        self.site = Site(routes, reactor)
        self._reactor = reactor
        self._port: Any = None

    def startService(self) -> None:
        super().startService()
        self._port = self.face.adopt_stream(self._reactor, self.site)

    def stopService(self) -> Deferred[Any]:
        """Close the socket and every connection."""
        super().stopService()
        port, self._port = self._port, None
        stopping: Deferred[Any] = maybeDeferred(port.stopListening if port is not None else lambda: None)
        self.face.close()
        for channel in list(self.site.channels):
            channel.transport.abortConnection()
        return stopping
