"""A player's ship, kept for a handler that wants it: in memory, or in a temporary file where it is large (SB-8)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import IO, Any, Final, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger()

T = TypeVar("T")

LIMIT: Final = 256 * 1024
"""Bytes above which a ship goes to a file."""

PIECE: Final = 64 * 1024
"""Bytes that are read at once unless more are asked for."""

Run = Callable[..., "Deferred[Any]"]
"""Calls a function with arguments where it may wait for a disk."""


class Spool:
    """Bytes that come in pieces. All disk work is done in threads, one piece of it at a time.

    The temporary file has no name: it is gone when it is closed, or when the process is.

    :param directory: where to make the file; empty: the system's place for temporary files.
    :param run: what disk work is done with.
    """

    __slots__ = ("_closed", "_directory", "_file", "_lock", "_memory", "_run", "_writing", "size")

    def __init__(self, directory: str = "", run: Run = deferToThread) -> None:
        self.size = 0
        """How many bytes there are."""
        self._directory = directory
        self._run = run
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._lock = DeferredLock()
        self._writing = False
        self._closed = False

    def __len__(self) -> int:
        return self.size

    @property
    def held(self) -> int:
        """How many bytes are in memory."""
        return len(self._memory)

    @property
    def stored(self) -> int:
        """How many bytes are in a file, or on their way to it."""
        return self.size - len(self._memory) if self.in_file else 0

    @property
    def in_file(self) -> bool:
        """Whether they are in a file, or on their way to it."""
        return self._writing or self._file is not None

    def write(self, data: bytes) -> Deferred[None] | None:
        """Add a piece.

        :return: None where that is done. Else a Deferred that fires once nothing waits for the disk: write no more
            before. It fails with the OSError where the disk does not take it. Cancelling it stops nothing but the
            waiting.
        """
        self.size += len(data)
        self._memory += data
        if not self.in_file and len(self._memory) <= LIMIT:
            return None
        self._writing = True
        return _following(self._lock.run(self._flush))

    def read(self, offset: int = 0, count: int = PIECE) -> Deferred[bytes]:
        """Bytes from the middle of it; fewer at the end, none behind it.

        :return: fails with a ValueError where it is closed.
        """
        return _following(self._lock.run(lambda: Deferred.fromCoroutine(self._read(offset, count))))

    def close(self) -> None:
        """Forget it all. A write or a read that is under way is finished first."""
        if not self._closed:
            self._closed = True
            self._memory = bytearray()
            self._lock.run(self._close).addErrback(
                lambda failure: log.failure("the temporary file of a ship could not be closed", failure)
            )

    # One at a time

    def _flush(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._write())

    async def _write(self) -> None:
        try:
            while self._memory and not self._closed:
                data, self._memory = self._memory, bytearray()
                self._file = await self._run(_append, self._file, self._directory, data)
        finally:
            self._writing = False

    async def _read(self, offset: int, count: int) -> bytes:
        if self._closed:
            raise ValueError("the session of this ship is over")
        if self._file is None:
            return bytes(self._memory[offset : offset + count])
        found: bytes = await self._run(_fetch, self._file, offset, count)
        return found

    def _close(self) -> Any:
        file, self._file = self._file, None
        return None if file is None else self._run(file.close)


def _following(work: Deferred[T]) -> Deferred[T]:
    """What comes of work that nobody may cancel: a thread goes on with its file whoever still waits for it."""
    follower: Deferred[T] = Deferred(lambda follower: None)

    def settle(result: T | Failure) -> None:
        if not follower.called:
            follower.callback(result)

    work.addBoth(settle)
    return follower


def _append(file: IO[bytes] | None, directory: str, data: bytearray) -> IO[bytes]:
    """Runs in a thread."""
    if file is None:
        file = tempfile.TemporaryFile(dir=directory or None, buffering=0)  # noqa: SIM115  # closed with its session
    file.seek(0, 2)
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    return file


def _fetch(file: IO[bytes], offset: int, count: int) -> bytes:
    """Runs in a thread."""
    file.seek(offset)
    return file.read(count)
