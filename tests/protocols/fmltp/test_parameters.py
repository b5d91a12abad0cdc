"""The ``parameters`` setting (FM-5)."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from connectd.cli.lazy import FAILURE
from connectd.config import load
from connectd.ops.daemon import Daemon, StartError
from connectd.protocols.fmltp.groups import FFDHE2048, FFDHE3072, FFDHE4096, Group, encode_parameters
from connectd.protocols.fmltp.parameters import ParametersError, load_parameters
from connectd.protocols.fmltp.settings import FmltpSettings
from tests.ops.composed import folder
from tests.processes import Started
from tests.protocols.fmltp.deployed import OLD_PARAMETERS


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder(self)

    def file(self, contents: bytes) -> str:
        path = self.folder / "parameters.pem"
        path.write_bytes(contents)
        return str(path)


COMPOSITE = Group(FFDHE2048.p - 4, 2)


class LoadTests(Case):
    def test_names(self) -> None:
        """FM-5: three groups by name; a fresh one begins with the first of them."""
        for name, group in (
            ("ffdhe2048", FFDHE2048),
            ("ffdhe3072", FFDHE3072),
            ("ffdhe4096", FFDHE4096),
            ("fresh", FFDHE2048),
        ):
            self.assertIs(load_parameters(name), group)

    def test_file(self) -> None:
        """What openssl dhparam writes, with a text before it or not."""
        path = self.file(b"    DH Parameters: (2048 bit)\r\n" + encode_parameters(FFDHE3072))
        self.assertEqual(load_parameters(path, thorough=True), FFDHE3072)

    def test_wrong_files(self) -> None:
        """FM-5: one line that names the file, what is wrong, and the way out."""
        missing = str(self.folder / "none.pem")
        error = self.assertRaises(ParametersError, load_parameters, missing)
        self.assertIn(f"{missing}: cannot be read: No such file or directory (the groups with a name are", str(error))
        for contents, expected in (
            (b"", "no Diffie-Hellman parameters in PEM"),
            (b"junk" * 100_000, "more than 4096 bytes"),
            (OLD_PARAMETERS, "1024 bits, at least 2048"),
            (encode_parameters(Group((1 << 4097) + 1, 2)), ""),
        ):
            path = self.file(contents)
            error = self.assertRaises(ParametersError, load_parameters, path)
            self.assertIn(path, str(error))
            self.assertIn("openssl dhparam -out FILE 2048", str(error))
            self.assertNotIn("\n", str(error))
            self.assertIn(expected, str(error))

    def test_composite(self) -> None:
        """FM-5: that a modulus is no safe prime is found where somebody looks for it."""
        path = self.file(encode_parameters(COMPOSITE))
        self.assertEqual(load_parameters(path), COMPOSITE)
        error = self.assertRaises(ParametersError, load_parameters, path, thorough=True)
        self.assertIn("no safe prime", str(error))


class StartTests(Case):
    """A daemon, and connectctl check"""

    def configure(self, parameters: str) -> str:
        path = self.folder / "connectd.toml"
        path.write_text(
            '[daemon]\nadmin = ""\nstatus = ""\n[[listener]]\nprotocol = "fmltp"\n'
            f'listen = "tcp:0:interface=127.0.0.1"\nparameters = "{parameters}"\naccounts = false\n'
        )
        return str(path)

    def test_relative(self) -> None:
        """A file is relative to the configuration, a word is a word."""
        [listener] = load(self.configure("own.pem")).listeners
        self.assertEqual(listener.settings, self.expected(str(self.folder / "own.pem")))
        [listener] = load(self.configure("fresh")).listeners
        self.assertEqual(listener.settings, self.expected("fresh"))

    def expected(self, parameters: str) -> FmltpSettings:
        return FmltpSettings(listen="tcp:0:interface=127.0.0.1", accounts=False, parameters=parameters)

    def test_daemon(self) -> None:
        """A bad file is one line, and nothing stays bound."""
        path = self.file(encode_parameters(COMPOSITE))
        error = self.assertRaises(StartError, Daemon.from_settings, [self.expected(path)])
        [problem] = error.problems
        self.assertTrue(problem.startswith(f"fmltp: parameters: {path}: the modulus"), problem)

    def test_processes(self) -> None:
        """The same from twistd, for one listener and for many, and from connectctl check."""
        path = self.file(OLD_PARAMETERS)
        for arguments in (
            ("-n", "fmltp", "--accounts=no", f"--parameters={path}", "--listen=tcp:0:interface=127.0.0.1"),
            ("-n", "connectd", "--config", self.configure(path)),
        ):
            started = Started(self, self.folder, "twistd", *arguments)
            self.assertEqual(started.exit_status(), 1)
            [line] = started.errors.splitlines()
            self.assertTrue(line.startswith(f"connectd: fmltp: parameters: {path}: "), line)

    def test_check(self) -> None:
        from click.testing import CliRunner

        from connectd.cli.main import connectctl

        Path(self.folder / "state").mkdir()
        result = CliRunner().invoke(connectctl, ["--config", self.configure(self.file(OLD_PARAMETERS)), "check"])
        self.assertEqual(result.exit_code, FAILURE)
        self.assertIn("fmltp: parameters: ", result.stderr)
