"""Assets on their way into a client's store: a thread waits for the disk, the server beyond a bound (AL-10)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed

from connectd.protocols.alloy.asset_store import AssetStore, IncomingAsset, StoredAsset
from connectd.protocols.alloy.fields import Asset
from connectd.workers.threads import run_in_thread

HELD: Final = 1 << 20
"""Bytes that may wait for the disk before the server is."""


class AssetDownload:
    """What a server sends, asset by asset, kept as it arrives whole.

    :param store: where to.
    :param reactor: the reactor, whose threads write.
    :param pause: called when more waits for the disk than may.
    :param resume: called when that is over.
    :param stored: called with each asset that is kept.
    :param failed: called once with what went wrong, an `AssetError` or an OSError; nothing is kept from then on.
    """

    def __init__(
        self,
        store: AssetStore,
        reactor: Any,
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
        stored: Callable[[Asset, StoredAsset], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._reactor = reactor
        self._pause, self._resume = pause, resume
        self._stored, self._failed = stored, failed
        self._jobs: deque[tuple[Callable[[], Any], int]] = deque()
        self._held = 0
        self._paused = False
        self._incoming: IncomingAsset | None = None
        self._working: Deferred[None] | None = None
        self._over = False

    def begin(self, asset: Asset, size: int) -> None:
        """An asset begins."""
        self._do(lambda: self._begin(asset, size))

    def part(self, part: bytes) -> None:
        """Some of it came."""
        self._do(lambda: self._write(part), len(part))

    def complete(self, asset: Asset) -> None:
        """All of it came: it is checked and kept, or the download has failed."""
        self._do(lambda: self._finish(asset))

    def finish(self) -> Deferred[None]:
        """Fires when nothing waits for the disk any more."""
        return succeed(None) if self._working is None else _when(self._working)

    def abandon(self) -> Deferred[None]:
        """Nothing more comes: keep what came whole, give up what did not. Fires when that is done."""
        if not self._over:
            self._do(self._abandon)
            self._over = True
        return self.finish()

    # In a thread

    def _begin(self, asset: Asset, size: int) -> None:
        self._incoming = self._store.receive(asset.hash, size)

    def _write(self, part: bytes) -> None:
        assert self._incoming is not None
        self._incoming.write(part)

    def _finish(self, asset: Asset) -> Callable[[], None]:
        incoming, self._incoming = self._incoming, None
        assert incoming is not None
        with incoming:
            stored = incoming.finish()
        return lambda: self._stored(asset, stored)

    def _abandon(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.abandon()

    # In the reactor

    def _do(self, job: Callable[[], Any], size: int = 0) -> None:
        if self._over:
            return
        self._jobs.append((job, size))
        self._held += size
        if self._held > HELD and not self._paused:
            self._paused = True
            self._pause()
        if self._working is None:
            self._working = Deferred.fromCoroutine(self._work())
            if self._working.called:
                self._working = None

    async def _work(self) -> None:
        while self._jobs:
            job, size = self._jobs.popleft()
            try:
                done = await run_in_thread(self._reactor, job)
                if callable(done):
                    done()
            except Exception as error:
                self._give_up(error)
                continue
            self._held -= size
            if self._paused and self._held <= HELD // 2:
                self._paused = False
                self._resume()
        self._working = None

    def _give_up(self, error: Exception) -> None:
        self._over = True
        self._jobs.clear()
        self._jobs.append((self._abandon, 0))
        self._failed(error)


def _when(work: Deferred[None]) -> Deferred[None]:
    """Fires after another one, which keeps its result."""
    after: Deferred[None] = Deferred()

    def done(result: Any) -> Any:
        after.callback(None)
        return result

    work.addBoth(done)
    return after
