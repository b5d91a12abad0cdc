"""connectctl probe."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from connectd.cli import password
from connectd.cli.probe import Trace
from connectd.net import foreground
from connectd.net.url import URLError, without_password
from tests.cli.test_main import ROOT, CommandCase, connectctl_process

URL = "toy://play.example:7000"


class ProbeCase(CommandCase):
    """The command with a fake clock in place of the reactor."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.waits = 0.0
        self.interrupted = False
        self.patch(foreground, "run", self.run_work)
        ticks = count()
        self.patch(Trace.__init__, "__defaults__", (lambda: next(ticks) * 0.0105,))

    def run_work(self, work: Callable[[Any], Coroutine[Any, Any, None]]) -> bool:
        """As :func:`connectd.net.foreground.run`, on the fake clock."""
        working = Deferred.fromCoroutine(work(self.clock))
        self.clock.advance(self.waits)
        if self.interrupted:
            working.cancel()
            self.failureResultOf(working)
            return False
        self.successOf(working)
        return True

    def successOf(self, working: Deferred[None]) -> None:
        results: list[object] = []
        working.addBoth(results.append)
        [result] = results
        if isinstance(result, Failure):
            result.raiseException()


class ProbeTests(ProbeCase):
    """What is printed, and when it ends."""

    def test_steps(self) -> None:
        """Each step has its time since the start; what a peer named itself cannot steer the terminal."""
        seen: list[object] = []

        def probing(url: str, report: Callable[[str, str], None], reactor: Any) -> Deferred[None]:
            seen.extend((url, reactor))
            report("hello", "sent")
            report("welcome", "to \x1b[2J")
            report("nothing", "")
            return succeed(None)

        self.toy.probing = probing
        result = self.run_command("probe", URL)
        self.assert_ends(result, 0)
        self.assertEqual(
            result.stdout.splitlines(),
            [
                "    10.500 ms  hello: sent",
                "    21.000 ms  welcome: to \\x1b[2J",
                "    31.500 ms  nothing",
                "    42.000 ms  the whole process went well",
            ],
        )
        self.assertEqual(seen, [URL, self.clock])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_json(self) -> None:
        def probing(url: str, report: Callable[[str, str], None], reactor: Any) -> Deferred[None]:
            report("hello", "sent")
            return succeed(None)

        self.toy.probing = probing
        result = self.run_command("probe", URL, "--json")
        self.assert_ends(result, 0)
        self.assertEqual(
            [json.loads(line) for line in result.stdout.splitlines()],
            [{"milliseconds": 10.5, "step": "hello", "detail": "sent"}, {"milliseconds": 21.0, "ok": True}],
        )

    def test_failure(self) -> None:
        self.toy.probing = lambda url, report, reactor: fail(ConnectionError("it said\nno"))
        self.assert_ends(self.run_command("probe", URL), 1, f"{URL}: it said no")
        result = self.run_command("probe", URL, "--json")
        self.assert_ends(result, 1, f"{URL}: it said no")
        self.assertEqual(json.loads(result.stdout)["error"], "it said\nno")

    def test_failure_without_words(self) -> None:
        self.toy.probing = lambda url, report, reactor: fail(CancelledError())
        self.assert_ends(self.run_command("probe", URL), 1, f"{URL}: CancelledError")

    def test_raises(self) -> None:
        def probing(url: str, report: Callable[[str, str], None], reactor: Any) -> Any:
            raise RuntimeError("out of order")

        self.toy.probing = probing
        self.assert_ends(self.run_command("probe", URL), 1, f"{URL}: out of order")

    def test_timeout(self) -> None:
        """A server that does not go on is given up, and what was last heard of it is told."""
        waiting: Deferred[None] = Deferred()

        def probing(url: str, report: Callable[[str, str], None], reactor: Any) -> Deferred[None]:
            report("hello", "sent")
            return waiting

        self.toy.probing = probing
        self.waits = 2.5
        result = self.run_command("probe", URL, "--timeout", "2.5")
        self.assert_ends(result, 1, f"{URL}: gave up after 2.5 seconds; the last step was hello")
        self.assertTrue(waiting.called)

    def test_timeout_before_the_first_step(self) -> None:
        self.toy.probing = lambda url, report, reactor: Deferred()
        self.waits = 60.0
        self.assert_ends(self.run_command("probe", URL), 1, f"{URL}: gave up after 60 seconds")

    def test_interrupted(self) -> None:
        self.toy.probing = lambda url, report, reactor: Deferred()
        self.interrupted = True
        self.assert_ends(self.run_command("probe", URL), 1, f"{URL}: interrupted")

    def test_wrong_url(self) -> None:
        """What is wrong with the command line is no failure of the server: exit status 2."""
        self.toy.probing = lambda url, report, reactor: fail(URLError(f"{url}: names no host"))
        for url, problem in [
            (URL, f"{URL}: names no host"),
            ("play.example:7000", '"play.example:7000" is not a URL; write PROTOCOL://HOST:PORT'),
            ("toi://host", 'there is no protocol "toi"; known are broken, toy; did you mean "toy"?'),
        ]:
            result = self.run_command("probe", url)
            self.assertEqual(result.exit_code, 2)
            self.assertEqual(result.stderr, f"connectctl: {problem} (see connectctl probe --help)\n")

    def test_scheme_in_capitals(self) -> None:
        self.toy.probing = lambda url, report, reactor: succeed(None)
        self.assert_ends(self.run_command("probe", "TOY://x"), 0)

    def test_broken_protocol(self) -> None:
        result = self.run_command("probe", "broken://host")
        self.assertEqual(result.exit_code, 1)
        self.assertIn('the protocol "broken" cannot be loaded', result.stderr)

    def test_password_is_not_told(self) -> None:
        """COM-9: a URL is shown without the password that somebody put in it."""
        for url in ("toy://ann:s3cret@host:1?a=b", "toy://ann:s3/c@ret@host", "//ann:s3cret@host"):
            self.assertNotIn("s3", without_password(url))
        self.assertEqual(without_password("toy://ann@host:1/?a=b"), "toy://ann@host:1/?a=b")
        self.toy.probing = lambda url, report, reactor: fail(ConnectionError("no"))
        self.assert_ends(self.run_command("probe", "toy://ann:s3cret@host"), 1, "toy://ann:…@host: no")


class PasswordTests(ProbeCase):
    """A probe of a protocol whose clients log in."""

    def setUp(self) -> None:
        super().setUp()
        self.given: list[dict[str, Any]] = []
        self.toy.takes_password = True
        self.asked: list[str] = []
        self.answer = "sw\N{LATIN SMALL LETTER O WITH DIAERESIS}rdfish"
        self.patch(password, "getpass", self.ask)

        def probing(url: str, report: Callable[[str, str], None], reactor: Any, **options: Any) -> Deferred[None]:
            self.given.append(options)
            return succeed(None)

        self.toy.probing = probing

    def ask(self, question: str) -> str:
        self.asked.append(question)
        return self.answer

    def test_asked_for(self) -> None:
        """COM-9: the password of the account in the URL is asked for, once."""
        self.assert_ends(self.run_command("probe", "toy://ann%20b@host:1?a=b@c"), 0)
        self.assertEqual(self.asked, ["Password for ann b: "])
        self.assertEqual(self.given, [{"password": self.answer.encode()}])

    def test_may_be_empty(self) -> None:
        self.answer = ""
        self.assert_ends(self.run_command("probe", "toy://ann@host"), 0)
        self.assertEqual(self.given, [{"password": b""}])

    def test_too_long(self) -> None:
        self.answer = "x" * 1025
        self.assert_ends(self.run_command("probe", "toy://ann@host"), 1, password.TOO_LONG)

    def test_nobody_to_ask_for(self) -> None:
        """Without an account nobody is asked; one in the URL with a password is the URL's reader's affair."""
        for url in (URL, "toy://ann:s3cret@host", "toy://host/a@b"):
            self.assert_ends(self.run_command("probe", url), 0)
        self.assertEqual((self.asked, self.given), ([], [{}, {}, {}]))

    def test_from_a_pipe(self) -> None:
        """--password-stdin also serves a server that has a password of its own."""
        for url in ("toy://ann@host", URL):
            self.assert_ends(self.run_command("probe", url, "--password-stdin", input="secret\n"), 0)
        self.assertEqual((self.asked, self.given), ([], 2 * [{"password": b"secret"}]))

    def test_other_ways_in(self) -> None:
        """A protocol may have clients that log in without a password: nobody is asked, and a pipe is still read."""
        self.toy.needs_password = lambda url: "token" not in url
        for url in ("toy://ann@host?token=x", "toy://ann@host"):
            self.assert_ends(self.run_command("probe", url), 0)
        self.assertEqual(self.given, [{}, {"password": self.answer.encode()}])
        self.assert_ends(self.run_command("probe", "toy://ann@host?token=x", "--password-stdin", input="secret\n"), 0)
        self.assertEqual(self.given[2], {"password": b"secret"})

    def test_no_use_for_it(self) -> None:
        """A protocol that takes no password is not given one."""
        self.toy.takes_password = False
        self.assert_ends(self.run_command("probe", "toy://ann@host"), 0)
        self.assertEqual(self.given, [{}])
        result = self.run_command("probe", "toy://ann@host", "--password-stdin", input="secret\n")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("toy takes no password; leave --password-stdin out", result.stderr)


class ProcessTests(SynchronousTestCase):
    """With the real reactor and a real protocol."""

    def setUp(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.url = f"lekt://127.0.0.1:{self.listener.getsockname()[1]}"

    def test_nobody_there(self) -> None:
        self.listener.close()
        ended = connectctl_process("probe", self.url)
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr, rf"\Aconnectctl: {self.url}: .*refused.*\n\Z")

    def test_interrupt(self) -> None:
        """Ctrl-C hangs up and ends with one line."""
        process = subprocess.Popen(
            [sys.executable, "-c", "from connectd.cli.main import main; main()", "probe", self.url],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            self.listener.settimeout(60)
            peer, _ = self.listener.accept()
            with peer:
                peer.settimeout(60)
                peer.recv(1)
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        self.assertEqual((process.returncode, errors), (1, f"connectctl: {self.url}: interrupted\n"))


class ClosedOutputTests(SynchronousTestCase):
    def test_nobody_reads(self) -> None:
        """``connectctl probe … | head`` goes on without a word about who no longer reads."""
        for arguments in (["probe", "lekt://127.0.0.1:1"], ["version"]):
            reading, writing = os.pipe()
            os.close(reading)
            done = subprocess.run(
                [sys.executable, "-c", "from connectd.cli.main import main; main()", *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=writing,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
            )
            os.close(writing)
            self.assertEqual(done.returncode, 1)
            self.assertNotIn("pipe", done.stderr.lower())
            self.assertLessEqual(len(done.stderr.splitlines()), 1)
