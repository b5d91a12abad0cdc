"""What the commands of ``connectctl chatr`` do, in this process: places, identities, registration, probe and talk."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import click
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from connectd.config import load as load_configuration
from connectd.net.client import ConnectionEnded
from connectd.net.url import URLError
from connectd.protocols.chatr import enrolling, talking
from connectd.protocols.chatr.client import ChatrClient, RequestDenied, parse_chatr_url, trust_of
from connectd.protocols.chatr.enrolling import CommandFailed, Enrolment, Places, configured_places
from connectd.protocols.chatr.identity import Identity, IdentityError, PassphraseNeeded, load, save
from connectd.protocols.chatr.plugin import plugin
from connectd.protocols.chatr.registry import KeyRegistry, RegistryError
from tests.protocols.chatr.scene import identity, temporary_folder
from tests.protocols.chatr.test_rest import RestCase, reactor

TABLE = """\
[[listener]]
protocol = "chatr"
listen = "{listen}"
udp = ""
rest = "{rest}"
certificate = "state/chatr.pem"
"""


class PlaceTests(SynchronousTestCase):
    """Where a command finds its server."""

    def setUp(self) -> None:
        self.folder = Path(temporary_folder(self))
        self.file = self.folder / "connectd.toml"

    def places(self, listen: str, rest: str) -> Places | None:
        self.file.write_text(TABLE.format(listen=listen, rest=rest))
        return configured_places(load_configuration(str(self.file)))

    def test_configured(self) -> None:
        """The first Chatr listener of the configuration, its certificate pinned."""
        certificate = str(self.folder / "state" / "chatr.pem")
        self.assertEqual(
            self.places("tcp:1230:interface=127.0.0.1", "tcp:8080:interface=[::1]"),
            Places("chatr://127.0.0.1:1230", "http://[::1]:8080", certificate),
        )
        self.assertEqual(
            self.places("tcp:1230", "tcp:8443"),
            Places("chatr://127.0.0.1:1230", "https://127.0.0.1:8443", certificate),
        )
        self.assertEqual(
            self.places("tcp:1230:interface=[2001:db8::1]", ""),
            Places("chatr://[2001:db8::1]:1230", "", certificate),
        )
        self.assertIsNone(self.places("unix:/run/chatr.sock", ""))

    def test_chosen(self) -> None:
        """What is said wins; without anything it is this machine's usual ports."""
        nothing = mock.Mock(config=str(self.folder / "none.toml"), json=False)
        usual = Enrolment(nothing, "me.pem", None)
        self.assertEqual(usual.places, Places("chatr://127.0.0.1:1230", "http://127.0.0.1:8080", ""))
        said = Enrolment(nothing, "me.pem", None, url="chatr://x?peer_port=5", certificate="/c.pem")
        self.assertEqual(said.server().settings.certificate, "/c.pem")
        self.assertEqual(said.server().settings.peer_port, 5)
        self.assertRaises(click.UsageError, Enrolment(nothing, "x", None, registry="ftp://x").registry, reactor)

    def test_no_registry(self) -> None:
        self.file.write_text(TABLE.format(listen="tcp:1230:interface=127.0.0.1", rest=""))
        invocation = mock.Mock(config=str(self.file), json=False)
        invocation.configuration = lambda: load_configuration(str(self.file))
        self.assertRaises(CommandFailed, Enrolment(invocation, "me.pem", None).registry, reactor)

    def test_urls(self) -> None:
        """What is wrong with a URL, or with a file that it names, is one line."""
        for url, problem in (
            ("chatr://127.0.0.1", "no identity"),
            ("chatr://127.0.0.1?identity=/none.pem", "there is no such identity file"),
        ):
            with self.assertRaises(URLError) as caught:
                ChatrClient.from_url(reactor, url)
            self.assertIn(problem, str(caught.exception))
        for url in ("chatr://127.0.0.1?certificate=/none.pem", "chatr://127.0.0.1?server_name=" + "a" * 70):
            self.assertRaises(URLError, trust_of, parse_chatr_url(url))
        self.assertRaises(click.UsageError, talking.parse_uuids, ["x"])


class CommandCase(RestCase):
    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        await super().setUp()
        self.lines: list[str] = []
        for name in ("print_line", "print_status"):
            patch = mock.patch.object(enrolling, name, self.lines.append)
            patch.start()
            self.addCleanup(patch.stop)

    def place(self) -> str:
        return f"chatr://127.0.0.1:{self.listener.faces[0].port}"

    def enrolment(self, name: str, *, as_json: bool = False, **options: Any) -> Enrolment:
        invocation = mock.Mock(config="/nowhere", json=as_json)
        options = {"url": self.place(), "registry": self.url(), "certificate": self.certificate, **options}
        return Enrolment(invocation, os.path.join(self.folder, name), options.pop("passphrase_file", None), **options)


class RegisterTests(CommandCase):
    async def test_register_show_replace(self) -> None:
        """An identity is made, registered, shown, and given another key."""
        me = self.enrolment("me.pem")
        await me.register(reactor, bits=2048, encrypt=False, replace=False)
        first = load(me.path)
        self.assertIn(f"{first.uuid} registered", self.lines)
        await me.register(reactor, bits=2048, encrypt=False, replace=False)
        self.assertIn(f"{first.uuid} was registered already", self.lines)
        await me.register(reactor, bits=2048, encrypt=False, replace=True)
        second = load(me.path)
        self.assertEqual(second.uuid, first.uuid)
        self.assertEqual(self.directory.registered_key(first.uuid), second.key)
        self.assertFalse(os.path.exists(f"{me.path}.new"))
        await self.enrolment("me.pem", as_json=True).show(reactor, offline=False)
        self.assertEqual(
            json.loads(self.lines[-1]),
            {"uuid": str(first.uuid), "fingerprint": second.fingerprint, "registered": True},
        )
        await me.show(reactor, offline=True)
        self.assertIn(str(first.uuid), self.lines)

    async def test_replaced_keeps_its_passphrase(self) -> None:
        """The successor of an encrypted key is encrypted with the passphrase that was typed."""
        me = self.enrolment("me.pem")
        with mock.patch.object(click, "prompt", return_value="swordfish"):
            await me.register(reactor, bits=2048, encrypt=True, replace=False)
            first = load(me.path, b"swordfish")
            await self.enrolment("me.pem").register(reactor, bits=2048, encrypt=False, replace=True)
        self.assertRaises(PassphraseNeeded, load, me.path)
        self.assertNotEqual(load(me.path, b"swordfish").key, first.key)

    async def test_replacement_encrypted(self) -> None:
        """--encrypt asks for a passphrase of the new key, where the old one has none."""
        me = self.enrolment("me.pem")
        await me.register(reactor, bits=2048, encrypt=False, replace=False)
        with mock.patch.object(click, "prompt", return_value="swordfish"):
            await me.register(reactor, bits=2048, encrypt=True, replace=True)
        self.assertRaises(PassphraseNeeded, load, me.path)

    async def test_replacement_cut_off(self) -> None:
        """CH-22: the answer to a replacement was lost; the next call finds the key that the server took."""
        me = self.enrolment("me.pem")
        await me.register(reactor, bits=2048, encrypt=False, replace=False)
        replace = KeyRegistry.replace

        async def cut_off(registry: KeyRegistry, identity: Identity, key: bytes) -> None:
            await replace(registry, identity, key)
            raise RegistryError("the answer was lost")

        with mock.patch.object(KeyRegistry, "replace", cut_off):
            await self.assertFailure(
                Deferred.fromCoroutine(me.register(reactor, bits=2048, encrypt=False, replace=True)), RegistryError
            )
        successor = load(f"{me.path}.new")
        await me.register(reactor, bits=2048, encrypt=False, replace=True)
        self.assertEqual(load(me.path).key, successor.key)
        self.assertEqual(self.directory.registered_key(successor.uuid), successor.key)
        save(identity(1), f"{me.path}.new")
        await self.assertFailure(
            Deferred.fromCoroutine(me.register(reactor, bits=2048, encrypt=False, replace=True)), CommandFailed
        )

    async def test_show_others(self) -> None:
        """What is registered may be nothing, or something else."""
        save(identity(1), os.path.join(self.folder, "me.pem"))
        await self.enrolment("me.pem").show(reactor, offline=False)
        self.assertIn(f"{UUID(int=1)} is not registered", self.lines)
        await self.directory.register_key(UUID(int=1), identity(1, 1).key, by="test")
        await self.enrolment("me.pem").show(reactor, offline=False)
        self.assertIn(f"{UUID(int=1)} is registered with another key", self.lines)
        await self.assertFailure(
            Deferred.fromCoroutine(self.enrolment("me.pem").register(reactor, bits=2048, encrypt=False, replace=False)),
            RegistryError,
        )

    async def test_passphrase(self) -> None:
        """A passphrase is asked for, or read from a file."""
        me = self.enrolment("me.pem")
        with mock.patch.object(click, "prompt", return_value="swordfish") as prompt:
            await me.load_or_make(reactor, bits=2048, encrypt=True)
            me.load()
        self.assertEqual(prompt.call_count, 2)
        file = Path(self.folder, "passphrase")
        file.write_text("swordfish\n")
        self.enrolment("me.pem", passphrase_file=str(file)).load()
        file.write_text("perch\n")
        self.assertRaises(PassphraseNeeded, self.enrolment("me.pem", passphrase_file=str(file)).load)
        self.assertRaises(CommandFailed, self.enrolment("me.pem", passphrase_file="/none").load)
        self.assertRaises(IdentityError, self.enrolment("none.pem").load)


class ProbeTests(CommandCase):
    async def test_probe(self) -> None:
        """Each step is told."""
        path = os.path.join(self.folder, "me.pem")
        save(identity(1), path)
        url = f"{self.place()}?identity={path}&certificate={self.certificate}"
        steps: list[str] = []

        def report(step: str, detail: str) -> None:
            steps.append(step)

        await self.assertFailure(plugin.probe(url, report, reactor), ConnectionEnded)
        self.assertEqual(steps, ["connect", "TLS", "Connect"])
        await self.directory.register_key(UUID(int=1), identity(1).key, by="test")
        steps.clear()
        await plugin.probe(url, report, reactor)
        self.assertEqual(steps, ["connect", "TLS", "Connect", "Connected", "closed"])
        client = await plugin.connect(url, reactor)
        self.assertTrue(client.connected)
        await client.stopService()
        await self.assertFailure(plugin.connect(f"{self.place()}?identity={path}", reactor), ConnectionEnded)


class TalkTests(CommandCase):
    """``listen`` and ``talk``, over sockets of this machine."""

    def free_port(self) -> int:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
            return int(probe.getsockname()[1])

    def talk(self, number: int, port: int, **options: Any) -> tuple[Deferred[None], list[str], int]:
        """A conversation: its end, what it prints, and where its input is."""
        lines: list[str] = []
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        url = f"{self.place()}?certificate={self.certificate}&peer_port={port}"
        server = parse_chatr_url(url)
        talk = talking.talk(
            reactor, server, identity(number, number), lines.append, lines.append, stdin=reading, **options
        )
        return Deferred.fromCoroutine(talk), lines, writing

    async def met(self, port: int) -> tuple[Any, Any]:
        for number in (1, 2):
            one = identity(number, number)
            await self.directory.register_key(one.uuid, one.key, by="test")
        bob = self.talk(2, port)
        await self.until(lambda: any("connected as" in line for line in bob[1]))
        alice = self.talk(1, port, callee=UUID(int=2))
        await self.until(lambda: any("talking with" in line for line in alice[1]))
        await self.until(lambda: any("talking with" in line for line in bob[1]))
        return alice, bob

    async def test_conversation(self) -> None:
        """CH-11, CH-41: both on one machine, one of them on another port than agreed, exchange lines."""
        alice, bob = await self.met(self.free_port())
        self.assertIn("cannot be had", alice[1][0])
        os.write(alice[2], b"hello\x1b[2J from alice\n")
        await self.until(lambda: any("from alice" in line for line in bob[1]))
        os.write(bob[2], b"hello from bob\r\n")
        await self.until(lambda: any("hello from bob" in line for line in alice[1]))
        os.write(alice[2], b"/quit\n")
        await alice[0]
        await self.until(lambda: any("is gone" in line for line in bob[1]))
        os.write(bob[2], b"is anybody there\n")
        await self.until(lambda: any("nobody is there yet" in line for line in bob[1]))
        bob[0].cancel()
        await bob[0].addErrback(lambda failure: None)
        self.assertFalse(self.context.sessions)

    async def test_denied(self) -> None:
        """CH-6: who is not on the list is denied, and the command says so."""
        for number in (1, 2):
            one = identity(number, number)
            await self.directory.register_key(one.uuid, one.key, by="test")
        port = self.free_port()
        bob = self.talk(2, port, friends=[UUID(int=9)])
        await self.until(lambda: any("connected as" in line for line in bob[1]))
        alice = self.talk(1, port, callee=UUID(int=2))
        await self.assertFailure(alice[0], RequestDenied)
        self.assertTrue(any("denied" in line for line in bob[1]))
        os.write(bob[2], b"/quit\n")
        await bob[0]

    async def test_makes_and_registers(self) -> None:
        """``listen`` makes an identity and registers it where there is none."""
        save(identity(5, 1), os.path.join(self.folder, "five.pem"))
        calls: list[Any] = []

        async def fake(*arguments: Any, **options: Any) -> None:
            calls.append((arguments, options))

        with mock.patch.object(talking, "talk", fake):
            await self.enrolment("five.pem").talk(reactor, peer_port=4000)
            await self.enrolment("five.pem").talk(reactor, peer_port=None, callee=UUID(int=2))
        self.assertEqual(self.directory.registered_key(UUID(int=5)), identity(5, 1).key)
        self.assertEqual([call[0][1].settings.peer_port for call in calls], [4000, 1231])
        self.assertEqual(self.lines.count(f"registered {UUID(int=5)} at {self.url()}"), 1)
        unreachable = self.enrolment("five.pem", registry="http://127.0.0.1:1")
        with mock.patch.object(talking, "talk", fake):
            await unreachable.talk(reactor, peer_port=None)
        self.assertIn("not registered: http://127.0.0.1:1: ", self.lines[-1])
