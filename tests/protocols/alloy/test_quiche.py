"""Alloy with a QUIC stack that is not aioquic: quiche, as the npm package @matrixai/quic carries it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from connectd.protocols.alloy.packets import Connect, ConnectAccept, Disconnect, PasswordResponse, decode
from connectd.protocols.alloy.server_machine import password_hash
from tests.net.quic import test_sockets as quic_sockets
from tests.net.quic.toy import authority, authority_pem
from tests.protocols.alloy.pair import PLAYER, packets
from tests.protocols.alloy.test_sockets import SocketCase, port_of, reactor, until


class QuicheTests(SocketCase):
    def certificate(self) -> str:
        """A certificate of the tests' authority, ECDSA on P-256."""
        import trustme

        path: str = os.path.abspath(self.mktemp())
        leaf = authority().issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
        leaf.private_key_and_cert_chain_pem.write_to_path(path)
        return path

    def quiche(self, port: int, alpn: str) -> quic_sockets.Quiche:
        """Start a client."""
        if (reason := quic_sockets.quiche_is_missing()) is not None:
            raise SkipTest(reason)
        trusted = os.path.abspath(self.mktemp())
        Path(trusted).write_bytes(authority_pem())
        client = quic_sockets.Quiche()
        node = shutil.which("node")
        assert node is not None
        script = str(Path(quic_sockets.__file__).with_name("quiche_client.mjs"))
        command = ["node", script, str(quic_sockets.NODE_MODULES), "127.0.0.1", str(port), alpn, trusted]
        process = reactor.spawnProcess(client, node, command, env=None)
        self.addCleanup(self.end, client, process)
        return client

    async def end(self, client: quic_sockets.Quiche, process: Any) -> None:
        if process.pid is not None:
            process.signalProcess("KILL")
        await client.ended

    async def test_login(self) -> None:
        """AL-3, AL-4, AL-8: ALPN hytale/1, a Connect, the challenge, the right answer to it, and PLAY."""
        listener = self.listen(certificate=self.certificate())
        client = self.quiche(port_of(listener), "hytale/1")
        await until(lambda: client.event("established") == "hytale/1" or client.ended.called, "the handshake")
        client.send(Connect(uuid=PLAYER, username="ann", language="en").encode())
        await until(lambda: len(client.heard) >= 42 or client.ended.called, "ConnectAccept")
        accept = decode(14, client.heard[8:42])
        assert isinstance(accept, ConnectAccept)
        challenge = accept.password_challenge
        assert challenge is not None
        self.assertEqual(len(challenge), 32)
        client.send(PasswordResponse(password_hash(challenge, b"swordfish")).encode())
        await until(lambda: listener.session_count == 1 or client.ended.called, "PLAY")
        self.assertEqual(listener.session_count, 1)
        client.send(Disconnect(0, "bye").encode())
        await until(lambda: self.recorder.outcomes, "an outcome")
        self.assertEqual(self.recorder.outcomes, ["left"])

    async def test_refused(self) -> None:
        """AL-3: another application protocol fails the handshake; a Connect that is not allowed is told why."""
        listener = self.listen(certificate=self.certificate(), password="")
        other = self.quiche(port_of(listener), "hytale/9")
        await until(lambda: other.event("closed"), "the refusal")
        self.assertIsNone(other.event("established"))
        client = self.quiche(port_of(listener), "hytale/1")
        await until(lambda: client.event("established") or client.ended.called, "the handshake")
        client.send(Connect(uuid=PLAYER, username="ann").encode())
        await until(lambda: client.event("closed"), "the end")
        self.assertEqual(packets(client.heard), [Disconnect(0, "This server requires an account")])
        self.assertEqual((client.event("closed")["app"], client.event("closed")["code"]), (True, 0))
