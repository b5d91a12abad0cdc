"""Tests of :mod:`connectd.admission.addresses`."""

from __future__ import annotations

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.addresses import pack
from connectd.admission.addresses import AddressPolicy, NetworkList, source_key, unpack
from connectd.settings import Network

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


def networks(address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int) -> Network:
    return ipaddress.ip_network((address, min(prefix, address.max_prefixlen)), strict=False)


network_lists = st.lists(st.builds(networks, addresses, st.integers(0, 128)), max_size=6)


def plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """What the rule says an address is, by the standard library's word."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


class PackTests(SynchronousTestCase):
    def test_bytes(self) -> None:
        self.assertEqual(pack("192.0.2.1"), bytes([192, 0, 2, 1]))
        self.assertEqual(pack("2001:db8::1"), ipaddress.ip_address("2001:db8::1").packed)

    def test_mapped_and_zone(self) -> None:
        """COM-4: IPv4-mapped IPv6 counts as IPv4, and a zone says nothing about who it is."""
        self.assertEqual(pack("::ffff:192.0.2.1"), pack("192.0.2.1"))
        self.assertEqual(pack("::FFFF:c000:201"), pack("192.0.2.1"))
        self.assertEqual(pack("fe80::1%eth0"), pack("fe80::1"))
        self.assertNotEqual(pack("::192.0.2.1"), pack("192.0.2.1"))

    def test_garbage(self) -> None:
        for host in (
            "garbage",
            "",
            "unix",
            "192.0.2",
            "192.0.2.01",
            "192.0.2.1%eth0",
            "192.0.2.1/32",
            "2001:db8::/64",
            "1\0",
            ":",
            "é",
        ):
            with self.assertRaisesRegex(ValueError, "is not an IP address"):
                pack(host)

    @given(addresses)
    @settings(deadline=None, max_examples=100)
    def test_unpack(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        self.assertEqual(unpack(pack(str(address))), str(plain(str(address))))


class SourceKeyTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """COM-4: a source is an IPv4 /32 or an IPv6 /64."""
        self.assertEqual(source_key("192.0.2.1"), "192.0.2.1")
        self.assertEqual(source_key("::ffff:192.0.2.1"), "192.0.2.1")
        self.assertEqual(source_key("2001:db8:1:2:3::4"), "2001:db8:1:2::/64")
        self.assertEqual(source_key("fe80::1%eth0"), "fe80::/64")
        self.assertEqual(source_key(""), "unix")

    def test_settable(self) -> None:
        """COM-4: both prefixes are settable."""
        self.assertEqual(source_key("192.0.2.129", ipv4_prefix=25), "192.0.2.128/25")
        self.assertEqual(source_key("2001:db8:1:2:3::4", ipv6_prefix=40), "2001:db8::/40")
        self.assertEqual(source_key("2001:db8::4", ipv6_prefix=128), "2001:db8::4/128")

    def test_garbage(self) -> None:
        with self.assertRaises(ValueError):
            source_key("garbage")

    @given(addresses, addresses, st.integers(1, 32), st.integers(1, 128))
    @settings(deadline=None, max_examples=200)
    def test_same_source(
        self,
        one: ipaddress.IPv4Address | ipaddress.IPv6Address,
        other: ipaddress.IPv4Address | ipaddress.IPv6Address,
        ipv4_prefix: int,
        ipv6_prefix: int,
    ) -> None:
        """COM-4: two addresses are one source exactly when they share the prefix."""

        def network(text: str) -> Network:
            address = plain(text)
            return networks(address, ipv4_prefix if address.version == 4 else ipv6_prefix)

        keys = {source_key(str(a), ipv4_prefix=ipv4_prefix, ipv6_prefix=ipv6_prefix) for a in (one, other)}
        self.assertEqual(len(keys), len({network(str(one)), network(str(other))}))


class NetworkListTests(SynchronousTestCase):
    @given(network_lists, addresses)
    @settings(deadline=None, max_examples=200)
    def test_match(self, listed: list[Network], address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        """COM-4: the lists agree with the standard library's idea of membership."""
        for candidate in [address, *(network.network_address for network in listed)]:
            text = str(candidate)
            found = NetworkList(listed).match(pack(text))
            if any(plain(text) in network for network in listed):
                self.assertIsNotNone(found)
                assert found is not None
                address = plain(text)
                if address.version < found.version:
                    address = ipaddress.IPv6Address(f"::ffff:{address}")  # a mapped network holds IPv4 addresses
                self.assertIn(address, found)

    def test_no_match(self) -> None:
        listed = NetworkList([ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32")])
        for host in ("192.0.3.0", "192.0.1.255", "2001:db9::", "::192.0.2.1"):
            self.assertIsNone(listed.match(pack(host)))

    def test_widest(self) -> None:
        wide, narrow = ipaddress.ip_network("192.0.0.0/16"), ipaddress.ip_network("192.0.2.0/24")
        self.assertEqual(NetworkList([narrow, wide]).match(pack("192.0.2.1")), wide)

    def test_mapped_network(self) -> None:
        """COM-4: a network of IPv4-mapped addresses means the IPv4 one; ::/0 means IPv6 only."""
        listed = NetworkList([ipaddress.ip_network("::ffff:192.0.2.0/120")])
        self.assertIsNotNone(listed.match(pack("192.0.2.9")))
        self.assertIsNotNone(listed.match(pack("::ffff:192.0.2.9")))
        self.assertIsNone(listed.match(pack("192.0.3.9")))
        self.assertIsNone(NetworkList([ipaddress.ip_network("::/0")]).match(pack("::ffff:192.0.2.9")))


class AddressPolicyTests(SynchronousTestCase):
    def test_deny_wins(self) -> None:
        """COM-4: what is on both lists is denied."""
        policy = AddressPolicy([ipaddress.ip_network("192.0.2.0/24")], [ipaddress.ip_network("192.0.2.7/32")])
        self.assertIsNone(policy.refusal("192.0.2.1"))
        self.assertEqual(policy.refusal("::ffff:192.0.2.7"), "192.0.2.7 is denied by 192.0.2.7/32")

    def test_allow(self) -> None:
        """COM-4: with an allow list, whoever is not on it stays out, of either family."""
        policy = AddressPolicy([ipaddress.ip_network("192.0.2.0/24")], [])
        self.assertEqual(policy.refusal("198.51.100.1"), "198.51.100.1 is not on the allow list")
        self.assertIsNotNone(policy.refusal("2001:db8::1"))
        self.assertIsNone(AddressPolicy([], []).refusal("198.51.100.1"))
