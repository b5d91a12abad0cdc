"""The assets that a listener offers: a directory that is looked at now and then, and what is sent from it (AL-10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from connectd.credentials import CredentialsError
from connectd.protocols.alloy.asset_index import AssetDirectory, IndexedAsset, Scan
from connectd.protocols.alloy.asset_reader import AssetReader
from connectd.protocols.alloy.fields import Asset
from connectd.workers.threads import run_in_thread

log = Logger()

READERS: Final = 2
"""Parts that are being read at once, for all clients."""

MANY: Final = 5
"""Problems that are told one by one."""


class AssetLibrary(Service):
    """A directory's assets. While it runs it reads, in a thread, what has changed; all, if :meth:`read` has not.

    :param path: the directory; nothing: there are no assets.
    :param interval: seconds between two looks at it.
    :param reactor: the reactor.
    :param changed: called with this when it offers other assets than before, and once it knows what it offers.
    """

    def __init__(
        self, path: str, interval: float, reactor: Any, changed: Callable[[AssetLibrary], None] = lambda library: None
    ) -> None:
        self.path = path
        self._interval = interval
        self._reactor = reactor
        self._changed = changed
        self._directory = AssetDirectory(path)
        self._assets: Mapping[Asset, IndexedAsset] | None = None if path else {}
        self._problems: tuple[str, ...] = ()
        self._scanning: Deferred[None] | None = None
        self._turns = DeferredSemaphore(READERS)
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def __iter__(self) -> Iterator[Asset]:
        return iter(self._assets or ())

    def read(self) -> None:
        """Read the whole directory now, while nobody waits for anything else.

        :raises connectd.credentials.CredentialsError: where that cannot be done, in one line.
        """
        if self.path:
            try:
                self._take(self._directory.scan())
            except OSError as error:
                raise CredentialsError(f"alloy: assets: {self.path} cannot be read: {error.strerror}") from None

    def startService(self) -> None:
        super().startService()
        if self.path:
            looking = self._looking.start(self._interval, now=self._assets is None)
            looking.addErrback(lambda failure: log.failure("nobody looks for other assets any more", failure))

    def stopService(self) -> None:
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        if self._scanning is not None:
            self._scanning.cancel()

    def read_part(self, reader: AssetReader) -> Deferred[tuple[bytes, int]]:
        """Read a part in a thread, when it is its turn: a part is in memory several times while it is read, compressed
        and framed, and threads do not take turns by themselves."""
        return self._turns.run(run_in_thread, self._reactor, reader.read)

    def reader(self, asset: Asset) -> AssetReader:
        """What reads an asset, to send it. It works in threads; to open and to close it is the caller's.

        :raises KeyError: where it is not offered any more.
        """
        return AssetReader(self._directory, (self._assets or {})[asset])

    def _look(self) -> Deferred[None]:
        """Look at the directory; while that takes longer than the interval, nothing else is begun."""
        self._scanning = run_in_thread(self._reactor, self._directory.scan).addCallbacks(self._take, self._failed)
        return self._scanning

    def _take(self, scan: Scan) -> None:
        assets = {Asset(asset.hash, asset.name): asset for asset in scan.assets.values()}
        self._tell(scan.problems)
        before, self._assets = self._assets, assets
        if before is None or assets.keys() != before.keys():
            log.info("alloy: assets: {path} offers {count}", path=self.path, count=len(assets))
            self._changed(self)

    def _failed(self, failure: Failure) -> None:
        """What was offered before stays so: a directory that is unmounted for a moment is no empty one."""
        if not self.running:
            return
        if failure.check(OSError):
            self._tell((f"{self.path} cannot be read: {failure.value.strerror}",))  # type: ignore[union-attr]  # OSError
        else:
            log.failure("alloy: assets: {path} could not be looked at", failure, path=self.path)

    def _tell(self, problems: tuple[str, ...]) -> None:
        """Tell what is passed over, once, not with every look."""
        if problems != self._problems:
            for problem in problems[:MANY]:
                log.warn("alloy: assets: {problem}", problem=problem)
            if len(problems) > MANY:
                log.warn("alloy: assets: and {count} more are passed over", count=len(problems) - MANY)
        self._problems = problems
