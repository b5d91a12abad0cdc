"""The admin API: JSON over HTTP on a Unix socket, which ``connectctl`` speaks. Who can open the socket may do all."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.web import http

from connectd.directory.errors import DirectoryError
from connectd.net.web import JSON, Problem, Reply, Request, Routes
from connectd.ops.snapshot import snapshot
from connectd.sessions import Session

if TYPE_CHECKING:
    from connectd.ops.daemon import Daemon

MOST_LISTED = 1000
"""Sessions in one answer; the next ones are asked for with ``after``."""

LONGEST_REASON = 200
"""Characters of a kick's reason."""

KICKED = "Kicked by the operator"
"""The reason of a kick that gives none."""


def json_reply(value: Any, status: int = http.OK) -> Reply:
    """An answer in JSON."""
    return Reply(json.dumps(value, default=str).encode(), JSON, status)


def json_error(problem: Problem) -> Reply:
    """An error in JSON: ``{"error": "…"}``."""
    return json_reply({"error": problem.text}, problem.status)


def read_json(request: Request) -> dict[str, Any]:
    """The object that is a request's body.

    :raises Problem: 400 where it is none.
    """
    try:
        value = json.loads(request.content.read() if request.content is not None else b"")
    except (ValueError, RecursionError):
        raise Problem(http.BAD_REQUEST, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Problem(http.BAD_REQUEST, "the body is not a JSON object")
    return value


def check_keys(body: dict[str, Any], *known: str) -> None:
    """Refuse a body with keys that nobody would look at.

    :raises Problem: 400.
    """
    for name in body:
        if name not in known:
            known_ones = f"known are {', '.join(known)}" if known else "there are none here"
            raise Problem(http.BAD_REQUEST, f'unknown key "{name[:64]}"; {known_ones}')


def admin_routes(daemon: Daemon) -> Routes:
    """What the admin socket answers. Other rooms add theirs to :attr:`connectd.ops.daemon.Daemon.admin_routes`."""
    routes = Routes(json_error)
    routes.add("GET", "/status", lambda request: json_reply(snapshot(daemon)))
    sessions = SessionRoutes(daemon)
    routes.add("GET", "/sessions", sessions.list_sessions)
    routes.add("POST", "/sessions/kick", sessions.kick)
    routes.add("POST", "/directory/refresh", lambda request: refresh_directory(daemon, request))
    return routes


def refresh_directory(daemon: Daemon, request: Request) -> Deferred[Reply]:
    """``POST /directory/refresh``: somebody has changed the directory. Answered once that has taken effect, with how
    many ``changes`` there were, how many who were in have been ``kicked`` for them, and which ``database`` it is.
    """
    return Deferred.fromCoroutine(_refresh_directory(daemon, request))


async def _refresh_directory(daemon: Daemon, request: Request) -> Reply:
    check_keys(read_json(request))
    if daemon.directory is None or daemon.changes is None:
        raise Problem(http.NOT_FOUND, "this daemon runs without a directory")
    try:
        applied = await daemon.changes.apply()
    except DirectoryError as error:
        raise Problem(http.SERVICE_UNAVAILABLE, str(error)) from error
    return json_reply({"changes": applied.changes, "kicked": applied.kicked, "database": daemon.directory.path})


def describe(session: Session) -> dict[str, Any]:
    """A session for the answer."""
    return {
        "id": session.id,
        "protocol": session.protocol,
        "listener": session.listener,
        "peer": str(session.peer),
        "account": session.account,
        "since": session.since,
        "identity": dict(session.identity),
    }


class SessionRoutes:
    """``GET /sessions?protocol=&limit=&after=`` and ``POST /sessions/kick``."""

    def __init__(self, daemon: Daemon) -> None:
        self._sessions = daemon.context.sessions

    def list_sessions(self, request: Request) -> Reply:
        """Sessions in the order of their ids, beginning behind the id ``after``, and how many there are in all."""
        protocol = request.argument("protocol")
        limit = _number(request, "limit", 100, 1, MOST_LISTED)
        after = _number(request, "after", 0, 0, 2**63)
        found = heapq.nsmallest(limit, self._matching(protocol, after), key=lambda session: session.id)
        total = self._sessions.count(protocol) if protocol else len(self._sessions)
        return json_reply({"sessions": [describe(session) for session in found], "total": total})

    def _matching(self, protocol: str, after: int) -> Iterator[Session]:
        for session in self._sessions:
            if session.id > after and (not protocol or session.protocol == protocol):
                yield session

    def kick(self, request: Request) -> Reply:
        """End the session ``id`` with ``reason``; the peer is told where its protocol has words for it."""
        body = read_json(request)
        check_keys(body, "id", "reason")
        identifier, reason = body.get("id"), body.get("reason", KICKED)
        if not isinstance(identifier, int) or isinstance(identifier, bool):
            raise Problem(http.BAD_REQUEST, "id: a session's number is needed")
        if not isinstance(reason, str) or not reason.isprintable() or not 0 < len(reason) <= LONGEST_REASON:
            raise Problem(http.BAD_REQUEST, f"reason: one line of 1 to {LONGEST_REASON} characters is needed")
        session = self._sessions.get(identifier)
        if session is None:
            raise Problem(http.NOT_FOUND, f"there is no session {identifier}")
        described = describe(session)
        session.kick(reason)
        return json_reply({"kicked": described})


def _number(request: Request, name: str, default: int, minimum: int, maximum: int) -> int:
    text = request.argument(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and minimum <= int(text) <= maximum):
        raise Problem(http.BAD_REQUEST, f"{name}: a number from {minimum} to {maximum} is needed")
    return int(text)
