"""A renewed certificate file under a running daemon (CH-10)."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys

from connectd.net.certificates import make_certificate
from connectd.protocols.chatr.identity import generate, save
from connectd.protocols.chatr.packets import Connect, Connected, Packet, Ping, Pong, decode_packet
from tests.processes import LIMIT, ROOT, wait_for
from tests.protocols.chatr.daemon_case import DaemonCase
from tests.protocols.chatr.test_conversations import CONNECTCTL


class Client:
    """A client that trusts exactly one certificate.

    :param place: the server's host and port.
    :param certificate: a PEM file.
    """

    def __init__(self, place: tuple[str, int], certificate: str) -> None:
        context = ssl.create_default_context(cafile=certificate)
        self.socket = context.wrap_socket(socket.create_connection(place, LIMIT), server_hostname=place[0])

    def receive(self) -> Packet:
        """The next packet; all of them here are short."""
        head = self._read(1)
        return decode_packet(self._read(head[0]))

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise AssertionError("the server hung up")
            data += more
        return data

    def answer_ping(self) -> None:
        """Wait for a Ping and answer it."""
        packet = self.receive()
        if not isinstance(packet, Ping):
            raise AssertionError(f"not a Ping: {packet}")
        self.socket.sendall(Pong(packet.ping_id).encode())


class RenewalTests(DaemonCase):
    def test_renewed(self) -> None:
        """CH-10: new connections get the new certificate within seconds, and old sessions go on."""
        self.serve()
        identity = generate(2048)
        save(identity, str(self.folder / "alice.pem"))
        command = ("chatr", "register", "--identity", "alice.pem", "--registry", self.registry)
        registered = subprocess.run(
            [sys.executable, "-c", CONNECTCTL, *command],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.assertEqual((registered.returncode, registered.stderr), (0, ""))
        self.assertIn(f"{identity.uuid} registered", registered.stdout)

        place = (self.host, self.port)
        old = Client(place, self.certificate)
        self.addCleanup(old.socket.close)
        old.socket.sendall(Connect(1, identity.uuid, identity.signature).encode())
        self.assertEqual(old.receive(), Connected())
        old.answer_ping()

        renewed = self.folder / "renewed.pem"
        renewed.write_bytes(make_certificate([self.host]))
        self.assertRaises(ssl.SSLCertVerificationError, Client, place, str(renewed))
        os.replace(renewed, self.certificate)

        def look() -> Client | None:
            try:
                return Client(place, self.certificate)
            except ssl.SSLCertVerificationError:
                return None

        new = wait_for("the new certificate", look)
        self.addCleanup(new.socket.close)
        old.answer_ping()
