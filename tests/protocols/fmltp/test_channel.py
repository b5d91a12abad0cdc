"""Tests of :mod:`connectd.protocols.fmltp.replay` and :mod:`connectd.protocols.fmltp.channel`."""

from __future__ import annotations

import sys
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.fmltp import replay
from connectd.protocols.fmltp.channel import STAMPED_ALIKE, Channel, ChannelError
from connectd.protocols.fmltp.packets import MAXIMUM_PLAINTEXT
from connectd.protocols.fmltp.replay import REMEMBERED, WINDOW, ReplayError, ReplayGuard
from tests.protocols.fmltp.peers import fernet_of

NOW = 1_700_000_000.0
SECRET = bytes(range(256))
FERNET = fernet_of(SECRET)


def mac(number: int) -> bytes:
    """Some HMAC."""
    return number.to_bytes(32, "little")


class ReplayTests(SynchronousTestCase):
    def test_repeat(self) -> None:
        """FM-15: a repeat closes, at once and for as long as it would be let in."""
        guard = ReplayGuard()
        guard.admit(1000, mac(1), NOW)
        self.assertRaises(ReplayError, guard.admit, 1000, mac(1), NOW)
        guard.admit(1060, mac(2), NOW)
        self.assertRaises(ReplayError, guard.admit, 1000, mac(1), NOW + 100)
        guard.admit(1061, mac(3), NOW)
        self.assertRaises(ReplayError, guard.admit, 1000, mac(1), NOW)

    def test_sixty_seconds(self) -> None:
        """FM-15: a token stamped more than 60 s before the newest seen closes."""
        guard = ReplayGuard()
        guard.admit(5000, mac(1), NOW)
        guard.admit(4940, mac(2), NOW)
        error = self.assertRaises(ReplayError, guard.admit, 4939, mac(3), NOW)
        self.assertTrue("61 s" in str(error), error)
        guard.admit(5001, mac(4), NOW)
        self.assertRaises(ReplayError, guard.admit, 4940, mac(5), NOW)
        guard.admit(4941, mac(6), NOW)

    def test_clocks_differ(self) -> None:
        """FM-15: the peer's first token sets its offset; only stamps are compared, never with our own clock."""
        for stamp in (0, 5, 1_000_000, 2**40):
            guard = ReplayGuard()
            self.assertIsNone(guard.offset)
            guard.admit(stamp, mac(1), NOW)
            self.assertEqual(guard.offset, stamp - NOW)
            guard.admit(stamp, mac(2), NOW + 86_400)
            guard.admit(stamp + 86_400, mac(3), NOW + 86_400)
            self.assertEqual(guard.offset, stamp - NOW)

    def test_remembered(self) -> None:
        """FM-15: 4,096 at most; before more would be needed the window is drawn closer, and nothing passes twice."""
        guard = ReplayGuard()
        for number in range(3 * REMEMBERED):
            guard.admit(1000 + number // 1000, mac(number), NOW)
            self.assertLessEqual(len(guard), REMEMBERED)
        self.assertGreater(len(guard), REMEMBERED - 1001)
        for number in range(0, 3 * REMEMBERED, 7):
            self.assertRaises(ReplayError, guard.admit, 1000 + number // 1000, mac(number), NOW)

    def test_full_of_one_second(self) -> None:
        """FM-15: then input pauses, until that second is over by the peer's clock."""
        guard = ReplayGuard()
        for number in range(REMEMBERED):
            self.assertIsNone(guard.full_until)
            guard.admit(1000, mac(number), NOW)
        self.assertEqual(guard.full_until, NOW + 1)
        guard.make_room(NOW + 0.9)
        self.assertEqual((guard.full_until, len(guard)), (NOW + 1, REMEMBERED))
        guard.make_room(NOW + 1)
        self.assertEqual((guard.full_until, len(guard)), (None, 0))
        self.assertRaises(ReplayError, guard.admit, 1000, mac(0), NOW + 1)
        self.assertRaises(ReplayError, guard.admit, 1000, mac(9999), NOW + 1)
        guard.admit(1001, mac(1), NOW + 1)

    def test_full_of_a_later_second(self) -> None:
        """FM-15: it is the newest second that has to be over."""
        guard = ReplayGuard()
        guard.admit(1000, mac(9999), NOW)
        for number in range(REMEMBERED):
            guard.admit(1005, mac(number), NOW + 5)
        self.assertEqual((len(guard), guard.full_until), (REMEMBERED, NOW + 6))

    def test_full_and_older(self) -> None:
        guard = ReplayGuard()
        guard.admit(1001, mac(9999), NOW)
        for number in range(REMEMBERED - 1):
            guard.admit(1000, mac(number), NOW)
        self.assertIsNone(guard.full_until)
        self.assertRaises(ReplayError, guard.admit, 1000, mac(8888), NOW)
        guard.admit(1001, mac(7777), NOW)
        self.assertEqual(len(guard), 2)

    @given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 20)), max_size=60))
    def test_nothing_passes_twice(self, tokens: list[tuple[int, int]]) -> None:
        """FM-15: whatever comes in whatever order, and however little is remembered."""
        with mock.patch.object(replay, "REMEMBERED", 5):
            guard = ReplayGuard()
            passed: set[tuple[int, int]] = set()
            newest = 0
            for stamp, number in tokens:
                try:
                    guard.admit(stamp, mac(1000 * stamp + number), NOW)
                except ReplayError:
                    continue
                self.assertNotIn((stamp, number), passed)
                self.assertGreaterEqual(stamp, newest - WINDOW)
                self.assertLessEqual(len(guard), 5)
                passed.add((stamp, number))
                newest = max(newest, stamp)

    def test_memory(self) -> None:
        """COM-2: what 4,096 of them take."""
        guard = ReplayGuard()
        for number in range(REMEMBERED):
            guard.admit(1000 + number // 80, mac(number), NOW)
        kept = sum(sys.getsizeof(one) + sum(map(sys.getsizeof, one)) for one in guard._macs.values())
        self.assertLess(kept, 700_000)


class ChannelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ours, self.theirs = Channel(SECRET), Channel(SECRET)

    def open(self, channel: Channel, data: bytes, now: float = NOW) -> bytes:
        buffer = bytearray(data)
        found = channel.open(buffer, now)
        assert found is not None
        self.assertEqual(bytes(buffer[found[1] :]), b"\r\n")
        return found[0]

    @given(st.binary(max_size=300))
    def test_both_ways(self, text: bytes) -> None:
        """FM-7: one key for both directions, made of the secret; `cryptography` reads and writes the same tokens."""
        self.assertEqual(self.open(self.theirs, self.ours.seal(text, NOW)), text)
        self.assertEqual(self.open(self.ours, self.theirs.seal(text, NOW)), text)
        self.assertEqual(FERNET.decrypt(self.ours.seal(text, NOW)), text)
        self.assertEqual(self.open(self.ours, FERNET.encrypt_at_time(text, int(NOW)) + b"\r\n"), text)

    def test_a_token_and_its_crlf(self) -> None:
        """FM-10: senders end each token with CRLF, in the same write."""
        wire = self.ours.seal(b"hello", NOW)
        self.assertTrue(wire.endswith(b"\r\n"))
        self.assertEqual(wire.count(b"\n"), 1)

    def test_stamped(self) -> None:
        """FM-15: with the time that is given; it never goes back."""
        stamps = [FERNET.extract_timestamp(self.ours.seal(b"", time)) for time in (NOW + 0.9, NOW + 5, NOW - 3600, 0)]
        self.assertEqual(stamps, [NOW, NOW + 5, NOW + 5, NOW + 5])

    def test_our_own_peer_never_has_to_pause(self) -> None:
        """FM-15: however much we send, fewer tokens carry one second than a peer remembers."""
        self.assertLess(STAMPED_ALIKE, REMEMBERED)
        counted: dict[int, int] = {}
        for _ in range(2 * REMEMBERED + 10):
            wire = self.ours.seal(b"x", NOW)
            stamp = FERNET.extract_timestamp(wire)
            counted[stamp] = counted.get(stamp, 0) + 1
            self.open(self.theirs, wire)
            self.assertIsNone(self.theirs.full_until)
        self.assertLessEqual(max(counted.values()), STAMPED_ALIKE + 1)

    def test_reflected(self) -> None:
        """FM-15: a token that we sent ourselves closes, now and at any time later, however many there were."""
        first = self.ours.seal(b"first", NOW)
        sent = [self.ours.seal(b"x", NOW + n) for n in range(5000)]
        for wire in (first, sent[0], sent[-1]):
            error = self.assertRaises(ChannelError, self.ours.open, bytearray(wire), NOW)
            self.assertEqual((str(error), error.offset), ("a token of ours came back", 0))

    def test_another_channel_does_not_know_the_mark(self) -> None:
        """FM-15: the mark is made with a key of this channel alone, so the peer's tokens are not taken for ours."""
        wire = self.ours.seal(b"x", NOW)
        self.assertEqual(self.open(self.theirs, wire), b"x")
        self.assertEqual(self.open(Channel(SECRET), wire), b"x")
        self.assertEqual(len({self.ours.seal(b"x", NOW) for _ in range(100)}), 100)

    def test_replayed(self) -> None:
        """FM-15: a repeat closes."""
        wire = self.theirs.seal(b"PLAY", NOW)
        self.open(self.ours, wire)
        error = self.assertRaises(ChannelError, self.ours.open, bytearray(wire), NOW)
        self.assertEqual(str(error), "a token that was here before")

    def test_replayed_in_other_letters(self) -> None:
        """FM-15: the spare bits of base64 do not make another token."""
        wire = self.theirs.seal(b"PLAY", NOW)
        self.open(self.ours, wire)
        other = wire[:-5] + bytes((wire[-5] + 1,)) + wire[-4:]
        error = self.assertRaises(ChannelError, self.ours.open, bytearray(other), NOW)
        self.assertEqual(str(error), "a token that was here before")

    def test_too_old(self) -> None:
        """FM-15: 60 s before the newest seen."""
        self.open(self.ours, FERNET.encrypt_at_time(b"", 5000) + b"\r\n")
        self.open(self.ours, FERNET.encrypt_at_time(b"", 4940) + b"\r\n")
        self.assertRaises(ChannelError, self.ours.open, bytearray(FERNET.encrypt_at_time(b"", 4939)), NOW)

    def test_full(self) -> None:
        """FM-15: with no room to remember a token, none is taken."""
        for _ in range(REMEMBERED):
            self.open(self.ours, FERNET.encrypt_at_time(b"", 5000) + b"\r\n")
        later = bytearray(FERNET.encrypt_at_time(b"later", 5001))
        self.assertIsNone(self.ours.open(later, NOW + 0.5))
        self.assertEqual(self.ours.full_until, NOW + 1)
        found = self.ours.open(later, NOW + 1)
        self.assertEqual(found and found[0], b"later")

    def test_another_key(self) -> None:
        """FM-8: what was written with another secret is no token."""
        wire = Channel(bytes(256)).seal(b"x", NOW)
        self.assertRaises(ChannelError, self.ours.open, bytearray(wire), NOW)

    def test_wrong_padding(self) -> None:
        """COM-3: a token whose own writer padded it wrongly."""
        with mock.patch("connectd.protocols.fmltp.fernet.FernetKey.decrypt", side_effect=ValueError("wrong padding")):
            error = self.assertRaises(ChannelError, self.ours.open, bytearray(self.theirs.seal(b"x", NOW)), NOW)
        self.assertEqual((str(error), error.offset), ("a token with wrong padding", 0))

    def test_too_long(self) -> None:
        """FM-10: what no receiver would take is not sent."""
        self.ours.seal(bytes(MAXIMUM_PLAINTEXT), NOW)
        self.assertRaises(ValueError, self.ours.seal, bytes(MAXIMUM_PLAINTEXT + 1), NOW)

    def test_random(self) -> None:
        """With the same randomness the same tokens: sessions can be recorded."""
        made = [Channel(SECRET, random=bytes).seal(b"x", NOW) for _ in range(2)]
        self.assertEqual(made[0], made[1])
