"""Tests of ``connectctl alloy …``"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from rich.console import Console
from rich.progress import Progress as Bars
from twisted.trial.unittest import SynchronousTestCase

from connectd.cli.main import connectctl
from connectd.net.quic import Identity
from connectd.protocols.alloy.asset_store import AssetStore
from connectd.protocols.alloy.plugin import plugin
from connectd.protocols.alloy.progress import Bar, printable
from tests.protocols.alloy.scene import certificate, certificate_file


class PinTests(SynchronousTestCase):
    def test_pin(self) -> None:
        """AL-16: what clients pin."""
        result = CliRunner().invoke(plugin.commands(), ["pin", certificate_file()])
        self.assertEqual(result.output, Identity.from_pem(certificate()).sha256.hex() + "\n")

    def test_no_certificate(self) -> None:
        result = CliRunner().invoke(plugin.commands(), ["pin", "/none.pem"])
        self.assertEqual(result.exit_code, 1)
        self.assertIn("there is no such file", result.output)


class CheckTests(SynchronousTestCase):
    """``connectctl check`` of an Alloy listener."""

    def run_check(self, **settings: str) -> Any:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.folder = folder
        for name, mode in (("session.token", 0o600), ("open.token", 0o644)):
            (folder / name).write_text("planted-secret")
            (folder / name).chmod(mode)
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        file = folder / "connectd.toml"
        file.write_text('[[listener]]\nprotocol = "alloy"\nlisten = "udp:0:interface=127.0.0.1"\n' + "\n".join(lines))
        result = CliRunner().invoke(connectctl, ["--config", str(file), "check"])
        self.assertNotIn("planted-secret", result.output)
        return result

    def test_good(self) -> None:
        result = self.run_check(certificate=certificate_file(), assets=".")
        self.assertEqual(result.exit_code, 0, result.output)

    def test_problems(self) -> None:
        """AL-10, AL-11, AL-13: every file that is missing or unfit, a line each, relative to the configuration."""
        result = self.run_check(
            certificate="none.pem",
            password_file="none.password",
            assets="none",
            services_url="https://sessions.example",
            audience="us",
            session_token_file="session.token",
            identity_token_file="open.token",
        )
        self.assertEqual(result.exit_code, 1)
        folder = str(self.folder.absolute())
        for line in (
            f"alloy: certificate: {folder}/none.pem: there is no such file",
            f"alloy: password_file: {folder}/none.password cannot be read",
            f"alloy: assets: {folder}/none cannot be read",
            f"alloy: identity_token_file: {folder}/open.token is open to others, mode 0644",
            "4 mistakes",
        ):
            self.assertIn(line, result.output)

    def test_values(self) -> None:
        for key, value in (
            ("services_url", "http://sessions.example"),
            ("profile", "nobody"),
            ("issuer", ""),
            ("client_scope", ""),
        ):
            result = self.run_check(certificate=certificate_file(), **{key: value})
            self.assertEqual(result.exit_code, 1, key)
            self.assertIn(key, result.output)


class AssetsTests(SynchronousTestCase):
    """``connectctl alloy assets list`` and ``verify``; fetches are among the tests of processes."""

    def setUp(self) -> None:
        self.store = AssetStore(self.mktemp())
        self.hashes = []
        for content in (b"one", b"two" * 1000):
            digest = hashlib.sha256(content).hexdigest()
            with self.store.receive(digest, len(content)) as incoming:
                incoming.write(content)
                incoming.finish()
            self.hashes.append(digest)

    def run_assets(self, *arguments: str) -> Any:
        return CliRunner().invoke(plugin.commands(), ["assets", *arguments, "--store", self.store.path])

    def test_list(self) -> None:
        lines = self.run_assets("list").output.splitlines()
        self.assertEqual(lines, sorted([f"{self.hashes[0]}         3 B", f"{self.hashes[1]}     2.9 KiB"]))
        found = [json.loads(line) for line in self.run_assets("list", "--json").output.splitlines()]
        self.assertEqual({(one["hash"], one["bytes"]) for one in found}, set(zip(self.hashes, (3, 3000), strict=True)))

    def test_verify(self) -> None:
        """AL-10: what is damaged is told and removed, so that it is fetched again."""
        result = self.run_assets("verify")
        self.assertEqual((result.exit_code, result.output), (0, "2 assets are what their names say, 0 were not\n"))
        Path(self.store.file(self.hashes[0])).write_bytes(b"odd")
        result = self.run_assets("verify")
        self.assertEqual(result.exit_code, 1)
        self.assertIn(f"{self.hashes[0]}  was damaged, and is removed\n1 assets are", result.output)
        self.assertFalse(self.store.has(self.hashes[0]))
        Path(self.store.file(self.hashes[1])).write_bytes(b"odd")
        result = self.run_assets("verify", "--json")
        self.assertEqual(
            [json.loads(line) for line in result.output.splitlines()],
            [{"hash": self.hashes[1], "damaged": True}, {"good": 0, "damaged": 1}],
        )

    def test_wrong_urls(self) -> None:
        for url in ("alloy://host", "nonsense", "alloy://ann@host?pin=x"):
            result = self.run_assets("fetch", url)
            self.assertEqual(result.exit_code, 2, url)

    def test_printable(self) -> None:
        """A server's names steer no terminal."""
        self.assertEqual(printable("a\x1b[2Jb\n"), "a?[2Jb?")
        self.assertEqual(printable("x" * 50), "…" + "x" * 40)

    def test_bar(self) -> None:
        """The bar follows one asset after the other."""
        output = io.StringIO()
        with Bars(console=Console(file=output, width=200)) as bars:
            bar = Bar(bars)
            bar.came(1)
            bar.offered(3, 2)
            for name in ("a", "b"):
                bar.begun(name, 10)
                bar.came(4)
                self.assertEqual([(task.total, task.completed) for task in bars.tasks], [(10, 4)])
                bar.kept(name, "0" * 64, 10)
        self.assertIn("2 of 3 assets are not here yet", output.getvalue())
        self.assertIn(f"{'0' * 64}  b", output.getvalue())
