"""Passwords from a person or a pipe."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import time
import warnings
from getpass import GetPassWarning

import click
from click.testing import CliRunner, Result
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.cli import password
from connectd.cli.password import new_password, password_option
from connectd.directory import Database
from connectd.directory.schemes import MAXIMUM_PASSWORD
from tests.cli.directory_case import DirectoryCase
from tests.processes import LIMIT, ROOT

CODE = "from connectd.cli.main import main; main()"


@click.command()
@password_option
def ask(password_stdin: bool) -> None:
    """Shows what was taken, as no command does."""
    click.echo(ascii(new_password("Zoë\x1b", from_stdin=password_stdin)))


class PipedTests(SynchronousTestCase):
    def piped(self, octets: bytes) -> Result:
        return CliRunner().invoke(ask, ["--password-stdin"], input=octets)

    def assert_taken(self, octets: bytes, expected: str) -> None:
        self.assertEqual(self.piped(octets).output, f"{expected!a}\n")

    def assert_refused(self, octets: bytes, problem: str) -> None:
        result = self.piped(octets)
        self.assertEqual((result.exit_code, result.output), (1, f"Error: {problem} (nothing was changed)\n"))

    def test_one_line_ending_goes(self) -> None:
        for octets, expected in (
            (b"secret", "secret"),
            (b"secret\n", "secret"),
            (b"secret\r\n", "secret"),
            (b"secret\n\n", "secret\n"),
            (b"secret\r\n\r\n", "secret\r\n"),
            (b"secret\r", "secret\r"),
            (b" two words \n", " two words "),
            ("schlüssel 🗝\n".encode(), "schlüssel 🗝"),
        ):
            self.assert_taken(octets, expected)

    def test_empty(self) -> None:
        for octets in (b"", b"\n", b"\r\n"):
            self.assert_refused(octets, "a password cannot be empty")

    def test_length(self) -> None:
        longest = "x" * MAXIMUM_PASSWORD
        for ending in ("", "\n", "\r\n"):
            self.assert_taken((longest + ending).encode(), longest)
            for more in ("x", "xx", "xxx", "\nmore", "x" * 100_000):
                self.assert_refused(
                    (longest + more + ending).encode(), password.TOO_LONG.removesuffix(" (nothing was changed)")
                )

    def test_not_utf8(self) -> None:
        """COM-9: the message says where, and nothing of what is there."""
        self.assert_refused(b"caf\xe9\n", "the password on standard input is not UTF-8: byte 4 is wrong")

    @settings(deadline=None, max_examples=60)
    @given(st.text(min_size=1, max_size=200), st.sampled_from([b"\n", b"\r\n"]))
    def test_whatever_is_piped_in(self, text: str, ending: bytes) -> None:
        assume(ending == b"\r\n" or not text.endswith("\r"))
        self.assert_taken(text.encode() + ending, text)

    def test_terminal(self) -> None:
        """It would be shown while it is typed."""
        leader, follower = os.openpty()
        self.addCleanup(os.close, leader)
        with os.fdopen(follower) as terminal:
            self.patch(sys, "stdin", terminal)
            with self.assertRaises(click.UsageError) as raised:
                new_password("x", from_stdin=True)
        self.assertIn("leave it out to be asked", str(raised.exception))

    def test_closed(self) -> None:
        self.patch(sys, "stdin", None)
        with self.assertRaises(click.ClickException) as raised:
            new_password("x", from_stdin=True)
        self.assertIn("standard input is closed", str(raised.exception))

    def test_unreadable(self) -> None:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        self.addCleanup(os.close, descriptor)
        self.patch(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.FileIO(descriptor, closefd=False))))
        with self.assertRaises(click.ClickException) as raised:
            new_password("x", from_stdin=True)
        self.assertIn("standard input cannot be read: Bad file descriptor", str(raised.exception))


class TypedTests(SynchronousTestCase):
    def typed(self, *answers: str | BaseException) -> tuple[Result, list[str]]:
        left, asked = list(answers), []

        def answer(question: str) -> str:
            asked.append(question)
            said = left.pop(0)
            if isinstance(said, Warning):
                warnings.warn(said, stacklevel=1)
                return "read from a pipe, for everybody to see"
            if isinstance(said, BaseException):
                raise said
            return said

        self.patch(password, "getpass", answer)
        return CliRunner().invoke(ask), asked

    def test_twice(self) -> None:
        result, asked = self.typed("sécret", "sécret")
        self.assertEqual(result.output, f"{'sécret'!a}\n")
        self.assertEqual(asked, ["Password for Zoë\\x1b: ", "The same again: "])

    def test_different(self) -> None:
        result, _ = self.typed("sécret", "secret")
        self.assertEqual(
            (result.exit_code, result.output), (1, "Error: the two passwords are not the same (nothing was changed)\n")
        )

    def test_empty(self) -> None:
        """It is not asked for again then."""
        result, asked = self.typed("")
        self.assertIn("cannot be empty", result.output)
        self.assertEqual((result.exit_code, len(asked)), (1, 1))

    def test_too_long(self) -> None:
        result, _ = self.typed("é" * 513, "é" * 513)
        self.assertIn("at most 1024 bytes", result.output)

    def test_no_terminal(self) -> None:
        """What getpass would read in the open is not taken."""
        result, _ = self.typed(GetPassWarning("Can not control echo on the terminal."))
        self.assertEqual(
            result.output, "Error: there is no terminal to ask for the password on; pipe it in with --password-stdin\n"
        )

    def test_not_text(self) -> None:
        for answer in ("caf\udce9", UnicodeDecodeError("utf-8", b"caf\xe9", 3, 4, "it is")):
            result, _ = self.typed(answer)
            self.assertEqual(result.output, "Error: the password is not UTF-8 (nothing was changed)\n")

    def test_interrupted(self) -> None:
        for end in (KeyboardInterrupt(), EOFError()):
            result, _ = self.typed("secret", end)
            self.assertEqual(result.exit_code, 1)
            self.assertNotIn("secret", result.output)


class Terminal:
    """A process of connectctl on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.shown = b""
        self.pid, self.leader = pty.fork()
        if not self.pid:
            os.chdir(ROOT)
            os.execv(sys.executable, [sys.executable, "-c", CODE, *arguments])

    def read_until(self, text: bytes | None) -> None:
        """Wait until something new is shown, or until the end."""
        begin, end = len(self.shown), time.monotonic() + LIMIT
        while text is None or text not in self.shown[begin:]:
            ready, _, _ = select.select([self.leader], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"{text!r} was not shown within {LIMIT:g} s, but {self.shown!r}")
            try:
                octets = os.read(self.leader, 4096)
            except OSError:  # how Linux tells that the other end is closed
                octets = b""
            if not octets:
                if text is None:
                    return
                raise AssertionError(f"{text!r} was not shown, but {self.shown!r}")
            self.shown += octets

    def type(self, text: bytes) -> None:
        os.write(self.leader, text)

    def end(self) -> int:
        """The exit status."""
        self.read_until(None)
        os.close(self.leader)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


class TerminalTests(DirectoryCase):
    """Real processes, for what the terminal and the table of processes show."""

    def setUp(self) -> None:
        super().setUp()
        self.configuration.write_text('[daemon]\nstatus = ""\n[[listener]]\nprotocol = "lekt"\nlisten = "tcp:7001"\n')

    def start(self, *arguments: str) -> Terminal:
        return Terminal("--config", str(self.configuration), *arguments)

    def test_prompt(self) -> None:
        """What is typed is taken, and not shown."""
        terminal = self.start("account", "add", "Alice")
        terminal.read_until(b"Password for Alice: ")
        terminal.type("schlüssel\n".encode())
        terminal.read_until(b"The same again: ")
        terminal.type("schlüssel\n".encode())
        self.assertEqual(terminal.end(), 0, terminal.shown)
        self.assertIn(b'added the account "Alice"', terminal.shown)
        self.assertNotIn(b"schl", terminal.shown)
        with Database.open(str(self.path)) as database:
            self.assertIsNotNone(database.accounts.find("alice"))

    def test_interrupt(self) -> None:
        """Ctrl-C leaves one line, an account less, and a terminal that shows what is typed again."""
        terminal = self.start("account", "add", "Alice")
        terminal.read_until(b"Password for Alice: ")
        terminal.type(b"\x03")
        self.assertEqual(terminal.end(), 1, terminal.shown)
        self.assertTrue(terminal.shown.rstrip().endswith(b"connectctl: interrupted"), terminal.shown)
        with Database.open(str(self.path)) as database:
            self.assertIsNone(database.accounts.find("alice"))

    def test_pipe(self) -> None:
        """Without a terminal: --password-stdin works, and the prompt says so in one line."""
        command = [sys.executable, "-c", CODE, "--config", str(self.configuration), "account", "add"]

        def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                [*command, *arguments],
                input=b"secret\r\n",
                cwd=ROOT,
                capture_output=True,
                start_new_session=True,
                timeout=LIMIT,
                check=False,
            )

        refused = run("Alice")
        self.assertEqual(
            (refused.returncode, refused.stdout, refused.stderr),
            (
                1,
                b"",
                b"connectctl: there is no terminal to ask for the password on; pipe it in with --password-stdin\n",
            ),
        )
        added = run("Alice", "--password-stdin")
        self.assertEqual((added.returncode, added.stderr), (0, b""))
