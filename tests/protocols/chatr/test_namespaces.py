"""Punching between real processes through real NATs: those of Linux, in network namespaces (CH-40, CH-41)."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from typing import Any
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from tests.processes import LIMIT, ROOT
from tests.protocols.chatr.lab import DROPS_STRAYS, FULL_CONE, MASQUERADE, RANDOM, Lab

ALICE, BOB = str(UUID(int=0xA11CE)), str(UUID(int=0xB0B))
AT_ALICE, AT_BOB = "10.0.1.2", "10.0.2.2"


class Peer:
    """A process of :mod:`tests.protocols.chatr.lab_peer`.

    :param test: with whose end it ends.
    :param namespace: where it runs.
    :param arguments: its own.
    """

    def __init__(self, test: SynchronousTestCase, namespace: str, *arguments: str) -> None:
        script = ROOT / "tests" / "protocols" / "chatr" / "lab_peer.py"
        self._process = subprocess.Popen(
            [*Lab.inside(namespace), sys.executable, str(script), *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        test.addCleanup(self.end)
        self._lines = b""

    def next(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        end = time.monotonic() + LIMIT
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._lines:
                if not selector.select(max(0, end - time.monotonic())):
                    raise AssertionError(f"nothing was said within {LIMIT:g} s")
                data = os.read(self._process.stdout.fileno(), 4096)
                if not data:
                    raise AssertionError(f"it ended, after {self._lines!r}")
                self._lines += data
        line, _, self._lines = self._lines.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said

    def begin(self) -> None:
        """Let it punch."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Let it leave; its status is 0."""
        if self._process.returncode is not None:
            return
        self._process.communicate()
        if self._process.returncode:
            raise AssertionError(f"it ended with {self._process.returncode}")


class NamespaceTests(SynchronousTestCase):
    """What the NATs of Linux let through."""

    def setUp(self) -> None:
        self.lab = Lab(self)

    def punch(
        self, alice: tuple[str, str, str], bob: tuple[str, str, str], *, limit: float = 10
    ) -> list[dict[str, Any]]:
        """What Alice, who asks, and Bob say first, with (namespace, public, private) of each; the path works."""
        peers = [
            Peer(self, alice[0], ALICE, BOB, "requester", bob[1], bob[2], "1231", str(limit)),
            Peer(self, bob[0], BOB, ALICE, "accepter", alice[1], alice[2], "1231", str(limit)),
        ]
        for peer in peers:
            self.assertEqual(peer.next(), {"ready": True})
        for peer in peers:
            peer.begin()
        said = [peer.next() for peer in peers]
        for peer, word in zip(peers, said, strict=True):
            if "opened" in word:
                self.assertEqual(peer.next(), {"received": "hello"})
        for peer in peers:
            peer.end()
        return said

    def two_nats(self, alice: str, bob: str) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
        """Alice and Bob, each behind a NAT with those rules."""
        first, at_first = self.lab.nat("nat-a", alice + DROPS_STRAYS, "10.0.1")
        second, at_second = self.lab.nat("nat-b", bob + DROPS_STRAYS, "10.0.2")
        return (
            (self.lab.behind("alice", first, AT_ALICE), at_first, AT_ALICE),
            (self.lab.behind("bob", second, AT_BOB), at_second, AT_BOB),
        )

    def test_masquerade(self) -> None:
        """Plain masquerade on both sides works."""
        alice, bob = self.two_nats(MASQUERADE, MASQUERADE)
        said = self.punch(alice, bob)
        self.assertEqual([word["opened"] for word in said], [[bob[1], 1231], [alice[1], 1231]])
        self.assertEqual({word["kind"] for word in said}, {"reflexive"})

    def test_random(self) -> None:
        """Masquerade against random ports fails, and both applications are told."""
        alice, bob = self.two_nats(MASQUERADE, RANDOM)
        said = self.punch(alice, bob, limit=3)
        self.assertEqual([word["failed"] for word in said], ["no candidate of the peer answered in time"] * 2)

    def test_full_cone(self) -> None:
        """Random ports against a full cone work, by answering the real source of a check."""
        alice, bob = self.two_nats(RANDOM, FULL_CONE % AT_BOB)
        mine, theirs = self.punch(alice, bob)
        self.assertEqual(mine["opened"], [bob[1], 1231])
        self.assertEqual((theirs["opened"][0], theirs["kind"]), (alice[1], "peer-reflexive"))
        self.assertNotEqual(theirs["opened"][1], 1231)

    def test_one_nat(self) -> None:
        """Two hosts behind one NAT meet at their private addresses."""
        nat, outside = self.lab.nat("nat", MASQUERADE + DROPS_STRAYS, "10.0.1")
        alice = self.lab.behind("alice", nat, AT_ALICE), outside, AT_ALICE
        bob = self.lab.behind("bob", nat, "10.0.1.3"), outside, "10.0.1.3"
        said = self.punch(alice, bob)
        self.assertEqual([word["opened"] for word in said], [["10.0.1.3", 1231], [AT_ALICE, 1231]])
        self.assertEqual({word["kind"] for word in said}, {"host"})

    def test_open_host(self) -> None:
        """A host on the Internet is reached from behind any NAT."""
        nat, outside = self.lab.nat("nat", RANDOM + DROPS_STRAYS, "10.0.1")
        alice = self.lab.behind("alice", nat, AT_ALICE), outside, AT_ALICE
        namespace, address = self.lab.host("bob")
        said = self.punch(alice, (namespace, address, address))
        self.assertEqual([word["kind"] for word in said], ["reflexive", "peer-reflexive"])
