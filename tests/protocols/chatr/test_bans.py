"""Chatr's listener with a directory on a disk: bans of UUIDs and keys, replaced keys, and proofs in threads."""

from __future__ import annotations

import threading
from ipaddress import ip_network
from typing import Any
from unittest import mock
from uuid import UUID

from twisted.internet.endpoints import TCP4ClientEndpoint

from connectd.admission import AdmissionLimits
from connectd.directory.errors import DirectoryError
from connectd.net.certificates import read_certificates
from connectd.net.client import ConnectionEnded
from connectd.net.trust import Trust, pin_of
from connectd.ops.directory_changes import DirectoryChanges
from connectd.protocols.chatr import proofs
from connectd.protocols.chatr.client import ChatrDialogue
from connectd.protocols.chatr.identity import Identity
from connectd.protocols.chatr.keys import verify_uuid
from connectd.protocols.chatr.settings import ChatrClientSettings
from tests.protocols.chatr.scene import identity
from tests.protocols.chatr.test_rest import RestCase, reactor
from tests.protocols.chatr.test_stun import message


class DirectoryCase(RestCase):
    async def register(self, *ones: Identity) -> None:
        for one in ones:
            await self.directory.register_key(one.uuid, one.key, by="test")

    async def connect(self, one: Identity) -> ChatrDialogue:
        """A session, or ConnectionEnded."""
        pins = [pin_of(certificate) for certificate in read_certificates(self.certificate)]
        port = self.listener.faces[0].port
        assert port is not None
        dialogue = ChatrDialogue(reactor, ChatrClientSettings(), one)
        await dialogue.dial(Trust("x", pins=pins).wrap(TCP4ClientEndpoint(reactor, "127.0.0.1", port)))
        return dialogue

    async def refusal(self, one: Identity) -> str:
        with self.assertRaises(ConnectionEnded) as caught:
            await self.connect(one)
        return str(caught.exception)

    async def ban(self, kind: str, value: str) -> None:
        await self.directory.run(lambda database: database.bans.add(kind, value, reason="spam", by="test"))


class BanTests(DirectoryCase):
    async def test_banned(self) -> None:
        """COM-4: a banned UUID or key is told so, after its signature and not before."""
        await self.register(identity(1), identity(2, 1))
        await self.ban("uuid", str(UUID(int=1)))
        await self.ban("key", identity(2, 1).fingerprint)
        self.assertEqual(await self.refusal(identity(1)), "refused: This client is banned: spam")
        self.assertEqual(await self.refusal(identity(2, 1)), "refused: This key is banned: spam")
        self.assertEqual(await self.refusal(identity(1, 1)), "refused: Failed to verify!")
        self.assertEqual(self.outcomes.outcomes(), ["banned", "banned", "refused"])

    async def test_live_sessions(self) -> None:
        """COM-4: who is in when its UUID or key is banned is out at once; others stay."""
        await self.register(identity(1), identity(2, 1), identity(3, 2))
        sessions = [await self.connect(one) for one in (identity(1), identity(2, 1), identity(3, 2))]
        changes = DirectoryChanges(self.directory, self.context, lambda: [self.listener], 1000.0)
        changes.startService()
        self.addCleanup(changes.stopService)
        await changes.apply()
        await self.ban("uuid", str(UUID(int=1)))
        await self.ban("key", identity(2, 1).fingerprint)
        self.assertEqual((await changes.apply()).kicked, 2)
        for session, what in ((sessions[0], "client"), (sessions[1], "key")):
            await session.when_closed()
            assert session.ended is not None
            self.assertEqual(session.ended.reason, f"disconnected: This {what} is banned: spam")
        self.assertEqual(len(self.context.sessions), 1)
        await sessions[2].hang_up()

    async def test_directory_is_gone(self) -> None:
        """COM-4: where nobody can say whether somebody is banned, he is refused."""
        await self.register(identity(1))
        with mock.patch.object(self.directory, "match_uuid", side_effect=DirectoryError("broken")):
            self.assertEqual(await self.refusal(identity(1)), "refused: Accounts cannot be looked up at the moment")


class ReplacedKeyTests(DirectoryCase):
    async def test_replaced(self) -> None:
        """CH-22: a replaced key does not end the live session; the next Connect needs the new one."""
        old, new = identity(1), identity(1, 1)
        await self.register(old)
        session = await self.connect(old)
        changes = DirectoryChanges(self.directory, self.context, lambda: [self.listener], 1000.0)
        changes.startService()
        self.addCleanup(changes.stopService)
        await self.directory.replace_key(old.uuid, new.key, by="test")
        await changes.apply()
        self.assertIsNone(session.ended)
        await session.hang_up()
        self.assertEqual(await self.refusal(old), "refused: Failed to verify!")
        await (await self.connect(new)).hang_up()

    async def test_replaced_meanwhile(self) -> None:
        """CH-22: a key that is replaced while a signature by it is verified does not let in."""
        old, new = identity(1), identity(1, 1)
        await self.register(old)
        genuine = self.directory.registered_key
        answers = iter((old.key, new.key))
        with mock.patch.object(self.directory, "registered_key", side_effect=lambda uuid: next(answers, genuine(uuid))):
            self.assertEqual(await self.refusal(old), "refused: Failed to verify!")


class ThreadTests(DirectoryCase):
    async def test_elsewhere(self) -> None:
        """CH-2: signatures are verified in a thread, so that the reactor goes on."""
        await self.register(identity(1))
        where: list[int] = []
        genuine = verify_uuid

        def noting(*arguments: Any) -> bool:
            where.append(threading.get_ident())
            return genuine(*arguments)

        with mock.patch.object(proofs, "verify_uuid", noting):
            await (await self.connect(identity(1))).hang_up()
        self.assertEqual(len(where), 1)
        self.assertNotIn(threading.get_ident(), where)


class DatagramTests(RestCase):
    settings = {"udp": "udp:0:interface=127.0.0.1"}
    limits = AdmissionLimits(connection_rate=0, deny=(ip_network("192.0.2.0/31"),))

    def test_denied(self) -> None:
        """COM-4: who is denied gets no answer from the UDP face; limits that are replaced count at once (CH-32)."""
        assert self.listener.binding is not None
        machine = self.listener.binding.machine
        for host, answers in (("192.0.2.1", 0), ("192.0.2.2", 1)):
            machine.receive_datagram(message(), (host, 9), 0.0)
            self.assertEqual(len(machine.datagrams_to_send()), answers)
        self.context.admission.replace_limits(AdmissionLimits())
        machine.receive_datagram(message(), ("192.0.2.1", 9), 0.0)
        self.assertEqual(len(machine.datagrams_to_send()), 1)
