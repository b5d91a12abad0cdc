"""Tests of :mod:`connectd.protocols.chatr.peer_socket` over real sockets."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.trial.unittest import TestCase

from connectd.net.bound import BindError
from connectd.protocols.chatr.candidates import Candidate, CandidateKind, candidates
from connectd.protocols.chatr.checks import Role
from connectd.protocols.chatr.peer_socket import KEPT_MESSAGES, PathClosed, PeerPath, PeerSocket, PunchingFailed
from connectd.protocols.chatr.puncher import MAXIMUM_MESSAGE, MAXIMUM_PEERS

ALICE, BOB, CAROL = UUID(int=0xA11CE), UUID(int=0xB0B), UUID(int=0xCA201)
HERE = ip_address("127.0.0.1")
NOWHERE = ip_address("0.0.0.0")


class PeerSocketTests(TestCase):
    """CH-40 to CH-42 for an application."""

    interface = here = "127.0.0.1"

    def setUp(self) -> None:
        self.alice, self.bob = self.bound(ALICE), self.bound(BOB)

    def bound(self, uuid: UUID) -> PeerSocket:
        peer = PeerSocket.bind(reactor, uuid, port=0, interface=self.interface)
        peer.start()
        self.addCleanup(peer.stop)
        return peer

    def at_bob(self) -> list[Candidate]:
        """What Alice and Bob are told: the agreed port is Bob's, and Alice's is another (one host has it once)."""
        return candidates(ip_address(self.here), NOWHERE, self.bob.port, loopback=True)

    async def meet(self) -> tuple[PeerPath, PeerPath]:
        """Both paths."""
        mine = self.alice.punch(BOB, Role.REQUESTER, self.at_bob())
        theirs = self.bob.punch(ALICE, Role.ACCEPTER, self.at_bob())
        return await mine, await theirs

    def test_messages(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.messages())

    async def messages(self) -> None:
        """CH-41: one agreed port number is enough, if one side has it; the path says that it proves no identity."""
        mine, theirs = await self.meet()
        self.assertEqual((mine.peer, mine.address), (BOB, (self.here, self.bob.port)))
        self.assertEqual((theirs.peer, theirs.address), (ALICE, (self.here, self.alice.port)))
        self.assertEqual(theirs.candidate.kind, CandidateKind.PEER_REFLEXIVE)
        self.assertFalse(mine.identity_proven)
        self.assertEqual((self.alice.paths, self.bob.paths), ([mine], [theirs]))
        came: Deferred[bytes] = Deferred()
        theirs.on_message = came.callback
        mine.send(b"hello")
        self.assertEqual(await came, b"hello")

    def test_kept(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.kept())

    async def kept(self) -> None:
        """COM-2: messages wait for whoever takes them, within a bound."""
        mine, theirs = await self.meet()
        for number in range(KEPT_MESSAGES + 6):
            theirs._received(b"%d" % number)
        got: list[bytes] = []
        theirs.on_message = got.append
        self.assertEqual(theirs.on_message, got.append)
        self.assertEqual(got, [b"%d" % number for number in range(6, KEPT_MESSAGES + 6)])
        self.assertRaises(ValueError, mine.send, bytes(MAXIMUM_MESSAGE + 1))

    def test_close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.close())

    async def close(self) -> None:
        """Who leaves says goodbye, and both applications are told."""
        mine, theirs = await self.meet()
        lost, cancelled = theirs.when_lost(), theirs.when_lost()
        cancelled.addErrback(lambda failure: failure.trap(CancelledError))
        cancelled.cancel()
        mine.close()
        mine.close()
        self.assertEqual(await mine.when_lost(), "closed here")
        self.assertEqual(await lost, "the peer left")
        self.assertEqual((mine.is_open, theirs.is_open), (False, False))
        self.assertIn("left", str(self.assertRaises(PathClosed, theirs.send, b"x")))
        self.assertRaises(PathClosed, self.alice.send, BOB, b"x")
        self.assertEqual(self.alice.paths + self.bob.paths, [])

    def test_again(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.again())

    async def again(self) -> None:
        """A new request replaces a path, also from within the word that the old one is lost."""
        mine, theirs = await self.meet()
        following: list[Deferred[Any]] = []
        for path, owner, peer, role in (
            (mine, self.alice, BOB, Role.REQUESTER),
            (theirs, self.bob, ALICE, Role.ACCEPTER),
        ):
            path.when_lost().addCallback(self.follow, following, owner, peer, role)
        gone = theirs.when_lost()
        self.alice.close_path(BOB)
        await gone
        results = await DeferredList(following)
        self.assertEqual([type(path) for success, path in results if success], [PeerPath, PeerPath])
        replaced = self.alice.paths[0].when_lost()
        pending = self.alice.punch(BOB, Role.REQUESTER, [])
        self.assertEqual(await replaced, "replaced by a new request")
        pending.addErrback(lambda failure: failure.trap(PunchingFailed))
        await self.alice.stop()
        await pending

    def follow(self, reason: str, following: list[Deferred[Any]], owner: PeerSocket, peer: UUID, role: Role) -> None:
        """Begin again."""
        following.append(owner.punch(peer, role, self.at_bob()))

    def test_unreachable(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.unreachable())

    async def unreachable(self) -> None:
        """CH-40: the application is told that nobody answers, by name and in one line."""
        failure = self.alice.punch(CAROL, Role.REQUESTER, self.at_bob(), timeout=0.3)
        error = await self.assertFailure(failure, PunchingFailed)
        self.assertEqual(str(error), f"no path to {CAROL}: no candidate of the peer answered in time")
        self.assertEqual(error.peer, CAROL)

    def test_misuse(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.misuse())

    async def misuse(self) -> None:
        """What cannot be begun fails the same way."""
        await self.assertFailure(self.alice.punch(ALICE, Role.REQUESTER, []), PunchingFailed)
        self.assertEqual(self.alice._punching, {})
        await self.alice.stop()
        await self.assertFailure(self.alice.punch(BOB, Role.REQUESTER, []), PunchingFailed)
        self.assertGreater(MAXIMUM_PEERS, 0)

    def test_given_up(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.given_up())

    async def given_up(self) -> None:
        """Cancelling gives up, and says so to nobody else."""
        waiting = self.alice.punch(CAROL, Role.REQUESTER, self.at_bob())
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        self.assertEqual((self.alice._punching, self.alice._machine.deadline()), ({}, None))
        first = self.alice.punch(CAROL, Role.REQUESTER, [])
        second = self.alice.punch(CAROL, Role.REQUESTER, [])
        error: Any = await self.assertFailure(first, PunchingFailed)
        self.assertEqual(error.reason, "replaced by a new request")
        first.cancel()
        second.cancel()
        await self.assertFailure(second, CancelledError)

    def test_taken(self) -> None:
        """CH-11: a port that is taken is refused with what to do."""
        family = socket.AF_INET6 if ":" in self.here else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as other:
            other.bind((self.here, 0))
            port = other.getsockname()[1]
            error = self.assertRaises(
                BindError, PeerSocket.bind, reactor, CAROL, port=port, interface=self.interface or self.here
            )
        self.assertIn(f"port {port} is already in use", str(error))


class BothFamiliesTests(PeerSocketTests):
    """The same on sockets that are bound to all addresses."""

    interface = ""


class IPv6Tests(PeerSocketTests):
    """The same over IPv6."""

    interface = here = "::1"
