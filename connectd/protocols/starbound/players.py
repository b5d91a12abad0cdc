"""Who plays on a listener: small client ids, and each player's UUID once (SB-10, SB-23)."""

from __future__ import annotations

import heapq


class Players:
    """The client ids and UUIDs of the live sessions of one listener."""

    __slots__ = ("_free", "_highest", "_uuids")

    def __init__(self) -> None:
        self._free: list[int] = []
        self._highest = 0
        self._uuids: set[bytes] = set()

    def __len__(self) -> int:
        return self._highest - len(self._free)

    def __contains__(self, uuid: object) -> bool:
        return uuid in self._uuids

    def enter(self, uuid: bytes | None) -> int:
        """A player comes in.

        :param uuid: 16 bytes that no other player has, or None.
        :return: the smallest client id that is free, at least 1.
        """
        if uuid is not None:
            self._uuids.add(uuid)
        if self._free:
            return heapq.heappop(self._free)
        self._highest += 1
        return self._highest

    def leave(self, client_id: int, uuid: bytes | None) -> None:
        """A player is gone; give what :meth:`enter` gave and was given."""
        heapq.heappush(self._free, client_id)
        if uuid is not None:
            self._uuids.discard(uuid)
