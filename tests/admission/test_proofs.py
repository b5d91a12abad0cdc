"""Tests of :mod:`connectd.admission.proofs`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.admission import AdmissionLimits, ProofLedger, ProofVerdict

NOW = 1_790_000_000.0
HERE = "192.0.2.1"
THERE = "192.0.2.2"
DELAYS = [0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30, 30]
NEVER_SHUT_OUT = AdmissionLimits(failures_per_source=0)


def shut_out(ledger: ProofLedger, host: str = HERE, now: float = NOW) -> None:
    """Fail as often as it takes, each time for another account."""
    for number in range(20):
        ledger.failed(host, f"nobody {number}", now)


class DelayTests(SynchronousTestCase):
    def test_delays(self) -> None:
        """COM-11: four failures are answered at once, then 1, 2, 4 … 30 s."""
        ledger = ProofLedger(NEVER_SHUT_OUT)
        self.assertEqual([ledger.failed(HERE, "alice", NOW) for _ in DELAYS], DELAYS)

    def test_pair(self) -> None:
        """COM-11: what counts is the pair of source and account."""
        ledger = ProofLedger(NEVER_SHUT_OUT)
        for _ in DELAYS:
            ledger.failed(HERE, "alice", NOW)
        self.assertEqual(ledger.failed(HERE, "bob", NOW), 0)
        self.assertEqual(ledger.failed(THERE, "alice", NOW), 0)
        self.assertEqual(ledger.failed("::ffff:192.0.2.1", "alice", NOW), 30)

    def test_source_keys(self) -> None:
        """COM-11, COM-4: sources are /32 and /64, or as set."""
        ledger = ProofLedger(NEVER_SHUT_OUT)
        for _ in range(4):
            ledger.failed("2001:db8::1", "alice", NOW)
        self.assertEqual(ledger.failed("2001:db8::2", "alice", NOW), 1)
        self.assertEqual(ledger.failed("2001:db8:0:1::1", "alice", NOW), 0)
        ledger.replace_limits(AdmissionLimits(failures_per_source=0, ipv4_prefix=24))
        for _ in range(4):
            ledger.failed(HERE, "alice", NOW)
        self.assertEqual(ledger.failed(THERE, "alice", NOW), 1)

    def test_window(self) -> None:
        """COM-11: each failure counts for 10 minutes."""
        ledger = ProofLedger(NEVER_SHUT_OUT)
        for second in range(4):
            self.assertEqual(ledger.failed(HERE, "alice", NOW + second), 0)
        self.assertEqual(ledger.failed(HERE, "alice", NOW + 599.9), 1)
        self.assertEqual(ledger.failed(HERE, "alice", NOW + 600), 1)
        self.assertEqual(ledger.failed(HERE, "alice", NOW + 603), 0)

    def test_success(self) -> None:
        """COM-11: a success after five failures waits as long as another failure would; then all is forgiven."""
        ledger = ProofLedger(NEVER_SHUT_OUT)
        for failures in range(12):
            self.assertEqual(ledger.delay(HERE, "alice", NOW), DELAYS[failures] if failures >= 5 else 0)
            ledger.failed(HERE, "alice", NOW)
        ledger.failed(HERE, "bob", NOW)
        ledger.succeeded(HERE, "alice", NOW)
        self.assertEqual(ledger.delay(HERE, "alice", NOW), 0)
        self.assertEqual([ledger.failed(HERE, "alice", NOW) for _ in range(5)], [0, 0, 0, 0, 1])
        # The forgiven ones go out of the window and must not take the new ones along.
        self.assertEqual(ledger.failed(HERE, "alice", NOW + 1), 2)
        self.assertEqual(ledger.failed(HERE, "alice", NOW + 600), 0)

    def test_success_at_once(self) -> None:
        """COM-11: a right proof after at most four failures is a success at once; after five nothing is reported."""
        for failures in (0, 4):
            ledger = ProofLedger(AdmissionLimits())
            for _ in range(failures):
                ledger.failed(HERE, "alice", NOW)
            self.assertTrue(ledger.succeeded_at_once(HERE, "alice", NOW))
            self.assertEqual(ledger.failed(HERE, "alice", NOW), 0)
            shut_out(ledger)
            self.assertTrue(ledger.verdict(HERE, "alice", NOW).verify)
        ledger = ProofLedger(AdmissionLimits())
        for _ in range(5):
            ledger.failed(HERE, "alice", NOW)
        self.assertFalse(ledger.succeeded_at_once(HERE, "alice", NOW))
        self.assertEqual(ledger.delay(HERE, "alice", NOW), 2)
        shut_out(ledger)
        self.assertFalse(ledger.verdict(HERE, "alice", NOW).verify)

    def test_forgiven_failures_expire_alone(self) -> None:
        """COM-11: failures from before a success do not shorten the memory of those after it."""
        ledger = ProofLedger(NEVER_SHUT_OUT)
        for _ in range(5):
            ledger.failed(HERE, "alice", NOW)
        ledger.succeeded(HERE, "alice", NOW)
        for _ in range(4):
            ledger.failed(HERE, "alice", NOW + 300)
        self.assertEqual(ledger.failed(HERE, "alice", NOW + 601), 1)

    def test_strange_accounts(self) -> None:
        """COM-11: any text is an account, and source and account do not run into each other."""
        ledger = ProofLedger(NEVER_SHUT_OUT)
        for account in ("", "\ud800", "\0", "a" * 100_000):
            self.assertEqual([ledger.failed(HERE, account, NOW) for _ in range(5)], [0, 0, 0, 0, 1])

    def test_garbage(self) -> None:
        ledger = ProofLedger(AdmissionLimits())
        for method in (ledger.verdict, ledger.failed, ledger.delay, ledger.succeeded):
            with self.assertRaises(ValueError):
                method("garbage", "alice", NOW)


class ShutOutTests(SynchronousTestCase):
    def test_shut_out(self) -> None:
        """COM-11: failures_per_source failures shut the source, and no other, out for 10 minutes."""
        ledger = ProofLedger(AdmissionLimits())
        for number in range(19):
            ledger.failed(HERE, f"nobody {number}", NOW + number)
        self.assertEqual(ledger.verdict(HERE, "alice", NOW + 20), ProofVerdict(True))
        ledger.failed("::ffff:192.0.2.1", "alice", NOW + 20)
        self.assertFalse(ledger.verdict(HERE, "alice", NOW + 20).verify)
        self.assertFalse(ledger.verdict(HERE, "bob", NOW + 619.9).verify)
        self.assertTrue(ledger.verdict(THERE, "alice", NOW + 20).verify)
        self.assertTrue(ledger.verdict(HERE, "bob", NOW + 620).verify)

    def test_settable(self) -> None:
        """COM-11: failures_per_source is settable, and 0 is never, also for those who are shut out already."""
        ledger = ProofLedger(AdmissionLimits(failures_per_source=3))
        for _ in range(3):
            self.assertTrue(ledger.verdict(HERE, "alice", NOW).verify)
            ledger.failed(HERE, "alice", NOW)
        self.assertFalse(ledger.verdict(HERE, "alice", NOW).verify)
        ledger.replace_limits(NEVER_SHUT_OUT)
        self.assertTrue(ledger.verdict(HERE, "alice", NOW).verify)
        for _ in range(100):
            ledger.failed(THERE, "alice", NOW)
        self.assertTrue(ledger.verdict(THERE, "alice", NOW).verify)

    def test_window(self) -> None:
        """COM-11: only the failures of the last 10 minutes count."""
        ledger = ProofLedger(AdmissionLimits())
        for number in range(60):
            ledger.failed(HERE, f"nobody {number}", NOW + 31.6 * number)
            self.assertTrue(ledger.verdict(HERE, "alice", NOW + 31.6 * number).verify)

    def test_successes_do_not_help(self) -> None:
        """COM-11: one's own account does not wash off the guesses at others."""
        ledger = ProofLedger(AdmissionLimits())
        for number in range(20):
            ledger.failed(HERE, f"nobody {number}", NOW)
            ledger.succeeded(HERE, "mallory", NOW)
        self.assertFalse(ledger.verdict(HERE, "alice", NOW).verify)

    def test_known(self) -> None:
        """COM-11: accounts that succeeded from this source in the last 24 h are verified all the same."""
        ledger = ProofLedger(AdmissionLimits())
        ledger.succeeded(HERE, "alice", NOW)
        ledger.succeeded(THERE, "bob", NOW)
        for later in (0, 86_399):
            shut_out(ledger, now=NOW + later)
            self.assertTrue(ledger.verdict(HERE, "alice", NOW + later).verify)
            self.assertFalse(ledger.verdict(HERE, "bob", NOW + later).verify)
        self.assertFalse(ledger.verdict(HERE, "alice", NOW + 86_400).verify)

    def test_known_again(self) -> None:
        """COM-11: the 24 h run from the last success, in whatever order accounts come."""
        ledger = ProofLedger(AdmissionLimits())
        ledger.succeeded(HERE, "alice", NOW)
        ledger.succeeded(HERE, "bob", NOW + 1)
        ledger.succeeded(HERE, "alice", NOW + 2)
        shut_out(ledger, now=NOW + 86_400)
        self.assertTrue(ledger.verdict(HERE, "bob", NOW + 86_400).verify)
        self.assertFalse(ledger.verdict(HERE, "bob", NOW + 86_401).verify)
        self.assertTrue(ledger.verdict(HERE, "alice", NOW + 86_401).verify)
        self.assertFalse(ledger.verdict(HERE, "alice", NOW + 86_402).verify)

    def test_not_extended(self) -> None:
        """COM-11: the shut-out runs from its first moment, whatever is tried or fails meanwhile."""
        ledger = ProofLedger(AdmissionLimits())
        shut_out(ledger)
        for second in range(1, 600):
            self.assertFalse(ledger.verdict(HERE, "bob", NOW + second).verify)
        # A known account is verified meanwhile, and fails.
        ledger.failed(HERE, "alice", NOW + 599)
        self.assertTrue(ledger.verdict(HERE, "bob", NOW + 600).verify)

    def test_unverified_delay(self) -> None:
        """COM-11, COM-10: a proof that is not looked at waits like a wrong one, and leaves no trace."""
        ledger = ProofLedger(AdmissionLimits())
        for _ in range(5):
            ledger.failed(HERE, "alice", NOW)
        shut_out(ledger)
        for _ in range(3):
            self.assertEqual(ledger.verdict(HERE, "alice", NOW), ProofVerdict(False, 2.0))
            self.assertEqual(ledger.verdict(HERE, "bob", NOW), ProofVerdict(False, 0.0))
        self.assertEqual(ledger.failed(HERE, "alice", NOW), 2)

    def test_unix(self) -> None:
        """COM-11: peers of unix sockets are delayed, but not shut out together."""
        ledger = ProofLedger(AdmissionLimits())
        shut_out(ledger, "")
        self.assertTrue(ledger.verdict("", "alice", NOW).verify)
        self.assertEqual([ledger.failed("", "alice", NOW) for _ in DELAYS], DELAYS)

    def test_clock_set_back(self) -> None:
        """COM-11: setting the clock back neither ends a shut-out nor makes it longer than it was to be."""
        ledger = ProofLedger(AdmissionLimits())
        shut_out(ledger)
        earlier = NOW - 86_400
        self.assertFalse(ledger.verdict(HERE, "alice", earlier).verify)
        self.assertFalse(ledger.verdict(HERE, "alice", earlier + 599).verify)
        self.assertTrue(ledger.verdict(HERE, "alice", earlier + 600).verify)


class MemoryTests(SynchronousTestCase):
    def test_failures(self) -> None:
        """COM-11: beyond the cap the oldest failures are forgotten first."""
        ledger = ProofLedger(NEVER_SHUT_OUT, maximum_failures=6)
        for _ in range(4):
            ledger.failed(HERE, "alice", NOW)
        ledger.failed(HERE, "bob", NOW)
        ledger.failed(HERE, "bob", NOW)
        self.assertEqual(ledger.failed(HERE, "alice", NOW), 1)
        self.assertEqual(ledger.failed(HERE, "alice", NOW), 1)

    def test_shut_out(self) -> None:
        """COM-11: beyond the cap the source that was shut out first is let in."""
        ledger = ProofLedger(AdmissionLimits(failures_per_source=1), maximum_shut_out=2)
        for number in range(3):
            ledger.failed(f"192.0.2.{number}", "alice", NOW)
        verdicts = [ledger.verdict(f"192.0.2.{number}", "alice", NOW).verify for number in range(3)]
        self.assertEqual(verdicts, [True, False, False])

    def test_known(self) -> None:
        """COM-11: beyond the cap the account that has not succeeded for the longest time is not known any more."""
        ledger = ProofLedger(AdmissionLimits(), maximum_known=2)
        for account in ("alice", "bob", "alice", "carol"):
            ledger.succeeded(HERE, account, NOW)
        shut_out(ledger)
        verdicts = [ledger.verdict(HERE, account, NOW).verify for account in ("alice", "bob", "carol")]
        self.assertEqual(verdicts, [True, False, True])

    def test_nothing_stays(self) -> None:
        """COM-11: once everything is over, nothing is kept."""
        ledger = ProofLedger(AdmissionLimits(failures_per_source=3))
        for number in range(10):
            ledger.failed(HERE, f"{number}", NOW)
            ledger.failed(THERE, "alice", NOW + number)
            ledger.succeeded(THERE, "alice", NOW + number)
        ledger.verdict(HERE, "alice", NOW + 90_000)
        for kept in (ledger._failures, ledger._sources, ledger._pairs, ledger._shut_out, ledger._known):
            self.assertEqual(len(kept), 0)

    def test_no_names(self) -> None:
        """COM-9: what peers typed as an account, which may be a password, is not kept."""
        ledger = ProofLedger(AdmissionLimits())
        ledger.failed(HERE, "hunter2", NOW)
        ledger.succeeded(HERE, "hunter3", NOW)
        self.assertNotIn("hunter", repr([ledger, ledger._failures, ledger._pairs, ledger._known]))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([0.0, 1.0, 45.0, 200.0, 700.0]),
                st.sampled_from([HERE, THERE]),
                st.sampled_from(["alice", "bob"]),
                st.sampled_from(["fail", "fail", "fail", "succeed"]),
            ),
            max_size=60,
        )
    )
    @settings(deadline=None, max_examples=100)
    def test_model(self, steps: list[tuple[float, str, str, str]]) -> None:
        """COM-11: agrees with counting everything from the beginning each time."""
        ledger = ProofLedger(AdmissionLimits(failures_per_source=6))
        now = 0.0
        failures: list[tuple[float, str, str]] = []
        forgiven: dict[tuple[str, str], int] = {}
        known: dict[tuple[str, str], float] = {}
        shut_until: dict[str, float] = {}
        for pause, host, account, what in steps:
            now += pause
            pair = host, account
            expected = now >= shut_until.get(host, 0.0) or known.get(pair, -1e9) + 86_400 > now
            self.assertEqual(ledger.verdict(host, account, now).verify, expected)
            if not expected:
                continue
            if what == "succeed":
                ledger.succeeded(host, account, now)
                known[pair] = now
                forgiven[pair] = len(failures)
                continue
            failures.append((now, host, account))
            recent = [(at, index, h, a) for index, (at, h, a) in enumerate(failures) if at + 600 > now and h == host]
            of_pair = [index for _, index, _, a in recent if a == account and index >= forgiven.get(pair, 0)]
            self.assertEqual(ledger.failed(host, account, now), [0, *DELAYS][min(len(of_pair), 12)])
            if len(recent) >= 6 and now >= shut_until.get(host, 0.0):
                shut_until[host] = now + 600
