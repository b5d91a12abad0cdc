"""A sixth protocol, as somebody else would bring it: a distribution of its own beside connectd, found as a plugin.

``tests/sixth`` is that distribution. It is built, installed as a wheel into an environment of its own, used from there
by the commands that people type, and uninstalled again. Nothing is downloaded where setuptools is there to build with.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernamePassword
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface.verify import verifyObject

from connectd.credentials import Password
from connectd.interfaces import IEventSinkPlugin, IHandlerPlugin, IListenerService, IProtocol, IReceiver
from connectd.net.connection import Connection
from connectd.testing import Network, RawPeer
from tests.herald import (
    SIXTH,
    Crier,
    Doorbell,
    HeraldClientSettings,
    HeraldDialogue,
    HeraldListener,
    HeraldPlugin,
    HeraldSettings,
)

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
LIMIT = 60.0
"""Seconds after which something that should happen is given up."""

BUILDER = "setuptools>=77"
"""What builds the wheels."""

SOURCES = ("connectd", "twisted", "setup.cfg", "pyproject.toml", "README.rst", "LICENSE")
"""What connectd's own wheel is made of."""

RUNNERS = {
    "twistd": "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()",
    "twist": "import sys; sys.argv[0] = 'twist'; from twisted.application.twist._twist import Twist; Twist.main()",
    "connectctl": "import sys; sys.argv[0] = 'connectctl'; from connectd.cli.main import main; main()",
}


def sources() -> Iterator[Path]:
    """The files of the distribution."""
    return (path for path in SIXTH.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


# Environments


def run(
    *command: str | Path, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, away from this repository."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CONNECTD_CONFIG")}
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder or temporary_folder(),
        env={**own, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@functools.cache
def temporary_folder() -> Path:
    """A folder for this process and its children."""
    made = tempfile.mkdtemp(prefix="connectd-sixth-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def pip(*words: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words)
    return run(*command, environment=environment)


@functools.cache
def builder() -> Mapping[str, str] | str:
    """The variables with which setuptools of the right age is found, or why it is neither here nor to be had."""
    if importlib.util.find_spec("pip") is None:
        return "this Python has no pip, which builds and installs the wheels"
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        if int(importlib.metadata.version("setuptools").partition(".")[0]) >= int(BUILDER.rpartition("=")[2]):
            return {}
    fetched = temporary_folder() / "builder"
    try:
        installed = pip("install", "--retries=1", "--timeout=15", "--target", fetched, BUILDER)
    except subprocess.TimeoutExpired:
        return f"{BUILDER} is not installed, and the package index does not answer"
    if installed.returncode:
        why = " ".join(installed.stderr.split())[-200:]
        return f"{BUILDER} is not installed, and the package index does not give it: {why}"
    return {"PYTHONPATH": str(fetched)}


@functools.cache
def wheels() -> Path:
    """A folder with the wheels of connectd and of the sixth protocol, made from copies of their sources.

    :raises SkipTest: where there is nothing to build with.
    """
    environment = builder()
    if isinstance(environment, str):
        raise SkipTest(environment)
    made = temporary_folder() / "wheels"
    ignored = shutil.ignore_patterns("__pycache__", ".mypy_cache", "dropin.cache", "*.egg-info")
    connectd, sixth = temporary_folder() / "connectd", temporary_folder() / "sixth"
    connectd.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, connectd / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, connectd / name)
    shutil.copytree(SIXTH, sixth, ignore=ignored)
    words = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", made, connectd, sixth)
    built = pip(*words, environment=environment)
    if built.returncode:
        raise AssertionError(f"the wheels cannot be built: {built.stdout}{built.stderr}")
    return made


class Environment:
    """A virtual environment with both wheels; everything else is that of the Python that runs the tests."""

    def __init__(self, name: str) -> None:
        found = wheels()
        self.folder = temporary_folder() / name
        made = run(sys.executable, "-m", "venv", "--without-pip", self.folder)
        if made.returncode:
            raise SkipTest(f"this Python makes no virtual environments: {made.stderr or made.stdout}")
        self.python = self.folder / "bin" / "python"
        installed = pip("--python", self.python, "install", "--no-deps", "--no-index", *found.iterdir())
        if installed.returncode:
            raise AssertionError(f"the wheels cannot be installed: {installed.stderr}")
        (self.packages,) = self.folder.glob("lib/python*/site-packages")
        # Only now: pip would take what it finds there for installed here. Paths in a .pth file are not searched for
        # further .pth files, so that an editable connectd in there is not seen.
        others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        (self.packages / "dependencies.pth").write_text("\n".join(others))

    def __call__(self, runner: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run twistd, twist or connectctl."""
        return run(self.python, "-c", RUNNERS[runner], *words, folder=self.folder)

    def uninstall(self) -> None:
        """Remove the sixth protocol."""
        removed = pip("--python", self.python, "uninstall", "--yes", "connectd-herald")
        if removed.returncode:
            raise AssertionError(removed.stderr)


@functools.cache
def installed() -> Environment:
    """An environment that tests leave as it is."""
    return Environment("installed")


class Daemon:
    """A twistd process in the foreground, ended with its test."""

    def __init__(self, case: SynchronousTestCase, environment: Environment, *words: str | Path) -> None:
        self._log = temporary_folder() / f"{case.id()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [environment.python, "-u", "-c", RUNNERS["twistd"], "--nodaemon", "--pidfile=", *words],
                cwd=environment.folder,
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        case.addCleanup(self._end)
        self.port = int(self.wait_for(r"herald on 127\.0\.0\.1:(\d+) is listening")[1])

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until something is in the log."""
        end = time.monotonic() + LIMIT
        while (found := re.search(pattern, self.log)) is None:
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{pattern!r} is not in the log: {self.log}")
            time.sleep(0.01)
        return found

    def terminate(self, *guests: Guest) -> list[str]:
        """Ask it to end, and return the last words that guests hear of it."""
        self.process.send_signal(signal.SIGTERM)
        words = [guest.last_words() for guest in guests]
        self.process.wait(LIMIT)
        return words


class Guest:
    """Somebody who is in, by a real socket."""

    def __init__(self, case: SynchronousTestCase, port: int, name: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        case.addCleanup(self._socket.close)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        case.addCleanup(self._lines.close)
        self.say(f"NAME {name}")
        self.welcome = self.hear()

    def say(self, line: str) -> None:
        self._socket.sendall(f"{line}\n".encode())

    def hear(self) -> str:
        """The next line."""
        return self._lines.readline().rstrip("\n")

    def last_words(self) -> str:
        """All that still comes, up to the end; then this side is closed, too."""
        words = self._lines.read()
        self._socket.shutdown(socket.SHUT_RDWR)
        return words


class InstalledTests(SynchronousTestCase):
    """The wheel beside connectd, and the commands that people type."""

    def setUp(self) -> None:
        self.environment = installed()

    def configuration(self, listener: str = "", daemon: str = "") -> Path:
        """A configuration file with one HERALD listener."""
        path = self.environment.folder / f"{self.id()}.toml"
        path.write_text(
            f'[daemon]\nadmin = ""\nstatus = ""\n{daemon}\n'
            f'[[listener]]\nprotocol = "herald"\nlisten = "tcp:0:interface=127.0.0.1"\n{listener}\n'
        )
        return path

    def test_help(self) -> None:
        """twistd and twist list it among their commands, and its settings are its options."""
        for runner in ("twistd", "twist"):
            shown = self.environment(runner, "--help")
            self.assertRegex(shown.stdout, r"\n    herald +HERALD: cry something")
            self.assertRegex(shown.stdout, r"\n    lekt ")
            self.assertEqual(shown.stderr, "")
        options = self.environment("twistd", "herald", "--help").stdout
        self.assertRegex(options, r"--longest-line= +A peer that sends a longer line is ended\. \[in\s+bytes,")
        self.assertRegex(options, r"--greeting=")
        self.assertRegex(options, r"--proxy-protocol=")

    def test_check(self) -> None:
        """A configuration with it is read; unknown keys and wrong values are one line each."""
        good = self.configuration('greeting = "Oyez"\nhandler = "crier"', 'event_sinks = ["doorbell"]')
        checked = self.environment("connectctl", "--config", good, "check")
        self.assertRegex(
            checked.stdout, r"\nherald +listen +tcp:0:interface=127\.0\.0\.1 +crier\n(.|\n)*: no mistakes\n"
        )
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))
        bad = self.configuration('greting = "Oyez"\nlongest_line = 3\nhandler = "cryer"', 'event_sinks = ["doorbel"]')
        checked = self.environment("connectctl", "--config", bad, "check")
        self.assertEqual(
            [line.partition(f"{bad}: ")[2] for line in checked.stderr.splitlines()],
            [
                '[daemon]: event_sinks: there is no event sink "doorbel"; known are doorbell; did you mean "doorbell"?',
                '[[listener]] 1 (herald): greting: unknown key; did you mean "greeting"?',
                "[[listener]] 1 (herald): longest_line: 3 is out of range: 64 to 65536",
                "3 mistakes",
            ],
        )
        self.assertEqual(checked.returncode, 1)

    def test_init(self) -> None:
        """connectctl init writes its demonstration beside the others."""
        folder = self.environment.folder / self.id()
        self.assertEqual(self.environment("connectctl", "init", folder).returncode, 0)
        self.assertRegex((folder / "connectd.toml").read_text(), r'\nprotocol = "herald"\n')
        checked = self.environment("connectctl", "--config", folder / "connectd.toml", "check")
        self.assertRegex(checked.stdout, r"\nherald +listen +tcp:7999:interface=127\.0\.0\.1 +crier\n")

    def test_twistd_herald(self) -> None:
        """Its own command of twistd; a probe, its command of connectctl, its handler, its last words."""
        daemon = Daemon(
            self, self.environment, "herald", "--listen=tcp:0:interface=127.0.0.1", "--handler=crier", "--greeting=Oyez"
        )
        url = f"herald://127.0.0.1:{daemon.port}"
        guest = Guest(self, daemon.port, "ada")
        self.assertEqual(guest.welcome, "WELCOME Oyez")
        probed = self.environment("connectctl", "probe", f"{url}?name=bob")
        steps = [line.partition(" ms  ")[2] for line in probed.stdout.splitlines()]
        self.assertEqual(
            steps,
            [f"connect: 127.0.0.1 port {daemon.port} as bob", "welcome: Oyez", "the whole process went well"],
        )
        refused = self.environment("connectctl", "probe", f"{url}?name=herald")
        self.assertIn("Nobody may be called so", refused.stderr)
        self.assertEqual(refused.returncode, 1)
        cried = self.environment("connectctl", "herald", "cry", f"{url}?name=carol", "hello  there")
        self.assertEqual((cried.returncode, cried.stdout, cried.stderr), (0, "", ""))
        self.assertEqual(guest.hear(), "CRY carol: hello there")
        self.assertEqual(daemon.terminate(guest), ["BYE Server is shutting down\n"])
        self.assertNotIn("Traceback", daemon.log)

    def test_twistd_connectd(self) -> None:
        """A listener of a configuration file, with its handler and its event sink."""
        path = self.configuration('handler = "crier"', 'event_sinks = ["doorbell"]')
        daemon = Daemon(self, self.environment, "connectd", "--config", path)
        ada, bob = Guest(self, daemon.port, "ada"), Guest(self, daemon.port, "bob")
        daemon.wait_for("ding-dong: ada is here")
        daemon.wait_for("ding-dong: bob is here")
        bob.say("CRY hello")
        self.assertEqual((ada.hear(), bob.hear()), ("CRY bob: hello",) * 2)
        daemon.terminate(ada, bob)
        self.assertNotIn("Traceback", daemon.log)

    def test_harness(self) -> None:
        """Its author's tests find the harness where connectd is installed."""
        code = (
            "from connectd.testing import Network\n"
            "from connectd_herald.server import HeraldListener\n"
            "from connectd_herald.settings import HeraldSettings\n"
            "network = Network()\n"
            "peer = network.raw(network.listener(HeraldListener, HeraldSettings(handler='crier')))\n"
            "peer.send(b'NAME ada\\nCRY hello\\n')\n"
            "print(peer.received.decode())\n"
            "network.stop()\n"
        )
        tried = run(self.environment.python, "-c", code, folder=self.environment.folder)
        self.assertEqual((tried.stdout, tried.stderr), ("WELCOME Hear, hear!\nCRY ada: hello\n\n", ""))

    def test_command_that_fails(self) -> None:
        """What talking with a server ends in is one line, though the command does nothing for that."""
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            port = nobody.getsockname()[1]
        for url, status in ((f"herald://127.0.0.1:{port}", 1), ("herald://127.0.0.1?nme=ada", 2)):
            failed = self.environment("connectctl", "herald", "cry", url, "hello")
            self.assertEqual(failed.returncode, status)
            self.assertRegex(failed.stderr, r"\Aconnectctl: [^\n]+\n\Z")
            self.assertNotIn("unexpected", failed.stderr)


class UninstalledTests(SynchronousTestCase):
    """What is left when it goes, or breaks."""

    def check(self, environment: Environment, protocol: str, daemon: str = "") -> subprocess.CompletedProcess[str]:
        """connectctl check, of a listener for a protocol."""
        path = environment.folder / "connectd.toml"
        path.write_text(f'{daemon}\n[[listener]]\nlisten = "tcp:0"\nprotocol = {protocol}\n')
        return environment("connectctl", "--config", path, "check")

    def test_uninstalling(self) -> None:
        """Twisted's cache of plugins outlives it, is not believed, and is put right by whoever may write it."""
        environment = Environment("uninstalled")
        self.assertIn("herald", environment("twistd", "--help").stdout)
        cache = environment.packages / "twisted" / "plugins" / "dropin.cache"
        environment.uninstall()
        self.assertIn(b"herald", cache.read_bytes())
        # Somebody who may not write there. (Permissions would not keep root from it.)
        refusing = (
            "from twisted.python.filepath import FilePath\ndef refuse(*arguments): raise PermissionError(13, 'No')\n"
        )
        code = f"{refusing}FilePath.setContent = refuse\n{RUNNERS['twistd']}"
        shown = [run(environment.python, "-c", code, "--help", folder=environment.folder)]
        self.assertIn(b"herald", cache.read_bytes())
        shown += [environment(runner, "--help") for runner in ("twistd", "twist")]
        for one in shown:
            self.assertNotIn("herald", (one.stdout + one.stderr).lower())
            self.assertRegex(one.stdout, r"\n    lekt ")
        self.assertNotIn(b"herald", cache.read_bytes())
        left = [str(path) for path in environment.packages.rglob("*") if "herald" in path.name]
        self.assertEqual(left, [])
        checked = self.check(environment, '"herald"')
        self.assertRegex(checked.stderr, r'protocol: there is no protocol "herald"; known are .*lekt')
        self.assertNotIn("Traceback", checked.stderr)
        self.assertEqual((checked.returncode, self.check(environment, '"lekt"').returncode), (1, 0))

    def test_broken(self) -> None:
        """Its modules do not load: whoever does not use it sees nothing of that, whoever does reads one line."""
        environment = Environment("broken")
        for name in ("settings", "square"):
            (environment.packages / "connectd_herald" / f"{name}.py").write_text("import nothing_of_this_name\n")
        shown = environment("twistd", "--help")
        self.assertEqual((shown.returncode, shown.stderr), (0, ""))
        self.assertEqual(self.check(environment, '"lekt"').stderr, "")
        why = "cannot be loaded: ModuleNotFoundError: No module named 'nothing_of_this_name'"
        checked = self.check(environment, '"herald"', '[daemon]\nevent_sinks = ["doorbell"]')
        self.assertRegex(
            checked.stderr,
            rf'\A.*event_sinks: the event sink "doorbell" {why}\n.*protocol: the protocol "herald" {why}\n.*2 mistakes\n\Z',
        )
        for runner, *words in (("twistd", "-n", "herald"), ("connectctl", "probe", "herald://127.0.0.1")):
            failed = environment(runner, *words)
            self.assertEqual(failed.returncode, 1)
            self.assertRegex(failed.stderr, rf'\A[^\n]*the protocol "herald" {why}\n\Z')
        handler = self.check(environment, '"lekt"\nhandler = "crier"')
        self.assertRegex(handler.stderr, rf'handler: the handler "crier" {why}\n')
        self.break_plugin_file(environment)

    def break_plugin_file(self, environment: Environment) -> None:
        """Its plugin file itself does not load: connectctl says so in one line and does what it was asked."""
        file = environment.packages / "twisted" / "plugins" / "herald_plugins.py"
        file.write_text("import nothing_of_this_name\n")
        checked = self.check(environment, '"lekt"')
        self.assertEqual(checked.returncode, 0)
        self.assertRegex(
            checked.stderr, r"\A[^\n]*No module named 'nothing_of_this_name'[^\n]*herald_plugins.py:1\)\n\Z"
        )
        self.assertRegex(environment("twistd", "--help").stdout, r"\n    lekt ")


class GuardedListener(HeraldListener):
    """A HERALD that takes ``NAME name password``."""

    credential_interfaces = (IUsernamePassword,)

    def on_NameGiven(self, connection: Connection, event: Any) -> None:
        name, _, password = event.name.encode().partition(b" ")
        machine: Any = connection.machine
        connection.decide(self.login(connection, Password(name, password)), lambda avatar, now: machine.accept(now))

    def account(self, connection: Connection) -> str:
        return str(self.identity(connection)["name"].partition(" ")[0])


class MemoryTests(SynchronousTestCase):
    """HERALD itself, in memory."""

    def start(self, **settings: object) -> Network:
        self.crier = Crier()
        self.network = Network(handlers={"crier": self.crier})
        self.listener = self.network.listener(HeraldListener, HeraldSettings(handler="crier", **settings))  # type: ignore[arg-type]
        return self.network

    def enter(self, name: str) -> RawPeer:
        peer = self.network.raw(self.listener)
        peer.send(f"NAME {name}\n".encode())
        return peer

    def test_interfaces(self) -> None:
        """It is what connectd asks of plugins."""
        verifyObject(IProtocol, HeraldPlugin())
        verifyObject(IHandlerPlugin, Crier())
        verifyObject(IEventSinkPlugin, Doorbell())
        self.start()
        verifyObject(IListenerService, self.listener)
        self.enter("ada")
        (visitor,) = self.crier.present
        verifyObject(IReceiver, visitor)
        self.network.stop()

    def test_refusals(self) -> None:
        """COM-12: NO before acceptance, BYE after it, each counted as what it is (COM-7)."""
        self.start(max_sessions=1, longest_line=64)
        self.assertEqual(self.enter("herald").received, b"NO Nobody may be called so\n")
        self.assertEqual(self.enter("").received, b"NO Nobody may be called so\n")
        ada = self.enter("ada")
        self.assertEqual(self.enter("bob").received, b"NO The square is full\n")
        ada.send(b"NAME eve\n")
        self.assertEqual(ada.received, b'WELCOME Hear, hear!\nBYE "NAME" is not expected here\n')
        self.network.stop()
        self.assertEqual(self.network.recorder.outcomes, ["refused", "refused", "limited", "malformed"])

    def test_client(self) -> None:
        """The client hears what others cry, and how it ends."""
        self.start()
        heard: list[str] = []
        dialogue = HeraldDialogue(
            self.network.clock, HeraldClientSettings(name="ada"), lambda cry: heard.append(cry.text)
        )
        dialogue.dial(self.network.endpoint(self.listener))
        self.network.settle()
        self.enter("bob").send(b"CRY one\nCRY two\n")
        dialogue.cry("three\nlines\n")
        self.network.settle()
        self.assertEqual(heard, ["bob: one", "bob: two", "ada: three lines"])
        self.network.stop()
        assert dialogue.ended is not None
        self.assertEqual(dialogue.ended.reason, "Server is shutting down")

    def test_accounts(self) -> None:
        """COM-10: with the interfaces of its proofs named, a listener has its accounts checked."""
        accounts = InMemoryUsernamePasswordDatabaseDontUse()
        accounts.addUser(b"ada", b"right")
        network = Network()
        network.context.checkers = [network.slow_checker(1, accounts)]
        listener = network.listener(GuardedListener, HeraldSettings())
        peers = [network.raw(listener) for _ in range(3)]
        for peer, words in zip(peers, (b"ada right", b"ada wrong", b"eve right"), strict=True):
            peer.send(b"NAME " + words + b"\n")
            self.assertEqual(peer.received, b"")
        network.advance(1.5)
        self.assertEqual(peers[0].received, b"WELCOME Hear, hear!\n")
        self.assertRegex(peers[1].received, rb"\ANO [^\n]+\n\Z")
        self.assertEqual(peers[1].received, peers[2].received)
        self.assertEqual([session.account for session in network.context.sessions], ["ada"])
        network.stop()

    def test_slow_reader(self) -> None:
        """COM-6: who does not read misses cries, and hears again once it has caught up."""
        self.start(longest_line=65536)
        ada, bob = self.enter("ada"), self.enter("bob")
        ada.window = 0
        for _ in range(20):
            bob.send(b"CRY " + b"x" * 50_000 + b"\n")
        (waiting,) = (wire.server.unread for wire in self.network.wires if wire is ada.wire)
        self.assertLess(waiting, 400_000)
        self.assertGreater(len(bob.received), 1_000_000)
        ada.window = None
        bob.send(b"CRY again\n")
        self.assertTrue(ada.received.endswith(b"\nCRY bob: again\n"))
        self.network.stop()


class PageTests(SynchronousTestCase):
    """docs/extending.md shows the distribution as it is, and names everything that it relies on."""

    def setUp(self) -> None:
        self.text = PAGE.read_text(encoding="utf-8")

    def test_size(self) -> None:
        """The whole of it, packaging included, is less than 300 lines that are not blank."""
        lines = [line for path in sources() for line in path.read_text().splitlines() if line.strip()]
        self.assertLess(len(lines), 300)
        self.assertIn("less than 300 lines", self.text)

    def test_same_text(self) -> None:
        """Every example is a piece of the distribution, and every file of it is shown somewhere."""
        blocks = re.findall(r"<!-- from: ([^\n]*?) -->\n```\w+\n(.*?)```\n", self.text, re.DOTALL)
        fences = re.findall(r"^```(?:python|ini|toml)$", self.text, re.MULTILINE)
        self.assertEqual(len(blocks), len(fences))
        for name, body in blocks:
            self.assertIn(body, (SIXTH / name).read_text(encoding="utf-8"), name)
        named = {name for name, _ in blocks}
        files = {str(path.relative_to(SIXTH)) for path in sources()}
        self.assertEqual(files - named, {"connectd_herald/__init__.py"})

    def stable(self) -> dict[str, set[str]]:
        """The names that the page promises, by module."""
        section = self.text.partition("\n## What is stable\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| `(connectd[\w.]*)` \| (.*) \|$", section, re.MULTILINE)
        return {module: set(re.findall(r"`(\w+)", names)) for module, names in rows}

    def test_only_what_is_stable(self) -> None:
        """The distribution imports nothing that the page does not promise."""
        stable = self.stable()
        for path in sources():
            if path.suffix != ".py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "connectd":
                    continue
                for alias in node.names:
                    module = node.module or ""
                    if f"{module}.{alias.name}" in stable:
                        continue
                    self.assertIn(alias.name, stable.get(module, ()), f"{path.name}: from {module}")

    def test_what_is_stable_is_there(self) -> None:
        """Every module and every name that the page promises exists, and says what it is for."""
        stable = self.stable()
        self.assertGreater(len(stable), 10)
        for module, names in stable.items():
            imported = importlib.import_module(module)
            for name in names:
                self.assertTrue(hasattr(imported, name), f"{module}.{name}")
