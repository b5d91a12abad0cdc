"""The state of the daemon as plain values: what the status page shows and ``connectctl status`` prints."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import connectd
from connectd.directory.errors import DirectoryError
from connectd.interfaces import IListenerService

if TYPE_CHECKING:
    from connectd.directory.service import DirectoryService
    from connectd.ops.daemon import Daemon


def snapshot(daemon: Daemon) -> dict[str, Any]:
    """What the daemon does at this moment.

    ``state``, ``version``, ``pid``, ``started`` (Unix seconds), ``uptime`` (seconds), ``connections``, ``sessions``,
    ``listeners`` (each ``title``, ``protocol``, ``addresses``, ``accepting``, ``connections``, ``sessions``),
    ``protocols`` (by name: ``sessions``, ``accepted``, ``outcomes``), ``directory`` (:func:`directory_state`, or None
    where there is none) and ``lost_events``.
    """
    context = daemon.context
    events, sessions = context.events, context.sessions
    now = context.reactor.seconds()
    names = {listener.protocol for listener in daemon.listeners} | set(events.accepted)
    outcomes: dict[str, dict[str, int]] = {name: {} for name in names}
    for (protocol, outcome), number in sorted(events.outcomes.items()):
        outcomes.setdefault(protocol, {})[outcome] = number
    return {
        "state": daemon.state.value,
        "version": connectd.__version__,
        "pid": os.getpid(),
        "started": daemon.started,
        "uptime": max(0.0, now - daemon.started) if daemon.started else 0.0,
        "connections": context.admission.open_connections,
        "sessions": len(sessions),
        "listeners": [_listener(listener) for listener in daemon.listeners],
        "protocols": {
            name: {
                "sessions": sessions.count(name),
                "accepted": events.accepted[name],
                "outcomes": outcomes[name],
            }
            for name in sorted(outcomes)
        },
        "directory": None if daemon.directory is None else directory_state(daemon.directory),
        "lost_events": daemon.lost_events(),
    }


def directory_state(directory: DirectoryService) -> dict[str, Any]:
    """How the directory is: ``database`` (its path), ``ready`` (whether anybody can be let in), ``problem`` (what is
    wrong, in one line, or None), and the numbers of ``accounts``, ``bans`` and ``keys``, or None for these.
    """
    counts: dict[str, Any] = {"accounts": None, "bans": None, "keys": None}
    problem = directory.problem
    try:
        counts |= directory.counts
        ready = True
    except DirectoryError as error:
        problem, ready = problem or str(error), False
    return {"database": directory.path, "ready": ready, "problem": problem, **counts}


def _listener(listener: IListenerService) -> dict[str, Any]:
    return {
        "title": listener.title,
        "protocol": listener.protocol,
        "addresses": [face.address for face in listener.faces],
        "accepting": listener.accepting,
        "connections": len(list(listener.connections)),
        "sessions": listener.session_count,
    }
