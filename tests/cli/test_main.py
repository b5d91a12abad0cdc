"""connectctl as a whole: its commands, its shared options, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from click.testing import CliRunner, Result
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import connectd
from connectd.cli import main as main_module
from connectd.cli.invocation import DEFAULT_CONFIGURATION, Invocation
from connectd.cli.lazy import LazyCommand
from connectd.cli.log_lines import LinesOnStandardError
from connectd.cli.main import COMMANDS, connectctl
from tests.toy_protocol import ToyProtocol, broken_protocol, install

ROOT = Path(__file__).parents[2]


def connectctl_process(*arguments: str, code: str = "from connectd.cli.main import main; main()") -> Any:
    """Run connectctl in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class CommandCase(SynchronousTestCase):
    """Runs connectctl with the toy protocol installed, in a folder of its own."""

    def setUp(self) -> None:
        self.toy = ToyProtocol()
        install(self, self.toy, broken_protocol())
        self.runner = CliRunner(env={"CONNECTD_CONFIG": None})
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file = self.folder / "connectd.toml"

    def run_command(self, *arguments: str, **options: Any) -> Result:
        return self.runner.invoke(connectctl, arguments, **options)

    def assert_ends(self, result: Result, status: int, error: str = "") -> None:
        """It ended with a status and, where there is an error, with one line of it and nothing else."""
        self.assertEqual((result.exit_code, result.stderr), (status, error and f"connectctl: {error}\n"))


@click.command()
@click.pass_obj
def show(invocation: Invocation) -> None:
    """Show what every command is told."""
    click.echo(f"{invocation.config} {invocation.json}")


@click.command()
@click.option("--json", "own", is_flag=True)
def own_json(own: bool) -> None:
    """Has a --json of its own."""
    click.echo(f"own {own}")


class Raising:
    """What a command ends with, put in its place."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def load(self) -> click.Command:
        @click.command()
        def fail() -> NoReturn:
            raise self.error

        return fail


class SharedOptionsTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(
            connectctl,
            "lazy",
            {
                name: LazyCommand("tests.cli.test_main", attribute, "")
                for name, attribute in (("show", "show"), ("own", "own_json"))
            },
        )

    def test_defaults(self) -> None:
        self.assertEqual(self.run_command("show").stdout, f"{DEFAULT_CONFIGURATION} False\n")

    def test_before_and_after_the_command(self) -> None:
        for arguments in (("--config", "a", "--json", "show"), ("show", "--json", "--config", "a")):
            self.assertEqual(self.run_command(*arguments).stdout, "a True\n")

    def test_nearest_config_wins(self) -> None:
        result = self.run_command("--config", "a", "show", "--config", "b", env={"CONNECTD_CONFIG": "c"})
        self.assertEqual(result.stdout, "b False\n")
        self.assertEqual(self.run_command("--config", "a", "show", env={"CONNECTD_CONFIG": "c"}).stdout, "a False\n")

    def test_environment(self) -> None:
        self.assertEqual(self.run_command("show", env={"CONNECTD_CONFIG": "c"}).stdout, "c False\n")

    def test_own_options_stay(self) -> None:
        self.assertEqual(self.run_command("own", "--json").stdout, "own True\n")

    def test_configuration(self) -> None:
        """A command that needs the configuration ends with one line for each of its mistakes."""
        self.file.write_text("[a]\n[b]\n")
        self.patch(connectctl, "lazy", {"read": self})
        result = self.run_command("read", "--config", str(self.file))
        self.assertEqual(
            result.stderr.splitlines(),
            [
                f"connectctl: {self.file}: a: unknown table",
                f"connectctl: {self.file}: b: unknown table",
                f"connectctl: {self.file}: there is no listener: write [[listener]] with at least a protocol",
            ],
        )
        self.assertEqual(result.exit_code, 1)
        self.file.write_text('[[listener]]\nprotocol = "toy"\nlisten = "tcp:1"\n')
        self.assert_ends(self.run_command("read", "--config", str(self.file)), 0)

    def load(self) -> click.Command:
        @click.command()
        @click.pass_obj
        def read(invocation: Invocation) -> None:
            click.echo(invocation.configuration().listeners[0].protocol)

        return read


class ListingTests(CommandCase):
    def test_help(self) -> None:
        """Every command is listed, a protocol that cannot be loaded too: listing loads nothing."""
        result = self.run_command("--help")
        self.assert_ends(result, 0)
        for word in (*COMMANDS, "toy", "broken"):
            self.assertRegex(result.stdout, rf"(?m)^  {word}  ")

    def test_no_protocols(self) -> None:
        install(self)
        result = self.run_command("--help")
        self.assertNotIn("protocols:\n", result.stdout)

    def test_without_a_command(self) -> None:
        result = self.run_command()
        self.assertEqual((result.exit_code, result.stdout), (2, ""))
        self.assertIn("Usage: connectctl", result.stderr)

    def test_names_for_completion(self) -> None:
        context = click.Context(connectctl)
        self.assertEqual(connectctl.list_commands(context), [*COMMANDS, "broken", "toy"])
        self.assertIsNone(connectctl.get_command(context, "nothing"))

    def test_every_command_can_be_loaded(self) -> None:
        for name in COMMANDS:
            result = self.run_command(name, "--help")
            self.assert_ends(result, 0)
            self.assertIn("--json", result.stdout)


class ProtocolCommandTests(CommandCase):
    def test_group(self) -> None:
        """A protocol's own commands take the shared options too."""
        result = self.run_command("toy", "play", "--config", "x", "--json")
        self.assert_ends(result, 0)
        self.assertEqual(result.stdout, "playing with x, json True\n")

    def test_none(self) -> None:
        self.toy.group = None
        self.assert_ends(self.run_command("toy"), 2, "toy has no commands of its own")

    def test_broken(self) -> None:
        result = self.run_command("broken", "x")
        self.assertEqual(result.exit_code, 1)
        self.assertRegex(
            result.stderr, r"\Aconnectctl: the protocol \"broken\" cannot be loaded: ModuleNotFoundError: .*\n\Z"
        )

    def test_own_commands_come_before_those_of_a_protocol(self) -> None:
        self.toy.name = "version"
        self.assertIn(connectd.__version__, self.run_command("version").stdout)
        self.assertEqual(self.run_command("--help").stdout.count("  version  "), 1)


class EndTests(CommandCase):
    def fail_with(self, error: BaseException) -> Result:
        self.patch(connectctl, "lazy", {"fail": Raising(error)})
        return self.run_command("fail")

    def test_unknown_command(self) -> None:
        self.assert_ends(
            self.run_command("chek"),
            2,
            'there is no command "chek"; did you mean "check"? (see connectctl --help)',
        )

    def test_unknown_option(self) -> None:
        result = self.run_command("--nothing")
        self.assert_ends(result, 2, "No such option '--nothing'. (see connectctl --help)")
        result = self.run_command("version", "--nothing")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("(see connectctl version --help)\n", result.stderr)

    def test_usage(self) -> None:
        self.assert_ends(self.fail_with(click.UsageError("not so")), 2, "not so (see connectctl fail --help)")

    def test_failure(self) -> None:
        self.assert_ends(self.fail_with(click.ClickException("no\nluck")), 1, "no luck")

    def test_interrupt(self) -> None:
        result = self.fail_with(KeyboardInterrupt())
        # The empty line keeps it apart from the terminal's ^C.
        self.assertEqual((result.exit_code, result.stderr), (1, "\nconnectctl: interrupted\n"))

    def test_unforeseen(self) -> None:
        """An error of ours is one line that says where it happened, not a traceback."""
        result = self.fail_with(ZeroDivisionError("so\nsad"))
        self.assertEqual(result.exit_code, 1)
        self.assertRegex(
            result.stderr, r"\Aconnectctl: unexpected ZeroDivisionError at .*test_main\.py:[0-9]+: so sad\n\Z"
        )

    def test_version(self) -> None:
        self.assertIn(f"connectd {connectd.__version__}, twisted ", self.run_command("version").stdout)
        versions = json.loads(self.run_command("--json", "version").stdout)
        self.assertEqual(versions["connectd"], connectd.__version__)
        self.assertEqual(sorted(versions), ["connectd", "python", "twisted"])


class LogTests(SynchronousTestCase):
    """The log of a command: warnings and worse, one line each."""

    def setUp(self) -> None:
        self.runner = CliRunner()

    def logged(self, write: Any) -> str:
        @click.command()
        def command() -> None:
            observer = LinesOnStandardError()
            write(Logger(namespace="test", observer=observer))

        return self.runner.invoke(command).stderr

    def test_levels(self) -> None:
        self.assertEqual(self.logged(lambda log: log.info("nothing")), "")
        self.assertEqual(self.logged(lambda log: log.warn("a {b}", b="c\nd")), "connectctl: a c d\n")
        self.assertEqual(self.logged(lambda log: log.error("bad")), "connectctl: bad\n")

    def test_repeated(self) -> None:
        def write(log: Logger) -> None:
            for text in ("a", "a", "b", "a"):
                log.warn(text)

        self.assertEqual(self.logged(write), "connectctl: a\nconnectctl: b\nconnectctl: a\n")

    def test_failures(self) -> None:
        failure = Failure(ValueError("so\nsad"))
        self.assertEqual(
            self.logged(lambda log: log.failure("it went wrong", failure)),
            "connectctl: it went wrong: ValueError: so sad\n",
        )
        self.assertEqual(
            self.logged(lambda log: log.critical("", log_failure=failure)), "connectctl: ValueError: so sad\n"
        )

    def test_failures_of_the_old_log(self) -> None:
        """What twisted.python.log.err() logs has a traceback for its text."""
        failure = Failure(ValueError("so sad"))
        for why, line in ((None, "ValueError: so sad"), ("it went wrong", "it went wrong: ValueError: so sad")):
            self.assertEqual(
                self.logged(lambda log, why=why: log.critical("Traceback (most …", failure=failure, why=why)),
                f"connectctl: {line}\n",
            )

    def test_place_of_a_failure(self) -> None:
        try:
            raise ValueError("so sad")
        except ValueError:
            failure = Failure()
        self.assertRegex(
            self.logged(lambda log: log.failure("", failure)),
            r"\Aconnectctl: ValueError: so sad \(at .*test_main\.py:[0-9]+\)\n\Z",
        )


class ProcessTests(SynchronousTestCase):
    """What only a process of its own shows."""

    def test_help_does_not_import_the_reactor(self) -> None:
        code = (
            "import sys\n"
            "from connectd.cli.main import main\n"
            "try:\n    main()\n"
            "finally:\n"
            "    for name in ('twisted.internet.reactor', 'rich', 'connectd.protocols.lekt.plugin', 'cattrs'):\n"
            "        assert name not in sys.modules, name\n"
        )
        ended = connectctl_process("--help", code=code)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertIn("  lekt  ", ended.stdout)

    def test_reader_that_goes_away(self) -> None:
        """As with connectctl init --print | head -1: no complaint."""
        reader, writer = os.pipe()
        os.close(reader)
        try:
            ended = subprocess.run(
                [sys.executable, "-c", "from connectd.cli.main import main; main()", "init", "--print"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=writer,
                stderr=subprocess.PIPE,
                timeout=60,
                check=False,
            )
        finally:
            os.close(writer)
        self.assertEqual((ended.returncode, ended.stderr), (1, b""))

    def test_broken_plugin_file_of_somebody_else(self) -> None:
        """It costs one line on standard error, and the command works."""
        folder = Path(self.mktemp()).absolute()
        (folder / "twisted" / "plugins").mkdir(parents=True)
        (folder / "twisted" / "plugins" / "somebody_elses.py").write_text("raise ImportError('it is\\nbroken')\n")
        ended = connectctl_process(
            "lekt",
            "--help",
            code=f"import sys; sys.path.insert(1, {str(folder)!r}); from connectd.cli.main import main; main()",
        )
        plugin = folder / "twisted" / "plugins" / "somebody_elses.py"
        self.assertEqual(
            (ended.returncode, ended.stderr), (0, f"connectctl: ImportError: it is broken (at {plugin}:1)\n")
        )
        self.assertIn("Usage: connectctl lekt", ended.stdout)

    def test_entry_point_begins_logging_once(self) -> None:
        calls: list[str] = []
        self.patch(main_module.connectctl, "main", lambda: calls.append("main"))
        self.patch(sys.modules["connectd.cli.log_lines"], "log_to_standard_error", lambda: calls.append("log"))
        main_module.main()
        self.assertEqual(calls, ["log", "main"])
