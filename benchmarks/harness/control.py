"""How a benchmark talks to its child processes: JSON lines over a socket pair.

A request is ``{"call": NAME, "arguments": {…}}``; the answer ``{"result": …}`` or ``{"error": TEXT}``. A child ends
when the socket is closed, so none outlives the benchmark.
"""

from __future__ import annotations

import importlib
import json
import traceback
from collections.abc import Callable, Mapping
from typing import Any

Commands = Mapping[str, Callable[..., Any]]
"""What a child can be asked for."""


def resolve(target: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` names."""
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def answer(commands: Commands, line: bytes) -> bytes:
    """Do what one line asks for, and answer with one line."""
    try:
        request = json.loads(line)
        answered = json.dumps({"result": commands[request["call"]](**request["arguments"])})
    except Exception:
        answered = json.dumps({"error": traceback.format_exc()})
    return answered.encode() + b"\n"
