"""The documentation says what is so: its examples run, its bytes are those of the code, its tables are complete."""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import attrs
import click
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.python.filepath import FilePath
from twisted.trial import unittest
from zope.interface.verify import verifyObject

from connectd import registry
from connectd.cli.main import connectctl
from connectd.config import Configuration, load, render
from connectd.interfaces import IProtocol
from connectd.net.connection import Peer
from connectd.net.forward import BROKEN, CLOSED
from connectd.net.listener import GOODBYE
from connectd.ops.admin import KICKED
from connectd.ops.daemon import Daemon
from connectd.protocols.lekt import machine as lekt_machine
from connectd.protocols.lekt import packets
from connectd.protocols.lekt.client import LektDialogue
from connectd.protocols.lekt.conversation import ConversationMachine, Message, NicknameReceived
from connectd.protocols.lekt.machine import ClientMachine, HelloReceived, ServerMachine
from connectd.protocols.lekt.packets import Entry, encode_additions, encode_port, encode_removals
from connectd.protocols.lekt.presence import Presence
from connectd.protocols.lekt.server import LektListener
from connectd.protocols.lekt.settings import LektClientSettings, LektSettings
from connectd.sansio import AFTER_ACCEPTANCE, BEFORE_ACCEPTANCE, Machine, Outcome
from connectd.testing import Network

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EPOCH = 1_700_000_000
"""Where the left column of the session on the LEKT page begins."""

_MARKED = re.compile(r"<!-- (?P<mark>[^\n]*?) -->\n```(?P<language>\w+)\n(?P<body>.*?)\n```", re.DOTALL)
_MARKED_RST = re.compile(
    r"^\.\. (?P<mark>tested: \S+)\n\.\. code-block:: python\n\n(?P<body>(?:    .*\n|\n)+)", re.MULTILINE
)


@attrs.frozen
class Block:
    """A marked block of a page: ``<!-- KIND: ARGUMENT -->`` in front of a fence."""

    kind: str
    argument: str
    body: str


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(text: str, kind: str) -> list[Block]:
    found = []
    for match in _MARKED.finditer(text):
        name, _, argument = match["mark"].partition(": ")
        if name == kind:
            found.append(Block(name, argument, match["body"]))
    return found


def readme_blocks() -> dict[str, str]:
    text = (ROOT / "README.rst").read_text(encoding="utf-8")
    return {
        match["mark"].removeprefix("tested: "): re.sub("^    ", "", match["body"], flags=re.MULTILINE)
        for match in _MARKED_RST.finditer(text)
    }


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    start = text.index(f"\n{heading}\n") + len(heading) + 2
    rest = re.search(rf"^#{{1,{level}}} ", text[start:], re.MULTILINE)
    return text[start : start + rest.start()] if rest else text[start:]


def first_cells(text: str) -> list[str]:
    """The words in code font that begin the first cells of tables."""
    return re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)


def grouped(data: bytes) -> str:
    return " ".join(data[start : start + 4].hex() for start in range(0, len(data), 4))


# LEKT's bytes


def entry(address: str, port: int | None = None) -> Entry:
    return Entry(IPv4Address(address), () if port is None else ((1, encode_port(port)),))


def additions(time: int, *entries: Entry) -> bytes:
    return b"".join(encode_additions(time, [one.encode() for one in entries]))


def removals(time: int, *addresses: str) -> bytes:
    return b"".join(encode_removals(time, [IPv4Address(address).packed for address in addresses]))


EXPRESSIONS: dict[str, Any] = {
    **{name: getattr(packets, name) for name in ("Hello", "Accept", "Reject", "Request", "Response", "Heartbeat")},
    "encode_port": encode_port,
    "entry": entry,
    "additions": additions,
    "removals": removals,
}


class WireExampleTests(unittest.SynchronousTestCase):
    """The examples of messages on the LEKT page."""

    def test_every_example_is_what_the_code_encodes(self) -> None:
        """LEKT-1 to LEKT-11: the bytes, and the offsets in front of them."""
        found = blocks(page("protocols/lekt.md"), "wire")
        for block in found:
            message = eval(block.argument, EXPRESSIONS)
            data = b""
            for line in block.body.splitlines():
                match = re.fullmatch(r" *(\d+)  ((?:[0-9a-f]{2} ?)+)(?: +.*)?", line)
                assert match is not None, line
                self.assertEqual(int(match[1]), len(data), f"{block.argument}: offset of {line}")
                data += bytes.fromhex(match[2])
            self.assertEqual(data, message if isinstance(message, bytes) else message.encode(), block.argument)
        self.assertEqual(
            {block.argument.partition("(")[0] for block in found},
            set(EXPRESSIONS) - {"entry", "encode_port"} - {"__builtins__"},
        )


class Session:
    """Plays the session of the LEKT page with machines, and writes down what goes over the wires."""

    def __init__(self) -> None:
        self.settings = LektSettings()
        self.presence = Presence(90.0)
        self.sides: dict[str, tuple[ClientMachine, ServerMachine]] = {}
        self.lines: list[tuple[int, str, str, str]] = []

    def join(self, name: str, address: str, second: int, port: int = 0) -> None:
        now = float(EPOCH + second)
        client = ClientMachine(LektClientSettings(port=port), now=now)
        server = ServerMachine(self.settings, self.presence, now=now)
        self.sides[name] = client, server
        self.pump(name, second, IPv4Address(address).packed)
        self.beat(name, second)

    def beat(self, name: str, second: int, *, resync: bool = False) -> None:
        self.sides[name][0].heartbeat(float(EPOCH + second), resync=resync)
        self.pump(name, second)

    def leave(self, name: str, second: int) -> None:
        self.sides[name][1].end_of_stream(float(EPOCH + second))

    def stop(self, name: str, second: int) -> None:
        self.sides[name][1].close(Outcome.SHUTDOWN, "Server is shutting down", float(EPOCH + second))
        self.pump(name, second)

    def pump(self, name: str, second: int, address: bytes | None = None) -> None:
        client, server = self.sides[name]
        now = float(EPOCH + second)
        while True:
            data = client.data_to_send()
            if data:
                self.lines.append((second, name, "→", data.hex()))
                server.receive_data(data, now)
                if isinstance(server.decision, HelloReceived):
                    assert address is not None
                    server.accept(address, now)
            answer = server.data_to_send()
            if answer:
                self.lines.append((second, name, "←", answer.hex()))
                client.receive_data(answer, now)
            if not data and not answer:
                return


def dumped(body: str, with_time: bool) -> list[tuple[int, str, str, str]]:
    """The lines of a dump: second, who, direction, hexadecimal."""
    lines: list[tuple[int, str, str, str]] = []
    for line in body.splitlines():
        text = line.strip()
        if not text or text.startswith(";"):
            continue
        match = re.fullmatch(r"(?:(\d+)\s+)?([A-Z]) ([→←])\s+([0-9a-f ]+)", text)
        if match is None:
            second, who, direction, data = lines.pop()
            lines.append((second, who, direction, data + text.replace(" ", "")))
        else:
            assert bool(match[1]) is with_time, line
            lines.append((int(match[1] or 0), match[2], match[3], match[4].replace(" ", "")))
    return lines


class DumpTests(unittest.SynchronousTestCase):
    """The dumps on the LEKT page."""

    def test_whole_session(self) -> None:
        """LEKT-1 to LEKT-11: the machines say exactly what the page shows, and nothing that it leaves out."""
        session = Session()
        session.join("A", "192.0.2.10", 0, 9000)
        session.join("B", "198.51.100.7", 4)
        session.join("C", "198.51.100.7", 5, 9002)
        session.beat("A", 10)
        session.leave("B", 12)
        session.beat("A", 20)
        session.beat("A", 30, resync=True)
        session.stop("A", 33)
        (block,) = blocks(page("protocols/lekt.md"), "session")
        self.assertEqual(session.lines, dumped(block.body, with_time=True))

    def test_conversation(self) -> None:
        """LEKT-20: two clients say exactly what the page shows."""
        caller = ConversationMachine("alice", calling=True, now=0.0)
        called = ConversationMachine("carol", calling=False, now=0.0)
        lines: list[tuple[int, str, str, str]] = []

        def turn(name: str, sender: Machine, receiver: ConversationMachine) -> None:
            data = sender.data_to_send()
            lines.append((0, name, "→", data.hex()))
            receiver.receive_data(data, 0.0)
            if isinstance(receiver.decision, NicknameReceived):
                receiver.accept(0.0)

        turn("A", caller, called)
        turn("C", called, caller)
        turn("A", caller, called)
        caller.send(Message(1, 0, b"hello"), 0.0)
        turn("A", caller, called)
        called.send(Message(1, 0, b"hi"), 0.0)
        turn("C", called, caller)
        (block,) = blocks(page("protocols/lekt.md"), "conversation")
        self.assertEqual(lines, dumped(block.body, with_time=False))


def lekt_server(**options: Any) -> ServerMachine:
    return ServerMachine(LektSettings(**options), Presence(90.0), now=0.0)


def listed_server() -> ServerMachine:
    machine = lekt_server()
    machine.receive_data(packets.Hello(0, ()).encode(), 0.0)
    machine.accept(IPv4Address("192.0.2.1").packed, 0.0)
    machine.data_to_send()
    return machine


class ErrorTableTests(unittest.SynchronousTestCase):
    """The table of errors on the LEKT page."""

    def rows(self) -> dict[str, list[str]]:
        rows = {}
        for line in section(page("protocols/lekt.md"), "## Errors").splitlines():
            if line.startswith("| `"):
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                rows[cells[0].split("`")[1]] = cells
        return rows

    def test_every_text_is_there(self) -> None:
        texts = {value for name, value in vars(lekt_machine).items() if name.isupper() and isinstance(value, str)}
        texts |= {GOODBYE, KICKED, CLOSED, BROKEN}
        self.assertEqual(texts - set(self.rows()), set())

    def test_texts_outcomes_and_offsets(self) -> None:
        """LEKT-1 to LEKT-3, LEKT-6, LEKT-12, LEKT-15, COM-1: what the table says about an input is what happens."""
        hello = packets.Hello(1, (1,)).encode()
        in_setup = lekt_server()
        in_setup.receive_data(hello, 0.0)
        in_setup.accept(IPv4Address("192.0.2.1").packed, 0.0)
        in_setup.data_to_send()
        beats = packets.Heartbeat(5).encode() * 21
        cases: list[tuple[str, ServerMachine, bytes, str, int]] = [
            ("Expected a LEKT handshake", lekt_server(), b"GET / HTTP/1.1", "malformed", 0),
            ("Unsupported version", lekt_server(), b"LEKTH\1\0\0", "refused", 5),
            ("Unsupported version", lekt_server(), b"LEKTH\0\1\0", "refused", 6),
            ("Too many connection methods", lekt_server(), packets.Hello(1025, ()).encode(), "malformed", 8),
            ("Invalid port", in_setup, packets.Response(1, bytes(4)).encode(), "malformed", len(hello) + 12),
            ("Unexpected packet", listed_server(), b"LEKTX", "malformed", 12 + 4),
            ("Too many heartbeats", listed_server(), beats, "malformed", 12 + 20 * 16),
        ]
        rows = self.rows()
        for text, machine, data, outcome, offset in cases:
            *_, ended = machine.receive_data(data, 1.0)
            self.assertEqual((ended.outcome.value, ended.offset), (outcome, offset), text)  # type: ignore[attr-defined]
            self.assertTrue(machine.data_to_send().endswith(packets.Reject(text).encode()), text)
            self.assertEqual(rows[text][3], outcome, text)
        self.assertIn("of the wrong byte", rows["Expected a LEKT handshake"][4])
        self.assertIn("5 or 6", rows["Unsupported version"][4])
        self.assertEqual(rows["Too many connection methods"][4], "8")

    def test_deadlines(self) -> None:
        """COM-1, LEKT-12: the two texts of deadlines, and when they come."""
        waiting, silent = lekt_server(), listed_server()
        for machine, text in ((waiting, "Handshake took too long"), (silent, "No heartbeat came in time")):
            self.assertEqual(machine.handle_deadline(29.9), [])
            (ended,) = machine.handle_deadline(30.0)
            self.assertEqual(ended.outcome, Outcome.TIMEOUT)  # type: ignore[attr-defined]
            self.assertEqual(machine.data_to_send(), packets.Reject(text).encode())
            self.assertEqual(self.rows()[text][3], "timeout")

    def test_stated_limits(self) -> None:
        """LEKT-2, LEKT-4, LEKT-8, LEKT-15: the numbers of the page are those of the code."""
        text = page("protocols/lekt.md")
        for number in (
            packets.MAXIMUM_METHODS,
            packets.MAXIMUM_REJECT_TEXT,
            packets.ENTRIES_PER_ADDITION,
            packets.ENTRIES_PER_REMOVAL,
            ServerMachine.held_limit,
            ClientMachine.MAXIMUM_ENTRY,
            LektClientSettings().maximum_clients,
        ):
            self.assertIn(f"{number:,}", section(text, "## Limits") + section(text, "### Server update: removals"))
        own = LektSettings()
        timing = section(text, "## Timing")
        for key, shown in (("handshake_timeout", "30 s"), ("heartbeat_period", "10 s"), ("resync_interval", "60 s")):
            self.assertEqual(f"{getattr(own, key):g} s", shown)
            self.assertRegex(timing, rf"\| {shown} \| `{key}`")
        self.assertRegex(timing, rf"\| {own.silent_periods:g} periods \| `silent_periods`")
        self.assertRegex(timing, rf"\| {own.heartbeat_limit} \| `heartbeat_limit`")


class RuleTests(unittest.SynchronousTestCase):
    """Every rule has its place."""

    def test_lekt(self) -> None:
        headings = re.findall(r"^### LEKT-(\d+): ", page("protocols/lekt.md"), re.MULTILINE)
        self.assertEqual([int(number) for number in headings], [*range(1, 17), 20])

    def test_starbound(self) -> None:
        rules = re.findall(r"\*\*SB-(\d+)\*\*|\(SB-(1[12])\)", page("protocols/starbound.md"))
        found = {int(one or other) for one, other in rules}
        self.assertEqual(found, {*range(1, 13), *range(20, 25)})

    def test_fmltp(self) -> None:
        headings = re.findall(r"^### FM-(\d+): ", page("protocols/fmltp.md"), re.MULTILINE)
        self.assertEqual(sorted(int(number) for number in headings), list(range(1, 17)))

    def test_common(self) -> None:
        headings = re.findall(r"^## COM-(\d+): ", page("common.md"), re.MULTILINE)
        self.assertEqual([int(number) for number in headings], list(range(1, 13)))

    def test_links(self) -> None:
        """Links from one page to another lead to a heading that is there."""
        for path in [*DOCS.glob("*.md"), *DOCS.glob("protocols/*.md"), ROOT / "SECURITY.md"]:
            text = path.read_text(encoding="utf-8")
            for target in re.findall(r"\]\(([^)#\s:]*(?:#[^)\s]*)?)\)", text):
                name, _, anchor = target.partition("#")
                linked = (path.parent / name).resolve() if name else path
                self.assertTrue(linked.exists(), f"{path.name}: {target}")
                if anchor:
                    self.assertIn(anchor, anchors(linked.read_text(encoding="utf-8")), f"{path.name}: {target}")
        for name in re.findall(
            r"<((?:docs/)?[\w./-]+\.(?:md|rst)|LICENSE)>`__", (ROOT / "README.rst").read_text("utf-8")
        ):
            self.assertTrue((ROOT / name).exists(), f"README.rst: {name}")


def anchors(text: str) -> set[str]:
    """The anchors that headings make, as GitHub and Sphinx do, and explicit targets."""
    found = set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        found.add(re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-"))
    return found


# Examples that run


def run_module(name: str, source: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, f"<documentation: {name}>", "exec"), module.__dict__)
    return module


class Examples:
    """The modules that the pages show, importable as the pages import them."""

    def __init__(self, case: unittest.SynchronousTestCase, *names: str) -> None:
        before = dict(sys.modules)

        def restore() -> None:
            for name in set(sys.modules) - set(before):
                if name.split(".")[0] in ("door", "example", "readme"):
                    del sys.modules[name]

        case.addCleanup(restore)
        package = types.ModuleType("door")
        package.__path__ = []
        sys.modules["door"] = package
        self.modules: dict[str, types.ModuleType] = {}
        for text in (page("architecture.md"), page("library.md")):
            for block in blocks(text, "tested"):
                if block.argument.startswith(names):
                    self.modules[block.argument] = run_module(block.argument, block.body)

    def __getitem__(self, name: str) -> types.ModuleType:
        return self.modules[name]


class Recording(Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.received = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class MachineExampleTests(unittest.SynchronousTestCase):
    """The miniature machine on the architecture page, and the protocol that the library page makes of it."""

    def setUp(self) -> None:
        self.examples = Examples(self, "door.", "twisted.plugins.door_plugins")
        self.network = Network()

    def say(self, data: bytes) -> bytes:
        """What the door answers to a peer that says this."""
        plugin = self.examples["door.plugin"].plugin
        verifyObject(IProtocol, plugin)
        settings = self.examples["door.settings"].DoorSettings(listen="")
        listener = self.network.listener(plugin.makeService, settings)
        self.addCleanup(listener.deadlines.stop)
        peer = Recording()
        self.network.endpoint(listener).connect(Factory.forProtocol(lambda: peer))
        peer.transport.write(data)  # type: ignore[union-attr]
        self.network.settle()
        return bytes(peer.received)

    def test_drive_the_machine(self) -> None:
        """The block with assertions: COM-1 and COM-3 in miniature."""
        (block,) = [one for one in blocks(page("architecture.md"), "tested") if not one.argument]
        exec(compile(block.body, "<documentation: architecture.md>", "exec"), {})

    def test_the_machine_is_small(self) -> None:
        (block,) = [one for one in blocks(page("architecture.md"), "tested") if one.argument == "door.machine"]
        machine = block.body[block.body.index("class DoorMachine") :]
        self.assertLessEqual(len([line for line in machine.splitlines() if line.strip()]), 40)

    def test_listener_accepts(self) -> None:
        self.assertEqual(self.say(b"Alice\nhello\n"), b"welcome\n")
        self.assertEqual([event["event"] for event in self.network.recorder.events], ["accepted"])

    def test_listener_refuses(self) -> None:
        """What ``Refused`` says reaches the peer and the event."""
        self.assertEqual(self.say(b"Mallory\n"), b"sorry: you are not on the list\n")
        (ended,) = self.network.recorder.events
        self.assertEqual((ended["outcome"], ended["reason"]), ("refused", "you are not on the list"))

    def test_plugin_line(self) -> None:
        """The line of the plugin file stands for the plugin."""
        lines = self.examples["twisted.plugins.door_plugins"]
        self.assertEqual((lines.door.name, lines.door.port), ("door", 7000))
        self.assertEqual(lines.door_command.tapname, "door")


class TestingExampleTests(unittest.SynchronousTestCase):
    """The example of :mod:`connectd.testing`, which has assertions of its own."""

    def test_network(self) -> None:
        Examples(self, "example.testing")


class HandlerExampleTests(unittest.SynchronousTestCase):
    """Examples that stand in the repository and on a page."""

    def test_the_page_shows_what_the_file_has(self) -> None:
        found = blocks(page("library.md"), "from")
        self.assertEqual(len(found), 2)
        for block in found:
            self.assertIn(block.body, (ROOT / block.argument).read_text(encoding="utf-8"))


class RunningExampleTests(unittest.TestCase):
    """Examples that need a reactor: a server on a free port stands in for that of the example."""

    timeout = 20

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor = reactor

    def start(self, daemon: Daemon) -> str:
        """Run a daemon until the test ends; the URL of its first listener."""
        daemon.startService()
        self.addCleanup(daemon.stopService)
        return f"lekt://127.0.0.1:{daemon.listeners[0].faces[0].port}?port=9000"

    def lekt(self) -> str:
        return self.start(Daemon.from_settings([LektSettings(listen="tcp:0:interface=127.0.0.1")]))

    async def watch(self, module: types.ModuleType) -> None:
        from connectd.protocols.lekt.client import LektClient

        url = self.lekt()
        other = LektClient.from_url(self.reactor, url.replace("9000", "9002"))
        other.startService()
        self.addCleanup(other.stopService)
        await other.when_joined()
        told: Deferred[str] = Deferred()
        module.__dict__["print"] = lambda word, entry: told.callback(f"{word} {entry}")
        watching = Deferred.fromCoroutine(module.watch(self.reactor, url))
        self.assertEqual(await told, "joined 127.0.0.1:9002")
        await deferLater(self.reactor, 0)  # we are inside of what is to be cancelled
        watching.addErrback(lambda failure: None)
        watching.cancel()
        await watching

    def test_client_in_the_library(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.watch(Examples(self, "example.")["example.watch"]))

    def test_client_in_the_readme(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.watch(run_module("readme.watch", readme_blocks()["readme.watch"])))

    def test_conversation_in_the_library(self) -> Deferred[None]:
        """LEKT-20: the echo answers."""
        module = Examples(self, "example.")["example.talk"]
        module.__dict__["print"] = lambda *words: None
        received: Deferred[bytes] = Deferred()

        async def talk() -> None:
            telephone = await module.answer(self.reactor, 0)
            port = telephone._port.getHost().port
            conversation = await module.ask(
                self.reactor, "127.0.0.1", port, "hello", lambda conversation, message: received.callback(message.data)
            )
            self.assertEqual(await received, b"hello")
            await conversation.hang_up()
            await telephone.hang_up()

        return Deferred.fromCoroutine(talk())

    def test_application_in_the_readme(self) -> Deferred[None]:
        source = readme_blocks()["readme.tac"].replace("tcp:7890", "tcp:0")
        module = run_module("readme.tac", source)
        printed: list[str] = []
        gone: Deferred[None] = Deferred()

        def write(*words: object) -> None:
            printed.append(" ".join(map(str, words)))
            if words[0] == "gone:":
                gone.callback(None)

        module.__dict__["print"] = write
        (daemon,) = list(module.application.getComponent(IService))

        async def look() -> None:
            await registry.protocol("lekt").probe(self.start(daemon), lambda step, detail: None, self.reactor)
            await gone
            self.assertRegex(printed[0], "came and can be reached on port 9000")
            self.assertEqual(printed[-1], "gone: left")

        return Deferred.fromCoroutine(look())

    def test_probe_output(self) -> Deferred[None]:
        """The steps that README and the operating page show are those that a probe tells."""
        readme = (ROOT / "README.rst").read_text(encoding="utf-8").partition("'starbound://")[0]
        shown = re.findall(r"ms  (\w+): ([^\n]*)", readme)
        self.assertEqual(shown, re.findall(r"ms  (\w+): ([^\n]*)", page("operating.md")))
        steps: list[tuple[str, str]] = []

        async def look() -> None:
            await registry.protocol("lekt").probe(self.lekt(), lambda *step: steps.append(step), self.reactor)
            varying = re.compile(r"port \d{4,5}$|(?<=time )\d+")
            self.assertEqual(
                [(step, varying.sub("…", detail)) for step, detail in steps],
                [(step, varying.sub("…", detail)) for step, detail in shown],
            )

        return Deferred.fromCoroutine(look())


# Tables


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*words, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


class TableTests(unittest.SynchronousTestCase):
    """Tables that name everything there is, and nothing else."""

    def test_settings(self) -> None:
        """Run ``python docs/settings_tables.py`` where this fails."""
        module = run_module(
            "example.settings_tables",
            (DOCS / "settings_tables.py").read_text().replace("__file__", repr(str(DOCS / "settings_tables.py"))),
        )
        self.addCleanup(sys.modules.pop, "example.settings_tables")
        text = page("configuration.md")
        self.assertEqual(module.current(text), text)
        ours = [one for one in registry.protocols().values() if one.settings.__module__.startswith("connectd.")]
        self.assertEqual(text.count("<!-- settings: "), 4 + 2 * len(ours))

    def test_every_protocol_has_its_keys(self) -> None:
        for name, protocol in registry.protocols().items():
            where = f"{protocol.settings.__module__}:{protocol.settings.__name__}"
            if where.startswith("connectd."):
                self.assertIn(f"settings: {where} ", page("configuration.md"), name)
                self.assertTrue((DOCS / "protocols" / f"{name}.md").exists(), name)

    def test_configurations(self) -> None:
        """Every TOML example is without mistakes."""
        count = 0
        for name in ("configuration.md", "operating.md"):
            for body in re.findall(r"```toml\n(.*?)```", page(name), re.DOTALL):
                directory = FilePath(self.mktemp())
                directory.makedirs()
                file = directory.child("connectd.toml")
                complete = body if "[[listener]]" in body else f'{body}\n[[listener]]\nprotocol = "lekt"\n'
                file.setContent(complete.encode())
                self.assertIsInstance(load(file.path), Configuration, body)
                count += 1
        self.assertEqual(count, 4)

    def test_connectctl(self) -> None:
        """Every command and option is in the reference, and every one that is there exists."""
        text = section(page("operating.md"), "### connectctl")
        there = dict(commands(connectctl))
        rows = [line for line in text.splitlines() if line.startswith("| `connectctl")]
        shown = {
            re.sub(r" \[?[A-Z].*", "", usage)
            for row in rows
            for usage in re.findall(r"`connectctl ([^`]*)`", row.split("|")[1])
        }
        # Groups of commands are told by what is in them.
        wings = registry.protocol_names()
        groups = {name for name, one in there.items() if isinstance(one, click.Group) and name.split()[0] in wings}
        self.assertEqual(shown, {name for name in there if name not in groups})
        for name, command in there.items():
            row = next((row for row in rows if re.search(rf"`connectctl {name}[ `]", row)), "")
            for parameter in command.params:
                for option in parameter.opts if isinstance(parameter, click.Option) else ():
                    where = text if option in ("--config", "--json", "--admin") else row
                    self.assertIn(option, where, f"connectctl {name}")

    def test_commands_in_examples(self) -> None:
        """Command lines of connectctl on all pages name commands and options that exist."""
        there = dict(commands(connectctl))
        pages = [path.read_text(encoding="utf-8") for path in (*DOCS.glob("**/*.md"), ROOT / "README.rst")]
        lines = [line for text in pages for line in re.findall(r"\$ connectctl ([^\n|]*)", text)]
        demonstration = (ROOT / "etc" / "demonstration.txt").read_text(encoding="utf-8")
        tried = re.findall(r"connectctl ([^\n;(]*)", demonstration)
        self.assertGreater(len(tried), 5)
        lines += tried
        self.assertGreater(len(lines), 5)
        for line in lines:
            words = re.sub(r"--config \S+|--json ?", "", line).split()
            name = " ".join(words[:2]) if " ".join(words[:2]) in there else words[0]
            self.assertIn(name, there, line)
            options = {option for parameter in there[name].params for option in parameter.opts}
            self.assertEqual({word for word in words if word.startswith("--")} - options, set(), line)

    def test_demonstration(self) -> None:
        """What ``make run`` says to try is about what it serves: every protocol, at ports that are listened on."""
        text = (ROOT / "etc" / "demonstration.txt").read_text(encoding="utf-8")
        for name, protocol in registry.protocols().items():
            with self.subTest(name):
                self.assertRegex(text, rf"(?mi)^  {name} +connectctl ")
                served = [values for values in protocol.demonstration() if "generation" in values]
                for values in served:
                    port = values["listen"].split(":")[1]
                    self.assertIn(f"{port} {values['generation']}", text)
        (password,) = (values["password"] for values in registry.protocol("alloy").demonstration())
        self.assertIn(f"(password: {password})", text)

    def test_metrics(self) -> None:
        daemon = Daemon.from_settings([LektSettings(listen="tcp:0:interface=127.0.0.1")], reactor=Clock())
        self.addCleanup(daemon.let_go)
        kinds = dict(re.findall(r"^# TYPE (connectd_\S+) (\w+)$", daemon.metrics.exposition().decode(), re.MULTILINE))
        # When a histogram or counter was made, which the client library adds to each of them.
        kinds = {name: kind for name, kind in kinds.items() if not name.endswith("_created")}
        text = section(page("operating.md"), "### Metrics")
        self.assertEqual(dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE)), kinds)

    def test_paths(self) -> None:
        """Every path of the status site and of the admin socket is in its table."""
        daemon = Daemon.from_settings([LektSettings(listen="tcp:0:interface=127.0.0.1")], reactor=Clock())
        self.addCleanup(daemon.let_go)
        text = page("operating.md")
        self.assertEqual(set(first_cells(section(text, "### The status site"))), set(daemon.status_routes._routes))
        shown = {
            (method, path)
            for method, path in re.findall(
                r"^\| `(GET|POST) (/[\w/]+)", section(text, "### The admin socket"), re.MULTILINE
            )
        }
        there = {(method, path) for path, methods in daemon.admin_routes._routes.items() for method in methods}
        self.assertEqual(shown, there)

    def test_outcomes(self) -> None:
        """COM-7: every outcome, on the right side."""
        rows = re.findall(
            r"^\| `(\w+)` \| ([^|]*)\| ([^|]*)\|",
            section(page("common.md"), "## COM-7: one outcome each"),
            re.MULTILINE,
        )
        self.assertEqual({row[0] for row in rows}, {outcome.value for outcome in Outcome})
        self.assertEqual({row[0] for row in rows if row[1].strip()}, {outcome.value for outcome in BEFORE_ACCEPTANCE})
        self.assertEqual({row[0] for row in rows if row[2].strip()}, {outcome.value for outcome in AFTER_ACCEPTANCE})

    def test_events(self) -> None:
        """COM-7: the example has the fields of a real session, and all fields that occur are in the tables."""
        network = Network()
        listener = network.listener(LektListener, LektSettings(listen=""))
        self.addCleanup(listener.deadlines.stop)
        dialogue = LektDialogue(network.clock, LektClientSettings(port=9000))
        dialogue.dial(network.endpoint(listener))
        network.advance(1)
        dialogue.hang_up()
        network.settle()
        listener.turned_away(Peer("192.0.2.1", 1), Outcome.LIMITED, "too many")
        *session, turned_away = network.recorder.events
        text = section(page("common.md"), "## Events")
        shown = [json.loads(line) for block in blocks(page("common.md"), "event") for line in block.body.splitlines()]
        self.assertEqual([list(event) for event in session], [list(event) for event in shown])
        fields = set(first_cells(text)) | {"direct_tcp_port"}
        self.assertEqual({name for event in session for name in event} - fields, set())
        self.assertEqual(fields - {name for event in session for name in event}, {"offset", "account"})
        self.assertEqual(set(shown[1]) - set(turned_away), {"connection", "duration"})

    def test_commented_configuration(self) -> None:
        """``connectctl init --print > etc/connectd.toml`` where this fails."""
        self.assertEqual((ROOT / "etc" / "connectd.toml").read_text(encoding="utf-8"), render())
