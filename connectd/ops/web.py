"""The little HTTP server under the status site and the admin socket: exact paths, small bodies, no surprises."""

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

log = Logger()

IDLE_TIMEOUT = 30.0
"""Seconds in which a connection has to send its whole request."""

MAX_CONNECTIONS = 128
"""Connections to one site at once; for one more, that which was opened first is cut off."""

BODY_LIMIT = 64 * 1024
"""Bytes of a request's body; a longer one is answered with 413 and the connection closed."""

HTML = "text/html; charset=utf-8"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

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
        if length is not None and length > BODY_LIMIT:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body, up to the limit."""
        self._received += len(data)
        if self._received <= BODY_LIMIT:
            super().handleContentChunk(data)
        else:
            self._refuse_body()

    def _refuse_body(self) -> None:
        if not self._refused:
            self._refused = True
            self.channel.transport.write(
                b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            self.channel.loseConnection()

    def process(self) -> None:
        """Answer, unless that was done before the body had come."""
        if self._refused:
            return
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
        self.setResponseCode(reply.status)
        headers = {**HEADERS, **reply.headers}
        headers["Server"] = "connectd"
        headers["Date"] = http.datetimeToString().decode("ascii")
        headers["Content-Type"] = reply.content_type
        headers["Content-Length"] = str(len(reply.body))
        if reply.status == http.NOT_ALLOWED:
            headers["Allow"] = routes.allowed(self.path.decode("ascii", "replace"))
        for name, value in headers.items():
            self.setHeader(name, value)
        self.write(reply.body)
        self.finish()


class Channel(http.HTTPChannel):
    """One connection to a site, which knows it while it is open."""

    site: Site
    transport: Any

    def connectionMade(self) -> None:
        self.site.channels[self] = None
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.channels.pop(self, None)
        super().connectionLost(reason)

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
    """

    protocol: Any = Channel
    noisy = False

    def __init__(self, routes: Routes, reactor: Any) -> None:
        super().__init__(timeout=IDLE_TIMEOUT, reactor=reactor)
        self.routes = routes
        self.channels: dict[Channel, None] = {}
        """The open connections, the oldest first."""

    def buildProtocol(self, address: IAddress | None) -> Any:
        if len(self.channels) >= MAX_CONNECTIONS:
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
