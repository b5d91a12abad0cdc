"""Tests of the server's side of :mod:`connectd.protocols.fmltp.machine`, with bytes that ``cryptography`` wrote."""

from __future__ import annotations

import hmac
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.fmltp import channel, exchange
from connectd.protocols.fmltp.groups import FFDHE2048, FFDHE3072, encode_parameters
from connectd.protocols.fmltp.machine import (
    AuthenticationRequested,
    CommandReceived,
    KeyExchangeRequested,
    ServerMachine,
    VersionReceived,
)
from connectd.protocols.fmltp.packets import MAXIMUM_PLAINTEXT, CommandLine, Reply, Version
from connectd.protocols.fmltp.replay import REMEMBERED
from connectd.protocols.fmltp.server_machine import ATTEMPTS, EARLY_COMMANDS
from connectd.protocols.fmltp.settings import FmltpSettings
from connectd.protocols.fmltp.side import EARLY_TOKEN, QUIET
from connectd.sansio import Ended, Established, LocalProtocolError, Outcome, Received
from tests.protocols.fmltp.peers import (
    CLIENT_LINE,
    EXCHANGE,
    KEX_ID,
    LOCKED,
    NOW,
    PAIR,
    READY,
    SERVER_KEX_ID,
    SERVER_LINE,
    Server,
    element,
    fernet_of,
    integer,
    key_der,
    key_pem,
    opened,
    pem,
    token,
    unpadded,
)

P = FFDHE2048.p


class VersionTests(SynchronousTestCase):
    def test_the_server_speaks_first(self) -> None:
        """FM-1: on connect."""
        self.assertEqual(Server().said(), SERVER_LINE)
        named = Server(friendly_name="FlexMusic at home", version="1.2.3")
        self.assertEqual(named.said(), b"FlexMusic at home,1.2.3\r\n")

    def test_answered(self) -> None:
        """FM-2, FM-4: the client's line is answered with the parameters."""
        server = Server()
        server.said()
        version = Version("FlexMusic Python Client Library", 0, 0, 0)
        self.assertEqual(server.feed(CLIENT_LINE), [VersionReceived(version, 100)])
        self.assertEqual(server.said(), encode_parameters(FFDHE2048))
        self.assertEqual(server.machine.peer_version, version)

    def test_ends_at_lf(self) -> None:
        """FM-2: CRLF or LF."""
        server = Server()
        self.assertEqual(len(server.feed(b"FlexMusic,0.0.0\n")), 1)

    def test_no_line_end(self) -> None:
        """FM-2: without one it is complete when it has the form and 300 ms pass without a further byte."""
        server = Server()
        server.said()
        self.assertEqual(server.feed(b"FlexMusic,0.0.1"), [])
        self.assertEqual(server.machine.deadline(), NOW + QUIET)
        self.assertEqual(QUIET, 0.3)
        self.assertEqual(server.pass_time(0.29), [])
        self.assertEqual(server.feed(b"2"), [])
        self.assertEqual(server.pass_time(0.29), [])
        self.assertEqual(server.said(), b"")
        self.assertEqual(server.pass_time(0.02), [VersionReceived(Version("FlexMusic", 0, 0, 12), 101)])
        self.assertEqual(server.said(), encode_parameters(FFDHE2048))
        self.assertEqual(server.machine.deadline(), NOW + 15)

    def test_no_line_end_and_not_the_form(self) -> None:
        """FM-2: what has not the form yet is waited for, until the deadline of the handshake."""
        server = Server()
        for piece in (b"Flex", b"Music,0.", b"0.", b"1000000000"):
            server.feed(piece)
            self.assertEqual(server.pass_time(1), [])
        self.assertEqual(server.machine.deadline(), NOW + 15)
        server.pass_time(11)
        self.assertEqual(server.ended.outcome, Outcome.TIMEOUT)

    def test_late_for_the_quiet(self) -> None:
        """FM-2: what comes after the 300 ms is not of the line, though nobody asked for the deadline in between."""
        server = Server(held=(KeyExchangeRequested,))
        server.feed(b"FlexMusic,0.0.1")
        server.now += 0.4
        events = server.feed(KEX_ID)
        self.assertEqual([type(event) for event in events], [VersionReceived, KeyExchangeRequested])

    def test_at_most_1024_bytes(self) -> None:
        """FM-2."""
        name = b"FlexMusic" + b"x" * 1007
        self.assertEqual(len(name + b",0.0.0\r\n"), 1024)
        self.assertEqual(len(Server().feed(name + b",0.0.0\r\n")), 1)
        for line in (name + b"x,0.0.0\r\n", b"FlexMusic" + b"x" * 2000):
            for pieces in ([line], [line[:500], line[500:1024], line[1024:]]):
                server = Server()
                server.feed(*pieces)
                self.assertEqual((server.ended.outcome, server.ended.offset), (Outcome.MALFORMED, 1024))
        server = Server()
        server.feed(name + b"xx,0.0.0")
        self.assertEqual(server.pass_time(0.3), [VersionReceived(Version((name + b"xx").decode(), 0, 0, 0), 100)])

    def test_other_forms_close(self) -> None:
        """FM-2: a name that does not begin with FlexMusic, or another form: close, without a byte (COM-12)."""
        for line, offset in {
            b"GET / HTTP/1.1\r\n\r\n": 0,
            b"FlexMusik,0.0.0\r\n": 8,
            b"flexMusic": 0,
            b"FlexX": 4,
            b"FlexMusic\r\n": 0,
            b"FlexMusic,0.0\r\n": 0,
            b"FlexMusic,0.0.1234567890\r\n": 0,
            b"FlexMusic\xff,0.0.0\r\n": 0,
            b"\r\n": 0,
        }.items():
            server = Server()
            server.said()
            server.feed(line)
            self.assertEqual((server.ended.outcome, server.ended.offset), (Outcome.MALFORMED, offset), line)
            self.assertEqual(server.said(), b"")

    def test_another_class(self) -> None:
        """FM-3: another x: close without a message, with a clear local error."""
        server = Server(version="1.0.0")
        server.said()
        server.feed(b"FlexMusic,2.0.0\r\n")
        self.assertEqual(server.ended.outcome, Outcome.REFUSED)
        self.assertEqual(
            server.ended.reason, "the peer is FlexMusic 2.0.0 and this is 1.0.0: they differ in their class, x"
        )
        self.assertEqual(server.said(), b"")

    def test_other_steppings(self) -> None:
        """FM-3, FM-9: another y or z is accepted, and reported in KEX_FINAL."""
        line = b"FlexMusic connectd,1.5.5\r\n"
        for number, code in (("1.5.6", 101), ("1.6.4", 112), ("1.4.9", 121), ("1.4.4", 122), ("1.5.4", 102)):
            server = Server(version="1.5.5", accounts=False)
            events = server.feed(b"FlexMusic,%b\r\n" % number.encode(), KEX_ID)
            self.assertEqual(events[0].code, code)  # type: ignore[attr-defined]
            server.said()
            server.feed(token(line))
            self.assertEqual(opened(server.said()), [f"{code} FmLTP/1.0 Interpreter Ready.\r\n"])


class KeyTests(SynchronousTestCase):
    def close(self, key: bytes, **settings: Any) -> Ended:
        """Send a key that closes without a byte."""
        server = Server(**settings)
        server.feed(CLIENT_LINE)
        server.said()
        server.feed(key)
        self.assertEqual(server.said(), b"")
        self.assertFalse(any(isinstance(event, KeyExchangeRequested) for event in server.events))
        return server.ended

    def test_kex_init(self) -> None:
        """FM-4, FM-5: the parameters that the listener has."""
        server = Server(group=FFDHE3072)
        server.feed(CLIENT_LINE)
        self.assertEqual(server.said(), SERVER_LINE + encode_parameters(FFDHE3072))

    def test_requested(self) -> None:
        """FM-6: the server's key is made only after a valid CLIENT_KEX_ID, and for this connection."""
        server = Server(held=(KeyExchangeRequested,))
        server.feed(CLIENT_LINE)
        server.said()
        for piece in (KEX_ID[:10], KEX_ID[10:-30]):
            self.assertEqual(server.feed(piece), [])
        self.assertEqual(server.feed(KEX_ID[-30:]), [KeyExchangeRequested(FFDHE2048, PAIR.public)])
        self.assertEqual(server.said(), b"")
        server.take(server.machine.key_exchanged(EXCHANGE, NOW))
        self.assertEqual(server.said(), SERVER_KEX_ID)

    def test_tolerated(self) -> None:
        """FM-6: CRLF line ends, and text before the BEGIN line."""
        key = key_der(P, 2, PAIR.public)
        for text in (
            pem("PUBLIC KEY", key, "\r\n"),
            pem("PUBLIC KEY", key, before="Key:\r\n"),
            key_pem(PAIR.public)[:-1],
        ):
            server = Server()
            server.feed(CLIENT_LINE, text, token(SERVER_LINE))
            self.assertTrue(server.machine.locked, text)

    def test_y(self) -> None:
        """FM-6: y in {0, 1, p-1, p}: close."""
        for y in (0, 1, P - 1, P):
            self.assertEqual(self.close(key_pem(y)).outcome, Outcome.MALFORMED)

    def test_foreign_group(self) -> None:
        """FM-6."""
        ended = self.close(pem("PUBLIC KEY", key_der(FFDHE3072.p, 2, 5)))
        self.assertEqual((ended.outcome, ended.offset), (Outcome.MALFORMED, len(CLIENT_LINE)))
        ended = self.close(pem("PUBLIC KEY", key_der(P, 3, 5)))
        self.assertEqual(ended.reason, "the key is of another group than the exchange")

    def test_9941_bits(self) -> None:
        """FM-6: the key that costs a library 36 s costs nothing: nothing is loaded, nothing is computed."""
        key = pem("PUBLIC KEY", key_der((1 << 9941) - 1, 2, 3))
        self.assertTrue(1700 < len(key) < 4096)
        loaders = ("_ParameterNumbers", "_PublicNumbers", "_PrivateNumbers")
        for name in loaders:
            self.patch(exchange, name, mock.Mock(side_effect=AssertionError("loaded")))
        self.assertIn("the modulus has more than 2048 bits", self.close(key).reason)

    def test_oversized(self) -> None:
        """FM-6: at most 4 KiB."""
        for text in (
            pem("PUBLIC KEY", bytes(4000)),
            b"x" * 4096,
            pem("PUBLIC KEY", b"", before="y" * 4090 + "\n"),
            b"\0" * 70_000,
        ):
            ended = self.close(text)
            self.assertEqual((ended.outcome, ended.offset), (Outcome.MALFORMED, len(CLIENT_LINE) + 4096))

    def test_no_key(self) -> None:
        """FM-6, COM-3."""
        for text in (
            pem("CERTIFICATE", b"x"),
            pem("DH PARAMETERS", element(0x30, integer(P), integer(2))),
            pem("PUBLIC KEY", b"x"),
            pem("PUBLIC KEY", key_der(P, 2, 5)[:-1]),
            KEX_ID.replace(b"M", b"!"),
        ):
            self.assertEqual(self.close(text).outcome, Outcome.MALFORMED)

    def test_refused(self) -> None:
        """COM-12: no words before KEX_FINAL."""
        server = Server(held=(KeyExchangeRequested,))
        server.feed(CLIENT_LINE, KEX_ID)
        server.said()
        server.take(server.machine.refuse("The server is full", NOW, Outcome.LIMITED))
        self.assertEqual(server.ended, Ended(Outcome.LIMITED, "The server is full"))
        self.assertEqual(server.said(), b"")


class ChallengeTests(SynchronousTestCase):
    def exchanged(self, **settings: Any) -> Server:
        server = Server(**settings)
        server.feed(CLIENT_LINE, KEX_ID)
        server.said()
        return server

    def test_right(self) -> None:
        """FM-8, FM-9: the server's first line, compared stripped; then the interpreter's first message."""
        for text in (SERVER_LINE, SERVER_LINE.strip(), b"  " + SERVER_LINE + b"\n"):
            server = self.exchanged()
            self.assertEqual(server.feed(token(text)), [])
            self.assertEqual(opened(server.said()), [LOCKED])

    def test_without_accounts(self) -> None:
        """FM-9."""
        server = self.exchanged(accounts=False)
        self.assertEqual(server.feed(token(SERVER_LINE)), [Established()])
        self.assertEqual(opened(server.said()), [READY])

    def test_wrong(self) -> None:
        """FM-8: wrong text, wrong key, not a token: close, and not a byte (COM-12)."""
        other = fernet_of(bytes(256)).encrypt_at_time(SERVER_LINE, int(NOW)) + b"\r\n"
        good = token(SERVER_LINE)
        tampered = good[:50] + (b"B" if good[50:51] == b"A" else b"A") + good[51:]
        for wrong in (
            token(b"FlexMusic connectd,0.0.1\r\n"),
            token(b""),
            other,
            SERVER_LINE,
            b"AUTH a b\r\n",
            tampered,
            good[:-10] + b"\r\n",
        ):
            server = self.exchanged()
            server.feed(wrong)
            self.assertEqual(server.ended.outcome, Outcome.MALFORMED)
            self.assertEqual(server.said(), b"")

    def test_offset(self) -> None:
        """COM-3: where the token with the wrong text begins, whatever stands before it."""
        for between in (b"", b"\r\n"):
            server = self.exchanged()
            server.feed(between + token("something else"))
            self.assertEqual(server.ended.offset, len(CLIENT_LINE + KEX_ID + between))

    def test_compared_in_constant_time(self) -> None:
        """FM-8."""
        server = self.exchanged()
        with mock.patch("hmac.compare_digest", return_value=False):
            # Neither the HMAC nor the text is found right by anything else.
            server.feed(token(SERVER_LINE))
        self.assertEqual(server.ended.outcome, Outcome.MALFORMED)
        server = self.exchanged()
        with mock.patch("hmac.compare_digest", wraps=hmac.compare_digest) as compare:
            server.feed(token(SERVER_LINE))
        compare.assert_any_call(SERVER_LINE.strip(), SERVER_LINE.strip())

    def test_replayed_session(self) -> None:
        """FM-6, FM-15: replaying every byte that a client once sent gets nowhere, for the server's key is a new one."""
        first = Server()
        first.feed(CLIENT_LINE, KEX_ID, token(SERVER_LINE), token("AUTH ann open sesame"), token("PLAY"))
        self.assertTrue(first.machine.established)
        second = Server(held=(KeyExchangeRequested,))
        second.feed(CLIENT_LINE, KEX_ID)
        second.take(second.machine.key_exchanged(exchange.answer(FFDHE2048, PAIR.public), NOW))
        second.said()
        second.feed(token(SERVER_LINE), token("AUTH ann open sesame"), token("PLAY"))
        self.assertEqual((second.ended.outcome, second.said()), (Outcome.MALFORMED, b""))

    def test_longest(self) -> None:
        """COM-2: before a session is accepted a token has at most 4 KiB."""
        server = self.exchanged()
        server.feed(b"gA" + b"A" * EARLY_TOKEN)
        self.assertEqual(server.ended.outcome, Outcome.MALFORMED)
        self.assertIn("4096", server.ended.reason)


class LockdownTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server().shake_hands()

    def test_auth(self) -> None:
        """FM-11: 150, and the session is accepted."""
        self.assertTrue(self.server.machine.locked)
        self.assertEqual(
            self.server.feed(token("AUTH ann open sesame")),
            [AuthenticationRequested(b"ann", b"open sesame"), Established()],
        )
        self.assertEqual(opened(self.server.said()), ["150 Authentication successful.\r\n"])
        self.assertEqual((self.server.machine.account, self.server.machine.locked), ("ann", False))

    def test_the_rest_of_the_line(self) -> None:
        """FM-11: single spaces separate; the password is the rest of the line."""
        for text, user, password in (
            ("AUTH ann  two  spaces ", "ann", " two  spaces "),
            ("AUTH ann x\r\n", "ann", "x"),
            ("AUTH b\xe9a \U0001f511 key\n", "b\xe9a", "\U0001f511 key"),
        ):
            server = Server(held=(AuthenticationRequested,)).shake_hands()
            self.assertEqual(server.feed(token(text)), [AuthenticationRequested(user.encode(), password.encode())])

    def test_too_few_arguments(self) -> None:
        """FM-12: 411, which does not count as a failure."""
        for text in ("AUTH", "AUTH ", "AUTH ann", "AUTH ann ", "AUTH  secret"):
            self.assertEqual(self.server.ask(text), ["411 Too few arguments.\r\n"])
        self.assertEqual(self.server.machine.attempts, 0)
        self.assertTrue(self.server.machine.locked)

    def test_too_many_arguments(self) -> None:
        """FM-11: there are none: it is another password."""
        self.assertEqual(self.server.ask("AUTH ann open sesame now"), ["151 Authentication failed.\r\n"])

    def test_three_failures(self) -> None:
        """FM-11: 151; the third failure is answered with 151, then closes."""
        self.assertEqual(ATTEMPTS, 3)
        for _ in range(2):
            self.assertEqual(self.server.ask("AUTH ann x"), ["151 Authentication failed.\r\n"])
            self.assertFalse(self.server.machine.ended)
        self.assertEqual(self.server.ask("AUTH ann y"), ["151 Authentication failed.\r\n"])
        self.assertEqual(self.server.ended, Ended(Outcome.REFUSED, "3 failed authentications"))

    def test_a_success_after_failures(self) -> None:
        """FM-11."""
        for _ in range(2):
            self.server.ask("AUTH ann x")
        self.assertEqual(self.server.ask("AUTH ann open sesame"), ["150 Authentication successful.\r\n"])
        self.assertTrue(self.server.machine.established)

    def test_nothing_else(self) -> None:
        """FM-11: only AUTH, HELP and QUIT are accepted until one AUTH succeeds."""
        for text in ("PLAY", "auth ann open sesame", "AUTHENTICATE", "PLAY AUTH", "Help"):
            self.assertEqual(self.server.ask(text), ["400 Invalid command.\r\n"])
        self.assertEqual(self.server.ask("HELP me"), ["200 HELP|me\r\n"])
        self.assertFalse(
            any(isinstance(event, CommandReceived) and event.name != "HELP" for event in self.server.events)
        )
        self.assertFalse(self.server.machine.established)

    def test_not_a_command(self) -> None:
        """FM-12: non-UTF-8, control characters, nothing: 400."""
        for text in (b"\xff\xfe", b"", b"\r\n", b"HELP\r\nQUIT", b"AUTH ann \0", b" AUTH ann x"):
            self.assertEqual(self.server.ask(text), ["400 Invalid command.\r\n"])

    def test_quit(self) -> None:
        """FM-12: 200 Goodbye., then close; after a failed AUTH it lets nobody in."""
        self.server.ask("AUTH ann x")
        self.assertEqual(self.server.ask("QUIT"), ["200 Goodbye.\r\n"])
        self.assertEqual(self.server.ended.outcome, Outcome.ABORTED)
        self.assertFalse(self.server.machine.established)
        self.assertEqual(self.server.ask("PLAY"), [])

    def test_refused(self) -> None:
        """FM-11: an account that may not be used gets the same 151 (COM-10), and the end."""
        for outcome in (Outcome.REFUSED, Outcome.BANNED, Outcome.LIMITED):
            server = Server(held=(AuthenticationRequested,)).shake_hands()
            server.feed(token("AUTH ann open sesame"))
            server.take(server.machine.refuse("This account is disabled", NOW, outcome))
            self.assertEqual(opened(server.said()), ["151 Authentication failed.\r\n"])
            self.assertEqual(server.ended, Ended(outcome, "This account is disabled"))

    def test_commands_are_counted(self) -> None:
        """COM-2: nobody keeps the server busy who has not proved anything."""
        for _ in range(EARLY_COMMANDS):
            self.assertEqual(len(self.server.ask("HELP")), 1)
        self.assertEqual(self.server.ask("HELP"), ["420 more than 32 commands before a successful AUTH\r\n"])
        self.assertEqual(self.server.ended.outcome, Outcome.LIMITED)

    def test_input_waits_for_the_answer(self) -> None:
        """COM-2: while a Decision is open nothing is parsed, and only so much is taken."""
        server = Server(held=(AuthenticationRequested,)).shake_hands()
        server.feed(token("AUTH ann open sesame") + token("PLAY"))
        self.assertTrue(server.machine.wants_data)
        self.assertEqual(server.feed(token("HELP")), [])
        server.feed(b"\r\n" * EARLY_TOKEN)
        self.assertFalse(server.machine.wants_data)
        server.take(server.machine.accept("ann", NOW))
        self.assertEqual(
            opened(server.said()), ["150 Authentication successful.\r\n", "200 PLAY|\r\n", "200 HELP|\r\n"]
        )
        self.assertTrue(server.machine.wants_data)

    def test_secrets_are_not_shown(self) -> None:
        """COM-9: neither field: people confuse them. Nor a command's arguments."""
        self.assertEqual(repr(AuthenticationRequested(b"ann", b"secret")), "AuthenticationRequested()")
        self.assertNotIn("secret", repr(CommandReceived("PASSWD", "secret")))
        self.assertNotIn("secret", repr(CommandLine("PASSWD", "secret")))


class ReadyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server(accounts=False).shake_hands()

    def test_commands(self) -> None:
        """FM-13: what is not built in is asked for; names come as they were sent."""
        events = self.server.feed(token("play  a\tb"))
        self.assertEqual(events, [CommandReceived("play", " a\tb")])
        self.assertEqual(opened(self.server.said()), ["200 play| a\tb\r\n"])

    def test_no_auth(self) -> None:
        """FM-13: where nobody has to AUTH, or somebody has, there is none."""
        self.assertEqual(self.server.ask("AUTH ann open sesame"), ["400 Invalid command.\r\n"])
        server = Server().shake_hands()
        server.ask("AUTH ann open sesame")
        self.assertEqual(server.ask("AUTH ann open sesame"), ["400 Invalid command.\r\n"])
        self.assertFalse(server.machine.ended)

    def test_quit(self) -> None:
        """FM-12: 200 Goodbye., then close, always: with arguments too, and what follows is not looked at."""
        for text in ("QUIT", "QUIT now", "QUIT\r\n"):
            server = Server(accounts=False).shake_hands()
            server.feed(token(text) + token("PLAY"))
            self.assertEqual(opened(server.said()), ["200 Goodbye.\r\n"])
            self.assertEqual(server.ended, Ended(Outcome.LEFT, "the client quit"))

    def test_not_a_command(self) -> None:
        """FM-12: non-UTF-8 plaintext: 400, and the session goes on."""
        for text in (b"\xff", b"", b"PLAY\n\n", b"\x1b[2J"):
            self.assertEqual(self.server.ask(text), ["400 Invalid command.\r\n"])
        self.assertEqual(self.server.ask("PLAY"), ["200 PLAY|\r\n"])

    def test_tokens_without_crlf(self) -> None:
        """FM-10: deployed peers write none; joined or split."""
        stream = b"".join(unpadded("x" * length) for length in (1, 20, 40, 60, 80, 100))
        self.server.feed(stream[:500], stream[500:])
        self.assertEqual(len(opened(self.server.said())), 6)

    def test_long_commands(self) -> None:
        """FM-10: after acceptance 64 KiB."""
        self.server.held = (CommandReceived,)
        events = self.server.feed(token("X" * MAXIMUM_PLAINTEXT))
        self.assertEqual(events, [CommandReceived("X" * MAXIMUM_PLAINTEXT, "")])

    def test_tampered_replayed_reflected_truncated(self) -> None:
        """FM-10, FM-15: each closes, without a word into a channel that somebody meddles with."""
        good = token("PLAY")
        tampered = good[:40] + (b"B" if good[40:41] == b"A" else b"A") + good[41:]
        for wrong, answered in (
            (tampered, 0),
            (good + good, 1),
            (None, 0),
            (good[:-6] + b"\r\n", 0),
            (b"HELP\r\n", 0),
            (token("PLAY", NOW - 61), 0),
            (b"gA" + b"A" * 70_000, 0),
        ):
            server = Server(accounts=False).shake_hands()
            server.feed(token("FIRST"))
            reflected = server.said()
            server.feed(reflected if wrong is None else wrong)
            self.assertEqual(server.ended.outcome, Outcome.MALFORMED)
            self.assertEqual(len(opened(server.said())), answered)

    def test_offset(self) -> None:
        """COM-3: the event says at which byte."""
        start = len(CLIENT_LINE + KEX_ID + token(SERVER_LINE) + token("PLAY"))
        self.server.feed(token("PLAY"), b"gAAA!")
        self.assertEqual(self.server.ended, Ended(Outcome.MALFORMED, "ready: a byte that is in no token", start + 4))

    def test_full_memory_pauses(self) -> None:
        """FM-15: 4,096 tokens of one second, then input pauses until it is over."""
        self.server.feed(*(token("X") for _ in range(REMEMBERED - 1)))
        self.assertFalse(self.server.machine.ended)
        self.assertFalse(self.server.machine.wants_data)
        self.server.said()
        self.assertEqual(self.server.feed(token("LATER", NOW + 1)), [])
        self.assertEqual(self.server.machine.deadline(), NOW + 1)
        self.assertEqual(self.server.pass_time(0.5), [])
        self.assertEqual(self.server.pass_time(0.5), [CommandReceived("LATER", "")])
        self.assertTrue(self.server.machine.wants_data)

    def test_a_reply_that_is_too_long(self) -> None:
        """FM-10: our own mistake; the Decision stays open for another."""
        self.server.held = (CommandReceived,)
        self.server.feed(token("PLAY"))
        self.assertRaises(LocalProtocolError, self.server.machine.reply, Reply(200, "x" * MAXIMUM_PLAINTEXT), NOW)
        self.server.take(self.server.machine.reply(Reply(420, "Too long."), NOW))
        self.assertEqual(opened(self.server.said()), ["420 Too long.\r\n"])

    def test_refused_command(self) -> None:
        """A Decision that fails ends the session as failed, with 420."""
        self.server.held = (CommandReceived,)
        self.server.feed(token("PLAY"))
        self.server.take(self.server.machine.refuse("Internal error", NOW))
        self.assertEqual(opened(self.server.said()), ["420 Internal error\r\n"])
        self.assertEqual(self.server.ended.outcome, Outcome.FAILED)


class HandlerTests(SynchronousTestCase):
    """Handlers that answer commands themselves."""

    def setUp(self) -> None:
        self.server = Server(accounts=False, held=(CommandReceived,)).shake_hands()

    def test_hand_on(self) -> None:
        self.server.feed(token("PLAY a b") + token("STOP"))
        self.assertEqual(
            self.server.take(self.server.machine.hand_on(NOW)),
            [Received(CommandLine("PLAY", "a b")), CommandReceived("STOP", "")],
        )
        self.assertEqual(self.server.said(), b"")

    def test_hand_on_in_lockdown(self) -> None:
        """FM-14: HELP there does not extend the time for AUTH."""
        server = Server(held=(CommandReceived,)).shake_hands()
        server.feed(token("HELP"))
        server.take(server.machine.hand_on(NOW + 30))
        self.assertEqual(server.machine.deadline(), NOW + 60)

    def test_send_replies(self) -> None:
        self.server.machine.send(Reply(200, "Now playing."), NOW)
        self.assertEqual(opened(self.server.said()), ["200 Now playing.\r\n"])
        self.assertRaises(LocalProtocolError, self.server.machine.send, Reply(200, "x" * MAXIMUM_PLAINTEXT), NOW)

    def test_send_lines(self) -> None:
        """Lines that are complete go out as one token; the rest waits."""
        send = self.server.machine.send
        send(b"200 a", NOW)
        self.assertEqual(self.server.said(), b"")
        send(b"\r\n200 b\r\n200 c", NOW)
        self.assertEqual(opened(self.server.said()), ["200 a\r\n200 b\r\n"])
        self.server.take(self.server.machine.close(Outcome.SHUTDOWN, "Server is shutting down", NOW))
        self.assertEqual(opened(self.server.said()), ["200 c", "420 Server is shutting down\r\n"])

    def test_send_much(self) -> None:
        """What is more than a token holds is cut between lines; a line that is more fails, and holds no more than that."""
        line = "x" * 999 + "\n"
        self.server.machine.send(line.encode() * 100, NOW)
        texts = opened(self.server.said())
        self.assertEqual(("".join(texts), len(texts)), (line * 100, 3))
        self.server.machine.send(b"y" * MAXIMUM_PLAINTEXT, NOW)
        self.assertRaises(LocalProtocolError, self.server.machine.send, b"y", NOW)

    def test_quit_says_the_rest(self) -> None:
        self.server.machine.send(b"200 a", NOW)
        self.server.feed(token("QUIT"))
        self.assertEqual(opened(self.server.said()), ["200 a", "200 Goodbye.\r\n"])

    def test_no_session(self) -> None:
        self.assertRaises(LocalProtocolError, Server().shake_hands().machine.send, Reply(200, ""), NOW)
        self.server.feed(token("QUIT"))
        self.assertRaises(LocalProtocolError, self.server.machine.send, Reply(200, ""), NOW)


class TimeTests(SynchronousTestCase):
    def test_fifteen_seconds(self) -> None:
        """FM-14, COM-1: 15 s to KEX_FINAL, whatever trickles in; nothing is said (COM-12)."""
        self.assertEqual(FmltpSettings().handshake_timeout, 15)
        for parts in ([], [CLIENT_LINE], [CLIENT_LINE, KEX_ID], [CLIENT_LINE, KEX_ID[:100]]):
            server = Server()
            server.feed(*parts)
            server.said()
            self.assertEqual(server.pass_time(14.9), [])
            server.feed(b"")
            server.pass_time(0.1)
            self.assertEqual((server.ended.outcome, server.said()), (Outcome.TIMEOUT, b""))

    def test_sixty_seconds(self) -> None:
        """FM-14: then 60 s for a successful AUTH, which failures do not extend."""
        server = Server().shake_hands()
        self.assertEqual(server.machine.deadline(), NOW + 60)
        server.now += 59
        server.ask("AUTH ann x")
        self.assertEqual(server.pass_time(0.9), [])
        server.pass_time(0.1)
        self.assertEqual(server.ended.outcome, Outcome.TIMEOUT)
        self.assertEqual(opened(server.said()), ["420 no AUTH succeeded in time\r\n"])

    def test_no_deadline_after_that(self) -> None:
        """FM-14: idle sessions stay, unless it is set otherwise."""
        server = Server().shake_hands()
        server.ask("AUTH ann open sesame")
        self.assertIsNone(server.machine.deadline())
        self.assertIsNone(Server(accounts=False).shake_hands().machine.deadline())

    def test_idle(self) -> None:
        """FM-14: closed after a settable time without a command; while one is worked on, time stands still."""
        server = Server(accounts=False, idle_timeout=30.0).shake_hands()
        self.assertEqual(server.machine.deadline(), NOW + 30)
        server.now += 20
        server.ask("PLAY")
        self.assertEqual(server.machine.deadline(), NOW + 50)
        server.held = (CommandReceived,)
        server.feed(token("PLAY", server.now))
        self.assertIsNone(server.machine.deadline())
        self.assertEqual(server.pass_time(100), [])
        server.take(server.machine.reply(Reply(200, ""), server.now))
        server.said()
        server.pass_time(30)
        self.assertEqual(server.ended.outcome, Outcome.TIMEOUT)
        self.assertEqual(opened(server.said()), ["420 no command came for 30 s\r\n"])

    def test_idle_and_bad_commands(self) -> None:
        server = Server(accounts=False, idle_timeout=30.0, held=(CommandReceived,)).shake_hands()
        server.now += 20
        server.feed(token(b"\xff", server.now))
        self.assertEqual(server.machine.deadline(), NOW + 50)
        server.feed(token("PLAY", server.now))
        server.take(server.machine.hand_on(server.now))
        self.assertEqual(server.machine.deadline(), NOW + 50)


class EndTests(SynchronousTestCase):
    def test_the_client_goes(self) -> None:
        server = Server().shake_hands()
        server.take(server.machine.end_of_stream(NOW))
        self.assertEqual(server.ended.outcome, Outcome.ABORTED)
        server = Server(accounts=False).shake_hands()
        server.feed(b"\r\n")
        server.take(server.machine.end_of_stream(NOW))
        self.assertEqual(server.ended.outcome, Outcome.LEFT)
        server = Server(accounts=False).shake_hands()
        server.feed(token("PLAY")[:50])
        server.take(server.machine.end_of_stream(NOW))
        self.assertEqual(server.ended.outcome, Outcome.LOST)

    def test_line_end_behind_an_open_decision(self) -> None:
        """A CRLF that is not taken yet is not the middle of a message."""
        server = Server(accounts=False, held=(CommandReceived,)).shake_hands()
        server.feed(token("PLAY"))
        server.take(server.machine.end_of_stream(NOW))
        self.assertEqual(server.ended.outcome, Outcome.LEFT)

    def test_told(self) -> None:
        """COM-8, COM-12: after KEX_FINAL an end of ours is told as 420; before it nothing is."""
        for machine, words in (
            (Server(accounts=False).shake_hands(), ["420 Server is shutting down\r\n"]),
            (Server().shake_hands(), ["420 Server is shutting down\r\n"]),
            (Server(), []),
        ):
            machine.said()
            machine.take(machine.machine.close(Outcome.SHUTDOWN, "Server is shutting down", NOW))
            self.assertEqual(opened(machine.said()), words)
        server = Server(held=(AuthenticationRequested,)).shake_hands()
        server.feed(token("AUTH ann open sesame"))
        server.take(server.machine.close(Outcome.SHUTDOWN, "Server is shutting down", NOW))
        self.assertEqual(opened(server.said()), ["420 Server is shutting down\r\n"])

    def test_told_in_one_line(self) -> None:
        server = Server(accounts=False).shake_hands()
        server.take(server.machine.close(Outcome.KICKED, "a\r\nb" + "c" * 1000, NOW))
        (text,) = opened(server.said())
        self.assertEqual((text[:8], len(text)), ("420 a\ufffd\ufffdb", 506))

    def test_after_the_end(self) -> None:
        server = Server()
        server.feed(b"X")
        for events in (
            server.machine.receive_data(b"X", NOW),
            server.machine.handle_deadline(NOW + 99),
            server.machine.close(Outcome.KICKED, "x", NOW),
        ):
            self.assertEqual(events, [])
        self.assertIsNone(server.machine.deadline())

    def test_verbs_at_a_wrong_time(self) -> None:
        """Our own misuse is ours to hear of."""
        machine = ServerMachine(FmltpSettings(), FFDHE2048, now=NOW)
        for verb in (
            lambda: machine.key_exchanged(EXCHANGE, NOW),
            lambda: machine.accept("ann", NOW),
            lambda: machine.fail(NOW),
            lambda: machine.reply(Reply(200, ""), NOW),
            lambda: machine.hand_on(NOW),
            lambda: machine.refuse("no", NOW),
        ):
            self.assertRaises(LocalProtocolError, verb)

    def test_two_writes_are_one(self) -> None:
        """FM-10: a token and its CRLF go out in one write."""
        server = Server()
        server.feed(CLIENT_LINE, KEX_ID)
        server.machine.data_to_send()
        server.machine.receive_data(token(SERVER_LINE), NOW)
        self.assertTrue(server.machine.data_to_send().endswith(b"\r\n"))

    def test_clock_offset(self) -> None:
        """FM-15: by the peer's first token."""
        server = Server()
        self.assertIsNone(server.machine.clock_offset)
        server.feed(CLIENT_LINE, KEX_ID, token(SERVER_LINE, NOW + 3600))
        self.assertEqual(server.machine.clock_offset, 3600)
        self.assertEqual(channel.STAMPED_ALIKE, 2048)
