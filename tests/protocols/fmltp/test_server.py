"""The listener: what its machines ask for, answered by accounts, handlers and worker processes."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from connectd.credentials import CredentialsError
from connectd.net.connection import Refused
from connectd.protocols.fmltp import server as server_module
from connectd.protocols.fmltp.application import Application, Commands
from connectd.protocols.fmltp.client import Credentials, FmltpDialogue
from connectd.protocols.fmltp.groups import FFDHE2048, FFDHE3072
from connectd.protocols.fmltp.packets import Reply
from connectd.protocols.fmltp.parameters import ParametersError
from connectd.protocols.fmltp.server import FULL, FmltpListener
from connectd.protocols.fmltp.settings import FmltpClientSettings, FmltpSettings
from connectd.protocols.fmltp.work import GroupMaker, KeyWork
from connectd.sansio import Outcome
from connectd.testing import Network, RecordingHandler, segments_of
from tests.protocols.fmltp.real import ANN, RealCase
from tests.toy import ToyChecker


def make_application() -> Application:
    commands = Commands()
    commands.add(lambda session, text: text, name="ECHO", help="Say it again.", rest=True)
    commands.add(lambda session: f"{session.account} {session.protocol}", name="WHOAMI", help="Who you are.")
    return Application(commands)


class Case(SynchronousTestCase):
    """A listener and clients in memory."""

    def setUp(self) -> None:
        self.checker = ToyChecker({"ann": ANN.password.encode(), "bob": b"also right"})
        self.network = Network(handlers={"echo": make_application()}, checkers=[self.checker])
        self.work = KeyWork(self.network.clock)
        self.addCleanup(self.network.stop)

    def listen(self, **settings: Any) -> FmltpListener:
        return self.network.listener(FmltpListener, FmltpSettings(**{"handler": "echo", **settings}))

    def dialogue(
        self, listener: FmltpListener, credentials: Credentials | None = ANN, host: str = "192.0.2.1", **settings: Any
    ) -> FmltpDialogue:
        """A client that is as far as it gets."""
        dialogue = FmltpDialogue(
            self.network.clock,
            FmltpClientSettings(**settings),
            self.work,
            credentials=credentials,
            interactive=True,
            warn=lambda text: None,
        )
        dialogue.dial(self.network.endpoint(listener, host)).addErrback(lambda failure: None)
        self.network.settle()
        self.addCleanup(dialogue.hang_up)
        return dialogue

    def ask(self, dialogue: FmltpDialogue, text: str) -> Reply:
        """A command's answer."""
        answered = dialogue.command(text)
        self.network.settle()
        return self.successResultOf(answered)

    def authenticate(self, dialogue: FmltpDialogue, username: str, password: str) -> Reply:
        answered = dialogue.authenticate(username, password)
        self.network.settle()
        return self.successResultOf(answered)


class SessionTests(Case):
    """From the first byte to QUIT"""

    def test_whole_session(self) -> None:
        """FM-11, FM-13: a good AUTH opens the session, which the application answers and QUIT ends (COM-7)."""
        listener = self.listen(friendly_name="FlexMusic here", version="0.2.0")
        dialogue = self.dialogue(listener, version="0.1.5", friendly_name="FlexMusic there")
        [session] = self.network.context.sessions
        self.assertEqual(session.account, "ann")
        self.assertEqual(session.identity, {"account": "ann", "client": "FlexMusic there", "version": "0.1.5"})
        self.assertIsNotNone(dialogue.greeted)
        assert dialogue.greeted is not None
        self.assertEqual(dialogue.greeted.code, 121)
        self.assertEqual(self.ask(dialogue, "ECHO hello there"), Reply(200, "hello there"))
        self.assertEqual(self.ask(dialogue, "WHOAMI"), Reply(200, "ann fmltp"))
        self.assertEqual(self.ask(dialogue, "HELP"), Reply(200, "Commands: AUTH, HELP, QUIT, ECHO, WHOAMI"))
        self.assertEqual(self.ask(dialogue, "NOTHING").code, 400)
        self.assertEqual(self.ask(dialogue, "QUIT"), Reply(200, "Goodbye."))
        self.assertEqual(self.network.recorder.outcomes, ["left"])

    def test_byte_by_byte(self) -> None:
        """FM-10: nothing depends on how TCP cuts it."""
        self.network.segment = segments_of(1)
        dialogue = self.dialogue(self.listen())
        self.assertEqual(self.ask(dialogue, "ECHO hello"), Reply(200, "hello"))

    def test_pipelined(self) -> None:
        """Commands that come at once are answered one after the other, in order."""
        dialogue = self.dialogue(self.listen())
        answered = [dialogue.command(f"ECHO {number}") for number in range(100)]
        self.network.settle()
        self.assertEqual([self.successResultOf(one).text for one in answered], [str(number) for number in range(100)])

    def test_many_at_once(self) -> None:
        """One peer's commands leave others their turns: so many are answered in one, the rest in later ones."""
        self.patch(server_module, "COMMANDS_PER_TURN", 2)
        dialogue = self.dialogue(self.listen(), None)
        self.authenticate(dialogue, "ann", ANN.password)
        turns: list[int] = []
        original = self.network.clock.callLater

        def call_later(delay: float, function: Any, *arguments: Any) -> Any:
            if delay == 0:
                turns.append(len(done))
            return original(delay, function, *arguments)

        done: list[Reply] = []
        self.patch(self.network.clock, "callLater", call_later)
        for number in range(32):
            dialogue.command(f"ECHO {number}").addCallback(done.append)
        self.network.settle()
        self.assertEqual([reply.text for reply in done], [str(number) for number in range(32)])
        self.assertGreaterEqual(len(turns), 16)

    def test_lockdown(self) -> None:
        """FM-11: until an AUTH succeeds there are AUTH, HELP and QUIT, and no session."""
        dialogue = self.dialogue(self.listen(), None)
        self.assertEqual(self.ask(dialogue, "ECHO hello").code, 400)
        self.assertEqual(self.ask(dialogue, "HELP"), Reply(200, "Commands: AUTH, HELP, QUIT"))
        self.assertEqual(len(self.network.context.sessions), 0)
        self.assertEqual(self.authenticate(dialogue, "ann", "wrong").code, 151)
        self.assertEqual(self.authenticate(dialogue, "ann", ANN.password).code, 150)
        self.assertEqual(self.ask(dialogue, "ECHO hello").code, 200)

    def test_three_attempts(self) -> None:
        """FM-11, COM-10: wrong password and unknown account are answered alike, with the same work; the third time
        ends it."""
        dialogue = self.dialogue(self.listen(), None)
        for username in ("ann", "nobody", "ann"):
            self.assertEqual(str(self.authenticate(dialogue, username, "wrong")), "151 Authentication failed.")
        self.assertEqual(self.checker.work, 3)
        self.assertIsNotNone(dialogue.ended)
        self.assertEqual(self.network.recorder.outcomes, ["refused"])

    def test_accounts_that_may_not_be_used(self) -> None:
        """COM-4: a right password of a banned account is answered 151, and ends the connection at once."""
        listener = self.listen()
        refusal = Refused("This account is banned: spam", Outcome.BANNED)
        self.patch(listener, "login", lambda connection, credentials: fail(refusal))
        dialogue = self.dialogue(listener, None)
        self.assertEqual(self.authenticate(dialogue, "ann", ANN.password).code, 151)
        self.assertIsNotNone(dialogue.ended)
        (ended,) = self.network.recorder.named("ended")
        self.assertEqual((ended["outcome"], ended["reason"]), ("banned", "This account is banned: spam"))

    def test_warned_once(self) -> None:
        """FM-16: a dialogue warns once, however often somebody tries."""
        warnings: list[str] = []
        dialogue = self.dialogue(self.listen(), None)
        self.patch(dialogue, "_warn", warnings.append)
        for _ in range(2):
            self.authenticate(dialogue, "ann", "wrong")
        self.assertEqual(len(warnings), 1)

    def test_delayed_answers(self) -> None:
        """COM-11: from the fifth failure on, an answer takes its time; FM-14's minute goes on."""
        listener = self.listen()
        for _ in range(2):
            dialogue = self.dialogue(listener, None)
            for _ in range(2):
                self.authenticate(dialogue, "ann", "wrong")
            dialogue.hang_up()
        dialogue = self.dialogue(listener, None)
        answered = dialogue.authenticate("ann", "wrong")
        self.network.settle()
        self.assertNoResult(answered)
        self.network.advance(1.25)
        self.assertEqual(self.successResultOf(answered).code, 151)

    def test_without_accounts(self) -> None:
        """FM-9: nobody is asked, nobody has an account, and nobody needs to be able to check any."""
        self.network.context.checkers = ()
        listener = self.listen(accounts=False)
        dialogue = self.dialogue(listener, None)
        [session] = self.network.context.sessions
        self.assertEqual((session.account, "account" in session.identity), ("", False))
        self.assertEqual(self.ask(dialogue, "HELP").text, "Commands: HELP, QUIT, ECHO, WHOAMI")
        self.assertEqual(self.ask(dialogue, "AUTH ann x").code, 400)
        self.assertEqual(listener.settings.account_schemes, ())
        self.assertRaises(CredentialsError, self.listen)

    def test_full(self) -> None:
        """COM-4: with accounts, a right password is answered 151 then; without, there is no KEX_FINAL (COM-12)."""
        listener = self.listen(max_sessions=1)
        self.dialogue(listener)
        second = self.dialogue(listener)
        assert second.ended is not None
        self.assertEqual(self.network.recorder.outcomes, ["limited"])
        self.assertEqual(self.network.recorder.named("ended")[0]["reason"], FULL)
        listener = self.listen(max_sessions=1, accounts=False)
        self.dialogue(listener, None)
        third = self.dialogue(listener, None)
        self.assertIsNone(third.greeted)
        self.assertEqual(self.network.recorder.outcomes, ["limited", "limited"])

    def test_long_friendly_name(self) -> None:
        """What a client calls itself does not fill the log."""
        dialogue = self.dialogue(self.listen(), friendly_name=f"FlexMusic {'x' * 500}")
        [session] = self.network.context.sessions
        self.assertEqual(len(session.identity["client"]), 64)
        dialogue.hang_up()

    def test_kick_and_drain(self) -> None:
        """COM-8: both are told in a reply of 420."""
        listener = self.listen()
        first, second = self.dialogue(listener), self.dialogue(listener)
        next(iter(self.network.context.sessions)).kick("Enough.")
        self.network.settle()
        assert first.ended is not None
        self.assertIn("Enough.", first.ended.reason)
        listener.stopService()
        self.network.advance(1)
        assert second.ended is not None
        self.assertIn("Server is shutting down", second.ended.reason)
        self.assertEqual(self.network.recorder.outcomes, ["kicked", "shutdown"])

    def test_command_that_takes_its_time(self) -> None:
        """A connection that goes away takes its command with it."""
        cancelled: list[Any] = []
        commands = Commands()
        commands.add(lambda session: Deferred(cancelled.append), name="WAIT", help="For ever.")
        self.network.handlers["waiting"] = Application(commands)
        dialogue = self.dialogue(self.listen(handler="waiting"))
        answered = dialogue.command("WAIT")
        self.network.settle()
        self.assertEqual(cancelled, [])
        self.network.wires[-1].cut()
        self.network.settle()
        self.failureResultOf(answered, ConnectionError)
        self.assertEqual(len(cancelled), 1)

    def test_times(self) -> None:
        """FM-14: 15 s to KEX_FINAL, 60 s for a successful AUTH, then the idle time."""
        listener = self.listen(idle_timeout=300.0)
        raw = self.network.raw(listener)
        raw.send(b"FlexMusic raw,0.0.0\r\n")
        waiting = self.dialogue(listener, None)
        idle = self.dialogue(listener)
        self.network.advance(14)
        self.assertEqual(self.network.recorder.outcomes, [])
        self.network.advance(2)
        self.assertEqual(self.network.recorder.outcomes, ["timeout"])
        self.network.advance(43)
        self.assertIsNone(waiting.ended)
        self.network.advance(2)
        self.assertIsNotNone(waiting.ended)
        self.network.advance(238)
        self.assertIsNone(idle.ended)
        self.network.advance(3)
        self.assertIsNotNone(idle.ended)
        self.assertEqual(self.network.recorder.outcomes, ["timeout"] * 3)


class HandlerTests(Case):
    """What the handlers mean"""

    def test_hold(self) -> None:
        """``hold`` knows what is built in."""
        dialogue = self.dialogue(self.listen(handler="hold"))
        self.assertEqual(self.ask(dialogue, "HELP").text, "Commands: AUTH, HELP, QUIT")
        self.assertEqual(self.ask(dialogue, "ECHO x").code, 400)

    def test_other_handlers(self) -> None:
        """Any other handler gets each command, and answers it."""
        handler = RecordingHandler()
        self.network.handlers["recording"] = handler
        dialogue = self.dialogue(self.listen(handler="recording"))
        answered = dialogue.command("PLAY Blue in Green")
        self.network.settle()
        [session] = handler.sessions
        [message] = handler.messages
        self.assertEqual(message.encode(), b"PLAY Blue in Green\r\n")
        self.assertNoResult(answered)
        session.send(Reply(200, "It plays."))
        self.network.settle()
        self.assertEqual(self.successResultOf(answered), Reply(200, "It plays."))
        answered = dialogue.command("STOP")
        self.network.settle()
        session.send(b"200 It st")
        self.network.settle()
        self.assertNoResult(answered)
        session.send(b"ands.\r\n")
        self.network.settle()
        self.assertEqual(self.successResultOf(answered), Reply(200, "It stands."))
        self.assertEqual(self.ask(dialogue, "HELP").text, "Commands: AUTH, HELP, QUIT")
        self.assertEqual(self.ask(dialogue, "QUIT").code, 200)
        self.assertEqual(handler.outcomes, [Outcome.LEFT])

    def test_slow_application(self) -> None:
        """A command that comes with AUTH, in one read, waits until the application has taken the session."""
        application = make_application()
        opening: Deferred[None] = Deferred()

        class Slow(Application):
            def open(self, session: Any) -> Any:
                return opening.addCallback(lambda result: Application.open(self, session))

        self.network.handlers["slow"] = Slow(application.commands)
        dialogue = self.dialogue(self.listen(handler="slow"), None)
        authenticated = dialogue.authenticate("ann", ANN.password)
        answered = dialogue.command("ECHO hello")
        self.network.settle()
        self.assertEqual(self.successResultOf(authenticated).code, 150)
        self.assertNoResult(answered)
        opening.callback(None)
        self.network.settle()
        self.assertEqual(self.successResultOf(answered), Reply(200, "hello"))

    def test_application_that_fails_to_open(self) -> None:
        class Broken(Application):
            def open(self, session: Any) -> Any:
                raise RuntimeError("xyzzy")

        self.network.handlers["broken"] = Broken(Commands())
        dialogue = self.dialogue(self.listen(handler="broken"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        assert dialogue.ended is not None
        self.assertEqual(self.network.recorder.outcomes, ["failed"])


class GroupTests(Case):
    """The group of the key exchange (FM-5)"""

    def test_reconfigured(self) -> None:
        """Another group and other commands for whoever comes from now on; sockets and processes stay as they are."""
        listener = self.listen()
        self.dialogue(listener)
        commands = Commands()
        commands.add(lambda session: "pong", name="PING", help="Answer.")
        self.network.handlers["ping"] = Application(commands)
        self.assertTrue(listener.reconfigure(FmltpSettings(handler="ping", parameters="ffdhe2048")))
        second = self.dialogue(listener)
        self.assertEqual(self.ask(second, "PING"), Reply(200, "pong"))
        self.assertTrue(listener.reconfigure(FmltpSettings(handler="ping", parameters="ffdhe3072")))
        self.assertIs(listener.group, FFDHE3072)
        self.assertFalse(listener.reconfigure(FmltpSettings(listen="tcp:9")))
        self.assertFalse(listener.reconfigure(FmltpSettings(worker_processes=2)))
        self.assertIs(listener.group, FFDHE3072)
        self.assertRaises(
            ParametersError, listener.reconfigure, FmltpSettings(handler="ping", parameters="/none/such.pem")
        )

    def test_computation_fails(self) -> None:
        """A key that cannot be computed ends that connection without a word (COM-12), and nothing else."""
        listener = self.listen(parameters="ffdhe3072")
        listener._work.stopService()
        dialogue = self.dialogue(listener)
        self.assertIsNone(dialogue.greeted)


class RealTests(RealCase):
    """With child processes"""

    async def test_large_groups(self) -> None:
        """FM-5, FM-6: 3072 and 4096 bits, computed in children on both sides."""
        for name in ("ffdhe3072", "ffdhe4096"):
            listener = self.listener(parameters=name, handler="jukebox")
            client = self.client(self.port(listener))
            await client.when_ready()
            self.assertEqual((await client.command("HELP")).code, 200)
            self.assertEqual(len(listener._work.pids), 1)
            self.assertEqual(len(client._work.pids), 1)
            await client.stopService()

    async def test_no_child_without_need(self) -> None:
        """ffdhe2048 needs none."""
        listener = self.listener()
        client = self.client(self.port(listener))
        await client.when_ready()
        self.assertEqual((listener._work.pids, client._work.pids), ([], []))

    async def test_worker_dies(self) -> None:
        """A child that dies costs the handshakes that it had, and no more: the client comes again and gets in."""
        listener = self.listener(parameters="ffdhe4096")
        await self.until("a child", lambda: listener._work.pids)
        os.kill(listener._work.pids[0], signal.SIGKILL)
        client = self.client(self.port(listener))
        await client.when_ready(5)

    async def test_fresh(self) -> None:
        """FM-5: ffdhe2048 serves until a new group has been made in a child; then new connections have that."""
        self.patch(GroupMaker.make, "__defaults__", (512,))  # 2048 take up to minutes
        listener = self.listener(parameters="fresh")
        self.assertIs(listener.group, FFDHE2048)
        client = self.client(self.port(listener))
        await client.when_ready()
        await self.until("a group", lambda: listener.group is not FFDHE2048)
        self.assertEqual((listener.group.bits, listener.group.is_named), (512, False))
        await self.until("the end of the child that made it", lambda: not listener._maker.pids)
        second = self.client(self.port(listener), "?minimum_bits=512")
        await second.when_ready()
        for one in (client, second):
            self.assertEqual((await one.command("HELP")).code, 200)

    async def test_fresh_stopped(self) -> None:
        """FM-5: a listener that is stopped does not wait for its group."""
        listener = self.listener(parameters="fresh")
        await self.until("a child", lambda: listener._maker.pids)
        await listener.stopService()
        self.assertEqual((listener._maker.pids, listener.group), ([], FFDHE2048))

    async def test_fresh_fails(self) -> None:
        """FM-5: where there is no group to be had, the standing one goes on, and the log says so."""
        lines: list[str] = []
        self.patch(server_module.log, "error", lambda text, **fields: lines.append(text.format(**fields)))
        self.patch(GroupMaker.make, "__defaults__", (0,))
        listener = self.listener(parameters="fresh")
        await self.until("a line", lambda: lines)
        self.assertRegex(lines[0], r"fmltp on .*: there is no fresh group, ffdhe2048 goes on: .* raised ")
        await self.client(self.port(listener)).when_ready()

    async def test_keepalive(self) -> None:
        """FM-14: the kernel looks whether idle clients and servers are still there."""
        listener = self.listener()
        client = self.client(self.port(listener))
        await client.when_ready()
        [connection] = listener.connections
        assert client._dialogue is not None
        assert client._dialogue.connection is not None
        for transport in (connection.transport, client._dialogue.connection.transport):
            self.assertTrue(transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
