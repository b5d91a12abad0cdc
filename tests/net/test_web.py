"""The HTTP server under the status site and the admin socket."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.web import (
    BODY_LIMIT,
    CLOSE_TIMEOUT,
    DISCARDED,
    HEADERS,
    IDLE_TIMEOUT,
    MAX_CONNECTIONS,
    Problem,
    Reply,
    Request,
    Routes,
)
from tests.ops.exchange import Exchange


class RoutesTests(SynchronousTestCase):
    """Exactly what was added is answered."""

    def setUp(self) -> None:
        self.routes = Routes()
        self.routes.add("GET", "/here", lambda request: Reply(b"yes\n"))
        self.exchange = Exchange(self.routes)

    def test_answer(self) -> None:
        response = self.exchange.ask("GET", "/here")
        self.assertEqual((response.status, response.body), (200, b"yes\n"))
        self.assertEqual(response.headers["Content-Length"], "4")
        self.assertEqual(response.headers["Content-Type"], "text/plain; charset=utf-8")

    def test_headers_give_no_version_and_forbid_embedding(self) -> None:
        """Whatever the answer, it says no version and carries the protective headers."""
        for path in ("/here", "/nowhere"):
            response = self.exchange.ask("GET", path)
            self.assertEqual(response.headers["Server"], "connectd")
            self.assertEqual({name: response.headers[name] for name in HEADERS}, dict(HEADERS))

    def test_own_header_replaces_a_default_one(self) -> None:
        self.routes.add("GET", "/own", lambda request: Reply(b"", headers={"Cache-Control": "max-age=1"}))
        self.assertEqual(self.exchange.ask("GET", "/own").headers["Cache-Control"], "max-age=1")

    def test_head(self) -> None:
        """HEAD has the headers of GET and no body."""
        response = self.exchange.ask("HEAD", "/here")
        self.assertEqual((response.status, response.body, response.headers["Content-Length"]), (200, b"", "4"))

    def test_not_found(self) -> None:
        for path in ("/", "/here/", "/HERE", "//here", "/%68ere", "/../here", "*"):
            self.assertEqual(self.exchange.ask("GET", path).status, 404, path)

    def test_method_not_allowed(self) -> None:
        """405 says what is allowed."""
        self.routes.add("POST", "/here", lambda request: Reply(b""))
        response = self.exchange.ask("DELETE", "/here")
        self.assertEqual((response.status, response.headers["Allow"]), (405, "GET, HEAD, POST"))
        self.routes.add("POST", "/only", lambda request: Reply(b""))
        response = self.exchange.ask("HEAD", "/only")
        self.assertEqual((response.status, response.headers["Allow"]), (405, "POST"))

    def test_same_route_twice(self) -> None:
        with self.assertRaises(ValueError):
            self.routes.add("GET", "/here", lambda request: Reply(b""))

    def test_query(self) -> None:
        """The last value of a name counts, the default where there is none, and bad UTF-8 is no error."""
        self.routes.add("GET", "/query", lambda request: Reply(request.argument("a", "none").encode()))
        for query, expected in (
            ("", "none"),
            ("?a=1&a=2", "2"),
            ("?b=1", "none"),
            ("?a=%ff", "\N{REPLACEMENT CHARACTER}"),
        ):
            self.assertEqual(self.exchange.ask("GET", f"/query{query}").body, expected.encode())

    def test_form_is_not_read_as_arguments(self) -> None:
        self.routes.add("POST", "/query", lambda request: Reply(request.argument("a", "none").encode()))
        response = self.exchange.ask("POST", "/query", b"a=1", **{"Content-Type": "application/x-www-form-urlencoded"})
        self.assertEqual(response.body, b"none")


class FaultTests(SynchronousTestCase):
    """What goes wrong in a route."""

    def setUp(self) -> None:
        self.routes = Routes()
        self.exchange = Exchange(self.routes)

    def test_problem(self) -> None:
        def answer(request: Request) -> Reply:
            raise Problem(409, "not now")

        self.routes.add("GET", "/", answer)
        response = self.exchange.ask("GET", "/")
        self.assertEqual((response.status, response.body), (409, b"not now\n"))

    def test_anything_else_is_logged_and_not_told(self) -> None:
        """COM-9: the text of an exception is for the log, not for the one who asked."""

        def answer(request: Request) -> Reply:
            raise RuntimeError("a password")

        self.routes.add("GET", "/", answer)
        response = self.exchange.ask("GET", "/?token=secret")
        self.assertEqual(response.status, 500)
        self.assertNotIn(b"password", response.body)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_later_reply(self) -> None:
        promised: Deferred[Reply] = Deferred()
        self.routes.add("GET", "/", lambda request: promised)
        self.exchange.channel.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(self.exchange.transport.value(), b"")
        promised.callback(Reply(b"at last"))
        self.assertEqual(self.exchange.take().body, b"at last")

    def test_gone_before_the_reply(self) -> None:
        """Who waits for nobody any more is cancelled, and nothing is logged."""
        cancelled: list[object] = []
        promised: Deferred[Reply] = Deferred(cancelled.append)
        self.routes.add("GET", "/", lambda request: promised)
        self.exchange.channel.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.exchange.channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(cancelled, [promised])
        self.assertEqual(self.exchange.site.channels, {})
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])


class BoundTests(SynchronousTestCase):
    """What one client can make the process hold (COM-2)."""

    def setUp(self) -> None:
        self.bodies: list[bytes] = []
        routes = Routes()

        def answer(request: Request) -> Reply:
            assert request.content is not None
            self.bodies.append(request.content.read())
            return Reply(b"")

        routes.add("POST", "/", answer)
        self.exchange = Exchange(routes)

    def test_longest_body(self) -> None:
        body = bytes(BODY_LIMIT)
        self.assertEqual(self.exchange.ask("POST", "/", body).status, 200)
        self.assertEqual(self.bodies, [body])

    def test_announced_too_long(self) -> None:
        """A longer body is refused before it comes; what comes all the same is not kept."""
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_LIMIT + 1}\r\n\r\n".encode()
        response = self.exchange.send(head)
        self.assertEqual(response.status, 413)
        self.assertEqual(response.body, b"The body is larger than 65536 bytes\n")
        self.exchange.channel.dataReceived(bytes(BODY_LIMIT + 1))
        self.assertTrue(self.exchange.transport.disconnecting)
        self.assertEqual(self.bodies, [])
        self.assertEqual(self.exchange.transport.value(), b"")

    def test_far_too_long(self) -> None:
        """Who goes on and on after that is cut off."""
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * DISCARDED}\r\n\r\n".encode()
        self.assertEqual(self.exchange.send(head).status, 413)
        self.exchange.channel.dataReceived(bytes(DISCARDED))
        self.assertFalse(self.exchange.transport.disconnecting)
        self.exchange.channel.dataReceived(b"?")
        self.assertTrue(self.exchange.transport.disconnected)

    def test_chunks_too_long(self) -> None:
        """So is one whose length is not announced, once it is too long; what follows is not kept."""
        self.exchange.channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
        self.exchange.channel.dataReceived(chunk + chunk)
        self.assertEqual(self.exchange.transport.value(), b"")
        self.assertEqual(self.exchange.send(chunk).status, 413)
        self.exchange.channel.dataReceived(chunk)
        [request] = self.exchange.channel.requests
        self.assertEqual(request.content.tell(), BODY_LIMIT)

    def test_trickle(self) -> None:
        """Bytes that trickle in do not hold a connection open."""
        for _ in range(4):
            self.exchange.channel.dataReceived(b"GET"[:1])
            self.exchange.clock.advance(IDLE_TIMEOUT / 4)
        self.assertTrue(self.exchange.transport.disconnecting)

    def test_not_taken(self) -> None:
        """After the answer a peer has a while to let go, which under TLS is up to it; then it is cut off."""
        self.assertEqual(self.exchange.ask("POST", "/").status, 200)
        self.exchange.clock.advance(CLOSE_TIMEOUT - 1)
        self.assertFalse(self.exchange.transport.disconnected)
        self.exchange.clock.advance(1)
        self.assertTrue(self.exchange.transport.disconnected)

    def test_taken(self) -> None:
        """Who does let go leaves no timer behind."""
        self.assertEqual(self.exchange.ask("POST", "/").status, 200)
        self.exchange.channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.exchange.clock.getDelayedCalls(), [])

    def test_one_request(self) -> None:
        """A connection is for one request; more that came with it are not answered."""
        self.assertEqual(self.exchange.ask("POST", "/").headers["Connection"], "close")
        self.assertTrue(self.exchange.transport.disconnecting)
        self.exchange.open()
        self.exchange.channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n?" * 1000)
        self.assertEqual(self.exchange.transport.value().count(b"HTTP/1.1 "), 1)
        self.assertEqual(self.bodies, [b"", b"?"])

    def test_connections(self) -> None:
        """There is room for so many connections; who comes then takes the place of the one that came first."""
        first = self.exchange.transport
        while len(self.exchange.site.channels) < MAX_CONNECTIONS:
            self.exchange.open()
        self.assertFalse(first.disconnecting)
        self.exchange.open()
        self.assertEqual(len(self.exchange.site.channels), MAX_CONNECTIONS)
        self.assertTrue(first.disconnected)
        self.assertEqual(self.exchange.ask("POST", "/").status, 200)
        self.exchange.channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(len(self.exchange.site.channels), MAX_CONNECTIONS - 1)
