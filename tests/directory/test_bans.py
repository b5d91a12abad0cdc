"""Bans: in the database, and in the table that is asked on every accept."""

from __future__ import annotations

import ipaddress
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from connectd.admission import Admission, AdmissionLimits
from connectd.directory import Ban, InvalidBanError, NotBannedError, fingerprint
from connectd.directory.ban_table import NO_REASON, BanTable
from connectd.directory.bans import canonical
from connectd.sansio import Outcome
from tests.directory.opened import NOW, Place

SOMEBODY = UUID("12345678-1234-5678-1234-567812345678")
KEY = b"\x30\x82 a key"


def ban(kind: str, value: str, reason: str = "spam", expires: float | None = None) -> Ban:
    return Ban(*canonical(kind, value), reason, expires, NOW, "test")


class CanonicalTests(SynchronousTestCase):
    def test_forms(self) -> None:
        for kind, value, expected in (
            ("address", "192.0.2.1", ("address", "192.0.2.1")),
            ("address", "::ffff:192.0.2.1", ("address", "192.0.2.1")),
            ("address", "2001:DB8:0::1", ("address", "2001:db8::1")),
            ("address", "fe80::1%eth0", ("address", "fe80::1")),
            ("network", "192.0.2.77/24", ("network", "192.0.2.0/24")),
            ("network", "192.0.2.1", ("address", "192.0.2.1")),
            ("network", "192.0.2.1/32", ("address", "192.0.2.1")),
            ("network", "::ffff:192.0.2.0/120", ("network", "192.0.2.0/24")),
            ("network", "::ffff:0:0/95", ("network", "::fffe:0:0/95")),
            ("network", "2001:db8::1/64", ("network", "2001:db8::/64")),
            ("network", "0.0.0.0/0", ("network", "0.0.0.0/0")),
            ("account", "Alice", ("account", "alice")),
            ("uuid", "{12345678-1234-5678-1234-567812345678}", ("uuid", str(SOMEBODY))),
            ("key", ":".join(["AB"] * 32), ("key", "ab" * 32)),
        ):
            with self.subTest(kind=kind, value=value):
                self.assertEqual(canonical(kind, value), expected)

    def test_nonsense(self) -> None:
        for kind, value, words in (
            ("colour", "red", "there is no kind of ban 'colour'"),
            ("address", "192.0.2.0/24", "is no address"),
            ("address", "192.0.2", "such as 192.0.2.1"),
            ("network", "10.0.0.0/33", "such as 192.0.2.0/24"),
            ("account", "a\tb", "control character"),
            ("uuid", "1234", "is no uuid"),
            ("key", "ab" * 31, "64 hex digits"),
        ):
            with self.subTest(kind=kind, value=value):
                error = self.assertRaises(InvalidBanError, canonical, kind, value)
                self.assertIn(words, str(error))


class BanTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Place(self)
        self.database = self.place.open()
        self.bans = self.database.bans

    def test_add(self) -> None:
        made = self.bans.add("network", "192.0.2.9/24", reason="spam", expires=NOW + 60, by="root")
        self.assertEqual(made, Ban("network", "192.0.2.0/24", "spam", NOW + 60, NOW, "root"))
        self.assertEqual(self.place.open().bans.list(), [made])
        self.assertEqual(self.bans.get("network", "192.0.2.1/24"), made)

    def test_again(self) -> None:
        """What is banned already gets the new reason and end."""
        self.bans.add("account", "Alice", reason="spam", expires=NOW + 60, by="root")
        again = self.bans.add("account", "ALICE", reason="more spam", by="bob")
        self.assertEqual(self.bans.list(), [again])
        self.assertEqual((again.reason, again.expires, again.created_by), ("more spam", None, "bob"))

    def test_remove(self) -> None:
        made = self.bans.add("uuid", str(SOMEBODY), by="root")
        self.assertEqual(self.bans.remove("uuid", SOMEBODY.hex, by="root"), made)
        self.assertEqual(self.bans.list(), [])
        error = self.assertRaises(NotBannedError, self.bans.remove, "uuid", SOMEBODY.hex, by="root")
        self.assertIn(f"no ban of the uuid {SOMEBODY}", str(error))

    def test_long_keys(self) -> None:
        """An account whose key is longer than its name can be banned and pardoned."""
        self.bans.add("account", "ß" * 64, by="root")
        self.bans.remove("account", "ß" * 64, by="root")

    def test_expire(self) -> None:
        self.bans.add("account", "alice", expires=NOW + 60, by="root")
        kept = self.bans.add("account", "bob", expires=NOW + 61, by="root")
        for_ever = self.bans.add("account", "carol", by="root")
        self.assertEqual(self.bans.expire(by="connectd"), [])
        self.place.clock.advance(60)
        self.assertEqual([one.value for one in self.bans.expire(by="connectd")], ["alice"])
        self.assertEqual(self.bans.list(), [kept, for_ever])
        self.assertEqual(self.database.audit.list(limit=1)[0].action, "ban.expired")

    def test_refused(self) -> None:
        for options, words in (
            ({"reason": "x" * 201}, "at most 200"),
            ({"reason": "two\nlines"}, "one line"),
            ({"expires": NOW}, "over at once"),
            ({"expires": float("nan")}, "over at once"),
            ({"expires": float("inf")}, "over at once"),
        ):
            error = self.assertRaises(InvalidBanError, self.bans.add, "account", "alice", by="root", **options)
            self.assertIn(words, str(error))
        self.assertEqual(self.bans.list(), [])

    def test_audit(self) -> None:
        self.bans.add("network", "10.0.0.0/8", reason="spam", by="root")
        self.bans.remove("network", "10.0.0.0/8", by="bob")
        self.assertEqual(
            [(entry.who, entry.action, entry.subject, entry.details) for entry in self.database.audit.list()],
            [
                ("bob", "ban.removed", "network 10.0.0.0/8", {"reason": "spam"}),
                ("root", "ban.added", "network 10.0.0.0/8", {"reason": "spam", "expires": None}),
            ],
        )


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.table = BanTable(self.clock.seconds)

    def test_addresses(self) -> None:
        """COM-4: an address is matched in every way it can be written; its narrowest ban gives the reason."""
        for value, reason in (
            ("192.0.2.0/24", "net"),
            ("192.0.2.7", "one"),
            ("192.0.0.0/16", "wide"),
            ("2001:db8::/32", "six"),
            ("2001:db8:0:1::/64", "site"),
        ):
            self.table.put(ban("network", value, reason))
        expected: list[tuple[str, str | None]] = [
            ("192.0.2.7", "one"),
            ("::ffff:192.0.2.7", "one"),
            ("192.0.2.8", "net"),
            ("192.0.3.1", "wide"),
            ("192.1.0.1", None),
            ("2001:db8::1", "six"),
            ("2001:db8:0:1::1", "site"),
            ("2001:db8:0:1::1%eth0", "site"),
            ("2001:db9::1", None),
        ]
        self.assertEqual([(host, self.table.match_address(host)) for host, _ in expected], expected)

    def test_not_an_address(self) -> None:
        """COM-4: what cannot be evaluated is not let through."""
        for host in ("", "alice", "192.0.2", "::g", "1\0"):
            self.assertRaises(ValueError, self.table.match_address, host)

    def test_others(self) -> None:
        self.table.put(ban("account", "Alice", "rude"))
        self.table.put(ban("uuid", str(SOMEBODY), "stolen"))
        self.table.put(ban("key", fingerprint(KEY), "leaked"))
        self.assertEqual(
            (self.table.match_account("ALICE"), self.table.match_account(b"alice"), self.table.match_account("bob")),
            ("rude", "rude", None),
        )
        self.assertIsNone(self.table.match_account(b"\xff"))
        self.assertEqual((self.table.match_uuid(SOMEBODY), self.table.match_uuid(UUID(int=0))), ("stolen", None))
        self.assertEqual((self.table.match_key(KEY), self.table.match_key(b"")), ("leaked", None))

    def test_no_reason(self) -> None:
        """A ban without a reason is a ban."""
        self.table.put(ban("address", "192.0.2.1", ""))
        self.table.put(ban("account", "alice", ""))
        self.assertEqual(self.table.match_address("192.0.2.1"), NO_REASON)
        self.assertEqual(self.table.match_account("alice"), NO_REASON)

    def test_expiry(self) -> None:
        """A ban ends at its second; a wider one that goes on still holds."""
        self.table.put(ban("address", "192.0.2.1", "short", NOW + 60))
        self.table.put(ban("network", "192.0.2.0/24", "long", NOW + 120))
        self.table.put(ban("account", "alice", "short", NOW + 60))
        self.clock.advance(59.5)
        self.assertEqual((self.table.match_address("192.0.2.1"), self.table.match_account("alice")), ("short", "short"))
        self.clock.advance(0.5)
        self.assertEqual((self.table.match_address("192.0.2.1"), self.table.match_account("alice")), ("long", None))
        self.clock.advance(60)
        self.assertIsNone(self.table.match_address("192.0.2.1"))

    def test_discard(self) -> None:
        self.table.put(ban("network", "192.0.2.0/24", "first"))
        self.table.put(ban("network", "192.0.2.0/24", "second"))
        self.table.put(ban("network", "198.51.100.0/24", "other"))
        self.assertEqual((self.table.match_address("192.0.2.1"), len(self.table)), ("second", 2))
        self.table.discard("network", "192.0.2.0/24")
        self.table.discard("network", "192.0.2.0/24")
        self.table.discard("account", "nobody")
        self.assertEqual(
            (self.table.match_address("192.0.2.1"), self.table.match_address("198.51.100.1")), (None, "other")
        )
        self.table.discard("network", "198.51.100.0/24")
        self.assertIsNone(self.table.match_address("198.51.100.1"))

    @given(
        st.lists(
            st.one_of(
                st.builds(lambda a, p: f"{ipaddress.ip_address(a)}/{p}", st.integers(0, 2**32 - 1), st.integers(0, 32)),
                st.builds(
                    lambda a, p: f"{ipaddress.IPv6Address(a)}/{p}", st.integers(0, 2**128 - 1), st.integers(0, 128)
                ),
            ),
            max_size=6,
        ),
        st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=4),
        st.data(),
    )
    @settings(deadline=None, max_examples=150)
    def test_like_ipaddress(self, networks: list[str], removals: list[tuple[bool, int]], data: st.DataObject) -> None:
        """The table says what the networks themselves say."""
        table = BanTable(self.clock.seconds)
        held = {}
        for value in networks:
            made = ban("network", value)
            table.put(made)
            held[made.value] = made
        for _, index in removals:
            if index < len(networks):
                made = ban("network", networks[index])
                table.discard(made.kind, made.value)
                held.pop(made.value, None)
        candidates = [ipaddress.ip_network(value, strict=False)[0] for value in networks]
        hosts = [*candidates, *(one + 1 for one in candidates if int(one) + 1 < 2**one.max_prefixlen)]
        hosts.append(data.draw(st.ip_addresses()))
        for host in hosts:
            packed = getattr(host, "ipv4_mapped", None) or host
            expected = any(packed in ipaddress.ip_network(value) for value in held)
            self.assertEqual(table.match_address(str(host)) is not None, expected, host)

    def test_admission(self) -> None:
        """COM-4: it is the hook that admission asks; what cannot be evaluated refuses."""
        self.table.put(ban("network", "192.0.2.0/24", "spam"))
        admission = Admission(AdmissionLimits(), clock=self.clock, bans=self.table.match_address)
        refusal = admission.admit("::ffff:192.0.2.9", NOW)
        assert refusal is not None
        self.assertEqual((refusal.outcome, refusal.reason), (Outcome.BANNED, "192.0.2.9 is banned: spam"))
        self.assertIsNone(admission.admit("198.51.100.1", NOW))
