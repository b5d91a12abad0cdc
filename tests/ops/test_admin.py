"""The admin API."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import connectd
from connectd.ops.admin import KICKED, LONGEST_REASON, MOST_LISTED, check_keys, json_reply, read_json
from connectd.sansio import Outcome
from tests.ops.composed import NOW, add_session, composed
from tests.ops.exchange import Exchange


class AdminCase(SynchronousTestCase):
    """With an admin site in memory."""

    def setUp(self) -> None:
        self.daemon = composed(self)
        self.site = Exchange(self.daemon.admin_routes)

    def get(self, path: str, status: int = 200) -> Any:
        """The JSON that a question is answered with."""
        return self.decoded(self.site.ask("GET", path), status)

    def post(self, path: str, body: Any, status: int = 200) -> Any:
        """The JSON that a demand is answered with."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.decoded(self.site.ask("POST", path, data), status)

    def decoded(self, response: Any, status: int) -> Any:
        self.assertEqual(response.status, status, response.body)
        self.assertEqual(response.headers["Content-Type"], "application/json")
        return json.loads(response.body)


class StatusTests(AdminCase):
    """GET /status"""

    def test_status(self) -> None:
        add_session(self.daemon, 3)
        self.daemon.started = NOW - 10
        stamp = {"protocol": "lekt", "peer": "x", "connection": 1}
        self.daemon.context.events.connection_ended("lekt", stamp, Outcome.LEFT, "", None)
        self.daemon.context.events.connection_ended("old", stamp, Outcome.LOST, "", None)
        [listener] = self.daemon.listeners
        [face] = listener.faces
        self.assertEqual(
            self.get("/status"),
            {
                "state": "starting",
                "version": connectd.__version__,
                "pid": os.getpid(),
                "started": NOW - 10,
                "uptime": 10.0,
                "connections": 0,
                "sessions": 1,
                "listeners": [
                    {
                        "title": f"lekt on {face.address}",
                        "protocol": "lekt",
                        "addresses": [face.address],
                        "accepting": False,
                        "connections": 0,
                        "sessions": 0,
                    }
                ],
                "protocols": {
                    "lekt": {"sessions": 1, "accepted": 0, "outcomes": {"left": 1}},
                    "old": {"sessions": 0, "accepted": 0, "outcomes": {"lost": 1}},
                },
                "directory": None,
                "lost_events": 0,
            },
        )

    def test_not_started(self) -> None:
        self.assertEqual(self.get("/status")["uptime"], 0.0)

    def test_errors_are_json(self) -> None:
        self.assertEqual(set(self.get("/nowhere", 404)), {"error"})
        self.assertEqual(set(self.post("/status", {}, 405)), {"error"})


class SessionsTests(AdminCase):
    """GET /sessions"""

    def setUp(self) -> None:
        super().setUp()
        for identifier in (5, 2, 9):
            add_session(self.daemon, identifier, identity={"network": object})
        add_session(self.daemon, 7, "other")

    def ids(self, path: str) -> list[int]:
        return [session["id"] for session in self.get(path)["sessions"]]

    def test_all(self) -> None:
        """In the order of their ids, with what an operator may know; what JSON does not have is text."""
        answer = self.get("/sessions")
        self.assertEqual([session["id"] for session in answer["sessions"]], [2, 5, 7, 9])
        self.assertEqual(answer["total"], 4)
        self.assertEqual(
            answer["sessions"][0],
            {
                "id": 2,
                "protocol": "lekt",
                "listener": "lekt on a port",
                "peer": "192.0.2.1:5000",
                "account": "ann",
                "since": NOW,
                "identity": {"network": str(object)},
            },
        )

    def test_protocol(self) -> None:
        self.assertEqual(self.ids("/sessions?protocol=other"), [7])
        self.assertEqual(self.get("/sessions?protocol=other")["total"], 1)
        self.assertEqual(self.get("/sessions?protocol=none"), {"sessions": [], "total": 0})

    def test_pages(self) -> None:
        self.assertEqual(self.ids("/sessions?limit=2"), [2, 5])
        self.assertEqual(self.ids("/sessions?limit=2&after=5"), [7, 9])
        self.assertEqual(self.ids("/sessions?limit=2&after=9"), [])

    def test_wrong_numbers(self) -> None:
        for query in ("limit=0", f"limit={MOST_LISTED + 1}", "limit=x", "limit=-1", "after=-1", "after=" + "9" * 5000):
            error = self.get(f"/sessions?{query}", 400)["error"]
            self.assertIn(query.partition("=")[0], error)
        self.get("/sessions?limit=%D9%A3", 400)  # an Arabic digit


class KickTests(AdminCase):
    """POST /sessions/kick"""

    def test_kick(self) -> None:
        wire = add_session(self.daemon, 3)
        answer = self.post("/sessions/kick", {"id": 3, "reason": "time to go"})
        self.assertEqual(answer["kicked"]["id"], 3)
        self.assertEqual(wire.closed, [(Outcome.KICKED, "time to go")])

    def test_without_reason(self) -> None:
        wire = add_session(self.daemon, 3)
        self.post("/sessions/kick", {"id": 3})
        self.assertEqual(wire.closed, [(Outcome.KICKED, KICKED)])

    def test_unknown(self) -> None:
        self.assertEqual(self.post("/sessions/kick", {"id": 4}, 404), {"error": "there is no session 4"})

    def test_wrong_bodies(self) -> None:
        """A demand that is not understood does nothing."""
        wire = add_session(self.daemon, 1)
        wrong: list[Any] = [b"", b"{", b"\xff", b"[" * 10_000, [], 1, {}, {"id": "1"}, {"id": True}, {"id": 1.0}]
        wrong += [{"id": 1, "reson": "x"}, {"id": 1, "reason": None}, {"id": 1, "reason": ""}]
        wrong += [{"id": 1, "reason": "two\nlines"}, {"id": 1, "reason": "x" * (LONGEST_REASON + 1)}]
        for body in wrong:
            self.assertEqual(set(self.post("/sessions/kick", body, 400)), {"error"}, body)
        self.assertEqual(wire.closed, [])

    @settings(deadline=None, max_examples=100)
    @given(st.binary())
    def test_any_body(self, body: bytes) -> None:
        """Whatever comes, the answer is JSON and not an internal error."""
        Exchange(self.daemon.admin_routes)
        response = Exchange(self.daemon.admin_routes).ask("POST", "/sessions/kick", body)
        self.assertIn(response.status, (400, 404))
        json.loads(response.body)


class OtherRoomsTests(AdminCase):
    """Other rooms can add what they answer."""

    def test_added(self) -> None:
        def reload(request: Any) -> Any:
            body = read_json(request)
            check_keys(body, "quick")
            return json_reply({"reloaded": body["quick"]}, 202)

        self.daemon.admin_routes.add("POST", "/reload", reload)
        self.assertEqual(self.post("/reload", {"quick": True}, 202), {"reloaded": True})
        self.assertIn("known are quick", self.post("/reload", {"quik": True}, 400)["error"])
