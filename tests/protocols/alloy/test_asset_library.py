"""The assets that a listener offers, and how they are sent (AL-10)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from connectd.credentials import CredentialsError
from connectd.net.outgoing import HIGH_WATER
from connectd.protocols.alloy import asset_library, asset_sending
from connectd.protocols.alloy.asset_index import AssetChanged
from connectd.protocols.alloy.asset_library import MANY, READERS, AssetLibrary
from connectd.protocols.alloy.asset_reader import PART_SIZE
from tests.protocols.alloy.scene import Scene, listener_settings, write_assets


class LibraryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.changes: list[AssetLibrary] = []
        self.library = AssetLibrary(str(self.folder), 10.0, self.clock, self.changes.append)
        self.addCleanup(self.stop)

    def stop(self) -> None:
        if self.library.running:
            self.library.stopService()

    def names(self) -> set[str]:
        return {asset.name for asset in self.library}

    def test_read_at_the_start(self) -> None:
        (self.folder / "a").write_bytes(b"a")
        self.library.read()
        self.assertEqual((self.names(), self.changes), ({"a"}, [self.library]))
        self.library.startService()
        (self.folder / "b").write_bytes(b"b")
        self.clock.advance(9.9)
        self.assertEqual(self.names(), {"a"})
        self.clock.advance(0.1)
        self.assertEqual((self.names(), len(self.changes)), ({"a", "b"}, 2))
        self.clock.advance(10)
        self.assertEqual(len(self.changes), 2)

    def test_read_while_it_runs(self) -> None:
        """A library that nobody has read tells once it knows what it offers, also where that is nothing."""
        self.library.startService()
        self.assertEqual((self.names(), self.changes), (set(), [self.library]))

    def test_directory_that_goes(self) -> None:
        """A directory that is away for a moment is no empty one; that is told once."""
        (self.folder / "a").write_bytes(b"a")
        self.library.read()
        self.library.startService()
        self.folder.rename(self.folder.with_name("away"))
        with capturedLogs() as logged:
            self.clock.pump([10, 10])
        self.assertEqual(self.names(), {"a"})
        self.assertEqual(len([event for event in logged if "cannot be read" in formatEvent(event)]), 1)
        self.assertRaises(CredentialsError, AssetLibrary(str(self.folder), 1, self.clock).read)

    def test_mistakes(self) -> None:
        """What nobody has thought of is logged, and the looking goes on."""
        self.library.read()
        self.library.startService()
        self.patch(self.library._directory, "scan", lambda: 1 // 0)
        self.clock.advance(10)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.advance(10)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_problems(self) -> None:
        """What is passed over is told, and not all of a thousand."""
        for number in range(MANY + 3):
            (self.folder / f"link{number}").symlink_to("/etc/passwd")
        with capturedLogs() as logged:
            self.library.read()
        lines = [
            formatEvent(event) for event in logged if "symbolic" in formatEvent(event) or "more" in formatEvent(event)
        ]
        self.assertEqual(len(lines), MANY + 1)
        self.assertIn("and 3 more are passed over", lines[-1])

    def test_turns(self) -> None:
        """AL-10: few parts are in memory at once, however many clients there are."""
        (self.folder / "a").write_bytes(b"a" * 10)
        self.library.read()
        [asset] = self.library
        begun: list[Deferred[Any]] = []

        def run(reactor: object, function: object) -> Deferred[Any]:
            begun.append(Deferred())
            return begun[-1]

        self.patch(asset_library, "run_in_thread", run)
        for _ in range(5):
            self.library.read_part(self.library.reader(asset))
        self.assertEqual(len(begun), READERS)
        begun[0].callback((b"", 0))
        self.assertEqual(len(begun), READERS + 1)

    def test_reader_that_is_given_up(self) -> None:
        """Who is gone before the file is open leaves none open."""
        (self.folder / "a").write_bytes(b"a")
        self.library.read()
        [asset] = self.library
        before = len(os.listdir("/proc/self/fd"))
        reader = self.library.reader(asset)
        reader.close()
        reader.open()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        (self.folder / "a").write_bytes(b"b")
        self.assertRaises(AssetChanged, self.library.reader(asset).open)


class SendingTests(SynchronousTestCase):
    def setUp(self) -> None:
        # Threads answer later, never at once.
        for module in (asset_library, asset_sending):
            self.patch(module, "run_in_thread", lambda reactor, *arguments: deferLater(reactor, 0.001, *arguments))

    def test_gone_meanwhile(self) -> None:
        """AL-10: an asset that changes or goes between two parts ends the session, with its name."""
        folder = write_assets({"big": os.urandom(4 * PART_SIZE)})
        scene = Scene(assets=folder, send_window=16 * 1024)
        scene.network.datagrams.latency = 0.05
        player = scene.join(seconds=0.6)
        self.assertEqual(player.assets, {})
        with open(os.path.join(folder, "big"), "ab") as file:
            file.write(b"more")
        for _ in range(600):
            scene.network.advance(0.5)
            if scene.outcomes:
                break
        self.assertEqual(scene.outcomes, ["failed"])
        scene.stop()

    def test_slow_client(self) -> None:
        """AL-10, AL-14: a client that takes minutes for one part is slow, not silent; and it gets all of it."""
        scene = Scene(assets=write_assets({"big": os.urandom(2 * PART_SIZE)}), send_window=16 * 1024)
        scene.network.datagrams.latency = 1.0
        player = scene.join(seconds=20)
        for _ in range(600):
            if player.assets or scene.outcomes:
                break
            scene.network.advance(2)
        self.assertEqual((player.assets, scene.outcomes), ({"big": 2 * PART_SIZE}, []))
        self.assertGreater(scene.network.clock.seconds(), 200)
        scene.stop(player)

    def test_bounded(self) -> None:
        """AL-10, COM-6: a part is read once the one before it has gone out."""
        scene = Scene(assets=write_assets({"big": os.urandom(5 * PART_SIZE)}))
        scene.network.datagrams.latency = 0.01
        player = scene.join(seconds=0.05)
        [connection] = scene.listener.connections
        transport: Any = connection.transport
        most = 0
        for _ in range(20_000):
            if player.assets:
                break
            scene.network.advance(0.01)
            most = max(most, transport.session.quic.unsent(0))
        self.assertEqual(player.assets, {"big": 5 * PART_SIZE})
        self.assertTrue(PART_SIZE // 4 < most < PART_SIZE + HIGH_WATER, most)
        scene.stop(player)

    def test_other_directory(self) -> None:
        """New settings may name another directory, or none: it counts once it is read."""
        scene = Scene(assets=write_assets({"old": b"x"}))
        first = scene.join()
        for assets, expected in ((write_assets({"new": b"x"}), {"new": 1}), ("", {}), (write_assets({}), {})):
            self.assertTrue(scene.listener.reconfigure(listener_settings(assets=assets)))
            scene.network.advance(0.1)
            player = scene.join(f"player{len(scene.listener.connections)}")
            self.assertEqual(player.assets, expected)
            player.client.hang_up()
            scene.network.advance(2)
        scene.stop(first)
