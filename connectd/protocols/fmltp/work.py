"""Where the arithmetic of the key exchange is done: at once where that is quick, else in a worker process.

Finite-field Diffie-Hellman holds the interpreter lock, so a thread would gain nothing. In ffdhe2048 it takes half a
millisecond and stays in the reactor; in larger groups, and in those that have no name, it goes to a child.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from connectd.net.connection import Refused
from connectd.protocols.fmltp import exchange
from connectd.protocols.fmltp.exchange import KeyExchange, KeyPair
from connectd.protocols.fmltp.groups import BadKey, Group, recognised
from connectd.sansio import Outcome
from connectd.workers.processes import Busy, Processes, WorkError

T = TypeVar("T")

EXCHANGE_TIMEOUT = 15.0
"""Seconds that a key exchange may wait for a child, and may then take."""

CHECK_TIMEOUT = 60.0
"""Seconds for the check of an unknown group; the handshake's deadline is usually over before that (FM-5)."""

FRESH_TIMEOUT = 3600.0
"""Seconds for a new group; 2048 bits usually take less than a minute, and now and then several."""

FRESH_BITS = 2048
"""Bits of a new group (FM-5)."""


# What children are asked for: bytes in, bytes out.


def answer(p: bytes, g: bytes, y: bytes) -> tuple[bytes, bytes]:
    """A server's key pair and the shared secret: (public, secret)."""
    made = exchange.answer(_group(p, g), _number(y))
    return _octets(made.public), made.secret


def generate(p: bytes, g: bytes) -> tuple[bytes, bytes]:
    """A client's key pair: (private, public)."""
    pair = exchange.generate(_group(p, g))
    return _octets(pair.private), _octets(pair.public)


def compute_secret(p: bytes, g: bytes, private: bytes, public: bytes, y: bytes) -> tuple[bytes]:
    """A client's shared secret."""
    pair = KeyPair(_number(private), _number(public))
    return (exchange.compute_secret(_group(p, g), pair, _number(y)),)


def check_group(p: bytes, g: bytes) -> tuple[bytes]:
    """What is wrong with a group, or nothing."""
    try:
        exchange.check_group(_group(p, g))
    except BadKey as error:
        return (str(error).encode(),)
    return (b"",)


def make_group(bits: bytes) -> tuple[bytes, bytes]:
    """A new group."""
    return _written(exchange.make_group(_number(bits)))


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def _group(p: bytes, g: bytes) -> Group:
    return recognised(_number(p), _number(g))


def _written(group: Group) -> tuple[bytes, bytes]:
    return _octets(group.p), _octets(group.g)


# What listeners and clients use


class KeyWork(Processes):
    """The key computations of one listener or client. Nothing is started before there is something to do.

    What is quick is done in the reactor, but only once in a turn: many clients that come at the same time hold up the
    others no longer than one.

    :param reactor: the reactor.
    :param count: how many children there are at most.
    """

    def __init__(self, reactor: Any, count: int = 1) -> None:
        super().__init__(reactor, [answer, generate, compute_secret, check_group], count=count)
        self._quick: deque[Deferred[None]] = deque()
        self._next_turn: IDelayedCall | None = None

    def stopService(self) -> Deferred[None]:
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        quick, self._quick = self._quick, deque()
        for turn in quick:
            turn.cancel()
        return super().stopService()

    def _in_turn(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Compute something quick: now, or when those before it have been computed."""
        turn: Deferred[Any] = Deferred()
        if self._next_turn is None:
            self._next_turn = self.reactor.callLater(0, self._turn_passed)
            turn.callback(None)
        else:
            self._quick.append(turn)
        return turn.addCallback(lambda result: function(*arguments))

    def _turn_passed(self) -> None:
        self._next_turn = None
        while self._quick:
            turn = self._quick.popleft()
            if not turn.called:  # else it was cancelled
                self._next_turn = self.reactor.callLater(0, self._turn_passed)
                turn.callback(None)
                return

    def prepare(self, group: Group) -> None:
        """Have a child ready where this group is going to need one."""
        if not exchange.is_quick(group):
            self.warm()

    def answer(self, group: Group, y: int) -> Deferred[KeyExchange]:
        """A server's key pair, new for this connection, and the shared secret (FM-6)."""
        if exchange.is_quick(group):
            return self._in_turn(exchange.answer, group, y)
        work = self.perform(answer, *_written(group), _octets(y), timeout=EXCHANGE_TIMEOUT)
        done: Deferred[Any] = work.addErrback(_refused)
        return done.addCallback(lambda found: KeyExchange(_number(found[0]), found[1]))

    def generate(self, group: Group) -> Deferred[KeyPair]:
        """A client's key pair. A group that has no name is looked at first: its modulus has to be a safe prime (FM-5).

        :return: fails with :class:`connectd.net.connection.Refused` where it is not.
        """
        if exchange.is_quick(group):
            return self._in_turn(exchange.generate, group)
        return Deferred.fromCoroutine(self._generate(group))

    async def _generate(self, group: Group) -> KeyPair:
        written = _written(group)
        if not group.is_named:
            (problem,) = await self.perform(check_group, *written, timeout=CHECK_TIMEOUT).addErrback(_refused)
            if problem:
                raise Refused(f"the server's parameters are not safe: {problem.decode()}")
        private, public = await self.perform(generate, *written, timeout=EXCHANGE_TIMEOUT).addErrback(_refused)
        return KeyPair(_number(private), _number(public))

    def compute_secret(self, group: Group, pair: KeyPair, y: int) -> Deferred[bytes]:
        """A client's shared secret."""
        if exchange.is_quick(group):
            return self._in_turn(exchange.compute_secret, group, pair, y)
        work = self.perform(
            compute_secret,
            *_written(group),
            _octets(pair.private),
            _octets(pair.public),
            _octets(y),
            timeout=EXCHANGE_TIMEOUT,
        )
        done: Deferred[Any] = work.addErrback(_refused)
        return done.addCallback(lambda found: found[0])


class GroupMaker(Processes):
    """Makes a new group in a child that stands back behind everything else.

    :param reactor: the reactor.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor, [make_group], niceness=19)

    async def make(self, bits: int = FRESH_BITS) -> Group:
        """A new group; the child is gone afterwards.

        :raises connectd.workers.processes.WorkError: where it cannot be made.
        """
        try:
            p, g = await self.perform(make_group, _octets(bits), timeout=FRESH_TIMEOUT)
        finally:
            if self.running:
                await self.stopService()
        return _group(p, g)


def _refused(failure: Any) -> Any:
    """Work that could not be done is no reason for a traceback."""
    failure.trap(WorkError)
    outcome = Outcome.LIMITED if failure.check(Busy) else Outcome.REFUSED
    raise Refused(f"the keys could not be computed: {failure.getErrorMessage()}", outcome) from None
