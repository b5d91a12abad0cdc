"""The benchmarks' harness does what it says. Nothing here looks at a clock: counts are tiny, numbers only have to be."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
from ipaddress import IPv4Address
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import __main__ as command
from benchmarks.catalogue import BENCHMARKS, REPORTS
from benchmarks.claims import lekt_encoding, lekt_heartbeat, lekt_idle, lekt_join
from benchmarks.claims.places import BARE, LEKT
from benchmarks.harness import cost, usage
from benchmarks.harness.benchmark import Benchmark, Number, Report, Sample
from benchmarks.harness.child import ChildError
from benchmarks.harness.pairs import Result, run
from benchmarks.harness.sources import SOURCES, source
from benchmarks.harness.timing import each
from benchmarks.reports import lekt_events
from connectd.protocols.lekt.packets import Entry


def _benchmark(subject: float, baseline: float, **limits: float) -> Benchmark:
    return Benchmark(
        name="one",
        claim="a claim",
        unit="pieces",
        subject=lambda: Sample(subject, {"a note": 7.0}),
        baseline=lambda: Sample(baseline),
        baseline_name="the other",
        **limits,  # type: ignore[arg-type]
    )


class VerdictTests(SynchronousTestCase):
    """A claim is kept or not."""

    def test_limits(self) -> None:
        """Each limit alone decides, and meeting it exactly keeps the claim."""
        for limits, passed in (
            ({"most": 2.0}, True),
            ({"most": 1.9}, False),
            ({"least": 2.0}, True),
            ({"least": 2.1}, False),
            ({"most_value": 10.0}, True),
            ({"most_value": 9.0}, False),
        ):
            result = run(_benchmark(10.0, 5.0, **limits), 1)
            self.assertEqual(result.passed, passed, limits)

    def test_median(self) -> None:
        """One pair out of line decides nothing; pairs are compared one by one."""
        samples = [Sample(value) for value in (1.0, 9.0, 1.0)]
        ones = [Sample(1.0)] * 3
        self.assertTrue(Result(_benchmark(0, 0, most=1.0), samples, ones).passed)
        self.assertFalse(
            Result(_benchmark(0, 0, most=1.0), [*samples, Sample(9.0), Sample(9.0)], [*ones, *ones[:2]]).passed
        )

    def test_interleaved(self) -> None:
        """Subject and baseline take turns, as often as is asked for; counts need one pair."""
        turns: list[str] = []

        def sample(side: str) -> Sample:
            turns.append(side)
            return Sample(1.0)

        for exact, expected in ((False, "ABABAB"), (True, "AB")):
            turns.clear()
            benchmark = Benchmark(
                name="turns",
                claim="",
                unit="",
                subject=lambda: sample("A"),
                baseline=lambda: sample("B"),
                baseline_name="",
                exact=exact,
            )
            run(benchmark, 3)
            self.assertEqual("".join(turns), expected)

    def test_every_claim_has_a_limit(self) -> None:
        """A benchmark without a limit could not fail."""
        for benchmark in BENCHMARKS.values():
            self.assertTrue(benchmark.limits, benchmark.name)
        self.assertFalse(BENCHMARKS.keys() & REPORTS.keys())


class CommandTests(SynchronousTestCase):
    """``python -m benchmarks``."""

    def run_command(self, *arguments: str, benchmark: Benchmark) -> tuple[int, str]:
        def broken() -> list[Number]:
            raise ChildError("the child has ended")

        reports = {
            "numbers": Report("numbers", "some numbers", lambda: [Number("so many", 1234.5, "pieces")]),
            "broken": Report("broken", "no numbers", broken),
        }
        output = io.StringIO()
        with (
            mock.patch.object(command, "BENCHMARKS", {"one": benchmark}),
            mock.patch.object(command, "REPORTS", reports),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
        ):
            try:
                status = command.main(arguments)
            except SystemExit as end:
                status = int(end.code or 0)
        return status, output.getvalue()

    def test_pass_and_fail(self) -> None:
        """The table names the verdict, and the exit status is it."""
        status, text = self.run_command("one", benchmark=_benchmark(10, 5, most=2.0))
        self.assertEqual(status, 0)
        self.assertIn("PASS (ratio <= 2; 9 pairs)", text)
        status, text = self.run_command("one", "--pairs", "2", benchmark=_benchmark(10, 5, most=1.5))
        self.assertEqual(status, 1)
        self.assertIn("FAIL (ratio <= 1.5; 2 pairs)", text)
        self.assertIn("a note", text)

    def test_report(self) -> None:
        """A report is printed; one that cannot be measured is a failure in one line."""
        status, text = self.run_command("numbers", benchmark=_benchmark(1, 1))
        self.assertEqual((status, "so many" in text), (0, True))
        status, text = self.run_command("broken", benchmark=_benchmark(1, 1))
        self.assertEqual((status, text.strip()), (1, "broken: cannot be measured: the child has ended"))

    def test_json(self) -> None:
        """All numbers go to the file."""
        path = self.mktemp()
        self.run_command("one", "numbers", "--json", path, benchmark=_benchmark(10, 5, most=2.0))
        with open(path) as file:
            written = json.load(file)
        self.assertEqual(written["benchmarks"][0]["ratio"], {"median": 2.0, "least": 2.0, "most": 2.0})
        self.assertTrue(written["benchmarks"][0]["passed"])
        self.assertEqual(written["reports"]["numbers"], [{"label": "so many", "value": 1234.5, "unit": "pieces"}])

    def test_usage(self) -> None:
        """What is not there is an error with status 2 that says what there is."""
        status, text = self.run_command("two", benchmark=_benchmark(1, 1))
        self.assertEqual(status, 2)
        self.assertIn('there is no benchmark "two"; known: one, numbers, broken', text)
        self.assertEqual(self.run_command("one", "--pairs", "0", benchmark=_benchmark(1, 1))[0], 2)
        status, text = self.run_command("--list", benchmark=_benchmark(1, 1))
        self.assertEqual((status, text.count("\n")), (0, 3))


class MeasurementTests(SynchronousTestCase):
    """The real processes, for an instant."""

    def setUp(self) -> None:
        for module, name, value in (
            (cost, "WARM_UP", 3),
            (cost, "SETTLING", 0.0),
            (lekt_join, "CONNECTIONS", 5),
            (lekt_idle, "SESSIONS", 5),
            (lekt_heartbeat, "CLIENTS", 4),
            (lekt_heartbeat, "ROUNDS", 2),
            (lekt_heartbeat, "CYCLES", 1),
            (lekt_events, "RUNS", 1),
        ):
            self.patch(module, name, value)

    def test_sessions(self) -> None:
        """The load generator's clients really join, listen, beat and leave in good order, each from its own source."""
        with LEKT.started() as (listening, clients):
            clients.call("hold_and_listen", count=5)
            self.assertEqual(listening.call("sessions"), 5)
            clients.call("changes")
            clients.call("heartbeats", times=2)
            clients.call("leave")
            self.assertEqual((listening.call("connections"), listening.call("sessions")), (0, 0))
            self.assertEqual(listening.call("outcomes"), {"left": 8})

    def test_events(self) -> None:
        """Either way of keeping events works."""
        self.assertEqual(len(REPORTS["lekt-events"].measure()), 2)

    def test_samples(self) -> None:
        """Every timed claim comes to numbers above nothing."""
        for name in ("lekt-join", "lekt-idle-heartbeat"):
            benchmark = BENCHMARKS[name]
            self.assertGreater(benchmark.subject().value, 0)
            self.assertGreater(benchmark.baseline().value, 0)
        self.assertGreaterEqual(BENCHMARKS["lekt-idle-memory"].subject().value, 0)

    def test_tracing(self) -> None:
        """A server tells which of its lines hold memory."""
        with BARE.started() as (listening, clients):
            listening.call("start_tracing")
            clients.call("hold", count=3)
            lines = listening.call("traced_lines", most=5)
            self.assertEqual(len(lines), 5)
            self.assertRegex(lines[0][0], r"\.py:\d+$")

    def test_a_child_that_fails(self) -> None:
        """What goes wrong in a child arrives as an error; a child that is gone is one too."""
        with BARE.started() as (listening, _):
            self.assertIn("KeyError", str(self.assertRaises(ChildError, listening.call, "nothing")))
            process = listening._process
            process.kill()
            self.assertIn("has ended", str(self.assertRaises(ChildError, listening.call, "port")))
        self.assertIsNotNone(process.returncode)

    def test_encodings_are_counted(self) -> None:
        """LEKT-16: one encoding for one change; and the counter counts, or it would prove nothing."""
        self.assertEqual(BENCHMARKS["lekt-encode-once"].subject().value, 1)
        with lekt_encoding._counting() as count:
            Entry(IPv4Address(1), ()).encode()
            Entry(IPv4Address(2), ()).encode()
        self.assertEqual(count, [2])


class PartTests(SynchronousTestCase):
    """The small parts."""

    def test_sources(self) -> None:
        """Sources differ, stay in 127.0.0.0/8 and begin anew at the end."""
        self.assertEqual(source(0), "127.1.0.1")
        self.assertEqual(len({source(index) for index in range(0, SOURCES, 4099)}), len(range(0, SOURCES, 4099)))
        self.assertTrue(source(SOURCES - 1).startswith("127."))
        self.assertEqual(source(SOURCES), source(0))

    def test_each(self) -> None:
        """Every call has its own number."""
        numbers: list[int] = []
        each(numbers.append, 3, 2)
        self.assertEqual(numbers, [0, 1, 2, 3, 4, 5])

    def test_descriptors(self) -> None:
        """What the system does not allow is refused with what to do."""
        with (
            mock.patch.object(resource, "getrlimit", return_value=(10, 10)),
            mock.patch.object(resource, "setrlimit", side_effect=ValueError),
        ):
            error = self.assertRaises(OSError, usage.allow_descriptors, 10)
        self.assertIn("ulimit -Hn 110", str(error))
        self.assertGreater(usage.memory(), os.sysconf("SC_PAGE_SIZE"))
