"""What holds for both of FmLTP's machines whatever the other side sends, in whatever pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

from cryptography.fernet import InvalidToken
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.fmltp.fernet import FernetKey
from connectd.protocols.fmltp.groups import FFDHE2048, NAMED
from connectd.protocols.fmltp.machine import (
    AuthenticationRequested,
    CommandReceived,
    Greeted,
    KeyExchangeRequested,
    KeyPairRequested,
    NoticeReceived,
    ReplyReceived,
    SecretRequested,
    VersionReceived,
)
from connectd.protocols.fmltp.packets import Reply, Version
from connectd.sansio import AFTER_ACCEPTANCE, BEFORE_ACCEPTANCE, Ended, Established, Event, Outcome
from tests.protocols.fmltp.peers import (
    CLIENT_LINE,
    EXCHANGE,
    KEX_ID,
    LOCKED,
    NOW,
    PAIR,
    PARAMETERS,
    READY,
    SERVER_KEX_ID,
    SERVER_LINE,
    Client,
    Server,
    Side,
    key_pem,
    opened,
    pem,
    token,
    unpadded,
)
from tests.strategies import corruptions, cut, disturbances, segmentations, truncations

# A session, as each side sends it; once with every line end, once as deployed peers do it.
FROM_CLIENT = [
    CLIENT_LINE, KEX_ID, token(SERVER_LINE), token("AUTH ann wrong"), token("HELP"), token("AUTH ann"),
    token("AUTH ann open sesame"), token("PLAY a song"), token(b"\xff"), token("x" * 500), token("STOP"), token("QUIT"),
]  # fmt: skip
DEPLOYED_CLIENT = [
    CLIENT_LINE,
    KEX_ID[:-1],
    *(
        unpadded(text)
        for text in (
            SERVER_LINE,
            "AUTH ann wrong",
            "HELP",
            "AUTH ann open sesame",
            "x" * 47,
            "y" * 40,
            "z" * 47,
            "QUIT",
        )
    ),
]
FROM_SERVER = [
    SERVER_LINE, PARAMETERS, SERVER_KEX_ID, token(LOCKED), token("151 Authentication failed.\r\n"), token("420 Going.\r\n"),
]  # fmt: skip
DEPLOYED_SERVER = [
    SERVER_LINE,
    PARAMETERS,
    SERVER_KEX_ID,
    *(
        unpadded(text)
        for text in ("100 FmLTP/1.0 Intepreter Ready\r\n", "200 x" + "y" * 42, "430 no", "200 " + "z" * 43)
    ),
]

EVERY_MESSAGE = [
    *FROM_CLIENT, *FROM_SERVER, unpadded("PLAY"), unpadded("x" * 47), token("PLAY", NOW - 61), token("PLAY", NOW + 86_400),
    token("AUTH  x"), token("HELP\r\nQUIT"), token(""), token("x" * 5000), b"FlexMusic,1.0.0\r\n", b"FlexMusic,0.0.0",
    pem("DH PARAMETERS", b"x"), pem("PUBLIC KEY", b"x"), key_pem(1), key_pem(5, NAMED["modp2048"]), b"GET / HTTP/1.1\r\n\r\n", b"",
    b"\r\n", b"gA", b"gAAAAA==\r\n", b"A" * 70_000, token(READY),
]  # fmt: skip
"""Every message of either side, good and bad, for every state of either machine."""


def run(side: Side, pieces: Sequence[bytes]) -> tuple[list[Event], bytes]:
    """Let a side take them all: its events, and what it said, with tokens opened where they are of one."""
    for piece in pieces:
        side.feed(piece)
    if not side.machine.ended:
        side.take(side.machine.end_of_stream(NOW))
    said = side.said()
    start = said.find(b"gAAA")
    if start < 0:
        return side.events, said
    try:
        return side.events, said[:start] + "|".join(opened(said[start:])).encode()
    except InvalidToken:
        # The key was changed, and is still one: what is said with it nobody can read.
        return side.events, said[:start] + b"%d characters" % len(said[start:])


class SegmentationTests(SynchronousTestCase):
    """Any split of a recorded session into segments gives the same events."""

    @given(st.data())
    def test_server(self, data: st.DataObject) -> None:
        """FM-2, FM-6, FM-10: the server does not see where TCP cuts."""
        for messages in (FROM_CLIENT, DEPLOYED_CLIENT):
            expected = run(Server(), messages)
            self.assertEqual(expected[0][-1], Ended(Outcome.LEFT, "the client quit"))
            self.assertIn(Established(), expected[0])
            self.assertEqual(run(Server(), data.draw(segmentations(b"".join(messages)))), expected)

    @given(st.data())
    def test_client(self, data: st.DataObject) -> None:
        """FM-2, FM-6, FM-10: nor does the client."""
        for messages in (FROM_SERVER, DEPLOYED_SERVER):
            expected = run(Client(), messages)
            self.assertEqual(len(expected[0]), len(messages) + 1 + (messages is DEPLOYED_SERVER))
            self.assertEqual(run(Client(), data.draw(segmentations(b"".join(messages)))), expected)

    @given(st.data())
    def test_bad_sessions(self, data: st.DataObject) -> None:
        """COM-3: nor does it matter for what is wrong, down to the offset."""
        for side, messages in ((Server, FROM_CLIENT), (Client, FROM_SERVER), (Server, DEPLOYED_CLIENT)):
            good = b"".join(messages)
            bad = data.draw(
                st.one_of(
                    corruptions(good),
                    truncations(good),
                    disturbances(messages).map(b"".join),
                    st.lists(st.sampled_from(EVERY_MESSAGE), max_size=6).map(b"".join),
                )
            )
            self.assertEqual(run(side(), data.draw(segmentations(bad))), run(side(), [bad]))


class AnythingTests(SynchronousTestCase):
    def check(self, side: Side) -> None:
        """What sansio promises."""
        events = side.events
        ended = [event for event in events if isinstance(event, Ended)]
        established = [event for event in events if isinstance(event, Established)]
        self.assertLessEqual(len(established), 1)
        self.assertEqual(bool(established), side.machine.established)
        if ended:
            self.assertEqual((len(ended), events[-1]), (1, ended[0]))
            self.assertIn(ended[0].outcome, AFTER_ACCEPTANCE if established else BEFORE_ACCEPTANCE)
            self.assertTrue(ended[0].reason.isprintable(), ended[0].reason)
            self.assertIsNone(side.machine.deadline())
        elif not established:
            self.assertIsNotNone(side.machine.deadline())

    @given(st.data())
    @settings(max_examples=150)
    def test_any_order(self, data: st.DataObject) -> None:
        """COM-3: nothing that a peer sends makes a machine raise, and who did not AUTH gets nothing (FM-11)."""
        side = data.draw(st.sampled_from([Server, Client]))()
        messages = FROM_CLIENT if isinstance(side, Server) else FROM_SERVER
        start = data.draw(st.integers(0, len(messages)))
        for message in [*messages[:start], *data.draw(st.lists(st.sampled_from(EVERY_MESSAGE), max_size=5))]:
            if data.draw(st.booleans()):
                side.feed(message)
            else:
                side.feed(*data.draw(segmentations(message)))
            if data.draw(st.integers(0, 9)) == 0:
                side.pass_time(data.draw(st.sampled_from([0.1, 0.3, 5, 70])))
            self.check(side)
        if isinstance(side, Server):
            commands = [event for event in side.events if isinstance(event, CommandReceived) and event.name != "HELP"]
            self.assertFalse(commands and not side.machine.established)

    @given(st.binary(max_size=300), st.integers(0, 4))
    def test_any_bytes(self, junk: bytes, start: int) -> None:
        """COM-3: in any state of the handshake."""
        for side, messages in ((Server(), FROM_CLIENT), (Client(), FROM_SERVER)):
            side.feed(*messages[:start], junk)
            self.check(side)
            side.take(side.machine.end_of_stream(NOW))
            self.check(side)


class MemoryAndTimeTests(SynchronousTestCase):
    """What nobody who has not proved anything can make the server hold or do."""

    def test_held(self) -> None:
        """COM-2: 4 KiB and a segment, in every state."""
        for start in range(4):
            for flood in (b"x", b"\r\n", b"gA", b"A", b"FlexMusic", b"-----BEGIN", b"="):
                server = Server()
                server.feed(*FROM_CLIENT[:start])
                for _ in range(200):
                    server.feed(flood * 100)
                    self.assertLessEqual(len(server.machine._input), 5000 + 100 * len(flood))
                    if server.machine.ended:
                        break

    def test_operations(self) -> None:
        """Never more than 5 ms of CPU before authentication beyond the exchange itself: counted, not timed.

        An HMAC, a decryption or an answer takes some microseconds; a few hundred of them is all that there can be.
        """
        counted = 0

        def count(method: Any) -> Any:
            def counting(*arguments: Any, **keywords: Any) -> Any:
                nonlocal counted
                counted += 1
                return method(*arguments, **keywords)

            return counting

        real_verifies, real_mac, real_encrypt = FernetKey.verifies, FernetKey.mac, FernetKey.encrypt
        floods = {
            "unterminated": [b"gA" + b"A" * 70_000],
            "dribbled": [b"gA", *[b"A" * 64] * 200],
            "tampered": [token("HELP")[:-9] + b"AAAAA==\r\n"] * 500,
            "replayed": [token("HELP")] * 500,
            "commands": [token("HELP") for _ in range(500)],
            "joined": [b"".join(unpadded("HELP " + "x" * 42) for _ in range(400))],
            "line ends": [b"\r\n" * 30_000] * 10,
        }
        for name, flood in floods.items():
            counted = 0
            server = Server().shake_hands()
            with (
                mock.patch.object(FernetKey, "verifies", count(real_verifies)),
                mock.patch.object(FernetKey, "mac", count(real_mac)),
                mock.patch.object(FernetKey, "encrypt", count(real_encrypt)),
                mock.patch("hmac.compare_digest", count(__import__("hmac").compare_digest)),
            ):
                for piece in flood:
                    server.feed(piece)
            self.assertLessEqual(counted, 400, name)
            self.assertEqual(server.machine.ended, name != "line ends", name)
            self.assertFalse(server.machine.established)

    def test_no_arithmetic_before_a_valid_key(self) -> None:
        """FM-6: a server computes nothing for a client whose key is not right."""
        for wrong in (
            key_pem(0),
            key_pem(FFDHE2048.p - 1),
            key_pem(5, NAMED["modp2048"]),
            pem("PUBLIC KEY", b"x" * 2000),
        ):
            with mock.patch("builtins.pow", side_effect=AssertionError("computed")):
                server = Server(held=(KeyExchangeRequested,))
                server.feed(CLIENT_LINE, wrong)
            self.assertIsInstance(server.events[-1], Ended)


class ConversationTests(SynchronousTestCase):
    """The two machines with each other."""

    def converse(self, sizes: Sequence[int], **options: Any) -> tuple[Server, Client]:
        server, client = Server(**options), Client()
        self.pump(server, client, sizes)
        return server, client

    def pump(self, server: Server, client: Client, sizes: Sequence[int] = ()) -> None:
        while True:
            from_server, from_client = server.said(), client.said()
            if not from_server and not from_client:
                return
            for side, data in ((client, from_server), (server, from_client)):
                places = sorted({size for size in sizes if 0 < size < len(data)})
                side.feed(*cut(data, places))

    @given(st.lists(st.integers(1, 900), max_size=6))
    @settings(max_examples=30)
    def test_session(self, sizes: list[int]) -> None:
        """FM-1 to FM-13: handshake, failed and good AUTH, HELP, a command, QUIT."""
        server, client = self.converse(sizes)
        self.assertTrue(client.machine.locked)
        for password in ("wrong", "open sesame"):
            client.machine.authenticate("ann", password, NOW)
            self.pump(server, client, sizes)
        for text in ("HELP", "PLAY a song", "QUIT"):
            client.machine.command(text, NOW)
        self.pump(server, client, sizes)
        version = Version("FlexMusic connectd", 0, 0, 0)
        self.assertEqual(
            client.events,
            [
                VersionReceived(version, 100),
                KeyPairRequested(FFDHE2048),
                SecretRequested(FFDHE2048, PAIR, EXCHANGE.public),
                Greeted(100, True, False),
                ReplyReceived("AUTH", Reply(151, "Authentication failed.")),
                ReplyReceived("AUTH", Reply(150, "Authentication successful.")),
                Established(),
                ReplyReceived("HELP", Reply(200, "HELP|")),
                ReplyReceived("PLAY", Reply(200, "PLAY|a song")),
                ReplyReceived("QUIT", Reply(200, "Goodbye.")),
            ],
        )
        self.assertEqual(
            server.events,
            [
                VersionReceived(version, 100),
                KeyExchangeRequested(FFDHE2048, PAIR.public),
                AuthenticationRequested(b"ann", b"wrong"),
                AuthenticationRequested(b"ann", b"open sesame"),
                Established(),
                CommandReceived("HELP", ""),
                CommandReceived("PLAY", "a song"),
                Ended(Outcome.LEFT, "the client quit"),
            ],
        )

    def test_told_why(self) -> None:
        server, client = self.converse([], accounts=False)
        server.take(server.machine.close(Outcome.SHUTDOWN, "Server is shutting down", NOW))
        self.pump(server, client)
        self.assertEqual(client.events[-1], NoticeReceived(Reply(420, "Server is shutting down")))

    def test_a_flood_never_pauses(self) -> None:
        """FM-15: more commands in one second than a receiver remembers, between two of ours."""
        server, client = self.converse([], accounts=False)
        for _ in range(6000):
            client.machine.command("X", NOW)
            self.pump(server, client)
        self.assertFalse(server.machine.ended)
        self.assertTrue(server.machine.wants_data)
        self.assertTrue(client.machine.wants_data)
