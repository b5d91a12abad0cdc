"""Tests of the client's side of :mod:`connectd.protocols.fmltp.machine`, with bytes that ``cryptography`` wrote."""

from __future__ import annotations

from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.fmltp import exchange
from connectd.protocols.fmltp.client_machine import OUTSTANDING
from connectd.protocols.fmltp.groups import FFDHE2048, FFDHE3072, FFDHE4096, decode_parameters
from connectd.protocols.fmltp.machine import (
    ClientMachine,
    Greeted,
    KeyPairRequested,
    NoticeReceived,
    ReplyReceived,
    SecretRequested,
    VersionReceived,
)
from connectd.protocols.fmltp.packets import MAXIMUM_PLAINTEXT, Reply, Version
from connectd.protocols.fmltp.settings import FmltpClientSettings
from connectd.sansio import Ended, Established, LocalProtocolError, Outcome
from tests.protocols.fmltp.peers import (
    EXAMPLE_PARAMETERS,
    EXCHANGE,
    FERNET,
    LOCKED,
    NOW,
    PAIR,
    PARAMETERS,
    READY,
    SERVER_KEX_ID,
    SERVER_LINE,
    Client,
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
OWN_LINE = b"FlexMusic connectd,0.0.0\r\n"
DEPLOYED = "100 FmLTP/1.0 Intepreter Ready\r\n"


class HandshakeTests(SynchronousTestCase):
    def test_step_by_step(self) -> None:
        """FM-1 to FM-9: what the client says, and when."""
        client = Client()
        self.assertEqual(client.said(), b"")
        version = Version("FlexMusic Server", 0, 0, 1)
        self.assertEqual(client.feed(b"FlexMusic Server,0.0.1\r\n"), [VersionReceived(version, 102)])
        self.assertEqual(client.said(), OWN_LINE)
        self.assertEqual(client.feed(PARAMETERS), [KeyPairRequested(FFDHE2048)])
        self.assertEqual(client.said(), key_pem(PAIR.public))
        self.assertEqual(client.feed(SERVER_KEX_ID), [SecretRequested(FFDHE2048, PAIR, EXCHANGE.public)])
        self.assertEqual(opened(client.said()), ["FlexMusic Server,0.0.1"])
        self.assertEqual(client.feed(token(READY)), [Greeted(100, False, False), Established()])
        self.assertEqual(client.said(), b"")
        self.assertEqual(client.machine.peer_version, version)
        self.assertTrue(client.machine.can_command)

    def test_version_line(self) -> None:
        """FM-2: also towards a server that ends its line with LF, or with nothing."""
        self.assertEqual(len(Client().feed(b"FlexMusic,0.0.0\n")), 1)
        client = Client()
        self.assertEqual(client.feed(b"FlexMusic,0.0.0"), [])
        self.assertEqual(len(client.pass_time(0.3)), 1)

    def test_not_a_server(self) -> None:
        """FM-2."""
        for line in (b"HTTP/1.1 400 Bad Request\r\n", b"FlexMusic\r\n", b"FlexMusic,1\r\n"):
            client = Client()
            client.feed(line)
            self.assertEqual((client.ended.outcome, client.said()), (Outcome.MALFORMED, b""))

    def test_another_class(self) -> None:
        """FM-3: close without a message, with a clear local error."""
        client = Client()
        client.feed(b"FlexMusic,1.0.0\r\n")
        self.assertEqual(client.ended.outcome, Outcome.REFUSED)
        self.assertEqual(
            client.ended.reason, "the peer is FlexMusic 1.0.0 and this is 0.0.0: they differ in their class, x"
        )
        self.assertEqual(client.said(), b"")

    def test_small_parameters(self) -> None:
        """FM-5: under the minimum it refuses; settable down for old peers; a group without a name is told as such."""
        client = Client()
        client.feed(SERVER_LINE, EXAMPLE_PARAMETERS)
        self.assertEqual(client.ended.outcome, Outcome.REFUSED)
        self.assertEqual(
            client.ended.reason, "the Diffie-Hellman parameters have 1024 bits, at least 2048 are asked for"
        )
        client = Client(minimum_bits=1024, held=(KeyPairRequested,))
        events = client.feed(SERVER_LINE, EXAMPLE_PARAMETERS)
        group = decode_parameters(EXAMPLE_PARAMETERS, minimum_bits=512)
        self.assertEqual(events[1:], [KeyPairRequested(group)])
        self.assertFalse(group.is_named)
        self.assertRaises(ValueError, FmltpClientSettings, minimum_bits=511)
        self.assertEqual(FmltpClientSettings().minimum_bits, 2048)

    def test_large_parameters(self) -> None:
        """FM-5: over 4096 bits it refuses, by their length, before anything is loaded."""
        for name in ("_ParameterNumbers", "_PublicNumbers", "_PrivateNumbers"):
            self.patch(exchange, name, mock.Mock(side_effect=AssertionError("loaded")))
        for bits in (4097, 9941):
            client = Client()
            client.feed(SERVER_LINE, pem("DH PARAMETERS", element(0x30, integer((1 << bits) - 1), integer(2))))
            self.assertEqual(client.ended.outcome, Outcome.REFUSED)
            self.assertIn("more than 4096 bits", client.ended.reason)
        client = Client(held=(KeyPairRequested,))
        client.feed(SERVER_LINE, pem("DH PARAMETERS", element(0x30, integer(FFDHE4096.p), integer(2))))
        self.assertEqual(client.events[-1], KeyPairRequested(FFDHE4096))

    def test_parameters_of_all_forms(self) -> None:
        """FM-4: privateValueLength, X9.42, CRLF, text before."""
        p, g = integer(P), integer(2)
        for text in (
            pem("DH PARAMETERS", element(0x30, p, g, integer(225))),
            pem("X9.42 DH PARAMETERS", element(0x30, p, g, integer(P >> 1))),
            pem("DH PARAMETERS", element(0x30, p, g), "\r\n", before="DH parameters:\r\n"),
        ):
            client = Client(held=(KeyPairRequested,))
            self.assertEqual(client.feed(SERVER_LINE, text)[1:], [KeyPairRequested(FFDHE2048)])

    def test_not_parameters(self) -> None:
        for text in (SERVER_KEX_ID, pem("DH PARAMETERS", b"x"), b"x" * 4096):
            client = Client()
            client.feed(SERVER_LINE, text)
            self.assertIn(client.ended.outcome, (Outcome.MALFORMED, Outcome.REFUSED))

    def test_keys(self) -> None:
        """FM-6: the server's key is looked at just as closely."""
        for key in (
            *(key_pem(y) for y in (0, 1, P - 1, P)),
            pem("PUBLIC KEY", key_der(FFDHE3072.p, 2, 5)),
            pem("PUBLIC KEY", key_der((1 << 9941) - 1, 2, 5)),
            PARAMETERS,
            b"x" * 4096,
        ):
            client = Client()
            client.feed(SERVER_LINE, PARAMETERS, key)
            self.assertEqual(client.ended.outcome, Outcome.MALFORMED)
            self.assertFalse(any(isinstance(event, SecretRequested) for event in client.events))

    def test_refused(self) -> None:
        """FM-5: an unknown group that is none."""
        client = Client(minimum_bits=1024, held=(KeyPairRequested,))
        client.feed(SERVER_LINE, EXAMPLE_PARAMETERS)
        client.said()
        client.take(client.machine.refuse("the modulus is no safe prime", NOW))
        self.assertEqual((client.ended.outcome, client.said()), (Outcome.REFUSED, b""))

    def test_final(self) -> None:
        """FM-9: what servers write, deployed ones too."""
        for text, greeted in (
            (READY, Greeted(100, False, False)),
            ("121 FmLTP/1.0 Interpreter Ready", Greeted(121, False, False)),
            (LOCKED, Greeted(100, True, False)),
            (DEPLOYED, Greeted(100, False, True)),
            ("100 FmLTP/1.0 Intepreter Ready.\r\nAuthentication required.\r\n", Greeted(100, True, True)),
        ):
            client = Client()
            events = client.feed(SERVER_LINE, PARAMETERS, SERVER_KEX_ID, token(text))
            self.assertIn(greeted, events)
            self.assertEqual(
                (client.machine.locked, client.machine.established),
                (greeted.authentication_required, not greeted.authentication_required),
            )

    def test_not_final(self) -> None:
        """FM-9, FM-15: another text, another key, our own token, not a token."""
        client = Client()
        client.feed(SERVER_LINE, PARAMETERS, SERVER_KEX_ID)
        challenge = client.said()[-200:]
        challenge = challenge[challenge.index(b"gAAA") :]
        other = fernet_of(bytes(256)).encrypt_at_time(READY.encode(), int(NOW)) + b"\r\n"
        for wrong in (
            token("200 Hello.\r\n"),
            token(b"\xff"),
            other,
            challenge,
            b"100 FmLTP/1.0 Interpreter Ready.\r\n",
        ):
            client = Client()
            client.feed(SERVER_LINE, PARAMETERS, SERVER_KEX_ID)
            client.feed(wrong)
            self.assertEqual(client.ended.outcome, Outcome.MALFORMED)
            self.assertFalse(client.machine.established)

    def test_reflected_challenge(self) -> None:
        """FM-15: a server that sends our own challenge back has no key."""
        client = Client()
        client.feed(SERVER_LINE, PARAMETERS, SERVER_KEX_ID)
        wire = client.said()
        client.feed(wire[wire.index(b"gAAA") :])
        self.assertIn("a token of ours came back", client.ended.reason)

    def test_secrets_are_not_shown(self) -> None:
        """COM-9."""
        shown = repr(SecretRequested(FFDHE2048, PAIR, 12345))
        self.assertNotIn(str(PAIR.private), shown)


class AuthenticationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.client = Client().shake_hands(LOCKED)

    def test_success(self) -> None:
        """FM-11."""
        self.client.machine.authenticate("ann", "open  sesame ", NOW)
        self.assertEqual(opened(self.client.said()), ["AUTH ann open  sesame "])
        reply = Reply(150, "Authentication successful.")
        self.assertEqual(
            self.client.feed(token("150 Authentication successful.\r\n")), [ReplyReceived("AUTH", reply), Established()]
        )
        self.assertIsNone(self.client.machine.deadline())

    def test_failures(self) -> None:
        """FM-11: after a 151 one may try again; after the third the server closes, and that is said."""
        for _ in range(3):
            self.client.machine.authenticate("ann", "x", NOW)
            self.assertEqual(
                self.client.feed(token("151 Authentication failed.\r\n")),
                [ReplyReceived("AUTH", Reply(151, "Authentication failed."))],
            )
            self.assertTrue(self.client.machine.locked)
        self.client.take(self.client.machine.end_of_stream(NOW))
        self.assertEqual(
            self.client.ended, Ended(Outcome.REFUSED, "the server closed after 151 Authentication failed.")
        )

    def test_another_reply(self) -> None:
        """Nothing but 150 to an AUTH lets in."""
        for text, code in (("HELP", 150), ("AUTH a b", 200), ("AUTH a b", 400)):
            client = Client().shake_hands(LOCKED)
            client.machine.command(text, NOW)
            client.feed(token(f"{code} x\r\n"), token("150 Authentication successful.\r\n"))
            self.assertFalse(client.machine.established)

    def test_misuse(self) -> None:
        for user, password in (
            ("", "x"),
            ("a b", "x"),
            ("ann", ""),
            ("ann", "x\r\n"),
            ("ann\n", "x"),
            ("ann", "\0"),
            ("a", "x" * MAXIMUM_PLAINTEXT),
        ):
            self.assertRaises(LocalProtocolError, self.client.machine.authenticate, user, password, NOW)
        self.assertEqual(self.client.said(), b"")
        self.assertRaises(LocalProtocolError, Client().machine.authenticate, "ann", "x", NOW)
        self.assertRaises(LocalProtocolError, Client().shake_hands().machine.authenticate, "ann", "x", NOW)

    def test_sixty_seconds(self) -> None:
        """FM-14, COM-1."""
        self.assertEqual(self.client.machine.deadline(), NOW + 60)
        self.client.machine.authenticate("ann", "x", NOW + 50)
        self.client.pass_time(60)
        self.assertEqual(self.client.ended.outcome, Outcome.TIMEOUT)


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.client = Client().shake_hands()

    def test_replies_in_order(self) -> None:
        """FM-12."""
        for text in ("HELP", "PLAY a"):
            self.client.machine.command(text, NOW)
        self.assertEqual(opened(self.client.said()), ["HELP", "PLAY a"])
        self.assertEqual(
            self.client.feed(token("200 Help\r\nmore\r\n") + unpadded("430 No backend")),
            [ReplyReceived("HELP", Reply(200, "Help\r\nmore")), ReplyReceived("PLAY", Reply(430, "No backend"))],
        )

    def test_a_deployed_server(self) -> None:
        """FM-10: 703 bytes, and one outstanding."""
        client = Client().shake_hands(DEPLOYED)
        self.assertTrue(client.machine.deployed)
        self.assertEqual(client.machine.command_limit, 703)
        self.assertRaises(LocalProtocolError, client.machine.command, "X" * 704, NOW)
        self.assertRaises(LocalProtocolError, client.machine.command, "X" * 701 + "\xe9\xe9", NOW)
        client.machine.command("X" * 703, NOW)
        self.assertLessEqual(len(client.said()), 1024)
        self.assertFalse(client.machine.can_command)
        self.assertRaises(LocalProtocolError, client.machine.command, "X", NOW)
        client.feed(unpadded("200 x"))
        self.assertTrue(client.machine.can_command)

    def test_limits(self) -> None:
        """FM-10: towards others a token's worth, or what is set; so many outstanding."""
        self.assertEqual(self.client.machine.command_limit, MAXIMUM_PLAINTEXT)
        self.assertRaises(LocalProtocolError, self.client.machine.command, "X" * (MAXIMUM_PLAINTEXT + 1), NOW)
        self.assertEqual(Client(command_limit=100).shake_hands(DEPLOYED).machine.command_limit, 100)
        for _ in range(OUTSTANDING):
            self.client.machine.command("X", NOW)
        self.assertRaises(LocalProtocolError, self.client.machine.command, "X", NOW)

    def test_misuse(self) -> None:
        for text in ("", " X", "X\r\n", "X\r\nY", "X\n\n", "X\0", "X \udcff"):
            self.assertRaises(LocalProtocolError, self.client.machine.command, text, NOW)
        self.assertRaises(LocalProtocolError, Client().machine.command, "HELP", NOW)
        machine = ClientMachine(FmltpClientSettings(), now=NOW)
        self.assertRaises(LocalProtocolError, machine.key_pair_made, PAIR, NOW)
        self.assertRaises(LocalProtocolError, machine.secret_computed, b"", NOW)

    def test_notices(self) -> None:
        """What nobody asked for; a 420 before the end is why."""
        notice = NoticeReceived(Reply(420, "Server is shutting down"))
        self.assertEqual(self.client.feed(token("420 Server is shutting down\r\n")), [notice])
        self.client.take(self.client.machine.end_of_stream(NOW))
        self.assertEqual(self.client.ended, Ended(Outcome.LEFT, "the server closed: Server is shutting down"))

    def test_long_replies(self) -> None:
        """FM-10: 64 KiB from the server too."""
        self.client.machine.command("HELP", NOW)
        text = "x" * (MAXIMUM_PLAINTEXT - 4)
        self.assertEqual(self.client.feed(token("200 " + text)), [ReplyReceived("HELP", Reply(200, text))])

    def test_not_a_reply(self) -> None:
        """FM-12: non-UTF-8 or without a code: close."""
        for text in (b"\xff", b"", b"hello", b"20 x"):
            client = Client().shake_hands()
            client.feed(token(text))
            self.assertEqual((client.ended.outcome, client.said()), (Outcome.MALFORMED, b""))

    def test_replayed_and_reflected(self) -> None:
        """FM-15: the server's token again, or our own."""
        self.client.machine.command("HELP", NOW)
        ours = self.client.said()
        self.client.feed(ours)
        self.assertIn("a token of ours came back", self.client.ended.reason)
        client = Client().shake_hands()
        reply = token("200 x")
        self.assertEqual(client.feed(reply), [NoticeReceived(Reply(200, "x"))])
        client.feed(reply)
        self.assertIn("a token that was here before", client.ended.reason)

    def test_no_reply(self) -> None:
        """A server that does not answer is given up."""
        client = Client(reply_timeout=5.0).shake_hands()
        self.assertIsNone(client.machine.deadline())
        client.machine.command("HELP", NOW)
        client.machine.command("HELP", NOW + 4)
        self.assertEqual(client.machine.deadline(), NOW + 5)
        client.now += 4.5
        client.feed(token("200 x"))
        self.assertEqual(client.machine.deadline(), NOW + 9.5)
        client.pass_time(5)
        self.assertEqual(client.ended, Ended(Outcome.TIMEOUT, "no reply came for 5 s"))

    def test_no_reply_to_what_was_asked_before(self) -> None:
        """Commands that were sent before the AUTH that let us in wait no longer than others."""
        client = Client(reply_timeout=5.0).shake_hands(LOCKED)
        client.machine.authenticate("ann", "x", NOW)
        client.machine.command("HELP", NOW)
        client.feed(token("150 Authentication successful.\r\n"))
        self.assertEqual(client.machine.deadline(), NOW + 5)

    def test_leaving(self) -> None:
        """FM-12: a client that leaves says QUIT; where it is no command yet, or a stranger listens, it says nothing."""
        self.client.take(self.client.machine.close(Outcome.LEFT, "this client left", NOW))
        self.assertEqual(opened(self.client.said()), ["QUIT"])
        client = Client().shake_hands(LOCKED)
        client.take(client.machine.close(Outcome.ABORTED, "enough", NOW))
        self.assertEqual(opened(client.said()), ["QUIT"])
        client = Client()
        client.feed(SERVER_LINE)
        client.said()
        client.take(client.machine.close(Outcome.ABORTED, "enough", NOW))
        self.assertEqual(client.said(), b"")

    def test_quit(self) -> None:
        """FM-12: the server closes after 200 Goodbye."""
        self.client.machine.command("QUIT", NOW)
        self.client.feed(token("200 Goodbye.\r\n"))
        self.client.take(self.client.machine.end_of_stream(NOW))
        self.assertEqual(self.client.ended.outcome, Outcome.LEFT)

    def test_the_server_goes(self) -> None:
        for parts in ([], [SERVER_LINE], [SERVER_LINE, PARAMETERS]):
            client = Client()
            client.feed(*parts)
            client.take(client.machine.end_of_stream(NOW))
            self.assertEqual(client.ended.outcome, Outcome.ABORTED)
        self.client.take(self.client.machine.end_of_stream(NOW, clean=False))
        self.assertEqual(self.client.ended.outcome, Outcome.LOST)

    def test_fifteen_seconds(self) -> None:
        """FM-14."""
        client = Client()
        client.feed(SERVER_LINE, PARAMETERS)
        client.said()
        client.pass_time(15)
        self.assertEqual((client.ended, client.said()), (Ended(Outcome.TIMEOUT, "the server took too long"), b""))

    def test_clock_offset(self) -> None:
        """FM-15: the server's clock may be anything."""
        client = Client()
        client.feed(SERVER_LINE, PARAMETERS, SERVER_KEX_ID, token(READY, 1000), token("420 x", 1001))
        self.assertEqual(client.machine.clock_offset, 1000 - NOW)
        self.assertFalse(client.machine.ended)

    def test_stamps(self) -> None:
        """Tokens carry our time."""
        self.client.machine.command("HELP", NOW + 100)
        self.assertEqual(FERNET.extract_timestamp(self.client.said()), NOW + 100)
