"""The Alloy page says what the code does."""

from __future__ import annotations

import ast
import re
from uuid import UUID

import attrs
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy import asset_sending, client, server, server_machine, server_tokens
from connectd.protocols.alloy.asset_reader import PART_SIZE
from connectd.protocols.alloy.packets import PACKETS, Connect, Disconnect, ServerAuthToken
from connectd.protocols.alloy.settings import AlloySettings
from connectd.protocols.alloy.states import HELD_BEFORE_PLAY, REASON_PREFIX, ConnectionState
from tests.test_documentation import blocks, page, run_module, section

PAGE = "protocols/alloy.md"
RULES = range(1, 18)


class PageTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """AL-17: the bytes, and the offsets in front of them."""
        known = {"Connect": Connect, "Disconnect": Disconnect, "ServerAuthToken": ServerAuthToken, "UUID": UUID}
        found = blocks(page(PAGE), "wire")
        self.assertEqual(len(found), 3)
        for block in found:
            ast.parse(block.argument, mode="eval")
            packet = eval(block.argument, {"__builtins__": {}}, known)
            data = b""
            for line in block.body.splitlines():
                match = re.fullmatch(r" *(\d+)  ((?:[0-9a-f]{2} ?)+)(?: +.*)?", line)
                assert match is not None, line
                self.assertEqual(int(match[1]), len(data), line)
                data += bytes.fromhex(match[2])
            self.assertEqual(data, packet.encode(), block.argument)

    def test_packets(self) -> None:
        """AL-17: every packet with its name and its size."""
        rows = re.findall(r"^\| (\d+) \| (\w+) \| \w+ \| ([\d,]+) \|", section(page(PAGE), "## Packets"), re.MULTILINE)
        shown = {int(number): (name, int(size.replace(",", ""))) for number, name, size in rows}
        self.assertEqual(shown, {number: (kind.__name__, kind.layout.maximum) for number, kind in PACKETS.items()})

    def test_states(self) -> None:
        """AL-1: all of them."""
        rows = re.findall(r"^\| ([A-Z]+) \|", section(page(PAGE), "## States"), re.MULTILINE)
        self.assertEqual(rows, [state.value for state in ConnectionState])

    def test_reasons(self) -> None:
        """Every text that is told is in the table."""
        text = section(page(PAGE), "## Reasons")
        for module in (server, server_machine, server_tokens, asset_sending):
            for name, value in vars(module).items():
                if name.isupper() and isinstance(value, str) and name not in ("FORWARD", "GAME_PACKETS"):
                    self.assertIn(f"`{value}`", text, name)

    def test_limits(self) -> None:
        """AL-8, AL-14, COM-2: the numbers of the page are those of the code."""
        text, settings = page(PAGE), AlloySettings()
        self.assertEqual((HELD_BEFORE_PLAY, REASON_PREFIX, PART_SIZE), (64 << 10, 4 << 10, 1 << 20))
        self.assertIn(f"(`send_window`, {settings.send_window >> 10} KiB)", text)
        for key in (
            "connect_timeout",
            "authentication_timeout",
            "handshake_timeout",
            "ping_interval",
            "silence_timeout",
        ):
            self.assertRegex(text, rf"\| {getattr(settings, key):g} s \| `{key}` \|")
        self.assertIn(f"(`password_attempts`, {settings.password_attempts})", text)
        self.assertIn(f"From {settings.retry_threshold} connections", text)
        self.assertIn(f"idle timeout is {settings.idle_timeout:g} s", text)

    def test_rules(self) -> None:
        """The page has a place for every rule."""
        text = page(PAGE)
        for number in RULES:
            self.assertRegex(text, rf"AL-{number}\b")

    def test_example_client(self) -> None:
        """The example of a client compiles against what there is."""
        (source,) = re.findall(r"```python\n(.*?)```", page(PAGE), re.DOTALL)
        module = run_module("example.alloy", source)
        self.assertIs(module.AlloyClient, client.AlloyClient)

    def test_etc(self) -> None:
        """The page's configuration names keys that there are."""
        text = "\n".join(re.findall(r"```toml\n(.*?)```", page(PAGE), re.DOTALL))
        keys = set(re.findall(r"^(\w+) =", text, re.MULTILINE)) - {"protocol"}
        self.assertLessEqual(keys, {field.name for field in attrs.fields(AlloySettings)})
