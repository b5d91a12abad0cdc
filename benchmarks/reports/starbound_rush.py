"""Two hundred players at once: when they are in, and how late the reactor comes to its other work meanwhile."""

from __future__ import annotations

from benchmarks.harness.benchmark import Number, Report
from benchmarks.harness.child import load, server

PLAYERS = 200


def _rush() -> list[Number]:
    with (
        server("benchmarks.servers.starbound:serve") as listening,
        load("benchmarks.loads.starbound:load", port=listening.call("port")) as clients,
    ):
        clients.call("logins", count=20)
        listening.call("start_ticks")
        times = sorted(clients.call("rush", count=PLAYERS))
        histogram = listening.call("histogram")
    worst = histogram.pop("worst")
    numbers = [
        Number("players that were let in", len(times), "players"),
        Number("the first was in after", times[0] * 1e3, "ms"),
        Number("half of them", times[len(times) // 2] * 1e3, "ms"),
        Number("the last (the deadline is 30,000)", times[-1] * 1e3, "ms"),
    ]
    for bound, count in histogram.items():
        label = (
            "ticks of a millisecond that came later than that" if bound == "more" else f"ticks up to {bound} ms late"
        )
        numbers.append(Number(label, count, "ticks"))
    return [*numbers, Number("the latest tick", worst, "ms late")]


REPORTS = [Report("starbound-rush", f"{PLAYERS} players log in to one process at the same moment", _rush)]
