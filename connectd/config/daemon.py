"""What an operator can set about the daemon itself: the ``[daemon]`` table."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from connectd.net.endpoint import EndpointError, parse_endpoint
from connectd.settings import at_least, between, key, one_of

LOG = "log"
"""The word for ``events`` that sends events through the log."""


def _kinds(*kinds: str) -> Callable[[str], str | None]:
    """A check: the text is an endpoint of one of these kinds, or empty."""

    def check(text: str) -> str | None:
        if not text:
            return None
        try:
            kind = parse_endpoint(text).kind
        except EndpointError as error:
            return str(error)
        return None if kind in kinds else f"{text} cannot be used here; write {', '.join(f'{one}:' for one in kinds)}"

    return check


@attrs.frozen(kw_only=True)
class DaemonSettings:
    """What the daemon can be told, apart from its listeners."""

    state_dir: str = key("state", "The directory of the database and of generated keys.", path=True)
    admin: str = key(
        "unix:state/admin.sock",
        "Where connectctl reaches the daemon: unix:PATH[:mode=600] or systemd:name=NAME. Whoever may connect to that "
        "socket can do everything. Empty for none.",
        check=_kinds("unix", "systemd"),
    )
    status: str = key(
        "tcp:8025:interface=127.0.0.1",
        "Where the status page, /metrics, /healthz and /readyz are. Empty for none.",
        check=_kinds("tcp", "unix", "systemd"),
    )
    drain_timeout: float = key(
        10.0,
        "How long peers have, after they were told, before a stopping or draining daemon closes them (COM-8).",
        unit="seconds",
        check=between(0, 3600),
    )
    log: str = key("text", "The form of the log: text for people or json for programs.", check=one_of("text", "json"))
    events: str = key(
        LOG,
        'Where events go (COM-7): "log" sends them through the log, anything else is the path of a file that gets one '
        "JSON object a line. With many connections a second the file is the better choice: it costs a tenth.",
        example='"state/events.jsonl"',
    )
    events_file_size: int = key(
        10 * 1024 * 1024,
        "The event file begins anew when it has this size; 0 leaves that to others, such as logrotate's copytruncate.",
        unit="bytes",
        check=at_least(0),
    )
    events_files: int = key(
        5,
        "How many earlier event files are kept. All of them together are what a flood of refused connections can fill.",
        check=at_least(1),
    )
    event_sinks: tuple[str, ...] = key(
        (), "Names of event sink plugins that get the events too.", example='["example"]'
    )
