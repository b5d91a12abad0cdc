"""``connectctl lekt watch`` and ``talk``: what is behind the commands, over loopback."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from connectd.admission import Admission, AdmissionLimits
from connectd.events import Events
from connectd.net.client import ConnectionEnded
from connectd.net.listener import Context
from connectd.protocols.lekt.plugin import plugin
from connectd.protocols.lekt.server import LektListener
from connectd.protocols.lekt.settings import LektSettings
from connectd.protocols.lekt.talking import parse_place, talk
from connectd.protocols.lekt.watching import watch
from connectd.testing import Recorder

reactor: Any = installed_reactor


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait, but not for long, until something is true."""
    for _ in range(1000):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError(f"never: {what}")


class Base(TestCase):
    def setUp(self) -> None:
        self.recorder = Recorder()
        context = Context(
            reactor=reactor,
            admission=Admission(AdmissionLimits(), clock=reactor),
            events=Events(reactor.seconds, [self.recorder]),
            drain_timeout=2.0,
        )
        self.listener = LektListener(LektSettings(listen="tcp:0:interface=127.0.0.1"), context)
        self.listener.startService()
        self.addCleanup(self.stop)
        port = self.listener.faces[0].port
        self.url = f"lekt://127.0.0.1:{port}?heartbeat_period=0.1"

    async def stop(self) -> None:
        await until(lambda: not self.listener.connections, "everybody has left")
        await self.listener.stopService()

    def start(self, work: Any) -> Deferred[None]:
        """Run one of the commands until it is interrupted."""
        running: Deferred[None] = Deferred.fromCoroutine(work)
        running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self.addCleanup(lambda: running)
        self.addCleanup(running.cancel)
        return running


class WatchTests(Base):
    async def test_who_comes_and_goes(self) -> None:
        """Each change is shown once, with the port that was announced."""
        shown: list[tuple[str, str, int | None]] = []
        status: list[str] = []
        self.start(watch(reactor, self.url, lambda *change: shown.append(change), status.append))
        await until(lambda: bool(status), "joined")
        other = self.start(watch(reactor, f"{self.url}&port=4711", lambda *change: None, status.append))
        await until(lambda: bool(shown), "the other is seen")
        other.cancel()
        await until(lambda: len(shown) == 2, "the other is seen to leave")
        self.assertEqual(shown, [("joined", "127.0.0.1", 4711), ("left", "127.0.0.1", 4711)])
        self.assertEqual(status, [f"joined {self.url}", f"joined {self.url}&port=4711"])

    async def test_cut_off(self) -> None:
        """It says why it was cut off, and that it is back."""
        status: list[str] = []
        self.start(watch(reactor, self.url, lambda *change: None, status.append))
        await until(lambda: len(self.listener.connections) == 1, "joined")
        await until(lambda: bool(status), "said so")
        next(iter(self.listener.context.sessions)).kick("be gone")
        await until(lambda: len(status) == 3, "back again")
        self.assertEqual(status[1:], ["cut off: rejected: be gone; joining again", f"joined {self.url}"])

    async def test_refused(self) -> None:
        """Where the server refuses at the first try, that is the end."""
        self.listener.reconfigure(LektSettings(listen=self.listener.settings.listen, max_sessions=1))
        status: list[str] = []
        self.start(watch(reactor, self.url, lambda *change: None, status.append))
        await until(lambda: bool(status), "joined")
        with self.assertRaises(ConnectionEnded) as caught:
            await watch(reactor, self.url, lambda *change: None, status.append)
        self.assertEqual(str(caught.exception), "rejected: The server is full")


class ProbeTests(Base):
    async def test_steps(self) -> None:
        """A probe walks through the whole process, tells who is listed, and leaves."""
        ignored: list[str] = []
        others = [
            self.start(watch(reactor, f"{self.url}&port={4000 + n}", lambda *c: None, ignored.append))
            for n in range(22)
        ]
        self.assertEqual(len(others), 22)
        await until(lambda: self.listener.session_count == 22, "all joined")
        steps: list[tuple[str, str]] = []
        await plugin.probe(f"{self.url}&port=1", lambda step, detail: steps.append((step, detail)), reactor)
        self.assertEqual(
            [step for step, _ in steps if step != "listed"],
            ["connect", "ServerAccept", "ServerRequest", "ServerRequest", "UpdateResponse", "closed"],
        )
        listed = [detail for step, detail in steps if step == "listed"]
        self.assertEqual((len(listed), listed[-1]), (21, "and 2 more"))

    async def test_connect(self) -> None:
        """The plugin's client is running once it is there; a refused one is stopped again."""
        self.listener.reconfigure(LektSettings(listen=self.listener.settings.listen, max_sessions=1))
        client = await plugin.connect(self.url, reactor)
        self.assertTrue(client.running)
        with self.assertRaises(ConnectionEnded):
            await plugin.connect(self.url, reactor)
        await client.stopService()


class Talker:
    """One who uses ``talk``: what is typed and what is shown."""

    def __init__(self, case: Base, nickname: str, callee: tuple[str, int] | None = None) -> None:
        self.case = case
        self.lines: list[str] = []
        reading, self._writing = os.pipe()
        case.addCleanup(self.end_of_input)
        self.running = case.start(talk(reactor, case.url, nickname, 0, callee, self.lines.append, stdin=reading))

    def type(self, line: str) -> None:
        os.write(self._writing, line.encode() + b"\n")

    def end_of_input(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

    async def sees(self, text: str) -> str:
        """Wait for a line with this in it."""
        await until(lambda: any(text in line for line in self.lines), f"{text!r} in {self.lines}")
        return next(line for line in self.lines if text in line)


class TalkTests(Base):
    async def test_conversation(self) -> None:
        """LEKT-20: two that found each other through the server talk directly, until one leaves."""
        bob = Talker(self, "bob")
        joined = await bob.sees("taking calls on port")
        port = int(joined.partition("port ")[2].partition(";")[0])
        alice = Talker(self, "alice")
        await alice.sees("joined")
        alice.type("anybody?")
        await alice.sees("nobody is listening")
        alice.type("/who")
        await alice.sees(f"127.0.0.1:{port}")
        alice.type(f"/call 127.0.0.1:{port}")
        await alice.sees("talking with bob at 127.0.0.1")
        await bob.sees("talking with alice")
        alice.type("hello\N{WAVING HAND SIGN}")
        await bob.sees("alice: hello\N{WAVING HAND SIGN}")
        bob.type("hi")
        await alice.sees("bob: hi")
        bob.type("/quit")
        await alice.sees("bob is gone")
        alice.end_of_input()
        await alice.running

    async def test_called_at_once(self) -> None:
        """--call needs no typing."""
        bob = Talker(self, "bob")
        joined = await bob.sees("taking calls on port")
        port = int(joined.partition("port ")[2].partition(";")[0])
        alice = Talker(self, "alice", ("127.0.0.1", port))
        await alice.sees("talking with bob")

    async def test_mistakes(self) -> None:
        """What is typed wrongly, or calls nobody, is said and changes nothing."""
        bob = Talker(self, "bob")
        await bob.sees("joined")
        for typed, told in (
            ("/dance", "/dance is not a command"),
            ("/call nobody", "not ADDRESS:PORT"),
            ("/call 127.0.0.1:1", "could not be called"),
            ("/who", "0 others listed"),
        ):
            bob.type(typed)
            await bob.sees(told)


class PlaceTests(SynchronousTestCase):
    def test_place(self) -> None:
        """A client is written as it is listed."""
        self.assertEqual(parse_place(" 192.0.2.1:99 "), ("192.0.2.1", 99))
        for text in ("", "192.0.2.1", "host:1", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:x", "[::1]:1"):
            self.assertRaises(ValueError, parse_place, text)
