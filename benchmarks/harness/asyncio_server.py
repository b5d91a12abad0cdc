"""A server's process on asyncio's own loop, for baselines that know no Twisted."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any

from benchmarks.harness.child import pin
from benchmarks.harness.control import answer, resolve
from benchmarks.harness.usage import cpu, memory


async def _run(descriptor: int, target: str, arguments: dict[str, Any]) -> None:
    commands = {"cpu": cpu, "memory": memory, **await resolve(target)(**arguments)}
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor))
    while line := await reader.readline():
        writer.write(answer(commands, line))


def main(descriptor: int, place: int, target: str, arguments: dict[str, Any]) -> None:
    """Run until the benchmark closes its end."""
    pin(place)
    asyncio.run(_run(descriptor, target, arguments))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))
