"""A client in Java, as the first Chatr programs were: its signatures and its packets are understood."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.processes import LIMIT
from tests.protocols.chatr.daemon_case import DaemonCase

SOURCE = Path(__file__).parent / "java" / "ChatrClient.java"

EXPECTED = """\
certificate: true
unknown: 404
registered: 200
registered again: 409 ClientAlreadyRegisteredException
replaced by a stranger: 401 InvalidSignatureException
wrong key: Failed to verify!, closed
right key: connected, pinged, denied, closed
replaced: 200
old key: Failed to verify!, closed
new key: connected, pinged, denied, closed
read: true
"""


class JavaTests(DaemonCase):
    def test_client(self) -> None:
        """CH-2, CH-4, CH-5, CH-20 to CH-22: SHA256withRSA, DataOutputStream, Java's TLS and its JSON escapes."""
        for tool in ("javac", "java"):
            if shutil.which(tool) is None:
                raise SkipTest(f"{tool} is not installed (Debian: apt-get install default-jdk-headless)")
        self.serve()
        with tempfile.TemporaryDirectory() as classes:
            self.run_tool("javac", "-Xlint:all", "-Werror", "-d", classes, str(SOURCE))
            arguments = (self.registry, self.host, str(self.port), self.certificate)
            said = self.run_tool("java", "-cp", classes, "ChatrClient", *arguments)
        self.assertEqual(said, EXPECTED)

    def run_tool(self, *command: str) -> str:
        """What a program says; its status must be 0."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=4 * LIMIT, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout
