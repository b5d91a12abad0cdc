"""What players prove themselves with, as twisted.cred sees it (SB-3, SB-7, SB-20)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernameHashedPassword
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from connectd.credentials import IEvenWork
from connectd.directory import SEALED_PASSWORD, SEALED_SHA256
from connectd.directory.checkers import IUsernameSecret
from connectd.protocols.starbound.client import WrongCredentials
from connectd.protocols.starbound.proofs import RoundsProof, SaltedProof
from connectd.workers.slices import Slices
from tests.protocols.starbound.scene import ALL, SERVER_FIRST, Scene

VECTORS = (
    (b"swordfish", b"", b"uAciRZkmwKUkek3krU+s2LTvPHE6v2P", "rZufCdBvMEGSNNloAzZ68h6gSe4KRfACKSYQnZ5638Q="),
    (b"", b"", b"5uAciRZkmwKUkek3krU+s2LTvPHE6v2P", "4V95zw8AXx63BT31jLuYU4nxonyp7KAyRjJyOBQlc0U="),
    (b"test_password", b"testing", b"uAciRZkmwKUkek3krU+s2LTvPHE6v2P", "rpcAIfe7596wnTQxNvkXRMwG+HzmK4F89Dg55UE1bc8="),
)


class ProofTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.slices = Slices(self.clock)
        self.slices.startService()
        self.addCleanup(self.slices.stopService)

    def rounds(self, account: bytes, salt: bytes, response: str) -> RoundsProof:
        return RoundsProof(account, salt, 5000, base64.b64decode(response), self.slices)

    def check(self, answer: Any) -> bool:
        deferred: Deferred[bool] = maybeDeferred(lambda: answer)
        self.clock.advance(0)
        return bool(self.successResultOf(deferred))

    def test_interfaces(self) -> None:
        for proof in (self.rounds(b"a", b"s", ""), SaltedProof(b"a", b"s", b"")):
            for interface in (IUsernameHashedPassword, IUsernameSecret, IEvenWork):
                verifyObject(interface, proof)
        self.assertEqual((RoundsProof.scheme, SaltedProof.scheme), (SEALED_SHA256, SEALED_PASSWORD))

    def test_rounds(self) -> None:
        """SB-3: the vectors, by the password and by what the directory keeps of it (SB-7)."""
        for password, account, salt, response in VECTORS:
            proof = self.rounds(account, salt, response)
            self.assertTrue(self.check(proof.checkPassword(password)))
            self.assertTrue(self.check(proof.checkSecret(hashlib.sha256(password).digest())))
            self.assertFalse(self.check(proof.checkPassword(password + b"!")))
            self.assertFalse(self.check(self.rounds(account + b"!", salt, response).checkPassword(password)))
        self.assertFalse(self.check(self.rounds(b"", b"salt", "").checkPassword(b"")))

    def test_in_slices(self) -> None:
        """SB-5: the rounds are done beside other work, never at once."""
        password, account, salt, response = VECTORS[0]
        answer = self.rounds(account, salt, response).checkPassword(password)
        self.assertNoResult(answer)
        self.assertEqual(self.slices.working, 1)
        self.check(answer)

    def test_once(self) -> None:
        """SB-20: the vector."""
        response = bytes.fromhex("d0b9a62cfb1a317c44418c3374c5c6d3cb814dfc31482de4544a5fecd6b10747")
        proof = SaltedProof(b"bob", b"saltsalt", response)
        self.assertTrue(self.check(proof.checkPassword(b"hunter2")))
        self.assertTrue(self.check(proof.checkSecret(b"hunter2")))
        self.assertFalse(self.check(proof.checkPassword(b"hunter3")))
        self.assertFalse(self.check(SaltedProof(b"bob", b"saltsalt", b"").checkPassword(b"hunter2")))

    def test_even(self) -> None:
        """COM-10: who was compared with nobody has cost as much as who was."""
        password, account, salt, response = VECTORS[0]
        proof = self.rounds(account, salt, response)
        evened = Deferred.fromCoroutine(proof.even_out())
        self.assertEqual(self.slices.working, 1)
        self.check(evened)
        proof = self.rounds(account, salt, response)
        self.check(proof.checkPassword(password))
        self.successResultOf(Deferred.fromCoroutine(proof.even_out()))
        self.assertEqual(self.slices.working, 0)


class OtherCheckersTests(Scene):
    """Accounts that somebody else knows."""

    def setUp(self) -> None:
        super().setUp()
        checker = InMemoryUsernamePasswordDatabaseDontUse()
        checker.users = {b"carl": b"sesame"}
        self.network.context.directory = None
        self.network.context.checkers = [checker]

    def test_checker(self) -> None:
        """A checker of twisted's own lets its accounts in, in every generation."""
        for generation in ALL:
            listener = self.serve(generation)
            session = self.enter(listener, generation, account="carl", password=b"sesame")
            (inside,) = self.network.context.sessions
            self.assertEqual(inside.account, "carl")
            session.leave()
            for account in ("carl", "dora"):
                self.refused(WrongCredentials, listener, generation, account=account, password=b"other")

    def test_unknown_account(self) -> None:
        """COM-10: for an account that the checker does not know the hashing is done all the same."""
        for generation in SERVER_FIRST:
            listener = self.serve(generation)
            jobs: list[Any] = []
            run = listener.slices.run

            def counted(steps: Any, run: Any = run, jobs: list[Any] = jobs) -> Any:
                jobs.append(steps)
                return run(steps)

            self.patch(listener.slices, "run", counted)
            for account in ("carl", "dora"):
                self.refused(WrongCredentials, listener, generation, account=account, password=b"other")
            self.assertEqual(len(jobs), 2)
