"""The status page: one HTML document that needs nothing else, no script and no other server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from connectd.sansio import Outcome

REFRESH = 10
"""Seconds after which a browser asks again."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --ground: #f6f7f9; --card: #fff;
  --good: #17693a; --good-ground: #dcf2e4; --warn: #8a4b00; --warn-ground: #fdeccf; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #333c48; --ground: #14181d;
  --card: #1c2229; --good: #8fe0ae; --good-ground: #16382a; --warn: #ffcc80; --warn-ground: #43300f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem; max-width: 62rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1rem; }
h1 { margin: 0; font-size: 1.5rem; }
h2 { margin: 2rem 0 .5rem; font-size: 1.05rem; }
p, footer { color: var(--soft); margin: 0; }
.state { padding: .05rem .7rem; border-radius: 1rem; font-weight: 600; background: var(--warn-ground);
  color: var(--warn); }
.state.ready, .state.yes { background: var(--good-ground); color: var(--good); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1.5rem 0 0; }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .9rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .45rem .9rem; text-align: left; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-size: .85rem; font-weight: 500; }
tbody th { font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
footer { margin-top: 2rem; font-size: .85rem; }
a { color: inherit; }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: this one style sheet and nothing else."""


def status_page(state: Mapping[str, Any]) -> bytes:
    """The page for what :func:`connectd.ops.snapshot.snapshot` tells."""
    title = f"connectd: {state['state']}"
    since = datetime.fromtimestamp(state["started"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    facts = [
        ("Sessions", f"{state['sessions']:,}"),
        ("Connections", f"{state['connections']:,}"),
        ("Uptime", duration(state["uptime"])),
    ]
    if state["lost_events"]:
        facts.append(("Events lost", f"{state['lost_events']:,}"))
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="refresh" content="{REFRESH}">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f'<header><h1>connectd</h1><span class="state {escape(state["state"])}">{escape(state["state"])}</span>',
        f"<p>Version {escape(state['version'])}, since {escape(since)}</p></header><main><dl>",
        *(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts),
        "</dl>",
        "<h2>Listeners</h2>",
        _listeners(state["listeners"]),
        "<h2>Protocols</h2>",
        _protocols(state["protocols"]),
        '</main><footer><a href="/metrics">metrics</a> · <a href="/healthz">healthz</a> · ',
        '<a href="/readyz">readyz</a></footer></body></html>',
    ]
    return "".join(parts).encode()


def _listeners(listeners: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [
            _head(listener["protocol"]),
            _cell(", ".join(listener["addresses"]) or "nowhere"),
            _yes_or_no(listener["accepting"]),
            _number(listener["connections"]),
            _number(listener["sessions"]),
        ]
        for listener in listeners
    ]
    words, numbers = ("Protocol", "Listens on", "Accepts"), ("Connections", "Sessions")
    columns = [*((word, False) for word in words), *((number, True) for number in numbers)]
    return _table(columns, rows)


def _protocols(protocols: Mapping[str, Mapping[str, Any]]) -> str:
    seen = {outcome for protocol in protocols.values() for outcome in protocol["outcomes"]}
    outcomes = [outcome.value for outcome in Outcome if outcome.value in seen]
    rows = [
        [
            _head(name),
            _number(protocol["sessions"]),
            _number(protocol["accepted"]),
            *(_number(protocol["outcomes"].get(outcome, 0)) for outcome in outcomes),
        ]
        for name, protocol in protocols.items()
    ]
    return _table([("Protocol", False), *((name, True) for name in ("In now", "Accepted", *outcomes))], rows)


def _table(columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(
        f'<th scope="col"{" class=number" if number else ""}>{escape(name)}</th>' for name, number in columns
    )
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _head(text: str) -> str:
    return f'<th scope="row">{escape(text)}</th>'


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _number(number: int) -> str:
    return f'<td class="number">{number:,}</td>'


def _yes_or_no(value: bool) -> str:
    return f'<td><span class="state {"yes" if value else "no"}">{"yes" if value else "no"}</span></td>'


def duration(seconds: float) -> str:
    """A length of time for people: its two largest units."""
    whole = int(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((index for index, (number, unit) in enumerate(parts) if number), len(parts) - 1)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2])
