"""Tests of :mod:`connectd.protocols.lekt.listing`."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.lekt.listing import Listing
from connectd.protocols.lekt.packets import Entry

HERE, THERE = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


def entry(address: IPv4Address, port: int) -> Entry:
    return Entry(address, ((1, port.to_bytes(4, "big")),))


class ListingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.listing = Listing()

    def test_empty(self) -> None:
        self.assertEqual(len(self.listing), 0)
        self.assertEqual(list(self.listing), [])
        self.assertEqual(self.listing.changes(), ([], []))

    def test_add(self) -> None:
        """LEKT-7: an added client is there, and told once."""
        self.listing.add(entry(HERE, 1))
        self.assertEqual(list(self.listing), [entry(HERE, 1)])
        self.assertEqual(self.listing.changes(), ([], [entry(HERE, 1)]))
        self.assertEqual(self.listing.changes(), ([], []))
        self.assertEqual(list(self.listing), [entry(HERE, 1)])

    def test_remove_names_the_address(self) -> None:
        """LEKT-10: a removal takes all clients behind the address, and nobody else."""
        for one in (entry(HERE, 1), entry(HERE, 2), entry(HERE, 2), entry(THERE, 1)):
            self.listing.add(one)
        self.assertEqual(len(self.listing), 4)
        self.listing.changes()
        self.listing.remove(HERE)
        self.assertEqual(list(self.listing), [entry(THERE, 1)])
        self.assertEqual(len(self.listing), 1)
        left, joined = self.listing.changes()
        self.assertEqual(Counter(left), Counter([entry(HERE, 1), entry(HERE, 2), entry(HERE, 2)]))
        self.assertEqual(joined, [])

    def test_alike(self) -> None:
        """LEKT-9: two clients behind one address may look the same; they are two."""
        self.listing.add(entry(HERE, 1))
        self.listing.add(entry(HERE, 1))
        self.assertEqual(list(self.listing), [entry(HERE, 1), entry(HERE, 1)])
        self.assertEqual(self.listing.changes(), ([], [entry(HERE, 1), entry(HERE, 1)]))
        self.listing.remove(HERE)
        self.listing.add(entry(HERE, 1))
        self.assertEqual(self.listing.changes(), ([entry(HERE, 1)], []))

    def test_those_who_remain(self) -> None:
        """LEKT-10: who is removed with the address and added again did not leave."""
        self.listing.add(entry(HERE, 1))
        self.listing.add(entry(HERE, 2))
        self.listing.changes()
        self.listing.remove(HERE)
        self.listing.add(entry(HERE, 2))
        self.assertEqual(self.listing.changes(), ([entry(HERE, 1)], []))
        self.assertEqual(list(self.listing), [entry(HERE, 2)])

    def test_unknown_address(self) -> None:
        """LEKT-10: a removal of somebody never told of changes nothing."""
        self.listing.remove(HERE)
        self.assertEqual(self.listing.changes(), ([], []))
        self.assertEqual(len(self.listing), 0)

    def test_came_and_went(self) -> None:
        self.listing.add(entry(HERE, 1))
        self.listing.remove(HERE)
        self.assertEqual(self.listing.changes(), ([], []))
        self.assertEqual(list(self.listing), [])

    def test_clear(self) -> None:
        """LEKT-11: a resync replaces the list; only the difference is a change."""
        self.listing.add(entry(HERE, 1))
        self.listing.add(entry(THERE, 1))
        self.listing.changes()
        self.listing.clear()
        self.assertEqual((len(self.listing), list(self.listing)), (0, []))
        self.listing.add(entry(THERE, 1))
        self.listing.add(entry(THERE, 3))
        self.assertEqual(self.listing.changes(), ([entry(HERE, 1)], [entry(THERE, 3)]))

    @given(
        steps=st.lists(
            st.tuples(st.sampled_from(["add", "remove", "clear", "changes"]), st.integers(0, 2), st.integers(1, 2))
        )
    )
    @settings(deadline=None, max_examples=100)
    def test_model(self, steps: list[tuple[str, int, int]]) -> None:
        """The listing is a multiset, and its changes lead from what was told before to what is there now."""
        listing = Listing()
        model: Counter[Entry] = Counter()
        told: Counter[Entry] = Counter()
        for step, host, port in [*steps, ("changes", 0, 1)]:
            address = HERE + host
            if step == "add":
                listing.add(entry(address, port))
                model[entry(address, port)] += 1
            elif step == "remove":
                listing.remove(address)
                model = Counter({one: count for one, count in model.items() if one.address != address})
            elif step == "clear":
                listing.clear()
                model.clear()
            else:
                left, joined = (Counter(entries) for entries in listing.changes())
                self.assertFalse(left & joined)
                self.assertFalse(left - told)
                told = told - left + joined
                self.assertEqual(told, model)
            self.assertEqual(Counter(listing), model)
            self.assertEqual(len(listing), model.total())
