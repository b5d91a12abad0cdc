"""The assets of a directory: what is listed, what never is (AL-10)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy import asset_index
from connectd.protocols.alloy.asset_index import AssetChanged, AssetDirectory, IndexedAsset


class AssetDirectoryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.outside = Path(self.mktemp()).absolute()
        self.folder = self.outside / "assets"
        self.folder.mkdir(parents=True)
        (self.outside / "secret").write_bytes(b"secret")
        self.directory = AssetDirectory(str(self.folder))

    def put(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def listed(self) -> dict[str, str]:
        """The hashes by name."""
        return {asset.name: asset.hash for asset in self.directory.scan().assets.values()}

    def only(self) -> IndexedAsset:
        [asset] = self.directory.scan().assets.values()
        return asset


class ScanTests(AssetDirectoryCase):
    def test_listed(self) -> None:
        """AL-10: every file, by the hash of its content."""
        self.put("a", b"abc")
        self.put("deep/er/b", b"")
        scan = self.directory.scan()
        self.assertEqual(scan.problems, ())
        found = {asset.name: (asset.hash, asset.size) for asset in scan.assets.values()}
        self.assertEqual(
            found,
            {"a": (hashlib.sha256(b"abc").hexdigest(), 3), "deep/er/b": (hashlib.sha256(b"").hexdigest(), 0)},
        )
        self.assertEqual(set(found), set(scan.assets))

    def test_same_content(self) -> None:
        self.put("b", b"abc")
        self.put("a", b"abc")
        first, second = self.directory.scan().assets.values()
        self.assertEqual((first.name, second.name), ("a", "b"))
        self.assertEqual(first.hash, second.hash)

    def test_nothing_is_hashed_twice(self) -> None:
        """AL-10: a look at a directory that has not changed reads no file; a changed file is read, and no other."""
        self.put("a", b"abc")
        self.put("b", b"def")
        self.directory.scan()
        read: list[int] = []
        original = os.read

        def counted(descriptor: int, count: int) -> bytes:
            data = original(descriptor, count)
            read.append(len(data))
            return data

        with mock.patch.object(os, "read", counted):
            self.assertEqual(len(self.listed()), 2)
            self.assertEqual(read, [])
            self.put("b", b"other")
            self.assertEqual(self.listed()["b"], hashlib.sha256(b"other").hexdigest())
            self.assertEqual(sum(read), 5)

    def test_same_size_and_time(self) -> None:
        """A file whose modification time was set back is read again all the same."""
        path = self.put("a", b"abc")
        before = path.stat()
        self.directory.scan()
        path.write_bytes(b"xyz")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.assertEqual(self.only().hash, hashlib.sha256(b"xyz").hexdigest())

    def test_removed(self) -> None:
        path = self.put("a", b"abc")
        self.directory.scan()
        path.unlink()
        self.assertEqual(self.listed(), {})

    def test_symbolic_links(self) -> None:
        """AL-10: nothing outside the directory, by no kind of link."""
        (self.folder / "file").symlink_to(self.outside / "secret")
        (self.folder / "folder").symlink_to(self.outside)
        (self.folder / "circle").symlink_to(self.folder)
        (self.folder / "nothing").symlink_to("nowhere")
        scan = self.directory.scan()
        self.assertEqual(dict(scan.assets), {})
        self.assertIn("file: a symbolic link, which is not followed", scan.problems)

    def test_no_files(self) -> None:
        """A pipe is not waited for."""
        os.mkfifo(self.folder / "pipe")
        scan = self.directory.scan()
        self.assertEqual((dict(scan.assets), scan.problems), ({}, ("pipe: no file",)))

    def test_names(self) -> None:
        os.close(os.open(os.fsencode(self.folder) + b"/\xff", os.O_CREAT | os.O_WRONLY))
        self.put("a\nb", b"two lines")
        self.put("/".join(["x" * 200] * 3), b"long")
        problems = "\n".join(self.directory.scan().problems)
        self.assertEqual(problems.count("not printable"), 2)
        self.assertIn("more than 512 characters", problems)
        self.assertEqual(self.listed(), {})

    def test_too_many(self) -> None:
        for number in range(4):
            self.put(str(number), str(number).encode())
        with mock.patch.object(asset_index, "MAX_ASSETS", 3):
            scan = self.directory.scan()
        self.assertEqual(len(scan.assets), 3)
        self.assertIn("more than 3 assets", scan.problems[0])

    def test_too_large(self) -> None:
        path = self.put("a", b"")
        os.truncate(path, 2**31)
        self.assertIn("more than 2147483647 bytes", self.directory.scan().problems[0])

    def test_missing_directory(self) -> None:
        self.assertRaises(FileNotFoundError, AssetDirectory(str(self.outside / "no")).scan)

    def test_changing_while_hashed(self) -> None:
        path = self.put("a", b"abc")
        original = os.read

        def changing(descriptor: int, count: int) -> bytes:
            with path.open("ab") as file:
                file.write(b"more")
            return original(descriptor, count)[:0]

        with mock.patch.object(os, "read", changing):
            scan = self.directory.scan()
        self.assertEqual((dict(scan.assets), len(scan.problems)), ({}, 1))
        self.assertEqual(self.only().size, 7)


class OpenTests(AssetDirectoryCase):
    def content(self, asset: IndexedAsset) -> bytes:
        descriptor = self.directory.open(asset)
        try:
            return os.read(descriptor, 1000)
        finally:
            os.close(descriptor)

    def test_folder_that_became_a_link(self) -> None:
        """AL-10: the very same file, and the way to it leads out of the directory by now."""
        (self.folder / "deep").mkdir()
        (self.folder / "deep" / "a").write_bytes(b"content")
        asset = self.directory.scan().assets["deep/a"]
        os.close(self.directory.open(asset))
        outside = self.folder.with_name("outside")
        (self.folder / "deep").rename(outside)
        (self.folder / "deep").symlink_to(outside.absolute())
        self.assertRaises(AssetChanged, self.directory.open, asset)

    def test_open(self) -> None:
        self.put("deep/er/a", b"abc")
        self.assertEqual(self.content(self.only()), b"abc")

    def refused(self, asset: IndexedAsset) -> None:
        open_before = len(os.listdir("/proc/self/fd"))
        error = self.assertRaises(AssetChanged, self.directory.open, asset)
        self.assertIn(asset.name, str(error))
        self.assertEqual(len(os.listdir("/proc/self/fd")), open_before)

    def test_changed(self) -> None:
        """AL-10: a file that is another now is not sent under the old hash."""
        path = self.put("a", b"abc")
        asset = self.only()
        path.write_bytes(b"xyz")
        self.refused(asset)
        path.unlink()
        self.refused(asset)

    def test_became_a_link(self) -> None:
        """AL-10: a file or a folder that has become a link out of the directory is not followed."""
        path = self.put("deep/secret", b"secret")
        asset = self.only()
        path.unlink()
        path.symlink_to(self.outside / "secret")
        self.refused(asset)
        path.unlink()
        path.parent.rmdir()
        path.parent.symlink_to(self.outside)
        self.refused(asset)

    def test_became_a_pipe(self) -> None:
        path = self.put("a", b"abc")
        asset = self.only()
        path.unlink()
        os.mkfifo(path)
        self.refused(asset)

    def test_names_that_climb(self) -> None:
        """AL-10: a name from elsewhere opens nothing outside."""
        self.put("a", b"secret")
        asset = self.only()
        for name in ("../secret", "..", "/etc/passwd", "a/../../secret", ""):
            climbing = IndexedAsset(asset.hash, name, asset.size, asset.identity)
            self.assertRaises((AssetChanged, OSError), self.directory.open, climbing)
