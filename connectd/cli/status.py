"""``connectctl status``: how the running daemon is."""

from __future__ import annotations

from typing import Any

import click

from connectd.cli.admin_client import admin_client, admin_option
from connectd.cli.invocation import Invocation
from connectd.cli.output import print_json, print_line, print_table
from connectd.ops.page import duration


@click.command()
@admin_option
@click.pass_obj
def status(invocation: Invocation, admin: str | None) -> None:
    """Tell how the running daemon is: its listeners, who is in, how connections ended."""
    state = admin_client(invocation, admin).get("/status")
    if invocation.json:
        print_json(state)
    else:
        _print_state(state)


def _print_state(state: dict[str, Any]) -> None:
    print_line(
        f"connectd {state['version']} is {state['state']}, up {duration(state['uptime'])} (process {state['pid']}): "
        f"sessions {state['sessions']}, connections {state['connections']}"
    )
    if state["lost_events"]:
        print_line(f"{state['lost_events']} events could not be written; the log says why")
    print_line()
    print_table(
        ["listener", "listens on", "accepts", "connections", "sessions"],
        [
            [
                listener["protocol"],
                ", ".join(listener["addresses"]),
                "yes" if listener["accepting"] else "no",
                listener["connections"],
                listener["sessions"],
            ]
            for listener in state["listeners"]
        ],
    )
    print_line()
    print_table(
        ["protocol", "sessions", "accepted", "ended"],
        [
            [
                name,
                protocol["sessions"],
                protocol["accepted"],
                ", ".join(f"{outcome} {number}" for outcome, number in protocol["outcomes"].items()),
            ]
            for name, protocol in state["protocols"].items()
        ],
    )
