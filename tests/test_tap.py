"""The face to twistd and twist."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import textwrap
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

import connectd
from connectd import tap
from connectd.admission import AdmissionLimits
from connectd.config import DaemonSettings
from connectd.ops import daemon as daemon_module
from connectd.ops.daemon import Daemon
from connectd.ops.logs import JSONObserver
from connectd.ops.ownership import Owner
from connectd.structure import field_types
from tests import toy_protocol, toy_wing
from tests.ops.composed import LOOPBACK, folder


class Runner(usage.Options):
    """The options of twistd, as far as we look at them."""

    subCommand = "toy"

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.update({"nodaemon": True, "debug": False, "logfile": None, "logger": None, "syslog": False, **options})


class ListenerOptionsTests(SynchronousTestCase):
    """A protocol's settings as options."""

    def setUp(self) -> None:
        toy_protocol.install(self, toy_protocol.ToyProtocol())
        self.options = tap.listener_options("toy")()
        self.options.parent = Runner()

    def parse(self, *arguments: str) -> Any:
        """The configuration of a command line."""
        somewhere = () if "--listen" in arguments else ("--listen", "tcp:7000")
        self.options.parseOptions((*somewhere, *arguments))
        return self.options.configuration

    def test_every_key_is_an_option(self) -> None:
        """All keys of the listener and of admission, and of the daemon those that one listener has a use for."""
        names = {*field_types(toy_protocol.ToySettings), *field_types(AdmissionLimits)}
        names |= {*tap.DAEMON_OPTIONS, *tap.DIRECTORY_OPTIONS}
        expected = {f"{name.replace('_', '-')}=" for name in names - {"password"}}
        self.assertEqual(set(self.options.longOpt) - {"help", "version"}, expected)
        self.assertLess(set(tap.DAEMON_OPTIONS), set(field_types(DaemonSettings)))

    def test_secrets_have_no_option(self) -> None:
        """COM-9: everybody on the machine can read a command line."""
        with self.assertRaises(usage.UsageError):
            self.parse("--password", "x")

    def test_help(self) -> None:
        """Each option has the key's documentation, its unit and its default."""
        text = " ".join(str(self.options).split())
        self.assertIn("--period= How often. [in seconds, default: 10]", text)
        self.assertIn("--loud= Whether to shout. [default: no]", text)
        self.assertIn("--names= Who.", text)
        self.assertIn("[default: 127.0.0.0/8,::1/128]", text)
        self.assertIn("[per second and source, default: 20]", text)
        self.assertIn("--log= The form of the log: text for people or json for programs. [default: text]", text)
        self.assertIn("TOY: a protocol for tests", text)

    def test_defaults(self) -> None:
        """Nothing given is everything as documented; there are no windows unless asked for."""
        configuration = self.parse()
        [listener] = configuration.listeners
        self.assertEqual(listener.protocol, "toy")
        self.assertEqual(listener.settings, toy_protocol.ToySettings(listen="tcp:7000"))
        self.assertEqual(configuration.admission, AdmissionLimits())
        self.assertEqual(configuration.daemon, DaemonSettings(state_dir="", admin="", status=""))

    def test_values(self) -> None:
        configuration = self.parse(
            *("--listen", "tcp:7:interface=127.0.0.1", "--period=2.5", "--loud", "yes", "--limit", "3"),
            *("--names", "ann, bob", "--friends=10.0.0.0/8,::1", "--max-connections", "5", "--status", "tcp:8"),
            *("--log", "json", "--drain-timeout", "1", "--proxy-protocol", "true"),
        )
        settings = configuration.listeners[0].settings
        self.assertEqual((settings.listen, settings.period, settings.loud), ("tcp:7:interface=127.0.0.1", 2.5, True))
        self.assertEqual((settings.limit, settings.names, settings.proxy_protocol), (3.0, ("ann", "bob"), True))
        self.assertEqual([str(network) for network in settings.friends], ["10.0.0.0/8", "::1/128"])
        self.assertEqual(configuration.admission.max_connections, 5)
        self.assertEqual(
            configuration.daemon, DaemonSettings(state_dir="", admin="", status="tcp:8", log="json", drain_timeout=1.0)
        )

    def test_relative_paths(self) -> None:
        """They are relative to where the command was given: a daemon changes its directory."""
        configuration = self.parse("--certificate", "toy.pem", "--listen", "unix:toy.sock", "--admin", "unix:a.sock")
        settings = configuration.listeners[0].settings
        self.assertEqual(settings.certificate, os.path.abspath("toy.pem"))
        self.assertEqual(settings.listen, f"unix:{os.path.abspath('toy.sock')}")
        self.assertEqual(configuration.daemon.admin, f"unix:{os.path.abspath('a.sock')}")

    def test_wrong_values(self) -> None:
        """Every wrong value is a line that begins with its option."""
        lines = self.refused(
            "--period", "often", "--loud=maybe", "--max-connections", "-1", "--log=loud", "--admin=tcp:80"
        )
        self.assertEqual(
            [line.partition(":")[0] for line in lines], ["--period", "--loud", "--max-connections", "--admin", "--log"]
        )
        self.assertIn("must be a number", lines[0])

    def test_check_over_several_keys(self) -> None:
        """A problem of the whole is told as it is."""

        @attrs.frozen(kw_only=True)
        class Paired(toy_protocol.ToySettings):
            def __attrs_post_init__(self) -> None:
                raise ValueError("these do not go together")

        plugin = toy_protocol.ToyProtocol()
        plugin.settings = Paired
        toy_protocol.install(self, plugin)
        self.options = tap.listener_options("toy")()
        self.assertEqual(self.refused(), ["these do not go together"])

    def test_no_directory(self) -> None:
        """There are no accounts and bans unless they are asked for, and no checkers without accounts."""
        self.assertIsNone(self.parse().directory)
        self.assertFalse([option for option in self.options.longOpt if "auth" in option])
        self.assertEqual(
            self.refused("--directory-key", "x"),
            ["--directory-key: there is no --directory that it could be the key of"],
        )

    def test_directory(self) -> None:
        """Its paths are relative to where the command was given."""
        directory = self.parse("--directory", "sqlite:///x.db").directory
        self.assertEqual(directory.database_path("/"), os.path.abspath("x.db"))
        self.assertEqual(directory.key_file, os.path.abspath("state/directory.key"))
        directory = self.parse("--directory", "sqlite:////x.db", "--directory-key", "y").directory
        self.assertEqual((directory.database_path("/"), directory.key_file), ("/x.db", os.path.abspath("y")))

    def test_wrong_directory(self) -> None:
        [line] = self.refused("--directory", "x.db")
        self.assertTrue(line.startswith("--directory: 'x.db' is not the URL of a database; write sqlite:///PATH"), line)

    def test_nowhere_to_listen(self) -> None:
        """A listener that listens on nothing is a mistake."""
        self.assertEqual(
            self.refused("--listen", ""),
            ["--listen: is missing (write where, such as tcp:7890:interface=127.0.0.1)"],
        )

    def refused(self, *arguments: str) -> list[str]:
        """What is said on standard error, line by line, before the status 1."""
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr), self.assertRaises(SystemExit) as caught:
            self.parse(*arguments)
        self.assertEqual(caught.exception.code, 1)
        return [line.removeprefix("connectd: ") for line in stderr.getvalue().splitlines()]

    def test_unknown_option(self) -> None:
        for arguments in (["--no-such"], ["extra"]):
            with self.assertRaises(usage.UsageError):
                self.parse(*arguments)

    def test_version(self) -> None:
        stdout = io.StringIO()
        self.patch(sys, "stdout", stdout)
        with self.assertRaises(SystemExit) as caught:
            self.parse("--version")
        self.assertEqual(caught.exception.code, 0)
        self.assertTrue(stdout.getvalue().startswith(f"connectd {connectd.__version__}, Twisted "))

    def test_key_of_a_protocol_goes_first(self) -> None:
        """A wing may call a key as admission or the daemon does."""

        @attrs.frozen(kw_only=True)
        class Same(toy_protocol.ToySettings):
            status: str = "mine"

        plugin = toy_protocol.ToyProtocol()
        plugin.settings = Same
        toy_protocol.install(self, plugin)
        self.assertEqual(tap.listener_options("toy")().longOpt.count("status="), 1)


class OptionNamesTests(SynchronousTestCase):
    """Our own protocols' keys as options."""

    def test_names_that_are_taken(self) -> None:
        """Where a key has the name of an option that every command has, its option has another."""
        from connectd.protocols.starbound.settings import StarboundSettings

        options = tap.listener_options("starbound")()
        options.parent = Runner()
        options.parseOptions(["--protocol-version", "629"])
        [listener] = options.configuration.listeners
        assert isinstance(listener.settings, StarboundSettings)
        self.assertEqual(listener.settings.version, 629)


class AuthOptionTests(SynchronousTestCase):
    """Checkers on the command line, for a protocol with accounts."""

    def setUp(self) -> None:
        toy_protocol.install(self, toy_wing.ToyPlugin())
        self.options = tap.listener_options("toy")()

    def parse(self, *arguments: str) -> Any:
        """The settings of the listener."""
        self.options.parseOptions(("--listen", "tcp:7000", *arguments))
        return self.options.configuration.listeners[0].settings

    def said(self, *arguments: str) -> str:
        """What a request for help writes."""
        output = io.StringIO()
        self.patch(self.options, "authOutput", output)
        with self.assertRaises(SystemExit) as caught:
            self.parse(*arguments)
        self.assertEqual(caught.exception.code, 0)
        return output.getvalue()

    def test_none(self) -> None:
        self.assertEqual(self.parse().auth, ())

    def test_several(self) -> None:
        """They are kept as texts; a file is relative to where the command was given."""
        self.addCleanup(os.chdir, os.getcwd())
        path = folder(self)
        os.chdir(path)
        (path / "accounts").write_text("ann:right\n")
        self.assertEqual(
            self.parse("--auth", "file:accounts", "--auth=memory:bob:x").auth, (f"file:{path}/accounts", "memory:bob:x")
        )

    def test_wrong(self) -> None:
        """Each in the way of twistd's own options; a checker that nothing could reach is one of them."""
        for text, told in (
            ("fiel:x", 'toy: auth: there is no checker "fiel"'),
            ("anonymous", "checks IAnonymous, and what toy has of its peers is IUsernamePassword"),
            ("memory:ann", "does not take its argument"),
            ("file:/no/such", "does not exist"),
        ):
            with self.assertRaises(usage.UsageError) as caught:
                self.parse("--auth", text)
            self.assertIn(told, str(caught.exception))

    def test_help(self) -> None:
        """--help-auth lists those that can be used, and --help-auth-type tells what one wants."""
        text = self.said("--help-auth")
        self.assertIn("file", text)
        self.assertNotIn("anonymous", text)
        self.assertIn("name:password", self.said("--help-auth-type", "memory"))
        self.assertIn("--auth=", str(self.options))

    def test_protocol_that_does_not_say(self) -> None:
        """Without its credential interfaces everything is taken, until the listener is made; an empty text is not."""
        plugin = toy_wing.ToyPlugin()
        plugin.credential_interfaces = None  # type: ignore[assignment]
        toy_protocol.install(self, plugin)
        self.options = tap.listener_options("toy")()
        self.assertEqual(self.parse("--auth", "anonymous").auth, ("anonymous",))
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr), self.assertRaises(SystemExit):
            self.parse("--auth", "")
        self.assertIn("--auth: an entry names no checker", stderr.getvalue())


class ServiceCase(SynchronousTestCase):
    """With standard error kept."""

    def setUp(self) -> None:
        self.stderr = io.StringIO()
        self.patch(sys, "stderr", self.stderr)
        self.folder = folder(self)

    def made(self, daemon: Daemon) -> Daemon:
        """A service, let go of at the end."""
        self.addCleanup(daemon.let_go)
        return daemon

    def refused(self, make: Any, *arguments: Any) -> list[str]:
        """The lines on standard error of a service that cannot be made."""
        with self.assertRaises(SystemExit) as caught:
            make(*arguments)
        self.assertEqual(caught.exception.code, 1)
        lines = self.stderr.getvalue().splitlines()
        self.assertTrue(all(line.startswith("connectd: ") for line in lines), lines)
        return [line.removeprefix("connectd: ") for line in lines]


class MakeServiceTests(ServiceCase):
    """twistd connectd"""

    def options(self, *arguments: str, **runner: Any) -> tap.Options:
        options = tap.Options()
        options.parent = Runner(**runner)
        options.parseOptions(arguments)
        return options

    def write(self, text: str, name: str = "connectd.toml") -> str:
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return str(path)

    def working(self, **daemon: str) -> str:
        """The path of a configuration that works."""
        lines = "".join(f'{name} = "{value}"\n' for name, value in {"status": "", "admin": "", **daemon}.items())
        return self.write(f'[daemon]\n{lines}[[listener]]\nprotocol = "lekt"\nlisten = "{LOOPBACK}"\n')

    def test_service(self) -> None:
        daemon = self.made(tap.makeService(self.options("--config", self.working())))
        self.assertEqual([listener.protocol for listener in daemon.listeners], ["lekt"])
        self.assertIsNone(daemon.log_observer)
        self.assertTrue((self.folder / "state").is_dir())

    def test_where_the_file_is(self) -> None:
        """What --config names, else CONNECTD_CONFIG, else connectd.toml here."""
        self.patch(os, "environ", {"CONNECTD_CONFIG": "/no/environment.toml"})
        self.assertIn("/no/option.toml", self.refused(tap.makeService, self.options("-c", "/no/option.toml"))[-1])
        self.assertIn("/no/environment.toml", self.refused(tap.makeService, self.options())[-1])
        os.environ.clear()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.assertTrue(self.refused(tap.makeService, self.options())[-1].startswith("connectd.toml: cannot be read"))

    def test_mistakes(self) -> None:
        """One line for each mistake of the file."""
        path = self.write('[daemon]\nstatsu = ""\n[[listener]]\nprotocol = "lekt"\nhandshake_timeout = "x"\n')
        lines = self.refused(tap.makeService, self.options("-c", path))
        self.assertEqual(len(lines), 2)
        self.assertIn('statsu: unknown key; did you mean "status"?', lines[0])
        self.assertIn("handshake_timeout: must be a number", lines[1])

    def test_cannot_start(self) -> None:
        path = self.working(events=f"{self.folder}/none/events")
        [line] = self.refused(tap.makeService, self.options("-c", path))
        self.assertEqual(line, f"events: {self.folder}/none/events: No such file or directory")

    def test_json_log(self) -> None:
        """log = "json" gives the application an observer."""
        daemon = self.made(tap.makeService(self.options("-c", self.working(log="json"))))
        self.assertIsInstance(daemon.log_observer, JSONObserver)

    def test_log_file_that_cannot_be_opened(self) -> None:
        """It is one line, and nothing stays bound."""
        path = self.working(log="json", admin=f"unix:{self.folder}/admin.sock")
        [line] = self.refused(tap.makeService, self.options("-c", path, logfile=f"{self.folder}/none/log"))
        self.assertEqual(line, f"log: {self.folder}/none/log: No such file or directory")
        self.assertFalse((self.folder / "admin.sock").exists())

    def test_owner(self) -> None:
        """What is made belongs to the user of --uid and --gid."""
        given: list[str] = []
        self.patch(os, "geteuid", lambda: 0)
        self.patch(Owner, "give", lambda owner, path: given.append(f"{owner.uid}:{owner.gid} {path}"))
        self.patch(Owner, "acting", lambda owner: contextlib.nullcontext())
        log = f"{self.folder}/log"
        self.made(tap.makeService(self.options("-c", self.working(), uid=12, gid=34, logfile=log)))
        state = f"{self.folder}/state"
        made = [f"{state}/connectd.db{suffix}" for suffix in ("", "-wal", "-shm")]
        self.assertEqual(given, [f"12:34 {path}" for path in (state, *made, f"{state}/directory.key", log)])

    def test_without_a_runner(self) -> None:
        """Such as in somebody's own program."""
        options = tap.Options()
        options.parseOptions(["-c", self.working(log="json")])
        self.assertIsNone(self.made(tap.makeService(options)).log_observer)


class MakeListenerTests(ServiceCase):
    """twistd lekt"""

    def test_service(self) -> None:
        options = tap.listener_options("lekt")()
        options.parseOptions(["--listen", LOOPBACK, "--heartbeat-period", "2"])
        daemon = self.made(tap.make_listener(options))
        [listener] = daemon.listeners
        self.assertEqual(getattr(listener, "settings", None).heartbeat_period, 2.0)  # type: ignore[union-attr]
        self.assertIs(daemon.context.reactor, reactor)

    def test_cannot_start(self) -> None:
        options = tap.listener_options("lekt")()
        options.parseOptions(["--listen", "lekt:7890", "--handler", "hodl"])
        [line] = self.refused(tap.make_listener, options)
        self.assertIn('there is no handler "hodl"', line)

    def test_directory(self) -> None:
        """Accounts and bans where --directory says."""
        options = tap.listener_options("lekt")()
        options.parseOptions(["--listen", LOOPBACK, "--directory", f"sqlite:///{self.folder}/x.db"])
        daemon = self.made(tap.make_listener(options))
        assert daemon.directory is not None
        self.assertEqual(daemon.directory.path, f"{self.folder}/x.db")
        self.assertEqual(os.listdir(self.folder), ["x.db"])

    def test_directory_that_cannot_be_used(self) -> None:
        """It is one line."""
        (self.folder / "x.db").write_text("no database")
        options = tap.listener_options("lekt")()
        options.parseOptions(["--listen", LOOPBACK, "--directory", f"sqlite:///{self.folder}/x.db"])
        [line] = self.refused(tap.make_listener, options)
        self.assertTrue(line.startswith(f"directory: the database {self.folder}/x.db "), line)

    def test_problem_of_several_lines(self) -> None:
        """Whatever it is, it is one line."""

        def fail(*arguments: Any, **options: Any) -> None:
            raise daemon_module.StartError(["two\nlines"])

        self.patch(daemon_module, "Daemon", fail)
        options = tap.listener_options("lekt")()
        options.parseOptions([])
        self.assertEqual(self.refused(tap.make_listener, options), ["two lines"])


class ImportTests(SynchronousTestCase):
    """Every twistd call of every user imports our plugin, and a call with --help this module."""

    def imported(self, statement: str) -> set[str]:
        """The modules that a statement imports."""
        code = f"import sys\n{statement}\nprint(*sys.modules)"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    def test_light(self) -> None:
        heavy = {"cattrs", "prometheus_client", "click", "rich", "cryptography", "sqlite3", "twisted.internet.reactor"}
        for statement in ("import connectd.tap", "import twisted.plugins.connectd_plugins"):
            imported = self.imported(statement)
            self.assertEqual(imported & heavy, set(), statement)
            ours = {
                name for name in imported if name.startswith(("connectd.config", "connectd.ops", "connectd.protocols"))
            }
            self.assertEqual(ours, set(), statement)
