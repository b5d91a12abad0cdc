"""FlexMusic peers as they are deployed, with the habits that the protocol's page lists.

They share no code with connectd: blocking sockets, one ``recv`` for each message, and ``cryptography`` for the rest.
Whatever one ``recv`` gives is taken for the message; nothing is framed, nothing waits for more.
"""

from __future__ import annotations

import base64
import socket
import threading
import warnings
from collections.abc import Callable
from typing import Any

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

READ = 1024
"""Bytes of the one read in which a message has to come."""

LIMIT = 30.0

OLD_PARAMETERS = b"""-----BEGIN DH PARAMETERS-----
MIGHAoGBAK0a7BmdPoU2/snNlwsT8oW1G76yUTABAGcwoiOTFbAe+XARtx+gkILH
6eyWCKx6mn38HdBd9WdzRSMk6O1j0NrubsuSUKpXZSpc9mTtzyrp8ZfVv+223vci
Z/f5KhcPuk4EijhOd17vqsXXCalSWlP4nh8RlLkqAFuQudvxwNxvAgEC
-----END DH PARAMETERS-----
"""
"""1024 bits and no name: what the page shows as an example."""


def derive(private: Any, peer_key: bytes) -> Fernet:
    """The channel's key."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer: Any = serialization.load_pem_public_key(peer_key)
    secret = private.exchange(peer)
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=None).derive(secret)
    return Fernet(base64.urlsafe_b64encode(key))


def public_pem(private: Any) -> bytes:
    pem: bytes = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


class DeployedServer:
    """Serves one connection after the other in a thread, all with the same key pair.

    :param password: of the one account, ``ann``; None where there are no accounts.
    :param parameters: PKCS#3 in PEM.
    """

    def __init__(self, *, password: str | None = None, parameters: bytes = OLD_PARAMETERS) -> None:
        self.password = password
        self.parameters = parameters
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: Any = serialization.load_pem_parameters(parameters)
        self._private = loaded.generate_private_key()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.heard: list[str] = []
        """The commands that came."""
        self.reads: list[int] = []
        """How long they were in the one read that took them."""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Serve no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(LIMIT)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(LIMIT)
                try:
                    self._talk(connection)
                except OSError:
                    continue

    def _talk(self, connection: socket.socket) -> None:
        connection.sendall(b"FlexMusic Server,0.0.0\r\n")
        version = connection.recv(READ).decode().strip()
        if not version.startswith("FlexMusic"):
            return
        connection.sendall(self.parameters)
        key = connection.recv(2 * READ)
        if not key:
            return
        channel = derive(self._private, key)
        connection.sendall(public_pem(self._private))
        if channel.decrypt(connection.recv(READ)).decode().strip() != "FlexMusic Server,0.0.0":
            return
        ready = "100 FmLTP/1.0 Intepreter Ready."
        locked = self.password is not None
        connection.sendall(channel.encrypt((f"{ready}\r\nAuthentication required" if locked else ready).encode()))
        while True:
            data = connection.recv(READ)
            if not data:
                return
            self.reads.append(len(data))
            command = channel.decrypt(data).decode()
            self.heard.append(command)
            reply, locked = self._answer(command.strip(), locked)
            connection.sendall(channel.encrypt(reply.encode()))
            if reply.startswith("200 Goodbye"):
                return

    def _answer(self, command: str, locked: bool) -> tuple[str, bool]:
        """Some replies end in CRLF, others do not."""
        words = command.split(" ")
        if words[0] == "QUIT":
            return "200 Goodbye.", locked
        if words[0] == "HELP":
            return "200 AUTH, HELP and QUIT are commands\r\n", locked
        if words[0] == "AUTH" and locked:
            right = words[1] == "ann" and " ".join(words[2:]) == self.password
            return ("150 Authentication successful.\r\n" if right else "151 Authentication failed.", not right)
        if locked:
            return "400 Invalid command", locked
        if words[0] == "ECHO":
            return f"200 {command[5:]}", locked
        return "400 Invalid command\r\n", locked


class DeployedClient:
    """A client in the caller's thread: each call waits for the one read that its answer has to be in.

    :param ending: what it puts behind its version; nothing, as some do.
    """

    def __init__(self, port: int, *, ending: str = "", name: str = "FlexMusic Python Client Library") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.server_version = self.socket.recv(READ).decode().strip()
        self.socket.sendall(f"{name},0.0.0{ending}".encode())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parameters: Any = serialization.load_pem_parameters(self.socket.recv(2 * READ))
        private = parameters.generate_private_key()
        self.socket.sendall(public_pem(private))
        self.channel = derive(private, self.socket.recv(2 * READ))
        self.greeting = self.say(self.server_version)

    def say(self, text: str) -> str:
        """Send a message, and read the answer."""
        self.socket.sendall(self.channel.encrypt(text.encode()))
        return self.channel.decrypt(self.socket.recv(READ)).decode()

    def at_end(self) -> bool:
        """Whether the server closed."""
        return not self.socket.recv(READ)

    def close(self) -> None:
        self.socket.close()


def with_client(port: int, work: Callable[[DeployedClient], Any], **options: Any) -> Any:
    """Run a client's whole life, in a thread of its own."""
    client = DeployedClient(port, **options)
    try:
        return work(client)
    finally:
        client.close()
