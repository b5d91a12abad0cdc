"""The documented configuration file."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd import registry
from connectd.config import load, render, settings_table
from connectd.config.load import TABLES
from connectd.config.render import toml_value
from tests.toy_protocol import ToyProtocol, ToySettings, ToySink, install

SHIPPED = Path(__file__).parents[2] / "etc" / "connectd.toml"


class RenderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.toy = ToyProtocol()
        self.sink = ToySink()
        self.sink.name = "example"
        install(self, self.toy, self.sink)
        self.file = Path(self.mktemp())

    def written(self, text: str) -> Path:
        self.file.write_text(text)
        return self.file

    def test_demonstration_is_active(self) -> None:
        """What comes out loads, with the values of the demonstration."""
        loaded = load(self.written(render()))
        folder = str(self.file.absolute().parent)
        self.assertEqual(
            [listener.settings for listener in loaded.listeners],
            [
                ToySettings(
                    listen="tcp:7000:interface=127.0.0.1", names=("ann",), certificate=f"{folder}/state/toy.pem"
                ),
                ToySettings(listen="tcp:7001:interface=127.0.0.1", loud=True),
            ],
        )

    def test_every_key_can_be_uncommented(self) -> None:
        """Each commented key is valid as it stands, and none is missing."""
        text = re.sub(r"^#(?=[a-z_0-9]+ = )", "", render(), flags=re.MULTILINE)
        load(self.written(text))
        document = tomllib.loads(text)
        for name, cls in TABLES.items():
            self.assertEqual(set(document[name]), {field.name for field in attrs.fields(cls)})
        keys = {field.name for field in attrs.fields(ToySettings)}
        self.assertEqual(set(document["listener"][0]), (keys | {"protocol"}) - {"limit"})
        self.assertIn("# limit is unset.\n", text)

    def test_documentation_unit_and_default(self) -> None:
        text = render()
        for lines in [
            "\n# How often.\n#period = 10.0  # seconds\n",
            '\n# Who.\nnames = ["ann"]\n',
            "\n# Keys that every listener has:\n\n# Where to accept connections",
            '\n# TOY: a protocol for tests\n[[listener]]\nprotocol = "toy"\n',
            '\n[[listener]]\nprotocol = "toy"\nlisten = "tcp:7001:interface=127.0.0.1"\nloud = true\n',
            '#event_sinks = ["example"]  # default: []\n',
        ]:
            self.assertIn(lines, text)
        self.assertLessEqual(max(map(len, text.splitlines())), 120)
        self.assertEqual(text, text.rstrip("\n") + "\n")

    def test_common_keys_are_documented_once(self) -> None:
        class Second(ToyProtocol):
            name = "zoo"

        second = Second()
        second.tables = [{"listen": "tcp:7002"}]
        install(self, self.toy, second, self.sink)
        text = render()
        self.assertEqual(text.count("# Expect a PROXY protocol header"), 1)
        self.assertEqual(text.count("#proxy_protocol = false\n"), 2)
        self.assertIn('# Keys that every listener has, see the first:\nlisten = "tcp:7002"\n#handler = "hold"\n', text)
        load(self.written(text))


class ShippedTests(SynchronousTestCase):
    def test_up_to_date(self) -> None:
        """etc/connectd.toml is what the settings classes say now."""
        self.assertEqual(
            SHIPPED.read_text(),
            render(),
            "etc/connectd.toml is out of date: make it anew with connectctl init --print > etc/connectd.toml",
        )

    def test_loads(self) -> None:
        loaded = load(SHIPPED)
        self.assertEqual({listener.protocol for listener in loaded.listeners}, set(registry.protocol_names()))


class TableTests(SynchronousTestCase):
    def test_rows(self) -> None:
        lines = settings_table(ToySettings).splitlines()
        self.assertEqual(lines[:2], ["| key | default | unit | what it is for |", "| --- | --- | --- | --- |"])
        self.assertEqual(len(lines), 2 + len(attrs.fields(ToySettings)))
        self.assertIn("| `period` | `10.0` | seconds | How often. |", lines)
        self.assertIn("| `count` | `3` |  | How many \\| how few. |", lines)
        self.assertIn("| `limit` | unset |  | How much at most. |", lines)


class ValueTests(SynchronousTestCase):
    values = st.recursive(
        st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=8,
    )

    @settings(deadline=None, max_examples=150)
    @given(values)
    def test_round_trip(self, value: Any) -> None:
        """TOML reads back what was written."""
        self.assertEqual(tomllib.loads(f"a = {toml_value(value)}")["a"], value)

    def test_networks(self) -> None:
        self.assertEqual(toml_value(ipaddress.ip_network("10.0.0.0/8")), '"10.0.0.0/8"')
        self.assertEqual(toml_value((ipaddress.ip_network("::1/128"),)), '["::1"]')

    def test_not_in_toml(self) -> None:
        error = self.assertRaises(TypeError, toml_value, None)
        self.assertEqual(str(error), "TOML has no way to write a NoneType")
