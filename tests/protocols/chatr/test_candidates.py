"""Tests of :mod:`connectd.protocols.chatr.candidates`."""

from __future__ import annotations

from ipaddress import ip_address

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr.candidates import MAXIMUM_CANDIDATES, Candidate, CandidateKind, at_most, candidates

PUBLIC = ip_address("198.51.100.7")


class CandidateTests(SynchronousTestCase):
    """CH-41: public and private address on one agreed port number."""

    def addresses(self, public: str, private: str, *, loopback: bool = False) -> list[str]:
        found = candidates(ip_address(public), ip_address(private), 1231, loopback=loopback)
        self.assertEqual({candidate.address[1] for candidate in found} - {1231}, set())
        return [candidate.address[0] for candidate in found]

    def test_both(self) -> None:
        self.assertEqual(
            candidates(PUBLIC, ip_address("10.0.0.9"), 1231),
            [
                Candidate(("198.51.100.7", 1231), CandidateKind.REFLEXIVE),
                Candidate(("10.0.0.9", 1231), CandidateKind.HOST),
            ],
        )

    def test_same(self) -> None:
        self.assertEqual(self.addresses("198.51.100.7", "198.51.100.7"), ["198.51.100.7"])

    def test_families(self) -> None:
        self.assertEqual(self.addresses("2001:db8::1", "10.0.0.9"), ["2001:db8::1", "10.0.0.9"])

    def test_useless(self) -> None:
        """CH-8: what leads nowhere, or to this machine, is nobody's address, whoever says so."""
        for private in (
            "0.0.0.0",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.9",
        ):
            self.assertEqual(self.addresses("198.51.100.7", private), ["198.51.100.7"], private)
            self.assertEqual(self.addresses(private, "10.0.0.9"), ["10.0.0.9"], private)

    def test_loopback(self) -> None:
        """Where the server is on this machine, its peers may be too."""
        self.assertEqual(self.addresses("127.0.0.1", "0.0.0.0", loopback=True), ["127.0.0.1"])
        self.assertEqual(self.addresses("::1", "::", loopback=True), ["::1"])

    def test_bound(self) -> None:
        """CH-40: at most 16, each once, the first ones."""
        many = [Candidate(("192.0.2.1", port // 2), CandidateKind.HOST) for port in range(100)]
        self.assertEqual(at_most(many), many[: 2 * MAXIMUM_CANDIDATES : 2])
