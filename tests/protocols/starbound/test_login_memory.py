"""What peers hold together before they have logged in (SB-8)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.starbound.login_memory import LoginMemory


class LoginMemoryTests(SynchronousTestCase):
    @given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 1000))), max_size=60))
    def test_total(self, notes: list[tuple[int, int | None]]) -> None:
        """SB-8: the sum is that of what each holds now; who has to go is the last to have come of those that hold some,
        of the source that holds most."""
        memory: LoginMemory[int] = LoginMemory()
        held: dict[int, int] = {}
        for peer, size in notes:
            if size is None:
                memory.forget(peer)
                held.pop(peer, None)
            else:
                memory.note(peer, size, lambda peer: f"source {peer % 2}")
                held[peer] = size
            self.assertEqual((memory.total, len(memory)), (sum(held.values()), len(held)))
            holding = [peer for peer, size in held.items() if size]
            if holding:
                sums = [sum(size for peer, size in held.items() if peer % 2 == source) for source in (0, 1)]
                victims = {
                    next(peer for peer in reversed(holding) if peer % 2 == source)
                    for source in (0, 1)
                    if sums[source] == max(sums)
                }
                self.assertIn(memory.victim(), victims)
            else:
                self.assertRaises(LookupError, memory.victim)
