"""The server's UDP port without input or output: it tells whoever asks where his datagrams come from (CH-32)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from connectd.addresses import pack
from connectd.protocols.chatr.pace import SlidingWindow
from connectd.protocols.chatr.stun import BindingMessage, MessageClass, decode, encode_success
from connectd.sansio import DatagramAddress, DatagramMachine, Ended, Event, Outcome

RATE: Final = 10.0
"""Answers per second that one source gets in the long run."""
BURST: Final = 20
"""Answers that a source gets at once after a quiet time."""
TOTAL_RATE: Final = 1000
"""Answers within any second, to all sources together."""
MAXIMUM_SOURCES: Final = 4096
"""Sources that are remembered; one whose burst has come back needs no remembering."""


class BindingMachine(DatagramMachine):
    """Answers Binding requests with XOR-MAPPED-ADDRESS and nothing else; everything else gets no answer at all.

    A request that asks for something unknown here gets none either, and neither does one with a MESSAGE-INTEGRITY that
    is wrong or that nobody here can check. So an answer is never more than 2.2 times its request, and a forged source
    gets at most the rate.

    Sources are IPv4 addresses and IPv6 /64s. While 4,096 of them have asked within the last seconds, others get no
    answer.

    :param rate: answers per second and source.
    :param burst: answers at once after a quiet time.
    :param total_rate: answers in any second, to all.
    :param maximum_sources: how many sources are remembered.
    :param find_key: gives the key of a USERNAME, or None. In version 1 nobody has one.
    :param admitted: whether a host gets answers at all (COM-4).
    """

    __slots__ = (
        "_admitted",
        "_booked",
        "_burst_seconds",
        "_find_key",
        "_interval",
        "_maximum_sources",
        "_outgoing",
        "_total",
        "answered",
        "dropped",
    )

    def __init__(
        self,
        *,
        rate: float = RATE,
        burst: int = BURST,
        total_rate: int = TOTAL_RATE,
        maximum_sources: int = MAXIMUM_SOURCES,
        find_key: Callable[[bytes], bytes | None] = lambda username: None,
        admitted: Callable[[str], bool] = lambda host: True,
    ) -> None:
        super().__init__()
        self.answered = 0
        self.dropped = 0
        self._interval = 1.0 / rate
        self._burst_seconds = burst / rate
        self._maximum_sources = maximum_sources
        self._total = SlidingWindow(total_rate)
        self._find_key = find_key
        self._admitted = admitted
        # Each answer takes 1 / rate seconds of the source's future; a burst away from now there is no more to take.
        # The order is that of the last answers.
        self._booked: dict[bytes, float] = {}
        self._outgoing: list[tuple[bytes, DatagramAddress]] = []

    def receive_datagram(self, data: bytes, address: DatagramAddress, now: float) -> list[Event]:
        if not self.ended and (answer := self._answer(data, address, now)) is not None:
            self.answered += 1
            self._outgoing.append((answer, address))
        else:
            self.dropped += 1
        return []

    def datagrams_to_send(self) -> list[tuple[bytes, DatagramAddress]]:
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def deadline(self) -> float | None:
        return None

    def handle_deadline(self, now: float) -> list[Event]:
        return []

    def close(self, outcome: Outcome, reason: str, now: float) -> list[Event]:
        if self.ended:
            return []
        self.ended = True
        return [Ended(outcome, reason)]

    def _answer(self, data: bytes, address: DatagramAddress, now: float) -> bytes | None:
        try:
            source = pack(address[0])[:8]
            message = decode(data)
        except ValueError:  # StunError is one
            return None
        if message.message_class is not MessageClass.REQUEST or message.unknown or not self._admitted(address[0]):
            return None
        key = self._key(message)
        if (message.has_integrity and key is None) or not self._take(source, now):
            return None
        return encode_success(message.transaction_id, address, key=key)

    def _key(self, message: BindingMessage) -> bytes | None:
        """The key that the request was signed with, if it was."""
        if not message.has_integrity or message.username is None:
            return None
        key = self._find_key(message.username)
        return key if key is not None and message.is_signed_with(key) else None

    def _take(self, source: bytes, now: float) -> bool:
        """Whether this source may have an answer now; only one that it gets is counted, and only then it is known."""
        # Nobody is more than a burst ahead; who seems to be was there before the clock was set back.
        furthest = now + self._burst_seconds + self._interval
        booked = max(self._booked.get(source, now), now)
        if booked > furthest:
            booked = now
        if booked > now + self._burst_seconds - self._interval * (1 - 1e-9):
            return False
        if source not in self._booked and len(self._booked) >= self._maximum_sources:
            oldest = next(iter(self._booked))
            if now < self._booked[oldest] <= furthest:
                return False
            del self._booked[oldest]
        if not self._total.take(now):
            return False
        self._booked.pop(source, None)
        self._booked[source] = booked + self._interval
        return True
