"""A download: bounded in memory, in order, and nothing is kept that is not whole (AL-10)."""

from __future__ import annotations

import hashlib
import os
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy import asset_download
from connectd.protocols.alloy.asset_download import HELD, AssetDownload
from connectd.protocols.alloy.asset_store import AssetError, AssetStore, StoredAsset
from connectd.protocols.alloy.fields import Asset

CONTENT = bytes(1000)
ASSET = Asset(hashlib.sha256(CONTENT).hexdigest(), "../climbs")


class AssetDownloadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()
        self.store = AssetStore(self.path)
        self.stored: list[tuple[Asset, StoredAsset]] = []
        self.failures: list[Exception] = []
        self.paused: list[bool] = []
        self.jobs: list[tuple[Any, Deferred[Any]]] = []
        self.patch(asset_download, "run_in_thread", self.later)
        self.download = AssetDownload(
            self.store,
            None,
            pause=lambda: self.paused.append(True),
            resume=lambda: self.paused.append(False),
            stored=lambda asset, stored: self.stored.append((asset, stored)),
            failed=self.failures.append,
        )

    def later(self, reactor: Any, job: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.jobs.append((job, answer))
        return answer

    def work(self, count: int = 1000) -> None:
        """Let the thread do so many jobs."""
        for _ in range(count):
            if not self.jobs:
                return
            job, answer = self.jobs.pop(0)
            try:
                answer.callback(job())
            except Exception as error:
                answer.errback(error)

    def files(self) -> list[str]:
        return [name for _, _, names in os.walk(self.path) for name in names]

    def test_kept(self) -> None:
        self.download.begin(ASSET, 1000)
        self.download.part(CONTENT[:10])
        self.download.part(CONTENT[10:])
        self.download.complete(ASSET)
        self.assertEqual(len(self.jobs), 1)  # one at a time, in order
        finished = self.download.finish()
        self.work()
        self.successResultOf(finished)
        self.assertEqual(self.stored, [(ASSET, StoredAsset(ASSET.hash, 1000))])
        self.assertEqual(self.files(), [ASSET.hash])
        self.successResultOf(self.download.finish())

    def test_bounded(self) -> None:
        """AL-10: a server that is faster than the disk is made to wait."""
        self.download.begin(ASSET, 1 << 30)
        part = bytes(HELD // 2)
        self.download.part(part)
        self.download.part(part)
        self.assertEqual(self.paused, [])
        self.download.part(part)
        self.assertEqual(self.paused, [True])
        self.work(2)
        self.assertEqual(self.paused, [True])
        self.work(1)
        self.assertEqual(self.paused, [True, False])
        self.successResultOf(self.abandoned())

    def abandoned(self) -> Deferred[None]:
        waiting = self.download.abandon()
        self.work()
        return waiting

    def test_wrong(self) -> None:
        """AL-10: the wrong content ends it, and leaves nothing."""
        self.download.begin(ASSET, 1000)
        self.download.part(b"x" * 1000)
        self.download.complete(ASSET)
        self.download.begin(ASSET, 1000)
        self.work()
        [failure] = self.failures
        self.assertIsInstance(failure, AssetError)
        self.assertEqual((self.stored, self.files()), ([], []))
        self.download.begin(ASSET, 1000)
        self.assertEqual(self.jobs, [])

    def test_no_hash(self) -> None:
        self.download.begin(Asset("../" * 21 + "x", "name"), 10)
        self.download.part(bytes(10))
        self.work()
        self.assertEqual(len(self.failures), 1)
        self.assertFalse(os.path.exists(self.path))

    def test_full_disk(self) -> None:
        self.download.begin(ASSET, 1000)
        self.work()
        self.download.part(CONTENT)
        with mock.patch("connectd.protocols.alloy.asset_store.IncomingAsset.write", side_effect=OSError(28, "full")):
            self.work(1)
        self.work()
        self.assertIsInstance(self.failures[0], OSError)
        self.assertEqual(self.files(), [])

    def test_abandoned(self) -> None:
        """AL-10: a connection that breaks keeps what was whole, and leaves no half."""
        self.download.begin(ASSET, 1000)
        self.download.part(CONTENT)
        self.download.complete(ASSET)
        self.download.begin(Asset("0" * 64, "b"), 1000)
        self.download.part(CONTENT)
        self.work(4)
        self.assertEqual(len(self.files()), 2)
        self.successResultOf(self.abandoned())
        self.assertEqual(self.files(), [ASSET.hash])
        self.assertEqual(self.failures, [])
