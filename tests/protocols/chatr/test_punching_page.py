"""The page on hole punching says what the code does: its bytes, its times and its bounds."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr import binding, candidates, checks, peer_socket, puncher
from connectd.protocols.chatr.settings import ChatrClientSettings
from connectd.protocols.chatr.stun import encode_request, encode_success

PAGE = Path(__file__).parents[3] / "docs" / "protocols" / "chatr-punching.md"
ALICE, BOB = UUID("0a11ce00-0000-4000-8000-000000000001"), UUID("00000b0b-0000-4000-8000-000000000002")
ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.page = PAGE.read_text("utf-8")

    def shown(self, name: str) -> bytes:
        """The bytes of an example, whose left column is their offset."""
        match = re.search(rf"<!-- stun: {name} -->\n```text\n(.*?)\n```", self.page, re.DOTALL)
        assert match is not None
        data = b""
        for line in match[1].splitlines():
            row = re.match(r" *(\d+)  ((?:[0-9a-f]{2} ?)+)", line)
            assert row is not None, line
            self.assertEqual(int(row[1]), len(data))
            data += bytes.fromhex(row[2])
        return data

    def test_examples(self) -> None:
        """CH-40, CH-41: a check and its answer."""
        name = checks.username(BOB, ALICE)
        self.assertEqual(self.shown("request"), encode_request(ID, name, use_candidate=True))
        self.assertEqual(self.shown("response"), encode_success(ID, ("192.0.2.1", 1231), fingerprint=True))

    def test_times(self) -> None:
        """CH-40, CH-42: the times in the text are those of the code."""
        at, interval, times = 0.0, checks.FIRST_INTERVAL, []
        while (at := at + interval) < puncher.PUNCHING_TIMEOUT:
            times.append(round(at, 2))
            interval = min(interval * checks.BACKOFF, checks.LONGEST_INTERVAL)
        told = re.search(r"again ([\d., ]+) and ([\d.]+) s later", " ".join(self.page.split()))
        assert told is not None
        for shown, real in zip([*told[1].split(", "), told[2]], times, strict=True):
            self.assertLess(abs(float(shown) - real), 0.05)
        for text in (
            f"{checks.KEEPALIVE_INTERVAL:g} s after the last answer",
            f"repeated after {checks.FIRST_RETRY:g}, 1, and then every {checks.LONGEST_RETRY:g} s",
            f"After {checks.CONSENT_TIMEOUT:g} s without an answer the path is lost",
            f"After {puncher.PUNCHING_TIMEOUT:g} s without a path",
            f"within {checks.NOMINATION_PATIENCE:g} s, the next",
            f"at most every {checks.TRIGGER_INTERVAL * 1000:g} ms",
            f"remembered for {puncher.EARLY_TIME:g} s",
            f"{ChatrClientSettings().peer_port} unless set",
        ):
            self.assertIn(text, " ".join(self.page.split()))

    def test_bounds(self) -> None:
        """COM-2: every bound that the page states."""
        early = f"{puncher.EARLY_PEERS}, each with {puncher.EARLY_CHECKS} sources, for {puncher.EARLY_TIME:g} s"
        per_source = f"{binding.RATE:g} per second, {binding.BURST} at once after a quiet time"
        for what, bound in (
            ("peers of one socket, punching or open", f"{puncher.MAXIMUM_PEERS}"),
            ("candidates of a peer", f"{candidates.MAXIMUM_CANDIDATES}"),
            ("requests to a peer", f"{checks.PROBES_PER_SECOND} in any second"),
            ("answers to a peer", f"{checks.ANSWERS_PER_SECOND} in any second"),
            ("transaction ids of a peer that are remembered", f"{checks.REMEMBERED_REQUESTS:,}"),
            ("peers whose early checks are remembered", early),
            ("messages kept until a path is open", f"{checks.Pair.held_limit}"),
            ("messages kept until the application takes them", f"{peer_socket.KEPT_MESSAGES}"),
            ("a message", f"{puncher.MAXIMUM_MESSAGE:,} bytes"),
            ("answers to one source (an IPv4 address, an IPv6 /64)", per_source),
            ("answers to all", f"{binding.TOTAL_RATE:,} in any second"),
        ):
            self.assertIn(f"| {what} | {bound} |", self.page)
        self.assertIn(f"| sources that are remembered | {binding.MAXIMUM_SOURCES:,};", self.page)
