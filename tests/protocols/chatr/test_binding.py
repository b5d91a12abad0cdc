"""Tests of :mod:`connectd.protocols.chatr.binding`: the answers of the server's UDP port (CH-32)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.chatr.binding import BURST, MAXIMUM_SOURCES, TOTAL_RATE, BindingMachine
from connectd.protocols.chatr.stun import MessageClass, decode, encode_request, encode_success
from connectd.sansio import DatagramAddress, Ended, Outcome
from tests.protocols.chatr.test_stun import ID, REQUEST, message

PEER: DatagramAddress = ("192.0.2.7", 4567)
PLAIN = message()
"""The smallest request: 20 bytes."""
NOW = 1000.0


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.machine = BindingMachine()

    def ask(self, data: bytes = PLAIN, address: DatagramAddress = PEER, now: float = NOW) -> bytes | None:
        """The answer to a datagram, or None."""
        self.assertEqual(self.machine.receive_datagram(data, address, now), [])
        sent = self.machine.datagrams_to_send()
        self.assertEqual(self.machine.datagrams_to_send(), [])
        if not sent:
            return None
        [(answer, destination)] = sent
        self.assertEqual(destination, address)
        return answer

    def count(self, times: int, address: DatagramAddress = PEER, now: float = NOW) -> int:
        """How many of so many requests are answered."""
        return sum(self.ask(address=address, now=now) is not None for _ in range(times))


class AnswerTests(Case):
    """CH-32: what is answered, and with what."""

    def test_answer(self) -> None:
        """XOR-MAPPED-ADDRESS and nothing else, in 32 bytes; at most 2.2 times the request."""
        answer = self.ask()
        assert answer is not None
        self.assertEqual(answer.hex(), "0101000c2112a442" + ID.hex() + "00200008000130c5e112a645")
        read = decode(answer)
        self.assertEqual((read.message_class, read.mapped, read.transaction_id), (MessageClass.SUCCESS, PEER, ID))

    def test_ipv6(self) -> None:
        """44 bytes for IPv6."""
        answer = self.ask(address=("2001:db8::9", 99))
        assert answer is not None
        self.assertEqual(len(answer), 44)
        self.assertLessEqual(len(answer), 2.2 * len(PLAIN))
        self.assertEqual(decode(answer).mapped, ("2001:db8::9", 99))

    def test_harmless_attributes(self) -> None:
        """What may be ignored is ignored, and not echoed."""
        answer = self.ask(message((0x8022, b"software"), (6, b"name"), (0x24, bytes(4))))
        assert answer is not None
        self.assertEqual(len(answer), 32)

    def test_silence(self) -> None:
        """Anything but a well-formed request, and one that asks for what is unknown here, gets no answer."""
        for data in (
            b"",
            PLAIN[:19],
            PLAIN + b"\0",
            message(kind=0x11),
            message(kind=0x101),
            message(kind=0x111),
            message(kind=3),
            message(cookie=1),
            message((3, bytes(4))),
            encode_success(ID, PEER),
            b"\x16\xfe\xfd" + bytes(30),
            b"\x40" + bytes(30),
        ):
            self.assertIsNone(self.ask(data), data)
        self.assertEqual((self.machine.answered, self.machine.dropped), (0, 12))

    def test_integrity(self) -> None:
        """A request with MESSAGE-INTEGRITY is answered, with it, only if it is valid."""
        self.assertIsNone(self.ask(REQUEST), "nobody has a key in version 1")
        self.assertIsNone(self.ask(message((8, bytes(20)))), "nor without a name")
        keys = {b"0000002a": b"f00d" * 16}
        self.machine = BindingMachine(find_key=keys.get)
        for name, key in ((b"0000002a", b"beef" * 16), (b"0000002b", b"f00d" * 16)):
            self.assertIsNone(self.ask(encode_request(ID, name, key=key)))
        answer = self.ask(encode_request(ID, b"0000002a", key=keys[b"0000002a"]))
        assert answer is not None
        self.assertTrue(decode(answer).is_signed_with(keys[b"0000002a"]))
        self.assertEqual(len(answer), 32 + 24)

    def test_admission(self) -> None:
        """COM-4: who is denied gets no answer."""
        self.machine = BindingMachine(admitted=lambda host: host != PEER[0])
        self.assertIsNone(self.ask())
        self.assertIsNotNone(self.ask(address=("192.0.2.8", 1)))

    def test_end(self) -> None:
        self.assertIsNone(self.machine.deadline())
        self.assertEqual(self.machine.handle_deadline(NOW), [])
        self.assertEqual(self.machine.close(Outcome.SHUTDOWN, "bye", NOW), [Ended(Outcome.SHUTDOWN, "bye")])
        self.assertEqual(self.machine.close(Outcome.SHUTDOWN, "bye", NOW), [])
        self.assertIsNone(self.ask())

    @given(data=st.binary(max_size=100), host=st.text(max_size=5))
    @settings(deadline=None, max_examples=100)
    def test_anything(self, data: bytes, host: str) -> None:
        """COM-3: nothing raises."""
        self.setUp()
        self.ask(data, (host, 1))


class RateTests(Case):
    """CH-32: 10 answers a second for each source with a burst of 20, 1,000 a second in all, 4,096 sources."""

    def test_source(self) -> None:
        self.assertEqual(self.count(50), BURST)
        self.assertEqual(self.count(50, now=NOW + 1), 10)
        self.assertEqual(self.count(50, (PEER[0], 9), now=NOW + 1.1), 1, "another port is the same source")
        self.assertEqual(self.count(50, ("192.0.2.8", 9), now=NOW + 1.1), BURST)
        self.assertEqual(self.count(50, now=NOW + 60), BURST)

    def test_clock_set_back(self) -> None:
        """Whoever had answers in a future that is not to be gets some again, and so do all others."""
        self.machine = BindingMachine(total_rate=40, maximum_sources=2)
        for number in range(2):
            self.assertEqual(self.count(50, (f"192.0.2.{number}", 9)), BURST)
        earlier = NOW - 3600
        self.assertEqual(self.count(50, ("192.0.2.7", 9), now=earlier), BURST)
        self.assertEqual(self.count(50, ("192.0.2.1", 9), now=earlier + 2.2), BURST)

    def test_long_run(self) -> None:
        """One that never pauses gets 10 a second."""
        answered = sum(self.count(1, now=NOW + tick / 100) for tick in range(3000))
        self.assertIn(answered, range(BURST + 298, BURST + 302))

    def test_ipv6_source(self) -> None:
        """Sources are those of admission: a /64 is one."""
        self.assertEqual(self.count(15, ("2001:db8::1", 9)), 15)
        self.assertEqual(self.count(15, ("2001:db8::ffff:2", 9)), 5)
        self.assertEqual(self.count(15, ("2001:db8:0:1::1", 9)), 15)
        self.assertEqual(self.count(15, ("::ffff:192.0.2.1", 9)), 15)
        self.assertEqual(self.count(15, ("192.0.2.1", 9)), 5)

    def test_total(self) -> None:
        def sources(now: float) -> int:
            return sum(self.count(1, (f"10.0.{number // 250}.{number % 250}", 9), now) for number in range(1500))

        self.assertEqual(sources(NOW), TOTAL_RATE)
        self.assertEqual(sources(NOW + 0.99), 0)
        self.assertEqual(sources(NOW + 1), TOTAL_RATE)

    def test_unanswered_cost_nothing(self) -> None:
        """What is not answered neither takes from the total nor is remembered."""
        for _ in range(3):
            self.count(500)
        self.assertEqual(len(self.machine._booked), 1)
        self.assertEqual(len(self.machine._total._times), BURST)

    def test_sources(self) -> None:
        """The oldest whose burst has come back is forgotten; while there is none, a new source gets no answer."""
        self.machine = BindingMachine(total_rate=10**6)
        hosts = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(MAXIMUM_SOURCES + 2)]
        for host in hosts[:MAXIMUM_SOURCES]:
            self.assertEqual(self.count(1, (host, 9)), 1)
        self.assertEqual(self.count(1, (hosts[-1], 9)), 0)
        self.assertEqual(self.count(1, (hosts[0], 9)), 1)
        self.assertEqual(self.count(1, (hosts[-1], 9), NOW + 0.1), 1)
        self.assertEqual(len(self.machine._booked), MAXIMUM_SOURCES)
