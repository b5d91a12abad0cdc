"""Tests of :mod:`connectd.protocols.starbound.generations` and :mod:`connectd.protocols.starbound.texts`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.starbound import texts
from connectd.protocols.starbound.generations import GENERATIONS, guess, problem
from connectd.protocols.starbound.packets import (
    ClientConnect,
    ClientDisconnectRequest,
    ConnectFailure,
    ConnectionResponse,
    ConnectSuccess,
    HandshakeChallenge,
    HandshakeResponse,
    ProtocolRequest,
    ProtocolResponse,
    ProtocolVersion,
    ServerDisconnect,
)

SERVER_FIRST_KINDS = (ProtocolVersion, ClientConnect, HandshakeChallenge, HandshakeResponse, ConnectionResponse)
TABLE = {
    "seed": (628, 0, 6, 3, 8, 1),
    "angry-koala": (628, 1, 7, 4, 9, 2),
    "furious-koala": (636, 0, 6, 3, 8, 1),
    "enraged-koala": (639, 0, 7, 3, 9, 1),
}
CLIENT_FIRST_TABLE = {
    ProtocolRequest: 0,
    ProtocolResponse: 1,
    ServerDisconnect: 2,
    ConnectSuccess: 3,
    ConnectFailure: 4,
    HandshakeChallenge: 5,
    ClientConnect: 13,
    ClientDisconnectRequest: 14,
    HandshakeResponse: 15,
}


class TableTests(SynchronousTestCase):
    """The page's table of generations."""

    def test_server_first(self) -> None:
        for name, (version, *numbers) in TABLE.items():
            generation = GENERATIONS[name]
            self.assertEqual((generation.version, generation.server_first), (version, True))
            self.assertEqual([generation.number(kind) for kind in SERVER_FIRST_KINDS], numbers)
            self.assertEqual(generation.number(ServerDisconnect), -1)

    def test_client_first(self) -> None:
        for name in ("1.4", "opensb"):
            generation = GENERATIONS[name]
            self.assertEqual((generation.version, generation.server_first), (747, False))
            self.assertEqual(dict(generation.numbers), CLIENT_FIRST_TABLE)

    def test_every_packet_has_a_layout(self) -> None:
        for generation in GENERATIONS.values():
            self.assertEqual(set(generation.numbers), set(generation.layouts), generation.name)
            self.assertEqual(len(set(generation.numbers.values())), len(generation.numbers))


class ProblemTests(SynchronousTestCase):
    """Which generations one listener can serve."""

    def test_fine(self) -> None:
        for names in (*([name] for name in GENERATIONS), ["seed", "1.4", "opensb"], ["1.4", "opensb"]):
            self.assertIsNone(problem(names))

    def test_wrong(self) -> None:
        """SB-21: generations in which the server speaks first cannot be told apart."""
        for names, word in (
            ([], "no generation"),
            (["koala"], '"koala" is not one of seed'),
            (["1.4", "1.4"], "twice"),
            (["seed", "angry-koala"], "seed and angry-koala cannot share a listener"),
            (["enraged-koala", "opensb", "seed"], "enraged-koala and seed"),
        ):
            self.assertIn(word, problem(names) or "")


class GuessTests(SynchronousTestCase):
    def test_guess(self) -> None:
        """What a server that speaks first says tells its generation, except 1.4's."""
        for name in TABLE:
            generation = GENERATIONS[name]
            self.assertIs(guess(generation.number(ProtocolVersion), generation.version, 628), generation)
        self.assertIs(guess(0, 600, 600), GENERATIONS["seed"])
        for number, version in ((0, 747), (1, 636), (2, 628)):
            self.assertIsNone(guess(number, version, 628))


class TextTests(SynchronousTestCase):
    def test_server_first(self) -> None:
        """SB-9: the words where the server speaks first."""
        for name in TABLE:
            self.assertEqual(texts.no_such_account(name, "ann"), "No such account or incorrect password")
            self.assertEqual(texts.full(name), "The server is full")
            self.assertEqual(texts.anonymous(name), "This server requires an account")
        self.assertEqual(texts.banned("spam"), "You are banned: spam")

    def test_client_first(self) -> None:
        """SB-23: the words where the client does."""
        for name in ("1.4", "opensb"):
            self.assertEqual(texts.no_such_account(name, "ann"), "No such account 'ann' or incorrect password")
            self.assertEqual(texts.full(name), "Max player connections")
            self.assertEqual(texts.anonymous(name), "Anonymous connections disallowed")
        self.assertEqual(texts.DUPLICATE_UUID, "Duplicate player UUID")
        self.assertEqual(texts.CONNECT_TIMEOUT, "connect timeout")
