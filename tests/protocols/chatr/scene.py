"""A Chatr server in memory, TLS and all, and clients of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from connectd.directory.checkers import IKeyProof
from connectd.net.certificates import make_certificate, read_certificates
from connectd.net.trust import Trust, pin_of
from connectd.protocols.chatr.client import ChatrClient
from connectd.protocols.chatr.identity import Identity
from connectd.protocols.chatr.server import ChatrListener
from connectd.protocols.chatr.settings import ChatrClientSettings, ChatrSettings
from connectd.testing import Network

NAME = "chatr.example"


@cache
def private_key(number: int = 0) -> rsa.RSAPrivateKey:
    """One of a few keys of 2,048 bits; making one takes a while."""
    return rsa.generate_private_key(65537, 2048)


def identity(number: int, key: int = 0) -> Identity:
    """Client number so and so."""
    return Identity(UUID(int=number), private_key(key))


def temporary_folder(test: Any) -> str:
    """A short path that is gone with the test."""
    folder = tempfile.mkdtemp(prefix="chatr-")
    test.addCleanup(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def certificate_pem() -> bytes:
    return make_certificate([NAME, "127.0.0.1", "localhost"])


def write_pem(folder: str, pem: bytes | None = None, name: str = "chatr.pem") -> str:
    """A certificate file."""
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(certificate_pem() if pem is None else pem)
    return path


@implementer(ICredentialsChecker)
class KeyChecker:
    """Knows keys by UUID, as the directory does."""

    credentialInterfaces = (IKeyProof,)

    def __init__(self) -> None:
        self.keys: dict[UUID, bytes] = {}

    def register(self, one: Identity) -> None:
        self.keys[one.uuid] = one.key

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        def decide(right: bool) -> str:
            if not right:
                raise UnauthorizedLogin
            return ""

        checking: Deferred[bool] = credentials.checkKey(self.keys.get(credentials.uuid))
        return checking.addCallback(decide)


class SceneCase(SynchronousTestCase):
    """A listener in memory, and clients whose keys it knows."""

    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.folder = temporary_folder(self)
        self.certificate = write_pem(self.folder)
        self.checker = KeyChecker()
        self.network = Network(checkers=[self.checker], **self.context())
        self.listener = self.network.listener(
            ChatrListener, ChatrSettings(listen="", udp="", rest="", certificate=self.certificate, **self.settings)
        )
        self.clients: list[ChatrClient] = []
        self.addCleanup(self.end)

    def context(self) -> dict[str, Any]:
        """Whatever else the listener's context is to have."""
        return {}

    def end(self) -> None:
        for client in self.clients:
            if client.running:
                client.stopService()
        self.network.advance(1)
        self.network.stop()

    def trust(self, hostname: str = NAME) -> Trust:
        return Trust(hostname, pins=[pin_of(one) for one in read_certificates(self.certificate)])

    def client(
        self,
        number: int,
        host: str = "",
        *,
        start: bool = True,
        register: bool = True,
        key: int = 0,
        retry_policy: Callable[[int], float] | None = None,
        **settings: Any,
    ) -> ChatrClient:
        """Client number so and so, connected unless told otherwise."""
        who = identity(number, key)
        if register:
            self.checker.register(who)
        endpoint = self.trust().wrap(self.network.endpoint(self.listener, host or f"192.0.2.{number}"))
        client = ChatrClient(
            self.network.clock, endpoint, who, ChatrClientSettings(**settings), retry_policy=retry_policy
        )
        self.clients.append(client)
        if start:
            client.startService()
            self.network.settle()
        return client

    def last_end(self, client: ChatrClient) -> str:
        assert client.last_end is not None, "it is still connected"
        return client.last_end.reason
