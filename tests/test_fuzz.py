"""The fuzzer's own parts work: targets take every input, and notice when a machine breaks a promise."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any
from unittest import mock
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from connectd.net.proxy import ProxyHeaderParser
from connectd.protocols.chatr.binding import BindingMachine
from connectd.protocols.chatr.checks import Pair, PairState
from connectd.protocols.chatr.machine import ClientMachine as ChatrClientMachine
from connectd.protocols.chatr.packets import ClientInfo, IPAddress
from connectd.protocols.chatr.registration import Registration
from connectd.protocols.chatr.rendezvous import Delivery, Rendezvous, public_endpoint
from connectd.protocols.chatr.stun import BindingMessage
from connectd.protocols.fmltp import machine as fmltp
from connectd.protocols.fmltp.der import DerReader
from connectd.protocols.fmltp.packets import Reply
from connectd.protocols.fmltp.replay import ReplayGuard
from connectd.protocols.fmltp.tokens import TokenReader
from connectd.protocols.lekt.conversation import ConversationMachine
from connectd.protocols.lekt.listing import Listing
from connectd.protocols.lekt.machine import ClientMachine, ServerMachine
from connectd.protocols.lekt.presence import Presence
from connectd.protocols.starbound import machine as starbound
from connectd.protocols.starbound.events import ShipworldReceived
from connectd.protocols.starbound.frames import Boundary, Inflater
from connectd.protocols.starbound.packets import PacketReader, ServerDisconnect
from connectd.protocols.starbound.variant import VariantScanner
from connectd.sansio import DatagramAddress, Ended, Event, Machine, Outcome
from fuzz import __main__ as command
from fuzz import pseudo_random, with_atheris
from fuzz.script import Script, chunk, cut
from fuzz.targets import TARGETS, load
from fuzz.watched import Broken, Watched

COUNT = 60


class ScriptTests(SynchronousTestCase):
    """Bytes as steps."""

    def test_reading(self) -> None:
        """Operands come in order; what is missing is nothing."""
        script = Script(b"\5" + chunk(b"abc") + b"de")
        self.assertEqual((script.byte(), script.chunk(), script.left), (5, b"abc", 2))
        self.assertEqual((script.take(1), script.rest()), (b"d", b"e"))
        self.assertEqual(
            (script.byte(), script.chunk(), script.take(9), script.rest(), script.left), (0, b"", b"", b"", 0)
        )

    def test_cut(self) -> None:
        """Pieces make the whole."""
        self.assertEqual(cut(b"abcdef", b"\0\2"), [b"a", b"bcd", b"e", b"f"])
        self.assertEqual(cut(b"abc", b""), [b"abc"])


class TargetTests(SynchronousTestCase):
    """Each target with its seeds and some more, and with something broken."""

    def run_target(self, name: str) -> str:
        """Feed a target; how a promise was broken, or nothing."""
        return pseudo_random.fuzz(load(name), seconds=60, seed=7, count=COUNT)[2]

    def test_nothing_is_broken(self) -> None:
        """COM-3: every target takes its seeds and what chance makes of them."""
        for name in TARGETS:
            self.assertEqual(self.run_target(name), "", name)

    def breaking(self, name: str, owner: type[Any], attribute: str, broken: Any) -> str:
        with mock.patch.object(owner, attribute, broken):
            return self.run_target(name)

    def test_raising(self) -> None:
        """A machine that raises is noticed by the target that drives it."""

        def broken(*arguments: Any, **named: Any) -> None:
            raise ZeroDivisionError

        for name, owner, attribute in (
            ("lekt_server", Presence, "answer"),
            ("lekt_client", ClientMachine, "_additions"),
            ("lekt_conversation", ConversationMachine, "_message"),
            ("proxy_header", ProxyHeaderParser, "feed"),
            ("starbound_server", starbound.ServerMachine, "_responded"),
            ("starbound_client", starbound.ClientMachine, "_in"),
            ("starbound_packets", PacketReader, "feed"),
            ("starbound_compression", Inflater, "finish"),
            ("fmltp_server", fmltp.ServerMachine, "_establish"),
            ("fmltp_client", fmltp.ClientMachine, "_establish"),
            ("fmltp_tokens", ReplayGuard, "admit"),
            ("fmltp_keys", DerReader, "sequence"),
            ("fmltp_texts", Reply, "encode"),
            ("chatr_server", Rendezvous, "leave"),
            ("chatr_client", ChatrClientMachine, "_step"),
            ("chatr_registration", Registration, "__init__"),
            ("chatr_stun", BindingMachine, "_take"),
            ("chatr_puncher", Pair, "_open"),
        ):
            self.assertIn("ZeroDivisionError", self.breaking(name, owner, attribute, broken), name)

    def test_wrong_starbound(self) -> None:
        """SB-4, SB-8, SB-11: what each of Starbound's targets is there to notice."""
        for name, owner, attribute, broken, noticed in (
            (
                "starbound_server",
                starbound.ServerMachine,
                "_handed_out",
                lambda machine: [ShipworldReceived(b"")],
                "SB-8",
            ),
            ("starbound_server", starbound.ServerMachine, "held", property(lambda machine: 1 << 30), "COM-2"),
            (
                "starbound_client",
                starbound.ClientMachine,
                "_expected",
                lambda machine, number: (ServerDisconnect, 9),
                "",
            ),
            ("starbound_packets", VariantScanner, "scan", lambda scanner, data, most: True, "_build"),
            ("starbound_compression", Boundary, "pass_over", lambda boundary, data: None, "a frame ends"),
        ):
            told = self.breaking(name, owner, attribute, broken)
            self.assertIn(noticed, told, (name, attribute))
            self.assertNotEqual(told, "", (name, attribute))

    def test_lost_state(self) -> None:
        """FM-10: a reader that forgets what it has walked of a token is noticed, for then it matters where TCP cuts."""
        walk = TokenReader._walk

        def forgetful(reader: TokenReader, data: bytearray, end: int) -> Any:
            reader._start_again()
            return walk(reader, data, min(end, 300))

        self.assertIn("what was sealed is opened", self.breaking("fmltp_tokens", TokenReader, "_walk", forgetful))

    def test_let_in(self) -> None:
        """FM-11: a server that lets somebody in who has failed is noticed."""

        def fail(machine: fmltp.ServerMachine, now: float) -> list[Event]:
            return machine.accept("ann", now)

        broken = self.breaking("fmltp_server", fmltp.ServerMachine, "fail", fail)
        self.assertIn("FM-11", broken)

    def test_wrong_lists(self) -> None:
        """LEKT-7, LEKT-9: a list with a mistake in it is noticed on either side."""
        answer = Presence.answer

        def forgetful(self: Presence, member: Any, place: Any, time: int) -> Any:
            return answer(self, member, self._place, time)

        self.assertIn("LEKT-7", self.breaking("lekt_server", Presence, "answer", forgetful))
        self.assertIn("LEKT-9", self.breaking("lekt_server", Presence, "leave", lambda *arguments: None))
        self.assertIn("add up", self.breaking("lekt_client", Listing, "changes", lambda listing: ([], [])))

    def test_revealed(self) -> None:
        """CH-7, CH-23: an address that is told too early, and a body that is taken for anybody, are noticed."""
        self.assertIn("CH-7", self.breaking("chatr_server", Rendezvous, "request", _reveal))
        everybody = mock.patch("fuzz.chatr_registration.check_binding", return_value=None)
        with everybody:
            self.assertIn("CH-23", self.run_target("chatr_registration"))

    def test_wrong_paths(self) -> None:
        """CH-32, CH-40: answers that go too far, and a path that nobody has proven, are noticed."""
        self.assertIn("CH-32", self.breaking("chatr_stun", BindingMachine, "_take", lambda *arguments: True))

        def credulous(self: Pair, message: BindingMessage, address: DatagramAddress, now: float) -> None:
            if (check := self._check_for(address, now)) is not None and self.state is PairState.CHECKING:
                self._open(check, now)

        self.assertIn("only an address", self.breaking("chatr_puncher", Pair, "receive_request", credulous))

    def test_wrong_output(self) -> None:
        """COM-12: a refusal without its words is noticed."""
        self.assertIn(
            "COM-12", self.breaking("lekt_server", ServerMachine, "_refusal", lambda machine, outcome, text: b"")
        )

    def test_unbounded_input(self) -> None:
        """COM-2: input that is held without bound is noticed."""
        self.assertIn("COM-2", self.breaking("lekt_client", ClientMachine, "_step", lambda machine, now: None))


def _reveal(self: Rendezvous, requester: UUID, target: UUID, private: IPAddress, now: float) -> list[Delivery]:
    """Tell a requester at once where his target is."""
    there = self._clients.get(target)
    return [] if there is None else [(requester, ClientInfo(target, public_endpoint(there.address)))]


class _Toy(Machine):
    """A machine that does what a test wants."""

    __slots__ = ("steps",)

    def __init__(self, *steps: list[Event]) -> None:
        super().__init__(now=0.0, handshake_timeout=1.0)
        self.steps = list(steps)

    def _step(self, now: float) -> list[Event] | None:
        return self.steps.pop(0) if self.steps else None


class WatchedTests(SynchronousTestCase):
    """Each promise of a machine, broken once."""

    def broken(self, *events: Event) -> str:
        watched = Watched(_Toy(list(events)), 100)
        return str(self.assertRaises(Broken, watched.feed, b"x", 0.0))

    def test_end(self) -> None:
        """COM-3, COM-7: what an end must be like."""
        ended = Ended(Outcome.MALFORMED, "bad", 1)
        self.assertIn("last", self.broken(ended, ended))
        self.assertIn("COM-7", self.broken(Ended(Outcome.LEFT, "left")))
        self.assertIn("one line", self.broken(Ended(Outcome.MALFORMED, "two\nlines")))
        self.assertIn("COM-3", self.broken(Ended(Outcome.MALFORMED, "bad", 2)))
        self.assertIn("said so", self.broken(ended))

    def test_misuse(self) -> None:
        """A verb at a wrong time must be refused."""
        watched = Watched(_Toy(), 100)
        watched.misuse(watched.machine.refuse, "no", 0.0)
        self.assertIn("LocalProtocolError", str(self.assertRaises(Broken, watched.misuse, lambda: None)))

    def test_early_deadline(self) -> None:
        """COM-1: nothing expires early, and there is a deadline."""
        machine = _Toy()
        watched = Watched(machine, 100)
        self.assertEqual(watched.wake(0.5), [])
        machine._deadline = None
        self.assertIn("COM-1", str(self.assertRaises(Broken, watched.wake, 0.5)))


class EngineTests(SynchronousTestCase):
    """Inputs and the command line."""

    def run_command(self, *arguments: str) -> tuple[int, str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                status = command.main(arguments)
            except SystemExit as end:
                status = int(end.code or 0)
        return status, output.getvalue()

    def test_deterministic(self) -> None:
        """The same number makes the same inputs, and another number others."""
        seeds = (b"one", b"two")

        def first(seed: int) -> list[bytes]:
            return [data for _, data in zip(range(50), pseudo_random.inputs(seeds, seed), strict=False)]

        self.assertEqual(first(1)[:2], list(seeds))
        self.assertEqual(first(1), first(1))
        self.assertNotEqual(first(1), first(2))

    def test_without_atheris(self) -> None:
        """Where atheris is not installed one line says so, and the targets run all the same."""
        with mock.patch.object(with_atheris, "available", return_value=False):
            status, text = self.run_command("proxy_header", "--seconds", "0")
        self.assertEqual(status, 0)
        first, second, *rest = text.splitlines()
        self.assertIn("atheris is not installed", first)
        self.assertEqual(second, "proxy_header: 0 inputs, nothing broken (seed 1)")
        self.assertEqual(rest, [])

    def test_with_atheris(self) -> None:
        """Where it is installed it is used, and what it says decides."""
        for kept in (True, False):
            with (
                mock.patch.object(with_atheris, "available", return_value=True),
                mock.patch.object(with_atheris, "fuzz", return_value=kept) as fuzz,
            ):
                status, _ = self.run_command("proxy_header", "--seconds", "3", "--seed", "4")
            fuzz.assert_called_once_with("proxy_header", seconds=3.0, seed=4, failures=".", corpus=None)
            self.assertEqual(status, 0 if kept else 1)

    def test_failure(self) -> None:
        """An input that breaks something is kept, and can be given again."""
        directory = self.mktemp()
        with mock.patch.object(ProxyHeaderParser, "feed", side_effect=ZeroDivisionError):
            status, text = self.run_command("proxy_header", "--pseudo-random", "--failures", directory)
            [name] = os.listdir(directory)
            path = os.path.join(directory, name)
            self.assertEqual(status, 1)
            self.assertIn(f"breaks a promise; it is in {path}", text)
            self.assertRaises(ZeroDivisionError, self.run_command, "proxy_header", "--replay", path)
        self.assertEqual(
            self.run_command("proxy_header", "--replay", path), (0, f"proxy_header: {path} breaks nothing\n")
        )

    def test_usage(self) -> None:
        """What is not there is an error with status 2 that says what there is."""
        status, text = self.run_command("nothing")
        self.assertEqual(status, 2)
        self.assertIn(f'there is no target "nothing"; known: {", ".join(TARGETS)}', text)
        self.assertEqual(self.run_command("--replay", "x")[0], 2)
