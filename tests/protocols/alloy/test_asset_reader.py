"""An asset that is read to be sent: what was indexed, or nothing (AL-10)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy.asset_index import AssetChanged, AssetDirectory
from connectd.protocols.alloy.asset_reader import AssetReader
from connectd.protocols.alloy.packets import decode

CONTENT = bytes(range(256)) * 10
HEADER = 8
"""Bytes of a frame before its payload."""


class AssetReaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "a"
        self.file.write_bytes(CONTENT)
        self.directory = AssetDirectory(str(self.folder))

    def reader(self, part_size: int) -> AssetReader:
        [asset] = self.directory.scan().assets.values()
        reader = AssetReader(self.directory, asset, part_size)
        reader.open()
        self.addCleanup(reader.close)
        return reader

    def parts(self, reader: AssetReader) -> Iterator[bytes]:
        while reader.left:
            frame, size = reader.read()
            part = decode(25, frame[HEADER:]).part
            assert part is not None
            self.assertEqual(len(part), size)
            yield part

    def test_parts(self) -> None:
        for size in (1000, 2560, 5000, 1):
            parts = list(self.parts(self.reader(size)))
            self.assertEqual(b"".join(parts), CONTENT)
            self.assertEqual({len(part) for part in parts[:-1]} - {size}, set())

    def test_empty(self) -> None:
        self.file.write_bytes(b"")
        reader = self.reader(10)
        self.assertEqual(reader.left, 0)
        self.assertRaises(EOFError, reader.read)

    def test_cut(self) -> None:
        """AL-10: a file that becomes shorter while it is sent."""
        reader = self.reader(2000)
        reader.read()
        os.truncate(self.file, 2100)
        self.assertRaises(AssetChanged, reader.read)

    def test_written_to(self) -> None:
        """AL-10: a file that is written to while it is sent: no part of the new content goes out under the old hash."""
        reader = self.reader(2000)
        reader.read()
        with self.file.open("r+b") as file:
            file.seek(2200)
            file.write(b"other")
        self.assertRaises(AssetChanged, reader.read)

    def test_replaced(self) -> None:
        """A file that is replaced, as careful programs do, is sent to its end: it is still what was asked for."""
        reader = self.reader(2000)
        reader.read()
        other = self.folder / "b"
        other.write_bytes(b"new")
        os.rename(other, self.file)
        _, size = reader.read()
        self.assertEqual((size, reader.left), (560, 0))
        self.assertEqual(self.file.read_bytes(), b"new")

    def test_closed(self) -> None:
        reader = self.reader(10)
        reader.close()
        reader.close()
        self.assertRaises(EOFError, reader.read)
