"""What the daemon asks of its process."""

from __future__ import annotations

import ctypes
import resource
import signal
from typing import Any

import attrs
from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from connectd.admission import AdmissionLimits
from connectd.config import Configuration, DaemonSettings, ListenerConfiguration
from connectd.ops.process import RESERVED, Signals, fit_to_descriptors, return_large_blocks
from connectd.settings import ListenerSettings


class DescriptorTests(SynchronousTestCase):
    """COM-4: the limit on connections is one that can be met."""

    def fitted(self, wanted: int, soft: int, hard: int, handler: str = "hold") -> int:
        """The ``max_connections`` that come of it; ``self.soft`` is the soft limit then."""
        self.soft = soft
        self.patch(resource, "getrlimit", lambda kind: (self.soft, hard))

        def set_limit(kind: int, limits: tuple[int, int]) -> None:
            self.soft = limits[0]

        self.patch(resource, "setrlimit", set_limit)
        listener = ListenerConfiguration("toy", ListenerSettings(handler=handler))
        configuration = Configuration(DaemonSettings(), AdmissionLimits(max_connections=wanted), (listener,))
        fitted = fit_to_descriptors(configuration)
        self.assertEqual(attrs.evolve(fitted, admission=configuration.admission), configuration)
        return fitted.admission.max_connections

    def test_raised(self) -> None:
        """The soft limit is raised as far as is needed, and for forwarding twice as far."""
        self.assertEqual(self.fitted(20_000, 1024, 524_288), 20_000)
        self.assertEqual(self.soft, 20_000 + RESERVED)
        self.assertEqual(self.fitted(20_000, 1024, 524_288, "forward:tcp:localhost:1"), 20_000)
        self.assertEqual(self.soft, 40_000 + RESERVED)

    def test_enough(self) -> None:
        self.assertEqual(self.fitted(100, 1024, 4096), 100)
        self.assertEqual(self.soft, 1024)
        self.assertEqual(self.fitted(0, resource.RLIM_INFINITY, resource.RLIM_INFINITY), 0)

    def test_not_enough(self) -> None:
        """What does not fit is refused as limited, and a place is kept for who looks."""
        self.assertEqual(self.fitted(20_000, 1024, 4096), 4096 - RESERVED)
        self.assertEqual(self.fitted(20_000, 1024, 4096, "forward:unix:/b"), (4096 - RESERVED) // 2)
        self.assertEqual(self.fitted(20_000, 64, 64), 32)

    def test_no_limit_of_connections(self) -> None:
        self.assertEqual(self.fitted(0, 1024, 4096), 4096 - RESERVED)
        self.assertEqual(self.fitted(0, 1024, resource.RLIM_INFINITY), 0)
        self.assertEqual(self.soft, resource.RLIM_INFINITY)

    def test_forbidden(self) -> None:
        """A system that lets nobody raise it is lived with."""

        def refuse(kind: int, limits: tuple[int, int]) -> None:
            raise ValueError

        self.patch(resource, "getrlimit", lambda kind: (1024, 4096))
        self.patch(resource, "setrlimit", refuse)
        fitted = fit_to_descriptors(Configuration(DaemonSettings(), AdmissionLimits(), ()))
        self.assertEqual(fitted.admission.max_connections, 1024 - RESERVED)


class FakeReactor:
    """Runs what it is given at once."""

    def __init__(self) -> None:
        self.stopped = 0

    def callWhenRunning(self, call: Any) -> None:
        call()

    callFromThread = callWhenRunning

    def stop(self) -> None:
        self.stopped += 1


class FakeListener:
    """Notes how it is drained."""

    def __init__(self) -> None:
        self.limits: list[float] = []

    def drain(self, limit: float) -> Any:
        self.limits.append(limit)
        return succeed(None)


class SignalTests(SynchronousTestCase):
    """COM-8: what stops the daemon tells its peers; told twice it cuts them off."""

    def setUp(self) -> None:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.reactor, self.listener = FakeReactor(), FakeListener()
        self.stopping = False
        self.terminated: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: self.terminated.append(number))
        listeners: list[Any] = [self.listener]
        self.signals = Signals(self.reactor, lambda: listeners, lambda: self.stopping)

    def test_hangup(self) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        self.signals.startService()
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual((self.reactor.stopped, self.listener.limits), (1, []))

    def test_ignored_hangup(self) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.signals.startService()
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(self.reactor.stopped, 0)

    def test_twice(self) -> None:
        self.signals.startService()
        signal.raise_signal(signal.SIGTERM)
        self.assertEqual((self.terminated, self.listener.limits), ([signal.SIGTERM], []))
        self.stopping = True
        signal.raise_signal(signal.SIGTERM)
        self.assertEqual((self.terminated, self.listener.limits), ([signal.SIGTERM], [0]))


class MemoryTests(SynchronousTestCase):
    def test_large_blocks(self) -> None:
        """Known to the C libraries that have such a thing, and no mistake elsewhere."""
        self.assertEqual(return_large_blocks(), hasattr(ctypes.CDLL(None), "mallopt"))
        self.patch(ctypes, "CDLL", lambda name: object())
        self.assertFalse(return_large_blocks())
