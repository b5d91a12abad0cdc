"""Who the peers of a listener are, on toy listeners."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.cred.checkers import AllowAnonymousAccess, ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import Anonymous, IAnonymous, IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from connectd.admission import WRONG_PROOF, Admission, AdmissionLimits, ProofLedger
from connectd.credentials import Avatar, CredentialsError, IEvenWork, Password
from connectd.directory.errors import DirectoryError
from connectd.directory.names import lookup_key
from connectd.events import Events
from connectd.net.authentication import NO_ACCOUNTS, Objection, WrongProof, make_authenticator
from connectd.net.connection import Peer, Refused
from connectd.net.listener import Context, Listener
from connectd.sansio import Machine, Outcome
from connectd.settings import ListenerSettings
from tests.ops.recording import record_log
from tests.toy import NOW, Bench, BenchCase, ToyListener, ToyMachine, ToySettings


@attrs.define
class Account:
    """As much of an account as is asked for."""

    name: str
    password: bytes
    disabled: bool = False
    protocols: tuple[str, ...] | None = None

    def allows(self, protocol: str) -> bool:
        return self.protocols is None or protocol in self.protocols


@implementer(IUsernameHashedPassword, IEvenWork)
class WorkingProof:
    """A proof that is compared with work."""

    def __init__(self, username: bytes, password: bytes) -> None:
        self.username = username
        self.work = 0
        self._password = password

    def checkPassword(self, password: bytes) -> bool:
        self.work += 1
        return password == self._password

    async def even_out(self) -> None:
        self.work += not self.work


class FakeDirectory:
    """Answers at once."""

    def __init__(self) -> None:
        self.accounts = {"ann": Account("Ann", b"right")}
        self.banned_accounts: dict[str, str] = {}
        self.banned_addresses: dict[str, str] = {}
        self.broken = False
        self.checks = 0
        self.pending: Deferred[None] | None = None

    def _trust(self) -> None:
        if self.broken:
            raise DirectoryError("the database /x cannot be read")

    def find_account(self, name: str | bytes) -> Account | None:
        self._trust()
        return self.accounts.get(lookup_key(name) or "")

    def match_account(self, name: str | bytes) -> str | None:
        self._trust()
        return self.banned_accounts.get(lookup_key(name) or "")

    def match_address(self, host: str) -> str | None:
        self._trust()
        return self.banned_addresses.get(host)

    def check_password(self, name: str | bytes, password: bytes) -> Deferred[Account | None]:
        return Deferred.fromCoroutine(self._check(name, password))

    async def _check(self, name: str | bytes, password: bytes) -> Account | None:
        if self.pending is not None:
            await self.pending
        self.checks += 1
        account = self.find_account(name)
        return account if account is not None and account.password == password else None


@implementer(ICredentialsChecker)
class Ours:
    """Somebody else's accounts."""

    def __init__(self, name: bytes = b"ann", *interfaces: Any) -> None:
        self.name = name
        self.credentialInterfaces = interfaces or (IUsernamePassword,)

    def requestAvatarId(self, credentials: Any) -> Any:
        return succeed(self.name)


class AuthenticatorCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.directory = FakeDirectory()
        self.context = self.make_context(directory=self.directory)

    def make_context(self, limits: AdmissionLimits | None = None, **options: Any) -> Context:
        admission = Admission(limits or AdmissionLimits(), clock=self.clock)
        return Context(reactor=self.clock, admission=admission, events=Events(self.clock.seconds), **options)

    def login(
        self, name: bytes = b"ann", password: bytes = b"right", *, auth: tuple[str, ...] = (), context: Any = None
    ) -> Deferred[Avatar]:
        authenticator = make_authenticator(context or self.context, "toy", (IUsernamePassword,), auth)
        return authenticator.login("192.0.2.1", Password(name, password))

    def refused(self, login: Deferred[Avatar]) -> tuple[str, Outcome]:
        """How it was refused though the proof was right, or nobody looked at it."""
        refused = self.failureResultOf(login, Refused).value
        self.assertNotIsInstance(refused, UnauthorizedLogin)
        return refused.reason, refused.outcome


class LoginTests(AuthenticatorCase):
    """COM-4: account policy comes after the proof."""

    def test_right(self) -> None:
        """The avatar has the account's name as it is stored, and what it may be used for."""
        self.directory.accounts["ann"].protocols = ("lekt", "toy")
        self.assertEqual(self.successResultOf(self.login(b"ANN")), Avatar("Ann", ("lekt", "toy")))

    def test_wrong(self) -> None:
        """COM-10: wrong password and unknown account are the same failure after the same check."""
        failures = [
            self.failureResultOf(self.login(name, b"wrong")).value for name in (b"ann", b"nobody", b"\xff", b"")
        ]
        self.assertEqual({(type(failure), str(failure)) for failure in failures}, {(WrongProof, WRONG_PROOF)})
        self.assertEqual(self.directory.checks, 4)
        for kind in (Refused, UnauthorizedLogin):
            self.assertIsInstance(failures[0], kind)
        self.assertEqual((failures[0].reason, failures[0].outcome), (WRONG_PROOF, Outcome.REFUSED))

    def test_banned(self) -> None:
        self.directory.banned_accounts["ann"] = "spam"
        self.assertEqual(self.refused(self.login()), ("This account is banned: spam", Outcome.BANNED))

    def test_disabled(self) -> None:
        self.directory.accounts["ann"].disabled = True
        self.assertEqual(self.refused(self.login()), ("This account is disabled", Outcome.REFUSED))

    def test_other_protocols(self) -> None:
        self.directory.accounts["ann"].protocols = ("lekt",)
        self.assertEqual(self.refused(self.login()), ("This account may not be used for toy", Outcome.REFUSED))

    def test_policy_is_told_after_the_proof(self) -> None:
        """COM-10: who does not know the password learns nothing of the account."""
        self.directory.banned_accounts["ann"] = "spam"
        self.directory.accounts["ann"].disabled = True
        self.failureResultOf(self.login(password=b"wrong"), WrongProof)

    def test_changes_while_the_proof_is_checked(self) -> None:
        """The account counts as it is in the end."""
        self.directory.pending = Deferred()
        banned = self.login()
        self.directory.banned_accounts["ann"] = "spam"
        self.directory.pending.callback(None)
        self.assertEqual(self.refused(banned)[1], Outcome.BANNED)

    def test_even_work(self) -> None:
        """COM-10: where the work is the credentials' own, it is done for unknown accounts, too, whoever checks."""
        checker = InMemoryUsernamePasswordDatabaseDontUse()
        checker.users = {b"ann": b"right"}
        self.context.checkers = [checker]
        authenticator = make_authenticator(self.context, "toy", (IUsernameHashedPassword,), ())
        for username, password, work in ((b"ann", b"right", 1), (b"ann", b"wrong", 1), (b"bob", b"right", 1)):
            proof = WorkingProof(username, password)
            login = authenticator.login("192.0.2.1", proof)
            if username == b"ann" and password == b"right":
                self.assertEqual(self.successResultOf(login).account, "ann")
            else:
                self.failureResultOf(login, WrongProof)
            self.assertEqual(proof.work, work, (username, password))

    def test_no_work_for_who_is_shut_out(self) -> None:
        """COM-11: a proof that is not looked at costs no work."""
        authenticator = make_authenticator(self.context, "toy", (IUsernamePassword,), ())
        for number in range(20):
            proof = Password(b"bob%d" % number, b"guess")
            self.failureResultOf(authenticator.login("192.0.2.7", proof), WrongProof)
        working = WorkingProof(b"ann", b"right")
        self.failureResultOf(authenticator.login("192.0.2.7", working), WrongProof)
        self.assertEqual(working.work, 0)

    def test_removed_at_the_last_moment(self) -> None:
        authenticator = make_authenticator(self.context, "toy", (IUsernamePassword,), ())
        del self.directory.accounts["ann"]
        self.assertEqual(authenticator.objection("Ann"), Objection(Outcome.REFUSED, "This account was removed"))

    def test_directory_is_broken(self) -> None:
        """COM-4: a policy that cannot be evaluated refuses; and nobody failed a proof (COM-11)."""
        logged = record_log(self)
        self.directory.broken = True
        for _ in range(30):
            self.assertEqual(self.refused(self.login()), (NO_ACCOUNTS, Outcome.REFUSED))
        self.assertEqual(logged[0]["reason"], "the database /x cannot be read")
        self.assertNotIn("log_failure", logged[0])
        self.directory.broken = False
        self.successResultOf(self.login())

    def test_directory_breaks_after_the_proof(self) -> None:
        """COM-4: a right proof alone lets nobody in."""

        def broken(name: object) -> str | None:
            raise DirectoryError("the database /x cannot be read")

        self.patch(self.directory, "match_account", broken)
        self.assertEqual(self.refused(self.login()), (NO_ACCOUNTS, Outcome.REFUSED))

    def test_cancelled(self) -> None:
        """A peer that goes away takes its proof with it."""
        self.directory.pending = Deferred()
        login = self.login()
        login.cancel()
        self.failureResultOf(login)
        self.assertEqual(self.directory.checks, 0)


class LedgerTests(AuthenticatorCase):
    """COM-11"""

    def test_spellings_are_one_account(self) -> None:
        """COM-11: another spelling of the name is no fresh start."""
        for name in (b"Ann", b"ANN", b"ann", "ａｎｎ".encode()):  # noqa: RUF001  # the last one is wide
            self.failureResultOf(self.login(name, b"wrong"), WrongProof)
        fifth = self.login(b"aNN", b"wrong")
        self.assertNoResult(fifth)
        self.clock.advance(1)
        self.failureResultOf(fifth, WrongProof)

    def test_no_names(self) -> None:
        """COM-11: what cannot be a name is counted, too."""
        for _ in range(4):
            self.failureResultOf(self.login(b"\xff\xfe", b"wrong"), WrongProof)
        self.assertNoResult(self.login(b"\xff\xfe", b"wrong"))

    def test_one_ledger(self) -> None:
        """COM-11: failures at one listener count at all of them."""
        self.context = self.make_context(AdmissionLimits(failures_per_source=3), directory=self.directory)
        for _ in range(3):
            self.failureResultOf(self.login(password=b"wrong"), WrongProof)
        self.failureResultOf(self.login(), WrongProof)
        self.assertEqual(self.directory.checks, 3)

    def test_other_limits(self) -> None:
        """Limits can be replaced while everything runs, and what was counted stays."""
        self.context.replace_limits(AdmissionLimits(failures_per_source=2, max_connections=7))
        self.assertEqual(self.context.admission.limits.max_connections, 7)
        for _ in range(2):
            self.failureResultOf(self.login(password=b"wrong"), WrongProof)
        self.failureResultOf(self.login(), WrongProof)
        self.assertEqual(self.directory.checks, 2)
        self.context.replace_limits(AdmissionLimits(failures_per_source=0))
        self.successResultOf(self.login())

    def test_given_ledger(self) -> None:
        ledger = ProofLedger(AdmissionLimits())
        self.assertIs(self.make_context(ledger=ledger).ledger, ledger)


class CheckerTests(AuthenticatorCase):
    """Other checkers than the directory's."""

    def test_of_the_listener(self) -> None:
        """``auth`` comes first, and asks nobody else."""
        context = self.make_context(directory=self.directory, checkers=[Ours(b"other")])
        login = self.login(b"carl", b"secret", auth=("memory:carl:secret",), context=context)
        self.assertEqual(self.successResultOf(login), Avatar("carl"))
        self.failureResultOf(self.login(auth=("memory:carl:secret",), context=context), WrongProof)
        self.assertEqual(self.directory.checks, 0)

    def test_of_the_context(self) -> None:
        """Checkers that were given in Python come before the directory; each listener takes those it has a use for."""
        context = self.make_context(directory=self.directory, checkers=[AllowAnonymousAccess(), Ours(b"carl")])
        self.assertEqual(self.successResultOf(self.login(context=context)), Avatar("carl"))

    def test_bans_hold(self) -> None:
        """COM-4: the directory's bans of accounts hold for accounts of others; nothing else of it does."""
        context = self.make_context(directory=self.directory, checkers=[Ours(b"carl")])
        self.successResultOf(self.login(context=context))
        self.directory.banned_accounts["carl"] = "spam"
        self.assertEqual(self.refused(self.login(context=context))[1], Outcome.BANNED)

    def test_without_directory(self) -> None:
        context = self.make_context(checkers=[Ours(b"ann")])
        self.assertEqual(self.successResultOf(self.login(context=context)), Avatar("ann"))

    def test_nobody(self) -> None:
        error = self.assertRaises(CredentialsError, self.login, context=self.make_context())
        self.assertIn("toy: nobody knows its accounts (give it a directory", str(error))

    def test_nothing_in_common(self) -> None:
        """A checker with no credential interface in common is refused at start."""
        context = self.make_context(checkers=[AllowAnonymousAccess()])
        error = self.assertRaises(CredentialsError, self.login, context=context)
        self.assertIn("checks IAnonymous, and what toy has of its peers is IUsernamePassword", str(error))

    def test_credentials_nobody_checks(self) -> None:
        """A way to log in that has no checker is closed, and is no failed proof."""
        interfaces = (IUsernamePassword, IAnonymous)
        authenticator = make_authenticator(self.make_context(checkers=[Ours()]), "toy", interfaces, ())
        for _ in range(30):
            login = authenticator.login("192.0.2.1", Anonymous())
            self.assertEqual(self.refused(login), ("This way to log in is not open here", Outcome.REFUSED))

    def test_anonymous(self) -> None:
        """Somebody anonymous has no account that anything could be wrong with."""
        self.context.checkers = [AllowAnonymousAccess()]
        authenticator = make_authenticator(self.context, "toy", (IAnonymous,), ())
        self.directory.broken = True
        self.assertEqual(self.successResultOf(authenticator.login("192.0.2.1", Anonymous())), Avatar(""))

    def test_named_account(self) -> None:
        """COM-11: where credentials have no name, the proof is for the account that is named beside them."""
        self.context.checkers = [Ours(b"key", IAnonymous)]
        authenticator = make_authenticator(self.context, "toy", (IAnonymous,), ())
        for _ in range(5):
            self.context.ledger.failed("192.0.2.1", lookup_key("some key") or "", self.clock.seconds())
        self.assertNoResult(authenticator.login("192.0.2.1", Anonymous(), account=b"Some Key"))
        self.successResultOf(authenticator.login("192.0.2.1", Anonymous(), account=b"other key"))


class BareListener(Listener):
    """A listener without accounts."""

    protocol = "bare"

    def make_machine(self, peer: Peer, now: float) -> Machine:
        return ToyMachine(ToySettings(), now=now)


class ListenerTests(BenchCase):
    """A listener with the directory's accounts."""

    def with_directory(self, **settings: Any) -> tuple[Bench, Any]:
        bench = self.bench(**settings)
        directory: Any = FakeDirectory()
        bench.context.checkers = ()
        bench.context.directory = directory
        bench.listener.authenticator = bench.listener._make_authenticator(bench.listener.settings)
        return bench, directory

    def test_words_and_outcomes(self) -> None:
        """COM-4, COM-7: the refusal is in the protocol's own words, and counted as what it is."""
        bench, directory = self.with_directory()
        self.assertEqual(bench.login(b"ANN").received, b"WELCOME Ann\n")
        directory.accounts["ann"].disabled = True
        self.assertEqual(bench.login().received, b"NO This account is disabled\n")
        directory.banned_accounts["ann"] = "spam"
        self.assertEqual(bench.login().received, b"NO This account is banned: spam\n")
        self.assertEqual(bench.login(password=b"wrong").received, f"NO {WRONG_PROOF}\n".encode())
        self.assertEqual(bench.checker.outcomes(), ["refused", "banned", "refused"])

    def test_without_accounts(self) -> None:
        """A listener that names no credential interfaces needs no directory, and cannot log anybody in."""
        bench = self.bench()
        listener = BareListener(ListenerSettings(), bench.context)
        connection: Any = listener.accept(Peer("192.0.2.1", 1))
        self.assertIsNone(listener.authenticator)
        self.assertRaises(RuntimeError, listener.login, connection, Password(b"ann", b"right"))
        self.assertIsNone(listener.objection(connection))
        listener.connection_closed(connection)

    def test_other_checkers(self) -> None:
        """New settings bring new checkers for proofs from now on; wrong ones change nothing."""
        bench = self.bench()
        listener = bench.listener
        self.assertRaises(CredentialsError, listener.reconfigure, ToySettings(auth=("anonymous",), stall_timeout=5.0))
        self.assertEqual(listener.stall_timeout, 30.0)
        self.assertEqual(bench.login().received, b"WELCOME ann\n")
        self.assertTrue(listener.reconfigure(ToySettings(auth=("memory:carl:secret",))))
        self.assertEqual(bench.login(b"carl", b"secret").received, b"WELCOME carl\n")
        self.assertEqual(bench.login().received, f"NO {WRONG_PROOF}\n".encode())

    def test_objections(self) -> None:
        """COM-4: who is in may stay until something is wrong with the address or the account."""
        bench, directory = self.with_directory()
        inside, outside = bench.connection(bench.login()), bench.connection(bench.open())
        listener = bench.listener
        self.assertEqual([listener.objection(inside), listener.objection(outside)], [None, None])
        directory.banned_accounts["ann"] = "spam"
        self.assertEqual(listener.objection(inside), Objection(Outcome.BANNED, "This account is banned: spam", "spam"))
        self.assertIsNone(listener.objection(outside))
        directory.banned_addresses["192.0.2.1"] = "flood"
        for connection in (inside, outside):
            expected = Objection(Outcome.BANNED, "This address is banned: flood", "flood")
            self.assertEqual(listener.objection(connection), expected)
        directory.broken = True
        self.assertRaises(DirectoryError, listener.objection, inside)

    def test_unix_peer(self) -> None:
        """Who has no address cannot have a banned one."""
        bench, directory = self.with_directory()
        connection = bench.connection(bench.login(host=""))
        directory.broken = True
        self.patch(directory, "match_account", lambda name: None)
        self.patch(directory, "find_account", lambda name: Account("Ann", b""))
        self.assertIsNone(bench.listener.objection(connection))

    def test_no_checker(self) -> None:
        """A listener with accounts that nobody knows cannot be made, and binds nothing."""
        bench = self.bench()
        bench.context.checkers = ()
        self.patch(bench.context, "bind", None)
        self.assertRaises(CredentialsError, ToyListener, ToySettings(listen="tcp:0"), bench.context)
