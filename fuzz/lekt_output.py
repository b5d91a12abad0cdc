"""What a LEKT server may say, written a second time: a reader that believes nothing, and keeps a client's list.

It shares no code with the wing, so that a mistake would have to be made twice.
"""

from __future__ import annotations

from collections import Counter

from fuzz.watched import require

HEADER = b"LEKT%c\0\0\0"
ADDITION_LIMIT = 65_536
REMOVAL_LIMIT = 262_144


class ServerOutput:
    """Reads one server's bytes as they come; what is wrong raises :class:`fuzz.watched.Broken`."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        """Methods that were asked for."""
        self.listed: Counter[tuple[bytes, bytes]] = Counter()
        """(address, entry) of the clients that are on the list now."""
        self.answers = 0
        """Heartbeats that were answered completely."""
        self.rejected: str | None = None
        self.accepted = False
        self.joined = False
        self._time = 0
        self._adding = False
        self._read = 0

    def read(self, sent: bytearray, resyncs: set[int]) -> None:
        """Read what is new.

        :param sent: all that the server ever said, complete messages.
        :param resyncs: the numbers, from 0, of the answers that replace the whole list.
        """
        while self._read < len(sent):
            require(self.rejected is None, "LEKT-4: nothing follows a reject")
            self._read += self._message(bytes(sent[self._read :]), resyncs)

    def _message(self, data: bytes, resyncs: set[int]) -> int:
        require(data[:4] == b"LEKT" and data[5:8] == b"\0\0\0", "every message begins with the header", data[:8])
        kind = data[4:5]
        if kind == b"R":
            return self._reject(data)
        if not self.accepted:
            require(kind == b"A", "LEKT-4: the first answer is accept or reject", data[:8])
            self.accepted = True
            return 8
        if not self.joined:
            require(kind == b"T" and len(data) >= 12, "LEKT-5: setup is requests", data[:12])
            method = int.from_bytes(data[8:12], "big")
            require(method not in self.asked, "LEKT-5: each method is asked for once", method, self.asked)
            self.joined = method == 0
            self.asked.append(method)
            return 12
        require(kind == b"H", "LEKT-7: after setup there are updates", data[:8])
        return self._update(data, resyncs)

    def _reject(self, data: bytes) -> int:
        end = data.find(b"\0", 8)
        require(end >= 0, "LEKT-4: a NUL ends the text", data)
        size = 8 + (end - 8) // 4 * 4 + 4
        require(end - 8 <= 255, "LEKT-4: the text is at most 255 bytes", data)
        require(len(data) == size and not any(data[end:]), "LEKT-4: zeros fill the text up to 4 bytes", data)
        self.rejected = data[8:end].decode("utf-8")
        return size

    def _update(self, data: bytes, resyncs: set[int]) -> int:
        require(len(data) >= 20, "an update is whole", data)
        time = int.from_bytes(data[8:16], "big", signed=True)
        kind, count = data[16:17], int.from_bytes(data[17:20], "big")
        require(time >= self._time, "LEKT-11: server time never runs backwards", time, self._time)
        self._time = time
        anew = self.answers == 0 or self.answers in resyncs
        if kind == b"R":
            require(not anew, "LEKT-11: a whole list is additions only")
            require(not self._adding, "LEKT-8: removals come before additions")
            require(0 < count <= REMOVAL_LIMIT and len(data) >= 20 + 4 * count, "LEKT-8: a removal is whole", count)
            for start in range(20, 20 + 4 * count, 4):
                self._remove(data[start : start + 4])
            return 20 + 4 * count
        require(kind == b"A" and count <= ADDITION_LIMIT, "LEKT-8: an update adds or removes", kind, count)
        if anew and not self._adding:
            self.listed.clear()
        offset = 20
        for _ in range(count):
            size = int.from_bytes(data[offset : offset + 4], "big")
            entry = data[offset + 4 : offset + 4 + size]
            require(len(entry) == size and size in (4, 12), "an entry is whole", size)
            self.listed[entry[:4], entry] += 1
            offset += 4 + size
        self._adding = count == ADDITION_LIMIT
        self.answers += not self._adding
        return offset

    def _remove(self, address: bytes) -> None:
        """Nobody may be listed there: the address can be the receiver's own, or one that came and went meanwhile."""
        for key in [key for key in self.listed if key[0] == address]:
            del self.listed[key]
