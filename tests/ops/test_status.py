"""The status site."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from connectd.ops.daemon import State
from connectd.ops.page import duration, status_page
from connectd.ops.snapshot import snapshot
from connectd.sansio import Outcome
from tests.ops.composed import NOW, add_session, composed
from tests.ops.exchange import Exchange


class StatusTests(SynchronousTestCase):
    """What is answered where."""

    def setUp(self) -> None:
        self.daemon = composed(self)
        self.site = Exchange(self.daemon.status_routes)

    def test_health(self) -> None:
        """As long as it answers it is healthy, whatever it does."""
        for state in State:
            self.daemon.state = state
            response = self.site.ask("GET", "/healthz")
            self.assertEqual((response.status, response.body), (200, b"ok\n"))

    def test_readiness(self) -> None:
        """Ready means that all listeners accept: not before the start, and not while draining."""
        for listener in self.daemon.listeners:
            self.patch(listener, "_ports", [object()])
        for state in State:
            self.daemon.state = state
            response = self.site.ask("GET", "/readyz")
            expected = 200 if state is State.READY else 503
            self.assertEqual((response.status, response.body.decode()), (expected, f"{state.value}\n"))

    def test_not_ready_with_one_listener_closed(self) -> None:
        self.daemon.state = State.READY
        self.assertEqual(self.site.ask("GET", "/readyz").status, 503)

    def test_metrics(self) -> None:
        response = self.site.ask("GET", "/metrics")
        self.assertEqual(response.status, 200)
        self.assertTrue(response.headers["Content-Type"].startswith("text/plain; version="))
        self.assertIn(b"connectd_sessions", response.body)

    def test_only_told(self) -> None:
        """Nothing can be changed here."""
        for path in ("/", "/healthz", "/readyz", "/metrics"):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                self.assertEqual(self.site.ask(method, path).status, 405)

    def test_page(self) -> None:
        response = self.site.ask("GET", "/")
        self.assertEqual((response.status, response.headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        [listener] = self.daemon.listeners
        self.assertIn(listener.faces[0].address.encode(), response.body)

    def test_page_needs_nothing_else(self) -> None:
        """The policy allows this one style sheet, and the page asks for nothing that it forbids."""
        response = self.site.ask("GET", "/")
        text = response.body.decode()
        policy = response.headers["Content-Security-Policy"]
        [style] = re.findall("<style>(.*?)</style>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self.assertIn(f"style-src 'sha256-{digest}'", policy)
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        for forbidden in ("<script", "src=", "style=", "url(", "@import", "<link", "<form", "http:", "https:"):
            self.assertNotIn(forbidden, text)


class Reading(HTMLParser):
    """Checks that tags are closed in order, and gathers the cells."""

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("td", "th", "dd"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and {"td", "th", "dd"} & set(self.open):
            self.cells[-1] += data


class PageTests(SynchronousTestCase):
    """The page shows what the snapshot says."""

    def setUp(self) -> None:
        self.daemon = composed(self, listeners=2)
        self.daemon.started = NOW - 90_061
        add_session(self.daemon, 1)
        stamp = {"protocol": "lekt", "peer": "x", "connection": 1}
        self.daemon.context.events.session_accepted("lekt", stamp, {})
        for outcome in (Outcome.LOST, Outcome.REFUSED, Outcome.REFUSED):
            self.daemon.context.events.connection_ended("lekt", stamp, outcome, "", None)

    def read(self, state: dict[str, Any]) -> list[str]:
        reading = Reading()
        reading.feed(status_page(state).decode())
        reading.close()
        self.assertEqual(reading.open, [])
        return reading.cells

    def test_cells(self) -> None:
        cells = self.read(snapshot(self.daemon))
        self.assertEqual(cells[:3], ["1", "0", "1 d 1 h"])
        start = cells.index("In now")
        self.assertEqual(
            cells[start - 1 :], ["Protocol", "In now", "Accepted", "refused", "lost", "lekt", "1", "1", "2", "1"]
        )

    def test_everything_is_escaped(self) -> None:
        """Nothing that a plugin or a configuration says becomes markup."""
        evil = "<img onload='x'>&\""
        state = snapshot(self.daemon)
        state["state"] = state["version"] = evil
        state["listeners"][0].update(protocol=evil, addresses=[evil], title=evil)
        state["protocols"][evil] = {"sessions": 0, "accepted": 0, "outcomes": {evil: 1}}
        state["lost_events"] = 1234
        cells = self.read(state)
        self.assertNotIn("<img", status_page(state).decode())
        self.assertIn(evil, cells)
        self.assertIn("1,234", cells)

    def test_duration(self) -> None:
        for seconds, text in (
            (0, "0 s"),
            (59.9, "59 s"),
            (60, "1 min 0 s"),
            (3600 + 61, "1 h 1 min"),
            (86400 * 400, "400 d 0 h"),
        ):
            self.assertEqual(duration(seconds), text)
