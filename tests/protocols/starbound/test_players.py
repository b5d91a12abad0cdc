"""Client ids and UUIDs of those who play."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.starbound.players import Players


class PlayersTests(SynchronousTestCase):
    @given(st.lists(st.integers(0, 40), max_size=80))
    def test_client_ids(self, moves: list[int]) -> None:
        """SB-10: client ids are unique among live sessions, and the smallest from 1 that are free."""
        players = Players()
        live: list[int] = []
        for move in moves:
            if move < len(live):
                players.leave(live.pop(move), None)
            else:
                client_id = players.enter(None)
                free = next(number for number in range(1, 100) if number not in live)
                self.assertEqual(client_id, free)
                live.append(client_id)
            self.assertEqual(len(players), len(live))

    def test_uuids(self) -> None:
        """SB-23: a UUID is there as long as its player."""
        players = Players()
        uuid = bytes(range(16))
        first, second = players.enter(uuid), players.enter(None)
        self.assertIn(uuid, players)
        players.leave(second, None)
        self.assertIn(uuid, players)
        players.leave(first, uuid)
        self.assertNotIn(uuid, players)
