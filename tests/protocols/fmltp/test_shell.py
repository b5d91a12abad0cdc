"""``connectctl fmltp shell`` and ``connectctl probe`` against a daemon, all of them as processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from connectd.cli.admin_client import AdminClient
from connectd.net import foreground
from connectd.net.client import ConnectionEnded
from connectd.net.url import URLError
from connectd.protocols.fmltp import terminal as terminal_module
from connectd.protocols.fmltp.commands import print_line, print_warning
from connectd.protocols.fmltp.commands import shell as shell_command
from connectd.protocols.fmltp.shell import Shell, command_names
from connectd.protocols.fmltp.terminal import LONGEST_LINE, Lines, LineTooLong, Terminal
from tests.ops.composed import folder
from tests.processes import LIMIT, ROOT, Started
from tests.protocols.fmltp.real import ANN, RealCase, reactor
from tests.test_secrets import forms

PASSWORD = "xyzzy-plugh horse"
GUESS = "xyzzy-plugh guess"
CONNECTCTL = "import sys; sys.argv[0] = 'connectctl'; from connectd.cli.main import main; main()"

OWN_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
"""Make standard input the controlling terminal, as a login does: getpass asks there."""


class Typist:
    """Somebody at a terminal, in which a command runs."""

    def __init__(self, test: SynchronousTestCase, *arguments: str, environment: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL + CONNECTCTL, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment, "TERM": "dumb", "INPUTRC": "/dev/null"},
            start_new_session=True,
        )
        os.close(theirs)
        self.screen = ""
        self._seen = 0
        test.addCleanup(self.end)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._ours)

    def sees(self, pattern: str) -> str:
        """Wait until something new on the screen matches, and give it."""
        end = time.monotonic() + LIMIT
        while (found := re.search(pattern, self.screen[self._seen :])) is None:
            if time.monotonic() > end:
                raise AssertionError(f"{pattern!r} is not on the screen: {self.screen!r}")
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    data = os.read(self._ours, 4096)
                except OSError:  # the other end is closed
                    data = b""
                if not data and self.process.poll() is not None:
                    raise AssertionError(f"it ended before {pattern!r}: {self.screen!r}")
                self.screen += data.decode()
        self._seen += found.end()
        return found[0]

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())


class Case(SynchronousTestCase):
    """The demonstration that ``connectctl init`` makes, on ports that are free, with an account."""

    def setUp(self) -> None:
        self.folder = folder(self) / "run"
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.folder)}
        self.environment.pop("CONNECTD_CONFIG", None)
        self.configuration = self.folder / "connectd.toml"
        self.run_command("init", str(self.folder))
        text = re.sub(r'"(tcp|udp):\d+:', r'"\1:0:', self.configuration.read_text())
        self.configuration.write_text(text.replace("[daemon]", '[daemon]\nstatus = ""\nevents = "events.jsonl"'))
        self.run_command("account", "add", "ann", "--password-stdin", stdin=PASSWORD)
        self.daemon = Started(self, self.folder, "twistd", "-n", "--pidfile=", "connectd", "-c", "connectd.toml")
        self.port = int(self.daemon.wait_for_line(r"fmltp on 127\.0\.0\.1:(\d+) is listening")[1])

    def run_command(self, *arguments: str, stdin: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        """A connectctl, from its start to its end."""
        done = subprocess.run(
            [sys.executable, "-c", CONNECTCTL, "--config", str(self.configuration), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=2 * LIMIT,
            env=self.environment,
            check=False,
        )
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done


class PipeTests(Case):
    """Without a terminal"""

    def shell(self, *lines: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        url = f"fmltp://127.0.0.1:{self.port}"
        return self.run_command("fmltp", "shell", url, stdin="\n".join(lines), status=status)

    def replies(self, done: subprocess.CompletedProcess[str]) -> list[str]:
        return [line for line in done.stdout.splitlines() if not line.startswith("* ")]

    def test_whole_session(self) -> None:
        """FM-11, FM-12, FM-13: handshake, failed and good AUTH, HELP, a command of the application, QUIT."""
        done = self.shell(
            "HELP", f"AUTH ann {GUESS}", f"AUTH ann {PASSWORD}", "help", "queue So What", "PLAYING", "QUIT", "x"
        )
        self.assertEqual(
            self.replies(done),
            [
                "200 Commands: AUTH, HELP, QUIT",
                "151 Authentication failed.",
                "150 Authentication successful.",
                "200 Commands: AUTH, HELP, QUIT, QUEUE, PLAYING, SKIP",
                "200 So What is number 1 in the queue.",
                "200 1 in the queue:",
                "1. So What (for ann)",
                "200 Goodbye.",
            ],
        )
        self.assertEqual(done.stderr, "")

    def test_failures(self) -> None:
        """FM-11: the third failed AUTH ends it, which is a failure of the command as well; so is that nobody is there. A
        wrong URL is wrong usage."""
        done = self.shell(*[f"AUTH ann {GUESS}"] * 4, status=1)
        self.assertEqual(self.replies(done), ["151 Authentication failed."] * 3)
        self.assertRegex(done.stderr, r"^connectctl: .+\n$")
        done = self.run_command("fmltp", "shell", "fmltp://127.0.0.1:1", status=1)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.run_command("fmltp", "shell", "lekt://127.0.0.1:1", status=2)

    def test_probe(self) -> None:
        """Each step with its time, the password from a pipe."""
        url = f"fmltp://ann@127.0.0.1:{self.port}"
        done = self.run_command("--json", "probe", url, "--password-stdin", stdin=PASSWORD)
        steps = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(
            [step.get("step") for step in steps],
            ["connect", "VEX_INIT", "KEX_INIT", "KEX_ID", "KEX_FINAL", "AUTH", "HELP", "QUIT", "closed", None],
        )
        self.assertTrue(steps[-1]["ok"])
        times = [step["milliseconds"] for step in steps]
        self.assertEqual(times, sorted(times))
        self.run_command("probe", url, "--password-stdin", stdin=GUESS, status=1)


class TerminalTests(Case):
    """At a terminal"""

    def typist(self, url: str) -> Typist:
        return Typist(self, "--config", str(self.configuration), "fmltp", "shell", url, environment=self.environment)

    def test_whole_session(self) -> None:
        """FM-11: asked for a password without echo; line editing, completion from HELP, and a history without what has
        passwords in it. COM-9: the password is nowhere afterwards."""
        typist = self.typist(f"fmltp://ann@127.0.0.1:{self.port}")
        typist.sees(r"FlexMusic connectd, version 0\.0\.0")
        typist.sees("Password for ann: ")
        typist.types(f"{GUESS}\n")
        typist.sees(r"151 Authentication failed\.")
        typist.sees("ann@127.0.0.1> ")
        typist.types("AUTH ann\n")
        typist.sees("Password for ann: ")
        typist.types(f"{PASSWORD}\n")
        typist.sees(r"150 Authentication successful\.")
        typist.sees("> ")
        typist.types("qu\t")  # QUEUE or QUIT, then QUEUE
        typist.types("e\tBlue in Green\n")
        typist.sees(r"200 Blue in Green is number 1 in the queue\.")
        typist.sees("> ")
        typist.types(f"AUTH ann {GUESS}\n")
        typist.sees("400 Invalid command")
        typist.sees("> ")
        typist.types("\x1b[A\n")  # the line before, which is not the one with the password
        typist.sees(r"200 Blue in Green is number 2 in the queue\.")
        typist.sees("> ")
        typist.types("HELP sk\t\n")
        typist.sees("SKIP .count.: Go on to the next title")
        typist.sees("> ")
        command = Path(f"/proc/{typist.process.pid}/cmdline").read_bytes()
        sessions = json.dumps(AdminClient(f"unix:{self.folder}/state/admin.sock").get("/sessions"))
        self.assertIn("ann", sessions)
        typist.types("\x04")
        typist.sees(r"200 Goodbye\.")
        self.assertEqual(typist.process.wait(LIMIT), 0)
        self.daemon.process.send_signal(signal.SIGTERM)
        self.daemon.exit_status()
        self.search(sessions.encode(), command)
        self.assertNotIn(PASSWORD, typist.screen)

    def search(self, *others: bytes) -> None:
        """Nothing that was written has a password in it."""
        written = {str(index): data for index, data in enumerate(others)}
        for file in self.folder.rglob("*"):
            if file.is_file():
                written[file.name] = file.read_bytes()
        self.assertIn(
            b'"event": "accepted"' if b'": "' in written["events.jsonl"] else b'"accepted"', written["events.jsonl"]
        )
        for secret in (PASSWORD, GUESS):
            found = [name for name, data in written.items() if any(form in data for form in forms(secret.encode()))]
            self.assertEqual(found, [])
        self.assertNotIn("Traceback", self.daemon.output + self.daemon.errors)

    def test_server_goes_away(self) -> None:
        """Somebody who is in the middle of a line is told, and gets the terminal back as it was."""
        import termios

        typist = self.typist(f"fmltp://127.0.0.1:{self.port}")
        before = termios.tcgetattr(typist._ours)
        typist.sees("127.0.0.1> ")
        typist.types("HEL")
        typist.sees("HEL")
        self.daemon.process.send_signal(signal.SIGTERM)
        typist.sees("Server is shutting down")
        self.assertEqual(typist.process.wait(LIMIT), 1)
        after = termios.tcgetattr(typist._ours)
        self.assertEqual(after[3] & termios.ECHO, before[3] & termios.ECHO)

    def test_interrupted(self) -> None:
        """Ctrl-C"""
        typist = self.typist(f"fmltp://127.0.0.1:{self.port}")
        typist.sees("127.0.0.1> ")
        typist.types("\x03")
        self.assertEqual(typist.process.wait(LIMIT), 0)


class Script(Lines):
    """Somebody whose lines are known beforehand.

    :param lines: what they type; None at the end, an exception where they cannot.
    :param passwords: what they type without echo.
    """

    def __init__(self, *lines: Any, passwords: tuple[str, ...] = (), interactive: bool = True) -> None:
        super().__init__()
        self.interactive = interactive
        self.questions: list[str] = []
        self._lines = [*lines, None]
        self._passwords = list(passwords)

    def read(self, reactor: Any, question: str) -> Deferred[str | None]:
        self.questions.append(question)
        line = self._lines.pop(0)
        return fail(line) if isinstance(line, Exception) else succeed(line)

    def read_password(self, reactor: Any, question: str) -> Deferred[str]:
        self.questions.append(question)
        return succeed(self._passwords.pop(0))


class ShellTests(RealCase):
    """The shell in this process"""

    async def talk(self, source: Lines, username: str = "", **settings: Any) -> list[str]:
        """What is shown, warnings last."""
        listener = self.listener(**{"handler": "jukebox", **settings})
        self.shown: list[str] = []
        at = f"{username}@" if username else ""
        shell = Shell(reactor, f"fmltp://{at}127.0.0.1:{self.port(listener)}", source, self.shown.append, self.fail)
        await shell.run()
        return self.shown[3:]

    async def test_log_in(self) -> None:
        """FM-11: the user of the URL is asked for the password, and so is whoever types AUTH with a name alone."""
        source = Script("auth ann", "PLAYING", passwords=("wrong", ANN.password))
        shown = await self.talk(source, "ann")
        self.assertEqual(
            shown,
            ["151 Authentication failed.", "150 Authentication successful.", "200 Nothing plays.", "200 Goodbye."],
        )
        self.assertEqual(source.questions[:3], ["Password for ann: ", "ann@127.0.0.1> ", "Password for ann: "])
        self.assertIn("PLAYING", source.names)

    async def test_log_in_by_a_line(self) -> None:
        """A whole AUTH is sent as it is, and the names of commands are asked for again."""
        source = Script(f"AUTH ann {ANN.password}", "QUIT")
        self.assertEqual(await self.talk(source), ["150 Authentication successful.", "200 Goodbye."])
        self.assertIn("QUEUE", source.names)

    async def test_odd_input(self) -> None:
        """What cannot be sent is told, and the next line is read."""
        wrong = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        source = Script(wrong, "", "AUTH ann", "PLAYING \a", passwords=("two\nlines",))
        shown = await self.talk(source)
        self.assertEqual([line[:9] for line in shown], ["* this is", "* command", "* command", "200 Goodb"])

    async def test_no_accounts(self) -> None:
        """Nobody is asked for a password then, even where the URL names a user."""
        source = Script("PLAYING")
        self.assertEqual(await self.talk(source, "ann", accounts=False), ["200 Nothing plays.", "200 Goodbye."])

    async def test_pipe(self) -> None:
        """Without a terminal, AUTH with a name alone is a command like any other."""
        source = Script("AUTH ann", interactive=False)
        self.assertEqual(await self.talk(source, "ann"), ["411 Too few arguments.", "200 Goodbye."])
        self.assertEqual(source.names, [])

    async def test_thrown_out(self) -> None:
        """FM-11: the third failure."""
        source = Script("AUTH ann", "AUTH ann", passwords=("a", "b", "c"))
        await self.fails(Deferred.fromCoroutine(self.talk(source, "ann")), ConnectionEnded)
        self.assertEqual(self.shown[3:], ["151 Authentication failed."] * 3)

    async def test_ended_meanwhile(self) -> None:
        """A line that is still being typed is given up when the server ends the session."""
        typing: Deferred[str | None] = Deferred()

        class Slow(Script):
            def read(self, reactor: Any, question: str) -> Deferred[str | None]:
                return typing

        talking = Deferred.fromCoroutine(self.talk(Slow(), accounts=False))
        await self.until("a session", lambda: self.recorder.named("accepted"))
        [listener] = self.listeners
        await listener.drain(5.0)
        error = await self.fails(talking, ConnectionEnded)
        self.assertIn("Server is shutting down", error.reason)
        self.assertIn("420 Server is shutting down", self.shown)
        typing.callback("too late")


class CommandTests(SynchronousTestCase):
    """``connectctl fmltp shell`` up to the reactor"""

    def test_source(self) -> None:
        """A terminal is edited on, anything else is read."""
        for terminal, expected in ((True, "Terminal"), (False, "Lines")):
            mains: list[Any] = []
            self.patch(foreground, "run", mains.append)
            self.patch(sys, "stdin", mock.Mock(isatty=lambda terminal=terminal: terminal))
            sources = {name: mock.MagicMock() for name in ("Terminal", "Lines")}
            for name, source in sources.items():
                self.patch(terminal_module, name, source)
            assert shell_command.callback is not None
            shell_command.callback("fmltp://127.0.0.1")
            self.assertEqual([name for name, source in sources.items() if source.called], [expected])
            with self.assertRaises(URLError):
                shell_command.callback("lekt://127.0.0.1")
                mains[-1](reactor).send(None)

    def test_printed(self) -> None:
        """What a server says cannot move the cursor."""
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            print_line("a\tb\x1b[2J")
            print_warning("mind")
        self.assertEqual(output.getvalue(), "a\tb\N{REPLACEMENT CHARACTER}[2J\n")
        self.assertEqual(errors.getvalue(), "connectctl: mind\n")


class FakeReadline:
    """A line that is being edited, up to the cursor."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.history: list[str] = []

    def get_line_buffer(self) -> str:
        return self.line

    def get_begidx(self) -> int:
        return self.line.rfind(" ") + 1

    def add_history(self, line: str) -> None:
        self.history.append(line)


class TerminalPartTests(SynchronousTestCase):
    def completed(self, line: str) -> list[str]:
        """What Tab offers."""
        terminal = Terminal()
        terminal.names = ["AUTH", "HELP", "QUEUE", "QUIT"]
        terminal._readline = FakeReadline(line)
        word = line[line.rfind(" ") + 1 :]
        found: list[str] = []
        while (one := terminal.complete(word, len(found))) is not None:
            found.append(one)
        return found

    def test_completion(self) -> None:
        """The first word of a line, and the one behind HELP."""
        self.assertEqual(self.completed("qu"), ["QUEUE ", "QUIT "])
        self.assertEqual(self.completed("help a"), ["AUTH "])
        self.assertEqual(self.completed(""), ["AUTH ", "HELP ", "QUEUE ", "QUIT "])
        self.assertEqual(self.completed("QUEUE a"), [])

    def test_history(self) -> None:
        """COM-9: lines with passwords are in none."""
        terminal = Terminal()
        terminal._readline = readline = FakeReadline("")
        for line in ("HELP", "AUTH ann x", "auth ann x", "", "QUIT"):
            with mock.patch("builtins.input", return_value=line):
                self.assertEqual(terminal.read_line("> "), line)
        self.assertEqual(readline.history, ["HELP", "QUIT"])
        with mock.patch("builtins.input", side_effect=EOFError), contextlib.redirect_stdout(io.StringIO()):
            self.assertIsNone(terminal.read_line("> "))

    def test_password(self) -> None:
        with mock.patch("getpass.getpass", return_value="xyzzy"):
            self.assertEqual(Terminal().type_password("Password: "), "xyzzy")
        self.assertRaises(OSError, Lines().type_password, "Password: ")


class ThreadTests(RealCase):
    """Waiting for lines does not hold up the reactor"""

    async def test_pipe(self) -> None:
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        with Lines(reading) as lines:
            waiting = lines.read(reactor, "")
            os.write(writing, b"one\n\xff\n")
            self.assertEqual(await waiting, "one")
            await self.fails(lines.read(reactor, ""), UnicodeDecodeError)
            await self.fails(lines.read_password(reactor, ""), OSError)
            os.close(writing)
            self.assertIsNone(await lines.read(reactor, ""))


class NameTests(SynchronousTestCase):
    def test_names(self) -> None:
        """Our HELP, and what others write."""
        self.assertEqual(command_names("Commands: AUTH, HELP\r\nx"), ["AUTH", "HELP"])
        self.assertEqual(command_names("HELP and QUIT are commands, A is none"), ["HELP", "QUIT"])


class LineTests(SynchronousTestCase):
    """Piped input"""

    def read(self, data: bytes) -> list[Any]:
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        with os.fdopen(writing, "wb") as file:
            file.write(data)
        lines = Lines(reading)
        found: list[Any] = []
        while True:
            try:
                line = lines.read_line("")
            except ValueError as error:
                line = type(error).__name__
            found.append(line)
            if line is None or line == LineTooLong.__name__:
                return found

    def test_lines(self) -> None:
        self.assertEqual(self.read(b"a\r\nb\n\nc"), ["a", "b", "", "c", None])
        self.assertEqual(self.read(b"\xff\nb\n"), ["UnicodeDecodeError", "b", None])
        self.assertEqual(self.read(b""), [None])

    def test_bound(self) -> None:
        """COM-2"""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.set_blocking(writing, False)
        lines = Lines(reading)
        lines._buffer = b"x" * LONGEST_LINE
        os.write(writing, b"x")
        os.close(writing)
        self.assertRaises(LineTooLong, lines.read_line, "")
