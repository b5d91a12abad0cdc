"""Players that download, in a process of their own with a reactor: one to the end and into a store, or many for a
while."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.harness.control import Commands
from benchmarks.servers.alloy import PASSWORD


def load(port: int) -> Commands:
    """The commands."""
    begun: list[subprocess.Popen[str]] = []

    def command(*arguments: Any) -> list[str]:
        return [sys.executable, "-m", "benchmarks.loads.alloy_assets", str(port), *map(str, arguments)]

    def download() -> float:
        return float(subprocess.run(command(), check=True, capture_output=True, text=True, timeout=170).stdout)

    def begin(count: int) -> None:
        """So many begin; the call returns once all are at it."""
        process = subprocess.Popen(command(count), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stdout is not None
        if process.stdout.readline().strip() != "downloading":
            raise AssertionError("the players could not begin")

    def leave() -> int:
        """They go; how many bytes came to all of them."""
        output, _ = begun.pop().communicate("leave\n", timeout=60)
        return int(output)

    return {"exchange": lambda count: None, "download": download, "begin": begin, "leave": leave}


async def download(reactor: Any, port: int) -> None:
    """Print the bytes a second from the request to the asset that is kept."""
    from connectd.protocols.alloy.asset_store import AssetStore

    times: list[float] = []
    sizes: list[int] = []
    with tempfile.TemporaryDirectory(prefix="connectd-benchmark-") as folder:
        client = await _join(
            reactor,
            port,
            "ann",
            store=AssetStore(folder),
            on_assets=lambda assets: times.append(time.monotonic()),
            on_asset=lambda asset, size: sizes.append(size),
        )
        await client.when_entered()
        times.append(time.monotonic())
        await client.hang_up()
    print(sum(sizes) / (times[1] - times[0]))


async def hold(reactor: Any, port: int, count: int) -> None:
    """Download in many sessions, until a line comes."""
    from twisted.internet.threads import deferToThread

    came = [0]

    def part(size: int) -> None:
        came[0] += size

    clients = [await _join(reactor, port, f"player{number}", on_part=part) for number in range(count)]
    print("downloading", flush=True)
    await deferToThread(sys.stdin.readline)
    print(came[0])
    for client in clients:
        client.when_entered().addErrback(lambda failure: None)
        client.hang_up()


async def _join(reactor: Any, port: int, name: str, **options: Any) -> Any:
    from connectd.protocols.alloy.client import make_client, make_endpoint, parse_alloy_url

    server = parse_alloy_url(f"alloy://{name}@127.0.0.1:{port}?trust=yes&connect_timeout=60")
    client = make_client(reactor, server, password=PASSWORD.encode(), **options)
    await client.connect(make_endpoint(reactor, server))
    return client


def main(port: int, *count: int) -> None:
    """Run one of the two."""
    from connectd.net.foreground import run

    run(lambda reactor: hold(reactor, port, *count) if count else download(reactor, port))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
