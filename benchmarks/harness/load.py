"""The load generator's process: does what it is asked for, one thing after the other."""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

from benchmarks.harness.child import pin
from benchmarks.harness.control import answer, resolve


def main(descriptor: int, cpu: int, target: str, arguments: dict[str, Any]) -> None:
    """Run until the benchmark closes its end."""
    pin(cpu)
    commands = resolve(target)(**arguments)
    with socket.socket(fileno=descriptor) as control, control.makefile("rb") as lines:
        for line in lines:
            control.sendall(answer(commands, line))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))
