"""Tests of ``connectctl alloy …``"""

from __future__ import annotations

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from connectd.net.quic import Identity
from connectd.protocols.alloy.plugin import plugin
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
