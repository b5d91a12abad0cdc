"""The status site: a page for people, metrics for Prometheus, and health and readiness for whoever restarts things."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.web import http

from connectd.net.web import HTML, Reply, Request, Routes
from connectd.ops.metrics import CONTENT_TYPE
from connectd.ops.page import POLICY, status_page
from connectd.ops.snapshot import snapshot

if TYPE_CHECKING:
    from connectd.ops.daemon import Daemon


def status_routes(daemon: Daemon) -> Routes:
    """What the status site answers; all of it only tells. Other rooms add theirs to
    :attr:`connectd.ops.daemon.Daemon.status_routes`."""
    routes = Routes()

    def page(request: Request) -> Reply:
        return Reply(status_page(snapshot(daemon)), HTML, headers={"Content-Security-Policy": POLICY})

    def healthy(request: Request) -> Reply:
        return Reply(b"ok\n")

    def ready(request: Request) -> Reply:
        obstacle = daemon.obstacle
        if obstacle is None:
            return Reply(b"ready\n")
        return Reply(f"{obstacle}\n".encode(), status=http.SERVICE_UNAVAILABLE)

    def metrics(request: Request) -> Reply:
        return Reply(daemon.metrics.exposition(), CONTENT_TYPE)

    routes.add("GET", "/", page)
    routes.add("GET", "/healthz", healthy)
    routes.add("GET", "/readyz", ready)
    routes.add("GET", "/metrics", metrics)
    return routes
